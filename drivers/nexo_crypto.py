"""The encryption of nexo messages between a cash register and an Adyen terminal (NexoBlob). Pure.

Both sides derive their keys from one passphrase. Whoever does not know it can neither read a message nor make one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

CRYPTO_VERSION = 1
NONCE_BYTES = 16
SALT = b"AdyenNexoV1Salt"
ITERATIONS = 4000
HMAC_KEY_BYTES, AES_KEY_BYTES, IV_BYTES, BLOCK_BITS = 32, 32, 16, 128


class NexoCryptoError(ValueError):
    """The message was not made with our key, or was changed since. Says no more: one error for every cause."""


class NexoKeyError(ValueError):
    """The message names another key than ours. Says not which one."""


@dataclass(frozen=True, slots=True)
class NexoKey:
    """The shared key as it is set up for the terminal."""

    identifier: str
    passphrase: str = field(repr=False)
    version: int = 1


@dataclass(frozen=True, slots=True)
class DerivedKeys:
    """What a passphrase becomes: 32 bytes for the HMAC, 32 for AES-256, 16 that every nonce is combined with."""

    hmac_key: bytes = field(repr=False)
    aes_key: bytes = field(repr=False)
    iv: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sealed:
    """An encrypted message: the blob, its HMAC and its nonce, each in base64, and which key they were made with."""

    blob: str
    hmac: str
    nonce: str
    key_identifier: str
    key_version: int
    crypto_version: int = CRYPTO_VERSION


@lru_cache(maxsize=16)
def derive_keys(passphrase: str) -> DerivedKeys:
    """PBKDF2 with SHA-1, 4000 iterations, 80 bytes, as the protocol has it; costs milliseconds, so it is remembered.

    Raises ValueError unless the passphrase is ASCII: of other letters Adyen's library for Node takes the low byte only,
    and what a terminal takes is not known.
    """
    size = HMAC_KEY_BYTES + AES_KEY_BYTES + IV_BYTES
    material = hashlib.pbkdf2_hmac("sha1", passphrase.encode("ascii"), SALT, ITERATIONS, size)
    aes_end = HMAC_KEY_BYTES + AES_KEY_BYTES
    return DerivedKeys(material[:HMAC_KEY_BYTES], material[HMAC_KEY_BYTES:aes_end], material[aes_end:])


def seal(plaintext: bytes, key: NexoKey, nonce: bytes) -> Sealed:
    """Encrypt a message. `nonce`: 16 bytes that nobody can guess and that are used once; raises ValueError else."""
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
    keys = derive_keys(key.passphrase)
    padder = PKCS7(BLOCK_BITS).padder()
    encryptor = _cipher(keys, nonce).encryptor()
    padded = padder.update(plaintext) + padder.finalize()
    return Sealed(
        blob=_text(encryptor.update(padded) + encryptor.finalize()),
        hmac=_text(hmac.digest(keys.hmac_key, plaintext, "sha256")),
        nonce=_text(nonce),
        key_identifier=key.identifier,
        key_version=key.version,
    )


def unseal(sealed: Sealed, key: NexoKey) -> bytes:
    """The plaintext. Raises `NexoKeyError` for another key, `NexoCryptoError` for all else that is wrong.

    Bad padding and a bad HMAC are one error with the same work behind it: a sender must not learn which of them it was.
    """
    named = (sealed.key_identifier, sealed.key_version, sealed.crypto_version)
    if named != (key.identifier, key.version, CRYPTO_VERSION):
        raise NexoKeyError("the message names another key")
    blob, received, nonce = _bytes(sealed.blob), _bytes(sealed.hmac), _bytes(sealed.nonce)
    if len(nonce) != NONCE_BYTES or not blob or len(blob) * 8 % BLOCK_BITS:
        raise NexoCryptoError("the message is not authentic")
    keys = derive_keys(key.passphrase)
    decryptor = _cipher(keys, nonce).decryptor()
    padded = decryptor.update(blob) + decryptor.finalize()
    plaintext, padding_valid = _unpadded(padded)
    expected = hmac.digest(keys.hmac_key, plaintext, "sha256")
    authentic = len(received) == len(expected) and hmac.compare_digest(received, expected)
    if not (authentic and padding_valid):
        raise NexoCryptoError("the message is not authentic")
    return plaintext


def _cipher(keys: DerivedKeys, nonce: bytes) -> Cipher[modes.CBC]:
    iv = bytes(one ^ other for one, other in zip(keys.iv, nonce, strict=True))
    return Cipher(algorithms.AES(keys.aes_key), modes.CBC(iv))


def _unpadded(padded: bytes) -> tuple[bytes, bool]:
    """The plaintext and True; with bad padding all of it and False, so that the HMAC is computed all the same."""
    unpadder = PKCS7(BLOCK_BITS).unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize(), True
    except ValueError:
        return padded, False


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    """Strict base64; white space between the characters is left out, as some senders break long lines."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise NexoCryptoError("the message is not authentic") from None
