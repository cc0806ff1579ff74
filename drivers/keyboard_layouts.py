"""What the keys of the keyboard layouts of our countries mean. Data, as X.Org's and the makers' layouts give it.

Key codes are those of Linux (`input-event-codes.h`): the place of a key, whatever is printed on it. Only what barcodes
hold is listed, printable ASCII; dead keys are no characters.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

DIGITS = range(2, 14)
UPPER = range(16, 28)
HOME = range(30, 42)
"""The twelfth is the key left of the digit 1."""
LOWER = range(44, 54)
BACKSLASH, EXTRA, SPACE = 43, 86, 57
"""`EXTRA` stands between the left shift and the lowest letters."""
KEYPAD = {
    71: "7", 72: "8", 73: "9", 74: "-", 75: "4", 76: "5", 77: "6", 78: "+", 79: "1", 80: "2", 81: "3", 82: "0", 55: "*",
    98: "/",
}  # fmt: skip
_NONE = "\0"
"""A key that is dead here, or has no character of ASCII."""


class Press(Struct, frozen=True):
    """A key with what was held beside it."""

    code: int
    shift: bool = False
    altgr: bool = False


Layout = Mapping[Press, str]


def _layout(plain: tuple[str, ...], shifted: tuple[str, ...], third: Mapping[int, str]) -> Layout:
    codes = [*DIGITS, *UPPER, *HOME, BACKSLASH, *LOWER, EXTRA]
    keys: dict[Press, str] = {Press(SPACE): " ", Press(SPACE, shift=True): " "}
    keys |= {Press(code): text for code, text in KEYPAD.items()}
    for shift, rows in ((False, plain), (True, shifted)):
        keys |= {Press(code, shift): text for code, text in zip(codes, "".join(rows), strict=True)}
    keys |= {Press(code, altgr=True): text for code, text in third.items()}
    return MappingProxyType({press: text for press, text in keys.items() if text.isascii() and text != _NONE})


# Rows: digits, upper, home with the key left of 1, backslash, lower, extra.
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "us": _layout(
            ("1234567890-=", "qwertyuiop[]", "asdfghjkl;'`", "\\", "zxcvbnm,./", "\\"),
            ("!@#$%^&*()_+", "QWERTYUIOP{}", 'ASDFGHJKL:"~', "|", "ZXCVBNM<>?", "|"),
            {},
        ),
        "fr": _layout(
            ("&é\"'(-è_çà)=", "azertyuiop\0$", "qsdfghjklmù²", "*", "wxcvbn,;:!", "<"),
            ("1234567890°+", "AZERTYUIOP\0£", "QSDFGHJKLM%\0", "µ", "WXCVBN?./§", ">"),
            {3: "~", 4: "#", 5: "{", 6: "[", 7: "|", 8: "`", 9: "\\", 10: "^", 11: "@", 12: "]", 13: "}"},
        ),
        "be": _layout(
            ("&é\"'(§è!çà)-", "azertyuiop\0$", "qsdfghjklmù²", "µ", "wxcvbn,;:=", "<"),
            ("1234567890°_", "AZERTYUIOP\0*", "QSDFGHJKLM%³", "£", "WXCVBN?./+", ">"),
            {2: "|", 3: "@", 4: "#", 7: "^", 10: "{", 11: "}", 26: "[", 27: "]", 86: "\\"},
        ),
        "de": _layout(
            ("1234567890ß\0", "qwertzuiopü+", "asdfghjklöä\0", "#", "yxcvbnm,.-", "<"),
            ('!"§$%&/()=?\0', "QWERTZUIOPÜ*", "ASDFGHJKLÖÄ°", "'", "YXCVBNM;:_", ">"),
            {8: "{", 9: "[", 10: "]", 11: "}", 12: "\\", 16: "@", 27: "~", 86: "|"},
        ),
        "nl": _layout(
            ("1234567890/°", "qwertyuiop\0*", "asdfghjkl+\0@", "<", "zxcvbnm,.-", "]"),
            ("!\"#$%&_()'?\0", "QWERTYUIOP\0|", "ASDFGHJKL±\0§", ">", "ZXCVBNM;:=", "["),
            {9: "{", 10: "}", 12: "\\", 86: "|"},
        ),
    }
)


def keys_of(text: str, layout: Layout) -> list[Press]:
    """The keys that type a text on a layout; raises ValueError for a character that it does not have."""
    places: dict[str, Press] = {}
    for press, character in layout.items():
        places.setdefault(character, press)
    missing = sorted({character for character in text if character not in places})
    if missing:
        raise ValueError(f"the layout has no key for {' '.join(missing)}")
    return [places[character] for character in text]
