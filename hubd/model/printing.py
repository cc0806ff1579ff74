"""What is printed, before any printer's language: a document of lines, and its layout in columns of equal width.

One layout serves all: ESC/POS bytes, the page and PDF show the same lines. Text comes from tills, people and
terminals, so control characters never pass (`PrintDocument` refuses none, the layout drops them).
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
import zlib
from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct

COLUMNS_MIN, COLUMNS_MAX = 16, 96
LINES_MAX = 2000
"""Lines of one document, a code or a picture counted as one; what comes after them is left out and said so."""
TRUNCATED = "[…]"
QR_LENGTH_MAX, CODE128_LENGTH_MAX = 300, 40
_LIKENESS = str.maketrans("‐‑‒―−─′″‛‟⁄∕∶", "------'\"'\"//:")
"""What no decomposition brings near to ASCII, and what it looks like."""
RAW_LEVEL = 6


class Align(StrEnum):
    """Where a line stands."""

    LEFT = "left"
    CENTER = "center"
    RIGHT = "right"


class Text(Struct, frozen=True, tag="text"):
    """One paragraph; broken at words where it is too long."""

    text: str
    align: Align = Align.LEFT
    bold: bool = False
    large: bool = False
    """Double width and height: half as many columns."""


class Row(Struct, frozen=True, tag="row"):
    """Words at the left and a figure at the right of one line; the words are broken, the figure never is."""

    left: str
    right: str
    bold: bool = False
    large: bool = False


class Rule(Struct, frozen=True, tag="rule"):
    """A line across the paper."""


class Space(Struct, frozen=True, tag="space"):
    """Empty lines."""

    lines: int = 1


class Qr(Struct, frozen=True, tag="qr"):
    """A QR code, error correction M."""

    data: str
    """At most 300 characters, ASCII."""


class Barcode(Struct, frozen=True, tag="barcode"):
    """A one-dimensional code with its text below."""

    data: str
    """Thirteen digits for `ean13`, 1 to 40 printable ASCII characters for `code128`."""
    symbology: str = "code128"


class Logo(Struct, frozen=True, tag="logo"):
    """A picture in black and white, centred."""

    width: int
    """In dots; a multiple of eight."""
    rows: bytes
    """Eight dots a byte, the leftmost in the highest bit, black is 1; row after row."""

    @property
    def height(self) -> int:
        """In dots."""
        return len(self.rows) // max(1, self.width // 8)


class Cut(Struct, frozen=True, tag="cut"):
    """Cut the paper, leaving a bridge."""


class Drawer(Struct, frozen=True, tag="drawer"):
    """Open the cash drawer."""

    pin: int = 2
    """2 or 5, of the drawer's connector."""


class Raw(Struct, frozen=True, tag="raw"):
    """A whole job that somebody else's program has made for a printer that speaks ESC/POS."""

    packed: bytes
    """Its bytes as `pack_raw` deflates them: pictures are most of it, and the journal keeps them for years."""

    @property
    def data(self) -> bytes:
        """The bytes themselves."""
        return zlib.decompress(self.packed)


def pack_raw(data: bytes) -> Raw:
    """The item for these bytes."""
    return Raw(zlib.compress(data, RAW_LEVEL))


Item = Text | Row | Rule | Space | Qr | Barcode | Logo | Cut | Drawer | Raw


class PrintDocument(Struct, frozen=True):
    """Something to be printed as a whole."""

    title: str
    """What people call it, `Receipt T1-000123`; not printed."""
    items: tuple[Item, ...]
    language: str = "en"


class Line(Struct, frozen=True):
    """One line of the layout, already as wide as it will be."""

    text: str
    align: Align = Align.LEFT
    bold: bool = False
    large: bool = False


def lay_out(document: PrintDocument, columns: int) -> Iterator[Line | Qr | Barcode | Logo | Cut | Drawer | Raw]:
    """The document in lines of at most `columns` characters (half of it for large ones); the rest as it is.

    A document that is too long loses its end, but neither its cuts nor the opening of the drawer. Raises ValueError for
    a width that no printer has.
    """
    if not COLUMNS_MIN <= columns <= COLUMNS_MAX:
        raise ValueError(f"a line has {COLUMNS_MIN} to {COLUMNS_MAX} columns")
    lines = 0
    for item in document.items:
        for made in _laid_out(item, columns):
            if not isinstance(made, (Cut, Drawer, Raw)):
                lines += 1
                if lines == LINES_MAX + 1:
                    yield Line(TRUNCATED)
                if lines > LINES_MAX:
                    continue
            yield made


def _laid_out(item: Item, columns: int) -> Iterator[Line | Qr | Barcode | Logo | Cut | Drawer | Raw]:
    match item:
        case Text(text, align, bold, large):
            for part in _broken(text, columns // 2 if large else columns):
                yield Line(part, align, bold, large)
        case Row(left, right, bold, large):
            for part in _row(left, right, columns // 2 if large else columns):
                yield Line(part, Align.LEFT, bold, large)
        case Rule():
            yield Line("-" * columns)
        case Space(lines):
            for _ in range(min(lines, LINES_MAX)):
                yield Line("")
        case _:
            yield item


def printable(text: str) -> str:
    """One line of text without control characters; a tab and typographic spaces become plain ones.

    Money in French has U+202F, which no code page has. A letter and its accent become one character, as columns count.
    """
    text = unicodedata.normalize("NFC", text)
    spaces = "".join(" " if one == "\t" or (one > "\x7f" and one.isspace()) else one for one in text)
    return "".join(one for one in spaces if one.isprintable())


def likeness(character: str) -> str:
    """One plain letter that looks like it, or a question mark: never more, because columns were counted."""
    near = unicodedata.normalize("NFKD", character.translate(_LIKENESS))
    plain = "".join(one for one in near if one.isascii() and one.isprintable())
    return plain if len(plain) == 1 else "?"


def code_valid(code: Qr | Barcode) -> bool:
    """Whether its data make a code of its kind; what does not is shown as text."""
    match code:
        case Qr(data):
            return data.isascii() and 0 < len(data) <= QR_LENGTH_MAX
        case Barcode(data, "ean13"):
            return _ean13_valid(data)
        case Barcode(data, "code128"):
            return len(data) <= CODE128_LENGTH_MAX and re.fullmatch(r"[\x20-\x7e]+", data) is not None
    return False


def _ean13_valid(digits: str) -> bool:
    """Whether these are thirteen digits of which the last is the right check digit; a printer ignores other ones."""
    if re.fullmatch(r"[0-9]{13}", digits) is None:
        return False
    return sum(int(one) * (3 if at % 2 else 1) for at, one in enumerate(digits)) % 10 == 0


def as_text(code: Qr | Barcode, columns: int) -> Iterator[Line]:
    """The data of a code as lines, where it cannot be shown as a code."""
    for at in range(0, len(code.data), columns):
        yield Line(code.data[at : at + columns], Align.CENTER)


def _broken(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n"):
        clean = printable(paragraph)
        if len(clean) <= width:  # columns that somebody has set by hand stay as they are
            lines.append(clean.rstrip())
        else:
            lines += textwrap.wrap(clean, width, break_on_hyphens=False) or [""]
    return lines


def _row(left: str, right: str, width: int) -> Iterator[str]:
    """The figure stands on the last line of the words; where both do not fit beside each other, below them."""
    figure = printable(right)[:width]
    words = _broken(left, width)
    room = width - len(figure) - 1
    if words[-1] and len(words[-1]) > room:
        narrower = _broken(left, room) if room >= width // 3 else words
        words = narrower if len(narrower[-1]) <= room else [*words, ""]
    yield from words[:-1]
    last = words[-1]
    yield last + " " * (width - len(last) - len(figure)) + figure
