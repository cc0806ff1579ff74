"""Framing by byte tables: the vectors are those of PAX's samples, as other people's tests quote them."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.poslink_codec import (
    FRAME_BYTES_MAX,
    HTTP_HEAD_BYTES_MAX,
    BadFrame,
    Control,
    Dialect,
    Frame,
    FrameReader,
    Garbage,
    HttpReader,
    LinkEvent,
    decode_get,
    encode_frame,
    encode_get,
    lrc,
)

FS, US = "\x1c", "\x1f"
VECTORS = {
    "initialise": ("A00|1.28", "AkEwMBwxLjI4A0s="),
    "get_signature": ("A08|1.28|0|90000", "AkEwOBwxLjI4HDAcOTAwMDADSg=="),
    "do_signature": ("A20|1.28|0|||200", "AkEyMBwxLjI4HDAcHBwyMDADSw=="),
    "sale": ("T00|1.28|01|100||1|||||", "AlQwMBwxLjI4HDAxHDEwMBwcMRwcHBwcA0M="),
    "sale_newer": ("T00|1.31|01|100||1||||||", "AlQwMBwxLjMxHDAxHDEwMBwcMRwcHBwcHANX"),
    "detail_report": ("R02|1.45|00||||||776|", "AlIwMhwxLjQ1HDAwHBwcHBwcNzc2HANn"),
    "cancel": ("A14|1.35|", base64.b64encode(b"\x02A14\x1c1.35\x1c\x03^").decode()),
    "sale_answer": (
        "0|T01|1.32|000000|OK|0,APPROVED,000000,88888888,,|01|522,0,22,0,0,33,12048,2022|1111,0,1122,,,,01,,,,1"
        "|1,1,20170317003101|,|,,,||",
        base64.b64encode(
            b"\x020\x1cT01\x1c1.32\x1c000000\x1cOK\x1c0\x1fAPPROVED\x1f000000\x1f88888888\x1f\x1f\x1c01\x1c522\x1f0\x1f22"
            b"\x1f0\x1f0\x1f33\x1f12048\x1f2022\x1c1111\x1f0\x1f1122\x1f\x1f\x1f\x1f01\x1f\x1f\x1f\x1f1\x1c1\x1f1\x1f"
            b"20170317003101\x1c\x1f\x1c\x1f\x1f\x1f\x1c\x1c\x03`"
        ).decode(),
    ),
}
vectors = pytest.mark.parametrize(("text", "encoded"), VECTORS.values(), ids=VECTORS.keys())
readers = pytest.mark.parametrize("make", [FrameReader, lambda: FrameReader(Dialect.LENGTH), HttpReader])
Reader = FrameReader | HttpReader


def frame_of(text: str) -> Frame:
    return Frame(tuple(tuple(group.split(",")) for group in text.split("|")))


def in_pieces(reader: Reader, data: bytes, size: int) -> list[LinkEvent]:
    return [event for at in range(0, len(data), size) for event in reader.feed(data[at : at + size])]


def test_the_first_vector_byte_by_byte() -> None:
    assert encode_frame(frame_of("A00|1.28")) == bytes.fromhex("02 41 30 30 1C 31 2E 32 38 03 4B")
    assert encode_frame(frame_of("A08|1.28|0|90000")) == bytes.fromhex(
        "02 41 30 38 1C 31 2E 32 38 1C 30 1C 39 30 30 30 30 03 4A"
    )


@vectors
def test_frames_are_written_as_others_write_them(text: str, encoded: str) -> None:
    assert encode_frame(frame_of(text)) == base64.b64decode(encoded)


@vectors
def test_frames_are_read_at_any_split(text: str, encoded: str) -> None:
    block = base64.b64decode(encoded)
    for size in range(1, len(block) + 1):
        assert in_pieces(FrameReader(), block, size) == [frame_of(text)]


@vectors
def test_any_flipped_bit_of_a_frame_is_noticed(text: str, encoded: str) -> None:
    block = base64.b64decode(encoded)
    for at in range(len(block)):
        for bit in range(8):
            spoiled = block[:at] + bytes((block[at] ^ (1 << bit),)) + block[at + 1 :]
            assert not any(isinstance(event, Frame) for event in FrameReader().feed(spoiled)), (at, bit)


@vectors
def test_the_dialect_with_a_length_says_how_many_bytes_follow(text: str, encoded: str) -> None:
    plain, block = base64.b64decode(encoded), encode_frame(frame_of(text), Dialect.LENGTH)
    assert block[:5] == b"\x02%04d" % (len(plain) - 2)
    assert block[5:-1] == plain[1:-1]
    assert block[-1] == lrc(block[1:-1])
    for size in range(1, len(block) + 1):
        assert in_pieces(FrameReader(Dialect.LENGTH), block, size) == [frame_of(text)]
    for at in range(len(block)):
        spoiled = block[:at] + bytes((block[at] ^ 0x01,)) + block[at + 1 :]
        assert not any(isinstance(event, Frame) for event in FrameReader(Dialect.LENGTH).feed(spoiled)), at


def test_control_bytes_between_frames() -> None:
    block = encode_frame(frame_of("A00|1.28"))
    events = FrameReader().feed(b"\x06" + block + b"\x04\x15\x05" + block)
    assert events == [Control(6), frame_of("A00|1.28"), Control(4), Control(0x15), Control(5), frame_of("A00|1.28")]


def test_a_wrong_check_byte_spoils_one_frame_only() -> None:
    block = encode_frame(frame_of("A00|1.28"))
    assert FrameReader().feed(block[:-1] + b"\x00" + block) == [BadFrame("wrong_check_byte"), frame_of("A00|1.28")]


@pytest.mark.parametrize(
    ("dialect", "data", "reason"),
    [
        (Dialect.PLAIN, b"\x00\x00\x00\x3eVER", "not_poslink"),
        (Dialect.PLAIN, b"HTTP/1.1 200 OK", "not_poslink"),
        (Dialect.PLAIN, b"\x06A00", "not_poslink"),
        (Dialect.PLAIN, b"\x02" + b"0" * (FRAME_BYTES_MAX + 1), "frame_beyond_limit"),
        (Dialect.LENGTH, b"\x02A00\x1c", "no_length"),
        (Dialect.LENGTH, b"\x020000\x03", "no_length"),
    ],
)
def test_what_is_not_poslink_is_garbage_and_stays_it(dialect: Dialect, data: bytes, reason: str) -> None:
    reader = FrameReader(dialect)
    assert reader.feed(data)[-1] == Garbage(reason)
    assert reader.feed(encode_frame(frame_of("A00|1.28"), dialect)) == [Garbage(reason)]
    assert reader.pending == 0


@pytest.mark.parametrize(
    "groups", [(("A00",), ()), (("A\x1c",),), (("A\x03",),), (("\u20ac",),), (("1" * FRAME_BYTES_MAX,),)]
)
def test_what_no_frame_can_hold_is_refused(groups: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_frame(Frame(groups))


def test_a_length_beyond_four_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        encode_frame(Frame((("1" * 9999,),)), Dialect.LENGTH)


def test_a_frame_does_not_show_what_it_holds() -> None:
    assert "4111" not in repr(frame_of("T01|4111111111111111"))
    assert frame_of("A00|1.28").describe() == "2 groups"


# -- HTTP ------------------------------------------------------------------------------------------------------------

ANSWER = frame_of("0|A01|1.28|000000|OK|12345")
BODY = encode_frame(ANSWER)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n",
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n",
        b"",
    ],
)
def test_the_frame_in_a_reply_is_found_at_any_split(head: bytes) -> None:
    reply = head + BODY + b"\r\n0\r\n\r\n"
    for size in range(1, len(reply) + 1):
        assert in_pieces(HttpReader(), reply, size) == [ANSWER]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "http_refused"),
        (b"SSH-2.0-x\r\n", "not_poslink"),
        (b"SSH-2.0-x\r\n\r\n", "not_poslink"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * HTTP_HEAD_BYTES_MAX, "http_refused"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (HTTP_HEAD_BYTES_MAX + 1), "not_poslink"),
    ],
)
def test_another_kind_of_server_is_garbage(reply: bytes, reason: str) -> None:
    assert HttpReader().feed(reply) == [Garbage(reason)]


def test_a_get_carries_the_frame_as_its_query() -> None:
    block = encode_frame(frame_of("A00|1.28"))
    request = encode_get(block, "10.0.0.7:10009")
    assert request.startswith(b"GET /?AkEwMBwxLjI4A0s= HTTP/1.1\r\nHost: 10.0.0.7:10009\r\n")
    assert request.endswith(b"\r\n\r\n")
    assert decode_get(request) == block


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\n", b"GET /?A HTTP/1.1\r\n", b"POST /?AkEw HTTP/1.1\r\n"])
def test_a_request_without_a_frame_holds_none(head: bytes) -> None:
    assert decode_get(head) is None


# -- fuzzing ---------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20)
frames = st.lists(st.lists(texts, min_size=1, max_size=6).map(tuple), min_size=1, max_size=12).map(
    lambda groups: Frame(tuple(groups))
)


@given(frames, st.sampled_from([Dialect.PLAIN, Dialect.LENGTH]), st.integers(1, 40))
def test_what_is_written_is_read(frame: Frame, dialect: Dialect, size: int) -> None:
    assert in_pieces(FrameReader(dialect), encode_frame(frame, dialect) * 2, size) == [frame, frame]


@given(frames)
def test_what_is_asked_over_http_is_read(frame: Frame) -> None:
    assert decode_get(encode_get(encode_frame(frame), "terminal")) == encode_frame(frame)
    assert HttpReader().feed(b"HTTP/1.1 200 OK\r\n\r\n" + encode_frame(frame)) == [frame]


@readers
@given(pieces=st.lists(st.binary(max_size=300) | st.sampled_from([b"\x02", b"\x03", b"\x06", BODY]), max_size=40))
def test_readers_never_fail_and_never_hoard(make: Callable[[], Reader], pieces: list[bytes]) -> None:
    reader = make()
    for piece in pieces:
        reader.feed(piece)
        assert reader.pending <= FRAME_BYTES_MAX + HTTP_HEAD_BYTES_MAX


def test_a_frame_without_an_end_is_given_up() -> None:
    for make in (FrameReader, HttpReader):
        reader = make()
        events = [event for _ in range(40) for event in reader.feed(b"\x02" + b"1" * 1023)]
        assert Garbage("frame_beyond_limit") in events
        assert reader.pending == 0
