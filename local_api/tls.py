"""HTTPS on a LAN without the Internet: the hub's own CA, and leaves that it remakes by itself.

The CA is name-constrained to the hub's `.local` names and private addresses, so whoever trusts it trusts it for
nothing else. Native tills pin the CA's key (SHA-256 of its SubjectPublicKeyInfo, told by the pairing QR) and look at
no date: a hub whose clock says 1970 is reached all the same. Keys are files of mode 0600.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

CA_DAYS = 3650
LEAF_DAYS_MAX = 800
REMAKE_BEFORE_DAYS = 60
KEY_FILE_MODE = 0o600
FLOOR = datetime(2026, 1, 1, tzinfo=UTC)
"""No certificate of ours begins later than a clock without trust may believe: browsers with a right clock accept it."""
LEEWAY = timedelta(days=2)
LOCAL = ".local"

PRIVATE_NETWORKS: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = (
    ipaddress.IPv4Network("10.0.0.0/8"),
    ipaddress.IPv4Network("172.16.0.0/12"),
    ipaddress.IPv4Network("192.168.0.0/16"),
    ipaddress.IPv4Network("169.254.0.0/16"),
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv4Network("100.64.0.0/10"),
    ipaddress.IPv6Network("fc00::/7"),
    ipaddress.IPv6Network("fe80::/10"),
    ipaddress.IPv6Network("::1/128"),
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Names(Struct, frozen=True):
    """What the leaf is for: the hub's own names and its addresses of this moment."""

    hub_id: str
    hosts: tuple[str, ...]
    addresses: tuple[Address, ...]


def own_name(hub_id: str) -> str:
    """The hub's `.local` name."""
    return f"hubd-{hub_id[:8]}{LOCAL}"


def names_of(hub_id: str, addresses: Sequence[str], host: str = "") -> Names:
    """The names of a hub at these addresses; public ones are left out, the CA may not vouch for them.

    `host` is the `.local` name where it is not the one that follows from the hub's id.
    """
    parsed = [ipaddress.ip_address(address.partition("%")[0]) for address in addresses]
    private = {one for one in parsed if any(one in network for network in PRIVATE_NETWORKS)}
    private |= {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
    ordered = tuple(sorted(private, key=lambda one: (one.version, int(one))))
    return Names(hub_id, (host or own_name(hub_id), "localhost"), ordered)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def spki_sha256(key: ec.EllipticCurvePublicKey) -> str:
    """The fingerprint of a key: SHA-256 over its SubjectPublicKeyInfo, 64 hex digits."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def certificate_fingerprint(der: bytes) -> str:
    """The fingerprint of the key in a certificate, as a pinning client computes it."""
    key = x509.load_der_x509_certificate(der).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _validity(now: datetime, trusted: bool, days: int) -> tuple[datetime, datetime]:
    """From when to when: with a clock nobody vouches for, from the first release on and as long as is allowed."""
    if not trusted or now < FLOOR:
        return FLOOR, FLOOR + timedelta(days=days)
    return max(now - LEEWAY, FLOOR - LEEWAY), now - LEEWAY + timedelta(days=days)


def make_ca(names: Names, key: ec.EllipticCurvePrivateKey, now: datetime, trusted: bool) -> x509.Certificate:
    """The CA's certificate: constrained to the hub's names and private addresses, able to sign leaves only."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Store hub {names.hub_id[:8]}")])
    start, end = _validity(now, trusted, CA_DAYS)
    permitted: list[x509.GeneralName] = [x509.DNSName(host) for host in names.hosts]
    permitted += [x509.IPAddress(network) for network in PRIVATE_NETWORKS]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def make_leaf(
    names: Names,
    key: ec.EllipticCurvePublicKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    trusted: bool,
) -> x509.Certificate:
    """A server certificate for the names of this moment, at most 800 days."""
    start, end = _validity(now, trusted, LEAF_DAYS_MAX)
    alternatives: list[x509.GeneralName] = [x509.DNSName(host) for host in names.hosts]
    alternatives += [x509.IPAddress(address) for address in names.addresses]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names.hosts[0])]))
        .issuer_name(ca.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(min(end, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256())


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


class CertificateStore:
    """CA and leaf in a directory. All methods read or write files: call them off the event loop."""

    def __init__(self, folder: Path, hub_id: str, now: Callable[[], datetime], trusted: Callable[[], bool]) -> None:
        self._folder = folder
        self._hub_id = hub_id
        self._now = now
        self._trusted = trusted

    @property
    def ca_file(self) -> Path:
        """The CA's certificate, for everybody."""
        return self._folder / "ca.pem"

    def ca(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """The CA, made at the first call and kept for ever: tills pin its key."""
        key_file = self._folder / "ca.key"
        if not key_file.exists():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            key = _new_key()
            certificate = make_ca(names_of(self._hub_id, ()), key, self._now(), self._trusted())
            # The certificate first: a key without one would be taken for a finished CA after a power cut.
            _write(self.ca_file, certificate.public_bytes(Encoding.PEM), KEY_FILE_MODE)
            _write(key_file, _pem(key), KEY_FILE_MODE)
        return x509.load_pem_x509_certificate(self.ca_file.read_bytes()), _load_key(key_file)

    def name(self) -> str:
        """The hub's `.local` name: the one that its CA may vouch for.

        A hub that was restored on a new machine has a new key and id, and the CA that tills trust: it keeps its name.
        """
        constraints = self.ca()[0].extensions.get_extension_for_class(x509.NameConstraints).value
        hosts = [one.value for one in constraints.permitted_subtrees or () if isinstance(one, x509.DNSName)]
        return next((host for host in hosts if host.endswith(LOCAL)), own_name(self._hub_id))

    def fingerprint(self) -> str:
        """What the pairing QR and mDNS tell: SHA-256 of the CA key's SubjectPublicKeyInfo."""
        return spki_sha256(self.ca()[1].public_key())

    def context(self, addresses: Sequence[str]) -> ssl.SSLContext:
        """A server context with a leaf for these addresses, remade if it does not fit any more."""
        self.renew(addresses)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load_into(context)
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let a context that is in use show the present leaf in the handshakes to come."""
        context.load_cert_chain(self._folder / "leaf.pem", self._folder / "leaf.key")

    def days_left(self) -> int:
        """Days until the present leaf ends, by the clock of this moment; never below 0."""
        leaf = x509.load_pem_x509_certificate((self._folder / "leaf.pem").read_bytes())
        return max(0, (leaf.not_valid_after_utc - self._now()).days)

    def renew(self, addresses: Sequence[str]) -> bool:
        """Make a new leaf if addresses or the clock's trust have changed, or the old one ends soon; True if so."""
        names = names_of(self._hub_id, addresses, self.name())
        if self._fits(names):
            return False
        ca, ca_key = self.ca()
        key = _new_key()
        leaf = make_leaf(names, key.public_key(), ca, ca_key, self._now(), self._trusted())
        chain = leaf.public_bytes(Encoding.PEM) + ca.public_bytes(Encoding.PEM)
        _write(self._folder / "leaf.key", _pem(key), KEY_FILE_MODE)
        _write(self._folder / "leaf.pem", chain, KEY_FILE_MODE)
        return True

    def _fits(self, names: Names) -> bool:
        try:
            leaf = x509.load_pem_x509_certificate((self._folder / "leaf.pem").read_bytes())
            key = _load_key(self._folder / "leaf.key")
            ca, _ = self.ca()
            leaf.verify_directly_issued_by(ca)
        except (OSError, ValueError, TypeError):
            return False
        except Exception:  # noqa: BLE001 - InvalidSignature and its kin: whatever is wrong with it, it is remade
            return False
        if spki_sha256(key.public_key()) != certificate_fingerprint(leaf.public_bytes(Encoding.DER)):
            return False  # a power cut fell between the two files
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if set(found.get_values_for_type(x509.DNSName)) != set(names.hosts):
            return False
        if set(found.get_values_for_type(x509.IPAddress)) != set(names.addresses):
            return False
        now = self._now()
        if not self._trusted() or now < FLOOR:
            return True
        return leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc - timedelta(days=REMAKE_BEFORE_DAYS)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{path} holds another kind of key")
    return key


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that after a power cut there is the old one or the new one, never half of it."""
    temporary = path.with_suffix(path.suffix + ".new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(handle, mode)
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
