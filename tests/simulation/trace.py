"""What happened in a run, in order: printed for people, hashed to tell whether two runs were the same."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    invariant: str
    detail: str
    step: int


class Trace:
    """One run's story. The first violation ends it."""

    def __init__(self, *, verbose: bool = False, steps_max: int = 0) -> None:
        self.steps = 0
        self._steps_max = steps_max
        self.violation: Violation | None = None
        self.stopped = asyncio.Event()
        self._verbose = verbose
        self._hash = hashlib.sha256()

    def note(self, who: str, what: str, *details: object) -> None:
        """One more step."""
        self.steps += 1
        if self.steps == self._steps_max:
            self.broken("nothing goes round in circles", f"{self.steps} steps")
        line = f"{asyncio.get_running_loop().time():.6f} {who} {what} {' '.join(map(str, details))}"
        self._hash.update(line.encode() + b"\n")
        if self._verbose:
            print(f"{self.steps:6d} {line}")

    def broken(self, invariant: str, detail: str) -> None:
        """A promise was broken: remember the first one and end the run."""
        if self.violation is None:
            self.note("checker", "BROKEN", invariant, detail)
            self.violation = Violation(invariant, detail, self.steps)
            self.stopped.set()

    def need(self, holds: bool, invariant: str, detail: str) -> None:
        """A promise that must hold now."""
        if not holds:
            self.broken(invariant, detail)

    @property
    def digest(self) -> str:
        """The hash of all steps so far."""
        return self._hash.hexdigest()
