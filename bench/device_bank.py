"""Thirty simulated devices of a shop in one process, one of which can be told to babble at line speed.

`python -m bench.device_bank PLACE PORT …`: a port for each device on the network; serial lines are pseudo-terminals
that are linked in PLACE. On the socket `PLACE/bank` a line `babble KIND` lets the first device of that kind talk
without end, `well` ends it; each is answered when it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from drivers.sim.caisse_ap.engine import CaisseApSimulator
from drivers.sim.escpos.engine import EscposSimulator
from drivers.sim.program import Engine, PtyStream
from drivers.sim.scale.engine import SCALES
from drivers.sim.scanner.engine import SerialScannerSimulator
from drivers.sim.zvt.engine import SimulatorOptions, ZvtSimulator
from drivers.transport.stream import AsyncioStream
from drivers.transport.tcp import prepare_socket
from hubd.ports import ByteStream
from hubd.runtime import Runtime, system_runtime

FIRST_NUMBER = 52_500_000
BLOCK_BYTES = 64 * 1024
NETWORK = ("zvt",) * 10 + ("caisse_ap",) * 2 + ("escpos",) * 6
SERIAL = ("serial_scanner",) * 6 + ("toledo8217",) * 4 + ("cas", "cas_stream")
DEVICES = (*NETWORK, *SERIAL)
"""The driver of each, thirty together."""
SOCKET = "bank"
LINE = "baud=9600&stop_bits=1"
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""No digits: a scanner that seems to read payment cards has another problem."""


def garbage(kind: str) -> bytes:
    """What the device says again and again: text without an end, a status that nobody has asked for, or anything."""
    rng = random.Random(kind)
    if kind == "serial_scanner":
        return bytes(rng.choices(_LETTERS, k=BLOCK_BYTES))
    return b"\x12" * BLOCK_BYTES if kind == "escpos" else rng.randbytes(BLOCK_BYTES)


def link(place: Path, number: int) -> Path:
    """The serial line of this device."""
    return place / f"tty{number}"


def serial_addresses(place: Path) -> list[str]:
    """Where the hub finds the devices on serial lines."""
    return [f"serial://{link(place, number)}?{LINE}" for number in range(len(NETWORK), len(DEVICES))]


def _engine(runtime: Runtime, number: int) -> Engine:
    options = SimulatorOptions(terminal_id=str(FIRST_NUMBER + number))
    make: dict[str, Callable[[], Engine]] = {
        "zvt": lambda: ZvtSimulator(runtime, options),
        "caisse_ap": lambda: CaisseApSimulator(runtime),
        "escpos": lambda: EscposSimulator(runtime),
        "serial_scanner": lambda: SerialScannerSimulator(runtime),
    }
    kind = DEVICES[number]
    return make[kind]() if kind in make else SCALES[kind](runtime)


class Device:
    """One device with its lines; while it babbles, it does nothing else on them."""

    def __init__(self, engine: Engine, kind: str) -> None:
        self.kind = kind
        self._engine, self._garbage = engine, garbage(kind)
        self._babbling = asyncio.Event()
        self._well = asyncio.Event()
        self._well.set()

    def babble(self, on: bool) -> None:
        (self._babbling if on else self._well).set()
        (self._well if on else self._babbling).clear()

    async def serve(self, stream: ByteStream, *, serial: bool = False) -> None:
        """Talk on one line until it is lost."""
        with contextlib.suppress(OSError):
            async with asyncio.TaskGroup() as group:
                noise = group.create_task(self._noise(stream))
                try:
                    await self._engine.serve(stream, serial=serial)
                finally:
                    noise.cancel()

    async def _noise(self, stream: ByteStream) -> None:
        try:
            while await self._babbling.wait():
                await stream.write(self._garbage)
        except OSError:
            return  # the hub has had enough of it


async def _accept(device: Device, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    prepare_socket(writer.get_extra_info("socket"))
    stream = AsyncioStream(reader, writer)
    try:
        await device.serve(stream)
    finally:
        await stream.close()


async def _serial(device: Device, stream: PtyStream) -> None:
    await device.serve(stream, serial=True)


async def _control(devices: Sequence[Device], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := (await reader.readline()).decode().split():
        for device in devices:
            device.babble(False)
        if line[0] == "babble":
            next(device for device in devices if device.kind == line[1]).babble(True)
        writer.write(b"done\n")
        await writer.drain()
    writer.close()


async def serve(place: Path, ports: Sequence[int]) -> None:
    """All devices, for ever."""
    runtime = system_runtime()
    devices = [Device(_engine(runtime, number), kind) for number, kind in enumerate(DEVICES)]
    async with contextlib.AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for device, port in zip(devices, ports, strict=False):
            await stack.enter_async_context(await asyncio.start_server(partial(_accept, device), "127.0.0.1", port))
        for number in range(len(NETWORK), len(DEVICES)):
            stream = PtyStream()
            link(place, number).symlink_to(stream.path)
            group.create_task(_serial(devices[number], stream))
        control = await asyncio.start_unix_server(partial(_control, devices), place / SOCKET)
        await stack.enter_async_context(control)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]]))
