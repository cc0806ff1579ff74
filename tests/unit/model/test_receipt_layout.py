"""A ticket layout is plain values; what could not be printed, or looks like a card, is refused by a stable code."""

from __future__ import annotations

from typing import Any

import pytest

from hubd.errors import HubError
from hubd.model.printing import Logo
from hubd.model.receipt_layout import SHIPPED_LAYOUT, layout_value, parse_layout

GOOD: dict[str, Any] = {
    "language": "fr",
    "columns": 32,
    "header": ["12 rue de la Gare", "TVA FR40303265045"],
    "footer": ["Échange sous 15 jours"],
    "logo": {"width": 16, "rows": "/4EQBAGB"},
    "vat_table": False,
    "card_details": False,
}


def test_a_layout_is_kept_whole_and_read_back() -> None:
    kept = layout_value(GOOD)
    assert kept == GOOD
    assert parse_layout(kept).picture == Logo(16, b"\xff\x81\x10\x04\x01\x81")
    assert layout_value(layout_value({})) == layout_value({})
    assert parse_layout({}) == SHIPPED_LAYOUT


@pytest.mark.parametrize(
    "bad",
    [
        "text",
        {"language": "de"},
        {"columns": 15},
        {"columns": 97},
        {"columns": "42"},
        {"header": "one"},
        {"header": ["x"] * 9},
        {"footer": ["x" * 97]},
        {"vat_table": 1},
        {"script": "x"},
        {"logo": {"width": 12, "rows": "AAAA"}},
        {"logo": {"width": 16, "rows": "AAAA"}},
        {"logo": {"width": 16, "rows": ""}},
        {"logo": {"width": 584, "rows": "AAAA"}},
        {"logo": {"width": 16, "rows": "no base64!"}},
        {"logo": {"width": 8, "rows": "A" * 16388}},
    ],
)
def test_what_cannot_be_printed_is_refused(bad: object) -> None:
    with pytest.raises(HubError) as refused:
        parse_layout(bad)
    assert refused.value.code == "invalid_receipt_layout"


@pytest.mark.parametrize("part", ["header", "footer"])
def test_card_numbers_and_commands_are_refused(part: str) -> None:
    for line, code in (("4111 1111 1111 1111", "card_data_refused"), ("\x1bp0", "control_characters")):
        with pytest.raises(HubError) as refused:
            parse_layout({part: [line]})
        assert refused.value.code == code
