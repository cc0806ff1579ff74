"""The three axes of a payment, walked exhaustively against the tables of the domain, written out by hand here."""

from __future__ import annotations

from itertools import product

import pytest

from hubd.errors import InvalidTransitionError
from hubd.model.payment import (
    CUSTODY_TRANSITIONS,
    PAYMENT_TRANSITIONS,
    Custody,
    CustodyEvent,
    ManualStatus,
    PaymentEvent,
    PaymentState,
    contradicts,
    contradicts_decision,
    decision,
    is_open,
    may_be_decided,
    next_custody,
    next_state,
)

PAYMENT = """
requested         started            in_progress
requested         approved           approved
requested         stored             stored
requested         declined           declined
requested         cancelled          cancelled
requested         unknown            unknown
in_progress       approved           approved
in_progress       stored             stored
in_progress       declined           declined
in_progress       cancelled          cancelled
in_progress       unknown            unknown
unknown           approved           approved
unknown           stored             stored
unknown           declined           declined
unknown           cancelled          cancelled
unknown           conflicted         conflict
approved          reversal_requested reversal_pending
approved          conflicted         conflict
stored            reversal_requested reversal_pending
stored            conflicted         conflict
reversal_pending  reversed           reversed
reversal_pending  conflicted         conflict
declined          conflicted         conflict
cancelled         conflicted         conflict
reversed          conflicted         conflict
"""
CUSTODY = """
held       forwarding    forwarding
held       captured      captured
held       declined_late declined_late
held       expired       expired
held       rejected      rejected
forwarding requeued      held
forwarding forwarded     forwarded
forwarding captured      captured
forwarding declined_late declined_late
forwarding expired       expired
forwarding rejected      rejected
forwarded  captured      captured
forwarded  declined_late declined_late
forwarded  expired       expired
forwarded  rejected      rejected
"""


def table(text: str) -> dict[tuple[str, str], str]:
    return {(state, event): after for state, event, after in (line.split() for line in text.strip().splitlines())}


@pytest.mark.parametrize(("state", "event"), list(product(PaymentState, PaymentEvent)))
def test_a_payment_moves_only_as_the_table_says(state: PaymentState, event: PaymentEvent) -> None:
    expected = table(PAYMENT).get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransitionError) as caught:
            next_state(state, event)
        assert caught.value.code == "payment.invalid_transition"
        assert caught.value.params == {"state": state, "event": event}
    else:
        assert next_state(state, event) == expected


@pytest.mark.parametrize(("state", "event"), list(product(Custody, CustodyEvent)))
def test_custody_moves_only_as_the_table_says(state: Custody, event: CustodyEvent) -> None:
    expected = table(CUSTODY).get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransitionError):
            next_custody(state, event)
    else:
        assert next_custody(state, event) == expected


@pytest.mark.parametrize(("state", "before"), list(product(PaymentState, [PaymentState.APPROVED, PaymentState.STORED])))
def test_a_failed_reversal_leads_back_to_where_it_was_asked_for_and_nowhere_else(
    state: PaymentState, before: PaymentState
) -> None:
    if state is PaymentState.REVERSAL_PENDING:
        assert next_state(state, PaymentEvent.REVERSAL_FAILED, before) is before
    else:
        with pytest.raises(InvalidTransitionError):
            next_state(state, PaymentEvent.REVERSAL_FAILED, before)


def test_every_state_has_its_row() -> None:
    assert set(PAYMENT_TRANSITIONS) == set(PaymentState)
    assert set(CUSTODY_TRANSITIONS) == set(Custody)


def reachable(start: str, steps: dict[tuple[str, str], str]) -> set[str]:
    found, todo = {start}, [start]
    while todo:
        state = todo.pop()
        for after in {after for (before, _), after in steps.items() if before == state} - found:
            found.add(after)
            todo.append(after)
    return found


def test_every_state_can_be_reached_and_an_approved_payment_never_becomes_declined() -> None:
    steps = table(PAYMENT)
    assert reachable("requested", steps) == {state.value for state in PaymentState} - {"refused"}
    assert "declined" not in reachable("approved", steps)
    assert "approved" not in reachable("declined", steps)
    assert reachable("held", table(CUSTODY)) == {state.value for state in Custody}


@pytest.mark.parametrize(("custody", "event"), list(product(Custody, CustodyEvent)))
def test_only_a_verdict_against_a_verdict_contradicts(custody: Custody, event: CustodyEvent) -> None:
    verdicts = {"captured", "declined_late", "expired", "rejected"}
    expected = custody.value in verdicts and event.value in verdicts and custody.value != event.value
    assert contradicts(custody, event) is expected


@pytest.mark.parametrize(
    ("state", "custody", "manual"), list(product(PaymentState, [None, *Custody], [None, *ManualStatus]))
)
def test_open_is_what_still_waits_for_a_word(
    state: PaymentState, custody: Custody | None, manual: ManualStatus | None
) -> None:
    waits = state.value in {"requested", "in_progress"}
    undecided = state.value in {"unknown", "conflict", "reversal_pending"} and manual is None
    held = state.value == "stored" and custody is not None and custody.value in {"held", "forwarding", "forwarded"}
    assert is_open(state, custody, manual) is (waits or undecided or (held and manual is None))


@pytest.mark.parametrize(
    ("state", "custody", "said_in"), list(product(PaymentState, [None, *Custody], [None, *PaymentState]))
)
def test_a_persons_word_stands_only_for_the_state_in_which_it_was_said(
    state: PaymentState, custody: Custody | None, said_in: PaymentState | None
) -> None:
    unpaid = state.value == "stored" and custody is not None and custody.value != "captured"
    stands = said_in is state and (unpaid or state.value in {"unknown", "conflict", "reversal_pending"})
    for manual in ManualStatus:
        assert decision(state, custody, manual, said_in) is (manual if stands else None)
    assert decision(state, custody, None, said_in) is None


@pytest.mark.parametrize(
    ("state", "custody", "answers", "overdue"),
    list(product(PaymentState, [None, *Custody], [True, False], [True, False])),
)
def test_a_person_decides_only_what_nothing_that_can_be_asked_will_say(
    state: PaymentState, custody: Custody | None, answers: bool, overdue: bool
) -> None:
    lost = state.value in {"unknown", "conflict", "reversal_pending"}
    stranded = custody is not None and custody.value == "held" and (overdue or not answers)
    awaited = custody is not None and custody.value == "forwarded"
    refused = custody is not None and custody.value in {"declined_late", "expired", "rejected"}
    expected = lost or (state.value == "stored" and (stranded or awaited or refused))
    assert may_be_decided(state, custody, terminal_answers=answers, overdue=overdue) is expected


@pytest.mark.parametrize(("decided", "event"), list(product([None, *ManualStatus], CustodyEvent)))
def test_a_late_word_contradicts_a_person_when_it_says_the_opposite(
    decided: ManualStatus | None, event: CustodyEvent
) -> None:
    opposite = {"success": {"declined_late", "expired", "rejected"}, "failure": {"forwarded", "captured"}}
    expected = decided is not None and event.value in opposite[decided.value]
    assert contradicts_decision(decided, event) is expected
