"""One conversation with an ESC/POS printer over one open line: commands out, answers in. Used by the driver."""

from __future__ import annotations

import asyncio
from collections import deque

from drivers.escpos_codec import AnswerReader, Foreign, ProcessId, RealTime, Sensor, ask_status
from hubd.ports import ByteStream
from hubd.runtime import Clock

STATUS_TIMEOUT_S = 3.0
"""For the answer to DLE EOT. It comes at once, behind what the line itself still carries."""
READ_BYTES_MAX = 4096
FOREIGN_BYTES_MAX = 32
"""Bytes on one line that no printer says; with more of them it is no printer, or the line is bad."""
ANSWERS_WAITING_MAX = 64
"""Answers that nobody asked for; a device that sends more of them babbles and loses its line."""


class LineLostError(OSError):
    """The line broke, or carried something else. Whether the last bytes arrived is not known."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EscposLink:
    """`pump` must run while the link is in use; `ask` and `in_turn` have one user."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._reader = AnswerReader()
        self._real_time: deque[int] = deque()
        self._in_turn: deque[ProcessId | Sensor] = deque()
        self._foreign = 0
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
                data = await self._stream.read(READ_BYTES_MAX)
            except OSError as error:
                self._lose(f"line_error: {error.strerror or type(error).__name__}")
                break
            if not data:
                self._lose("hung_up")
                break
            self._take(data)
        return self.lost

    def _take(self, data: bytes) -> None:
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

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = LineLostError(reason)
        self._news.set()

    def forget(self) -> None:
        """Drop answers that nobody has asked for."""
        self._real_time.clear()
        self._in_turn.clear()

    async def send(self, data: bytes, timeout_s: float) -> None:
        """Hand bytes to the line.

        Raises `LineLostError`, or TimeoutError when it does not take them in time; in both cases some may have arrived.
        """
        if self._lost:
            raise self._lost
        try:
            async with self._clock.timeout(timeout_s):
                await self._stream.write(data)
        except TimeoutError:
            raise
        except OSError as error:
            self._lose(f"line_error: {error.strerror or type(error).__name__}")
            raise LineLostError(self.lost) from error

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

    async def _wait_for_news(self) -> None:
        if self._lost:
            raise self._lost
        self._news.clear()
        await self._news.wait()

    async def close(self) -> None:
        """Give the line back; whoever waits hears `LineLostError`. May be called again."""
        self._lose("closed")
        await self._stream.close()
