"""One POSLink line: frames and control bytes in and out. Used by the driver and by the simulator.

Whoever receives a good frame answers ACK, and NAK to a bad one; the sender then repeats it, three times at most and
then EOT (published clients). A line is used until the first exchange on it that did not end as it should.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from drivers.link import Link
from drivers.poslink_codec import (
    ACK,
    EOT,
    NAK,
    BadFrame,
    Control,
    Dialect,
    Frame,
    FrameReader,
    Garbage,
    HttpReader,
    encode_frame,
    encode_get,
)
from hubd.ports import ByteStream
from hubd.runtime import Clock

EVENTS_WAITING_MAX = 256
"""Frames and control bytes read and not yet looked at; a device that sends more at once babbles and loses its line."""
BAD_FRAMES_MAX = 3
"""In a row; then the line carries something else, or is too bad."""


class PoslinkLink(Link):
    """Frames over a `ByteStream`. `pump` must run while the link is in use; `receive` has one user."""

    def __init__(self, stream: ByteStream, clock: Clock, dialect: Dialect = Dialect.PLAIN, host: str = "") -> None:
        super().__init__(stream, clock)
        self._dialect = dialect
        self._host = host
        self._reader = HttpReader() if dialect is Dialect.HTTP else FrameReader(dialect)
        self._events: deque[Frame | Control] = deque()
        self._bad_frames = 0
        self._sending = asyncio.Lock()

    @property
    def acknowledges(self) -> bool:
        """Whether frames are confirmed by ACK on this line."""
        return self._dialect is not Dialect.HTTP

    async def _take(self, data: bytes) -> None:
        for event in self._reader.feed(data):
            if len(self._events) >= EVENTS_WAITING_MAX:
                self._lose("babble")
                return
            match event:
                case Frame():
                    self._bad_frames = 0
                    self._events.append(event)
                    await self._answer(ACK)
                case Control():
                    self._events.append(event)
                case BadFrame():
                    await self._refuse()
                case Garbage(reason):
                    self._lose(reason)
        self._news.set()

    async def _refuse(self) -> None:
        self._bad_frames += 1
        await self._answer(NAK if self._bad_frames < BAD_FRAMES_MAX else EOT)
        if self._bad_frames >= BAD_FRAMES_MAX or not self.acknowledges:
            self._lose("bad_frames")

    async def _answer(self, control: int) -> None:
        if self.acknowledges and not self._lost:
            # A terminal that ends the line after its answer does not wait for this: whoever reads hears of it.
            with contextlib.suppress(OSError):
                await self._stream.write(bytes((control,)))

    def discard_received(self) -> None:
        """Forget what nobody has asked for."""
        self._events.clear()

    async def send(self, frame: Frame) -> None:
        """Hand a frame to the line, once. Raises `LineLostError`; it may have arrived all the same."""
        data = encode_frame(frame, self._dialect)
        await self._transmit(encode_get(data, self._host) if self._dialect is Dialect.HTTP else data)

    async def send_control(self, code: int) -> None:
        """Hand one control byte to the line. Raises `LineLostError`."""
        await self._transmit(bytes((code,)))

    async def _transmit(self, data: bytes) -> None:
        async with self._sending:
            await super()._transmit(data)

    async def receive(self, timeout_s: float | None) -> Frame | Control:
        """What came next. Raises TimeoutError after `timeout_s`, `LineLostError` when nothing can come any more."""
        async with self._clock.timeout(timeout_s):
            while not self._events:
                await self._wait_for_news()
        return self._events.popleft()
