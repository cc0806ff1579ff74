"""Concert bytes by tables: the vectors come from other people's clients, the traps from the check byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.concert_codec import (
    AMOUNT_MAX,
    ANSWER_CHARACTERS,
    CURRENCY_NUMBERS,
    FORCE_ONLINE,
    FULL_ANSWER,
    FULL_ANSWER_CHARACTERS,
    NOISE_MAX,
    PAYLOAD_MAX,
    REPORT_CHARACTERS,
    TERMINAL_DECIDES,
    BadFrame,
    Frame,
    FrameReader,
    Garbage,
    LinkEvent,
    Malformed,
    PaymentAnswer,
    PaymentRequest,
    Signal,
    decode_answer,
    decode_request,
    encode_answer,
    encode_frame,
    encode_request,
    lrc,
    reference_of,
)

REQUESTS = {
    "short_12_50": (
        "02 30 31 30 30 30 30 31 32 35 30 30 31 30 39 37 38"
        " 20 20 20 20 20 20 20 20 20 20 41 30 31 30 42 30 31 30 03 00",
        PaymentRequest("01", 1250, "EUR"),
    ),
    "full_online_1_99": (
        "02 30 32 30 30 30 30 30 31 39 39 31 31 30 39 37 38"
        " 20 20 20 20 20 20 20 20 20 20 41 30 31 30 42 30 31 31 03 04",
        PaymentRequest("02", 199, "EUR", answer=FULL_ANSWER, authorization=FORCE_ONLINE),
    ),
}
ANSWERS = {
    "approved": (
        "02 30 31 30 30 30 30 30 31 32 35 30 31 39 37 38 30 30 30 30 30 30 30 30 30 31 03 32",
        PaymentAnswer("01", "0", 1250, "1", "978"),
        "0000000001",
    ),
    "refused": (
        "02 30 31 37 30 30 30 30 31 32 35 30 31 39 37 38 20 20 20 20 20 20 20 20 20 20 03 34",
        PaymentAnswer("01", "7", 1250, "1", "978"),
        " " * 10,
    ),
}
requests = pytest.mark.parametrize(("text", "request_"), REQUESTS.values(), ids=REQUESTS.keys())
answers = pytest.mark.parametrize(("text", "answer", "private"), ANSWERS.values(), ids=ANSWERS.keys())
every_frame = pytest.mark.parametrize(
    "text", [entry[0] for entry in (*REQUESTS.values(), *ANSWERS.values())], ids=[*REQUESTS, *ANSWERS]
)
PAN = "4111111111111111"


def read(data: bytes, size: int = PAYLOAD_MAX) -> list[LinkEvent]:
    reader = FrameReader()
    return [event for at in range(0, len(data), size) for event in reader.feed(data[at : at + size])]


def only_frame(data: bytes) -> Frame:
    (event,) = read(data)
    assert isinstance(event, Frame)
    return event


@requests
def test_a_request_is_written_and_read_as_others_do(text: str, request_: PaymentRequest) -> None:
    assert encode_frame(encode_request(request_)) == bytes.fromhex(text)
    assert decode_request(only_frame(bytes.fromhex(text))) == request_


@answers
def test_an_answer_is_read_and_written_as_others_do(text: str, answer: PaymentAnswer, private: str) -> None:
    assert decode_answer(only_frame(bytes.fromhex(text))) == answer
    assert encode_frame(encode_answer(answer, private)) == bytes.fromhex(text)


@every_frame
def test_a_frame_is_read_at_any_split(text: str) -> None:
    block = bytes.fromhex(text)
    whole = read(block)
    assert len(whole) == 1
    for size in range(1, len(block) + 1):
        assert read(block, size) == whole


@every_frame
def test_every_flipped_bit_is_noticed(text: str) -> None:
    block = bytes.fromhex(text)
    for at in range(len(block)):
        for bit in range(8):
            spoiled = block[:at] + bytes((block[at] ^ (1 << bit),)) + block[at + 1 :]
            assert not any(isinstance(event, Frame) for event in read(spoiled)), (at, bit)


@pytest.mark.parametrize("check", [0x00, 0x02, 0x03, 0x04, 0x05, 0x06, 0x15])
def test_a_check_byte_that_looks_like_a_signal_is_a_check_byte(check: int) -> None:
    payload = bytes((0x40, 0x40 ^ 0x03 ^ check))
    block = encode_frame(Frame(payload))
    assert block[-1] == check
    assert read(block + Signal.EOT.encoded) == [Frame(payload), Signal.EOT]


def test_signals_between_frames() -> None:
    assert read(b"\x05\x06\x15\x04") == [Signal.ENQ, Signal.ACK, Signal.NAK, Signal.EOT]


def test_a_signal_inside_a_frame_is_a_spoiled_character() -> None:
    block = bytearray(bytes.fromhex(REQUESTS["short_12_50"][0]))
    block[9] = Signal.EOT
    assert read(bytes(block)) == [BadFrame("wrong_check_byte")]
    # Also where the check byte happens to fit.
    body = b"AB\x04\x03"
    assert read(b"\x02" + body + bytes((lrc(body),))) == [BadFrame("wrong_check_byte")]


def test_a_frame_whose_end_was_lost_does_not_swallow_the_next() -> None:
    block = bytes.fromhex(ANSWERS["approved"][0])
    assert read(block[:9] + block) == read(block)


def test_a_frame_without_end_is_given_up_and_forgotten() -> None:
    assert read(b"\x02" + b"0" * (PAYLOAD_MAX + 1)) == [BadFrame("frame_beyond_limit")]
    reader = FrameReader()
    assert reader.feed(b"\x02" + b"0" * PAYLOAD_MAX) == []
    assert reader.give_up() == BadFrame("cut_short")
    assert reader.pending is False
    assert reader.feed(b"\x06") == [Signal.ACK]


def test_noise_is_skipped_up_to_a_limit() -> None:
    block = bytes.fromhex(ANSWERS["approved"][0])
    assert read(b"\x00" * NOISE_MAX + block) == read(block)
    assert read(b"\x00" * (NOISE_MAX + 1)) == [Garbage("babble")]


@given(st.lists(st.binary(max_size=300), max_size=30))
def test_no_bytes_break_the_reader(pieces: list[bytes]) -> None:
    reader = FrameReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    assert len(events) <= sum(map(len, pieces))
    reader.give_up()
    good = bytes.fromhex(ANSWERS["approved"][0])
    assert reader.feed(good) == read(good)


@given(st.binary(max_size=FULL_ANSWER_CHARACTERS + 5))
def test_no_payload_breaks_the_decoders(payload: bytes) -> None:
    assert isinstance(decode_answer(Frame(payload)), (PaymentAnswer, Malformed))
    assert isinstance(decode_request(Frame(payload)), (PaymentRequest, Malformed))


@given(st.text("0123456789 ", min_size=ANSWER_CHARACTERS, max_size=ANSWER_CHARACTERS))
def test_an_answer_of_digits_and_blanks_is_read_or_refused(text: str) -> None:
    answer = decode_answer(Frame(text.encode("ascii")))
    assert isinstance(answer, Malformed) is (" " in text[:2] + text[3:11] + text[12:15])


@given(
    st.builds(
        PaymentRequest,
        pos_number=st.from_regex(r"[0-9]{2}", fullmatch=True),
        amount_minor=st.integers(0, AMOUNT_MAX),
        currency=st.sampled_from(sorted(CURRENCY_NUMBERS)),
        private=st.builds(reference_of, st.text()),
        authorization=st.sampled_from([TERMINAL_DECIDES, FORCE_ONLINE]),
    )
)
def test_every_request_comes_back(request_: PaymentRequest) -> None:
    assert decode_request(only_frame(encode_frame(encode_request(request_)))) == request_


@given(
    st.builds(
        PaymentAnswer,
        pos_number=st.from_regex(r"[0-9]{2}", fullmatch=True),
        result=st.from_regex(r"[ -~]", fullmatch=True),
        amount_minor=st.integers(0, AMOUNT_MAX),
        mode=st.from_regex(r"[ -~]", fullmatch=True),
        currency_number=st.from_regex(r"[0-9]{3}", fullmatch=True),
        reference=st.one_of(st.just(""), st.builds(reference_of, st.text())),
    ),
    st.sampled_from(["", PAN.ljust(REPORT_CHARACTERS, "0"), f"{PAN} 2512".rjust(REPORT_CHARACTERS)]),
)
def test_every_answer_comes_back_without_its_report(answer: PaymentAnswer, report: str) -> None:
    assert decode_answer(only_frame(encode_frame(encode_answer(answer, report=report)))) == answer


def test_neither_report_nor_a_foreign_private_field_leaves_the_decoder() -> None:
    answer = PaymentAnswer("01", "0", 1250, "1", "978")
    frame = encode_answer(answer, private=PAN[:10], report=PAN.ljust(REPORT_CHARACTERS))
    assert PAN[:8] not in repr(frame)
    assert PAN[:8] not in repr(decode_answer(frame))


@pytest.mark.parametrize(
    "request_",
    [
        PaymentRequest("01", AMOUNT_MAX + 1, "EUR"),
        PaymentRequest("01", -1, "EUR"),
        PaymentRequest("01", 100, "JPY"),
        PaymentRequest("1", 100, "EUR"),
        PaymentRequest("1", 100, "EUR", private=" " * 11),
    ],
)
def test_what_does_not_fit_is_not_written(request_: PaymentRequest) -> None:
    with pytest.raises(ValueError, match=r".+"):
        encode_request(request_)


@pytest.mark.parametrize("payload", [b"\x03", b"caf\xe9", b"0" * (PAYLOAD_MAX + 1)])
def test_what_no_frame_carries_is_not_framed(payload: bytes) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        encode_frame(Frame(payload))


def test_an_answer_that_does_not_fit_is_not_written() -> None:
    with pytest.raises(ValueError, match="wrong length"):
        encode_answer(PaymentAnswer("01", "0", 1250, "1", "978"), report="x")


def test_a_reference_is_short_and_its_own() -> None:
    assert reference_of("payment-1") == "HNPRAC6TGN"
    assert len({reference_of(f"payment-{number}") for number in range(2000)}) == 2000
