"""How much a device may say: one that talks without end costs the hub a bounded piece of work, and then its line.

What a line carries is read in pieces, and between two of them everybody else has a turn. A device that says more in a
row than any device of its kind has to say babbles, whatever its bytes mean: its line is given up. What is left counts
for all lines of the device together, so that opening another one buys it nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from hubd.ports import ByteStream
from hubd.runtime import Clock


class Appetite(Struct, frozen=True):
    """What may come of one kind of device: so much at once, and so much for ever."""

    burst_bytes: int = 64 * 1024
    bytes_per_s: int = 16 * 1024
    """Above a serial line's 115,200 baud: a device that always talks and means it is heard."""
    piece_bytes: int = 512
    """So much is read in one go. An answer that comes in one piece is not cut: its end says whether the line stays."""


TALK = Appetite()
PAGES = Appetite(burst_bytes=2 * 1024 * 1024, bytes_per_s=256 * 1024, piece_bytes=16 * 1024)
"""Of a device that answers in documents."""


class BabbleError(OSError):
    """The device says more than anybody wants to hear."""

    def __init__(self) -> None:
        super().__init__("babble")


class Budget:
    """What is left of an appetite: eaten by what comes, growing again with time."""

    def __init__(self, clock: Clock, appetite: Appetite) -> None:
        self._clock, self._appetite = clock, appetite
        self._left = float(appetite.burst_bytes)
        self._counted_at: float | None = None

    def spend(self, count: int) -> bool:
        """Whether so much was left; if not, nothing is."""
        now = self._clock.monotonic()
        if self._counted_at is not None:
            grown = (now - self._counted_at) * self._appetite.bytes_per_s
            self._left = min(self._appetite.burst_bytes, self._left + grown)
        self._counted_at = now
        enough = count <= self._left
        self._left = self._left - count if enough else 0.0
        return enough

    @property
    def piece_bytes(self) -> int:
        """How much of it is read in one go."""
        return self._appetite.piece_bytes

    def refill(self) -> None:
        """Begin anew: what came was good."""
        self._left = float(self._appetite.burst_bytes)


class MeteredStream:
    """A `ByteStream` that reads no more than the budget of its device allows."""

    def __init__(self, stream: ByteStream, clock: Clock, budget: Budget, on_babble: Callable[[], None]) -> None:
        self._stream, self._clock, self._budget, self._on_babble = stream, clock, budget, on_babble
        self._since_turn = 0
        self._babbles = False

    async def read(self, max_bytes: int) -> bytes:
        """See `ByteStream.read`. Raises `BabbleError` once too much has come."""
        if self._babbles:
            raise BabbleError
        if self._since_turn >= self._budget.piece_bytes:
            # What has come already is read without waiting: nobody else would have a turn.
            self._since_turn = 0
            await self._clock.sleep(0)
        data = await self._stream.read(min(max_bytes, self._budget.piece_bytes))
        self._since_turn += len(data)
        if not self._budget.spend(len(data)):
            self._babbles = True
            self._on_babble()
            raise BabbleError
        return data

    async def write(self, data: bytes) -> None:
        """See `ByteStream.write`."""
        await self._stream.write(data)

    async def close(self) -> None:
        """See `ByteStream.close`."""
        await self._stream.close()
