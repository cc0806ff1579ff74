"""TCP to a device: no delay, and a close that takes back what has not arrived."""

from __future__ import annotations

import asyncio
import socket
import struct
from urllib.parse import urlsplit

from drivers.transport.stream import READ_BUFFER_BYTES, AsyncioStream
from hubd.errors import ConfigError

KEEP_ALIVE_IDLE_S = 60
KEEP_ALIVE_INTERVAL_S = 15
KEEP_ALIVE_PROBES = 4


async def open_tcp(url: str) -> AsyncioStream:
    """Connect to `tcp://host:port`; raises OSError. The caller bounds the time."""
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        raise ConfigError("config.invalid_value", "The address lacks host or port.", remedy="Write tcp://host:port.")
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=READ_BUFFER_BYTES)
    prepare_socket(writer.get_extra_info("socket"))
    return AsyncioStream(reader, writer)


def prepare_socket(line: socket.socket) -> None:
    """Small messages leave at once, dead peers are noticed, and closing resets.

    The reset matters: with an ordinary close the kernel goes on delivering a command that the hub has given up, and
    the terminal could begin a payment after the hub has asked and heard that there was none.
    """
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_INTERVAL_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_ALIVE_PROBES)
