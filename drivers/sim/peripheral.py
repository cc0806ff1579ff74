"""What simulated devices that hold no money share: lines, faults, the plug, and their command line."""

from __future__ import annotations

import abc
import argparse
import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from drivers.sim.faults import FaultyStream, LineFaults
from drivers.sim.program import Program, add_lines
from hubd.ports import ByteStream
from hubd.runtime import Runtime


class PeripheralSimulator(abc.ABC):
    """One device with any number of lines to it. No transport, no thread, no time of its own."""

    commands = ""
    """Names of the control commands that a kind of device has beside the common ones."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lines: dict[FaultyStream, ByteStream] = {}
        self.faults = LineFaults()
        self.plugged = True

    @abc.abstractmethod
    async def talk(self, stream: FaultyStream) -> None:
        """Speak the protocol on one line until it is lost: return, or raise OSError."""

    @abc.abstractmethod
    async def obey(self, request: dict[str, object]) -> dict[str, object] | None:
        """A control command of this kind of device; None for one that it does not have."""

    async def serve(self, stream: ByteStream, *, serial: bool = False) -> None:
        """Talk on one line until it is lost. Cancellation closes it."""
        if not self.plugged:
            await stream.close()
            return
        faulty = FaultyStream(stream, self.faults, self._runtime)
        self._lines[faulty] = stream
        try:
            if self.faults.greeting:
                await faulty.write(bytes.fromhex(self.faults.greeting))
            await self.talk(faulty)
        except OSError:
            pass  # the line is lost; the next one finds the device as it is
        finally:
            await faulty.close()
            self._lines.pop(faulty, None)

    async def say(self, block: bytes) -> None:
        """Write one block on every line; one that is lost says so to whoever reads it."""
        for line in tuple(self._lines):
            try:
                await line.write(block)
            except OSError:
                continue

    async def unplug(self) -> None:
        """Pull the cable: every line is lost, and none can be opened."""
        self.plugged = False
        await self.hang_up()

    def replug(self) -> None:
        """Plug the cable in again."""
        self.plugged = True

    async def hang_up(self) -> None:
        """Lose every line."""
        for stream in tuple(self._lines.values()):
            await stream.close()

    async def control(self, request: dict[str, object]) -> dict[str, object]:
        """One command of the control socket; raises ValueError for what is not understood."""
        match request:
            case {"cmd": "unplug"}:
                await self.unplug()
            case {"cmd": "replug"}:
                self.replug()
            case {"cmd": "fault", "name": str(name), "value": value}:
                self.faults.set(name, value)
            case {"cmd": "well"}:
                self.faults.clear()
            case {"cmd": "said"}:
                return self.faults.said_json()
            case _:
                answer = await self.obey(request)
                if answer is None:
                    raise ValueError(f"commands are {self.commands}, unplug, replug, fault, well, said")
                return answer
        return {"ok": True}


def peripheral_parser(module: str, what: str) -> argparse.ArgumentParser:
    """Arguments that every one of these simulators takes."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=f"{what} Prints one JSON line with its address when it is ready."
    )
    add_lines(parser)
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="unix socket for commands, one JSON line each")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=VALUE", help="begin with this fault")
    return parser


async def run_peripheral(
    simulator: PeripheralSimulator,
    arguments: argparse.Namespace,
    *,
    mdns: str = "",
    txt: Mapping[str, str] = MappingProxyType({}),
    stop: asyncio.Event | None = None,
) -> None:
    """Run until SIGTERM or `stop`; `mdns`, `txt` as `Program.run` has them. Raises ValueError for an unknown fault."""
    for fault in arguments.fault:
        name, _, value = fault.partition("=")
        simulator.faults.set(name, json.loads(value or "true"))
    await Program(simulator).run(
        tcp=arguments.tcp,
        pty=arguments.pty,
        device=arguments.device,
        control=arguments.control,
        mdns=mdns,
        txt=txt,
        stop=stop,
    )
