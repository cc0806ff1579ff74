"""A document becomes lines that fit the paper, whatever text it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubd.model.printing import (
    COLUMNS_MAX,
    COLUMNS_MIN,
    LINES_MAX,
    TRUNCATED,
    Align,
    Barcode,
    Cut,
    Drawer,
    Item,
    Line,
    Logo,
    PrintDocument,
    Qr,
    Raw,
    Row,
    Rule,
    Space,
    Text,
    lay_out,
    printable,
)

COLUMNS = 20


def lines(*items: Item, columns: int = COLUMNS) -> list[str]:
    return [made.text for made in laid_out(*items, columns=columns) if isinstance(made, Line)]


def laid_out(*items: Item, columns: int = COLUMNS) -> list[Line | Qr | Barcode | Logo | Cut | Drawer | Raw]:
    return list(lay_out(PrintDocument("Receipt", items), columns))


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Text("Thank you"), ["Thank you"]),
        (Text(""), [""]),
        (Text("one\n\ntwo"), ["one", "", "two"]),
        (Text("a sentence that is longer than the paper"), ["a sentence that is", "longer than the", "paper"]),
        (Text("x" * 45), ["x" * 20, "x" * 20, "x" * 5]),
        (Text("12  columns  by hand "), ["12  columns  by hand"]),
        (Text("a well-known far-away place"), ["a well-known", "far-away place"]),
        (Text(" " * 30), [""]),
        (Rule(), ["-" * 20]),
        (Space(3), ["", "", ""]),
        (Space(-1), []),
    ],
)
def test_text(item: Item, expected: list[str]) -> None:
    assert lines(item) == expected


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("Espresso", "2.40", ["Espresso        2.40"]),
        ("", "2.40", ["                2.40"]),
        ("Total", "", ["Total               "]),
        ("fifteen letters", "2.40", ["fifteen letters 2.40"]),
        ("sixteen letters!", "2.40", ["sixteen", "letters!        2.40"]),
        ("Cappuccino with oat milk", "4.10", ["Cappuccino with oat", "milk            4.10"]),
        # the figure leaves no third of the line to the words: it stands alone
        ("Total of the day", "1 234 567.80 EUR", ["Total of the day", "    1 234 567.80 EUR"]),
        ("Words", "a figure that is wider than paper", ["Words", "a figure that is wid"]),
        ("", "a figure of 20 chars", ["a figure of 20 chars"]),
        ("two\nlines", "1.00", ["two", "lines           1.00"]),
        ("first\nsecond line is long", "1.00", ["first", "second line is", "long            1.00"]),
    ],
)
def test_row(left: str, right: str, expected: list[str]) -> None:
    assert lines(Row(left, right)) == expected


def test_large_ones_have_half_as_many_columns() -> None:
    assert lines(Text("a large sentence", large=True)) == ["a large", "sentence"]
    assert lines(Row("Total", "2.40", large=True)) == ["Total 2.40"]
    assert laid_out(Text("x", Align.CENTER, bold=True, large=True)) == [Line("x", Align.CENTER, bold=True, large=True)]


def test_codes_pictures_and_orders_to_the_printer_pass_as_they_are() -> None:
    items = (Qr("https://x.test"), Barcode("4006381333931", "ean13"), Logo(8, b"\xff\x00"), Cut(), Drawer(5))
    assert laid_out(*items) == list(items)
    assert Logo(8, b"\xff\x00").height == 2
    assert Logo(0, b"\xff").height == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\u202f234,50\u00a0€", "1 234,50 €"),
        ("tab\there", "tab here"),
        ("wide\u3000space", "wide space"),
        ("\x1b@\x1dV\x00cut\x10\x04\x01", "@Vcut"),
        ("zero\u200bwidth \u202eturned", "zerowidth turned"),
        ("\ud800lone", "lone"),
        ("\x85\u2028line", "  line"),
    ],
)
def test_no_control_character_passes(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_a_document_without_end_is_cut_off_and_says_so() -> None:
    made = laid_out(Text("\n" * (2 * LINES_MAX)), Qr("lost"), Drawer(), Cut())
    assert len(made) == LINES_MAX + 3
    assert made[LINES_MAX:] == [Line(TRUNCATED), Drawer(), Cut()]
    whole = laid_out(Space(LINES_MAX), Cut())
    assert Line(TRUNCATED) not in whole
    assert len(whole) == LINES_MAX + 1
    assert len(laid_out(*[Qr("x")] * (LINES_MAX + 9))) == LINES_MAX + 1


@pytest.mark.parametrize("columns", [COLUMNS_MIN - 1, COLUMNS_MAX + 1, 0, -42])
def test_a_width_that_no_printer_has_is_refused(columns: int) -> None:
    with pytest.raises(ValueError, match="columns"):
        laid_out(Rule(), columns=columns)


texts = st.text(max_size=200)
aligns = st.sampled_from(Align)
items = st.one_of(
    st.builds(Text, texts, aligns, bold=st.booleans(), large=st.booleans()),
    st.builds(Row, texts, texts, bold=st.booleans(), large=st.booleans()),
    st.builds(Space, st.integers(-3, 30)),
    st.just(Rule()),
    st.just(Cut()),
)


@given(st.lists(items, max_size=12), st.integers(COLUMNS_MIN, COLUMNS_MAX))
def test_every_line_fits_and_is_one_line_of_printable_text(document: list[Item], columns: int) -> None:
    for made in laid_out(*document, columns=columns):
        if isinstance(made, Line):
            assert len(made.text) <= (columns // 2 if made.large else columns)
            assert made.text.isprintable()


@given(texts, texts, st.integers(COLUMNS_MIN, COLUMNS_MAX))
def test_a_row_loses_no_letter_and_ends_with_its_figure(left: str, right: str, columns: int) -> None:
    made = lines(Row(left, right), columns=columns)
    figure = printable(right)[:columns]
    assert made[-1].endswith(figure)
    assert len(made[-1]) == columns
    words = "".join(made)[: len("".join(made)) - len(figure)]
    assert "".join(words.split()) == "".join("".join(map(printable, left.split("\n"))).split())
