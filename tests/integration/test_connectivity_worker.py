"""The worker that measures: its facts, its speed when a line breaks, and that service back means the hook is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hubd.identity import KeySigner
from hubd.model.mode import Hop, Hysteresis, Mode
from hubd.runtime import Runtime, SystemClock, SystemIds
from hubd.services.lines import ensure_line
from hubd.services.outages import OutageDesk
from hubd.store.db import open_database
from sync.connectivity import Cadence, Connectivity, Probe, Reading
from tests.rigs.process import wait_until
from tests.unit.clocks import RNG

FAST = Cadence(judge_s=0.01, link_s=0.01, probe_s=0.05, probe_timeout_s=0.2, cloud_silent_after_s=0.3)
BRISK = Hysteresis(loss_after_ms=60, recover_after_ms=100, fact_age_max_ms=60_000, unknown_after_ms=60_000)
WAIT_S = 10
GOOD = Reading(True)


@dataclass
class Switch:
    """A probe that says what the test's world is like."""

    reading: Reading = GOOD
    hangs: bool = False
    broken: bool = False
    measured: int = 0

    async def measure(self) -> Reading:
        self.measured += 1
        if self.broken:
            raise ConnectionResetError
        if self.hangs:
            await asyncio.Event().wait()
        return self.reading


@dataclass
class Cloud:
    """What the conversation with the cloud would know."""

    clock: SystemClock
    expected: bool = True
    connected: bool | None = True
    answering: bool = True
    providers: Mapping[str, bool] = field(default_factory=dict)
    heard: float | None = None

    @property
    def last_cloud_answer_monotonic(self) -> float | None:
        if self.answering:
            self.heard = self.clock.monotonic()
        return self.heard


@dataclass
class World:
    """A store's line."""

    desk: OutageDesk
    worker: Connectivity
    probes: dict[Hop, Switch]
    cloud: Cloud
    modes: list[Mode]
    returns: list[None]
    """One for each time that the worker has told of a hop that answers again."""

    async def until(self, mode: Mode) -> None:
        await wait_until(lambda: self.desk.snapshot().mode is mode, WAIT_S, f"the mode {mode}")

    def cut(self) -> None:
        self.probes[Hop.INTERNET].reading = Reading(False, "timeout")
        self.cloud.connected, self.cloud.answering = False, False

    def mend(self) -> None:
        self.probes[Hop.INTERNET].reading = Reading(True)
        self.cloud.connected, self.cloud.answering = True, True


@asynccontextmanager
async def world(folder: Path, *, cadence: Cadence = FAST, expected: bool = True) -> AsyncIterator[World]:
    clock = SystemClock()
    runtime = Runtime(clock, SystemIds(), RNG, bytes(16), bytes(8))
    hops = (Hop.LINK, Hop.GATEWAY, Hop.DNS, Hop.INTERNET)
    switches = {hop: Switch() for hop in hops}
    probes: dict[Hop, Probe] = dict(switches)
    async with open_database(folder / "hub.db", runtime) as db:
        await ensure_line(db, KeySigner(bytes(range(32))), runtime)
        desk = OutageDesk(db, runtime, BRISK)
        await desk.load()
        cloud = Cloud(clock, expected=expected)
        returns: list[None] = []
        worker = Connectivity(runtime, desk, probes, cloud, cadence, lambda: returns.append(None))
        modes: list[Mode] = []
        desk.listen(lambda snapshot: modes.append(snapshot.mode))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(worker.run())
            try:
                yield World(desk, worker, switches, cloud, modes, returns)
            finally:
                task.cancel()


async def test_service_back_is_told_without_anybody_s_act(tmp_path: Path) -> None:
    async with world(tmp_path) as store:
        await store.until(Mode.ONLINE)
        store.cut()
        await store.until(Mode.NETWORK_OUTAGE)
        store.mend()
        told = [Mode.ONLINE, Mode.NETWORK_OUTAGE, Mode.ONLINE]
        await wait_until(lambda: store.modes == told, WAIT_S, "the hook of the flush, once each way")


async def test_vendor_down_and_cloud_up_is_a_disruption_and_its_return_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as store:
        await store.until(Mode.ONLINE)
        store.cloud.providers = {"square": False}
        await store.until(Mode.SERVICE_DISRUPTION)
        assert store.worker.facts.providers["square"].ok is False
        store.cloud.providers = {"square": True}
        await store.until(Mode.ONLINE)


async def test_broker_that_accepts_is_not_a_cloud_that_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as store:
        await store.until(Mode.ONLINE)
        store.cloud.answering = False
        await store.until(Mode.SERVICE_DISRUPTION)
        facts = store.worker.facts
        assert (facts.broker.ok, facts.cloud.ok, facts.cloud.detail) == (True, False, "silent")


async def test_hub_that_is_not_enrolled_judges_the_line_alone(tmp_path: Path) -> None:
    async with world(tmp_path, expected=False) as store:
        store.cloud.connected, store.cloud.answering = None, False
        await store.until(Mode.ONLINE)
        store.probes[Hop.INTERNET].reading = Reading(False, "redirected")
        await store.until(Mode.NETWORK_OUTAGE)


async def test_probe_that_hangs_or_breaks_is_a_failed_hop_and_stops_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as store:
        await store.until(Mode.ONLINE)
        store.probes[Hop.DNS].hangs = True
        store.probes[Hop.GATEWAY].broken = True
        await wait_until(lambda: store.worker.facts.dns.detail == "timeout", WAIT_S, "the hanging probe to be bounded")
        await wait_until(lambda: store.worker.facts.gateway.ok is False, WAIT_S, "the broken probe to count")
        assert store.worker.facts.gateway.detail == "ConnectionResetError"
        assert store.desk.snapshot().mode is Mode.ONLINE, "the cloud answers, so nearer hops are proven"


async def test_lost_cloud_is_followed_by_a_measurement_at_once(tmp_path: Path) -> None:
    """The probes would look again in a minute; whose fault it is must be known when the outage is declared."""
    slow = Cadence(judge_s=0.01, link_s=60, probe_s=60, probe_timeout_s=0.2, cloud_silent_after_s=0.3)
    async with world(tmp_path, cadence=slow) as store:
        await store.until(Mode.ONLINE)
        before = store.probes[Hop.INTERNET].measured
        store.cut()
        await store.until(Mode.NETWORK_OUTAGE)
        assert store.probes[Hop.INTERNET].measured > before


async def test_hop_that_answers_again_is_told_and_those_behind_it_are_measured_at_once(tmp_path: Path) -> None:
    """The cable is back: the Internet, which would be looked at in a minute, is looked at now."""
    slow = Cadence(judge_s=0.01, link_s=0.01, probe_s=60, probe_timeout_s=0.2, cloud_silent_after_s=0.3)
    async with world(tmp_path, cadence=slow) as store:
        await store.until(Mode.ONLINE)
        assert store.returns == [], "nothing had failed"
        store.probes[Hop.LINK].reading = Reading(False, "no_carrier")
        store.cut()
        await wait_until(lambda: store.worker.facts.link.ok is False, WAIT_S, "the loss of the carrier")
        await wait_until(lambda: store.worker.facts.internet.ok is False, WAIT_S, "the loss of the Internet")
        assert store.returns == []
        store.mend()
        store.probes[Hop.LINK].reading = GOOD
        await wait_until(lambda: len(store.returns) == 2, WAIT_S, "both returns to be told")
        await store.until(Mode.ONLINE)
