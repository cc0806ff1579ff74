"""Topics as the cloud builds and reads them; the hub builds its own (hubd.ports.LinkAddress)."""

from __future__ import annotations

import hashlib

PREFIX = "hubd/1"


def shard_of(hub: bytes) -> str:
    """First two hex digits of SHA-256 over the hub's id."""
    return hashlib.sha256(hub).hexdigest()[:2]


def topic_of(tenant: str, hub: bytes, leaf: str) -> str:
    """`hubd/1/{tenant}/{shard}/{hub}/{leaf}`."""
    return f"{PREFIX}/{tenant}/{shard_of(hub)}/{hub.hex()}/{leaf}"


def hub_of(topic: str) -> bytes | None:
    """The hub that a topic belongs to; None for a topic of another form or a shard that is not the hub's."""
    parts = topic.split("/")
    if len(parts) != 6 or "/".join(parts[:2]) != PREFIX:
        return None
    try:
        hub = bytes.fromhex(parts[4])
    except ValueError:
        return None
    return hub if len(hub) == 16 and shard_of(hub) == parts[3] else None
