"""The problems of this moment: one registry, from which page, API, hubctl, heartbeat and logs all read (design 11).

What a problem is stands in `hubd.model.problems`; here is which of them are present.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from hubd.model.money import Money
from hubd.model.problem import Problem, shown
from hubd.model.problems import CATALOGUE
from hubd.runtime import Clock

log = logging.getLogger(__name__)


class Problems:
    """Which problems are present. Raising one that is present only brings its numbers up to date."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._present: dict[tuple[str, str], Problem] = {}
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change; it must not block."""
        self._listeners.append(listener)

    def raise_(self, code: str, subject: str = "", *, money: Iterable[Money] = (), **params: str | int) -> None:
        """Say that a problem is present. KeyError for a code that the catalogue does not know.

        Numbers that change with every call (a count, a sum) may; they are not logged again.
        """
        kind = CATALOGUE[code]
        before = self._present.get((code, subject))
        problem = Problem(
            kind,
            subject,
            before.since_us if before else self._clock.now_us(),
            before.since_monotonic if before else self._clock.monotonic(),
            tuple(money),
            params,
        )
        problem.title("en")  # a missing parameter fails where it is raised, not where a person reads
        if problem == before:
            return
        self._present[code, subject] = problem
        if before is None:
            log.warning("problem.raised", extra={"problem": code, "device_id": subject or None})
        self._tell()

    def clear(self, code: str, subject: str = "") -> None:
        """Say that a problem is over; nothing happens if it was not present."""
        problem = self._present.pop((code, subject), None)
        if problem is not None:
            lasted_s = int(self._clock.monotonic() - problem.since_monotonic)
            extra = {"problem": code, "device_id": subject or None, "lasted_s": lasted_s}
            log.info("problem.cleared", extra=extra)
            self._tell()

    def set(
        self, present: bool, code: str, subject: str = "", *, money: Iterable[Money] = (), **params: str | int
    ) -> None:
        """Raise or clear, as `present` says."""
        if present:
            self.raise_(code, subject, money=money, **params)
        else:
            self.clear(code, subject)

    def present(self) -> list[Problem]:
        """Everything that is raised, shown or not: for the bug report."""
        return list(self._present.values())

    def visible(self) -> list[Problem]:
        """What people see now, most important first."""
        return shown(self._present.values(), self._clock.monotonic())

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
