"""How long something has lasted, across power cuts too: an interval [least, most] (design 6).

Within one boot the monotonic clock is exact. Across boots the time that the machine was off is not known; a trusted
wall clock at both ends bounds it, otherwise there is no upper bound and policy decides.
"""

from __future__ import annotations

from msgspec import Struct

WITNESS_SLACK_MS = 2_000
"""Trusted clocks of two boots may have been set by different witnesses; they agree to about a second."""


class Anchor(Struct, frozen=True):
    """When something began."""

    boot: bytes
    mono_ms: int
    true_us: int | None
    """The wall time of it, if a witness stood behind the clock in that boot."""


class Now(Struct, frozen=True):
    """The present moment, as the clocks give it."""

    boot: bytes
    mono_ms: int
    wall_us: int
    trusted: bool


class Interval(Struct, frozen=True):
    """Milliseconds between; `most_ms` is None while nothing bounds it."""

    least_ms: int
    most_ms: int | None

    @property
    def exact(self) -> bool:
        """Whether it is known to within the slack of two witnesses."""
        return self.most_ms is not None and self.most_ms - self.least_ms <= 2 * WITNESS_SLACK_MS


def elapsed(anchor: Anchor, now: Now, uptime_between_ms: int = 0) -> Interval:
    """The time from `anchor` to `now`.

    `uptime_between_ms` is how long the machine is known to have run after the anchor in earlier boots; the present
    boot is counted here.
    """
    if anchor.boot == now.boot:
        passed = max(0, now.mono_ms - anchor.mono_ms)
        return Interval(passed, passed)
    least = max(0, uptime_between_ms) + now.mono_ms
    if anchor.true_us is None or not now.trusted:
        return Interval(least, None)
    by_wall = (now.wall_us - anchor.true_us) // 1000
    # A trusted clock that contradicts what the machine itself counted is no witness for less.
    return Interval(max(least, by_wall - WITNESS_SLACK_MS), max(least, by_wall + WITNESS_SLACK_MS))
