"""Scales and scanners on real lines, against their simulators as programs of their own."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.faces import AnyFace, RunnerScale, RunnerScanner, face_of
from drivers.registry import load
from drivers.runner import Runner
from drivers.transport import open_transport
from hubd.model.device import DeviceState
from hubd.ports import NoWeight, Scan, Weight
from hubd.runtime import system_runtime
from tests.rigs.process import Child, wait_until

TIMEOUT_S = 20.0
RUNTIME = system_runtime()
REGISTRY = load()
ROOT = Path(__file__).parents[2]
EAN = "4006381333931"


class Simulator:
    """The simulator's process on a pseudo-terminal or a port, and its control socket."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._control = directory / "control"
        self._child: Child | None = None

    def start(self, kind: str, line: str, *options: str) -> str:
        """Start it; return its address."""
        where = ["--tcp", "127.0.0.1:0"] if line == "tcp" else ["--pty", str(self._directory / "tty")]
        command = [sys.executable, "-m", f"drivers.sim.{kind}", *where, "--control", str(self._control), *options]
        self._child = Child(command, cwd=ROOT)
        self._child.start()
        self._child.wait_for_text('"address"', TIMEOUT_S)
        address: str = json.loads(self._child.stdout().splitlines()[-1])["address"]
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

    def close(self) -> None:
        if self._child is not None:
            self._child.close()


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    made = Simulator(tmp_path)
    yield made
    made.close()


@asynccontextmanager
async def running(driver_id: str, url: str, options: dict[str, str] | None = None) -> AsyncIterator[AnyFace]:
    """The face of a device that is ready."""
    runner = Runner("d1", REGISTRY.factory(driver_id), url, open_transport, RUNTIME, lambda *_: None, options or {})
    face = face_of(runner)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(runner.run(), name="runner")
        try:
            await wait_until(lambda: face.status.state is DeviceState.READY, TIMEOUT_S, "a ready device")
            yield face
        finally:
            task.cancel()


@pytest.mark.parametrize("driver_id", ["toledo8217", "cas", "cas_stream"])
@pytest.mark.parametrize("line", ["pty", "tcp"])
async def test_weights_on_a_real_line(simulator: Simulator, driver_id: str, line: str) -> None:
    url = simulator.start("scale", line, "--protocol", driver_id, "--grams", "345")
    if line == "pty":
        url = f"{url.partition('?')[0]}?baud=9600&stop_bits=1"
    async with running(driver_id, url) as scale:
        assert isinstance(scale, RunnerScale)
        assert await scale.weigh() == Weight(345)
        simulator.tell(cmd="stable", value=False)
        said = await scale.weigh()
        assert isinstance(said, NoWeight)
        assert said.reason in ("in_motion", "unconfirmed")
        simulator.tell(cmd="stable", value=True)
        simulator.tell(cmd="fault", name="split_bytes", value=1)
        simulator.tell(cmd="weight", grams=1270)
        assert await scale.weigh() == Weight(1270)
        simulator.tell(cmd="unplug")
        await wait_until(lambda: scale.status.state is DeviceState.GONE, TIMEOUT_S, "a scale that is gone")
        simulator.tell(cmd="replug")
        await wait_until(lambda: scale.status.state is DeviceState.READY, TIMEOUT_S, "a scale that is back")
        assert await scale.weigh() == Weight(1270)


@pytest.mark.parametrize(
    ("driver_id", "mode", "scheme", "options"),
    [
        ("serial_scanner", ["--mode", "serial", "--end", "crlf"], "serial", {}),
        ("serial_scanner", ["--mode", "serial", "--end", "quiet"], "serial", {"end": "quiet"}),
        ("hid_scanner", ["--mode", "hid"], "hidraw", {}),
        ("keyboard_scanner", ["--mode", "keyboard", "--layout", "be"], "evdev", {"layout": "be"}),
    ],
)
async def test_scans_on_a_real_line(
    simulator: Simulator, driver_id: str, mode: list[str], scheme: str, options: dict[str, str]
) -> None:
    url = simulator.start("scanner", "pty", *mode)
    url = url.partition("?")[0].replace("serial://", f"{scheme}://")
    heard: list[Scan] = []
    async with running(driver_id, url, options) as scanner:
        assert isinstance(scanner, RunnerScanner)
        scanner.listen(heard.append)

        async def heard_again() -> bool:
            """What comes before the line has been quiet once is dropped, so the first may have to be repeated."""
            before = len(heard)
            simulator.tell(cmd="scan", text=EAN, symbology="ean13")
            await asyncio.to_thread(simulator.tell, cmd="sent")
            return await _grown(heard, before)

        await wait_until(heard_again, TIMEOUT_S, "a scan")
        simulator.tell(cmd="scan", text="4111111111111111", symbology="code128")
        await wait_until(lambda: scanner.status.problem == "card_data_refused", TIMEOUT_S, "the problem")
        assert await heard_again()
    assert {scan.text for scan in heard} == {EAN}
    assert {scan.symbology for scan in heard} == {"" if mode[1] == "keyboard" else "ean13"}


async def _grown(heard: list[Scan], before: int) -> bool:
    try:
        await wait_until(lambda: len(heard) > before, 2.0, "a scan")
    except AssertionError:
        return False
    return True
