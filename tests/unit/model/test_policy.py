"""The outage policy, row by row (domain B02-B06), as pure decisions."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hubd.errors import InvalidValueError
from hubd.model.money import Money
from hubd.model.payment import Method
from hubd.model.policy import (
    DAY_S,
    HOUR_S,
    SHIPPED,
    Accept,
    Elapsed,
    OutagePolicy,
    Refuse,
    Sale,
    UploadAnchor,
    WhenElapsedUnknown,
    deadline_us,
    decide,
    parse_policy,
)

READER = replace(SHIPPED["reader"], enabled=True)
TERMINAL = replace(SHIPPED["terminal"], enabled=True)
SECOND_US = 1_000_000
HOUR_US = HOUR_S * SECOND_US
T0 = 1_790_000_000 * SECOND_US


def sale(amount: int = 1000, method: Method = Method.CHIP, *, by_manager: bool = False) -> Sale:
    return Sale(Money(amount, "EUR"), method, by_manager)


def ask(policy: OutagePolicy, what: Sale, elapsed_s: int | None = 60) -> Accept | Refuse:
    return decide(policy, what, Elapsed(0, elapsed_s))


def accepted(policy: OutagePolicy) -> Accept:
    answer = ask(policy, sale())
    assert isinstance(answer, Accept)
    return answer


def refused(answer: Accept | Refuse) -> Refuse:
    assert isinstance(answer, Refuse)
    return answer


def test_b02_reader_deadlines_count_from_the_loss_of_connection() -> None:
    rule = accepted(READER)
    first = deadline_us(rule, T0, None, T0 + HOUR_US)
    second = deadline_us(rule, T0, T0 + HOUR_US, T0 + 20 * HOUR_US)
    assert first == second == T0 + 24 * HOUR_US


def test_b03_terminal_deadlines_count_from_the_first_offline_payment() -> None:
    rule = accepted(TERMINAL)
    first = deadline_us(rule, T0, None, T0 + 5 * HOUR_US)
    second = deadline_us(rule, T0, T0 + 5 * HOUR_US, T0 + 20 * HOUR_US)
    assert first == second == T0 + 29 * HOUR_US


def test_b05_windows_differ_by_device_class() -> None:
    assert refused(ask(READER, sale(), 61 * 60)).code == "offline_window_closed"
    assert isinstance(ask(READER, sale(), HOUR_S), Accept)
    assert isinstance(ask(TERMINAL, sale(), DAY_S - 60), Accept)
    assert refused(ask(TERMINAL, sale(), DAY_S + 1)).code == "offline_window_closed"


@pytest.mark.parametrize("method", [Method.CONTACTLESS, Method.GIFT_CARD, Method.CLEARPAY, Method.MANUAL_ENTRY])
def test_b06_excluded_methods_are_refused_and_named(method: Method) -> None:
    answer = refused(ask(TERMINAL, sale(method=method)))
    assert (answer.code, answer.params) == ("method_not_allowed_offline", {"method": method})
    assert "chip" in answer.would_allow


@pytest.mark.parametrize("method", [Method.CHIP, Method.SWIPE, Method.CARD])
def test_b06_chip_and_swipe_are_allowed(method: Method) -> None:
    assert isinstance(ask(TERMINAL, sale(method=method)), Accept)


def test_limit_per_payment_is_inclusive() -> None:
    assert isinstance(ask(TERMINAL, sale(10_000)), Accept)
    answer = refused(ask(TERMINAL, sale(10_001)))
    assert (answer.code, answer.params) == ("over_offline_limit", {"limit": 10_000, "currency": "EUR"})


def test_a_currency_without_a_limit_is_refused() -> None:
    answer = refused(decide(TERMINAL, Sale(Money(1, "USD"), Method.CHIP, by_manager=True), Elapsed(0, 1)))
    assert answer.code == "currency_not_allowed_offline"


def test_offline_is_off_until_somebody_turns_it_on() -> None:
    assert refused(ask(SHIPPED["terminal"], sale())).code == "offline_not_enabled"
    assert refused(ask(SHIPPED["reader"], sale())).code == "offline_not_enabled"


def test_unbounded_time_needs_a_manager_or_is_refused() -> None:
    assert refused(ask(TERMINAL, sale(), None)).code == "elapsed_unknown"
    assert isinstance(ask(TERMINAL, sale(by_manager=True), None), Accept)
    strict = replace(TERMINAL, when_elapsed_unknown=WhenElapsedUnknown.REFUSE)
    assert refused(ask(strict, sale(by_manager=True), None)).code == "elapsed_unknown"


def test_the_longest_possible_time_decides() -> None:
    assert isinstance(decide(READER, sale(), Elapsed(10, HOUR_S)), Accept)
    assert isinstance(decide(READER, sale(), Elapsed(10, HOUR_S + 1)), Refuse)


def test_a_policy_survives_its_setting() -> None:
    for policy in SHIPPED.values():
        assert parse_policy(policy.as_json()) == policy


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("enabled", 1),
        ("accept_for_s", -1),
        ("upload_within_s", 0),
        ("upload_anchor", "yesterday"),
        ("excluded_methods", ["cash"]),
        ("excluded_methods", ["teleport"]),
        ("limit_per_payment", {"XXX": 1}),
        ("when_elapsed_unknown", None),
    ],
)
def test_a_bad_policy_is_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidValueError):
        parse_policy(SHIPPED["terminal"].as_json() | {field: value})


def test_a_deadline_never_counts_from_a_payment_in_the_future() -> None:
    rule = Accept(UploadAnchor.FIRST_OFFLINE_PAYMENT, DAY_S)
    assert deadline_us(rule, T0, T0 + 9 * HOUR_US, T0 + HOUR_US) == T0 + 25 * HOUR_US
