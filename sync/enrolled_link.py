"""The cloud link of an enrolled hub: to the broker that enrolment named, or that the configuration names instead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hubd.cloud_ports import LinkAddress, LinkSession
from hubd.errors import ConfigError
from hubd.loading import load
from sync.enrolment import BrokerPlace, Enrolment

if TYPE_CHECKING:
    from sync.mqtt import MqttLink

TLS_PORT = 8883
PLAIN_PORT = 1883
OWN_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})


def broker_place(address: str, ca_pem: str = "") -> BrokerPlace:
    """Read `mqtts://host:8883`, or `mqtt://` for a broker on this machine. Raises `config.invalid_value`."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    tls = parts.scheme == "mqtts"
    if not host or parts.scheme not in {"mqtt", "mqtts"} or (not tls and host not in OWN_MACHINE):
        raise ConfigError(
            "config.invalid_value",
            "cloud.address is not mqtts://host:port.",
            remedy="Leave it empty to use the broker that enrolment names; without TLS only on this machine.",
        )
    return BrokerPlace(host, parts.port or (TLS_PORT if tls else PLAIN_PORT), tls, ca_pem)


class EnrolledLink:
    """Implements `hubd.ports.CloudLink`. Keeps one MQTT link for as long as the broker's place stays the same."""

    def __init__(self, enrolment: Enrolment, configured: BrokerPlace | None = None) -> None:
        self._enrolment = enrolment
        self._configured = configured
        self._place: BrokerPlace | None = None
        self._link: MqttLink | None = None

    @asynccontextmanager
    async def connect(self, address: LinkAddress) -> AsyncIterator[LinkSession]:
        """A fresh connection. Raises OSError when there is no broker to connect to, or it cannot be reached."""
        place = self._configured or await self._enrolment.broker()
        if place is None:
            raise ConnectionRefusedError("the hub is not enrolled, so it knows no broker")
        if self._link is None or place != self._place:
            await load("sync.mqtt")
            from sync.mqtt import BrokerAddress, MqttLink

            self._link = MqttLink(BrokerAddress(place.host, place.port, await self._enrolment.tls(place)))
            self._place = place
        async with self._link.connect(address) as session:
            yield session
