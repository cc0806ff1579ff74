"""What an OPI dialogue proves. Pure: from what the terminal said to a verdict, with every doubt as `Unknown`.

An approval is believed when request, amount, currency and numbers all say the same; a refusal when nothing that the
terminal said speaks for an approval. Of the words for a failure only those count as a refusal that cannot mean
anything else: a time that ran out or a lost line to the host say nothing about the money.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from drivers.opi_messages import (
    ABORT_REQUEST,
    CARD_PAYMENT,
    CARD_REPEAT_LAST_MESSAGE,
    ONLINE,
    PAYMENT_REVERSAL,
    Authorisation,
    CardServiceResponse,
    request_id_of,
)
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    Cancelled,
    Declined,
    Enquiry,
    EnquiryRequest,
    Evidence,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Outcome,
    ReverseRequest,
    StillRunning,
    Stored,
    Unknown,
)

STAN_MAX = 999_999
NOT_BEGUN = {
    "busy": "terminal_busy", "loggedout": "not_registered", "formaterror": "request_refused",
    "parsingerror": "request_refused", "validationerror": "request_refused",
    "missingmandatorydata": "request_refused",
}  # fmt: skip
"""Words by which a terminal says that it has not begun."""
REFUSED = {"failure": "declined", "unknowncard": "card_unknown"}
UNCERTAIN = {
    "partialfailure": "partial_failure", "timedout": "terminal_timed_out", "communicationerror": "host_no_connection",
    "deviceunavailable": "device_unavailable",
}  # fmt: skip
_REMEDIES = {"terminal_busy": "Wait for the terminal to finish."}
_TECHNOLOGY = {
    "nfc": "contactless", "contactless": "contactless", "chip": "chip", "icc": "chip", "emv": "chip",
    "magstripe": "swipe", "magneticstripe": "swipe", "swipe": "swipe", "manual": "manual", "keyed": "manual",
}  # fmt: skip
_VERIFICATION = {
    "nocvm": "none", "none": "none", "pin": "pin", "onlinepin": "pin", "offlinepin": "pin", "signature": "signature",
}  # fmt: skip
_TIMESTAMP = re.compile(r"\d{4}-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)")


def evidence_of(response: CardServiceResponse, lines: tuple[str, ...] = ()) -> Evidence:
    """Evidence of an answer and of what was printed meanwhile."""
    said = response.authorisation or Authorisation()
    at = _TIMESTAMP.match(said.timestamp)
    return Evidence(
        amount=response.amount,
        receipt_number=said.receipt_number or response.stan,
        trace_number=response.stan,
        terminal_id=response.terminal_id,
        result_code=said.action_code or response.overall_result,
        card_name=said.card_circuit,
        pan_last4=said.pan_last4,
        technology=_TECHNOLOGY.get(_word(response.technology), ""),
        verification=_VERIFICATION.get(_word(response.verification), ""),
        authorization_code=said.approval_code,
        device_at=f"{at[1]}{at[2]} {at[3]}{at[4]}{at[5]}" if at else "",
        offline=_offline(said),
        receipt_lines=lines,
    )


def _word(text: str) -> str:
    """A terminal's word without what terminals write differently."""
    return re.sub(r"[^a-z]", "", text.casefold())


def _offline(said: Authorisation) -> bool:
    """Whether the terminal has approved by itself. One that does not say has asked its host."""
    return _word(said.authorisation_type) not in ("", _word(ONLINE))


def identity_of(response: CardServiceResponse, own_id: str = "") -> str:
    """What names a transaction from one enquiry to the next: `RequestID:STAN`, or "" when nothing does.

    A terminal that repeats its last message under the enquiry's own id (`own_id`) is known by the STAN alone.
    """
    named = "" if response.request_id == own_id else response.request_id
    return f"{named}:{response.stan}" if named or response.stan else ""


def judge_payment(
    response: CardServiceResponse, lines: tuple[str, ...], request: AuthorizeRequest, baseline: str, *, quiet: bool
) -> Outcome:
    """Verdict of a CardPayment from the answer to it. `quiet` says that the terminal has used no device of the till.

    `baseline` is the identity of the transaction before, if it was known.
    """
    outcome = _judge(response, lines, request.amount, quiet=quiet)
    stan_before = baseline.rpartition(":")[2]
    if isinstance(outcome, (Approved, Stored)) and response.stan == stan_before:
        return Unknown("receipt_not_new")
    return outcome


def judge_reversal(
    response: CardServiceResponse, lines: tuple[str, ...], request: ReverseRequest, *, quiet: bool
) -> Outcome:
    """Verdict of a PaymentReversal from the answer to it."""
    outcome = _judge(response, lines, request.amount, quiet=quiet)
    if isinstance(outcome, (Approved, Stored)):
        named = response.original_stan
        if named and not same_number(named, request.trace_number):
            return Unknown("receipt_mismatch")
        return Approved(outcome.evidence)
    return outcome


def _judge(response: CardServiceResponse, lines: tuple[str, ...], amount: Money, *, quiet: bool) -> Outcome:
    evidence, result = evidence_of(response, lines), _word(response.overall_result)
    if result == "success":
        doubt = _doubt_about(response, amount)
        if doubt:
            return Unknown(doubt)
        return Stored(evidence) if evidence.offline else Approved(evidence)
    if result in NOT_BEGUN:
        # It shows and prints nothing for what it has not begun.
        reason = NOT_BEGUN[result]
        return NotStarted(reason, _REMEDIES.get(reason, "")) if quiet else Unknown("contradiction")
    if result == "aborted" or result in REFUSED:
        if _speaks_for_approval(response):
            return Unknown("contradiction")
        if response.amount is not None and response.amount.amount_minor not in (0, amount.amount_minor):
            return Unknown("amount_mismatch")
        return Cancelled(evidence) if result == "aborted" else Declined(evidence, REFUSED[result])
    return Unknown(UNCERTAIN.get(result, "unknown_result"))


def _doubt_about(response: CardServiceResponse, amount: Money) -> str:
    """Why an approval of `amount` cannot be believed, or ""."""
    said = response.authorisation or Authorisation()
    if said.action_code.isdecimal() and int(said.action_code):
        return "contradiction"
    if response.amount is None or response.amount.amount_minor != amount.amount_minor:
        return "amount_mismatch"
    if response.amount.currency != amount.currency:
        return "currency_mismatch"
    return "" if response.stan else "receipt_missing"


def _speaks_for_approval(response: CardServiceResponse) -> bool:
    said = response.authorisation or Authorisation()
    return bool(said.approval_code) or (said.action_code.isdecimal() and not int(said.action_code))


def judge_enquiry(response: CardServiceResponse, own_id: str, request: EnquiryRequest) -> Enquiry:
    """What the repeated last message proves about the payment (or, with `wanted`, the reversal) in question.

    `own_id` is the RequestID of the enquiry itself. A terminal says that it is busy while a transaction runs.
    """
    if _word(response.overall_result) == "busy":
        return StillRunning()
    evidence = evidence_of(response)
    if response.request_type == ABORT_REQUEST or not identity_of(response, own_id):
        return Inconclusive("no_content", evidence)
    kind = PAYMENT_REVERSAL if request.wanted else CARD_PAYMENT
    if response.request_id == request_id_of(kind, request.reference):
        return _found(response, kind, request)
    if identity_of(response, own_id) == request.baseline:
        return NotTaken(evidence)
    if response.request_id != own_id:
        return _another(response, request, evidence)
    return _by_number(response, kind, request, evidence)


def _found(response: CardServiceResponse, kind: str, request: EnquiryRequest) -> Enquiry:
    if response.request_type not in (kind, CARD_REPEAT_LAST_MESSAGE):
        return Inconclusive("other_kind", evidence_of(response))
    found = _verdict(response, kind, request)
    return replace(found, by_reference=True) if isinstance(found, Found) else found


def _verdict(response: CardServiceResponse, kind: str, request: EnquiryRequest) -> Enquiry:
    if kind == PAYMENT_REVERSAL:
        asked = ReverseRequest(request.reference, request.amount, request.wanted, request.trace_number)
        outcome = judge_reversal(response, (), asked, quiet=False)
    else:
        outcome = _judge(response, (), request.amount, quiet=False)
    if isinstance(outcome, (Unknown, NotStarted)):
        reason = "other_amount" if outcome.reason == "amount_mismatch" else outcome.reason
        return Inconclusive(reason, evidence_of(response))
    return Found(outcome)


def _another(response: CardServiceResponse, request: EnquiryRequest, evidence: Evidence) -> Enquiry:
    """The terminal names another transaction as its last one."""
    return NotTaken(evidence) if _still_paid(response, request) else Inconclusive("others_since", evidence)


def _still_paid(response: CardServiceResponse, request: EnquiryRequest) -> bool:
    """Whether a reversal was asked for, and the terminal's last transaction is the very payment to be undone."""
    return (
        bool(request.wanted)
        and response.request_type == CARD_PAYMENT
        and same_number(response.stan, request.trace_number)
    )


def _by_number(response: CardServiceResponse, kind: str, request: EnquiryRequest, evidence: Evidence) -> Enquiry:
    """The terminal does not name the request it repeats: only the STAN tells."""
    if request.wanted:
        return NotTaken(evidence) if _still_paid(response, request) else Inconclusive("other_receipt", evidence)
    named, _, before = request.baseline.rpartition(":")
    if not before or named:
        return Inconclusive("no_baseline", evidence)
    if not _follows(response.stan, before):
        return Inconclusive("others_since", evidence)
    return _verdict(response, kind, request)


def same_number(one: str, other: str) -> bool:
    """Whether two numbers are equal, however many zeros stand in front; what is no number equals nothing."""
    return one.isdecimal() and other.isdecimal() and int(one) == int(other)


def _follows(stan: str, before: str) -> bool:
    """Whether a STAN is the very next; they go round."""
    if not (stan.isdecimal() and before.isdecimal()):
        return False
    return int(stan) == int(before) % STAN_MAX + 1
