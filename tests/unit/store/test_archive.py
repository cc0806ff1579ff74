"""Archives: nothing is removed before its file was read back, confirmed and old; nothing is lost by a crash."""

from __future__ import annotations

import asyncio
import json
import random  # noqa: TID251 (one seed makes one journal)
import sqlite3
from pathlib import Path

import pytest

from hubd.errors import NotFoundError, StoreError
from hubd.model.entry import Document, Entry
from hubd.model.permissions import Permission
from hubd.services.access import Caller
from hubd.services.receipts import WITHOUT_RECEIPT, ReceiptDesk
from hubd.store import archive, archive_files, cursors, documents, journal, payments, replay, verify
from hubd.store.cursors import Cursor
from hubd.store.db import Database, open_database
from tests.unit.store import journals
from tests.unit.store.journals import fill

DAYS_40 = 40 * archive.DAY_US
READER = Caller("", None, "loc-1", frozenset({Permission.PAYMENTS_READ}), "fr")


class LaterClock:
    """The wall clock of some days later, with or without a witness."""

    def __init__(self, later_us: int, trusted: bool = True) -> None:
        self._later_us, self._trusted = later_us, trusted

    def now_us(self) -> int:
        return journals.runtime().clock.now_us() + self._later_us

    def trusted(self) -> bool:
        return self._trusted

    def monotonic(self) -> float:
        return journals.runtime().clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await journals.runtime().clock.sleep(seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        return asyncio.Timeout(None if seconds is None else asyncio.get_running_loop().time() + seconds)


async def confirm(db: Database, seq: int) -> None:
    await db.write("confirm", lambda tx: cursors.put(tx, cursors.CONFIRMED, Cursor(journals.LINE_1, seq, bytes(32))))


@pytest.fixture
async def filled(db: Database) -> Database:
    journals.runtime().clock.trust()  # type: ignore[attr-defined]  # a clock of the tests
    await fill(db, seed=5, steps=60)
    return db


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


async def seqs(db: Database) -> list[int]:
    return [row[0] for row in await db.read("seqs", lambda c: c.execute("SELECT seq FROM journal").fetchall())]


async def test_only_what_is_confirmed_and_old_moves(filled: Database, folder: Path) -> None:
    assert await archive.archive(filled, folder, LaterClock(DAYS_40)) is None, "nothing is confirmed"
    await confirm(filled, 50)
    assert await archive.archive(filled, folder, LaterClock(34 * archive.DAY_US)) is None, "nothing is old"
    assert await archive.archive(filled, folder, LaterClock(DAYS_40, trusted=False)) is None, "no witness of the time"
    head = filled.head.seq
    before = await filled.read("payments", lambda c: c.execute("SELECT count(*) FROM payments").fetchone())
    cut = await archive.archive(filled, folder, LaterClock(DAYS_40))
    assert cut is not None
    assert (cut.from_seq, cut.upto_seq, cut.entry.seq) == (1, 50, head + 1)
    assert await seqs(filled) == list(range(51, head + 2))
    assert await filled.read("payments", lambda c: c.execute("SELECT count(*) FROM payments").fetchone()) == before


async def test_after_a_cut_journal_archive_and_projections_still_verify(filled: Database, folder: Path) -> None:
    await confirm(filled, 50)
    await archive.archive(filled, folder, LaterClock(DAYS_40))
    await confirm(filled, 90)
    await filled.write("sale", lambda tx: journal.append(tx, journals.cash_sale(journals.any_id(random.Random(1)))))
    second = await archive.archive(filled, folder, LaterClock(DAYS_40))
    assert second is not None
    assert (second.from_seq, second.upto_seq) == (51, 90)
    report = await verify.verify_database(filled, folder)
    assert report.ok, report.as_json()
    assert (report.start_seq, report.archive_entries, len(report.archives)) == (90, 90, 2)
    found = await filled.read_apart("replay", lambda c: replay.check(c, folder))
    assert found.ok, [str(d) for d in found.differences] + [found.failed]
    assert found.from_seq == 90
    assert await filled.read_apart("files", lambda c: archive.check_files(c, folder)) == []
    with pytest.raises(StoreError, match=r"store\.archive_missing"):
        await filled.read_apart("replay", replay.check)


async def test_entries_below_the_cut_are_read_from_the_archive(filled: Database, folder: Path) -> None:
    await confirm(filled, 50)
    wanted = await filled.read("entries", lambda c: journal.entries_after(c, 10, 45))
    await archive.archive(filled, folder, LaterClock(DAYS_40))

    async def from_archive(after_seq: int, limit: int) -> list[Entry]:
        return await filled.read_apart("old", lambda _: archive.entries_from_archive(folder, after_seq, limit))

    assert await from_archive(10, 20) == wanted[:20]
    assert await from_archive(10, 1000) == wanted[:40]
    with pytest.raises(NotFoundError):
        await from_archive(50, 1)


async def test_documents_of_payments_move_and_can_be_erased_there(filled: Database, folder: Path) -> None:
    def with_document(c: sqlite3.Connection) -> Entry:
        return next(e for e in journal.entries_after(c, 0, 50) if e.head.documents)

    entry = await filled.read("find", with_document)
    ref = entry.head.documents[0]
    await confirm(filled, 50)
    await archive.archive(filled, folder, LaterClock(DAYS_40))
    assert await filled.read("get", lambda c: documents.get(c, ref.id)) is None

    async def in_archive() -> Document | None:
        return await filled.read_apart("old", lambda _: archive.document_from_archive(folder, ref.id, entry.seq))

    moved = await in_archive()
    assert moved is not None
    assert moved.digest == ref.digest
    good = (await verify.verify_database(filled, folder)).documents["good"]
    await filled.write("erase", lambda tx: journal.append(tx, documents.erasure(ref.id, "asked", "hub")))
    assert await documents.forget_bytes(filled, [ref.id], folder)
    assert await in_archive() is None
    report = await verify.verify_database(filled, folder)
    assert report.ok
    assert report.documents == {"good": good - 1, "absent": 0, "erased": 1, "wrong": 0}


async def test_receipt_of_an_archived_payment_is_the_same_as_before(filled: Database, folder: Path) -> None:
    desk = ReceiptDesk(filled, folder)
    asked = await filled.read("ids", lambda c: payments.page(c, payments.PaymentFilter(), None, 500))
    shown = [payment for payment in asked if payment.state not in WITHOUT_RECEIPT]
    before = [await desk.receipt(payment.id, READER) for payment in shown]
    assert any(receipt["terminal_lines"] for receipt in before)
    head = filled.head.seq
    await confirm(filled, head)
    await archive.archive(filled, folder, LaterClock(DAYS_40))
    with pytest.raises(NotFoundError):
        await filled.read("gone", lambda c: journal.entry_at(c, shown[0].seq))
    assert [await desk.receipt(payment.id, READER) for payment in shown] == before


async def test_a_crash_between_cut_and_removal_is_finished_later(filled: Database, folder: Path) -> None:
    await confirm(filled, 50)
    planned = await filled.read("plan", lambda c: archive.plan(c, LaterClock(DAYS_40).now_us()))
    assert planned is not None
    body = await filled.read_apart("write", lambda c: archive.write_files(c, folder, planned))
    await filled.write("cut", lambda tx: archive.record(tx, planned, body))
    async with open_database(filled.path.with_name("again.db"), journals.runtime()) as other:
        assert other.head.seq == 0
    assert (await verify.verify_database(filled, folder)).ok
    assert await archive.prune(filled) == 50
    assert (await verify.verify_database(filled, folder)).ok


async def test_a_file_that_reads_back_wrong_stops_everything(
    filled: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await confirm(filled, 50)
    whole = archive_files.entry_line

    def rotten(seq: int, head: bytes, body: bytes, hash_: bytes) -> object:
        return whole(seq, head, body.replace(b"EUR", b"USD") if seq > 30 else body, hash_)

    monkeypatch.setattr(archive_files, "entry_line", rotten)
    before = await seqs(filled)
    with pytest.raises(StoreError, match=r"store\.archive_damaged"):
        await archive.archive(filled, folder, LaterClock(DAYS_40))
    assert await seqs(filled) == before


@pytest.mark.blocking_allowed("it edits the files that it then lets the store look at")
async def test_a_changed_archive_is_found(filled: Database, folder: Path) -> None:
    await confirm(filled, 50)
    await archive.archive(filled, folder, LaterClock(DAYS_40))
    name = archive_files.names(folder)[0]
    lines = list(archive_files.read_lines(folder / name.journal))
    lines[19]["body"] = lines[19]["body"].replace("EUR", "USD") + " "
    archive_files.write_lines(folder / name.journal, lines)
    report = await verify.verify_database(filled, folder)
    assert not report.ok
    assert report.archive_why.startswith("Entry 20:")
    assert len(await filled.read_apart("files", lambda c: archive.check_files(c, folder))) == 1
    (folder / name.projection).write_bytes(b"no gzip")
    with pytest.raises(StoreError, match=r"store\.archive_damaged"):
        await filled.read_apart("replay", lambda c: replay.check(c, folder))


async def test_the_guards_let_nothing_else_be_removed(filled: Database, folder: Path) -> None:
    def try_all(connection: sqlite3.Connection) -> list[str]:
        allowed, guards = [], set()
        for statement in (
            "UPDATE journal SET kind = 'x' WHERE seq = 3",
            "DELETE FROM journal WHERE seq = 3",
            "DELETE FROM journal",
            "INSERT OR REPLACE INTO journal SELECT * FROM journal WHERE seq = 3",
            "INSERT OR IGNORE INTO journal SELECT 999, head, body, hash, kind, subject FROM journal WHERE seq = 3",
            "UPDATE OR REPLACE journal SET seq = seq + 1",
            "UPDATE journal_cut SET upto_seq = 20",
            "UPDATE journal_cut SET upto_seq = -1",
            "DELETE FROM journal_cut",
            "INSERT OR REPLACE INTO journal_cut VALUES (1, 20, zeroblob(32))",
        ):
            try:
                connection.execute(statement)
            except sqlite3.IntegrityError as error:
                guards.add(str(error).partition(":")[0])
            else:
                allowed.append(statement)
        assert guards == {"journal"}
        return allowed

    assert await filled.exclusively("try", try_all) == []
    await confirm(filled, 50)
    await archive.archive(filled, folder, LaterClock(DAYS_40))
    found_nothing = await filled.exclusively("try", try_all)
    assert all("seq = 3" in statement for statement in found_nothing), "entry 3 is gone, there was nothing to refuse"
    assert (await verify.verify_database(filled, folder)).ok


async def test_ids_of_archived_payments_stay_taken(filled: Database, folder: Path) -> None:
    first = await filled.read("first", lambda c: c.execute("SELECT id FROM payments ORDER BY seq").fetchone()[0])
    await confirm(filled, 50)
    await archive.archive(filled, folder, LaterClock(DAYS_40))
    assert await filled.read("get", lambda c: payments.get(c, first)) is not None
    with pytest.raises(sqlite3.IntegrityError):
        await filled.write("again", lambda tx: journal.append(tx, journals.cash_sale(first)))


async def test_an_entry_of_a_cut_says_what_the_reference_says(filled: Database, folder: Path) -> None:
    await confirm(filled, 50)
    cut = await archive.archive(filled, folder, LaterClock(DAYS_40))
    assert cut is not None
    body = json.loads(cut.entry.body_bytes)
    assert set(body) == {"from_seq", "upto_seq", "upto_hash", "file_sha256", "entries", "projection_sha256"}
    assert body["entries"] == 50
    assert cut.entry.head.flags == 1
    assert cut.entry.head.subject == "50"
