"""Names of places that are no tills, as people type them and programs use them."""

from __future__ import annotations

import pytest

from hubd.errors import InvalidValueError
from hubd.model.device import place_role


@pytest.mark.parametrize(
    ("typed", "role"),
    [
        ("kitchen", "place:kitchen"),
        ("Küche", "place:kuche"),
        ("  Derrière le bar ", "place:derriere-le-bar"),
        ("Straße_2", "place:strasse_2"),
    ],
)
def test_a_place_is_plain_whatever_language_the_shop_speaks(typed: str, role: str) -> None:
    assert place_role(typed) == role


@pytest.mark.parametrize("typed", ["", "!?", "x" * 41, "台所"])
def test_what_leaves_no_name_is_refused(typed: str) -> None:
    with pytest.raises(InvalidValueError, match="invalid_place"):
        place_role(typed)
