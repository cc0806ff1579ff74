"""A document as PDF: on a roll as long as the text is, or on sheets. The same document gives the same bytes.

The text is set in the columns of `hubd.model.printing.lay_out`, in Courier with WinAnsi, which every reader has and
which holds the euro sign and the accents of Western Europe; a letter that it lacks is shown by the plain one that looks
like it. Codes and pictures are drawn in the middle, and a cut begins another page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import groupby

import segno
from msgspec import Struct
from PIL import Image
from reportlab.graphics.barcode.code128 import Code128
from reportlab.graphics.barcode.eanbc import Ean13BarcodeWidget
from reportlab.graphics.renderPDF import draw
from reportlab.graphics.shapes import Drawing
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from hubd.model.printing import (
    Align,
    Barcode,
    Cut,
    Drawer,
    Line,
    Logo,
    PrintDocument,
    Qr,
    Raw,
    as_text,
    code_valid,
    lay_out,
    likeness,
)
from hubd.paper.text import read_raw

FONT, BOLD = "Courier", "Courier-Bold"
CHARACTER_WIDTH = 0.6
"""Of Courier, in font sizes; all characters are as wide."""
FONT_SIZE_MAX = 10.0
LEADING = 1.2
DESCENT = 0.25
"""How far below its line's lower edge a letter is not: in font sizes."""
PAGE_HEIGHT_MAX = 14_400.0
"""Points. PDF knows no longer page (ISO 32000, annex C)."""
DOT = 25.4 / 203 * mm
"""Of a receipt printer, in which logos are measured."""
MODULE = 0.33 * mm
"""The narrowest bar of a barcode, as EAN-13 wants it."""
QR_MODULE_MAX = 0.8 * mm
BARCODE_HEIGHT = 8 * mm
QUIET_MODULES = 4
"""Around a QR code, that a scanner finds it."""


class PageSize(Struct, frozen=True):
    """The paper, and how much stands on a line of it."""

    width_mm: float
    height_mm: float | None
    """None: a roll, cut off where the text ends."""
    columns: int
    """Characters a line; the text is as large as they allow, and not larger than usual."""
    margin_mm: float


ROLL_80 = PageSize(80, None, 42, 4)
A4 = PageSize(210, 297, 64, 20)


class _Block(Struct, frozen=True):
    """Something of a height that is drawn with its lower edge at (left, y)."""

    height: float
    draw: Callable[[Canvas, float, float], None]


def render_pdf(document: PrintDocument, size: PageSize = ROLL_80) -> bytes:
    """The document on pages of this size; at least one page. Raises ValueError for a width that no printer has."""
    pages = list(_pages(document, size)) or [[]]
    out = BytesIO()
    canvas = Canvas(out, invariant=1, lang=document.language)
    canvas.setTitle(document.title)
    margin = size.margin_mm * mm
    width = size.width_mm * mm
    left = (width - _text_width(size)) / 2
    for page in pages:
        text_height = sum(block.height for block in page)
        height = text_height + 2 * margin if size.height_mm is None else size.height_mm * mm
        canvas.setPageSize((width, height))
        y = height - margin
        for block in page:
            y -= block.height
            block.draw(canvas, left, y)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def _font_size(size: PageSize) -> float:
    room = (size.width_mm - 2 * size.margin_mm) * mm
    return min(FONT_SIZE_MAX, room / size.columns / CHARACTER_WIDTH)


def _text_width(size: PageSize) -> float:
    return size.columns * CHARACTER_WIDTH * _font_size(size)


def _pages(document: PrintDocument, size: PageSize) -> Iterator[list[_Block]]:
    """What stands on each page; none is empty."""
    paper_height = PAGE_HEIGHT_MAX if size.height_mm is None else size.height_mm * mm
    room = paper_height - 2 * size.margin_mm * mm
    page: list[_Block] = []
    left = room
    for item in lay_out(document, size.columns):
        blocks = [] if isinstance(item, (Cut, Drawer)) else list(_blocks(item, size, room))
        if page and (isinstance(item, Cut) or sum(block.height for block in blocks) > left):
            yield page
            page, left = [], room
        for block in blocks:
            page.append(block)
            left -= block.height
    if page:
        yield page


def _blocks(item: Line | Qr | Barcode | Logo | Raw, size: PageSize, room: float) -> Iterator[_Block]:
    match item:
        case Line():
            yield _line(item, size)
        case Qr() if code_valid(item):
            yield _qr(item, _text_width(size), room)
        case Barcode() if code_valid(item) and _barcode_fits(item, _text_width(size)):
            yield _barcode(item, _text_width(size))
            yield _line(Line(item.data, Align.CENTER), size)
        case Qr() | Barcode():
            for line in as_text(item, size.columns):
                yield _line(line, size)
        case Raw():
            for line in read_raw(item, size.columns):
                yield _line(line, size)
        case Logo() if item.width >= 8 and item.height:
            yield _logo(item, _text_width(size), room)


def _line(line: Line, size: PageSize) -> _Block:
    font_size = _font_size(size) * (2 if line.large else 1)
    font = BOLD if line.bold else FONT
    text = "".join(one if _in_font(one) else likeness(one) for one in line.text)
    spare = _text_width(size) - len(text) * CHARACTER_WIDTH * font_size
    indent = {Align.LEFT: 0.0, Align.CENTER: spare / 2, Align.RIGHT: spare}[line.align]

    def write(canvas: Canvas, left: float, y: float) -> None:
        if text.strip():
            canvas.setFont(font, font_size)
            canvas.drawString(left + indent, y + DESCENT * font_size, text)

    return _Block(LEADING * font_size, write)


def _in_font(character: str) -> bool:
    return character.isprintable() and bool(character.encode("cp1252", "ignore"))


def _qr(code: Qr, width: float, room: float) -> _Block:
    rows = [list(row) for row in segno.make_qr(code.data, error="m", boost_error=False).matrix]
    modules = len(rows) + 2 * QUIET_MODULES
    module = min(QR_MODULE_MAX, width / modules, room / modules)

    def paint(canvas: Canvas, left: float, y: float) -> None:
        x0 = left + (width - len(rows) * module) / 2
        for at, row in enumerate(rows):
            bottom = y + (modules - QUIET_MODULES - at - 1) * module
            for start, length in _runs(row):
                canvas.rect(x0 + start * module, bottom, length * module, module, stroke=0, fill=1)

    return _Block(modules * module, paint)


def _runs(row: list[int]) -> Iterator[tuple[int, int]]:
    """Where dark modules begin, and how many there are."""
    at = 0
    for dark, group in groupby(row, bool):
        length = sum(1 for _ in group)
        if dark:
            yield at, length
        at += length


def _barcode_modules(code: Barcode) -> int:
    """How wide it is; for Code 128 at most, as pairs of digits take half."""
    return 95 if code.symbology == "ean13" else 11 * len(code.data) + 35


def _barcode_fits(code: Barcode, width: float) -> bool:
    return _barcode_modules(code) * MODULE <= width


def _barcode(code: Barcode, width: float) -> _Block:
    def paint(canvas: Canvas, left: float, y: float) -> None:
        if code.symbology == "ean13":
            bars = Ean13BarcodeWidget(
                value=code.data, humanReadable=False, barWidth=MODULE, barHeight=BARCODE_HEIGHT, quiet=False
            )
            drawing = Drawing(_barcode_modules(code) * MODULE, BARCODE_HEIGHT)
            drawing.add(bars)
            draw(drawing, canvas, left + (width - drawing.width) / 2, y)
        else:
            made = Code128(code.data, barWidth=MODULE, barHeight=BARCODE_HEIGHT, quiet=False)
            made.drawOn(canvas, left + (width - made.width) / 2, y)

    return _Block(BARCODE_HEIGHT, paint)


def _logo(logo: Logo, width: float, room: float) -> _Block:
    """As large as a receipt printer would print it, smaller where the paper is."""
    scale = min(DOT, width / logo.width, room / logo.height)
    # Pillow's 1 is white.
    picture = Image.frombytes("1", (logo.width // 8 * 8, logo.height), bytes(~one & 0xFF for one in logo.rows))

    def paint(canvas: Canvas, left: float, y: float) -> None:
        x = left + (width - logo.width * scale) / 2
        canvas.drawImage(ImageReader(picture), x, y, logo.width * scale, logo.height * scale)

    return _Block(logo.height * scale, paint)
