"""The printer driver against dialogues written down byte by byte, and its options."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - the driver is given a Runtime made here
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from drivers.base import Identity, Lines
from drivers.escpos import CHUNK_TIMEOUT_S, EscposPrinter
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.runner import accept_none
from hubd.errors import DeviceError
from hubd.model.device import Capability
from hubd.model.printing import Cut, Drawer, PrintDocument, Text
from hubd.ports import ByteStream, NotPrinted, Paper, Printed, PrinterCondition, PrintOutcome, PrintUnknown
from hubd.runtime import Runtime, SystemIds

T = TypeVar("T")
RECEIPT = PrintDocument("Receipt", (Text("Total 12.50"), Drawer(2), Cut()))
BYTES = "1B 40 1B 74 13 54 6F 74 61 6C 20 31 32 2E 35 30 0A 1B 70 00 32 32 1B 64 06 1D 56 01"
WELL = [("10 04 01", "12"), ("10 04 02", "12"), ("10 04 04", "12")]
FIRST = f"{'00 ' * 1040}1B 40"


async def _no_line() -> ByteStream:
    raise OSError("one line is enough")


NO_LINES = Lines(_no_line, lambda port, serve: accept_none(port, "printer", serve))
Step = tuple[str, str]
"""What the hub must say, and what the printer answers; `....` stands for a process id, which is repeated."""


async def play(steps: list[Step], device: MemoryStream) -> None:
    """Read exactly what the hub must say, then answer."""
    for expected, answer in steps:
        wanted = expected.replace("....", "00 00 00 00")
        size, heard = len(bytes.fromhex(wanted)), b""
        while len(heard) < size:
            heard += await device.read(size - len(heard))
        number = heard[-4:] if "...." in expected else b""
        assert heard == bytes.fromhex(wanted)[: size - len(number)] + number, f"it said {heard.hex(' ')}"
        await device.write(bytes.fromhex(answer.replace("....", number.hex(" "))))


ASK_ID, ID = "1D 28 48 06 00 30 30 ....", "37 22 .... 00"
MEET = [(FIRST, ""), *WELL, ("1D 61 00", ""), (ASK_ID, ID)]


def dialogue(
    steps: list[Step], talk: Callable[[EscposPrinter], Awaitable[T]], options: dict[str, str] | None = None
) -> T:
    """What `talk` returns while a printer plays the steps."""

    async def main() -> T:
        runtime = Runtime(VirtualClock(), SystemIds(), random.Random(1), b"t" * 16)
        driver = EscposPrinter(runtime, options or {})
        hub, device = memory_pipe()
        driver.attach(hub, "tcp://printer:9100", NO_LINES)
        async with asyncio.TaskGroup() as group:
            played = group.create_task(play(steps, device), name="device")
            group.create_task(driver.pump(), name="pump")
            try:
                result = await talk(driver)
                await played
            finally:
                played.cancel()
                await driver.close()
        return result

    return run(main())


async def meet(driver: EscposPrinter) -> Identity:
    return await driver.identify()


def test_the_first_words() -> None:
    assert dialogue(MEET, meet) == Identity()


async def print_receipt(driver: EscposPrinter) -> object:
    await driver.identify()
    return await driver.print(RECEIPT)


def test_a_receipt() -> None:
    steps = [*MEET, *WELL, (f"{BYTES} {ASK_ID}", ID), (ASK_ID, ID), *WELL]
    assert dialogue(steps, print_receipt) == Printed(PrinterCondition(Paper.OK, cover_open=False, drawer_open=False))


def test_a_receipt_with_the_drawer_open_and_little_paper() -> None:
    after = [("10 04 01", "16"), ("10 04 02", "12"), ("10 04 04", "1E")]
    steps = [*MEET, *WELL, (f"{BYTES} {ASK_ID}", ID), (ASK_ID, ID), *after]
    assert dialogue(steps, print_receipt) == Printed(PrinterCondition(Paper.LOW, cover_open=False, drawer_open=True))


def test_an_older_printer_answers_in_its_turn() -> None:
    meeting = [*MEET[:-1], (ASK_ID, ""), ("1B 40 1D 72 01", "00")]
    steps = [*meeting, *WELL, (f"{BYTES} 1D 72 01", "00"), ("10 04 01", "12"), *WELL]
    assert isinstance(dialogue(steps, print_receipt), Printed)


def test_a_simple_printer_answers_behind_the_bytes_and_after_the_time_to_print_them() -> None:
    meeting = [*MEET[:-1], (ASK_ID, ""), ("1B 40 1D 72 01", "")]
    steps = [*meeting, *WELL, (f"{BYTES} 10 04 01", "12"), *WELL]
    assert isinstance(dialogue(steps, print_receipt), Printed)
    ended = [("10 04 01", "1A"), ("10 04 02", "32"), ("10 04 04", "7E")]
    steps = [*meeting, *WELL, (f"{BYTES} 10 04 01", "12"), *ended]
    assert dialogue(steps, print_receipt) == PrintUnknown("paper_out")


@pytest.mark.parametrize(
    ("printer", "offline", "paper", "error", "reason"),
    [
        ("1A", "32", "7E", "", "paper_out"),
        ("1A", "16", "12", "", "cover_open"),
        ("1A", "52", "12", "1A", "cutter_jammed"),
        ("1A", "52", "12", "52", "overheated"),
        ("1A", "52", "12", "32", "printer_error"),
        ("1A", "12", "12", "", "offline"),
    ],
)
def test_nothing_is_sent_to_a_printer_that_cannot_print(
    printer: str, offline: str, paper: str, error: str, reason: str
) -> None:
    told = [
        ("10 04 01", printer),
        ("10 04 02", offline),
        ("10 04 04", paper),
        *([("10 04 03", error)] if error else []),
    ]

    async def talk(driver: EscposPrinter) -> tuple[object, Identity | None, bool]:
        return await print_receipt(driver), driver.noticed, driver.usable

    outcome, noticed, usable = dialogue([*MEET, *told], talk)
    assert isinstance(outcome, NotPrinted)
    assert outcome.reason == reason
    assert noticed == Identity(problem=reason, remedy=outcome.remedy)
    assert usable, "the line is well"


def test_what_it_can_say_is_found_out_when_it_can_print() -> None:
    ended = [("10 04 01", "1A"), ("10 04 02", "32"), ("10 04 04", "7E")]
    meeting = [(FIRST, ""), *ended, ("1D 61 00", "")]
    steps = [*meeting, *WELL, (ASK_ID, ID), (f"{BYTES} {ASK_ID}", ID), (ASK_ID, ID), *WELL]
    assert isinstance(dialogue(steps, print_receipt), Printed)


def test_a_printer_in_the_middle_of_a_picture_is_freed_of_it() -> None:
    silent = [(FIRST, ""), ("10 04 01", ""), (FIRST, "")]
    assert dialogue([*silent, *WELL, ("1D 61 00", ""), (ASK_ID, ID)], meet) == Identity()


def test_a_printer_that_has_never_answered_is_not_guessed_at() -> None:
    async def talk(driver: EscposPrinter) -> DeviceError:
        with pytest.raises(DeviceError) as caught:
            await driver.identify()
        return caught.value

    error = dialogue([(FIRST, ""), ("10 04 01", ""), (FIRST, ""), ("10 04 01", "")], talk)
    assert error.code == "device.no_status"
    assert "status=none" in error.remedy


def test_a_printer_that_never_answers_is_believed_by_its_line() -> None:
    async def talk(driver: EscposPrinter) -> tuple[object, object, Identity]:
        await driver.identify()
        return await driver.print(RECEIPT), await driver.open_drawer(), await driver.check()

    steps = [(FIRST, ""), (f"{BYTES} 1B 70 01 32 32", "")]
    printed, opened, checked = dialogue(steps, talk, MUTE | {"drawer_pin": "5"})
    assert printed == opened == Printed(PrinterCondition())
    assert checked == Identity()


MUTE = {"status": "none"}


def test_a_line_that_takes_no_more_bytes_leaves_the_document_unknown() -> None:
    class Full(MemoryStream):
        async def write(self, data: bytes) -> None:
            if b"Total" in data:
                await asyncio.Event().wait()

    async def main() -> tuple[object, float, bool]:
        clock = VirtualClock()
        driver = EscposPrinter(Runtime(clock, SystemIds(), random.Random(1), b"t" * 16), MUTE)
        hub = Full()
        hub._peer = MemoryStream()
        driver.attach(hub, "serial:///dev/printer", NO_LINES)
        async with asyncio.TaskGroup() as group:
            group.create_task(driver.pump(), name="pump")
            await driver.identify()
            before = clock.monotonic()
            outcome = await driver.print(RECEIPT)
            took_s = clock.monotonic() - before
            await driver.close()
        return outcome, took_s, driver.usable

    assert run(main()) == (PrintUnknown("no_answer"), CHUNK_TIMEOUT_S, False)


async def cut_after(played: asyncio.Task[None], device: MemoryStream) -> None:
    """The line breaks when everything was said."""
    await played
    device.cut()


def test_an_unfinished_document_is_cut_off_before_the_next_one() -> None:
    async def main() -> list[PrintOutcome]:
        driver = EscposPrinter(Runtime(VirtualClock(), SystemIds(), random.Random(1), b"t" * 16), {})
        outcomes: list[PrintOutcome] = []
        next_one = f"1B 40 1B 64 06 1D 56 01 {BYTES} {ASK_ID}"
        for steps in (
            [*MEET, *WELL, (f"{BYTES} {ASK_ID}", "")],
            [*MEET[:-1], *WELL, (next_one, ID), (ASK_ID, ID), *WELL],
            [*MEET[1:-1], *WELL, (f"{BYTES} {ASK_ID}", ID), (ASK_ID, ID), *WELL],
        ):
            hub, device = memory_pipe()
            driver.attach(hub, "tcp://printer:9100", NO_LINES)
            async with asyncio.TaskGroup() as group:
                played = group.create_task(play(steps, device), name="device")
                group.create_task(driver.pump(), name="pump")
                await driver.identify()
                if not outcomes:
                    group.create_task(cut_after(played, device), name="cut")
                outcomes.append(await driver.print(RECEIPT))
                await played
                await driver.close()
        return outcomes

    first, second, third = run(main())
    assert isinstance(first, PrintUnknown)
    assert isinstance(second, Printed)
    assert isinstance(third, Printed)


# -- options -----------------------------------------------------------------------------------------------------------


def driver_with(**options: str) -> EscposPrinter:
    return EscposPrinter(Runtime(VirtualClock(), SystemIds(), random.Random(1), b"t" * 16), options)


def test_options_of_a_printer() -> None:
    assert driver_with(password="000000", currency="EUR").capabilities >= {Capability.PRINT, Capability.PRINTER_STATUS}
    assert Capability.PRINTER_STATUS not in driver_with(status="none").capabilities
    for columns in ("32", "42", "48", "96"):
        driver_with(columns=columns)


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("columns", "15", "16 to 96"),
        ("columns", "42.0", "16 to 96"),
        ("columns", "", "16 to 96"),
        ("drawer_pin", "3", "2, 5"),
        ("drawer_open", "yes", "high, low, none"),
        ("status", "sometimes", "auto, none"),
    ],
)
def test_an_option_that_cannot_be_is_named(name: str, value: str, remedy: str) -> None:
    with pytest.raises(DeviceError, match=name) as caught:
        driver_with(**{name: value})
    assert caught.value.code == "device.option_invalid"
    assert remedy in caught.value.remedy


WIRES = [("low", "12", True), ("low", "16", False), ("none", "16", None)]


@pytest.mark.parametrize(("wired", "told", "is_open"), WIRES)
def test_how_the_switch_of_the_drawer_is_wired_is_an_option(wired: str, told: str, is_open: bool | None) -> None:
    async def talk(driver: EscposPrinter) -> PrinterCondition:
        await driver.identify()
        await driver.check()
        return driver.condition

    steps = [*MEET, ("10 04 01", told), ("10 04 02", "12"), ("10 04 04", "12")]
    assert dialogue(steps, talk, {"drawer_open": wired}).drawer_open is is_open
