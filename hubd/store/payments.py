"""Payments as rows, with running totals that stay flat however many there are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from operator import itemgetter
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from hubd.model.entry import Entry, Json, decode_head
from hubd.model.money import Money
from hubd.model.payment import (
    CUSTODY_OPEN,
    LATE_REFUSED,
    Custody,
    CustodyEvent,
    ManualStatus,
    Method,
    Mode,
    Payment,
    PaymentEvent,
    PaymentKind,
    PaymentState,
    Tender,
    counter_names,
    next_custody,
    next_state,
)
from hubd.model.statement import JOINED, NEVER_SENT, USES_TERMINAL
from hubd.store import outages
from hubd.store.lines import use_number
from hubd.store.tx import Tx

_FIELDS = Payment.__struct_fields__
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM payments"  # noqa: S608 (names of our own struct)
_INSERT = f"INSERT INTO payments({', '.join(_FIELDS)}) VALUES ({', '.join('?' * len(_FIELDS))})"  # noqa: S608 - names of our own struct
PAGE_MAX = 500
NUMBERS_LOOKED_AT = 20_000
"""Entries from whose payments a start learns the terminals' numbers; one unused for longer tells its number anew."""
ASKED_LOOKED_AT = 5_000
"""Entries among which payments of the last moments before an outage was declared are looked for."""
UNKNOWN_LOOKED_AT = 20_000
"""Entries among which payments that were unknown once are looked for."""

_OPEN = (
    "(state = 'requested' OR state = 'in_progress' OR state = 'unknown' OR state = 'reversal_pending'"
    " OR state = 'conflict')"
)
"""Word for word the condition of the index payments_open: SQLite uses a partial index only where it reads the same.

Not `IN`: for each row that is written, SQLite would build a table of the five words."""


_ENUMERATIONS: tuple[tuple[int, dict[str, Any]], ...] = tuple(
    (_FIELDS.index(name), {one.value: one for one in kind})
    for name, kind in (
        ("kind", PaymentKind),
        ("state", PaymentState),
        ("custody", Custody),
        ("manual", ManualStatus),
        ("decided_on", PaymentState),
        ("before_reversal", PaymentState),
        ("mode", Mode),
        ("tender", Tender),
        ("method", Method),
    )
)
_EVIDENCE = _FIELDS.index("evidence")


def _payment(row: Sequence[Any]) -> Payment:
    values = list(row)
    for at, members in _ENUMERATIONS:
        if values[at] is not None:
            values[at] = members[values[at]]
    values[_EVIDENCE] = json.loads(values[_EVIDENCE])
    return Payment(*values)


def get(connection: sqlite3.Connection, payment_id: str) -> Payment | None:
    """The payment with this id, if the hub knows it."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (payment_id,)).fetchone()
    return _payment(row) if row else None


def known(tx: Tx, payment_id: str) -> Payment | None:
    """The same inside a transaction, where nearly every id is new: looked up in the index alone first."""
    found = tx.rows.execute("SELECT 1 FROM payments WHERE id = ?", (payment_id,)).fetchone()
    return get(tx.rows, payment_id) if found else None


def of_order(connection: sqlite3.Connection, order_id: str) -> list[Payment]:
    """All payments of an order, oldest first."""
    return [_payment(row) for row in connection.execute(f"{_SELECT} WHERE order_id = ? ORDER BY seq", (order_id,))]


def refunds_of(connection: sqlite3.Connection, original_id: str) -> list[Payment]:
    """All refunds of a payment, oldest first."""
    original = get(connection, original_id)
    if original is None:
        return []
    rows = connection.execute(f"{_SELECT} WHERE original_id = ? AND seq > ? ORDER BY seq", (original_id, original.seq))
    return [_payment(row) for row in rows]


def running(connection: sqlite3.Connection) -> list[Payment]:
    """Payments that a terminal is or may be working on: requested, in progress, reversal pending."""
    rows = connection.execute(
        f"{_SELECT} WHERE {_OPEN} AND state IN ('requested', 'in_progress', 'reversal_pending') ORDER BY seq"
    )
    return [_payment(row) for row in rows]


def unknown(connection: sqlite3.Connection) -> list[Payment]:
    """Payments whose outcome nobody knows and nobody has decided, oldest first."""
    return [
        _payment(row)
        for row in connection.execute(f"{_SELECT} WHERE {_OPEN} AND state = 'unknown' AND manual IS NULL ORDER BY seq")
    ]


def in_custody(connection: sqlite3.Connection, *custodies: Custody) -> list[Payment]:
    """Stored payments in any of these custodies, shortest deadline first."""
    marks = ", ".join("?" * len(custodies))
    rows = connection.execute(
        f"{_SELECT} WHERE custody IN ({marks}) AND state = 'stored' ORDER BY deadline_us, seq", custodies
    )
    return [_payment(row) for row in rows]


def in_terminals(connection: sqlite3.Connection) -> list[Payment]:
    """Stored payments whose money still waits for a verdict, shortest deadline first; not what a person has decided."""
    return [payment for payment in in_custody(connection, *CUSTODY_OPEN) if payment.is_open]


def refused_late(connection: sqlite3.Connection, limit: int) -> list[Payment]:
    """What the bank refused afterwards, no person has decided and no other payment has made up for; newest first."""
    marks = ", ".join("?" * len(LATE_REFUSED))
    made_up_for = "SELECT 1 FROM orders WHERE orders.id = payments.order_id AND orders.state = 'paid'"
    rows = connection.execute(
        f"{_SELECT} WHERE custody IN ({marks}) AND state = 'stored'"
        f" AND (manual IS NULL OR decided_on <> state) AND NOT EXISTS ({made_up_for}) ORDER BY seq DESC LIMIT ?",
        (*sorted(LATE_REFUSED), limit),
    )
    return [_payment(row) for row in rows]


def terminal_numbers(connection: sqlite3.Connection) -> dict[str, str]:
    """The number by which each terminal last named itself, by device, from the newest payments."""
    rows = connection.execute(
        "SELECT terminal, json_extract(evidence, '$.terminal_id') AS number FROM payments"
        " WHERE seq > (SELECT coalesce(max(seq), 0) FROM payments) - ? AND terminal IS NOT NULL AND number != ''"
        " ORDER BY seq",
        (NUMBERS_LOOKED_AT,),
    )
    return dict(rows)


def open_ones(connection: sqlite3.Connection) -> list[Payment]:
    """Payments without an outcome, and those whose money is still in a terminal."""
    found = [*running(connection), *unknown(connection), *in_terminals(connection)]
    return [payment for payment in found if payment.is_open]


def undecided(connection: sqlite3.Connection) -> list[Payment]:
    """The same, and those whose two ends contradict each other: all whose money still waits for a word."""
    rows = connection.execute(f"{_SELECT} WHERE {_OPEN} ORDER BY seq")
    return [one for one in [*map(_payment, rows), *in_terminals(connection)] if one.is_open]


def of_outage(connection: sqlite3.Connection, outage_id: str) -> list[Payment]:
    """What was taken in an outage, oldest first."""
    return [_payment(row) for row in connection.execute(f"{_SELECT} WHERE outage = ? ORDER BY seq", (outage_id,))]


def first_offline_us(connection: sqlite3.Connection, outage_id: str, terminal: str | None) -> int | None:
    """When a terminal took its first offline payment in an outage (B03); None if it took none yet."""
    row = connection.execute(
        "SELECT min(requested_at_us) FROM payments WHERE outage = ? AND terminal IS ? AND custody IS NOT NULL",
        (outage_id, terminal),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def has_receipt(connection: sqlite3.Connection, terminal: str, receipt_number: str, not_id: str, since_us: int) -> bool:
    """Whether another payment of this terminal since then carries the terminal's receipt number already."""
    if not receipt_number:
        return False
    row = connection.execute(
        "SELECT 1 FROM payments WHERE terminal = ? AND id <> ? AND requested_at_us >= ?"
        " AND json_extract(evidence, '$.receipt_number') = ? LIMIT 1",
        (terminal, not_id, since_us, receipt_number),
    ).fetchone()
    return row is not None


def has_any_receipt(connection: sqlite3.Connection, terminal: str, not_id: str, since_us: int) -> bool:
    """Whether another payment of this terminal since then carries a receipt number of it."""
    row = connection.execute(
        "SELECT 1 FROM payments WHERE terminal = ? AND id <> ? AND requested_at_us >= ?"
        " AND json_extract(evidence, '$.receipt_number') > '' LIMIT 1",
        (terminal, not_id, since_us),
    ).fetchone()
    return row is not None


def asked_since(tx: Tx, mono_ms: int) -> list[Payment]:
    """Payments that this boot has taken up at or after a monotonic time, oldest first; of the last entries only."""
    rows = tx.connection.execute(
        "SELECT kind, subject, head FROM journal WHERE seq > (SELECT max(seq) FROM journal) - ? ORDER BY seq DESC",
        (ASKED_LOOKED_AT,),
    )
    found: list[str] = []
    for kind, subject, raw in rows:
        head = decode_head(raw)
        if head.boot != tx.boot or head.mono_ms < mono_ms:
            break
        if kind in _CREATED_AS:
            found.append(subject)
    asked = (get(tx.connection, one) for one in reversed(found))
    return [payment for payment in asked if payment is not None]


def settled_by_asking(connection: sqlite3.Connection, since_us: int) -> list[Payment]:
    """Payments since then that were unknown and were found taken, oldest first."""
    rows = connection.execute(
        "SELECT subject FROM journal WHERE kind = 'payment.unknown' AND seq > (SELECT max(seq) FROM journal) - ?"
        " ORDER BY seq",
        (UNKNOWN_LOOKED_AT,),
    )
    found = [get(connection, subject) for (subject,) in rows.fetchall()]
    taken = {PaymentState.APPROVED, PaymentState.STORED}
    return [one for one in found if one is not None and one.state in taken and one.requested_at_us >= since_us]


class PaymentFilter(Struct, frozen=True):
    """What a list may be narrowed by; every field that is None does not narrow."""

    state: PaymentState | None = None
    custody: Custody | None = None
    till: str | None = None
    terminal: str | None = None
    open_only: bool = False
    offline_only: bool = False
    since_us: int | None = None
    until_us: int | None = None
    sold_on: str | None = None
    """Live sales of this business day, taken or not."""
    locations: frozenset[str] | None = None


def page(connection: sqlite3.Connection, narrow: PaymentFilter, before_seq: int | None, limit: int) -> list[Payment]:
    """Newest first, below `before_seq`, at most `limit`."""
    conditions = {
        "seq < ?": before_seq,
        "state = ?": narrow.state,
        "custody = ?": narrow.custody,
        "till = ?": narrow.till,
        "terminal = ?": narrow.terminal,
        "requested_at_us >= ?": narrow.since_us,
        "requested_at_us < ?": narrow.until_us,
        "business_date = ? AND mode = 'live' AND kind = 'sale'": narrow.sold_on,
    }
    clauses = [clause for clause, value in conditions.items() if value is not None]
    values = [value for value in conditions.values() if value is not None]
    if narrow.open_only:
        clauses.append(
            f"seq IN (SELECT seq FROM payments WHERE {_OPEN}"  # noqa: S608 (our own condition)
            " AND (manual IS NULL OR decided_on <> state)"
            " UNION ALL SELECT seq FROM payments WHERE state = 'stored'"
            " AND custody IN ('held', 'forwarding', 'forwarded') AND (manual IS NULL OR decided_on <> state))"
        )
    if narrow.offline_only:
        clauses.append("custody IS NOT NULL")
    if narrow.locations is not None:
        clauses.append(f"location IN ({', '.join('?' * len(narrow.locations))})")
        values += sorted(narrow.locations)
    where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
    rows = connection.execute(f"{_SELECT}{where} ORDER BY seq DESC LIMIT ?", (*values, min(limit, PAGE_MAX)))
    return [_payment(row) for row in rows]


class Total(Struct, frozen=True):
    """Count and sum of one running total in one currency."""

    name: str
    count: int
    total: Money


def totals(connection: sqlite3.Connection, prefix: str = "") -> list[Total]:
    """Running totals whose name begins with `prefix`."""
    rows = connection.execute(
        "SELECT name, currency, count, total FROM counters"
        " WHERE name >= ? AND name < ? AND count > 0 ORDER BY name, currency",
        (prefix, prefix + "\U0010ffff"),
    )
    return [Total(name, count, Money(total, currency)) for name, currency, count, total in rows]


def _count(tx: Tx, payment: Payment, sign: int) -> None:
    names = counter_names(payment)
    if names:
        total = sign * (payment.amount + payment.tip + payment.rounding)
        for name in names:
            tx.count(name, payment.currency, sign, total)


_OPEN_TOTALS = ("running", "unknown", "conflict", "reversal_pending", "held", "forwarding", "forwarded")


def wrong_open_totals(connection: sqlite3.Connection) -> list[str]:
    """Running totals of open money that do not follow from the rows, as sentences. Reads only the open payments."""
    rows = connection.execute(
        f"{_SELECT} WHERE {_OPEN}"
        f" UNION ALL {_SELECT} WHERE custody IN ('held', 'forwarding', 'forwarded') AND state = 'stored'"
    )
    counted: dict[tuple[str, str], tuple[int, int]] = {}
    for payment in map(_payment, rows):
        for name in counter_names(payment):
            if name in _OPEN_TOTALS:
                count, total = counted.get((name, payment.currency), (0, 0))
                counted[name, payment.currency] = (count + 1, total + payment.money.amount_minor)
    marks = ", ".join("?" * len(_OPEN_TOTALS))
    kept = {
        (name, currency): (count, total)
        for name, currency, count, total in connection.execute(
            f"SELECT name, currency, count, total FROM counters WHERE name IN ({marks})"  # noqa: S608 (question marks)
            " AND (count <> 0 OR total <> 0)",
            _OPEN_TOTALS,
        )
    }
    return [
        f"The total {name} in {currency} says {kept.get((name, currency), (0, 0))},"
        f" the payments say {counted.get((name, currency), (0, 0))}."
        for name, currency in sorted(kept.keys() | counted.keys())
        if kept.get((name, currency)) != counted.get((name, currency))
    ]


def _value(value: Any) -> Any:
    """A field as SQLite keeps it; plain texts for our enumerations spare its driver a search for an adapter."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if value else "{}"
    return value


_AT_FIRST = (
    "id, seq, line, hash, last_seq, digest, kind, state, mode, tender, method, amount, tip, rounding, currency, till,"
    " location, business_date, zone, baseline, reason, requested_at_us, updated_at_us"
)
"""What every payment has when it is created; what none has then, the defaults of the table say."""
_OPTIONAL = {
    "order_id": "order",
    "original_id": "original",
    "terminal": "terminal",
    "staff": "staff",
    "outage": "outage",
    "policy_version": "policy_version",
    "series": "series",
    "counter": "counter",
    "deadline_us": "deadline_us",
}
"""Columns that a payment may have when it is created, with their names in the body."""
_optional_of = itemgetter(*_OPTIONAL.values())


@lru_cache(maxsize=512)
def _insertion(*absent: bool) -> str:
    """The statement for a payment without some of the optional columns: a bound NULL costs more than a bound text."""
    more = [f", {column}" for column, gone in zip(_OPTIONAL, absent, strict=True) if not gone]
    marks = ", ".join("?" * (_AT_FIRST.count(",") + 1 + len(more)))
    return f"INSERT INTO payments({_AT_FIRST}{''.join(more)}) VALUES ({marks})"  # noqa: S608 (our own names)


def _insert(tx: Tx, entry: Entry, body: dict[str, Json], payment: Payment) -> None:
    """From the body, whose texts are plain, and with bytearrays: SQLite's driver binds those without an adapter."""
    optional = _optional_of(body)
    values = [
        payment.id,
        payment.seq,
        bytearray(payment.line),
        bytearray(payment.hash),
        payment.seq,
        bytearray(payment.digest),
        body["kind"],
        payment.state._value_,
        body["mode"],
        body["tender"],
        body["method"],
        payment.amount,
        payment.tip,
        payment.rounding,
        payment.currency,
        payment.till,
        payment.location,
        payment.business_date,
        payment.zone,
        payment.baseline,
        payment.reason,
        payment.requested_at_us,
        payment.updated_at_us,
        *[value for value in optional if value is not None],
    ]
    tx.rows.execute(_insertion(*[value is None for value in optional]), values)
    _count(tx, payment, +1)
    use_number(tx, payment.series, payment.counter)


def _update(tx: Tx, before: Payment, after: Payment) -> None:
    changed = [name for name in _FIELDS if getattr(before, name) != getattr(after, name)]
    tx.rows.execute(
        f"UPDATE payments SET {', '.join(name + ' = ?' for name in changed)} WHERE id = ?",  # noqa: S608 (own names)
        [*(_value(getattr(after, name)) for name in changed), after.id],
    )
    if counter_names(before) != counter_names(after) or before.money != after.money:
        _count(tx, before, -1)
        _count(tx, after, +1)
    if (before.series, before.counter) != (after.series, after.counter):
        use_number(tx, after.series, after.counter)


_CREATED_AS = {
    "payment.requested": PaymentState.REQUESTED,
    "payment.recorded": PaymentState.APPROVED,
    "payment.refused": PaymentState.REFUSED,
    "payment.announced": PaymentState.UNKNOWN,
}


_JUST_CREATED = ("payment", "just created")


def created(tx: Tx, entry: Entry) -> Payment:
    """The payment that `entry`, the last one appended in this transaction, has begun; as its row is, and not read."""
    payment = tx.memo[_JUST_CREATED]
    assert isinstance(payment, Payment), "only payments are kept under this name"
    assert payment.seq == entry.seq, "asked after a later payment was begun"
    return payment


_KINDS = {one.value: one for one in PaymentKind}
_MODES = {one.value: one for one in Mode}
_TENDERS = {one.value: one for one in Tender}
_METHODS = {one.value: one for one in Method}


def _payment_of(entry: Entry, body: dict[str, Json]) -> Payment:
    head = entry.head
    seq, at_us = head.seq, head.at_us
    return Payment(  # by place, in the order of its fields: by name, these would cost twenty times as much
        head.subject,
        seq,
        head.line,
        entry.hash,
        seq,  # last_seq
        bytes.fromhex(body["digest"]),
        _KINDS[body["kind"]],
        _CREATED_AS[head.kind],
        None,  # custody
        None,  # manual
        None,  # decided_on
        None,  # before_reversal
        _MODES[body["mode"]],
        _TENDERS[body["tender"]],
        _METHODS[body["method"]],
        body["amount"],
        body["tip"],
        body["rounding"],
        body["currency"],
        body["order"],
        body["original"],
        body["device"],  # till
        body["terminal"],
        body["staff"],
        body["location"],
        body["business_date"],
        body["zone"],
        body["outage"],
        body["policy_version"],
        body["series"],
        body["counter"],
        body["baseline"],
        body["reason"],
        {},  # evidence
        None,  # receipt_document
        body["deadline_us"],
        at_us,  # requested
        at_us,  # updated
    )


def _note_terminal(tx: Tx, entry: Entry, payment: Payment) -> None:
    """A live payment of an outage that went to a terminal: that terminal must be heard when the outage is over."""
    if payment.outage and payment.terminal and payment.mode is Mode.LIVE and entry.kind in USES_TERMINAL:
        outages.note_use(tx, entry, payment.outage, payment.terminal)


def _created(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    payment = _payment_of(entry, body)
    _insert(tx, entry, body, payment)
    tx.memo[_JUST_CREATED] = payment


def _moved(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    before = get(tx.rows, entry.head.subject)
    assert before is not None, f"{entry.kind} of a payment that has no row"
    event = PaymentEvent(entry.kind.partition(".")[2])
    state = next_state(before.state, event, before.before_reversal)
    after = replace(
        before,
        last_seq=entry.seq,
        updated_at_us=entry.head.at_us,
        state=state,
        reason=body.get("reason", ""),
        outage=body.get("outage", before.outage),
        policy_version=body.get("policy_version", before.policy_version),
        terminal=body.get("terminal", before.terminal),
        series=body.get("series", before.series),
        counter=body.get("counter", before.counter),
        baseline=body.get("baseline", before.baseline),
        evidence=body.get("evidence") or before.evidence,
        deadline_us=body.get("deadline_us", before.deadline_us),
    )
    if event is PaymentEvent.STORED:
        after = replace(after, custody=Custody.HELD)
    elif event is PaymentEvent.REVERSAL_REQUESTED:
        after = replace(after, before_reversal=before.state)
    elif event in {PaymentEvent.REVERSED, PaymentEvent.REVERSAL_FAILED}:
        after = replace(after, before_reversal=None)
    if entry.head.documents:
        after = replace(after, receipt_document=entry.head.documents[0].id)
    _update(tx, before, after)
    _note_terminal(tx, entry, after)


def _custody_moved(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    before = get(tx.rows, entry.head.subject)
    assert before is not None, f"{entry.kind} of a payment that has no row"
    assert before.custody is not None, f"{entry.kind} of a payment that nobody holds"
    custody = next_custody(before.custody, CustodyEvent(entry.kind.partition(".")[2]))
    after = replace(
        before,
        last_seq=entry.seq,
        updated_at_us=entry.head.at_us,
        custody=custody,
        reason=body.get("reason", ""),
        outage=body.get("outage") or before.outage,
    )
    _update(tx, before, after)
    _note_terminal(tx, entry, after)


def _resolved(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    before = get(tx.rows, entry.head.subject)
    assert before is not None, "payment.resolved of a payment that has no row"
    after = replace(
        before,
        last_seq=entry.seq,
        updated_at_us=entry.head.at_us,
        manual=ManualStatus(body["manual"]),
        decided_on=before.state,
    )
    _update(tx, before, after)


def _joined_outage(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    before = get(tx.rows, entry.head.subject)
    assert before is not None, f"{entry.kind} of a payment that has no row"
    after = replace(before, last_seq=entry.seq, updated_at_us=entry.head.at_us, outage=body["outage"])
    _update(tx, before, after)
    if after.terminal and after.mode is Mode.LIVE and after.state not in NEVER_SENT:
        outages.note_use(tx, entry, body["outage"], after.terminal)


PROJECTORS = {
    **dict.fromkeys(_CREATED_AS, _created),
    **{f"payment.{event}": _moved for event in PaymentEvent},
    **{f"payment.{event}": _custody_moved for event in CustodyEvent},
    "payment.resolved": _resolved,
    JOINED: _joined_outage,
}
