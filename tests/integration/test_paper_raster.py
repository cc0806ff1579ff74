"""A receipt as PWG raster, read back by CUPS; the codes on it are read as a scanner would."""

from __future__ import annotations

import pytest

from hubd.model.printing import Align, Barcode, Cut, PrintDocument, Qr, Row, Text
from hubd.paper.pdf import A4, ROLL_80, render_pdf
from hubd.paper.raster import GREY_8, RGB_8, pages_of, render_raster
from tests.rigs import pdf

RECEIPT = PrintDocument(
    "Receipt",
    (
        Text("Café de la Gare", Align.CENTER, bold=True, large=True),
        Row("Crème", "4,20 €"),
        Qr("https://x.test/1"),
        Barcode("4006381333931", "ean13"),
        Cut(),
        Text("Exemplaire commerçant"),
    ),
)


@pytest.mark.parametrize("dots_per_inch", [300, 600])
@pytest.mark.parametrize(("kind", "colours"), [(GREY_8, 1), (RGB_8, 3)])
def test_cups_reads_every_dot_that_was_drawn(kind: str, colours: int, dots_per_inch: int) -> None:
    made = render_pdf(RECEIPT, ROLL_80)
    drawn = list(pages_of(made, dots_per_inch))
    read = pdf.pictures_of(render_raster(made, dots_per_inch, kind))
    assert [(one.width, one.height, one.rows) for one in read] == [(one.width, one.height, one.rows) for one in drawn]
    assert {(one.dots_per_inch, one.colours) for one in read} == {(dots_per_inch, colours)}
    assert [round(one.width / dots_per_inch * 25.4) for one in read] == [80, 80]
    assert pdf.codes_on(read[0]) == {"QR-Code:https://x.test/1", "EAN-13:4006381333931"}
    assert pdf.codes_on(read[1]) == set()
    assert 0.5 < read[1].rows.count(255) / len(read[1].rows) < 0.999, "letters on white paper"


def test_a_sheet_has_its_size_and_little_data() -> None:
    made = render_raster(render_pdf(RECEIPT, A4), 300)
    first, _ = pdf.pictures_of(made)
    assert first.points == (595, 842)
    assert (first.width, first.height) == (2481, 3508)
    assert len(made) < 300_000, "white paper takes no room"


def test_the_same_document_is_the_same_picture() -> None:
    assert render_raster(render_pdf(RECEIPT), 300) == render_raster(render_pdf(RECEIPT), 300)
