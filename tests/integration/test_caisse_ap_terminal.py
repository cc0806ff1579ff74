"""The Caisse-AP driver on a real line against the simulator as a program of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.caisse_ap import CaisseApTerminal
from drivers.faces import RunnerTerminal, face_of
from drivers.runner import Runner
from drivers.transport import open_transport
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import Approved, AuthorizeRequest, Declined, NotStarted, Outcome, Progress, Unknown
from hubd.runtime import system_runtime
from tests.rigs.process import Child, free_port, wait_until

START_TIMEOUT_S = 20.0
STATE_TIMEOUT_S = 20.0
RUNTIME = system_runtime()
ROOT = Path(__file__).parents[2]


class Simulator:
    """The simulator's process with its address and its control socket."""

    def __init__(self, directory: Path, habit: str) -> None:
        self._control = directory / "control"
        self.child = Child(
            [
                *(sys.executable, "-m", "drivers.sim.caisse_ap", "--tcp", f"127.0.0.1:{free_port()}"),
                *("--state-file", str(directory / "ledger"), "--control", str(self._control), "--lines", habit),
            ],
            cwd=ROOT,
        )

    def start(self) -> str:
        """Start (again) and return the address."""
        self._control.unlink(missing_ok=True)
        self.child.start()
        self.child.wait_for_text('"address"', START_TIMEOUT_S)
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

    def __init__(self, url: str) -> None:
        self.runner = Runner("t1", CaisseApTerminal, url, open_transport, RUNTIME, lambda _, status: None)
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
async def shop(url: str) -> AsyncIterator[Shop]:
    made = Shop(url)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.runner.run(), name="runner")
        try:
            await made.state(DeviceState.READY)
            yield made
        finally:
            task.cancel()


@pytest.fixture(params=["kept", "closed"])
def simulator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Simulator]:
    made = Simulator(tmp_path, request.param)
    yield made
    made.child.close()


async def test_payments_on_a_real_line(simulator: Simulator) -> None:
    async with shop(simulator.start()) as made:
        assert isinstance(await made.pay(2040), Approved)
        assert made.progress == [Progress("started")]
        assert isinstance(await made.pay(1005), Declined)
        assert isinstance(await made.pay(1020), NotStarted)
        assert isinstance(await made.pay(1013), Unknown)
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(777), Approved)
    assert simulator.ledger() == [(2040, "approved"), (1005, "declined"), (1013, "approved"), (777, "approved")]
    assert simulator.child.stop() == 0


async def test_a_killed_terminal_comes_back_and_nothing_is_charged_twice(simulator: Simulator) -> None:
    async with shop(simulator.start()) as made, asyncio.TaskGroup() as group:
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: Progress("started") in made.progress, STATE_TIMEOUT_S, "the payment")
        simulator.child.kill()
        assert isinstance(await paying, Unknown)
        simulator.start()
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(700), Approved)
    assert simulator.ledger() == [(700, "approved")]


async def test_unplugged_and_plugged_in_again(simulator: Simulator) -> None:
    async with shop(simulator.start()) as made:
        simulator.tell(cmd="unplug")
        outcome = await made.pay(500)
        assert isinstance(outcome, NotStarted)
        assert outcome.reason == "terminal_unreachable"
        await made.state(DeviceState.GONE)
        simulator.tell(cmd="replug")
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(500), Approved)


@pytest.mark.blocking_allowed("the program ends at once")
def test_the_simulator_says_what_it_cannot_do() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "drivers.sim.caisse_ap", "--pty", "tty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert refused.returncode == 2
    assert "no serial line" in refused.stderr
