"""Move old entries to files: write, sync, read back, record, and only then remove rows (E16).

Only what the cloud has confirmed and what is provably older than 35 days moves. The entry `archive.cut` and the new
cut are one transaction; rows go afterwards in small steps, and a start after a crash goes on where it stopped.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from hubd.errors import NotFoundError, StoreError
from hubd.model.entry import CLOCK_TRUSTED, Document, Draft, Entry, Json, decode_head, load_entry
from hubd.runtime import Clock
from hubd.store import archive_files, cursors, journal, replay, verify
from hubd.store.archive_files import ArchiveDamagedError, Name
from hubd.store.db import Database
from hubd.store.tx import Tx

KEPT_DAYS = 35
DAY_US = 86_400_000_000
ENTRIES_PER_FILE_MAX = 20_000
ENTRIES_PER_FILE_MIN = 1
PRUNED_AT_ONCE = 500
"""Rows removed in one transaction, so that a payment never waits long behind a removal."""
MOVED_DOCUMENTS = ("payment.", "order.", "receipt.")
"""Documents of these kinds of entries move to the file; those of people and devices are still needed in the store."""


class Plan(Struct, frozen=True):
    """What would move: entries `from_seq` to `upto_seq`."""

    from_seq: int
    upto_seq: int
    start_hash: bytes
    upto_hash: bytes

    @property
    def name(self) -> Name:
        """Its files."""
        return Name(self.from_seq, self.upto_seq)


class Cut(Struct, frozen=True):
    """What was archived, as its entry tells it."""

    entry: Entry
    from_seq: int
    upto_seq: int


def plan(connection: sqlite3.Connection, now_us: int) -> Plan | None:
    """What may be archived now; None if nothing may. `now_us` must come from a trusted clock.

    An entry counts as old once an entry with a trusted clock at or after it is: uncertain clocks prove nothing.
    """
    cut_seq, cut_hash = connection.execute("SELECT upto_seq, upto_hash FROM journal_cut").fetchone()
    confirmed = cursors.get(connection, cursors.CONFIRMED).seq
    upto: tuple[int, bytes] | None = None
    rows = connection.execute(
        "SELECT seq, head, hash FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (cut_seq, confirmed, ENTRIES_PER_FILE_MAX),
    )
    for seq, raw, hash_ in rows:
        head = decode_head(raw)
        if head.clock != CLOCK_TRUSTED:
            continue
        if head.at_us > now_us - KEPT_DAYS * DAY_US:
            break
        upto = (seq, hash_)
    return None if upto is None else Plan(cut_seq + 1, upto[0], cut_hash, upto[1])


def write_files(connection: sqlite3.Connection, folder: Path, planned: Plan) -> dict[str, Json]:
    """Write and sync the three files, read them back, and return the body of `archive.cut`.

    Raises ArchiveDamagedError if what was read back is not what was written. Nothing in the store is changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = planned.name
    base, found = replay.rebuilt(connection, folder, planned.upto_seq)
    try:
        if found.failed:
            raise StoreError("store.corrupt", found.failed, remedy="Run `hubctl journal verify`.")
        archive_files.write_lines(folder / name.projection, replay.snapshot_lines(base))
    finally:
        base.close()
    archive_files.write_lines(
        folder / name.documents, (archive_files.document_line(document) for document in _documents(connection, planned))
    )
    archive_files.write_lines(
        folder / name.journal,
        (
            archive_files.entry_line(row.seq, row.head, row.body, row.hash)
            for row in verify.rows_after(connection, planned.from_seq - 1, planned.upto_seq - planned.from_seq + 1)
        ),
    )
    _read_back(connection, folder, planned)
    return {
        "from_seq": planned.from_seq,
        "upto_seq": planned.upto_seq,
        "upto_hash": planned.upto_hash.hex(),
        "file_sha256": archive_files.sha256_of(folder / name.journal).hex(),
        "entries": planned.upto_seq - planned.from_seq + 1,
        "projection_sha256": archive_files.sha256_unpacked(folder / name.projection).hex(),
    }


def _documents(connection: sqlite3.Connection, planned: Plan) -> Iterator[Document]:
    for entry in replay.entries_between(connection, planned.from_seq - 1, planned.upto_seq):
        if not entry.kind.startswith(MOVED_DOCUMENTS):
            continue
        for ref in entry.head.documents:
            row = connection.execute(
                "SELECT id, class, salt, content, keep_until, law FROM documents WHERE id = ? AND content IS NOT NULL",
                (ref.id,),
            ).fetchone()
            if row is not None:
                yield Document(*row)


def _read_back(connection: sqlite3.Connection, folder: Path, planned: Plan) -> None:
    """The files must say what the database says, entry by entry and document by document."""
    path = folder / planned.name.journal
    rows = verify.rows_after(connection, planned.from_seq - 1)
    last = planned.from_seq - 1
    for record in archive_files.read_entries(path):
        row = next(iter(rows), None)
        if row is None or (row.seq, row.head, row.body, row.hash) != (
            record.seq,
            record.head,
            record.body,
            record.hash,
        ):
            raise ArchiveDamagedError(path, f"entry {last + 1} read back differs")
        last = record.seq
    if last != planned.upto_seq:
        raise ArchiveDamagedError(path, f"it ends at entry {last}")
    written = archive_files.document_digests(folder / planned.name.documents)
    for document in _documents(connection, planned):
        if written.get(document.id) != document.digest:
            raise ArchiveDamagedError(folder / planned.name.documents, "a document read back differs")


def record(tx: Tx, planned: Plan, body: dict[str, Json], actor: str = "hub") -> Entry:
    """Append `archive.cut` and move the cut. Call it with what `write_files` returned."""
    entry = journal.append(tx, Draft("archive.cut", str(planned.upto_seq), actor, body))
    tx.execute("UPDATE journal_cut SET upto_seq = ?, upto_hash = ?", (planned.upto_seq, planned.upto_hash))
    return entry


def prune_step(tx: Tx) -> int:
    """Remove some rows at or below the cut, with the documents that moved; returns how many entries went.

    Rows of payments and orders stay for ever: their ids must never be taken for new ones.
    """
    rows = tx.execute(
        "SELECT seq, head FROM journal WHERE seq <= (SELECT upto_seq FROM journal_cut) ORDER BY seq LIMIT ?",
        (PRUNED_AT_ONCE,),
    ).fetchall()
    for seq, raw in rows:
        head = decode_head(raw)
        if head.kind.startswith(MOVED_DOCUMENTS):
            for ref in head.documents:
                # Somebody wants it forgotten when its date comes: the wish stays here, the document goes.
                tx.execute(
                    "UPDATE documents SET salt = NULL, content = NULL WHERE id = ? AND erase_when_due = 1", (ref.id,)
                )
                tx.execute("DELETE FROM documents WHERE id = ? AND erased = 0 AND erase_when_due = 0", (ref.id,))
        tx.execute("DELETE FROM journal WHERE seq = ?", (seq,))
    return len(rows)


async def archive(db: Database, folder: Path, clock: Clock) -> Cut | None:
    """Archive what may be archived, in one file; None if nothing may, or if the clock has no witness."""
    await prune(db)
    if not clock.trusted():
        return None
    now_us = clock.now_us()
    planned = await db.read_apart("archive.plan", lambda connection: plan(connection, now_us))
    if planned is None:
        return None
    body = await db.read_apart("archive.write", lambda connection: write_files(connection, folder, planned))
    entry = await db.write("archive.cut", lambda tx: record(tx, planned, body))
    await prune(db)
    return Cut(entry, planned.from_seq, planned.upto_seq)


async def prune(db: Database) -> int:
    """Remove all rows at or below the cut; also after a start, in case a crash came between cut and removal."""
    removed = 0
    while step := await db.write("archive.prune", prune_step):
        removed += step
    return removed


# -- reading below the cut ---------------------------------------------------------------------------------------------


def entries_from_archive(folder: Path, after_seq: int, limit: int) -> list[Entry]:
    """Up to `limit` entries with a greater seq, for a resend below the cut (S17); fewer at the end of the archive.

    Raises NotFoundError if the archive does not hold the entry after `after_seq`.
    """
    found: list[Entry] = []
    for name in archive_files.names(folder):
        if name.upto_seq <= after_seq:
            continue
        for archived in archive_files.read_entries(folder / name.journal):
            if archived.seq > after_seq and len(found) < limit:
                found.append(load_entry(archived.head, archived.body, archived.hash))
        if len(found) >= limit:
            break
    if not found or found[0].seq != after_seq + 1:
        raise NotFoundError(
            "journal.no_entry", f"The archive has no entry {after_seq + 1}.", params={"seq": after_seq + 1}
        )
    return found


def archived_entries_of(folder: Path, subject: str, from_seq: int, upto_seq: int) -> list[Entry]:
    """The archived entries about one thing between two seqs, both included, oldest first."""
    found: list[Entry] = []
    for name in archive_files.names(folder):
        if name.upto_seq < from_seq or name.from_seq > upto_seq:
            continue
        for archived in archive_files.read_entries(folder / name.journal):
            if from_seq <= archived.seq <= upto_seq:
                entry = load_entry(archived.head, archived.body, archived.hash)
                if entry.head.subject == subject:
                    found.append(entry)
    return found


def document_from_archive(folder: Path, document_id: bytes, seq: int) -> Document | None:
    """A document that moved with the entry `seq`; None if it is not there or was erased."""
    for name in archive_files.names(folder):
        if name.from_seq <= seq <= name.upto_seq:
            for id_, document in archive_files.read_documents(folder / name.documents):
                if id_ == document_id:
                    return document
    return None


def find_document(folder: Path, document_id: bytes) -> Document | None:
    """An archived document, wherever it lies; None if no file holds it. Reads every documents file."""
    for name in archive_files.names(folder) if folder.is_dir() else ():
        for id_, document in archive_files.read_documents(folder / name.documents):
            if id_ == document_id and document is not None:
                return document
    return None


def check_files(connection: sqlite3.Connection, folder: Path) -> list[str]:
    """Compare every archive file with the `archive.cut` entry that the journal or an archive still holds of it."""
    described: dict[int, dict[str, Json]] = {}
    for (body,) in connection.execute("SELECT body FROM journal WHERE kind = 'archive.cut'"):
        cut = json.loads(body)
        described[cut["upto_seq"]] = cut
    findings: list[str] = []
    for name in archive_files.names(folder):
        path = folder / name.journal
        for archived in archive_files.read_entries(path):
            if b"archive.cut" in archived.head and decode_head(archived.head).kind == "archive.cut":
                cut = json.loads(archived.body)
                described.setdefault(cut["upto_seq"], cut)
    for upto_seq, cut in sorted(described.items()):
        path = folder / Name(cut["from_seq"], upto_seq).journal
        if not path.exists():
            findings.append(f"The archive file {path.name} is missing.")
        elif archive_files.sha256_of(path).hex() != cut["file_sha256"]:
            findings.append(f"The archive file {path.name} is not the one that was written.")
    return findings
