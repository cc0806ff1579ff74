"""What POSLink answers prove. Pure: from what the terminal said to a verdict, with every doubt as `Unknown`.

An approval is believed when its code is one, it repeats our reference, and type and amount are what was asked. A code
refuses a payment only when its published meaning is that nothing was charged; all others leave it unknown.
"""

from __future__ import annotations

import re

from msgspec import Struct

from drivers.poslink_messages import (
    ABORTED,
    APPROVED_OFFLINE,
    CARD_READ_OK,
    DECLINE,
    ERROR,
    NO_SURCHARGE,
    NOT_FOUND,
    OK,
    PARTIALLY_APPROVED,
    SALE,
    TIMEOUT,
    UNSUPPORTED,
    UNSUPPORTED_EDC,
    VOID,
    VOID_SALE,
    Answer,
    Record,
    Transaction,
    decode_transaction,
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
    NotStarted,
    Outcome,
    Stored,
    Unknown,
)

_APPROVALS = frozenset({OK, APPROVED_OFFLINE, NO_SURCHARGE})
_CANCELLATIONS = frozenset({ABORTED, TIMEOUT})
_HOST_APPROVALS = frozenset({"", "0", "00", "000", "0000", "000000", "85"})
_NEGATIVE = re.compile(r"DECLIN|REJECT|REFUS|NOT APPROVED", re.IGNORECASE)
_MALFORMED = re.compile(r"FORMAT ERROR|.* (?:INVALID|NOT ALLOWED|NOT SUPPORT|NOT SUPPORTED|MISSING)", re.IGNORECASE)
"""Texts of 100003 that find fault with the request itself, before a card is read."""

EMPTY_BATCH = "0000"
"""Stands for "the open batch holds no record"; transaction numbers begin with 1."""
UNSUPPORTED_MARK = "?"
_BASELINE = re.compile(r"(0000|\d{1,4}\.\d{14})~([0-9a-f]{8}|-|\?)~([0-9a-f]{8}|-|\?)")


class Baseline(Struct, frozen=True):
    """The state of a terminal's books at one moment: whether a batch is still the same can be told from two of them."""

    newest: str
    """Number and time of the newest record of the open batch, or `EMPTY_BATCH`."""
    batch: str
    """What names the batch that was closed last, `-` when none was, `?` when the terminal does not tell."""
    stored: str
    """What names the content of the store-and-forward file, likewise."""

    def encode(self) -> str:
        """As one text, for the hub to keep."""
        return f"{self.newest}~{self.batch}~{self.stored}"

    @property
    def number(self) -> str:
        """The newest record's number."""
        return self.newest.partition(".")[0]

    @property
    def at(self) -> str:
        """The newest record's time, or "" in an empty batch."""
        return self.newest.partition(".")[2]


def decode_baseline(text: str) -> Baseline | None:
    """What `encode` has written, or None."""
    found = _BASELINE.fullmatch(text)
    return Baseline(*found.groups()) if found else None


def stamp_of(record: Transaction) -> str:
    """Number and time of a record, which together name it; "" when one is missing."""
    return f"{record.number}.{record.at}" if record.number and record.at else ""


def evidence_of(said: Transaction, currency: str) -> Evidence:
    """Evidence of one transaction. POSLink names no currency: a terminal has one, `currency`.

    `trace_number` is the reference that stands for the payment's id: a void is held to it.
    """
    return Evidence(
        amount=None if said.amount_minor is None else Money(said.amount_minor, currency),
        receipt_number=said.number,
        trace_number=said.reference,
        result_code=said.code,
        card_name=said.card_name,
        pan_last4=said.pan_last4,
        technology=said.technology,
        verification=said.verification,
        authorization_code=said.authorization_code,
        device_at=f"{said.at[4:8]} {said.at[8:]}".strip(),
        offline=said.stored,
        receipt_lines=said.lines,
    )


def judge_payment(answer: Answer, amount: Money, reference: str) -> Outcome:
    """Verdict of T00 01 from its answer."""
    said = decode_transaction(answer)
    evidence = evidence_of(said, amount.currency)
    if said.code in _APPROVALS:
        doubt = _doubt(said, amount, reference) or ("" if said.kind == SALE else "not_a_payment")
        if doubt:
            return Unknown(doubt)
        return Stored(evidence) if said.stored else Approved(evidence)
    return _judge_refusal(answer, said, evidence, amount, reference)


def judge_reversal(answer: Answer, amount: Money, reference: str) -> Outcome:
    """Verdict of T00 16 from its answer."""
    said = decode_transaction(answer)
    evidence = evidence_of(said, amount.currency)
    if said.code in _APPROVALS:
        doubt = _doubt(said, amount, reference) or ("" if said.kind in (VOID, VOID_SALE) else "not_a_reversal")
        return Unknown(doubt) if doubt else Approved(evidence)
    if answer.not_found:
        return Declined(evidence, "not_found")
    return _judge_refusal(answer, said, evidence, amount, reference)


def _doubt(said: Transaction, amount: Money, reference: str) -> str:
    """Why an approval of `amount` cannot be believed, or ""."""
    if said.status != "0":
        return "not_the_whole_answer"
    if said.reference != reference:
        return "reference_mismatch"
    if _NEGATIVE.search(said.message) or _NEGATIVE.search(said.host_message):
        return "contradiction"
    if said.amount_minor != amount.amount_minor:
        return "amount_mismatch"
    return "" if said.number else "number_missing"


def _judge_refusal(answer: Answer, said: Transaction, evidence: Evidence, amount: Money, reference: str) -> Outcome:
    if said.status != "0":
        return Unknown("not_the_whole_answer")
    if said.reference not in ("", reference):
        return Unknown("reference_mismatch")
    if answer.code == PARTIALLY_APPROVED:
        return Unknown("partially_approved")
    if said.authorization_code.strip("0") or said.amount_minor not in (None, 0, amount.amount_minor):
        return Unknown("contradiction")
    if answer.busy:
        return NotStarted(answer.reason, "Wait for the terminal to finish.")
    match answer.code:
        case code if code in _CANCELLATIONS:
            return Cancelled(evidence, answer.reason)
        case code if code in (DECLINE, CARD_READ_OK):
            return Declined(evidence, answer.reason)
        case code if code in (UNSUPPORTED, UNSUPPORTED_EDC) or (code == ERROR and _MALFORMED.fullmatch(answer.message)):
            return NotStarted(answer.reason, "Read the terminal's display; its service desk knows the code.")
    return Unknown(answer.reason)


def judge_record(record: Record, request: EnquiryRequest, reference: str, before: Baseline | None) -> Enquiry:
    """What a record that was asked for by the payment's (or, with `wanted`, the reversal's) reference proves.

    A reference is short: a record from before the payment, or one of two, is of another payment with the same one.
    """
    said = record.transaction
    evidence = evidence_of(said, request.amount.currency)
    if record.total != 1 or said.reference != reference or not stamp_of(said):
        return Inconclusive("no_content" if not said.reference else "other_record", evidence)
    if before is not None and before.at and (said.at < before.at or stamp_of(said) == before.newest):
        return Inconclusive("older_record", evidence)
    if said.kind not in ((VOID, VOID_SALE) if request.wanted else (SALE,)):
        return Inconclusive("other_kind", evidence)
    if said.amount_minor != request.amount.amount_minor:
        return Inconclusive("other_amount", evidence)
    if said.failed:
        return Inconclusive("refused_when_sent", evidence)
    if said.host_code not in _HOST_APPROVALS or _NEGATIVE.search(said.host_message):
        return Inconclusive("host_code_unknown", evidence)
    outcome = Stored(evidence) if said.stored and not request.wanted else Approved(evidence)
    return Found(outcome, by_reference=True)


def changed_since(before: Baseline, now: Baseline, *, reversal: bool) -> str:
    """Why the books do not show that a transaction without a record never happened, or "" when they may.

    A batch that is closed or cleared takes its records with it, so the batch must be the one from before. A payment is
    named by its reference, whatever else has happened; a reversal is believed missing only if nothing has.
    """
    if (before.batch, before.stored) != (now.batch, now.stored):
        return "batch_changed"
    if before.newest == EMPTY_BATCH and before.batch == UNSUPPORTED_MARK:
        return "batch_unknown"
    if reversal and before.newest != now.newest:
        return "others_since"
    return ""


def refused_enquiry(answer: Answer, currency: str) -> Inconclusive:
    """An enquiry that was answered with neither a record nor "not found"."""
    reason = "several_records" if answer.code == NOT_FOUND else answer.reason
    return Inconclusive(reason, evidence_of(Transaction(code=answer.code), currency))
