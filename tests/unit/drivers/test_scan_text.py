"""What a reading is: a code, a card, or damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.scan_text import TEXT_MAX, Refused, holds_a_card, judge, raw_holds_a_card, split_identifier
from hubd.ports import Scan

CARDS = (
    "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005", "30569309025904",
    "36227206271667", "6011111111111117", "6805330010086784747", "4222222222222", "x4111111111111111y",
    "%B4111111111111111^DOE/JOHN^25121011000?", ";4111111111111111=2512101?", "%B4111111111111112^A^2512",
    "%A^B^C?", ";12345678=", ";1=2?",
)  # fmt: skip
CODES = (
    "4006381333931", "5901234123457", "96385074", "036000291452", "10012345678902", "AB-12/7.5", "4111111111111112",
    "https://example.org/?a=1;b=2&c=%5E", "0104006381333931\x1d10LOT7", "2901234567896", "HUBD",
)  # fmt: skip


@pytest.mark.parametrize("text", CARDS)
def test_cards_are_refused(text: str) -> None:
    assert judge(text) is Refused.CARD_DATA
    assert holds_a_card(text)
    assert raw_holds_a_card(b"]C0" + text.encode() + b"\r\n")
    assert raw_holds_a_card(b"\x00\xff" + text.encode() + b"\x03")


@pytest.mark.parametrize("text", CODES)
def test_codes_are_told(text: str) -> None:
    assert judge(text) == Scan(text)
    assert not raw_holds_a_card(text.encode() + b"\r" + text.encode() + b"\r")


def test_fourteen_digits_that_are_both_are_an_item_only_by_the_scanners_word() -> None:
    both = "30000000000087"
    assert judge(both) is Refused.CARD_DATA
    assert judge(both, "code128") is Refused.CARD_DATA
    assert judge(both, "itf") == Scan(both, "itf")


def test_an_addon_is_exempt_only_by_the_scanners_word_and_with_a_right_check_digit() -> None:
    magazine = next(
        text
        for text in (f"4191234567{tail:03d}12345" for tail in range(1000))
        if judge(text) is Refused.CARD_DATA and judge(text, "ean13_addon") == Scan(text, "ean13_addon")
    )
    wrong = magazine[:12] + str((int(magazine[12]) + 1) % 10) + magazine[13:]
    assert judge(wrong, "ean13_addon") in (Refused.DAMAGED, Refused.CARD_DATA)
    assert judge("4111111111111111", "ean13_addon") is Refused.CARD_DATA


@pytest.mark.parametrize(
    ("text", "symbology", "rest"),
    [
        ("]E04006381333931", "ean13", "4006381333931"),
        ("]E496385074", "ean8", "96385074"),
        ("]E3977123456700305", "ean13_addon", "977123456700305"),
        ("]C0AB", "code128", "AB"),
        ("]C101040063", "gs1_128", "01040063"),
        ("]Q1hello", "qr", "hello"),
        ("]Q3hello", "gs1_qr", "hello"),
        ("]d2x", "gs1_data_matrix", "x"),
        ("]d1x", "data_matrix", "x"),
        ("]e0x", "gs1_databar", "x"),
        ("]y0x", "", "]y0x"),
        ("]", "", "]"),
        ("E04006381333931", "", "E04006381333931"),
    ],
)
def test_identifiers(text: str, symbology: str, rest: str) -> None:
    assert split_identifier(text) == (symbology, rest)


@pytest.mark.parametrize(
    ("text", "symbology", "refused"),
    [
        ("5901234123458", "ean13", Refused.DAMAGED),
        ("400638133393", "ean13", Refused.DAMAGED),
        ("4006381333931", "ean8", Refused.DAMAGED),
        ("", "", Refused.UNREADABLE),
        ("a\nb", "", Refused.UNREADABLE),
        ("a\x00b", "", Refused.UNREADABLE),
        ("a\u202eb", "", Refused.UNREADABLE),
        ("A" * (TEXT_MAX + 1), "", Refused.TOO_LONG),
    ],
)
def test_what_is_no_code_is_refused(text: str, symbology: str, refused: Refused) -> None:
    assert judge(text, symbology) is refused


def test_two_codes_beside_each_other_are_no_card() -> None:
    """The digits of two EAN-8 together may be those of a card by chance; a card in groups of other sizes is one."""
    assert not raw_holds_a_card(b"40170725\r40170725\r")
    assert raw_holds_a_card(b"411111\r1111111111\r")


@given(st.text(max_size=60))
def test_any_text_is_judged(text: str) -> None:
    reading = judge(text)
    if isinstance(reading, Scan):
        assert reading.text == text
        assert not holds_a_card(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_judged(raw: bytes) -> None:
    raw_holds_a_card(raw)
