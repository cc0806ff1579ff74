"""No card number passes a terminal driver, however wrongly the terminal is set up."""

from __future__ import annotations

import logging
import re

import pytest

from hubd.model.money import Money
from hubd.ports import Approved
from tests.contract.terminal_bench import KINDS, bench
from tests.simulation.loop import run

AMOUNT = Money(2040, "EUR")
terminals = pytest.mark.parametrize(
    ("driver_id", "url"), [(driver_id, url) for driver_id, kind in sorted(KINDS.items()) for url in kind.urls]
)


def test_digits_helper_sees_a_number_whatever_stands_between() -> None:
    assert "4111" in digits("41-1 1")


def digits(text: str) -> str:
    return re.sub(r"[ .\-/]", "", text)


@terminals
def test_card_numbers_reach_neither_values_nor_logs(
    driver_id: str, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that prints and names full card numbers everywhere: the simulator's own texts are replaced."""
    pan = "4111111111111111"
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(
        "drivers.sim.zvt.engine.receipt_lines", lambda *_: [f"Karte {pan}", "4111 1111 1111 1111", f";{pan}=2512"]
    )

    async def main() -> str:
        async with bench(driver_id, url) as made:
            payment = await made.pay(AMOUNT)
            assert isinstance(payment.outcome, Approved)
            return repr(payment) + repr(made.states) + repr(made.terminal.status)

    seen = run(main()) + caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    assert "1111" in seen, "the lines did not arrive at all"
    assert pan[:8] not in digits(seen)
