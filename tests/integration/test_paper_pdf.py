"""A receipt as PDF, read back by programs that other people wrote: poppler for text and pages, zbar for codes."""

from __future__ import annotations

import pytest

from hubd.model.printing import Align, Barcode, Cut, Logo, PrintDocument, Qr, Row, Rule, Text
from hubd.paper.pdf import A4, ROLL_80, PageSize, render_pdf
from tests.rigs import pdf

RECEIPT = PrintDocument(
    "Reçu T1-000123",
    (
        Logo(16, b"\xff\x81\x10\x04\x01\x81"),
        Text("Café de la Gare", Align.CENTER, bold=True, large=True),
        Rule(),
        Row("Cappuccino à l’avoine", "4,10 €"),
        Row("Hot-dog “maison”", "1\u202f234,50 €"),
        Row("Totaal", "1 238,60 €", bold=True),
        Text("Łódź, Ωμέγα", Align.RIGHT),
        Qr("https://hub.test/r/T1-000123?p=4,10"),
        Barcode("4006381333931", "ean13"),
        Barcode("T1-000123"),
        Barcode("4006381333930", "ean13"),
        Cut(),
        Text("Exemplaire commerçant"),
        Cut(),
    ),
    "fr",
)
TEXT = [
    "Café de la Gare",
    "-" * 42,
    "Cappuccino à l’avoine               4,10 €",
    "Hot-dog “maison”                1 234,50 €",
    "Totaal                          1 238,60 €",
    "?ódz, ?????",  # what WinAnsi lacks looks alike or says that it is lacking
    "4006381333931",
    "T1-000123",
    "4006381333930",  # its check digit is wrong: no code, and not lost
    "Exemplaire commerçant",
]


def words(lines: list[str]) -> list[list[str]]:
    """Where a page is wider or its letters are larger, the gaps between words are not the same."""
    return [line.split() for line in lines]


@pytest.mark.parametrize("size", [ROLL_80, A4, PageSize(58, None, 42, 3)])
def test_all_text_is_found_in_its_order(size: PageSize) -> None:
    expected = [line.replace("-" * 42, "-" * size.columns) for line in TEXT]
    assert words(pdf.text_of(render_pdf(RECEIPT, size))) == words(expected)


def test_figures_stand_in_their_column() -> None:
    shown = [line for line in pdf.text_of(render_pdf(RECEIPT)) if line.endswith("€")]
    assert shown == TEXT[2:5]


def test_lines_stand_where_they_are_wanted() -> None:
    lines = (Rule(), Text("left"), Text("middle", Align.CENTER), Text("right", Align.RIGHT))
    shown = pdf.text_of(render_pdf(PrintDocument("Sides", lines)))
    assert shown[1:] == ["left", " " * 18 + "middle", " " * 37 + "right"]


@pytest.mark.parametrize("size", [ROLL_80, A4])
def test_codes_can_be_scanned(size: PageSize) -> None:
    assert pdf.codes_of(render_pdf(RECEIPT, size)) == {
        "QR-Code:https://hub.test/r/T1-000123?p=4,10",
        "EAN-13:4006381333931",
        "CODE-128:T1-000123",
    }


def test_the_largest_qr_code_can_be_scanned_on_the_narrowest_roll() -> None:
    data = "x" * 300
    made = render_pdf(PrintDocument("Code", (Qr(data),)), PageSize(58, None, 32, 5))
    assert pdf.codes_of(made) == {f"QR-Code:{data}"}


def test_a_cut_begins_a_page_and_a_roll_ends_with_its_text() -> None:
    roll, sheets = pdf.facts_of(render_pdf(RECEIPT)), pdf.facts_of(render_pdf(RECEIPT, A4))
    assert (roll["Pages"], sheets["Pages"]) == ("2", "2")
    assert roll["Title"] == "Reçu T1-000123"
    width, height = map(float, roll["Page size"].split()[0:3:2])
    assert round(width / 72 * 25.4) == 80
    assert 60 < height / 72 * 25.4 < 110
    assert "(A4)" in sheets["Page size"]


def test_what_is_longer_than_a_sheet_goes_on_with_the_next_one() -> None:
    rows = tuple(Row(f"Article {number}", f"{number},00") for number in range(200))
    made = render_pdf(PrintDocument("Long", rows), A4)
    assert words(pdf.text_of(made)) == [["Article", str(number), f"{number},00"] for number in range(200)]
    assert pdf.facts_of(made)["Pages"] == "4"


def test_every_reader_has_its_letters() -> None:
    made = pdf.fonts_of(render_pdf(RECEIPT))
    fonts = [line.split()[0] for line in made.splitlines()[2:]]
    assert sorted(fonts) == ["Courier", "Courier-Bold", "Helvetica"]  # the last is named and not used
    assert made.count("WinAnsi") == 3
