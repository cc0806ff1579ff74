"""One conversation with an ESC/POS printer over one open line: commands out, answers in. Used by the driver."""

from __future__ import annotations

from collections import deque

from drivers.escpos_codec import AnswerReader, Foreign, ProcessId, RealTime, Sensor, ask_status
from drivers.link import Link
from hubd.ports import ByteStream
from hubd.runtime import Clock

STATUS_TIMEOUT_S = 3.0
"""For the answer to DLE EOT. It comes at once, behind what the line itself still carries."""
FOREIGN_BYTES_MAX = 32
"""Bytes on one line that no printer says; with more of them it is no printer, or the line is bad."""
ANSWERS_WAITING_MAX = 64
"""Answers that nobody asked for; a device that sends more of them babbles and loses its line."""


class EscposLink(Link):
    """`pump` must run while the link is in use; `ask` and `in_turn` have one user."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        super().__init__(stream, clock)
        self._reader = AnswerReader()
        self._real_time: deque[int] = deque()
        self._in_turn: deque[ProcessId | Sensor] = deque()
        self._foreign = 0

    async def _take(self, data: bytes) -> None:
        for answer in self._reader.feed(data):
            match answer:
                case RealTime(value):
                    self._real_time.append(value)
                case ProcessId() | Sensor():
                    self._in_turn.append(answer)
                case Foreign():
                    self._foreign += 1
        if self._foreign > FOREIGN_BYTES_MAX:
            self._lose("not_escpos")
        elif len(self._real_time) + len(self._in_turn) > ANSWERS_WAITING_MAX:
            self._lose("babble")
        self._news.set()

    def forget(self) -> None:
        """Drop answers that nobody has asked for."""
        self._real_time.clear()
        self._in_turn.clear()

    async def send(self, data: bytes, timeout_s: float) -> None:
        """Hand bytes to the line.

        Raises `LineLostError`, or TimeoutError when it does not take them in time; in both cases some may have arrived.
        """
        async with self._clock.timeout(timeout_s):
            await self._transmit(data)

    async def ask(self, number: int, before: bytes = b"", timeout_s: float = STATUS_TIMEOUT_S) -> int:
        """DLE EOT, in one piece with what goes `before` it. Raises like `send`, and TimeoutError without an answer."""
        self._real_time.clear()
        async with self._clock.timeout(timeout_s):
            await self.send(before + ask_status(number), timeout_s)
            while not self._real_time:
                await self._wait_for_news()
        return self._real_time.popleft()

    async def in_turn(self, timeout_s: float) -> ProcessId | Sensor:
        """The next answer that came in its turn. Raises TimeoutError, or `LineLostError` when none can come."""
        async with self._clock.timeout(timeout_s):
            while not self._in_turn:
                await self._wait_for_news()
        return self._in_turn.popleft()

    @property
    def answered_more(self) -> bool:
        """Whether answers wait that came in their turn."""
        return bool(self._in_turn)
