"""Entries: the bytes of the reference, what the format refuses, and old bodies led to the newest version."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hubd.model import entry
from hubd.model.entry import (
    BODY_BYTES_MAX,
    INTEGER_MAX,
    Document,
    DocumentRef,
    EntryFormatError,
    Head,
    decode_body,
    decode_head,
    documents_named,
    encode_body,
    encode_head,
    entry_hash,
    line_of,
    load_entry,
)
from hubd.model.kinds import CRITICAL, KINDS, is_critical, is_known
from hubd.model.upcast import UPCASTERS, Body, upcast

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "journal.md"

# Written by hand from the reference: every field another value, so that none can stand in another's place.
HEAD = Head(
    line=bytes.fromhex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"),
    seq=0x0102030405060708,
    at_us=-2,
    clock=1,
    boot=bytes.fromhex("b0b1b2b3b4b5b6b7b8b9babbbcbdbebf"),
    mono_ms=0x1112131415161718,
    kind="payment.stored",
    body_version=0x2122,
    subject="p-é",
    actor="device:till-1",
    flags=5,
    documents=(DocumentRef(b"\xd0" * 16, b"\xe0" * 32), DocumentRef(b"\xd1" * 16, b"\xe1" * 32)),
)
HEAD_BYTES = bytes.fromhex(
    "01"
    "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
    "0102030405060708"
    "fffffffffffffffe"
    "01"
    "b0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
    "1112131415161718"
    "0e7061796d656e742e73746f726564"
    "2122"
    "04702dc3a9"
    "0d6465766963653a74696c6c2d31"
    "05"
    "02" + "d0" * 16 + "e0" * 32 + "d1" * 16 + "e1" * 32
)


def test_a_head_has_the_bytes_that_were_written_by_hand() -> None:
    assert encode_head(HEAD) == HEAD_BYTES
    assert decode_head(HEAD_BYTES) == HEAD


def test_the_example_of_the_reference_is_true() -> None:
    text = REFERENCE.read_text("utf-8")
    example = text[text.index("### Worked example") : text.index("## Lines")]
    head = bytes.fromhex(example[example.index("    head") + 8 : example.index("    hash")].replace("head", ""))
    body = example[example.index('`{"hub_id"') + 1 : example.index('"new"}`') + 6].encode()
    told = bytes.fromhex(example[example.index("    hash") + 8 :].strip())
    assert entry_hash(bytes(32), head, body) == told
    assert decode_head(head).kind == "line.opened"
    assert encode_body(decode_body(body)) == body


def test_the_hash_is_over_the_domain_the_hash_before_and_both_parts_with_their_lengths() -> None:
    parts = b"hubd.entry.v1\0" + b"\x07" * 32 + b"\0\0\0\x02hh" + b"\0\0\0\x03bbb"
    assert entry_hash(b"\x07" * 32, b"hh", b"bbb") == hashlib.sha256(parts).digest()


def test_a_documents_text_shows_neither_salt_nor_content() -> None:
    shown = repr(Document(b"\1" * 16, "contact", b"salt-of-it", b"Ada Lovelace", law="law"))
    assert "contact" in shown
    assert "salt-of-it" not in shown
    assert "Ada" not in shown


def test_a_documents_digest_is_salted() -> None:
    document = Document(b"i" * 16, "note", b"s" * 32, b"text")
    assert document.digest == hashlib.sha256(b"hubd.doc.v1\0" + b"s" * 32 + b"text").digest()
    assert document.ref == DocumentRef(b"i" * 16, document.digest)
    assert "text" not in repr(document)


ids = st.binary(min_size=16, max_size=16)
heads = st.builds(
    Head,
    line=ids,
    seq=st.integers(1, 2**64 - 1),
    at_us=st.integers(-(2**63), 2**63 - 1),
    clock=st.sampled_from([0, 1]),
    boot=ids,
    mono_ms=st.integers(0, 2**64 - 1),
    kind=st.from_regex(r"[a-z0-9_]{1,20}(\.[a-z0-9_]{1,20}){1,2}", fullmatch=True),
    body_version=st.integers(0, 2**16 - 1),
    subject=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    actor=st.sampled_from(["hub", "device:a-1", "staff:0190.B", "cloud:" + "0a" * 16 + ":17"]),
    flags=st.integers(0, 7),
    documents=st.lists(st.builds(DocumentRef, ids, st.binary(min_size=32, max_size=32)), max_size=4).map(tuple),
)


@given(heads)
def test_every_head_reads_back(head: Head) -> None:
    raw = encode_head(head)
    assert decode_head(raw) == head
    assert line_of(raw) == head.line
    assert documents_named(raw) == tuple(document.id for document in head.documents)


@given(heads, st.data())
def test_a_head_that_is_cut_or_lengthened_is_refused(head: Head, data: st.DataObject) -> None:
    raw = encode_head(head)
    at = data.draw(st.integers(1, len(raw) - 1))
    for wrong in (raw[:at], raw + b"\0"):
        with pytest.raises(EntryFormatError):
            decode_head(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "payment"},
        {"kind": "Payment.stored"},
        {"kind": "payment."},
        {"kind": "a." + "b" * 63},
        {"kind": "payment.stored\n"},
        {"actor": "Jeanne Moreau"},
        {"actor": ""},
        {"actor": "staff:"},
        {"actor": "cloud:xyz:1"},
        {"actor": "hub\n"},
        {"flags": 8},
        {"flags": 0x80},
        {"clock": 2},
        {"seq": 0},
        {"seq": 2**64},
        {"mono_ms": -1},
        {"body_version": 2**16},
        {"line": b"short"},
        {"boot": b""},
        {"subject": "x" * 256},
        {"subject": "\ud800"},
        {"documents": (DocumentRef(b"x" * 16, b"y" * 32),) * 256},
        {"documents": (DocumentRef(b"x" * 15, b"y" * 32),)},
    ],
)
def test_a_head_that_breaks_the_format_is_never_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(EntryFormatError):
        encode_head(replace(HEAD, **wrong))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (33, 2),
        (58, 0xFF),
        (59, ord("P")),
        (len(HEAD_BYTES) - 98, 8),
        (len(HEAD_BYTES) - 97, 1),
        (len(HEAD_BYTES) - 97, 3),
    ],
)
def test_a_head_that_breaks_the_format_is_refused_when_read(at: int, value: int) -> None:
    raw = bytearray(HEAD_BYTES)
    raw[at] = value
    with pytest.raises(EntryFormatError) as caught:
        decode_head(bytes(raw))
    assert not caught.value.newer


@pytest.mark.parametrize("raw", [b"", b"\x00" + HEAD_BYTES[1:], b"\x02" + HEAD_BYTES[1:]])
def test_another_format_byte_is_newer_not_broken(raw: bytes) -> None:
    with pytest.raises(EntryFormatError) as caught:
        decode_head(raw)
    assert caught.value.newer
    assert caught.value.code == "journal.newer_format"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
bodies = st.dictionaries(texts, values, max_size=6)


@given(bodies)
def test_a_body_is_written_as_the_reference_says(body: dict[str, Any]) -> None:
    raw = encode_body(body)
    assert raw == json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    assert decode_body(raw) == body


class Colour(StrEnum):
    RED = "red"


def test_our_enumerations_are_written_as_their_value() -> None:
    assert encode_body({"a": Colour.RED, "b": (1, None, True)}) == b'{"a":"red","b":[1,null,true]}'


def nested(depth: int) -> dict[str, Any]:
    value: Any = []
    for _ in range(depth - 2):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize(
    "body",
    [
        {"a": 1.5},
        {"a": float("nan")},
        {"a": INTEGER_MAX + 1},
        {"a": -INTEGER_MAX - 1},
        {"a": {1: 2}},
        {"a": b"x"},
        {"a": {1, 2}},
        {"a": object()},
        {"a": "\ud800"},
        {"a": "x" * BODY_BYTES_MAX},
        nested(65),
    ],
)
def test_a_body_that_breaks_the_format_is_never_written(body: dict[str, Any]) -> None:
    with pytest.raises(EntryFormatError):
        encode_body(body)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b" {}",
        b"{}\n",
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"a":"\xff"}',
        b"{'a':1}",
        b'{"a":"' + b"x" * BODY_BYTES_MAX + b'"}',
        b'{"a":' + b"[" * 64 + b"]" * 64 + b"}",
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    ],
)
def test_a_body_that_breaks_the_format_is_refused_when_read(raw: bytes) -> None:
    with pytest.raises(EntryFormatError):
        decode_body(raw)


def test_the_limits_of_a_body_are_inside() -> None:
    largest = {"a": "x" * (BODY_BYTES_MAX - 8)}
    assert len(encode_body(largest)) == BODY_BYTES_MAX
    assert decode_body(encode_body(largest)) == largest
    assert decode_body(encode_body(nested(64))) == nested(64)
    assert decode_body(encode_body({"a": [INTEGER_MAX, -INTEGER_MAX]})) == {"a": [INTEGER_MAX, -INTEGER_MAX]}


def test_an_entry_keeps_the_bytes_it_was_read_from() -> None:
    body = b'{ "b" : 1, "a" : 2 }'
    found = load_entry(HEAD_BYTES, body, b"\x01" * 32)
    assert (found.body_bytes, found.body(), found.seq, found.kind) == (body, {"b": 1, "a": 2}, HEAD.seq, HEAD.kind)
    assert found.line == HEAD.line


def test_every_kind_has_a_name_that_the_format_allows() -> None:
    for kind in KINDS:
        entry.check_kind(kind)
    assert set(KINDS) >= CRITICAL
    assert is_critical("line.opened")
    assert not is_critical("payment.stored")


def test_unknown_kinds_and_versions_are_not_interpreted() -> None:
    assert is_known("payment.stored", 1)
    assert not is_known("payment.stored", KINDS["payment.stored"] + 1)
    assert not is_known("payment.stored", 0)
    assert not is_known("weather.changed", 1)


@pytest.fixture
def newer_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in which test.thing has reached body version 3."""

    def to_2(body: Body) -> Body:
        return {**body, "currency": "EUR"}

    def to_3(body: Body) -> Body:
        return {"money": {"amount": body["amount"], "currency": body["currency"]}}

    monkeypatch.setitem(KINDS, "test.thing", 3)
    monkeypatch.setitem(UPCASTERS, ("test.thing", 1), to_2)
    monkeypatch.setitem(UPCASTERS, ("test.thing", 2), to_3)


@pytest.mark.usefixtures("newer_program")
def test_old_bodies_are_led_step_by_step_to_the_newest_version() -> None:
    newest = {"money": {"amount": 5, "currency": "EUR"}}
    first = {"amount": 5}
    assert upcast("test.thing", 1, first) == newest
    assert first == {"amount": 5}, "an upcaster is pure"
    assert upcast("test.thing", 2, {"amount": 5, "currency": "EUR"}) == newest
    assert upcast("test.thing", 3, newest) == newest
    assert is_known("test.thing", 1)
    assert not is_known("test.thing", 4)


def test_every_old_version_has_a_way_to_the_newest() -> None:
    for kind, newest in KINDS.items():
        assert [version for version in range(1, newest) if (kind, version) not in UPCASTERS] == []
        assert (kind, newest) not in UPCASTERS
    assert {kind for kind, _ in UPCASTERS} <= set(KINDS)
