"""Devices that announce themselves on the network (mDNS, DNS-SD).

An announcement only ever proposes, and nothing is sent to what announces itself. How many names are followed is
bounded here; what each may say, in `drivers.discovery.announcement`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence

from zeroconf import BadTypeInNameException, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from drivers.discovery.announcement import endpoint_of
from hubd.discovery_ports import EndpointSink
from hubd.model.device import Endpoint, EndpointKind
from hubd.runtime import Clock

log = logging.getLogger(__name__)

COMMON_SERVICES = ("_ipp._tcp.local.", "_pdl-datastream._tcp.local.", "_printer._tcp.local.")
"""What shops have beside the devices of our drivers: shown with the reason why it cannot be used (yet)."""
OFFERED_BY_HUB = b"hub"
"""The key with which a hub marks a printer that it offers to tills; one hub never prints through another, or itself."""
RESOLVE_MS = 3_000
RESOLVERS = 4
"""How many names are asked for at once; a name without answer holds one of them for three seconds."""
NAMES_MAX = 256
"""Names that are remembered at once; what is announced beyond that is dropped until it is announced again."""
CHECK_S = 15.0
"""How often the own addresses are compared (mDNS sockets belong to those they were opened with), and names are asked
for again whose address is too old: one that dies without a goodbye stays in the list of its service for an hour."""
MISSES_MAX = 8
"""So often a name may leave a question without answer before it is forgotten; it is shown again once it answers."""


class MdnsSource:
    """See `EndpointSource`. Service types come from outside, because a source knows no driver."""

    def __init__(self, clock: Clock, services: Iterable[str], interfaces: Callable[[], Sequence[str]]) -> None:
        self._clock = clock
        self._services = sorted({*services, *COMMON_SERVICES})
        self._interfaces = interfaces

    @property
    def kind(self) -> EndpointKind:
        """What it looks at."""
        return EndpointKind.MDNS

    def present(self) -> Sequence[Endpoint]:
        """Nothing is known before it is heard."""
        return ()

    async def run(self, sink: EndpointSink) -> None:
        """Look until cancelled. New own addresses need new sockets; what was seen before is then asked for again."""
        seen: dict[str, str] = {}
        while True:
            interfaces = self._own()
            zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
            loopback = all(ipaddress.ip_address(one).is_loopback for one in interfaces)
            try:
                await self._while_unchanged(_Look(zeroconf, sink, seen, loopback=loopback), zeroconf, interfaces)
            finally:
                await zeroconf.async_close()

    def _own(self) -> list[str]:
        return [one for one in self._interfaces() if ":" not in one] or ["127.0.0.1"]

    async def _while_unchanged(self, look: _Look, zeroconf: AsyncZeroconf, interfaces: list[str]) -> None:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, self._services, handlers=[look.changed])
        try:
            async with asyncio.TaskGroup() as group:
                resolvers = [group.create_task(look.resolve(), name="mdns:resolve") for _ in range(RESOLVERS)]
                while self._own() == interfaces:
                    await self._clock.sleep(CHECK_S)
                    look.ask_again()
                for resolver in resolvers:
                    resolver.cancel()
        finally:
            await browser.async_cancel()


class _Look:
    """One browser with its resolvers: names come in, endpoints go out."""

    def __init__(self, zeroconf: AsyncZeroconf, sink: EndpointSink, seen: dict[str, str], *, loopback: bool) -> None:
        self._zeroconf = zeroconf
        self._sink = sink
        self._seen = seen
        self._loopback = loopback
        self._waiting = dict(seen)
        self._misses: dict[str, int] = {}
        self._more = asyncio.Event()
        self._full = False

    def changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """The browser's handler; called in the event loop."""
        if state_change is ServiceStateChange.Removed:
            self._gone(name)
        elif name in self._seen or len(self._seen) < NAMES_MAX:
            self._seen[name] = self._waiting[name] = service_type
            self._more.set()
        elif not self._full:
            self._full = True  # once: whoever floods the network must not flood the log
            log.warning("discovery.too_many_names", extra={"count": len(self._seen)})

    def ask_again(self) -> None:
        """Ask for the names of which no present address is known; new ones go before them."""
        if self._waiting:
            return
        for name, service in self._seen.items():
            if not _info(service, name).load_from_cache(self._zeroconf.zeroconf):
                self._waiting[name] = service
        self._more.set()

    async def resolve(self) -> None:
        """Ask for one name after the other, for ever."""
        while True:
            while not self._waiting:
                self._more.clear()
                await self._more.wait()
            name = next(iter(self._waiting))
            await self._ask(self._waiting.pop(name), name)

    async def _ask(self, service: str, name: str) -> None:
        try:
            info = _info(service, name)
        except BadTypeInNameException:
            self._gone(name)
            return
        if not await info.async_request(self._zeroconf.zeroconf, RESOLVE_MS):
            self._missed(name)
        elif service in COMMON_SERVICES and OFFERED_BY_HUB in info.properties:
            self._gone(name)  # a hub's own service: its printer is a device of that hub
        elif name in self._seen:  # else it said goodbye while it was asked
            self._misses.pop(name, None)
            addresses = info.parsed_addresses(IPVersion.All)
            found = endpoint_of(service, name, addresses, info.port, info.properties, loopback=self._loopback)
            self._sink.appeared(found)

    def _missed(self, name: str) -> None:
        self._misses[name] = self._misses.get(name, 0) + 1
        if self._misses[name] > MISSES_MAX:
            self._gone(name)
        elif name in self._seen:
            self._sink.vanished(EndpointKind.MDNS, name)

    def _gone(self, name: str) -> None:
        self._waiting.pop(name, None)
        self._misses.pop(name, None)
        if self._seen.pop(name, None) is not None:
            self._sink.vanished(EndpointKind.MDNS, name)


def _info(service: str, name: str) -> AsyncServiceInfo:
    """Raises BadTypeInNameException for what is no name of this service."""
    return AsyncServiceInfo(service, name)
