"""Money, dates and durations in each language's own writing."""

from __future__ import annotations

import pytest

from hubd.model.money import Money
from local_api.page.formats import HABITS, format_duration, format_moment, format_money, format_monies

NB, NN = "\u00a0", "\u202f"
NOW = 1_795_000_000_000_000  # 2026-11-18 12:06:40 in Paris


@pytest.mark.parametrize(
    ("money", "en", "fr", "nl"),
    [
        (Money(70_240, "EUR"), "€702.40", f"702,40{NB}€", f"€{NB}702,40"),
        (Money(123_456_789, "EUR"), "€1,234,567.89", f"1{NN}234{NN}567,89{NB}€", f"€{NB}1.234.567,89"),
        (Money(5, "EUR"), "€0.05", f"0,05{NB}€", f"€{NB}0,05"),
        (Money(-1250, "EUR"), "−€12.50", f"−12,50{NB}€", f"−€{NB}12,50"),
        (Money(1500, "JPY"), f"JPY{NB}1,500", f"1{NN}500{NB}JPY", f"JPY{NB}1.500"),
        (Money(1, "KWD"), f"KWD{NB}0.001", f"0,001{NB}KWD", f"KWD{NB}0,001"),
    ],
)
def test_money(money: Money, en: str, fr: str, nl: str) -> None:
    assert (format_money(money, "en"), format_money(money, "fr"), format_money(money, "nl")) == (en, fr, nl)


def test_no_money_is_zero_of_the_shop_s_own() -> None:
    assert format_monies((), "fr", "CHF") == f"0,00{NB}CHF"
    assert format_monies((Money(100, "EUR"), Money(200, "GBP")), "en") == "€1.00 + £2.00"


@pytest.mark.parametrize(
    ("hours", "en", "fr", "nl"),
    [
        (0, "12:06", f"12{NB}h{NB}06", f"12.06{NB}uur"),
        (24, "Thursday 12:06", f"jeudi 12{NB}h{NB}06", f"donderdag 12.06{NB}uur"),
        (-24 * 20, "29 October, 12:06", f"29 octobre, 12{NB}h{NB}06", f"29 oktober, 12.06{NB}uur"),
        (24 * 60, "17 January 2027, 12:06", f"17 janvier 2027, 12{NB}h{NB}06", f"17 januari 2027, 12.06{NB}uur"),
    ],
)
def test_moment(hours: int, en: str, fr: str, nl: str) -> None:
    at = NOW + hours * 3_600_000_000
    assert [format_moment(at, NOW, "Europe/Paris", one) for one in ("en", "fr", "nl")] == [en, fr, nl]


@pytest.mark.parametrize(
    ("seconds", "fr"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (82_440, "22 h 54"),
        (183_600, "2 j 3 h"),
        (-5, "0 s"),
    ],
)
def test_duration(seconds: int, fr: str) -> None:
    assert format_duration(seconds, "fr") == fr.replace(" ", NB)


def test_every_language_has_all_months_and_days() -> None:
    for habits in HABITS.values():
        assert (len(set(habits.months)), len(set(habits.weekdays)), len(habits.units)) == (12, 7, 4)
