"""What an IPP printer says of itself, and what follows from it: trouble, paper, and the form it takes documents in."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator

from msgspec import Struct

from drivers.ipp_codec import Attributes, Operation, PrinterState, number, resolutions, words
from hubd.model.printing import PrintDocument
from hubd.paper.pdf import A4, ROLL_80, PageSize, render_pdf
from hubd.paper.raster import GREY_8, RGB_8, render_raster
from hubd.paper.text import render_text
from hubd.ports import Paper, PrinterCondition

ASKED = (
    "pwg-raster-document-resolution-supported", "pwg-raster-document-type-supported",
    "document-format-supported", "media-default", "media-ready", "operations-supported", "printer-is-accepting-jobs",
    "printer-make-and-model", "printer-state", "printer-state-reasons", "printer-uuid",
)  # fmt: skip
PDF, RASTER, TEXT = "application/pdf", "image/pwg-raster", "text/plain"
RESOLUTION_USUAL, RESOLUTION_MAX = 300, 600
"""Dots an inch."""
_UTF_8 = re.compile(r"text/plain; ?charset=utf-8", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_MEDIA = re.compile(r"_([0-9.]{1,9})x([0-9.]{1,9})(mm|in)$")
"""PWG 5101.1: `iso_a4_210x297mm`, `na_letter_8.5x11in`."""
ROLL_WIDTH_MAX_MM = 112
"""Paper that is no wider comes from a roll, and ends where the text does."""
SHEET_MIN_MM, SHEET_MAX_MM = 90.0, 1200.0
SHEET_COLUMNS, SHEET_MARGIN_MM, ROLL_MARGIN_MM = 64, 20.0, 4.0

_ONE_AT_A_TIME = threading.Lock()
"""PDFium serves one thread at a time."""
_TROUBLES = {
    "media-empty": "paper_out",
    "media-needed": "paper_out",
    "media-jam": "paper_jam",
    "cover-open": "cover_open",
    "door-open": "cover_open",
    "interlock-open": "cover_open",
    "input-tray-missing": "tray_missing",
    "toner-empty": "out_of_ink",
    "marker-supply-empty": "out_of_ink",
    "output-area-full": "output_full",
    "paused": "paused",
    "moving-to-paused": "paused",
    "fuser-over-temp": "overheated",
}
"""By keywords of RFC 8011 5.4.12, the one that a person sees to first at the top."""
_HARMLESS = ("-report", "-warning")
REMEDIES = {
    "paper_out": "Put in paper and close the printer.",
    "paper_jam": "Take out the paper that is stuck, as the printer shows it.",
    "cover_open": "Close the printer's cover or door.",
    "tray_missing": "Push the paper tray in as far as it goes.",
    "out_of_ink": "Replace the toner or ink that the printer names.",
    "output_full": "Take the printed paper away.",
    "paused": "Let the printer go on, by its own button or page.",
    "overheated": "Let the printer cool down for some minutes.",
    "stopped": "Read the printer's display.",
    "not_accepting": "Let the printer take jobs again, on its own page.",
    "busy": "Wait until the printer is done with what others print.",
    "no_answer": "Switch the printer off and on.",
    "unreachable": "Check the printer's power and its network; the hub reconnects by itself.",
    "no_drawer": "Open the drawer with its key, or connect it to a receipt printer.",
}


class PrinterFacts(Struct, frozen=True):
    """The answer to Get-Printer-Attributes, as far as it matters here."""

    uuid: str = ""
    trouble: str = ""
    """Why it does not print now; empty when it does."""
    condition: PrinterCondition = PrinterCondition()
    format: str = ""
    """The best of its document formats that can be made here; empty when there is none."""
    page: PageSize = A4
    resolution: int = RESOLUTION_USUAL
    dots: str = ""
    """Resolution and kind of dots of raster pictures; "" when it knows none that can be made here."""
    takes_jobs: bool = False
    """Whether it knows the operations that are needed."""


def facts_of(said: Attributes) -> PrinterFacts:
    """What the printer's attributes mean. What it does not say is taken for well."""
    operations = set(said.get("operations-supported", ()))
    kinds = words(said, "pwg-raster-document-type-supported")
    dots = next((kind for kind in (GREY_8, RGB_8) if kind in kinds), "")
    resolution = _resolution(resolutions(said, "pwg-raster-document-resolution-supported"))
    return PrinterFacts(
        uuid=_uuid(next(iter(words(said, "printer-uuid")), "")),
        trouble=_trouble(said),
        condition=_condition(said),
        format=_format(words(said, "document-format-supported"), can_draw=bool(dots and resolution)),
        page=_page((*words(said, "media-ready"), *words(said, "media-default"))),
        resolution=resolution,
        dots=dots,
        takes_jobs=operations >= {Operation.PRINT_JOB, Operation.GET_JOB_ATTRIBUTES, Operation.GET_JOBS},
    )


def _uuid(said: str) -> str:
    """What stays with the printer; empty when that is no UUID, for anything else may hold a card number."""
    name = said.removeprefix("urn:uuid:")
    return name if _UUID.fullmatch(name) else ""


def _reasons(said: Attributes) -> Iterator[str]:
    """What is wrong; a reason without a suffix counts as an error."""
    for reason in words(said, "printer-state-reasons"):
        if not reason.endswith(_HARMLESS):
            yield reason.removesuffix("-error")


def _trouble(said: Attributes) -> str:
    """A printer with several trays says of an empty one, as a warning, that it is empty: it still prints."""
    reasons = set(_reasons(said))
    stopped = number(said, "printer-state") == PrinterState.STOPPED
    if stopped:
        reasons |= {reason.removesuffix("-warning") for reason in words(said, "printer-state-reasons")}
    for reason, trouble in _TROUBLES.items():
        if reason in reasons:
            return trouble
    if stopped:
        return "stopped"
    return "not_accepting" if said.get("printer-is-accepting-jobs") == (False,) else ""


def _condition(said: Attributes) -> PrinterCondition:
    troubles = {_TROUBLES.get(reason, "") for reason in _reasons(said)}
    low = any(reason.startswith("media-low") for reason in words(said, "printer-state-reasons"))
    fed = Paper.LOW if low else Paper.OK
    return PrinterCondition(Paper.OUT if "paper_out" in troubles else fed, "cover_open" in troubles)


def _resolution(known: tuple[int, ...]) -> int:
    """The one that is nearest to the usual one; 0 when it knows none."""
    usable = [one for one in known if 0 < one <= RESOLUTION_MAX]
    return min(usable, key=lambda one: abs(one - RESOLUTION_USUAL), default=0)


def _format(supported: tuple[str, ...], *, can_draw: bool) -> str:
    if PDF in supported:
        return PDF
    if RASTER in supported and can_draw:
        return RASTER
    return next((one for one in supported if _UTF_8.fullmatch(one)), TEXT if TEXT in supported else "")


def _page(media: tuple[str, ...]) -> PageSize:
    """The first paper whose size its name tells; A4 when none does."""
    for name in media:
        found = _MEDIA.search(name)
        if found is None:
            continue
        try:
            unit = 25.4 if found[3] == "in" else 1.0
            width, height = float(found[1]) * unit, float(found[2]) * unit
        except ValueError:
            continue
        if ROLL_80.width_mm / 2 <= width <= ROLL_WIDTH_MAX_MM:
            return PageSize(width, None, ROLL_80.columns, ROLL_MARGIN_MM)
        if min(width, height) >= SHEET_MIN_MM and max(width, height) <= SHEET_MAX_MM:
            return PageSize(width, height, SHEET_COLUMNS, SHEET_MARGIN_MM)
    return A4


def _drawn(pdf: bytes, facts: PrinterFacts) -> bytes:
    with _ONE_AT_A_TIME:
        return render_raster(pdf, facts.resolution, facts.dots)


async def rendered(document: PrintDocument, facts: PrinterFacts) -> bytes:
    """The document in the printer's format. A picture is drawn in a thread."""
    if facts.format == PDF:
        return render_pdf(document, facts.page)
    if facts.format == RASTER:
        pdf = render_pdf(document, facts.page)
        return await asyncio.to_thread(_drawn, pdf, facts)
    ascii_only = facts.format == TEXT
    return render_text(document, facts.page.columns, ascii_only=ascii_only).encode("utf-8")
