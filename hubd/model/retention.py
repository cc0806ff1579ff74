"""How long a law wants documents kept; nothing is erased before, whoever asks (docs/reference/journal.md).

A period that is too long costs a little room; one that is too short destroys what an inspector may ask for. So every
doubt lengthens it: a business year may end twelve months after the sale, a country may be one that is not listed here,
and a clock that nobody has confirmed may be wrong by years.
"""

from __future__ import annotations

from msgspec import Struct

_YEARS = {"FR": 6}
_LAWS = {"FR": "FR LPF L102 B"}
YEARS_ELSEWHERE = 10
"""For countries whose period is not listed: as long as any country that hubd was written for demands."""
LAW_ELSEWHERE = "period of this country not known"
DATE_UNKNOWN = "9999-12-31"
"""Kept until a person says otherwise: no date can be counted from a clock that is not trusted."""


class Keeping(Struct, frozen=True):
    """Until when, as an ISO date, and why."""

    until: str
    law: str


def receipt_keeping(country: str, business_date: str, *, clock_trusted: bool) -> Keeping:
    """For the receipt of a payment made on this business date in this country."""
    law = _LAWS.get(country, LAW_ELSEWHERE)
    if not clock_trusted:
        return Keeping(DATE_UNKNOWN, law)
    year = int(business_date[:4]) + 1 + _YEARS.get(country, YEARS_ELSEWHERE)
    return Keeping(f"{min(year, 9999):04d}-12-31", law)
