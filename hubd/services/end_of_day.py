"""What a terminal counted beside what the hub knows of it: the rows of an end of day (domain D, design 7)."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from hubd.model.entry import Draft, Json
from hubd.ports import TerminalTotals
from hubd.services.access import Caller
from hubd.store import journal, terminal_life
from hubd.store.tx import Tx


class Match(StrEnum):
    """How the sides of a row stand to each other."""

    EQUAL = "equal"
    DIFFERENT = "different"
    NOT_KNOWN = "not_known"
    """A side did not tell, or counts something that the other cannot see."""


class Row(Struct, frozen=True):
    """One number by three counts; None where a side did not tell it. Sums are in minor units of `currency`."""

    what: str
    """`count` or `total`."""
    currency: str
    terminal: int | None
    hub: int
    cloud: int | None
    """What the acquirer settled; None until a settlement is known, which no end of day waits for."""
    result: Match


class ClosedDay(TerminalTotals, frozen=True):
    """A batch that the terminal has closed, with the comparison."""

    rows: tuple[Row, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether any row says so."""
        return any(row.result is Match.DIFFERENT for row in self.rows)


def note_comparison(tx: Tx, device_id: str, started_seq: int, totals: TerminalTotals, caller: Caller) -> ClosedDay:
    """Compare what the terminal has closed with its payments since the last time, and write the rows down."""
    since = terminal_life.batch_since(tx.connection, device_id)
    taken, undone_before = terminal_life.taken_since(tx.connection, device_id, since)
    currency = totals.total.currency if totals.total else taken[0].total.currency if taken else ""
    others = any(one.total.currency != currency for one in taken)
    told = [
        ("count", totals.count, sum(one.count for one in taken)),
        (
            "total",
            totals.total.amount_minor if totals.total else None,
            sum(one.total.amount_minor for one in taken if one.total.currency == currency),
        ),
    ]
    blurred = bool(undone_before) or others
    rows = tuple(Row(what, currency, said, own, None, _match(said, own, blurred)) for what, said, own in told)
    closed = ClosedDay(totals.count, totals.total, totals.stored_count, totals.lines, rows)
    body: dict[str, Json] = {
        "started_seq": started_seq,
        "undone_before": undone_before,
        "differs": closed.differs,
        "rows": [
            {"what": one.what, "currency": one.currency, "terminal": one.terminal, "hub": one.hub, "cloud": one.cloud,
             "result": one.result.value}
            for one in rows
        ],
    }  # fmt: skip
    journal.append(tx, Draft("end_of_day.compared", device_id, caller.actor, body))
    return closed


def _match(terminal: int | None, hub: int, blurred: bool) -> Match:
    """A payment of an earlier batch that was undone since counts at some terminals and not at others."""
    if terminal is None or blurred:
        return Match.NOT_KNOWN
    return Match.EQUAL if terminal == hub else Match.DIFFERENT
