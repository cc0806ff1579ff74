"""OPI frames and XML: other people's documents, both ways; and no document, however made, does anything but parse."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.opi_codec import (
    DEPTH_MAX,
    DOCUMENT_BYTES_MAX,
    ELEMENTS_MAX,
    TEXT_CHARS_MAX,
    Element,
    FrameReader,
    Garbage,
    amount_text,
    frame,
    last4_of,
    parse,
    parse_amount,
    render,
)
from hubd.model.money import AMOUNT_MINOR_MAX, Money

NOT_OPI = Garbage("not_opi")
BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><x>&c;</x>"""


# -- frames ------------------------------------------------------------------------------------------------------------


def test_a_document_of_107_bytes_is_preceded_by_its_length() -> None:
    assert frame(b"<" * 107)[:4] == bytes.fromhex("00 00 00 6B")


def test_the_length_counts_bytes_and_not_characters() -> None:
    document = render(Element("T", text="é€"))
    assert frame(document)[:4] == len(document).to_bytes(4, "big")
    assert len(document) > len(document.decode())


@given(st.lists(st.binary(min_size=0, max_size=40).map(lambda rest: b"<" + rest), max_size=6), st.integers(1, 50))
def test_documents_come_out_as_they_went_in_however_they_are_cut(documents: list[bytes], size: int) -> None:
    stream, reader = b"".join(map(frame, documents)), FrameReader()
    found = [one for at in range(0, len(stream), size) for one in reader.feed(stream[at : at + size])]
    assert found == documents
    assert reader.pending == 0


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_no_bytes_make_the_reader_keep_more_than_one_document(pieces: list[bytes]) -> None:
    reader = FrameReader()
    for piece in pieces:
        reader.feed(piece)
        assert reader.pending <= DOCUMENT_BYTES_MAX + 4 + 300


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"\x00\x00\x00\x00", "length_beyond_limit"),
        ((DOCUMENT_BYTES_MAX + 1).to_bytes(4, "big"), "length_beyond_limit"),
        (b"\x80\x00\x00\x06", "length_beyond_limit"),
        (b"\x00\x00\x00\x3eV", "not_opi"),
    ],
)
def test_what_cannot_become_a_document_is_garbage_at_once_and_for_ever(stream: bytes, reason: str) -> None:
    reader = FrameReader()
    assert reader.feed(stream) == [Garbage(reason)]
    assert reader.feed(frame(b"<a/>")) == [Garbage(reason)]


def test_a_document_beyond_the_limit_is_not_sent() -> None:
    with pytest.raises(ValueError, match="beyond the limit"):
        frame(b"<" * (DOCUMENT_BYTES_MAX + 1))


# -- XML ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        BOMB,
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        b"<!DOCTYPE x><x/>",
        b"<x>&unknown;</x>",
        b"<x>",
        b"<x/><y/>",
        b"",
        b"\xff\xfe<\x00x\x00/\x00>\x00",
        b'<?xml version="1.0" encoding="UTF-16"?><x/>',
        b'<?xml version="1.0" encoding="utf-7"?><x/>',
        b'<?xml version="1.0" encoding="UTF-8"?><x>\xe9</x>',
        b"<x>" * (DEPTH_MAX + 1) + b"</x>" * (DEPTH_MAX + 1),
        b"<x>" + b"<y/>" * ELEMENTS_MAX + b"</x>",
        b'<x a="1" a="2"/>',
    ],
)
def test_what_is_no_document_is_garbage(document: bytes) -> None:
    assert parse(document) == NOT_OPI


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("UTF-8", "Größe 5 € à Liège"), ("ISO-8859-1", "Größe à Liège"), ("windows-1252", "5 €"), ("US-ASCII", "ok")],
)
def test_the_declared_encoding_decides(encoding: str, text: str) -> None:
    document = f'<?xml version="1.0" encoding="{encoding}"?><x>{text}</x>'.encode(encoding)
    root = parse(document)
    assert isinstance(root, Element)
    assert root.text == text


def test_names_lose_their_namespace_and_attributes_too() -> None:
    root = parse(b'<o:A xmlns:o="urn:x" xmlns:xsi="urn:y" xsi:b="1" c="2"><o:D>text</o:D></o:A>')
    assert root == Element("A", {"b": "1", "c": "2"}, "", (Element("D", text="text"),))


def test_a_character_that_the_encoding_lacks_is_written_as_a_reference() -> None:
    document = render(Element("x", {"a": "€"}, "€ <&>\r"), "ISO-8859-1")
    assert b"&#8364;" in document
    assert parse(document) == Element("x", {"a": "€"}, "€ <&>\r")
    assert parse(render(Element("x", text="a\x00b\x1b\ud800"))) == Element("x", text="a?b??")


NAMES = st.text(string.ascii_letters, min_size=1, max_size=8)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20).filter(
    lambda text: "\ufffe" not in text and "\uffff" not in text
)
ATTRIBUTES = st.dictionaries(NAMES, TEXTS, max_size=3)
ELEMENTS = st.recursive(
    st.builds(Element, NAMES, ATTRIBUTES, TEXTS),
    lambda inner: st.builds(
        lambda name, attributes, children: Element(name, attributes, "", tuple(children)),
        NAMES,
        ATTRIBUTES,
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=10,
)


@given(ELEMENTS, st.sampled_from(["UTF-8", "ISO-8859-1", "windows-1252"]))
def test_elements_come_out_as_they_went_in(element: Element, encoding: str) -> None:
    assert parse(render(element, encoding)) == element


@given(st.binary(max_size=400))
def test_no_bytes_make_the_parser_raise(document: bytes) -> None:
    assert isinstance(parse(document), (Element, Garbage))


# -- scalars -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("39.50", "EUR", 3950), ("39.5", "EUR", 3950), ("120", "EUR", 12000), (" 0.01 ", "EUR", 1),
        ("39.500", "EUR", 3950), ("1500", "JPY", 1500), ("1500.00", "JPY", 1500), ("1.234", "BHD", 1234),
    ],
)  # fmt: skip
def test_amounts_are_decimal_text_in_the_currency(text: str, currency: str, minor: int) -> None:
    assert parse_amount(text, currency) == Money(minor, currency)


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("39,50", "EUR"), ("-1.00", "EUR"), ("39.505", "EUR"), ("1.5", "JPY"), ("", "EUR"), ("1e3", "EUR"),
        ("39.50", "XXX"), ("39.50", ""), ("39.", "EUR"), ("٣٩.٥٠", "EUR"), ("99999999999", "EUR"), ("1.00 2", "EUR"),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_none(text: str, currency: str) -> None:
    assert parse_amount(text, currency) is None


@given(st.integers(0, 10**9), st.sampled_from(["EUR", "JPY", "BHD"]))
def test_amounts_come_out_as_they_went_in(minor: int, currency: str) -> None:
    amount = Money(minor, currency)
    assert parse_amount(amount_text(amount), currency) == amount


def test_a_negative_amount_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="negative"):
        amount_text(Money(-1, "EUR"))
    assert parse_amount("9999999999", "EUR") == Money(999_999_999_900, "EUR")
    assert AMOUNT_MINOR_MAX > 999_999_999_900


@pytest.mark.parametrize(
    ("number", "last4"),
    [
        ("6805330010086784747", "4747"), ("672667#########3214", "3214"), ("XXXXXXXXXXXX4771", "4771"),
        ("XXXXXXXXXX=XXXXXXXXXXX", ""), ("6805330010086784747=12271010000", "4747"), ("4771", ""), ("", ""),
        ("X" * 40 + "4771", ""), ("5018 1234 5678 4771", "4771"),
    ],
)  # fmt: skip
def test_of_a_card_number_the_last_four_digits_stay(number: str, last4: str) -> None:
    assert last4_of(number) == last4


@given(st.text(max_size=500))
def test_values_are_bounded_and_on_one_line(text: str) -> None:
    value = Element("x", {"a": text}).value("a")
    assert len(value) <= TEXT_CHARS_MAX + 10
    assert value.isprintable()
