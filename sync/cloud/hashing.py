"""The cloud's own reading of entries: written from docs/reference/journal.md alone, sharing nothing with the hub.

If the hub's lines had a mistake, these would not have the same one, and the two sides would not agree.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

GENESIS = b"\x00" * 32
FLAG_CRITICAL = 1


class NotAnEntry(ValueError):
    """Bytes that break the format."""


@dataclass(frozen=True, slots=True)
class CloudEntry:
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
            value = json.loads(self.body)
        except (ValueError, RecursionError) as exc:
            raise NotAnEntry("the body is no JSON") from exc
        if not isinstance(value, dict):
            raise NotAnEntry("the body is no object")
        return value


def chained_hash(prev_hash: bytes, head: bytes, body: bytes) -> bytes:
    """E2."""
    message = b"hubd.entry.v1\x00" + prev_hash
    for part in (head, body):
        message += len(part).to_bytes(4, "big") + part
    return hashlib.sha256(message).digest()


def document_digest(salt: bytes, content: bytes) -> bytes:
    """E11."""
    return hashlib.sha256(b"hubd.doc.v1\x00" + salt + content).digest()


def read_entry(prev_hash: bytes, head: bytes, body: bytes) -> CloudEntry:
    """Take a head apart (E3) and chain it; raises NotAnEntry for bytes that break the format."""
    try:
        return _read(prev_hash, head, body)
    except (IndexError, UnicodeDecodeError) as exc:
        raise NotAnEntry("the head ends early or is no UTF-8") from exc


def _read(prev_hash: bytes, head: bytes, body: bytes) -> CloudEntry:
    if head[0] != 1:
        raise NotAnEntry(f"format {head[0]}")
    if len(body) > 65_536:
        raise NotAnEntry("the body is too large")
    at = 58

    def text() -> str:
        nonlocal at
        size = head[at]
        piece = head[at + 1 : at + 1 + size]
        if len(piece) != size:
            raise IndexError
        at += 1 + size
        return piece.decode("utf-8")

    kind = text()
    version = int.from_bytes(head[at : at + 2], "big")
    at += 2
    subject, actor = text(), text()
    flags, count = head[at], head[at + 1]
    at += 2
    if len(head) != at + 48 * count:
        raise NotAnEntry("the head has another length than it says")
    documents = tuple((head[i : i + 16], head[i + 16 : i + 48]) for i in range(at, len(head), 48))
    if flags & ~0b111 or head[33] > 1:
        raise NotAnEntry("a reserved flag is set")
    return CloudEntry(
        line=head[1:17],
        seq=int.from_bytes(head[17:25], "big"),
        at_us=int.from_bytes(head[25:33], "big", signed=True),
        kind=kind,
        version=version,
        subject=subject,
        actor=actor,
        flags=flags,
        documents=documents,
        prev_hash=prev_hash,
        hash=chained_hash(prev_hash, head, body),
        head=head,
        body=body,
    )


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
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode(
        "utf-8"
    )
