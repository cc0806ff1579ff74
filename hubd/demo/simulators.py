"""Simulated terminals as child processes: they speak ZVT on a TCP port and on a pseudo-serial line."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from hubd.errors import DeviceError, NotFoundError
from hubd.runtime import Clock

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
CONTROL_TIMEOUT_S = 10.0
LINE_BYTES_MAX = 1024 * 1024
THINK_S = 1.5
"""How long customer and host take in the demo, so that people can see a payment being taken."""


@dataclass(frozen=True, slots=True)
class SimulatedTerminal:
    """One simulator: what people call it, how it is started, where the hub finds it."""

    name: str
    arguments: tuple[str, ...]
    control: Path
    address: str = ""
    """Where it always is; empty: it is found over mDNS."""
    serial_number: str = ""
    """By which the hub knows it again wherever it is found."""

    @property
    def line(self) -> str:
        """What it hangs on: `tcp` or `serial`."""
        return self.address.partition(":")[0] or "tcp"


def simulated_terminals(
    state: Path, sockets: Path, serial_number: str, port: int = 0, think_s: float = THINK_S
) -> list[SimulatedTerminal]:
    """The two terminals of the demo: one on TCP, at another port after each start and found over mDNS; one serial."""
    line = state / "terminal-2.tty"
    common = ("--think-s", str(think_s))
    return [
        SimulatedTerminal(
            "Terminal 1",
            (
                *(
                    "--tcp",
                    f"127.0.0.1:{port}",
                    "--mdns",
                    f"Demo terminal {serial_number}",
                    "--serial-number",
                    serial_number,
                ),
                *("--terminal-id", "52500038", "--state-file", str(state / "terminal-1.jsonl"), *common),
            ),
            sockets / "terminal-1.sock",
            serial_number=serial_number,
        ),
        SimulatedTerminal(
            "Terminal 2",
            (
                *("--pty", str(line), "--terminal-id", "52500039"),
                *("--state-file", str(state / "terminal-2.jsonl"), *common),
            ),
            sockets / "terminal-2.sock",
            address=f"serial://{line}?baud=115200",
        ),
    ]


async def run_simulator(terminal: SimulatedTerminal, clock: Clock, ready: asyncio.Event, errors: IO[str]) -> None:
    """Run one simulator until cancelled; raises DeviceError when it ends by itself (the supervisor starts it anew)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "drivers.sim.zvt", *terminal.arguments, "--control", str(terminal.control)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        start_new_session=True,  # Ctrl-C is for the hub, which stops its simulators last
        # A demo that is killed leaves no simulator behind: the kernel ends them with the thread that started them.
        preexec_fn=partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signal.SIGTERM.value),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdout is not None, "asked for above"
    try:
        async with clock.timeout(READY_TIMEOUT_S):
            if await process.stdout.readline():
                ready.set()
        code = await process.wait()
        raise DeviceError("demo.simulator_ended", f"{terminal.name} ended with {code}.", remedy="It is started again.")
    finally:
        await _end(process, clock)


async def _end(process: asyncio.subprocess.Process, clock: Clock) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with clock.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


@asynccontextmanager
async def _connected(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
    try:
        yield reader, writer
    finally:
        writer.close()


async def command(terminal: SimulatedTerminal, clock: Clock, **request: Any) -> dict[str, Any]:
    """Tell a simulator something and return its answer. Raises DeviceError when it does not answer."""
    try:
        async with clock.timeout(CONTROL_TIMEOUT_S), _connected(terminal.control) as (reader, writer):
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            answer = json.loads(await reader.readline())
    except (OSError, ValueError) as exc:
        raise DeviceError("demo.simulator_silent", f"{terminal.name} does not answer: {exc}.") from exc
    if not isinstance(answer, dict) or "error" in answer:
        raise DeviceError("demo.simulator_refused", f"{terminal.name}: {answer}")
    return answer


def find(terminals: list[SimulatedTerminal], word: str) -> SimulatedTerminal:
    """The terminal that a person means: by its name, its number, or `tcp` and `serial`."""
    wanted = word.strip().casefold()
    for terminal in terminals:
        if wanted in (terminal.name.casefold(), terminal.name.rpartition(" ")[2], terminal.line):
            return terminal
    names = ", ".join(terminal.name for terminal in terminals)
    raise NotFoundError("demo.no_such_device", f"The demo has no device {word}.", remedy=f"It has {names}.")
