"""How long receipts are kept: every doubt lengthens it."""

from __future__ import annotations

import pytest

from hubd.model.retention import DATE_UNKNOWN, LAW_ELSEWHERE, receipt_keeping


@pytest.mark.parametrize(
    ("country", "day", "until", "law"),
    [
        ("FR", "2026-01-01", "2033-12-31", "FR LPF L102 B"),
        ("FR", "2026-12-31", "2033-12-31", "FR LPF L102 B"),
        ("FR", "2027-01-01", "2034-12-31", "FR LPF L102 B"),
        ("BE", "2026-11-21", "2037-12-31", LAW_ELSEWHERE),
        ("", "2026-11-21", "2037-12-31", LAW_ELSEWHERE),
        ("FR", "9998-01-01", "9999-12-31", "FR LPF L102 B"),
    ],
)
def test_receipt_is_kept_to_the_end_of_the_last_business_year_that_it_can_belong_to(
    country: str, day: str, until: str, law: str
) -> None:
    found = receipt_keeping(country, day, clock_trusted=True)
    assert (found.until, found.law) == (until, law)


def test_no_date_is_counted_from_a_clock_that_nobody_has_confirmed() -> None:
    found = receipt_keeping("FR", "1970-01-01", clock_trusted=False)
    assert (found.until, found.law) == (DATE_UNKNOWN, "FR LPF L102 B")
