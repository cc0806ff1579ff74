"""What only POSLink terminals do: dialects, lines for each answer, batches that end, references that collide."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - the shop makes the Runtime that everybody else is given
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from drivers.base import CURRENCY, Driver
from drivers.faces import RunnerTerminal, face_of
from drivers.kit.memory_line import Delivery, MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.poslink import BASELINE_FRESH_S, DIALECT, OPEN_PAYMENT_S, PoslinkTerminal
from drivers.poslink_codec import Frame, encode_frame
from drivers.poslink_messages import payment_reference
from drivers.runner import NO_OPTIONS, Runner
from drivers.sim.poslink import PoslinkSimulator, SimulatorOptions
from hubd.errors import DeviceError
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    Cancelled,
    Declined,
    Enquiry,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Outcome,
    ReverseRequest,
    StillRunning,
    Stored,
    Unknown,
)
from hubd.runtime import Runtime, SystemIds

USD = "USD"
PLAIN = SimulatorOptions()
dialects = pytest.mark.parametrize(
    ("options", "settings"),
    [
        (PLAIN, NO_OPTIONS),
        (SimulatorOptions(with_length=True), {DIALECT: "length"}),
        (PLAIN, {DIALECT: "http"}),
        (SimulatorOptions(hangs_up=True), NO_OPTIONS),
    ],
    ids=["plain", "length", "http", "hangs_up"],
)


class Shop:
    """A runner and a simulator with lines in memory."""

    def __init__(self, group: asyncio.TaskGroup, options: SimulatorOptions, settings: dict[str, str]) -> None:
        self._group = group
        self.clock = VirtualClock()
        runtime = Runtime(self.clock, SystemIds(), random.Random(5), b"s" * 16)
        self.simulator = PoslinkSimulator(runtime, options)
        self.lines: list[MemoryStream] = []
        self.states: list[DeviceState] = []
        self.runner = Runner(
            "t1",
            PoslinkTerminal,
            "tcp://terminal:10009",
            self._open,
            runtime,
            lambda _, status: self.states.append(status.state),
            settings,
        )
        face = face_of(self.runner)
        assert isinstance(face, RunnerTerminal)
        self.terminal = face

    async def _open(self, url: str) -> MemoryStream:
        if not self.simulator.plugged:
            raise ConnectionRefusedError("nobody listens")
        hub, device = memory_pipe()
        self.lines.append(hub)
        self._group.create_task(self.simulator.serve(device), name=f"device:{len(self.lines)}")
        return hub

    async def state(self, state: DeviceState, timeout_s: float = 300.0) -> None:
        end = self.clock.monotonic() + timeout_s
        while self.terminal.status.state is not state:
            assert self.clock.monotonic() < end, self.terminal.status
            await self.clock.sleep(0.05)

    async def pay(self, amount_minor: int, payment_id: str = "", currency: str = USD) -> Outcome:
        request = AuthorizeRequest(payment_id or f"payment-{amount_minor}", Money(amount_minor, currency))
        return await self.terminal.authorize(request, lambda _: None)

    async def ask(self, amount_minor: int, baseline: str, payment_id: str = "") -> Enquiry:
        request = EnquiryRequest(payment_id or f"payment-{amount_minor}", Money(amount_minor, USD), baseline)
        return await self.terminal.enquire(request)


@asynccontextmanager
async def shop(options: SimulatorOptions = PLAIN, settings: object = NO_OPTIONS) -> AsyncIterator[Shop]:
    assert isinstance(settings, type(NO_OPTIONS) | dict)
    async with asyncio.TaskGroup() as group:
        made = Shop(group, options, dict(settings))
        task = group.create_task(made.runner.run(), name="runner")
        try:
            await made.state(DeviceState.READY)
            yield made
        finally:
            task.cancel()


# -- dialects and lines ----------------------------------------------------------------------------------------------


@dialects
def test_payments_in_every_dialect(options: SimulatorOptions, settings: dict[str, str]) -> None:
    async def main() -> None:
        async with shop(options, settings) as made:
            assert isinstance(await made.pay(2040), Approved)
            await made.state(DeviceState.READY)
            stored = await made.pay(1011)
            assert isinstance(stored, Stored)
            assert isinstance(await made.pay(1005), Declined)
            busy = await made.pay(1020)
            assert isinstance(busy, NotStarted)
            assert busy.reason == "terminal_busy"
            baseline = await made.terminal.baseline()
            assert baseline
            assert isinstance(await made.pay(1013), Unknown)
            await made.state(DeviceState.READY)
            found = await made.ask(1013, baseline)
            assert isinstance(found, Found)
            assert found.by_reference
            assert made.simulator.authorizations_received == 5
            flushed = await made.terminal.send_offline()
            assert (flushed.complete, flushed.remaining) == (True, 0)
            totals = await made.terminal.end_of_day()
            assert (totals.count, totals.total) == (3, Money(4064, USD))

    run(main())


def test_a_terminal_that_ends_every_line_is_asked_on_new_ones_and_not_called_gone() -> None:
    async def main() -> None:
        async with shop(SimulatorOptions(hangs_up=True)) as made:
            await made.clock.sleep(5)
            assert made.terminal.status.state is DeviceState.READY
            lines, states = len(made.lines), len(made.states)
            assert lines <= 3
            await made.clock.sleep(8 * 3600)
            assert made.terminal.status.state is DeviceState.READY
            assert made.states[states:] == []
            assert len(made.lines) - lines <= 8 * 3600 / Driver.keep_alive_s + 1, (
                "a line for every sign of life, and no more"
            )
            assert isinstance(await made.pay(2040), Approved)
            await made.simulator.unplug()
            outcome = await made.pay(700)
            assert isinstance(outcome, NotStarted), "the line could not be opened, so nothing can have left"
            await made.state(DeviceState.GONE)
            made.simulator.replug()
            await made.state(DeviceState.READY)
            assert isinstance(await made.pay(700), Approved)

    run(main())


def test_a_line_that_goes_once_is_lost_and_opened_again() -> None:
    async def main() -> None:
        async with shop() as made:
            made.lines[-1].cut()
            await made.clock.sleep(2)
            assert len(made.lines) == 2
            assert made.terminal.status.state is DeviceState.READY
            assert isinstance(await made.pay(2040), Approved)

    run(main())


@pytest.mark.parametrize("settings", [NO_OPTIONS, {DIALECT: "length"}, {DIALECT: "http"}])
def test_a_dialect_that_is_not_the_terminals_is_a_visible_problem(settings: dict[str, str]) -> None:
    async def main() -> None:
        options = SimulatorOptions(with_length=not settings)
        async with asyncio.TaskGroup() as group:
            made = Shop(group, options, dict(settings))
            if settings == {DIALECT: "http"}:
                made.simulator.faults.greeting = b"SSH-2.0-x\r\n".hex()
            task = group.create_task(made.runner.run(), name="runner")
            await made.clock.sleep(20)
            assert made.terminal.status.state in (DeviceState.FAULTY, DeviceState.SILENT)
            assert made.terminal.status.remedy
            assert isinstance(await made.pay(2040), NotStarted)
            task.cancel()

    run(main())


def test_over_http_nothing_can_be_cancelled() -> None:
    async def main() -> None:
        async with shop(settings={DIALECT: "http"}) as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(1090), name="pay")
            await made.clock.sleep(25)
            assert await made.terminal.abort() is False
            assert isinstance(await paying, Approved)

    run(main())


@dialects
def test_a_sale_that_is_cancelled_in_the_middle_is_stopped_where_that_is_possible(
    options: SimulatorOptions, settings: dict[str, str]
) -> None:
    async def main() -> None:
        async with shop(replace(options, keeps_going=True), settings) as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(1090), name="pay")
            await made.clock.sleep(25)
            paying.cancel()
            await asyncio.wait({paying})
            await made.clock.sleep(200)
            expected = "approved" if settings.get(DIALECT) == "http" else "cancelled"
            assert [t.state.value for t in made.simulator.ledger.transactions] == [expected]

    run(main())


def test_an_abort_whose_answer_is_lost_proves_nothing_for_a_while() -> None:
    """The terminal may have been at its host already when it was told to stop."""

    async def main() -> None:
        async with shop(SimulatorOptions(keeps_going=True)) as made, asyncio.TaskGroup() as group:
            assert isinstance(await made.pay(500), Approved)
            baseline = await made.terminal.baseline()
            paying = group.create_task(made.pay(1090), name="pay")
            await made.clock.sleep(25)
            assert await made.terminal.abort() is True
            made.lines[-1].cut()
            assert isinstance(await paying, Unknown)
            await made.state(DeviceState.READY)
            assert await made.ask(1090, baseline) == StillRunning()
            await made.clock.sleep(OPEN_PAYMENT_S)
            assert isinstance(await made.ask(1090, baseline), NotTaken)

    run(main())


def test_an_abort_is_answered_with_aborted() -> None:
    async def main() -> None:
        async with shop() as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(1090), name="pay")
            await made.clock.sleep(25)
            assert await made.terminal.abort() is True
            outcome = await paying
            assert isinstance(outcome, Cancelled)
            assert outcome.evidence.result_code == "100002"

    run(main())


# -- what is refused before it begins --------------------------------------------------------------------------------


def test_another_currency_is_refused_before_a_byte_leaves() -> None:
    async def main() -> None:
        async with shop() as made:
            before = made.lines[-1].bytes_written
            for amount, currency in ((2040, "EUR"), (2040, "JPY"), (0, USD), (1_000_000_000, USD)):
                outcome = await made.pay(amount, currency=currency)
                assert isinstance(outcome, NotStarted)
                assert outcome.reason == "amount_refused"
            assert made.lines[-1].bytes_written == before

    run(main())


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({CURRENCY: "JPY"}, "device.currency_unsupported"),
        ({CURRENCY: "KWD"}, "device.currency_unsupported"),
        ({CURRENCY: "dollars"}, "device.currency_unsupported"),
        ({DIALECT: "serial"}, "device.dialect_unknown"),
    ],
)
def test_options_that_cannot_be_used_are_an_error(settings: dict[str, str], code: str) -> None:
    async def main() -> None:
        runtime = Runtime(VirtualClock(), SystemIds(), random.Random(1), b"o" * 16)
        with pytest.raises(DeviceError) as caught:
            PoslinkTerminal(runtime, settings)
        assert caught.value.code == code
        assert caught.value.remedy

    run(main())


# -- batches ---------------------------------------------------------------------------------------------------------


def test_stored_payments_are_sent_and_those_that_the_host_refuses_remain() -> None:
    async def main() -> None:
        async with shop() as made:
            made.simulator.host_up = False
            assert (await made.terminal.diagnose()).host_reachable is False
            assert isinstance(await made.pay(1500), Stored)
            assert isinstance(await made.pay(1012), Stored)
            assert isinstance(await made.pay(900_000), Declined)
            refused = await made.terminal.send_offline()
            assert (refused.complete, refused.reason) == (False, "clearing_failed")
            with pytest.raises(DeviceError, match=r"device\.refused"):
                await made.terminal.end_of_day()
            made.simulator.host_up = True
            assert (await made.terminal.diagnose()).host_reachable is True
            sent = await made.terminal.send_offline()
            assert (sent.complete, sent.remaining, sent.reason) == (False, 1, "clearing_failed")
            nothing = await made.terminal.send_offline()
            assert (nothing.complete, nothing.remaining) == (True, 0)

    run(main())


@pytest.mark.parametrize("tells_history", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_batch_that_was_closed_meanwhile_takes_the_proof_with_it(tells_history: bool, first: bool) -> None:
    """The sale went through, its answer was lost, and the terminal closed its batch by its own clock."""

    async def main() -> None:
        async with shop(SimulatorOptions(tells_history=tells_history)) as made:
            if not first:
                assert isinstance(await made.pay(500), Approved)
            baseline = await made.terminal.baseline()
            assert isinstance(await made.pay(1013), Unknown)
            made.simulator.close_batch()
            await made.clock.sleep(OPEN_PAYMENT_S)
            enquiry = await made.ask(1013, baseline)
            assert isinstance(enquiry, Inconclusive), enquiry
            assert enquiry.reason == ("batch_unknown" if first and not tells_history else "batch_changed")

    run(main())


def test_a_sale_that_never_arrived_is_not_taken_although_others_used_the_terminal() -> None:
    async def main() -> None:
        async with shop(SimulatorOptions(tells_history=False)) as made:
            assert isinstance(await made.pay(500), Approved)
            baseline = await made.terminal.baseline()
            made.lines[-1].tamper = lambda _: []
            assert isinstance(await made.pay(2040), Unknown)
            await made.state(DeviceState.READY)
            assert isinstance(await made.pay(700), Approved)
            await made.clock.sleep(OPEN_PAYMENT_S)
            assert isinstance(await made.ask(2040, baseline), NotTaken)
            assert isinstance(await made.ask(2040, ""), Inconclusive)

    run(main())


def test_a_hub_that_has_just_started_does_not_call_a_payment_missing() -> None:
    """It may have crashed in the middle of it, and the terminal may answer while the customer types the PIN."""

    async def main() -> None:
        async with shop() as made:
            baseline = await made.terminal.baseline()
            assert await made.ask(2040, baseline) == StillRunning()
            await made.clock.sleep(OPEN_PAYMENT_S)
            assert isinstance(await made.ask(2040, baseline), NotTaken)

    run(main())


def test_a_sale_that_is_booked_while_the_books_are_read_is_found() -> None:
    async def main() -> None:
        async with shop() as made:
            assert isinstance(await made.pay(500), Approved)
            baseline = await made.terminal.baseline()
            await made.clock.sleep(OPEN_PAYMENT_S)
            ledger = made.simulator.ledger

            def book_late(data: bytes) -> list[Delivery]:
                if data[1:4] == b"R08":
                    at_us = made.clock.now_us()
                    reference = payment_reference("payment-2040")
                    first = ledger.transactions[0]
                    late = replace(first, trace=2, amount_minor=2040, reference=reference, at_us=at_us)
                    ledger.book(late)
                return [Delivery(data)]

            made.lines[-1].tamper = book_late
            assert isinstance(await made.ask(2040, baseline), Found)

    run(main())


def test_a_terminal_in_use_is_still_running() -> None:
    async def main() -> None:
        async with shop(SimulatorOptions(keeps_going=True)) as made, asyncio.TaskGroup() as group:
            assert isinstance(await made.pay(500), Approved)
            baseline = await made.terminal.baseline()
            hub, device = memory_pipe()
            group.create_task(made.simulator.serve(device), name="other till")
            await hub.write(encode_frame(Frame((("T00",), ("1.28",), ("01",), ("1090",), ("",), ("9",)))))
            await made.clock.sleep(1)
            assert await made.ask(2040, baseline) == StillRunning()
            await made.clock.sleep(120)
            assert isinstance(await made.ask(2040, baseline), NotTaken)
            await hub.close()

    run(main())


def test_a_baseline_is_read_again_when_it_is_old() -> None:
    async def main() -> None:
        async with shop() as made:
            assert isinstance(await made.pay(500), Approved)
            first = await made.terminal.baseline()
            assert first == await made.terminal.baseline()
            made.simulator.close_batch()
            assert await made.terminal.baseline() == first
            await made.clock.sleep(BASELINE_FRESH_S + 1)
            assert await made.terminal.baseline() != first

    run(main())


# -- references and reversals ----------------------------------------------------------------------------------------


def test_an_older_record_with_the_same_reference_is_not_the_payment() -> None:
    async def main() -> None:
        async with shop() as made:
            assert isinstance(await made.pay(2040, "payment-a"), Approved)
            ledger = made.simulator.ledger
            ledger.book(replace(ledger.transactions[0], reference=payment_reference("payment-b")))
            await made.clock.sleep(60)
            assert isinstance(await made.pay(500), Approved)
            baseline = await made.terminal.baseline()
            enquiry = await made.ask(2040, baseline, "payment-b")
            assert isinstance(enquiry, Inconclusive)
            assert enquiry.reason == "older_record"

    run(main())


def test_a_number_that_began_again_with_a_new_batch_undoes_nothing_else() -> None:
    """The receipt says 1, but 1 is another payment of the same amount by now."""

    async def main() -> None:
        async with shop() as made:
            assert isinstance(await made.pay(2040, "payment-a"), Approved)
            amount = Money(2040, USD)
            stale = ReverseRequest("reversal", amount, "1", payment_reference("payment-yesterday"))
            refused = await made.terminal.reverse(stale, lambda _: None)
            assert isinstance(refused, NotStarted)
            assert refused.reason == "other_payment"
            for request, reason in (
                (ReverseRequest("reversal", Money(2041, USD), "1"), "other_payment"),
                (ReverseRequest("reversal", amount, "7"), "not_in_batch"),
                (ReverseRequest("reversal", amount, "abc"), "receipt_number_unusable"),
                (ReverseRequest("reversal", amount, ""), "receipt_number_unusable"),
            ):
                refused = await made.terminal.reverse(request, lambda _: None)
                assert isinstance(refused, NotStarted)
                assert refused.reason == reason
            assert [t.state.value for t in made.simulator.ledger.transactions] == ["approved"]
            right = ReverseRequest("reversal", amount, "1", payment_reference("payment-a"))
            assert isinstance(await made.terminal.reverse(right, lambda _: None), Approved)
            again = await made.terminal.reverse(right, lambda _: None)
            assert again == Unknown("already_voided")

    run(main())


def test_the_command_leaves_once_whatever_the_line_answers() -> None:
    async def main(answer: bytes) -> None:
        async with shop() as made:
            written: list[bytes] = []

            def keep(data: bytes) -> list[Delivery]:
                written.append(data)
                return []

            hub = made.lines[-1]
            baseline = await made.terminal.baseline()
            hub.tamper = keep
            async with asyncio.TaskGroup() as group:
                paying = group.create_task(made.pay(2040), name="pay")
                await made.clock.sleep(0.1)
                hub.deliver(answer)
            outcome = await paying
            assert isinstance(outcome, Unknown), outcome
            assert len([data for data in written if data[1:4] == b"T00"]) == 1
            await made.state(DeviceState.READY)
            await made.clock.sleep(OPEN_PAYMENT_S)
            assert isinstance(await made.ask(2040, baseline), NotTaken)

    foreign = encode_frame(Frame((("0",), ("T01",), ("1.28",), ("000100",), ("DECLINE",))))
    for answer in (b"\x15", b"\x04", b"\x05", b"\x06\x04", b"", foreign, foreign[:-1] + b"\x00"):
        run(main(answer))


def test_an_echo_of_a_refusal_that_comes_after_the_next_acknowledgement_does_not_refuse_the_next_sale() -> None:
    """A refusal names no payment. The terminal's repetition must not be taken for its word on the next one."""

    async def main() -> None:
        async with shop() as made:
            hub = made.lines[-1]
            busy = encode_frame(Frame((("0",), ("T01",), ("1.28",), ("100099",), ("SERVICE BUSY",))))
            sales: list[bytes] = []

            def answer(data: bytes) -> list[Delivery]:
                if data[1:4] != b"T00":
                    return [Delivery(data)]
                sales.append(data)
                if len(sales) > 1:
                    return [Delivery(data)]
                hub.deliver(b"\x06" + busy)
                asyncio.get_running_loop().call_later(0.1, hub.deliver, busy)
                return []

            hub.tamper = answer
            made.simulator.options = replace(made.simulator.options, think_s=5)
            assert isinstance(await made.pay(2040), NotStarted)
            assert isinstance(await made.pay(500), Approved)
            assert len(sales) == 2

    run(main())
