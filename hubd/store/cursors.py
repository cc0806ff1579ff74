"""What the cloud confirmed, what we applied of its journal, and the proofs it signed. None of it is an entry."""

from __future__ import annotations

import sqlite3

from msgspec import Struct

from hubd.store.tx import Tx

CONFIRMED = "confirmed"
"""Up: the cloud has committed our entries up to here, proven."""
APPLIED = "applied"
"""Down: we have applied the cloud's journal up to here, in one transaction with its effects."""


class Cursor(Struct, frozen=True):
    """A place in a journal: seq 0 with 32 zero bytes before the first entry."""

    line: bytes = b""
    seq: int = 0
    hash: bytes = bytes(32)
    at_us: int = 0


class Proof(Struct, frozen=True):
    """The cloud's signed word that it holds this chain up to here."""

    line: bytes
    seq: int
    hash: bytes
    key_id: str
    time_us: int
    signature: bytes


def get(connection: sqlite3.Connection, name: str) -> Cursor:
    """The cursor of this name; its zero if it never moved."""
    row = connection.execute("SELECT line, seq, hash, at_us FROM cursors WHERE name = ?", (name,)).fetchone()
    return Cursor(*row) if row else Cursor()


def put(tx: Tx, name: str, cursor: Cursor) -> None:
    """Move a cursor, in the transaction of what it stands for."""
    tx.execute(
        "INSERT OR REPLACE INTO cursors(name, line, seq, hash, at_us) VALUES (?, ?, ?, ?, ?)",
        (name, cursor.line, cursor.seq, cursor.hash, cursor.at_us),
    )


def add_proof(tx: Tx, proof: Proof) -> None:
    """Keep a proof; it is the hub's evidence if the cloud is restored from an old backup (S7)."""
    tx.execute(
        "INSERT OR REPLACE INTO proofs(line, seq, hash, key_id, time_us, signature) VALUES (?, ?, ?, ?, ?, ?)",
        (proof.line, proof.seq, proof.hash, proof.key_id, proof.time_us, proof.signature),
    )


def all_proofs(connection: sqlite3.Connection) -> list[Proof]:
    """Every proof that is kept, by seq."""
    rows = connection.execute("SELECT line, seq, hash, key_id, time_us, signature FROM proofs ORDER BY seq")
    return [Proof(*row) for row in rows]


def latest_proof(connection: sqlite3.Connection) -> Proof | None:
    """The proof with the highest seq."""
    row = connection.execute(
        "SELECT line, seq, hash, key_id, time_us, signature FROM proofs ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    return Proof(*row) if row else None
