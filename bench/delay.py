"""A TCP link with a round trip time and no other limit: what leaves at once arrives at once, later."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class Line:
    """The near end of the link, and what has gone up through it."""

    port: int
    up_bytes: int = 0


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float, line: Line | None = None
) -> None:
    loop = asyncio.get_running_loop()
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)

    async with asyncio.TaskGroup() as group:
        group.create_task(deliver())
        data = b"begun"
        while data:
            try:
                data = await reader.read(1 << 18)
            except OSError:
                data = b""
            if line is not None:
                line.up_bytes += len(data)
            on_the_way.put_nowait((loop.time() + delay_s, data))


@asynccontextmanager
async def delayed(target_port: int, round_trip_s: float) -> AsyncIterator[Line]:
    """A listener on loopback that forwards to `target_port` with this round trip."""
    line = Line(0)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
        for one in (writer, far_writer):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                _pump(reader, far_writer, round_trip_s / 2, line), _pump(far_reader, writer, round_trip_s / 2)
            )

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        line.port = int(server.sockets[0].getsockname()[1])
        yield line
    finally:
        server.close()
