"""Personal data beside the journal: read, and erase without breaking the chain (E11).

A document is erasable at once, or kept until the date that a law demands; asking to forget one of the second sort
is recorded and carried out at its date. Erasing is an entry, so a replay after a restore erases again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from hubd.errors import NotFoundError, StoreError
from hubd.model.entry import Document, Draft, Entry, Json
from hubd.store import archive_files
from hubd.store.db import Database
from hubd.store.tx import Tx

log = logging.getLogger(__name__)

DUE_AT_ONCE_MAX = 500
"""Documents erased in one go when their date has come."""

DISK_ERRORS = (StoreError, OSError, sqlite3.DatabaseError)
"""How a disk that is full, read-only or damaged ends reading, erasing and rewriting; only the store names SQLite."""


class Erased(Struct, frozen=True):
    """The document is gone."""

    id: bytes


class KeptUntil(Struct, frozen=True):
    """A law keeps the document; it will be erased on that date."""

    id: bytes
    date: str
    law: str


def get(connection: sqlite3.Connection, document_id: bytes) -> Document | None:
    """The document, or None if it is absent or erased."""
    row = connection.execute(
        "SELECT id, class, salt, content, keep_until, law FROM documents"
        " WHERE id = ? AND erased = 0 AND content IS NOT NULL",
        (document_id,),
    ).fetchone()
    return Document(*row) if row else None


def is_erased(connection: sqlite3.Connection, document_id: bytes) -> bool:
    """Whether it was here and was erased."""
    row = connection.execute("SELECT erased FROM documents WHERE id = ?", (document_id,)).fetchone()
    return bool(row and row[0])


def erase(tx: Tx, document_id: bytes) -> bool:
    """Remove salt and bytes together; False if there was nothing to remove. The entry `document.erased` records it."""
    cursor = tx.execute(
        "UPDATE documents SET salt = NULL, content = NULL, erased = 1 WHERE id = ? AND erased = 0", (document_id,)
    )
    return cursor.rowcount == 1


def erasure(document_id: bytes, reason: str, actor: str) -> Draft:
    """The entry that erases a document; appending it removes salt and bytes in the same transaction."""
    return Draft("document.erased", document_id.hex(), actor, {"id": document_id.hex(), "reason": reason})


def request_erasure(tx: Tx, document_id: bytes, today: str) -> KeptUntil | None:
    """Note that a document shall be forgotten. None: it may be erased now; else the law that keeps it, and its date.

    Raises NotFoundError for an id that the hub does not hold; `today` is an ISO date.
    """
    row = tx.execute("SELECT keep_until, law FROM documents WHERE id = ?", (document_id,)).fetchone()
    if row is None:
        raise NotFoundError("document.unknown", "The hub holds no such document.", params={"id": document_id.hex()})
    keep_until, law = row
    if keep_until <= today:
        return None
    tx.execute("UPDATE documents SET erase_when_due = 1 WHERE id = ?", (document_id,))
    return KeptUntil(document_id, keep_until, law)


def is_here(connection: sqlite3.Connection, document_id: bytes) -> bool:
    """Whether the database has a row for it, erased or not."""
    return connection.execute("SELECT 1 FROM documents WHERE id = ?", (document_id,)).fetchone() is not None


def note_archived(tx: Tx, kept: KeptUntil) -> None:
    """Make a row without content for a document that lies in an archive file, so that a wish can be noted there."""
    tx.execute(
        "INSERT OR IGNORE INTO documents(id, class, keep_until, law) VALUES (?, '', ?, ?)",
        (kept.id, kept.date, kept.law),
    )


def give_date(tx: Tx, until: str, law: str) -> int:
    """Give this date to some documents whose date is not known; returns to how many."""
    # The date stands in the text, as in the index: SQLite uses a partial index only where it reads the same.
    cursor = tx.execute(
        "UPDATE documents SET keep_until = ?, law = ? WHERE id IN"
        " (SELECT id FROM documents WHERE keep_until = '9999-12-31' AND erased = 0 LIMIT ?)",
        (until, law, DUE_AT_ONCE_MAX),
    )
    return cursor.rowcount


def due(connection: sqlite3.Connection, today: str) -> list[bytes]:
    """Documents whose erasure was asked for and whose date has come."""
    rows = connection.execute(
        "SELECT id FROM documents WHERE erase_when_due = 1 AND erased = 0 AND keep_until <= ? LIMIT ?",
        (today, DUE_AT_ONCE_MAX),
    )
    return [row[0] for row in rows]


async def forget_bytes(db: Database, document_ids: Iterable[bytes], archives: Path | None = None) -> bool:
    """After an erasure was committed: leave no byte in the write-ahead log or in the archives' document files.

    False if a reader held the log just then, or the disk was full: call it again.
    """
    gone = frozenset(document_ids)
    if archives is not None:
        await db.read_apart("documents.forget", lambda _: archive_files.forget(archives, gone))
    return await db.exclusively("documents.truncate", _truncate)


def _truncate(connection: sqlite3.Connection) -> bool:
    # Payments wait behind this, so it waits for no reader: the caller comes again between two groups.
    (patience_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout=0").fetchall()
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        log.warning("documents.log_not_emptied", exc_info=True)  # a full disk: the erasure itself is committed
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout={patience_ms}").fetchall()
    return not busy


def erased_ids(connection: sqlite3.Connection, after_seq: int = 0) -> frozenset[bytes]:
    """What was erased, by the entries above `after_seq` and by the rows: what a restore must erase again."""
    entries = connection.execute("SELECT body FROM journal WHERE seq > ? AND kind = 'document.erased'", (after_seq,))
    rows = connection.execute("SELECT id FROM documents WHERE erased = 1")
    return frozenset(bytes.fromhex(json.loads(body)["id"]) for (body,) in entries) | frozenset(id_ for (id_,) in rows)


def _erased(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    erase(tx, bytes.fromhex(body["id"]))


PROJECTORS = {"document.erased": _erased}
