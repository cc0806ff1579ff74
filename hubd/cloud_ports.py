"""What the hub needs of the way to its cloud and of its own key."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from msgspec import Struct


class LinkSession(Protocol):
    """One connection to the cloud's transport. Bytes in, bytes out; nothing about it is proof."""

    async def send(self, payload: bytes) -> None:
        """Hand one message to the transport (topic `up`). Raises OSError when the connection is lost or times out."""
        ...

    def messages(self) -> AsyncIterator[bytes]:
        """Messages of topic `down` until the connection is lost (then it ends or raises OSError)."""
        ...


class LinkAddress(Struct, frozen=True):
    """What a hub needs to reach its topics."""

    tenant: str
    hub_id: str
    """32 hex digits."""
    client_id: str
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Without the password."""
        return f"LinkAddress(hub_id={self.hub_id!r}, client_id={self.client_id!r}, username={self.username!r})"

    @property
    def shard(self) -> str:
        """First two hex digits of SHA-256 over the hub id's bytes, for cloud workers to share the load."""
        return hashlib.sha256(bytes.fromhex(self.hub_id)).hexdigest()[:2]

    def topic(self, leaf: str) -> str:
        """`hubd/1/{tenant}/{shard}/{hub}/{leaf}` with leaf up, down or state."""
        return f"hubd/1/{self.tenant}/{self.shard}/{self.hub_id}/{leaf}"


class CloudLink(Protocol):
    """Opens connections to the cloud's transport, one at a time."""

    def connect(self, address: LinkAddress) -> AbstractAsyncContextManager[LinkSession]:
        """A fresh connection, nothing remembered from an earlier one. Raises OSError when it cannot be made."""
        ...


class Signer(Protocol):
    """The hub's own key. The private half never leaves the object."""

    @property
    def public_key(self) -> bytes:
        """32 bytes, Ed25519."""
        ...

    @property
    def hub_id(self) -> bytes:
        """First 16 bytes of SHA-256 over the public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        ...


VerifySignature = Callable[[bytes, bytes, bytes], bool]
"""(public_key, signature, message) -> valid; Ed25519."""
