"""Files that only the holder of a private key can open: what backups and exports leave the hub in.

Layout: magic | u32 length of header | header (JSON) | chunks. The header names the recipients, each with an ephemeral
X25519 key and the file's key wrapped for him (HKDF-SHA256, ChaCha20-Poly1305). Each chunk is sealed with a nonce of its
number and a last-one flag, and with the digest of the header as associated data, so that no chunk and no recipient can
be exchanged, left out or cut off unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from msgspec import Struct

from hubd.errors import InvalidValueError, StoreError
from hubd.model.entry import Json

MAGIC = b"hubd.sealed.v1\0"
CHUNK_BYTES = 64 * 1024
HEADER_BYTES_MAX = 64 * 1024
TAG_BYTES = 16
CODE_BYTES = 16
"""128 random bits: nobody guesses them, so the code needs no limit of attempts."""
CODE_CHECK_BITS = 12
SALT_BYTES = 16
SCRYPT_N = 2**15
SCRYPT_R = 8
SCRYPT_P = 1

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1", "U": "V", "-": None, " ": None})
_CODE_CHARS = 28


class SealError(StoreError):
    """The file cannot be opened: not ours, damaged, cut off, or sealed for somebody else."""

    def __init__(self, detail: str, remedy: str = "Use another copy of the backup.") -> None:
        super().__init__("backup.unreadable", detail, remedy=remedy)


class Recipient(Struct, frozen=True):
    """Somebody who can open the file: `recovery` (the printed code), `tenant`, and so on."""

    name: str
    public_key: bytes


# -- the recovery code -------------------------------------------------------------------------------------------------


def recovery_code(random_bytes: bytes) -> str:
    """The code to print for 16 random bytes: 28 characters in groups of four, the last ones a check."""
    if len(random_bytes) != CODE_BYTES:
        raise ValueError("a recovery code has 16 random bytes")
    bits = int.from_bytes(random_bytes, "big") << CODE_CHECK_BITS | _check_of(random_bytes)
    text = "".join(_ALPHABET[(bits >> shift) & 31] for shift in range(5 * (_CODE_CHARS - 1), -1, -5))
    return "-".join(text[at : at + 4] for at in range(0, _CODE_CHARS, 4))


def _check_of(random_bytes: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"hubd.recovery.v1\0" + random_bytes).digest()[:2], "big") >> 4


def read_recovery_code(text: str) -> bytes:
    """The 16 bytes of a code as a person typed it; raises `invalid_recovery_code` for a typing error."""
    plain = text.upper().translate(_READ_AS).strip()
    if len(plain) == _CODE_CHARS and not set(plain) - set(_ALPHABET):
        bits = 0
        for character in plain:
            bits = bits << 5 | _ALPHABET.index(character)
        raw = (bits >> CODE_CHECK_BITS).to_bytes(CODE_BYTES + 1, "big")
        if raw[0] == 0 and _check_of(raw[1:]) == bits & (2**CODE_CHECK_BITS - 1):
            return raw[1:]
    raise InvalidValueError(
        "invalid_recovery_code",
        "This is not a recovery code of a hub.",
        remedy="Type all 28 characters of the sheet that was printed at set-up; O and 0, I and 1 count as the same.",
    )


def recovery_private_key(code: bytes, salt: bytes) -> bytes:
    """The private key that belongs to a recovery code and the hub's salt. Slow on purpose."""
    return Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(code)


def public_key_of(private_key: bytes) -> bytes:
    """The public half."""
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def is_public_key(public_key: bytes) -> bool:
    """Whether something can be sealed for it: 32 bytes, and none of the few points that give everybody one secret."""
    try:
        X25519PrivateKey.from_private_bytes(bytes(32)).exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:
        return False
    return True


# -- sealing -----------------------------------------------------------------------------------------------------------


def _wrapping_key(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=MAGIC + ephemeral + recipient).derive(shared)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes((last,))


class Sealer:
    """A writable file that seals what is written to it. `close` writes the last chunk; nobody opens it without."""

    def __init__(
        self,
        target: BinaryIO,
        recipients: tuple[Recipient, ...],
        about: dict[str, Json],
        token_bytes: Callable[[int], bytes],
    ) -> None:
        if not recipients:
            raise StoreError(
                "backup.no_recipient",
                "There is no key to seal the backup for.",
                remedy="Finish the set-up: it prints the recovery code.",
            )
        self.file_key = token_bytes(32)
        self._target = target
        header = json.dumps(
            {"about": about, "recipients": [self._wrap(r, token_bytes) for r in recipients]}, sort_keys=True
        ).encode("utf-8")
        target.write(MAGIC + len(header).to_bytes(4, "big") + header)
        self._cipher = ChaCha20Poly1305(self.file_key)
        self._header_digest = hashlib.sha256(header).digest()
        self._waiting = bytearray()
        self._number = 0

    def _wrap(self, recipient: Recipient, token_bytes: Callable[[int], bytes]) -> dict[str, str]:
        ephemeral = X25519PrivateKey.from_private_bytes(token_bytes(32))
        public = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient.public_key))
        key = _wrapping_key(shared, public, recipient.public_key)
        wrapped = ChaCha20Poly1305(key).encrypt(bytes(12), self.file_key, recipient.name.encode("utf-8"))
        return {"name": recipient.name, "ephemeral": public.hex(), "wrapped": wrapped.hex()}

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._waiting += data
        while len(self._waiting) > CHUNK_BYTES:
            self._seal(bytes(self._waiting[:CHUNK_BYTES]), last=False)
            del self._waiting[:CHUNK_BYTES]
        return len(data)

    def close(self) -> None:
        """Seal what is left as the last chunk. The target stays open: syncing it is the caller's."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._target.write(self._cipher.encrypt(_nonce(self._number, last), chunk, self._header_digest))
        self._number += 1


class Header(Struct, frozen=True):
    """What a sealed file says to everybody."""

    about: dict[str, Json]
    recipients: tuple[dict[str, str], ...]
    raw: bytes


def read_header(source: BinaryIO) -> Header:
    """Read the open part of a sealed file; leaves `source` at the first chunk."""
    if source.read(len(MAGIC)) != MAGIC:
        raise SealError("The file is not a backup of a hub.")
    size = int.from_bytes(source.read(4), "big")
    raw = source.read(min(size, HEADER_BYTES_MAX))
    try:
        header = json.loads(raw)
        return Header(header["about"], tuple(header["recipients"]), raw)
    except (ValueError, KeyError, TypeError) as exc:
        raise SealError("The header of the backup is damaged.") from exc


def file_key(header: Header, private_key: bytes) -> bytes:
    """The file's key, by the private key of one of its recipients; raises SealError if it is none of them."""
    mine = X25519PrivateKey.from_private_bytes(private_key)
    public = mine.public_key().public_bytes_raw()
    for recipient in header.recipients:
        try:
            ephemeral = bytes.fromhex(recipient["ephemeral"])
            shared = mine.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            cipher = ChaCha20Poly1305(_wrapping_key(shared, ephemeral, public))
            return cipher.decrypt(bytes(12), bytes.fromhex(recipient["wrapped"]), recipient["name"].encode("utf-8"))
        except (InvalidTag, ValueError, KeyError):
            continue
    raise SealError(
        "The backup is not sealed for this key.",
        remedy="Use the recovery code of the hub that made it, or the tenant's key of that time.",
    )


def unseal(source: BinaryIO, header: Header, key: bytes) -> Iterator[bytes]:
    """The content, chunk by chunk; raises SealError at the first byte that was changed, or if the end is missing."""
    cipher, digest, number = ChaCha20Poly1305(key), hashlib.sha256(header.raw).digest(), 0
    chunk = source.read(CHUNK_BYTES + TAG_BYTES)
    while True:
        following = source.read(CHUNK_BYTES + TAG_BYTES)
        try:
            yield cipher.decrypt(_nonce(number, not following), chunk, digest)
        except InvalidTag as exc:
            raise SealError("The backup is damaged or cut off.") from exc
        if not following:
            return
        chunk, number = following, number + 1
