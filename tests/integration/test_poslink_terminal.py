"""The POSLink driver on a real TCP line, against the simulator as a program of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from drivers.poslink import DIALECT, PoslinkTerminal
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    Progress,
    ReverseRequest,
    Stored,
    Unknown,
)
from tests.rigs.process import wait_until
from tests.rigs.terminal import STATE_TIMEOUT_S, Counter, SimulatorProgram, counter


def shop(url: str, dialect: str = "plain") -> AbstractAsyncContextManager[Counter]:
    return counter(PoslinkTerminal, url, {DIALECT: dialect}, currency="USD")


Make = Callable[..., SimulatorProgram]


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Make]:
    made: list[SimulatorProgram] = []

    def make(*options: str) -> SimulatorProgram:
        made.append(SimulatorProgram("drivers.sim.poslink", tmp_path, *options))
        return made[-1]

    yield make
    for one in made:
        one.child.close()


@pytest.mark.parametrize(
    ("option", "dialect"), [("", "plain"), ("--length", "length"), ("", "http"), ("--hangs-up", "plain")]
)
async def test_payments_on_a_real_line(simulator: Make, option: str, dialect: str) -> None:
    device = simulator(*([option] if option else []))
    async with shop(device.start(), dialect) as made:
        assert made.terminal.status.terminal_id == "52500038"
        paid = await made.pay(2040)
        while isinstance(paid, NotStarted):  # a terminal that ends every line is found out after the second one
            await made.state(DeviceState.READY)
            paid = await made.pay(2040)
        assert isinstance(paid, Approved)
        assert [step.code for step in made.progress] == ["started"]
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(1011), Stored)
        busy = await made.pay(1020)
        assert isinstance(busy, NotStarted)
        assert busy.reason == "terminal_busy"
        reversal = ReverseRequest("r", Money(2040, "USD"), paid.evidence.receipt_number, paid.evidence.trace_number)
        assert isinstance(await made.terminal.reverse(reversal, lambda _: None), Approved)
        assert (await made.terminal.send_offline()).complete
        totals = await made.terminal.end_of_day()
        assert (totals.count, totals.total) == (1, Money(1011, "USD"))
    assert device.ledger()[:2] == [(2040, "reversed"), (1011, "forwarded")]
    assert device.child.stop() == 0


async def test_lost_answers_on_a_real_line(simulator: Make) -> None:
    device = simulator()
    async with shop(device.start()) as made:
        assert isinstance(await made.pay(500), Approved)
        for amount, expected in ((1013, Found), (1014, Inconclusive)):
            baseline = await made.terminal.baseline()
            assert isinstance(await made.pay(amount), Unknown)
            await made.state(DeviceState.READY)
            request = EnquiryRequest(f"payment-{amount}", Money(amount, "USD"), baseline)
            enquiry = await made.terminal.enquire(request)
            assert type(enquiry) is expected, enquiry
    assert device.ledger() == [(500, "approved"), (1013, "approved"), (1014, "approved")]


async def test_abort_on_a_real_line(simulator: Make) -> None:
    device = simulator()
    async with shop(device.start()) as made, asyncio.TaskGroup() as group:
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: Progress("started") in made.progress, STATE_TIMEOUT_S, "the terminal to begin")
        assert await made.terminal.abort()
        assert isinstance(await paying, Cancelled)
    assert device.ledger() == [(1090, "cancelled")]


async def test_a_killed_terminal_comes_back_with_its_books(simulator: Make) -> None:
    device = simulator()
    async with shop(device.start()) as made, asyncio.TaskGroup() as group:
        assert isinstance(await made.pay(500), Approved)
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: Progress("started") in made.progress, STATE_TIMEOUT_S, "the terminal to begin")
        device.child.kill()
        assert isinstance(await paying, Unknown)
        device.start()
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(700), Approved)
    assert device.ledger() == [(500, "approved"), (700, "approved")]
