"""A paper as a page: escaped, with nothing from elsewhere, in the lines of the printer."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode

import pytest

from hubd.model.printing import Align, Barcode, Cut, Drawer, Logo, PrintDocument, Qr, Row, Rule, Space, Text
from hubd.paper.html import CSP_STYLE, render_html


def page(*items: object, title: str = "Ticket", columns: int = 42) -> str:
    return render_html(PrintDocument(title, items, "fr"), columns).decode()  # type: ignore[arg-type]  # items of a test


def test_what_people_wrote_is_text() -> None:
    hostile = "<script>alert('x')</script> & \"y\""
    shown = page(Text(hostile), Row(hostile, "1,00"), Qr("<b>&"), Barcode("<b>"), title=hostile)
    assert "<script" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;" in shown


def test_the_style_is_the_one_that_the_policy_allows() -> None:
    (style,) = re.findall("<style>(.*?)</style>", page(Text("x")), flags=re.DOTALL)
    assert f"'sha256-{b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" == CSP_STYLE
    assert "style=" not in page(Text("x", Align.RIGHT, bold=True, large=True))
    assert "http" not in page(Text("x"), Logo(8, b"\xff")).replace("http-equiv", "")


def test_language_title_and_width_are_told() -> None:
    shown = page(Text("x"), columns=32)
    assert '<html lang="fr">' in shown
    assert "<title>Ticket</title>" in shown
    assert '<main class="c32">' in shown


def test_a_cut_is_a_line_between_papers_and_none_at_the_end() -> None:
    shown = page(Text("one"), Cut(), Text("two"), Space(), Cut(), Drawer())
    assert shown.count("<hr>") == 1
    assert shown.index("one") < shown.index("<hr>") < shown.index("two")


def test_a_logo_is_its_black_dots() -> None:
    shown = page(Logo(16, b"\xf0\x0f\x00\x01\x00\x00"))
    assert 'viewBox="0 0 16 3"' in shown
    assert 'd="M0 0h4v1h-4zM12 0h4v1h-4zM15 1h1v1h-1z"' in shown
    assert "<svg" not in page(Logo(4, b""))


def test_a_width_that_no_printer_has_is_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        page(Rule(), columns=8)
