"""Devices that announce themselves nowhere: added by a typed address, asked once, and known again after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.discovery.configured import ConfiguredSource, configured
from drivers.sim.escpos import EscposSimulator
from drivers.sim.scale.engine import CasSimulator, ToledoSimulator
from hubd.discovery_ports import ProbeOutcome
from hubd.errors import HubError
from hubd.model.device import DeviceKind
from hubd.services.addresses import TYPED_MAX, checked_address
from hubd.services.discovery import Standing
from tests.unit.services.shop import LOCATION, MANAGER, TILL_1, Shop, Terminals, shop, shop_runtime, till
from tests.unit.services.test_roles import printer_ready

PRINTER, SCALE, TERMINAL = "tcp://printer:9100", "tcp://scale:4001", "tcp://terminal-1:20007"


def counter_of() -> Terminals:
    counter = Terminals(shop_runtime())
    counter.others |= {PRINTER: EscposSimulator(counter.runtime), SCALE: ToledoSimulator(counter.runtime)}
    counter.add(TERMINAL)
    return counter


async def code_of(opened: Shop, address: str, driver: str = "escpos") -> str:
    """The code with which adding it is refused; nothing is listed or written then."""
    head, seen = opened.services.db.head.seq, opened.services.discovery.all()
    with pytest.raises(HubError) as refused:
        await opened.services.addresses.add(address, driver, "", MANAGER)
    assert (opened.services.db.head.seq, opened.services.discovery.all()) == (head, seen)
    return refused.value.code


@pytest.mark.parametrize(
    ("typed", "opened"),
    [
        ("192.168.1.50", "tcp://192.168.1.50:9100"),
        (" 192.168.1.50:9101 ", "tcp://192.168.1.50:9101"),
        ("tcp://10.0.0.9", "tcp://10.0.0.9:9100"),
        ("TCP://Printer-2.fritz.box/", "tcp://printer-2.fritz.box:9100"),
        ("printer:631/ipp/print?status=none", "tcp://printer:631/ipp/print?status=none"),
    ],
)
def test_an_address_may_be_typed_as_its_menu_shows_it(typed: str, opened: str) -> None:
    assert checked_address(typed, 9100, loopback=False) == opened


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("", "device.address_invalid"),
        ("tcp://", "device.address_invalid"),
        ("1.2.3", "device.address_invalid"),
        ("300.1.1.1", "device.address_invalid"),
        ("printer:port", "device.address_invalid"),
        ("printer:70000", "device.address_invalid"),
        ("me:secret@printer", "device.address_invalid"),
        ("my printer", "device.address_invalid"),
        ("imprimé", "device.address_invalid"),
        ("-printer", "device.address_invalid"),
        ("printer#9100", "device.address_invalid"),
        ("x" * 201, "device.address_invalid"),
        ("serial:///dev/ttyUSB0", "device.address_refused"),
        ("lp:///dev/usb/lp0", "device.address_refused"),
        ("tls://printer:631", "device.address_refused"),
        ("http://printer", "device.address_refused"),
        ("127.0.0.1:9100", "device.address_refused"),
        ("localhost", "device.address_refused"),
        ("a.localhost.", "device.address_refused"),
        ("169.254.1.1", "device.address_refused"),
        ("0.0.0.0", "device.address_refused"),
        ("224.0.0.1", "device.address_refused"),
        ("255.255.255.255", "device.address_refused"),
        ("8.8.8.8:9100", "device.address_refused"),
        ("[fe80::1]:9100", "device.address_refused"),
        ("[::1]:9100", "device.address_refused"),
    ],
)
def test_what_is_no_address_in_the_shop_is_refused(typed: str, code: str) -> None:
    with pytest.raises(HubError, match=code):
        checked_address(typed, 9100, loopback=False)


def test_a_port_that_neither_address_nor_driver_knows_is_missing() -> None:
    with pytest.raises(HubError, match="its port is missing"):
        checked_address("192.168.1.50", 0, loopback=False)


async def test_a_printer_is_asked_claimed_and_known_again_after_a_restart(tmp_path: Path) -> None:
    counter = counter_of()
    async with shop(tmp_path, counter, counter.runtime) as opened:
        services = opened.services
        with pytest.raises(HubError, match=r"access\."):
            await services.addresses.add("printer", "escpos", "", till())
        head = services.db.head.seq
        found = await services.addresses.add("printer:9100", "", "Bon", MANAGER)
        assert (found.standing, found.driver, found.endpoint.url) == (Standing.OFFERED, "escpos", PRINTER)
        assert found.probed is not None
        assert found.probed.outcome is ProbeOutcome.RECOGNISED
        assert services.db.head.seq == head, "nothing is durable before a person claims it"
        again = await services.addresses.add(PRINTER, "escpos", "Bon", MANAGER)
        assert again.id == found.id, "the same address is the same endpoint"
        device = await services.discovery.claim(found.id, "", f"till:{TILL_1}", MANAGER, location=LOCATION)
        await services.devices.activate(device.id, MANAGER)
        await printer_ready(opened, device.id)
        assert (device.name, device.identity, device.role) == ("Bon", PRINTER, f"till:{TILL_1}")
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await printer_ready(opened, device.id)
        assert opened.services.discovery.all() == []
        known = await opened.services.addresses.add("printer", "escpos", "", MANAGER)
        assert (known.standing, known.device_id, known.probed) == (Standing.KNOWN, device.id, None)
        assert await code_of(opened, PRINTER, "zvt") == "device.address_taken"


async def test_a_device_server_is_asked_as_the_line_behind_it_and_a_terminal_is_only_rung(tmp_path: Path) -> None:
    counter = counter_of()
    async with shop(tmp_path, counter, counter.runtime) as opened:
        addresses = opened.services.addresses
        assert "nexo" not in {one.driver for one in addresses.choices()}
        scale = await addresses.add("scale:4001", "toledo8217", "", MANAGER)
        assert (scale.kind, scale.probed and scale.probed.outcome) == (DeviceKind.SCALE, ProbeOutcome.RECOGNISED)
        wrong = await addresses.add("scale:4001", "escpos", "", MANAGER)
        assert wrong.probed is not None
        assert wrong.probed.outcome is not ProbeOutcome.RECOGNISED
        terminal = await addresses.add("terminal-1", "zvt", "", MANAGER)
        assert (terminal.standing, terminal.probed) == (Standing.OFFERED, None)
        assert not counter.simulators[TERMINAL].ledger.transactions
        counter.unplugged.add(TERMINAL)
        assert await code_of(opened, "terminal-1", "zvt") == "device.unreachable"
        assert await code_of(opened, "nobody:9100") == "device.unreachable"
        assert await code_of(opened, "nobody:1234", "") == "device.driver_not_chosen"
        assert await code_of(opened, "nobody", "acme") == "device.driver_not_chosen"
        assert await code_of(opened, "scale", "toledo8217") == "device.address_invalid"


async def test_addresses_that_nobody_uses_are_forgotten_the_oldest_first(tmp_path: Path) -> None:
    counter = counter_of()
    for number in range(TYPED_MAX + 1):
        counter.others[f"tcp://scale-{number}:4001"] = CasSimulator(counter.runtime)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        for number in range(TYPED_MAX + 1):
            await opened.services.addresses.add(f"scale-{number}:4001", "serial_scanner", "", MANAGER)
        urls = {one.endpoint.url for one in opened.services.discovery.all()}
        assert urls == {f"tcp://scale-{number}:4001" for number in range(1, TYPED_MAX + 1)}


async def test_devices_on_the_hubs_own_machine_are_for_who_has_named_one_in_the_configuration(tmp_path: Path) -> None:
    counter = counter_of()
    local = "tcp://127.0.0.1:9100"
    counter.others[local] = EscposSimulator(counter.runtime)
    for folder in ("shop", "demo"):
        (tmp_path / folder).mkdir()
    async with shop(tmp_path / "shop", counter, counter.runtime) as opened:
        assert await code_of(opened, local) == "device.address_refused"
    demo = ConfiguredSource([configured("tcp://127.0.0.1:20007", "zvt", "", "")])
    async with shop(tmp_path / "demo", counter, counter.runtime, sources=[demo]) as opened:
        assert (await opened.services.addresses.add(local, "escpos", "", MANAGER)).standing is Standing.OFFERED
