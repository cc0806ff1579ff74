"""A device that talks without end: its line is given up, it is shown with a remedy, and tried ever more seldom."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - the test makes the Runtime that everybody else is given
from dataclasses import dataclass, field

import pytest

from drivers.base import Driver
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.registry import BUILT_IN
from drivers.runner import BABBLE_SHOWN_S, Runner
from hubd.model.device import DeviceState
from hubd.ports import Scan, TerminalStatus
from hubd.runtime import Runtime, SystemIds
from tests.contract.terminal_bench import KINDS, REGISTRY

SERIAL_BYTES_PER_S = 11_520
"""115,200 baud."""
NETWORK_BYTES_PER_S = 4_000_000
LINE_HOLDS_BYTES = 128 * 1024
"""Unread; then the device has to wait."""
BABBLED_S, STEP_S = 60.0, 0.02
ENOUGH_OPENINGS = 10
"""In that time; without back-off a device that is dropped at once would be opened more than a hundred times."""
TTY = "serial:///dev/ttyUSB0"
ADDRESSES = {
    "zvt": TTY,
    "concert": TTY,
    "caisse_ap": "tcp://device:1",
    "opi": "tcp://device:1",
    "nexo": "tls://device:8443",
    "poslink": "tcp://device:1",
    "escpos": "tcp://device:9100",
    "ipp": "tcp://device:631/ipp/print",
    "cas": TTY,
    "cas_stream": TTY,
    "toledo8217": TTY,
    "serial_scanner": TTY,
    "hid_scanner": "hidraw:///dev/hidraw0",
    "keyboard_scanner": "evdev:///dev/input/event5",
    "gsm_modem": TTY,
}
RANDOM = random.Random(7).randbytes(64 * 1024)
NOISES = {
    "one byte": b"~" * 4096,
    "text": bytes(0x21 + byte % 0x5E for byte in RANDOM if byte % 0x5E),
    "lines": (b"AQ17" * 3 + b"\r\n") * 256,
    "status": b"\x12" * 4096,
    "anything": RANDOM,
}
KEY_RECORDS = bytes.fromhex("00" * 16 + "01001e0002000000") * 160
"""A key that is held down, as the kernel tells it."""


def test_every_driver_of_ours_is_made_to_babble() -> None:
    assert set(ADDRESSES) == {module.partition(".")[2] for module in BUILT_IN}


@dataclass
class Babbler:
    """A device on its runner, in virtual time, that can be told to talk as fast as its line takes it, without end."""

    driver_id: str
    url: str = ""
    ends: list[MemoryStream] = field(default_factory=list)
    states: list[TerminalStatus] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.runtime = Runtime(self.clock, SystemIds(), random.Random(7), b"b" * 16)
        self.url = self.url or ADDRESSES[self.driver_id]
        options = KINDS[self.driver_id].options if self.driver_id in KINDS else {}
        self.runner = Runner(
            "d1",
            REGISTRY.factory(self.driver_id),
            self.url,
            self._opened,
            self.runtime,
            lambda _, status: self.states.append(status),
            options,
        )

    async def _opened(self, _: str) -> MemoryStream:
        hub, device = memory_pipe()
        self.ends.append(device)
        return hub

    async def babble(self, noise: bytes, bytes_per_s: int, seconds: float) -> None:
        block = noise * -(-int(bytes_per_s * STEP_S) // len(noise))
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.clock.sleep(STEP_S)
            for device in self.ends:
                if device.alive and device.unread < LINE_HOLDS_BYTES:
                    await device.write(block[: int(bytes_per_s * STEP_S)])


def babbled(driver_id: str, noise: bytes, bytes_per_s: int, url: str = "") -> tuple[int, TerminalStatus]:
    """How often its line was opened, and how it is shown in the end."""

    async def main() -> tuple[int, TerminalStatus]:
        made = Babbler(driver_id, url)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(made.runner.run(), name="runner")
            await made.babble(noise, bytes_per_s, BABBLED_S)
            status = made.runner.status()
            task.cancel()
        return len(made.ends), status

    return run(main())


@pytest.mark.parametrize("bytes_per_s", [SERIAL_BYTES_PER_S, NETWORK_BYTES_PER_S])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("driver_id", ADDRESSES)
def test_a_babbling_device_is_dropped_and_tried_more_and_more_seldom(
    driver_id: str, noise: str, bytes_per_s: int
) -> None:
    openings, status = babbled(driver_id, NOISES[noise], bytes_per_s)
    assert 2 <= openings <= ENOUGH_OPENINGS
    assert status.state not in (DeviceState.READY, DeviceState.BUSY)
    assert status.problem
    assert status.remedy


@pytest.mark.parametrize(
    ("driver_id", "frames"),
    [
        ("zvt", bytes.fromhex("04ff03060000")),
        ("escpos", b"\x12"),
        ("cas_stream", b"ST,GS,01,00000345 kg\r\n"),
        ("gsm_modem", b'\r\n+CMTI: "SM",1\r\n'),
        ("keyboard_scanner", KEY_RECORDS),
    ],
)
def test_what_means_something_is_babble_too_when_it_does_not_end(driver_id: str, frames: bytes) -> None:
    url = "tcp://device:20007" if driver_id == "zvt" else ""
    openings, status = babbled(driver_id, frames, NETWORK_BYTES_PER_S, url)
    assert 2 <= openings <= ENOUGH_OPENINGS
    assert status.state not in (DeviceState.READY, DeviceState.BUSY)
    assert status.remedy


@pytest.mark.parametrize("driver_id", ["serial_scanner", "hid_scanner"])
def test_a_scanner_that_babbled_is_shown_so_all_the_time_and_well_again_afterwards(driver_id: str) -> None:
    """A scanner says nothing when its line is opened, so each new line would look as if all were well."""

    async def main() -> None:
        made, heard = Babbler(driver_id), list[Scan]()
        driver: Driver = made.runner.driver
        driver.listen(heard.append)  # type: ignore[attr-defined]  # it is a scanner's
        async with asyncio.TaskGroup() as group:
            task = group.create_task(made.runner.run(), name="runner")
            await made.babble(NOISES["one byte"], SERIAL_BYTES_PER_S, 2 * BABBLE_SHOWN_S)
            since = next(index for index, status in enumerate(made.states) if status.problem == "babble")
            assert {(status.state, status.problem) for status in made.states[since:]} == {
                (DeviceState.FAULTY, "babble")
            }
            assert "cable" in made.runner.status().remedy
            await made.clock.sleep(2 * BABBLE_SHOWN_S)
            assert made.runner.status().state is DeviceState.READY
            assert heard == []
            task.cancel()

    run(main())
