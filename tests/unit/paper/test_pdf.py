"""A document as PDF: always made, always the same, never wider or longer than its paper."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubd.model.printing import Align, Barcode, Cut, Drawer, Item, Logo, PrintDocument, Qr, Row, Rule, Space, Text
from hubd.paper.pdf import A4, PAGE_HEIGHT_MAX, ROLL_80, PageSize, render_pdf

ITEMS: st.SearchStrategy[Item] = st.one_of(
    st.builds(Text, st.text(max_size=80), st.sampled_from(Align), st.booleans(), st.booleans()),
    st.builds(Row, st.text(max_size=50), st.text(max_size=50), st.booleans(), st.booleans()),
    st.builds(Rule),
    st.builds(Space, st.integers(-1, 90)),
    st.builds(Qr, st.text(max_size=310)),
    st.builds(Barcode, st.text(max_size=45), st.sampled_from(["ean13", "code128", "other"])),
    st.builds(Logo, st.integers(0, 99), st.binary(max_size=2000)),
    st.builds(Cut),
    st.builds(Drawer),
)


def heights(made: bytes) -> list[float]:
    return [float(one) for one in re.findall(rb"/MediaBox \[ 0 0 [0-9.]+ ([0-9.]+) \]", made)]


@settings(max_examples=60, deadline=None)
@given(st.lists(ITEMS, max_size=8), st.sampled_from([ROLL_80, A4, PageSize(58, None, 32, 3), PageSize(105, 40, 40, 5)]))
def test_whatever_it_holds_it_is_made_and_twice_the_same(items: list[Item], size: PageSize) -> None:
    document = PrintDocument("Reçu\n\x00", tuple(items))
    made = render_pdf(document, size)
    assert made.startswith(b"%PDF-")
    assert made == render_pdf(document, size)
    assert len(heights(made)) >= 1


def test_another_process_at_another_time_makes_the_same_bytes() -> None:
    program = (
        "import sys; from hubd.model.printing import *; from hubd.paper.pdf import render_pdf;"
        "sys.stdout.buffer.write(render_pdf(PrintDocument('Reçu', (Text('Café'), Qr('a'), Logo(8, b'x')))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == render_pdf(PrintDocument("Reçu", (Text("Café"), Qr("a"), Logo(8, b"x"))))


def test_a_roll_is_no_longer_than_a_page_can_be() -> None:
    made = heights(render_pdf(PrintDocument("Long", (Space(2000),))))
    assert len(made) == 2
    assert made[0] <= PAGE_HEIGHT_MAX


def test_nothing_but_a_drawer_is_one_empty_page() -> None:
    assert len(heights(render_pdf(PrintDocument("Drawer", (Drawer(),)), A4))) == 1


def test_a_width_that_no_printer_has_is_refused() -> None:
    with pytest.raises(ValueError, match="columns"):
        render_pdf(PrintDocument("Wide", (Rule(),)), PageSize(80, None, 97, 4))
