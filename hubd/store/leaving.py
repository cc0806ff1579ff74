"""What would be lost with a store: one rule for restoring over it and for taking its hub out of service (promise 5)."""

from __future__ import annotations

import sqlite3

from msgspec import Struct

from hubd.model.payment import Payment
from hubd.store import cursors, outages, payments
from hubd.store.cursors import Cursor
from hubd.store.tx import JournalHead, read_head


class Unconfirmed(Struct, frozen=True):
    """Entries that nobody but this hub holds for certain."""

    head: JournalHead
    confirmed: Cursor
    payments: int
    """How many payments they are about."""

    @property
    def entries(self) -> int:
        """How many they are."""
        return self.head.seq - self.confirmed.seq


class InTheWay(Struct, frozen=True):
    """Why the hub must stay; nothing of it all: it may go."""

    unconfirmed: Unconfirmed | None
    enrolled: bool
    """Whether there is a cloud that could confirm anything."""
    undecided: tuple[Payment, ...]
    """Payments whose outcome nobody knows, or whose money waits for a word, in a terminal or on its way."""
    unheard: tuple[str, ...]
    """Terminals that were used in an outage and have not answered since: they may hold what nobody knows of."""


def unconfirmed(connection: sqlite3.Connection) -> Unconfirmed | None:
    """What the cloud has not confirmed; None if it has confirmed everything."""
    head, confirmed = read_head(connection), cursors.get(connection, cursors.CONFIRMED)
    if head.seq <= confirmed.seq:
        return None
    (count,) = connection.execute("SELECT count(*) FROM payments WHERE last_seq > ?", (confirmed.seq,)).fetchone()
    return Unconfirmed(head, confirmed, count)


def in_the_way(connection: sqlite3.Connection) -> InTheWay:
    """Everything that would be lost, or that nobody could find out any more, without this hub."""
    return InTheWay(
        unconfirmed(connection),
        connection.execute("SELECT 1 FROM enrolment").fetchone() is not None,
        tuple(payments.undecided(connection)),
        tuple(sorted({one.terminal for one in outages.unheard(connection)})),
    )
