"""Reads the journal from a cursor and packs it into batches within both sides' limits (S13, S17, S19)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from hubd.model.entry import Entry
from hubd.store import documents, journal
from hubd.store.db import Database
from hubd.store.tx import Connection
from sync.codec import BATCH_SMALL_BYTES, ENTRY_OVERHEAD_BYTES, Entries, Limits, WireDocument, WireEntry

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
        wanted = count * limits.batch_entries

        def read(connection: Connection) -> tuple[bytes | None, list[Entry], dict[bytes, WireDocument]]:
            found = journal.entries_after(connection, after_seq, wanted)
            return journal.hash_at(connection, after_seq), found, documents_of(connection, found)

        prev_hash, entries, beside = await self._db.read("sync.batches", read)
        if entries and entries[0].seq == after_seq + 1 and prev_hash is not None:
            return list(pack(prev_hash, entries, beside, limits))[:count]
        if not entries and prev_hash is not None and after_seq >= self._db.head.seq:
            return []
        return await self._archived(after_seq, count, limits)

    async def _archived(self, after_seq: int, count: int, limits: Limits) -> list[Entries]:
        """A cloud that was restored asks for entries below the cut: they are in the archive (S17)."""
        assert self._archive is not None, "entries below the cut are asked for, and there is no archive"
        prev_hash, entries = await self._archive.entries_after(after_seq, count * limits.batch_entries)
        assert entries, "the archive and the database leave no gap between them"
        beside = await self._db.read("sync.archived_documents", lambda c: documents_of(c, entries))
        return list(pack(prev_hash, list(entries), beside, limits))[:count]

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


def documents_of(connection: Connection, entries: Sequence[Entry]) -> dict[bytes, WireDocument]:
    """Every document that these entries name and that is here or erased."""
    found: dict[bytes, WireDocument] = {}
    for entry in entries:
        for ref in entry.head.documents:
            document = document_of(connection, ref.id)
            if document is not None:
                found[ref.id] = document
    return found


def pack(
    prev_hash: bytes, entries: Sequence[Entry], beside: dict[bytes, WireDocument], limits: Limits
) -> Iterator[Entries]:
    """Cut a run of entries into batches: of one line, within count and bytes; a single large entry goes alone."""
    start = 0
    while start < len(entries):
        end, size = start, 0
        while end < len(entries) and end - start < limits.batch_entries and entries[end].line == entries[start].line:
            size += len(entries[end].head_bytes) + len(entries[end].body_bytes) + ENTRY_OVERHEAD_BYTES
            if end > start and size > min(BATCH_SMALL_BYTES, limits.batch_bytes):
                break
            end += 1
        batch = entries[start:end]
        yield _batch(prev_hash, batch, beside, limits.batch_bytes - min(size, limits.batch_bytes))
        prev_hash, start = batch[-1].hash, end


def _batch(prev_hash: bytes, entries: Sequence[Entry], beside: dict[bytes, WireDocument], room: int) -> Entries:
    """Documents travel with their entries as far as there is room; the cloud asks for the others (S19)."""
    with_it: dict[bytes, WireDocument] = {}
    missing: dict[bytes, None] = {}
    for entry in entries:
        for ref in entry.head.documents:
            document = beside.get(ref.id)
            size = len(document.content) + DOCUMENT_OVERHEAD_BYTES if document else 0
            if document is None or size > room:
                missing[ref.id] = None
            elif ref.id not in with_it:
                with_it[ref.id] = document
                room -= size
    return Entries(
        line=entries[0].line,
        from_seq=entries[0].seq,
        prev_hash=prev_hash,
        entries=tuple(WireEntry(entry.head_bytes, entry.body_bytes) for entry in entries),
        upto_hash=entries[-1].hash,
        documents=tuple(with_it.values()),
        documents_missing=tuple(missing),
    )
