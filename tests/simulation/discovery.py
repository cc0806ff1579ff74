"""A network on which devices announce themselves, without sockets and without zeroconf."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from drivers.discovery.announcement import endpoint_of
from hubd.discovery_ports import EndpointSink
from hubd.model.device import Endpoint, EndpointKind

SERVICE = "_zvt._tcp.local."


class SimulatedSource:
    """See `EndpointSource`. What is announced before a hub listens is heard when it begins to."""

    kind = EndpointKind.MDNS

    def __init__(self) -> None:
        self._announced: dict[str, Endpoint] = {}
        self._sinks: list[EndpointSink] = []

    def present(self) -> Sequence[Endpoint]:
        """A network tells nothing before it is asked."""
        return ()

    async def run(self, sink: EndpointSink) -> None:
        """Tell this sink what there is and what changes, until cancelled."""
        for endpoint in self._announced.values():
            sink.appeared(endpoint)
        self._sinks.append(sink)
        try:
            await asyncio.Event().wait()
        finally:
            self._sinks.remove(sink)

    def announce(self, endpoint: Endpoint) -> None:
        """A device says where it is."""
        self._announced[endpoint.key] = endpoint
        for sink in self._sinks:
            sink.appeared(endpoint)

    def goodbye(self, endpoint: Endpoint) -> None:
        """A device says goodbye, or its announcement is over."""
        del self._announced[endpoint.key]
        for sink in self._sinks:
            sink.vanished(self.kind, endpoint.key)


def announced(host: str, name: str = "Counter", number: str = "SN-0001", service: str = SERVICE) -> Endpoint:
    """The endpoint of a ZVT terminal that announces itself at `host`, which may be any name of the simulation."""
    txt = {b"id": number.encode()} if number else {}
    found = endpoint_of(service, f"{name}.{service}", ("10.0.0.7",), 20007, txt)
    return Endpoint(
        found.key,
        found.kind,
        f"tcp://{host}",
        found.identity,
        found.identity_source,
        found.name,
        found.service,
        found.txt,
    )
