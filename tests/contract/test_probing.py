"""Asking what hangs on a serial line: every device is recognised or not known, and none of them does anything.

Every way of asking is tried on every simulated device, alone and in its turn, in virtual time; the line is one line
all the time, as a cable is, so a session that a question has opened is met by the next one.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - this test makes the Runtime that everybody else is given
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from drivers.base import Manifest
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.probing import candidates, find_out
from drivers.sim.caisse_ap import CaisseApSimulator
from drivers.sim.concert import ConcertSimulator
from drivers.sim.escpos import EscposSimulator
from drivers.sim.escpos.engine import PrinterOptions
from drivers.sim.opi import OpiSimulator
from drivers.sim.poslink import PoslinkSimulator
from drivers.sim.program import Engine
from drivers.sim.scale import SCALES, ScaleSimulator
from drivers.sim.scale.engine import CasSimulator, ToledoSimulator
from drivers.sim.scanner.engine import SerialScannerSimulator
from drivers.sim.terminal import TerminalSimulator
from drivers.sim.zvt import ZvtSimulator
from hubd.discovery_ports import Probed, ProbeOutcome
from hubd.errors import DeviceError
from hubd.ports import ByteStream
from hubd.runtime import Runtime, SystemIds
from tests.contract.terminal_bench import REGISTRY

URL = "serial:///dev/ttyUSB0"
MANIFESTS = [entry.manifest for entry in REGISTRY.entries if entry.manifest is not None]
WAYS = candidates(MANIFESTS)
SECONDS_MAX = 15.0
ENQ, EOT = b"\x05", b"\x04"


def a_scale(kind: str) -> Callable[[Runtime], Engine]:
    def make(runtime: Runtime) -> Engine:
        made = SCALES[kind](runtime)
        made.grams = 120  # little enough that a command to set it to zero would be obeyed
        return made

    return make


def unready_cas(runtime: Runtime) -> Engine:
    made = CasSimulator(runtime)
    made.ready = False
    return made


DEVICES: dict[str, tuple[Callable[[Runtime], Engine], str]] = {
    "zvt": (ZvtSimulator, "zvt"),
    "concert": (ConcertSimulator, "concert"),
    "escpos": (EscposSimulator, "escpos"),
    "escpos_mute": (lambda runtime: EscposSimulator(runtime, PrinterOptions(status=False)), ""),
    "toledo8217": (a_scale("toledo8217"), "toledo8217"),
    "cas": (a_scale("cas"), "cas"),
    "cas_not_ready": (unready_cas, ""),
    "cas_stream": (a_scale("cas_stream"), "cas_stream"),
    "scanner": (SerialScannerSimulator, ""),
    "poslink": (PoslinkSimulator, ""),
    "opi": (OpiSimulator, ""),
    "caisse_ap": (CaisseApSimulator, ""),
}
"""Name → what makes it, and the driver as which it is recognised; "": it is not."""
HANG_UP = frozenset({"poslink", "opi", "caisse_ap"})
"""What ends its line over a question, as nothing on a cable can."""
MAY_SEEM = {"concert": {"concert", "cas"}}
"""A way of asking → the devices that answer it like its own when they are asked nothing else."""


class Cable:
    """The hub's end of one line: opened and closed as often as it likes, and never two times at once."""

    def __init__(self, line: MemoryStream) -> None:
        self.line = line
        self.settings: list[str] = []
        self.sent: list[bytes] = []
        self._open = False

    async def open(self, url: str) -> ByteStream:
        assert not self._open, "the line is opened twice"
        self._open = True
        self.settings.append(url.partition("?")[2])
        return self

    async def read(self, max_bytes: int) -> bytes:
        return await self.line.read(max_bytes)

    async def write(self, data: bytes) -> None:
        self.sent.append(data)
        await self.line.write(data)

    async def close(self) -> None:
        assert self._open
        self._open = False


@dataclass
class Bench:
    """A device on a cable."""

    simulator: Engine
    cable: Cable
    clock: VirtualClock = field(default_factory=VirtualClock)

    async def says_nothing(self) -> bool:
        """Whether the line is silent for a minute: a terminal repeats what nobody has confirmed."""
        try:
            async with self.clock.timeout(60):
                return not await self.cable.line.read(1)
        except TimeoutError:
            return True

    async def find_out(self, manifests: list[Manifest] = MANIFESTS) -> Probed:
        begun = self.clock.monotonic()
        found = await find_out(URL, manifests, self.cable.open, self.clock)
        assert self.clock.monotonic() - begun < SECONDS_MAX
        return found


@asynccontextmanager
async def bench(make: Callable[[Runtime], Engine]) -> AsyncIterator[Bench]:
    runtime = Runtime(VirtualClock(), SystemIds(), random.Random(7), b"b" * 16)
    simulator = make(runtime)
    hub, device = memory_pipe()
    async with asyncio.TaskGroup() as group:
        cable = Cable(hub)

        async def serve(device: MemoryStream) -> None:
            """A device that hangs up comes back on a new line, as a pseudo-terminal does."""
            while True:
                await simulator.serve(device, serial=True)
                cable.line, device = memory_pipe()

        serving = group.create_task(serve(device), name="device")
        yield Bench(simulator, cable)
        serving.cancel()


def did_nothing(simulator: Engine) -> None:
    """No money, no paper, no drawer, no zero; nothing that it was told is left in force."""
    if isinstance(simulator, TerminalSimulator):
        assert simulator.authorizations_received == 0
        assert not simulator.ledger.transactions
    elif isinstance(simulator, EscposSimulator):
        assert [receipt.lines for receipt in simulator.receipts] == [[]]
        assert (simulator.pulses, simulator.overruns) == ([], 0)
    elif isinstance(simulator, ScaleSimulator):
        assert simulator.zeroed == 0
        assert simulator.grams in (0, 120)
        assert not (isinstance(simulator, ToledoSimulator) and simulator.echoes)
    else:
        assert isinstance(simulator, SerialScannerSimulator)
        assert simulator.sent == 0


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_is_recognised_or_not_known_and_does_nothing(name: str) -> None:
    make, driver = DEVICES[name]

    async def scenario() -> None:
        async with bench(make) as made:
            for _ in range(8):
                found = await made.find_out()
                assert found.driver == driver, found
                assert (found.outcome is ProbeOutcome.RECOGNISED) == bool(driver)
                did_nothing(made.simulator)
                assert not driver or found.line in made.cable.settings
                assert name == "cas_stream" or await made.says_nothing(), "the question is not over for the device"
                signals = b"".join(one for one in made.cable.sent if one in (ENQ, EOT))
                open_ones = signals.replace(ENQ + EOT, b"")
                assert name in HANG_UP or open_ones == b"", "a session of a Concert terminal is left open"

    run(scenario())


@pytest.mark.parametrize("name", DEVICES)
def test_every_way_of_asking_is_harmless_to_every_device(name: str) -> None:
    make, driver = DEVICES[name]

    async def scenario() -> None:
        async with bench(make) as made:
            for way in WAYS:
                (manifest,) = [one for one in MANIFESTS if one.id == way.driver]
                alone = replace(manifest, probes=(replace(way.probe, lines=(way.line,)),))
                found = await made.find_out([alone])
                did_nothing(made.simulator)
                meant = {way.driver} if way.driver == driver else set()
                seems = {way.driver} if name in MAY_SEEM.get(way.driver, ()) else set()
                assert ({found.driver} - {""}) <= meant | seems, (name, way.driver)
                assert not meant or found.driver, "the right way of asking was not answered"

    run(scenario())


def test_a_device_that_talks_by_itself_is_asked_nothing() -> None:
    async def scenario() -> None:
        for said in (b"\x00\xff\x9a", b"GPGGA,1,2\r\n", b"ST,GS,", bytes(range(256))):
            hub, device = memory_pipe()
            cable = Cable(hub)
            async with asyncio.TaskGroup() as group:

                async def babble(device: MemoryStream = device, said: bytes = said) -> None:
                    while True:
                        await device.write(said)
                        await VirtualClock().sleep(0.05)

                talking = group.create_task(babble(), name="babble")
                found = await find_out(URL, MANIFESTS, cable.open, VirtualClock())
                talking.cancel()
            assert found == Probed(ProbeOutcome.TALKS)
            assert cable.sent == []

    run(scenario())


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_stranger_answers_is_not_taken_for_a_device(seed: int) -> None:
    """An echo, and a device that answers anything with garbage of any length; it is asked no more once it goes on."""
    rng = random.Random(seed)

    async def scenario() -> None:
        hub, device = memory_pipe()
        cable = Cable(hub)
        async with asyncio.TaskGroup() as group:

            async def answer() -> None:
                while heard := await device.read(64):
                    await device.write(heard if seed == 0 else rng.randbytes(rng.randint(2, 40)))

            answering = group.create_task(answer(), name="stranger")
            found = await find_out(URL, MANIFESTS, cable.open, VirtualClock())
            answering.cancel()
        assert found.driver == ""

    run(scenario())


def test_what_answers_rightly_and_then_goes_on_is_not_the_device() -> None:
    async def scenario() -> None:
        hub, device = memory_pipe()
        cable = Cable(hub)
        async with asyncio.TaskGroup() as group:

            async def answer() -> None:
                while await device.read(64) != ENQ:
                    pass
                while True:
                    await device.write(b"\x06")
                    await VirtualClock().sleep(0.05)

            answering = group.create_task(answer(), name="stranger")
            found = await find_out(URL, MANIFESTS, cable.open, VirtualClock())
            answering.cancel()
        assert found == Probed(ProbeOutcome.TALKS)

    run(scenario())


def test_an_adapter_that_has_not_every_setting_is_asked_at_those_that_it_has() -> None:
    async def scenario() -> None:
        async with bench(DEVICES["zvt"][0]) as made:

            async def no_parity(url: str) -> ByteStream:
                if "parity" in url:
                    raise DeviceError("device.line_settings", "It has no such setting.")
                return await made.cable.open(url)

            found = await find_out(URL, MANIFESTS, no_parity, made.clock)
            assert found.driver == "zvt"

    run(scenario())


def test_the_order_is_fixed_and_what_listens_comes_first() -> None:
    order = list(dict.fromkeys(way.driver for way in WAYS))
    assert order == ["cas_stream", "escpos", "cas", "concert", "zvt", "toledo8217"]
    assert len({way.probe.order for way in WAYS}) == len(order), "the order depends on nothing else"
