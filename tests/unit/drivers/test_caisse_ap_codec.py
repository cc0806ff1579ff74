"""Caisse-AP bytes by tables: the vectors come from other people's documents, clients and simulators."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.caisse_ap_codec import (
    AMOUNT_MAX,
    CURRENCY_NUMBERS,
    REFERENCE_CHARACTERS_MAX,
    VALUE_CHARACTERS_MAX,
    Answer,
    Element,
    ElementReader,
    Garbage,
    Identification,
    Message,
    Payment,
    decode_answer,
    decode_request,
    encode_elements,
    encode_request,
    reference_of,
)

MESSAGES = {
    "odoo_and_its_client": "CZ0040300CJ012012345678901CA00201CE003978BA0010CD0010CB0041250",
    "hipay_mandatory": "CZ0040300CJ012247300123456CA00201CB00512345CD0010CE003978",
    "fidecoin_credit": "CZ0040310CJ012247300123456CA00201CB0040300CD0011CE003978CK003120",
    "ingenico_identification": "CZ0040301CJ012330538600404CA00201CD001IAE00210",
    "hipay_success": "CZ0040320CJ012999999999999CA00201CB00512345CC00300BCD0010CE003978AC006184117AE00210"
    "CF0262023-05-04-010|custom dataCG0071234567",
    "hipay_failure": "CZ0040320CJ012999999999999CA00201CB00512345CD0010CE003978AC006184118AE00201AF00204",
    "hipay_bad_format": "CZ0040320CJ012999999999999AE00201AF00209CA00201CB00512345CD0010CE003978",
}
messages = pytest.mark.parametrize("text", MESSAGES.values(), ids=MESSAGES.keys())

tags = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=2)
printable = st.characters(codec="latin-1").filter(lambda one: ord(one) >= 0x20 and ord(one) != 0x7F)
values = st.text(printable, min_size=1, max_size=VALUE_CHARACTERS_MAX)
alphanumeric = st.text("0123456789abcdef", min_size=1, max_size=REFERENCE_CHARACTERS_MAX)


def elements_of(data: bytes) -> list[tuple[str, str]]:
    out = []
    for event in ElementReader().feed(data):
        assert isinstance(event, Element), event
        out.append((event.tag, event.value))
    return out


def message_of(data: bytes) -> Message:
    return Message(dict(elements_of(data)))


@messages
def test_messages_of_others_are_read_and_written_as_they_are(text: str) -> None:
    assert encode_elements(elements_of(text.encode("ascii"))) == text.encode("ascii")


@messages
def test_messages_are_read_at_any_split(text: str) -> None:
    data = text.encode("ascii")
    for size in range(1, len(data) + 1):
        reader = ElementReader()
        events = [event for at in range(0, len(data), size) for event in reader.feed(data[at : at + size])]
        assert [(e.tag, e.value) for e in events if isinstance(e, Element)] == elements_of(data)
        assert not reader.pending


def test_a_payment_is_asked_for_as_other_cash_registers_do() -> None:
    assert encode_request(Payment(1250, "EUR", "01")).decode() == MESSAGES["odoo_and_its_client"]
    assert encode_request(Payment(5, "XPF", "02", "ab")).decode().endswith("CA00202CE003953BA0010CD0010CB00205CF002ab")


def test_an_identification_names_no_amount() -> None:
    assert encode_request(Identification("01")).decode() == "CZ0040300CJ012012345678901CA00201CD001I"


@pytest.mark.parametrize(
    ("amount_minor", "currency", "till"),
    [(-1, "EUR", "01"), (AMOUNT_MAX + 1, "EUR", "01"), (100, "JPY", "01"), (100, "EUR", ""), (100, "EUR", "0\n")],
)
def test_what_cannot_be_said_is_refused(amount_minor: int, currency: str, till: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be written|not printable|number|digits"):
        encode_request(Payment(amount_minor, currency, till))


@given(
    st.builds(
        Payment,
        st.integers(0, AMOUNT_MAX),
        st.sampled_from(sorted(CURRENCY_NUMBERS)),
        st.sampled_from(["01", "99"]),
        st.one_of(st.just(""), alphanumeric),
    )
    | st.builds(Identification, st.sampled_from(["01", "99"]))
)
def test_a_request_survives_the_wire(request: Payment | Identification) -> None:
    assert decode_request(message_of(encode_request(request))) == request


@pytest.mark.parametrize(
    ("tag", "value"), [("CD", "1"), ("CD", "2"), ("CE", "840x"), ("CB", "12.50"), ("CB", ""), ("CB", "1" * 13)]
)
def test_a_request_for_something_else_is_none(tag: str, value: str) -> None:
    fields = dict(elements_of(encode_request(Payment(1250, "EUR", "01"))))
    assert decode_request(Message({**fields, tag: value})) is None


@given(st.lists(st.tuples(tags, values), max_size=20))
def test_elements_survive_the_wire(elements: list[tuple[str, str]]) -> None:
    assert elements_of(encode_elements(elements)) == elements


@given(st.lists(st.binary(max_size=64), max_size=40))
def test_no_bytes_crash_the_reader_or_fill_it(pieces: list[bytes]) -> None:
    reader = ElementReader()
    for piece in pieces:
        for event in reader.feed(piece):
            assert isinstance(event, (Element, Garbage))
        assert len(reader._rest) <= 5 + VALUE_CHARACTERS_MAX


@given(st.dictionaries(st.sampled_from(["AE", "AF", "AA", "AC", "CA", "CB", "CC", "CD", "CE", "CF", "CI"]), values))
def test_any_message_is_decoded_without_raising(fields: dict[str, str]) -> None:
    answer = decode_answer(Message(fields))
    assert answer.amount_minor is None or 0 <= answer.amount_minor <= AMOUNT_MAX
    assert len(answer.pan_last4) in (0, 4)


@pytest.mark.parametrize(
    "data",
    [b"cz0040300", b"C", b"CZ000", b"CZ0x40300", b"1Z0040300", b"CZ004\x000", b"\x02CZ004", b"CZ002a\x7f", b"HT"],
)
def test_garbage_is_told_at_its_first_byte(data: bytes) -> None:
    """Not after a wait for the rest of what will never come; "C" and "HT" could still become something."""
    reader = ElementReader()
    found = reader.feed(data)
    if data in (b"C", b"HT"):
        assert found == []
        assert reader.pending
        found = reader.feed(b"TP/1.1")
    assert found == [Garbage("not_caisse_ap")]
    assert reader.feed(MESSAGES["hipay_success"].encode("ascii")) == []


def test_line_ends_between_elements_are_skipped() -> None:
    assert elements_of(b"\r\nCZ0040300\r\nAE00210\r\n") == [("CZ", "0300"), ("AE", "10")]
    reader = ElementReader()
    reader.feed(b"CZ0040300AE00210\r\n")
    assert not reader.pending


def test_an_answer_keeps_what_a_shop_needs_and_loses_the_card() -> None:
    message = message_of(
        b"CZ0040301CJ012330538600404CA00201CE003978CD0010CB00800002040AE00210CC003001CI0011AC006184117"
        b"AA0164111111111111111CF0101010000000CG006424242AI014A0000000031010AB0042712ZT013AK0084111ABCD"
    )
    answer = decode_answer(message)
    assert answer == Answer(
        status="10",
        action="0",
        till="01",
        amount_minor=2040,
        currency="EUR",
        reference="1010000000",
        version="0301",
        authorization_code="184117",
        card_name="Visa",
        pan_last4="1111",
        technology="chip",
    )
    assert "4111" not in repr(message)
    assert "4111" not in repr(answer)


@pytest.mark.parametrize(
    ("tag", "value", "name", "expected"),
    [
        ("CC", "00B", "technology", "contactless"),
        ("CI", "2", "technology", "contactless"),
        ("CI", "3", "technology", "swipe"),
        ("CI", "9", "technology", ""),
        ("CC", "00D", "card_name", "American Express"),
        ("CC", "zzz", "card_name", ""),
        ("AA", "***********0674", "pan_last4", "0674"),
        ("AA", "4970########", "pan_last4", ""),
        ("AA", "674", "pan_last4", ""),
        ("AC", "41111111111", "authorization_code", ""),
        ("AC", "A00395", "authorization_code", "A00395"),
        ("AF", "04148HOLDER INVALID", "cause", "04"),
        ("CE", "756", "currency", "CHF"),
        ("CE", "999", "currency", ""),
        ("CB", "20,40", "amount_minor", None),
    ],
)
def test_fields_of_an_answer(tag: str, value: str, name: str, expected: object) -> None:
    assert getattr(decode_answer(Message({tag: value})), name) == expected


@pytest.mark.parametrize(
    ("payment_id", "expected"),
    [
        ("0190a5c2-7b4e-7cc1-8f00-0123456789ab", "0190a5c27b4e7cc18f000123456789ab"),
        ("payment-1", "payment1"),
        ("x" * 33, ""),
        ("é", ""),
        ("--", ""),
    ],
)
def test_a_payment_is_named_by_what_terminals_give_back(payment_id: str, expected: str) -> None:
    assert reference_of(payment_id) == expected
