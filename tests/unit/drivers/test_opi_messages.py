"""OPI messages: documents of other projects, decoded and encoded; card data never arrives."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.opi_codec import Garbage
from drivers.opi_messages import (
    ABORT_INPUT,
    CARD_PAYMENT,
    CARD_REPEAT_LAST_MESSAGE,
    END_OF_DAY,
    INPUT,
    LOGIN,
    OUTPUT,
    PAYMENT_REVERSAL,
    Authorisation,
    CardServiceRequest,
    CardServiceResponse,
    DeviceRequest,
    DeviceResponse,
    Message,
    Output,
    OutputResult,
    ServiceRequest,
    ServiceResponse,
    Till,
    Total,
    decode,
    encode,
    request_id_of,
    sum_of,
)
from hubd.model.money import Money

EUR_39_50 = Money(3950, "EUR")
REQUEST_XML = """
<CardServiceRequest xmlns="http://www.nrf-arts.org/IXRetail/namespace" RequestType="CardPayment" ApplicationSender="hubd" POPID="001" RequestID="20544" WorkstationID="1">
  <POSdata LanguageCode="fr"><POSTimeStamp>2024-02-09T09:36:36</POSTimeStamp></POSdata>
  <TotalAmount Currency="EUR">39.50</TotalAmount></CardServiceRequest>
"""  # noqa: E501 - as they write it
REQUEST = CardServiceRequest(CARD_PAYMENT, "20544", Till(language="fr"), "2024-02-09T09:36:36", EUR_39_50)
RESPONSE_XML = """
<CardServiceResponse RequestType="CardPayment" WorkstationID="1" RequestID="20544" OverallResult="Success"><Terminal TerminalID="68276185" STAN="021601"/>
  <Tender><TotalAmount Currency="EUR">39.50</TotalAmount><Authorisation AuthorisationType="Online" CardCircuit="girocard" CardPAN="############4747" ReceiptNumber="8930" ActionCode="0" TimeStamp="2024-02-09T09:36:28"/></Tender>
  <PrivateData><CardTechnologyType>NFC</CardTechnologyType><CardVerificationMethod>NoCVM</CardVerificationMethod><ErrorCode>1002700</ErrorCode><ErrorText>Zahlung erfolgt</ErrorText></PrivateData></CardServiceResponse>
"""  # noqa: E501 - as they write it
RESPONSE = CardServiceResponse(
    CARD_PAYMENT, "20544", "Success", "1", "68276185", "021601", "", EUR_39_50,
    Authorisation("Online", "girocard", "4747", "8930", "0", "", "2024-02-09T09:36:28"),
    "NFC", "NoCVM", "1002700", "Zahlung erfolgt",
)  # fmt: skip
DEVICE_XML = """
<DeviceRequest RequestType="Output" RequestID="20792" WorkstationID="1" SequenceID="2" TerminalID="68276185" ApplicationSender="Thales-OPI">
  <Output OutDeviceTarget="CashierDisplay"><TextLine Column="0" Row="0">Vorgang wird</TextLine><TextLine Column="0" Row="1">bearbeitet</TextLine></Output></DeviceRequest>
"""  # noqa: E501 - as they write it
DEVICE = DeviceRequest(
    OUTPUT, "20792", "1", "2", "68276185", (Output("CashierDisplay", ("Vorgang wird", "bearbeitet")),)
)
RECONCILIATION_XML = """<?xml version="1.0" encoding="UTF-8"?>
<ServiceResponse xmlns="http://www.nrf-arts.org/IXRetail/namespace"
 RequestType="ReconciliationWithClosure" WorkstationID="1" RequestID="20792" OverallResult="Success">
 <Terminal TerminalID="68276185" STAN="021888"/><Authorisation TimeStamp="2024-02-20T18:58:39-00:00"/>
 <Reconciliation>
  <TotalAmount NumberPayments="8" PaymentType="Debit" Currency="EUR" CardCircuit="girocard">338.00</TotalAmount>
  <TotalAmount NumberPayments="3" PaymentType="Debit" Currency="EUR" CardCircuit="VISA">87.00</TotalAmount>
 </Reconciliation><PrivateData><ErrorCode>1002700</ErrorCode></PrivateData></ServiceResponse>"""


def without_layout(xml: str) -> bytes:
    return re.sub(r">\s+<", "><", xml.strip()).encode()


@pytest.mark.parametrize(
    ("xml", "message", "left_out"),
    [(REQUEST_XML, REQUEST, ""), (RESPONSE_XML, RESPONSE, ""), (DEVICE_XML, DEVICE, ' ApplicationSender="Thales-OPI"')],
    ids=["request", "response", "device"],
)
def test_the_documents_of_others_are_read_and_written(xml: str, message: Message, left_out: str) -> None:
    assert decode(xml.strip().encode()) == message
    declaration = b'<?xml version="1.0" encoding="UTF-8"?>'
    assert encode(message) == declaration + without_layout(xml.replace(left_out, ""))


def test_a_reconciliation_is_added_up() -> None:
    response = decode(RECONCILIATION_XML.encode())
    assert isinstance(response, ServiceResponse)
    assert (response.request_type, response.overall_result, response.stan) == (END_OF_DAY, "Success", "021888")
    assert response.totals is not None
    assert sum_of(response.totals) == (11, Money(42500, "EUR"))


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ((), (0, None)),
        ((Total(2, Money(500, "EUR"), "Debit"), Total(1, Money(200, "EUR"), "Credit")), (3, Money(300, "EUR"))),
        ((Total(2, Money(500, "EUR")), Total(None, Money(1, "EUR"))), (None, Money(501, "EUR"))),
        ((Total(2, Money(500, "EUR")), Total(1, Money(1, "CHF"))), (3, None)),
        ((Total(1, Money(10**12, "EUR")), Total(1, Money(10**12, "EUR"))), (2, None)),
    ],
)
def test_sums_of_totals(totals: tuple[Total, ...], expected: tuple[int | None, Money | None]) -> None:
    assert sum_of(totals) == expected


def test_a_total_that_cannot_be_read_leaves_none() -> None:
    spoiled = decode(RECONCILIATION_XML.replace("87.00", "87,00").encode())
    assert isinstance(spoiled, ServiceResponse)
    assert spoiled.totals is None


def test_a_reversal_names_the_payment_by_its_stan() -> None:
    document = encode(CardServiceRequest(PAYMENT_REVERSAL, "7", original_stan="29"))
    assert b'<OriginalTransaction STAN="29"/>' in document
    assert b"TotalAmount" not in document


def test_no_request_asks_for_a_full_card_number() -> None:
    requests: list[Message] = [REQUEST, ServiceRequest(LOGIN, "1"), CardServiceRequest(CARD_REPEAT_LAST_MESSAGE, "2")]
    assert not any(b"RequestFullPAN" in encode(request) for request in requests)


def test_card_data_are_gone_when_an_answer_is_decoded() -> None:
    pan = "6805330010086784747"
    xml = (
        RESPONSE_XML.replace("############4747", pan)
        .replace("Zahlung erfolgt", f"Karte {pan}")
        .replace("girocard", f"x {pan}")
        .replace(
            "</CardServiceResponse>",
            f"<CardValue><CardPAN>{pan}</CardPAN><ExpiryDate>1227</ExpiryDate><Track1>%B{pan}^A/B^1227101?</Track1>"
            f"<Track2>;{pan}=12271010000?</Track2></CardValue><CardDetails><ExpiryDate>12/27</ExpiryDate></CardDetails>"
            "</CardServiceResponse>",
        )
    )
    response = decode(xml.strip().encode())
    assert isinstance(response, CardServiceResponse)
    assert response.authorisation is not None
    assert response.authorisation.pan_last4 == "4747"
    said = re.sub(r"[ .\-/]", "", repr(response))
    assert pan[:8] not in said
    assert "1227" not in said


def test_a_printed_line_is_masked_and_keeps_its_indentation() -> None:
    printed = DEVICE_XML.replace("Vorgang wird", "   Karte 4111 1111 1111 1111").replace("bearbeitet", "a\tb")
    request = decode(printed.strip().encode())
    assert isinstance(request, DeviceRequest)
    assert request.outputs[0].lines[1] == "a b"
    assert request.outputs[0].lines[0].startswith("   Karte ")
    assert "1111 1111" not in request.outputs[0].lines[0]


def test_the_request_id_of_a_payment_follows_from_its_reference() -> None:
    ids = {request_id_of(kind, reference) for kind in (CARD_PAYMENT, PAYMENT_REVERSAL) for reference in ("a", "b")}
    assert len(ids) == 4
    assert all(len(one) == 9 and one.isdigit() and one[0] != "0" for one in ids)
    assert request_id_of(CARD_PAYMENT, "payment-1") == "331381022"


def test_an_unknown_document_is_garbage() -> None:
    assert decode(b"<Invoice/>") == Garbage("not_opi")


WORDS = st.text(string.ascii_letters + " éß€", max_size=12).map(str.strip)
NUMBERS = st.text(string.digits, max_size=9)
AMOUNTS = st.builds(Money, st.integers(0, 10**9), st.sampled_from(["EUR", "JPY", "BHD"]))
TILLS = st.builds(Till, NUMBERS, NUMBERS, st.sampled_from(["", "fr", "nl"]))
NAMED = st.text(string.ascii_letters, min_size=1, max_size=12)
LAST4 = st.sampled_from(["", "4771", "0000"])
MESSAGES: st.SearchStrategy[Any] = st.one_of(
    st.builds(CardServiceRequest, NAMED, NUMBERS, TILLS, WORDS, st.none() | AMOUNTS, NUMBERS),
    st.builds(ServiceRequest, NAMED, NUMBERS, TILLS, WORDS),
    st.builds(
        CardServiceResponse, NAMED, NUMBERS, NAMED, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.none() | AMOUNTS,
        st.none() | st.builds(Authorisation, NAMED, WORDS, LAST4, NUMBERS, NUMBERS, NUMBERS, WORDS),
        WORDS, WORDS, NUMBERS, WORDS,
    ),
    st.builds(
        ServiceResponse, NAMED, NUMBERS, NAMED, NUMBERS, NUMBERS, NUMBERS,
        st.none() | st.lists(st.builds(Total, st.none() | st.integers(0, 999_999), AMOUNTS, WORDS, WORDS), max_size=4)
        .map(tuple),
        NUMBERS, WORDS,
    ),
    st.builds(
        DeviceRequest, st.sampled_from([OUTPUT, INPUT, ABORT_INPUT]), NUMBERS, NUMBERS, NUMBERS, NUMBERS,
        st.lists(st.builds(Output, NAMED, st.lists(WORDS, max_size=4).map(tuple)), max_size=3).map(tuple),
        st.sampled_from(["", "CashierKeyboard"]),
    ),
    st.builds(
        DeviceResponse, NAMED, NUMBERS, NAMED, st.builds(Till, NUMBERS, NUMBERS),
        st.lists(st.builds(OutputResult, NAMED, NAMED), max_size=3).map(tuple),
        st.none() | st.builds(OutputResult, NAMED, NAMED),
    ),
)  # fmt: skip


@given(MESSAGES, st.sampled_from(["UTF-8", "ISO-8859-1"]))
def test_messages_come_out_as_they_went_in(message: Message, encoding: str) -> None:
    assert decode(encode(message, encoding)) == message


@given(MESSAGES, st.data())
def test_a_spoiled_message_never_raises(message: Message, data: st.DataObject) -> None:
    document = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    decode(bytes(document))


ROOTS = st.sampled_from(["CardServiceRequest", "ServiceRequest", "CardServiceResponse", "ServiceResponse"])
PARTS = st.sampled_from(["Terminal", "Tender", "TotalAmount", "Authorisation", "PrivateData", "Reconciliation"])


@given(ROOTS, st.lists(PARTS, max_size=6), st.text(string.printable, max_size=30))
def test_elements_in_wrong_places_never_raise(root: str, parts: list[str], text: str) -> None:
    inside = "".join(f"<{part} Currency='EUR' STAN='1'>" for part in parts)
    inside += "".join(f"</{part}>" for part in reversed(parts))
    decode(f"<{root} RequestID='{text.encode().hex()}'>{inside}</{root}>".encode())
