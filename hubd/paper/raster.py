"""A document as PWG raster (PWG 5102.4), for printers that take no PDF: the same pages, as grey pictures.

The pages are drawn by PDFium from the PDF of `hubd.paper.pdf`, so all printers show the same. A page of A4 at 300 dots
an inch takes some nine megabytes while it is drawn, and a fifth of a second: call it in a thread, in one at a time.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from itertools import groupby

import pypdfium2
from msgspec import Struct

SYNC = b"RaS2"
POINTS_PER_INCH = 72
GREY_8, RGB_8 = "sgray_8", "srgb_8"
"""Kinds of dots, as printers name them; one of both is known to every printer of this format."""
_COLOUR_SPACE = {GREY_8: 18, RGB_8: 19}
_BYTES_PER_DOT = {GREY_8: 1, RGB_8: 3}
_RUN = re.compile(rb"(.)\1{0,127}", re.DOTALL)
"""Of equal dots: at most 128 are said at once."""
_ROWS_MAX = 256
_HEADER_BYTES = 1796


class Page(Struct, frozen=True):
    """A page in dots, 8 bits of grey each, row after row."""

    width: int
    height: int
    rows: bytes


def pages_of(pdf: bytes, dots_per_inch: int) -> Iterator[Page]:
    """The pages of a PDF, as they would be printed."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        for page in document:
            bitmap = page.render(scale=dots_per_inch / POINTS_PER_INCH, grayscale=True)
            try:
                stride, data = bitmap.stride, bytes(bitmap.buffer)
                rows = (data[at : at + bitmap.width] for at in range(0, stride * bitmap.height, stride))
                yield Page(bitmap.width, bitmap.height, b"".join(rows))
            finally:
                bitmap.close()
                page.close()
    finally:
        document.close()


def render_raster(pdf: bytes, dots_per_inch: int, kind: str = GREY_8) -> bytes:
    """The PDF as PWG raster of this kind of dots. Raises KeyError for another kind than `GREY_8` and `RGB_8`."""
    out = bytearray(SYNC)
    for page in pages_of(pdf, dots_per_inch):
        out += _header(page, dots_per_inch, kind)
        out += _compressed(page, _BYTES_PER_DOT[kind])
    return bytes(out)


def _header(page: Page, dots_per_inch: int, kind: str) -> bytes:
    """PWG 5102.4 table 1; what is not set here is 0, as the table wants it."""
    size = _BYTES_PER_DOT[kind]
    header = bytearray(_HEADER_BYTES)
    header[0:10] = b"PwgRaster\0"
    points = [round(dots * POINTS_PER_INCH / dots_per_inch) for dots in (page.width, page.height)]
    for at, value in (
        (276, dots_per_inch),
        (280, dots_per_inch),
        (340, 1),  # copies
        (352, points[0]),
        (356, points[1]),
        (372, page.width),
        (376, page.height),
        (384, 8),  # bits of a colour
        (388, 8 * size),  # bits of a dot
        (392, page.width * size),  # bytes of a row
        (400, _COLOUR_SPACE[kind]),
        (420, size),  # colours
        (456, 1),  # the picture is not turned: these two are 1 or -1
        (460, 1),
        (472, page.width),
        (476, page.height),
    ):
        struct.pack_into(">I", header, at, value)
    return bytes(header)


def _compressed(page: Page, bytes_per_dot: int) -> bytes:
    """Equal rows once with their number, and in a row runs of equal dots (PWG 5102.4 section 4.2)."""
    out = bytearray()
    rows = [page.rows[at : at + page.width] for at in range(0, len(page.rows), page.width)]
    for row, group in groupby(rows):
        packed = _packed(row, bytes_per_dot)
        left = sum(1 for _ in group)
        while left:
            count = min(left, _ROWS_MAX)
            out.append(count - 1)
            out += packed
            left -= count
    return bytes(out)


def _packed(row: bytes, bytes_per_dot: int) -> bytes:
    """Runs only: the letters of a receipt are few and the paper between them is wide."""
    runs = ((run.end() - run.start() - 1, run[1]) for run in _RUN.finditer(row))
    return b"".join(bytes((count,)) + dot * bytes_per_dot for count, dot in runs)
