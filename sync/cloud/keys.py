"""The cloud's keys: a root that hubs pin at enrolment, and the key that signs from day to day, vouched for by it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sync.codec import KeyCertificate, key_bytes

SEED_BYTES = 32
BACKUP_KEY_DOMAIN = b"hubd.backup_key.v1\0"


def key_id_of(public_key: bytes) -> str:
    """16 hex digits of SHA-256 over a public key."""
    return hashlib.sha256(public_key).digest()[:8].hex()


def hub_id_of(public_key: bytes) -> bytes:
    """A hub's id follows from its key."""
    return hashlib.sha256(public_key).digest()[:16]


def signature_holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Ed25519; False for anything malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of the cloud."""

    private: Ed25519PrivateKey
    public_key: bytes
    key_id: str

    @classmethod
    def of_seed(cls, seed: bytes) -> SigningKey:
        """The key that 32 secret bytes make."""
        private = Ed25519PrivateKey.from_private_bytes(seed)
        public = private.public_key().public_bytes_raw()
        return cls(private, public, key_id_of(public))

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self.private.sign(message)


class CloudKeys:
    """Root and present signing key. In a fleet the root is kept elsewhere and only its certificates are here."""

    def __init__(self, root_seed: bytes, signing_seeds: tuple[bytes, ...]) -> None:
        self.root = SigningKey.of_seed(root_seed)
        self.signing = [SigningKey.of_seed(seed) for seed in signing_seeds] or [self.root]
        self.current = self.signing[-1]
        """The key that signs now."""

    def certificates(self) -> tuple[KeyCertificate, ...]:
        """Every signing key with the root's word for it."""
        return tuple(
            KeyCertificate(key.key_id, key.public_key, self.root.sign(key_bytes(key.key_id, key.public_key)))
            for key in self.signing
        )

    def vouch_for_backup_key(self, tenant: str, public_key: bytes) -> bytes:
        """The root's signature that hubs of this tenant want to see before they seal backups for a key."""
        name = tenant.encode("utf-8")
        return self.root.sign(BACKUP_KEY_DOMAIN + bytes((len(name),)) + name + public_key)

    def public_keys(self) -> dict[str, bytes]:
        """Every key by its id, the root among them."""
        return {key.key_id: key.public_key for key in (self.root, *self.signing)}

    def vouch_for(self, seed: bytes) -> None:
        """Vouch for a further key, which does not sign before `rotate`: hubs must have heard of it."""
        self.signing.append(SigningKey.of_seed(seed))

    def rotate(self) -> None:
        """Sign with the newest key from now on; old proofs stay valid."""
        self.current = self.signing[-1]


def load_or_create_keys(directory: Path, token_bytes: Callable[[int], bytes]) -> CloudKeys:
    """Keys kept as one file each: `root.key` and `signing-N.key`, mode 0600."""
    directory.mkdir(parents=True, exist_ok=True)
    root = _seed(directory / "root.key", token_bytes)
    _seed(directory / "signing-1.key", token_bytes)
    files = sorted(directory.glob("signing-*.key"), key=lambda path: int(path.stem.partition("-")[2]))
    return CloudKeys(root, tuple(path.read_bytes() for path in files))


def _seed(path: Path, token_bytes: Callable[[int], bytes]) -> bytes:
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(token_bytes(SEED_BYTES))
    return path.read_bytes()
