"""Time, chance and ids: the only place that asks the operating system for them.

Everything else takes a `Runtime` in its constructor, so that a simulation can own time and every run can be repeated
from one seed.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from hubd.model.ids import uuid7

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
NTP_SYNCHRONISED_FILE = Path("/run/systemd/timesync/synchronized")
EARLIEST_PLAUSIBLE_US = 1_767_225_600_000_000  # 2026-01-01, before the first release: an earlier clock is wrong


class Clock(Protocol):
    """Wall time for people, monotonic time for intervals."""

    def now_us(self) -> int:
        """UTC in microseconds since 1970, right or wrong (see `trusted`)."""
        ...

    def trusted(self) -> bool:
        """Whether a witness has confirmed the wall clock since boot."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back within one boot."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; the one clock of production and simulation."""
        ...

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """Bound a block; raises TimeoutError when the time is over."""
        ...


class IdSource(Protocol):
    """Ids and secrets."""

    def new_id(self) -> str:
        """A fresh UUIDv7 in its canonical text; its time bits mean nothing."""
        ...

    def token_bytes(self, count: int) -> bytes:
        """Unpredictable bytes."""
        ...


class SystemClock:
    """The operating system's clocks. Trusted once a witness said so (`trust`) or the NTP client did (`look`)."""

    def __init__(self) -> None:
        self._witnessed = False

    def now_us(self) -> int:
        """UTC in microseconds."""
        return time.time_ns() // 1000

    def trusted(self) -> bool:
        """True when a witness has spoken and the date is not before the program's own release."""
        return self._witnessed and self.now_us() >= EARLIEST_PLAUSIBLE_US

    def look(self) -> bool:
        """Ask whether the system's NTP client has set the clock. Reads a file: not in the event loop."""
        self._witnessed = self._witnessed or NTP_SYNCHRONISED_FILE.exists()
        return self.trusted()

    def trust(self) -> None:
        """Record that a witness (cloud, NTP, RTC, a paired till) agreed with the wall clock."""
        self._witnessed = True

    def monotonic(self) -> float:
        """Seconds of the kernel's monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait in the running event loop."""
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """Bound a block by the event loop's clock."""
        return asyncio.timeout(seconds)


class SystemIds:
    """Ids from the operating system's random source."""

    def new_id(self) -> str:
        """A UUIDv7."""
        return uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))

    def token_bytes(self, count: int) -> bytes:
        """Unpredictable bytes."""
        return secrets.token_bytes(count)


def read_boot_id() -> bytes:
    """The kernel's id of this boot, 16 bytes; random where the kernel tells none (then each start counts as a boot)."""
    try:
        return bytes.fromhex(BOOT_ID_FILE.read_text("ascii").strip().replace("-", ""))
    except (OSError, ValueError):
        return os.urandom(16)


class Runtime(Struct, frozen=True):
    """All that a component may know of the world outside its own state."""

    clock: Clock
    ids: IdSource
    rng: random.Random
    boot: bytes
    """16 bytes, equal for all processes of one boot of the machine."""
    process: bytes = field(default_factory=lambda: os.urandom(8))
    """8 bytes, new with every start of the process; with `boot` it is the *start* that `Hub-Line` names."""

    @property
    def start_id(self) -> str:
        """Boot and process as one word, for `Hub-Line` and MQTT client ids."""
        return f"{self.boot[:4].hex()}{self.process[:4].hex()}"


def system_runtime(seed: Callable[[], random.Random] = random.SystemRandom) -> Runtime:
    """The real world."""
    clock = SystemClock()
    clock.look()
    return Runtime(clock=clock, ids=SystemIds(), rng=seed(), boot=read_boot_id())
