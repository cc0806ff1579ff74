"""One Concert line: signals and frames in, bytes out. Used by the driver and by the simulator.

The protocol is the same on USB, native serial lines and TCP; an answer is bound to its question by nothing but the
order on the line, so a driver gives a line up after the first dialogue on it that did not end as it should.
"""

from __future__ import annotations

from collections import deque

from drivers.concert_codec import BadFrame, Frame, FrameReader, Garbage, Signal, encode_frame
from drivers.link import Link
from hubd.ports import ByteStream
from hubd.runtime import Clock

CHARACTER_TIMEOUT_S = 2.0
"""Between two characters of one frame; below the three seconds after which a sender repeats itself."""
EVENTS_WAITING_MAX = 512
"""Signals and frames read and not yet looked at; a device that sends more at once babbles and loses its line."""

Heard = Signal | Frame | BadFrame
"""What a line can say while it is well."""


class ConcertLink(Link):
    """Signals and frames over a `ByteStream`. `pump` must run while the link is in use; `receive` has one user."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        super().__init__(stream, clock)
        self._reader = FrameReader()
        self._events: deque[Heard] = deque()

    async def _read(self) -> bytes:
        if self._reader.pending:
            try:
                async with self._clock.timeout(CHARACTER_TIMEOUT_S):
                    return await super()._read()
            except TimeoutError:
                self._note(self._reader.give_up())
        # Without a bound: an idle line may be silent for as long as it likes.
        return b"" if self._lost else await super()._read()

    async def _take(self, data: bytes) -> None:
        for event in self._reader.feed(data):
            self._note(event)

    def _note(self, event: Heard | Garbage) -> None:
        if isinstance(event, Garbage):
            self._lose(event.reason)
        elif len(self._events) >= EVENTS_WAITING_MAX:
            self._lose("babble")
        else:
            self._events.append(event)
            self._news.set()

    def discard_received(self) -> None:
        """Forget what came while nobody had asked for anything."""
        self._events.clear()

    async def send(self, what: Signal | Frame) -> None:
        """Hand a signal or a frame to the line. Raises `LineLostError`; bytes may have left all the same."""
        await self._transmit(what.encoded if isinstance(what, Signal) else encode_frame(what))

    async def receive(self, timeout_s: float | None) -> Heard:
        """What comes next. Raises TimeoutError after `timeout_s`, `LineLostError` when nothing can come any more."""
        async with self._clock.timeout(timeout_s):
            while not self._events:
                await self._wait_for_news()
        return self._events.popleft()
