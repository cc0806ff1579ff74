"""A TCP link that a test can spoil: between hub and broker, hub and terminal, till and hub.

    async with LinkProxy("127.0.0.1", broker.port) as link:
        ...connect to 127.0.0.1:link.port...
        link.faults.latency_s = 0.3
        link.blackhole()           # half-open: both ends think that the connection lives
        link.heal()
        await link.cut()           # both ends get a reset; new connections are refused until restored
        await link.restore()

What the two ends see is real: their own sockets, the kernel's resets, timeouts that are theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CHUNK_BYTES = 65536
# Closing with this set sends a reset instead of an orderly end, as a router that forgot the connection does.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Faults:
    """What is wrong with the link now; changes take effect with the next chunk of data."""

    latency_s: float = 0.0  # added to every chunk, each way
    bytes_per_s: float = 0.0  # 0: unlimited
    # After so many more bytes in that direction the connection is reset in mid-message.
    cut_after_up_bytes: int | None = None
    cut_after_down_bytes: int | None = None
    # Data is taken and never delivered, nothing is closed.
    drop_up: bool = False
    drop_down: bool = False


@dataclass(eq=False, slots=True)
class _Pair:
    client: asyncio.StreamWriter
    upstream: asyncio.StreamWriter | None = None
    reset: bool = False


@dataclass(slots=True)
class Traffic:
    """What has passed, for tests that assert that something (or nothing) was sent."""

    connections: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    up_data: bytearray = field(default_factory=bytearray)
    down_data: bytearray = field(default_factory=bytearray)


class LinkProxy:
    """A forwarder to one target, on a port of its own that stays the same over `cut` and `restore`."""

    def __init__(self, target_host: str, target_port: int, *, port: int = 0, record: bool = False) -> None:
        """Describe the link; with `record`, `traffic` keeps all delivered bytes."""
        self.host = HOST
        self.port = port
        self.faults = Faults()
        self.traffic = Traffic()
        self._target = (target_host, target_port)
        self._record = record
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.restore()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything; no task is left."""
        self.faults = Faults()
        await self.cut()
        self._open.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connection_count(self) -> int:
        """How many connections pass through now."""
        return len(self._pairs)

    def blackhole(self) -> None:
        """Half-open: what either end sends disappears, no end is told, and new connections hang without an answer."""
        self.faults.drop_up = self.faults.drop_down = True
        self._open.clear()

    def heal(self) -> None:
        """Take away every fault; what was dropped stays lost, as after a real blackhole."""
        self.faults = Faults()
        self._open.set()

    async def cut(self, *, refuse: bool = True) -> None:
        """Reset every connection; with `refuse`, also refuse new ones until `restore`."""
        if refuse and self._server is not None:
            self._server.close()
            self._server = None
        for pair in list(self._pairs):
            self._reset(pair)
        # What was waiting (latency, a blackhole) ends with its connection.
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def restore(self) -> None:
        """Accept connections (again) on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accepted, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection; asyncio made this task, we keep it so that leaving the context can end it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pair = _Pair(writer)
        self._pairs.add(pair)
        self.traffic.connections += 1
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._forward(pair, reader)
        finally:
            self._pairs.discard(pair)
            self._tasks.discard(task)
            for end in (pair.client, pair.upstream):
                if end is not None:
                    end.close()

    async def _forward(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        await self._open.wait()
        try:
            from_target, pair.upstream = await asyncio.open_connection(*self._target)
        except OSError:
            self._reset(pair)
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pump(pair, reader, pair.upstream, up=True), name="link up")
            both.create_task(self._pump(pair, from_target, pair.client, up=False), name="link down")

    async def _pump(self, pair: _Pair, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, up: bool) -> None:
        """Carry one direction until it ends, with the faults of the moment."""
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                faults = self.faults
                delay_s = faults.latency_s + (len(chunk) / faults.bytes_per_s if faults.bytes_per_s else 0.0)
                if delay_s:
                    await asyncio.sleep(delay_s)  # noqa: TID251 - the delay is the link's own
                faults = self.faults
                if faults.drop_up if up else faults.drop_down:
                    continue
                allowed = self._take_allowance(len(chunk), up=up)
                sink.write(chunk[:allowed])
                await sink.drain()
                self._count(chunk[:allowed], up=up)
                if allowed < len(chunk) or self._exhausted(up=up):
                    self._reset(pair)
                    return
            # A half-close is passed on: some peers say goodbye in one direction first.
            if not pair.reset and not (self.faults.drop_up if up else self.faults.drop_down) and sink.can_write_eof():
                sink.write_eof()

    def _take_allowance(self, size: int, *, up: bool) -> int:
        """How many of `size` bytes may still pass before the cut in mid-message, counted down."""
        left = self.faults.cut_after_up_bytes if up else self.faults.cut_after_down_bytes
        if left is None:
            return size
        taken = min(left, size)
        if up:
            self.faults.cut_after_up_bytes = left - taken
        else:
            self.faults.cut_after_down_bytes = left - taken
        return taken

    def _exhausted(self, *, up: bool) -> bool:
        return (self.faults.cut_after_up_bytes if up else self.faults.cut_after_down_bytes) == 0

    def _count(self, data: bytes, *, up: bool) -> None:
        if up:
            self.traffic.up_bytes += len(data)
        else:
            self.traffic.down_bytes += len(data)
        if self._record:
            (self.traffic.up_data if up else self.traffic.down_data).extend(data)

    def _reset(self, pair: _Pair) -> None:
        """End both sides with a TCP reset, in the middle of whatever they were saying."""
        pair.reset = True
        for end in (pair.client, pair.upstream):
            if end is None:
                continue
            raw = end.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            end.transport.abort()
