"""What the hub's finding of devices asks of its edges: drivers that claim endpoints, and sources that see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from hubd.model.device import Capability, DeviceKind, Endpoint, EndpointKind
from hubd.model.device_options import Option


class Claimed(Struct, frozen=True):
    """Which driver an endpoint is for."""

    driver: str
    kind: DeviceKind
    name: str
    """What the driver calls its devices."""
    capabilities: frozenset[Capability] = frozenset()
    line: str = ""
    """How a serial line to its devices is set, as the query of an address."""
    port: int = 0
    """Their usual TCP port; 0: they have none."""


class ProbeOutcome(StrEnum):
    """What asking on a serial line has brought."""

    RECOGNISED = "recognised"
    """It answers as devices of `driver` do."""
    TALKS = "talks"
    """Something is there, and no driver knows it: it talks by itself, or says other things."""
    SILENT = "silent"
    """Nothing answers: a scanner, a device that is off, or nothing at all."""


class Probed(Struct, frozen=True):
    """What was found out about a line: a proposal, never a claim."""

    outcome: ProbeOutcome
    driver: str = ""
    line: str = ""
    """The settings at which it answered, as the query of an address."""


FindOut = Callable[[str], Awaitable[Probed]]
"""Asks what hangs on the serial line of this address (`drivers.probing`). Raises OSError when it cannot be opened."""


class DriverBook(Protocol):
    """Which drivers there are, as far as discovery needs to know."""

    def claim(self, seen: Endpoint) -> Claimed | None:
        """The driver for an endpoint; None: none claims it. Raises DeviceError when the one that does is unusable."""
        ...

    def rivals(self, seen: Endpoint) -> tuple[Claimed, ...]:
        """The drivers that claim an endpoint equally well; none where one does it best, or was named."""
        ...

    def candidates(self, seen: Endpoint) -> tuple[Claimed, ...]:
        """Drivers that may be the right one for an endpoint that none claims: a person knows what hangs there."""
        ...

    def options(self, driver: str, address: str) -> tuple[Option, ...]:
        """What a person may set of a device of this driver at this address; none where the driver is not known."""
        ...

    def at_addresses(self) -> tuple[Claimed, ...]:
        """Drivers whose devices may stand at a TCP address, a serial line behind a device server included."""
        ...


class EndpointSink(Protocol):
    """Hears what a source sees. Both calls return at once and may be repeated."""

    def appeared(self, endpoint: Endpoint) -> None:
        """It is there, or something of it has changed; its `key` says which one it is."""
        ...

    def vanished(self, kind: EndpointKind, key: str) -> None:
        """It is not seen any more. That says nothing about the device: only the device's answers do."""
        ...


class EndpointSource(Protocol):
    """Sees endpoints appear and vanish in one place: the configuration, the network, the sockets. Knows no driver."""

    @property
    def kind(self) -> EndpointKind:
        """What it looks at; one source of a kind."""
        ...

    def present(self) -> Sequence[Endpoint]:
        """What is known to be there before looking."""
        ...

    async def run(self, sink: EndpointSink) -> None:
        """Look until cancelled. Raises OSError when it cannot look now; it is then run again."""
        ...
