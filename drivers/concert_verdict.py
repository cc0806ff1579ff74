"""What an answer proves about a payment. Pure: every doubt is `Unknown`.

The answer has no number of its own, so all that it repeats is compared: the cash register's number, the amount, the
mode, the currency, and our reference in the private field where the terminal gives it back.
"""

from __future__ import annotations

from drivers.concert_codec import (
    APPROVED,
    CURRENCY_NUMBERS,
    NOT_VERIFIED,
    REFUSED,
    Malformed,
    PaymentAnswer,
    PaymentRequest,
)
from hubd.model.money import Money
from hubd.ports import Approved, Declined, Evidence, Outcome, Unknown


def judge(answer: PaymentAnswer | Malformed, asked: PaymentRequest) -> Outcome:
    """Verdict of one answer. `9` is the terminal's own "I do not know", and what is not described is no better."""
    if isinstance(answer, Malformed):
        return Unknown("malformed_answer")
    doubt = _mismatch(answer, asked)
    if doubt:
        return Unknown(doubt)
    evidence = Evidence(amount=Money(answer.amount_minor, asked.currency), result_code=answer.result)
    if answer.result == APPROVED:
        return Approved(evidence)
    if answer.result == REFUSED:
        return Declined(evidence)
    return Unknown("not_verified" if answer.result == NOT_VERIFIED else "undescribed_result")


def _mismatch(answer: PaymentAnswer, asked: PaymentRequest) -> str:
    """Which field is another payment's, or ""."""
    if answer.reference and answer.reference != asked.private:
        return "reference_mismatch"
    compared = {
        "amount_mismatch": (answer.amount_minor, asked.amount_minor),
        "currency_mismatch": (answer.currency_number, CURRENCY_NUMBERS[asked.currency]),
        "pos_number_mismatch": (answer.pos_number, asked.pos_number),
        "mode_mismatch": (answer.mode, asked.mode),
    }
    return next((doubt for doubt, (said, wanted) in compared.items() if said != wanted), "")
