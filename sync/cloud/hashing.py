"""The cloud's own reading of entries: written from docs/reference/journal.md alone, sharing nothing with the hub.

If the hub's lines had a mistake, these would not have the same one, and the two sides would not agree.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import msgspec

GENESIS = b"\x00" * 32
FLAG_CRITICAL = 1

_PLACE = struct.Struct(">x16sQqB")
_FIELDS: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class NotAnEntry(ValueError):
    """Bytes that break the format."""


class CloudEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry as the cloud reads it."""

    line: bytes
    seq: int
    at_us: int
    kind: str
    version: int
    subject: str
    actor: str
    flags: int
    documents: tuple[tuple[bytes, bytes], ...]
    prev_hash: bytes
    hash: bytes
    head: bytes
    body: bytes

    def fields(self) -> dict[str, Any]:
        """The body's object; raises NotAnEntry."""
        try:
            return _FIELDS.decode(self.body)
        except (ValueError, RecursionError) as exc:
            raise NotAnEntry("the body is no object of JSON") from exc


def chained_hash(prev_hash: bytes, head: bytes, body: bytes) -> bytes:
    """E2."""
    sizes = len(head).to_bytes(4, "big"), len(body).to_bytes(4, "big")
    return hashlib.sha256(b"".join((b"hubd.entry.v1\x00", prev_hash, sizes[0], head, sizes[1], body))).digest()


def document_digest(salt: bytes, content: bytes) -> bytes:
    """E11."""
    return hashlib.sha256(b"hubd.doc.v1\x00" + salt + content).digest()


def read_entry(prev_hash: bytes, head: bytes, body: bytes, digest: bytes = b"") -> CloudEntry:
    """Take a head apart (E3) and chain it; raises NotAnEntry for bytes that break the format.

    `digest`: its hash, of an entry that was chained before.
    """
    try:
        return _read(prev_hash, head, body, digest)
    except (IndexError, UnicodeDecodeError, struct.error) as exc:
        raise NotAnEntry("the head ends early or is no UTF-8") from exc


def _read(prev_hash: bytes, head: bytes, body: bytes, digest: bytes) -> CloudEntry:
    if head[0] != 1:
        raise NotAnEntry(f"format {head[0]}")
    if len(body) > 65_536:
        raise NotAnEntry("the body is too large")
    line, seq, at_us, clock = _PLACE.unpack_from(head)
    # Each text is followed by a byte that must be there: one that ends early raises IndexError.
    start, end = 59, 59 + head[58]
    kind = head[start:end].decode("utf-8")
    version = head[end] << 8 | head[end + 1]
    start, end = end + 3, end + 3 + head[end + 2]
    subject = head[start:end].decode("utf-8")
    start, end = end + 1, end + 1 + head[end]
    actor = head[start:end].decode("utf-8")
    flags, count = head[end], head[end + 1]
    end += 2
    if len(head) != end + 48 * count:
        raise NotAnEntry("the head has another length than it says")
    if flags & ~0b111 or clock > 1:
        raise NotAnEntry("a reserved flag is set")
    documents = tuple([(head[i : i + 16], head[i + 16 : i + 48]) for i in range(end, len(head), 48)]) if count else ()
    digest = digest or chained_hash(prev_hash, head, body)
    return CloudEntry(line, seq, at_us, kind, version, subject, actor, flags, documents, prev_hash, digest, head, body)


def write_head(
    line: bytes, seq: int, at_us: int, boot: bytes, mono_ms: int, kind: str, subject: str, *, critical: bool = False
) -> bytes:
    """The head of an entry of the cloud's own journal."""
    head = b"\x01" + line + seq.to_bytes(8, "big") + at_us.to_bytes(8, "big", signed=True) + b"\x01"
    head += boot + mono_ms.to_bytes(8, "big")
    head += _text(kind) + (1).to_bytes(2, "big")
    # The cloud's own entries name themselves as their actor (E4 knows no shorter word for it).
    head += _text(subject) + _text(f"cloud:{line.hex()}:{seq}")
    return head + bytes([FLAG_CRITICAL if critical else 0, 0])


def _text(word: str) -> bytes:
    raw = word.encode("utf-8")
    return bytes([len(raw)]) + raw


def write_body(fields: dict[str, Any]) -> bytes:
    """A body as E6 wants it: sorted keys, no spaces, no escapes."""
    text = json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")
