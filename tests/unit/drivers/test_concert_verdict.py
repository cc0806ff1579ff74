"""Every field that an answer repeats is compared, and only 0 and 7 are verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drivers.concert_codec import Malformed, PaymentAnswer, PaymentRequest, reference_of
from drivers.concert_verdict import judge
from hubd.model.money import Money
from hubd.ports import Approved, Declined, Evidence, Unknown

ASKED = PaymentRequest("01", 1250, "EUR", reference_of("payment-1"))
YES = PaymentAnswer("01", "0", 1250, "1", "978", ASKED.private)
EVIDENCE = Evidence(amount=Money(1250, "EUR"), result_code="0")


def test_the_two_verdicts() -> None:
    assert judge(YES, ASKED) == Approved(EVIDENCE)
    assert judge(replace(YES, result="7"), ASKED) == Declined(replace(EVIDENCE, result_code="7"))


def test_a_terminal_that_does_not_give_our_reference_back_is_believed() -> None:
    assert judge(replace(YES, reference=""), ASKED) == Approved(EVIDENCE)


@given(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="07"))
def test_every_other_result_is_unknown(result: str) -> None:
    assert judge(replace(YES, result=result), ASKED) == Unknown(
        "not_verified" if result == "9" else "undescribed_result"
    )


@pytest.mark.parametrize("result", ["0", "7"])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (replace(YES, amount_minor=1251), "amount_mismatch"),
        (replace(YES, currency_number="840"), "currency_mismatch"),
        (replace(YES, pos_number="02"), "pos_number_mismatch"),
        (replace(YES, mode="C"), "mode_mismatch"),
        (replace(YES, reference=reference_of("payment-2")), "reference_mismatch"),
    ],
)
def test_an_answer_to_something_else_is_unknown_whatever_it_says(
    answer: PaymentAnswer, reason: str, result: str
) -> None:
    assert judge(replace(answer, result=result), ASKED) == Unknown(reason)


def test_a_frame_that_is_no_answer_is_unknown() -> None:
    assert judge(Malformed("wrong_length"), ASKED) == Unknown("malformed_answer")
