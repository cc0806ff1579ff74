"""Lines, number series, enrolment and the cloud's keys."""

from __future__ import annotations

import sqlite3

from msgspec import Struct

from hubd.model.entry import Entry, Json
from hubd.store.tx import Tx


class Line(Struct, frozen=True):
    """One unbroken run of writing."""

    line: bytes
    opened_seq: int
    reason: str
    parent_line: bytes | None
    parent_seq: int | None
    parent_hash: bytes | None
    epoch: int | None


def all_lines(connection: sqlite3.Connection) -> list[Line]:
    """Every line of this hub's own chain, oldest first."""
    rows = connection.execute(
        "SELECT line, opened_seq, reason, parent_line, parent_seq, parent_hash, epoch FROM lines ORDER BY opened_seq"
    )
    return [Line(*row) for row in rows]


def open_series(tx: Tx, owner: str, purpose: str) -> tuple[str, int] | None:
    """The open series of a till or of the hub for one purpose in the present line, and the last number it has used."""
    known: tuple[str, int] | None = tx.kept.get(("series", owner, purpose))
    if known is None:
        row = tx.execute(
            "SELECT series, last_used FROM number_series WHERE line = ? AND owner = ? AND purpose = ? AND closed = 0",
            (tx.head.line, owner, purpose),
        ).fetchone()
        if row is None:
            return None
        series, last_used = known = str(row[0]), int(row[1])
        tx.kept["series", owner, purpose] = known
        tx.kept["last used", series] = last_used
        return known
    series = known[0]
    return series, tx.kept["last used", series]


class Series(Struct, frozen=True):
    """A number series that still gives numbers."""

    series: str
    owner: str
    purpose: str
    last_used: int


def open_ones(tx: Tx) -> list[Series]:
    """Every open series, by name."""
    rows = tx.connection.execute(
        "SELECT series, owner, purpose, last_used FROM number_series WHERE closed = 0 ORDER BY series"
    )
    return [Series(*row) for row in rows]


def series_exists(connection: sqlite3.Connection, series: str) -> bool:
    """Whether any line of this hub has ever opened a series of this name."""
    return connection.execute("SELECT 1 FROM number_series WHERE series = ?", (series,)).fetchone() is not None


def use_number(tx: Tx, series: str | None, counter: int | None) -> None:
    """Move a series to `counter`; called by the projections of entries that carry a number."""
    if series is not None and counter is not None:
        last = tx.kept.get(("last used", series))
        if last is not None and counter > last:
            tx.kept["last used", series] = counter
        tx.use_number(series, counter)


def _opened(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    parent = body["parent"]
    tx.execute(
        "INSERT INTO lines(line, opened_seq, reason, parent_line, parent_seq, parent_hash) VALUES (?, ?, ?, ?, ?, ?)",
        (
            entry.line,
            entry.seq,
            body["reason"],
            bytes.fromhex(parent["line"]) if parent else None,
            parent["seq"] if parent else None,
            bytes.fromhex(parent["hash"]) if parent else None,
        ),
    )
    tx.forget()
    # A series belongs to one line: what an older line may have used beyond our knowledge must never be used again.
    tx.execute("UPDATE number_series SET closed = 1 WHERE closed = 0")


def _epoch(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute("UPDATE lines SET epoch = ? WHERE line = ?", (body["epoch"], bytes.fromhex(body["line"])))


def _numbers_opened(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "INSERT INTO number_series(series, line, owner, purpose, last_used) VALUES (?, ?, ?, ?, 0)",
        (body["series"], entry.line, body["owner"], body["purpose"]),
    )


def _numbers_released(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.forget()
    tx.execute("UPDATE number_series SET closed = 1 WHERE series = ?", (body["series"],))


def _enrolled(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO enrolment(only_row, tenant, store, root_key, seq) VALUES (1, ?, ?, ?, ?)",
        (body["tenant"], body["store"], bytes.fromhex(body["root_key"]), entry.seq),
    )


def _keys_rotated(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO cloud_keys(key_id, public_key, seq) VALUES (?, ?, ?)",
        (body["key_id"], bytes.fromhex(body["public_key"]), entry.seq),
    )


PROJECTORS = {
    "line.opened": _opened,
    "epoch.assigned": _epoch,
    "numbers.opened": _numbers_opened,
    "numbers.released": _numbers_released,
    "hub.enrolled": _enrolled,
    "cloud.keys_rotated": _keys_rotated,
}
