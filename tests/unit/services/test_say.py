"""What a till shows: sentences in every language, and a way on wherever money was not taken."""

from __future__ import annotations

import itertools

import pytest

from hubd.model.payment import Custody, ManualStatus, PaymentState
from hubd.services.say import LANGUAGES, say, say_refused
from tests.unit.page.payments import a_payment

REFUSALS = (
    "previous_unknown",
    "previous_in_progress",
    "no_terminal",
    "terminal_elsewhere",
    "terminal_unreachable",
    "terminal_busy",
    "offline_not_enabled",
    "method_not_allowed_offline",
    "over_offline_limit",
    "currency_not_allowed_offline",
    "offline_window_closed",
    "elapsed_unknown",
)
ACTS = {"wait", "ask_terminal", "other_method", "manager"}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_says_why_and_what_would_be_possible(reason: str) -> None:
    refused = a_payment(state=PaymentState.REFUSED, reason=reason)
    spoken = [say(refused, language) for language in LANGUAGES]
    assert len({one.cashier for one in spoken}) == len(LANGUAGES)
    assert all(one.cashier and one.customer for one in spoken)
    declined = say(a_payment(state=PaymentState.DECLINED), "en")
    assert spoken[0].cashier != declined.cashier, "a refusal is not told as the bank's word"
    assert spoken[0].allowed, "a cashier who was refused has a next act"
    assert set(spoken[0].allowed) <= ACTS


REFUSED_REQUESTS = (
    "store.low_space",
    "store.full",
    "hub_replaced",
    "hub_line_changed",
    "order_closed",
    "over_amount_due",
)


@pytest.mark.parametrize("code", REFUSED_REQUESTS)
def test_a_right_request_that_became_no_payment_has_its_sentences(code: str) -> None:
    spoken = [say_refused(code, language) for language in (*LANGUAGES, "de")]
    assert len({one.cashier for one in spoken if one}) == len(LANGUAGES)
    assert all(one and one.cashier and one.customer and set(one.allowed) <= ACTS for one in spoken)
    assert say_refused("unknown_field", "en") is None, "a program's mistake is nothing for a cashier"


def test_every_state_has_its_sentences_and_no_money_taken_means_a_next_act() -> None:
    for state, custody, manual, asking in itertools.product(
        PaymentState, (None, *Custody), (None, *ManualStatus), (True, False)
    ):
        decided_on = state if manual else None
        payment = a_payment(state=state, custody=custody, manual=manual, decided_on=decided_on)
        for language in (*LANGUAGES, "de", ""):
            spoken = say(payment, language, asking=asking)
            assert spoken.cashier, (state, custody, manual)
            assert spoken.customer, (state, custody, manual)
            assert set(spoken.allowed) <= ACTS
            if state is PaymentState.UNKNOWN and manual is None:
                assert "manager" in spoken.allowed
                assert "other_method" not in spoken.allowed, "never charge again"
