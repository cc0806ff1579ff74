"""Straight to the connection: chunks of a streamed answer that are framed once and written to many followers.

A server's ordinary way costs a task's turn, a chain of calls and a framing for each follower and each event. Where the
server knows this ASGI extension, `scope["extensions"]["hubd.direct"]`, it takes a framed chunk as it is. It never
holds more back than the connection's own buffer: a full one takes nothing, and the ordinary way waits for room.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol, cast

EXTENSION = "hubd.direct"


class DirectStream(Protocol):
    """One streamed answer that takes framed chunks."""

    def write(self, chunk: bytes) -> bool:
        """Write a framed chunk at once; False, and nothing of it is written, where that is not possible now."""
        ...


def direct_stream(scope: MutableMapping[str, Any]) -> DirectStream | None:
    """What the server offers for this request; None where it offers no such thing."""
    return cast("DirectStream | None", scope.get("extensions", {}).get(EXTENSION))


def framed(part: bytes) -> bytes:
    """A part of a body, not empty, as a chunk of HTTP/1.1 (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(part), part)
