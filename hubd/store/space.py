"""Disk space: refuse new sales before the disk is full, and keep a reserve that lets running ones finish.

The reserve is a file of twice the write-ahead log's limit. When almost nothing is left it is given up, so that payments
on their way can be completed, the journal can be confirmed and checkpoints can run; it is taken again as soon as there
is room. `SpaceGuard` blocks for a moment: the daemon calls it through `Database.read_apart`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from hubd.store.db import WAL_SIZE_LIMIT_BYTES

log = logging.getLogger(__name__)

RESERVE_BYTES = 2 * WAL_SIZE_LIMIT_BYTES
LOW_FREE_BYTES = 256 * 1024 * 1024
"""Below this, new sales are refused before a terminal is touched: about a day of a busy shop."""
LOW_FREE_AGAIN_BYTES = 320 * 1024 * 1024
"""Above this, they are taken again: the gap keeps the hub from changing its mind with every payment."""
CRITICAL_FREE_BYTES = 48 * 1024 * 1024
"""Below this, the reserve is given up."""
BUDGET_BYTES = 16 * 1024 * 1024 * 1024
"""What the hub's own data may take, whatever the disk still has: another program must not starve, nor be starved."""
RESERVE_NAME = "reserve"


class SpaceState(StrEnum):
    """Whether there is room."""

    OK = "ok"
    LOW = "low"
    CRITICAL = "critical"


class Space(Struct, frozen=True):
    """What a check found."""

    state: SpaceState
    free_bytes: int
    """Free for the hub, without the reserve."""
    used_bytes: int
    """Taken by the hub's data, without the reserve."""
    reserve_held: bool

    @property
    def refuses_sales(self) -> bool:
        """Whether new sales are refused now; running ones always finish."""
        return self.state is not SpaceState.OK


class Limits(Struct, frozen=True):
    """All in bytes."""

    reserve: int = RESERVE_BYTES
    low: int = LOW_FREE_BYTES
    low_again: int = LOW_FREE_AGAIN_BYTES
    critical: int = CRITICAL_FREE_BYTES
    budget: int = BUDGET_BYTES

    def __post_init__(self) -> None:
        if not self.critical < self.low <= self.low_again:
            raise ValueError("the limits must rise: critical, low, low_again")


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write on the disk of a folder."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class SpaceGuard:
    """Watches the disk of the data folder. `measure` tells how much is free; tests give their own."""

    def __init__(self, folder: Path, limits: Limits | None = None, measure: Callable[[Path], int] = free_bytes) -> None:
        self._folder = folder
        self._limits = limits or Limits()
        self._measure = measure
        self._refusing = False

    @property
    def reserve(self) -> Path:
        """The file that is given up."""
        return self._folder / RESERVE_NAME

    def check(self) -> Space:
        """Measure, give up or take the reserve, and say how things stand."""
        limits = self._limits
        free, used = self._measure(self._folder), self._used()
        if free < limits.critical and self.reserve.exists():
            self._give_up()
            free = self._measure(self._folder)
        elif free >= limits.low_again + limits.reserve and not self.reserve.exists():
            self._take()
            free = self._measure(self._folder)
        held = self.reserve.exists()
        self._refusing = used > limits.budget or free < (limits.low_again if self._refusing else limits.low)
        state = SpaceState.OK
        if self._refusing:
            # Without the reserve the next check can give up nothing more.
            state = SpaceState.CRITICAL if free < limits.critical or not held else SpaceState.LOW
        return Space(state, free, used, held)

    def _used(self) -> int:
        """Bytes on the disk, not lengths: a file may have holes."""
        used = 0
        for folder, _, names in os.walk(self._folder):
            for name in names:
                if name != RESERVE_NAME:
                    with contextlib.suppress(FileNotFoundError):  # a log that was just removed
                        used += os.lstat(Path(folder) / name).st_blocks * 512
        return used

    def _take(self) -> None:
        part = self.reserve.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._limits.reserve)
            os.fsync(descriptor)
        except OSError:
            log.warning("space.no_reserve", exc_info=True)
            part.unlink()
            return
        finally:
            os.close(descriptor)
        part.replace(self.reserve)

    def _give_up(self) -> None:
        # Emptied before it is removed: a file that somebody has open keeps its blocks until he closes it.
        os.truncate(self.reserve, 0)
        self.reserve.unlink()
        log.warning("space.reserve_given_up")
