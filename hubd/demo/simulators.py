"""Simulated devices as child processes: they speak their protocols on TCP ports and on pseudo-serial lines."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterable
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
class Simulated:
    """One simulated device: what people call it, which driver speaks to it, where the hub finds it."""

    name: str
    driver: str
    control: Path
    """The socket through which it is told what happens to it."""
    address: str = ""
    """Where it always is; empty: it is found over mDNS."""
    serial_number: str = ""
    """By which the hub knows it again wherever it is found."""

    @property
    def identity(self) -> str:
        """By which the hub knows it: its number, or its address if it is configured."""
        return self.address or f"serial:{self.serial_number}"

    @property
    def line(self) -> str:
        """What it hangs on: `tcp` or `serial`."""
        return self.address.partition(":")[0] or "tcp"


@dataclass(frozen=True, slots=True)
class SimulatorProcess:
    """One child process, and the devices in it; it says in one line about each that it is ready."""

    name: str
    command: tuple[str, ...]
    devices: tuple[Simulated, ...]


TERMINAL, PRINTER, SCANNER, SCALE = "zvt", "escpos", "serial_scanner", "toledo8217"
"""Drivers of the demo's devices."""
ANNOUNCED_ON = "127.0.0.1:0"


def simulated_shop(
    state: Path, sockets: Path, serial_number: str, port: int = 0, think_s: float = THINK_S
) -> list[SimulatorProcess]:
    """What stands in the demo's shop: two terminals in processes of their own, and what lies on its counter in one."""
    first, second = _terminals(state, sockets, serial_number, port, think_s)
    return [first, second, _counter(state, sockets, serial_number)]


def _terminals(
    state: Path, sockets: Path, serial_number: str, port: int, think_s: float
) -> tuple[SimulatorProcess, SimulatorProcess]:
    """One on TCP, at another port after each start and found over mDNS; one on a serial line."""
    first = Simulated("Terminal 1", TERMINAL, sockets / "terminal-1.sock", serial_number=serial_number)
    line = state / "terminal-2.tty"
    second = Simulated("Terminal 2", TERMINAL, sockets / "terminal-2.sock", f"serial://{line}?baud=115200")
    announced = ("--mdns", f"Demo terminal {serial_number}", "--serial-number", serial_number)
    places = (("--tcp", f"127.0.0.1:{port}", *announced), ("--pty", str(line)))
    found = []
    for one, terminal_id, place in zip((first, second), ("52500038", "52500039"), places, strict=True):
        books = state / one.control.with_suffix(".jsonl").name
        about = ("--terminal-id", terminal_id, "--state-file", str(books), "--think-s", str(think_s))
        command = ("drivers.sim.zvt", *place, *about, "--control", str(one.control))
        found.append(SimulatorProcess(one.name, command, (one,)))
    return found[0], found[1]


def _counter(state: Path, sockets: Path, serial_number: str) -> SimulatorProcess:
    """A printer that announces itself, a scanner and a scale on serial lines."""
    number = f"{serial_number}-P"
    printer = Simulated("Receipt printer", PRINTER, sockets / "printer.sock", serial_number=number)
    lines = {name: state / f"{name}.tty" for name in ("scanner", "scale")}
    at = {name: f"serial://{line}?baud=9600&stop_bits=1" for name, line in lines.items()}
    scanner = Simulated("Scanner", SCANNER, sockets / "scanner.sock", at["scanner"])
    scale = Simulated("Scale", SCALE, sockets / "scale.sock", at["scale"])
    command = (
        *("drivers.sim.counter", "escpos", "--tcp", ANNOUNCED_ON, "--mdns", f"Demo receipt printer {serial_number}"),
        *("--serial-number", number, "--control", str(printer.control)),
        *("--", "scanner", "--pty", str(lines["scanner"]), "--control", str(scanner.control)),
        *("--", "scale", "--pty", str(lines["scale"]), "--control", str(scale.control)),
    )
    return SimulatorProcess("Counter", command, (printer, scanner, scale))


def all_devices(processes: Iterable[SimulatorProcess]) -> list[Simulated]:
    """The devices of all processes, terminals first."""
    return [device for process in processes for device in process.devices]


async def run_simulator(simulator: SimulatorProcess, clock: Clock, ready: asyncio.Event, errors: IO[str]) -> None:
    """Run one process until cancelled; raises DeviceError when it ends by itself (the supervisor starts it anew)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", *simulator.command),
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
            said = [await process.stdout.readline() for _ in simulator.devices]
        if all(said):
            ready.set()
        code = await process.wait()
        raise DeviceError("demo.simulator_ended", f"{simulator.name} ended with {code}.", remedy="It is started again.")
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


async def command(device: Simulated, clock: Clock, **request: Any) -> dict[str, Any]:
    """Tell a simulator something and return its answer. Raises DeviceError when it does not answer."""
    try:
        async with clock.timeout(CONTROL_TIMEOUT_S), _connected(device.control) as (reader, writer):
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            answer = json.loads(await reader.readline())
    except (OSError, ValueError) as exc:
        raise DeviceError("demo.simulator_silent", f"{device.name} does not answer: {exc}.") from exc
    if not isinstance(answer, dict) or "error" in answer:
        raise DeviceError("demo.simulator_refused", f"{device.name}: {answer}")
    return answer


def find(devices: list[Simulated], word: str) -> Simulated:
    """The device that a person means: by its name, its last word (a number, `printer`), or `tcp` and `serial`."""
    wanted = word.strip().casefold()
    for device in devices:
        if wanted in (device.name.casefold(), device.name.rpartition(" ")[2].casefold(), device.line):
            return device
    names = ", ".join(device.name for device in devices)
    raise NotFoundError("demo.no_such_device", f"The demo has no device {word}.", remedy=f"It has {names}.")
