"""No card number passes a terminal driver, however wrongly the terminal is set up."""

from __future__ import annotations

import logging
import re

import pytest

from drivers.kit.virtual_time import run
from hubd.model.device import Capability
from hubd.model.money import Money
from hubd.ports import Approved
from tests.contract.terminal_bench import KINDS, bench, terminals_that

AMOUNT = Money(2040, "EUR")
terminals = terminals_that()


def test_digits_helper_sees_a_number_whatever_stands_between() -> None:
    assert "4111" in digits("41-1 1")


def digits(text: str) -> str:
    return re.sub(r"[ .\-/]", "", text)


@terminals
def test_card_numbers_reach_neither_values_nor_logs(driver_id: str, url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A terminal that prints and names full card numbers everywhere."""
    pan = "4111111111111111"
    caplog.set_level(logging.DEBUG)

    async def main() -> str:
        async with bench(driver_id, url) as made:
            made.simulator.faults.leak = pan
            payment = await made.pay(AMOUNT)
            assert isinstance(payment.outcome, Approved)
            seen = repr(payment)
            for ending in (5, 13):
                seen += repr(await made.pay(Money(1000 + ending, "EUR")))
                await made.ready()
            if Capability.REVERSE in made.terminal.capabilities:
                seen += repr(await made.reverse(AMOUNT, payment.outcome.evidence.receipt_number))
            return seen + repr(made.states) + repr(made.terminal.status)

    seen = run(main()) + caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    assert pan[:8] not in digits(seen)
    assert KINDS[driver_id].shows_last4 is ("1111" in seen), "the fields did not arrive at all"
