"""Serial scanners: bursts, habits, and everything that is not a code."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.scan_text import Refused
from drivers.serial_scanner import SerialScanner
from drivers.serial_scanner_codec import BURST_BYTES_MAX, LINES_MAX, QUIET_S, UNFINISHED_S, Ending, SerialScans
from hubd.errors import DeviceError
from hubd.ports import Scan
from hubd.runtime import system_runtime

EAN, OTHER = b"4006381333931", b"5901234123457"


def opened(ending: Ending | None = None) -> SerialScans:
    """A line that has been quiet once."""
    scans = SerialScans(ending)
    assert scans.quiet() == []
    return scans


def burst(scans: SerialScans, data: bytes) -> list[Scan | Refused]:
    return [*scans.feed(data), *scans.quiet()]


def scan(data: bytes) -> Scan:
    return Scan(data.decode())


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_every_end_is_understood_at_once(end: bytes) -> None:
    scans = opened()
    assert burst(scans, EAN + end) == [scan(EAN)]
    scans.feed(OTHER)
    assert scans.wait_s == UNFINISHED_S
    scans.feed(end)
    assert scans.wait_s == QUIET_S
    assert scans.quiet() == [scan(OTHER)]


def test_no_end_at_all_is_believed_when_it_came_twice() -> None:
    scans = opened()
    assert burst(scans, EAN) == [Refused.UNFINISHED]
    assert burst(scans, OTHER) == [scan(OTHER)]
    assert scans.wait_s is None
    scans.feed(EAN)
    assert scans.wait_s == QUIET_S


def test_no_end_at_all_is_believed_at_once_when_a_person_said_so() -> None:
    scans = opened(Ending.QUIET)
    assert burst(scans, EAN) == [scan(EAN)]
    assert burst(scans, OTHER + b"\r\n") == [scan(OTHER)]
    assert burst(scans, b"one\rtwo") == [Refused.UNREADABLE]


def test_an_end_is_never_unlearned() -> None:
    scans = opened()
    assert burst(scans, EAN + b"\r") == [scan(EAN)]
    for _ in range(5):
        assert burst(scans, OTHER) == [Refused.UNFINISHED]
    assert burst(scans, EAN + b"\r") == [Refused.UNFINISHED], "it may be the rest of the one before"
    assert burst(scans, OTHER + b"\r") == [scan(OTHER)]


def test_another_end_is_believed_the_second_time() -> None:
    scans = opened()
    assert burst(scans, EAN + b"\r\n") == [scan(EAN)]
    assert burst(scans, OTHER + b"\n") == [Refused.UNFINISHED]
    assert burst(scans, EAN + b"\n") == [scan(EAN)]


def test_a_code_without_the_usual_identifier_is_believed_the_second_time() -> None:
    scans = opened()
    assert burst(scans, b"]E0" + EAN + b"\r") == [Scan(EAN.decode(), "ean13")]
    assert burst(scans, b"\x3d" + b"E0" + EAN + b"\r") == [Refused.DAMAGED]
    assert burst(scans, OTHER + b"\r") == [scan(OTHER)]


def test_a_person_can_fix_the_end() -> None:
    scans = opened(Ending.CRLF)
    for _ in range(3):
        assert burst(scans, EAN + b"\r") == [Refused.UNFINISHED]
    assert burst(scans, EAN + b"\r\n") == [scan(EAN)]


def test_what_was_read_while_the_hub_was_held_up_is_several_codes() -> None:
    assert burst(opened(), EAN + b"\r" + OTHER + b"\r") == [scan(EAN), scan(OTHER)]
    many = b"".join(b"code%d\r" % number for number in range(LINES_MAX + 1))
    assert burst(opened(), many) == [Refused.TOO_LONG]


@pytest.mark.parametrize(
    "data",
    [b"A\rB\n", b"A\rB", b"A\x00B\r", b"\xff\xfe\r", b"caf\xe9\r", EAN + b"\r\x07\r", b"ok\r\x00\r"],
)
def test_one_that_is_damaged_damages_its_burst(data: bytes) -> None:
    read = burst(opened(), data)
    assert read
    assert all(isinstance(one, Refused) for one in read)


def test_ends_alone_are_nothing() -> None:
    scans = opened()
    assert burst(scans, b"\r") == []
    assert burst(scans, EAN + b"\r") == [scan(EAN)]
    assert burst(scans, b"\r\r") == []


def test_accents_and_group_separators_are_told() -> None:
    assert burst(opened(), "café\x1d12\r".encode()) == [Scan("café\x1d12")]


def test_what_comes_before_the_line_was_quiet_once_is_a_rest() -> None:
    scans = SerialScans()
    assert scans.wait_s == UNFINISHED_S
    assert burst(scans, b"3931\r") == [Refused.UNFINISHED]
    assert burst(scans, EAN + b"\r") == [scan(EAN)]


def test_a_burst_without_end_is_bounded_and_its_card_refused() -> None:
    scans = opened()
    assert scans.feed(b"x" * (BURST_BYTES_MAX + 1)) == [Refused.TOO_LONG]
    assert scans.pending == 1
    assert scans.feed(b" 4111111111111111 " * 1000) == [Refused.CARD_DATA]
    assert burst(scans, b"\r" + EAN + b"\r") == []


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=40), st.sampled_from([None, *Ending]))
def test_any_bytes_are_survived_and_nothing_is_hoarded(steps: list[tuple[bytes, bool]], ending: Ending | None) -> None:
    scans, fed = SerialScans(ending), b""
    for data, quiet in steps:
        fed += data
        for reading in [*scans.feed(data), *(scans.quiet() if quiet else [])]:
            assert isinstance(reading, Refused) or reading.text.encode() in fed
        assert scans.pending <= BURST_BYTES_MAX
    scans.quiet()
    codes = [burst(scans, EAN + b"\r\n") for _ in range(3)]
    assert ending in (Ending.CR, Ending.LF) or codes[-1] == [scan(EAN)]


def test_an_unknown_end_in_the_options_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DeviceError, match="cr, lf, crlf, quiet") as caught:
        SerialScanner(system_runtime(), {"end": "tab"})
    assert caught.value.code == "device.option_invalid"
