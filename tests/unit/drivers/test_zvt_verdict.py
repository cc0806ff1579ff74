"""What a dialogue proves: every doubt is unknown, and only the terminal says declined."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from drivers.zvt_messages import Abort, Completion, StatusInformation
from drivers.zvt_verdict import (
    NO_RECEIPT,
    Transcript,
    baseline_of,
    follows,
    judge_enquiry,
    judge_payment,
    judge_reversal,
)
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    Declined,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotTaken,
    ReverseRequest,
    Stored,
    Unknown,
)

AMOUNT = Money(2040, "EUR")
GOOD = StatusInformation(result_code=0, amount_minor=2040, currency="EUR", receipt_number="0471", trace_number="000471")


def transcript(status: StatusInformation | None, end: Completion | Abort | None, *lines: str) -> Transcript:
    return Transcript(status, list(lines), end=end)


def reason_of(outcome: object) -> str:
    assert isinstance(outcome, (Unknown, Inconclusive)), outcome
    return outcome.reason


def test_approval_is_believed_when_all_agrees() -> None:
    lines = ("Betrag EUR 20,40", "Beleg-Nr. 0471", "22.39 Uhr")
    outcome = judge_payment(transcript(GOOD, Completion(), *lines), AMOUNT, "0470")
    assert isinstance(outcome, Approved)
    assert outcome.evidence.receipt_lines == lines
    assert isinstance(judge_payment(transcript(replace(GOOD, currency=None), Completion()), AMOUNT, ""), Approved)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (None, "no_status_information"),
        (replace(GOOD, result_code=None), "no_result_code"),
        (replace(GOOD, result_code=5), "contradiction"),
        (replace(GOOD, amount_minor=2041), "amount_mismatch"),
        (replace(GOOD, amount_minor=None), "amount_mismatch"),
        (replace(GOOD, currency="CHF"), "currency_mismatch"),
        (replace(GOOD, currency=""), "amount_mismatch"),
        (replace(GOOD, receipt_number=""), "receipt_missing"),
        (replace(GOOD, receipt_number="0470"), "receipt_not_new"),
        (replace(GOOD, original_trace="000100"), "not_a_payment"),
    ],
)
def test_doubtful_completion_is_unknown(status: StatusInformation | None, reason: str) -> None:
    assert reason_of(judge_payment(transcript(status, Completion()), AMOUNT, "0470")) == reason


def test_printed_amount_that_differs_is_unknown() -> None:
    told = transcript(GOOD, Completion(), "Betrag EUR 33,30")
    assert reason_of(judge_payment(told, AMOUNT, "")) == "printed_amount_mismatch"
    thousand = replace(GOOD, amount_minor=123_456)
    told = transcript(thousand, Completion(), "Summe 1.234,56 EUR")
    assert isinstance(judge_payment(told, Money(123_456, "EUR"), ""), Approved)


def test_only_a_final_message_is_a_verdict() -> None:
    assert reason_of(judge_payment(transcript(GOOD, None), AMOUNT, "")) == "no_final_answer"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (None, 0x6C, Cancelled), (StatusInformation(result_code=0x6C), 0x6C, Cancelled),
        (StatusInformation(result_code=5), 5, Declined), (None, 0xA3, Declined),
        (None, None, Unknown), (None, 0x00, Unknown), (None, 0xFF, Unknown), (None, 0x9A, Unknown),
        (GOOD, 5, Unknown), (GOOD, 0x6C, Unknown), (replace(GOOD, result_code=5, amount_minor=1), 5, Unknown),
    ],
)  # fmt: skip
def test_an_abort_is_a_refusal_unless_anything_speaks_for_an_approval(
    status: StatusInformation | None, code: int | None, kind: type
) -> None:
    assert type(judge_payment(transcript(status, Abort(code)), AMOUNT, "0470")) is kind


@pytest.mark.parametrize(
    ("online", "seen", "kind"),
    [(None, False, Approved), (None, True, Stored), (True, True, Approved), (False, False, Stored)],
)
def test_offline_is_the_online_tag_or_else_the_step_f3(online: bool | None, seen: bool, kind: type) -> None:
    told = Transcript(replace(GOOD, online=online), [], seen, Completion())
    assert type(judge_payment(told, AMOUNT, "")) is kind
    enquiry = judge_enquiry(told, EnquiryRequest("p", AMOUNT, "0470"))
    assert isinstance(enquiry, Found)
    assert type(enquiry.outcome) is kind


@pytest.mark.parametrize(
    ("status", "trace", "reason"),
    [
        (replace(GOOD, original_trace="000471"), "", ""),
        (replace(GOOD, receipt_number="0480", original_trace="000471"), "000471", ""),
        (replace(GOOD, receipt_number="0480", original_trace="000471"), "", "receipt_mismatch"),
        (replace(GOOD, original_trace="000400"), "000471", "receipt_mismatch"),
        (replace(GOOD, amount_minor=333), "", "amount_mismatch"),
    ],
)
def test_a_reversal_is_believed_only_for_what_was_asked(status: StatusInformation, trace: str, reason: str) -> None:
    outcome = judge_reversal(transcript(status, Completion()), ReverseRequest("p", AMOUNT, "0471", trace))
    assert isinstance(outcome, Unknown if reason else Approved)
    assert not reason or reason_of(outcome) == reason


REVERSED = replace(GOOD, original_trace="000471")


@pytest.mark.parametrize(
    ("status", "baseline", "wanted", "expected"),
    [
        (GOOD, "0470", "", Found),
        (GOOD, "0471", "", NotTaken),
        (GOOD, "", "", "no_baseline"),
        (GOOD, NO_RECEIPT, "", "others_since"),
        (replace(GOOD, receipt_number="0001"), NO_RECEIPT, "", Found),
        (None, "0470", "", "no_content"),
        (replace(GOOD, receipt_number=""), "0470", "", "no_content"),
        (replace(GOOD, amount_minor=1), "0470", "", "other_amount"),
        (replace(GOOD, currency="CHF"), "0470", "", "other_amount"),
        (replace(GOOD, result_code=None), "0470", "", "no_result_code"),
        (replace(GOOD, result_code=0xFF), "0470", "", "no_result_code"),
        (REVERSED, "0470", "", "last_is_a_reversal"),
        (REVERSED, "0471r", "", NotTaken),
        (REVERSED, "0471", "0471", Found),
        (GOOD, "0471", "0471", NotTaken),
        (GOOD, "0471", "0400", NotTaken),
        (GOOD, "0470", "0400", "other_receipt"),
        (REVERSED, "0471", "0400", "other_receipt"),
        (REVERSED, "0471r", "0400", NotTaken),
    ],
)
def test_enquiry(status: StatusInformation | None, baseline: str, wanted: str, expected: type | str) -> None:
    request = EnquiryRequest("p", AMOUNT, baseline, wanted)
    enquiry = judge_enquiry(transcript(status, Completion()), request)
    if isinstance(expected, str):
        assert reason_of(enquiry) == expected
    else:
        assert type(enquiry) is expected


def test_enquiry_repeats_a_refusal_as_it_was() -> None:
    request = EnquiryRequest("p", AMOUNT, "0470")
    declined = judge_enquiry(transcript(replace(GOOD, result_code=5), Completion()), request)
    assert isinstance(declined, Found)
    assert isinstance(declined.outcome, Declined)
    cancelled = judge_enquiry(transcript(replace(GOOD, result_code=0x6C), Completion()), request)
    assert isinstance(cancelled, Found)
    assert isinstance(cancelled.outcome, Cancelled)


def test_a_terminal_without_any_receipt_has_taken_nothing_if_it_had_none_before() -> None:
    empty = transcript(None, Abort(0x83))
    assert isinstance(judge_enquiry(empty, EnquiryRequest("p", AMOUNT, NO_RECEIPT)), NotTaken)
    assert reason_of(judge_enquiry(empty, EnquiryRequest("p", AMOUNT, "0470"))) == "no_receipt"
    assert reason_of(judge_enquiry(transcript(None, Abort(0xCC)), EnquiryRequest("p", AMOUNT, "0"))) == "no_answer"


def test_receipt_numbers_go_round() -> None:
    assert follows("0001", "9999")
    assert follows("0472", "0471")
    assert follows("0472", "")
    assert not follows("0480", "0471")
    assert not follows("0472", "0471r")
    assert baseline_of(REVERSED) == "0471r"


OURS, THEIRS = "01990000-0000-7000-8000-0000000000a1", "01990000-0000-7000-8000-0000000000a2"


@pytest.mark.parametrize(
    ("printed", "baseline", "expected"),
    [
        (OURS, "0470", ""),
        (OURS.upper(), "0400", ""),
        (OURS, "", ""),
        (THEIRS, "0470", "others_since"),
        (THEIRS, "", "no_baseline"),
    ],
)
def test_a_receipt_that_shows_an_id_speaks_of_that_payment_and_no_other(
    printed: str, baseline: str, expected: str
) -> None:
    lines = [f"Ref. {printed}"[start : start + 24] for start in (0, 24)]
    enquiry = judge_enquiry(transcript(GOOD, Completion(), *lines), EnquiryRequest(OURS, AMOUNT, baseline))
    if expected:
        assert reason_of(enquiry) == expected
    else:
        assert isinstance(enquiry, Found)
        assert enquiry.by_reference


def test_a_receipt_that_shows_our_id_does_not_make_another_amount_ours() -> None:
    told = transcript(replace(GOOD, amount_minor=1), Completion(), OURS)
    assert reason_of(judge_enquiry(told, EnquiryRequest(OURS, AMOUNT, "0470"))) == "other_amount"


def test_a_known_id_of_the_last_receipt_before_says_that_nothing_was_taken() -> None:
    told = transcript(GOOD, Completion(), THEIRS)
    assert isinstance(judge_enquiry(told, EnquiryRequest(OURS, AMOUNT, "0471")), NotTaken)
