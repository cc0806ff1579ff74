"""What answers prove: every doubt is unknown, and only the terminal says declined."""

from __future__ import annotations

import pytest

from drivers.poslink_messages import Answer, Record, Transaction, decode_answer
from drivers.poslink_verdict import (
    Baseline,
    changed_since,
    decode_baseline,
    judge_payment,
    judge_record,
    judge_reversal,
    refused_enquiry,
)
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    Declined,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    Stored,
    Unknown,
)
from tests.unit.drivers.test_poslink_framing import frame_of

AMOUNT, REFERENCE = Money(2040, "USD"), "123456789012"
REQUEST = EnquiryRequest("payment-1", AMOUNT, "")


def said(
    code: str = "000000", message: str = "OK", *, kind: str = "01", amount: str = "2040", reference: str = REFERENCE,
    number: str = "7", host: str = "0,APPROVED,123456", status: str = "0",
) -> Answer:  # fmt: skip
    trace = f"{number},{reference},20260102101112"
    answer = decode_answer(frame_of(f"{status}|T01|1.28|{code}|{message}|{host}|{kind}|{amount}|1111,4|{trace}"))
    assert answer is not None
    return answer


def bare(code: str, message: str) -> Answer:
    answer = decode_answer(frame_of(f"0|T01|1.28|{code}|{message}"))
    assert answer is not None
    return answer


def test_an_approval_is_believed_when_all_agrees() -> None:
    outcome = judge_payment(said(), AMOUNT, REFERENCE)
    assert isinstance(outcome, Approved)
    evidence = outcome.evidence
    assert (evidence.amount, evidence.receipt_number, evidence.trace_number) == (AMOUNT, "7", REFERENCE)
    assert (evidence.authorization_code, evidence.device_at) == ("123456", "0102 101112")
    assert isinstance(judge_payment(said("000003", "APPROVED"), AMOUNT, REFERENCE), Approved)


def test_an_offline_approval_is_stored() -> None:
    stored = judge_payment(said("000001", "APPROVED OFFLINE", host=""), AMOUNT, REFERENCE)
    assert isinstance(stored, Stored)
    assert stored.evidence.offline
    assert isinstance(judge_payment(said(number="5001"), AMOUNT, REFERENCE), Stored)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said(amount="2041"), "amount_mismatch"), (said(amount="2000"), "amount_mismatch"),
        (said(amount=""), "amount_mismatch"), (said(reference=""), "reference_mismatch"),
        (said(reference="1"), "reference_mismatch"), (said(number=""), "number_missing"),
        (said(kind="02"), "not_a_payment"), (said(kind=""), "not_a_payment"),
        (said(status="1"), "not_the_whole_answer"),
        (said(message="DECLINED"), "contradiction"), (said(host="0,DECLINE"), "contradiction"),
        (said("000002", "PARTIALLY APPROVED", amount="300"), "partially_approved"),
        (bare("000000", "OK"), "reference_mismatch"),
    ],
)  # fmt: skip
def test_a_doubtful_approval_is_unknown(answer: Answer, reason: str) -> None:
    assert judge_payment(answer, AMOUNT, REFERENCE) == Unknown(reason)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("000100", "DECLINE", Declined), ("000200", "CARD READ OK", Declined),
        ("100001", "TIMEOUT", Cancelled), ("100002", "ABORTED", Cancelled),
        ("100003", "INVOICE INVALID", NotStarted), ("100003", "FORMAT ERROR", NotStarted),
        ("100003", "TIP NOT ALLOWED", NotStarted), ("100004", "UNSUPPORT TRANS", NotStarted),
        ("100005", "UNSUPPORT EDC", NotStarted), ("100099", "SERVICE BUSY", NotStarted),
        ("100003", "ENCRYPTION ERROR", Unknown), ("100007", "INVALID RESP MSG", Unknown),
        ("100008", "SEND ERROR", Unknown), ("100009", "RECEIVE ERROR", Unknown), ("100010", "COMM ERROR", Unknown),
        ("100011", "DUP TRANSACTION", Unknown), ("100023", "USER ABORTED", Unknown), ("100023", "NOT FOUND", Unknown),
        ("100099", "PED BUSY", Unknown), ("123456", "DECLINE", Unknown), ("000300", "OUT OF BALANCE", Unknown),
    ],
)  # fmt: skip
def test_only_codes_that_are_known_to_charge_nothing_refuse(code: str, message: str, kind: type) -> None:
    assert type(judge_payment(bare(code, message), AMOUNT, REFERENCE)) is kind
    assert type(judge_payment(said(code, message, amount="0", host="05", number=""), AMOUNT, REFERENCE)) is kind


@pytest.mark.parametrize("code", ["000100", "100001", "100002", "100004"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reference": "1"}, "reference_mismatch"), ({"amount": "300"}, "contradiction"),
        ({"host": "0,APPROVED,123456"}, "contradiction"), ({"status": "1"}, "not_the_whole_answer"),
    ],
)  # fmt: skip
def test_a_refusal_that_anything_speaks_against_is_unknown(code: str, change: dict[str, str], reason: str) -> None:
    fields = {"host": "05,DECLINE", "amount": "0"} | change
    answer = said(code, "TEXT", **fields)
    assert judge_payment(answer, AMOUNT, REFERENCE) == Unknown(reason)


def test_a_reversal_is_a_void_of_the_amount() -> None:
    for kind in ("16", "17"):
        assert isinstance(judge_reversal(said(kind=kind), AMOUNT, REFERENCE), Approved)
    assert judge_reversal(said(kind="01"), AMOUNT, REFERENCE) == Unknown("not_a_reversal")
    assert judge_reversal(said(kind="16", amount="333"), AMOUNT, REFERENCE) == Unknown("amount_mismatch")
    refused = judge_reversal(bare("100023", "NOT FOUND"), AMOUNT, REFERENCE)
    assert isinstance(refused, Declined)
    assert refused.reason == "not_found"
    assert judge_reversal(bare("100021", "ALREADY VOIDED"), AMOUNT, REFERENCE) == Unknown("already_voided")
    assert judge_reversal(bare("100023", "CANNOT VOID"), AMOUNT, REFERENCE) == Unknown("not_found")
    assert isinstance(judge_reversal(bare("100002", "ABORTED"), AMOUNT, REFERENCE), Cancelled)


# -- enquiries -------------------------------------------------------------------------------------------------------

GOOD = Transaction(
    kind="01", host_code="0", amount_minor=2040, number="7", reference=REFERENCE, at="20260102101112", pan_last4="1111"
)
BEFORE = Baseline("6.20260102101000", "1a2b3c4d", "-")


def changed(**fields: object) -> Record:
    values = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__} | fields
    return Record(1, Transaction(**values))


def test_a_record_with_our_reference_is_the_payment() -> None:
    found = judge_record(Record(1, GOOD), REQUEST, REFERENCE, BEFORE)
    assert isinstance(found, Found)
    assert found.by_reference
    assert isinstance(found.outcome, Approved)
    stored = judge_record(changed(number="5001", host_code=""), REQUEST, REFERENCE, BEFORE)
    assert isinstance(stored, Found)
    assert isinstance(stored.outcome, Stored)
    assert isinstance(judge_record(Record(1, GOOD), REQUEST, REFERENCE, None), Found)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Record(2, GOOD), "other_record"), (changed(reference="1"), "other_record"),
        (changed(reference=""), "no_content"), (changed(at=""), "other_record"),
        (changed(number="6", at="20260102101000"), "older_record"), (changed(at="20260102100959"), "older_record"),
        (changed(kind="16"), "other_kind"), (changed(kind="17"), "other_kind"), (changed(kind=""), "other_kind"),
        (changed(amount_minor=2041), "other_amount"), (changed(amount_minor=None), "other_amount"),
        (changed(number="9001"), "refused_when_sent"), (changed(host_code="05"), "host_code_unknown"),
        (changed(host_message="DECLINED"), "host_code_unknown"),
    ],
)  # fmt: skip
def test_a_record_that_differs_proves_nothing(record: Record, reason: str) -> None:
    enquiry = judge_record(record, REQUEST, REFERENCE, BEFORE)
    assert isinstance(enquiry, Inconclusive)
    assert enquiry.reason == reason


def test_a_reversal_is_found_as_a_void() -> None:
    request = EnquiryRequest("reversal", AMOUNT, "", wanted="7")
    assert isinstance(judge_record(changed(kind="16"), request, REFERENCE, BEFORE), Found)
    assert isinstance(judge_record(Record(1, GOOD), request, REFERENCE, BEFORE), Inconclusive)


@pytest.mark.parametrize(
    ("before", "now", "reversal", "reason"),
    [
        (BEFORE, BEFORE, False, ""),
        (BEFORE, BEFORE, True, ""),
        (BEFORE, Baseline("8.20260102111111", "1a2b3c4d", "-"), False, ""),
        (BEFORE, Baseline("8.20260102111111", "1a2b3c4d", "-"), True, "others_since"),
        (BEFORE, Baseline("6.20260102101000", "ffffffff", "-"), False, "batch_changed"),
        (BEFORE, Baseline("6.20260102101000", "1a2b3c4d", "ffffffff"), False, "batch_changed"),
        (Baseline("0000", "-", "-"), Baseline("0000", "-", "-"), False, ""),
        (Baseline("0000", "?", "-"), Baseline("0000", "?", "-"), False, "batch_unknown"),
        (Baseline("6.20260102101000", "?", "?"), Baseline("6.20260102101000", "?", "?"), False, ""),
    ],
)
def test_a_missing_record_proves_something_in_the_same_batch_only(
    before: Baseline, now: Baseline, reversal: bool, reason: str
) -> None:
    assert changed_since(before, now, reversal=reversal) == reason


@pytest.mark.parametrize("baseline", [BEFORE, Baseline("0000", "-", "?"), Baseline("5001.20260102101000", "?", "-")])
def test_a_baseline_is_kept_as_a_text(baseline: Baseline) -> None:
    assert decode_baseline(baseline.encode()) == baseline


@pytest.mark.parametrize("text", ["", "0000", "0471", "0471r", "6.1~-~-", "6.20260102101000~x~-"])
def test_a_text_of_another_driver_is_no_baseline(text: str) -> None:
    assert decode_baseline(text) is None


def test_two_records_of_one_reference_are_none() -> None:
    assert refused_enquiry(bare("100023", "MULTIPLE RECORDS FOUND"), "USD").reason == "several_records"
    assert refused_enquiry(bare("100010", "COMM ERROR"), "USD").reason == "host_error"
