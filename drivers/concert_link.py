"""One Concert line: signals and frames in, bytes out. Used by the driver and by the simulator.

The protocol is the same on USB, native serial lines and TCP; an answer is bound to its question by nothing but the
order on the line, so a driver gives a line up after the first dialogue on it that did not end as it should.
"""

from __future__ import annotations

import asyncio
from collections import deque

from drivers.concert_codec import BadFrame, Frame, FrameReader, Garbage, Signal, encode_frame
from hubd.ports import ByteStream
from hubd.runtime import Clock

CHARACTER_TIMEOUT_S = 2.0
"""Between two characters of one frame; below the three seconds after which a sender repeats itself."""
READ_BYTES_MAX = 4096
EVENTS_WAITING_MAX = 512
"""Signals and frames read and not yet looked at; a device that sends more at once babbles and loses its line."""

Heard = Signal | Frame | BadFrame
"""What a line can say while it is well."""


class LineLostError(OSError):
    """The line broke, or carried something that is not Concert. Whether what was sent last arrived is not known."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ConcertLink:
    """Signals and frames over a `ByteStream`. `pump` must run while the link is in use; `receive` has one user."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._reader = FrameReader()
        self._events: deque[Heard] = deque()
        self._news = asyncio.Event()
        self._lost: LineLostError | None = None

    @property
    def lost(self) -> str:
        """Why the link cannot be used any more, or ""."""
        return self._lost.reason if self._lost else ""

    async def pump(self) -> str:
        """Read until the line is lost; return why. The only reader of the stream."""
        while self._lost is None:
            try:
                data = await self._read()
            except OSError as error:
                self._lose(f"line_error: {error.strerror or type(error).__name__}")
                break
            if data is None:
                self._note(self._reader.give_up())
            elif not data:
                self._lose("hung_up")
            else:
                for event in self._reader.feed(data):
                    self._note(event)
        return self.lost

    async def _read(self) -> bytes | None:
        """The next bytes, b"" at the end, None when a frame that has begun does not go on."""
        if not self._reader.pending:
            return await self._stream.read(READ_BYTES_MAX)
        # Not around the read above: an idle line may be silent for as long as it likes.
        try:
            async with self._clock.timeout(CHARACTER_TIMEOUT_S):
                return await self._stream.read(READ_BYTES_MAX)
        except TimeoutError:
            return None

    def _note(self, event: Heard | Garbage) -> None:
        if isinstance(event, Garbage):
            self._lose(event.reason)
        elif len(self._events) >= EVENTS_WAITING_MAX:
            self._lose("babble")
        else:
            self._events.append(event)
            self._news.set()

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = LineLostError(reason)
        self._news.set()

    def discard_received(self) -> None:
        """Forget what came while nobody had asked for anything."""
        self._events.clear()

    async def send(self, what: Signal | Frame) -> None:
        """Hand a signal or a frame to the line. Raises `LineLostError`; bytes may have left all the same."""
        if self._lost:
            raise self._lost
        try:
            await self._stream.write(what.encoded if isinstance(what, Signal) else encode_frame(what))
        except OSError as error:
            self._lose(f"line_error: {error.strerror or type(error).__name__}")
            raise LineLostError(self.lost) from error

    async def receive(self, timeout_s: float | None) -> Heard:
        """What comes next. Raises TimeoutError after `timeout_s`, `LineLostError` when nothing can come any more."""
        async with self._clock.timeout(timeout_s):
            while not self._events:
                if self._lost:
                    raise self._lost
                self._news.clear()
                await self._news.wait()
        return self._events.popleft()

    async def close(self) -> None:
        """Give the line back; a waiting `receive` ends with `LineLostError`. May be called again."""
        self._lose("closed")
        await self._stream.close()
