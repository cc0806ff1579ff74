"""Groups and fields: requests as published clients send them, answers without card data."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.poslink_codec import Frame, FrameReader, encode_frame
from drivers.poslink_messages import (
    AMOUNT_MAX,
    Answer,
    Record,
    Request,
    Transaction,
    batch_mark,
    decode_answer,
    decode_batch_close,
    decode_record,
    decode_saf_upload,
    decode_serial_number,
    decode_software,
    decode_transaction,
    detail,
    encode_request,
    payment_reference,
    sale,
    void,
)
from tests.unit.drivers.test_poslink_framing import VECTORS, frame_of

PAN = "4111111111111111"


def answer_of(text: str) -> Answer:
    answer = decode_answer(frame_of(text))
    assert answer is not None
    return answer


SALE_ANSWER = answer_of(VECTORS["sale_answer"][0])
RECORD_ANSWER = answer_of(
    "0|R03|1.40|000000|OK|1|0|0,DEMO APPROVED,000000,88888888,,,|01|01||4500,0,0,0,0,0,12048,2022"
    "|1034,4,0823,,,,03,PHAM/LINH                 ,,,0|2,776,20210412043119,776|,|||"
    "CARDBIN=372727,SN=53344914,TC=FEDD2F8578265FEE,TVR=0000008000,AID=A000000025010801,TSI=E800,"
    "APPLAB=AMERICAN EXPRESS,IAD=064C010321B802,ARC=Z3,CID=00,CVM=6"
)


def test_requests_stand_as_published_clients_send_them() -> None:
    assert encode_request(Request("A00")) == frame_of("A00|1.28")
    assert encode_request(sale(100, "1")) == frame_of("T00|1.28|01|100||1|||||")
    assert encode_frame(encode_request(sale(100, "1"))) == base64.b64decode(VECTORS["sale"][1])
    assert encode_request(void("12", "34")) == frame_of("T00|1.28|16|||34,,,12|||||")
    assert encode_request(detail(reference="776")) == frame_of("R02|1.28|00||||||776|")
    assert encode_request(detail(record=0)) == frame_of("R02|1.28|00|||0||||")
    assert encode_request(detail(number="2")) == frame_of("R02|1.28|00||||2|||")
    assert [Request(name).answered_by for name in ("A00", "T00", "R10", "B08")] == ["A01", "T01", "R11", "B09"]


@pytest.mark.parametrize("amount_minor", [-1, 0, AMOUNT_MAX + 1])
def test_an_amount_that_no_terminal_takes_is_refused(amount_minor: int) -> None:
    with pytest.raises(ValueError, match="nine digits"):
        sale(amount_minor, "1")


def test_the_published_answer_to_a_sale() -> None:
    assert decode_transaction(SALE_ANSWER) == Transaction(
        code="000000", message="OK", kind="01", host_code="0", host_message="APPROVED", authorization_code="000000",
        amount_minor=522, number="1", reference="1", at="20170317003101", pan_last4="1111", card_name="Visa",
        technology="manual",
    )  # fmt: skip


def test_the_published_record() -> None:
    record = decode_record(RECORD_ANSWER)
    assert record is not None
    assert record.total == 1
    said = record.transaction
    assert (said.number, said.reference, said.at) == ("2", "776", "20210412043119")
    assert (said.amount_minor, said.kind, said.host_code) == (4500, "01", "0")
    assert (said.pan_last4, said.card_name, said.technology) == ("1034", "AMERICAN EXPRESS", "chip")
    assert said.verification == "signature"
    assert "AID A000000025010801" in said.lines
    assert "PHAM" not in repr(record)
    assert "0823" not in repr(record)
    assert decode_record(answer_of("0|R03|1.40|000000|OK")) is None
    assert decode_record(answer_of("0|R03|1.40|000000|OK|0|0")) is None


@pytest.mark.parametrize(
    ("text", "software"),
    [
        ("0|A01|1.28|000000|OK|53344914|S300|V1.01.21", "S300 V1.01.21"),
        ("0|A01|1.28|000000|OK|53344914||V1.01.21", "V1.01.21"),
        ("0|A01|1.28|000000|OK|53344914|S300", ""),
        ("0|A01|1.28|000000|OK", ""),
        ("0|A01|1.28|000000|OK|53344914|S300|4111111111111111", "S300 ****"),
    ],
)
def test_model_and_version_of_the_system_behind_the_serial_number(text: str, software: str) -> None:
    assert decode_software(answer_of(text)) == software


def test_a_status_in_front_may_be_missing() -> None:
    assert answer_of("T01|1.28|000100|DECLINE") == Answer("T01", "000100", "DECLINE")
    assert answer_of("1|T01|1.28|000100|DECLINE").status == "1"


@pytest.mark.parametrize("text", ["", "0", "0|T01", "0|T01|1.28", "0|T01|1.28|OK", "0,1|T01|1.28|000000", "x|y|z|1|2"])
def test_what_is_no_answer_is_none(text: str) -> None:
    assert decode_answer(frame_of(text)) is None


@pytest.mark.parametrize(
    ("code", "message", "busy", "not_found", "unsupported", "reason"),
    [
        ("100099", "SERVICE BUSY", True, False, False, "terminal_busy"),
        ("100099", "PED BUSY", False, False, False, "answer_100099"),
        ("000000", "SERVICE BUSY", False, False, False, "no_content"),
        ("100023", "NOT FOUND", False, True, False, "not_found"),
        ("100023", "MULTIPLE RECORDS FOUND", False, False, False, "not_found"),
        ("100004", "UNSUPPORT TRANS", False, False, True, "unsupported"),
        ("100026", "UNSUPPORT COMMAND", False, False, True, "answer_100026"),
        ("100002", "ABORTED", False, False, False, "cancelled"),
    ],
)
def test_what_codes_and_texts_say(
    code: str, message: str, busy: bool, not_found: bool, unsupported: bool, reason: str
) -> None:
    answer = answer_of(f"0|R03|1.28|{code}|{message}")
    assert (answer.busy, answer.not_found, answer.unsupported) == (busy, not_found, unsupported)
    assert answer.reason == reason


def test_card_data_goes_no_further() -> None:
    track = f"{PAN}=25121010000012345"
    text = (
        f"0|T01|1.28|000000|OK {PAN}|0,{PAN},{PAN}|01|522|{PAN},4,1225,,,{PAN},01,HOLDER/NAME|1,{PAN},{PAN}|{track}"
        f"||{PAN}|APPLAB={PAN},CARDBIN={PAN[:6]},AID={PAN},TC={track},ORIGPAN={PAN},CVM=2"
    )
    answer = answer_of(text)
    seen = (
        repr(answer)
        + repr(decode_transaction(answer))
        + repr(decode_serial_number(answer_of(f"A01|1|000000|OK|{PAN}")))
    )
    assert PAN[:6] not in seen
    assert "HOLDER" not in seen
    assert "1225" not in seen
    assert decode_transaction(answer).pan_last4 == "1111"
    assert decode_transaction(answer).verification == "pin"


def test_totals_and_uploads_are_sums_or_nothing() -> None:
    closed = decode_batch_close(answer_of("0|B01|1.28|000000|OK|0,OK|3,1,0,0,0,0,0|2000,500,0,0,0,0,0|20260101000000"))
    assert (closed.count, closed.amount_minor) == (4, 2500)
    nothing = decode_batch_close(answer_of("0|B01|1.28|000000|OK|0,OK|a,1"))
    assert (nothing.count, nothing.amount_minor) == (None, None)
    huge = decode_batch_close(answer_of("0|B01|1.28|000000|OK||1|999999999999,1"))
    assert huge.amount_minor is None
    sent = decode_saf_upload(answer_of("0|B09|1.28|000000|OK|3|900|20260101000000|2|600|1|1"))
    assert (sent.total, sent.uploaded, sent.failed) == (3, 2, 1)


def test_the_mark_of_a_batch_is_its_number_where_there_is_one() -> None:
    def told(at: str, number: str, count: str = "1") -> str:
        return batch_mark(answer_of(f"0|R09|1.28|000000|OK|{count}|500|{at}|{number}"))

    assert told("20260101000000", "7") == told("20260102000000", "7")
    assert told("20260101000000", "7") != told("20260101000000", "8")
    assert told("20260101000000", "") != told("20260101000000", "", count="2")


def test_a_reference_is_twelve_digits_and_always_the_same() -> None:
    assert payment_reference("payment-1") == payment_reference("payment-1")
    assert payment_reference("payment-1") != payment_reference("payment-2")
    references = {payment_reference(f"0199a6f0-0000-7000-8000-{number:012x}") for number in range(5000)}
    assert len(references) == 5000
    assert all(len(text) == 12 and text.isdigit() for text in references)


@given(st.lists(st.lists(st.text(max_size=20), min_size=1, max_size=15).map(tuple), max_size=20))
def test_no_answer_makes_a_decoder_fail(groups: list[tuple[str, ...]]) -> None:
    for head in ((), (("0",), ("T01",), ("1",), ("000000",), ("OK",))):
        answer = decode_answer(Frame((*head, *groups)))
        if answer is not None:
            decode_transaction(answer)
            decode_batch_close(answer)
            decode_saf_upload(answer)
            decode_serial_number(answer)
            batch_mark(answer)
            record = decode_record(answer)
            assert record is None or isinstance(record, Record)


@given(st.binary(max_size=400))
def test_no_bytes_make_a_decoder_fail(data: bytes) -> None:
    for event in FrameReader().feed(b"\x02" + data.replace(b"\x03", b"") + b"\x03\x00"):
        if isinstance(event, Frame):
            decode_answer(event)
