"""TLV containers both ways, the vectors of other implementations written again, and card data at any depth."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.zvt_codec import (
    TLV_DEPTH_MAX,
    Apdu,
    Decoded,
    Garbage,
    NeedMore,
    TcpReader,
    Tlv,
    build_fields,
    build_tlv,
    decode_apdu,
    encode_apdu,
    encode_tlv,
    find_tlv,
    parse_fields,
    parse_tlv,
)
from drivers.zvt_messages import (
    DisplayText,
    IntermediateStatus,
    PrintText,
    SetClock,
    decode_answer,
    decode_command,
    decode_status_information,
    encode_command,
)
from tests.unit.drivers.test_zvt_fields import ABORTED, CHIP, NFC, PAN, REJECTED, digits

MASKED = bytes.fromhex("EEEEEEEEEEEE4771")
FIELDS = {
    NFC: [
        (0x27, "00"), (0x04, "000000002040"), (0x0B, "000470"), (0x0C, "223953"), (0x0D, "1006"), (0x0E, "2512"),
        (0x17, "0001"), (0x19, "70"), (0x22, MASKED), (0x29, "28004869"), (0x2A, b"100461763      "),
        (0x3B, b"611804\0\0"), (0x3C, b"GEN.NR.:611804"), (0x49, "0978"), (0x87, "0470"), (0x88, "000470"),
        (0x8A, "2E"), (0x8B, b"Debit Mastercard\0"),
    ],
    CHIP: [
        (0x27, "00"), (0x04, "000000002040"), (0x0C, "210916"), (0x0D, "1101"), (0x0E, "9999"), (0x22, MASKED),
        (0xA0, "01"), (0x29, "00000006"), (0x87, "0005"), (0x0B, "000000"), (0x8A, "06"), (0x8B, b"MASTERCARD\0"),
        (0x06, encode_tlv([
            Tlv(0x2F, children=(Tlv(0x1F12, b"\1"), Tlv(0x1F10, b"\3"))),
            Tlv(0x60, children=(Tlv(0x43, bytes.fromhex("A0000000041010")), Tlv(0x44, b"Debit Mastercard"))),
            Tlv(0x1F2B, bytes.fromhex("10016005")),
        ])),
    ],
    ABORTED: [(0x27, "6C"), (0x29, "28004869"), (0x3C, b"Abbruch durch Kunde")],
    REJECTED: [
        (0x27, "05"), (0x29, "29000274"), (0x3C, b"Abgelehnt"), (0x8A, "06"),
        (0x06, encode_tlv([Tlv(0x24, children=(Tlv(0x07, b"Abgelehnt"),))])),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("text", "fields"), FIELDS.items(), ids=["contactless", "chip", "aborted", "rejected"])
def test_status_informations_are_written_as_other_terminals_write_them(
    text: str, fields: list[tuple[int, str | bytes]]
) -> None:
    data = build_fields([(tag, bytes.fromhex(one) if isinstance(one, str) else one) for tag, one in fields])
    assert data == bytes.fromhex(text)
    apdu = Apdu(0x040F, data)
    assert decode_apdu(encode_apdu(apdu)) == Decoded(apdu, len(data) + 3)


def test_a_chip_payment_names_its_application_and_its_long_trace() -> None:
    status = decode_status_information(bytes.fromhex(CHIP))
    assert (status.application, status.application_id) == ("Debit Mastercard", "A0000000041010")
    assert status.long_trace == "10016005"


def test_the_serial_capture_of_another_implementation_is_read() -> None:
    data = bytes.fromhex(
        "27 00 04 00 00 00 00 40 00 49 09 78 0C 09 38 48 0D 04 25 22 F1 F1 59 66 66 66 66 D2 00 21 22 01 00 17 00 01"
        " 87 01 75 0B 61 39 95 19 40 29 60 09 99 14 0E 05 12 8A 02"
    )
    status = decode_status_information(data)
    assert parse_fields(data)[1]
    assert (status.result_code, status.amount_minor, status.currency) == (0, 4000, "EUR")
    assert (status.receipt_number, status.trace_number, status.terminal_id) == ("0175", "613995", "60099914")
    assert "5966" not in repr(status)


@pytest.mark.parametrize(
    ("raw", "size"),
    [("04 0F FF 01 00 6C", 1), ("04 0F FF 00 01 6C", 256), ("04 0F FF FF 3F 6C", 0x3FFF)],
)
def test_long_lengths_of_apdus_are_little_endian(raw: str, size: int) -> None:
    head = bytes.fromhex(raw)[:5]
    assert decode_apdu(head + b"\x6c" * size) == Decoded(Apdu(0x040F, b"\x6c" * size), 5 + size)
    assert isinstance(decode_apdu(head + b"\x6c" * (size - 1)), NeedMore)


@pytest.mark.parametrize("raw", ["04 0F", "", "06 1E FF 01"])
def test_an_unfinished_head_is_waited_for(raw: str) -> None:
    assert isinstance(decode_apdu(bytes.fromhex(raw)), NeedMore)


@pytest.mark.parametrize("raw", ["1E 01 FF", "04 0F FF FF FF"])
def test_a_head_that_cannot_be_is_refused(raw: str) -> None:
    assert isinstance(decode_apdu(bytes.fromhex(raw)), Garbage)


def test_a_greeting_of_another_protocol_is_garbage_from_its_first_byte() -> None:
    """Worldline Yomani on port 5001."""
    greeting = b"\x00\x00\x00\x3eVER|APP 1.0"
    for size in range(1, len(greeting)):
        assert TcpReader().feed(greeting[:size]) == [Garbage("not_zvt")]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (DisplayText(("AB", "CD"), 5), "06 E0 0C F0 05 F1 F0 F2 41 42 F2 F0 F2 43 44"),
        (SetClock("261201", "142530"), "06 91 08 AA 26 12 01 0C 14 25 30"),
    ],
)
def test_display_and_clock_are_written_and_read(command: DisplayText | SetClock, text: str) -> None:
    raw = bytes.fromhex(text)
    assert encode_apdu(encode_command(command)) == raw
    assert decode_command(Apdu(int.from_bytes(raw[:2], "big"), raw[3:])) == command


@pytest.mark.parametrize("command", [DisplayText(()), DisplayText(("a",) * 9), DisplayText(("a",), 256)])
def test_what_a_display_cannot_show_is_refused(command: DisplayText) -> None:
    with pytest.raises(ValueError, match="one to eight lines"):
        encode_command(command)


def test_extended_errors_and_texts_of_the_terminal() -> None:
    tlv = build_tlv(0x1F16, b"\x12\x34") + build_tlv(0x1F17, b"PIN pad missing")
    status = decode_status_information(build_fields([(0x27, b"\xfc"), (0x06, tlv)]))
    assert status.extended_error == "1234 PIN pad missing"
    shown = build_tlv(0x24, build_tlv(0x07, b"Bitte Karte") + build_tlv(0x07, b"einf\x81hren"))
    apdu = Apdu(0x04FF, b"\xff\x0a" + build_fields([(0x06, shown)]))
    assert decode_answer(apdu) == IntermediateStatus(0xFF, "Bitte Karte einführen")


@pytest.mark.parametrize(("kind", "whose"), [(1, "merchant"), (2, "cardholder"), (3, "administration"), (9, "")])
def test_a_block_says_for_whom_it_is(kind: int, whose: str) -> None:
    tlv = build_tlv(0x1F07, bytes((kind,))) + build_tlv(0x25, build_tlv(0x07, b"AB") + build_tlv(0x09, b"\1"))
    assert decode_answer(Apdu(0x06D3, build_fields([(0x06, tlv)]))) == PrintText(("AB",), whose)


TRACKS = (0x56, 0x57, 0x58, 0x5A, 0x5F20, 0x9F1F, 0x9F20, 0x9F6B)


@pytest.mark.parametrize("tag", TRACKS)
@pytest.mark.parametrize("value", [PAN.encode(), bytes.fromhex(PAN)])
def test_card_data_is_dropped_from_containers_at_any_depth(tag: int, value: bytes) -> None:
    leak = build_tlv(tag, value)
    for depth in range(TLV_DEPTH_MAX + 3):
        nested = leak + build_tlv(0x44, b"Visa")
        for _ in range(depth):
            nested = build_tlv(0x60, nested)
        elements = parse_tlv(nested)
        assert find_tlv(elements, tag) is None
        assert value not in encode_tlv(elements)


@pytest.mark.parametrize("tag", [0x22, 0x23, 0x24, 0x2D, 0x2E, 0xD1, 0x92, *TRACKS, 0x43, 0x44, 0x1F16, 0x1F17, 0x07])
@pytest.mark.parametrize("value", [PAN.encode(), bytes.fromhex(PAN)])
def test_a_test_card_in_each_field_alone_does_not_pass(tag: int, value: bytes) -> None:
    single = tag in (0x22, 0x23, 0x24, 0x2D, 0x2E, 0xD1, 0x92)
    data = build_fields([(tag, value)] if single else [(0x06, build_tlv(tag, value))])
    status = decode_status_information(build_fields([(0x27, b"\0")]) + data)
    assert "41111111" not in re.sub("[^0-9a-f]", "", digits(repr(status)))
    assert status.pan_last4 == ("1111" if tag == 0x22 and value != PAN.encode() else status.pan_last4)


def tlvs() -> st.SearchStrategy[Tlv]:
    """Trees of elements as terminals send them."""
    leaf = st.builds(Tlv, st.sampled_from([0x07, 0x43, 0x1F07, 0x1F8000]), st.binary(max_size=300))
    return st.recursive(
        leaf,
        lambda inner: st.builds(
            lambda tag, children: Tlv(tag, children=tuple(children)),
            st.sampled_from([0x24, 0x25, 0x2F, 0x60]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_leaves=6,
    )


@given(st.lists(tlvs(), max_size=3))
def test_trees_survive_being_written_and_read(elements: list[Tlv]) -> None:
    assert parse_tlv(encode_tlv(elements)) == tuple(elements)
