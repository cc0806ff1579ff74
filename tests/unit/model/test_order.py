"""Orders: the table walked exhaustively, and lines whose sums must be right."""

from __future__ import annotations

from itertools import product

import pytest
from msgspec.structs import replace

from hubd.errors import InvalidTransitionError, InvalidValueError
from hubd.model.money import Money
from hubd.model.order import (
    LINES_MAX,
    ORDER_TRANSITIONS,
    OrderEvent,
    OrderLine,
    OrderState,
    check_lines,
    next_order_state,
)

TABLE = {
    ("placed_local", "awaiting_payment"): "awaiting_payment",
    ("placed_local", "paid"): "paid",
    ("placed_local", "paid_offline_pending"): "paid_offline_pending",
    ("placed_local", "cancelled"): "cancelled",
    ("awaiting_payment", "paid"): "paid",
    ("awaiting_payment", "paid_offline_pending"): "paid_offline_pending",
    ("awaiting_payment", "cancelled"): "cancelled",
    ("paid_offline_pending", "paid"): "paid",
    ("paid_offline_pending", "awaiting_payment"): "awaiting_payment",
    ("paid_offline_pending", "cancelled"): "cancelled",
    ("paid_offline_pending", "paid_offline_pending"): "paid_offline_pending",
    ("paid", "paid"): "paid",
    ("paid", "awaiting_payment"): "awaiting_payment",
}


@pytest.mark.parametrize(("state", "event"), list(product(OrderState, OrderEvent)))
def test_an_order_moves_only_as_the_table_says(state: OrderState, event: OrderEvent) -> None:
    expected = TABLE.get((state.value, event.value))
    if expected is None:
        with pytest.raises(InvalidTransitionError):
            next_order_state(state, event)
    else:
        assert next_order_state(state, event) == expected
    assert set(ORDER_TRANSITIONS) == set(OrderState)


LINE = OrderLine("a-1", "Baguette", 1000, "piece", "5.5", gross=1055, net=1000, discount=0)


def test_lines_that_sum_up_are_taken() -> None:
    check_lines((LINE, replace(LINE, tax_rate="20", gross=1200, net=1000)), Money(2255, "EUR"))


@pytest.mark.parametrize("net", [999, 1001])
def test_one_minor_unit_of_rounding_is_allowed(net: int) -> None:
    check_lines((replace(LINE, net=net),), Money(1055, "EUR"))


@pytest.mark.parametrize(
    ("lines", "total", "code"),
    [
        ((), 0, "invalid_lines"),
        ((LINE,) * (LINES_MAX + 1), 1055 * (LINES_MAX + 1), "invalid_lines"),
        ((replace(LINE, net=998),), 1055, "invalid_net"),
        ((LINE,), 1054, "invalid_total"),
        ((replace(LINE, tax_rate="5,5"),), 1055, "invalid_tax_rate"),
    ],
)
def test_lines_that_cannot_be_right_are_refused(lines: tuple[OrderLine, ...], total: int, code: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        check_lines(lines, Money(total, "EUR"))
    assert caught.value.code == code


def test_a_line_is_written_with_all_that_an_inspection_needs() -> None:
    assert set(LINE.as_body()) == {"article", "name", "quantity", "unit", "tax_rate", "gross", "net", "discount"}
