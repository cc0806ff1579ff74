"""A job of somebody else's bytes under the printers' contract: once on paper, whatever its line does, and well after.

The bytes have a picture that is one long command, which a line may break in its middle.
"""

from __future__ import annotations

import pytest

from drivers.kit.bench import Spoil
from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from drivers.sim.escpos.paper import PaperLine
from hubd.model.printing import Cut, PrintDocument, Text, pack_raw
from hubd.ports import Printed, PrintOutcome, PrintUnknown
from tests.contract.printer_bench import ANSWERING, NUMBERED, Bench, bench, printers
from tests.contract.test_driver_contract import nth, spoiled
from tests.contract.test_printer_contract import directions, print_again

MARK = "#9999#"
PICTURE = b"\x1d(L" + (60_000).to_bytes(2, "little") + b"0p0\x01\x011\xe0\x01\xe8\x03" + bytes(60_000 - 10)
"""A picture that cannot be parted, far more than a printer's buffer holds."""
JOB = b"\x1b@\x1b!\x10" + MARK.encode() + b"\n" + PICTURE + b"\nTotal 3.20\n" * 30 + b"\x1dVB\x00"


def traces(made: Bench) -> int:
    """How often the job stands on paper."""
    return sum(MARK in line.text for receipt in made.simulator.receipts for line in receipt.lines)


async def print_raw(made: Bench) -> PrintOutcome:
    return await made.printer.print(PrintDocument("Raw", (pack_raw(JOB),)))


@printers(*ANSWERING)
def test_it_is_printed_once_and_leaves_no_style_behind(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            assert isinstance(await print_raw(made), Printed)
            assert traces(made) == 1
            await print_again(made)
            mixed = PrintDocument("Mixed", (pack_raw(b"\x1b!\x30\x1ba\x01LARGE\n"), Text("plain"), Cut()))
            assert isinstance(await made.printer.print(mixed), Printed)
            large, plain = (
                line for line in made.simulator.receipts[-2].lines if isinstance(line, PaperLine) and line.text
            )
            assert (large.large, large.align, plain.large, plain.align) == (True, "center", False, "left")

    run(main())


async def blocks_of_the_job(kind: str, direction: str) -> int:
    async with bench(kind) as made:
        made.line.watch()
        await print_raw(made)
        return len(made.line.hub_blocks if direction == "hub" else made.line.device_blocks)


def with_spoiled(kind: str, direction: str, spoil: Spoil) -> PrintOutcome:
    """The job while one direction of its line is spoiled; judged by the paper, and the printer works after it."""

    async def main() -> PrintOutcome:
        async with bench(kind) as made:
            spoiled(made.line, direction, spoil)
            outcome = await print_raw(made)
            assert traces(made) == 1 if isinstance(outcome, Printed) else traces(made) <= 1
            await print_again(made, attempts=1)
            return outcome

    return run(main())


@printers(*ANSWERING)
@directions
def test_every_lost_block_is_recovered(kind: str, direction: str) -> None:
    for index in range(run(blocks_of_the_job(kind, direction))):
        assert not isinstance(with_spoiled(kind, direction, nth(index, lambda _: [])), Printed), index


@printers(*NUMBERED)
@pytest.mark.parametrize("kept", [1, 7, 100, 2_000])
def test_a_picture_of_which_only_the_beginning_arrives_does_not_swallow_what_comes_next(kind: str, kept: int) -> None:
    def cut(_: int, data: bytes) -> list[Delivery]:
        at = data.find(PICTURE[:5])
        return [Delivery(data)] if at < 0 else [Delivery(data[: at + kept])]

    assert isinstance(with_spoiled(kind, "hub", cut), PrintUnknown)
