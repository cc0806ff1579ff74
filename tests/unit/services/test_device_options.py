"""Options of devices: kept by device, refused before they are written, and never changed in the middle of anything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from drivers.keyboard_scanner_codec import QUIET_S
from drivers.line_options import GRAB
from drivers.sim.escpos import EscposSimulator
from drivers.sim.escpos.engine import PrinterOptions
from drivers.sim.scanner import KeyboardScannerSimulator, SerialScannerSimulator
from drivers.sim.zvt import SimulatorOptions
from hubd.config_sections import TerminalConfig
from hubd.errors import AccessError, HubError
from hubd.model.device import DeviceKind
from hubd.model.permissions import TILL_PERMISSIONS
from hubd.model.print_job import PrintState
from hubd.model.scanner_test import TEST_CODE
from hubd.services.access import Caller
from hubd.services.device_options import Source
from hubd.services.device_rules import NewDevice
from hubd.services.option_keeper import SecretBox
from hubd.store import device_options, journal
from tests.unit.services.shop import LOCATION, MANAGER, TILL_1, WAIT_S, Shop, Terminals, shop, shop_runtime, till
from tests.unit.services.test_plugged_scanners import problem
from tests.unit.services.test_printing import a_job, paper, until

PRINTER, LINE, SCANNER = "tcp://192.0.2.20:9100", "serial:///dev/ttyUSB0", "evdev:///dev/input/event5"
TERMINAL = "tcp://192.0.2.7:20007"
WIDE = "A line of forty-two characters, no less.."


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


async def until_ready(opened: Shop, device: str) -> None:
    clock = opened.services.runtime.clock
    async with clock.timeout(WAIT_S):
        while (one := opened.services.peripherals.get(device)) is None or one.face.status.state != "ready":
            await clock.sleep(0.005)


async def bodies(opened: Shop, device: str) -> list[str]:
    """Everything that the journal says of the options of a device, as bytes that leave the hub."""
    found = await opened.services.db.read("bodies", lambda c: journal.entries_of(c, device))
    return [entry.body_bytes.decode() for entry in found if entry.head.kind == "device.configured"]


async def test_columns_that_a_person_has_set_are_printed_and_survive_a_restart(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    printer = counter.others[PRINTER] = EscposSimulator(counter.runtime, PrinterOptions(columns=32))
    async with shop(tmp_path, counter) as opened:
        device = await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        before = await opened.services.options.of(device)
        assert (before.version, before.value("columns")) == (0, "42")
        assert {one.source for one in before.options} == {Source.DEFAULT}
        after = await opened.services.options.put(device, {"columns": "32"}, MANAGER, if_version=0)
        assert (after.value("columns"), after.waiting) == ("32", False)
        assert after.version > 0
        await until_ready(opened, device)
    async with shop(tmp_path, counter) as opened:
        await until_ready(opened, device)
        job = a_job(opened, "word " * 12)
        await opened.services.printing.submit(job, till())
        await until(opened, job.id, PrintState.PRINTED)
        assert (await opened.services.options.of(device)).value("columns") == "32"
    assert max(len(line.rstrip()) for line in paper(printer).splitlines()) <= 32
    assert "word word word word word word\n" in paper(printer).replace(" \n", "\n"), "broken where 32 columns end"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"columns": "7"}, "device.option_invalid"),
        ({"columns": "32", "colour": "red"}, "device.option_unknown"),
        ({"status": "sometimes"}, "device.option_invalid"),
        ({"baud": "9600"}, "device.option_unknown"),
    ],
)
async def test_what_the_driver_could_not_use_is_refused_and_nothing_is_written(
    tmp_path: Path, values: dict[str, str | None], code: str
) -> None:
    counter = Terminals(shop_runtime())
    counter.others[PRINTER] = EscposSimulator(counter.runtime)
    async with shop(tmp_path, counter) as opened:
        device = await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        face = opened.services.peripherals.get(device)
        with pytest.raises(HubError) as refused:
            await opened.services.options.put(device, values, MANAGER)
        assert (refused.value.code, bool(refused.value.remedy)) == (code, True)
        assert await bodies(opened, device) == []
        assert opened.services.peripherals.get(device) is face, "its driver was left alone"


async def test_two_who_edit_at_once_do_not_undo_each_other(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.others[PRINTER] = EscposSimulator(counter.runtime)
    async with shop(tmp_path, counter) as opened:
        device = await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        first = await opened.services.options.put(device, {"columns": "48"}, MANAGER, if_version=0)
        with pytest.raises(HubError, match="changed_meanwhile"):
            await opened.services.options.put(device, {"columns": "32"}, MANAGER, if_version=0)
        again = await opened.services.options.put(device, {"columns": "48"}, MANAGER, if_version=first.version)
        assert again.version == first.version, "the same again is no change"
        cashier = Caller(TILL_1, None, LOCATION, TILL_PERMISSIONS, "en")
        with pytest.raises(AccessError):
            await opened.services.options.put(device, {"columns": "32"}, cashier)


async def test_an_option_that_is_not_named_counts_as_before_a_person_set_it(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.others[PRINTER] = EscposSimulator(counter.runtime)
    here = TerminalConfig(PRINTER, "escpos", options=("columns=48", "drawer_pin=5"))
    async with shop(tmp_path, counter, configured=[here]) as opened:
        device = await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        view = await opened.services.options.put(device, {"columns": "32", "drawer_open": "low"}, MANAGER)
        sources = {one.option.name: (one.value, one.source) for one in view.options}
        assert sources == {
            "columns": ("32", Source.SET),
            "drawer_pin": ("5", Source.CONFIGURATION),
            "drawer_open": ("low", Source.SET),
            "status": ("auto", Source.DEFAULT),
            "display": ("none", Source.DEFAULT),
        }
        back = await opened.services.options.put(device, {"drawer_open": None}, MANAGER)
        assert (back.value("columns"), back.value("drawer_open")) == ("48", "high")


async def test_a_print_job_that_runs_is_finished_and_the_next_one_has_the_new_columns(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    printer = counter.others[PRINTER] = EscposSimulator(counter.runtime, PrinterOptions(line_s=0.1))
    async with shop(tmp_path, counter) as opened:
        device = await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        slow, next_one = a_job(opened, *[WIDE] * 8), a_job(opened, "x" * 60)
        await opened.services.printing.submit(slow, till())
        await until(opened, slow.id, PrintState.PRINTING)
        view = await opened.services.options.put(device, {"columns": "30"}, MANAGER)
        assert view.waiting
        await opened.services.printing.submit(next_one, till())
        for job in (slow, next_one):
            assert (await until(opened, job.id, PrintState.PRINTED)).papers == 1
        async with opened.services.runtime.clock.timeout(WAIT_S):
            while (await opened.services.options.of(device)).waiting:
                await opened.services.runtime.clock.sleep(0.01)
        last = a_job(opened, "y" * 60)
        await opened.services.printing.submit(last, till())
        await until(opened, last.id, PrintState.PRINTED)
    assert paper(printer).count(WIDE) == 8, "the one that ran came out whole, once"
    assert "y" * 30 in paper(printer)
    assert "y" * 31 not in paper(printer)


async def test_a_terminal_that_takes_a_payment_is_left_alone(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    terminal = counter.add(TERMINAL, SimulatorOptions(think_s=0.4))
    async with shop(tmp_path, counter) as opened:
        device = await opened.add_terminal(TERMINAL)
        taken = await opened.take(1250)
        await opened.until(taken.payment.id, "in_progress")
        with pytest.raises(HubError, match="busy") as refused:
            await opened.services.options.put(device, {"password": "123456"}, MANAGER)
        assert refused.value.retry_after_s
        assert (await opened.until(taken.payment.id, "approved")).money.amount_minor == 1250
        assert await bodies(opened, device) == []
        assert len(terminal.ledger.transactions) == 1
        opened.services.terminals.reserve(device, "a payment whose intent is just being written")
        with pytest.raises(HubError, match="busy"):
            await opened.services.options.put(device, {"password": "123456"}, MANAGER)


async def test_a_password_is_set_reaches_the_terminal_and_is_nowhere_to_be_read(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.add(TERMINAL, SimulatorOptions(password="739164"))
    clock = counter.runtime.clock
    async with shop(tmp_path, counter) as opened:
        device = opened.services.runtime.ids.new_id()
        new = NewDevice(TERMINAL, "zvt", "Terminal", "terminal", LOCATION)
        await opened.services.devices.claim(device, new, "hub")
        await opened.services.devices.activate(device, MANAGER)
        async with clock.timeout(WAIT_S):
            while (status := opened.services.terminals.status(device)) is None or status.state != "faulty":
                await clock.sleep(0.005)
        view = await opened.services.options.put(device, {"password": "739164"}, MANAGER)
        await opened.ready(device)
        (password,) = view.options
        assert (password.value, password.source) == ("", Source.SET)
        kept = await opened.services.db.read("kept", lambda c: device_options.get(c, device))
        assert (kept.secrets, dict(kept.options)) == (("password",), {})
        (body,) = await bodies(opened, device)
        assert "739164" not in body
        assert json.loads(body)["secrets"] == ["password"]
        other = await opened.services.options.put(device, {}, MANAGER)
        assert other.version == view.version, "a secret that is not named stays"
    async with shop(tmp_path, counter) as opened:
        await opened.ready(device)
        assert b"739164" not in await asyncio.to_thread(everything_in, tmp_path)
        back = await opened.services.options.put(device, {"password": None}, MANAGER)
        assert back.options[0].source is Source.DEFAULT
        gone = await opened.services.db.read("gone", lambda c: device_options.get(c, device))
        assert (gone.secrets, gone.document) == ((), None)


async def test_a_secret_that_cannot_be_opened_is_said_to_be_lost_until_it_is_typed_again(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    line = "serial:///dev/ttyS0"
    async with shop(tmp_path, counter) as opened:
        device = opened.services.runtime.ids.new_id()
        await opened.services.devices.claim(device, NewDevice(line, "zvt", "T", "terminal", LOCATION), "hub")
        await opened.services.options.put(device, {"password": "739164"}, MANAGER)
        before = await opened.services.db.read("kept", lambda c: device_options.get(c, device))
    async with shop(tmp_path, counter, device_key=b"\1" * 32) as opened:
        desk = opened.services.options

        async def source() -> Source:
            return {one.option.name: one.source for one in (await desk.of(device)).options}["password"]

        assert await source() is Source.LOST
        assert (await desk.put(device, {"baud": "9600"}, MANAGER)).value("baud") == "9600"
        assert await source() is Source.LOST, "nobody has typed it again"
        after = await opened.services.db.read("kept", lambda c: device_options.get(c, device))
        assert (after.document, after.secrets) == (before.document, before.secrets)
        await desk.put(device, {"baud": "9600", "password": "580312"}, MANAGER)
        assert await source() is Source.SET


def test_what_is_sealed_opens_for_its_device_and_under_its_key_alone() -> None:
    ids = shop_runtime().ids
    mine, other = SecretBox(bytes(32), ids.token_bytes), SecretBox(b"\1" * 32, ids.token_bytes)
    sealed = mine.seal("one", {"password": "739164"})
    assert b"739164" not in sealed
    assert mine.open("one", sealed) == {"password": "739164"}
    assert mine.open("two", sealed) is None
    assert other.open("one", sealed) is None
    assert mine.open("one", sealed[:-1] + bytes([sealed[-1] ^ 1])) is None
    assert mine.open("one", b"short") is None
    assert "0" * 8 not in repr(mine)


async def test_the_speed_of_a_line_follows_the_device_and_not_its_address(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    fast = f"{LINE}?baud=19200&stop_bits=1&data_bits=7&parity=even"
    counter.others[fast] = SerialScannerSimulator(counter.runtime)
    async with shop(tmp_path, counter) as opened:
        device = opened.services.runtime.ids.new_id()
        new = NewDevice(f"{LINE}?baud=9600&stop_bits=1", "serial_scanner", "S", "", LOCATION, kind=DeviceKind.SCANNER)
        await opened.services.devices.claim(device, new, "hub")
        await opened.services.devices.activate(device, MANAGER)
        assert await problem(opened, device) == "unreachable"
        assert (await opened.services.options.of(device)).value("baud") == "9600"
        await opened.services.options.put(device, {"baud": "19200", "parity": "even", "data_bits": "7"}, MANAGER)
        await until_ready(opened, device)
        assert (await opened.services.devices.known(device)).address == f"{LINE}?baud=9600&stop_bits=1"
    async with shop(tmp_path, counter) as opened:
        await until_ready(opened, device)


async def test_who_takes_a_place_takes_what_was_set_with_it_under_the_same_driver(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.add(TERMINAL, SimulatorOptions(password="739164"))
    other = "tcp://192.0.2.8:20007"
    counter.add(other, SimulatorOptions(password="739164"))
    async with shop(tmp_path, counter) as opened:
        old = await a_terminal_with_its_password(opened, "739164")
        new = NewDevice(other, "zvt", "", "terminal", LOCATION)
        taker = opened.services.runtime.ids.new_id()
        await opened.services.roles.replace(taker, new, old, MANAGER)
        await opened.services.devices.activate(taker, MANAGER)
        await opened.ready(taker)
        assert [one.source for one in (await opened.services.options.of(taker)).options] == [Source.SET]
        assert [one.source for one in (await opened.services.options.of(old)).options] == [Source.SET]
        stranger = NewDevice("tcp://192.0.2.9:4100", "opi", "", "terminal", LOCATION)
        third = opened.services.runtime.ids.new_id()
        await opened.services.roles.replace(third, stranger, taker, MANAGER)
        assert (await opened.services.options.of(third)).version == 0, "another driver has other options"


async def a_terminal_with_its_password(opened: Shop, password: str) -> str:
    device = opened.services.runtime.ids.new_id()
    new = NewDevice(TERMINAL, "zvt", "Terminal", "terminal", LOCATION)
    await opened.services.devices.claim(device, new, "hub")
    await opened.services.options.put(device, {"password": password}, MANAGER)
    await opened.services.devices.activate(device, MANAGER)
    await opened.ready(device)
    return device


# -- what a scanner shows of itself ------------------------------------------------------------------------------------


async def scanned(opened: Shop, scanner: KeyboardScannerSimulator, text: str) -> None:
    """Scan, once the line has been quiet for as long as the driver wants before it believes a code."""
    await opened.services.runtime.clock.sleep(QUIET_S + 0.1)
    await scanner.control({"cmd": "scan", "text": text, "symbology": "code128"})


async def until_learnt(opened: Shop, device: str) -> int:
    clock = opened.services.runtime.clock
    async with clock.timeout(WAIT_S):
        while not (version := (await opened.services.options.of(device)).version):
            await clock.sleep(0.005)
    return version


async def test_a_scanner_that_its_address_takes_from_the_console_is_given_back(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    async with shop(tmp_path, counter) as opened:
        device = opened.services.runtime.ids.new_id()
        new = NewDevice(f"{SCANNER}?grab=1", "keyboard_scanner", "S", "", LOCATION, kind=DeviceKind.SCANNER)
        await opened.services.devices.claim(device, new, "hub")
        counter.others[f"{SCANNER}?grab=0"] = KeyboardScannerSimulator(counter.runtime, "fr")
        assert (await opened.services.options.of(device)).value(GRAB) == "1"
        assert (await opened.services.options.put(device, {GRAB: "0"}, MANAGER)).value(GRAB) == "0"
        await opened.services.devices.activate(device, MANAGER)
        assert await problem(opened, device) == "layout_unknown", "it is read, and the console has it too"


async def test_a_layout_that_was_learnt_once_is_known_after_a_restart(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    scanner = counter.others[SCANNER] = KeyboardScannerSimulator(counter.runtime, "fr")
    async with shop(tmp_path, counter) as opened:
        device = opened.services.runtime.ids.new_id()
        new = NewDevice(SCANNER, "keyboard_scanner", "S", "", LOCATION, kind=DeviceKind.SCANNER)
        await opened.services.devices.claim(device, new, "hub")
        await opened.services.devices.activate(device, MANAGER)
        assert await problem(opened, device) == "layout_unknown"
        with pytest.raises(HubError, match="option_too_early") as refused:
            await opened.services.options.put(device, {GRAB: "1"}, MANAGER)
        assert "layout" in refused.value.remedy
        await scanned(opened, scanner, TEST_CODE)
        version = await until_learnt(opened, device)
        assert (await opened.services.options.of(device)).value("layout") == "fr"
        await scanned(opened, scanner, TEST_CODE)
    async with shop(tmp_path, counter) as opened:
        assert await problem(opened, device) == ""
        view = await opened.services.options.of(device)
        assert view.version == version, "the same code again is no news"
        entry = await opened.services.db.read("entry", lambda c: journal.entry_at(c, version))
        assert entry.head.actor == "hub"
        counter.others[f"{SCANNER}?grab=1"] = scanner
        del counter.others[SCANNER]
        grabbed = await opened.services.options.put(device, {"layout": "fr", GRAB: "1"}, MANAGER)
        assert grabbed.value(GRAB) == "1"
        assert await problem(opened, device) == ""
    async with shop(tmp_path, counter) as opened:
        assert await problem(opened, device) == "", "it is taken from the console again by itself"
