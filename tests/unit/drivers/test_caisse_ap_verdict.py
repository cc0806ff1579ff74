"""What an answer proves: every doubt is unknown, and only the terminal says declined."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from drivers.caisse_ap_codec import Answer, Payment
from drivers.caisse_ap_verdict import (
    REMEDIES,
    answers_identification,
    identification_problem,
    judge_payment,
    names_the_payment,
)
from hubd.model.money import Money
from hubd.ports import Approved, Cancelled, Declined, NotStarted, Outcome, Unknown

ASKED = Payment(2040, "EUR", "01", "0190a5c27b4e7cc18f000123456789ab")
GOOD = Answer(
    status="10", action="0", till="01", amount_minor=2040, currency="EUR", reference=ASKED.reference, version="0301"
)
REFUSED = replace(GOOD, status="01", cause="04")


def judge(*answers: Answer) -> Outcome:
    return judge_payment(answers, ASKED)


def test_approval_is_believed_when_all_agrees() -> None:
    outcome = judge(replace(GOOD, pan_last4="4771", authorization_code="184117"))
    assert isinstance(outcome, Approved)
    assert outcome.evidence.amount == Money(2040, "EUR")
    assert outcome.evidence.receipt_number == ""
    assert outcome.evidence.pan_last4 == "4771"


@pytest.mark.parametrize("cause", ["", "00", "01", "03"])
def test_what_may_stand_beside_an_approval(cause: str) -> None:
    assert isinstance(judge(replace(GOOD, cause=cause)), Approved)


@pytest.mark.parametrize("cause", ["02", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "99"])
def test_an_approval_with_the_cause_of_a_refusal_is_a_contradiction(cause: str) -> None:
    assert judge(replace(GOOD, cause=cause)) == Unknown("contradiction")


MISMATCHES = [
    ({"version": ""}, "malformed_answer"),
    ({"version": "0200"}, "malformed_answer"),
    ({"action": "1"}, "not_a_payment"),
    ({"action": ""}, "not_a_payment"),
    ({"till": "02"}, "till_mismatch"),
    ({"till": ""}, "till_mismatch"),
    ({"currency": "CHF"}, "currency_mismatch"),
    ({"currency": ""}, "currency_mismatch"),
    ({"amount_minor": 2041}, "amount_mismatch"),
    ({"amount_minor": None}, "amount_mismatch"),
    ({"reference": "0190a5c27b4e7cc18f000123456789ac"}, "reference_mismatch"),
]


@pytest.mark.parametrize("answer", [GOOD, REFUSED, replace(REFUSED, cause="11"), replace(REFUSED, cause="10")])
@pytest.mark.parametrize(("changed", "reason"), MISMATCHES)
def test_an_answer_to_something_else_is_no_verdict_of_any_kind(
    answer: Answer, changed: dict[str, object], reason: str
) -> None:
    assert judge(replace(answer, **changed)) == Unknown(reason)


@pytest.mark.parametrize("reference", ["", "1010000000"])
def test_a_terminal_need_not_give_the_reference_back(reference: str) -> None:
    assert isinstance(judge(replace(GOOD, reference=reference)), Approved)


@pytest.mark.parametrize(
    ("cause", "expected", "reason"),
    [
        ("02", Declined, "call_issuer"),
        ("04", Declined, "declined"),
        ("05", Declined, "card_forbidden"),
        ("07", Declined, "not_completed"),
        ("06", Cancelled, "cancelled"),
        ("08", Cancelled, "timeout"),
        ("11", Cancelled, "cancelled"),
        ("09", NotStarted, "message_refused"),
        ("10", NotStarted, "selection_refused"),
        ("12", NotStarted, "function_not_possible"),
        ("13", NotStarted, "currency_not_supported"),
        ("00", Unknown, "terminal_error"),
        ("01", Unknown, "contradiction"),
        ("03", Unknown, "contradiction"),
        ("", Unknown, "terminal_error"),
        ("77", Unknown, "terminal_error"),
    ],
)
def test_the_cause_decides_what_a_refusal_is(cause: str, expected: type[Outcome], reason: str) -> None:
    outcome = judge(replace(REFUSED, cause=cause))
    assert isinstance(outcome, expected)
    assert not isinstance(outcome, Approved)
    assert outcome.reason == reason  # type: ignore[union-attr]  # every one but an approval has a reason
    if isinstance(outcome, NotStarted):
        assert outcome.remedy == REMEDIES[reason]


def test_two_answers_that_differ_are_a_contradiction() -> None:
    assert judge(GOOD, REFUSED) == Unknown("contradiction")
    assert judge() == Unknown("no_answer")
    assert judge(replace(GOOD, status="11")) == Unknown("malformed_answer")
    assert judge(replace(GOOD, status="")) == Unknown("malformed_answer")


@pytest.mark.parametrize(
    ("status", "cause", "problem"),
    [
        ("10", "", ""),
        ("11", "", ""),
        ("01", "09", ""),
        ("01", "12", ""),
        ("01", "", "terminal_busy"),
        ("01", "06", "terminal_busy"),
        ("01", "05", "forbidden"),
    ],
)
def test_what_an_identification_tells(status: str, cause: str, problem: str) -> None:
    answer = Answer(status=status, cause=cause, action="I")
    assert answers_identification(answer)
    assert identification_problem(answer) == problem
    assert problem == "" or REMEDIES[problem]


def test_an_answer_to_a_payment_is_none_to_an_identification() -> None:
    assert not answers_identification(GOOD)
    assert not answers_identification(Answer(action="I"))


def test_nothing_more_is_waited_for_once_the_verdict_can_be_told() -> None:
    assert names_the_payment(GOOD)
    assert names_the_payment(REFUSED)
    assert not names_the_payment(replace(REFUSED, cause=""))
    for changed in ({"amount_minor": None}, {"currency": ""}, {"till": ""}, {"action": ""}, {"status": ""}):
        assert not names_the_payment(replace(GOOD, **changed))
