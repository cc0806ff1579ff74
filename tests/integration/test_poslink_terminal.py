"""The POSLink driver on a real TCP line, against the simulator as a program of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.faces import RunnerTerminal, face_of
from drivers.poslink import DIALECT, PoslinkTerminal
from drivers.runner import Runner
from drivers.transport import open_transport
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
    ReverseRequest,
    Stored,
    Unknown,
)
from hubd.runtime import system_runtime
from tests.rigs.process import Child, free_port, wait_until

START_TIMEOUT_S = 20.0
STATE_TIMEOUT_S = 20.0
RUNTIME = system_runtime()
ROOT = Path(__file__).parents[2]


class Simulator:
    """The simulator's process with its address and its control socket."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._control = directory / "control"
        files = ["--state-file", str(directory / "ledger"), "--control", str(self._control)]
        where = ["--tcp", f"127.0.0.1:{free_port()}"]
        self.child = Child([sys.executable, "-m", "drivers.sim.poslink", *where, *files, *options], cwd=ROOT)

    def start(self) -> str:
        """Start (again) and return the address."""
        self._control.unlink(missing_ok=True)
        self.child.start()
        self.child.wait_for_text('"address"', START_TIMEOUT_S)
        ready: dict[str, str] = json.loads(self.child.stdout().splitlines()[-1])
        return ready["address"]

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

    def __init__(self, url: str, dialect: str) -> None:
        options = {DIALECT: dialect}
        self.runner = Runner("t1", PoslinkTerminal, url, open_transport, RUNTIME, lambda *_: None, options)
        face = face_of(self.runner)
        assert isinstance(face, RunnerTerminal)
        self.terminal = face
        self.progress: list[Progress] = []

    async def state(self, state: DeviceState) -> None:
        await wait_until(lambda: self.terminal.status.state is state, STATE_TIMEOUT_S, f"state {state}")

    async def pay(self, amount_minor: int) -> Outcome:
        self.progress.clear()
        request = AuthorizeRequest(f"payment-{amount_minor}", Money(amount_minor, "USD"))
        return await self.terminal.authorize(request, self.progress.append)


@asynccontextmanager
async def shop(url: str, dialect: str = "plain") -> AsyncIterator[Shop]:
    made = Shop(url, dialect)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.runner.run(), name="runner")
        try:
            await made.state(DeviceState.READY)
            yield made
        finally:
            task.cancel()


Make = Callable[..., Simulator]


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Make]:
    made: list[Simulator] = []

    def make(*options: str) -> Simulator:
        made.append(Simulator(tmp_path, *options))
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
