"""What every printer driver must keep, whatever its line does: against its own simulator, in virtual time.

The judge is the paper. `Printed` means that it shows the whole document exactly once; nothing is ever printed again by
the driver itself; and after the line is well again the next document is printed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from drivers.kit.bench import Spoil
from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from hubd.model.device import Capability, DeviceKind, DeviceState
from hubd.ports import NotPrinted, Paper, Printed, PrinterCondition, PrintOutcome, PrintUnknown
from tests.contract.printer_bench import (
    ANSWERING,
    DRAWERS,
    IN_TURN,
    KINDS,
    NUMBERED,
    TELLING,
    TOLD,
    Bench,
    Job,
    bench,
    printers,
)
from tests.contract.terminal_bench import REGISTRY
from tests.contract.test_driver_contract import nth, spoiled

ROWS_OF_SEVERAL_CHUNKS, LINE_S = 240, 0.1
LATE_S = (2.5, 8.0, 250.0)
"""Before and after the time for an answer, and past all times."""

directions = pytest.mark.parametrize("direction", ["hub", "device"])


def step_of(kind: str) -> int:
    """Bytes from one place where a line is spoiled to the next: a message over HTTP is long and mostly names."""
    return 7 if kind == "ipp" else 1


async def blocks_of_a_document(kind: str, direction: str, rows: int) -> list[bytes]:
    async with bench(kind) as made:
        made.line.watch()
        await made.print(rows)
        return list(made.line.hub_blocks if direction == "hub" else made.line.device_blocks)


def print_with(kind: str, direction: str, spoil: Spoil, rows: int = 1, *, may_be_doubled: bool = False) -> PrintOutcome:
    """One document while one direction of its line is spoiled; judged by the paper."""

    async def main() -> PrintOutcome:
        async with bench(kind) as made:
            spoiled(made.line, direction, spoil)
            job = await made.print(rows)
            assert job.outcome is not None
            await print_again(made)
            job.judge(may_be_doubled=may_be_doubled)
            return job.outcome

    return run(main())


async def print_again(made: Bench, attempts: int = 3) -> None:
    """The printer works again."""
    for line in made.lines:
        line.watch()
    for _ in range(attempts):
        await made.ready()
        job = await made.print()
        job.judge()
        if isinstance(job.outcome, Printed):
            return
        await made.clock.sleep(300)
    raise AssertionError("it did not recover")


def test_every_registered_printer_driver_is_under_this_contract() -> None:
    ids = {entry.manifest.id for entry in REGISTRY.entries if entry.manifest}
    printing = {one for one in ids if REGISTRY.manifest(one).kind is DeviceKind.PRINTER}
    assert printing == {kind.driver_id for kind in KINDS.values()}


@printers()
def test_a_document_is_printed_whole_and_once(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            for rows in (0, 1, ROWS_OF_SEVERAL_CHUNKS):
                job = await made.print(rows)
                assert isinstance(job.outcome, Printed)
                job.judge()
            assert made.printer.status.state is DeviceState.READY
            assert [line for receipt in made.simulator.receipts for line in receipt.lines[:1] if not line.text] == []

    run(main())


@printers(*DRAWERS)
def test_everything_that_is_sent_is_understood(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            await made.print(ROWS_OF_SEVERAL_CHUNKS)
            assert made.escpos.paper.unknown == []
            assert made.escpos.overruns == 0

    run(main())


@printers(*DRAWERS)
def test_capabilities_are_those_of_the_manifest_unless_it_never_answers(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            stated = REGISTRY.manifest(KINDS[kind].driver_id).capabilities
            answers = kind in ANSWERING
            assert made.printer.capabilities == (stated if answers else stated - {Capability.PRINTER_STATUS})
            known = PrinterCondition(Paper.OK, cover_open=False, drawer_open=False)
            assert made.printer.condition == (known if answers else PrinterCondition())

    run(main())


@printers()
@directions
def test_blocks_split_at_every_byte_change_nothing(kind: str, direction: str) -> None:
    blocks = run(blocks_of_a_document(kind, direction, 1))
    for split in range(1, max(map(len, blocks), default=0), step_of(kind)):

        def cut_in_two(_: int, data: bytes, split: int = split) -> list[Delivery]:
            return [Delivery(data[:split]), Delivery(data[split:], 0.05)]

        assert isinstance(print_with(kind, direction, cut_in_two), Printed)


@printers()
def test_byte_by_byte_changes_nothing(kind: str) -> None:
    def slow(_: int, data: bytes) -> list[Delivery]:
        return [Delivery(data[at : at + 1], 0.002) for at in range(len(data))]

    for direction in ("hub", "device"):
        assert isinstance(print_with(kind, direction, slow, ROWS_OF_SEVERAL_CHUNKS), Printed)


@printers(*ANSWERING)
@directions
def test_every_lost_block_is_recovered(kind: str, direction: str) -> None:
    blocks = run(blocks_of_a_document(kind, direction, ROWS_OF_SEVERAL_CHUNKS))
    assert len(blocks) >= 6
    for index in range(len(blocks)):
        outcome = print_with(kind, direction, nth(index, lambda _: []), ROWS_OF_SEVERAL_CHUNKS)
        assert not isinstance(outcome, Printed), index


@printers(*NUMBERED)
@directions
def test_every_doubled_block_is_noticed_or_harmless(kind: str, direction: str) -> None:
    blocks = run(blocks_of_a_document(kind, direction, ROWS_OF_SEVERAL_CHUNKS))
    for index in range(len(blocks)):
        spoil = nth(index, lambda data: [Delivery(data), Delivery(data)])
        print_with(kind, direction, spoil, ROWS_OF_SEVERAL_CHUNKS, may_be_doubled=direction == "hub")


@printers(*NUMBERED)
def test_a_document_that_was_doubled_on_its_way_is_noticed_while_the_second_one_is_still_printed(kind: str) -> None:
    async def main() -> None:
        async with bench(kind, LINE_S) as made:
            made.line.watch(lambda _, data: [Delivery(data)] * (2 if b"#" in data else 1))
            job = await made.print()
            assert job.outcome == PrintUnknown("answered_twice")
            assert job.traces == 2
            await print_again(made)

    run(main())


@printers(*IN_TURN)
def test_an_answer_that_comes_twice_does_not_stand_for_the_next_one(kind: str) -> None:
    """The paper ends in the last part: the doubled answer to the part before it must not be taken for its own."""

    async def main() -> None:
        async with bench(kind, LINE_S) as made:
            made.simulator.faults.answer_twice = True
            made.simulator.load_paper(ROWS_OF_SEVERAL_CHUNKS)
            job = await made.print(ROWS_OF_SEVERAL_CHUNKS)
            assert isinstance(job.outcome, PrintUnknown)

    run(main())


@printers(*ANSWERING)
@directions
@pytest.mark.parametrize("late_s", LATE_S)
def test_every_late_block_is_recovered(kind: str, direction: str, late_s: float) -> None:
    blocks = run(blocks_of_a_document(kind, direction, ROWS_OF_SEVERAL_CHUNKS))
    for index in range(len(blocks)):
        print_with(kind, direction, nth(index, lambda data: [Delivery(data, late_s)]), ROWS_OF_SEVERAL_CHUNKS)


@printers("escpos-serial")
@pytest.mark.timeout(120)
def test_every_corrupted_byte_of_the_printer_gives_no_wrong_verdict(kind: str) -> None:
    blocks = run(blocks_of_a_document(kind, "device", 1))
    for index, block in enumerate(blocks):
        for at in range(len(block)):
            for bit in range(8):

                def corrupt(data: bytes, at: int = at, bit: int = bit) -> list[Delivery]:
                    return [Delivery(data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :])]

                print_with(kind, "device", nth(index, corrupt))


@printers("escpos-serial")
@pytest.mark.timeout(120)
def test_a_printer_that_was_told_nonsense_prints_again_at_the_latest_when_it_was_switched_off(kind: str) -> None:
    """Nothing checks the bytes on a serial line: what is on paper then, nobody can know. It is not printed again."""
    blocks = run(blocks_of_a_document(kind, "hub", 1))

    async def main(index: int, at: int) -> None:
        flip = 1 << ((index + at) % 8)
        async with bench(kind) as made:
            made.line.watch(nth(index, lambda data: [Delivery(data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :])]))
            job = await made.print()
            made.line.watch()
            await made.clock.sleep(60)
            later = await made.print()
            if not later.whole:
                await made.simulator.power_cut()
                await made.clock.sleep(60)
                later = await made.print()
            assert isinstance(later.outcome, Printed)
            later.judge()
            assert job.traces <= 1

    for index, block in enumerate(blocks):
        for at in range(len(block)):
            run(main(index, at))


@printers()
@directions
@pytest.mark.timeout(120)
def test_line_cut_at_every_byte_is_recovered(kind: str, direction: str) -> None:
    size = sum(map(len, run(blocks_of_a_document(kind, direction, 1))))

    async def main(at: int) -> None:
        async with bench(kind) as made:
            end = made.line.hub if direction == "hub" else made.line.device
            end.cut_after = end.bytes_written + at
            job = await made.print()
            await made.ready()
            if kind not in ANSWERING:
                await made.print()
            await print_again(made)
            assert job.traces <= 1
            # A printer that says nothing is believed by its line: what was cut off on its way is not known.
            if kind in ANSWERING:
                job.judge()

    for at in range(0, size + 1, step_of(kind)):
        run(main(at))


@printers(*TELLING)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("silent", True), ("babble", True), ("answer_twice", True), ("answer_delay_s", 0.5), ("answer_delay_s", 7.0),
        ("answer_delay_s", 200.0), ("split_bytes", 1), ("unplug_at_byte", 2), ("unplug_at_byte", 6), ("drop_frame", 2),
        ("corrupt_frame", 4),
    ],
)  # fmt: skip
def test_every_fault_of_the_menu_is_survived(kind: str, name: str, value: object) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            made.simulator.faults.set(name, value)
            job = await made.print()
            job.judge()
            made.simulator.faults.clear()
            await print_again(made)
            job.judge()

    run(main())


# -- paper, cover, power -----------------------------------------------------------------------------------------------


def _no_paper(made: Bench) -> None:
    made.simulator.load_paper(0)


def _paper(made: Bench) -> None:
    made.simulator.load_paper()


TROUBLES: dict[str, tuple[Callable[[Bench], None], Callable[[Bench], None]]] = {
    "paper_out": (_no_paper, _paper),
    "cover_open": (
        lambda made: made.simulator.set_cover(is_open=True),
        lambda made: made.simulator.set_cover(is_open=False),
    ),
    "offline": (
        lambda made: made.escpos.set_offline(offline=True),
        lambda made: made.escpos.set_offline(offline=False),
    ),
    "cutter_jammed": (
        lambda made: made.escpos.set_jammed(jammed=True),
        lambda made: made.escpos.set_jammed(jammed=False),
    ),
}


@printers(*ANSWERING)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_printer_that_says_it_cannot_print_is_sent_nothing(kind: str, trouble: str) -> None:
    async def main() -> None:
        begin, end = TROUBLES[trouble]
        async with bench(kind) as made:
            begin(made)
            for ask in (made.print, made.printer.open_drawer):
                answer = await ask()
                outcome = answer.outcome if isinstance(answer, Job) else answer
                assert isinstance(outcome, NotPrinted)
                assert outcome.reason == trouble
                assert outcome.remedy
            state = made.printer.status
            assert (state.state, state.problem, bool(state.remedy)) == (DeviceState.FAULTY, trouble, True)
            assert len(made.lines) == 1, "the line is well"
            end(made)
            await made.until(lambda: made.printer.status.state is DeviceState.READY, "seen by itself", 15)
            assert made.escpos.pulses == [], "a drawer must not open when paper is put in"
            assert (await made.print()).whole == 1
            assert made.tickets == 2
            assert [job.traces for job in (Job(made, 1, made.new_ticket().document),)] == [0]

    run(main())


@printers(*TELLING)
def test_trouble_is_noticed_while_nobody_prints(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            made.simulator.load_paper(0)
            await made.until(lambda: made.printer.condition.paper is Paper.OUT, "out of paper", 15)
            assert made.printer.status.problem == "paper_out"
            made.simulator.load_paper(50)
            await made.until(lambda: made.printer.condition.paper is Paper.LOW, "a roll that is nearly empty", 15)
            assert made.printer.status.state is DeviceState.READY

    run(main())


@printers(*TOLD)
@pytest.mark.parametrize("left", [1, 4, 60])
def test_paper_that_ends_in_a_document_leaves_it_unknown_and_the_rest_comes_once(kind: str, left: int) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            made.simulator.load_paper(left)
            job = await made.print(ROWS_OF_SEVERAL_CHUNKS)
            assert job.outcome == PrintUnknown("paper_out")
            await made.clock.sleep(60)
            assert isinstance((await made.print()).outcome, NotPrinted)
            made.simulator.load_paper()
            await print_again(made)
            job.judge()

    run(main())


@printers(*TOLD)
def test_a_cover_that_is_opened_for_a_moment_changes_nothing(kind: str) -> None:
    async def main() -> None:
        async with bench(kind, LINE_S) as made, asyncio.TaskGroup() as group:
            printing = group.create_task(made.print(20), name="print")
            await made.clock.sleep(0.5)
            made.simulator.set_cover(is_open=True)
            await made.clock.sleep(0.8)
            made.simulator.set_cover(is_open=False)
            job = await printing
            assert isinstance(job.outcome, Printed)
            job.judge()

    run(main())


@printers(*TOLD)
def test_printed_is_said_when_the_paper_is_out_and_not_before(kind: str) -> None:
    async def main() -> None:
        async with bench(kind, LINE_S) as made, asyncio.TaskGroup() as group:
            begun = made.clock.monotonic()
            printing = group.create_task(made.print(ROWS_OF_SEVERAL_CHUNKS), name="print")
            await made.clock.sleep(5)
            assert not printing.done()
            assert isinstance(await made.printer.open_drawer(), NotPrinted), "one document at a time"
            job = await printing
            job.judge()
            assert isinstance(job.outcome, Printed)
            assert made.clock.monotonic() - begun >= LINE_S * ROWS_OF_SEVERAL_CHUNKS

    run(main())


@printers(*TOLD)
@pytest.mark.parametrize("after_s", [0.05, 1.0, 4.0, 9.0])
def test_power_that_fails_in_a_document_is_unknown_and_the_next_one_is_whole(kind: str, after_s: float) -> None:
    async def main() -> None:
        async with bench(kind, LINE_S) as made, asyncio.TaskGroup() as group:
            printing = group.create_task(made.print(ROWS_OF_SEVERAL_CHUNKS), name="print")
            await made.clock.sleep(after_s)
            await made.simulator.power_cut()
            job = await printing
            assert isinstance(job.outcome, PrintUnknown)
            await print_again(made)
            job.judge()

    run(main())


# -- the drawer --------------------------------------------------------------------------------------------------------


@printers(*DRAWERS)
def test_the_drawer_is_opened_once_and_read_back(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            outcome = await made.printer.open_drawer()
            assert isinstance(outcome, Printed)
            await made.until(lambda: made.escpos.pulses == [2], "the pulse", 1)
            assert made.printer.condition.drawer_open is (True if kind in ANSWERING else None)
            made.escpos.drawer_open = False
            if kind in ANSWERING:
                await made.until(lambda: made.printer.condition.drawer_open is False, "closed by a person", 15)

    run(main())


@printers(*ANSWERING)
def test_a_locked_drawer_is_not_called_open(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            made.escpos.faults.drawer_stuck = True
            assert await made.printer.open_drawer() == PrintUnknown("drawer_still_closed")
            assert made.escpos.pulses == [2]
            assert made.printer.status.state is DeviceState.READY

    run(main())


@printers(*IN_TURN)
def test_a_drawer_whose_pulse_was_lost_is_unknown(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            made.line.watch(lambda _, data: [] if b"\x1bp" in data else [Delivery(data)])
            assert isinstance(await made.printer.open_drawer(), PrintUnknown)
            assert made.escpos.pulses == []
            await print_again(made)

    run(main())


# -- the line ----------------------------------------------------------------------------------------------------------


@printers()
def test_a_gone_printer_prints_nothing_and_comes_back(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            await made.simulator.unplug()
            await made.until(lambda: made.printer.status.state is DeviceState.GONE, "gone")
            job = await made.print()
            assert isinstance(job.outcome, NotPrinted)
            assert job.outcome.reason == "unreachable"
            assert made.printer.condition == PrinterCondition()
            await made.clock.sleep(3600)
            made.simulator.replug()
            await made.until(lambda: made.printer.status.state is DeviceState.READY, "ready again", 60)
            await print_again(made, attempts=1)
            job.judge()

    run(main())


@printers(*TELLING)
def test_a_printer_that_died_in_the_night_is_noticed_and_comes_back(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            await made.clock.sleep(8 * 3600)
            assert made.printer.status.state is DeviceState.READY
            assert len(made.lines) == 1, "an idle night is no reason for a new line"
            assert made.simulator.receipts[0].lines == [], "an idle night takes no paper"
            made.simulator.faults.silent = True
            await made.until(lambda: made.printer.status.state is DeviceState.SILENT, "silent", 60)
            made.simulator.faults.silent = False
            await print_again(made, attempts=1)

    run(main())


@printers(*ANSWERING)
def test_a_device_that_speaks_something_else_is_rejected(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            made.simulator.faults.greeting = (b"220 mail.example ESMTP ready\r\n" * 4).hex()
            await made.simulator.unplug()
            made.simulator.replug()
            await made.until(lambda: made.printer.status.state is DeviceState.FAULTY, "rejected", 30)
            assert made.printer.status.problem == "not_escpos"
            assert isinstance((await made.print()).outcome, NotPrinted)

    run(main())


@printers(*TOLD)
def test_cancellation_is_passed_on_and_nothing_is_printed_again(kind: str) -> None:
    async def main() -> None:
        async with (
            bench(kind, LINE_S) as made,
            asyncio.TaskGroup() as group,
        ):
            job = made.new_ticket(ROWS_OF_SEVERAL_CHUNKS)
            printing = group.create_task(made.printer.print(job.document), name="print")
            await made.clock.sleep(2)
            printing.cancel()
            await asyncio.wait({printing})
            assert printing.cancelled()
            await print_again(made)
            assert job.traces <= 1

    run(main())


@printers()
@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_ready_callbacks_gives_the_same_outcomes(kind: str, seed: int) -> None:
    async def main() -> list[str]:
        async with bench(kind) as made:
            outcomes = []
            for rows in (1, ROWS_OF_SEVERAL_CHUNKS, 2):
                job = await made.print(rows)
                job.judge()
                outcomes.append(type(job.outcome).__name__)
            if kind in DRAWERS:
                outcomes.append(type(await made.printer.open_drawer()).__name__)
            return outcomes

    assert run(main(), seed) == ["Printed"] * (4 if kind in DRAWERS else 3)


@printers()
def test_close_may_be_called_again(kind: str) -> None:
    async def main() -> Bench:
        async with bench(kind) as made:
            await made.runner.driver.close()
            await made.runner.driver.close()
            await made.until(lambda: len(made.lines) == 2, "a new line")
            await made.ready()
        await made.runner.driver.close()
        assert made.printer.status.state is DeviceState.GONE
        return made

    assert len(run(main()).lines) == 2
