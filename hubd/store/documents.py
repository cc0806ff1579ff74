"""Personal data beside the journal: read, and erase without breaking the chain (E11)."""

from __future__ import annotations

import sqlite3

from hubd.model.entry import Document
from hubd.store.tx import Tx


def get(connection: sqlite3.Connection, document_id: bytes) -> Document | None:
    """The document, or None if it is absent or erased."""
    row = connection.execute(
        "SELECT id, class, salt, content, keep_until, law FROM documents WHERE id = ? AND erased = 0", (document_id,)
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
