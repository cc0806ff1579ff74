"""What every terminal driver must keep, whatever its line does: against its own simulator, in virtual time.

The judge is the simulator's ledger. "Recovered" means that after the line is well again an enquiry gives the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from drivers.kit.bench import Line, Spoil
from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from hubd.errors import DeviceError
from hubd.model.device import Capability, DeviceKind, DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    Declined,
    Enquiry,
    EnquiryRequest,
    FlushResult,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Outcome,
    StillRunning,
    Stored,
    Unknown,
)
from tests.contract.terminal_bench import (
    ENQUIRY_INTERVAL_S,
    KINDS,
    MOVED,
    REGISTRY,
    Bench,
    Payment,
    bench,
    terminals_that,
)

EUR = "EUR"
AMOUNT = Money(2040, EUR)
LATE_S = (8.0, 250.0)
"""Past the time for an acknowledgement, and past the time for an answer."""

terminals = terminals_that()
terminals_that_tell = terminals_that(Capability.QUERY_LAST)
directions = pytest.mark.parametrize("direction", ["hub", "device"])


def spoiled(line: Line, direction: str, spoil: Spoil | None) -> None:
    """Watch the line and spoil one direction."""
    line.watch(spoil if direction == "hub" else None, spoil if direction == "device" else None)


def nth(index: int, deliver: Callable[[bytes], list[Delivery]]) -> Spoil:
    """Spoil the block with this index and no other."""
    return lambda n, data: deliver(data) if n == index else [Delivery(data)]


async def blocks_of_a_payment(driver_id: str, url: str, direction: str, amount: Money = AMOUNT) -> list[bytes]:
    async with bench(driver_id, url) as made:
        await made.terminal.baseline()
        made.line.watch()
        await made.pay(amount)
        return list(made.line.hub_blocks if direction == "hub" else made.line.device_blocks)


def pay_with(driver_id: str, url: str, direction: str, spoil: Spoil, *, may_stay_unknown: bool = False) -> Payment:
    """One payment while one direction of its line is spoiled; judged by the terminal's books."""

    async def main() -> Payment:
        async with bench(driver_id, url) as made:
            await made.terminal.baseline()
            spoiled(made.line, direction, spoil)
            payment = await made.pay(AMOUNT)
            payment.judge(AMOUNT, may_stay_unknown=may_stay_unknown)
            await pay_again(made)
            return payment

    return run(main())


async def pay_again(made: Bench) -> None:
    """The terminal works again: at most the next few payments hear that it is still busy with the lost one."""
    made.line.watch()
    for _ in range(4):
        await made.ready()
        payment = await made.pay(Money(777, EUR))
        payment.judge(Money(777, EUR))
        if isinstance(payment.verdict, Approved):
            return
        assert isinstance(payment.verdict, (NotStarted, NotTaken)), payment.verdict
        await made.clock.sleep(300)
    raise AssertionError("it did not recover")


def test_every_registered_terminal_driver_is_under_this_contract() -> None:
    manifests = [entry.manifest for entry in REGISTRY.entries]
    assert all(manifests), "a driver's manifest cannot be read"
    ids = {manifest.id for manifest in manifests if manifest and manifest.kind is DeviceKind.TERMINAL}
    assert ids == set(KINDS)


@terminals
def test_identifies_itself(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            assert made.terminal.status.terminal_id == KINDS[driver_id].terminal_id
            assert made.terminal.capabilities == REGISTRY.manifest(driver_id).capabilities

    run(main())


@terminals
@pytest.mark.parametrize(
    ("amount_minor", "verdict"),
    [
        (2000, Approved), (2040, Approved), (1005, Declined), (1011, Stored), (1012, Stored), (1020, NotStarted),
        (1090, Approved),
    ],
)  # fmt: skip
def test_test_amounts_have_their_outcomes(driver_id: str, url: str, amount_minor: int, verdict: type[Outcome]) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            payment = await made.pay(Money(amount_minor, EUR))
            wanted = Approved if verdict is Stored and not KINDS[driver_id].tells_stored else verdict
            assert type(payment.outcome) is wanted, payment.outcome
            payment.judge(Money(amount_minor, EUR))

    run(main())


@terminals_that_tell
def test_lost_answer_is_unknown_and_an_enquiry_finds_it(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            payment = await made.pay(Money(1013, EUR))
            assert isinstance(payment.outcome, Unknown)
            assert isinstance(payment.verdict, Approved)
            payment.judge(Money(1013, EUR))
            lost = await made.pay(Money(1014, EUR))
            assert isinstance(lost.outcome, Unknown)
            assert isinstance(lost.enquiry, Inconclusive)
            lost.judge(Money(1014, EUR), may_stay_unknown=True)

    run(main())


@terminals
@directions
def test_frames_split_at_every_byte_change_nothing(driver_id: str, url: str, direction: str) -> None:
    blocks = run(blocks_of_a_payment(driver_id, url, direction))
    for split in KINDS[driver_id].places(1, max(map(len, blocks))):

        def cut_in_two(_: int, data: bytes, split: int = split) -> list[Delivery]:
            return [Delivery(data[:split]), Delivery(data[split:], 0.05)]

        assert isinstance(pay_with(driver_id, url, direction, cut_in_two).outcome, Approved)


@terminals
def test_byte_by_byte_changes_nothing(driver_id: str, url: str) -> None:
    def slow(_: int, data: bytes) -> list[Delivery]:
        return [Delivery(data[at : at + 1], 0.02) for at in range(len(data))]

    for direction in ("hub", "device"):
        assert isinstance(pay_with(driver_id, url, direction, slow).outcome, Approved)


@terminals
@directions
def test_every_lost_block_is_recovered(driver_id: str, url: str, direction: str) -> None:
    blocks = run(blocks_of_a_payment(driver_id, url, direction))
    payments = [pay_with(driver_id, url, direction, nth(index, lambda _: [])) for index in range(len(blocks))]
    assert not any(payment.refused_without_proof for payment in payments), payments


@terminals
@directions
def test_every_doubled_block_is_harmless(driver_id: str, url: str, direction: str) -> None:
    blocks = run(blocks_of_a_payment(driver_id, url, direction))
    for index in range(len(blocks)):
        payment = pay_with(driver_id, url, direction, nth(index, lambda data: [Delivery(data), Delivery(data)]))
        assert not payment.refused_without_proof, index


@terminals
@directions
@pytest.mark.parametrize("late_s", LATE_S)
def test_every_late_block_is_recovered(driver_id: str, url: str, direction: str, late_s: float) -> None:
    blocks = run(blocks_of_a_payment(driver_id, url, direction))
    for index in range(len(blocks)):
        payment = pay_with(driver_id, url, direction, nth(index, lambda data: [Delivery(data, late_s)]))
        assert not payment.refused_without_proof, index


@terminals
@directions
@pytest.mark.timeout(120)
def test_every_corrupted_byte_gives_no_wrong_verdict(driver_id: str, url: str, direction: str) -> None:
    blocks = run(blocks_of_a_payment(driver_id, url, direction))
    for index, block in enumerate(blocks):
        for at in KINDS[driver_id].places(len(block)):
            flip = 1 << ((index + at) % 8)

            def corrupt(data: bytes, at: int = at, flip: int = flip) -> list[Delivery]:
                return [Delivery(data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :])]

            # TCP has its own check sum; without it a changed amount is a payment that only a person can explain.
            pay_with(driver_id, url, direction, nth(index, corrupt), may_stay_unknown=url.startswith("tcp"))


@terminals
@directions
@pytest.mark.timeout(120)
def test_line_cut_at_every_byte_is_recovered(driver_id: str, url: str, direction: str) -> None:
    size = sum(map(len, run(blocks_of_a_payment(driver_id, url, direction))))

    async def main(at: int) -> None:
        async with bench(driver_id, url) as made:
            await made.terminal.baseline()
            made.line.watch()
            end = made.line.hub if direction == "hub" else made.line.device
            end.cut_after = end.bytes_written + at
            payment = await made.pay(AMOUNT)
            assert not isinstance(payment.outcome, (Declined, Cancelled))
            payment.judge(AMOUNT)
            await made.ready()

    for at in KINDS[driver_id].places(size + 1):
        run(main(at))


@terminals_that_tell
@directions
def test_a_spoiled_enquiry_is_asked_again(driver_id: str, url: str, direction: str) -> None:
    """The answer is lost, and then the line on which the hub asks is bad as well."""

    async def main(index: int) -> int:
        async with bench(driver_id, url) as made:
            await made.terminal.baseline()
            watched: list[Line] = []

            def second(line: Line) -> None:
                if not watched:
                    spoiled(line, direction, nth(index, lambda _: []))
                    watched.append(line)

            made.on_line = second
            payment = await made.pay(Money(1013, EUR))
            payment.judge(Money(1013, EUR))
            return len(watched[0].hub_blocks if direction == "hub" else watched[0].device_blocks)

    for index in range(run(main(10_000))):
        run(main(index))


@terminals_that(Capability.REVERSE, Capability.QUERY_LAST)
@directions
def test_a_reversal_survives_every_lost_and_doubled_block(driver_id: str, url: str, direction: str) -> None:
    async def main(index: int, deliver: Callable[[bytes], list[Delivery]]) -> int:
        async with bench(driver_id, url) as made:
            paid = (await made.pay(AMOUNT)).outcome
            assert isinstance(paid, Approved)
            spoiled(made.line, direction, nth(index, deliver))
            line = made.line
            reversal = await made.reverse(AMOUNT, paid.evidence.receipt_number)
            assert reversal.commands <= 1
            undone = made.simulator.ledger.transactions[0].state == "reversed"
            # A driver may ask before it sends: what is lost then has moved no money.
            assert isinstance(reversal.verdict, Approved if undone else (NotTaken, NotStarted)), reversal
            return len(line.hub_blocks if direction == "hub" else line.device_blocks)

    for deliver in (lambda _: [], lambda data: [Delivery(data), Delivery(data)]):
        for index in range(run(main(10_000, deliver))):
            run(main(index, deliver))


@terminals_that(Capability.REVERSE)
def test_a_reversal_of_another_payment_is_unknown(driver_id: str, url: str) -> None:
    async def main(fault: str) -> None:
        async with bench(driver_id, url) as made:
            first = (await made.pay(Money(222, EUR))).outcome
            await made.pay(Money(333, EUR))
            assert isinstance(first, Approved)
            made.simulator.faults.set(fault, True)
            reversal = await made.reverse(Money(222, EUR), first.evidence.receipt_number)
            assert isinstance(reversal.outcome, Unknown), reversal.outcome
            assert isinstance(reversal.verdict, Unknown), reversal.verdict

    run(main("reverse_last"))


@terminals
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("silent", True), ("babble", True), ("wrong_amount", True), ("wrong_receipt", True), ("answer_twice", True),
        ("answer_delay_s", 7.0), ("answer_delay_s", 200.0), ("split_bytes", 1), ("unplug_at_byte", 40),
    ],
)  # fmt: skip
def test_every_fault_of_the_menu_is_survived(driver_id: str, url: str, name: str, value: object) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            baseline = await made.terminal.baseline()
            made.line.watch()
            made.simulator.faults.set(name, value)
            outcome = await made.terminal.authorize(made.request(AMOUNT), lambda _: None)
            commands = made.money_blocks
            assert not Payment(outcome, baseline, set(), made.can_ask, commands=commands).refused_without_proof, outcome
            made.simulator.faults.clear()
            if isinstance(outcome, Unknown):
                await made.ready()
                request = EnquiryRequest("payment-1", AMOUNT, baseline)
                enquiry = await made.terminal.enquire(request)
                while isinstance(enquiry, StillRunning):  # for a driver that cannot tell a sale from an idle terminal
                    await made.clock.sleep(ENQUIRY_INTERVAL_S)
                    enquiry = await made.terminal.enquire(request)
                moved = any(transaction.state in MOVED for transaction in made.simulator.ledger.transactions)
                if made.can_ask:
                    assert isinstance(enquiry, Found if moved else NotTaken), enquiry
                else:
                    assert isinstance(enquiry, Inconclusive), enquiry
            await made.ready()
            assert isinstance((await made.pay(Money(555, EUR))).outcome, Approved)

    run(main())


@terminals_that(Capability.ABORT)
def test_abort_asks_the_terminal_and_the_terminal_says_cancelled(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made, asyncio.TaskGroup() as group:
            assert await made.terminal.abort() is False, "there was nothing to abort"
            paying = group.create_task(made.pay(Money(1090, EUR)), name="pay")
            await made.clock.sleep(25)
            assert made.terminal.status.state is DeviceState.BUSY
            assert await made.terminal.abort() is True
            payment = await paying
            assert isinstance(payment.outcome, Cancelled)
            assert made.clock.monotonic() < 40
            payment.judge(Money(1090, EUR))

    run(main())


@terminals_that(Capability.ABORT, Capability.QUERY_LAST)
def test_cancellation_stops_the_terminal_and_is_passed_on(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made, asyncio.TaskGroup() as group:
            baseline = await made.terminal.baseline()
            # It would finish without us, so a lost line alone does not stop it: the abort must have arrived.
            made.simulator.options = replace(made.simulator.options, keeps_going=True)
            paying = group.create_task(made.pay(Money(1090, EUR)), name="pay")
            await made.clock.sleep(25)
            paying.cancel()
            await asyncio.wait({paying})
            assert paying.cancelled()
            await made.ready()
            enquiry = await made.terminal.enquire(EnquiryRequest("payment-1", Money(1090, EUR), baseline))
            # A terminal that is asked by the payment's own id repeats what it said then.
            stopped = isinstance(enquiry, Found) and isinstance(enquiry.outcome, Cancelled)
            assert stopped or isinstance(enquiry, NotTaken), enquiry
            assert [t.state.value for t in made.simulator.ledger.transactions] == ["cancelled"]

    run(main())


@terminals_that_tell
def test_a_terminal_that_goes_on_without_its_line_is_still_running_and_then_found(driver_id: str, url: str) -> None:
    """The customer pays while the cable is out: the enquiry must neither deny it nor guess."""

    async def main() -> None:
        async with bench(driver_id, url) as made, asyncio.TaskGroup() as group:
            baseline = await made.terminal.baseline()
            made.simulator.options = replace(made.simulator.options, keeps_going=True)
            paying = group.create_task(
                made.terminal.authorize(made.request(Money(1090, EUR)), lambda _: None), name="pay"
            )
            await made.clock.sleep(25)
            made.line.hub.cut()
            assert isinstance(await paying, Unknown)
            answers: list[Enquiry] = []
            while not answers or not isinstance(answers[-1], Found):
                await made.clock.sleep(10)
                answers.append(await made.terminal.enquire(EnquiryRequest("payment-1", Money(1090, EUR), baseline)))
                assert len(answers) < 30, answers
            assert answers[0] == StillRunning()
            assert not any(isinstance(answer, NotTaken) for answer in answers)
            assert isinstance(answers[-1], Found)
            assert isinstance(answers[-1].outcome, Approved)
            assert made.simulator.authorizations_received == 1

    run(main())


@terminals
def test_one_dialogue_at_a_time(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(Money(1090, EUR)), name="pay")
            await made.clock.sleep(5)
            second = await made.terminal.authorize(made.request(AMOUNT), lambda _: None)
            assert isinstance(second, NotStarted)
            assert second.reason == "terminal_busy"
            before = made.clock.monotonic()
            assert await made.terminal.enquire(EnquiryRequest("p", AMOUNT, "0000")) == StillRunning()
            assert made.clock.monotonic() == before, "a till waits for this answer"
            assert await made.terminal.baseline() == ""
            assert (await made.terminal.send_offline()) == FlushResult(complete=False, reason="terminal_busy")
            with pytest.raises(DeviceError, match=r"device\.busy"):
                await made.terminal.end_of_day()
            (await paying).judge(Money(1090, EUR))
            assert made.simulator.authorizations_received == 1

    run(main())


@terminals
def test_a_gone_terminal_starts_nothing_and_comes_back(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            await made.simulator.unplug()
            await made.until(lambda: made.terminal.status.state is DeviceState.GONE, "gone")
            assert made.terminal.status.remedy
            outcome = await made.terminal.authorize(made.request(AMOUNT), lambda _: None)
            assert isinstance(outcome, NotStarted)
            assert outcome.reason == "terminal_unreachable"
            assert isinstance(await made.terminal.enquire(EnquiryRequest("p", AMOUNT, "0000")), Inconclusive)
            with pytest.raises(DeviceError, match=r"device\.gone"):
                await made.terminal.diagnose()
            await made.clock.sleep(3600)
            made.simulator.replug()
            await made.until(lambda: made.terminal.status.state is DeviceState.READY, "ready again", 60)
            (await made.pay(AMOUNT)).judge(AMOUNT)

    run(main())


@terminals
def test_a_terminal_that_died_in_the_night_is_noticed_and_comes_back(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            await made.clock.sleep(8 * 3600)
            assert made.terminal.status.state is DeviceState.READY
            assert len(made.lines) == 1, "an idle night is no reason for a new line"
            made.simulator.faults.silent = True
            await made.until(lambda: made.terminal.status.state is DeviceState.SILENT, "silent", 180)
            made.simulator.faults.silent = False
            await made.ready()
            (await made.pay(AMOUNT)).judge(AMOUNT)

    run(main())


@terminals
def test_a_device_that_speaks_something_else_is_rejected_and_not_waited_for(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.faults.greeting = (b"\x00\x00\x00\x3eVER|APP 1.0" * 400).hex()
            await made.simulator.unplug()
            made.simulator.replug()
            await made.until(lambda: made.terminal.status.state is DeviceState.FAULTY, "rejected", 30)
            outcome = await made.terminal.authorize(made.request(AMOUNT), lambda _: None)
            assert isinstance(outcome, NotStarted)

    run(main())


@terminals
def test_refused_registration_is_a_visible_problem(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.faults.refuse_registration = True
            await made.simulator.unplug()
            made.simulator.replug()
            await made.until(lambda: made.terminal.status.state is DeviceState.FAULTY, "faulty", 60)
            assert made.terminal.status.problem == KINDS[driver_id].refused_problem
            made.simulator.faults.clear()
            await made.ready()

    run(main())


@terminals_that(Capability.SEND_OFFLINE, Capability.DIAGNOSE, Capability.END_OF_DAY)
def test_host_down_stores_small_chip_payments_and_the_flush_tells(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            made.simulator.host_up = False
            assert (await made.terminal.diagnose()).host_reachable is False
            stored = await made.pay(Money(1500, EUR))
            assert isinstance(stored.outcome, Stored)
            above = await made.pay(Money(900_000, EUR))
            assert isinstance(above.outcome, Declined)
            made.simulator.technology = "contactless"
            assert isinstance((await made.pay(Money(1500, EUR))).outcome, Declined)
            assert (await made.terminal.send_offline()).reason == "clearing_failed"
            assert [t.state for t in made.simulator.ledger.stored()] == ["stored"]
            made.simulator.host_up = True
            assert (await made.terminal.send_offline()).complete
            assert made.simulator.ledger.stored() == ()
            totals = await made.terminal.end_of_day()
            assert (totals.count, totals.total) == (1, Money(1500, EUR))

    run(main())


@terminals
def test_an_echo_of_a_refusal_does_not_refuse_the_next_payment(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            await made.terminal.baseline()
            made.line.watch(spoil_device=lambda _, data: [Delivery(data), Delivery(data, 0.1)])
            refused = await made.terminal.authorize(made.request(Money(1020, EUR)), lambda _: None)
            assert isinstance(refused, NotStarted)
            made.line.watch()
            payment = await made.pay(AMOUNT)
            payment.judge(AMOUNT)
            assert isinstance(payment.outcome, Approved)

    run(main())


@terminals_that(Capability.QUERY_LAST, numbered=True)
def test_a_receipt_number_out_of_order_is_asked_for_again(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            await made.pay(AMOUNT)
            made.simulator.faults.wrong_receipt = True
            payment = await made.pay(AMOUNT)
            assert isinstance(payment.outcome, Unknown)
            assert isinstance(payment.verdict, Approved)
            assert payment.verdict.evidence.receipt_number == payment.booked[0].receipt_number

    run(main())


@terminals_that(Capability.QUERY_LAST, numbered=True)
def test_what_happened_while_the_line_was_down_moves_the_baseline(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            await made.pay(AMOUNT)
            assert await made.terminal.baseline() == "0001"
            ledger = made.simulator.ledger
            made.line.hub.cut()
            ledger.book(replace(ledger.transactions[0], trace=ledger.next_trace, receipt_number=ledger.next_receipt))
            await made.until(lambda: len(made.lines) == 2, "a new line")
            await made.ready()
            assert await made.terminal.baseline() == "0002"

    run(main())


@terminals
@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_ready_callbacks_gives_the_same_verdicts(driver_id: str, url: str, seed: int) -> None:
    async def main() -> list[str]:
        async with bench(driver_id, url) as made:
            verdicts = []
            for amount in (2000, 1005, 1011, 1013, 1020, 1090):
                payment = await made.pay(Money(amount, EUR))
                payment.judge(Money(amount, EUR))
                verdicts.append(type(payment.verdict).__name__)
                await made.ready()
            return verdicts

    stored = "Stored" if KINDS[driver_id].tells_stored else "Approved"
    lost = "Approved" if Capability.QUERY_LAST in REGISTRY.manifest(driver_id).capabilities else "Unknown"
    assert run(main(), seed) == ["Approved", "Declined", stored, lost, "NotStarted", "Approved"]


@terminals
def test_close_may_be_called_again(driver_id: str, url: str) -> None:
    async def main() -> Bench:
        async with bench(driver_id, url) as made:
            await made.runner.driver.close()
            await made.runner.driver.close()
            await made.until(lambda: len(made.lines) == 2, "a new line")
            await made.ready()
        await made.runner.driver.close()
        assert made.terminal.status.state is DeviceState.GONE
        return made

    assert len(run(main()).lines) == 2
