"""Applies the cloud's journal: effect, mirrored entry and cursor in one transaction, then the confirmation."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hubd.errors import SyncError
from hubd.model.entry import FIRST_PREV_HASH, Draft, Entry, EntryFormatError, entry_hash, load_entry
from hubd.services import cloud_entries
from hubd.services.cloud_entries import Cause
from hubd.services.statements import Comparison
from hubd.store import cursors, journal, mirror
from hubd.store.cursors import Cursor
from hubd.store.db import Database
from hubd.store.tx import Connection, Tx
from sync.codec import Confirm, Entries, Expect, Forgotten, ForgottenWanted, Place, WireEntry

log = logging.getLogger(__name__)

FORGOTTEN_A_READ = 100


def chain(prev_hash: bytes, line: bytes, from_seq: int, wire: Sequence[WireEntry], upto_hash: bytes) -> list[Entry]:
    """Check that a batch is one unbroken run and return it as entries.

    Raises `sync.codec` for bytes that are no such run and EntryFormatError for a format byte that is newer (E15).
    """
    found: list[Entry] = []
    for position, raw in enumerate(wire):
        prev_hash = entry_hash(prev_hash, raw.head, raw.body)
        entry = load_entry(raw.head, raw.body, prev_hash)
        if entry.seq != from_seq + position or entry.line != line:
            raise SyncError("sync.codec", f"Entry {entry.seq} is not where its batch says.")
        found.append(entry)
    if not found or prev_hash != upto_hash:
        raise SyncError("sync.codec", "The entries of a batch do not give the hash that it names.")
    return found


class Receiver:
    """The hub's mirror of the cloud's journal."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def apply(self, batch: Entries, repeated_upto: Place | None) -> Confirm | Expect:
        """Apply what is new of a batch; returns the confirmation to send, or what is expected instead.

        Durable when it returns. A repeat changes nothing and is confirmed again.
        """
        try:
            entries = chain(batch.prev_hash, batch.line, batch.from_seq, batch.entries, batch.upto_hash)
        except EntryFormatError as exc:
            code = "sync.too_old" if exc.newer else "sync.codec"
            raise SyncError(code, "The cloud's journal has an entry that this program cannot read.") from exc

        def look(connection: Connection) -> tuple[Cursor, bool, list[Entry]]:
            applied = cursors.get(connection, cursors.APPLIED)
            joins = batch.prev_hash == FIRST_PREV_HASH or mirror.state_of(connection, batch.prev_hash) is not None
            return applied, joins, [e for e in entries if mirror.state_of(connection, e.hash) is None]

        applied, joins, new = await self._db.read("sync.place", look)
        if not joins:
            # Behind what we have: the cloud sends on from our place. Beside it: it was restored, so from its start.
            return Expect(batch.line, applied.seq + 1 if batch.from_seq > applied.seq + 1 else 1)
        cursor = applied
        for part in _parts(new):
            cursor = await self._apply_part(part, repeated_upto)
        return Confirm(cursor.line, cursor.seq, cursor.hash)

    async def _apply_part(self, part: Sequence[Entry], repeated_upto: Place | None) -> Cursor:
        """Entries that may share a transaction; a statement stands alone, compared on what is committed before it."""
        comparison: Comparison | None = None
        if cloud_entries.needs_comparison(part[0]):
            comparison = await self._db.read("sync.compare", lambda c: cloud_entries.prepare(c, part[0]))

        def work(tx: Tx) -> Cursor:
            return _apply_all(tx, part, comparison, repeated_upto)

        return await self._db.write("sync.apply", work)

    async def keep_forgotten(self, batch: Forgotten) -> None:
        """Keep entries of our own that we had lost, to be read, never applied; with the last, say so in an entry."""
        entries = chain(batch.prev_hash, batch.line, batch.from_seq, batch.entries, batch.upto_hash)

        def work(tx: Tx) -> None:
            for entry in entries:
                known = mirror.state_of(tx.connection, entry.hash) is not None
                if not known and journal.hash_at(tx.connection, entry.seq) != entry.hash:
                    mirror.add(tx, entry, mirror.FORGOTTEN)
            if batch.done:
                _list_forgotten(tx, entries[-1])

        await self._db.write("sync.forgotten", work)

    async def forgotten_by_the_cloud(self, wanted: ForgottenWanted) -> list[Forgotten]:
        """What we hold of a line of the cloud's that it has lost, as batches of its own bytes (S8)."""

        def read(connection: Connection) -> list[Forgotten]:
            found: list[Forgotten] = []
            start = max(1, wanted.from_seq)
            while entries := mirror.entries_of_line(connection, wanted.line, start, FORGOTTEN_A_READ):
                previous = _hash_before(connection, entries[0])
                more = len(entries) == FORGOTTEN_A_READ
                wire = tuple(WireEntry(entry.head_bytes, entry.body_bytes) for entry in entries)
                found.append(Forgotten(wanted.line, entries[0].seq, previous, wire, entries[-1].hash, done=not more))
                start = entries[-1].seq + 1
            return found

        return await self._db.read("sync.give_forgotten", read)


def _hash_before(connection: Connection, entry: Entry) -> bytes:
    """The hash that `entry` was chained to: found by trying, because the mirror keeps entries and not links."""
    if entry.seq == 1:
        return FIRST_PREV_HASH
    for candidate in mirror.at_seq(connection, entry.seq - 1):
        if entry_hash(candidate, entry.head_bytes, entry.body_bytes) == entry.hash:
            return candidate
    raise SyncError("sync.codec", "The mirror of the cloud's journal has a gap.")


def _parts(entries: Sequence[Entry]) -> list[list[Entry]]:
    parts: list[list[Entry]] = []
    alone = True
    for entry in entries:
        compared = cloud_entries.needs_comparison(entry)
        if alone or compared:
            parts.append([])
        parts[-1].append(entry)
        alone = compared
    return parts


def _apply_all(tx: Tx, entries: Sequence[Entry], comparison: Comparison | None, repeated_upto: Place | None) -> Cursor:
    cursor = cursors.get(tx.connection, cursors.APPLIED)
    stopped = mirror.count_in_state(tx.connection, mirror.STOPPED) > 0
    for entry in entries:
        repeated = repeated_upto is not None and entry.seq <= repeated_upto.seq
        stopped = stopped or cloud_entries.stops_the_line(entry)
        if stopped:
            state = mirror.STOPPED
        else:
            cause = Cause(entry.line, entry.seq, repeated)
            state = cloud_entries.apply_or_set_aside(tx, entry, cause, comparison)
        mirror.add(tx, entry, state)
        cursor = Cursor(entry.line, entry.seq, entry.hash, tx.now_us())
    cursors.put(tx, cursors.APPLIED, cursor)
    return cursor


def _list_forgotten(tx: Tx, last: Entry) -> None:
    """One entry that says up to where the forgotten line is known again; the cloud then stops reminding."""
    known = mirror.entries_of_line(tx.connection, last.line, 1, 1)
    first_seq = min((entry.seq for entry in known), default=last.seq)
    body = {"line": last.line.hex(), "from_seq": first_seq, "upto_seq": last.seq, "hash": last.hash.hex()}
    subject = last.hash.hex()
    if not journal.entries_of(tx.connection, subject, 1):
        journal.append(tx, Draft("sync.forgotten_listed", subject, "hub", body))
