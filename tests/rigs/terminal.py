"""A simulated terminal as a program of its own, and a driver's runner on the real line to it."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from drivers.base import DriverFactory, DriverOptions
from drivers.faces import RunnerTerminal, face_of
from drivers.runner import NO_OPTIONS, Runner
from drivers.transport import accept_tcp, open_transport
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import AuthorizeRequest, Outcome, Progress, TerminalStatus
from hubd.runtime import system_runtime
from tests.rigs.process import Child, free_port, wait_for, wait_until

START_TIMEOUT_S = 30.0
STATE_TIMEOUT_S = 30.0
RUNTIME = system_runtime()
ROOT = Path(__file__).parents[2]


class SimulatorProgram:
    """The simulator's process with its address, its books and its control socket; `line` is `tcp` or `pty`."""

    def __init__(self, module: str, directory: Path, *options: str, line: str = "tcp") -> None:
        self._control = directory / "control"
        where = ["--tcp", f"127.0.0.1:{free_port()}"] if line == "tcp" else ["--pty", str(directory / "tty")]
        files = ["--state-file", str(directory / "ledger"), "--control", str(self._control)]
        self.child = Child([sys.executable, "-m", module, *where, *files, *options], cwd=ROOT)

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


class Counter:
    """A runner on a real line."""

    def __init__(self, driver: DriverFactory, url: str, options: DriverOptions, currency: str) -> None:
        self._currency = currency
        self.states: list[TerminalStatus] = []
        self.runner = Runner(
            "t1",
            driver,
            url,
            open_transport,
            RUNTIME,
            lambda _, status: self.states.append(status),
            options,
            accept_lines=accept_tcp,
        )
        face = face_of(self.runner)
        assert isinstance(face, RunnerTerminal)
        self.terminal = face
        self.progress: list[Progress] = []

    async def state(self, state: DeviceState) -> None:
        """Return once the terminal is in this state."""
        await wait_until(lambda: self.terminal.status.state is state, STATE_TIMEOUT_S, f"state {state}")

    async def pay(self, amount_minor: int) -> Outcome:
        """Take a payment."""
        self.progress.clear()
        request = AuthorizeRequest(f"payment-{amount_minor}", Money(amount_minor, self._currency))
        return await self.terminal.authorize(request, self.progress.append)


@asynccontextmanager
async def counter(
    driver: DriverFactory,
    url: str,
    options: DriverOptions = NO_OPTIONS,
    *,
    currency: str = "EUR",
    until: DeviceState | None = DeviceState.READY,
) -> AsyncIterator[Counter]:
    """The terminal at this address, once it is in the state `until`, or at once."""
    made = Counter(driver, url, options, currency)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.runner.run(), name="runner")
        try:
            if until is not None:
                await made.state(until)
            yield made
        finally:
            task.cancel()
