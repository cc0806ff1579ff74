"""Wishes to forget: carried out at once or on the law's date, here, in the archive, and again after a restore."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random as SeededRandom  # noqa: TID251 - the seed itself, made in one place

import pytest

from drivers.kit.virtual_time import VirtualClock, run
from hubd.errors import HubError, NotFoundError
from hubd.model.entry import Document
from hubd.model.payment import Tender
from hubd.model.permissions import Role
from hubd.model.retention import DATE_UNKNOWN
from hubd.runtime import Runtime, SystemClock, SystemIds
from hubd.services.documents import LOOK_EVERY_S, DocumentDesk, Forgotten
from hubd.services.payments import Refund
from hubd.services.staff import NewPerson
from hubd.store import archive, archive_files, documents, journal, people
from hubd.store.cursors import CONFIRMED
from hubd.store.db import BUSY_TIMEOUT_MS, AioSqliteThread, DbThread
from hubd.store.tx import Connection, Tx
from tests.rigs.process import wait_until
from tests.simulation.disk import Disk
from tests.simulation.seeded import stream
from tests.unit.services.shop import BOOT, MANAGER, Shop, Terminals, shop, till

pytestmark = pytest.mark.blocking_allowed("the database runs inline, on a loop whose time is virtual")
URL = "tcp://terminal-1"
DAY_S = 86_400
SAID = "the customer Zebedee brought it back"


def virtually(folder: Path, story: Callable[[Shop, VirtualClock], Awaitable[None]], *, trusted: bool = True) -> None:
    async def main() -> None:
        clock = VirtualClock(trusted=trusted)
        runtime = Runtime(clock, SystemIds(), SeededRandom(7), BOOT, b"1-process")
        disk = Disk(folder, clock, stream(1, "disk"), lambda _head, _confirmed: None)
        counter = Terminals(runtime)
        counter.add(URL)
        async with shop(folder, counter, runtime, open_thread=disk.open_thread, archives=folder / "archive") as opened:
            opened.hub.supervisor.start("documents", opened.services.documents.run)
            await story(opened, clock)

    run(main())


async def receipt_of_a_sale(opened: Shop) -> Document:
    taken = await opened.take(2000)
    payment = await opened.until(taken.payment.id, "approved")
    assert payment.receipt_document is not None
    return await document(opened, payment.receipt_document)


async def document(opened: Shop, id_: bytes) -> Document:
    found = await opened.services.db.read("document", lambda c: documents.get(c, id_))
    assert found is not None
    return found


async def is_erased(opened: Shop, id_: bytes) -> bool:
    return await opened.services.db.read("erased", lambda c: documents.is_erased(c, id_))


async def reason_of_a_refund(opened: Shop) -> bytes:
    sale = await opened.take(900, tender=Tender.CASH)
    refund = Refund(opened.services.runtime.ids.new_id(), b"r" * 32, sale.payment.money, SAID)
    await opened.services.payments.refund(sale.payment.id, refund, MANAGER)
    (entry,) = await opened.services.payments.history(refund.id)
    return entry.head.documents[0].id


def database(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("hub.db*"))


def date_after(clock: VirtualClock, days: float) -> str:
    return datetime.fromtimestamp(clock.now_us() / 1e6 + days * DAY_S, UTC).date().isoformat()


def test_a_receipt_is_kept_until_its_date_and_erased_within_a_day_of_it(tmp_path: Path) -> None:
    async def story(opened: Shop, clock: VirtualClock) -> None:
        await opened.add_terminal(URL)
        wanted, other = await receipt_of_a_sale(opened), await receipt_of_a_sale(opened)
        desk = opened.services.documents
        told = await desk.forget(wanted.id, MANAGER)
        assert told == Forgotten(wanted.id, False, wanted.keep_until, "FR LPF L102 B")
        assert await desk.forget(wanted.id, MANAGER) == told, "asked twice is asked once"
        due = datetime.fromisoformat(wanted.keep_until).replace(tzinfo=UTC).timestamp()
        clock.jump(due - clock.now_us() / 1e6 - 2 * DAY_S)
        await clock.sleep(LOOK_EVERY_S)
        assert not await is_erased(opened, wanted.id), "a day before its date"
        await clock.sleep(3 * LOOK_EVERY_S)
        assert await is_erased(opened, wanted.id)
        assert not await is_erased(opened, other.id), "nobody has asked for this one"
        erased = await opened.services.db.read("entries", lambda c: journal.entries_of(c, wanted.id.hex()))
        assert [(one.kind, one.head.actor, one.body()["reason"]) for one in erased] == [
            ("document.erased", "hub", "due")
        ]

    virtually(tmp_path, story)


def test_what_no_law_keeps_is_erased_at_once_to_the_last_byte(tmp_path: Path) -> None:
    async def story(opened: Shop, _clock: VirtualClock) -> None:
        id_ = await reason_of_a_refund(opened)
        assert SAID.encode() in database(tmp_path)
        told = await opened.services.documents.forget(id_, MANAGER)
        assert told == Forgotten(id_, erased=True)
        assert SAID.encode() not in database(tmp_path)
        assert await opened.services.documents.forget(id_, MANAGER) == told

    virtually(tmp_path, story)


def test_a_receipt_without_a_date_gets_one_when_the_clock_is_trusted(tmp_path: Path) -> None:
    async def story(opened: Shop, clock: VirtualClock) -> None:
        await opened.add_terminal(URL)
        found = await receipt_of_a_sale(opened)
        assert found.keep_until == DATE_UNKNOWN
        told = await opened.services.documents.forget(found.id, MANAGER)
        assert (told.erased, told.kept_until) == (False, DATE_UNKNOWN)
        await clock.sleep(2 * DAY_S)
        assert (await document(opened, found.id)).keep_until == DATE_UNKNOWN
        clock.set_trusted(True)
        await clock.sleep(120)
        dated = await document(opened, found.id)
        year = int(date_after(clock, 0)[:4])
        assert (dated.keep_until, dated.law) == (f"{year + 7}-12-31", "FR LPF L102 B")
        assert await opened.services.documents.give_dates() == 0
        clock.jump((year + 8 - 1970) * 365.25 * DAY_S - clock.now_us() / 1e6)
        await clock.sleep(LOOK_EVERY_S)
        assert await is_erased(opened, found.id), "the wish from before is carried out at the new date"

    virtually(tmp_path, story, trusted=False)


async def archive_all(opened: Shop, clock: VirtualClock, folder: Path) -> None:
    """Let 40 days pass and archive what is confirmed; the confirmation of a cloud that is not here."""
    clock.jump(40 * DAY_S)
    for _ in range(2):
        await opened.take(100, tender=Tender.CASH)

    def confirm(tx: Tx) -> None:
        head = tx.head
        tx.execute(
            "INSERT OR REPLACE INTO cursors(name, line, seq, hash, at_us) VALUES (?, ?, ?, ?, ?)",
            (CONFIRMED, head.line, head.seq, head.hash, tx.now_us()),
        )

    await opened.services.db.write("confirm", confirm)
    assert await archive.archive(opened.services.db, folder, clock) is not None


@pytest.mark.parametrize("asked", ["before it is archived", "after it is archived"])
def test_a_wish_reaches_the_archive(tmp_path: Path, asked: str) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()

    def in_archive(id_: bytes) -> list[bool]:
        found = [
            one for name in archive_files.names(folder) for one in archive_files.read_documents(folder / name.documents)
        ]
        return [kept is not None for one, kept in found if one == id_]

    async def story(opened: Shop, clock: VirtualClock) -> None:
        await opened.add_terminal(URL)
        receipt = await receipt_of_a_sale(opened)
        reason = await reason_of_a_refund(opened)
        desk = opened.services.documents
        if asked.startswith("before"):
            await desk.forget(receipt.id, MANAGER)
        await archive_all(opened, clock, folder)
        assert in_archive(receipt.id) == [True]
        assert in_archive(reason) == [True]
        if asked.startswith("after"):
            told = await desk.forget(receipt.id, MANAGER)
            assert (told.erased, told.kept_until) == (False, receipt.keep_until)
        assert await desk.forget(reason, MANAGER) == Forgotten(reason, erased=True)
        assert in_archive(reason) == [False]
        clock.jump(9 * 365.25 * DAY_S)
        await clock.sleep(LOOK_EVERY_S)
        assert in_archive(receipt.id) == [False]
        assert await desk.forget(receipt.id, MANAGER) == Forgotten(receipt.id, erased=True)

    virtually(tmp_path, story)


def test_what_a_crash_left_in_the_archive_goes_at_the_next_start(tmp_path: Path) -> None:
    """The erasure was committed, and the hub died before it had rewritten the archive's file."""
    folder = tmp_path / "archive"
    folder.mkdir()

    async def story(opened: Shop, clock: VirtualClock) -> None:
        db = opened.services.db
        reason = await reason_of_a_refund(opened)
        await archive_all(opened, clock, folder)
        await db.write("erase", lambda tx: journal.append(tx, documents.erasure(reason, "asked", "hub")))
        assert archive.find_document(folder, reason) is not None
        db.stopped_cleanly = False
        desk = DocumentDesk(db, opened.services.runtime, folder)
        opened.hub.supervisor.start("documents after a crash", desk.run)
        await clock.sleep(60)
        assert archive.find_document(folder, reason) is None

    virtually(tmp_path, story)


async def cannot_be_opened(_path: Path, _read_only: bool) -> DbThread:
    raise sqlite3.OperationalError("unable to open database file")


@pytest.mark.parametrize("problem", ["archive", "database"])
def test_a_disk_that_lets_nothing_be_finished_after_a_crash_keeps_no_document_from_its_date(
    tmp_path: Path, problem: str
) -> None:
    """The archive's file cannot be rewritten, or the rows not read: the daily work goes on, and tries again."""
    folder = tmp_path / "archive"

    async def story(opened: Shop, clock: VirtualClock) -> None:
        db = opened.services.db
        reason = await reason_of_a_refund(opened)
        await archive_all(opened, clock, folder)
        await db.write("erase", lambda tx: journal.append(tx, documents.erasure(reason, "asked", "hub")))
        later = await reason_of_a_refund(opened)
        undated = "UPDATE documents SET keep_until = ?, law = '' WHERE id = ?"
        await db.write("undated", lambda tx: tx.execute(undated, (DATE_UNKNOWN, later)).close())
        db.stopped_cleanly = False
        desk = DocumentDesk(db, opened.services.runtime, folder)
        with pytest.MonkeyPatch.context() as patch:
            if problem == "database":
                patch.setattr(db, "_open_thread", cannot_be_opened)
            in_the_way = [path.with_name(f"{path.name}.part") for path in folder.glob("*.documents*")]
            for part in in_the_way if problem == "archive" else ():
                part.mkdir()
            opened.hub.supervisor.start("documents after a crash", desk.run)
            await clock.sleep(60)
            for part in in_the_way if problem == "archive" else ():
                part.rmdir()
        assert archive.find_document(folder, reason) is not None, "the disk did not let it"
        assert (await document(opened, later)).keep_until != DATE_UNKNOWN
        await clock.sleep(LOOK_EVERY_S)
        assert archive.find_document(folder, reason) is None, "made good the next day"

    virtually(tmp_path, story)


async def test_name_of_who_left_or_is_called_otherwise_leaves_the_log_at_once(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        staff, ids = opened.services.staff, opened.services.runtime.ids
        roles = (("*", Role.OWNER.value),)
        await staff.add(NewPerson(ids.new_id(), "Owner", "7319", "en", roles), MANAGER)
        ada = ids.new_id()
        await staff.add(NewPerson(ada, "Ada Quillfeather", "5512", "en", roles), MANAGER)
        assert b"Ada Quillfeather" in database(tmp_path)
        await staff.add(NewPerson(ada, "Ada Ravenscroft", "5512", "en", roles), MANAGER)
        assert b"Ada Quillfeather" not in database(tmp_path)
        await staff.remove(ada, MANAGER)
        assert b"Ada Ravenscroft" not in database(tmp_path)


@asynccontextmanager
async def a_reader(path: Path) -> AsyncIterator[None]:
    """Somebody who reads the database as it is now and takes his time."""
    reader = await AioSqliteThread.open(path, True)
    await reader.run(lambda c: c.execute("BEGIN").execute("SELECT count(*) FROM journal").fetchall())
    try:
        yield
    finally:
        await reader.close()


async def test_a_payment_does_not_wait_while_a_reader_keeps_the_name_of_who_left_in_the_log(tmp_path: Path) -> None:
    """The till would wait as long as the writing connection waits for the reader."""
    async with shop(tmp_path) as opened:
        db, staff, clock = opened.services.db, opened.services.staff, SystemClock()
        ada = opened.services.runtime.ids.new_id()
        for id_, name in ((opened.services.runtime.ids.new_id(), "Owner"), (ada, "Ada Quillfeather")):
            await staff.add(NewPerson(id_, name, "7319", "en", (("*", Role.OWNER.value),)), MANAGER)
        seen: list[str] = []
        await db.exclusively("trace", lambda connection: connection.set_trace_callback(seen.append))
        async with a_reader(db.path), asyncio.TaskGroup() as group:
            removing = group.create_task(staff.remove(ada, MANAGER))
            await wait_until(
                lambda: "PRAGMA wal_checkpoint(TRUNCATE)" in seen, 10, "the log to be emptied", interval_s=0
            )
            async with clock.timeout(BUSY_TIMEOUT_MS / 1000 / 5):
                paid = await opened.take(900, tender=Tender.CASH)
                assert paid.payment.state == "approved"
            assert not removing.done(), "the reader is there, and so is the name"
            removing.cancel()
        assert await documents.forget_bytes(db, [])
        assert b"Ada Quillfeather" not in database(tmp_path)
        waits = await db.exclusively("timeout", lambda c: c.execute("PRAGMA busy_timeout").fetchone())
        assert waits == (BUSY_TIMEOUT_MS,), "everything else is as patient as before"


async def test_a_log_that_cannot_be_emptied_is_no_error_of_the_erasure_that_is_committed(tmp_path: Path) -> None:
    """SQLite says OperationalError: of a full disk, and as here of a transaction that is open."""

    def within_a_transaction(connection: Connection) -> bool:
        connection.execute("BEGIN IMMEDIATE")
        try:
            return documents._truncate(connection)
        finally:
            connection.execute("ROLLBACK")

    async with shop(tmp_path) as opened:
        db = opened.services.db
        assert await db.exclusively("within", within_a_transaction) is False
        assert await documents.forget_bytes(db, [])


async def test_who_works_here_is_not_forgotten_by_his_documents(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        owner, ada = opened.services.runtime.ids.new_id(), opened.services.runtime.ids.new_id()
        for id_, name, pin in ((owner, "Owner", "7319"), (ada, "Ada", "5512")):
            person = NewPerson(id_, name, pin, "en", (("*", Role.OWNER.value),))
            await opened.services.staff.add(person, MANAGER)
        found = await opened.services.db.read("ada", lambda c: people.staff(c, ada))
        assert found is not None
        for document_id in (found.name_document, found.pin_document):
            with pytest.raises(HubError) as caught:
                await opened.services.documents.forget(document_id, MANAGER)
            assert caught.value.code == "document.in_use"
        await opened.services.staff.remove(ada, MANAGER)
        ids = {found.name_document, found.pin_document}
        assert ids <= await opened.services.db.read("erased", documents.erased_ids), "a restore must erase them again"


def test_a_till_alone_forgets_nothing_and_an_id_that_nobody_knows_is_said(tmp_path: Path) -> None:
    async def story(opened: Shop, _clock: VirtualClock) -> None:
        id_ = await reason_of_a_refund(opened)
        with pytest.raises(HubError):
            await opened.services.documents.forget(id_, till())
        with pytest.raises(NotFoundError):
            await opened.services.documents.forget(bytes(16), MANAGER)
        assert not await is_erased(opened, id_)

    virtually(tmp_path, story)
