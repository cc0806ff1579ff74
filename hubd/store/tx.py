"""A transaction: the connection, and the journal's head that moves and rewinds with its savepoints."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from hubd.model.entry import FIRST_PREV_HASH, Entry, decode_head

Connection = sqlite3.Connection
"""What a function given to `Database.read` gets. Others name it by this, so that only the store knows SQLite."""


class JournalHead(Struct, frozen=True, gc=False):
    """The last entry: line, seq and hash. Before the first entry: no line, 0 and 32 zero bytes."""

    line: bytes = b""
    seq: int = 0
    hash: bytes = FIRST_PREV_HASH


_COUNT = (
    "INSERT INTO counters(name, currency, count, total) VALUES (?, ?, ?, ?)"
    " ON CONFLICT(name, currency) DO UPDATE SET count = count + excluded.count, total = total + excluded.total"
)
_USE_NUMBER = "UPDATE number_series SET last_used = max(last_used, ?) WHERE series = ?"


class _NoClock:
    """Stands where a replay must not look."""

    def now_us(self) -> int:
        raise AssertionError("a replay asked for the time; it must come from the entry")

    def trusted(self) -> bool:
        raise AssertionError("a replay asked whether the clock is trusted; the entry says so")

    def monotonic(self) -> float:
        raise AssertionError("a replay asked for the monotonic time; it must come from the entry")


class EntryClock(Protocol):
    """What a transaction asks of a clock."""

    def now_us(self) -> int:
        """UTC in microseconds."""
        ...

    def trusted(self) -> bool:
        """Whether a witness has confirmed it."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back within one boot."""
        ...


class Tx:
    """What a function given to `Database.write` may touch. `head` follows the entries appended so far.

    What every sale adds to the same few rows, its totals and its till's last number, is collected here and written once
    a group. `connection` and `execute` write it first, so that nobody reads those rows as they were; only `rows` does
    not, and is for statements on other tables.
    """

    __slots__ = ("_clock", "_clock_trusted", "_counts", "_numbers", "appended", "boot", "head", "kept", "memo", "rows")

    def __init__(
        self,
        connection: sqlite3.Connection,
        head: JournalHead,
        clock: EntryClock,
        boot: bytes,
        kept: dict[tuple[str, ...], Any] | None = None,
    ) -> None:
        self.rows = connection
        """The connection as it is: never for the tables `counters` and `number_series`."""
        self.head = head
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}
        self._numbers: dict[str, int] = {}
        self.boot = boot
        self.memo: dict[tuple[str, ...], Any] = {}
        """Rows that many works of one group ask for, true for this moment. Whoever changes such a row clears it."""
        self.kept: dict[tuple[str, ...], Any] = {} if kept is None else kept
        """The same from group to group, for rows that change through this connection only and not with time."""
        self.appended: list[Entry] = []
        """The entries of this transaction, as they will be read from the journal."""
        self._clock = clock
        self._clock_trusted: bool | None = None

    @classmethod
    def for_replay(cls, connection: sqlite3.Connection) -> Tx:
        """A transaction that only projects entries: they bring their own time, so this one has no clock."""
        return cls(connection, JournalHead(), _NoClock(), bytes(16))

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, on which everything of this transaction can be read."""
        if self._counts or self._numbers:
            self.settle()
        return self.rows

    def execute(self, sql: str, params: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self.connection.execute(sql, params)

    def count(self, name: str, currency: str, count: int, total: int) -> None:
        """Add to a running total."""
        before = self._counts.get((name, currency))
        self._counts[name, currency] = (before[0] + count, before[1] + total) if before else (count, total)

    def use_number(self, series: str, counter: int) -> None:
        """Move a number series to `counter`, or leave it where it is further."""
        if counter > self._numbers.get(series, 0):
            self._numbers[series] = counter

    def settle(self) -> None:
        """Write what was collected."""
        counts, self._counts = self._counts, {}
        numbers, self._numbers = self._numbers, {}
        if counts:
            self.rows.executemany(_COUNT, [(*key, *value) for key, value in counts.items()])
        if numbers:
            self.rows.executemany(_USE_NUMBER, [(counter, series) for series, counter in numbers.items()])

    def forget(self) -> None:
        """What was read before may be true no longer; every way back calls it too."""
        self.memo.clear()
        self.kept.clear()

    def _go_back(self, mark: JournalHead) -> None:
        self.forget()
        self._counts.clear()
        self._numbers.clear()
        self.head = mark
        while self.appended and self.appended[-1].seq > mark.seq:
            self.appended.pop()

    def now_us(self) -> int:
        """Wall time, for the entry that is being made."""
        return self._clock.now_us()

    def clock_trusted(self) -> bool:
        """Whether the wall time has a witness; asked once a transaction."""
        if self._clock_trusted is None:
            self._clock_trusted = self._clock.trusted()
        return self._clock_trusted

    def monotonic(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    def mono_ms(self) -> int:
        """Monotonic milliseconds of this boot."""
        return int(self._clock.monotonic() * 1000)

    def begin(self, head: JournalHead) -> None:
        """Start a transaction on `head`."""
        self.head = head
        self.memo.clear()
        self.rows.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make everything durable."""
        assert not self._counts, "settled before the commit, so that a failure is the work's and not the commit's"
        assert not self._numbers, "as above"
        self.rows.execute("COMMIT")

    def rollback(self, first: JournalHead) -> None:
        """Undo the whole transaction, which began on `first`, if an error has not done so already."""
        self._go_back(first)
        if self.rows.in_transaction:
            self.rows.execute("ROLLBACK")

    def savepoint(self) -> JournalHead:
        """Mark this place; give the result to `rollback_to` or `release`."""
        self.connection.execute("SAVEPOINT work")
        return self.head

    def rollback_to(self, mark: JournalHead) -> None:
        """Undo everything since `mark`, the head included."""
        self._go_back(mark)
        self.rows.execute("ROLLBACK TO work")
        self.rows.execute("RELEASE work")

    def release(self, mark: JournalHead) -> None:
        """Keep everything since `mark`."""
        self.connection.execute("RELEASE work")


def read_head(connection: sqlite3.Connection) -> JournalHead:
    """The journal's head as the database has it."""
    row = connection.execute("SELECT head, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    if row is not None:
        head = decode_head(row[0])
        return JournalHead(head.line, head.seq, row[1])
    upto_seq, upto_hash = connection.execute("SELECT upto_seq, upto_hash FROM journal_cut").fetchone()
    line = connection.execute("SELECT line FROM lines ORDER BY opened_seq DESC LIMIT 1").fetchone()
    return JournalHead(line[0] if line else b"", upto_seq, upto_hash)
