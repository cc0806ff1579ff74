"""Money, dates and durations as people of each language write them: three small tables, no locale of the system.

Wall times are given in UTC microseconds and shown in the zone of the location.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from hubd.model.money import Money
from hubd.services.calendar import local_time

NARROW_SPACE = "\u202f"
NO_BREAK = "\u00a0"
SYMBOLS = {"EUR": "€", "GBP": "£", "USD": "$"}


class Habits(Struct, frozen=True):
    """How one language writes."""

    thousands: str
    decimal: str
    symbol_first: bool
    symbol_gap: str
    time: str
    months: tuple[str, ...]
    weekdays: tuple[str, ...]
    day_month: str
    units: tuple[str, str, str, str]
    """Day, hour, minute, second, short."""


HABITS = {
    "en": Habits(
        thousands=",",
        decimal=".",
        symbol_first=True,
        symbol_gap="",
        time="{hour:02}:{minute:02}",
        months=(
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ),
        weekdays=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        day_month="{day} {month}",
        units=("d", "h", "min", "s"),
    ),
    "fr": Habits(
        thousands=NARROW_SPACE,
        decimal=",",
        symbol_first=False,
        symbol_gap=NO_BREAK,
        time="{hour}" + NO_BREAK + "h" + NO_BREAK + "{minute:02}",
        months=(
            "janvier",
            "février",
            "mars",
            "avril",
            "mai",
            "juin",
            "juillet",
            "août",
            "septembre",
            "octobre",
            "novembre",
            "décembre",
        ),
        weekdays=("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
        day_month="{day} {month}",
        units=("j", "h", "min", "s"),
    ),
    "nl": Habits(
        thousands=".",
        decimal=",",
        symbol_first=True,
        symbol_gap=NO_BREAK,
        time="{hour:02}.{minute:02}" + NO_BREAK + "uur",
        months=(
            "januari",
            "februari",
            "maart",
            "april",
            "mei",
            "juni",
            "juli",
            "augustus",
            "september",
            "oktober",
            "november",
            "december",
        ),
        weekdays=("maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag", "zondag"),
        day_month="{day} {month}",
        units=("d", "u", "min", "s"),
    ),
}


def format_number(value: int, language: str) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}".replace(",", HABITS[language].thousands)


def format_money(money: Money, language: str) -> str:
    """`€1,234.50`, `1 234,50 €`, `€ 1.234,50`; a currency without a symbol stands as its code."""
    habits = HABITS[language]
    digits = str(abs(money.amount_minor)).rjust(money.exponent + 1, "0")
    whole, fraction = (digits[: -money.exponent], digits[-money.exponent :]) if money.exponent else (digits, "")
    number = format_number(int(whole), language) + (habits.decimal + fraction if fraction else "")
    sign = "−" if money.amount_minor < 0 else ""
    symbol = SYMBOLS.get(money.currency, money.currency)
    gap = habits.symbol_gap if symbol != money.currency else NO_BREAK
    return f"{sign}{symbol}{gap}{number}" if habits.symbol_first else f"{sign}{number}{gap}{symbol}"


def format_monies(totals: tuple[Money, ...], language: str, currency: str = "EUR") -> str:
    """Sums of several currencies beside each other; zero of the shop's own where there is none."""
    return " + ".join(format_money(money, language) for money in totals or (Money(0, currency),))


def format_time(at: datetime, language: str) -> str:
    """The time of day."""
    return HABITS[language].time.format(hour=at.hour, minute=at.minute)


def format_date(at: datetime, language: str) -> str:
    """Day and month, with the year where it is another than now's: the caller says."""
    habits = HABITS[language]
    day = "1er" if language == "fr" and at.day == 1 else str(at.day)
    return habits.day_month.format(day=day, month=habits.months[at.month - 1])


def format_moment(at_us: int, now_us: int, zone: str, language: str) -> str:
    """A moment as people say it today: the time; within a week with its weekday; else with its date."""
    at, now = local_time(at_us, zone), local_time(now_us, zone)
    time = format_time(at, language)
    days = (at.date() - now.date()).days
    if days == 0:
        return time
    if -7 < days < 7:
        return f"{HABITS[language].weekdays[at.weekday()]} {time}"
    year = f" {at.year}" if at.year != now.year else ""
    return f"{format_date(at, language)}{year}, {time}"


def format_duration(seconds: int, language: str) -> str:
    """The two largest units: `22 h 54`, `12 min`, `4 s`, `2 d 3 h`."""
    day, hour, minute, second = HABITS[language].units
    seconds = max(0, seconds)
    if seconds < 60:
        return f"{seconds}{NO_BREAK}{second}"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes}{NO_BREAK}{minute}"
    if minutes < 24 * 60:
        hours, rest = divmod(minutes, 60)
        return f"{hours}{NO_BREAK}{hour}{NO_BREAK}{rest:02}"
    days, rest = divmod(minutes // 60, 24)
    return f"{days}{NO_BREAK}{day}{NO_BREAK}{rest}{NO_BREAK}{hour}"
