"""A document as plain text, for printers that know nothing better: lines in columns, codes by their text."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from hubd.model.escpos_stream import text_of
from hubd.model.printing import (
    Align,
    Barcode,
    Cut,
    Item,
    Line,
    PrintDocument,
    Qr,
    Raw,
    Row,
    Text,
    as_text,
    lay_out,
    likeness,
    printable,
)

PAGE_END = "\f"


def read_raw(raw: Raw, columns: int) -> Iterator[Line]:
    """What can be read of a job that was made for a receipt printer: its text without styles, codes by their text."""
    for line in text_of(raw.data).splitlines():
        for start in range(0, max(1, len(line)), columns):
            yield Line(printable(line[start : start + columns]))


def render_text(document: PrintDocument, columns: int, *, ascii_only: bool = False) -> str:
    """The document in lines of at most `columns` characters; a cut ends the page. Pictures are left out.

    With `ascii_only`, letters become the plain ones that look like them, and the euro sign its code.
    """
    if ascii_only:
        document = replace(document, items=tuple(map(_with_euro_spelt, document.items)))
    out: list[str] = []
    for item in lay_out(document, columns):
        match item:
            case Line():
                out.append(_placed(item, columns))
            case Qr() | Barcode():
                out += [_placed(line, columns) for line in as_text(item, columns)]
            case Raw():
                out += [_placed(line, columns) for line in read_raw(item, columns)]
            case Cut() if out and out[-1] != PAGE_END:
                out.append(PAGE_END)
    if out and out[-1] != PAGE_END:
        out.append(PAGE_END)
    text = "".join(line if line == PAGE_END else f"{line}\r\n" for line in out)
    return "".join(one if one.isascii() else likeness(one) for one in text) if ascii_only else text


def _placed(line: Line, columns: int) -> str:
    text = line.text
    match line.align:
        case Align.CENTER:
            text = " " * ((columns - len(text)) // 2) + text
        case Align.RIGHT:
            text = text.rjust(columns)
    return text.rstrip()


def _with_euro_spelt(item: Item) -> Item:
    match item:
        case Text(text):
            return replace(item, text=text.replace("€", "EUR"))
        case Row(left, right):
            return replace(item, left=left.replace("€", "EUR"), right=right.replace("€", "EUR"))
    return item
