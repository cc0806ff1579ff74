"""Outages and the statements about them."""

from __future__ import annotations

import json
import sqlite3

from msgspec import Struct

from hubd.model.entry import Entry, Json
from hubd.model.statement import TERMINAL_CLOSED, TERMINAL_HEARD
from hubd.store.tx import Tx

STARTED = "payment.started"


class Outage(Struct, frozen=True):
    """One outage: from the first loss to the return of service."""

    id: str
    cause: str
    """`network_outage` or `service_disruption`."""
    started_at_us: int
    opened_seq: int
    ended_at_us: int | None
    closed_seq: int | None
    opened_clock: int
    anchor_boot: bytes
    anchor_mono_ms: int
    """Boot and monotonic time of the first loss: intervals within one boot are exact, across boots they are bounds."""


class StoredStatement(Struct, frozen=True):
    """A statement as the cloud signed it, with the hub's own comparison."""

    id: str
    outage: str
    finality: str
    seq: int
    replaces: str | None
    agrees: bool
    document: dict[str, Json]


_SELECT = (
    "SELECT id, cause, started_at_us, opened_seq, ended_at_us, closed_seq, opened_clock, anchor_boot, anchor_mono_ms"
    " FROM outages"
)


def get(connection: sqlite3.Connection, outage_id: str) -> Outage | None:
    """The outage with this id."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (outage_id,)).fetchone()
    return Outage(*row) if row else None


def current(connection: sqlite3.Connection) -> Outage | None:
    """The outage that is not over, if any."""
    row = connection.execute(f"{_SELECT} WHERE ended_at_us IS NULL ORDER BY opened_seq DESC LIMIT 1").fetchone()
    return Outage(*row) if row else None


def covering(connection: sqlite3.Connection, at_us: int) -> Outage | None:
    """The newest outage that had begun by this moment and had not ended."""
    row = connection.execute(
        f"{_SELECT} WHERE started_at_us <= ? AND (ended_at_us IS NULL OR ended_at_us >= ?)"
        " ORDER BY opened_seq DESC LIMIT 1",
        (at_us, at_us),
    ).fetchone()
    return Outage(*row) if row else None


class OutageFilter(Struct, frozen=True):
    """What a list may be narrowed by; every field that is None does not narrow."""

    over: bool | None = None
    since_us: int | None = None
    until_us: int | None = None
    """Those that were going on at some moment from `since_us` to before `until_us`."""


def page(
    connection: sqlite3.Connection,
    narrow: OutageFilter | None = None,
    before_seq: int | None = None,
    limit: int = 50,
) -> list[Outage]:
    """Newest first, opened below `before_seq`."""
    narrow = narrow or OutageFilter()
    conditions = {
        "opened_seq < ?": before_seq,
        "(ended_at_us IS NOT NULL) = ?": narrow.over,
        "(ended_at_us IS NULL OR ended_at_us >= ?)": narrow.since_us,
        "started_at_us < ?": narrow.until_us,
    }
    clauses = [clause for clause, value in conditions.items() if value is not None]
    values = [value for value in conditions.values() if value is not None]
    where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
    rows = connection.execute(f"{_SELECT}{where} ORDER BY opened_seq DESC LIMIT ?", (*values, limit))
    return [Outage(*row) for row in rows]


def statements(connection: sqlite3.Connection, outage_id: str) -> list[StoredStatement]:
    """Every statement about an outage, oldest first; the last one counts."""
    rows = connection.execute(
        "SELECT id, outage, finality, seq, replaces, agrees, document FROM statements WHERE outage = ? ORDER BY seq",
        (outage_id,),
    )
    return [
        StoredStatement(id_, outage, finality, seq, replaces, bool(agrees), json.loads(document))
        for id_, outage, finality, seq, replaces, agrees, document in rows
    ]


class Unheard(Struct, frozen=True):
    """A terminal that was used in an outage and has neither answered since nor been closed by a person."""

    outage: str
    terminal: str
    ended: bool
    """Whether the outage is over: only then can the terminal be heard since."""


_UNHEARD = (
    "SELECT t.outage, t.terminal, o.ended_at_us IS NOT NULL FROM outage_terminals AS t"
    " JOIN outages AS o ON o.id = t.outage WHERE t.heard_seq IS NULL AND t.closed_seq IS NULL"
)


def unheard(connection: sqlite3.Connection) -> list[Unheard]:
    """Every terminal that is still to be heard after an outage, oldest outage first."""
    rows = connection.execute(f"{_UNHEARD} ORDER BY o.opened_seq, t.terminal")
    return [Unheard(outage, terminal, bool(ended)) for outage, terminal, ended in rows]


def unheard_of_outage(connection: sqlite3.Connection, outage_id: str) -> list[str]:
    """The terminals that one outage waits for."""
    rows = connection.execute(f"{_UNHEARD} AND t.outage = ? ORDER BY t.terminal", (outage_id,))
    return [row[1] for row in rows]


def note_use(tx: Tx, entry: Entry, outage_id: str, terminal: str) -> None:
    """Keep in mind that a payment of this outage was, or may have been, sent to this terminal.

    One that a person has closed is waited for again once a payment is really sent to it.
    """
    tx.execute(
        "INSERT INTO outage_terminals(outage, terminal, used_seq) VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
        " SET closed_seq = NULL WHERE closed_seq IS NOT NULL AND ?",
        (outage_id, terminal, entry.seq, entry.kind == STARTED),
    )


def _heard(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "UPDATE outage_terminals SET heard_seq = ? WHERE outage = ? AND terminal = ?",
        (entry.seq, entry.head.subject, body["terminal"]),
    )


def _closed_by_a_person(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "UPDATE outage_terminals SET closed_seq = ? WHERE outage = ? AND terminal = ?",
        (entry.seq, entry.head.subject, body["terminal"]),
    )


def _opened(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "INSERT INTO outages(id, cause, started_at_us, opened_seq, opened_clock, anchor_boot, anchor_mono_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            entry.head.subject,
            body["cause"],
            body["started_at_us"],
            entry.seq,
            entry.head.clock,
            entry.head.boot,
            body["started_mono_ms"],
        ),
    )


def _closed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "UPDATE outages SET ended_at_us = ?, closed_seq = ?, cause = ? WHERE id = ?",
        (body["ended_at_us"], entry.seq, body["cause"], entry.head.subject),
    )


def _statement(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    statement = body["statement"]
    tx.execute(
        "INSERT INTO statements(id, outage, finality, seq, replaces, agrees, document) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            entry.head.subject,
            statement["outage"],
            statement["finality"],
            entry.seq,
            statement["replaces"],
            1 if body["agrees"] else 0,
            json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        ),
    )


PROJECTORS = {
    "outage.opened": _opened,
    "outage.closed": _closed,
    TERMINAL_HEARD: _heard,
    TERMINAL_CLOSED: _closed_by_a_person,
    "statement.received": _statement,
}
