"""A document as a page of its own: the lines of `hubd.model.printing.lay_out`, no wider than a phone, to be printed.

Everything that comes from people is escaped. The page needs nothing from elsewhere, and runs no script: `CSP_STYLE` is
the one style that a policy has to allow.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from html import escape

import segno

from hubd.model.printing import Barcode, Cut, Drawer, Line, Logo, PrintDocument, Qr, Raw, as_text, code_valid, lay_out
from hubd.paper.text import read_raw

_STYLE = (
    ":root{color-scheme:light}"
    "body{margin:0;background:#e9e9e6;color:#000}"
    "main{margin:1rem auto;padding:1rem;background:#fff;width:max-content;max-width:calc(100vw - 2rem);"
    "box-sizing:border-box}"
    "p{margin:0;min-height:1.4em;white-space:pre-wrap;"
    'font:.9375rem/1.4 ui-monospace,"DejaVu Sans Mono","Liberation Mono",monospace}'
    "@media(max-width:30rem){main{margin:0 auto;padding:.75rem;max-width:100vw}"
    "p{font-size:min(.9375rem,calc((100vw - 1.5rem)/var(--columns)/.605))}}"
    ".center{text-align:center}.right{text-align:right}.bold{font-weight:700}"
    ".large{font-size:1.875rem;line-height:1.2}"
    "@media(max-width:30rem){.large{font-size:min(1.875rem,calc((100vw - 1.5rem)/var(--columns)/.3025))}}"
    "svg{display:block;margin:.5rem auto;max-width:100%;height:auto}"
    "hr{border:0;border-top:2px dashed #888;margin:1.5rem -1rem}"
    "@media print{body{background:#fff}main{margin:0;padding:0;max-width:none}hr{visibility:hidden;break-after:page}}"
)
_WIDTHS = "".join(f".c{columns}{{--columns:{columns}}}" for columns in range(16, 97))
STYLE = _STYLE + _WIDTHS
"""Widths are classes, because a policy that allows one style by its digest allows no `style` attributes."""
CSP_STYLE = f"'sha256-{b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
"""For `style-src` of a content security policy."""


def render_html(document: PrintDocument, columns: int = 42) -> bytes:
    """The document in UTF-8, in lines of at most `columns` characters. Raises ValueError for a width of no printer."""
    parts = list(lay_out(document, columns))
    while parts and isinstance(parts[-1], (Cut, Drawer)):
        parts.pop()
    body = "\n".join(made for part in parts for made in _part(part, columns))
    return (
        f'<!doctype html>\n<html lang="{escape(document.language)}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f'<body>\n<main class="c{columns}">\n{body}\n</main>\n</body>\n</html>\n'
    ).encode()


def _part(part: Line | Qr | Barcode | Logo | Cut | Drawer | Raw, columns: int) -> Iterator[str]:
    match part:
        case Line():
            yield _line(part)
        case Qr() if code_valid(part):
            yield segno.make_qr(part.data, error="m", boost_error=False).svg_inline(scale=4, title=part.data)
        case Qr() | Barcode():
            yield from map(_line, as_text(part, columns))
        case Logo() if part.width >= 8 and part.height:
            yield _logo(part)
        case Raw():
            yield from map(_line, read_raw(part, columns))
        case Cut():
            yield "<hr>"


def _line(line: Line) -> str:
    names = [line.align.value, *(["bold"] if line.bold else []), *(["large"] if line.large else [])]
    return f'<p class="{" ".join(names)}">{escape(line.text)}</p>'


def _logo(logo: Logo) -> str:
    """Its black dots as one path; says nothing to those who do not see it."""
    across = logo.width // 8
    path: list[str] = []
    for y in range(logo.height):
        row = logo.rows[y * across : (y + 1) * across]
        bits = f"{int.from_bytes(row, 'big'):0{logo.width}b}0"
        start = bits.find("1")
        while start >= 0:
            end = bits.index("0", start)
            path.append(f"M{start} {y}h{end - start}v1h-{end - start}z")
            start = bits.find("1", end)
    return (
        f'<svg aria-hidden="true" width="{logo.width // 2}" height="{logo.height // 2}" '
        f'viewBox="0 0 {logo.width} {logo.height}"><path d="{"".join(path)}"/></svg>'
    )
