"""The one writing connection, group commit, and read-only connections beside it (design 5).

`await db.write(name, fn)` returns once `fn`'s changes are on disk (WAL, synchronous=FULL). All work that waits shares
one transaction and one fsync; each piece of work has its own savepoint, so that a failing one fails alone. Grouping
happens in the event loop: one task takes everything that waits and hands it to the database thread in one hop.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import aiosqlite

from hubd.errors import HubError, Retry, StoreError
from hubd.runtime import Runtime
from hubd.store import migrations
from hubd.store.tx import JournalHead, Tx, read_head

log = logging.getLogger(__name__)

T = TypeVar("T")

WRITES_WAITING_MAX = 20_000
GROUP_MAX = 1_000
GROUP_WAIT_MAX_S = 0.002
GROUP_WAIT_SHARE = 0.1
"""After a group of more than one, wait this share of the recent commit time for others to join (performance 2)."""
CHECKPOINT_EVERY_WORKS = 500
"""A work dirties about four pages, so this keeps the WAL near 2,000 pages."""
READERS = 2
BUSY_TIMEOUT_MS = 5_000
WAL_SIZE_LIMIT_BYTES = 16 * 1024 * 1024

WRITER_PRAGMAS = (
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
        """One hop to the thread, by aiosqlite's own hook: it has no public call for a whole function (pinned by a test)."""
        raw: sqlite3.Connection = self._connection._conn
        return cast("T", await self._connection._execute(fn, raw))  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Close connection and thread; a thread left behind would keep the process alive."""
        await self._connection.close()


@dataclass(slots=True)
class _Work:
    name: str
    fn: Callable[[Tx], Any]
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Database:
    """The hub's store. Made by `open_database`; `head` is the journal's head after the last commit."""

    def __init__(self, path: Path, runtime: Runtime, open_thread: OpenDbThread) -> None:
        self.path = path
        self.head = JournalHead()
        self._runtime = runtime
        self._open_thread = open_thread
        self._thread: DbThread | None = None
        self._readers: list[DbThread] = []
        self._next_reader = 0
        self._waiting: list[_Work] = []
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._recent_commit_s = 0.0
        self._works_since_checkpoint = 0
        self._failed: HubError | None = None

    async def write(self, name: str, fn: Callable[[Tx], T]) -> T:
        """Run `fn(tx)` in a transaction and return its result once it is durable.

        `fn` touches only `tx` and may be run again. Raises what `fn` raised (nothing of it stays), `store.full` when
        the disk has no room, `store.failed` when the commit itself failed (outcome unknown). A cancelled caller waits
        for the commit before the cancellation goes on; then the caller reads the truth from the store.
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
        try:
            return cast("T", await asyncio.shield(work.done))
        except asyncio.CancelledError:
            if not work.done.done():
                await asyncio.wait([work.done])
            if not work.done.cancelled():
                work.done.exception()  # seen here, so that a failure nobody awaits is not reported as lost
            raise

    async def read(self, name: str, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run `fn(connection)` on a read-only connection; it sees every commit that was answered before the call."""
        if not self._readers:
            raise StoreError("store.closed", f"The store is closed ({name}).", retry=Retry.SAME_REQUEST)
        self._next_reader = (self._next_reader + 1) % len(self._readers)
        return await self._readers[self._next_reader].run(fn)

    async def moved_beyond(self, seq: int) -> int:
        """Return the head's seq once it is greater than `seq`."""
        while self.head.seq <= seq:
            await self._moved.wait()
        return self.head.seq

    async def exclusively(self, name: str, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run `fn` on the writing connection between groups, outside a transaction: backup, checkpoint, vacuum."""
        if self._thread is None:
            raise StoreError("store.closed", f"The store is closed ({name}).", retry=Retry.SAME_REQUEST)
        return await self._thread.run(fn)

    async def _start(self) -> None:
        self._thread = await self._open_thread(self.path, False)
        await self._thread.run(_prepare_writer)
        self.head = await self._thread.run(read_head)
        for _ in range(READERS):
            self._readers.append(await self._open_thread(self.path, True))

    async def _stop(self) -> None:
        for reader in self._readers:
            await reader.close()
        self._readers.clear()
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await thread.close()

    async def _write_groups(self) -> None:
        previous = 0
        try:
            while True:
                await self._wake.wait()
                if previous > 1:
                    await self._runtime.clock.sleep(min(GROUP_WAIT_MAX_S, self._recent_commit_s * GROUP_WAIT_SHARE))
                group, self._waiting = self._waiting[:GROUP_MAX], self._waiting[GROUP_MAX:]
                if not self._waiting:
                    self._wake.clear()
                previous = len(group)
                if group:
                    await self._commit_group(group)
        finally:
            self._failed = self._failed or StoreError(
                "store.closed", "The store has stopped.", retry=Retry.SAME_REQUEST
            )
            for work in self._waiting:
                _fail(work, self._failed)
            self._waiting.clear()

    async def _commit_group(self, group: list[_Work]) -> None:
        assert self._thread is not None, "the writer runs between start and stop"
        started = self._runtime.clock.monotonic()
        head, clock, boot = self.head, self._runtime.clock, self._runtime.boot
        try:
            head = await self._thread.run(lambda connection: _run_group(Tx(connection, head, clock, boot), group))
        except asyncio.CancelledError:
            # The thread finishes what it was given; whether it did is unknown to the callers.
            self._fail_group(group, "The store is stopping.")
            raise
        except (sqlite3.Error, StoreError):
            log.exception("store.commit_failed", extra={"works": len(group)})
            self._fail_group(group, "The commit failed; whether it is on disk is not known.")
            await self._reopen()
            return
        self._recent_commit_s = self._runtime.clock.monotonic() - started
        moved = head.seq != self.head.seq
        self.head = head
        for work in group:
            if work.error is not None:
                _fail(work, work.error)
            elif not work.done.done():
                work.done.set_result(work.result)
        if moved:
            self._moved.set()
            self._moved = asyncio.Event()
        self._works_since_checkpoint += len(group)
        if self._works_since_checkpoint >= CHECKPOINT_EVERY_WORKS:
            self._works_since_checkpoint = 0
            await self._thread.run(_checkpoint)

    def _fail_group(self, group: list[_Work], detail: str) -> None:
        error = StoreError("store.failed", detail, retry=Retry.SAME_REQUEST, remedy="Ask again with the same id.")
        for work in group:
            _fail(work, error)

    async def _reopen(self) -> None:
        """Forget the connection and read the truth again; raises if that fails too, and the hub restarts."""
        assert self._thread is not None, "the writer runs between start and stop"
        await self._thread.close()
        self._thread = await self._open_thread(self.path, False)
        await self._thread.run(_prepare_writer)
        self.head = await self._thread.run(read_head)


def _fail(work: _Work, error: BaseException) -> None:
    if not work.done.done():
        work.done.set_exception(error)


def _prepare_writer(connection: sqlite3.Connection) -> None:
    for pragma in WRITER_PRAGMAS:
        connection.execute(pragma).fetchall()
    migrations.migrate(connection)


def _run_group(tx: Tx, group: list[_Work]) -> JournalHead:
    """Run the whole group in one transaction and commit it. Runs in the database thread.

    A work that raises fails alone. If its error ended the transaction (disk full does), it fails and the others run
    again from the start, on the head as it was.
    """
    first = tx.head
    alive = list(group)
    while alive:
        tx.begin(first)
        guilty = _run_works(tx, alive)
        if guilty is None:
            tx.commit()
            break
        alive.remove(guilty)
        alive = [work for work in alive if work.error is None]
    return tx.head if alive else first


def _run_works(tx: Tx, works: list[_Work]) -> _Work | None:
    for work in works:
        work.error = None
        mark = tx.savepoint()
        try:
            work.result = work.fn(tx)
        except BaseException as exc:  # noqa: BLE001 (handed to the caller that waits; nothing is swallowed)
            work.error = _translate(exc)
            if not tx.connection.in_transaction:
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
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


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
            writer = group.create_task(database._write_groups(), name="store.writer")
            try:
                yield database
            finally:
                writer.cancel()
    finally:
        await database._stop()
