"""What a printer's attributes mean: trouble, paper, format and page."""

from __future__ import annotations

import pytest

from drivers.ipp_codec import Operation, PrinterState
from drivers.ipp_printer import REMEDIES, facts_of, rendered
from hubd.model.ipp import Resolution, Value
from hubd.model.printing import Align, Cut, Logo, PrintDocument, Qr, Row, Text
from hubd.paper.pdf import A4
from hubd.ports import Paper, PrinterCondition

UTF_8 = "text/plain;charset=utf-8"


def said(**values: Value | tuple[Value, ...]) -> dict[str, tuple[Value, ...]]:
    made = {name.replace("_", "-"): value if isinstance(value, tuple) else (value,) for name, value in values.items()}
    return {"printer-state": (PrinterState.IDLE,), **made}


@pytest.mark.parametrize(
    ("state", "reasons", "trouble", "paper", "cover"),
    [
        (3, ("none",), "", Paper.OK, False),
        (4, ("media-low-warning", "toner-low-report"), "", Paper.LOW, False),
        (3, ("media-low",), "", Paper.LOW, False),
        (3, ("media-empty-warning",), "", Paper.OK, False),  # of one of its trays
        (5, ("media-empty-warning",), "paper_out", Paper.OK, False),
        (5, ("media-needed-error",), "paper_out", Paper.OUT, False),
        (3, ("media-empty",), "paper_out", Paper.OUT, False),
        (5, ("cover-open", "media-jam-error"), "paper_jam", Paper.OK, True),
        (3, ("door-open-error",), "cover_open", Paper.OK, True),
        (5, ("marker-supply-empty-error",), "out_of_ink", Paper.OK, False),
        (5, ("paused",), "paused", Paper.OK, False),
        (5, ("com.example-strange-error",), "stopped", Paper.OK, False),
    ],
)
def test_trouble(state: int, reasons: tuple[str, ...], trouble: str, paper: Paper, cover: bool) -> None:
    facts = facts_of(said(printer_state=state, printer_state_reasons=reasons))
    assert facts.trouble == trouble
    assert facts.condition == PrinterCondition(paper, cover)
    assert not trouble or REMEDIES[trouble]


def test_a_printer_that_takes_no_jobs_now_says_so() -> None:
    assert facts_of(said(printer_is_accepting_jobs=False)).trouble == "not_accepting"
    assert facts_of(said(printer_is_accepting_jobs=True)).trouble == ""
    assert facts_of({}).trouble == ""


@pytest.mark.parametrize(
    ("formats", "chosen"),
    [
        (("text/plain", "image/urf", "application/pdf"), "application/pdf"),
        (("text/plain", "image/urf", UTF_8), UTF_8),
        (("text/plain; charset=UTF-8",), "text/plain; charset=UTF-8"),
        (("image/jpeg", "text/plain"), "text/plain"),
        (("image/pwg-raster", "text/plain"), "text/plain"),  # of dots that it does not tell
        (("image/jpeg", "application/octet-stream"), ""),
        ((), ""),
    ],
)
def test_format(formats: tuple[str, ...], chosen: str) -> None:
    assert facts_of(said(document_format_supported=formats)).format == chosen


def dots(*per_inch: int, unit: int = 3) -> tuple[Resolution, ...]:
    return tuple(Resolution(one, one, unit) for one in per_inch)


@pytest.mark.parametrize(
    ("resolutions", "kinds", "chosen"),
    [
        (dots(600, 300, 1200), ("black_1", "srgb_8", "sgray_8"), ("image/pwg-raster", 300, "sgray_8")),
        (dots(360), ("srgb_8",), ("image/pwg-raster", 360, "srgb_8")),
        (dots(1200), ("sgray_8",), ("", 0, "sgray_8")),
        (dots(118, unit=4), ("sgray_8",), ("", 0, "sgray_8")),
        (dots(300), ("black_1",), ("", 300, "")),
        ((b"short",), ("sgray_8",), ("", 0, "sgray_8")),
    ],
)
def test_raster(resolutions: tuple[bytes, ...], kinds: tuple[str, ...], chosen: tuple[str, int, str]) -> None:
    told: dict[str, tuple[Value, ...]] = {
        "pwg-raster-document-resolution-supported": resolutions,
        "pwg-raster-document-type-supported": kinds,
        "document-format-supported": ("image/urf", "image/pwg-raster"),
    }
    facts = facts_of(said() | told)
    assert (facts.format, facts.resolution, facts.dots) == chosen


@pytest.mark.parametrize(
    ("media", "width", "height"),
    [
        ("iso_a4_210x297mm", 210, 297),
        ("na_letter_8.5x11in", 215.9, 279.4),
        ("iso_a5_148x210mm", 148, 210),
        ("om_receipt_80x3276mm", 80, None),
        ("oe_roll_3.125x100in", 79.375, None),
        ("custom_max_5000x9000mm", A4.width_mm, A4.height_mm),
        ("custom_1.2.3x4mm", A4.width_mm, A4.height_mm),
        ("any", A4.width_mm, A4.height_mm),
    ],
)
def test_page(media: str, width: float, height: float | None) -> None:
    page = facts_of(said(media_default=media)).page
    assert page.width_mm == pytest.approx(width)
    assert page.height_mm == (None if height is None else pytest.approx(height))
    other = facts_of(said(media_default="iso_a3_297x420mm", media_ready=("any", media))).page
    assert other == page or page == A4, "what lies in it comes first"


def test_it_must_know_what_is_asked_of_it() -> None:
    needed = (Operation.PRINT_JOB, Operation.GET_JOBS, Operation.GET_JOB_ATTRIBUTES)
    assert facts_of(said(operations_supported=needed)).takes_jobs
    for one in needed:
        assert not facts_of(said(operations_supported=tuple({*needed} - {one}))).takes_jobs


def test_uuid() -> None:
    uuid = "6c1c0f5e-2f47-4b4a-9d35-4f6b0e0a1201"
    assert facts_of(said(printer_uuid=f"urn:uuid:{uuid}")).uuid == uuid
    for other in ("1234-ab", "5204739684211358", f"{uuid}5204739684211358", f"{uuid} 5204739684211358", "x" * 5000):
        assert facts_of(said(printer_uuid=f"urn:uuid:{other}")).uuid == "", "only a UUID is one"


RECEIPT = PrintDocument(
    "Receipt",
    (
        Logo(8, b"x"),
        Text("Café", Align.CENTER),
        Row("Thé", "1,20 €"),
        Qr("https://x.test"),
        Text("fin", Align.RIGHT),
        Cut(),
    ),
)


async def test_plain_text_is_set_in_columns_and_without_utf_8_spelt_in_ascii() -> None:
    roll = said(media_default="om_receipt_80x200mm", document_format_supported=UTF_8)
    assert (await rendered(RECEIPT, facts_of(roll))).decode().split("\r\n") == [
        " " * 19 + "Café",
        "Thé" + " " * 33 + "1,20 €",
        " " * 14 + "https://x.test",
        " " * 39 + "fin",
        "\f",
    ]
    plain = await rendered(RECEIPT, facts_of(roll | {"document-format-supported": ("text/plain",)}))
    assert plain.decode("ascii").split("\r\n")[:2] == [" " * 19 + "Cafe", "The" + " " * 31 + "1,20 EUR"]


async def test_a_cut_ends_a_page_of_text_and_no_page_is_empty() -> None:
    document = PrintDocument("Two", (Cut(), Text("one"), Cut(), Cut(), Text("two")))
    assert await rendered(document, facts_of(said(document_format_supported="text/plain"))) == b"one\r\n\ftwo\r\n\f"
    assert (
        await rendered(PrintDocument("None", (Cut(),)), facts_of(said(document_format_supported="text/plain"))) == b""
    )


async def test_pdf_where_it_is_taken() -> None:
    assert (await rendered(RECEIPT, facts_of(said(document_format_supported="application/pdf")))).startswith(b"%PDF-")
