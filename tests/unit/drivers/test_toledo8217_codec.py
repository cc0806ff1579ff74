"""Mettler-Toledo 8217 by byte tables: what the service manual prints, and what a damaged line may bring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.toledo8217_codec import (
    ECHO_BEGUN,
    GRAMS_MAX,
    TEXT_MAX,
    Echo,
    Frame,
    Pounds,
    Status,
    Toledo8217Reader,
    Unreadable,
    decode_status,
    encode_status,
    encode_status_frame,
    encode_text,
    encode_weight,
    no_weight,
)
from hubd.ports import Weight

VECTORS: dict[str, Frame] = {
    "02 30 30 2E 33 34 35 0D": Weight(345),
    "02 30 30 2E 33 34 35 4E 0D": Weight(345, net=True),
    "02 31 32 2E 33 34 35 0D": Weight(12_345),
    "02 30 31 32 2E 33 34 35 0D": Weight(12_345),
    "02 30 31 32 2E 33 34 35 4E 0D": Weight(12_345, net=True),
    "02 31 32 2E 33 34 0D": Pounds(),
    "02 30 31 32 2E 33 34 4E 0D": Pounds(),
    "02 3F 50 0D": Status(centre_of_zero=True),
    "02 3F 41 0D": Status(in_motion=True),
    "02 3F 42 0D": Status(over_capacity=True),
    "02 3F 44 0D": Status(under_zero=True),
    "02 3F 61 0D": Status(net=True, in_motion=True),
    "02 3F 48 0D": Status(outside_zero=True),
    "02 45 0D": Echo(),
    "02 46 0D": Echo(),
}
vectors = pytest.mark.parametrize(("text", "frame"), VECTORS.items(), ids=VECTORS)


@vectors
def test_vectors_are_read_at_any_split(text: str, frame: Frame) -> None:
    data = bytes.fromhex(text)
    for size in range(1, len(data) + 1):
        reader = Toledo8217Reader()
        read = [one for at in range(0, len(data), size) for one in reader.feed(data[at : at + size])]
        assert read == [frame]
        assert reader.pending == 0


def test_vectors_are_written() -> None:
    assert encode_weight(Weight(345, net=True)).hex(" ") == "02 30 30 2e 33 34 35 4e 0d"
    assert encode_weight(Weight(12_345), leading_zero=True).hex(" ") == "02 30 31 32 2e 33 34 35 0d"
    assert encode_status_frame(Status(in_motion=True)).hex(" ") == "02 3f 41 0d"
    assert encode_text(b"E") == ECHO_BEGUN
    with pytest.raises(ValueError, match="no place"):
        encode_weight(Weight(GRAMS_MAX + 1))


@pytest.mark.parametrize(
    "text",
    ["0.345", "00.34", "00345", "00.3456", "-0.345", " 0.345", "00.345 ", "00.345NN", "12.345kg", "?", "??A", ""],
)
def test_what_has_another_form_is_no_weight(text: str) -> None:
    read = Toledo8217Reader().feed(encode_text(text.encode()))
    assert read
    assert not any(isinstance(one, Weight) for one in read)


def test_three_digits_of_kilograms_begin_with_the_leading_zero() -> None:
    assert Toledo8217Reader().feed(b"\x02123.456\r") == [Unreadable()]
    assert Toledo8217Reader().feed(b"\x02000.345\r") == [Weight(345)]


@pytest.mark.parametrize("value", [0x00, 0x01, 0x3F, 0x80, 0xC1])
def test_a_status_without_its_one_is_none(value: int) -> None:
    assert decode_status(value) == Unreadable()


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (Status(in_motion=True), "in_motion"),
        (Status(under_zero=True, in_motion=True), "under_zero"),
        (Status(over_capacity=True, in_motion=True), "over_capacity"),
        (Status(centre_of_zero=True), "not_ready"),
    ],
)
def test_every_status_is_a_reason(status: Status, reason: str) -> None:
    assert no_weight(status).reason == reason


def test_a_frame_that_lost_its_end_does_not_hide_the_next() -> None:
    assert Toledo8217Reader().feed(b"\x0200.3\x0200.345\r") == [Weight(345)]
    assert Toledo8217Reader().feed(b"00.345\rhello") == []


@given(st.integers(0, GRAMS_MAX), st.booleans(), st.booleans())
def test_what_is_written_is_read(grams: int, net: bool, leading_zero: bool) -> None:
    weight = Weight(grams, net=net)
    assert Toledo8217Reader().feed(encode_weight(weight, leading_zero=leading_zero)) == [weight]


@given(st.integers(0x40, 0x7F))
def test_every_status_byte_is_read_as_it_is_written(value: int) -> None:
    status = decode_status(value)
    assert isinstance(status, Status)
    assert encode_status(status) == value


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_survived_and_nothing_is_hoarded(pieces: list[bytes]) -> None:
    reader = Toledo8217Reader()
    for piece in pieces:
        for frame in reader.feed(piece):
            assert not isinstance(frame, Weight) or 0 <= frame.grams <= GRAMS_MAX
        assert reader.pending <= TEXT_MAX
    reader.reset()
    assert reader.feed(encode_weight(Weight(345)))[-1] == Weight(345)


def test_noise_is_counted_until_the_next_frame() -> None:
    reader = Toledo8217Reader()
    reader.feed(b"\x55" * 5000)
    assert reader.noise == 5000
    reader.feed(encode_weight(Weight(1)))
    assert reader.noise == 0
