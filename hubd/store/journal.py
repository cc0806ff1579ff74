"""The journal: the audit trail, the queue to the cloud, the event feed and the fiscal chain in one table (design 4)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from hubd.errors import NotFoundError, StoreError
from hubd.model.entry import (
    CLOCK_TRUSTED,
    CLOCK_UNCERTAIN,
    DOCUMENT_BYTES_MAX,
    FLAG_CRITICAL,
    Document,
    Draft,
    Entry,
    EntryFormatError,
    Head,
    encode_body,
    encode_head,
    entry_hash,
    load_entry,
)
from hubd.model.kinds import is_critical
from hubd.store.projection import project
from hubd.store.tx import JournalHead, Tx

TAIL_CHECKED_AT_START = 1_000

Stored = tuple[int, bytes, bytes, bytes]
"""seq, head, body and hash of an entry as they are stored."""


def append(tx: Tx, draft: Draft) -> Entry:
    """Append one entry and bring the projections up to it, in the transaction of `tx`.

    Durable when the write that runs it returns. Raises EntryFormatError for a draft that breaks the format (E4-E6,
    S13: a body is at most 64 KiB, a document 256 KiB) and InvalidTransitionError for a step that a machine forbids.
    """
    if not tx.head.line:
        raise StoreError("journal.no_line", "No line is open yet.", remedy="Open a line before anything else.")
    return _append(tx, tx.head.line, draft)


def open_line(tx: Tx, line: bytes, draft: Draft) -> Entry:
    """Begin a new line with its `line.opened` entry (E8); the entry before it is the parent."""
    if draft.kind != "line.opened":
        raise EntryFormatError("A line begins with line.opened.")
    return _append(tx, line, draft)


def _append(tx: Tx, line: bytes, draft: Draft) -> Entry:
    body = encode_body(draft.body)
    head = Head(
        line=line,
        seq=tx.head.seq + 1,
        at_us=tx.now_us(),
        clock=CLOCK_TRUSTED if tx.clock_trusted() else CLOCK_UNCERTAIN,
        boot=tx.boot,
        mono_ms=tx.mono_ms(),
        kind=draft.kind,
        body_version=draft.body_version,
        subject=draft.subject,
        actor=draft.actor,
        flags=draft.flags | (FLAG_CRITICAL if is_critical(draft.kind) else 0),
        documents=tuple([document.ref for document in draft.documents]) if draft.documents else (),
    )
    head_bytes = encode_head(head)
    digest = entry_hash(tx.head.hash, head_bytes, body)
    tx.rows.execute(
        "INSERT INTO journal(seq, head, body, hash, kind, subject) VALUES (?, ?, ?, ?, ?, ?)",
        # SQLite's driver binds a bytearray as it is and looks for an adapter of bytes, which costs more than the copy.
        (head.seq, bytearray(head_bytes), bytearray(body), bytearray(digest), head.kind, head.subject),
    )
    for document in draft.documents:
        _insert_document(tx, document)
    tx.head = JournalHead(line, head.seq, digest)
    entry = Entry(head, head_bytes, body, digest)
    tx.appended.append(entry)
    project(tx, entry, draft.body if type(draft.body) is dict else dict(draft.body))
    return entry


def _insert_document(tx: Tx, document: Document) -> None:
    if len(document.content) > DOCUMENT_BYTES_MAX:
        raise EntryFormatError(f"A document of {len(document.content)} bytes is larger than {DOCUMENT_BYTES_MAX}.")
    tx.execute(
        "INSERT INTO documents(id, class, salt, content, keep_until, law) VALUES (?, ?, ?, ?, ?, ?)",
        (document.id, document.klass, document.salt, document.content, document.keep_until, document.law),
    )


_COLUMNS = "head, body, hash"


def _entries(rows: Iterable[Sequence[Any]]) -> list[Entry]:
    return [load_entry(*row) for row in rows]


def entry_at(connection: sqlite3.Connection, seq: int) -> Entry:
    """The entry with this seq. Raises NotFoundError if it is beyond the head or was archived and pruned."""
    row = connection.execute("SELECT head, body, hash FROM journal WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        raise NotFoundError("journal.no_entry", f"The journal has no entry {seq} here.", params={"seq": seq})
    return load_entry(*row)


def entries_after(connection: sqlite3.Connection, seq: int, limit: int) -> list[Entry]:
    """Up to `limit` entries with a greater seq, in order."""
    rows = connection.execute("SELECT head, body, hash FROM journal WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))
    return _entries(rows)


def stored_after(connection: sqlite3.Connection, seq: int, limit: int) -> list[Stored]:
    """As `entries_after`, but only bytes: for those who pass entries on without looking into them."""
    rows = connection.execute(
        "SELECT seq, head, body, hash FROM journal WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
    )
    return rows.fetchall()


def entries_of(connection: sqlite3.Connection, subject: str, limit: int = 1_000) -> list[Entry]:
    """The history of one thing, oldest first."""
    rows = connection.execute(
        "SELECT head, body, hash FROM journal WHERE subject = ? AND subject <> '' ORDER BY seq LIMIT ?",
        (subject, limit),
    )
    return _entries(rows)


def hash_at(connection: sqlite3.Connection, seq: int) -> bytes | None:
    """The hash of an entry; 32 zero bytes for 0; None where the journal has no such entry (any more)."""
    if seq == 0:
        return bytes(32)
    row = connection.execute("SELECT hash FROM journal WHERE seq = ?", (seq,)).fetchone()
    if row is not None:
        return bytes(row[0])
    cut = connection.execute("SELECT upto_hash FROM journal_cut WHERE upto_seq = ?", (seq,)).fetchone()
    return bytes(cut[0]) if cut else None


def line_at(connection: sqlite3.Connection, seq: int) -> bytes | None:
    """The line in which the entry `seq` was written; None beyond the head or before the first line."""
    row = connection.execute(
        "SELECT line FROM lines WHERE opened_seq <= ? ORDER BY opened_seq DESC LIMIT 1", (seq,)
    ).fetchone()
    return bytes(row[0]) if row else None
