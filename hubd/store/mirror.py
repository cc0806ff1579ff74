"""The cloud's journal as it came down, what we forgot and got back, and what cannot be understood yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from hubd.model.entry import Entry, load_entry
from hubd.store.tx import Tx

APPLIED = "applied"
UNINTERPRETED = "uninterpreted"
"""Stored and confirmed; its kind or version is newer than this program (E13)."""
DEAD = "dead"
"""Stored and confirmed; its effect was impossible, a person may retry it."""
STOPPED = "stopped"
"""Stored and confirmed, behind a critical entry of an unknown kind (E14)."""
FORGOTTEN = "forgotten"
"""An entry of our own, written before a restore and given back by the cloud: history to read, never applied."""

SOURCE_DOWN = "down"


class DeadLetter(Struct, frozen=True):
    """Something set aside with its reason and a way back."""

    id: int
    source: str
    subject: str
    hash: bytes
    reason: str
    at_us: int


def _entries(rows: Iterable[Sequence[Any]]) -> list[Entry]:
    return [load_entry(*row) for row in rows]


def state_of(connection: sqlite3.Connection, hash_: bytes) -> str | None:
    """What became of a mirrored entry; None if it never came."""
    row = connection.execute("SELECT state FROM down_journal WHERE hash = ?", (hash_,)).fetchone()
    return str(row[0]) if row else None


def get(connection: sqlite3.Connection, hash_: bytes) -> Entry | None:
    """A mirrored entry."""
    row = connection.execute("SELECT head, body, hash FROM down_journal WHERE hash = ?", (hash_,)).fetchone()
    return load_entry(*row) if row else None


def add(tx: Tx, entry: Entry, state: str) -> None:
    """Keep an entry that came from the cloud."""
    tx.execute(
        "INSERT INTO down_journal(hash, line, seq, head, body, state) VALUES (?, ?, ?, ?, ?, ?)",
        (entry.hash, entry.line, entry.seq, entry.head_bytes, entry.body_bytes, state),
    )


def set_state(tx: Tx, hash_: bytes, state: str) -> None:
    """Record what became of a mirrored entry."""
    tx.execute("UPDATE down_journal SET state = ? WHERE hash = ?", (state, hash_))


def entries_of_line(connection: sqlite3.Connection, line: bytes, from_seq: int, limit: int) -> list[Entry]:
    """Mirrored entries of one line, in order."""
    rows = connection.execute(
        "SELECT head, body, hash FROM down_journal WHERE line = ? AND seq >= ? ORDER BY seq LIMIT ?",
        (line, from_seq, limit),
    )
    return _entries(rows)


def entries_in_state(connection: sqlite3.Connection, state: str, limit: int = 1_000) -> list[Entry]:
    """Mirrored entries in one state, oldest first."""
    rows = connection.execute(
        "SELECT head, body, hash FROM down_journal WHERE state = ? AND state <> 'applied' ORDER BY seq LIMIT ?",
        (state, limit),
    )
    return _entries(rows)


def count_in_state(connection: sqlite3.Connection, state: str) -> int:
    """How many mirrored entries wait in one state; small by nature, for the page and `hubctl sync`."""
    row = connection.execute(
        "SELECT count(*) FROM down_journal WHERE state = ? AND state <> 'applied'", (state,)
    ).fetchone()
    return int(row[0])


def at_seq(connection: sqlite3.Connection, seq: int) -> list[bytes]:
    """Hashes of mirrored entries with this seq, of whatever line."""
    rows = connection.execute(
        "SELECT d.hash FROM (SELECT DISTINCT line FROM down_journal) l JOIN down_journal d ON d.line = l.line"
        " WHERE d.seq = ? ORDER BY d.hash",
        (seq,),
    )
    return [bytes(row[0]) for row in rows]


def forgotten_range_complete(connection: sqlite3.Connection, line: bytes, from_seq: int, upto_seq: int) -> bool:
    """Whether all forgotten entries of a range have come back."""
    row = connection.execute(
        "SELECT count(*) FROM down_journal WHERE line = ? AND seq BETWEEN ? AND ? AND state = 'forgotten'",
        (line, from_seq, upto_seq),
    ).fetchone()
    return int(row[0]) == upto_seq - from_seq + 1


def add_dead_letter(tx: Tx, source: str, subject: str, hash_: bytes, reason: str) -> None:
    """Set something aside, in the transaction that moves past it."""
    tx.execute(
        "INSERT INTO dead_letters(source, subject, hash, reason, at_us) VALUES (?, ?, ?, ?, ?)",
        (source, subject, hash_, reason, tx.now_us()),
    )


def dead_letters(connection: sqlite3.Connection, limit: int = 1_000) -> list[DeadLetter]:
    """What still waits for a person, oldest first."""
    rows = connection.execute(
        "SELECT id, source, subject, hash, reason, at_us FROM dead_letters WHERE done = 0 ORDER BY id LIMIT ?", (limit,)
    )
    return [DeadLetter(*row) for row in rows]


def dead_letter_count(connection: sqlite3.Connection) -> int:
    """How many wait for a person."""
    return int(connection.execute("SELECT count(*) FROM dead_letters WHERE done = 0").fetchone()[0])


def finish_dead_letter(tx: Tx, letter_id: int) -> None:
    """The retry worked."""
    tx.execute("UPDATE dead_letters SET done = 1 WHERE id = ?", (letter_id,))
