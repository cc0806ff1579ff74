"""The printer driver on real lines, TCP and a pseudo-terminal, against the simulator as a program of its own."""

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

from drivers.base import DriverFactory
from drivers.escpos import EscposPrinter
from drivers.faces import RunnerPrinter, face_of
from drivers.runner import Runner
from drivers.transport import open_transport
from hubd.model.device import DeviceState
from hubd.model.printing import Align, Cut, Logo, PrintDocument, Qr, Row, Text
from hubd.ports import NotPrinted, Paper, Printed, PrintUnknown
from hubd.runtime import system_runtime
from tests.rigs.process import Child, free_port, wait_until

START_TIMEOUT_S = 20.0
STATE_TIMEOUT_S = 20.0
RUNTIME = system_runtime()
ROOT = Path(__file__).parents[2]


class Simulator:
    """The simulator's process with its address and its control socket."""

    def __init__(self, directory: Path, line: str, *options: str, module: str = "drivers.sim.escpos") -> None:
        self._control = directory / "control"
        where = ["--tcp", f"127.0.0.1:{free_port()}"] if line == "tcp" else ["--pty", str(directory / "tty")]
        arguments = [*where, "--control", str(self._control), *options]
        self.child = Child([sys.executable, "-m", module, *arguments], cwd=ROOT)

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

    def receipts(self) -> list[list[str]]:
        """The lines of the receipts that were cut, without the empty ones."""
        cut = [receipt for receipt in self.tell(cmd="receipts")["receipts"] if receipt["cut"]]
        return [[line for line in receipt["lines"] if line] for receipt in cut]


@asynccontextmanager
async def shop(url: str, driver: DriverFactory = EscposPrinter) -> AsyncIterator[RunnerPrinter]:
    """A runner on a real line."""
    runner = Runner("p1", driver, url, open_transport, RUNTIME, lambda _, status: None)
    face = face_of(runner)
    assert isinstance(face, RunnerPrinter)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run(), name="runner")
        try:
            await wait_until(lambda: face.status.state is DeviceState.READY, STATE_TIMEOUT_S, "a ready printer")
            yield face
        finally:
            task.cancel()


def receipt(number: int, rows: int = 1) -> PrintDocument:
    """Several chunks long when it has many rows."""
    total = Row("Total", "12,50 €", bold=True)
    lines = [Row(f"Café {row}", f"{row},20 €") for row in range(rows)]
    head = (Text(f"Ticket {number}", Align.CENTER, large=True), Logo(64, bytes(range(8)) * 40))
    return PrintDocument("Receipt", (*head, *lines, total, Qr("https://x.test/p/1"), Cut()))


@pytest.fixture(params=["tcp", "pty"])
def simulator(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = Simulator(tmp_path, request.param, "--line-s", "0.002")
    yield made
    made.child.close()


async def test_receipts_on_a_real_line(simulator: Simulator) -> None:
    async with shop(simulator.start()) as printer:
        for number, rows in ((1, 1), (2, 300)):
            outcome = await printer.print(receipt(number, rows))
            assert isinstance(outcome, Printed)
            assert outcome.condition.paper is Paper.OK
        assert isinstance(await printer.open_drawer(), Printed)
        assert printer.condition.drawer_open
    first, second = simulator.receipts()
    assert first[0].strip() == "Ticket 1"
    assert first[-2:] == [f"{'Total':<35}12,50 €", " " * 12 + "https://x.test/p/1"]
    assert len(second) == len(first) + 299
    assert simulator.tell(cmd="receipts")["pulses"] == [2]
    assert "Ticket 2" in simulator.tell(cmd="html")["html"]
    assert simulator.child.stop() == 0


async def test_paper_that_ends_in_a_receipt_on_a_real_line(simulator: Simulator) -> None:
    async with shop(simulator.start()) as printer:
        simulator.tell(cmd="paper", lines=100)
        assert await printer.print(receipt(1, 300)) == PrintUnknown("paper_out")
        await wait_until(lambda: printer.status.problem == "paper_out", STATE_TIMEOUT_S, "the problem")
        refused = await printer.print(receipt(2))
        assert isinstance(refused, NotPrinted)
        simulator.tell(cmd="paper")
        assert isinstance(await printer.print(receipt(3)), Printed), "it need not have been noticed before"
    titles = [shown[0].strip() for shown in simulator.receipts() if shown]
    assert titles == ["Ticket 1", "Ticket 3"]


async def test_power_that_fails_in_a_receipt_on_a_real_line(simulator: Simulator) -> None:
    async with shop(simulator.start()) as printer, asyncio.TaskGroup() as group:
        simulator.tell(cmd="cover", open=True)
        printing = group.create_task(printer.print(receipt(1)), name="refused")
        assert isinstance(await printing, NotPrinted)
        simulator.tell(cmd="cover", open=False)
        printing = group.create_task(printer.print(receipt(2, 2000)), name="print")
        await wait_until(lambda: "Café 100" in simulator.tell(cmd="html")["html"], STATE_TIMEOUT_S, "the middle of it")
        simulator.child.kill()
        assert isinstance(await printing, PrintUnknown)
        simulator.start()
        await wait_until(lambda: printer.status.state is DeviceState.READY, STATE_TIMEOUT_S, "ready again")
        assert isinstance(await printer.print(receipt(3)), Printed)
    assert [shown[0].strip() for shown in simulator.receipts() if shown] == ["Ticket 3"]
