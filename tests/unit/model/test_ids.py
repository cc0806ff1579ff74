"""Ids: UUIDv7 in one spelling only."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubd.errors import InvalidValueError
from hubd.model.ids import id_bytes, id_text, parse_id, uuid7


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid_of_version_7_and_reads_back(ms: int, entropy: bytes) -> None:
    text = uuid7(ms, entropy)
    found = uuid.UUID(text)
    assert (found.version, found.variant, str(found)) == (7, uuid.RFC_4122, text)
    assert found.int >> 80 == ms
    assert id_text(id_bytes(parse_id(text))) == text


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_a_later_id_sorts_later(ms: int, a: bytes, b: bytes) -> None:
    assert uuid7(ms, a) < uuid7(ms + 1, b)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01890a5d-ac96-774b-bcce-b302099a8057\n",
        "01890A5D-AC96-774B-BCCE-B302099A8057",
        "01890a5dac96774bbcceb302099a8057",
        "{01890a5d-ac96-774b-bcce-b302099a8057}",
        "01890a5d-ac96-474b-bcce-b302099a8057",
        "01890a5d-ac96-774b-ccce-b302099a8057",
        "01890a5d-ac96-774b-bcce-b302099a805g",
    ],
)
def test_another_spelling_or_version_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match="invalid_id"):
        parse_id(text)
