"""A terminal root of our own and a terminal certificate signed by it, as a maker of terminals would have them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOTS, CERTIFICATE, KEY = "roots.pem", "terminal.pem", "terminal-key.pem"
DOMAIN = "test.terminal.adyen.com"
LIFETIME = timedelta(days=3650)
BACKDATED = timedelta(days=1)


def terminal_tls(directory: Path, common_name: str, now_us: int) -> ssl.SSLContext:
    """The server's side of TLS for a terminal of this name; `roots.pem` in the directory is what a hub must trust.

    Makes root and certificate if the directory has none for this name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    certificate = directory / CERTIFICATE
    if not certificate.exists() or common_name not in _names(certificate):
        _make(directory, common_name, datetime.fromtimestamp(now_us / 1_000_000, UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, directory / KEY)
    return context


def _names(certificate: Path) -> list[str]:
    subject = x509.load_pem_x509_certificate(certificate.read_bytes()).subject
    return [str(one.value) for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _make(directory: Path, common_name: str, now: datetime) -> None:
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = _name("Simulated terminal root")
    root = (
        _builder(root_name, root_name, root_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    certificate = (
        _builder(_name(common_name), root_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / ROOTS).write_bytes(root.public_bytes(pem))
    (directory / KEY).touch(mode=0o600)
    (directory / KEY).write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (directory / CERTIFICATE).write_bytes(certificate.public_bytes(pem))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
    )
