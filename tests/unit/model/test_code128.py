"""Code 128 as bars: read back with the tables of another implementation, on screen and on paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reportlab.graphics.barcode import code128 as theirs

from hubd.errors import InvalidValueError
from hubd.model import code128
from hubd.model.printing import CODE128_LENGTH_MAX, COLUMNS_MIN, Logo, PrintDocument, Qr
from hubd.model.scanner_test import BAR_DOTS, MODULE_DOTS, TEST_CODE, sheet
from hubd.paper.html import render_html

SYMBOLS = {text.lower(): value for value, text in vars(theirs)["_patterns"].items()}
CHECK_MODULO, START_B, STOP = 103, 104, 106


def read(widths: Sequence[int]) -> str:
    """The text of a code of set B; fails for one whose check symbol is wrong."""
    letters = "".join("abcd"[width - 1] for width in widths)
    assert letters[-7:] in SYMBOLS
    values = [SYMBOLS[letters[at : at + 6]] for at in range(0, len(letters) - 7, 6)]
    assert (values[0], SYMBOLS[letters[-7:]]) == (START_B, STOP)
    *data, check = values[1:]
    assert (START_B + sum(at * value for at, value in enumerate(data, 1))) % CHECK_MODULO == check
    return "".join(chr(value + 32) for value in data)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=CODE128_LENGTH_MAX))
def test_every_text_is_read_as_it_was_written(text: str) -> None:
    assert read(code128.widths(text)) == text


@pytest.mark.parametrize("text", ["", "é", "x" * (CODE128_LENGTH_MAX + 1), "a\nb"])
def test_what_makes_no_code_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match="invalid_barcode"):
        code128.widths(text)


def test_bars_on_the_screen_are_those_of_the_code() -> None:
    path, across = code128.svg_path(code128.widths(TEST_CODE), 60)
    bars = [(int(left), int(width)) for left, width in re.findall(r"M(\d+) 0h(\d+)v60h-\d+z", path)]
    assert bars[0][0] == code128.QUIET_MODULES
    assert across - sum(bars[-1]) == code128.QUIET_MODULES
    widths = [bars[0][1]]
    for (left, width), (start, wide) in pairwise(bars):
        widths += [start - left - width, wide]
    assert read(widths) == TEST_CODE


def runs(picture: Logo) -> list[int]:
    """How many rows in turn are white and black."""
    across = picture.width // 8
    rows = [picture.rows[at : at + across] for at in range(0, len(picture.rows), across)]
    assert set(rows) == {b"\xff" * across, bytes(across)}, "each row is all black or all white"
    found, before = [0], rows[0]
    for row in rows:
        if row != before:
            found.append(0)
        found[-1] += 1
        before = row
    return found


def test_bars_down_the_paper_are_those_of_the_code_and_fit_the_narrowest_paper() -> None:
    document = sheet("fr")
    assert isinstance(document, PrintDocument)
    assert Qr(TEST_CODE) in document.items
    (picture,) = [item for item in document.items if isinstance(item, Logo)]
    assert picture.width == BAR_DOTS <= COLUMNS_MIN * 12
    first, *bars, last = runs(picture)
    assert first == last == code128.QUIET_MODULES * MODULE_DOTS
    assert all(rows % MODULE_DOTS == 0 for rows in bars)
    assert read([rows // MODULE_DOTS for rows in bars]) == TEST_CODE
    assert "lecteur" in render_html(document).decode()
    assert sheet("xx") == sheet("en")


def test_a_picture_is_whole_bytes_wide() -> None:
    with pytest.raises(InvalidValueError, match="invalid_picture"):
        code128.ladder((1, 1), 20, 2)
