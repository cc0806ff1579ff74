"""Devices found over mDNS by real stacks: another zeroconf on loopback, and a simulator as a program of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from zeroconf import IPVersion, const
from zeroconf._dns import DNSPointer
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from drivers.discovery import mdns
from drivers.discovery.mdns import MdnsSource
from hubd.model.device import Endpoint, EndpointKind
from hubd.runtime import SystemClock
from local_api.announce import AnnouncedPrinter, Announcement
from tests.rigs.process import wait_until
from tests.rigs.terminal import SimulatorProgram
from tests.unit.services.shop import MANAGER, Terminals, shop, shop_runtime

SERVICE = "_zvt._tcp.local."
PRINTER, IPP = "_pdl-datastream._tcp.local.", "_ipp._tcp.local."
LIMIT_S = 30.0
pytestmark = [
    pytest.mark.timeout(90),
    pytest.mark.blocking_allowed("zeroconf opens its sockets and reads interfaces where it is called"),
]


class Seen:
    """What a source has said, as it stands."""

    def __init__(self, at_most: int = 1000) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.at_most = at_most

    def appeared(self, endpoint: Endpoint) -> None:
        self.endpoints[endpoint.key] = endpoint
        assert len(self.endpoints) <= self.at_most

    def vanished(self, kind: EndpointKind, key: str) -> None:
        assert kind is EndpointKind.MDNS
        self.endpoints.pop(key, None)


@asynccontextmanager
async def peer() -> AsyncIterator[AsyncZeroconf]:
    zeroconf = AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    try:
        yield zeroconf
    finally:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()


@asynccontextmanager
async def looking(seen: Seen) -> AsyncIterator[MdnsSource]:
    source = MdnsSource(SystemClock(), [SERVICE], lambda: ["127.0.0.1"])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.run(seen))
        try:
            yield source
        finally:
            task.cancel()


def record(name: str, port: int, service: str = SERVICE, **txt: str) -> AsyncServiceInfo:
    address = socket.inet_aton("127.0.0.1")
    key, server = f"{name}.{service}", f"peer-{port}.local."
    return AsyncServiceInfo(service, key, addresses=[address], port=port, properties=txt, server=server)


async def test_a_peer_appears_moves_and_says_goodbye() -> None:
    seen = Seen()
    key = f"Found it here.{SERVICE}"
    async with peer() as other, looking(seen):
        await (await other.async_register_service(record("Found it here", 4001, id="SN-4001", model="X")))
        await wait_until(lambda: key in seen.endpoints, LIMIT_S, "the announcement")
        first = seen.endpoints[key]
        assert (first.url, first.name, first.identity) == ("tcp://127.0.0.1:4001", "Found it here", "serial:SN-4001")
        assert dict(first.txt) == {"id": "SN-4001", "model": "X"}
        await (await other.async_update_service(record("Found it here", 4002, id="SN-4001")))
        await wait_until(lambda: seen.endpoints[key].url.endswith(":4002"), LIMIT_S, "the new address")
        assert seen.endpoints[key].identity == first.identity
        await (await other.async_unregister_service(record("Found it here", 4002)))
        await wait_until(lambda: key not in seen.endpoints, LIMIT_S, "the goodbye")


async def test_a_hostile_name_is_shown_plain_and_one_that_is_none_stops_nothing() -> None:
    seen = Seen()
    hostile = "<script>\u202eevil\u2028" + "x" * 30
    async with peer() as other, looking(seen):
        await (await other.async_register_service(record(hostile, 4003), strict=False))
        await wait_until(lambda: any("evil" in one.name for one in seen.endpoints.values()), LIMIT_S, "the name")
        (one,) = [one for one in seen.endpoints.values() if "evil" in one.name]
        assert one.name.isprintable()
        assert one.identity.isprintable()
        assert one.identity.startswith("name:<script>�evil")
        for broken in ("\x1b[2J\nevil", "", "a.b.c._other._tcp.local.", "x" * 60 + ".y"):
            answer = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
            name = f"{broken}.{SERVICE}"
            answer.add_answer_at_time(DNSPointer(SERVICE, const._TYPE_PTR, const._CLASS_IN, 120, name), 0)
            other.zeroconf.async_send(answer)
        await (await other.async_register_service(record("Office printer", 9100, PRINTER)))
        await wait_until(lambda: f"Office printer.{PRINTER}" in seen.endpoints, LIMIT_S, "the printer")
        assert all(one.name.isprintable() for one in seen.endpoints.values())


async def test_a_flood_of_names_is_followed_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 12
    monkeypatch.setattr(mdns, "NAMES_MAX", most)
    seen = Seen(at_most=most)
    flood = [record(f"Flood {number}", 5000 + number) for number in range(most + 3)]
    async with peer() as other, looking(seen):
        await asyncio.gather(*(other.async_register_service(one) for one in flood))
        await wait_until(lambda: len(seen.endpoints) == most, LIMIT_S, "as many as are followed")
        await other.async_unregister_all_services()
        await wait_until(lambda: not any("Flood" in key for key in seen.endpoints), LIMIT_S, "the goodbyes")


async def test_a_terminal_program_is_found_activated_and_sold_on_and_again_after_it_has_moved(tmp_path: Path) -> None:
    """The whole way, with the real transport: announced, claimed, paid; restarted on another port, paid again."""
    from drivers.transport import open_transport

    source = MdnsSource(SystemClock(), [SERVICE], lambda: ["127.0.0.1"])
    (tmp_path / "sim").mkdir()
    simulator = SimulatorProgram("drivers.sim.zvt", tmp_path / "sim", "--mdns", "Till 7", "--serial-number", "SN-0007")
    counter = Terminals(shop_runtime())
    first = simulator.start()
    try:
        async with shop(tmp_path, counter, sources=[source], transport=open_transport) as opened:
            services = opened.services

            async def mine() -> list[str]:
                return [one.id for one in services.discovery.all() if one.endpoint.identity == "serial:SN-0007"]

            await wait_until(mine, LIMIT_S, "the terminal")
            device = await services.discovery.claim((await mine())[0], "Till 7", "", MANAGER)
            assert device.address == first
            await services.devices.activate(device.id, MANAGER)
            await opened.ready(device.id)
            taken = await opened.take(2000)
            await opened.until(taken.payment.id, "approved")
            assert simulator.child.stop() == 0
            simulator = SimulatorProgram(
                "drivers.sim.zvt", tmp_path / "sim", "--mdns", "Till 7", "--serial-number", "SN-0007"
            )
            second = simulator.start()
            assert second != first

            async def moved() -> bool:
                return (await services.devices.get(device.id)).device.address == second

            await wait_until(moved, LIMIT_S, "the new address")
            await opened.ready(device.id)
            taken = await opened.take(2100)
            await opened.until(taken.payment.id, "approved")
            assert [amount for amount, _ in simulator.ledger()] == [2000, 2100]
    finally:
        simulator.child.close()


async def test_what_a_hub_offers_to_tills_is_no_device_neither_of_it_nor_of_another_hub() -> None:
    seen = Seen()
    about = (("ty", "Receipts"),)
    offered = tuple(AnnouncedPrinter(service, "Receipts", 9100, about) for service in (PRINTER, IPP))
    told = Announcement("ab" * 16, "cd" * 32, "11" * 16, 3, 8443, ("127.0.0.1",), printers=offered)
    async with peer() as other, looking(seen):
        for info in told.infos_of_printers():
            await (await other.async_register_service(info))
        await (await other.async_register_service(record("Receipts", 9100, PRINTER)))
        key = f"Receipts.{PRINTER}"
        await wait_until(lambda: key in seen.endpoints, LIMIT_S, "a printer of the same name that is a device")
        await (await other.async_register_service(record("Receipts", 631, IPP)))
        await wait_until(lambda: f"Receipts.{IPP}" in seen.endpoints, LIMIT_S, "the other service of it")
        assert {one for one in seen.endpoints if "Receipts" in one} == {key, f"Receipts.{IPP}"}
