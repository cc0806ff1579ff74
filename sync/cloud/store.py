"""The reference cloud's ledgers in SQLite. Its own file, its own statements; nothing is shared with the hub's store."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, TypeVar

from sync.cloud.hashing import CloudEntry, read_entry
from sync.cloud.storage import (
    CloudStorage,
    CodeRow,
    EffectRow,
    HubRow,
    LedgerPayment,
    LineRow,
    OutageRow,
)
from sync.codec import Place, Range

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS hubs(
  hub BLOB PRIMARY KEY, tenant TEXT NOT NULL, store TEXT NOT NULL, public_key BLOB NOT NULL, locations TEXT NOT NULL,
  restored_upto INTEGER NOT NULL, restored_mark BLOB NOT NULL, next_epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS codes(
  code_sha256 BLOB PRIMARY KEY, tenant TEXT NOT NULL, store TEXT NOT NULL, locations TEXT NOT NULL,
  uses_left INTEGER NOT NULL, expires_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tenants(
  tenant TEXT PRIMARY KEY, backup_key BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS renewals(
  number INTEGER PRIMARY KEY, hub BLOB NOT NULL, nonce BLOB NOT NULL, at_us INTEGER NOT NULL,
  UNIQUE (hub, nonce)) STRICT;
CREATE TABLE IF NOT EXISTS let_in(
  hub BLOB PRIMARY KEY, expires_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries(
  hub BLOB NOT NULL, line BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, prev_hash BLOB NOT NULL,
  head BLOB NOT NULL, body BLOB NOT NULL, state TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS entries_hash ON entries(hub, hash);
CREATE INDEX IF NOT EXISTS entries_place ON entries(hub, line, seq);
CREATE INDEX IF NOT EXISTS entries_waiting ON entries(hub, seq) WHERE state IN ('uninterpreted', 'stopped');
CREATE INDEX IF NOT EXISTS entries_pending ON entries(hub) WHERE state = 'pending';
CREATE TABLE IF NOT EXISTS lines(
  hub BLOB NOT NULL, line BLOB NOT NULL, opened_seq INTEGER NOT NULL, head_seq INTEGER NOT NULL,
  head_hash BLOB NOT NULL, parent_hash BLOB NOT NULL, parent_line BLOB NOT NULL, epoch INTEGER NOT NULL,
  stopped INTEGER NOT NULL, PRIMARY KEY (hub, line)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parked(
  hub BLOB NOT NULL, prev_hash BLOB NOT NULL, message BLOB NOT NULL, PRIMARY KEY (hub, prev_hash)) STRICT;
CREATE TABLE IF NOT EXISTS down(
  hub BLOB NOT NULL, line BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL, prev_hash BLOB NOT NULL,
  head BLOB NOT NULL, body BLOB NOT NULL, state TEXT NOT NULL, PRIMARY KEY (hub, hash)) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS down_own ON down(hub, seq) WHERE state = 'own';
CREATE TABLE IF NOT EXISTS down_confirmed(
  hub BLOB PRIMARY KEY, line BLOB NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS payments(
  hub BLOB NOT NULL, id TEXT NOT NULL, quarantined INTEGER NOT NULL, outage TEXT NOT NULL, tender TEXT NOT NULL,
  kind TEXT NOT NULL, mode TEXT NOT NULL, currency TEXT NOT NULL, exponent INTEGER NOT NULL, amount INTEGER NOT NULL,
  tip INTEGER NOT NULL, rounding INTEGER NOT NULL, state TEXT NOT NULL, custody TEXT NOT NULL, manual TEXT NOT NULL,
  decided_on TEXT NOT NULL, before_reversal TEXT NOT NULL, times_created INTEGER NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY (hub, id, quarantined)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS payments_outage ON payments(hub, outage) WHERE outage <> '';
CREATE TABLE IF NOT EXISTS outages(
  hub BLOB NOT NULL, outage TEXT NOT NULL, cause TEXT NOT NULL, started_at_us INTEGER NOT NULL,
  opened_line BLOB NOT NULL, opened_seq INTEGER NOT NULL, ended_at_us INTEGER, closed_hash BLOB NOT NULL,
  zone_hint TEXT NOT NULL, PRIMARY KEY (hub, outage)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS statements(
  number INTEGER PRIMARY KEY, hub BLOB NOT NULL, outage TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
  finality TEXT NOT NULL, document TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS statements_outage ON statements(hub, outage, number);
CREATE TABLE IF NOT EXISTS effects(
  number INTEGER PRIMARY KEY, hub BLOB NOT NULL, subject TEXT NOT NULL, effect TEXT NOT NULL, attempt INTEGER NOT NULL,
  state TEXT NOT NULL, detail TEXT NOT NULL, UNIQUE (hub, subject, effect, attempt)) STRICT;
CREATE INDEX IF NOT EXISTS effects_open ON effects(number) WHERE state IN ('wanted', 'unknown');
CREATE TABLE IF NOT EXISTS documents(
  hub BLOB NOT NULL, id BLOB NOT NULL, digest BLOB NOT NULL, class TEXT NOT NULL, salt BLOB, content BLOB,
  state TEXT NOT NULL, PRIMARY KEY (hub, id)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS documents_wanted ON documents(hub, id) WHERE state = 'wanted';
CREATE TABLE IF NOT EXISTS forgotten(
  hub BLOB NOT NULL, line BLOB NOT NULL, from_seq INTEGER NOT NULL, upto_seq INTEGER NOT NULL, hash BLOB NOT NULL,
  listed INTEGER NOT NULL, PRIMARY KEY (hub, line, from_seq)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS incidents(
  number INTEGER PRIMARY KEY, hub BLOB NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS dead_letters(
  number INTEGER PRIMARY KEY, hub BLOB NOT NULL, hash BLOB NOT NULL, reason TEXT NOT NULL) STRICT;
"""

RENEWALS_KEPT = 1_000
"""Nonces of one hub: six weeks of a renewal every hour."""

PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # it confirms only what is on disk
    "PRAGMA secure_delete=ON",
    "PRAGMA cache_size=-64000",  # hashes come in no order: a million of them keep 70 MB of index moving
    "PRAGMA wal_autocheckpoint=8000",  # a page that many entries dirty is carried home once
)

# dataclasses.astuple copies each value deeply, which cost more than the statement.
_line_values = attrgetter(*(field.name for field in fields(LineRow)))
_payment_values = attrgetter(*LedgerPayment.__struct_fields__)
_outage_values = attrgetter(*(field.name for field in fields(OutageRow)))
_effect_values = attrgetter(*(field.name for field in fields(EffectRow)))
_PAYMENT = ", ".join(LedgerPayment.__struct_fields__)
_PAYMENT_SELECT = f"SELECT {_PAYMENT} FROM payments WHERE hub = ?"  # noqa: S608 (names of our own struct)
_PAYMENTS_NAMED = f"{_PAYMENT_SELECT} AND quarantined = 0 AND id IN (SELECT value FROM json_each(?))"  # noqa: S608 (the same)
ROWS_A_STATEMENT = 20
"""Entries of a backlog that one statement inserts: other threads run meanwhile, and not only between two rows."""
_ENTRY_PUT = "INSERT INTO entries(hub, line, seq, hash, prev_hash, head, body, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ENTRIES_PUT = _ENTRY_PUT + ", (?, ?, ?, ?, ?, ?, ?, ?)" * (ROWS_A_STATEMENT - 1)
_PAYMENT_PUT = (
    f"INSERT OR REPLACE INTO payments(hub, {_PAYMENT})"  # noqa: S608 (the same)
    f" VALUES ({', '.join('?' * (1 + len(LedgerPayment.__struct_fields__)))})"
)


def _entry(row: tuple[bytes, bytes, bytes]) -> CloudEntry:
    prev_hash, head, body = row
    return read_entry(prev_hash, head, body)


def _payment(row: tuple[Any, ...]) -> LedgerPayment:
    return LedgerPayment(row[0], bool(row[1]), *row[2:])


def _line(row: Any) -> LineRow:
    line, opened_seq, head_seq, head_hash, parent_hash, parent_line, epoch, stopped = row
    return LineRow(line, opened_seq, head_seq, head_hash, parent_hash, parent_line, epoch, bool(stopped))


class SqliteCloudStorage:
    """Implements `CloudStorage` on one connection, inside somebody else's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def _one(self, sql: str, *params: Any) -> Any:
        return self._db.execute(sql, params).fetchone()

    def _all(self, sql: str, *params: Any) -> list[Any]:
        return self._db.execute(sql, params).fetchall()

    # hubs and codes

    def hub(self, hub: bytes) -> HubRow | None:
        row = self._one(
            "SELECT hub, tenant, store, public_key, locations, restored_upto, restored_mark, next_epoch"
            " FROM hubs WHERE hub = ?",
            hub,
        )
        return HubRow(row[0], row[1], row[2], row[3], tuple(json.loads(row[4])), *row[5:8]) if row else None

    def put_hub(self, row: HubRow) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO hubs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.hub,
                row.tenant,
                row.store,
                row.public_key,
                json.dumps(row.locations),
                row.restored_upto,
                row.restored_mark,
                row.next_epoch,
            ),
        )

    def put_backup_key(self, tenant: str, public_key: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO tenants VALUES (?, ?)", (tenant, public_key))

    def backup_key(self, tenant: str) -> bytes:
        row = self._one("SELECT backup_key FROM tenants WHERE tenant = ?", tenant)
        return bytes(row[0]) if row else b""

    def hubs(self) -> list[bytes]:
        return [row[0] for row in self._all("SELECT hub FROM hubs ORDER BY hub")]

    def add_code(self, code_sha256: bytes, code: CodeRow, uses: int, expires_us: int) -> None:
        self._db.execute(
            # A cloud that is started again with the same code does not fill it up again: a code serves once.
            "INSERT INTO codes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(code_sha256) DO NOTHING",
            (code_sha256, code.tenant, code.store, json.dumps(code.locations), uses, expires_us),
        )

    def take_code(self, code_sha256: bytes, now_us: int) -> CodeRow | None:
        row = self._one(
            "UPDATE codes SET uses_left = uses_left - 1 WHERE code_sha256 = ? AND uses_left > 0 AND expires_us > ?"
            " RETURNING tenant, store, locations",
            code_sha256,
            now_us,
        )
        return CodeRow(row[0], row[1], tuple(json.loads(row[2]))) if row else None

    def code_refusal(self, code_sha256: bytes, now_us: int) -> str:
        row = self._one("SELECT uses_left, expires_us FROM codes WHERE code_sha256 = ?", code_sha256)
        if row is None:
            return "enrol.code"
        return "enrol.expired" if row[1] <= now_us else "enrol.spent"

    def note_renewal(self, hub: bytes, nonce: bytes, now_us: int) -> bool:
        new = self._db.execute(
            "INSERT INTO renewals(hub, nonce, at_us) VALUES (?, ?, ?) ON CONFLICT(hub, nonce) DO NOTHING",
            (hub, nonce, now_us),
        )
        if new.rowcount == 1:
            self._db.execute(
                "DELETE FROM renewals WHERE hub = ?1 AND number <="
                " (SELECT number FROM renewals WHERE hub = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                (hub, RENEWALS_KEPT),
            )
        return new.rowcount == 1

    def let_in_until(self, hub: bytes, expires_us: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO let_in VALUES (?, ?)", (hub, expires_us))

    def let_in_over(self, now_us: int) -> list[bytes]:
        return [row[0] for row in self._all("SELECT hub FROM let_in WHERE expires_us <= ?", now_us)]

    def shut_out(self, hub: bytes) -> None:
        self._db.execute("DELETE FROM let_in WHERE hub = ?", (hub,))

    # the hubs' journals

    def known(self, hub: bytes, hash_: bytes) -> str | None:
        row = self._one("SELECT state FROM entries WHERE hub = ? AND hash = ?", hub, hash_)
        return row[0] if row else None

    def hash_in_line(self, hub: bytes, line: bytes, seq: int) -> bytes | None:
        row = self._one(
            "SELECT hash FROM entries WHERE hub = ? AND line = ? AND seq = ? AND state <> 'quarantined'", hub, line, seq
        )
        return row[0] if row else None

    def place(self, hub: bytes, hash_: bytes) -> tuple[bytes, int, bytes] | None:
        return self._one("SELECT line, seq, prev_hash FROM entries WHERE hub = ? AND hash = ?", hub, hash_)  # type: ignore[no-any-return]  # a row of these three

    def add_entry(self, hub: bytes, entry: CloudEntry, state: str) -> None:
        self._db.execute(
            _ENTRY_PUT,
            (hub, entry.line, entry.seq, entry.hash, entry.prev_hash, entry.head, entry.body, state),
        )

    def add_entries(self, hub: bytes, entries: Sequence[CloudEntry], state: str) -> None:
        rows = [(hub, e.line, e.seq, e.hash, e.prev_hash, e.head, e.body, state) for e in entries]
        whole = len(rows) - len(rows) % ROWS_A_STATEMENT
        for start in range(0, whole, ROWS_A_STATEMENT):
            self._db.execute(_ENTRIES_PUT, list(chain.from_iterable(rows[start : start + ROWS_A_STATEMENT])))
        self._db.executemany(_ENTRY_PUT, rows[whole:])

    def pending(self, hub: bytes, limit: int) -> list[CloudEntry]:
        rows = self._all(
            "SELECT prev_hash, head, body, hash FROM entries WHERE hub = ? AND state = 'pending'"
            " ORDER BY rowid LIMIT ?",
            hub,
            limit,
        )
        return [read_entry(*row) for row in rows]

    def first_pending(self, hub: bytes, line: bytes) -> int | None:
        row = self._one(
            "SELECT seq FROM entries WHERE hub = ? AND state = 'pending' AND line = ? ORDER BY rowid LIMIT 1", hub, line
        )
        return row[0] if row else None

    def pending_hubs(self) -> list[bytes]:
        rows = self._all(
            "SELECT hub FROM hubs WHERE EXISTS"
            " (SELECT 1 FROM entries WHERE entries.hub = hubs.hub AND entries.state = 'pending') ORDER BY hub"
        )
        return [row[0] for row in rows]

    def settle_pending(self, hub: bytes, states: Sequence[str]) -> None:
        rows = self._all(
            "SELECT rowid FROM entries WHERE hub = ? AND state = 'pending' ORDER BY rowid LIMIT ?", hub, len(states)
        )
        numbered = zip(states, (row[0] for row in rows), strict=True)
        for state, run in groupby(numbered, itemgetter(0)):  # nearly always one run
            numbers = [number for _, number in run]
            self._db.execute(
                "UPDATE entries SET state = ? WHERE rowid BETWEEN ? AND ? AND hub = ? AND state = 'pending'",
                (state, numbers[0], numbers[-1], hub),
            )

    def entries(self, hub: bytes, line: bytes, from_seq: int, upto_seq: int, limit: int) -> list[CloudEntry]:
        rows = self._all(
            "SELECT prev_hash, head, body FROM entries WHERE hub = ? AND line = ? AND seq BETWEEN ? AND ?"
            " AND state <> 'quarantined' ORDER BY seq LIMIT ?",
            *(hub, line, from_seq, upto_seq, limit),
        )
        return [_entry(row) for row in rows]

    def uninterpreted(self, hub: bytes) -> list[CloudEntry]:
        rows = self._all(
            "SELECT prev_hash, head, body FROM entries WHERE hub = ? AND state IN ('uninterpreted', 'stopped')"
            " ORDER BY seq",
            hub,
        )
        return [_entry(row) for row in rows]

    def uninterpreted_count(self, hub: bytes) -> int:
        row = self._one("SELECT count(*) FROM entries WHERE hub = ? AND state IN ('uninterpreted', 'stopped')", hub)
        return int(row[0])

    def highest_seq(self, hub: bytes, upto_seq: int) -> int:
        row = self._one(
            "SELECT max(min(head_seq, ?)) FROM lines WHERE hub = ? AND opened_seq <= ?", upto_seq, hub, upto_seq
        )
        return int(row[0] or 0)

    def line(self, hub: bytes, line: bytes) -> LineRow | None:
        row = self._one(
            "SELECT line, opened_seq, head_seq, head_hash, parent_hash, parent_line, epoch, stopped FROM lines"
            " WHERE hub = ? AND line = ?",
            hub,
            line,
        )
        return _line(row) if row else None

    def lines(self, hub: bytes) -> list[LineRow]:
        rows = self._all(
            "SELECT line, opened_seq, head_seq, head_hash, parent_hash, parent_line, epoch, stopped FROM lines"
            " WHERE hub = ? ORDER BY opened_seq, epoch",
            hub,
        )
        return [_line(row) for row in rows]

    def put_line(self, hub: bytes, row: LineRow) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO lines(hub, line, opened_seq, head_seq, head_hash, parent_hash, parent_line, epoch,"
            " stopped) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (hub, *_line_values(row)),
        )

    def entry_count(self, hub: bytes) -> int:
        return int(self._one("SELECT count(*) FROM entries WHERE hub = ?", hub)[0])

    def park(self, hub: bytes, prev_hash: bytes, message: bytes, limit: int) -> bool:
        if int(self._one("SELECT count(*) FROM parked WHERE hub = ?", hub)[0]) >= limit:
            return False
        self._db.execute("INSERT OR REPLACE INTO parked VALUES (?, ?, ?)", (hub, prev_hash, message))
        return True

    def unpark(self, hub: bytes, prev_hash: bytes) -> bytes | None:
        row = self._one("DELETE FROM parked WHERE hub = ? AND prev_hash = ? RETURNING message", hub, prev_hash)
        return row[0] if row else None

    # the cloud's own journal for a hub

    def down_head(self, hub: bytes) -> Place | None:
        row = self._one(
            "SELECT line, seq, hash FROM down WHERE hub = ? AND state = 'own' ORDER BY seq DESC LIMIT 1", hub
        )
        return Place(*row) if row else None

    def down_place(self, hub: bytes, seq: int) -> Place | None:
        row = self._one("SELECT line, seq, hash FROM down WHERE hub = ? AND seq = ? AND state = 'own'", hub, seq)
        return Place(*row) if row else None

    def down_known(self, hub: bytes, hash_: bytes) -> bool:
        return self._one("SELECT 1 FROM down WHERE hub = ? AND hash = ? AND state = 'own'", hub, hash_) is not None

    def down_lines(self, hub: bytes) -> list[Place]:
        rows = self._all(
            "SELECT line, max(seq), hash FROM down WHERE hub = ? AND state = 'own' GROUP BY line ORDER BY max(seq)", hub
        )
        return [Place(*row) for row in rows]

    def add_down(self, hub: bytes, entry: CloudEntry, state: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO down VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (hub, entry.line, entry.seq, entry.hash, entry.prev_hash, entry.head, entry.body, state),
        )

    def down_entries(self, hub: bytes, from_seq: int, limit: int) -> list[CloudEntry]:
        rows = self._all(
            "SELECT prev_hash, head, body FROM down WHERE hub = ? AND seq >= ? AND state = 'own' ORDER BY seq LIMIT ?",
            hub,
            from_seq,
            limit,
        )
        return [_entry(row) for row in rows]

    def down_confirmed(self, hub: bytes) -> Place | None:
        row = self._one("SELECT line, seq, hash FROM down_confirmed WHERE hub = ?", hub)
        return Place(*row) if row else None

    def set_down_confirmed(self, hub: bytes, place: Place) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO down_confirmed VALUES (?, ?, ?, ?)", (hub, place.line, place.seq, place.hash)
        )

    # the ledger

    def payment(self, hub: bytes, payment: str, quarantined: bool) -> LedgerPayment | None:
        row = self._one(f"{_PAYMENT_SELECT} AND id = ? AND quarantined = ?", hub, payment, int(quarantined))
        return _payment(row) if row else None

    def put_payment(self, hub: bytes, row: LedgerPayment) -> None:
        self._db.execute(_PAYMENT_PUT, (hub, *_payment_values(row)))

    def payments(self, hub: bytes, payments: Sequence[str]) -> list[LedgerPayment]:
        return [_payment(row) for row in self._all(_PAYMENTS_NAMED, hub, json.dumps(payments))]

    def put_payments(self, hub: bytes, rows: Sequence[LedgerPayment]) -> None:
        self._db.executemany(_PAYMENT_PUT, [(hub, *_payment_values(row)) for row in rows])

    def outage_payments(self, hub: bytes, outage: str) -> list[LedgerPayment]:
        rows = self._all(f"{_PAYMENT_SELECT} AND outage = ? AND outage <> '' ORDER BY id, quarantined", hub, outage)
        return [_payment(row) for row in rows]

    def outage(self, hub: bytes, outage: str) -> OutageRow | None:
        row = self._one(
            "SELECT outage, cause, started_at_us, opened_line, opened_seq, ended_at_us, closed_hash, zone_hint"
            " FROM outages WHERE hub = ? AND outage = ?",
            hub,
            outage,
        )
        return OutageRow(*row) if row else None

    def put_outage(self, hub: bytes, row: OutageRow) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO outages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (hub, *_outage_values(row))
        )

    def add_statement(self, hub: bytes, outage: str, statement: str, finality: str, document: str) -> None:
        self._db.execute(
            "INSERT INTO statements(hub, outage, id, finality, document) VALUES (?, ?, ?, ?, ?)",
            (hub, outage, statement, finality, document),
        )

    def latest_statement(self, hub: bytes, outage: str) -> tuple[str, str, str] | None:
        return self._one(  # type: ignore[no-any-return]  # a row of these three
            "SELECT id, finality, document FROM statements WHERE hub = ? AND outage = ? ORDER BY number DESC LIMIT 1",
            hub,
            outage,
        )

    def statement(self, statement: str) -> tuple[bytes, str] | None:
        return self._one("SELECT hub, document FROM statements WHERE id = ?", statement)  # type: ignore[no-any-return]  # a row of these two

    # effects

    def effect(self, hub: bytes, subject: str, effect: str, attempt: int) -> EffectRow | None:
        row = self._one(
            "SELECT hub, subject, effect, attempt, state, detail FROM effects"
            " WHERE hub = ? AND subject = ? AND effect = ? AND attempt = ?",
            *(hub, subject, effect, attempt),
        )
        return EffectRow(*row) if row else None

    def put_effect(self, row: EffectRow) -> None:
        self._db.execute(
            "INSERT INTO effects(hub, subject, effect, attempt, state, detail) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT(hub, subject, effect, attempt) DO UPDATE"
            " SET state = excluded.state, detail = excluded.detail",
            _effect_values(row),
        )

    def effects_to_do(self, limit: int) -> list[EffectRow]:
        rows = self._all(
            "SELECT hub, subject, effect, attempt, state, detail FROM effects WHERE state IN ('wanted', 'unknown')"
            " ORDER BY number LIMIT ?",
            limit,
        )
        return [EffectRow(*row) for row in rows]

    # documents

    def want_document(self, hub: bytes, document: bytes, digest: bytes) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO documents(hub, id, digest, class, state) VALUES (?, ?, ?, '', 'wanted')",
            (hub, document, digest),
        )

    def document_digest(self, hub: bytes, document: bytes) -> bytes | None:
        row = self._one("SELECT digest FROM documents WHERE hub = ? AND id = ?", hub, document)
        return row[0] if row else None

    def put_document(self, hub: bytes, document: bytes, klass: str, salt: bytes, content: bytes) -> None:
        self._db.execute(
            "UPDATE documents SET class = ?, salt = ?, content = ?, state = 'here'"
            " WHERE hub = ? AND id = ? AND state = 'wanted'",
            (klass, salt, content, hub, document),
        )

    def erase_document(self, hub: bytes, document: bytes) -> None:
        self._db.execute(
            "UPDATE documents SET salt = NULL, content = NULL, state = 'erased' WHERE hub = ? AND id = ?",
            (hub, document),
        )

    def documents_wanted(self, hub: bytes, limit: int) -> list[bytes]:
        rows = self._all("SELECT id FROM documents WHERE hub = ? AND state = 'wanted' ORDER BY id LIMIT ?", hub, limit)
        return [row[0] for row in rows]

    def document_content(self, hub: bytes, document: bytes) -> bytes | None:
        row = self._one("SELECT content FROM documents WHERE hub = ? AND id = ?", hub, document)
        return row[0] if row else None

    # what people must know

    def add_forgotten(self, hub: bytes, span: Range) -> bool:
        changed = self._db.execute(
            "INSERT INTO forgotten VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT(hub, line, from_seq) DO UPDATE"
            " SET upto_seq = excluded.upto_seq, hash = excluded.hash, listed = 0 WHERE excluded.upto_seq > upto_seq",
            (hub, span.line, span.from_seq, span.upto_seq, span.hash),
        )
        return changed.rowcount > 0

    def forgotten(self, hub: bytes) -> list[Range]:
        rows = self._all(
            "SELECT line, from_seq, upto_seq, hash FROM forgotten WHERE hub = ? AND listed = 0 ORDER BY from_seq", hub
        )
        return [Range(*row) for row in rows]

    def forgotten_listed(self, hub: bytes, line: bytes, upto_seq: int) -> None:
        self._db.execute(
            "UPDATE forgotten SET listed = 1 WHERE hub = ? AND line = ? AND upto_seq <= ?", (hub, line, upto_seq)
        )

    def add_incident(self, hub: bytes, kind: str, detail: str) -> None:
        self._db.execute("INSERT INTO incidents(hub, kind, detail) VALUES (?, ?, ?)", (hub, kind, detail))

    def incidents(self, hub: bytes) -> list[tuple[str, str]]:
        return self._all("SELECT kind, detail FROM incidents WHERE hub = ? ORDER BY number", hub)

    def add_dead_letter(self, hub: bytes, hash_: bytes, reason: str) -> None:
        self._db.execute("INSERT INTO dead_letters(hub, hash, reason) VALUES (?, ?, ?)", (hub, hash_, reason))

    def dead_letters(self, hub: bytes) -> list[tuple[bytes, str]]:
        return self._all("SELECT hash, reason FROM dead_letters WHERE hub = ? ORDER BY number", hub)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    for pragma in PRAGMAS:
        connection.execute(pragma).fetchall()
    connection.executescript(SCHEMA)
    return connection


def _transact(connection: sqlite3.Connection, fn: Callable[[CloudStorage], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = fn(SqliteCloudStorage(connection))
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return result


class InlineRunner:
    """Runs where it is called: for the simulation, whose loop has no threads and whose time is virtual."""

    def __init__(self, path: Path) -> None:
        self._connection = _connect(path)

    async def run(self, fn: Callable[[CloudStorage], T]) -> T:
        """Run and commit."""
        return _transact(self._connection, fn)

    async def close(self) -> None:
        """Close the file."""
        self._connection.close()


class ThreadRunner:
    """Runs in one thread of its own, so that the event loop never waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cloud-store")
        self._connection: sqlite3.Connection | None = None

    async def run(self, fn: Callable[[CloudStorage], T]) -> T:
        """Run and commit. A cancelled caller does not stop what the thread has begun."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._work, fn)

    def _work(self, fn: Callable[[CloudStorage], T]) -> T:
        if self._connection is None:
            self._connection = _connect(self._path)
        return _transact(self._connection, fn)

    async def close(self) -> None:
        """Close the file and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._close)
        self._pool.shutdown(wait=False)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
