"""What terminals print, without card numbers: every driver passes free text of a device through here."""

from __future__ import annotations

import re

from hubd.model.card_data import DIGITS_MIN, holds_card_data, luhn_valid

_LONG_NUMBER = re.compile(r"(?<!\d)\d(?:[ .\-/]?\d){12,18}(?!\d)")
_TRACK = re.compile(r"(?:%?[A-Z]?|;)\d{12,19}[=^D][^\s]*")
HIDDEN = "****"


def mask_card_data(text: str) -> str:
    """Text of one line without control characters, and with anything like a card number cut to its last four digits.

    A receipt should hold masked numbers only, but a terminal may be wrongly set up. What still holds card data after
    that, written as nobody expects, is hidden as a whole.
    """
    if len(text) < DIGITS_MIN and text.isprintable():
        return text.rstrip()
    text = "".join(character if character.isprintable() else " " for character in text)
    text = _LONG_NUMBER.sub(_last_four, _TRACK.sub(HIDDEN, text)).rstrip()
    return HIDDEN if holds_card_data(text) else text


def _last_four(match: re.Match[str]) -> str:
    digits = re.sub(r"[ .\-/]", "", match[0])
    return f"{HIDDEN} {digits[-4:]}" if luhn_valid(digits) else match[0]
