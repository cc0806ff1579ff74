"""Orders that a till rings up: lines with tax, a number of their own series, and the states up to paid (domain 6.2)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from hubd.errors import InvalidTransitionError, InvalidValueError
from hubd.model.entry import Accepted
from hubd.model.money import Money, TaxRate, exponent_of
from hubd.model.payment import Mode

LINES_MAX = 200


class OrderState(StrEnum):
    """How far an order is."""

    PLACED_LOCAL = "placed_local"
    AWAITING_PAYMENT = "awaiting_payment"
    PAID_OFFLINE_PENDING = "paid_offline_pending"
    PAID = "paid"
    CANCELLED = "cancelled"


class OrderEvent(StrEnum):
    """What may happen to an order; each is the tail of a journal kind (`order.paid`)."""

    AWAITING_PAYMENT = "awaiting_payment"
    PAID = "paid"
    PAID_OFFLINE_PENDING = "paid_offline_pending"
    CANCELLED = "cancelled"


_S, _E = OrderState, OrderEvent

ORDER_TRANSITIONS: dict[OrderState, dict[OrderEvent, OrderState]] = {
    _S.PLACED_LOCAL: {
        _E.AWAITING_PAYMENT: _S.AWAITING_PAYMENT,
        _E.PAID: _S.PAID,
        _E.PAID_OFFLINE_PENDING: _S.PAID_OFFLINE_PENDING,
        _E.CANCELLED: _S.CANCELLED,
    },
    _S.AWAITING_PAYMENT: {
        _E.PAID: _S.PAID,
        _E.PAID_OFFLINE_PENDING: _S.PAID_OFFLINE_PENDING,
        _E.CANCELLED: _S.CANCELLED,
    },
    # The same state once more tells that the order was paid twice, and later that it is not any more.
    _S.PAID_OFFLINE_PENDING: {
        _E.PAID: _S.PAID,
        _E.PAID_OFFLINE_PENDING: _S.PAID_OFFLINE_PENDING,
        _E.AWAITING_PAYMENT: _S.AWAITING_PAYMENT,
        _E.CANCELLED: _S.CANCELLED,
    },
    # A reversal before the day is closed takes the money back, so the order waits for payment again.
    _S.PAID: {_E.PAID: _S.PAID, _E.AWAITING_PAYMENT: _S.AWAITING_PAYMENT},
    _S.CANCELLED: {},
}


UNPAID = frozenset({_S.PLACED_LOCAL, _S.AWAITING_PAYMENT})
PAID_TWICE = "paid_twice"
"""Reason of a paid order for which more was taken than it costs: a person has to give money back."""


def next_order_state(state: OrderState, event: OrderEvent) -> OrderState:
    """Return the state after `event`; raise `InvalidTransitionError` for what must not happen."""
    try:
        return ORDER_TRANSITIONS[state][event]
    except KeyError:
        raise InvalidTransitionError("order", state, event) from None


class OrderLine(Struct, frozen=True):
    """One line as sold. Gross and net in minor units, with the discount already taken off."""

    article_id: str
    name: str
    quantity_thousandths: int
    unit: str
    tax_rate: str
    gross: int
    net: int
    discount: int

    def as_body(self) -> dict[str, Any]:
        """The form of the entry."""
        return {
            "article": self.article_id,
            "name": self.name,
            "quantity": self.quantity_thousandths,
            "unit": self.unit,
            "tax_rate": self.tax_rate,
            "gross": self.gross,
            "net": self.net,
            "discount": self.discount,
        }


class Order(Struct, frozen=True):
    """An order, as the entries up to `last_seq` tell it."""

    id: str
    seq: int
    line: bytes
    hash: bytes
    last_seq: int
    digest: bytes
    state: OrderState
    series: str
    counter: int
    total: int
    currency: str
    lines: tuple[OrderLine, ...]
    till: str
    staff: str | None
    location: str
    business_date: str
    zone: str
    reason: str
    placed_at_us: int
    updated_at_us: int

    @property
    def accepted(self) -> Accepted:
        """Place of the entry that placed it; kept in the row, because that entry may be archived one day."""
        return Accepted(self.line, self.seq, self.hash)

    @property
    def number(self) -> str:
        """What stands on the receipt: series and counter."""
        return f"{self.series}-{self.counter:06d}"

    def entry_body(self, **more: Any) -> dict[str, Any]:
        """What every entry about this order carries (docs/reference/journal.md), with `more` on top."""
        return {
            "amount": self.total,
            "business_date": self.business_date,
            "counter": self.counter,
            "currency": self.currency,
            "device": self.till,
            "exponent": exponent_of(self.currency),
            "location": self.location,
            "mode": Mode.LIVE,
            "series": self.series,
            "staff": self.staff,
            "zone": self.zone,
        } | more


def check_lines(lines: tuple[OrderLine, ...], total: Money) -> None:
    """Raise unless the lines carry sane amounts, their net follows from gross and tax rate, and they sum to `total`."""
    if not 1 <= len(lines) <= LINES_MAX:
        raise InvalidValueError(
            "invalid_lines", f"An order has 1 to {LINES_MAX} lines.", remedy="Split the order or add a line."
        )
    for line in lines:
        net = TaxRate.parse(line.tax_rate).net_of_gross(Money(line.gross, total.currency))
        if abs(net.amount_minor - line.net) > 1:
            raise InvalidValueError(
                "invalid_net",
                "The net amount of a line does not follow from its gross amount and tax rate.",
                remedy="Send net = gross / (1 + rate), rounded; one minor unit of difference is allowed.",
            )
    if total.amount_minor < 0:
        raise InvalidValueError(
            "total_below_zero", "An order cannot be below zero.", remedy="Give money back as a refund of its payment."
        )
    if sum(line.gross for line in lines) != total.amount_minor:
        raise InvalidValueError(
            "invalid_total",
            "The gross amounts of the lines do not sum to the total.",
            remedy="Send the total as the sum of the lines' gross amounts.",
        )
