"""The line to the cloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.machine import HubMachine
    from tests.simulation.world import Store


class Link:
    """What lies between the store and its cloud."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.network = True
        self.cloud = True
        self._away_since: float | None = None
        self._back_since = 0.0

    def go_down(self, *, cloud_alone: bool) -> None:
        """The network, or the cloud alone, is away from now on."""
        self.store.trace.note("link", "down", "cloud" if cloud_alone else "network")
        if cloud_alone:
            self.cloud = False
        else:
            self.network = False
        now = self.store.clock.monotonic()
        if self._away_since is None or now - self._back_since > 9.0:
            self._away_since = now

    def come_back(self) -> None:
        """All is well."""
        self.store.trace.note("link", "up")
        self.network = self.cloud = True
        self._back_since = self.store.clock.monotonic()

    def away_for_s(self) -> float:
        """How long the present outage has lasted; of the last one, while it may not have been noticed as over."""
        return 0.0 if self._away_since is None else self.store.clock.monotonic() - self._away_since

    def hub_is_up(self, hub: HubMachine) -> None:
        """A hub may connect."""

    def hub_is_gone(self, hub: HubMachine) -> None:
        """A hub has lost power."""

    async def drained(self) -> None:
        """Return once everything has reached the cloud."""

    def final(self) -> None:
        """Judge the cloud's ledger."""
