"""A job that was made for a receipt printer, as every rendering shows it: its text."""

from __future__ import annotations

from hubd.model.printing import PrintDocument, pack_raw
from hubd.paper.html import render_html
from hubd.paper.pdf import render_pdf
from hubd.paper.text import render_text
from tests.rigs.pdf import text_of

JOB = pack_raw(b"\x1b@\x1ba\x01KITCHEN\n\x1ba\x002 x <Soup>\n\x1dV\x00")
DOCUMENT = PrintDocument("Kitchen", (JOB,))


def test_text_of_a_raw_job_in_every_rendering() -> None:
    assert render_text(DOCUMENT, 20).split() == ["KITCHEN", "2", "x", "<Soup>"]
    html = render_html(DOCUMENT, 20).decode()
    assert "KITCHEN" in html
    assert "2 x &lt;Soup&gt;" in html
    assert " ".join(text_of(render_pdf(DOCUMENT))).split() == ["KITCHEN", "2", "x", "<Soup>"]


def test_a_long_line_is_broken_at_the_width() -> None:
    assert max(map(len, render_text(PrintDocument("x", (pack_raw(b"A" * 50 + b"\n"),)), 20).splitlines())) == 20
