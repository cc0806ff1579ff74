"""Journal entries: the bytes that are hashed, kept and sent. docs/reference/journal.md is the specification (E1-E13).

Stored bytes are the truth: an entry that was read is never encoded again.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from hubd.errors import InvalidValueError

FORMAT = 1
HASH_DOMAIN = b"hubd.entry.v1\0"
DOCUMENT_DOMAIN = b"hubd.doc.v1\0"
FIRST_PREV_HASH = bytes(32)
KIND_MAX = 64
BODY_BYTES_MAX = 65_536
DOCUMENT_BYTES_MAX = 256 * 1024
DOCUMENTS_MAX = 255
BODY_DEPTH_MAX = 64
"""Objects and lists inside each other; keeps every reader's stack safe."""
INTEGER_MAX = 2**53 - 1

CLOCK_UNCERTAIN = 0
CLOCK_TRUSTED = 1
_CLOCKS = (CLOCK_UNCERTAIN, CLOCK_TRUSTED)

FLAG_CRITICAL = 1
FLAG_TRAINING = 2
FLAG_TEST = 4
FLAGS_KNOWN = FLAG_CRITICAL | FLAG_TRAINING | FLAG_TEST

_KIND = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_ACTOR = re.compile(r"hub|(device|staff):[A-Za-z0-9_.-]{1,64}|cloud:[0-9a-f]{32}:[1-9][0-9]{0,19}")
_FIXED = struct.Struct(">B16sQqB16sQ")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")

Json = Any
"""A JSON value without floats: None, bool, int within 2^53-1, str, list, dict with str keys."""


class EntryFormatError(InvalidValueError):
    """Bytes that are not an entry of this format, or a body that its rules forbid."""

    def __init__(self, detail: str, *, newer: bool = False) -> None:
        remedy = "Install the newer hubd; nothing was changed." if newer else ""
        super().__init__("journal.newer_format" if newer else "journal.invalid_entry", detail, remedy=remedy)
        self.newer = newer


class DocumentRef(Struct, frozen=True, gc=False):
    """What an entry says of a document: its id and the salted digest; nothing of its content (E11)."""

    id: bytes
    digest: bytes


class Document(Struct, frozen=True):
    """Personal data beside an entry. Salt and bytes travel and are erased together (E11)."""

    id: bytes
    klass: str
    """What it is: receipt_lines, staff_name, pin_verifier, contact, note, …"""
    salt: bytes
    content: bytes
    keep_until: str = ""
    """Empty: erasable at once. Else the ISO date until which a law demands it."""
    law: str = ""

    def __repr__(self) -> str:
        """Without salt and content: they are personal data, and a trace may show this."""
        return f"Document(id={self.id.hex()}, klass={self.klass!r})"

    @property
    def digest(self) -> bytes:
        """SHA-256 over the domain, the salt and the bytes."""
        return hashlib.sha256(DOCUMENT_DOMAIN + self.salt + self.content).digest()

    @property
    def ref(self) -> DocumentRef:
        """The part that enters the head."""
        return DocumentRef(self.id, self.digest)


class Head(Struct, frozen=True, gc=False):
    """The head of an entry (E3)."""

    line: bytes
    seq: int
    at_us: int
    clock: int
    boot: bytes
    mono_ms: int
    kind: str
    body_version: int
    subject: str
    actor: str
    flags: int
    documents: tuple[DocumentRef, ...] = ()


class Draft(Struct, frozen=True, gc=False):
    """An entry before the journal gives it line, seq, time and hash."""

    kind: str
    subject: str
    actor: str
    body: Mapping[str, Json]
    body_version: int = 1
    flags: int = 0
    documents: tuple[Document, ...] = ()


class Accepted(Struct, frozen=True, gc=False):
    """The place of an entry in the journal, as every answer about what it created carries it; it never changes."""

    line: bytes
    seq: int
    hash: bytes


class Entry(Struct, frozen=True, gc=False):
    """An entry as stored and sent: head and body bytes with its hash, and the decoded head."""

    head: Head
    head_bytes: bytes
    body_bytes: bytes
    hash: bytes

    @property
    def seq(self) -> int:
        """Position in the hub's own chain, from 1, without gaps."""
        return self.head.seq

    @property
    def line(self) -> bytes:
        """The line it was written in."""
        return self.head.line

    @property
    def kind(self) -> str:
        """What happened."""
        return self.head.kind

    def body(self) -> dict[str, Json]:
        """Parse the body; raises EntryFormatError if its bytes break E6."""
        return decode_body(self.body_bytes)


def _str8(text: str) -> bytes:
    raw = text.encode("utf-8")
    if len(raw) > 255:
        raise EntryFormatError(f"A text of {len(raw)} bytes does not fit into a field of 255.")
    return bytes((len(raw),)) + raw


def check_kind(kind: str) -> None:
    """Raise unless `kind` follows E4."""
    if len(kind) > KIND_MAX or not _KIND.fullmatch(kind):
        raise EntryFormatError("A kind is lower-case words joined by points, at most 64 characters.")


def check_actor(actor: str) -> None:
    """Raise unless `actor` follows E4; a person's name must never get in here."""
    if not _ACTOR.fullmatch(actor):
        raise EntryFormatError("An actor is hub, device:ID, staff:ID or cloud:LINE:SEQ.")


@lru_cache(maxsize=256)
def _kind_field(kind: str) -> bytes:
    check_kind(kind)
    return _str8(kind)


@lru_cache(maxsize=256)
def _actor_field(actor: str) -> bytes:
    check_actor(actor)
    return _str8(actor)


def encode_head(head: Head) -> bytes:
    """The bytes of E3. Raises EntryFormatError for fields that do not fit."""
    if head.flags & ~FLAGS_KNOWN:
        raise EntryFormatError(f"Flags {head.flags:#x} has bits that format {FORMAT} does not know.")
    if len(head.documents) > DOCUMENTS_MAX:
        raise EntryFormatError(f"An entry refers to at most {DOCUMENTS_MAX} documents.")
    if len(head.line) != 16 or len(head.boot) != 16 or head.seq < 1 or head.clock not in _CLOCKS:
        raise EntryFormatError("A line and a boot have 16 bytes, seq counts from 1, and a clock is 0 or 1.")
    try:
        parts = [
            _FIXED.pack(FORMAT, head.line, head.seq, head.at_us, head.clock, head.boot, head.mono_ms),
            _kind_field(head.kind),
            _U16.pack(head.body_version),
            _str8(head.subject),
            _actor_field(head.actor),
            bytes((head.flags, len(head.documents))),
        ]
    except (struct.error, UnicodeEncodeError) as exc:
        raise EntryFormatError("A field of a head does not fit its place.") from exc
    for document in head.documents:
        if len(document.id) != 16 or len(document.digest) != 32:
            raise EntryFormatError("A document has an id of 16 bytes and a digest of 32.")
        parts.append(document.id + document.digest)
    return b"".join(parts)


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._raw):
            raise EntryFormatError("A head ends in the middle of a field.")
        self._at += count
        return self._raw[self._at - count : self._at]

    def u8(self) -> int:
        return self.take(1)[0]

    def str8(self) -> str:
        try:
            return self.take(self.u8()).decode("utf-8")
        except UnicodeDecodeError as exc:
            raise EntryFormatError("A text in a head is not UTF-8.") from exc

    def end(self) -> None:
        if self._at != len(self._raw):
            raise EntryFormatError("A head has bytes after its last field.")


def decode_head(raw: bytes) -> Head:
    """Read the bytes of E3. An unknown format byte raises with `newer` set (E15)."""
    if raw[:1] != bytes((FORMAT,)):
        raise EntryFormatError(
            f"The entry has format {raw[:1].hex() or 'none'}, this program reads {FORMAT}.", newer=True
        )
    reader = _Reader(raw)
    _, line, seq, at_us, clock, boot, mono_ms = _FIXED.unpack(reader.take(_FIXED.size))
    kind = reader.str8()
    check_kind(kind)
    (body_version,) = _U16.unpack(reader.take(2))
    subject, actor = reader.str8(), reader.str8()
    check_actor(actor)
    flags, count = reader.u8(), reader.u8()
    documents = tuple(DocumentRef(reader.take(16), reader.take(32)) for _ in range(count))
    reader.end()
    if flags & ~FLAGS_KNOWN or clock not in _CLOCKS or seq == 0:
        raise EntryFormatError("A head has a flag, a clock or a seq that the format forbids.")
    return Head(line, seq, at_us, clock, boot, mono_ms, kind, body_version, subject, actor, flags, documents)


def line_of(head: bytes) -> bytes:
    """The line that stored head bytes name, without reading the rest of them."""
    return head[1:17]


def documents_named(head: bytes) -> tuple[bytes, ...]:
    """The ids of the documents that stored head bytes refer to, without reading the rest of them."""
    at = _FIXED.size
    at += 3 + head[at]  # the kind, and the version behind it
    at += 1 + head[at]  # the subject
    at += 3 + head[at]  # the actor, flags and the count
    return tuple([head[i : i + 16] for i in range(at, at + 48 * head[at - 1], 48)]) if head[at - 1] else ()


def entry_hash(prev_hash: bytes, head: bytes, body: bytes) -> bytes:
    """E2: SHA-256 over the domain, the hash before, and the length-prefixed head and body."""
    whole = b"".join((HASH_DOMAIN, prev_hash, _U32.pack(len(head)), head, _U32.pack(len(body)), body))
    return hashlib.sha256(whole).digest()


_ENCODER = msgspec.json.Encoder(order="sorted")


def _check_value(value: Json, depth: int) -> None:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return
    if kind is int:
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise EntryFormatError("A number in a body is beyond 2^53-1.")
    elif depth > BODY_DEPTH_MAX:
        raise EntryFormatError(f"A body is nested deeper than {BODY_DEPTH_MAX}.")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise EntryFormatError("A key in a body is not a text.")
            kind = type(item)
            if kind is int:  # these and texts are nearly all: a call each would cost more than the hash
                if not -INTEGER_MAX <= item <= INTEGER_MAX:
                    raise EntryFormatError("A number in a body is beyond 2^53-1.")
            elif kind is not str and item is not None:
                _check_value(item, depth + 1)
    elif kind is list or kind is tuple:
        for item in value:
            _check_value(item, depth + 1)
    elif not (isinstance(value, str) and isinstance(value, Enum)):  # our StrEnums are written as their value
        raise EntryFormatError(
            f"A body holds a {kind.__name__}; only integers, texts, truth values, lists and objects may."
        )


def encode_body(body: Mapping[str, Json]) -> bytes:
    """E6: one JSON object, keys sorted by code point, no spaces, non-ASCII as itself, no floats, at most 64 KiB."""
    plain = body if type(body) is dict else dict(body)
    _check_value(plain, 1)
    try:
        raw = _ENCODER.encode(plain)
    except (UnicodeEncodeError, TypeError) as exc:
        raise EntryFormatError("A text in a body is not valid Unicode.") from exc
    if len(raw) > BODY_BYTES_MAX:
        raise EntryFormatError(f"A body of {len(raw)} bytes is larger than {BODY_BYTES_MAX}.")
    return raw


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise EntryFormatError("A body names a key twice.")
    return found


def _no_float(text: str) -> Json:
    raise EntryFormatError(f"A body holds the number {text[:20]}, which is not an integer.")


def _int(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > INTEGER_MAX:
        raise EntryFormatError("A number in a body is beyond 2^53-1.")
    return int(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_float=_no_float, parse_constant=_no_float, parse_int=_int
)


def _depth(value: Json) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def decode_body(raw: bytes) -> dict[str, Json]:
    """Parse a body under E6; raises EntryFormatError for anything that E6 forbids."""
    if len(raw) > BODY_BYTES_MAX:
        raise EntryFormatError(f"A body of {len(raw)} bytes is larger than {BODY_BYTES_MAX}.")
    try:
        text = raw.decode("utf-8")
        value = _DECODER.decode(text)
        too_deep = raw.count(b"{") + raw.count(b"[") > BODY_DEPTH_MAX and _depth(value) > BODY_DEPTH_MAX
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as exc:
        raise EntryFormatError("A body is not a JSON object in UTF-8.") from exc
    if not isinstance(value, dict) or not text.startswith("{") or not text.endswith("}"):
        raise EntryFormatError("A body is not one JSON object.")
    if too_deep:
        raise EntryFormatError(f"A body is nested deeper than {BODY_DEPTH_MAX}.")
    return value


def load_entry(head_bytes: bytes, body_bytes: bytes, hash_: bytes) -> Entry:
    """Wrap stored bytes without checking their place in a chain."""
    return Entry(decode_head(head_bytes), bytes(head_bytes), bytes(body_bytes), bytes(hash_))
