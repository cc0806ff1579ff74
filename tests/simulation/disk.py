"""A hub's disk: real SQLite files used inline, on a machine whose power can go at any commit and whose disk can fill.

What survives a power cut is what the files hold at that moment: SQLite has synced every commit that it has answered,
and what it had not synced may be there, be torn, or be gone. SQLite itself finds out at the next start.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from drivers.kit.virtual_time import VirtualClock
from tests.simulation.seeded import Random

T = TypeVar("T")
Committed = Callable[[tuple[int, bytes], tuple[int, bytes] | None], None]
"""Told after each commit: (seq, hash) of the head, and of the confirmed cursor if there is one."""

COMMIT_MIN_S, COMMIT_MAX_S = 0.0005, 0.006
"""What a commit takes on a disk that is well."""
READS_COST = 0.5
"""What a read takes, of the time of a commit."""
TORN_BYTES_MAX = 3000
ROOM_FOR_EVER_PAGES = 1_000_000_000
FILES = ("hub.db", "hub.db-wal")


class CutPoint(StrEnum):
    """Where in a commit the power goes."""

    BEFORE = "before"
    AFTER = "after"


class PowerIsOffError(sqlite3.OperationalError):
    """The machine has no power: whatever was asked of its disk did not happen."""

    sqlite_errorcode = sqlite3.SQLITE_IOERR


class _Connection(sqlite3.Connection):
    """Lets the disk look at every statement of the writer."""

    disk: Disk | None = None
    writes = False

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:  # type: ignore[override]  # ours take sequences only
        if self.disk is None or not self.writes:
            return super().execute(sql, parameters)
        self.disk.before_statement(self, sql)
        cursor = super().execute(sql, parameters)
        if sql == "COMMIT":
            self.disk.after_commit(self)
        return cursor

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        if self.disk is not None and self.writes:
            self.disk.before_statement(self, sql)
        return super().executemany(sql, parameters)

    def bare(self, sql: str) -> sqlite3.Cursor:
        """Without anybody looking."""
        return super().execute(sql)


class InlineThread:
    """Implements `hubd.store.db.DbThread` without a thread."""

    def __init__(self, disk: Disk, connection: _Connection, writes: bool) -> None:
        self._disk = disk
        self._connection = connection
        self._writes = writes
        self._life = disk.life

    async def run(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """See `DbThread`. The writer takes the time that its disk takes, before and after."""
        disk = self._disk
        await disk.clock.sleep(disk.pause_s() * (1.0 if self._writes else READS_COST))
        disk.need_power(self._life)
        result = fn(self._connection)
        disk.need_power(self._life)
        if self._writes:
            await disk.clock.sleep(disk.pause_s())
            disk.need_power(self._life)
        return result

    async def close(self) -> None:
        """See `DbThread`. After a power cut the files were put away already."""
        if self._life == self._disk.life and self._disk.powered:
            self._disk.forget(self._connection)
            self._connection.close()


class Disk:
    """The files of one hub and the faults of what they lie on."""

    def __init__(self, folder: Path, clock: VirtualClock, dice: Random, committed: Committed) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / FILES[0]
        self.clock = clock
        self.powered = True
        self.life = 0
        self.slow_s = 0.0
        """Longest extra pause of the writer."""
        self.fail_statement = 0
        """The n-th statement of the writer from now finds no room; 0: none."""
        self.cut_commit = 0
        """The power goes at the n-th commit from now; 0: it does not."""
        self._cut_point = CutPoint.AFTER
        self._cut_is_due = False
        self.on_cut: Callable[[], None] = lambda: None
        self._full_pages: int | None = None
        self._dice = dice
        self._committed = committed
        self._open: list[_Connection] = []

    # -- for the store -------------------------------------------------------------------------------------------------

    async def open_thread(self, path: Path, read_only: bool) -> InlineThread:
        """See `hubd.store.db.OpenDbThread`."""
        self.need_power(self.life)
        address = f"file:{path}?mode={'ro' if read_only else 'rwc'}"
        connection = sqlite3.connect(
            address, uri=True, isolation_level=None, cached_statements=256, factory=_Connection, check_same_thread=False
        )
        connection.disk, connection.writes = self, not read_only
        self._open.append(connection)
        if self._full_pages is not None and not read_only:
            self._limit(connection)
        return InlineThread(self, connection, not read_only)

    def forget(self, connection: _Connection) -> None:
        """A connection is being closed in order."""
        if connection in self._open:
            self._open.remove(connection)

    def pause_s(self) -> float:
        """What the disk takes now."""
        return self._dice.uniform(COMMIT_MIN_S, COMMIT_MAX_S) + (
            self._dice.uniform(0, self.slow_s) if self.slow_s else 0
        )

    def need_power(self, life: int) -> None:
        """Raise for whoever lives in a machine that was switched off since."""
        if not self.powered or life != self.life:
            raise PowerIsOffError("disk I/O error")

    def before_statement(self, connection: _Connection, sql: str) -> None:
        """The faults that strike before a statement has done anything."""
        if not self.powered:
            raise PowerIsOffError("disk I/O error")
        if self.fail_statement and not sql.startswith(("PRAGMA", "ROLLBACK")):
            self.fail_statement -= 1
            if self.fail_statement == 0:
                self._no_room(connection)
        if sql == "COMMIT" and self.cut_commit:
            self.cut_commit -= 1
            if self.cut_commit == 0 and self._cut_point is CutPoint.BEFORE:
                self.on_cut()
                raise PowerIsOffError("disk I/O error")
            self._cut_is_due = self.cut_commit == 0

    def _no_room(self, connection: _Connection) -> None:
        # SQLite ends the whole transaction in some cases and only the statement in others.
        if connection.in_transaction and self._dice.random() < 0.5:
            connection.bare("ROLLBACK")
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    def after_commit(self, connection: _Connection) -> None:
        """A commit is on disk; perhaps the power goes before anybody is told."""
        head = connection.bare("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
        if head is not None:
            self._committed(head, connection.bare("SELECT seq, hash FROM cursors WHERE name = 'confirmed'").fetchone())
        if self._cut_is_due:
            self.on_cut()
            raise PowerIsOffError("disk I/O error")

    def cut_at_commit(self, count: int, point: CutPoint) -> None:
        """Let the power go at the `count`-th commit from now."""
        self.cut_commit, self._cut_point = count, point

    # -- faults --------------------------------------------------------------------------------------------------------

    def fill(self, pages_left: int) -> None:
        """From now on the file can grow by so many pages only."""
        self._full_pages = pages_left
        for connection in self._open:
            if connection.writes:
                self._limit(connection)

    def _limit(self, connection: _Connection) -> None:
        used = connection.bare("PRAGMA page_count").fetchone()[0]
        connection.bare(f"PRAGMA max_page_count = {used + (self._full_pages or 0)}").fetchall()

    def make_room(self) -> None:
        """All is well again."""
        self._full_pages, self.fail_statement, self.slow_s = None, 0, 0.0
        for connection in self._open:
            if connection.writes:
                connection.bare(f"PRAGMA max_page_count = {ROOM_FOR_EVER_PAGES}").fetchall()

    @property
    def full(self) -> bool:
        """Whether the disk has no room now."""
        return self._full_pages is not None

    def files(self) -> dict[str, bytes]:
        """What lies on the disk at this moment: committed work, and perhaps pages of work that was not."""
        return {name: (self.folder / name).read_bytes() for name in FILES if (self.folder / name).exists()}

    def cut(self) -> dict[str, bytes]:
        """Switch off: put away what the files hold; nothing that an earlier life still does reaches them."""
        saved = self.files()
        self.powered, self.cut_commit, self._cut_is_due = False, 0, False
        if "hub.db-wal" in saved and self._dice.random() < 0.5:
            # A write that had begun and was never synced: garbage behind the last commit.
            saved["hub.db-wal"] += self._dice.randbytes(self._dice.randrange(1, TORN_BYTES_MAX))
        return saved

    def put_away(self) -> None:
        """Close what an earlier life or the end of the run has left open."""
        for connection in self._open:
            with suppress(sqlite3.Error):
                connection.close()
        self._open.clear()

    def switch_on(self, files: dict[str, bytes]) -> None:
        """Start with these files and nothing else."""
        self.put_away()
        for old in self.folder.iterdir():
            old.unlink()
        for name, content in files.items():
            (self.folder / name).write_bytes(content)
        self.life += 1
        self.powered = True
