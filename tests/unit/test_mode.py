"""From facts to a mode: what each pattern of facts means, and what hysteresis keeps people from seeing."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hubd.model.mode import (
    DEFAULT_HYSTERESIS,
    OUTAGES,
    Fact,
    Facts,
    Hop,
    Mode,
    ModeState,
    last_good_ms,
    resume,
    step,
    verdict,
)

NOW = 1_000_000
ON, NET, SVC, UNK = Mode.ONLINE, Mode.NETWORK_OUTAGE, Mode.SERVICE_DISRUPTION, Mode.UNKNOWN
LOSS, RECOVER = DEFAULT_HYSTERESIS.loss_after_ms, DEFAULT_HYSTERESIS.recover_after_ms


def facts_of(pattern: str, *, providers: dict[str, bool] | None = None, expected: bool = True, at: int = NOW) -> Facts:
    """Six letters, link to cloud: + works, - fails, ? was never measured."""
    values = {"+": True, "-": False, "?": None}
    measured = {name: Fact().measured(ok, at) for name, ok in (providers or {}).items()}
    facts = Facts(providers=measured, cloud_expected=expected)
    for hop, letter in zip(Hop, pattern, strict=True):
        facts = facts.with_hop(hop, Fact().measured(values[letter], at))
    return facts


@pytest.mark.parametrize(
    ("pattern", "meaning", "why"),
    [
        ("++++++", ON, "everything answers"),
        ("------", NET, "nothing answers"),
        ("??????", UNK, "nothing was measured yet"),
        ("-?????", NET, "no carrier"),
        ("+-----", NET, "the router is silent"),
        ("++-???", NET, "no name server, and no proof of anything beyond"),
        ("++++--", SVC, "the line works, broker and cloud do not"),
        ("+++++-", SVC, "a broker that accepts is not a cloud that answers"),
        ("++++??", UNK, "the cloud is not measured yet"),
        ("+++-+-", NET, "a broker seen on a half-open connection is not the Internet"),
        ("+++---", NET, "a captive portal: names resolve, the Internet probe is not satisfied"),
        ("+--+++", ON, "a router that does not answer knocks is proven by what lies behind it"),
        ("+++-++", ON, "the cloud answers although the Internet's test place is blocked here"),
        ("???++-", SVC, "only far hops measured"),
        ("????+-", SVC, "the broker accepts, the cloud is silent"),
        ("????--", UNK, "broker and cloud fail, the line was never measured"),
        ("---+--", SVC, "the Internet answers, so the line works"),
    ],
)
def test_pattern_of_facts_means(pattern: str, meaning: Mode, why: str) -> None:
    assert verdict(facts_of(pattern), NOW) is meaning, why


@pytest.mark.parametrize(
    ("pattern", "providers", "meaning"),
    [
        ("++++++", {"square": True}, ON),
        ("++++++", {"square": False}, SVC),
        ("++++++", {"square": False, "other": True}, SVC),
        ("------", {"square": False}, NET),
    ],
)
def test_network_comes_before_the_vendor(pattern: str, providers: dict[str, bool], meaning: Mode) -> None:
    assert verdict(facts_of(pattern, providers=providers), NOW) is meaning


@pytest.mark.parametrize(("pattern", "meaning"), [("++++??", ON), ("+++-??", NET), ("++++--", ON), ("??????", UNK)])
def test_hub_without_a_cloud_judges_the_line_alone(pattern: str, meaning: Mode) -> None:
    assert verdict(facts_of(pattern, expected=False), NOW) is meaning


def test_old_facts_say_nothing() -> None:
    old = facts_of("++++++", at=NOW - DEFAULT_HYSTERESIS.fact_age_max_ms - 1)
    assert verdict(old, NOW) is UNK


def test_pulled_cable_is_newer_than_the_last_answer_of_the_cloud() -> None:
    facts = facts_of("++++++", at=NOW - 10_000).with_hop(Hop.LINK, Fact().measured(False, NOW))
    assert verdict(facts, NOW) is NET
    unenrolled = facts_of("++++??", at=NOW - 3_000, expected=False).with_hop(Hop.LINK, Fact().measured(False, NOW))
    assert verdict(unenrolled, NOW) is NET


def test_hop_that_has_failed_for_days_without_harm_does_not_begin_an_outage() -> None:
    """A router that answers no probe; broker and cloud of a hub that is not enrolled."""
    facts = facts_of("+-++--", at=NOW - 300_000, expected=False)
    state = ModeState()
    for at in range(NOW - 60_000, NOW + LOSS + 1_000, 1_000):
        for hop in (Hop.LINK, Hop.DNS, Hop.INTERNET):
            facts = facts.with_hop(hop, facts.hop(hop).measured(at < NOW or hop is Hop.LINK, at))
        facts = facts.with_hop(Hop.GATEWAY, facts.gateway.measured(False, at))
        state = step(state, facts, at)
    assert (state.mode, state.anchor_ms) == (NET, NOW)
    assert facts_of("++++--", expected=False).first_failing() is None


def test_lost_broker_and_internet_after_the_last_answer_is_an_outage_before_the_answer_is_old() -> None:
    facts = facts_of("+++++?", at=NOW).with_hop(Hop.CLOUD, Fact().measured(True, NOW - 5_000))
    facts = facts.with_hop(Hop.INTERNET, Fact().measured(False, NOW))
    assert verdict(facts, NOW) is ON, "one failed probe while the connection stands"
    assert verdict(facts.with_hop(Hop.BROKER, Fact().measured(False, NOW)), NOW) is NET


# -- hysteresis --------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Facts that change as a test says, looked at twice a second."""

    state: ModeState
    now_ms: int = NOW
    facts: Facts = field(default_factory=Facts)

    def lasting(self, pattern: str, seconds: float, *, providers: dict[str, bool] | None = None) -> list[Mode]:
        """Let a pattern hold; returns the modes that were seen."""
        seen = []
        for _ in range(round(seconds * 2)):
            self.now_ms += 500
            values = {"+": True, "-": False, "?": None}
            for hop, letter in zip(Hop, pattern, strict=True):
                self.facts = self.facts.with_hop(hop, self.facts.hop(hop).measured(values[letter], self.now_ms))
            measured = {
                name: self.facts.providers.get(name, Fact()).measured(ok, self.now_ms)
                for name, ok in (providers or {}).items()
            }
            self.facts = replace(self.facts, providers=measured)
            self.state = step(self.state, self.facts, self.now_ms)
            seen.append(self.state.mode)
        return seen


@pytest.fixture
def online() -> World:
    world = World(ModeState())
    assert world.lasting("++++++", 30)[0] is ON, "a first good measurement is believed at once"
    return world


def test_blip_of_three_seconds_is_never_shown(online: World) -> None:
    assert set(online.lasting("++++--", 3) + online.lasting("++++++", 60)) == {ON}
    assert online.state.anchor_ms is None, "the suspicion is dropped after quiet time"


def test_outage_is_declared_late_and_dated_to_the_first_loss(online: World) -> None:
    first_loss = online.now_ms + 500
    seen = online.lasting("------", 20)
    assert seen[0] is ON
    assert seen[-1] is NET
    assert online.state.anchor_ms == first_loss
    assert online.state.since_ms - first_loss == LOSS


def test_flapping_line_is_an_outage_dated_to_its_first_loss(online: World) -> None:
    first_loss = online.now_ms + 500
    changes = 0
    before = ON
    for _ in range(60):  # four minutes of two seconds down, two seconds up
        for mode in online.lasting("------", 2) + online.lasting("++++++", 2):
            changes += mode is not before
            before = mode
    assert online.state.mode is NET
    assert changes == 1, "people see one change, not a hundred"
    assert online.state.anchor_ms is not None
    # The cloud answers in between, so the loss of record is the first after the last proof at most.
    assert online.state.anchor_ms == first_loss


def test_outage_ends_only_after_quiet_time_and_is_dated_back_to_its_beginning(online: World) -> None:
    online.lasting("------", 30)
    back = online.now_ms + 500
    seen = online.lasting("++++++", RECOVER / 1000)
    assert set(seen) == {NET}
    assert online.lasting("++++++", 1)[0] is ON
    assert last_good_ms(online.state) == back
    assert online.state.anchor_ms is None
    assert online.state.cause is None


def test_both_kinds_in_turn_are_one_outage_put_down_to_the_network(online: World) -> None:
    online.lasting("++++--", 20)
    assert (online.state.mode, online.state.cause) == (SVC, SVC)
    anchor = online.state.anchor_ms
    online.lasting("------", 20)
    assert (online.state.mode, online.state.cause) == (NET, NET)
    online.lasting("++++--", 20)
    assert (online.state.mode, online.state.cause) == (SVC, NET)
    assert online.state.anchor_ms == anchor


def test_provider_down_is_dated_to_when_the_cloud_said_so(online: World) -> None:
    said = online.now_ms + 500
    online.lasting("++++++", 20, providers={"square": False})
    assert online.state.mode is SVC
    assert online.state.anchor_ms == said


def test_blocked_test_place_does_not_date_an_outage_back(online: World) -> None:
    online.lasting("+++-++", 3600)
    assert online.state.mode is ON
    last_answer = online.now_ms
    online.lasting("+++---", 20)
    assert online.state.mode is NET
    assert online.state.anchor_ms is not None
    assert last_answer <= online.state.anchor_ms <= last_answer + 500


def test_no_evidence_never_ends_an_outage_but_ends_belief_in_a_good_line(online: World) -> None:
    assert set(online.lasting("??????", 59)) == {ON}
    online.lasting("??????", 2)
    assert online.state.mode is UNK
    online.lasting("------", 20)
    online.lasting("??????", 600)
    assert online.state.mode is NET


def test_restart_in_an_outage_needs_no_new_proof_of_it() -> None:
    world = World(resume(True, 123, NOW))
    assert world.lasting("------", 1) == [NET, NET]
    assert world.state.anchor_ms == 123
    assert set(world.lasting("++++++", RECOVER / 1000)) == {NET}
    assert world.lasting("++++++", 1)[-1] is ON


LETTERS = st.text(alphabet="+-?", min_size=6, max_size=6)
STORY = st.lists(st.tuples(LETTERS, st.integers(1, 40)), min_size=1, max_size=12)


@settings(deadline=None)  # a busy machine is not a wrong answer
@given(STORY)
def test_whatever_happens_the_mode_keeps_its_promises(story: list[tuple[str, int]]) -> None:
    world = World(ModeState())
    good_since: int | None = None
    bad_total = 0
    for pattern, half_seconds in story:
        for _ in range(half_seconds):
            before = world.state
            world.lasting(pattern, 0.5)
            after = world.state
            seen = after.last_verdict
            good_since = (good_since or world.now_ms) if seen is ON else None
            bad_total += 500 if seen in OUTAGES else 0
            if before.mode in OUTAGES and after.mode not in OUTAGES:
                assert after.mode is ON, "an outage ends in service, never in doubt"
                assert good_since is not None
                assert world.now_ms - good_since >= RECOVER
            if before.mode not in OUTAGES and after.mode in OUTAGES:
                assert bad_total >= LOSS, "an outage is not declared on less bad time"
            if before.mode in OUTAGES and after.mode in OUTAGES:
                assert after.anchor_ms == before.anchor_ms, "blips do not move the first loss"
                assert after.cause is NET or before.cause is SVC, "the network stays the cause of record"
            if after.mode in OUTAGES:
                assert after.anchor_ms is not None
                assert after.anchor_ms <= world.now_ms
                assert after.cause in OUTAGES


@settings(deadline=None)  # a busy machine is not a wrong answer
@given(STORY)
def test_looking_more_often_changes_nothing_that_lasts(story: list[tuple[str, int]]) -> None:
    once, twice = World(ModeState()), World(ModeState())
    for pattern, half_seconds in story:
        once.lasting(pattern, half_seconds / 2)
        for _ in range(half_seconds):
            twice.lasting(pattern, 0.5)
            twice.state = step(twice.state, twice.facts, twice.now_ms)
    assert once.state == twice.state
