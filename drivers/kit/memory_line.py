"""Lines inside the simulation: two ends in memory, with faults that a cable or a network can have."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hubd.ports import ServeLine

LINE_BYTES_MAX = 1024 * 1024
"""Unread bytes per direction; beyond it the run is broken, not the line."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Bytes that arrive, and how many seconds after they were written."""

    data: bytes
    delay_s: float = 0.0


Tamper = Callable[[bytes], list[Delivery]]
"""What becomes of one `write`: nothing (lost), the same, something else, several, later."""


class MemoryStream:
    """One end of a line; a `hubd.ports.ByteStream`. Closing takes back what has not arrived, like a TCP reset."""

    def __init__(self) -> None:
        self._peer: MemoryStream
        self._inbox = bytearray()
        self._news = asyncio.Event()
        self._ended = False
        self._broken = False
        self._closed = False
        self._timers: deque[asyncio.TimerHandle] = deque()
        self._under_way: deque[bytes] = deque()
        self._arrives_at = 0.0
        self.tamper: Tamper | None = None
        self.delay_s = 0.0
        self.cut_after: int | None = None
        """Bytes of this end after which the line breaks for both."""
        self.read_max: int | None = None
        """Most bytes that this end is given by one `read`: 1 splits every frame at every byte."""
        self.bytes_written = 0

    async def read(self, max_bytes: int) -> bytes:
        """See `ByteStream`."""
        while not self._inbox:
            if self._broken or self._closed:
                raise ConnectionResetError("the line is cut")
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        size = min(max_bytes, self.read_max or max_bytes)
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        return data

    async def write(self, data: bytes) -> None:
        """See `ByteStream`. Does not wait: the other end has room."""
        if self._broken or self._closed or self._ended:
            raise ConnectionResetError("the line is cut")
        for delivery in self.tamper(data) if self.tamper else [Delivery(data)]:
            self._send(delivery.data, delivery.delay_s + self.delay_s)

    def _send(self, data: bytes, delay_s: float) -> None:
        cut = False
        if self.cut_after is not None:
            allowed = max(0, self.cut_after - self.bytes_written)
            cut = len(data) >= allowed
            data = data[:allowed]
        self.bytes_written += len(data)
        loop = asyncio.get_running_loop()
        # Bytes never overtake each other on one line.
        self._arrives_at = max(self._arrives_at, loop.time() + delay_s)
        if self._arrives_at <= loop.time() and not self._under_way:
            self._peer.deliver(data)
        else:
            # Timers of the same moment fire in any order, so each delivers what is first in the queue.
            self._under_way.append(data)
            self._timers.append(loop.call_at(self._arrives_at, self._arrive))
        if cut:
            self.cut()

    def _arrive(self) -> None:
        self._timers.popleft()
        self._peer.deliver(self._under_way.popleft())

    def deliver(self, data: bytes) -> None:
        """Bytes arrive at this end."""
        if self._broken or self._closed:
            return
        self._inbox += data
        assert len(self._inbox) <= LINE_BYTES_MAX, "a peer writes without end and nobody reads"
        self._news.set()

    def cut(self) -> None:
        """Break the line for both ends; what was under way is gone, what had arrived can still be read."""
        for end in (self, self._peer):
            end._broken = True
            end._forget_timers()
            end._news.set()

    def strand(self) -> None:
        """Break this end only: its machine lost power, and the other end is not told (half-open)."""
        self._broken = True
        self._forget_timers()
        self._news.set()

    async def close(self) -> None:
        """See `ByteStream`."""
        if self._closed:
            return
        self._closed = True
        self._inbox.clear()
        self._forget_timers()
        self._news.set()
        self._peer._ended = True
        self._peer._news.set()

    def _forget_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._under_way.clear()

    @property
    def unread(self) -> int:
        """Bytes of this end that have arrived at the other one and were not read there."""
        return len(self._peer._inbox)

    @property
    def alive(self) -> bool:
        """Whether bytes can still go both ways."""
        return not (self._broken or self._closed or self._ended)


def memory_pipe() -> tuple[MemoryStream, MemoryStream]:
    """The two ends of a fresh line."""
    one, other = MemoryStream(), MemoryStream()
    one._peer, other._peer = other, one
    return one, other


class MemoryPorts:
    """Ports of a hub that listens for devices: `accept` is a `hubd.ports.AcceptLines`, `dial` the devices' way in."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._serving: dict[int, ServeLine] = {}
        self._open: dict[int, set[MemoryStream]] = {}

    @asynccontextmanager
    async def accept(self, port: int, _: str, serve: ServeLine) -> AsyncIterator[None]:
        """See `AcceptLines`; every device is at the right host."""
        if port in self._serving:
            raise OSError(f"port {port} is taken")
        self._serving[port], self._open[port] = serve, set()
        try:
            yield
        finally:
            del self._serving[port]
            for stream in tuple(self._open.pop(port)):
                await stream.close()

    async def dial(self, port: int) -> MemoryStream:
        """A line to this port; raises OSError when nobody listens."""
        serve = self._serving.get(port)
        if serve is None:
            raise ConnectionRefusedError("nobody listens")
        hub, device = memory_pipe()
        self._group.create_task(self._serve(serve, hub, self._open[port]), name=f"port:{port}")
        return device

    def hang_up(self, port: int) -> int:
        """Break the lines that are open at this port; return how many there were."""
        lines = tuple(self._open[port])
        for stream in lines:
            stream.cut()
        return len(lines)

    @staticmethod
    async def _serve(serve: ServeLine, stream: MemoryStream, open_streams: set[MemoryStream]) -> None:
        open_streams.add(stream)
        try:
            await serve(stream)
        finally:
            open_streams.discard(stream)
            await stream.close()
