"""What other people's programs see in a PDF: poppler its text and pages, zbar the codes on them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

_NO_CODE_ON_A_PAGE = 4


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


def _run(*command: str, given: bytes | None = None, good: tuple[int, ...] = (0,)) -> bytes:
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    assert done.returncode in good, (command, done.returncode, done.stderr)
    return done.stdout
