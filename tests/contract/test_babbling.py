"""A device that talks without end, as fast as its line carries: it is dropped, and tried again ever more seldom."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - the test makes the Runtime that everybody else is given

import pytest

from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.runner import Runner
from hubd.model.device import DeviceState
from hubd.runtime import Runtime, SystemIds
from tests.contract.terminal_bench import REGISTRY

BYTES_PER_S = 11_520
"""115,200 baud."""
BABBLED_S, STEP_S = 60.0, 0.02
ENOUGH_OPENINGS = 10
"""In that time; without back-off a device that is dropped at once would be opened more than a hundred times."""
DEVICES = {
    "zvt": "serial:///dev/ttyUSB0",
    "concert": "serial:///dev/ttyUSB0",
    "caisse_ap": "tcp://device:1",
    "opi": "tcp://device:1",
    "poslink": "tcp://device:1",
    "escpos": "tcp://device:9100",
    "cas": "serial:///dev/ttyUSB0",
    "cas_stream": "serial:///dev/ttyUSB0",
    "toledo8217": "serial:///dev/ttyUSB0",
}


@pytest.mark.parametrize("driver_id", DEVICES)
def test_a_babbling_device_is_dropped_and_tried_more_and_more_seldom(driver_id: str) -> None:
    async def main() -> tuple[int, DeviceState]:
        clock = VirtualClock()
        runtime = Runtime(clock, SystemIds(), random.Random(7), b"b" * 16)
        ends: list[MemoryStream] = []

        async def opened(_: str) -> MemoryStream:
            hub, device = memory_pipe()
            ends.append(device)
            return hub

        url = DEVICES[driver_id]
        runner = Runner("d1", REGISTRY.factory(driver_id), url, opened, runtime, lambda *_: None)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(runner.run(), name="runner")
            began = clock.monotonic()
            while clock.monotonic() < began + BABBLED_S:
                await clock.sleep(STEP_S)
                for device in ends:
                    if device.alive:
                        await device.write(b"~" * int(BYTES_PER_S * STEP_S))
            state = runner.status().state
            task.cancel()
        return len(ends), state

    openings, state = run(main())
    assert 2 <= openings <= ENOUGH_OPENINGS
    assert state not in (DeviceState.READY, DeviceState.BUSY)
