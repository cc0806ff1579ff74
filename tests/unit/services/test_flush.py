"""When a flush tries again: at once when the terminal or the service is back, seldom while nothing has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random as SeededRandom  # noqa: TID251 - the seed itself, made in one place

import pytest

from drivers.kit.virtual_time import VirtualClock, run
from drivers.sim.zvt import ZvtSimulator
from hubd.model.mode import Facts, Mode
from hubd.model.payment import Custody
from hubd.runtime import Runtime, SystemIds
from hubd.services.flush import FLUSH_PAUSE_MIN_S, FLUSH_RETRY_S
from tests.simulation.disk import Disk
from tests.simulation.seeded import stream
from tests.unit.services.shop import BOOT, Shop, Terminals, shop
from tests.unit.services.test_outage import HOPS, allow_offline

pytestmark = pytest.mark.blocking_allowed("the database runs inline, on a loop whose time is virtual")
URL = "tcp://terminal-1"
AT_ONCE_S = 4.0
"""What the dialogue itself takes, and the writing of it."""


class Till:
    """A shop in virtual time, with one stored payment in its terminal."""

    def __init__(self, opened: Shop, terminal: str) -> None:
        self.opened, self.terminal, self.payment = opened, terminal, ""
        self.clock = opened.services.runtime.clock
        self.simulator: ZvtSimulator = opened.counter.simulators[URL]

    async def measure(self, *, up: bool) -> None:
        facts = Facts(cloud_expected=False)
        for _ in range(15):
            now_ms = int(self.clock.monotonic() * 1000)
            for hop in HOPS:
                facts = facts.with_hop(hop, facts.hop(hop).measured(up or hop is HOPS[0], now_ms))
            await self.opened.services.outages.observe(facts)
            await self.clock.sleep(1.0)
        assert self.opened.services.outages.snapshot().mode is (Mode.ONLINE if up else Mode.NETWORK_OUTAGE)

    async def store_one(self) -> None:
        await self.measure(up=True)
        self.simulator.host_up = False
        await self.measure(up=False)
        taken = await self.opened.take(2000)
        self.payment = (await self.opened.until(taken.payment.id, "stored")).id

    async def tries(self) -> int:
        history = await self.opened.services.payments.history(self.payment)
        return sum(1 for entry in history if entry.kind == "payment.forwarding")

    async def unplug(self) -> None:
        self.opened.counter.unplugged.add(URL)
        await self.simulator.unplug()

    def plug_in(self) -> None:
        self.opened.counter.unplugged.discard(URL)
        self.simulator.replug()

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> float:
        """Virtual seconds until this is so."""
        began = self.clock.monotonic()
        async with self.clock.timeout(600):
            while not await holds():
                await self.clock.sleep(0.1)
        return self.clock.monotonic() - began

    async def is_ready(self) -> bool:
        status = self.opened.services.terminals.status(self.terminal)
        return status is not None and status.state == "ready"

    async def is_silent(self) -> bool:
        return not await self.is_ready()

    async def is_sent(self) -> bool:
        return (await self.opened.services.payments.get(self.payment)).custody is Custody.FORWARDED


def with_a_stored_payment(folder: Path, story: Callable[[Till], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = VirtualClock()
        runtime = Runtime(clock, SystemIds(), SeededRandom(7), BOOT, b"1-process")
        disk = Disk(folder, clock, stream(1, "disk"), lambda _head, _confirmed: None)
        counter = Terminals(runtime)
        counter.add(URL)
        async with shop(folder, counter, runtime, open_thread=disk.open_thread) as opened:
            till = Till(opened, await opened.add_terminal(URL))
            await allow_offline(opened)
            await till.store_one()
            await story(till)

    run(main())


@pytest.mark.parametrize("minutes", [0.3, 1.0, 7.5])
def test_a_terminal_that_comes_back_sends_at_once(tmp_path: Path, minutes: float) -> None:
    async def story(till: Till) -> None:
        await till.unplug()
        await till.until(till.is_silent)
        till.simulator.host_up = True
        await till.measure(up=True)
        await till.clock.sleep(minutes * 60)
        assert await till.tries() == 0
        till.plug_in()
        await till.until(till.is_ready)
        assert await till.until(till.is_sent) < AT_ONCE_S
        assert await till.tries() == 1

    with_a_stored_payment(tmp_path, story)


def test_a_flush_that_fails_while_the_terminal_is_ready_is_tried_again_seldom(tmp_path: Path) -> None:
    async def story(till: Till) -> None:
        await till.measure(up=True)  # the hub is online, the terminal's own host is not
        await till.clock.sleep(10 * 60)
        assert 10 * 60 / (FLUSH_RETRY_S * 2) < await till.tries() <= 10 * 60 / FLUSH_RETRY_S + 2
        till.simulator.host_up = True
        await till.until(till.is_sent)

    with_a_stored_payment(tmp_path, story)


def test_a_terminal_that_breaks_down_and_returns_all_the_time_is_not_worn_out(tmp_path: Path) -> None:
    async def story(till: Till) -> None:
        await till.measure(up=True)
        began, before = till.clock.monotonic(), await till.tries()
        for _ in range(40):
            await till.until(till.is_ready)
            await till.clock.sleep(0.2)
            await till.unplug()
            await till.until(till.is_silent)
            till.plug_in()
        passed = till.clock.monotonic() - began
        assert 0 < await till.tries() - before <= passed / FLUSH_PAUSE_MIN_S + 1

    with_a_stored_payment(tmp_path, story)


def test_service_that_is_back_ends_the_pause_too(tmp_path: Path) -> None:
    async def story(till: Till) -> None:
        await till.measure(up=True)
        await till.clock.sleep(FLUSH_PAUSE_MIN_S)
        await till.measure(up=False)
        till.simulator.host_up = True
        before = await till.tries()
        await till.measure(up=True)
        assert await till.tries() > before
        assert await till.is_sent()

    with_a_stored_payment(tmp_path, story)
