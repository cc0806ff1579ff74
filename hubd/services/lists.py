"""What the edges may ask of lists: the values that narrow a list, and reading the journal and the cursors."""

from __future__ import annotations

from msgspec import Struct

from hubd.model.entry import Entry
from hubd.store import cursors, journal, lines
from hubd.store.db import Database
from hubd.store.lines import Line
from hubd.store.orders import OrderFilter as OrderFilter
from hubd.store.outages import OutageFilter as OutageFilter
from hubd.store.payments import PaymentFilter as PaymentFilter
from hubd.store.payments import Total as Total
from hubd.store.payments import totals
from hubd.store.tx import Connection

PAGE_MAX = 200


class Standing(Struct, frozen=True):
    """How far the cloud has confirmed this hub's journal."""

    line: str
    head_seq: int
    head_hash: str
    confirmed_seq: int
    confirmed_at_us: int | None

    @property
    def waiting(self) -> int:
        """Entries that the cloud has not confirmed."""
        return max(0, self.head_seq - self.confirmed_seq)


async def entries_after(db: Database, seq: int, limit: int) -> list[Entry]:
    """Up to `limit` entries with a greater seq, in order."""
    return await db.read("api.journal", lambda c: journal.entries_after(c, seq, min(limit, PAGE_MAX)))


async def entries_of(db: Database, subject: str, limit: int) -> list[Entry]:
    """The history of one thing, oldest first."""
    return await db.read("api.history", lambda c: journal.entries_of(c, subject, min(limit, PAGE_MAX)))


async def all_lines(db: Database) -> list[Line]:
    """Every line of this hub, oldest first."""
    return await db.read("api.lines", lines.all_lines)


async def running_totals(db: Database, prefix: str) -> list[Total]:
    """Running totals whose name begins with `prefix`."""
    return await db.read("api.totals", lambda c: totals(c, prefix))


async def standing(db: Database) -> Standing:
    """How far the cloud has confirmed."""

    def read(connection: Connection) -> tuple[int, int | None]:
        cursor = cursors.get(connection, cursors.CONFIRMED)
        return cursor.seq, cursor.at_us if cursor.seq else None

    seq, at_us = await db.read("api.standing", read)
    head = db.head
    return Standing(head.line.hex(), head.seq, head.hash.hex(), seq, at_us)
