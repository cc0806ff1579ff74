"""Money: integer minor units with an ISO 4217 currency. No floats, no bare ints, no arithmetic across currencies."""

from __future__ import annotations

import re

from msgspec import Struct

from hubd.errors import InvalidValueError

AMOUNT_MINOR_MAX = 10**12
"""Larger than any till's sale; keeps every sum far inside 2^53 - 1, which JSON readers in browsers can hold."""

# ISO 4217 exponents that are not 2; a currency that stands in neither list is refused, not guessed.
_EXPONENT_0 = frozenset(
    [
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "UYI",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ]
)
_EXPONENT_3 = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])
_EXPONENT_2 = frozenset(
    [
        "AED",
        "AFN",
        "ALL",
        "AMD",
        "ANG",
        "AOA",
        "ARS",
        "AUD",
        "AWG",
        "AZN",
        "BAM",
        "BBD",
        "BDT",
        "BGN",
        "BMD",
        "BND",
        "BOB",
        "BRL",
        "BSD",
        "BTN",
        "BWP",
        "BYN",
        "BZD",
        "CAD",
        "CDF",
        "CHF",
        "CNY",
        "COP",
        "CRC",
        "CUP",
        "CVE",
        "CZK",
        "DKK",
        "DOP",
        "DZD",
        "EGP",
        "ERN",
        "ETB",
        "EUR",
        "FJD",
        "FKP",
        "GBP",
        "GEL",
        "GHS",
        "GIP",
        "GMD",
        "GTQ",
        "GYD",
        "HKD",
        "HNL",
        "HTG",
        "HUF",
        "IDR",
        "ILS",
        "INR",
        "IRR",
        "JMD",
        "KES",
        "KGS",
        "KHR",
        "KPW",
        "KYD",
        "KZT",
        "LAK",
        "LBP",
        "LKR",
        "LRD",
        "LSL",
        "MAD",
        "MDL",
        "MGA",
        "MKD",
        "MMK",
        "MNT",
        "MOP",
        "MRU",
        "MUR",
        "MVR",
        "MWK",
        "MXN",
        "MYR",
        "MZN",
        "NAD",
        "NGN",
        "NIO",
        "NOK",
        "NPR",
        "NZD",
        "PAB",
        "PEN",
        "PGK",
        "PHP",
        "PKR",
        "PLN",
        "QAR",
        "RON",
        "RSD",
        "RUB",
        "SAR",
        "SBD",
        "SCR",
        "SDG",
        "SEK",
        "SGD",
        "SHP",
        "SLE",
        "SOS",
        "SRD",
        "SSP",
        "STN",
        "SVC",
        "SYP",
        "SZL",
        "THB",
        "TJS",
        "TMT",
        "TOP",
        "TRY",
        "TTD",
        "TWD",
        "TZS",
        "UAH",
        "USD",
        "UYU",
        "UZS",
        "VES",
        "WST",
        "XCD",
        "YER",
        "ZAR",
        "ZMW",
    ]
)
_CASH_ROUNDING = {"CZK": 50, "DKK": 25, "HUF": 250, "NOK": 50, "SEK": 50}
"""Half of the smallest coin, where that is more than ten minor units."""
CASH_ROUNDING_MAX = 5
"""Minor units by which cash may be rounded in every other currency: half of a coin of ten."""
_RATE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,4})?")


def exponent_of(currency: str) -> int:
    """Number of decimal places of a currency; raises `unknown_currency`."""
    if currency in _EXPONENT_2:
        return 2
    if currency in _EXPONENT_0:
        return 0
    if currency in _EXPONENT_3:
        return 3
    raise InvalidValueError(
        "unknown_currency", "The currency is not a known ISO 4217 code.", remedy='Send three capitals such as "EUR".'
    )


def cash_rounding_max(currency: str) -> int:
    """Minor units by which an amount paid in cash may be rounded, up or down."""
    return _CASH_ROUNDING.get(currency, CASH_ROUNDING_MAX)


class Money(Struct, frozen=True, gc=False):
    """An amount in minor units of one currency. May be negative (corrections); requests are checked apart."""

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent_of(self.currency)
        if abs(self.amount_minor) > AMOUNT_MINOR_MAX:
            raise InvalidValueError(
                "amount_out_of_range",
                f"The amount is beyond {AMOUNT_MINOR_MAX} minor units.",
                remedy="Check that the amount is in minor units (cents), not in another unit.",
            )

    @property
    def exponent(self) -> int:
        """Decimal places of the currency."""
        return exponent_of(self.currency)

    def __add__(self, other: Money) -> Money:
        """Sum within one currency; raises `currency_mismatch`."""
        return Money(self.amount_minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        """Difference within one currency; raises `currency_mismatch`."""
        return Money(self.amount_minor - self._same(other), self.currency)

    def __lt__(self, other: Money) -> bool:
        """Compare within one currency; raises `currency_mismatch`."""
        return self.amount_minor < self._same(other)

    def __le__(self, other: Money) -> bool:
        """Compare within one currency; raises `currency_mismatch`."""
        return self.amount_minor <= self._same(other)

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise InvalidValueError(
                "currency_mismatch",
                f"Amounts in {self.currency} and {other.currency} cannot be combined.",
                remedy="Use one currency per payment and order.",
            )
        return other.amount_minor

    def as_json(self) -> dict[str, int | str]:
        """The form of the API: amount in minor units and currency."""
        return {"amount": self.amount_minor, "currency": self.currency}

    def plain(self) -> str:
        """Digits with a point and the currency, for logs and statements: `12.50 EUR`."""
        sign, digits = ("-" if self.amount_minor < 0 else ""), str(abs(self.amount_minor))
        exponent = self.exponent
        if not exponent:
            return f"{sign}{digits} {self.currency}"
        digits = digits.rjust(exponent + 1, "0")
        return f"{sign}{digits[:-exponent]}.{digits[-exponent:]} {self.currency}"


class TaxRate(Struct, frozen=True):
    """A tax rate in hundred-thousandths, so that 5.5 % is exact: `TaxRate.parse("5.5")`."""

    per_100_000: int

    @classmethod
    def parse(cls, percent: str) -> TaxRate:
        """Read a percentage with at most three decimals, such as `20`, `5.5`, `2.125`."""
        if not _RATE.fullmatch(percent) or ("." in percent and len(percent.split(".")[1]) > 3):
            raise InvalidValueError(
                "invalid_tax_rate", "The tax rate is not a percentage such as 20 or 5.5.", remedy="Send it as text."
            )
        whole, _, fraction = percent.partition(".")
        value = int(whole) * 1000 + int((fraction + "000")[:3])
        if value > 100_000:
            raise InvalidValueError("invalid_tax_rate", "The tax rate is above 100 %.", remedy="Check the rate.")
        return cls(value)

    def net_of_gross(self, gross: Money) -> Money:
        """The net part of a gross amount, rounded half away from zero to the minor unit."""
        divisor = 100_000 + self.per_100_000
        quotient, remainder = divmod(abs(gross.amount_minor) * 100_000, divisor)
        rounded = quotient + (1 if remainder * 2 >= divisor else 0)
        return Money(rounded if gross.amount_minor >= 0 else -rounded, gross.currency)
