"""Devices that announce themselves nowhere, added by the address that a person types; asked once before they are used.

What is typed becomes an endpoint beside those that sources have found, in memory and bounded, and is claimed like them:
from then on it is a device of the journal, known by its address. Only addresses inside the shop are spoken to.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable
from urllib.parse import SplitResult, urlsplit

from hubd.discovery_ports import Claimed, DriverBook, Probed
from hubd.errors import DeviceError, HubError, InvalidValueError, Retry
from hubd.model.device import Endpoint, EndpointKind, IdentitySource
from hubd.model.permissions import Permission
from hubd.services.access import Caller
from hubd.services.devices import DeviceDesk
from hubd.services.discovery import DiscoveryDesk, Found

TYPED_MAX = 16
"""Addresses that nobody has made a device of; the oldest makes room."""
ADDRESS_MAX = 200
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_PRINTABLE = re.compile(r"[!-~]+")

LookAt = Callable[[str, str], Awaitable[Probed | None]]
"""(address, driver) -> what its device has answered; None where its protocol has no harmless question.

Raises OSError when nothing can be reached there."""


class AddressDesk:
    """Makes endpoints of typed addresses."""

    def __init__(
        self, discovery: DiscoveryDesk, devices: DeviceDesk, drivers: DriverBook, look_at: LookAt, *, loopback: bool
    ) -> None:
        """`loopback`: whether devices may stand on the hub's own machine, as in the demo."""
        self._discovery = discovery
        self._devices = devices
        self._drivers = drivers
        self._look_at = look_at
        self._loopback = loopback
        self._typed: list[str] = []
        self._asking: set[str] = set()

    def choices(self) -> tuple[Claimed, ...]:
        """The drivers whose devices may stand at an address."""
        return self._drivers.at_addresses()

    async def add(self, address: str, driver: str, name: str, caller: Caller) -> Found:
        """Ask once at an address, and let what is there be claimed. Nothing is durable before the claim.

        `probed` of the answer is None where its protocol has no harmless question; then the address was only opened.
        Raises `device.driver_not_chosen`, `device.address_invalid`, `device.address_refused`, `device.address_taken`,
        `device.unreachable`, and `device.busy` while the same address is being asked.
        """
        caller.need(Permission.DEVICES_MANAGE)
        chosen = self._chosen(_parts(address), driver)
        url = checked_address(address, chosen.port, loopback=self._loopback)
        used, _ = await self._devices.driven()
        here = [one for one in used if one.address == url and (one.active or one.leaving)]
        if any(one.driver != chosen.driver for one in here):
            raise DeviceError(
                "device.address_taken",
                f"{here[0].name} is at this address, and is used by another driver.",
                remedy="Take that one out of use first.",
                params={"device": here[0].id},
            )
        probed = None if here else await self._ask(url, chosen.driver)  # whoever is in use is not disturbed
        self._remember(Endpoint(url, EndpointKind.TYPED, url, url, IdentitySource.ADDRESS, name, driver=chosen.driver))
        await self._discovery.consider()
        typed = (one for one in self._discovery.all() if one.endpoint.kind is EndpointKind.TYPED)
        found = next(one for one in typed if one.endpoint.key == url)
        if probed is not None:
            self._discovery.note_probed(found.id, probed)
            await self._discovery.consider()
        return self._discovery.one(found.id)

    def _chosen(self, parts: SplitResult, driver: str) -> Claimed:
        choices = {one.driver: one for one in self.choices()}
        port = parts.port if not driver else 0
        by_port = [one for one in choices.values() if port and one.port == port]
        if driver not in choices and len(by_port) != 1:
            raise DeviceError(
                "device.driver_not_chosen",
                "An address does not say what stands there.",
                remedy=f"Name its driver: {', '.join(choices)}.",
                params={"drivers": ", ".join(choices)},
            )
        return choices[driver] if driver else by_port[0]

    async def _ask(self, url: str, driver: str) -> Probed | None:
        if url in self._asking:
            raise DeviceError(
                "device.busy",
                "This address is being asked already.",
                remedy="Wait for it.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=10,
            )
        self._asking.add(url)
        try:
            return await self._look_at(url, driver)
        except OSError:
            raise DeviceError(
                "device.unreachable",
                f"Nothing answers at {url}.",
                remedy="Switch it on, look at its network cable, and compare the address with its menu.",
                retry=Retry.SAME_REQUEST,
            ) from None
        finally:
            self._asking.discard(url)

    def _remember(self, seen: Endpoint) -> None:
        self._typed = [*(one for one in self._typed if one != seen.key), seen.key]
        while len(self._typed) > TYPED_MAX:
            self._discovery.vanished(EndpointKind.TYPED, self._typed.pop(0))
        self._discovery.appeared(seen)


def _parts(address: str) -> SplitResult:
    """What was typed, taken apart. Raises `device.address_invalid`, and `device.address_refused` for what is no TCP."""
    text = address.strip()
    if len(address) > ADDRESS_MAX or not _PRINTABLE.fullmatch(text):
        raise _invalid("it is empty, too long, or has letters that no address has")
    try:
        parts = urlsplit(text if "://" in text else f"tcp://{text}")
        _ = parts.port  # raises ValueError for one that is no number of a port
    except ValueError:
        raise _invalid("host or port is not right") from None
    if parts.scheme != "tcp":
        raise DeviceError(
            "device.address_refused",
            f"Devices at addresses of the kind {parts.scheme} are not added by hand.",
            remedy="What is plugged in is found by itself; what needs files or keys (tls) stands in the configuration.",
        )
    if "@" in parts.netloc or parts.fragment:
        raise _invalid("it has more in it than host and port")
    return parts


def checked_address(address: str, usual_port: int, *, loopback: bool) -> str:
    """The address as a transport opens it, `tcp://host:port`; scheme and the usual port may be left out.

    Raises `device.address_invalid`, and `device.address_refused` for a place outside the shop's network.
    """
    parts = _parts(address)
    host, port = parts.hostname or "", parts.port or usual_port
    if not port:
        raise _invalid("its port is missing")
    if not _is_inside(host, loopback=loopback):
        raise DeviceError(
            "device.address_refused",
            f"{host} is not an address in the shop's network.",
            remedy="Give the device a fixed address in the shop's network, such as 192.168.1.50, and type that.",
        )
    rest = f"{parts.path if parts.path != '/' else ''}{f'?{parts.query}' if parts.query else ''}"
    return f"tcp://{host}:{port}{rest}"


def _is_inside(host: str, *, loopback: bool) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host) or not any(one.isalpha() for one in host):
            raise _invalid("its host is no name and no number") from None
        own = host.rstrip(".").casefold() in ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
        return loopback or not (own or host.rstrip(".").casefold().endswith(".localhost"))
    if address.version != 4 or not address.is_private:  # the hub speaks IPv4 in the shop
        return False
    odd = address.is_unspecified or address.is_multicast or address.is_reserved or address.is_link_local
    return not odd and (loopback or not address.is_loopback)


def _invalid(why: str) -> HubError:
    return InvalidValueError(
        "device.address_invalid",
        f"This is no address of a device: {why}.",
        remedy="Write host:port or tcp://host:port.",
    )


def is_loopback(url: str) -> bool:
    """Whether an address is on the hub's own machine."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.")
