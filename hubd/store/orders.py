"""Orders as rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hubd.model.entry import Entry, Json
from hubd.model.order import PAID_TWICE, Order, OrderEvent, OrderLine, OrderState, next_order_state
from hubd.store.lines import use_number
from hubd.store.tx import Tx

_FIELDS = Order.__struct_fields__
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM orders"  # noqa: S608 (names of our own struct)
PAGE_MAX = 500
_PAID_TWICE_TOTAL = "orders.paid_twice"
"""The running total that counts them, so that a look at a shop without any reads no orders."""


def line_from_body(body: dict[str, Json]) -> OrderLine:
    """Read a line as an entry or a row carries it."""
    return OrderLine(
        article_id=body["article"],
        name=body["name"],
        quantity_thousandths=body["quantity"],
        unit=body["unit"],
        tax_rate=body["tax_rate"],
        gross=body["gross"],
        net=body["net"],
        discount=body["discount"],
    )


def _order(row: Sequence[Any]) -> Order:
    value = dict(zip(_FIELDS, row, strict=True))
    value["state"] = OrderState(value["state"])
    value["lines"] = tuple(line_from_body(line) for line in json.loads(value["lines"]))
    return Order(**value)


def get(connection: sqlite3.Connection, order_id: str) -> Order | None:
    """The order with this id, if the hub knows it."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (order_id,)).fetchone()
    return _order(row) if row else None


class OrderFilter(Struct, frozen=True):
    """What a list may be narrowed by; every field that is None does not narrow."""

    state: OrderState | None = None
    till: str | None = None
    since_us: int | None = None
    until_us: int | None = None


def page(
    connection: sqlite3.Connection,
    narrow: OrderFilter,
    before_seq: int | None,
    limit: int,
    locations: frozenset[str] | None,
) -> list[Order]:
    """Newest first, below `before_seq`, at most `limit`; of these locations, or of all."""
    conditions: dict[str, str | int | None] = {
        "seq < ?": before_seq,
        "state = ?": narrow.state,
        "till = ?": narrow.till,
        "placed_at_us >= ?": narrow.since_us,
        "placed_at_us < ?": narrow.until_us,
    }
    clauses = [clause for clause, value in conditions.items() if value is not None]
    values = [value for value in conditions.values() if value is not None]
    if locations is not None:
        clauses.append(f"location IN ({', '.join('?' * len(locations))})")
        values += sorted(locations)
    where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
    rows = connection.execute(f"{_SELECT}{where} ORDER BY seq DESC LIMIT ?", (*values, min(limit, PAGE_MAX)))
    return [_order(row) for row in rows]


def paid_twice(connection: sqlite3.Connection) -> list[Order]:
    """Orders for which more was taken than they cost, newest first. Reads back to the oldest of them."""
    (count,) = connection.execute("SELECT sum(count) FROM counters WHERE name = ?", (_PAID_TWICE_TOTAL,)).fetchone()
    if not count:
        return []
    rows = connection.execute(f"{_SELECT} WHERE reason = ? ORDER BY seq DESC LIMIT ?", (PAID_TWICE, count))
    return [_order(row) for row in rows]


def _placed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    values = {
        "id": entry.head.subject,
        "seq": entry.seq,
        "line": entry.line,
        "hash": entry.hash,
        "last_seq": entry.seq,
        "digest": bytes.fromhex(body["digest"]),
        "state": OrderState.PLACED_LOCAL,
        "series": body["series"],
        "counter": body["counter"],
        "total": body["amount"],
        "currency": body["currency"],
        "lines": json.dumps(body["lines"], sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        "till": body["device"],
        "staff": body["staff"],
        "location": body["location"],
        "business_date": body["business_date"],
        "zone": body["zone"],
        "reason": "",
        "placed_at_us": entry.head.at_us,
        "updated_at_us": entry.head.at_us,
    }
    marks = ", ".join("?" * len(values))
    tx.execute(
        f"INSERT INTO orders({', '.join(values)}) VALUES ({marks})",  # noqa: S608 (own names)
        list(values.values()),
    )
    use_number(tx, body["series"], body["counter"])


def _moved(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    before = get(tx.connection, entry.head.subject)
    assert before is not None, f"{entry.kind} of an order that has no row"
    state = next_order_state(before.state, OrderEvent(entry.kind.partition(".")[2]))
    reason = body.get("reason", "")
    if PAID_TWICE in {before.reason, reason} and before.reason != reason:
        tx.count(_PAID_TWICE_TOTAL, before.currency, +1 if reason == PAID_TWICE else -1, 0)
    tx.execute(
        "UPDATE orders SET state = ?, reason = ?, last_seq = ?, updated_at_us = ? WHERE id = ?",
        (state, reason, entry.seq, entry.head.at_us, before.id),
    )


PROJECTORS = {"order.placed": _placed, **{f"order.{event}": _moved for event in OrderEvent}}
