"""Framing by byte tables: the vectors come from the test suites of other people's implementations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.zvt_codec import (
    APDU_DATA_ACCEPTED_MAX,
    NOISE_MAX,
    Apdu,
    BadBlock,
    Decoded,
    Garbage,
    LinkAck,
    LinkEvent,
    LinkNak,
    NeedMore,
    SerialReader,
    TcpReader,
    crc16,
    decode_apdu,
    encode_apdu,
    encode_serial,
)

SERIAL_VECTORS = {
    "registration": "10 02 06 00 06 12 34 56 BA 09 78 10 03 24 C3",
    "initialisation": "10 02 06 93 03 12 34 56 10 03 CA A4",
    "authorisation_stuffed": "10 02 06 01 0A 04 00 00 00 01 10 10 00 49 09 78 10 03 F2 FF",
    "diagnosis": "10 02 06 70 00 10 03 D9 F9",
    "print_line": "10 02 06 D1 19 00"
    " 47 65 73 61 6D 74 20 20 20 20 20 20 30 20 20 20 20 20 20 20 30 2C 30 30 10 03 B5 AB",
    "ack": "10 02 80 00 00 10 03 F5 1F",
    "busy": "10 02 84 9C 00 10 03 C3 41",
    "status": "10 02 04 0F 37"
    " 27 00 04 00 00 00 00 40 00 49 09 78 0C 09 38 48 0D 04 25 22 F1 F1 59 66 66 66 66 D2 00 21 22"
    " 01 00 17 00 01 87 01 75 0B 61 39 95 19 40 29 60 09 99 14 0E 05 12 8A 02 10 03 90 8C",
    "authorisation_10_00": "10 02 06 01 07 04 00 00 00 00 10 10 00 10 03 62 91",
    "authorisation_10_10": "10 02 06 01 07 04 00 00 00 00 10 10 10 10 10 03 F3 04",
    "completion": "10 02 06 0F 00 10 03 C6 33",
    "abort": "10 02 06 1E 01 6C 10 03 C9 F2",
    "log_off": "10 02 06 02 00 10 03 B9 CC",
    "end_of_day": "10 02 06 50 03 00 00 00 10 03 FB 37",
    "repeat_receipt": "10 02 06 20 03 00 00 00 10 03 FA F2",
    "abort_command": "10 02 06 B0 00 10 03 43 F3",
    "length_is_dle": "10 02 06 D1 10 10 00 41 42 43 44 45 46 47 48 49 4A 4B 4C 4D 4E 4F 10 03 24 8D",
}
serial_vectors = pytest.mark.parametrize("text", SERIAL_VECTORS.values(), ids=SERIAL_VECTORS.keys())


def apdu_of(block: bytes) -> Apdu:
    """The APDU inside a serial block, by hand."""
    raw = block[2:-4].replace(b"\x10\x10", b"\x10")
    return Apdu(int.from_bytes(raw[:2], "big"), raw[3:])


def in_pieces(reader: SerialReader | TcpReader, data: bytes, size: int) -> list[LinkEvent]:
    return [event for at in range(0, len(data), size) for event in reader.feed(data[at : at + size])]


def test_check_value_of_the_crc() -> None:
    assert crc16(b"123456789") == 0x2189


@serial_vectors
def test_serial_block_is_written_as_others_write_it(text: str) -> None:
    block = bytes.fromhex(text)
    assert encode_serial(apdu_of(block)) == block


@serial_vectors
def test_serial_block_is_read_at_any_split(text: str) -> None:
    block = bytes.fromhex(text)
    for size in range(1, len(block) + 1):
        assert in_pieces(SerialReader(), block, size) == [apdu_of(block)]


@serial_vectors
def test_any_flipped_bit_of_a_serial_block_is_noticed(text: str) -> None:
    block = bytes.fromhex(text)
    for at in range(2, len(block)):
        for bit in range(8):
            spoiled = block[:at] + bytes((block[at] ^ (1 << bit),)) + block[at + 1 :]
            events = SerialReader().feed(spoiled)
            assert not any(isinstance(event, Apdu) for event in events), (at, bit)


def test_serial_answers_and_noise_between_blocks() -> None:
    block = bytes.fromhex(SERIAL_VECTORS["ack"])
    events = SerialReader().feed(b"\x06" + b"\xff\x00" + block + b"\x15")
    assert events == [LinkAck(), Apdu(0x8000), LinkNak()]


def test_a_block_whose_end_was_lost_does_not_hide_the_next() -> None:
    block = bytes.fromhex(SERIAL_VECTORS["completion"])
    assert SerialReader().feed(block[:-4] + block) == [Apdu(0x060F)]


def test_a_block_that_stopped_is_forgotten_after_the_character_timeout() -> None:
    reader = SerialReader()
    block = bytes.fromhex(SERIAL_VECTORS["registration"])
    reader.feed(block[:7])
    assert reader.pending
    reader.reset()
    assert reader.pending == 0
    assert reader.feed(block) == [apdu_of(block)]


def test_wrong_check_sum_asks_for_a_repeat() -> None:
    block = bytearray.fromhex(SERIAL_VECTORS["diagnosis"])
    block[-1] ^= 0xFF
    assert SerialReader().feed(bytes(block)) == [BadBlock("wrong_check_sum")]


def test_serial_babble_has_a_limit() -> None:
    assert Garbage("babble") in SerialReader().feed(b"\x55" * (NOISE_MAX + 1))


@pytest.mark.parametrize(
    ("text", "size"),
    [("04 0F FF 01 00 6C", 1), ("04 0F FF 00 01", 256), ("04 0F 02 27 00", 2), ("80 00 00", 0)],
)
def test_lengths_are_little_endian(text: str, size: int) -> None:
    raw = bytes.fromhex(text)
    raw += bytes(max(0, (5 if raw[2] == 0xFF else 3) + size - len(raw)))
    decoded = decode_apdu(raw)
    assert isinstance(decoded, Decoded)
    assert len(decoded.apdu.data) == size
    assert decoded.consumed == len(raw)


@pytest.mark.parametrize("text", ["", "04", "04 0F", "04 0F FF", "04 0F FF 01", "04 0F FF 01 00", "80 00"])
def test_half_a_header_waits_for_more(text: str) -> None:
    assert decode_apdu(bytes.fromhex(text)) == NeedMore()


@pytest.mark.parametrize("text", ["1E 01 FF", "00 00 00 3E", "80 01", "48 54 54 50", "04 0F FF FF FF"])
def test_what_is_not_zvt_is_garbage_and_not_waited_for(text: str) -> None:
    assert isinstance(decode_apdu(bytes.fromhex(text)), Garbage)


def test_two_blocks_in_one_segment_and_one_in_ten() -> None:
    assert TcpReader().feed(bytes.fromhex("80 00 00 04 FF 01 0A 04")) == [Apdu(0x8000), Apdu(0x04FF, b"\x0a")]
    block = encode_apdu(Apdu(0x06D3, bytes(range(256)) * 3))
    for size in (1, 7, len(block) // 10, len(block)):
        assert in_pieces(TcpReader(), block * 2, size) == [Apdu(0x06D3, bytes(range(256)) * 3)] * 2


def test_a_stream_of_garbage_stays_garbage() -> None:
    reader = TcpReader()
    assert reader.feed(b"\x00\x00\x00\x3eVER|APP") == [Garbage("not_zvt")]
    assert reader.feed(bytes.fromhex("80 00 00")) == [Garbage("not_zvt")]


@given(st.integers(0, 0xFF), st.binary(max_size=700))
def test_what_is_written_is_read(instruction: int, data: bytes) -> None:
    apdu = Apdu(0x0600 | instruction, data)
    assert decode_apdu(encode_apdu(apdu)) == Decoded(apdu, len(encode_apdu(apdu)))
    assert SerialReader().feed(encode_serial(apdu)) == [apdu]


@given(st.lists(st.binary(max_size=200), max_size=30))
def test_readers_never_fail_and_never_hoard(pieces: list[bytes]) -> None:
    for reader in (TcpReader(), SerialReader()):
        for piece in pieces:
            reader.feed(piece)
        assert reader.pending <= APDU_DATA_ACCEPTED_MAX + 6


@given(st.lists(st.sampled_from([b"\x10", b"\x02", b"\x03", b"\x06", b"\x15", b"\x80\x00\x00", b"\x04"]), max_size=60))
def test_serial_reader_survives_any_order_of_control_bytes(pieces: list[bytes]) -> None:
    reader = SerialReader()
    for piece in pieces:
        reader.feed(piece)
    reader.reset()
    block = bytes.fromhex(SERIAL_VECTORS["ack"])
    assert reader.feed(block)[-1] == Apdu(0x8000)


def test_an_endless_serial_block_is_given_up() -> None:
    events = SerialReader().feed(b"\x10\x02" + b"\x04" * (APDU_DATA_ACCEPTED_MAX + 10))
    assert BadBlock("block_beyond_limit") in events
