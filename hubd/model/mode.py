"""Connectivity: measured facts with their age, and the one mode that follows from them with hysteresis (design 7).

`verdict` says what the facts mean at this moment; `step` turns the verdicts of a moving world into a mode that people
and policy can rely on. Times are monotonic milliseconds of one boot.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace


class Mode(StrEnum):
    """Whether payments can reach those who answer for them. The state of the line, not of the money."""

    ONLINE = "online"
    NETWORK_OUTAGE = "network_outage"
    SERVICE_DISRUPTION = "service_disruption"
    UNKNOWN = "unknown"


OUTAGES = frozenset({Mode.NETWORK_OUTAGE, Mode.SERVICE_DISRUPTION})


class Hop(StrEnum):
    """What is measured, from near to far."""

    LINK = "link"
    GATEWAY = "gateway"
    DNS = "dns"
    INTERNET = "internet"
    BROKER = "broker"
    CLOUD = "cloud"


class Fact(Struct, frozen=True):
    """One measured thing. `ok` is None until the first measurement."""

    ok: bool | None = None
    at_ms: int = 0
    """When it was measured last; for the cloud the time of its last signed answer while that is good."""
    since_ms: int = 0
    """Since when `ok` has had this value."""
    good_ms: int = 0
    """When it was good last; 0 if never."""
    detail: str = ""
    """A stable word for technicians: `no_carrier`, `refused`, `captive_portal`, …"""

    def measured(self, ok: bool | None, at_ms: int, detail: str = "") -> Fact:
        """The fact after a measurement; `since_ms` moves only when the value changes."""
        return Fact(ok, at_ms, self.since_ms if ok is self.ok else at_ms, at_ms if ok else self.good_ms, detail)


NOT_MEASURED = Fact()


class Facts(Struct, frozen=True):
    """All facts of one moment."""

    link: Fact = NOT_MEASURED
    gateway: Fact = NOT_MEASURED
    dns: Fact = NOT_MEASURED
    internet: Fact = NOT_MEASURED
    """True only for an answer that a captive portal or a proxy page cannot give."""
    broker: Fact = NOT_MEASURED
    cloud: Fact = NOT_MEASURED
    """The cloud application itself: the age of its last signed answer. A broker that accepts is not a cloud."""
    providers: Mapping[str, Fact] = field(default_factory=dict)
    """The payment providers behind the cloud, as the cloud reports them."""
    cloud_expected: bool = True
    """False for a hub that is not enrolled: it trades alone, and only the line is judged."""

    def hop(self, hop: Hop) -> Fact:
        """The fact of one hop."""
        fact = getattr(self, hop.value)
        assert isinstance(fact, Fact)
        return fact

    def with_hop(self, hop: Hop, fact: Fact) -> Facts:
        """The facts with one of them replaced."""
        changed: dict[str, Any] = {hop.value: fact}
        return replace(self, **changed)

    @property
    def hops_that_count(self) -> tuple[Hop, ...]:
        """The hops by which the line is judged: a hub that is not enrolled has neither broker nor cloud to miss."""
        return tuple(hop for hop in Hop if self.cloud_expected or hop not in {Hop.BROKER, Hop.CLOUD})

    def first_failing(self) -> Hop | None:
        """The nearest hop that fails: where a person looks first."""
        return next((hop for hop in self.hops_that_count if self.hop(hop).ok is False), None)


class Hysteresis(Struct, frozen=True):
    """How long the world must have changed before the mode does. Milliseconds."""

    loss_after_ms: int = 5_000
    """Accumulated bad time, blips of good included in the wait, before an outage is declared."""
    recover_after_ms: int = 10_000
    """Unbroken good time before an outage ends or a suspicion is dropped."""
    fact_age_max_ms: int = 60_000
    """An older fact says nothing."""
    unknown_after_ms: int = 60_000
    """How long `online` is believed without any evidence."""


DEFAULT_HYSTERESIS = Hysteresis()


class ModeState(Struct, frozen=True):
    """The mode with what `step` must remember."""

    mode: Mode = Mode.UNKNOWN
    since_ms: int = 0
    """Since when the mode has had this value."""
    anchor_ms: int | None = None
    """The first loss of the present outage or suspicion; blips do not reset it (B02)."""
    last_verdict: Mode = Mode.UNKNOWN
    last_verdict_since_ms: int = 0
    stepped_ms: int = 0
    bad_ms: int = 0
    """Bad time accumulated since the anchor."""
    network_seen: bool = False
    """Whether the network itself was down at any time in this outage: the cause of record."""

    @property
    def cause(self) -> Mode | None:
        """What the present outage is put down to; network before service when both occurred."""
        if self.mode not in OUTAGES:
            return None
        return Mode.NETWORK_OUTAGE if self.network_seen else Mode.SERVICE_DISRUPTION


class ModeSnapshot(Struct, frozen=True):
    """What the other parts of the hub may know of the mode; the outage's own times are those of its first loss."""

    mode: Mode
    outage_id: str | None = None
    cause: Mode | None = None
    started_at_us: int | None = None
    started_mono_ms: int | None = None
    started_boot: bytes | None = None


def _fresh(fact: Fact, now_ms: int, age_max_ms: int) -> bool | None:
    return fact.ok if now_ms - fact.at_ms <= age_max_ms else None


def verdict(facts: Facts, now_ms: int, limits: Hysteresis = DEFAULT_HYSTERESIS) -> Mode:
    """What the facts mean now. A hop that answers proves the nearer ones, unless those failed after its answer."""
    age_max = limits.fact_age_max_ms
    ok = {hop: _fresh(facts.hop(hop), now_ms, age_max) for hop in Hop}
    cloud = ok[Hop.CLOUD] if facts.cloud_expected else None
    providers_fail = any(_fresh(fact, now_ms, age_max) is False for fact in facts.providers.values())
    working = Mode.SERVICE_DISRUPTION if providers_fail else Mode.ONLINE
    if cloud is True:
        cut = ok[Hop.LINK] is False and facts.link.at_ms > facts.cloud.at_ms
        lost = ok[Hop.BROKER] is False and ok[Hop.INTERNET] is False and facts.internet.at_ms > facts.cloud.at_ms
        return Mode.NETWORK_OUTAGE if cut or lost else working
    if ok[Hop.INTERNET] is True:
        if ok[Hop.LINK] is False and facts.link.at_ms > facts.internet.at_ms:
            return Mode.NETWORK_OUTAGE
        if not facts.cloud_expected:
            return working
        return Mode.SERVICE_DISRUPTION if cloud is False else Mode.UNKNOWN
    if any(ok[hop] is False for hop in (Hop.LINK, Hop.INTERNET, Hop.GATEWAY, Hop.DNS)):
        return Mode.NETWORK_OUTAGE
    return Mode.SERVICE_DISRUPTION if cloud is False and ok[Hop.BROKER] is True else Mode.UNKNOWN


def _first_loss(facts: Facts, now_ms: int) -> int:
    """When the loss that is seen now began: the first failing measurement after the last proof that all was well."""
    if facts.cloud.ok is True and facts.cloud_expected:
        failing = [fact.since_ms for fact in facts.providers.values() if fact.ok is False]
        if failing:
            return min(*failing, now_ms)
    failing = [facts.hop(hop).since_ms for hop in facts.hops_that_count if facts.hop(hop).ok is False]
    # A hop may have failed for days without harm (a router that answers no probe): what counts is after the last proof.
    proof = facts.cloud.good_ms if facts.cloud_expected else facts.internet.good_ms
    return min(min([since for since in failing if since >= proof] or [proof if failing else now_ms]), now_ms)


def step(state: ModeState, facts: Facts, now_ms: int, limits: Hysteresis = DEFAULT_HYSTERESIS) -> ModeState:
    """The state after looking at `facts`. Call it at least once a second; more often changes nothing.

    An outage begins when bad time since the first loss adds up to `loss_after_ms`; it ends, and a suspicion is
    dropped, only after `recover_after_ms` of unbroken good. No evidence never ends an outage.
    """
    seen = verdict(facts, now_ms, limits)
    elapsed = max(0, now_ms - state.stepped_ms) if state.stepped_ms else 0
    bad_before = state.last_verdict in OUTAGES
    seen_since = state.last_verdict_since_ms if seen is state.last_verdict else now_ms
    state = replace(
        state,
        last_verdict=seen,
        last_verdict_since_ms=seen_since,
        stepped_ms=now_ms,
        bad_ms=state.bad_ms + (elapsed if bad_before and state.anchor_ms is not None else 0),
    )
    if seen in OUTAGES:
        return _worse(state, facts, seen, now_ms, limits)
    if seen is Mode.ONLINE:
        return _better(state, now_ms, limits)
    if state.mode is Mode.ONLINE and now_ms - seen_since >= limits.unknown_after_ms:
        return replace(state, mode=Mode.UNKNOWN, since_ms=now_ms)
    return state


def _worse(state: ModeState, facts: Facts, seen: Mode, now_ms: int, limits: Hysteresis) -> ModeState:
    if state.anchor_ms is None:
        state = replace(state, anchor_ms=_first_loss(facts, now_ms), bad_ms=0, network_seen=False)
    if state.mode not in OUTAGES:
        if state.bad_ms < limits.loss_after_ms:
            return state
        network = seen is Mode.NETWORK_OUTAGE
        return replace(state, mode=seen, since_ms=now_ms, network_seen=network)
    if seen is state.mode:
        return state
    wait_ms = limits.loss_after_ms if seen is Mode.NETWORK_OUTAGE else limits.recover_after_ms
    if now_ms - state.last_verdict_since_ms < wait_ms:
        return state
    network = state.network_seen or seen is Mode.NETWORK_OUTAGE
    return replace(state, mode=seen, since_ms=now_ms, network_seen=network)


def _better(state: ModeState, now_ms: int, limits: Hysteresis) -> ModeState:
    stable = now_ms - state.last_verdict_since_ms >= limits.recover_after_ms
    if state.mode in OUTAGES and not stable:
        return state
    if state.mode is not Mode.ONLINE:
        cleared = None if stable else state.anchor_ms
        return replace(state, mode=Mode.ONLINE, since_ms=now_ms, anchor_ms=cleared, bad_ms=0, network_seen=False)
    return replace(state, anchor_ms=None, bad_ms=0) if stable and state.anchor_ms is not None else state


def resume(outage_network: bool, anchor_ms: int, now_ms: int) -> ModeState:
    """The state of a hub that restarts in an outage that its journal says is not over: it needs no new proof of it."""
    mode = Mode.NETWORK_OUTAGE if outage_network else Mode.SERVICE_DISRUPTION
    return ModeState(mode, now_ms, anchor_ms, network_seen=outage_network)


def last_good_ms(state: ModeState) -> int:
    """When the unbroken good time that ended an outage began: the end of record."""
    return state.last_verdict_since_ms
