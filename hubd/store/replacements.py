"""The cloud's words about which line took the place of which, and what each means for this hub."""

from __future__ import annotations

import sqlite3

import msgspec

from hubd.model.entry import Entry, Json
from hubd.model.replacement import Word
from hubd.store.tx import Tx

_ENCODER = msgspec.json.Encoder(order="sorted")


def has(connection: sqlite3.Connection, hub: bytes, epoch: int) -> bool:
    """Whether the word with this epoch is kept already."""
    row = connection.execute("SELECT 1 FROM replacements WHERE hub = ? AND epoch = ?", (hub, epoch)).fetchone()
    return row is not None


def words(connection: sqlite3.Connection, hub: bytes, limit: int) -> list[Word]:
    """The newest words, newest first."""
    rows = connection.execute("SELECT word FROM replacements WHERE hub = ? ORDER BY epoch DESC LIMIT ?", (hub, limit))
    return [msgspec.json.decode(row[0], type=Word) for row in rows]


def stopped(connection: sqlite3.Connection, hub: bytes) -> bool:
    """Whether the newest word that concerns this hub says that another one sells in its place."""
    row = connection.execute(
        "SELECT stops FROM replacements WHERE hub = ? AND stops IS NOT NULL ORDER BY epoch DESC LIMIT 1", (hub,)
    ).fetchone()
    return row is not None and bool(row[0])


def _replaced(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    word = msgspec.convert({name: body[name] for name in Word.__struct_fields__}, Word)
    meant = body["stops"]
    tx.forget()
    tx.execute(
        "INSERT OR REPLACE INTO replacements(hub, epoch, word, stops) VALUES (?, ?, ?, ?)",
        (bytes.fromhex(word.hub), word.epoch, _ENCODER.encode(word).decode(), None if meant is None else int(meant)),
    )


PROJECTORS = {"line.replaced": _replaced}
