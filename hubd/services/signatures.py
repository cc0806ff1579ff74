"""Signatures of paired browsers (RFC 9421): a key that never leaves the browser, over what the request is.

Covered are method, path, query and body digest; the nonce is `START-COUNTER`, the start from the hub's last
`Hub-Line`. A counter is good once. The start makes counters of before a restart worthless, so none is kept on disk.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from msgspec import Struct

from hubd.errors import AccessError, InvalidValueError

ALGORITHM = "ecdsa-p256-sha256"
COUNTER_MAX = 2**53 - 1
WINDOW = 128
"""Requests of one browser may overtake each other by this many."""

_INPUT = re.compile(
    r'sig1=\("@method" "@path" "@query" "content-digest"\)((?:;[a-z]+=(?:"[\x20\x21\x23-\x5b\x5d-\x7e]*"|\d+))+)'
)
_PARAMETER = re.compile(r';([a-z]+)=(?:"([^"]*)"|(\d+))')
_NONCE = re.compile(r"([0-9a-f]{8,64})-(\d{1,16})")
_SIGNATURE = re.compile(r"sig1=:([A-Za-z0-9+/]{86}==):")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")


class SignedRequest(Struct, frozen=True):
    """A signature and what it was made over, read from a request, not yet verified."""

    key_id: str
    start: str
    counter: int
    base: bytes
    signature: bytes
    body_sha256: bytes


def _bad(detail: str) -> AccessError:
    return AccessError("access.bad_signature", detail, remedy="docs/reference/events.md shows how a browser signs.")


def parse_signed(
    method: str, path: str, query: str, content_digest: str, signature_input: str, signature: str
) -> SignedRequest:
    """Read the headers of a signed request; raises `access.bad_signature` for another form than the one we cover."""
    shape, raw, digest = (
        _INPUT.fullmatch(signature_input),
        _SIGNATURE.fullmatch(signature),
        _DIGEST.fullmatch(content_digest),
    )
    if shape is None or raw is None or digest is None:
        raise _bad("The signature's headers have another form than this hub covers.")
    parameters = {name: text or number for name, text, number in _PARAMETER.findall(shape[1])}
    nonce = _NONCE.fullmatch(parameters.get("nonce", ""))
    if nonce is None or "keyid" not in parameters or parameters.get("alg", ALGORITHM) != ALGORITHM:
        raise _bad("The signature lacks its nonce or its key, or names another algorithm.")
    base = (
        f'"@method": {method}\n"@path": {path}\n"@query": ?{query}\n"content-digest": {content_digest}\n'
        f'"@signature-params": {signature_input.removeprefix("sig1=")}'
    )
    return SignedRequest(
        parameters["keyid"],
        nonce[1],
        min(int(nonce[2]), COUNTER_MAX),
        base.encode(),
        base64.b64decode(raw[1]),
        base64.b64decode(digest[1]),
    )


def check_body(signed: SignedRequest, body: bytes) -> None:
    """Raise `access.bad_signature` unless the body is the one whose digest was signed."""
    if not hmac.compare_digest(hashlib.sha256(body).digest(), signed.body_sha256):
        raise _bad("The body is not the one that was signed.")


def parse_public_key(text: str) -> bytes:
    """A P-256 public key as SubjectPublicKeyInfo in base64, as WebCrypto exports it; raises `invalid_public_key`."""
    try:
        raw = base64.b64decode(text, validate=True)
        key = load_der_public_key(raw)
    except (binascii.Error, ValueError) as exc:
        raise _bad_key() from exc
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise _bad_key()
    return raw


def _bad_key() -> InvalidValueError:
    return InvalidValueError(
        "invalid_public_key",
        "The public key is not a P-256 key in SPKI form.",
        remedy='Export it with crypto.subtle.exportKey("spki", key) and send it in base64.',
    )


def verify_p256(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the 64 bytes r|s are this key's signature over the message."""
    key = load_der_public_key(public_key)
    if not isinstance(key, EllipticCurvePublicKey) or len(signature) != 64:
        return False
    encoded = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
    try:
        key.verify(encoded, message, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


class ReplayWindow:
    """Accepts each counter once, in any order within the window, never below it."""

    def __init__(self) -> None:
        self._highest = -1
        self._seen: set[int] = set()

    def accept(self, counter: int) -> bool:
        """Whether this counter is new; remembers it if so."""
        if counter <= self._highest - WINDOW or counter in self._seen:
            return False
        self._seen.add(counter)
        if counter > self._highest:
            self._highest = counter
            self._seen = {seen for seen in self._seen if seen > counter - WINDOW}
        return True
