"""Where verdicts about stored payments come from. A flush is not an approval: only a settlement source knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ForwardedPayment:
    """A payment that its terminal says it has handed over."""

    hub: bytes
    payment: str
    attempt: int
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class SettlementVerdict:
    """`captured`, `declined_late`, `expired` or `rejected`, with the source's own code."""

    verdict: str
    code: str = ""


class SettlementSource(Protocol):
    """Asks an acquirer or its settlement files. Never moves money, so it may be asked any number of times."""

    @property
    def name(self) -> str:
        """For the list of providers."""
        ...

    async def verdict(self, payment: ForwardedPayment) -> SettlementVerdict | None:
        """What became of the payment; None while the source does not know yet. OSError: ask again later."""
        ...


class TestAmountAcquirer:
    """Verdicts by test amounts: minor units ending in 12 are declined late, everything else is captured."""

    __test__ = False
    name = "test_amounts"

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def verdict(self, payment: ForwardedPayment) -> SettlementVerdict | None:
        """By the last two digits, at once."""
        self.asked.append(payment.payment)
        if payment.amount_minor % 100 == 12:
            return SettlementVerdict("declined_late", "51")
        return SettlementVerdict("captured", "00")
