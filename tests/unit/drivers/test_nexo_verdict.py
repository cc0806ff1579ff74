"""What nexo answers prove, and what they do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from msgspec.structs import replace

from drivers.nexo_codec import Header, request_header
from drivers.nexo_messages import MessageReference, PaymentReply, Reply, ReversalReply, StatusReply, TransactionId
from drivers.nexo_verdict import (
    Answered,
    NotFound,
    baseline_of,
    judge_payment,
    judge_reversal,
    judge_status,
    not_found_doubt,
    receipt_number_of,
    transaction_of,
)
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    Declined,
    Inconclusive,
    NotStarted,
    Outcome,
    StillRunning,
    Stored,
    Unknown,
)

AMOUNT = Money(2040, "EUR")
AT = "2026-11-30T21:43:12.000Z"
ORIGINAL = TransactionId("4r7i001557325515012.8815573255107661", AT)
RECEIPT = f"4r7i001557325515012.8815573255107661@{AT}"
GOOD = PaymentReply(
    reply=Reply("Success"),
    reference="order-1",
    transaction=ORIGINAL,
    amount=AMOUNT,
    online=True,
    approval_code="123456",
    pan_last4="0010",
)
POIID = "V400m-324688179"
ASKED = request_header("Payment", "0123456789", "hubd", POIID)
NOW = datetime(2026, 11, 30, 22, 0, tzinfo=UTC)


def judged(**changes: object) -> Outcome:
    return judge_payment(replace(GOOD, **changes), "order-1", AMOUNT)


def test_an_approval_that_fits() -> None:
    outcome = judged()
    assert isinstance(outcome, Approved)
    evidence = outcome.evidence
    assert (evidence.amount, evidence.receipt_number, evidence.pan_last4) == (AMOUNT, RECEIPT, "0010")
    assert (evidence.result_code, evidence.offline, evidence.authorization_code) == ("Success", False, "123456")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount": Money(2041, "EUR")}, "amount_mismatch"),
        ({"amount": Money(2040, "USD")}, "currency_mismatch"),
        ({"amount": None}, "amount_mismatch"),
        ({"other_amount": True}, "amount_mismatch"),
        ({"reference": "order-2"}, "reference_mismatch"),
        ({"reference": ""}, "reference_mismatch"),
        ({"transaction": TransactionId("", AT)}, "receipt_missing"),
        ({"transaction": TransactionId("a.b", "")}, "receipt_missing"),
        ({"reply": Reply("Partial")}, "partial_amount"),
        ({"reply": Reply("Success", "Cancel")}, "contradiction"),
        ({"reply": Reply("")}, "contradiction"),
        ({"reply": Reply("Approved")}, "contradiction"),
        ({"reply": Reply("Failure", "Refusal")}, "contradiction"),
        ({"reply": Reply("Failure", "Refusal"), "reference": "order-2"}, "reference_mismatch"),
        ({"reply": Reply("Failure", "InProgress"), "approval_code": ""}, "terminal_error"),
        ({"reply": Reply("Failure", "DeviceOut"), "approval_code": ""}, "terminal_error"),
        ({"reply": Reply("Failure", ""), "approval_code": ""}, "terminal_error"),
        ({"reply": Reply("Failure", "SomethingNew"), "approval_code": ""}, "terminal_error"),
    ],
)
def test_every_doubt_is_unknown(changes: dict[str, object], reason: str) -> None:
    assert judged(**changes) == Unknown(reason)


@pytest.mark.parametrize(
    "changes",
    [
        {"online": False},
        {"offline_marked": True},
        {"offline_marked": True, "online": None},
        {"transaction": TransactionId("4r7i001557325515012", AT)},
        {"online": False, "offline_marked": True, "approval_code": "", "transaction": TransactionId("4r7i", AT)},
    ],
)
def test_any_offline_marker_makes_it_stored_although_the_result_is_success(changes: dict[str, object]) -> None:
    outcome = judged(**changes)
    assert isinstance(outcome, Stored)
    assert outcome.evidence.offline


@pytest.mark.parametrize(
    ("condition", "kind", "reason"),
    [
        ("Refusal", Declined, "declined"), ("WrongPIN", Declined, "wrong_pin"),
        ("UnreachableHost", Declined, "host_no_connection"), ("InvalidCard", Declined, "card_invalid"),
        ("PaymentRestriction", Declined, "not_allowed_for_this_card"), ("Cancel", Cancelled, "cancelled"),
        ("Aborted", Cancelled, "aborted"), ("Busy", NotStarted, "terminal_busy"),
        ("NotAllowed", NotStarted, "not_allowed"), ("LoggedOut", NotStarted, "not_registered"),
        ("MessageFormat", NotStarted, "protocol_error"), ("InsertedCard", NotStarted, "card_inserted"),
        ("UnavailableService", NotStarted, "function_not_possible"),
    ],
)  # fmt: skip
def test_only_the_terminals_own_word_is_a_refusal(condition: str, kind: type[Outcome], reason: str) -> None:
    outcome = judged(
        reply=Reply("Failure", condition), approval_code="", amount=None, transaction=TransactionId(), reference=""
    )
    assert type(outcome) is kind
    assert getattr(outcome, "reason", "") == reason


# -- reversals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (ReversalReply(reply=Reply("Success")), Approved),
        (ReversalReply(reply=Reply("Success"), original=ORIGINAL, amount=Decimal("20.40")), Approved),
        (ReversalReply(reply=Reply("Success"), original=TransactionId("other.1", AT)), Unknown("receipt_mismatch")),
        (ReversalReply(reply=Reply("Success"), amount=Decimal("20.41")), Unknown("amount_mismatch")),
        (ReversalReply(reply=Reply("Success"), amount=Decimal("20.4000001")), Unknown("amount_mismatch")),
        (ReversalReply(reply=Reply("Partial")), Unknown("contradiction")),
        (ReversalReply(reply=Reply("Failure", "NotFound")), Declined),
        (ReversalReply(reply=Reply("Failure", "UnreachableHost")), Declined),
        (ReversalReply(reply=Reply("Failure", "NotAllowed")), NotStarted),
        (ReversalReply(reply=Reply("Failure", "Busy")), NotStarted),
        (ReversalReply(reply=Reply("Failure", "InProgress")), Unknown("terminal_error")),
    ],
)
def test_a_reversal_is_held_to_what_was_asked(reply: ReversalReply, expected: Outcome | type[Outcome]) -> None:
    outcome = judge_reversal(reply, ORIGINAL, AMOUNT)
    assert outcome == expected if isinstance(expected, Unknown) else type(outcome) is expected


def test_receipt_numbers_name_id_and_time() -> None:
    assert receipt_number_of(ORIGINAL) == RECEIPT
    assert transaction_of(RECEIPT) == ORIGINAL
    for other in ("", "0001", "a@", "@2026", f"a b@{AT}", f"a@{AT} x", f"{'a' * 121}@{AT}"):
        assert transaction_of(other) is None


# -- enquiries ---------------------------------------------------------------------------------------------------------


def repeated(**changes: object) -> StatusReply:
    header = Header(category="Payment", message_type="Response", service_id="0123456789", sale_id="hubd", poiid=POIID)
    raw = msgspec.Raw(msgspec.json.encode(replace(header, **changes)))
    return StatusReply(reply=Reply("Success"), repeated_header=raw, repeated=GOOD)


def asked(reply: StatusReply, header: Header = ASKED, original: TransactionId | None = None) -> object:
    return judge_status(reply, header, "order-1", AMOUNT, original)


def test_a_repeated_answer_has_the_verdict_of_the_first() -> None:
    said = asked(repeated())
    assert isinstance(said, Answered)
    assert isinstance(said.outcome, Approved)
    reference = MessageReference(category="Payment", service_id="0123456789", sale_id="hubd", poiid=POIID)
    assert asked(replace(repeated(), reference=reference)) == said
    assert asked(replace(repeated(), reference=replace(reference, sale_id="", poiid="", category=""))) == said


@pytest.mark.parametrize(
    "changes",
    [
        {"service_id": "0123456780"}, {"sale_id": "other"}, {"poiid": "V400m-1"}, {"category": "Reversal"},
        {"message_type": "Request"},
    ],
)  # fmt: skip
def test_a_repeated_answer_to_another_message_proves_nothing(changes: dict[str, object]) -> None:
    said = asked(repeated(**changes))
    assert isinstance(said, Inconclusive)
    assert said.reason == "other_message"


def test_a_reference_to_another_message_proves_nothing() -> None:
    for named in ({"service_id": "0123456780"}, {"service_id": ""}, {"service_id": "0123456789", "poiid": "V400m-1"}):
        said = asked(replace(repeated(), reference=MessageReference(**named)))
        assert isinstance(said, Inconclusive)
        assert said.reason == "other_message"


def test_a_reversal_is_no_payment() -> None:
    reversal = replace(repeated(), repeated=ReversalReply(reply=Reply("Success")))
    assert isinstance(asked(reversal), Inconclusive)
    header = replace(ASKED, category="Reversal")
    meant = asked(replace(reversal, repeated_header=repeated(category="Reversal").repeated_header), header, ORIGINAL)
    assert isinstance(meant, Answered)
    assert isinstance(asked(repeated(category="Reversal"), header, ORIGINAL), Inconclusive)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (StatusReply(reply=Reply("Failure", "InProgress")), StillRunning),
        (StatusReply(reply=Reply("Failure", "Busy")), StillRunning),
        (StatusReply(reply=Reply("Failure", "NotFound")), NotFound),
        (StatusReply(reply=Reply("Failure", "UnavailableService")), Inconclusive),
        (StatusReply(reply=Reply("Failure")), Inconclusive),
        (StatusReply(reply=Reply("Success")), Inconclusive),
        (StatusReply(reply=Reply("Success", "NotFound")), Inconclusive),
        (replace(repeated(), repeated_header=None), Inconclusive),
        (replace(repeated(), repeated_header=msgspec.Raw(b"[]")), Inconclusive),
        (replace(repeated(), repeated=None), Inconclusive),
    ],
)
def test_answers_without_the_original(reply: StatusReply, expected: type[object]) -> None:
    said = asked(reply)
    assert type(said) is expected
    if isinstance(said, Inconclusive):
        assert said.evidence is not None, "the terminal has answered"


@pytest.mark.parametrize(
    ("baseline", "wanted", "doubt"),
    [
        (baseline_of(POIID, NOW - timedelta(minutes=5)), "", ""),
        (baseline_of(POIID, NOW - timedelta(hours=23)), "", ""),
        (baseline_of(POIID, NOW - timedelta(hours=25)), "", "not_found_after_long"),
        (baseline_of(POIID, NOW + timedelta(hours=25)), "", "not_found_after_long"),
        (baseline_of("V400m-1", NOW), "", "other_terminal"),
        ("", "", "not_found_undated"),
        ("0000", "", "not_found_undated"),
        (f"{POIID} yesterday", "", "not_found_undated"),
        (f"{POIID} 0001-01-01T00:00:00+14:00", "", "not_found_undated"),
        ("", RECEIPT, ""),
        ("", RECEIPT.replace("2026-11-30", "2026-11-28"), "not_found_after_long"),
        (baseline_of(POIID, NOW), "0001", ""),
    ],
)
def test_not_found_proves_something_only_at_the_same_terminal_and_soon(baseline: str, wanted: str, doubt: str) -> None:
    found = not_found_doubt(baseline, wanted, POIID, NOW)
    assert found == doubt or (doubt == "not_found_undated" and found == "not_found_after_long")
