"""Chance and ids from one seed. Each part has a stream of its own, so that a change in one does not move the others."""

from __future__ import annotations

import hashlib
import random  # noqa: TID251 - the one place of the simulation that makes dice
from random import Random  # noqa: TID251 - the type that the other modules name

from drivers.kit.virtual_time import VirtualClock
from hubd.model.ids import uuid7

__all__ = ["MachineClock", "Random", "SeededIds", "stream"]


def stream(seed: int, name: str) -> Random:
    """The dice of one part in one run."""
    return random.Random(hashlib.sha256(f"{seed}/{name}".encode()).digest())


class SeededIds:
    """Implements `hubd.runtime.IdSource` with dice."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice

    def new_id(self) -> str:
        return uuid7(self._dice.getrandbits(48), self._dice.randbytes(10))

    def token_bytes(self, count: int) -> bytes:
        return self._dice.randbytes(count)


class MachineClock(VirtualClock):
    """The clock of one machine: its monotonic time begins anew with each boot, its wall clock may be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self._booted_at = 0.0

    def boot(self) -> None:
        """The machine was switched on: monotonic time is 0 again, the wall clock goes on as it stood."""
        wall = self.now_us()
        self._booted_at = super().monotonic()
        self._base_us += wall - self.now_us()

    def monotonic(self) -> float:
        return super().monotonic() - self._booted_at

    def set_wall_us(self, wall_us: int) -> None:
        """Set the wall clock to this time, right or wrong."""
        self._base_us += wall_us - self.now_us()
