"""What a nexo answer proves. Pure: from what the terminal said to a verdict, with every doubt as `Unknown`.

An approval is believed when result, reference, amount and currency say the same; a refusal when nothing the terminal
said speaks for an approval. Texts (`message`, `refusalReason`, `offlineAuthCode`) decide nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import Enum

import msgspec
from msgspec import Struct

from drivers.nexo_codec import Header, money_of
from drivers.nexo_messages import (
    FAILURE,
    PAYMENT,
    SUCCESS,
    MessageReference,
    PaymentReply,
    Reply,
    ReversalReply,
    StatusReply,
    TransactionId,
)
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    Declined,
    Enquiry,
    Evidence,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Outcome,
    StillRunning,
    Stored,
    Unknown,
)

NOT_FOUND_PROVES_FOR = timedelta(hours=24)
"""A terminal keeps a ServiceID for 48 hours; that it does not find an older one says nothing."""

_BEFORE_IT_BEGAN = frozenset(
    {"Busy", "InsertedCard", "LoggedOut", "MessageFormat", "NotAllowed", "UnavailableDevice", "UnavailableService"}
)
_STOPPED = frozenset({"Aborted", "Cancel"})
_REFUSED = frozenset({"InvalidCard", "PaymentRestriction", "Refusal", "UnreachableHost", "WrongPIN"})
_REASONS = {
    "Aborted": "aborted", "Busy": "terminal_busy", "Cancel": "cancelled", "DeviceOut": "device_out",
    "InProgress": "in_progress", "InsertedCard": "card_inserted", "InvalidCard": "card_invalid",
    "LoggedOut": "not_registered", "MessageFormat": "protocol_error", "NotAllowed": "not_allowed",
    "NotFound": "not_found", "PaymentRestriction": "not_allowed_for_this_card", "Refusal": "declined",
    "UnavailableDevice": "device_unavailable", "UnavailableService": "function_not_possible",
    "UnreachableHost": "host_no_connection", "WrongPIN": "wrong_pin",
}  # fmt: skip
_BASELINE = re.compile(r"(?P<poiid>\S{1,64}) (?P<at>\S{1,40})")
_RECEIPT = re.compile(r"(?P<id>[\x21-\x7e]{1,120})@(?P<at>[0-9T:.Z+\-]{1,40})")


def reason_of(reply: Reply) -> str:
    """The hub's word for an ErrorCondition."""
    return _REASONS.get(reply.condition, "refused_without_a_reason")


# -- names that the hub keeps ------------------------------------------------------------------------------------------


def receipt_number_of(transaction: TransactionId) -> str:
    """What names a transaction for a later reversal: its id and its time stamp, which the protocol wants together."""
    if not transaction.transaction_id or not transaction.time_stamp:
        return ""
    number = f"{transaction.transaction_id}@{transaction.time_stamp}"
    return number if _RECEIPT.fullmatch(number) else ""


def transaction_of(receipt_number: str) -> TransactionId | None:
    """The reverse of `receipt_number_of`; None for what is none of its results."""
    found = _RECEIPT.fullmatch(receipt_number)
    return TransactionId(found["id"], found["at"]) if found else None


def sent_to_host(transaction: TransactionId) -> bool:
    """Whether an id has the host's part, `tender.pspReference`; one that is only stored has not."""
    return "." in transaction.transaction_id.strip(".")


def baseline_of(poiid: str, at: datetime) -> str:
    """What the hub notes before a payment: at which terminal and when. An enquiry that finds nothing rests on it."""
    return f"{poiid} {at.strftime('%Y-%m-%dT%H:%M:%SZ')}"


def not_found_doubt(baseline: str, wanted: str, poiid: str, now: datetime) -> str:
    """Why it proves nothing that the terminal does not find a message, or "".

    It proves that the message never arrived only if the terminal is the one it was meant for, and would still know it.
    A reversal is no older than the payment that it was to undo, so that one's time stamp (`wanted`) bounds its age.
    """
    noted = _BASELINE.fullmatch(baseline)
    undone = _RECEIPT.fullmatch(wanted)
    if noted is not None and noted["poiid"] != poiid:
        return "other_terminal"
    at = noted["at"] if noted else undone["at"] if undone else ""
    try:
        sent = datetime.fromisoformat(at)
        age = now - (sent if sent.tzinfo else sent.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return "not_found_undated"
    return "" if abs(age) < NOT_FOUND_PROVES_FOR else "not_found_after_long"


# -- payments and reversals --------------------------------------------------------------------------------------------


def evidence_of(reply: PaymentReply, currency: str) -> Evidence:
    """Evidence of a payment's answer, as far as it is in the currency that was asked for."""
    return Evidence(
        amount=reply.amount if reply.amount and reply.amount.currency == currency else None,
        receipt_number=receipt_number_of(reply.transaction),
        trace_number=reply.acquirer_transaction,
        terminal_id=reply.terminal_id,
        result_code=reply.reply.condition or reply.reply.result,
        card_name=reply.card_name,
        pan_last4=reply.pan_last4,
        technology=reply.technology,
        verification=reply.verification,
        authorization_code=reply.approval_code,
        offline=is_offline(reply),
        receipt_lines=reply.lines,
    )


def is_offline(reply: PaymentReply) -> bool:
    """Whether the terminal has kept the payment: it says so, or its id lacks the host's part."""
    return reply.online is False or reply.offline_marked or not sent_to_host(reply.transaction)


def judge_payment(reply: PaymentReply, reference: str, amount: Money) -> Outcome:
    """Verdict of a PaymentResponse to the payment with this reference and amount."""
    evidence = evidence_of(reply, amount.currency)
    if reply.reply.result == FAILURE:
        if reply.reference not in ("", reference):
            return Unknown("reference_mismatch")
        return _failed(reply.reply, evidence, contradicted=bool(reply.approval_code))
    doubt = _doubt(reply, reference, amount)
    if doubt:
        return Unknown(doubt)
    return Stored(evidence) if evidence.offline else Approved(evidence)


def _doubt(reply: PaymentReply, reference: str, amount: Money) -> str:
    if reply.reply != Reply(SUCCESS):
        return "partial_amount" if reply.reply.result == "Partial" else "contradiction"
    if reply.reference != reference:
        return "reference_mismatch"
    if reply.amount is None or reply.amount.amount_minor != amount.amount_minor or reply.other_amount:
        return "amount_mismatch"
    if reply.amount.currency != amount.currency:
        return "currency_mismatch"
    return "" if receipt_number_of(reply.transaction) else "receipt_missing"


def _failed(reply: Reply, evidence: Evidence, *, contradicted: bool) -> Outcome:
    if contradicted:
        return Unknown("contradiction")
    reason = reason_of(reply)
    if reply.condition in _BEFORE_IT_BEGAN:
        return NotStarted(reason, "Wait for the terminal to finish." if reply.condition == "Busy" else "")
    if reply.condition in _STOPPED:
        return Cancelled(evidence, reason)
    return Declined(evidence, reason) if reply.condition in _REFUSED else Unknown("terminal_error")


def judge_reversal(reply: ReversalReply, original: TransactionId, amount: Money) -> Outcome:
    """Verdict of a ReversalResponse. What the terminal says it has undone is compared with what was asked."""
    said = money_of(reply.amount, amount.currency)
    evidence = Evidence(
        amount=said,
        receipt_number=receipt_number_of(original),
        trace_number=reply.transaction.transaction_id,
        result_code=reply.reply.condition or reply.reply.result,
        receipt_lines=reply.lines,
    )
    if reply.reply.result == FAILURE:
        if reply.reply.condition == "NotFound":
            return Declined(evidence, reason_of(reply.reply))
        return _failed(reply.reply, evidence, contradicted=False)
    if reply.reply != Reply(SUCCESS):
        return Unknown("contradiction")
    if reply.original is not None and reply.original.transaction_id != original.transaction_id:
        return Unknown("receipt_mismatch")
    if reply.amount is not None and said != amount:
        return Unknown("amount_mismatch")
    return Approved(evidence)


# -- enquiries ---------------------------------------------------------------------------------------------------------


class Answered(Struct, frozen=True):
    """The terminal repeated its answer to the message in question; this is its verdict."""

    outcome: Outcome


class NotFound(Enum):
    """The terminal does not know the message."""

    NOT_FOUND = "not_found"


def judge_status(
    reply: StatusReply, asked: Header, reference: str, amount: Money, original: TransactionId | None
) -> Answered | NotFound | StillRunning | Inconclusive:
    """What a TransactionStatusResponse says of the message with the header `asked`."""
    if reply.reply.result == FAILURE:
        match reply.reply.condition:
            case "InProgress" | "Busy":
                return StillRunning()
            case "NotFound":
                return NotFound.NOT_FOUND
        return Inconclusive(reason_of(reply.reply), Evidence())
    if reply.reply != Reply(SUCCESS) or reply.repeated is None or reply.repeated_header is None:
        return Inconclusive("no_content", Evidence())
    if not _is_repeated(reply, reply.repeated_header, asked):
        return Inconclusive("other_message", Evidence())
    match reply.repeated:
        case PaymentReply() as payment if asked.category == PAYMENT:
            return Answered(judge_payment(payment, reference, amount))
        case ReversalReply() as reversal if asked.category != PAYMENT and original is not None:
            return Answered(judge_reversal(reversal, original, amount))
    return Inconclusive("other_message", Evidence())


def _is_repeated(reply: StatusReply, repeated_header: msgspec.Raw, asked: Header) -> bool:
    """Whether header and reference of the repeated message are those of the one that was asked about."""
    try:
        header = msgspec.json.decode(repeated_header, type=Header)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    meant = reference_to(asked)
    if header.message_type != "Response" or reference_to(header) != meant:
        return False
    said = reply.reference or meant
    same = said.service_id == meant.service_id and said.category in ("", meant.category)
    return same and said.sale_id in ("", meant.sale_id) and said.poiid in ("", meant.poiid)


def reference_to(asked: Header) -> MessageReference:
    """What names the message with this header in another one."""
    return MessageReference(
        category=asked.category, service_id=asked.service_id, sale_id=asked.sale_id, poiid=asked.poiid
    )


def as_enquiry(said: Answered | StillRunning | Inconclusive) -> Enquiry:
    """The answer to an enquiry: what the terminal repeats is found by the message's own number."""
    if not isinstance(said, Answered):
        return said
    match said.outcome:
        case Approved() | Stored() | Declined() | Cancelled() as outcome:
            return Found(outcome, by_reference=True)
        case NotStarted():
            return NotTaken(Evidence())
        case Unknown(reason):
            return Inconclusive(reason, Evidence())


def refused_again(too_many: bool, before: Answered | StillRunning | Inconclusive | None) -> Outcome | None:
    """Why no further reversal may leave: one has succeeded, runs, or is in doubt, or there were too many."""
    match before:
        case Answered(Approved() as outcome):
            return outcome
        case StillRunning():
            return NotStarted("terminal_busy", "Wait for the terminal to finish.")
        case Inconclusive(reason) | Answered(Unknown(reason)):
            return NotStarted(reason, "Look in Adyen's Customer Area whether it was reversed.")
    if too_many:
        return NotStarted("too_many_attempts", "Refund it in Adyen's Customer Area.")
    return None
