"""What other people's programs see on paper: poppler the text and pages of PDF, zbar codes, CUPS the dots of raster."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import NamedTuple

_NO_CODE_ON_A_PAGE = 4
_HEADER_BYTES = 1796
"""Of `cups_page_header2_t`, which PWG raster has as well."""


def text_of(pdf: bytes) -> list[str]:
    """The lines of text, as they stand on paper; an empty one and a page's end are left out."""
    shown = _run("pdftotext", "-layout", "-enc", "UTF-8", "-", "-", given=pdf).decode()
    return [line.rstrip() for line in shown.replace("\f", "\n").split("\n") if line.strip()]


def facts_of(pdf: bytes) -> dict[str, str]:
    """What `pdfinfo` says: `Title`, `Pages`, `Page size`."""
    lines = _run("pdfinfo", "-", given=pdf).decode().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def fonts_of(pdf: bytes) -> str:
    """What `pdffonts` says."""
    return _run("pdffonts", "-", given=pdf).decode()


def codes_of(pdf: bytes) -> set[str]:
    """The codes on all pages, as a scanner would read them: `QR-Code:text`, `EAN-13:digits`, `CODE-128:text`."""
    with TemporaryDirectory() as folder:
        _run("pdftoppm", "-r", "300", "-gray", "-png", "-", f"{folder}/page", given=pdf)
        pages = sorted(map(str, Path(folder).glob("page*.png")))
        seen = _run("zbarimg", "--quiet", "--nodbus", *pages, good=(0, _NO_CODE_ON_A_PAGE))
        return set(seen.decode().split("\n")) - {""}


class Picture(NamedTuple):
    """A page as CUPS reads it, 8 bits of grey a dot."""

    width: int
    height: int
    dots_per_inch: int
    colours: int
    points: tuple[int, int]
    rows: bytes


def pictures_of(raster: bytes) -> list[Picture]:
    """The pages of PWG raster, read by libcups; colours are taken for grey. Fails for what CUPS cannot read."""
    cups = ctypes.CDLL("libcups.so.2")
    cups.cupsRasterOpen.restype = ctypes.c_void_p
    with TemporaryFile() as file:
        file.write(raster)
        file.seek(0)
        stream = ctypes.c_void_p(cups.cupsRasterOpen(file.fileno(), 0))
        assert stream.value is not None, "CUPS takes it for no raster"
        pages, header = [], ctypes.create_string_buffer(_HEADER_BYTES)
        try:
            while cups.cupsRasterReadHeader2(stream, header):
                pages.append(_picture(cups, stream, header.raw))
        finally:
            cups.cupsRasterClose(stream)
    return pages


def _picture(cups: ctypes.CDLL, stream: ctypes.c_void_p, header: bytes) -> Picture:
    def number(at: int) -> int:
        return int.from_bytes(header[at : at + 4], sys.byteorder)

    width, height, row_bytes, colours = number(372), number(376), number(392), number(420)
    row, rows = ctypes.create_string_buffer(row_bytes), []
    for _ in range(height):
        assert cups.cupsRasterReadPixels(stream, row, row_bytes) == row_bytes, "it ends too soon"
        rows.append(row.raw[::colours])
    return Picture(width, height, number(276), colours, (number(352), number(356)), b"".join(rows))


def codes_on(picture: Picture) -> set[str]:
    """The codes on a picture, like `codes_of`."""
    with TemporaryDirectory() as folder:
        page = Path(folder) / "page.pgm"
        page.write_bytes(b"P5 %d %d 255\n" % (picture.width, picture.height) + picture.rows)
        seen = _run("zbarimg", "--quiet", "--nodbus", str(page), good=(0, _NO_CODE_ON_A_PAGE))
        return set(seen.decode().split("\n")) - {""}


def _run(*command: str, given: bytes | None = None, good: tuple[int, ...] = (0,)) -> bytes:
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert done.returncode in good, (command, done.returncode, done.stderr)
    return done.stdout
