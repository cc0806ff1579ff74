"""Money is whole minor units of one currency; nothing is guessed and nothing is mixed."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubd.errors import InvalidValueError
from hubd.model.money import AMOUNT_MINOR_MAX, Money, TaxRate, exponent_of

amounts = st.integers(-(10**9), 10**9)


@pytest.mark.parametrize(("currency", "exponent"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLP", 0), ("HUF", 2)])
def test_the_exponent_is_that_of_the_standard(currency: str, exponent: int) -> None:
    assert exponent_of(currency) == Money(1, currency).exponent == exponent


@pytest.mark.parametrize("currency", ["", "eur", "EURO", "XYZ", "€"])
def test_an_unknown_currency_is_refused_not_guessed(currency: str) -> None:
    with pytest.raises(InvalidValueError, match="unknown_currency"):
        Money(1, currency)


def test_an_amount_beyond_the_limit_is_refused() -> None:
    assert Money(AMOUNT_MINOR_MAX, "EUR").amount_minor == AMOUNT_MINOR_MAX
    for amount in (AMOUNT_MINOR_MAX + 1, -AMOUNT_MINOR_MAX - 1):
        with pytest.raises(InvalidValueError, match="amount_out_of_range"):
            Money(amount, "EUR")


@given(amounts, amounts)
def test_sums_and_order_are_those_of_the_minor_units(a: int, b: int) -> None:
    x, y = Money(a, "EUR"), Money(b, "EUR")
    assert (x + y).amount_minor == a + b
    assert (x - y).amount_minor == a - b
    assert (x < y, x <= y, x == y) == (a < b, a <= b, a == b)


@pytest.mark.parametrize("act", [Money.__add__, Money.__sub__, Money.__lt__, Money.__le__])
def test_currencies_are_never_mixed(act: object) -> None:
    with pytest.raises(InvalidValueError, match="currency_mismatch"):
        act(Money(1, "EUR"), Money(1, "USD"))  # type: ignore[operator]  # any comparison


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1250, "EUR", "12.50 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (0, "EUR", "0.00 EUR"),
        (7, "JPY", "7 JPY"),
        (7, "KWD", "0.007 KWD"),
    ],
)
def test_plain_text_has_the_places_of_the_currency(amount: int, currency: str, text: str) -> None:
    assert Money(amount, currency).plain() == text
    assert Money(amount, currency).as_json() == {"amount": amount, "currency": currency}


@given(st.integers(-(10**9), 10**9), st.integers(0, 100_000))
def test_net_is_rounded_half_away_from_zero(gross: int, rate: int) -> None:
    exact = Fraction(abs(gross) * 100_000, 100_000 + rate)
    rounded = int(exact + Fraction(1, 2))
    assert TaxRate(rate).net_of_gross(Money(gross, "EUR")).amount_minor == (rounded if gross >= 0 else -rounded)


@pytest.mark.parametrize(
    ("text", "value"), [("20", 20_000), ("5.5", 5_500), ("2.125", 2_125), ("0", 0), ("100", 100_000)]
)
def test_a_rate_is_exact(text: str, value: int) -> None:
    assert TaxRate.parse(text).per_100_000 == value


@pytest.mark.parametrize("text", ["", "5,5", "-1", "100.001", "5.5555", "1e2", "٥", " 5", "5."])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match="invalid_tax_rate"):
        TaxRate.parse(text)
