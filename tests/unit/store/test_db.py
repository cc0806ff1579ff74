"""Group commit: one fsync serves many, a failing work fails alone, a failed commit is said to all."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 (one seed makes one run)
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import pytest

from hubd.errors import StoreError
from hubd.model.entry import Entry
from hubd.runtime import SystemClock
from hubd.services.lines import next_number
from hubd.store import db, journal, migrations, payments, replay, verify
from hubd.store.db import AioSqliteThread, Database, DbThread, open_database
from hubd.store.tx import Tx, read_head
from tests.unit.store import journals
from tests.unit.store.journals import cash_sale, line_opened

T = TypeVar("T")
IDS = [f"01890a5d-ac96-774b-bcce-{n:012d}" for n in range(200)]


def sale(number: int) -> Callable[[Tx], Entry]:
    return lambda tx: journal.append(tx, cash_sale(IDS[number]))


async def statements_during(db: Database, act: Callable[[], Any]) -> list[str]:
    seen: list[str] = []
    await db.exclusively("trace", lambda connection: connection.set_trace_callback(seen.append))
    await act()
    await db.exclusively("untrace", lambda connection: connection.set_trace_callback(None))
    return seen


async def known(db: Database) -> list[str]:
    rows = await db.read("ids", lambda c: c.execute("SELECT id FROM payments ORDER BY seq").fetchall())
    return [row[0] for row in rows]


async def test_one_commit_serves_all_who_wait(open_db: Database) -> None:
    async def act() -> None:
        await asyncio.gather(*(open_db.write("sale", sale(n)) for n in range(50)))

    seen = await statements_during(open_db, act)
    assert seen.count("COMMIT") == 1
    assert not [s for s in seen if s.startswith("SAVEPOINT")]
    assert open_db.head.seq == 51
    assert await known(open_db) == IDS[:50]


async def test_who_was_answered_together_is_committed_together_again_and_nobody_waits_longer(
    open_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, tills, clock = 6, 8, SystemClock()
    real = db._commit
    monkeypatch.setattr(db, "_commit", lambda tx: (real(tx)[0], 100.0))  # as if on a very slow card
    monkeypatch.setattr(db, "GROUP_WAIT_MAX_S", 60.0)

    async def till(number: int) -> None:
        for turn in range(turns):
            await open_db.write("sale", sale(number * turns + turn))
            for _ in range(3 * number):
                await clock.sleep(0)

    async def act() -> None:
        async with clock.timeout(20):
            await asyncio.gather(*(till(number) for number in range(tills)))

    assert (await statements_during(open_db, act)).count("COMMIT") == turns


async def test_who_does_not_come_again_is_not_waited_for_beyond_the_limit(
    open_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = db._commit
    monkeypatch.setattr(db, "_commit", lambda tx: (real(tx)[0], 100.0))
    monkeypatch.setattr(db, "GROUP_WAIT_MAX_S", 0.1)
    await asyncio.gather(*(open_db.write("sale", sale(number)) for number in range(8)))
    async with SystemClock().timeout(5):
        await open_db.write("sale", sale(8))
    assert open_db.head.seq == 10


async def test_a_failing_work_fails_alone_and_takes_seq_and_head_back(open_db: Database) -> None:
    def fails_after_writing(tx: Tx) -> None:
        sale(1)(tx)
        raise ValueError("mine alone")

    results = await asyncio.gather(
        open_db.write("a", sale(0)),
        open_db.write("b", fails_after_writing),
        open_db.write("c", sale(2)),
        return_exceptions=True,
    )
    assert isinstance(results[1], ValueError)
    assert [r.seq for r in results if isinstance(r, Entry)] == [2, 3]
    assert await known(open_db) == [IDS[0], IDS[2]]
    assert open_db.head == await open_db.read("head", read_head)


async def test_a_single_failing_work_leaves_nothing_and_runs_once(open_db: Database) -> None:
    runs = 0

    def fails(tx: Tx) -> None:
        nonlocal runs
        runs += 1
        sale(0)(tx)
        raise ValueError("no")

    before = open_db.head
    with pytest.raises(ValueError, match="no"):
        await open_db.write("fails", fails)
    assert runs == 1
    assert open_db.head == before
    assert (await open_db.write("next", sale(1))).seq == before.seq + 1


async def test_an_error_that_ends_the_transaction_fails_only_the_guilty(open_db: Database) -> None:
    def ends_it(tx: Tx) -> None:
        sale(1)(tx)
        tx.execute("CREATE TEMP TABLE IF NOT EXISTS t(x)")
        tx.execute("CREATE TEMP TRIGGER IF NOT EXISTS tr BEFORE INSERT ON t BEGIN SELECT RAISE(ROLLBACK, 'over'); END")
        tx.execute("INSERT INTO t VALUES (1)")

    results = await asyncio.gather(
        open_db.write("a", sale(0)), open_db.write("b", ends_it), open_db.write("c", sale(2)), return_exceptions=True
    )
    assert isinstance(results[1], sqlite3.IntegrityError)
    assert [r.seq for r in results if isinstance(r, Entry)] == [2, 3]
    assert await known(open_db) == [IDS[0], IDS[2]]


async def test_a_full_disk_refuses_the_guilty_and_keeps_the_others(open_db: Database) -> None:
    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 30}").fetchall()

    def glutton(tx: Tx) -> None:
        tx.execute("INSERT INTO meta(name, value) VALUES ('big', ?)", ("x" * 1_000_000,))

    await open_db.exclusively("limit", limit)
    results = await asyncio.gather(
        open_db.write("a", sale(0)), open_db.write("b", glutton), open_db.write("c", sale(2)), return_exceptions=True
    )
    assert isinstance(results[1], StoreError)
    assert results[1].code == "store.full"
    assert [r.seq for r in results if isinstance(r, Entry)] == [2, 3]
    assert await known(open_db) == [IDS[0], IDS[2]]
    alone = await asyncio.gather(open_db.write("b", glutton), return_exceptions=True)
    assert isinstance(alone[0], StoreError)
    assert alone[0].code == "store.full"


class CommitFails(AioSqliteThread):
    """A real connection under a disk that fails at COMMIT, as often as it is told."""

    failures = 0
    opened = 0

    @classmethod
    async def open(cls, path: Path, read_only: bool) -> CommitFails:
        thread = await super().open(path, read_only)
        cls.opened += not read_only
        assert isinstance(thread, CommitFails)
        return thread

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        def on_commit_refused(connection: sqlite3.Connection) -> T:
            if type(self).failures:
                connection.set_authorizer(deny_commit)
            try:
                return fn(connection)
            finally:
                connection.set_authorizer(None)

        return await super().run(on_commit_refused)


def deny_commit(action: int, what: str | None, *_: object) -> int:
    if action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT" and CommitFails.failures:
        CommitFails.failures -= 1
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


async def test_a_failed_commit_is_said_to_all_and_the_connection_is_reopened(tmp_path: Path) -> None:
    CommitFails.failures = CommitFails.opened = 0
    async with open_database(tmp_path / "hub.db", journals.runtime(), CommitFails.open) as db:
        await db.write("open", line_opened)
        before = db.head
        CommitFails.failures = 1
        results = await asyncio.gather(*(db.write("sale", sale(n)) for n in range(3)), return_exceptions=True)
        assert [r.code for r in results if isinstance(r, StoreError)] == ["store.failed"] * 3
        assert CommitFails.opened == 2
        assert db.head == before
        assert (await db.write("sale", sale(0))).seq == before.seq + 1
        assert await known(db) == [IDS[0]]


class CommitSaysNo(AioSqliteThread):
    """A real connection whose commits are on disk when the next `failures` of them are called failed."""

    failures = 0

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        result = await super().run(fn)
        if type(self).failures:
            type(self).failures -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return result


async def test_what_is_on_disk_although_its_commit_was_called_failed_is_found_and_followed(tmp_path: Path) -> None:
    """The other half of an unknown outcome: nobody waits for the next sale to hear of this one."""
    CommitSaysNo.failures = 0
    async with open_database(tmp_path / "hub.db", journals.runtime(), CommitSaysNo.open) as db:
        await db.write("open", line_opened)
        before = db.head
        async with journals.runtime().clock.timeout(10), asyncio.TaskGroup() as group:
            follower = group.create_task(db.moved_beyond(before.seq))
            await turns()
            CommitSaysNo.failures = 1
            with pytest.raises(StoreError, match=r"store\.failed"):
                await db.write("sale", sale(0))
        assert follower.result() == db.head.seq == before.seq + 1
        assert await known(db) == [IDS[0]]
        assert (await db.write("sale", sale(1))).seq == before.seq + 2
        assert (await verify.verify_database(db)).ok


class Slow(AioSqliteThread):
    """A real connection whose writer waits at a gate before each function."""

    gate: asyncio.Event
    entered: asyncio.Event

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        self.entered.set()
        await self.gate.wait()
        return await super().run(fn)


@pytest.fixture
def gate() -> asyncio.Event:
    Slow.gate, Slow.entered = asyncio.Event(), asyncio.Event()
    Slow.gate.set()
    return Slow.gate


async def test_a_cancelled_caller_waits_for_the_commit_and_nothing_is_torn(tmp_path: Path, gate: asyncio.Event) -> None:
    async with open_database(tmp_path / "hub.db", journals.runtime(), Slow.open) as db, asyncio.TaskGroup() as group:
        await db.write("open", line_opened)
        gate.clear()
        Slow.entered.clear()
        caller = group.create_task(db.write("sale", sale(0)))
        await Slow.entered.wait()
        caller.cancel()
        await turns()
        caller.cancel()  # a second one changes nothing
        await turns()
        assert not caller.done()
        gate.set()
        await asyncio.wait([caller])
        assert caller.cancelled()
        assert await known(db) == [IDS[0]]


async def test_a_caller_cancelled_before_its_group_still_has_its_work_done_whole(
    tmp_path: Path, gate: asyncio.Event
) -> None:
    async with open_database(tmp_path / "hub.db", journals.runtime(), Slow.open) as db, asyncio.TaskGroup() as group:
        await db.write("open", line_opened)
        gate.clear()
        Slow.entered.clear()
        first = group.create_task(db.write("sale", sale(0)))
        await Slow.entered.wait()
        second = group.create_task(db.write("sale", sale(1)))
        await turns()
        second.cancel()
        gate.set()
        assert (await first).seq == 2
        await asyncio.wait([second])
        assert second.cancelled()
        assert await known(db) == [IDS[0], IDS[1]]


async def turns() -> None:
    """Let everything that is ready run."""
    loop = asyncio.get_running_loop()
    for _ in range(5):
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


class Dies(AioSqliteThread):
    """A real connection whose thread dies when told."""

    dead = False

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        if type(self).dead:
            raise RuntimeError("the thread is gone")
        return await super().run(fn)


async def test_when_the_writer_dies_every_waiter_hears_it_and_the_store_stops(tmp_path: Path) -> None:
    Dies.dead = False
    heard: list[object] = []
    opened: list[Database] = []

    async def till(db: Database, number: int) -> None:
        try:
            await db.write("sale", sale(number))
        except StoreError as error:
            heard.append(error.code)

    async def follower(db: Database) -> None:
        try:
            await db.moved_beyond(10**9)
        except StoreError as error:
            heard.append(error.code)

    async def hub() -> None:
        async with open_database(tmp_path / "hub.db", journals.runtime(), Dies.open) as db:
            await db.write("open", line_opened)
            opened.append(db)
            Dies.dead = True
            async with asyncio.TaskGroup() as group:
                group.create_task(follower(db))
                for number in range(3):
                    group.create_task(till(db, number))
            await asyncio.Event().wait()  # the dead writer ends this

    with pytest.raises(ExceptionGroup) as caught:
        await hub()
    await till(opened[0], 9)
    assert caught.group_contains(RuntimeError)
    assert sorted(map(str, heard)) == ["store.closed"] * 2 + ["store.failed"] * 3


async def test_closing_writes_what_was_accepted(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group, open_database(tmp_path / "hub.db", journals.runtime()) as db:
        await db.write("open", line_opened)
        waiting = [group.create_task(db.write("sale", sale(n))) for n in range(5)]
        await turns()
    assert [(await w).seq for w in waiting] == [2, 3, 4, 5, 6]
    async with open_database(tmp_path / "hub.db", journals.runtime()) as db:
        assert db.head.seq == 6
        assert db.stopped_cleanly


async def test_an_unclean_stop_is_known_at_the_next_start(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with open_database(tmp_path / "hub.db", journals.runtime()) as db:
        assert db.stopped_cleanly
        await db.exclusively("copy", lambda c: c.execute("VACUUM INTO ?", (str(copy),)))
    async with open_database(copy, journals.runtime()) as db:
        assert not db.stopped_cleanly
    async with open_database(copy, journals.runtime()) as db:
        assert db.stopped_cleanly


async def test_a_read_sees_one_snapshot(open_db: Database) -> None:
    other = await AioSqliteThread.open(open_db.path, True)

    def twice(connection: sqlite3.Connection) -> tuple[int, int]:
        (first,) = connection.execute("SELECT max(seq) FROM journal").fetchone()
        writer = sqlite3.connect(open_db.path, isolation_level=None)
        writer.execute("INSERT INTO journal SELECT seq + 1, head, body, hash, kind, subject FROM journal")
        writer.close()
        (second,) = connection.execute("SELECT max(seq) FROM journal").fetchone()
        return first, second

    await other.close()
    assert await open_db.read("twice", twice) == (1, 1)


async def test_read_apart_does_not_keep_other_readers_waiting(open_db: Database) -> None:
    assert await open_db.read_apart("count", lambda c: c.execute("SELECT count(*) FROM journal").fetchone()) == (1,)


async def test_readers_cannot_write(open_db: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await open_db.read("write", lambda c: c.execute("DELETE FROM meta"))


async def test_too_many_waiters_are_refused_with_busy(open_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hubd.store.db.WRITES_WAITING_MAX", 3)
    results = await asyncio.gather(*(open_db.write("sale", sale(n)) for n in range(5)), return_exceptions=True)
    assert [r.code for r in results if isinstance(r, StoreError)] == ["store.busy", "store.busy"]
    assert open_db.head.seq == 4


async def test_totals_inside_a_work_see_the_works_before_it(open_db: Database) -> None:
    def total(tx: Tx) -> int:
        sale(1)(tx)
        return sum(t.total.amount_minor for t in payments.totals(tx.connection, "perpetual.sales"))

    _, seen = await asyncio.gather(open_db.write("a", sale(0)), open_db.write("b", total))
    assert seen == 2500


async def test_a_total_that_cannot_be_written_fails_the_work_that_adds_to_it_alone(open_db: Database) -> None:
    """Totals are written once a group, after its works: whose they are is found all the same."""

    def refuse_pounds(tx: Tx) -> None:
        tx.execute(
            "CREATE TRIGGER no_pounds BEFORE INSERT ON counters WHEN NEW.currency = 'GBP'"
            " BEGIN SELECT RAISE(ABORT, 'no pounds'); END"
        )

    def in_pounds(number: int) -> Callable[[Tx], Entry]:
        return lambda tx: journal.append(tx, cash_sale(IDS[number], currency="GBP"))

    await open_db.write("trigger", refuse_pounds)
    works = [sale(0), in_pounds(1), sale(2), in_pounds(3), sale(4)]
    results = await asyncio.gather(*(open_db.write("sale", work) for work in works), return_exceptions=True)
    assert [type(result) for result in results] == [Entry, sqlite3.IntegrityError, Entry, sqlite3.IntegrityError, Entry]
    assert await known(open_db) == [IDS[0], IDS[2], IDS[4]]
    assert (await open_db.read_apart("replay", replay.check)).ok
    with pytest.raises(sqlite3.IntegrityError, match="no pounds"):
        await open_db.write("alone", in_pounds(5))


async def test_what_a_work_takes_back_to_a_mark_is_not_counted_and_what_was_before_it_is(open_db: Database) -> None:
    def work(tx: Tx) -> None:
        sale(0)(tx)
        mark = tx.savepoint()
        sale(1)(tx)
        tx.rollback_to(mark)
        sale(2)(tx)

    await asyncio.gather(open_db.write("a", sale(3)), open_db.write("b", work), open_db.write("c", sale(4)))
    (total,) = await open_db.read("totals", lambda c: payments.totals(c, "perpetual.sales"))
    assert (total.count, total.total.amount_minor) == (4, 4 * 1250)
    assert (await open_db.read_apart("replay", replay.check)).ok


async def test_a_group_writes_each_total_once(open_db: Database) -> None:
    async def act() -> None:
        await asyncio.gather(*(open_db.write("sale", sale(n)) for n in range(50)))

    seen = await statements_during(open_db, act)
    assert len([one for one in seen if "INTO counters" in one]) == 2


async def test_entries_stay_at_hand_as_the_journal_has_them(open_db: Database) -> None:
    def fails(tx: Tx) -> None:
        sale(1)(tx)
        raise ValueError("no")

    before = open_db.head.seq
    await asyncio.gather(*(open_db.write("sale", work) for work in (sale(0), fails, sale(2))), return_exceptions=True)
    await open_db.write("alone", sale(3))
    read = await open_db.read("entries", lambda c: journal.entries_after(c, before, 10))
    assert len(read) == 3
    assert open_db.fresh_after(before, 10) == read
    assert open_db.fresh_after(before + 1, 1) == read[1:2]
    assert open_db.fresh_after(open_db.head.seq, 10) is None


async def test_entries_that_are_not_at_hand_are_not_guessed(open_db: Database) -> None:
    open_db._fresh = deque(maxlen=2)
    await asyncio.gather(*(open_db.write("sale", sale(n)) for n in range(3)))
    assert open_db.fresh_after(open_db.head.seq - 3, 10) is None
    assert [entry.seq for entry in open_db.fresh_after(open_db.head.seq - 2, 10) or ()] == [3, 4]


async def test_a_number_taken_by_work_that_failed_is_given_again(open_db: Database) -> None:
    """What the writer keeps in mind from group to group goes back with the work that changed it."""

    def numbered(number: int, then: str = "") -> Callable[[Tx], int]:
        def work(tx: Tx) -> int:
            series, counter = next_number(tx, "till-1", "receipt")
            journal.append(tx, cash_sale(IDS[number], series=series, counter=counter))
            if then:
                raise ValueError(then)
            return counter

        return work

    assert await open_db.write("first", numbered(0)) == 1
    with pytest.raises(ValueError, match="alone"):
        await open_db.write("fails", numbered(1, "alone"))
    together = [numbered(2), numbered(3, "among others"), numbered(4)]
    results = await asyncio.gather(*(open_db.write("sale", work) for work in together), return_exceptions=True)
    assert [result for result in results if isinstance(result, int)] == [2, 3]
    assert (await open_db.read_apart("replay", replay.check)).ok


async def test_the_hook_of_aiosqlite_that_the_store_rests_on(tmp_path: Path) -> None:
    """Pinned: `_conn` is the sqlite3 connection, `_execute(fn, …)` runs one function in its thread and returns it."""
    import threading

    connection = await aiosqlite.connect(tmp_path / "x.db", isolation_level=None)
    assert isinstance(connection._conn, sqlite3.Connection)
    where: list[threading.Thread] = []

    def fn(raw: sqlite3.Connection) -> int:
        where.append(threading.current_thread())
        return int(raw.execute("SELECT 7").fetchone()[0])

    assert await connection._execute(fn, connection._conn) == 7  # type: ignore[no-untyped-call]  # aiosqlite leaves it untyped
    with pytest.raises(ZeroDivisionError):
        await connection._execute(lambda: 1 // 0)  # type: ignore[no-untyped-call]  # aiosqlite leaves it untyped
    assert where[0] is not threading.main_thread()
    await connection.close()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("recursive_triggers", 1), ("secure_delete", 1)],
)
async def test_the_writer_has_its_pragmas(db: Database, pragma: str, value: object) -> None:
    assert await db.exclusively("pragma", lambda c: c.execute(f"PRAGMA {pragma}").fetchone()) == (value,)


def made_with_larger_pages(path: Path) -> None:
    older = sqlite3.connect(path, isolation_level=None)
    older.execute("PRAGMA page_size=4096")
    migrations.migrate(older)
    older.close()


async def test_a_new_file_has_small_pages_and_an_older_one_keeps_its_own(tmp_path: Path) -> None:
    await asyncio.to_thread(made_with_larger_pages, tmp_path / "older.db")
    for name, page_bytes in (("new.db", 2048), ("older.db", 4096)):
        async with open_database(tmp_path / name, journals.runtime()) as db:
            assert await db.read("size", lambda c: c.execute("PRAGMA page_size").fetchone()) == (page_bytes,)
            assert await db.read("mode", lambda c: c.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


def test_the_seam_is_the_protocol() -> None:
    thread: type[DbThread] = AioSqliteThread
    assert thread is AioSqliteThread


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_fails_in_a_group_the_chain_is_whole_and_each_hears_the_truth(
    open_db: Database, seed: int
) -> None:
    """Random groups of works that succeed, fail after writing, or end the transaction; then the store is checked."""
    rng = random.Random(seed)

    def ends_the_transaction(tx: Tx) -> None:
        journals.random_step(rng, [])(tx)
        tx.execute("ROLLBACK")
        if rng.random() < 0.5:
            raise ValueError("ended")

    def fails_after_writing(tx: Tx) -> None:
        journals.random_step(rng, [])(tx)
        raise ValueError("failed")

    for _ in range(15):
        numbers = rng.sample(range(len(IDS)), rng.randint(1, 12))
        works = [
            sale(n) if (kind := rng.random()) < 0.6 else fails_after_writing if kind < 0.9 else ends_the_transaction
            for n in numbers
        ]
        before = set(await known(open_db))
        results = await asyncio.gather(*(open_db.write("any", work) for work in works), return_exceptions=True)
        told = {entry.head.subject for entry in results if isinstance(entry, Entry)}
        assert set(await known(open_db)) == before | told
        assert not before & told, "an id that was there is refused, not taken twice"
    assert open_db.head == await open_db.read("head", read_head)
    assert (await verify.verify_database(open_db)).ok
    assert (await open_db.read_apart("replay", replay.check)).ok
