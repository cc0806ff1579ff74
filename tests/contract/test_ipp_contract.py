"""What an IPP printer can be asked beyond other printers: what became of a document whose answer was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from drivers.ipp import CUT_OFF_MAX, HAND_OVER_TIMEOUT_S, NOT_FOUND_AGAIN_S
from drivers.ipp_codec import JobState, Operation
from drivers.kit.bench import Spoil
from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from hubd.model.device import Capability, DeviceState
from hubd.ports import NotPrinted, Paper, Printed, PrinterCondition, PrintOutcome, PrintUnknown
from tests.contract.printer_bench import Bench, bench
from tests.contract.terminal_bench import REGISTRY
from tests.contract.test_driver_contract import nth, spoiled
from tests.contract.test_printer_contract import ROWS_OF_SEVERAL_CHUNKS, blocks_of_a_document, print_again

KIND = "ipp"
LATE_S = (2.5, 9.0, 250.0)
PRINT_JOB = Operation.PRINT_JOB.to_bytes(2, "big")


def print_on(direction: str, spoil: Spoil, rows: int = 1) -> tuple[Bench, PrintOutcome | None]:
    """One document while one direction of the line is spoiled; then the printer works again, and all is judged."""

    async def main() -> tuple[Bench, PrintOutcome | None]:
        async with bench(KIND) as made:
            spoiled(made.line, direction, spoil)
            job = await made.print(rows)
            await print_again(made)
            job.judge()
            return made, job.outcome

    return run(main())


def asks(data: bytes, operation: bytes) -> bool:
    """Whether this is a request for the operation."""
    return data.partition(b"\r\n\r\n")[2][2:4] == operation


def test_a_document_whose_answer_is_lost_is_found_and_was_printed_once() -> None:
    blocks = run(blocks_of_a_document(KIND, "device", 1))
    # how it is, the document, then how it and its job are, until it has ended
    assert len(blocks) >= 4
    for index in range(1, len(blocks)):
        made, outcome = print_on("device", nth(index, lambda _: []))
        assert isinstance(outcome, Printed), index
        assert made.ipp.requests.count(Operation.PRINT_JOB) == 2, "one of each document"


def test_a_document_that_was_lost_whole_is_unknown_and_one_that_never_left_is_not_printed() -> None:
    blocks = run(blocks_of_a_document(KIND, "hub", 1))
    (index,) = [at for at, data in enumerate(blocks) if asks(data, PRINT_JOB)]
    assert print_on("hub", nth(index, lambda _: []))[1] == PrintUnknown("not_found")
    assert isinstance(print_on("hub", nth(index - 1, lambda _: []))[1], NotPrinted)


def test_a_document_that_is_late_inside_the_printer_is_found_when_it_is_asked_again() -> None:
    blocks = run(blocks_of_a_document(KIND, "hub", 1))
    (index,) = [at for at, data in enumerate(blocks) if asks(data, PRINT_JOB)]
    late_s = HAND_OVER_TIMEOUT_S + NOT_FOUND_AGAIN_S / 2
    _, outcome = print_on("hub", nth(index, lambda data: [Delivery(data, late_s)]))
    assert isinstance(outcome, Printed)


@pytest.mark.parametrize("direction", ["hub", "device"])
@pytest.mark.parametrize("late_s", LATE_S)
def test_every_late_block_is_recovered(direction: str, late_s: float) -> None:
    for index in range(len(run(blocks_of_a_document(KIND, direction, 1)))):
        print_on(direction, nth(index, lambda data: [Delivery(data, late_s)]))


def _troubles() -> dict[str, tuple[Callable[[Bench], None], Callable[[Bench], None]]]:
    return {
        "paper_out": (lambda made: made.ipp.load_paper(0), lambda made: made.ipp.load_paper()),
        "cover_open": (lambda made: made.ipp.set_cover(is_open=True), lambda made: made.ipp.set_cover(is_open=False)),
        "paused": (lambda made: made.ipp.set_paused(paused=True), lambda made: made.ipp.set_paused(paused=False)),
        "paper_jam": (lambda made: made.ipp.set_jammed(jammed=True), lambda made: made.ipp.set_jammed(jammed=False)),
    }


@pytest.mark.parametrize("trouble", _troubles())
def test_a_printer_that_says_it_cannot_print_is_sent_nothing(trouble: str) -> None:
    async def main() -> None:
        begin, end = _troubles()[trouble]
        async with bench(KIND) as made:
            begin(made)
            job = await made.print()
            assert isinstance(job.outcome, NotPrinted)
            assert (job.outcome.reason, bool(job.outcome.remedy)) == (trouble, True)
            state = made.printer.status
            assert (state.state, state.problem, bool(state.remedy)) == (DeviceState.FAULTY, trouble, True)
            end(made)
            await made.until(lambda: made.printer.status.state is DeviceState.READY, "seen by itself", 15)
            assert made.ipp.jobs == []
            assert (await made.print()).whole == 1

    run(main())


def test_it_has_what_its_manifest_says_and_no_drawer() -> None:
    async def main() -> None:
        async with bench(KIND) as made:
            assert made.printer.capabilities == REGISTRY.manifest("ipp").capabilities
            assert Capability.DRAWER not in made.printer.capabilities
            assert made.printer.condition == PrinterCondition(Paper.OK, cover_open=False)
            outcome = await made.printer.open_drawer()
            assert isinstance(outcome, NotPrinted)
            assert (outcome.reason, made.ipp.jobs) == ("no_drawer", [])
            assert made.printer.status.terminal_id == made.ipp.options.uuid

    run(main())


@pytest.mark.parametrize("status", [0x0503, 0x0507])
def test_a_busy_printer_is_tried_again_and_a_refusal_is_left_to_a_person(status: int) -> None:
    async def main() -> None:
        async with bench(KIND) as made:
            made.ipp.faults.refuse_status = status
            job = await made.print()
            assert isinstance(job.outcome, NotPrinted)
            assert made.printer.status.state is DeviceState.FAULTY, "or it would be tried at once, for ever"
            await made.until(lambda: made.printer.status.state is DeviceState.READY, "tried again", 15)
            made.ipp.faults.refuse_status = 0x040B
            assert (await made.print()).outcome == PrintUnknown("refused_0x040b")
            made.ipp.faults.clear()
            await print_again(made)

    run(main())


def test_a_printer_that_takes_no_document_to_its_end_is_left_to_a_person_after_some() -> None:
    async def cut_off(made: Bench) -> PrintOutcome | None:
        await made.ready()
        line = made.line

        def cut_in_the_middle(_: int, data: bytes) -> list[Delivery]:
            if not asks(data, PRINT_JOB):
                return [Delivery(data)]
            line.device.deliver(data[: len(data) // 2])
            line.hub.cut()
            raise ConnectionResetError("the line is cut")  # and the hub's own system says so at once

        line.watch(cut_in_the_middle)
        return (await made.print()).outcome

    async def main() -> None:
        async with bench(KIND) as made:
            for _ in range(2):
                for _ in range(CUT_OFF_MAX - 1):
                    assert isinstance(await cut_off(made), NotPrinted)
                assert await cut_off(made) == PrintUnknown("cut_off")
                await print_again(made)
            assert len(made.ipp.jobs) == 2

    run(main())


def test_jobs_that_the_printer_gives_up_or_forgets_are_unknown() -> None:
    async def main() -> None:
        async with bench(KIND) as made:
            made.ipp.faults.abort_jobs = True
            assert (await made.print()).outcome == PrintUnknown("job_aborted")
            made.ipp.faults.abort_jobs = False
            made.ipp.faults.forgets = True
            assert (await made.print()).outcome == PrintUnknown("forgotten")
            made.ipp.faults.forgets = False
            await print_again(made)

    run(main())


def test_a_job_number_that_is_another_ones_now_does_not_stand_for_ours() -> None:
    async def main() -> None:
        async with bench(KIND, 0.5) as made, asyncio.TaskGroup() as group:
            printing = group.create_task(made.print(20), name="print")
            await made.until(lambda: bool(made.ipp.jobs), "its job")
            name = made.ipp.jobs[0].name
            made.ipp.jobs[0].name = "somebody else's"
            made.ipp.jobs[0].state = JobState.COMPLETED
            job = await printing
            assert job.outcome == PrintUnknown("forgotten")
            assert name.endswith("Receipt 1")

    run(main())


@pytest.mark.parametrize("status", [401, 404, 426])
def test_what_does_not_answer_as_a_printer_is_said(status: int) -> None:
    async def main() -> None:
        async with bench(KIND) as made:
            made.ipp.faults.http_status = status
            await made.ipp.hang_up()
            await made.until(lambda: made.printer.status.state is DeviceState.FAULTY, "rejected", 60)
            assert made.printer.status.problem == "not_ipp"
            assert "path" in made.printer.status.remedy
            assert isinstance((await made.print()).outcome, NotPrinted)
            made.ipp.faults.clear()
            await print_again(made)

    run(main())


def test_answers_to_other_questions_are_no_answers() -> None:
    async def main() -> None:
        async with bench(KIND) as made:
            made.ipp.faults.wrong_request_id = True
            job = await made.print()
            assert isinstance(job.outcome, NotPrinted)
            made.ipp.faults.clear()
            await print_again(made)
            job.judge()

    run(main())


def test_a_job_goes_on_over_a_new_line_when_its_own_is_lost() -> None:
    async def main() -> None:
        async with bench(KIND, 0.1) as made, asyncio.TaskGroup() as group:
            printing = group.create_task(made.print(ROWS_OF_SEVERAL_CHUNKS), name="print")
            await made.clock.sleep(5)
            await made.ipp.hang_up()
            job = await printing
            job.judge()
            assert isinstance(job.outcome, Printed)

    run(main())


def test_a_printer_that_ends_its_connections_is_there_all_the_same() -> None:
    async def main() -> None:
        async with bench(KIND) as made:
            for _ in range(3):
                await made.ipp.hang_up()
                await made.clock.sleep(25)
                assert made.printer.status.state is DeviceState.READY
            assert {state.state for state in made.states} == {DeviceState.READY}
            assert isinstance((await made.print()).outcome, Printed)

    run(main())
