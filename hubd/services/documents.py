"""Personal data that somebody wants forgotten: at once where nothing keeps it, else on the date that a law gives.

Also the dates themselves: a receipt that was taken while nobody knew the time gets its date once the clock is trusted.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from hubd.errors import InvalidValueError, StoreError
from hubd.model.permissions import Permission
from hubd.model.retention import DATE_UNKNOWN, receipt_keeping
from hubd.runtime import Clock, Runtime
from hubd.services.access import Caller
from hubd.store import archive, documents, journal, people
from hubd.store.db import Database
from hubd.store.documents import KeptUntil
from hubd.store.tx import Tx

log = logging.getLogger(__name__)

LOOK_EVERY_S = 86_400.0
"""How often the hub looks for what is due."""
CLOCK_LOOK_S = 60.0
"""While the clock is not trusted: how often to look whether it is."""
LAST_ZONE_US = 12 * 3600 * 1_000_000
"""A date has come everywhere on Earth when it has come at UTC-12."""
LOG_BUSY_TRIES = 5
LOG_BUSY_S = 1.0
"""A reader may hold the write-ahead log for a moment while the bytes of what was erased are to leave it."""


class Forgotten(Struct, frozen=True):
    """What became of the wish to forget a document."""

    id: bytes
    erased: bool
    kept_until: str = ""
    """ISO date on which it will be erased; empty if it is gone, `9999-12-31` until the clock is trusted."""
    law: str = ""


async def leave_no_byte(db: Database, clock: Clock, gone: list[bytes], archives: Path | None = None) -> None:
    """After an erasure was committed: nothing of it stays in the write-ahead log, nor in the archives that are given.

    A reader that holds the log is waited for a little; the daily look of `DocumentDesk` makes good what it kept.
    """
    for _ in range(LOG_BUSY_TRIES):
        if await documents.forget_bytes(db, gone, archives):
            return
        await clock.sleep(LOG_BUSY_S)
    log.warning("documents.log_is_busy", extra={"count": len(gone)})


class DocumentDesk:
    """Takes wishes to forget documents and carries them out; `run` looks daily for what is due."""

    def __init__(self, db: Database, runtime: Runtime, archives: Path | None = None) -> None:
        self._db = db
        self._runtime = runtime
        self._archives = archives

    async def forget(self, document_id: bytes, caller: Caller) -> Forgotten:
        """Erase a document now, or note that it shall be erased when the law allows; the same again changes nothing.

        Durable when this returns; what was erased has left the archive too, and the write-ahead log unless a reader
        held it: the daily look makes that good. Raises `document.unknown`, and `document.in_use` for name and PIN of
        somebody who still works here.
        """
        caller.need(Permission.DOCUMENTS_ERASE)
        today = self._today()
        archived = await self._archived(document_id)

        def work(tx: Tx) -> Forgotten:
            if documents.is_erased(tx.connection, document_id):
                return Forgotten(document_id, erased=True)
            if people.is_second_factor(tx.connection, document_id) or any(
                document_id in {one.name_document, one.pin_document} for one in people.all_staff(tx.connection)
            ):
                raise InvalidValueError(
                    "document.in_use",
                    "This is the name or the PIN of somebody who works here.",
                    remedy="Remove the person; name and PIN are erased with that.",
                )
            if archived is not None:
                documents.note_archived(tx, archived)
            kept = documents.request_erasure(tx, document_id, today)
            if kept is not None:
                return Forgotten(document_id, False, kept.date, kept.law)
            journal.append(tx, documents.erasure(document_id, "asked", caller.actor))
            return Forgotten(document_id, erased=True)

        found = await self._db.write("documents.forget", work)
        if found.erased:
            await self._leave_no_byte([document_id])
        return found

    async def _archived(self, document_id: bytes) -> KeptUntil | None:
        """Date and law of a document that has moved to an archive file; None if it is in the database, or nowhere."""
        folder = self._archives
        if folder is None or await self._db.read("documents.here", lambda c: documents.is_here(c, document_id)):
            return None
        found = await self._db.read_apart("documents.archived", lambda _: archive.find_document(folder, document_id))
        return KeptUntil(document_id, found.keep_until, found.law) if found else None

    async def run(self) -> None:
        """Every day: date what has no date yet, and erase what is due. Waits for a clock that is trusted.

        What the disk does not let be done today is tried again the next day; nothing of it keeps the rest from its day.
        """
        clock = self._runtime.clock
        left_over = not self._db.stopped_cleanly
        if left_over:
            left_over = not await self._got_done(self._finish)
        while True:
            if not clock.trusted():
                await clock.sleep(CLOCK_LOOK_S)
                continue
            if left_over:
                left_over = not await self._got_done(self._finish)
            if not await self._got_done(self._do_what_is_due):
                left_over = True  # what was erased may lie in the archive's file still
            await clock.sleep(LOOK_EVERY_S)

    async def _got_done(self, act: Callable[[], Awaitable[None]]) -> bool:
        """Whether the disk let it be done; a worker that ended of it would begin with the same again."""
        try:
            await act()
        except documents.DISK_ERRORS as exc:
            code = exc.code if isinstance(exc, StoreError) else type(exc).__name__
            log.warning("documents.wait_for_disk", extra={"code": code})
            return False
        return True

    async def _do_what_is_due(self) -> None:
        await self.give_dates()
        if not await self.erase_due():
            await self._leave_no_byte([])

    async def give_dates(self) -> int:
        """Give a date to receipts that were taken while the time was not known; returns how many.

        Counted from today, which is not before the sale, and for the location whose law keeps longest.
        """
        today = self._today()

        def work(tx: Tx) -> int:
            countries = {location.country for location in people.locations(tx.connection)} or {""}
            keepings = [receipt_keeping(country, today, clock_trusted=tx.clock_trusted()) for country in countries]
            keeping = max(keepings, key=lambda one: one.until)
            if keeping.until == DATE_UNKNOWN:
                return 0
            return documents.give_date(tx, keeping.until, keeping.law)

        given = 0
        while count := await self._db.write("documents.date", work):
            given += count
        return given

    async def erase_due(self) -> int:
        """Erase every document whose erasure was asked for and whose date has come; returns how many."""
        today, gone = self._today(), list[bytes]()

        def work(tx: Tx) -> list[bytes]:
            found = documents.due(tx.connection, today)
            for document_id in found:
                journal.append(tx, documents.erasure(document_id, "due", "hub"))
            return found

        if not today:
            return 0
        while found := await self._db.write("documents.due", work):
            gone += found
        if gone:
            await self._leave_no_byte(gone)
            log.info("documents.erased", extra={"count": len(gone)})
        return len(gone)

    async def _finish(self) -> None:
        """An erasure may have been committed and the archive's file not rewritten: what is erased goes there too."""
        await self._leave_no_byte(list(await self._db.read_apart("documents.erased", documents.erased_ids)))

    async def _leave_no_byte(self, gone: list[bytes]) -> None:
        folder = self._archives if gone and self._archives is not None and self._archives.is_dir() else None
        await leave_no_byte(self._db, self._runtime.clock, gone, folder)

    def _today(self) -> str:
        """The ISO date that has come everywhere; empty, which is before every date, while the clock is not trusted."""
        if not self._runtime.clock.trusted():
            return ""
        return datetime.fromtimestamp((self._runtime.clock.now_us() - LAST_ZONE_US) / 1e6, UTC).date().isoformat()
