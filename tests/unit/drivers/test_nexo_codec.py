"""nexo messages: envelope, names, amounts and text, and answers without their card data."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.nexo_codec import (
    REQUEST,
    RESPONSE,
    Header,
    NexoMessageError,
    additional_pairs,
    amount_literal,
    answers,
    decode_message,
    encode_message,
    money_of,
    name_only,
    receipt_line,
    request_header,
    scrub,
    service_id_of,
)
from drivers.nexo_messages import (
    MessageReference,
    PaymentReply,
    Reply,
    TransactionId,
    abort_request,
    decode_diagnosis,
    decode_login,
    decode_payment,
    decode_reversal,
    decode_status,
    decode_totals,
    diagnosis_request,
    login_request,
    payment_request,
    reconciliation_request,
    reversal_request,
    status_request,
)
from hubd.model.money import Money
from tests.unit.drivers.test_nexo_crypto import KEY, NONCE, RECORDED

HEADER = request_header("Payment", "0123456789", "hubd", "V400m-324688179")
AT = "2026-11-30T21:43:12.000Z"
PAN = "4111111111111111"
words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
headers = st.builds(
    Header,
    protocol_version=words,
    message_class=words,
    category=words,
    message_type=words,
    service_id=words,
    device_id=words,
    sale_id=words,
    poiid=words,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)


def content(**members: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(members))


def body_of(encoded: dict[str, object]) -> Any:
    return json.loads(msgspec.json.encode(encoded))


# -- envelope ----------------------------------------------------------------------------------------------------------


@given(headers, st.dictionaries(words.filter(lambda name: name != "MessageHeader"), json_values, max_size=3))
def test_what_is_encoded_is_decoded(header: Header, body: dict[str, object]) -> None:
    data = encode_message(REQUEST, header, body, KEY, NONCE)
    found, raw = decode_message(REQUEST, data, KEY)
    assert found == header
    assert {name: value for name, value in json.loads(bytes(raw)).items() if name != "MessageHeader"} == body_of(body)


def test_the_header_stands_in_clear_and_the_amount_does_not() -> None:
    data = encode_message(REQUEST, HEADER, payment_request("order-1", Money(2040, "EUR"), AT), KEY, NONCE)
    assert set(json.loads(data)[REQUEST]) == {"MessageHeader", "NexoBlob", "SecurityTrailer"}
    assert json.loads(data)[REQUEST]["MessageHeader"] == {
        "ProtocolVersion": "3.0",
        "MessageClass": "Service",
        "MessageCategory": "Payment",
        "MessageType": "Request",
        "ServiceID": "0123456789",
        "SaleID": "hubd",
        "POIID": "V400m-324688179",
    }
    assert b"20.40" not in data
    assert b"order-1" not in data


@pytest.mark.parametrize("name", ["MessageCategory", "ServiceID", "SaleID", "POIID", "MessageType", "DeviceID"])
def test_inner_and_outer_header_must_be_equal(name: str) -> None:
    data = json.loads(encode_message(RESPONSE, HEADER, {}, KEY, NONCE))
    data[RESPONSE]["MessageHeader"][name] = "other"
    with pytest.raises(NexoMessageError, match="header_mismatch"):
        decode_message(RESPONSE, json.dumps(data).encode(), KEY)


def test_a_request_is_no_response() -> None:
    with pytest.raises(NexoMessageError, match="malformed"):
        decode_message(RESPONSE, encode_message(REQUEST, HEADER, {}, KEY, NONCE), KEY)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"null", b'{"SaleToPOIResponse":{}}', b'{"SaleToPOIResponse":{"MessageHeader":{}}}',
        b"[" * 100_000, b'{"SaleToPOIResponse":' * 50_000, b"\xff\xfe", b'"\xed\xa0\x80"',
        b'{"SaleToPOIRequest":{"EventNotification":{"EventToNotify":"Reject"}}}',
    ],
)  # fmt: skip
def test_what_is_no_secured_message_is_malformed(data: bytes) -> None:
    with pytest.raises(NexoMessageError, match="malformed"):
        decode_message(RESPONSE, data, KEY)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_refused_with_a_word(data: bytes) -> None:
    with pytest.raises(NexoMessageError):
        decode_message(RESPONSE, data, KEY)


def test_an_answer_belongs_to_one_request() -> None:
    back = msgspec.structs.replace(HEADER, message_type="Response")
    assert answers(back, HEADER)
    assert not answers(HEADER, HEADER)
    assert not answers(msgspec.structs.replace(back, service_id="0123456780"), HEADER)
    assert not answers(msgspec.structs.replace(back, poiid="V400m-324688178"), HEADER)


@given(st.text(max_size=60), st.integers(0, 9))
def test_service_ids_have_ten_letters_or_digits_and_are_repeatable(reference: str, attempt: int) -> None:
    made = service_id_of("Payment", reference, attempt)
    assert len(made) == 10
    assert made.isascii()
    assert made.isalnum()
    assert made == service_id_of("Payment", reference, attempt)
    assert made != service_id_of("Reversal", reference, attempt)
    assert made != service_id_of("Payment", reference, attempt + 1)


def test_the_service_id_of_a_payment_never_changes_between_versions() -> None:
    """An enquiry after an update must still find what the version before has sent."""
    assert service_id_of("Payment", "0193b2f0-0000-7000-8000-000000000001") == "5L7YEBJI2C"


# -- requests ----------------------------------------------------------------------------------------------------------


def test_requests_have_the_documented_members() -> None:
    reference = MessageReference(category="Payment", service_id="0123456789", sale_id="hubd", poiid="V400m-1")
    named = {"MessageCategory": "Payment", "ServiceID": "0123456789", "SaleID": "hubd", "POIID": "V400m-1"}
    original = TransactionId("t1.p1", AT)
    sale = {"SaleTransactionID": {"TransactionID": "order-1", "TimeStamp": AT}}
    assert body_of(payment_request("order-1", Money(2040, "EUR"), AT)) == {
        "PaymentRequest": {
            "SaleData": sale,
            "PaymentTransaction": {"AmountsReq": {"Currency": "EUR", "RequestedAmount": 20.4}},
        }
    }
    assert body_of(reversal_request("order-1", original, Money(5, "EUR"), AT)) == {
        "ReversalRequest": {
            "SaleData": sale,
            "OriginalPOITransaction": {"POITransactionID": {"TransactionID": "t1.p1", "TimeStamp": AT}},
            "ReversedAmount": 0.05,
            "ReversalReason": "MerchantCancel",
        }
    }
    assert body_of(status_request(reference)) == {
        "TransactionStatusRequest": {"MessageReference": named, "ReceiptReprintFlag": False}
    }
    assert body_of(abort_request(reference)) == {
        "AbortRequest": {"AbortReason": "MerchantAbort", "MessageReference": named}
    }
    assert body_of(diagnosis_request(with_host=True)) == {"DiagnosisRequest": {"HostDiagnosisFlag": True}}
    assert body_of(reconciliation_request()) == {"ReconciliationRequest": {"ReconciliationType": "SaleReconciliation"}}
    assert body_of(login_request(AT))["LoginRequest"]["DateTime"] == AT


@pytest.mark.parametrize(
    ("minor", "currency", "literal"),
    [(2040, "EUR", b"20.40"), (5, "EUR", b"0.05"), (7, "JPY", b"7"), (1, "KWD", b"0.001")],
)
def test_amounts_are_numbers_in_whole_units(minor: int, currency: str, literal: bytes) -> None:
    assert bytes(amount_literal(Money(minor, currency))) == literal


@given(st.integers(0, 10**12), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_an_amount_survives_the_wire(minor: int, currency: str) -> None:
    amount = Money(minor, currency)
    assert money_of(msgspec.json.decode(bytes(amount_literal(amount)), type=Decimal), currency) == amount


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("20.405", "EUR"), ("1E+999999999", "EUR"), ("1E-999999999", "EUR"), ("NaN", "EUR"), ("Infinity", "EUR"),
        ("20.40", "XXX"), ("20.40", ""), ("0.5", "JPY"), ("10000000000.01", "EUR"), ("1." + "0" * 40, "EUR"),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_none(text: str, currency: str) -> None:
    assert money_of(Decimal(text), currency) is None


@given(st.decimals(allow_nan=True, allow_infinity=True))
@example(Decimal("1E+999999999"))
def test_any_number_is_an_amount_or_none(number: Decimal) -> None:
    found = money_of(number, "EUR")
    assert found is None or Decimal(found.amount_minor) / 100 == number


# -- text --------------------------------------------------------------------------------------------------------------


def test_additional_response_in_both_forms() -> None:
    pairs = {"offline": "true", "offlineAuthCode": "Failed go online offline declined"}
    assert additional_pairs("offline=true&offlineAuthCode=Failed%20go%20online%20offline%20declined") == pairs
    as_json = json.dumps({"message": "x", "additionalData": pairs, "n": 1}).encode()
    assert additional_pairs(base64.b64encode(as_json).decode()) == {"message": "x", **pairs}
    for nothing in ("", "plain", "====", base64.b64encode(b"[1]").decode(), "&".join(["a=1"] * 5000)):
        assert additional_pairs(nothing) == {}


def test_receipt_lines_are_read_and_scrubbed() -> None:
    assert receipt_line("name=TOTAL&value=%e2%82%ac%c2%a01.00&key=totalAmount") == "TOTAL € 1.00"
    assert receipt_line("key=filler") == ""
    assert receipt_line("name=Card&value=************0010&key=pan") == "Card ************0010"
    assert receipt_line(f"name=Card&value={PAN}&key=pan") == "Card **** 1111"
    assert receipt_line("Total 20.40 EUR") == "Total 20.40 EUR"
    assert receipt_line("a\x1b[2Jb") == "a [2Jb"


@pytest.mark.parametrize("shown", [PAN, "4111 1111 1111 1111", "4111-1111-1111-1111", "x4111.1111.1111.1111y"])
def test_no_card_number_is_shown_or_a_name(shown: str) -> None:
    assert "41111111" not in scrub(shown).replace(" ", "").replace("-", "").replace(".", "")
    assert name_only(shown) == ""


@given(st.text(max_size=400))
def test_any_text_is_scrubbed_to_one_short_line(text: str) -> None:
    for shown in (scrub(text), receipt_line(text), name_only(text)):
        assert len(shown) <= 250
        assert all(one.isprintable() for one in shown)


# -- answers -----------------------------------------------------------------------------------------------------------


def recorded() -> PaymentReply:
    _, raw = decode_message(RESPONSE, RECORDED, KEY)
    return decode_payment(raw)


def test_the_recorded_answer() -> None:
    said = recorded()
    assert said == PaymentReply(
        reply=Reply("Success"),
        reference="999",
        transaction=TransactionId("4r7i001557325515012.8815573255107661", "2019-05-08T14:25:15.000Z"),
        amount=Money(100, "EUR"),
        online=True,
        approval_code="123456",
        acquirer_transaction="8815573255107661",
        terminal_id="P400Plus-275039202",
        card_name="mc",
        pan_last4="0010",
        technology="contactless",
        verification="none",
        lines=said.lines,
    )
    assert "Card ************0010" in said.lines
    assert said.lines[-1] == "Thank you"
    shown = repr(said)
    for secret in ("541333", "1225", "12/2025", "K182596230843790", "cardBin", "expiry"):
        assert secret not in shown


def test_a_card_number_in_every_field_leaves_its_last_four_digits_once() -> None:
    transaction = {"TransactionID": PAN, "TimeStamp": PAN}
    said = decode_payment(
        content(
            PaymentResponse={
                "Response": {"Result": PAN, "ErrorCondition": PAN, "AdditionalResponse": f"cardSummary={PAN}&x={PAN}"},
                "SaleData": {"SaleTransactionID": transaction},
                "POIData": {"POITransactionID": transaction},
                "PaymentReceipt": [{"OutputContent": {"OutputText": [{"Text": f"a {PAN} b"}]}}],
                "PaymentResult": {
                    "PaymentAcquirerData": {
                        "AcquirerPOIID": PAN, "ApprovalCode": PAN, "AcquirerTransactionID": transaction,
                    },
                    "PaymentInstrumentData": {
                        "CardData": {"EntryMode": [PAN], "PaymentBrand": PAN, "MaskedPan": PAN, "CardholderName": PAN}
                    },
                    "AmountsResp": {"Currency": PAN, "AuthorizedAmount": 1},
                },
            }
        )
    )  # fmt: skip
    assert "4111" not in repr(said)
    assert said.pan_last4 == "1111"


def test_a_stored_payment_is_marked_whatever_its_words() -> None:
    said = decode_payment(
        content(
            PaymentResponse={
                "Response": {
                    "Result": "Success",
                    "AdditionalResponse": "offline=true&unconfirmedBatchCount=1"
                    "&offlineAuthCode=Failed%20go%20online%20offline%20declined",
                },
                "PaymentResult": {"OnlineFlag": False, "AmountsResp": {"Currency": "EUR", "AuthorizedAmount": 12.5}},
                "POIData": {"POITransactionID": {"TransactionID": "4r7i001557325515012", "TimeStamp": AT}},
            }
        )
    )
    assert said.reply == Reply("Success")
    assert (said.online, said.offline_marked, said.amount) == (False, True, Money(1250, "EUR"))


def test_the_hosts_other_amount_is_noticed() -> None:
    for pairs, other in (("posAuthAmountValue=2040", False), ("posAuthAmountValue=2041", True),
                         ("posAuthAmountCurrency=USD", True), ("", False)):  # fmt: skip
        said = decode_payment(
            content(
                PaymentResponse={
                    "Response": {"Result": "Success", "AdditionalResponse": pairs},
                    "PaymentResult": {"AmountsResp": {"Currency": "EUR", "AuthorizedAmount": 20.4}},
                }
            )
        )
        assert said.other_amount is other


def test_a_repeated_answer() -> None:
    _, raw = decode_message(RESPONSE, RECORDED, KEY)
    payment = json.loads(bytes(raw))["PaymentResponse"]
    reference = {"MessageCategory": "Payment", "ServiceID": "325488592", "SaleID": "325488592"}
    said = decode_status(
        content(
            TransactionStatusResponse={
                "Response": {"Result": "Success"},
                "MessageReference": reference,
                "RepeatedMessageResponse": {
                    "MessageHeader": {"ServiceID": "325488592"},
                    "RepeatedResponseMessageBody": {"PaymentResponse": payment},
                },
            }
        )
    )
    assert said.repeated == recorded()
    assert said.reference == MessageReference(category="Payment", service_id="325488592", sale_id="325488592")


def test_a_diagnosis() -> None:
    """The example of Adyen's documentation."""
    said = decode_diagnosis(
        content(
            DiagnosisResponse={
                "HostStatus": [{"IsReachableFlag": True, "AcquirerID": "0"}],
                "POIStatus": {"CommunicationOKFlag": True, "PrinterStatus": "OK", "GlobalStatus": "OK"},
                "Response": {
                    "Result": "Success",
                    "AdditionalResponse": "batteryLevel=100%25&firmwareVersion=adyen_v1_49p5&unconfirmedBatchCount=0",
                },
            }
        )
    )
    assert (said.reply, said.global_status, said.host_reachable) == (Reply("Success"), "OK", True)
    assert (said.unconfirmed_count, said.firmware) == (0, "adyen_v1_49p5")


def test_totals_are_net_and_of_one_currency() -> None:
    def totals(*groups: tuple[str, str, int, float]) -> tuple[int | None, Money | None]:
        listed = [
            {
                "PaymentCurrency": currency,
                "PaymentTotals": [{"TransactionType": kind, "TransactionCount": count, "TransactionAmount": amount}],
            }
            for currency, kind, count, amount in groups
        ]
        said = decode_totals(
            content(
                ReconciliationResponse={
                    "Response": {"Result": "Success"}, "POIReconciliationID": 1007, "TransactionTotals": listed,
                }
            )
        )  # fmt: skip
        assert said.period == "1007"
        return said.count, said.total

    assert totals(("EUR", "Debit", 3, 30.5), ("EUR", "Credit", 1, 10.25)) == (2, Money(2025, "EUR"))
    assert totals(("EUR", "Debit", 3, 30.5), ("USD", "Debit", 1, 1)) == (None, None)
    assert totals(("EUR", "Debit", 3, 30.5), ("EUR", "Declined", 1, 1)) == (None, None)
    assert totals() == (None, None)


@given(json_values)
def test_any_json_is_an_answer_or_malformed(value: object) -> None:
    decoders = {
        "PaymentResponse": decode_payment,
        "ReversalResponse": decode_reversal,
        "TransactionStatusResponse": decode_status,
        "DiagnosisResponse": decode_diagnosis,
        "ReconciliationResponse": decode_totals,
        "LoginResponse": decode_login,
    }
    for name, decode in decoders.items():
        for shaped in (value, {"Response": value}, {"Response": {"Result": "Success"}, "PaymentResult": value}):
            try:
                decode(msgspec.Raw(json.dumps({name: shaped}).encode("utf-8", "surrogatepass")))
            except NexoMessageError as error:
                assert error.reason == "malformed"  # noqa: PT017 - it may also be understood
