"""The Caisse-AP driver on a real line against the simulator as a program of its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from drivers.caisse_ap import CaisseApTerminal
from hubd.model.device import DeviceState
from hubd.ports import Approved, Declined, NotStarted, Progress, Unknown
from tests.rigs.process import wait_until
from tests.rigs.terminal import ROOT, START_TIMEOUT_S, STATE_TIMEOUT_S, Counter, SimulatorProgram, counter


def shop(url: str) -> AbstractAsyncContextManager[Counter]:
    return counter(CaisseApTerminal, url)


@pytest.fixture(params=["kept", "closed"])
def simulator(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimulatorProgram]:
    made = SimulatorProgram("drivers.sim.caisse_ap", tmp_path, "--lines", request.param)
    yield made
    made.child.close()


async def test_payments_on_a_real_line(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made:
        assert isinstance(await made.pay(2040), Approved)
        assert made.progress == [Progress("started")]
        assert isinstance(await made.pay(1005), Declined)
        assert isinstance(await made.pay(1020), NotStarted)
        assert isinstance(await made.pay(1013), Unknown)
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(777), Approved)
    assert simulator.ledger() == [(2040, "approved"), (1005, "declined"), (1013, "approved"), (777, "approved")]
    assert simulator.child.stop() == 0


async def test_a_killed_terminal_comes_back_and_nothing_is_charged_twice(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made, asyncio.TaskGroup() as group:
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: Progress("started") in made.progress, STATE_TIMEOUT_S, "the payment")
        simulator.child.kill()
        assert isinstance(await paying, Unknown)
        simulator.start()
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(700), Approved)
    assert simulator.ledger() == [(700, "approved")]


async def test_unplugged_and_plugged_in_again(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made:
        simulator.tell(cmd="unplug")
        outcome = await made.pay(500)
        assert isinstance(outcome, NotStarted)
        assert outcome.reason == "terminal_unreachable"
        await made.state(DeviceState.GONE)
        simulator.tell(cmd="replug")
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(500), Approved)


@pytest.mark.blocking_allowed("the program ends at once")
def test_the_simulator_says_what_it_cannot_do() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "drivers.sim.caisse_ap", "--pty", "tty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert refused.returncode == 2
    assert "no serial line" in refused.stderr
