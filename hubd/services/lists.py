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
LOOKED_AT_MAX = 5_000
"""Entries of the journal that one request looks at; there is no index by device or time."""


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


class JournalFilter(Struct, frozen=True):
    """What the journal may be narrowed by; every field that is empty does not narrow."""

    kind: str = ""
    """How the kind begins."""
    device: str = ""
    """The device that was acting, or that the entry is about."""
    since_us: int | None = None
    until_us: int | None = None

    def lets(self, entry: Entry) -> bool:
        """Whether an entry is wanted."""
        head = entry.head
        return (
            head.kind.startswith(self.kind)
            and (not self.device or self.device in {head.actor.removeprefix("device:"), head.subject})
            and (self.since_us is None or head.at_us >= self.since_us)
            and (self.until_us is None or head.at_us < self.until_us)
        )


async def entries_like(db: Database, narrow: JournalFilter, seq: int, limit: int) -> tuple[list[Entry], int]:
    """Up to `limit` wanted entries behind `seq`, and the place from which to go on, 0 at the head.

    Looks at `LOOKED_AT_MAX` entries at most, so a page may have fewer, or none, long before the head.
    """

    def read(connection: Connection) -> tuple[list[Entry], int]:
        found: list[Entry] = []
        at, end = seq, seq + LOOKED_AT_MAX
        while at < end:
            looked = journal.entries_after(connection, at, PAGE_MAX)
            for entry in looked:
                at = entry.seq
                if narrow.lets(entry):
                    found.append(entry)
                    if len(found) == limit:
                        return found, at
            if len(looked) < PAGE_MAX:
                return found, 0
        return found, at

    return await db.read("api.journal", read)


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
