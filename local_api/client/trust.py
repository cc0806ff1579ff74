"""Whom a till trusts: the key whose fingerprint the pairing QR told, and nothing else; no date, no name, no CA list.

The hub's CA key signs its server certificates. A connection is good when the leaf it shows was signed by that key.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class HubNotTrustedError(Exception):
    """The other side does not hold the key that was pinned at pairing: it is not this shop's hub."""


@dataclass(frozen=True, slots=True)
class PairingCode:
    """What the pairing QR tells."""

    hub: str
    fingerprint: str
    """SHA-256 of the CA key's SubjectPublicKeyInfo, 64 hex digits."""
    code: str = field(repr=False)
    addresses: tuple[str, ...]
    """`host:port`, best first."""

    @classmethod
    def parse(cls, text: str) -> PairingCode:
        """Read the text of the QR; raises ValueError for another one."""
        parts = urlsplit(text)
        values = {name: value[0] for name, value in parse_qs(parts.query).items()}
        if (parts.scheme, parts.netloc) != ("hubd", "pair") or len(values.get("key", "")) != 64:
            raise ValueError("This is not the pairing code of a hub.")
        return cls(values["hub"], values["key"], values["code"], tuple(values["at"].split(",")))


@dataclass(frozen=True, slots=True)
class Credential:
    """What a till keeps in its safe place after pairing."""

    hub: str
    fingerprint: str
    ca_pem: str
    addresses: tuple[str, ...]
    device: str
    token: str = field(repr=False)
    location: str = ""


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the key in a certificate."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def check_ca(pem: str, fingerprint: str) -> str:
    """Return the CA's certificate if it holds the pinned key; raise HubNotTrustedError otherwise."""
    try:
        found = fingerprint_of(x509.load_pem_x509_certificate(pem.encode()))
    except ValueError as exc:
        raise HubNotTrustedError("The other side shows no certificate of a hub.") from exc
    if not hmac.compare_digest(found, fingerprint):
        raise HubNotTrustedError("The other side does not show the key that was pinned at pairing.")
    return pem


def pinned_context(ca_pem: str) -> ssl.SSLContext:
    """A TLS context that trusts this one CA, whatever date it is and whatever name the hub was called by."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.load_verify_locations(cadata=ca_pem)
    # OpenSSL's X509_V_FLAG_NO_CHECK_TIME: a till pins a key, and neither side may have a clock that is right.
    context.verify_flags |= ssl.VerifyFlags(0x200000)
    return context


def first_context() -> ssl.SSLContext:
    """A context that accepts any certificate, to fetch the CA's and compare it with the pin before anything is said."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
