"""The same words on paper, on the page and in PDF, each read back by a program that did not write them."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from drivers.escpos_codec import encode_document
from drivers.sim.escpos.paper import Paper
from drivers.sim.escpos.receiver import Receiver
from hubd.model.printing import PrintDocument, lay_out
from hubd.model.receipt_layout import parse_layout
from hubd.paper.html import render_html
from hubd.paper.pdf import ROLL_80, PageSize, render_pdf
from hubd.services.receipt_paper import marked, receipt_document
from tests.rigs import pdf
from tests.unit.paper.receipts import offline_receipt

HEADER, FOOTER = "12, rue de l'Église — Liège", "Merci & à bientôt <3"


class _Lines(HTMLParser):
    """The text of every paragraph of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "p"
        if self._inside:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.lines[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def on_paper(document: PrintDocument, columns: int) -> list[str]:
    paper, receiver = Paper(columns), Receiver()
    for byte in b"".join(encode_document(lay_out(document, columns), columns)):
        for command in receiver.take(byte)[1]:
            paper.do(command)
    return [line.text for receipt in paper.receipts for line in receipt.lines if line.kind == "text"]


def on_page(document: PrintDocument, columns: int) -> list[str]:
    reader = _Lines()
    reader.feed(render_html(document, columns).decode())
    return reader.lines


def in_pdf(document: PrintDocument, columns: int) -> list[str]:
    return pdf.text_of(render_pdf(document, PageSize(ROLL_80.width_mm, None, columns, ROLL_80.margin_mm)))


def words(lines: list[str]) -> list[list[str]]:
    """Line by line; poppler sees gaps of another width beside large letters."""
    return [line.split() for line in lines if line.strip()]


@pytest.mark.parametrize("columns", [32, 42])
@pytest.mark.parametrize("purpose", ["customer", "merchant"])
@pytest.mark.parametrize("language", ["en", "fr", "nl"])
def test_the_three_renderings_say_the_same(language: str, purpose: str, columns: int) -> None:
    layout = parse_layout({"language": language, "header": [HEADER], "footer": [FOOTER]})
    document = marked(receipt_document(offline_receipt(language), purpose, layout), 2)
    paper = words(on_paper(document, columns))
    assert ["Chez", "Émile"] in paper
    assert FOOTER.split() in paper
    assert words(on_page(document, columns)) == paper
    assert words(in_pdf(document, columns)) == paper
