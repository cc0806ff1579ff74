"""Text messages by tables, by another implementation (python-gsmmodem-new), and by whatever bytes may come."""

from __future__ import annotations

import pytest
from gsmmodem import pdu as other
from hypothesis import given
from hypothesis import strategies as st

from drivers.gsm_modem_codec import (
    AtReader,
    Deliver,
    Line,
    Part,
    Prompt,
    Report,
    StatusReport,
    Waiting,
    decode_incoming,
    decode_submit,
    encode_deliver,
    encode_status_report,
    encode_submit,
    from_septets,
    is_number,
    pack,
    read_pdu,
    refusal_of,
    to_septets,
    unpack,
    write_pdu,
)

NUMBER, SENT_AT = "+33612345678", "261201142530+4"
TEXTS = [
    "Bonjour", "@", "é à € {x}", "Ça va ? œuvre", "x" * 160, "x" * 161, "€" * 80, "€" * 81, "漢" * 70, "漢" * 71,
    "a" * 152 + "€€" + "b" * 10, "œ" * 66 + "ab" * 3, "@" * 8, "ligne\nligne",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("number", [NUMBER, "+3361234567"])
def test_another_implementation_writes_the_same_messages(text: str, number: str) -> None:
    theirs = [bytes(one.data[1:]) for one in other.encodeSmsSubmitPdu(number, text, reference=7)]
    ours = encode_submit(number, text, 7)
    # Theirs puts the reference of the long message into TP-MR as well, which the modem fills in anyway.
    assert [one[:1] + b"\x07" + one[2:] for one in ours] == theirs
    assert "".join(decode_submit(one).text for one in ours) == text


@pytest.mark.parametrize("text", [*TEXTS, "😀"])
def test_another_implementation_reads_our_messages(text: str) -> None:
    for pdu in encode_deliver(NUMBER, text, SENT_AT, 9):
        theirs, ours = other.decodeSmsPdu(write_pdu(pdu)), decode_incoming(pdu)
        assert isinstance(ours, Deliver)
        if text not in (
            "😀",
            "@" * 8,
        ):  # theirs reads UTF-16 unit by unit, and drops an eighth character of seven zeros
            assert theirs["text"] == ours.text
        assert (theirs["number"], ours.sent_at) == (NUMBER, SENT_AT)
        assert f"{theirs['time']:%y%m%d%H%M%S}" == SENT_AT[:12]
    report = other.decodeSmsPdu(write_pdu(encode_status_report(5, NUMBER, SENT_AT, 0x46)))
    assert (report["reference"], report["number"], report["status"]) == (5, NUMBER, 0x46)


def test_a_message_of_another_network() -> None:
    """A capture that is in many manuals: a service centre of its own, GSM's alphabet, `hellohello`."""
    said = read_pdu("07911326040000F0040B911346610089F60000208062917314080CC8F71D14969741F977FD07")
    assert said == Deliver("+31641600986", "How are you?", "020826193741-0", Part())


def test_senders_with_names_and_long_messages_with_wide_references() -> None:
    name = pack(to_septets("Banque") or b"")
    head = bytes((0x44, 11, 0xD0)) + name + bytes((0, 8)) + bytes.fromhex("62102141520340")
    header = bytes.fromhex("06080400FF0201")
    pdu = head + bytes((len(header) + 2,)) + header + "œ".encode("utf-16-be")
    assert decode_incoming(pdu) == Deliver("Banque", "œ", "260112142530+4", Part(255, 1, 2))


def test_surrogates_and_escapes_are_not_cut_apart() -> None:
    for text in ("a" * 66 + "😀" * 10, "a" * 152 + "€" * 10):
        for pdu in encode_submit(NUMBER, text, 1):
            assert "\ufffd" not in decode_submit(pdu).text
        assert "".join(decode_submit(pdu).text for pdu in encode_submit(NUMBER, text, 1)) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [("0612345678", "x"), ("+0612345678", "x"), (NUMBER, ""), (NUMBER, "x" * 1531), (NUMBER, "\ud800")],
)
def test_what_is_no_message_is_refused(number: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_submit(number, text, 0)


def test_numbers() -> None:
    assert is_number(NUMBER)
    assert not any(is_number(one) for one in ("", "33612345678", "+33 6", "+" + "1" * 16, NUMBER + "\n"))


@pytest.mark.parametrize("code", [332, 500, 999, 0])
def test_errors_that_leave_open_what_happened_are_no_refusals(code: int) -> None:
    assert refusal_of(code) is None


def test_lines_prompts_and_what_comes_by_itself_at_any_split() -> None:
    report = write_pdu(encode_status_report(5, NUMBER, SENT_AT, 0))
    said = f'\r\n+CREG: 0,1\r\n\r\nOK\r\n\r\n> \r\n+CMTI: "SM",3\r\n\r\n+CDS: 26\r\n{report}\r\n'.encode()
    wanted = [Line("+CREG: 0,1"), Line("OK"), Prompt(), Waiting(), Report(StatusReport(5, NUMBER, 0))]
    for size in range(1, len(said) + 1):
        reader = AtReader()
        assert [event for at in range(0, len(said), size) for event in reader.feed(said[at : at + size])] == wanted


GSM_TEXT = st.text(alphabet=st.sampled_from("@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩÆæßÉ aZ09€{}[]~^|\\"), min_size=1, max_size=400)


@given(GSM_TEXT | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200))
def test_any_text_survives(text: str) -> None:
    pdus = encode_submit(NUMBER, text, 200)
    parts = [decode_submit(pdu) for pdu in pdus]
    assert "".join(one.text for one in parts) == text
    assert [one.part.number for one in parts] == list(range(1, len(parts) + 1))
    assert all(len(pdu) <= 12 + 2 + 140 for pdu in pdus)


@given(st.binary(max_size=200).map(lambda data: bytes(byte & 0x7F for byte in data)), st.integers(0, 6))
def test_septets_survive(septets: bytes, fill_bits: int) -> None:
    assert unpack(pack(septets, fill_bits), len(septets), fill_bits) == septets
    assert isinstance(from_septets(septets), str)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_with_a_value_error(data: bytes) -> None:
    for decode in (decode_incoming, decode_submit):
        try:
            decode(data)
        except ValueError:
            continue
    read_pdu(data.hex())
    AtReader().feed(data)


@given(st.sampled_from(TEXTS), st.integers(0, 200), st.integers(0, 255))
def test_any_spoiled_byte_is_read_or_refused(text: str, at: int, byte: int) -> None:
    pdu = bytearray(encode_deliver(NUMBER, text, SENT_AT)[0])
    pdu[at % len(pdu)] = byte
    read_pdu(write_pdu(bytes(pdu)))
