"""Values of options: what a declaration lets through, and how a refusal is told."""

from __future__ import annotations

import pytest

from hubd.errors import InvalidValueError
from hubd.model.device_options import VALUE_MAX, Option, OptionKind, check_options

COLUMNS = Option("columns", OptionKind.NUMBER, "Characters", "Why.", default="42", least=16, most=96)
STATUS = Option("status", OptionKind.CHOICE, "Answers?", "Why.", default="auto", choices=("auto", "none"))
PASSWORD = Option("password", OptionKind.SECRET, "Password", "Why.", pattern="[0-9]{6}", form="six digits")
NOTE = Option("note", OptionKind.TEXT, "Note", "Why.")
KEYS = Option("keys", OptionKind.LEARNT, "Keys", "Why.")
DECLARED = (COLUMNS, STATUS, PASSWORD, NOTE, KEYS)


@pytest.mark.parametrize(
    ("option", "value"),
    [(COLUMNS, "16"), (COLUMNS, "96"), (STATUS, "none"), (PASSWORD, "000000"), (NOTE, "x" * VALUE_MAX)],
)
def test_a_value_fits(option: Option, value: str) -> None:
    assert option.fits(value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (COLUMNS, "15"),
        (COLUMNS, "97"),
        (COLUMNS, "032"),
        (COLUMNS, "4 2"),
        (COLUMNS, "٤٢"),
        (COLUMNS, ""),
        (STATUS, "None"),
        (PASSWORD, "12345"),
        (PASSWORD, "123456\n"),
        (NOTE, ""),
        (NOTE, "a\0b"),
        (NOTE, "x" * (VALUE_MAX + 1)),
    ],
)
def test_a_value_does_not_fit(option: Option, value: str) -> None:
    assert not option.fits(value)


def test_a_refusal_says_what_is_allowed_and_never_the_value() -> None:
    with pytest.raises(InvalidValueError, match="option_invalid") as refused:
        check_options(DECLARED, {"password": "9371x"})
    assert refused.value.remedy == "It is six digits."
    assert "9371x" not in str(refused.value)
    with pytest.raises(InvalidValueError) as refused:
        check_options(DECLARED, {"columns": "200"})
    assert refused.value.remedy == "It is a number from 16 to 96."
    with pytest.raises(InvalidValueError) as refused:
        check_options(DECLARED, {"status": "maybe"})
    assert refused.value.remedy == "It is one of auto, none."
    with pytest.raises(InvalidValueError) as refused:
        check_options(DECLARED, {"note": ""})
    assert refused.value.remedy == f"It is a text of up to {VALUE_MAX} characters."


@pytest.mark.parametrize("name", ["colour", "keys"])
def test_an_option_that_is_not_declared_or_is_learnt_cannot_be_set(name: str) -> None:
    with pytest.raises(InvalidValueError, match="option_unknown") as refused:
        check_options(DECLARED, {name: "1"})
    assert refused.value.remedy == "Name one of: columns, status, password, note."
    with pytest.raises(InvalidValueError) as refused:
        check_options((), {name: "1"})
    assert refused.value.remedy == "Its driver has no options."
