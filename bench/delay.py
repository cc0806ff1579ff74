"""A TCP link with a round trip time and no other limit: what leaves at once arrives at once, later.

A process of its own (`python -m bench.delay PORT TARGET_PORT ROUND_TRIP_S COUNTER`), so that neither end waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.machine import answers, child, free_port

_COUNT = struct.Struct("=Q")


@dataclass(frozen=True)
class Line:
    """The near end of the link, and what has gone up through it."""

    port: int
    counter: Path
    process: asyncio.subprocess.Process

    def up_bytes(self) -> int:
        return int(_COUNT.unpack(self.counter.read_bytes())[0])


class Counter:
    """Bytes, in a file that another process reads."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._sum = 0
        self.add(0)

    def add(self, count: int) -> None:
        self._sum += count
        os.pwrite(self._file, _COUNT.pack(self._sum), 0)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float, counter: Counter | None = None
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
            if counter is not None:
                counter.add(len(data))
            on_the_way.put_nowait((loop.time() + delay_s, data))


async def forward(port: int, target_port: int, round_trip_s: float, counter: Counter) -> None:
    """Listen on loopback and forward to `target_port` with this round trip, for ever."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target_port)
        for one in (writer, far_writer):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                _pump(reader, far_writer, round_trip_s / 2, counter), _pump(far_reader, writer, round_trip_s / 2)
            )

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    await server.serve_forever()


@asynccontextmanager
async def delayed(target_port: int, round_trip_s: float, place: Path, port: int = 0) -> AsyncIterator[Line]:
    """A line to `target_port` with this round trip; `place` takes its counter."""
    port, counter = port or free_port(), place / "line.count"
    words = (str(port), str(target_port), str(round_trip_s), str(counter))
    async with child([sys.executable, "-m", "bench.delay", *words]) as process:
        await answers(port, process)
        yield Line(port, counter, process)


if __name__ == "__main__":
    asyncio.run(forward(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Counter(Path(sys.argv[4]))))
