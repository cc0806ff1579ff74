"""A driver on its runner, against its simulator, on lines that a test spoils; all in virtual time.

Part of the kit for drivers: those of the hub and those of other packages are tested with it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

from drivers.base import RECOVERS_WITHIN_S, DriverFactory
from drivers.faces import AnyFace, face_of
from drivers.kit.memory_line import Delivery, MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock
from drivers.runner import Runner
from drivers.sim.peripheral import PeripheralSimulator
from hubd.model.device import DeviceState
from hubd.ports import TerminalStatus
from hubd.runtime import Runtime, SystemIds

S = TypeVar("S", bound=PeripheralSimulator)
READY_TIMEOUT_S = 900.0
"""The longest that a runner may take to come back to a device that is well again."""
HEARD = frozenset({"card_data_refused", "scans_unusable"})
Spoil = Callable[[int, bytes], list[Delivery]]
"""What becomes of the n-th block of one direction."""
SETTLED_S = 1.0
"""After opening, for what a driver lets pass before it trusts a line."""


@dataclass(slots=True)
class Line:
    """One connection of the bench: both ends, and what was written on each."""

    hub: MemoryStream
    device: MemoryStream
    hub_blocks: list[bytes] = field(default_factory=list)
    device_blocks: list[bytes] = field(default_factory=list)

    def watch(self, spoil_hub: Spoil | None = None, spoil_device: Spoil | None = None) -> None:
        """Count blocks from now on, and let them be spoiled."""
        self.hub_blocks, self.device_blocks = [], []
        self.hub.tamper = self._tamper(self.hub_blocks, spoil_hub)
        self.device.tamper = self._tamper(self.device_blocks, spoil_device)

    @staticmethod
    def _tamper(blocks: list[bytes], spoil: Spoil | None) -> Callable[[bytes], list[Delivery]]:
        def tamper(data: bytes) -> list[Delivery]:
            blocks.append(data)
            return spoil(len(blocks) - 1, data) if spoil else [Delivery(data)]

        return tamper


class PeripheralBench(Generic[S]):
    """Made by `peripheral_bench()`; the device is ready when a test gets it."""

    def __init__(
        self,
        factory: DriverFactory,
        url: str,
        make: Callable[[Runtime], S],
        options: Mapping[str, str],
        group: asyncio.TaskGroup,
        recovers_within_s: float,
    ) -> None:
        self.url = url
        self.recovers_within_s = recovers_within_s
        self.clock = VirtualClock()
        self.runtime = Runtime(self.clock, SystemIds(), random.Random(7), b"b" * 16)
        self.simulator = make(self.runtime)
        self.lines: list[Line] = []
        self.states: list[TerminalStatus] = []
        self.on_line: Callable[[Line], None] | None = None
        self._group = group
        self.runner = Runner(
            "device",
            factory,
            url,
            self._open,
            self.runtime,
            lambda _, status: self.states.append(status),
            options,
        )
        self.face: AnyFace = face_of(self.runner)

    async def _open(self, url: str) -> MemoryStream:
        assert url == self.url
        if not self.simulator.plugged:
            raise ConnectionRefusedError("nobody listens")
        hub, device = memory_pipe()
        line = Line(hub, device)
        self.lines.append(line)
        if self.on_line:
            self.on_line(line)
        self._group.create_task(self._serve(device), name=f"device:{len(self.lines)}")
        return hub

    async def _serve(self, device: MemoryStream) -> None:
        await self.simulator.serve(device, serial=True)

    @property
    def line(self) -> Line:
        """The newest line."""
        return self.lines[-1]

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Let virtual time go on until the condition holds."""
        end = self.clock.monotonic() + timeout_s
        while not condition():
            assert self.clock.monotonic() < end, f"waited {timeout_s} virtual seconds in vain for {what}"
            await self.clock.sleep(0.05)

    @property
    def works(self) -> bool:
        """Whether it is ready, or shows a problem that only says what it has heard."""
        status = self.face.status
        return status.state is DeviceState.READY or status.problem in HEARD

    async def ready(self) -> None:
        """Wait until the device works and its line has been quiet for a moment, no longer than its driver states."""
        await self.until(lambda: self.works, "a ready device", self.recovers_within_s)
        await self.clock.sleep(SETTLED_S)
        await self.until(lambda: self.works, "a ready device", self.recovers_within_s)


@asynccontextmanager
async def peripheral_bench(
    factory: DriverFactory,
    url: str,
    make: Callable[[Runtime], S],
    options: Mapping[str, str] = MappingProxyType({}),
    *,
    recovers_within_s: float = RECOVERS_WITHIN_S,
) -> AsyncIterator[PeripheralBench[S]]:
    """A ready device that has to work again so long after a fault as its manifest states.

    At the end the runner is stopped and no task may be left.
    """
    async with asyncio.TaskGroup() as group:
        made = PeripheralBench(factory, url, make, options, group, recovers_within_s)
        task = group.create_task(made.runner.run(), name="runner")
        try:
            await made.ready()
            yield made
        finally:
            task.cancel()
