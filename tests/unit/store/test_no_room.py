"""A disk that is found full at the commit: everybody is told, nothing is there, and the store goes on."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from hubd.errors import StoreError
from hubd.model.entry import Entry
from hubd.store import verify
from hubd.store.db import AioSqliteThread, open_database
from hubd.store.tx import Tx
from tests.unit.store import journals
from tests.unit.store.journals import line_opened
from tests.unit.store.test_db import known, sale


class NoRoomAtCommit(sqlite3.Connection):
    """A connection whose next COMMIT finds no room for its frames in the log; SQLite then rolls back, or does not."""

    due = False
    rolls_back = True

    def execute(self, sql: str, params: Any = (), /) -> sqlite3.Cursor:
        if sql == "COMMIT" and NoRoomAtCommit.due:
            NoRoomAtCommit.due = False
            if NoRoomAtCommit.rolls_back:
                super().execute("ROLLBACK")
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return super().execute(sql, params)


class CommitHasNoRoom(AioSqliteThread):
    """A thread with such a connection."""

    opened = 0

    @classmethod
    async def open(cls, path: Path, read_only: bool) -> CommitHasNoRoom:
        cls.opened += not read_only
        return cls(await aiosqlite.connect(path, isolation_level=None, factory=NoRoomAtCommit))


@pytest.mark.parametrize("rolls_back", [True, False])
@pytest.mark.parametrize("apart", [True, False])
async def test_a_commit_without_room_is_certain_to_have_left_nothing(
    tmp_path: Path, rolls_back: bool, apart: bool
) -> None:
    """With a write-ahead log SQLite writes at COMMIT, so a full disk is told there, and not by a statement."""

    def fails(tx: Tx) -> Entry:
        sale(9)(tx)
        raise ValueError("mine alone")

    NoRoomAtCommit.rolls_back, CommitHasNoRoom.opened = rolls_back, 0
    async with open_database(tmp_path / "hub.db", journals.runtime(), CommitHasNoRoom.open) as db:
        await db.write("open", line_opened)
        before = db.head
        NoRoomAtCommit.due = True
        works = [db.write("sale", sale(n)) for n in range(3)]
        if apart:
            works.append(db.write("fails", fails))
        results = await asyncio.gather(*works, return_exceptions=True)
        assert [r.code for r in results if isinstance(r, StoreError)] == ["store.full"] * 3
        assert [str(r) for r in results[3:]] == ["mine alone"] * apart, "who failed anyway hears why"
        assert CommitHasNoRoom.opened == 1, "nothing is unknown, so the connection stays"
        assert (db.head, await known(db)) == (before, [])
        assert db.fresh_after(before.seq, 10) in (None, []), "followers hear of nothing that is not there"
        again = await asyncio.gather(*(db.write("sale", sale(n)) for n in range(3)))
        assert [entry.seq for entry in again] == [before.seq + 1, before.seq + 2, before.seq + 3]
        totals = await db.read("totals", lambda c: c.execute("SELECT max(count) FROM counters").fetchone()[0])
        assert totals == 3, "what the lost group had collected is not counted"
        assert await db.read("check", verify.check_start) == []
