"""Caisse-AP terminals that keep their line, close it behind every answer, or keep it and listen no more."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - the tests make the Runtime that everybody else is given
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from drivers.base import Driver, Lines
from drivers.caisse_ap import CaisseApTerminal
from drivers.caisse_ap_codec import Identification, encode_request
from drivers.kit.bench import Line
from drivers.kit.memory_line import Delivery, MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.runner import accept_none
from drivers.sim.caisse_ap import CaisseApSimulator, LineHabit
from hubd.errors import DeviceError
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    Cancelled,
    Declined,
    EnquiryRequest,
    Evidence,
    Inconclusive,
    NotStarted,
    Outcome,
    ReverseRequest,
    Unknown,
)
from hubd.runtime import Runtime, SystemIds
from tests.contract.terminal_bench import Bench, bench

URL = "tcp://terminal:8888"
AMOUNT = Money(2040, "EUR")
PAYMENT_ID = "0190a5c2-7b4e-7cc1-8f00-0123456789ab"
habits = pytest.mark.parametrize("habit", list(LineHabit))


@asynccontextmanager
async def terminal(habit: LineHabit) -> AsyncIterator[Bench]:
    """A ready terminal with this habit from its next line on."""
    async with bench("caisse_ap", URL) as made:
        simulated(made).options = replace(simulated(made).options, lines=habit)
        made.line.hub.cut()
        lines = len(made.lines)
        await made.until(lambda: len(made.lines) > lines, "a new line")
        await made.ready()
        yield made


def simulated(made: Bench) -> CaisseApSimulator:
    assert isinstance(made.simulator, CaisseApSimulator)
    return made.simulator


@habits
def test_payments_and_signs_of_life_follow_each_other(habit: LineHabit) -> None:
    async def main() -> None:
        async with terminal(habit) as made:
            for amount, verdict in ((2000, Approved), (1005, Declined), (1020, NotStarted), (1090, Approved)):
                payment = await made.pay(Money(amount, "EUR"))
                assert isinstance(payment.outcome, verdict), payment.outcome
                payment.judge(Money(amount, "EUR"))
            begun = len(made.lines)
            await made.clock.sleep(60 * Driver.keep_alive_s)
            assert made.terminal.status.state is DeviceState.READY
            assert {DeviceState.SILENT, DeviceState.GONE, DeviceState.FAULTY}.isdisjoint(
                status.state for status in made.states[1:]
            )
            assert (len(made.lines) == begun) is (habit is LineHabit.KEPT)
            assert sum(line.hub.alive for line in made.lines) == (habit is LineHabit.KEPT), "lines are left open"
            assert simulated(made).authorizations_received == 4

    run(main())


@habits
@pytest.mark.parametrize("direction", ["hub", "device"])
def test_every_line_of_a_payment_may_be_cut_at_every_byte(habit: LineHabit, direction: str) -> None:
    async def main(at: int) -> Outcome:
        async with terminal(habit) as made:
            left = [at]

            def spoil(data: bytes) -> list[Delivery]:
                """Count bytes over all lines, as if one cable carried them."""
                allowed, left[0] = left[0], left[0] - len(data)
                if 0 <= allowed < len(data):
                    asyncio.get_running_loop().call_soon(made.line.hub.cut)
                    return [Delivery(data[:allowed])]
                return [Delivery(data)]

            def watch(line: Line) -> None:
                (line.hub if direction == "hub" else line.device).tamper = spoil

            made.on_line = watch
            watch(made.line)
            payment = await made.pay(AMOUNT)
            assert not isinstance(payment.outcome, (Declined, Cancelled)), payment.outcome
            payment.judge(AMOUNT)
            if isinstance(payment.outcome, NotStarted):
                assert simulated(made).authorizations_received == 0
            left[0] = 1_000_000
            await made.ready()
            again = await made.pay(AMOUNT)
            assert isinstance(again.outcome, Approved), again.outcome
            return payment.outcome

    outcomes = [run(main(at)) for at in range(0, 300, 3)]
    assert any(isinstance(outcome, Unknown) for outcome in outcomes)
    assert isinstance(outcomes[-1], Approved)


@habits
def test_a_terminal_that_is_gone_starts_nothing(habit: LineHabit) -> None:
    async def main() -> None:
        async with terminal(habit) as made:
            simulated(made).plugged = False
            for line in made.lines:
                line.hub.cut()
            outcome = await made.terminal.authorize(made.request(AMOUNT), lambda _: None)
            assert isinstance(outcome, NotStarted)
            assert outcome.reason == "terminal_unreachable"
            await made.until(lambda: made.terminal.status.state is DeviceState.GONE, "gone", 3 * Driver.keep_alive_s)
            made.simulator.replug()
            await made.ready()
            assert isinstance((await made.pay(AMOUNT)).outcome, Approved)

    run(main())


@habits
def test_a_terminal_that_does_not_answer_is_asked_for_no_money(habit: LineHabit) -> None:
    """Nobody could ask it later what became of it."""

    async def main() -> None:
        async with terminal(habit) as made:
            made.simulator.faults.silent = True
            outcome = await made.terminal.authorize(made.request(AMOUNT), lambda _: None)
            assert isinstance(outcome, NotStarted)
            assert outcome.reason == "terminal_unreachable"
            assert simulated(made).authorizations_received == 0
            await made.until(lambda: made.terminal.status.state is DeviceState.SILENT, "silent")
            made.simulator.faults.silent = False
            await made.ready()

    run(main())


def test_a_busy_terminal_is_asked_for_no_money() -> None:
    async def main() -> None:
        async with terminal(LineHabit.CLOSED) as made:
            simulated(made).busy = True
            outcome = await made.terminal.authorize(made.request(AMOUNT), lambda _: None)
            assert isinstance(outcome, NotStarted)
            assert outcome.reason == "terminal_busy"
            assert simulated(made).authorizations_received == 0
            asked = len(made.lines)
            await made.clock.sleep(10 * Driver.keep_alive_s)
            assert made.terminal.status.state is DeviceState.READY
            assert 5 <= len(made.lines) - asked <= 10, "it is not asked more often because it is busy"
            made.line.hub.cut()
            await made.simulator.unplug()
            await made.until(lambda: made.terminal.status.state is DeviceState.GONE, "gone")
            made.simulator.replug()
            simulated(made).busy = True
            await made.until(lambda: made.terminal.status.problem == "terminal_busy", "busy when it comes back")
            simulated(made).busy = False
            await made.ready()

    run(main())


def test_what_a_terminal_says_unasked_is_not_taken_for_an_answer() -> None:
    """A late echo of a refusal lies on the kept line when the next payment begins."""

    async def main() -> None:
        async with terminal(LineHabit.KEPT) as made:
            made.line.watch(spoil_device=lambda _, data: [Delivery(data), Delivery(data, 1.0)])
            assert isinstance((await made.pay(Money(1005, "EUR"))).outcome, Declined)
            await made.clock.sleep(5)
            lines = len(made.lines)
            payment = await made.pay(Money(1105, "EUR"))
            assert isinstance(payment.outcome, Declined)
            assert len(made.lines) == lines + 1, "it was asked on the line on which it speaks unasked"
            payment.judge(Money(1105, "EUR"))
            assert isinstance((await made.pay(AMOUNT)).outcome, Approved)

    run(main())


def test_a_terminal_that_ends_an_idle_line_is_given_one_for_each_request() -> None:
    async def main() -> None:
        async with bench("caisse_ap", URL) as made:
            await made.clock.sleep(5)
            await made.line.device.close()
            await made.until(lambda: len(made.lines) == 2, "a new line")
            await made.ready()
            for count in (4, 6):
                assert not any(line.hub.alive for line in made.lines)
                assert isinstance((await made.pay(AMOUNT)).outcome, Approved)
                assert len(made.lines) == count

    run(main())


@pytest.mark.parametrize("echoes", [True, False])
def test_a_reference_that_comes_back_is_compared(echoes: bool) -> None:
    async def main() -> None:
        async with terminal(LineHabit.KEPT) as made:
            options = simulated(made).options
            simulated(made).options = replace(options, echoes_reference=echoes)
            request = AuthorizeRequest(PAYMENT_ID, AMOUNT)
            assert isinstance(await made.terminal.authorize(request, lambda _: None), Approved)
            assert simulated(made).ledger.transactions[-1].reference == PAYMENT_ID.replace("-", "")
            made.simulator.faults.wrong_receipt = True
            outcome = await made.terminal.authorize(request, lambda _: None)
            assert isinstance(outcome, Unknown if echoes else Approved)

    run(main())


def test_a_cancelled_payment_leaves_no_usable_line_and_is_passed_on() -> None:
    async def main() -> None:
        async with terminal(LineHabit.KEPT) as made, asyncio.TaskGroup() as group:
            paying = group.create_task(made.pay(Money(1090, "EUR")), name="pay")
            await made.clock.sleep(25)
            assert await made.terminal.abort() is False
            lines = len(made.lines)
            paying.cancel()
            await asyncio.wait({paying})
            assert paying.cancelled()
            await made.until(lambda: len(made.lines) > lines, "a new line")
            await made.ready()
            assert [t.state.value for t in made.simulator.ledger.transactions] == ["cancelled"]

    run(main())


def test_a_lost_answer_stays_unknown_because_nothing_can_be_asked() -> None:
    async def main() -> None:
        async with terminal(LineHabit.KEPT) as made:
            made.line.watch()
            payment = await made.pay(Money(1013, "EUR"))
            assert isinstance(payment.outcome, Unknown)
            assert payment.enquiry == Inconclusive("no_enquiry", Evidence())
            assert [t.state.value for t in payment.booked] == ["approved"]
            assert payment.commands == 1

    run(main())


def test_what_the_protocol_lacks_is_refused() -> None:
    async def main() -> None:
        async with terminal(LineHabit.KEPT) as made:
            reversal = ReverseRequest("r", AMOUNT, "")
            assert isinstance(await made.terminal.reverse(reversal, lambda _: None), NotStarted)
            assert (await made.terminal.send_offline()).reason == "function_not_possible"
            for ask in (made.terminal.end_of_day, made.terminal.diagnose):
                with pytest.raises(DeviceError, match="function_not_possible"):
                    await ask()
            assert simulated(made).authorizations_received == 0

    run(main())


@pytest.mark.parametrize(("amount_minor", "currency"), [(0, "EUR"), (-5, "EUR"), (10**12, "EUR"), (100, "JPY")])
def test_an_amount_that_cannot_be_said_starts_nothing(amount_minor: int, currency: str) -> None:
    async def main() -> None:
        async with terminal(LineHabit.KEPT) as made:
            made.line.watch()
            outcome = await made.terminal.authorize(made.request(Money(amount_minor, currency)), lambda _: None)
            assert isinstance(outcome, NotStarted)
            assert outcome.reason == "amount_refused"
            assert made.line.hub_blocks == []

    run(main())


def test_a_location_whose_currency_has_no_number_is_told_where_the_terminal_is_listed() -> None:
    runtime = Runtime(VirtualClock(), SystemIds(), random.Random(1), b"t" * 16)
    with pytest.raises(DeviceError, match="SEK") as caught:
        CaisseApTerminal(runtime, {"currency": "SEK"})
    assert caught.value.code == "device.currency_unknown"


def test_a_driver_that_is_closed_while_it_opens_a_line_leaves_none() -> None:
    async def main() -> None:
        opened: list[MemoryStream] = []
        asking, go = asyncio.Event(), asyncio.Event()

        async def another() -> MemoryStream:
            asking.set()
            await go.wait()
            hub, _ = memory_pipe()
            opened.append(hub)
            return hub

        runtime = Runtime(VirtualClock(), SystemIds(), random.Random(1), b"t" * 16)
        driver = CaisseApTerminal(runtime)
        hub, device = memory_pipe()
        driver.attach(hub, URL, Lines(another, lambda port, serve: accept_none(port, "terminal", serve)))
        async with asyncio.TaskGroup() as group:
            pumping = group.create_task(driver.pump(), name="pump")
            identifying = group.create_task(driver.identify(), name="identify")
            request = encode_request(Identification("01"))
            assert await device.read(len(request)) == request
            await device.write(b"CZ0040301CA00201CD001IAE00210")
            await device.close()
            await identifying
            paying = group.create_task(driver.authorize(AuthorizeRequest("p", AMOUNT), lambda _: None), name="pay")
            await asking.wait()
            await driver.close()
            go.set()
            outcome = await paying
            assert isinstance(outcome, NotStarted)
            assert outcome.reason == "terminal_unreachable"
            await pumping
        assert not driver.usable
        assert [stream.alive for stream in opened] == [False]
        with pytest.raises(DeviceError, match="closed"):
            await driver.check()
        assert await driver.enquire(EnquiryRequest("p", AMOUNT, "")) == Inconclusive("no_enquiry", Evidence())

    run(main())
