"""PWG raster, what driverless clients send (PWG 5102.4), into black and white pictures. Pure.

Two of its types: `black_1`, and `sgray_8`, whose grey is black below the middle.
"""

from __future__ import annotations

import struct

from hubd.model.printing import Cut, Item, Logo

MAGIC = b"RaS2"
PAGES_MAX = 20
ROWS_MAX, WIDTH_MAX = 20_000, 4_096
"""Of a page, in dots: what claims more is no receipt."""
PICTURE_BYTES_MAX = ROWS_MAX * WIDTH_MAX // 8
"""Of all pages together: packed, they may be a thousandth of that."""
BAND_ROWS = 240
_HEADER_BYTES = 1796
_WIDTH_AT, _SPACE_AT = 372, 400
_SGRAY, _BLACK = 18, 3
_DARK = bytes(ord("1") if level < 128 else ord("0") for level in range(256))


class RasterError(ValueError):
    """These bytes are no picture that is printed here."""


def pictures_of(data: bytes) -> tuple[Item, ...]:
    """The pages as bands of dots, each page with a cut; white at the end of a page is left out. Raises RasterError."""
    if not data.startswith(MAGIC):
        raise RasterError("it does not begin as one")
    items: list[Item] = []
    at, pages, size = len(MAGIC), 0, 0
    while at < len(data):
        pages += 1
        if pages > PAGES_MAX:
            raise RasterError(f"it has more than {PAGES_MAX} pages")
        rows, width_bytes, at = _page(data, at)
        while rows and not any(rows[-1]):
            rows.pop()
        size += len(rows) * width_bytes
        if size > PICTURE_BYTES_MAX:
            raise RasterError("all its pages are longer than a receipt")
        for start in range(0, len(rows), BAND_ROWS):
            items.append(Logo(8 * width_bytes, b"".join(rows[start : start + BAND_ROWS])))
        items.append(Cut())
    if not pages:
        raise RasterError("it has no page")
    return tuple(items)


def _page(data: bytes, at: int) -> tuple[list[bytes], int, int]:
    header = data[at : at + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES or not header.startswith(b"PwgRaster\0"):
        raise RasterError("a page has no header")
    width, height, _, _, bits, bytes_per_line = struct.unpack_from(">6I", header, _WIDTH_AT)
    (space,) = struct.unpack_from(">I", header, _SPACE_AT)
    if (space, bits) not in ((_SGRAY, 8), (_BLACK, 1)):
        raise RasterError(f"its type ({space}, {bits} bits) is not printed here")
    if not (0 < width <= WIDTH_MAX and 0 < height <= ROWS_MAX and bytes_per_line == -(-width * bits // 8)):
        raise RasterError("its size is not that of a receipt")
    at += _HEADER_BYTES
    rows: list[bytes] = []
    while len(rows) < height:
        if at >= len(data):
            raise RasterError("it ends too early")
        times = data[at] + 1
        line, at = _line(data, at + 1, bytes_per_line, b"\xff" if space == _SGRAY else b"\0")
        rows += [_dots(line, width) if bits == 8 else _cut_off(line, width)] * times
    return rows[:height], -(-width // 8), at


def _line(data: bytes, at: int, size: int, white: bytes) -> tuple[bytes, int]:
    """One line as it was before it was packed, and where the next one begins."""
    line = bytearray()
    while len(line) < size:
        if at >= len(data):
            raise RasterError("it ends too early")
        code = data[at]
        if code == 128:
            line += white * (size - len(line))
            at += 1
        elif code < 128:
            line += data[at + 1 : at + 2] * (code + 1)
            at += 2
        else:
            line += data[at + 1 : at + 258 - code]
            at += 258 - code
    if len(line) != size or at > len(data):
        raise RasterError("a line has the wrong length")
    return bytes(line), at


def _dots(line: bytes, width: int) -> bytes:
    """Grey to black and white, eight dots a byte, the leftmost in the highest bit."""
    text = line.translate(_DARK).ljust(-(-width // 8) * 8, b"0")
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _cut_off(line: bytes, width: int) -> bytes:
    """The line without what lies behind its last dot."""
    spare = 8 * len(line) - width
    return line[:-1] + bytes((line[-1] >> spare << spare,)) if spare else line
