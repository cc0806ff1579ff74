"""What each till saw last, and which tills must announce first. Not a projection: it is about the conversation."""

from __future__ import annotations

import sqlite3

from hubd.store.tx import Tx

STARTS_MAX = 1_000
"""Starts of the hub that are remembered, newest first to stay: years of restarts, or half an hour of a crash loop."""


def starts(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """Every remembered start of this hub with the head that it found, oldest first."""
    rows = connection.execute("SELECT value FROM meta WHERE name GLOB 'start:*' ORDER BY name")
    found = [str(row[0]).split(":") for row in rows]
    return [(start_id, int(head)) for start_id, head in found]


def note_start(tx: Tx, start_id: str, head_seq: int) -> None:
    """Remember that what follows `head_seq` is written by this start; forgets the oldest beyond STARTS_MAX."""
    value = f"{start_id}:{head_seq}"
    if tx.execute("SELECT 1 FROM meta WHERE name GLOB 'start:*' AND value = ?", (value,)).fetchone():
        return
    last = tx.execute("SELECT max(name) FROM meta WHERE name GLOB 'start:*'").fetchone()[0]
    number = int(last.removeprefix("start:")) + 1 if last else 1
    tx.execute("INSERT INTO meta(name, value) VALUES (?, ?)", (f"start:{number:012d}", value))
    oldest = f"start:{max(0, number - STARTS_MAX):012d}"
    tx.execute("DELETE FROM meta WHERE name GLOB 'start:*' AND name <= ?", (oldest,))


def in_chain(connection: sqlite3.Connection, line: bytes, seq: int) -> bool:
    """Whether (line, seq) lies in this hub's own chain."""
    row = connection.execute("SELECT opened_seq FROM lines WHERE line = ?", (line,)).fetchone()
    if row is None or seq < row[0]:
        return False
    after = connection.execute("SELECT min(opened_seq) FROM lines WHERE opened_seq > ?", (row[0],)).fetchone()[0]
    if after is not None:
        return bool(seq < after)
    head = connection.execute("SELECT max(seq) FROM journal").fetchone()[0]
    return bool(seq <= (head or 0))


def opened_since_restore(connection: sqlite3.Connection, line: bytes, seq: int) -> bool:
    """Whether the line that this discrepancy calls for was opened already, because of another till or by the restore.

    The forgotten part of `line` began after what we have of it; a line opened on top of that is the answer to it.
    """
    known = connection.execute("SELECT opened_seq FROM lines WHERE line = ?", (line,)).fetchone()
    if known is not None:
        younger = connection.execute("SELECT 1 FROM lines WHERE opened_seq > ?", (known[0],)).fetchone()
        return younger is not None
    return connection.execute("SELECT 1 FROM meta WHERE name = ?", (f"forgotten:{line.hex()}",)).fetchone() is not None


def note_forgotten(tx: Tx, line: bytes, seq: int) -> None:
    """Remember that a new line was opened because of this forgotten one."""
    tx.execute("INSERT OR REPLACE INTO meta(name, value) VALUES (?, ?)", (f"forgotten:{line.hex()}", str(seq)))


def hold(tx: Tx, till: str, start_id: str, line: bytes, seq: int) -> None:
    """The till must announce before it asks for money."""
    _put(tx, till, start_id, line, seq, held=True)


def release(tx: Tx, till: str, start_id: str, line: bytes, seq: int) -> None:
    """The till has announced."""
    _put(tx, till, start_id, line, seq, held=False)


def answered(tx: Tx, till: str, start_id: str, line: bytes, seq: int) -> None:
    """The till was answered in this start of the hub; whether it is held does not change."""
    _put(tx, till, start_id, line, seq, held=is_held(tx.connection, till))


def _put(tx: Tx, till: str, start_id: str, line: bytes, seq: int, *, held: bool) -> None:
    tx.kept.pop(("till", till), None)
    tx.execute(
        "INSERT OR REPLACE INTO till_lines(till, start_id, line, seq, held) VALUES (?, ?, ?, ?, ?)",
        (till, start_id, line, seq, 1 if held else 0),
    )


def conversation(tx: Tx, till: str) -> tuple[bool, str]:
    """Whether the till must announce first, and the hub's start in which it was last answered (empty if never)."""
    known: tuple[bool, str] | None = tx.kept.get(("till", till))
    if known is None:
        row = tx.rows.execute("SELECT held, start_id FROM till_lines WHERE till = ?", (till,)).fetchone()
        known = tx.kept["till", till] = (bool(row[0]), str(row[1])) if row else (False, "")
    return known


def is_held(connection: sqlite3.Connection, till: str) -> bool:
    """Whether the till must announce first."""
    row = connection.execute("SELECT held FROM till_lines WHERE till = ?", (till,)).fetchone()
    return bool(row and row[0])


def last_start(connection: sqlite3.Connection, till: str) -> str:
    """The hub's start in which this till was last answered; empty if never."""
    row = connection.execute("SELECT start_id FROM till_lines WHERE till = ?", (till,)).fetchone()
    return str(row[0]) if row else ""
