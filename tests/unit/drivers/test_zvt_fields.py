"""Fields and TLV: other people's captures, and card data that must not pass."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.zvt_codec import (
    Apdu,
    amount_to_bcd,
    ber_length,
    build_fields,
    build_tlv,
    find_tlv,
    parse_fields,
    parse_tag,
    parse_tlv,
    scrub_text,
)
from drivers.zvt_messages import (
    AUTHORIZATION,
    CONFIG_BYTE,
    DIAGNOSIS,
    END_OF_DAY,
    EXTENDED_DIAGNOSIS,
    INITIALISATION,
    Abort,
    Ack,
    Authorization,
    Command,
    Completion,
    IntermediateStatus,
    Plain,
    PrintText,
    Refusal,
    Registration,
    Reversal,
    StatusInformation,
    decode_answer,
    decode_command,
    decode_registration,
    decode_software,
    decode_status_information,
    decode_terminal_status,
    encode_command,
    encode_totals,
)

NFC = (
    "27 00 04 00 00 00 00 20 40 0B 00 04 70 0C 22 39 53 0D 10 06 0E 25 12 17 00 01 19 70 22 F0 F8 EE EE EE EE EE EE 47"
    " 71 29 28 00 48 69 2A 31 30 30 34 36 31 37 36 33 20 20 20 20 20 20 3B 36 31 31 38 30 34 00 00 3C F0 F1 F4 47 45 4E"
    " 2E 4E 52 2E 3A 36 31 31 38 30 34 49 09 78 87 04 70 88 00 04 70 8A 2E 8B F1 F7 44 65 62 69 74 20 4D 61 73 74 65 72"
    " 63 61 72 64 00"
)
CHIP = (
    "27 00 04 00 00 00 00 20 40 0C 21 09 16 0D 11 01 0E 99 99 22 F0 F8 EE EE EE EE EE EE 47 71 A0 01 29 00 00 00 06 87"
    " 00 05 0B 00 00 00 8A 06 8B F1 F1 4D 41 53 54 45 52 43 41 52 44 00 06 2E 2F 08 1F 12 01 01 1F 10 01 03 60 1B 43 07"
    " A0 00 00 00 04 10 10 44 10 44 65 62 69 74 20 4D 61 73 74 65 72 63 61 72 64 1F 2B 04 10 01 60 05"
)
ABORTED = (
    "27 6C 29 28 00 48 69 3C F0 F1 F9 41 62 62 72 75 63 68 20 64 75 72 63 68 20 4B 75 6E 64 65"
)  # fmt: skip
REJECTED = (
    "27 05 29 29 00 02 74 3C F0 F0 F9 41 62 67 65 6C 65 68 6E 74 8A 06 06 0D 24 0B 07 09 41 62 67 65 6C 65 68 6E 74"
)
PAN = "4111111111111111"


def test_contactless_approval_of_another_implementations_capture() -> None:
    assert decode_status_information(bytes.fromhex(NFC)) == StatusInformation(
        result_code=0, amount_minor=2040, currency="EUR", receipt_number="0470", trace_number="000470",
        terminal_id="28004869", card_name="Debit Mastercard", pan_last4="4771", authorization_code="611804",
        date="1006", time="223953", text="GEN.NR.:611804",
    )  # fmt: skip


def test_chip_approval_with_tlv_of_another_implementations_capture() -> None:
    status = decode_status_information(bytes.fromhex(CHIP))
    assert (status.amount_minor, status.currency, status.receipt_number) == (2040, None, "0005")
    assert (status.technology, status.verification, status.card_name) == ("chip", "pin", "MASTERCARD")


def test_refusals_of_other_implementations_captures() -> None:
    assert decode_answer(Apdu(0x040F, bytes.fromhex(ABORTED))) == StatusInformation(
        result_code=0x6C, terminal_id="28004869", text="Abbruch durch Kunde"
    )
    rejected = decode_status_information(bytes.fromhex(REJECTED))
    assert (rejected.result_code, rejected.text, rejected.amount_minor) == (5, "Abgelehnt", None)


@pytest.mark.parametrize("text", [NFC, CHIP, ABORTED, REJECTED])
def test_every_field_of_a_capture_is_consumed(text: str) -> None:
    assert parse_fields(bytes.fromhex(text))[1]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (Registration("123456", 0xBA, "EUR"), "06 00 06 12 34 56 BA 09 78"),
        (Authorization(11_000, "EUR"), "06 01 0A 04 00 00 00 01 10 00 49 09 78"),
        (Authorization(1000), "06 01 07 04 00 00 00 00 10 00"),
        (Plain(INITIALISATION, "123456"), "06 93 03 12 34 56"),
        (Plain(DIAGNOSIS), "06 70 00"),
        (Plain(DIAGNOSIS, form=EXTENDED_DIAGNOSIS), "06 70 05 06 03 1B 01 02"),
        (Plain(END_OF_DAY, "000000"), "06 50 03 00 00 00"),
        (Reversal("000000", "0470"), "06 30 06 00 00 00 87 04 70"),
    ],
)
def test_commands_are_written_and_read_as_others_do(command: Command, text: str) -> None:
    raw = bytes.fromhex(text)
    apdu = Apdu(int.from_bytes(raw[:2], "big"), raw[3:])
    assert encode_command(command) == apdu
    assert decode_command(apdu) == command


def test_registration_lets_nothing_start_behind_the_hubs_back() -> None:
    assert CONFIG_BYTE == 0xBE


def test_amounts_beyond_the_field_are_refused_and_not_cut() -> None:
    assert amount_to_bcd(999_999_999_999) == b"\x99" * 6
    for amount in (-1, 10**12):
        with pytest.raises(ValueError, match="twelve digits"):
            amount_to_bcd(amount)
    with pytest.raises(ValueError, match="XAF"):
        encode_command(Authorization(1, "XAF"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("80 00 00", Ack()), ("84 00 00", Ack()), ("84 9C 00", Refusal(0x9C)),
        ("04 FF 01 0A", IntermediateStatus(0x0A)),
        ("06 0F 00", Completion()), ("06 1E 01 6C", Abort(0x6C)), ("06 1E 00", Abort(None)),
        ("06 D1 05 00 41 42 43 44", PrintText(("ABCD",))),
        ("06 D3 10 06 0E 1F 07 01 02 25 08 07 02 41 42 07 02 43 44", PrintText(("AB", "CD"), "cardholder")),
    ],
)  # fmt: skip
def test_answers(text: str, answer: object) -> None:
    raw = bytes.fromhex(text)
    assert decode_answer(Apdu(int.from_bytes(raw[:2], "big"), raw[3:])) == answer


def test_tags_and_lengths_are_ber_and_big_endian() -> None:
    assert parse_tag(b"\x1f\x07") == (0x1F07, 2)
    assert parse_tag(b"\x1f\x80\x00") == (0x1F8000, 3)
    assert parse_tag(b"\x25") == (0x25, 1)
    assert ber_length(650) == bytes.fromhex("82 02 8A")
    fields, whole = parse_fields(b"\x06" + ber_length(650) + bytes(650))
    assert whole
    assert len(fields[0x06]) == 650


def test_completions() -> None:
    assert decode_registration(Completion(bytes.fromhex("19 02 29 52 50 00 38 49 09 78"))).status == 2
    assert decode_terminal_status(Completion(b"")) == 0
    assert decode_terminal_status(Completion(b"\x9c")) == 0x9C
    assert decode_terminal_status(Completion(bytes.fromhex("F0 F0 F3 31 2E 32 51"))) == 0x51


@pytest.mark.parametrize(
    ("data", "status", "software"),
    [
        ("", 0, ""),
        ("00", 0, ""),
        ("F0", 0xF0, ""),
        ("F0 F0 F3 31 2E 32 51", 0x51, "1.2"),
        ("F1 F0 F1" + "41" * 101 + "51", 0x51, "A" * 80),
        ("00 06 0C E4 0A 1F 40 02 48 31 1F 41 02 76 32", 0, "H1 v2"),
        ("F0 F0 F3 31 2E 32 00 06 0C E4 0A 1F 40 02 48 31 1F 41 02 76 32", 0, "H1 v2"),
        ("F0 F0 F3 31 2E 32 00 06 07 E4 05 1F 40 02 48 31", 0, "H1 1.2"),
        ("00 06 07 E4 05 1F 40 02 48 31", 0, ""),
        ("F0 F0 F2 1B 41 00", 0, "A"),
        ("F0 F0 F3 31 2E", 0, "1."),
        ("F0 F1 F6 34 31 31 31 31 31 31 31 31 31 31 31 31 31 31 31 00", 0, "**** 1111"),
    ],
)
def test_name_and_version_of_the_software_in_a_status_enquiry(data: str, status: int, software: str) -> None:
    completion = Completion(bytes.fromhex(data))
    assert (decode_terminal_status(completion), decode_software(completion)) == (status, software)


def test_totals_survive_their_own_reading() -> None:
    data = build_fields([(0x60, encode_totals("0001", "0300", 300, 123_456))])
    assert decode_status_information(data).totals == (300, 123_456)


def digits(text: str) -> str:
    """The text without what people put between the digits of a number."""
    return re.sub(r"[ .\-/]", "", text)


def test_card_data_is_dropped_by_the_decoder() -> None:
    number, text = bytes.fromhex(PAN), PAN.encode()
    dropped = [(tag, text) for tag in (0x23, 0x2D, 0x24, 0x2E, 0xD1, 0x92)]
    tlv = b"".join(build_tlv(tag, text) for tag in (0x5A, 0x57, 0x46, 0x47, 0x07, 0x1F10, 0x1F12, 0x44, 0x43))
    shown = [(0x22, number), (0x8B, text), (0x3C, text), (0xF1, text), (0x60, text), (0x06, tlv), (0xA7, text)]
    data = build_fields([(0x27, b"\0"), *dropped, *shown])
    fields, whole = parse_fields(data)
    assert whole
    assert fields[0x22] == b"1111"
    assert not {tag for tag, _ in dropped} & set(fields)
    status = decode_status_information(data)
    assert status.pan_last4 == "1111"
    assert "41111111" not in digits(repr(status))
    for command in (0x04FF, 0x06D1, 0x06D3, 0x040F, 0x060F, 0x061E, 0x06D8):
        apdu = Apdu(command, b"\x0a\x00" + build_fields([(0x06, build_tlv(0x24, build_tlv(0x07, text)))]) + text)
        assert "41111111" not in digits(repr(apdu) + apdu.describe() + repr(decode_answer(apdu)))


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        ("Karte 4111 1111 1111 1111", "Karte **** 1111"),
        ("4111-1111-1111-1111 ok", "**** 1111 ok"),
        (";4111111111111111=25121010000012345?", "****"),
        ("EAN 4006381333931", "EAN 4006381333931"),
        ("Beleg 0470 TA 000470", "Beleg 0470 TA 000470"),
        ("############4771", "############4771"),
    ],
)
def test_printed_card_numbers_are_masked_and_other_numbers_are_not(printed: str, kept: str) -> None:
    assert scrub_text(printed.encode()) == kept


@given(st.binary(max_size=400))
def test_any_bytes_give_a_value_and_no_exception(data: bytes) -> None:
    for command in (0x040F, 0x04FF, 0x06D1, 0x06D3, 0x060F, 0x061E, 0x8000, 0x8499, 0x06E4):
        answer = decode_answer(Apdu(command, data))
        if isinstance(answer, Completion):
            decode_registration(answer)
            decode_terminal_status(answer)
            decode_software(answer)
    for command in (0x0600, AUTHORIZATION, 0x0630, 0x0501):
        decode_command(Apdu(command, data))
    parse_fields(data)
    find_tlv(parse_tlv(data), 0x1F10)


def test_deeply_nested_containers_end() -> None:
    nested = b""
    for _ in range(200):
        nested = build_tlv(0x25, nested)
    assert find_tlv(parse_tlv(nested), 0x07) is None


@given(
    st.dictionaries(st.sampled_from([0x24, 0x2E, 0x3C, 0x60, 0x8B, 0xF1]), st.binary(max_size=99), max_size=6),
    st.binary(max_size=300),
)
def test_fields_that_are_built_are_read(texts: dict[int, bytes], tlv: bytes) -> None:
    fields, whole = parse_fields(build_fields([*texts.items(), (0x06, tlv)]))
    assert whole
    assert fields == {tag: text for tag, text in texts.items() if tag not in (0x24, 0x2E)} | {0x06: tlv}
