"""Pauses between attempts: exponential with full jitter, so that a fleet does not come back all at once."""

from __future__ import annotations

import random  # noqa: TID251 - only its type: the instance comes in from Runtime

INITIAL_S = 0.5
MAX_S = 30.0
STABLE_AFTER_S = 60.0
"""A connection that lasted so long was a good one: the next attempt starts from the shortest pause."""


class Backoff:
    """Counts failures and says how long to wait after each."""

    def __init__(self, rng: random.Random, initial_s: float = INITIAL_S, max_s: float = MAX_S) -> None:
        self._rng = rng
        self._initial_s = initial_s
        self._max_s = max_s
        self._failures = 0

    def next_s(self) -> float:
        """A pause between nothing and the limit of this attempt, which doubles up to the longest."""
        limit = min(self._max_s, self._initial_s * 2 ** min(self._failures, 16))
        self._failures += 1
        return self._rng.uniform(0.0, limit)

    def reset(self) -> None:
        """It worked: begin again with the shortest."""
        self._failures = 0
