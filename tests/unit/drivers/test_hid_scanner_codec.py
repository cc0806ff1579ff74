"""HID POS reports: the layout of the makers' manuals, and everything that is not one."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.hid_scanner_codec import (
    DATA_BYTES,
    QUIET_S,
    REPORT_BYTES,
    HidScans,
    Report,
    decode_report,
    encode_code,
    encode_report,
)
from drivers.scan_text import Refused
from hubd.ports import Scan

EAN = b"4006381333931"
FIRST = bytes.fromhex("02 38 5D 51 30") + b"0123456789" * 5 + b"ABCDEF" + bytes.fromhex("73 00 01")
"""The form of the manuals' example: a QR code of which 56 bytes stand in the first report, and more come."""


def opened() -> HidScans:
    scans = HidScans()
    assert scans.quiet() == []
    return scans


def test_a_file_must_be_quiet_once_after_it_was_opened() -> None:
    assert HidScans().wait_s == QUIET_S
    assert opened().wait_s is None
    assert HidScans().feed(encode_code("]E0", EAN)[0]) == [Refused.UNFINISHED]


def test_the_layout_is_that_of_the_manuals() -> None:
    assert len(FIRST) == REPORT_BYTES
    report = decode_report(FIRST)
    assert report == Report("]Q0", b"0123456789" * 5 + b"ABCDEF", maker=0x73, continued=True)
    assert isinstance(report, Report)
    assert encode_report(report) == FIRST
    assert "0123" not in repr(report)


def test_a_code_in_two_reports_is_one() -> None:
    text = "0123456789" * 5 + "ABCDEFGHIJ"
    scans = opened()
    assert scans.feed(FIRST) == []
    assert scans.feed(encode_report(Report("]Q0", b"GHIJ", maker=0x73))) == [Scan(text, "qr")]


@pytest.mark.parametrize(
    ("at", "value"), [(0, 1), (1, 0), (1, 57), (2, ord("[")), (1, 12), (1, 14), (50, 1), (63, 2), (63, 0x81), (4, 0xFF)]
)
def test_what_is_not_as_it_must_be_refuses_the_report(at: int, value: int) -> None:
    raw = bytearray(encode_code("]E0", EAN)[0])
    raw[at] = value
    scans = opened()
    scans.feed(bytes(raw))
    read = scans.quiet()
    assert all(isinstance(one, Refused) for one in read)
    assert scans.feed(encode_code("]E0", EAN)[0]) in ([Scan(EAN.decode(), "ean13")], [Refused.UNFINISHED])


def test_a_report_of_another_layout_is_refused() -> None:
    plain = bytes((2, 13)) + EAN
    assert decode_report(plain.ljust(REPORT_BYTES, b"\0")) is Refused.UNREADABLE
    assert decode_report(FIRST[:-1]) is Refused.UNREADABLE


def test_a_continuation_of_another_code_is_damage() -> None:
    scans = opened()
    scans.feed(FIRST)
    assert scans.feed(encode_code("]E0", EAN)[0]) == [Refused.DAMAGED]
    scans.quiet()
    assert scans.feed(encode_code("]E0", EAN)[0]) == [Scan(EAN.decode(), "ean13")]


def test_a_code_whose_rest_did_not_come_takes_what_ends_next_with_it() -> None:
    scans = opened()
    scans.feed(FIRST)
    assert scans.quiet() == [Refused.UNFINISHED]
    assert scans.feed(encode_report(Report("]Q0", b"GHIJ", maker=0x73))) == [Refused.UNFINISHED]
    scans.quiet()
    assert scans.feed(encode_code("]E0", EAN)[0]) == [Scan(EAN.decode(), "ean13")]


def test_a_code_without_end_is_bounded() -> None:
    scans = opened()
    for number in range(100):
        scans.feed(encode_report(Report("]Q0", b"%056d" % number, continued=True)))
    assert scans.pending <= 21 * DATA_BYTES
    assert scans.feed(encode_report(Report("]Q0", b"x"))) in ([Refused.DAMAGED], [Refused.CARD_DATA])


@pytest.mark.parametrize("bad", [Report("]E", b"x"), Report("]E0", b""), Report("]E0", b"x" * 57)])
def test_what_has_no_place_is_not_written(bad: Report) -> None:
    with pytest.raises(ValueError, match="three characters"):
        encode_report(bad)


@given(st.binary(min_size=1, max_size=DATA_BYTES), st.integers(0, 255), st.booleans())
def test_what_is_written_is_read(data: bytes, maker: int, continued: bool) -> None:
    report = Report("]Q1", data, maker, continued)
    assert decode_report(encode_report(report)) == report


@given(st.text(st.characters(codec="ascii", min_codepoint=0x20), min_size=1, max_size=300))
def test_codes_of_any_length_are_read_at_any_split(text: str) -> None:
    raw = b"".join(encode_code("]C0", text.encode()))
    scans = opened()
    read = [one for at in range(0, len(raw), 7) for one in scans.feed(raw[at : at + 7])]
    pieces = [text[at : at + DATA_BYTES] for at in range(0, len(text), DATA_BYTES)]
    if any(one == other for one, other in pairwise(pieces)):
        assert not any(isinstance(one, Scan) for one in read)
    else:
        assert read in ([Scan(text, "code128")], [Refused.CARD_DATA], [Refused.UNREADABLE])


@given(st.lists(st.tuples(st.binary(max_size=150), st.booleans()), max_size=20))
def test_any_bytes_are_survived_and_nothing_is_hoarded(steps: list[tuple[bytes, bool]]) -> None:
    scans = HidScans()
    for data, quiet in steps:
        scans.feed(data)
        if quiet:
            scans.quiet()
        assert scans.pending <= 30 * DATA_BYTES
    scans.quiet()
    scans.feed(encode_code("]E0", EAN)[0])
    scans.quiet()
    assert scans.feed(encode_code("]E0", EAN)[0]) == [Scan(EAN.decode(), "ean13")]
