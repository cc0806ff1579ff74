"""Clocks for tests: one stands still until it is moved, one runs and can be moved forward."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

from hubd.model.ids import uuid7
from hubd.runtime import Runtime, SystemClock, system_runtime

RNG = system_runtime().rng
START_US = 1_795_000_000_000_000  # 2026-11-18


class SteppedClock:
    """Time moves by `advance` only. `sleep` and `timeout` end when a test has moved far enough."""

    def __init__(self, wall_us: int = START_US, monotonic: float = 1_000.0, *, trusted: bool = True) -> None:
        self._offset_us = wall_us - int(monotonic * 1_000_000)
        self._monotonic = monotonic
        self._trusted = trusted
        self._moved = asyncio.Event()

    def now_us(self) -> int:
        return self._offset_us + int(self._monotonic * 1_000_000)

    def trusted(self) -> bool:
        return self._trusted

    def trust(self, trusted: bool = True) -> None:
        self._trusted = trusted

    def jump(self, seconds: float) -> None:
        """Move the wall clock only."""
        self._offset_us += int(seconds * 1_000_000)

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
        self._moved.set()
        self._moved = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        until = self._monotonic + seconds
        while self._monotonic < until:
            await self._moved.wait()

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """Bounds by real time: a test that hangs must end."""
        return SystemClock().timeout(seconds)


class CountedIds:
    """UUIDv7s that count up."""

    def __init__(self) -> None:
        self._made = 0

    def new_id(self) -> str:
        self._made += 1
        return uuid7(1_795_000_000_000, self._made.to_bytes(10, "big"))

    def token_bytes(self, count: int) -> bytes:
        self._made += 1
        return self._made.to_bytes(count, "big")


def stepped_runtime(clock: SteppedClock, boot: bytes = bytes(16)) -> Runtime:
    return Runtime(clock=clock, ids=CountedIds(), rng=RNG, boot=boot, process=bytes(8))


class JumpingClock(SystemClock):
    """The system's clocks, which a test moves forward together: an outage of three hours takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_s = 0.0
        self.trust()

    def now_us(self) -> int:
        return super().now_us() + int(self.ahead_s * 1_000_000)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s
