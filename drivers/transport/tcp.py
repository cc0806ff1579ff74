"""TCP to a device: no delay, and a close that takes back what has not arrived."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from drivers.transport.stream import READ_BUFFER_BYTES, AsyncioStream
from hubd.errors import ConfigError
from hubd.ports import ServeLine

KEEP_ALIVE_IDLE_S = 60
KEEP_ALIVE_INTERVAL_S = 15
KEEP_ALIVE_PROBES = 4
ACCEPTED_MAX = 4
"""Lines that one device may hold open to the hub at a time."""


async def open_tcp(url: str) -> AsyncioStream:
    """Connect to `tcp://host:port`; raises OSError. The caller bounds the time."""
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        raise ConfigError("config.invalid_value", "The address lacks host or port.", remedy="Write tcp://host:port.")
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=READ_BUFFER_BYTES)
    prepare_socket(writer.get_extra_info("socket"))
    return AsyncioStream(reader, writer)


@asynccontextmanager
async def accept_tcp(port: int, host: str, serve: ServeLine) -> AsyncIterator[None]:
    """See `hubd.ports.AcceptLines`. Listens at all addresses of the hub, because it does not know which one is asked.

    At most `ACCEPTED_MAX` lines at a time are served; another one is closed at once.
    """
    allowed = {info[4][0] for info in await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    open_streams: set[AsyncioStream] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        stream = AsyncioStream(reader, writer)
        if peer not in allowed or len(open_streams) >= ACCEPTED_MAX:
            await stream.close()
            return
        prepare_socket(writer.get_extra_info("socket"))
        open_streams.add(stream)
        try:
            await serve(stream)
        finally:
            open_streams.discard(stream)
            await stream.close()

    server = await asyncio.start_server(accepted, port=port, limit=READ_BUFFER_BYTES)
    try:
        yield
    finally:
        server.close()
        for stream in tuple(open_streams):
            await stream.close()


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
