"""What a scanner has read, judged: a code that may be told, a card that is refused, or damage. Pure.

Card data is judged by `hubd.model.card_data`. What is exempt is known by its own grammar: a GTIN whose check digit is
right. Symbology identifiers are those of ISO/IEC 15424 (AIM): `]`, a letter, a modifier.
"""

from __future__ import annotations

import re
from enum import StrEnum

from hubd.model.card_data import gtin_valid, holds_card_data, is_card_number
from hubd.ports import Scan

TEXT_MAX = 1024
"""Characters of a code that is told on."""
GROUP_SEPARATOR = "\x1d"
"""FNC1 inside GS1 codes: the one control character that a code may hold."""


class Refused(StrEnum):
    """Why a reading is not told on. Nothing of the reading goes along."""

    CARD_DATA = "card_data"
    DAMAGED = "damaged"
    """A check digit is wrong, or something is missing or doubled."""
    UNFINISHED = "unfinished"
    """Its end did not come."""
    UNREADABLE = "unreadable"
    """Characters that no code holds."""
    TOO_LONG = "too_long"
    NO_LAYOUT = "no_layout"
    """The keyboard layout is not known yet."""


_SYMBOLOGIES = {
    "A": "code39", "B": "telepen", "C": "code128", "E": "ean13", "F": "codabar", "G": "code93", "H": "code11",
    "I": "itf", "L": "pdf417", "M": "msi", "Q": "qr", "U": "maxicode", "d": "data_matrix", "e": "gs1_databar",
    "z": "aztec",
}  # fmt: skip
_MODIFIED = {
    "C1": "gs1_128", "E3": "ean13_addon", "E4": "ean8", "Q3": "gs1_qr", "d2": "gs1_data_matrix",
}  # fmt: skip
_IDENTIFIER = re.compile(r"\]([A-Za-z])([0-9A-Za-z])")
_TRACK = re.compile(r"%[A-Z]?[0-9 ]{8,}\^|%[^?^]{0,80}\^[^?]{0,80}\?|;[0-9]{8,}=|^\s*;[0-9]+=[^?]*\?", re.I)
"""Of a magnetic stripe, whole or broken off, with digits that prove nothing."""
_ITEM_SYMBOLOGIES = frozenset({"itf", "gs1_128", "gs1_databar", "gs1_data_matrix"})
"""In which a trade item has 14 digits."""


def split_identifier(text: str) -> tuple[str, str]:
    """The symbology that an identifier at the beginning names, and the text without it; ("", text) without one."""
    found = _IDENTIFIER.match(text)
    if found is None or found[1] not in _SYMBOLOGIES:
        return "", text
    return _MODIFIED.get(found[1] + found[2], _SYMBOLOGIES[found[1]]), text[3:]


def holds_a_card(text: str, symbology: str = "") -> bool:
    """Whether a reading may be of a payment card: a track, or a number that is no trade item's."""
    if _is_track(text):
        return True
    return not _is_item(text, symbology) and holds_card_data(text)


def _is_track(text: str) -> bool:
    return _TRACK.search(text) is not None


def _is_item(text: str, symbology: str) -> bool:
    if symbology == "ean13_addon":
        return len(text) in (15, 18) and text.isascii() and text.isdigit() and gtin_valid(text[:13])
    if not gtin_valid(text):
        return False
    # Fourteen digits may be both, a carton and an old card; then only the scanner's word makes it a carton.
    return len(text) != 14 or symbology in _ITEM_SYMBOLOGIES or not is_card_number(text)


def judge(text: str, symbology: str = "") -> Scan | Refused:
    """What becomes of a reading whose end came as it should."""
    if holds_a_card(text, symbology):
        return Refused.CARD_DATA
    if len(text) > TEXT_MAX:
        return Refused.TOO_LONG
    if not text or not all(one.isprintable() or one == GROUP_SEPARATOR for one in text):
        return Refused.UNREADABLE
    if not _check_digit_fits(text, symbology):
        return Refused.DAMAGED
    return Scan(text, symbology)


def _check_digit_fits(text: str, symbology: str) -> bool:
    """EAN and UPC codes carry a check digit; where the scanner says that it is one, it must be right."""
    match symbology:
        case "ean13":
            return len(text) in (12, 13) and gtin_valid(text)
        case "ean8":
            return len(text) == 8 and gtin_valid(text)
        case "ean13_addon":
            return _is_item(text, symbology)
    return True


def raw_holds_a_card(raw: bytes) -> bool:
    """Whether bytes of which nothing is told on hold a card, in one piece or in groups: people hear of it anyhow."""
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else " " for byte in raw)
    parts = [split_identifier(part) for part in text.split()]
    if _is_track(text) or any(holds_a_card(part, symbology) for symbology, part in parts):
        return True
    together = len(parts) > 1 and not all(gtin_valid(part) for _, part in parts)
    return together and holds_card_data(" ".join(part for _, part in parts))
