"""The hub's own key: Ed25519, in a file of mode 0600 that no backup contains.

A restored hub without the file is another hub: it makes a new key and is enrolled again. `hub_id` follows from the
public key, so nobody can claim another hub's id without its key.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hubd.errors import ConfigError

SEED_BYTES = 32
KEY_FILE_MODE = 0o600


def hub_id_of(public_key: bytes) -> bytes:
    """First 16 bytes of SHA-256 over the public key."""
    return hashlib.sha256(public_key).digest()[:16]


def key_id_of(public_key: bytes) -> str:
    """The short name of a key in messages and proofs: 16 hex digits of SHA-256 over it."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is this key's over `message`; False for keys and signatures of a wrong form too."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class KeySigner:
    """Implements `hubd.ports.Signer`; the private half never leaves the object."""

    __slots__ = ("_hub_id", "_private", "_public")

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._private.public_key().public_bytes_raw()
        self._hub_id = hub_id_of(self._public)

    def __repr__(self) -> str:
        return f"KeySigner({self._hub_id.hex()})"

    @property
    def public_key(self) -> bytes:
        """32 bytes, Ed25519."""
        return self._public

    @property
    def hub_id(self) -> bytes:
        """First 16 bytes of SHA-256 over the public key."""
        return self._hub_id

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(message)


def load_or_create_key(path: Path, token_bytes: Callable[[int], bytes]) -> KeySigner:
    """The key in `path`; made, synced to disk and given mode 0600 if there is none.

    Raises `identity.unreadable` for a file that is not a key: a damaged key is never replaced in silence, because the
    cloud knows the hub by it.
    """
    return KeySigner(load_or_create_secret(path, token_bytes))


def load_or_create_secret(path: Path, token_bytes: Callable[[int], bytes]) -> bytes:
    """The 32 bytes in `path`, made and kept as `load_or_create_key` does; raises `identity.unreadable`."""
    try:
        seed = path.read_bytes()
    except FileNotFoundError:
        seed = token_bytes(SEED_BYTES)
        _write_key(path, seed)
    if len(seed) != SEED_BYTES:
        raise ConfigError(
            "identity.unreadable",
            f"{path.name} is not a key of {SEED_BYTES} bytes.",
            remedy="Bring back the file, or move it away: the hub then makes a new key and must be enrolled again.",
        )
    if path.stat().st_mode & 0o077:
        path.chmod(KEY_FILE_MODE)
    return seed


def load_key(path: Path) -> KeySigner:
    """The key of a hub that has one; makes none. Raises `identity.unreadable`."""
    try:
        seed = path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            "identity.unreadable",
            f"{path.name} cannot be read: {exc.strerror}.",
            remedy="Run it where the hub's key is.",
        ) from exc
    if len(seed) != SEED_BYTES:
        raise ConfigError("identity.unreadable", f"{path.name} is not a key of {SEED_BYTES} bytes.")
    return KeySigner(seed)


def _write_key(path: Path, seed: bytes) -> None:
    """Write beside it, sync, rename, sync the directory: after a power cut the key is whole or absent."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, KEY_FILE_MODE)
    try:
        os.write(descriptor, seed)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
