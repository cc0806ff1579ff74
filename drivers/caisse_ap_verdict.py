"""What an answer proves. Pure: from what the terminal said to a verdict, with every doubt as `Unknown`.

The protocol has no request that tells what became of an earlier payment (a duplicate is a text for people, PayXpert's
"transaction status" is named and described nowhere), so what is unknown here stays so until a person has looked.
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.caisse_ap_codec import DEBIT, IDENTIFICATION, NOT_PERFORMED, PERFORMED, Answer, Payment
from hubd.model.money import Money
from hubd.ports import Approved, Cancelled, Declined, Evidence, NotStarted, Outcome, Unknown

BUSY = "terminal_busy"
_DECLINED = {
    "02": "call_issuer",
    "04": "declined",
    "05": "card_forbidden",
    "07": "not_completed",
}
_CANCELLED = {
    "06": "cancelled",
    "08": "timeout",
    "11": "cancelled",
}
_NOT_STARTED = {
    "09": "message_refused",
    "10": "selection_refused",
    "12": "function_not_possible",
    "13": "currency_not_supported",
}
"""Tag AF of an operation that was not performed. 00 says that the terminal does not know why, 01 (authorised) and 03
(forced) speak against it: none of them is a verdict."""
_SPEAKS_FOR_IT = frozenset({"", "00", "01", "03"})
"""AF beside "performed": absent, no further word, authorised, forced by the merchant."""
_KNOWS_NO_IDENTIFICATION = frozenset({"09", "10", "12"})
"""AF of a terminal that answers to an identification without having one: it is one of ours, and it is there."""
_REFUSED = frozenset({"05"})

REMEDIES = {
    "message_refused": "Tell the service desk that the terminal does not understand the cash register's messages.",
    "selection_refused": "Wait for the terminal to finish what it shows, then try again.",
    "function_not_possible": "Let the terminal's service desk switch on payments from the cash register.",
    "currency_not_supported": "Use a terminal that takes this currency.",
    BUSY: "Finish or cancel what the terminal shows.",
    "forbidden": "Let the terminal's service desk switch on its link to the cash register.",
}


def identification_problem(answer: Answer) -> str:
    """Why a terminal that answered to an identification cannot be used now, or "".

    A terminal that is busy, or whose application is in the background, says "not performed" (PayXpert, tag AE).
    """
    if answer.status != NOT_PERFORMED or answer.cause in _KNOWS_NO_IDENTIFICATION:
        return ""
    return "forbidden" if answer.cause in _REFUSED else BUSY


def answers_identification(answer: Answer) -> bool:
    """Whether this is the answer to an identification, and not to something before it."""
    return answer.action in (IDENTIFICATION, "") and bool(answer.status)


def names_the_payment(answer: Answer) -> bool:
    """Whether an answer holds all on which a verdict rests: then nothing more of it needs to be waited for."""
    complete = answer.amount_minor is not None and bool(answer.currency and answer.till and answer.action)
    return complete and bool(answer.cause if answer.status == NOT_PERFORMED else answer.status)


def judge_payment(answers: Sequence[Answer], request: Payment) -> Outcome:
    """Verdict on a payment from all that the terminal said of it, equal answers counted once."""
    if len(answers) != 1:
        return Unknown("contradiction" if answers else "no_answer")
    answer = answers[0]
    doubt = doubt_about(answer, request)
    if doubt:
        return Unknown(doubt)
    evidence = evidence_of(answer)
    if answer.status == PERFORMED:
        return Approved(evidence) if answer.cause in _SPEAKS_FOR_IT else Unknown("contradiction")
    if answer.status != NOT_PERFORMED:
        return Unknown("malformed_answer")
    cause = answer.cause
    if cause in _NOT_STARTED:
        return NotStarted(_NOT_STARTED[cause], REMEDIES[_NOT_STARTED[cause]])
    if cause in _DECLINED:
        return Declined(evidence, _DECLINED[cause])
    if cause in _CANCELLED:
        return Cancelled(evidence, _CANCELLED[cause])
    return Unknown("contradiction" if cause in ("01", "03") else "terminal_error")


def doubt_about(answer: Answer, request: Payment) -> str:
    """Why this cannot be believed to be an answer to the request, or "". An echo that lacks counts as another one."""
    if not answer.version.startswith("03"):
        return "malformed_answer"
    if answer.action != DEBIT:
        return "not_a_payment"
    if answer.till != request.till:
        return "till_mismatch"
    if answer.currency != request.currency:
        return "currency_mismatch"
    if answer.amount_minor != request.amount_minor:
        return "amount_mismatch"
    # Some terminals put data of their own into CF. Another payment's reference is as long as ours.
    if request.reference and len(answer.reference) == len(request.reference):
        return "" if answer.reference == request.reference else "reference_mismatch"
    return ""


def evidence_of(answer: Answer) -> Evidence:
    """Evidence of an answer; the protocol numbers neither receipts nor terminals."""
    known = answer.amount_minor is not None and answer.currency
    return Evidence(
        amount=Money(answer.amount_minor or 0, answer.currency) if known else None,
        result_code=answer.status + answer.cause,
        card_name=answer.card_name,
        pan_last4=answer.pan_last4,
        technology=answer.technology,
        authorization_code=answer.authorization_code,
    )
