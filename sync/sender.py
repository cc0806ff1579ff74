"""Reads the journal from a cursor and packs it into batches within both sides' limits (S13, S17, S19)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from hubd.model.entry import Entry, documents_named, line_of
from hubd.store import documents, journal
from hubd.store.db import Database
from hubd.store.journal import Stored
from hubd.store.tx import Connection
from sync.codec import BATCH_SMALL_BYTES, ENTRY_OVERHEAD_BYTES, Entries, Limits, WireDocument, WireEntry

T = TypeVar("T")

DOCUMENT_OVERHEAD_BYTES = 128


class Archive(Protocol):
    """Entries that have left the database for archive files (E16)."""

    async def entries_after(self, seq: int, limit: int) -> tuple[bytes, Sequence[Entry]]:
        """The hash of entry `seq` and up to `limit` entries behind it, in order; nothing if it has none of them."""
        ...


class Sender:
    """The journal as batches. Knows nothing of connections."""

    def __init__(self, db: Database, archive: Archive | None = None) -> None:
        self._db = db
        self._archive = archive

    async def batches(self, after_seq: int, count: int, limits: Limits) -> list[Entries]:
        """Up to `count` batches of the entries behind `after_seq`, in order, without gaps."""
        return await self.prepared(after_seq, count, limits, lambda batch: batch)

    async def prepared(self, after_seq: int, count: int, limits: Limits, prepare: Callable[[Entries], T]) -> list[T]:
        """As `batches`, each given to `prepare` away from the event loop."""
        wanted = count * limits.batch_entries

        def read(connection: Connection) -> list[T] | None:
            prev_hash, found = (
                journal.hash_at(connection, after_seq),
                journal.stored_after(connection, after_seq, wanted),
            )
            if prev_hash is None or (found and found[0][0] != after_seq + 1):
                return None
            batches = pack_all(prev_hash, found, documents_of(connection, found), limits)
            return [prepare(batch) for batch in islice(batches, count)]

        ready = await self._db.read_behind("sync.batches", read)
        if ready or (ready is not None and after_seq >= self._db.head.seq):
            return ready
        return [prepare(batch) for batch in await self._archived(after_seq, count, limits)]

    async def _archived(self, after_seq: int, count: int, limits: Limits) -> list[Entries]:
        """A cloud that was restored asks for entries below the cut: they are in the archive (S17)."""
        assert self._archive is not None, "entries below the cut are asked for, and there is no archive"
        prev_hash, entries = await self._archive.entries_after(after_seq, count * limits.batch_entries)
        assert entries, "the archive and the database leave no gap between them"
        found = [(entry.seq, entry.head_bytes, entry.body_bytes, entry.hash) for entry in entries]
        beside = await self._db.read("sync.archived_documents", lambda c: documents_of(c, found))
        return list(pack_all(prev_hash, found, beside, limits))[:count]

    async def documents(self, ids: Sequence[bytes], limits: Limits) -> list[list[WireDocument]]:
        """Documents that the cloud wants, in groups that fit a message; erased ones say so, absent ones are missing."""

        def read(connection: Connection) -> list[WireDocument]:
            found = (document_of(connection, id_) for id_ in ids)
            return [document for document in found if document is not None]

        groups: list[list[WireDocument]] = []
        room = 0
        for document in await self._db.read("sync.documents", read):
            size = len(document.content) + DOCUMENT_OVERHEAD_BYTES
            if not groups or size > room:
                groups.append([])
                room = limits.batch_bytes
            groups[-1].append(document)
            room -= size
        return groups


def document_of(connection: Connection, id_: bytes) -> WireDocument | None:
    """A document as it travels; None for one that is not here."""
    found = documents.get(connection, id_)
    if found is not None:
        return WireDocument(found.id, found.klass, found.salt, found.content, found.keep_until, found.law)
    return WireDocument(id_, erased=True) if documents.is_erased(connection, id_) else None


def documents_of(connection: Connection, entries: Sequence[Stored]) -> dict[bytes, WireDocument]:
    """Every document that these entries name and that is here or erased."""
    found: dict[bytes, WireDocument] = {}
    for _, head, _, _ in entries:
        for id_ in documents_named(head):
            document = document_of(connection, id_)
            if document is not None:
                found[id_] = document
    return found


def pack_all(
    prev_hash: bytes, entries: Sequence[Stored], beside: dict[bytes, WireDocument], limits: Limits
) -> Iterator[Entries]:
    """Cut a run of entries into batches: of one line, within count and bytes; a single large entry goes alone."""
    most = min(BATCH_SMALL_BYTES, limits.batch_bytes)
    start = 0
    while start < len(entries):
        line, size = line_of(entries[start][1]), 0
        end = start
        for _, head, body, _ in entries[start : start + limits.batch_entries]:
            if line_of(head) != line:
                break
            size += len(head) + len(body) + ENTRY_OVERHEAD_BYTES
            if end > start and size > most:
                break
            end += 1
        yield _batch(prev_hash, line, entries[start:end], beside, limits.batch_bytes - min(size, limits.batch_bytes))
        prev_hash, start = entries[end - 1][3], end


def _batch(
    prev_hash: bytes, line: bytes, entries: Sequence[Stored], beside: dict[bytes, WireDocument], room: int
) -> Entries:
    """Documents travel with their entries as far as there is room; the cloud asks for the others (S19)."""
    with_it: dict[bytes, WireDocument] = {}
    missing: dict[bytes, None] = {}
    for _, head, _, _ in entries:
        for id_ in documents_named(head):
            document = beside.get(id_)
            size = len(document.content) + DOCUMENT_OVERHEAD_BYTES if document else 0
            if document is None or size > room:
                missing[id_] = None
            elif id_ not in with_it:
                with_it[id_] = document
                room -= size
    return Entries(
        line=line,
        from_seq=entries[0][0],
        prev_hash=prev_hash,
        entries=tuple([WireEntry(head, body) for _, head, body, _ in entries]),
        upto_hash=entries[-1][3],
        documents=tuple(with_it.values()),
        documents_missing=tuple(missing),
    )
