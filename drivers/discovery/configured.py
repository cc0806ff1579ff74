"""Devices at fixed addresses, as the configuration names them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hubd.discovery_ports import EndpointSink
from hubd.model.device import Endpoint, EndpointKind, IdentitySource


def configured(address: str, driver: str, name: str, device_class: str) -> Endpoint:
    """The endpoint of one configured device. It is what its address says: whatever stands there is meant."""
    return Endpoint(
        key=address,
        kind=EndpointKind.CONFIGURED,
        url=address,
        identity=address,
        identity_source=IdentitySource.ADDRESS,
        name=name,
        driver=driver,
        device_class=device_class,
    )


class ConfiguredSource:
    """See `EndpointSource`: all of it is known before, and nothing changes while the hub runs."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)

    @property
    def kind(self) -> EndpointKind:
        """What it looks at."""
        return EndpointKind.CONFIGURED

    def present(self) -> Sequence[Endpoint]:
        """Every configured device."""
        return self._endpoints

    async def run(self, sink: EndpointSink) -> None:
        """Nothing more will be seen."""
        await asyncio.Event().wait()
