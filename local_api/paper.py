"""Papers as answers: the same document as a page to print from a browser, and as PDF for mail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from msgspec import Struct

from hubd.model.printing import PrintDocument

JSON, HTML, PDF = "application/json", "text/html", "application/pdf"
_CLOSED = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class Paper(Struct, frozen=True):
    """A document as it leaves the hub."""

    body: bytes
    media_type: str
    headers: Mapping[str, str]


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The media type that the caller likes best (RFC 9110, 12.5.1); the first one offered if he likes none or all.

    For each type the most specific range counts, and of equally good ones the first offered is taken.
    """
    ranges: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        ranges[name] = _weight(weight)

    def liking(media: str) -> float:
        kind = media.partition("/")[0]
        return next((ranges[one] for one in (media, f"{kind}/*", "*/*") if one in ranges), 0.0)

    return max(offered, key=liking)


def _weight(text: str) -> float:
    whole, _, part = text.partition(".")
    plain = text.isascii() and whole in {"0", "1"} and (part.isdigit() or not part)
    return min(1.0, float(text)) if plain else 0.0


async def rendered(document: PrintDocument, columns: int, media: str) -> Paper:
    """The document as `HTML` or `PDF`. Made in a thread: the library for PDF alone takes a second to load."""
    if media == PDF:
        name = (
            "".join(one if one.isascii() and one.isalnum() else "-" for one in document.title).strip("-") or "receipt"
        )
        headers = {"content-disposition": f'inline; filename="{name}.pdf"', "content-security-policy": _CLOSED}
        return Paper(await asyncio.to_thread(partial(_pdf, document, columns)), PDF, headers)
    body, style = await asyncio.to_thread(partial(_html, document, columns))
    return Paper(body, f"{HTML}; charset=utf-8", {"content-security-policy": f"{_CLOSED}; style-src {style}"})


def _pdf(document: PrintDocument, columns: int) -> bytes:
    from hubd.paper.pdf import ROLL_80, PageSize, render_pdf

    return render_pdf(document, PageSize(ROLL_80.width_mm, None, columns, ROLL_80.margin_mm))


def _html(document: PrintDocument, columns: int) -> tuple[bytes, str]:
    from hubd.paper.html import CSP_STYLE, render_html

    return render_html(document, columns), CSP_STYLE
