"""Card numbers are found in free text; what shops write all day passes."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubd.errors import InvalidValueError
from hubd.model.card_data import (
    check_free_text,
    check_json,
    gtin_valid,
    holds_card_data,
    is_card_number,
    luhn_valid,
)

CARDS = [
    "4111111111111111",
    "4012888888881881",
    "4222222222222",
    "5555555555554444",
    "2223000048400011",
    "378282246310005",
    "30569309025904",
    "6011111111111117",
    "3530111333300000",
    "6200000000000005",
    "6759649826438453",
    "6703444444444449",
    "5019717010103742",
    "6805330010086784747",
]
PRINTED = {14: (4, 10, 14), 15: (4, 10, 15), 16: (4, 8, 12, 16)}
"""Where the groups end, by the number of digits."""
TRACKS = [
    "%B4111111111111111^DOE/JOHN^25121010000000000000?",
    ";4111111111111111=25121010000000000000?",
    "4111111111111111D25121010000000000000",
    "b4111111111111111^doe/john^2512101",
]


def _check_digit(digits: str, valid: Callable[[str], bool]) -> str:
    return next(digits + str(last) for last in range(10) if valid(digits + str(last)))


def digits(count: int) -> st.SearchStrategy[str]:
    return st.integers(0, 10**count - 1).map(lambda number: str(number).rjust(count, "0"))


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("shape", ["{}", "paid with {} today", "n°{}!", "{} 12/27 123", "a\n{}\nb"])
def test_a_card_number_is_found(card: str, shape: str) -> None:
    spaced = " ".join(card[at : at + 4] for at in range(0, len(card), 4))
    for written in (card, spaced, spaced.replace(" ", "-"), spaced.replace(" ", " - "), spaced.replace(" ", "\u202f")):
        assert holds_card_data(shape.format(written)), written


@pytest.mark.parametrize("between", ["/", ",", "x", " / ", "*", "|", ":", ", ", "\u2044", "\n"])
def test_a_card_number_in_its_printed_groups_is_found_whatever_separates_them(between: str) -> None:
    for card in CARDS:
        if len(card) in PRINTED:
            cuts = [0, *PRINTED[len(card)]]
            written = between.join(card[start:end] for start, end in itertools.pairwise(cuts))
            assert holds_card_data(written), written
            assert holds_card_data(f"2026{between}{written} thanks"), written


@pytest.mark.parametrize("track", TRACKS)
def test_a_track_is_found_by_its_shape(track: str) -> None:
    assert holds_card_data(f"swiped: {track}")


@given(st.sampled_from(["4", "51", "2221", "6011", "34", "3528", "62"]), st.data())
def test_every_number_of_a_known_issuer_is_found(beginning: str, data: st.DataObject) -> None:
    length = 15 if beginning == "34" else 16
    rest = data.draw(digits(length - 1 - len(beginning)))
    card = _check_digit(beginning + rest, luhn_valid)
    assert is_card_number(card)
    assert holds_card_data(f"ref {card}.")
    broken = card[:-1] + str((int(card[-1]) + 1) % 10)
    assert not is_card_number(broken), "without its check digit it is no card number"


def test_what_it_looks_for_is_not_everything() -> None:
    for text in ("", "12.50", "4111 1111", "9999999999999995", "0000000000000000", "call 1 800 555 0199"):
        assert not holds_card_data(text), text


def numbers(what: str, count: int = 10_000) -> Iterator[str]:
    """As many strings of 24 digits, the same in every run: hypothesis would take minutes for so many."""
    for place in range(count):
        yield str(int.from_bytes(hashlib.sha256(f"{what}{place}".encode()).digest()[:12], "big")).rjust(24, "0")[-24:]


def test_ten_thousand_eans_pass() -> None:
    forms = ("Article {}, 2 pieces", "{} 12", "3 {}", "Cola {} 330 ml", "{} - 5.39", "{} {}")
    for place, number in enumerate(numbers("ean")):
        ean = _check_digit(number[:12], gtin_valid)
        assert not holds_card_data(ean)
        text = forms[place % len(forms)].format(ean, ean)
        assert not holds_card_data(text), text


def test_ten_thousand_telephone_numbers_pass() -> None:
    forms = (
        "+33 {} {} {} {} {}",
        "00{}{}{}{}{}",
        "0{}.{}.{}.{}.{}",
        "+32 4{} {} {} {} {}",
        "+31-6-{}{}{}{}{}",
        "+49 1{} {}{}{}{}",
        "+491{}{}{}{}{}",
        "+43 6{} {}{}{}{}, +49 1{} {}{}{}{}",
    )
    for place, number in enumerate(numbers("telephone")):
        groups = [number[at : at + 2] for at in range(0, 20, 2)]
        text = forms[place % len(forms)].format(*groups)
        assert not holds_card_data(text), text


def test_what_only_begins_like_an_article_or_a_telephone_number_is_looked_at_all_the_same() -> None:
    for text in (
        "+4111111111111111",
        "+4111 1111 1111 1111",
        "+49 151 12345678 4111111111111111",
        "+378282246310005",
        "+4111 1111 1111  1111",
        "+4111 1111 1111 - 1111",
        "+4111 1111 1111_1111",
        "+4111 1111 1111\u20131111",
        "+4111 1111 1111\u00a01111",
        "+4111-1111-1111 -1111",
        "+37828224631  0005",
        "4006381333931 4111 1111 1111 1111",
        "4111111111111111 4006381333931",
        "Cola 5449000000996 5555-5555-5555-4444",
    ):
        assert holds_card_data(text), text


def test_ten_thousand_order_numbers_pass() -> None:
    forms = ("{y}{m:02}{d:02}-{n:06}", "{y}-{m:02}-{d:02}/{n:04}", "KX7Q-{n:06}", "CMD{n:010}", "{y}{m:02}{d:02}{n:04}")
    for place, text in enumerate(numbers("order")):
        number = int(text)
        values = {"y": 2024 + number % 12, "m": 1 + number % 12, "d": 1 + number % 28, "n": number % 10_000}
        order = forms[place % len(forms)].format(**values)
        assert not holds_card_data(f"order {order}"), order


@given(st.uuids())
def test_ids_and_hashes_pass(value: object) -> None:
    assert not holds_card_data(f"payment {value}")
    assert not holds_card_data(str(value).replace("-", "") * 2)


def test_unknown_shapes_are_searched_through_and_through() -> None:
    for value in (
        {"a": [{"b": "4111111111111111"}]},
        {"4111111111111111": 1},
        {"pan": 4111111111111111},
        ["ok", ["5555 5555 5555 4444"]],
    ):
        with pytest.raises(InvalidValueError, match="card_data_refused") as refused:
            check_json(value)
        assert "4111" not in str(refused.value)
        assert "5555" not in str(refused.value)
    check_json({"amount": 1250, "ean": "4006381333931", "when": None, "ok": True, "rate": 5.5})
    nested: list[object] = []
    for _ in range(50):
        nested = [nested]
    with pytest.raises(InvalidValueError, match="malformed_json"):
        check_json(nested)


def test_the_refusal_names_the_field_and_never_the_number() -> None:
    with pytest.raises(InvalidValueError) as refused:
        check_free_text("4111111111111111", "reason")
    assert refused.value.params == {"field": "reason"}
    assert "4111" not in refused.value.detail + refused.value.remedy
