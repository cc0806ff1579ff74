"""CAS AP-1 and the CAS stream by byte tables, and what a damaged line may bring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.cas_codec import (
    BLOCK_BYTES,
    IN_MOTION,
    OVER_CAPACITY,
    STREAM_BYTES,
    UNDER_ZERO,
    UNIT_POUNDS,
    UNIT_UNKNOWN,
    WAITING_BYTES_MAX,
    CasReader,
    CasStreamReader,
    Frame,
    LinkAck,
    LinkNak,
    Unreadable,
    decode_stream,
    encode_block,
    encode_stream,
    encode_weight,
)
from hubd.ports import NoWeight, Weight

BLOCK = "01 02 53 20 30 31 2E 32 33 34 6B 67 65 03 04"
DATA: dict[bytes, Frame] = {
    b"S 01.234kg": Weight(1234),
    b"S 012.34kg": Weight(12_340),
    b"S  1.234kg": Weight(1234),
    b"S 0012.5kg": Weight(12_500),
    b"S 00.000KG": Weight(0),
    b"S 1234.0 g": Weight(1234),
    b"S 1234.5 g": Unreadable(),
    b"U 01.234kg": IN_MOTION,
    b"S-00.012kg": UNDER_ZERO,
    b"SF01.234kg": OVER_CAPACITY,
    b"UF      kg": OVER_CAPACITY,
    b"S 01.234lb": UNIT_POUNDS,
    b"S 01.234 t": UNIT_UNKNOWN,
    b"S 001234kg": Unreadable(),
    b"S 1.2345kg": Unreadable(),
    b"S 01.2 4kg": Unreadable(),
    b"X 01.234kg": Unreadable(),
    b"S+01.234kg": Unreadable(),
}
STREAM: dict[bytes, Frame] = {
    b"ST,GS,1\xc4,  01.234 kg\r\n": Weight(1234),
    b"ST,NT,1\xc6,0001.234 kg\r\n": Weight(1234, net=True),
    b"ST,GS,1\xc4,000013.5 kg\r\n": Weight(13_500),
    b"ST,GS,1\xc4,+   12.3 kg\r\n": Weight(12_300),
    b"ST,GS,1\xc4,    1234  g\r\n": Weight(1234),
    b"ST,GS,1\xc4,-  0.012 kg\r\n": UNDER_ZERO,
    b"US,GS,1\x84,  01.234 kg\r\n": IN_MOTION,
    b"OL,GS,1\x84,         kg\r\n": OVER_CAPACITY,
    b"ST,GS,1\xc4,  01.234 lb\r\n": UNIT_POUNDS,
    b"ST,GS,1\xc4,  01.234  t\r\n": UNIT_UNKNOWN,
    b"ST,GS,1\xc4, - 1.234 kg\r\n": Unreadable(),
    b"ST,XX,1\xc4,  01.234 kg\r\n": Unreadable(),
    b"QT,GS,1\xc4,  01.234 kg\r\n": Unreadable(),
    b"ST;GS,1\xc4,  01.234 kg\r\n": Unreadable(),
}


def test_the_vector_is_read_at_any_split_and_written() -> None:
    data = bytes.fromhex(BLOCK)
    assert encode_weight(Weight(1234)) == data
    for size in range(1, len(data) + 1):
        reader = CasReader()
        assert [one for at in range(0, len(data), size) for one in reader.feed(data[at : at + size])] == [Weight(1234)]


@pytest.mark.parametrize(("data", "frame"), DATA.items(), ids=repr)
def test_data_of_a_block(data: bytes, frame: Frame) -> None:
    assert CasReader().feed(encode_block(data)) == [frame]


@pytest.mark.parametrize(("line", "frame"), STREAM.items(), ids=repr)
def test_lines_of_the_stream(line: bytes, frame: Frame) -> None:
    assert len(line) == STREAM_BYTES
    assert decode_stream(line) == frame
    assert CasStreamReader().feed(line * 2) == [frame, frame]


def test_answers_and_noise_between_blocks() -> None:
    assert CasReader().feed(b"\x06\xff\x15" + bytes.fromhex(BLOCK) + b"\x01\x01") == [
        LinkAck(),
        LinkNak(),
        Weight(1234),
    ]


def test_any_flipped_bit_of_a_block_is_noticed() -> None:
    data = bytes.fromhex(BLOCK)
    for at in range(len(data)):
        for bit in range(8):
            spoiled = data[:at] + bytes((data[at] ^ (1 << bit),)) + data[at + 1 :]
            assert not any(isinstance(one, Weight) for one in CasReader().feed(spoiled)), (at, bit)


def test_a_block_that_lost_a_byte_does_not_hide_the_next() -> None:
    data = bytes.fromhex(BLOCK)
    for at in range(len(data)):
        assert CasReader().feed(data[:at] + data[at + 1 :] + data * 2)[-1] == Weight(1234)
    line = encode_stream(Weight(1234))
    for at in range(len(line)):
        assert CasStreamReader().feed(line[:at] + line[at + 1 :] + line * 2)[-1] == Weight(1234)


def test_lamps_may_look_like_a_line_end() -> None:
    for lamps in range(256):
        assert CasStreamReader().feed(encode_stream(Weight(13_010), lamps=lamps)) == [Weight(13_010)]


def test_a_weight_without_a_place_is_not_written() -> None:
    with pytest.raises(ValueError, match="no place"):
        encode_weight(Weight(100_000))


@given(st.integers(0, 99_999))
def test_what_is_written_is_read(grams: int) -> None:
    assert CasReader().feed(encode_weight(Weight(grams))) == [Weight(grams)]
    assert CasReader().feed(encode_weight(Weight(grams), stable=False)) == [IN_MOTION]
    assert CasStreamReader().feed(encode_stream(Weight(grams, net=True))) == [Weight(grams, net=True)]


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_survived_and_nothing_is_hoarded(pieces: list[bytes]) -> None:
    asked, stream = CasReader(), CasStreamReader()
    for piece in pieces:
        for frame in [*asked.feed(piece), *stream.feed(piece)]:
            assert isinstance(frame, Weight | NoWeight | LinkAck | LinkNak | Unreadable)
        assert asked.pending < BLOCK_BYTES
        assert stream.pending <= WAITING_BYTES_MAX
    asked.reset()
    stream.reset()
    assert asked.feed(bytes.fromhex(BLOCK))[-1] == Weight(1234)
    assert stream.feed(encode_stream(Weight(7)))[-1] == Weight(7)


@given(
    st.lists(
        st.sampled_from([b"\x01", b"\x02", b"\x03\x04", b"\x06", b"S 01.234kg", b"e", b"\r\n", b"ST,GS,"]), max_size=60
    )
)
def test_any_order_of_pieces_ends_with_the_next_whole_block(pieces: list[bytes]) -> None:
    asked, stream = CasReader(), CasStreamReader()
    for piece in pieces:
        asked.feed(piece)
        stream.feed(piece)
    assert asked.feed(bytes.fromhex(BLOCK) * 2)[-1] == Weight(1234)
    assert stream.feed(encode_stream(Weight(7)) * 2)[-1] == Weight(7)


def test_noise_is_counted_until_the_next_frame() -> None:
    for reader, good in ((CasReader(), bytes.fromhex(BLOCK)), (CasStreamReader(), encode_stream(Weight(1)))):
        reader.feed(b"\x55" * 6000)
        assert reader.noise > 4096
        reader.feed(good)
        assert reader.noise == 0
