"""The hub announces itself over mDNS as `_hubd._tcp`, so that native tills find it by its key, not by its address.

The record tells hub, epoch, line, API version and the CA key's fingerprint. It is a hint, never proof: a till checks
the key when it connects. A hub that hears its own id in another line is told so (`heard`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from hubd.runtime import Clock
from local_api.context import API_VERSION
from local_api.rivals import Heard
from local_api.tls import own_name

SERVICE = "_hubd._tcp.local."
REFRESH_S = 15.0
"""How often line, epoch and addresses are compared with what is announced; a new lease is announced within this."""
RESOLVE_MS = 3_000
NAMES_MAX = 64
"""Names of other hubs that wait to be looked at."""
LOOKS_MAX = 8
"""Names looked at in one round; the hub's own record must not grow old meanwhile."""
EPOCH_DIGITS_MAX = 16
LABEL_BYTES_MAX = 63


class AnnouncedPrinter(Struct, frozen=True):
    """A printer of the hub that tills print to as to a network printer."""

    service: str
    name: str
    port: int
    text: tuple[tuple[str, str], ...]


class Announcement(Struct, frozen=True):
    """What the hub says of itself at this moment."""

    hub_id: str
    fingerprint: str
    line: str
    epoch: int | None
    port: int
    addresses: tuple[str, ...]
    host: str = ""
    """The `.local` name of its certificate; empty: the one that follows from its id."""
    printers: tuple[AnnouncedPrinter, ...] = ()

    @property
    def server(self) -> str:
        """The name that its records point to."""
        return f"{self.host or own_name(self.hub_id)}."

    def infos_of_printers(self) -> list[AsyncServiceInfo]:
        """Records of the printers. They name the hub, so that no hub takes one of them for a device."""
        found = []
        for one in self.printers:
            label = f"{one.name} @ hubd-{self.hub_id[:8]}".encode()[:LABEL_BYTES_MAX].decode("utf-8", "ignore")
            found.append(
                AsyncServiceInfo(
                    one.service,
                    f"{label.replace('.', ' ')}.{one.service}",
                    port=one.port,
                    addresses=[ipaddress.ip_address(address).packed for address in self.addresses],
                    properties={**dict(one.text), "hub": self.hub_id},
                    server=self.server,
                )
            )
        return found

    def info(self, name: str = "") -> AsyncServiceInfo:
        """The record, under the name that it got when it was first registered."""
        text = {
            "hub": self.hub_id,
            "epoch": "" if self.epoch is None else str(self.epoch),
            "line": self.line,
            "api": API_VERSION,
            "key": self.fingerprint,
        }
        return AsyncServiceInfo(
            SERVICE,
            name or f"hubd-{self.hub_id[:8]}.{SERVICE}",
            port=self.port,
            addresses=[ipaddress.ip_address(one).packed for one in self.addresses],
            properties=text,
            server=self.server,
        )


def _places(told: Announcement) -> tuple[object, ...]:
    """What needs a new socket, or other records, when it changes."""
    return told.addresses, told.port, told.printers


def heard_of(
    properties: dict[bytes, bytes | None], port: int | None = None, addresses: Sequence[str] = ()
) -> Heard | None:
    """Read a record; None for one that is not a hub's."""
    text = {
        name.decode("utf-8", "replace"): (value or b"").decode("utf-8", "replace") for name, value in properties.items()
    }
    hub, line, epoch = text.get("hub", ""), text.get("line", ""), text.get("epoch", "")
    if len(hub) != 32 or len(line) != 32:
        return None
    number = int(epoch) if epoch.isascii() and epoch.isdigit() and len(epoch) <= EPOCH_DIGITS_MAX else None
    return Heard(hub, line, number, text.get("key", ""), port or 0, tuple(addresses))


class Announcer:
    """Announces, follows changes, and reports other records of the same hub. `run` belongs to the supervisor."""

    def __init__(
        self,
        clock: Clock,
        present: Callable[[], Awaitable[Announcement]],
        heard: Callable[[Heard], None],
        interfaces: Sequence[str] = (),
    ) -> None:
        self._clock = clock
        self._present = present
        self._heard = heard
        self._interfaces = tuple(interfaces)

    async def run(self) -> None:
        """Announce for ever. Interfaces are fixed when the socket is made, so new addresses make a new one."""
        while True:
            announced = await self._present()
            chosen = [one for one in (self._interfaces or announced.addresses) if ":" not in one]
            zeroconf = AsyncZeroconf(interfaces=chosen or ["127.0.0.1"], ip_version=IPVersion.V4Only)
            try:
                await self._while_unchanged(zeroconf, announced)
            finally:
                try:
                    await zeroconf.async_unregister_all_services()
                finally:  # a stop may come while goodbyes go out, and the sockets must not outlive it
                    await zeroconf.async_close()

    async def _while_unchanged(self, zeroconf: AsyncZeroconf, announced: Announcement) -> None:
        seen: dict[str, None] = {}

        def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
            if state_change is ServiceStateChange.Removed:
                seen.pop(name, None)
            elif len(seen) < NAMES_MAX:
                seen[name] = None

        registered = announced.info()
        await (await zeroconf.async_register_service(registered, allow_name_change=True))
        for printer in announced.infos_of_printers():
            await (await zeroconf.async_register_service(printer, allow_name_change=True, strict=False))
        browser = AsyncServiceBrowser(zeroconf.zeroconf, [SERVICE], handlers=[changed])
        try:
            while _places(now := await self._present()) == _places(announced):
                if now != announced:
                    announced = now
                    await (await zeroconf.async_update_service(announced.info(registered.name)))
                for name in list(seen)[:LOOKS_MAX]:
                    del seen[name]
                    if name != registered.name and not await self._look(zeroconf, name, announced):
                        seen.setdefault(name)  # its answer was lost, and its record is not told again: ask once more
                await self._clock.sleep(REFRESH_S)
        finally:
            await browser.async_cancel()

    async def _look(self, zeroconf: AsyncZeroconf, name: str, announced: Announcement) -> bool:
        """Tell of a clone under this name; False when nobody answers to it."""
        info = AsyncServiceInfo(SERVICE, name)
        if not await info.async_request(zeroconf.zeroconf, RESOLVE_MS):
            return False
        other = heard_of(info.properties, info.port, info.parsed_addresses(IPVersion.V4Only))
        if other is not None and other.hub_id == announced.hub_id and other.line != announced.line:
            self._heard(other)
        return True
