"""The ZVT driver on real lines, TCP and a pseudo-terminal, against the simulator as a program of its own."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from zeroconf import ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from drivers.zvt import ZvtTerminal
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Progress,
    Stored,
    Unknown,
)
from tests.rigs.process import wait_until
from tests.rigs.terminal import START_TIMEOUT_S, STATE_TIMEOUT_S, Counter, SimulatorProgram, counter


def shop(url: str) -> AbstractAsyncContextManager[Counter]:
    return counter(ZvtTerminal, url)


@pytest.fixture(params=["tcp", "pty"])
def simulator(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = SimulatorProgram("drivers.sim.zvt", tmp_path, line=request.param)
    yield made
    made.child.close()


async def test_payments_on_a_real_line(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made:
        assert made.terminal.status.terminal_id == "52500038"
        assert isinstance(await made.pay(2040), Approved)
        assert isinstance(await made.pay(1011), Stored)
        assert [step.code for step in made.progress][:2] == ["started", "insert_card"]
        busy = await made.pay(1020)
        assert isinstance(busy, NotStarted)
        assert busy.reason == "terminal_busy"
        assert (await made.terminal.send_offline()).complete
        totals = await made.terminal.end_of_day()
        assert (totals.count, totals.total) == (2, Money(3051, "EUR"))
    assert simulator.ledger()[:2] == [(2040, "approved"), (1011, "forwarded")]
    assert simulator.child.stop() == 0


async def test_lost_answers_on_a_real_line(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made:
        await made.pay(500)
        for amount, expected in ((1013, Found), (1014, Inconclusive)):
            baseline = await made.terminal.baseline()
            assert isinstance(await made.pay(amount), Unknown)
            enquiry = await made.terminal.enquire(EnquiryRequest("p", Money(amount, "EUR"), baseline))
            assert type(enquiry) is expected, enquiry
    assert simulator.ledger() == [(500, "approved"), (1013, "approved"), (1014, "approved")]


async def test_abort_on_a_real_line(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made, asyncio.TaskGroup() as group:
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: Progress("insert_card") in made.progress, STATE_TIMEOUT_S, "the card")
        assert await made.terminal.abort()
        assert isinstance(await paying, Cancelled)
    assert simulator.ledger() == [(1090, "cancelled")]


async def test_a_killed_terminal_comes_back_with_its_books(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made, asyncio.TaskGroup() as group:
        assert isinstance(await made.pay(500), Approved)
        baseline = await made.terminal.baseline()
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: Progress("insert_card") in made.progress, STATE_TIMEOUT_S, "the card")
        simulator.child.kill()
        assert isinstance(await paying, Unknown)
        simulator.start()
        await made.state(DeviceState.READY)
        enquiry = await made.terminal.enquire(EnquiryRequest("p", Money(1090, "EUR"), baseline))
        assert isinstance(enquiry, NotTaken), enquiry
        assert isinstance(await made.pay(700), Approved)
    assert simulator.ledger() == [(500, "approved"), (700, "approved")]


async def test_unplugged_and_plugged_in_again(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made:
        simulator.tell(cmd="unplug")
        await made.state(DeviceState.GONE)
        assert isinstance(await made.pay(500), NotStarted)
        simulator.tell(cmd="replug")
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(500), Approved)


@pytest.mark.parametrize("fault", [("split_bytes", 1), ("answer_twice", True), ("corrupt_frame", 2)])
async def test_a_spoiled_line_is_survived(simulator: SimulatorProgram, fault: tuple[str, object]) -> None:
    async with shop(simulator.start()) as made:
        baseline = await made.terminal.baseline()
        simulator.tell(cmd="fault", name=fault[0], value=fault[1])
        outcome = await made.pay(2040)
        if isinstance(outcome, Unknown):
            simulator.tell(cmd="well")
            await made.state(DeviceState.READY)
            enquiry = await made.terminal.enquire(EnquiryRequest("p", Money(2040, "EUR"), baseline))
            outcome = enquiry.outcome if isinstance(enquiry, Found) else outcome
        assert isinstance(outcome, Approved) is (simulator.ledger() == [(2040, "approved")]), outcome


@pytest.mark.timeout(90)
async def test_a_terminal_on_tcp_is_found_by_its_name(tmp_path: Path) -> None:
    simulator = SimulatorProgram("drivers.sim.zvt", tmp_path, "--mdns", "Till 2")
    address = simulator.start()
    found: set[str] = set()

    def changed(zeroconf: object, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        found.add(name)

    listener = AsyncZeroconf(interfaces=["127.0.0.1"])
    browser = AsyncServiceBrowser(listener.zeroconf, "_zvt._tcp.local.", handlers=[changed])
    try:
        await wait_until(lambda: "Till 2._zvt._tcp.local." in found, START_TIMEOUT_S, "the announcement")
        info = AsyncServiceInfo("_zvt._tcp.local.", "Till 2._zvt._tcp.local.")
        await wait_until(lambda: info.async_request(listener.zeroconf, 3000), START_TIMEOUT_S, "the address")
        assert f"tcp://{info.parsed_addresses()[0]}:{info.port}" == address
    finally:
        await browser.async_cancel()
        await listener.async_close()
        simulator.child.close()
