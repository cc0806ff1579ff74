"""OPI bytes <-> XML elements: framing, a parser that trusts nobody, amounts. Pure; nothing here waits or remembers.

Both channels carry documents behind a length of four bytes, big-endian, which counts bytes and not characters. A
document says its own encoding, UTF-8 or ISO-8859-1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from msgspec import Struct, field

from drivers.masking import mask_card_data
from drivers.trace import plain, size
from hubd.errors import InvalidValueError
from hubd.model.money import Money, exponent_of

LENGTH_BYTES = 4
DOCUMENT_BYTES_MAX = 64 * 1024
"""Far above any receipt. A longer length is garbage, so that a liar cannot make us wait for it."""
DEPTH_MAX = 16
ELEMENTS_MAX = 4096
TEXT_CHARS_MAX = 200
"""Of one value or one line; what is longer is cut."""
ENCODINGS: Final = {
    "utf-8": "utf-8", "iso-8859-1": "iso-8859-1", "iso-8859-15": "iso-8859-15", "us-ascii": "ascii",
    "windows-1252": "cp1252",
}  # fmt: skip

_BEGINNINGS = frozenset(b"<\xef \t\r\n")
_DECLARED = re.compile(rb"\A\s*<\?xml[^>]{0,100}?\sencoding\s*=\s*[\"']([A-Za-z0-9._-]{1,20})[\"']")
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_AMOUNT = re.compile(r"\s*([0-9]{1,10})(?:\.([0-9]{1,6}))?\s*")


# --- frames ---------------------------------------------------------------------------------------------------------


class Garbage(Struct, frozen=True):
    """What came can never become an OPI conversation; the line must be closed."""

    reason: str
    """`not_opi` or `length_beyond_limit`."""


def frame(document: bytes) -> bytes:
    """A document as it stands on TCP; raises ValueError when it is longer than `DOCUMENT_BYTES_MAX`."""
    if len(document) > DOCUMENT_BYTES_MAX:
        raise ValueError(f"an OPI document of {len(document)} bytes is beyond the limit")
    return len(document).to_bytes(LENGTH_BYTES, "big") + document


class FrameReader:
    """Cuts a TCP stream into documents, however the network has split or joined them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._broken: Garbage | None = None

    def feed(self, data: bytes) -> list[bytes | Garbage]:
        """Documents that are complete now. After `Garbage` the stream stays garbage."""
        if self._broken:
            return [self._broken]
        self._buffer += data
        found: list[bytes | Garbage] = []
        while len(self._buffer) >= LENGTH_BYTES:
            size = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
            if not 0 < size <= DOCUMENT_BYTES_MAX:
                return [*found, self._break("length_beyond_limit")]
            if len(self._buffer) > LENGTH_BYTES and self._buffer[LENGTH_BYTES] not in _BEGINNINGS:
                return [*found, self._break("not_opi")]
            end = LENGTH_BYTES + size
            if len(self._buffer) < end:
                break
            found.append(bytes(self._buffer[LENGTH_BYTES:end]))
            del self._buffer[:end]
        return found

    def _break(self, reason: str) -> Garbage:
        self._broken = Garbage(reason)
        self._buffer.clear()
        return self._broken

    @property
    def pending(self) -> int:
        """Bytes that wait for the rest of their document."""
        return len(self._buffer)


# --- XML ------------------------------------------------------------------------------------------------------------


class Element(Struct, frozen=True):
    """One element; names are without their namespace, because terminals leave it out or write it differently."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    children: tuple[Element, ...] = ()

    def child(self, name: str) -> Element | None:
        """The first child of this name."""
        return next((child for child in self.children if child.name == name), None)

    def all(self, name: str) -> tuple[Element, ...]:
        """All children of this name, in order."""
        return tuple(child for child in self.children if child.name == name)

    def at(self, *path: str) -> Element:
        """The first element along a path of names; an empty one when there is none."""
        found = self
        for name in path:
            found = found.child(name) or Element("")
        return found

    def value(self, name: str) -> str:
        """An attribute as `clean_value` leaves it, or ""."""
        return clean_value(self.attributes.get(name, ""))


class _RefusedError(Exception):
    """The document is well-formed so far and still nothing that we read."""


class _Builder:
    """Builds elements from expat's events. Declarations of types and entities are refused at the first sight."""

    def __init__(self) -> None:
        self._open: list[tuple[str, dict[str, str], list[str], list[Element]]] = []
        self._count = 0
        self.root: Element | None = None

    def parse(self, text: str) -> Element:
        """Raises expat.ExpatError or _RefusedError."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        # Given as text, so that the encoding is the one decided here, whatever the document declares.
        parser.Parse(text, True)
        if self.root is None:
            raise _RefusedError
        return self.root

    def _refuse(self, *_: object) -> int:
        raise _RefusedError

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > ELEMENTS_MAX or len(self._open) >= DEPTH_MAX:
            raise _RefusedError
        self._open.append((_local(name), {_local(key): value for key, value in attributes.items()}, [], []))

    def _characters(self, text: str) -> None:
        if self._open:
            self._open[-1][2].append(text)

    def _end(self, _: str) -> None:
        name, attributes, texts, children = self._open.pop()
        # White space between elements is layout; inside an element without children it is text.
        text = "" if children else "".join(texts)
        element = Element(name, attributes, text, tuple(children))
        if self._open:
            self._open[-1][3].append(element)
        else:
            self.root = element


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def parse(document: bytes) -> Element | Garbage:
    """The root element of a document; never raises, opens nothing, expands nothing."""
    declared = _DECLARED.match(document.removeprefix(b"\xef\xbb\xbf"))
    encoding = ENCODINGS.get(declared[1].decode("ascii").lower() if declared else "utf-8")
    if encoding is None:
        return Garbage("not_opi")
    try:
        return _Builder().parse(document.decode(encoding).removeprefix("\ufeff"))
    except (UnicodeDecodeError, expat.ExpatError, _RefusedError):
        return Garbage("not_opi")


def render(element: Element, encoding: str = "UTF-8") -> bytes:
    """A document with its declaration. Characters that XML or the encoding do not have are replaced."""
    text = f'<?xml version="1.0" encoding="{encoding}"?>' + _rendered(element)
    return text.encode(ENCODINGS[encoding.lower()], "xmlcharrefreplace")


def _rendered(element: Element) -> str:
    attributes = "".join(f" {name}={quoteattr(_legal(value))}" for name, value in element.attributes.items())
    inside = escape(_legal(element.text), {"\r": "&#13;"}) + "".join(map(_rendered, element.children))
    return f"<{element.name}{attributes}>{inside}</{element.name}>" if inside else f"<{element.name}{attributes}/>"


def _legal(text: str) -> str:
    return _ILLEGAL.sub("?", text)


# --- scalars --------------------------------------------------------------------------------------------------------


def clean_value(text: str) -> str:
    """A value of a terminal for our records: one line, bounded, no card number."""
    return mask_card_data(text.strip())[:TEXT_CHARS_MAX]


def clean_line(text: str) -> str:
    """A printed line: like a value, but it keeps its indentation."""
    return mask_card_data(text)[:TEXT_CHARS_MAX]


def last4_of(card_number: str) -> str:
    """The last four digits of a card number, masked or not, or ""; what stands behind a `=` is track data."""
    number = re.split("[=^]", card_number.strip(), maxsplit=1)[0].replace(" ", "")
    return number[-4:] if 8 <= len(number) <= 25 and re.fullmatch("[0-9]{4}", number[-4:]) else ""


def amount_text(amount: Money) -> str:
    """Decimal text with the currency's own decimals: 39.50; raises ValueError for a negative amount."""
    if amount.amount_minor < 0:
        raise ValueError("OPI amounts are not negative")
    return amount.plain().partition(" ")[0]


def parse_amount(text: str, currency: str) -> Money | None:
    """An amount of a terminal. None for what is no amount: no number, finer than the currency, a currency unknown."""
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return None
    try:
        exponent = exponent_of(currency)
        fraction = (match[2] or "").rstrip("0")
        if len(fraction) > exponent:
            return None
        return Money(int(match[1] + fraction.ljust(exponent, "0")), currency)
    except InvalidValueError:
        return None


# --- traces -----------------------------------------------------------------------------------------------------------

_SHOWN_ATTRIBUTES = frozenset({
    "RequestType", "RequestID", "WorkstationID", "OverallResult", "ErrorCode", "Currency", "STAN", "TerminalID",
    "OutDeviceTarget", "InDeviceTarget", "OutResult", "InResult", "ServiceLevel", "POPID",
})  # fmt: skip
_SHOWN_TEXTS = frozenset({"TotalAmount", "Command"})


def describe_document(found: bytes | Garbage) -> str:
    """What a trace may tell of a document: its elements, the attributes that are no card data, and no text."""
    element = found if isinstance(found, Garbage) else parse(found)
    if isinstance(element, Garbage):
        return f"unreadable: {element.reason}"
    return _described(element)


def _described(element: Element) -> str:
    parts = [plain(element.name)]
    parts += [f"{name}={plain(value)}" for name, value in element.attributes.items() if name in _SHOWN_ATTRIBUTES]
    hidden = len(element.attributes) + 1 - len(parts)
    parts += [f"({hidden} attributes hidden)"] if hidden > 0 else []
    if element.text:
        shown = element.name in _SHOWN_TEXTS
        parts.append(f"= {plain(element.text.strip()) if shown else f'({size(element.text)} hidden)'}")
    inside = [_described(child) for child in element.children]
    return " ".join(parts) + (f" [{', '.join(inside)}]" if inside else "")
