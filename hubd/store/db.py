"""The one writing connection, group commit, and read-only connections beside it (design 5).

`await db.write(name, fn)` returns once `fn`'s changes are on disk (WAL, synchronous=FULL). All work that waits shares
one transaction and one fsync; each piece of work has its own savepoint, so that a failing one fails alone. Grouping
happens in the event loop: one task takes everything that waits and hands it to the database thread in one hop.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import aiosqlite

from hubd.errors import HubError, Retry, StoreError
from hubd.model.entry import Entry
from hubd.runtime import Runtime
from hubd.store import meta, migrations
from hubd.store.tx import JournalHead, Tx, read_head

log = logging.getLogger(__name__)

T = TypeVar("T")

WRITES_WAITING_MAX = 20_000
GROUP_MAX = 1_000
KEPT_MAX = 10_000
"""Rows that the writer keeps in mind between groups: a few for each till."""
FRESH_MAX = 2_000
"""Entries of the last groups that stay at hand, for those who follow the journal."""
GROUP_WAIT_MAX_S = 0.005
GROUP_WAIT_SHARE = 0.25
"""After a group of more than one, wait at most this share of the recent commit time for as many to ask again."""
GROUP_WAIT_MIN_S = 0.0005
"""A timer of the event loop takes about a millisecond; a shorter wait would cost a fast disk more than it gains."""
PAGE_BYTES = 2_048
"""A sale alone dirties six pages wherever it falls: half the size of SQLite's own spares flash (docs/adr/0018)."""
PAGES_OF_A_GROUP = 5
"""What a group dirties whatever its size: totals, numbers, and the ends of indices. Each work adds about one page."""
CHECKPOINT_EVERY_PAGES = 4_000
"""Keeps the WAL near 8 MiB. A checkpoint flushes twice while tills wait, so groups must not bring it nearer."""
READERS = 2
BUSY_TIMEOUT_MS = 5_000
WAL_SIZE_LIMIT_BYTES = 16 * 1024 * 1024

WRITER_PRAGMAS = (
    f"PRAGMA page_size={PAGE_BYTES}",  # of a file that has no page yet; an older one keeps its own
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA recursive_triggers=ON",  # INSERT OR REPLACE must meet the delete triggers too
    "PRAGMA secure_delete=ON",  # erased documents leave no bytes behind
    "PRAGMA wal_autocheckpoint=0",  # checkpoints belong off the commit path: they run after the answers are out
    f"PRAGMA journal_size_limit={WAL_SIZE_LIMIT_BYTES}",
    "PRAGMA cache_size=-16000",
    "PRAGMA mmap_size=0",
)


class DbThread(Protocol):
    """The seam between the event loop and SQLite: runs functions on one connection, in order, one at a time."""

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Call `fn(connection)` where the connection lives and return or raise what it did."""
        ...

    async def close(self) -> None:
        """Close the connection; nothing may be called afterwards."""
        ...


OpenDbThread = Callable[[Path, bool], Awaitable[DbThread]]
"""async (path, read_only) -> DbThread."""


class AioSqliteThread:
    """A connection in aiosqlite's own thread."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path, read_only: bool) -> AioSqliteThread:
        """Open `path`; a read-only connection never creates, checkpoints or writes."""
        address = f"file:{path}?mode={'ro' if read_only else 'rwc'}"
        connection = await aiosqlite.connect(address, uri=True, isolation_level=None, cached_statements=256)
        return cls(connection)

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """One hop to the thread, by aiosqlite's own hook: it has no public call for this (pinned by a test)."""
        raw: sqlite3.Connection = self._connection._conn
        return cast("T", await self._connection._execute(fn, raw))  # type: ignore[no-untyped-call]  # aiosqlite leaves it untyped

    async def close(self) -> None:
        """Close connection and thread; a thread left behind would keep the process alive."""
        await self._connection.close()


class _Work:
    """One call of `write` on its way; `answered` once its caller has been told."""

    __slots__ = ("answered", "done", "error", "fn", "name", "result")

    def __init__(self, name: str, fn: Callable[[Tx], Any], done: asyncio.Future[Any]) -> None:
        self.name = name
        self.fn = fn
        self.done = done
        self.result: Any = None
        self.error: BaseException | None = None
        self.answered = False

    def answer(self) -> None:
        """Tell the caller what became of it; a caller that was cancelled meanwhile only hears that it is over."""
        self.answered = True
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self.error = error
        self.answer()


class Database:
    """The hub's store. Made by `open_database`; `head` is the journal's head after the last commit.

    `stopped_cleanly` tells how the process before this one ended: after anything but a clean stop the whole journal
    is checked in the background (hubd.store.verify).
    """

    def __init__(self, path: Path, runtime: Runtime, open_thread: OpenDbThread) -> None:
        self.path = path
        self.head = JournalHead()
        self._runtime = runtime
        self._open_thread = open_thread
        self._thread: DbThread | None = None
        self._readers: list[DbThread] = []
        self._next_reader = 0
        self._behind: DbThread | None = None
        self._waiting: list[_Work] = []
        self._kept: dict[tuple[str, ...], Any] = {}
        self._fresh: deque[Entry] = deque(maxlen=FRESH_MAX)
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._recent_commit_s = 0.0
        self._expected = 0
        """How many are likely to wait before the next group: the last one's, and who came while it was committed."""
        self._complete = asyncio.Event()
        self._pages_since_checkpoint = 0
        self._failed: HubError | None = None
        self._closing = False
        self._clean = True
        self.stopped_cleanly = True

    async def write(self, name: str, fn: Callable[[Tx], T]) -> T:
        """Run `fn(tx)` in a transaction and return its result once it is durable.

        `fn` touches only `tx` and may be run again. Raises what `fn` raised (nothing of it stays), `store.full` when
        the disk has no room (nothing either), `store.failed` when the commit itself failed otherwise (outcome
        unknown). A cancelled caller waits for the commit before the cancellation goes on; then the caller reads the
        truth from the store.
        """
        if self._failed:
            raise self._failed
        if len(self._waiting) >= WRITES_WAITING_MAX:
            raise StoreError(
                "store.busy", "Too many changes wait to be written.", retry=Retry.SAME_REQUEST, retry_after_s=1
            )
        work = _Work(name, fn, asyncio.get_running_loop().create_future())
        self._waiting.append(work)
        self._wake.set()
        if len(self._waiting) >= self._expected:
            self._complete.set()
        try:
            return cast("T", await work.done)
        except asyncio.CancelledError:
            await _wait_until_answered(work)
            raise

    async def read(self, name: str, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run `fn(connection)` in one read-only snapshot; it sees every commit that was answered before the call."""
        if not self._readers:
            raise _closed(name)
        self._next_reader = (self._next_reader + 1) % len(self._readers)
        return await self._readers[self._next_reader].run(lambda connection: _in_snapshot(connection, fn))

    async def read_behind(self, name: str, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Like `read`, on one connection beside those that answers wait for: for reads that follow one another."""
        if self._behind is None:
            raise _closed(name)
        return await self._behind.run(lambda connection: _in_snapshot(connection, fn))

    async def read_apart(self, name: str, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Like `read`, on a read-only connection of its own: for what takes longer than an answer may wait."""
        if not self._readers:
            raise _closed(name)
        thread = await self._open_thread(self.path, True)
        try:
            return await thread.run(lambda connection: _in_snapshot(connection, fn))
        finally:
            await thread.close()

    async def moved_beyond(self, seq: int) -> int:
        """Return the head's seq once it is greater than `seq`; raises `store.closed` when the store has stopped."""
        while self.head.seq <= seq:
            if self._failed:
                raise self._failed
            await self._moved.wait()
        return self.head.seq

    def fresh_after(self, seq: int, limit: int) -> list[Entry] | None:
        """Up to `limit` committed entries above `seq`, if they are still at hand; None: read them from the journal."""
        if not self._fresh or not self._fresh[0].seq <= seq + 1 <= self._fresh[-1].seq:
            return None
        first = seq + 1 - self._fresh[0].seq
        return [self._fresh[at] for at in range(first, min(first + limit, len(self._fresh)))]

    async def exclusively(self, name: str, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run `fn` on the writing connection between groups, outside a transaction: backup, checkpoint, vacuum."""
        if self._thread is None:
            raise _closed(name)
        kept = self._kept

        def run(connection: sqlite3.Connection) -> T:
            kept.clear()
            return fn(connection)

        return await self._thread.run(run)

    async def _start(self) -> None:
        self._thread = await self._open_thread(self.path, False)
        await self._thread.run(_prepare_writer)
        self.head = await self._thread.run(read_head)  # before anything is written: its format may be newer (E15)
        self.stopped_cleanly = await self._thread.run(_mark_running)
        for _ in range(READERS):
            self._readers.append(await self._open_thread(self.path, True))
        self._behind = await self._open_thread(self.path, True)

    async def _stop(self) -> None:
        try:
            for reader in self._readers:
                await reader.close()
            if self._behind is not None:
                behind, self._behind = self._behind, None
                await behind.close()
        finally:
            self._readers.clear()
            if self._thread is not None:
                thread, self._thread = self._thread, None
                try:
                    if self._clean and self._closing:
                        await thread.run(_mark_stopped)
                finally:
                    await thread.close()

    def _finish(self) -> None:
        """Take no more work; the writer ends when what waits is written."""
        self._closing = True
        self._failed = self._failed or StoreError("store.closed", "The store has stopped.", retry=Retry.SAME_REQUEST)
        self._wake.set()

    async def _write_groups(self) -> None:
        try:
            while not (self._closing and not self._waiting):
                await self._wake.wait()
                if self._expected > 1:
                    await self._wait_for_company()
                group, self._waiting = self._waiting[:GROUP_MAX], self._waiting[GROUP_MAX:]
                if not self._waiting and not self._closing:
                    self._wake.clear()
                if group:
                    await self._commit_group(group)
        except BaseException:
            self._clean = False
            raise
        finally:
            self._finish()
            self._moved.set()
            for work in self._waiting:
                work.fail(cast("HubError", self._failed))
            self._waiting.clear()

    async def _wait_for_company(self) -> None:
        wait_s = min(GROUP_WAIT_MAX_S, self._recent_commit_s * GROUP_WAIT_SHARE)
        if wait_s < GROUP_WAIT_MIN_S or self._closing or len(self._waiting) >= self._expected:
            return
        self._complete.clear()
        try:
            async with self._runtime.clock.timeout(wait_s):
                await self._complete.wait()
        except TimeoutError:
            return  # whoever has not come again by now waits for the next group

    async def _commit_group(self, group: list[_Work]) -> None:
        assert self._thread is not None, "the writer runs between start and stop"
        if len(self._kept) > KEPT_MAX:
            self._kept.clear()
        head, clock, boot, kept = self.head, self._runtime.clock, self._runtime.boot, self._kept
        try:
            tx, self._recent_commit_s = await self._thread.run(
                lambda connection: _run_group(Tx(connection, head, clock, boot, kept), group)
            )
        except sqlite3.Error:
            log.exception("store.commit_failed", extra={"works": len(group)})
            await self._reopen(group)
            return
        except BaseException:
            # The thread may still finish what it was given; whether it does is unknown to the callers.
            _fail_group(group, "The store is stopping.")
            raise
        moved = tx.head.seq != head.seq
        self.head = tx.head
        self._fresh.extend(tx.appended)
        for work in group:
            work.answer()
        # Those who were answered ask again in a moment: apart from those who wait already, they would halve the groups.
        self._expected = len(group) + len(self._waiting)
        if moved:
            self._tell_followers()
        self._pages_since_checkpoint += PAGES_OF_A_GROUP + len(group)
        if self._pages_since_checkpoint >= CHECKPOINT_EVERY_PAGES:
            self._pages_since_checkpoint = 0
            await self._thread.run(_checkpoint)

    def _tell_followers(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _reopen(self, group: list[_Work]) -> None:
        """Forget the connection, read the truth again and answer; raises if that fails too, and the hub restarts."""
        assert self._thread is not None, "the writer runs between start and stop"
        self._kept = {}
        self._fresh.clear()
        try:
            await self._thread.close()
            self._thread = await self._open_thread(self.path, False)
            await self._thread.run(_prepare_writer)
            self.head = await self._thread.run(read_head)
            self._tell_followers()  # it may be on disk all the same
        finally:
            _fail_group(group, "The commit failed; whether it is on disk is not known.")


async def _wait_until_answered(work: _Work) -> None:
    """Wait for the commit that a cancelled caller no longer hears of, however often it is cancelled."""
    while not work.answered:
        work.done = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([work.done])
        except asyncio.CancelledError:
            continue  # the first cancellation goes on once the commit is over; this one adds nothing to it
    if work.done.done() and not work.done.cancelled():
        work.done.exception()  # seen here, so that a failure nobody awaits is not reported as lost


def _closed(name: str) -> StoreError:
    return StoreError("store.closed", f"The store is closed ({name}).", retry=Retry.SAME_REQUEST)


def _fail_group(group: list[_Work], detail: str) -> None:
    error = StoreError("store.failed", detail, retry=Retry.SAME_REQUEST, remedy="Ask again with the same id.")
    for work in group:
        if not work.answered:
            work.fail(error)


def _in_snapshot(connection: sqlite3.Connection, fn: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")
    try:
        return fn(connection)
    finally:
        connection.execute("ROLLBACK")


def _mark_running(connection: sqlite3.Connection) -> bool:
    """Note that the store is open; returns whether the last one closed it."""
    found = meta.get(connection, meta.CLEAN_STOP)
    try:
        connection.execute("INSERT OR REPLACE INTO meta(name, value) VALUES (?, '0')", (meta.CLEAN_STOP,))
    except sqlite3.OperationalError:
        log.warning("store.start_not_marked")  # a full disk: a hub that cannot store can still say so
    return found != "0"


def _mark_stopped(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("INSERT OR REPLACE INTO meta(name, value) VALUES (?, '1')", (meta.CLEAN_STOP,))
    except sqlite3.OperationalError:
        log.warning("store.stop_not_marked")  # a full disk; the next start checks the whole journal, no more


def _prepare_writer(connection: sqlite3.Connection) -> None:
    migrations.refuse_unreadable(connection)
    for pragma in WRITER_PRAGMAS:
        connection.execute(pragma).fetchall()
    migrations.migrate(connection)


def _run_group(tx: Tx, group: list[_Work]) -> tuple[Tx, float]:
    """Run the whole group in one transaction and commit it; returns that and the seconds of the commit.

    First without savepoints, which is how nearly every group ends. If a work fails, the transaction is rolled back
    and the group runs again with a savepoint around each, so that a failing work fails alone. If an error ended the
    whole transaction (disk full does), that work fails and the others run again from the start. Runs in the database
    thread; raises sqlite3.Error when the commit failed and nobody knows whether it is on disk.
    """
    first = tx.head
    failed = _run_together(tx, group)
    if failed is None:
        return _commit_if_there_is_room(tx, first, group)
    if len(group) == 1:
        failed.error = _translate(cast("BaseException", failed.error))
        return tx, 0.0
    alive = list(group)
    while alive:
        tx.begin(first)
        guilty = _run_apart(tx, alive)
        if guilty is None:
            return _commit_if_there_is_room(tx, first, alive)
        alive.remove(guilty)
        tx.rollback(first)
    return tx, 0.0


def _commit_if_there_is_room(tx: Tx, first: JournalHead, works: list[_Work]) -> tuple[Tx, float]:
    """Commit; without room nothing of it stays, and each work that was to be in it fails with `store.full`.

    That much is certain: the log is written at COMMIT, its last frame makes the commit, and SQLITE_FULL says that a
    frame had no room. Errors of the fsync and of the index beside the log have other codes, and stay unknown.
    """
    try:
        return _commit(tx)
    except sqlite3.OperationalError as exc:
        full = _translate(exc)
        if full is exc:
            raise
    tx.rollback(first)
    for work in works:
        work.error = work.error or full
    return tx, 0.0


def _commit(tx: Tx) -> tuple[Tx, float]:
    started = tx.monotonic()
    tx.commit()
    return tx, tx.monotonic() - started


def _run_together(tx: Tx, works: list[_Work]) -> _Work | None:
    """Run all in one transaction. Returns one that failed, with everything rolled back, or None.

    When writing what they all collected fails, nobody knows whose it was; the last one is named, and running them apart
    finds it.
    """
    first, work = tx.head, works[0]
    tx.begin(first)
    try:
        for work in works:
            work.result = work.fn(tx)
            assert tx.rows.in_transaction, f"{work.name} ended the transaction; what follows would not be one"
        tx.settle()
    except BaseException as exc:  # noqa: BLE001 (handed to the caller that waits; nothing is swallowed)
        work.error = exc
        tx.rollback(first)
        return work
    return None


def _run_apart(tx: Tx, works: list[_Work]) -> _Work | None:
    for work in works:
        work.error = None
        mark = tx.savepoint()
        try:
            work.result = work.fn(tx)
            assert tx.rows.in_transaction, f"{work.name} ended the transaction; what follows would not be one"
            tx.settle()
        except BaseException as exc:  # noqa: BLE001 (handed to the caller that waits; nothing is swallowed)
            work.error = _translate(exc)
            if not tx.rows.in_transaction:
                return work
            tx.rollback_to(mark)
        else:
            tx.release(mark)
    return None


def _translate(exc: BaseException) -> BaseException:
    if isinstance(exc, sqlite3.OperationalError) and exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
        return StoreError(
            "store.full",
            "The disk is full.",
            remedy="Free space on the hub's disk; what was accepted is safe.",
            retry=Retry.SAME_REQUEST,
            retry_after_s=30,
        )
    return exc


def _checkpoint(connection: sqlite3.Connection) -> None:
    # PASSIVE never waits for a reader; what it could not move now moves the next time.
    try:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    except sqlite3.OperationalError:
        log.warning("store.checkpoint_failed", exc_info=True)  # a full disk: everything is safe in the WAL


@asynccontextmanager
async def open_database(
    path: Path, runtime: Runtime, open_thread: OpenDbThread = AioSqliteThread.open
) -> AsyncIterator[Database]:
    """Open or create the store at `path`, migrated, with its writer running; closed on leaving, whatever happens.

    Raises `store.too_new` for a file of a later program and `store.corrupt` for one that SQLite cannot read.
    """
    database = Database(path, runtime, open_thread)
    try:
        await database._start()
        async with asyncio.TaskGroup() as group:
            group.create_task(database._write_groups(), name="store.writer")
            try:
                yield database
            finally:
                database._finish()
    finally:
        await database._stop()
