"""The OPI driver on real TCP, both channels, against the simulator as a program of its own."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from drivers.opi import OpiTerminal
from drivers.opi_options import DEVICE_PORT
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    Stored,
    Unknown,
)
from tests.rigs.process import free_port, wait_until
from tests.rigs.terminal import STATE_TIMEOUT_S, Counter, SimulatorProgram, counter


class OpiProgram(SimulatorProgram):
    """The simulator with the port of the hub that it calls back."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.device_port = free_port()
        super().__init__("drivers.sim.opi", directory, "--device-port", str(self.device_port), *options)


def shop(simulator: OpiProgram) -> AbstractAsyncContextManager[Counter]:
    return counter(OpiTerminal, simulator.start(), {DEVICE_PORT: str(simulator.device_port)})


@pytest.fixture(params=["", "--hangs-up"], ids=["stays", "hangs-up"])
def simulator(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = OpiProgram(tmp_path, *filter(None, [request.param]))
    yield made
    made.child.close()


async def test_payments_on_a_real_line(simulator: OpiProgram) -> None:
    async with shop(simulator) as made:
        assert made.terminal.status.terminal_id == "52500038"
        approved = await made.pay(2040)
        assert isinstance(approved, Approved)
        assert "Paiement accepté" in approved.evidence.receipt_lines
        assert [step.code for step in made.progress][:2] == ["started", "insert_card"]
        assert isinstance(await made.pay(1011), Stored)
        busy = await made.pay(1020)
        assert isinstance(busy, NotStarted)
        assert busy.reason == "terminal_busy"
        assert (await made.terminal.send_offline()).complete
        totals = await made.terminal.end_of_day()
        assert (totals.count, totals.total) == (2, Money(3051, "EUR"))
        assert DeviceState.CONNECTING not in [status.state for status in made.states], "no line was lost"
    assert simulator.ledger()[:2] == [(2040, "approved"), (1011, "forwarded")]
    assert simulator.child.stop() == 0


async def test_lost_answers_and_a_killed_terminal_on_a_real_line(simulator: OpiProgram) -> None:
    async with shop(simulator) as made:
        for amount, expected in ((1014, Inconclusive), (1013, Found)):
            baseline = await made.terminal.baseline()
            assert isinstance(await made.pay(amount), Unknown)
            request = EnquiryRequest(f"payment-{amount}", Money(amount, "EUR"), baseline)
            enquiry = await made.terminal.enquire(request)
            assert type(enquiry) is expected, enquiry
        simulator.child.kill()
        simulator.start()

        async def named_another() -> bool:
            again = await made.terminal.enquire(EnquiryRequest("payment-1000", Money(1000, "EUR"), "0:000000"))
            assert isinstance(again, Inconclusive)
            return again.reason == "others_since"

        await wait_until(named_another, STATE_TIMEOUT_S, "its books")
    assert simulator.ledger() == [(1014, "approved"), (1013, "approved")]


async def test_abort_on_a_real_line(simulator: OpiProgram) -> None:
    async with shop(simulator) as made, asyncio.TaskGroup() as group:
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: any(one.code == "insert_card" for one in made.progress), STATE_TIMEOUT_S, "the card")
        assert await made.terminal.abort()
        assert isinstance(await paying, Cancelled)
    assert simulator.ledger() == [(1090, "cancelled")]


@pytest.mark.parametrize("fault", [("split_bytes", 1), ("answer_twice", True), ("corrupt_frame", 4)])
async def test_a_spoiled_line_is_survived(tmp_path: Path, fault: tuple[str, object]) -> None:
    simulator = OpiProgram(tmp_path)
    try:
        async with shop(simulator) as made:
            simulator.tell(cmd="fault", name=fault[0], value=fault[1])
            outcome = await made.pay(2040)
            if isinstance(outcome, Unknown):
                simulator.tell(cmd="well")
                await made.state(DeviceState.READY)
                enquiry = await made.terminal.enquire(EnquiryRequest("payment-2040", Money(2040, "EUR"), ""))
                outcome = enquiry.outcome if isinstance(enquiry, Found) else outcome
            assert isinstance(outcome, Approved) is (simulator.ledger() == [(2040, "approved")]), outcome
    finally:
        simulator.child.close()
