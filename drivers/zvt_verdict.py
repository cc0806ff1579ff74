"""What a ZVT dialogue proves. Pure: from what the terminal said to a verdict, with every doubt as `Unknown`.

A payment is final only with 06 0F or 06 1E. An approval is believed when result code, amount, currency, receipt number
and the printed receipt all say the same; a refusal when nothing the terminal said speaks for an approval.
"""

from __future__ import annotations

import re

from msgspec import Struct, field
from msgspec.structs import replace

from drivers.zvt_messages import (
    APPROVED_TAKE_GOODS,
    OFFLINE_TRANSACTION,
    PROGRESS_TEXT,
    RESULT_TEXT,
    Abort,
    Answer,
    Completion,
    IntermediateStatus,
    PrintText,
    StatusInformation,
)
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    Declined,
    Enquiry,
    EnquiryRequest,
    Evidence,
    Found,
    Inconclusive,
    NotTaken,
    Outcome,
    Progress,
    ProgressSink,
    ReverseRequest,
    Stored,
    Unknown,
)

RECEIPT_LINES_MAX = 1000
NO_RECEIPT = "0000"
"""Stands for "the terminal says that it has no transaction yet"; ZVT receipt numbers begin with 0001."""
_REVERSAL_MARK = "r"
_CANCELLED = 0x6C
_UNTRUSTED_ABORTS = frozenset({0x00, 0x9A, 0xFF})
"""Protocol and system errors say that the terminal itself does not know where it stopped."""
_PRINTED_AMOUNT = re.compile(r"(?<![\d.,])(\d{1,3}(?:[. ]\d{3})+|\d+)[.,](\d{2})(?![\d.,])")
_REFERENCE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_AMOUNT_LINE = re.compile(r"betrag|summe|total|amount|montant", re.IGNORECASE)


class Transcript(Struct):
    """What the terminal said in one dialogue."""

    status: StatusInformation | None = None
    lines: list[str] = field(default_factory=list)
    offline_seen: bool = False
    """Intermediate status F3: the terminal is making an offline transaction."""
    end: Completion | Abort | None = None
    earlier_codes: set[int] = field(default_factory=set)
    """Result codes that a later status information has replaced, and 00 where a step said "approved"."""

    @property
    def codes(self) -> set[int]:
        """Every result code that the terminal has named in this dialogue."""
        last = self.status.result_code if self.status else None
        return self.earlier_codes if last is None else {*self.earlier_codes, last}

    @property
    def failure(self) -> int:
        """A result code that is none of success, or 0."""
        return max(self.codes, default=0)

    def note(self, answer: Answer, progress: ProgressSink) -> None:
        """Take in what the terminal has said; what a customer sees of it goes to `progress` as well."""
        match answer:
            case StatusInformation():
                self.earlier_codes = self.codes
                self.status = answer
            case IntermediateStatus(code, text):
                self.offline_seen |= code == OFFLINE_TRANSACTION
                if code == APPROVED_TAKE_GOODS:
                    self.earlier_codes.add(0)
                progress(Progress(PROGRESS_TEXT.get(code, f"step_{code:02x}"), text))
            case PrintText(lines):
                self.lines.extend(lines[: RECEIPT_LINES_MAX - len(self.lines)])
            case Completion() | Abort():
                self.end = answer
            case _:
                pass


def baseline_of(status: StatusInformation) -> str:
    """What names the terminal's last transaction: its receipt number, marked when it is the reversal of that one.

    A reversal carries the receipt number of the payment it has undone, so the number alone would not tell them apart.
    """
    mark = _REVERSAL_MARK if status.original_trace and status.receipt_number else ""
    return status.receipt_number + mark


def evidence_of(transcript: Transcript, currency: str) -> Evidence:
    """Evidence of a dialogue. `currency` is used where the terminal names none, because it was registered with it."""
    status = transcript.status or StatusInformation()
    named = currency if status.currency is None else status.currency
    known = status.amount_minor is not None and named
    return Evidence(
        amount=Money(status.amount_minor or 0, named) if known else None,
        receipt_number=status.receipt_number,
        trace_number=status.trace_number,
        terminal_id=status.terminal_id,
        result_code="" if status.result_code is None else f"{status.result_code:02X}",
        card_name=status.card_name,
        pan_last4=status.pan_last4,
        technology=status.technology,
        verification=status.verification,
        authorization_code=status.authorization_code,
        device_at=f"{status.date} {status.time}".strip(),
        offline=_offline(transcript),
        receipt_lines=tuple(transcript.lines),
    )


def _offline(transcript: Transcript) -> bool:
    """The online tag of the status information decides; without it, F3 during the dialogue."""
    online = transcript.status.online if transcript.status else None
    return transcript.offline_seen if online is None else not online


def judge_payment(transcript: Transcript, amount: Money, baseline: str) -> Outcome:
    """Verdict of 06 01 from a dialogue that has ended. `baseline` is the last receipt number before it, if known."""
    evidence = evidence_of(transcript, amount.currency)
    match transcript.end:
        case None:
            return Unknown("no_final_answer")
        case Abort(code):
            return _judge_abort(transcript, evidence, code, amount)
        case Completion():
            doubt = doubt_about(transcript, evidence, amount)
            if doubt:
                return Unknown(doubt)
            if transcript.status and transcript.status.original_trace:
                return Unknown("not_a_payment")
            if not evidence.receipt_number:
                return Unknown("receipt_missing")
            if evidence.receipt_number == baseline:
                return Unknown("receipt_not_new")
            return Stored(evidence) if evidence.offline else Approved(evidence)


def doubt_about(transcript: Transcript, evidence: Evidence, amount: Money) -> str:
    """Why an approval of `amount` cannot be believed, or ""."""
    if transcript.status is None:
        return "no_status_information"
    if transcript.status.result_code is None:
        return "no_result_code"
    if transcript.status.result_code != 0:
        return "contradiction"
    if evidence.amount is None or evidence.amount.amount_minor != amount.amount_minor:
        return "amount_mismatch"
    if evidence.amount.currency != amount.currency:
        return "currency_mismatch"
    return "" if _printed_amount_fits(transcript.lines, amount) else "printed_amount_mismatch"


def _printed_amount_fits(lines: list[str], amount: Money) -> bool:
    """False when the receipt names amounts and none of them is ours (a terminal was seen to reverse another one)."""
    if amount.exponent != 2:
        return True
    printed = {
        int(re.sub(r"\D", "", whole)) * 100 + int(minor)
        for line in lines
        if _AMOUNT_LINE.search(line) or amount.currency in line
        for whole, minor in _PRINTED_AMOUNT.findall(line)
    }
    return not printed or amount.amount_minor in printed


def _judge_abort(transcript: Transcript, evidence: Evidence, code: int | None, amount: Money) -> Outcome:
    status = transcript.status
    if code is None:
        return Unknown("malformed_answer")
    if code in _UNTRUSTED_ABORTS:
        return Unknown("terminal_error")
    if 0 in transcript.codes:
        return Unknown("contradiction")
    if status is not None and status.amount_minor not in (None, amount.amount_minor):
        return Unknown("amount_mismatch")
    reason = RESULT_TEXT.get(code, "declined")
    return Cancelled(evidence, reason) if code == _CANCELLED else Declined(evidence, reason)


def judge_reversal(transcript: Transcript, request: ReverseRequest) -> Outcome:
    """Verdict of 06 30 from a dialogue that has ended."""
    amount = request.amount
    evidence = evidence_of(transcript, amount.currency)
    match transcript.end:
        case None:
            return Unknown("no_final_answer")
        case Abort(code):
            return _judge_abort(transcript, evidence, code, amount)
        case Completion():
            doubt = doubt_about(transcript, evidence, amount)
            asked = request.receipt_number, request.trace_number
            if not doubt and transcript.status and not _reverses(transcript.status, *asked):
                doubt = "receipt_mismatch"
            return Unknown(doubt) if doubt else Approved(evidence)


def _reverses(status: StatusInformation, receipt_number: str, trace: str) -> bool:
    """A terminal names what it has reversed by its receipt number, or by its trace number in field 37."""
    if trace.isdecimal() and status.original_trace:
        return int(status.original_trace) == int(trace)
    return status.receipt_number == receipt_number


def judge_enquiry(transcript: Transcript, request: EnquiryRequest) -> Enquiry:
    """What a repeated receipt proves about the payment (or, with `wanted`, the reversal) in question.

    The caller has made sure that the terminal is idle.
    """
    status, evidence = transcript.status, evidence_of(transcript, request.amount.currency)
    if isinstance(transcript.end, Abort) and transcript.end.code == 0x83:
        # It has nothing to repeat. If it had nothing before the payment either, the payment never happened there.
        return NotTaken(evidence) if request.baseline == NO_RECEIPT else Inconclusive("no_receipt", evidence)
    if not isinstance(transcript.end, Completion):
        return Inconclusive("no_answer", evidence)
    if status is None or not status.receipt_number:
        return Inconclusive("no_content", evidence)
    if request.wanted:
        return _judge_reversal_enquiry(transcript, request, evidence, status)
    return _judge_payment_enquiry(transcript, request, evidence, status)


def _judge_payment_enquiry(
    transcript: Transcript, request: EnquiryRequest, evidence: Evidence, status: StatusInformation
) -> Enquiry:
    named = _references(transcript.lines)
    if request.reference.lower() in named and not status.original_trace:
        found = _found(transcript, evidence, request.amount)
        return replace(found, by_reference=True) if isinstance(found, Found) else found
    if not request.baseline:
        return Inconclusive("no_baseline", evidence)
    if baseline_of(status) == request.baseline:
        return NotTaken(evidence)
    if status.original_trace:
        return Inconclusive("last_is_a_reversal", evidence)
    if named or not _is_next(status.receipt_number, request.baseline.removesuffix(_REVERSAL_MARK)):
        # Something else has happened there since: an equal amount is then no proof that it is this payment.
        return Inconclusive("others_since", evidence)
    return _found(transcript, evidence, request.amount)


def _references(lines: list[str]) -> frozenset[str]:
    """Ids of payments on a receipt: a terminal that prints field 3C of the authorisation breaks it where it likes."""
    return frozenset(_REFERENCE.findall("".join("".join(lines).split()).lower()))


def _is_next(receipt_number: str, before: str) -> bool:
    """Whether nothing else had a receipt in between; a terminal that had none begins with 0001."""
    return int(receipt_number) == 1 if before == NO_RECEIPT else follows(receipt_number, before)


def _judge_reversal_enquiry(
    transcript: Transcript, request: EnquiryRequest, evidence: Evidence, status: StatusInformation
) -> Enquiry:
    if status.original_trace:
        if _reverses(status, request.wanted, request.trace_number):
            return _found(transcript, evidence, request.amount)
        if baseline_of(status) == request.baseline:
            return NotTaken(evidence)
        return Inconclusive("other_receipt", evidence)
    # The last transaction is a payment: the one to undo itself, or the one that was last before the reversal.
    if status.receipt_number in (request.wanted, request.baseline):
        return NotTaken(evidence)
    return Inconclusive("other_receipt", evidence)


def _found(transcript: Transcript, evidence: Evidence, amount: Money) -> Enquiry:
    if evidence.amount is None or evidence.amount != amount:
        return Inconclusive("other_amount", evidence)
    code = transcript.status.result_code if transcript.status else None
    if code is None or code in _UNTRUSTED_ABORTS - {0}:
        return Inconclusive("no_result_code", evidence)
    if code:
        reason = RESULT_TEXT.get(code, "declined")
        return Found(Cancelled(evidence, reason) if code == _CANCELLED else Declined(evidence, reason))
    if not _printed_amount_fits(transcript.lines, amount):
        return Inconclusive("printed_amount_mismatch", evidence)
    return Found(Stored(evidence) if evidence.offline else Approved(evidence))


def follows(receipt_number: str, before: str) -> bool:
    """Whether `receipt_number` is the very next after `before`; anything follows where nothing was known."""
    if before in ("", NO_RECEIPT):
        return True
    return before.isdigit() and int(receipt_number) == int(before) % 9999 + 1
