"""The OPI driver on real TCP, both channels, against the simulator as a program of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.faces import RunnerTerminal, face_of
from drivers.opi import DEVICE_PORT, OpiTerminal
from drivers.runner import Runner
from drivers.transport import accept_tcp, open_transport
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    Cancelled,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    Outcome,
    Progress,
    Stored,
    Unknown,
)
from hubd.runtime import system_runtime
from tests.rigs.process import Child, free_port, wait_for, wait_until

START_TIMEOUT_S = 20.0
STATE_TIMEOUT_S = 20.0
RUNTIME = system_runtime()
ROOT = Path(__file__).parents[2]


class Simulator:
    """The simulator's process with its address, its control socket and the port that it calls back."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._control = directory / "control"
        self.device_port = free_port()
        where = ["--tcp", f"127.0.0.1:{free_port()}", "--device-port", str(self.device_port)]
        files = ["--state-file", str(directory / "ledger"), "--control", str(self._control)]
        self.child = Child([sys.executable, "-m", "drivers.sim.opi", *where, *files, *options], cwd=ROOT)

    def start(self) -> str:
        """Start (again) and return the address."""
        self._control.unlink(missing_ok=True)
        self.child.start()
        self.child.wait_for_text('"address"', START_TIMEOUT_S)
        wait_for(self._control.exists, START_TIMEOUT_S, "the control socket")
        address: str = json.loads(self.child.stdout().splitlines()[-1])["address"]
        return address

    def tell(self, **request: object) -> dict[str, Any]:
        """One control command."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(self._control))
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile() as answers:
                answer: dict[str, Any] = json.loads(answers.readline())
        assert "error" not in answer, answer
        return answer

    def ledger(self) -> list[tuple[int, str]]:
        """Amounts and states by the terminal's own books."""
        return [(entry["amount_minor"], entry["state"]) for entry in self.tell(cmd="ledger")["ledger"]]


class Shop:
    """A runner on a real line."""

    def __init__(self, url: str, device_port: int) -> None:
        options = {DEVICE_PORT: str(device_port)}
        self.states: list[DeviceState] = []
        self.runner = Runner(
            "t1",
            OpiTerminal,
            url,
            open_transport,
            RUNTIME,
            lambda _, status: self.states.append(status.state),
            options,
            accept_lines=accept_tcp,
        )
        face = face_of(self.runner)
        assert isinstance(face, RunnerTerminal)
        self.terminal = face
        self.progress: list[Progress] = []

    async def state(self, state: DeviceState) -> None:
        await wait_until(lambda: self.terminal.status.state is state, STATE_TIMEOUT_S, f"state {state}")

    async def pay(self, amount_minor: int) -> Outcome:
        self.progress.clear()
        request = AuthorizeRequest(f"payment-{amount_minor}", Money(amount_minor, "EUR"))
        return await self.terminal.authorize(request, self.progress.append)


@asynccontextmanager
async def shop(simulator: Simulator) -> AsyncIterator[Shop]:
    made = Shop(simulator.start(), simulator.device_port)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.runner.run(), name="runner")
        try:
            await made.state(DeviceState.READY)
            yield made
        finally:
            task.cancel()


@pytest.fixture(params=["", "--hangs-up"], ids=["stays", "hangs-up"])
def simulator(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = Simulator(tmp_path, *filter(None, [request.param]))
    yield made
    made.child.close()


async def test_payments_on_a_real_line(simulator: Simulator) -> None:
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
        assert made.states.count(DeviceState.CONNECTING) == 0, "no line was lost"
    assert simulator.ledger()[:2] == [(2040, "approved"), (1011, "forwarded")]
    assert simulator.child.stop() == 0


async def test_lost_answers_and_a_killed_terminal_on_a_real_line(simulator: Simulator) -> None:
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


async def test_abort_on_a_real_line(simulator: Simulator) -> None:
    async with shop(simulator) as made, asyncio.TaskGroup() as group:
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: Progress("insert_card") in made.progress, STATE_TIMEOUT_S, "the card")
        assert await made.terminal.abort()
        assert isinstance(await paying, Cancelled)
    assert simulator.ledger() == [(1090, "cancelled")]


@pytest.mark.parametrize("fault", [("split_bytes", 1), ("answer_twice", True), ("corrupt_frame", 4)])
async def test_a_spoiled_line_is_survived(tmp_path: Path, fault: tuple[str, object]) -> None:
    simulator = Simulator(tmp_path)
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
