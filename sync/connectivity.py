"""Measures how far the hub reaches, all the time, and lets the outage desk judge it (design 7).

Probes are ports: production measures the real network, the demo its own gateway and broker, a simulation its world.
What the conversation with the cloud knows is read from it, never measured twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from hubd.model.mode import Fact, Facts, Hop
from hubd.runtime import Runtime
from hubd.services.outages import OutageDesk

log = logging.getLogger(__name__)


class Reading(Struct, frozen=True):
    """One measurement. `ok` None: it could not be measured, which says nothing."""

    ok: bool | None
    detail: str = ""


class Probe(Protocol):
    """Measures one hop. Bounded by the caller; may raise OSError, which counts as a failed hop."""

    async def measure(self) -> Reading:
        """Measure now."""
        ...


class CloudState(Protocol):
    """What the conversation with the cloud knows of itself."""

    @property
    def expected(self) -> bool:
        """Whether there is a cloud to talk to: False while the hub is not enrolled."""
        ...

    @property
    def connected(self) -> bool | None:
        """Whether the broker has accepted the connection that is open; None before the first attempt ended."""
        ...

    @property
    def last_cloud_answer_monotonic(self) -> float | None:
        """When the cloud application last said something with its signature; None if never in this run."""
        ...

    @property
    def providers(self) -> Mapping[str, bool]:
        """The payment providers behind the cloud, by name, as it last reported them."""
        ...


class NoCloud:
    """A hub that is not enrolled: it trades alone."""

    expected = False
    connected: bool | None = None
    last_cloud_answer_monotonic: float | None = None

    @property
    def providers(self) -> Mapping[str, bool]:
        """None are known."""
        return {}


class Cadence(Struct, frozen=True):
    """How often things are measured. Seconds."""

    judge_s: float = 1.0
    link_s: float = 1.0
    probe_s: float = 5.0
    probe_timeout_s: float = 3.0
    """Below the hysteresis of a loss, so that the kind of an outage is known when it is declared."""
    cloud_silent_after_s: float = 45.0
    """An open connection on which the cloud has said nothing for so long is not a cloud that answers. Longer than the
    interval at which the hub asks it for a sign of life."""


class Connectivity:
    """The worker. `run` measures until it is cancelled."""

    def __init__(
        self,
        runtime: Runtime,
        desk: OutageDesk,
        probes: Mapping[Hop, Probe],
        cloud: CloudState,
        cadence: Cadence | None = None,
        came_back: Callable[[], None] = lambda: None,
    ) -> None:
        """`came_back` is called when a hop that had failed answers again: what lies behind it may be there too."""
        self._clock = runtime.clock
        self._desk = desk
        self._probes = dict(probes)
        self._cloud = cloud
        self._cadence = cadence or Cadence()
        self._came_back = came_back
        self._facts = Facts(cloud_expected=cloud.expected)
        self._started_ms = 0
        self._kicks: dict[Hop, asyncio.Event] = {hop: asyncio.Event() for hop in self._probes}

    @property
    def facts(self) -> Facts:
        """What was measured last."""
        return self._facts

    def measure_now(self) -> None:
        """Measure every hop at once instead of at its next turn (a person pressed "measure again", or a line broke)."""
        for kick in self._kicks.values():
            kick.set()

    async def run(self) -> None:
        """Measure and judge until cancelled."""
        self._started_ms = self._now_ms()
        async with asyncio.TaskGroup() as group:
            for hop, probe in self._probes.items():
                group.create_task(self._follow(hop, probe), name=f"connectivity.{hop.value}")
            group.create_task(self._judge(), name="connectivity.judge")

    async def _follow(self, hop: Hop, probe: Probe) -> None:
        interval = self._cadence.link_s if hop is Hop.LINK else self._cadence.probe_s
        kick = self._kicks[hop]
        while True:
            reading = await self._measure(probe)
            before = self._facts.hop(hop)
            fact = before.measured(reading.ok, self._now_ms(), reading.detail)
            self._facts = self._facts.with_hop(hop, fact)
            if fact.ok is not before.ok:
                log.info("connectivity.hop", extra={"hop": hop.value, "ok": fact.ok, "detail": fact.detail})
            if fact.ok and before.ok is False:
                self.measure_now()
                self._came_back()
            try:
                async with self._clock.timeout(interval):
                    await kick.wait()
            except TimeoutError:
                pass  # the usual case: nobody asked for it earlier
            kick.clear()

    async def _measure(self, probe: Probe) -> Reading:
        try:
            async with self._clock.timeout(self._cadence.probe_timeout_s):
                return await probe.measure()
        except TimeoutError:
            return Reading(False, "timeout")
        except OSError as exc:
            return Reading(False, type(exc).__name__)

    async def _judge(self) -> None:
        while True:
            lost = self._look_at_cloud()
            if lost:
                self.measure_now()  # whose fault it is should be known by the time an outage is declared
            await self._desk.observe(self._facts)
            await self._clock.sleep(self._cadence.judge_s)

    def _look_at_cloud(self) -> bool:
        """Bring broker, cloud and providers up to date; True when the cloud has just been lost."""
        now_ms, facts, cloud = self._now_ms(), self._facts, self._cloud
        broker = facts.broker.measured(cloud.connected, now_ms, "" if cloud.connected else "not_connected")
        answered = cloud.last_cloud_answer_monotonic
        answered_ms = None if answered is None else int(answered * 1000)
        heard = self._cloud_fact(facts.cloud, answered_ms, cloud.connected, now_ms)
        providers = {
            name: facts.providers.get(name, Fact()).measured(ok, now_ms) for name, ok in sorted(cloud.providers.items())
        }
        self._facts = Facts(
            facts.link, facts.gateway, facts.dns, facts.internet, broker, heard, providers, cloud.expected
        )
        return facts.cloud.ok is True and heard.ok is not True

    def _cloud_fact(self, before: Fact, answered_ms: int | None, connected: bool | None, now_ms: int) -> Fact:
        silent_after_ms = int(self._cadence.cloud_silent_after_s * 1000)
        if answered_ms is not None and connected is not False and now_ms - answered_ms <= silent_after_ms:
            return before.measured(True, answered_ms)
        if connected is not False and answered_ms is None and now_ms - self._started_ms <= silent_after_ms:
            return before  # not measured yet: it may still be connecting
        return before.measured(False, now_ms, "silent" if connected else "not_connected")

    def _now_ms(self) -> int:
        return int(self._clock.monotonic() * 1000)
