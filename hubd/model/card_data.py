"""Card numbers never enter: what free text must not hold, found before it reaches a log, an entry or a disk.

Typed fields (ids, GTINs, telephone numbers, amounts) are checked by their own grammar and exempt. In free text a
sequence of 13 to 19 digits is a card number if it has a known issuer's beginning, that issuer's length and a valid
Luhn digit; magnetic tracks are known by their shape. This is the second net: the first is that no field asks for one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from hubd.errors import InvalidValueError

DIGITS_MIN = 13
DIGITS_MAX = 19
DEPTH_MAX = 32

_ANY = tuple(range(16, 20))
ISSUERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    # first and last beginning, as numbers of equal length, and the lengths in use (ISO/IEC 7812, networks' own tables)
    (4, 4, (13, 16, 18, 19)),
    (34, 34, (15,)),
    (37, 37, (15,)),
    (51, 55, (16,)),
    (2221, 2720, (16,)),
    (2200, 2204, _ANY),
    (300, 305, (14, *_ANY)),
    (3095, 3095, (14, *_ANY)),
    (36, 36, (14, 15, *_ANY)),
    (38, 39, (14, *_ANY)),
    (3528, 3589, _ANY),
    (6011, 6011, _ANY),
    (644, 649, _ANY),
    (65, 65, _ANY),
    (62, 62, _ANY),
    (8100, 8171, _ANY),
    (508500, 508999, (16,)),
    (606985, 608500, (16,)),
    (637, 639, (16,)),
    (5018, 5018, (13, 14, 15, *_ANY)),
    (5019, 5019, (16,)),
    (5020, 5020, (13, 14, 15, *_ANY)),
    (5038, 5038, (13, 14, 15, *_ANY)),
    (506099, 506198, (16, 18, 19)),
    (56, 58, (13, 14, 15, *_ANY)),
    (6304, 6304, (13, 14, 15, *_ANY)),
    (67, 67, (13, 14, 15, *_ANY)),
    (680, 680, (19,)),
    (606005, 606005, (16, 17)),
    (9792, 9792, (16,)),
)

# What may stand between two groups of one number; a colon and a slash separate times and dates, not card numbers.
_BETWEEN = r"[ \u00a0\u2009\u202f._\-\u2010-\u2015]"
_TELEPHONE = re.compile(rf"\+[1-9](?:[ .\-]?\d){{6,12}}(?!{_BETWEEN}{{0,3}}\d)")
"""E.164 with its plus, as far as it is shorter than the cards of today: 13 digits, and no group of a sequence after."""
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-f])", re.I)
_HASH = re.compile(r"(?<![0-9a-f])(?=[0-9]*[a-f])[0-9a-f]{32,}(?![0-9a-f])", re.I)
# One to three separators between groups of any length.
_SEQUENCE = re.compile(rf"(?<!\d)\d+(?:{_BETWEEN}{{1,3}}\d+)*(?!\d)")
# Printed as on a card, in fours or as 4-6-5 and 4-6-4: then whatever stands between the groups, if it is the same.
_AS_PRINTED = re.compile(
    r"(?<!\d)(?=((?:\d{4}(\D{1,3})\d{4}\2\d{4}\2\d{4}(?:\2\d{1,3})?|\d{4}(\D{1,3})\d{6}\3\d{4,5})(?!\d)))"
)
_GROUP = re.compile(r"\d+")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What commands a terminal, a printer or the direction of reading, and is nothing that a person reads."""
INVISIBLE = frozenset({"Cf", "Mn"})
"""Unicode's categories of what changes its neighbours and shows nothing by itself."""
_TRACK_1 = re.compile(r"%?[A-Z]\d[\d ]{11,24}\^[^^?\n]{2,26}\^\d{4}", re.I)
_TRACK_2 = re.compile(r";?(?<!\d)\d{13,19}[=D]\d{7,}", re.I)


def luhn_valid(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of those before it."""
    total = 0
    for position, char in enumerate(reversed(digits)):
        value = ord(char) - 48
        if position % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def gtin_valid(digits: str) -> bool:
    """Whether these are 8, 12, 13 or 14 digits with a valid GS1 check digit."""
    if len(digits) not in {8, 12, 13, 14} or not (digits.isascii() and digits.isdigit()):
        return False
    weighted = sum((ord(char) - 48) * (3 if place % 2 else 1) for place, char in enumerate(reversed(digits)))
    return weighted % 10 == 0


def _has_issuer(digits: str) -> bool:
    return any(
        len(digits) in lengths and first <= int(digits[: len(str(first))]) <= last for first, last, lengths in ISSUERS
    )


def is_card_number(digits: str) -> bool:
    """Whether these digits, without separators, are a card number by length, issuer and check digit.

    A valid EAN-13 is one: nobody has issued cards of 13 digits for decades, and shops write EANs all day.
    """
    if not DIGITS_MIN <= len(digits) <= DIGITS_MAX or not _has_issuer(digits) or not luhn_valid(digits):
        return False
    return not (len(digits) == 13 and gtin_valid(digits))


def _windows(groups: list[str]) -> Iterator[str]:
    """Every run of whole groups with 13 to 19 digits. What stands beside a valid EAN-13 is a count or a price."""
    for first in range(len(groups)):
        digits = ""
        for group in groups[first:]:
            if len(group) == 13 and gtin_valid(group):
                break
            digits += group
            if len(digits) > DIGITS_MAX:
                break
            if len(digits) >= DIGITS_MIN:
                yield digits


def holds_card_data(text: str) -> bool:
    """Whether free text holds a card number (separators or not) or the shape of a magnetic track."""
    if len(text) < DIGITS_MIN:
        return False
    text = text if text.isascii() else _folded(text)
    if _TRACK_1.search(text) or any(
        luhn_valid(re.split("[=D]", found.strip(";"), flags=re.I)[0]) for found in _TRACK_2.findall(text)
    ):
        return True
    text = _TELEPHONE.sub(" | ", _HASH.sub(" | ", _UUID.sub(" | ", text)))
    sequences = [*_SEQUENCE.findall(text), *(found[1] for found in _AS_PRINTED.finditer(text))]
    return any(
        is_card_number(digits)
        for sequence in sequences
        if len(sequence) >= DIGITS_MIN
        for digits in _windows(_GROUP.findall(sequence))
    )


def _folded(text: str) -> str:
    """The text as the eye reads it: digits of every script are digits, and what shows nothing is not there."""
    return "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() else char
        for char in text
        if unicodedata.category(char) not in INVISIBLE
    )


def card_data_refused(where: str = "") -> InvalidValueError:
    """The refusal. It names the field and never repeats what stood in it."""
    return InvalidValueError(
        "card_data_refused",
        f"The request holds what looks like a card number{f' in {where}' if where else ''}; nothing of it was kept.",
        remedy="Never send card numbers to the hub. Leave the field empty, or write the last four digits only.",
        params={"field": where} if where else None,
    )


def check_free_text(text: str, where: str = "") -> str:
    """Return `text`; raise `card_data_refused` if it holds card data, `control_characters` if it commands a screen."""
    if holds_card_data(text):
        raise card_data_refused(where)
    if _CONTROL.search(text):
        raise InvalidValueError(
            "control_characters",
            f"The text holds control characters{f': {where}' if where else ''}.",
            remedy="Send what a person can read; line breaks and tabs may stay.",
            params={"field": where} if where else None,
        )
    return text


def _check_card_data(text: str) -> None:
    if holds_card_data(text):
        raise card_data_refused()


def check_json(value: Any, depth: int = 0) -> None:
    """Raise `card_data_refused` if any text, key or whole number of a JSON value of unknown shape holds card data."""
    if depth > DEPTH_MAX:
        raise InvalidValueError(
            "malformed_json", "The JSON is nested too deeply.", remedy="Send the shape that the reference shows."
        )
    match value:
        case str():
            _check_card_data(value)
        case bool() | None:
            return
        case int() | float():
            _check_card_data(str(value))
        case list() | tuple():
            for item in value:
                check_json(item, depth + 1)
        case dict():
            for key, item in value.items():
                _check_card_data(str(key))
                check_json(item, depth + 1)
