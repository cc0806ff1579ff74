"""What the first screen says of a picture of the shop: the order of acts, the headline, and when all is fine."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hubd.model.device import DeviceState
from hubd.model.mode import Mode, ModeSnapshot
from hubd.model.money import Money
from hubd.model.payment import Method
from hubd.model.policy import SHIPPED, Elapsed
from hubd.model.problem import Problem
from hubd.model.problems import CATALOGUE
from hubd.services.outages import Group
from hubd.services.overview import (
    BANNER_NETWORK,
    BANNER_SERVICE,
    DEADLINE_NEAR_US,
    MONEY_WAITS,
    ActionKind,
    Headline,
    Shop,
    TerminalNow,
    Tone,
    Way,
    all_fine,
    build,
)
from tests.unit.page.payments import a_payment

NOW = 1_795_000_000_000_000
ONE = Group(1, (Money(1250, "EUR"),))
ENABLED = {name: replace(policy, enabled=True) for name, policy in SHIPPED.items()}
READY = TerminalNow("t1", "Terminal 1", "terminal", DeviceState.READY)


def snapshot(mode: Mode) -> ModeSnapshot:
    if mode in {Mode.ONLINE, Mode.UNKNOWN}:
        return ModeSnapshot(mode)
    return ModeSnapshot(mode, "o1", mode, NOW - 60_000_000, 1, b"b" * 16)


def shop(line: Mode = Mode.ONLINE, **more: Any) -> Shop:
    well = Shop(NOW, snapshot(line), policies=ENABLED, terminals=(READY,), devices_count=1)
    return replace(well, **more)


def problem(code: str, subject: str = "", **params: str | int) -> Problem:
    return Problem(CATALOGUE[code], subject, NOW, 1.0, (), params)


def test_shop_in_which_nothing_waits_is_fine() -> None:
    overview = build(shop())
    assert overview.all_fine
    assert (overview.headline, overview.tone, overview.action.kind) == (
        Headline.ALL_FINE,
        Tone.GOOD,
        ActionKind.NOTHING,
    )


SPOILERS: dict[str, dict[str, Any]] = {
    **{name: {"totals": {name: ONE}} for name in MONEY_WAITS},
    "unknown payment": {"unknown": (a_payment(),)},
    "refused payment": {"refused": (a_payment(),)},
    "unsent": {"unsent_count": 1},
    "no cloud": {"cloud_expected": False},
    "network": {"mode": snapshot(Mode.NETWORK_OUTAGE)},
    "service": {"mode": snapshot(Mode.SERVICE_DISRUPTION)},
    "unmeasured": {"mode": snapshot(Mode.UNKNOWN)},
    "no room": {"room_for_sales": False},
    "not set up": {"set_up": False},
    "replaced": {"replaced": True},
    "no terminal": {"terminals": ()},
    "silent terminal": {"terminals": (replace(READY, state=DeviceState.SILENT),)},
    "terminal with money": {"terminals": (replace(READY, held=ONE),)},
    "unheard terminal": {"terminals": (READY, replace(READY, unheard=True))},
    "problem": {"problems": (problem("no_backup_elsewhere"),)},
}


@pytest.mark.parametrize("name", SPOILERS)
def test_each_thing_that_waits_spoils_it_alone(name: str) -> None:
    overview = build(shop(**SPOILERS[name]))
    assert not overview.all_fine
    assert overview.headline is not Headline.ALL_FINE


@settings(deadline=None)  # a busy machine is not a wrong answer
@given(st.sets(st.sampled_from(sorted(SPOILERS)), max_size=6))
def test_all_is_fine_exactly_when_nothing_waits(names: set[str]) -> None:
    picture = shop()
    totals: dict[str, Group] = {}
    for name in sorted(names):
        change = dict(SPOILERS[name])
        totals |= change.pop("totals", {})
        picture = replace(picture, **change)
    picture = replace(picture, totals=totals)
    overview = build(picture)
    assert overview.all_fine is (not names)
    assert (overview.headline is Headline.ALL_FINE) is (not names)
    assert all_fine(picture) is overview.all_fine


def test_a_terminal_that_is_gone_and_was_not_heard_is_in_the_headline_even_without_known_money() -> None:
    gone = replace(READY, id="t2", state=DeviceState.GONE, unheard=True)
    overview = build(shop(terminals=(READY, gone)))
    assert (overview.headline, overview.tone) == (Headline.BACK_UNHEARD, Tone.CARE)
    assert overview.unheard == Group()
    answered = replace(gone, unheard=False)
    assert build(shop(terminals=(READY, answered))).all_fine


# -- the one thing to do -----------------------------------------------------------------------------------------------

CAUSES: tuple[tuple[ActionKind, dict[str, Any]], ...] = (
    (ActionKind.UNHEARD_MONEY, {"terminals": (READY, replace(READY, id="t2", state=DeviceState.GONE, held=ONE))}),
    (ActionKind.UNKNOWN_PAYMENT, {"unknown": (a_payment(),)}),
    (ActionKind.DEADLINE, {"deadline_us": NOW + DEADLINE_NEAR_US - 1}),
    (ActionKind.REFUSED_PAYMENT, {"refused": (a_payment(),)}),
    (ActionKind.RESTORE_LINE, {"mode": snapshot(Mode.NETWORK_OUTAGE)}),
    (ActionKind.MACHINE, {"problems": (problem("store.low_space"),)}),
)


@pytest.mark.parametrize("present", list(product((False, True), repeat=len(CAUSES))))
def test_first_cause_in_the_order_of_the_page_wins(present: tuple[bool, ...]) -> None:
    changes: dict[str, Any] = {}
    for there, (_, change) in zip(present, CAUSES, strict=True):
        changes |= change if there else {}
    wanted = next((kind for there, (kind, _) in zip(present, CAUSES, strict=True) if there), ActionKind.NOTHING)
    assert build(shop(**changes)).action.kind is wanted


def test_far_deadline_is_no_act() -> None:
    assert build(shop(deadline_us=NOW + DEADLINE_NEAR_US)).action.kind is ActionKind.NOTHING


def test_most_money_nobody_hears_is_named() -> None:
    more = Group(1, (Money(9_999, "EUR"),))
    gone = replace(READY, state=DeviceState.GONE)
    picture = shop(terminals=(replace(gone, id="a", held=ONE), replace(gone, id="b", held=more)))
    action = build(picture).action
    assert action.terminal is not None
    assert action.terminal.id == "b"
    assert build(picture).unheard.totals == (Money(11_249, "EUR"),)


def test_what_the_act_says_is_not_listed_again() -> None:
    gone = replace(READY, id="t2", state=DeviceState.GONE, held=ONE)
    problems = (problem("device.gone", "t2", name="Terminal 2"), problem("device.gone", "p1", name="Printer"))
    overview = build(shop(terminals=(READY, gone), problems=problems))
    assert [one.subject for one in overview.ill] == ["p1"]


# -- headline, ways, banner --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "headline", "tone"),
    [
        ({"set_up": False}, Headline.SETUP, Tone.CARE),
        ({"room_for_sales": False}, Headline.NO_ROOM, Tone.STOP),
        ({"replaced": True}, Headline.REPLACED, Tone.STOP),
        ({"replaced": True, "room_for_sales": False, "terminals": ()}, Headline.REPLACED, Tone.STOP),
        ({"mode": snapshot(Mode.NETWORK_OUTAGE)}, Headline.NETWORK_SELL, Tone.CARE),
        ({"mode": snapshot(Mode.NETWORK_OUTAGE), "policies": SHIPPED}, Headline.NETWORK_CASH_ONLY, Tone.STOP),
        ({"mode": snapshot(Mode.SERVICE_DISRUPTION)}, Headline.SERVICE_SELL, Tone.CARE),
        ({"mode": snapshot(Mode.SERVICE_DISRUPTION), "terminals": ()}, Headline.SERVICE_CASH_ONLY, Tone.STOP),
        ({"terminals": ()}, Headline.NO_TERMINAL, Tone.STOP),
        ({"mode": snapshot(Mode.UNKNOWN)}, Headline.MEASURING, Tone.CARE),
        ({"unsent_count": 3}, Headline.SELLING, Tone.GOOD),
        (
            {"terminals": (READY, replace(READY, id="t2", state=DeviceState.GONE, held=ONE))},
            Headline.BACK_UNHEARD,
            Tone.CARE,
        ),
    ],
)
def test_headline_answers_can_we_sell(changes: dict[str, Any], headline: Headline, tone: Tone) -> None:
    overview = build(shop(**changes))
    assert (overview.headline, overview.tone) == (headline, tone)
    assert overview.selling_stops is (tone is Tone.STOP)


def ways(picture: Shop) -> dict[Way, tuple[bool, str]]:
    return {line.way: (line.allowed, line.reason) for line in build(picture).ways}


def test_offline_the_policy_decides_for_each_way() -> None:
    found = build(shop(Mode.NETWORK_OUTAGE)).ways
    assert {line.way: line.allowed for line in found} == {
        Way.CASH: True,
        Way.CARDS: True,
        Way.CONTACTLESS: False,
        Way.GIFT_CARD: False,
    }
    assert next(line.limit for line in found if line.way is Way.CARDS) == Money(10_000, "EUR")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policies": SHIPPED}, "offline_not_enabled"),
        ({"elapsed": Elapsed(86_401, 86_401)}, "offline_window_closed"),
        ({"elapsed": Elapsed(60, None)}, "elapsed_unknown"),
        ({"terminals": ()}, "no_terminal"),
        ({"currency": "GBP"}, "currency_not_allowed_offline"),
    ],
)
def test_cash_always_works_and_cards_say_why_not(changes: dict[str, Any], reason: str) -> None:
    found = ways(shop(Mode.NETWORK_OUTAGE, **changes))
    assert found[Way.CASH] == (True, "")
    assert found[Way.CARDS] == (False, reason)


def test_reader_and_terminal_have_windows_of_their_own() -> None:
    reader = replace(READY, id="r1", device_class="reader")
    hour = Elapsed(3_601, 3_601)
    assert ways(shop(Mode.NETWORK_OUTAGE, terminals=(reader,), elapsed=hour))[Way.CARDS][0] is False
    assert ways(shop(Mode.NETWORK_OUTAGE, terminals=(reader, READY), elapsed=hour))[Way.CARDS][0] is True


def test_contactless_follows_the_policy_too() -> None:
    open_policy = replace(ENABLED["terminal"], excluded_methods=frozenset({Method.GIFT_CARD}))
    found = ways(shop(Mode.NETWORK_OUTAGE, policies={"terminal": open_policy}))
    assert found[Way.CONTACTLESS][0] is True


def test_vendor_s_words_stand_as_they_are_and_the_network_s_come_first() -> None:
    assert BANNER_NETWORK == "Vous êtes hors ligne. Connectez-vous à Internet pour encaisser des paiements."
    assert BANNER_SERVICE == "Perturbation des services : paiements hors ligne activés"
    assert build(shop(Mode.NETWORK_OUTAGE)).banner == BANNER_NETWORK
    assert build(shop(Mode.SERVICE_DISRUPTION)).banner == BANNER_SERVICE
    assert build(shop()).banner == ""


def test_sums_of_the_risk_add_up() -> None:
    risk = build(shop(totals=dict.fromkeys(MONEY_WAITS, ONE), deadline_us=NOW)).risk
    assert risk.group.count == len(MONEY_WAITS)
    assert risk.in_terminals.count + risk.awaiting_bank.count + risk.unclear.count == risk.group.count
    assert risk.group.totals == (Money(1250 * len(MONEY_WAITS), "EUR"),)
    assert risk.overdue
