"""How far each terminal is, who stands behind it, and what it is said to need, as rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hubd.model.device import DeviceKind
from hubd.model.entry import Entry, Json
from hubd.model.money import Money
from hubd.model.payment import Payment
from hubd.model.terminal_life import LifeStep, Needs
from hubd.store import devices, payments
from hubd.store.payments import PaymentFilter
from hubd.store.tx import Tx


class Life(Struct, frozen=True):
    """One terminal's life as the journal tells it."""

    device: str
    step: LifeStep
    admin: str
    """The person who is logged in on it; empty when nobody is, or when it came into use before this was noted."""
    named_seq: int
    """The entry that gave it its name; 0 when it came into use before this was noted."""
    after: str
    """The device that bore the name before and was taken out of use."""
    model: str
    providers: tuple[str, ...]
    fetched: tuple[str, ...]
    """Providers whose parameters were fetched since they were last said to be needed."""
    default_password: bool | None
    """Whether its menu still has the password of the vendor's manual, as a person says; None when nobody has said."""
    software: str
    needs: Needs
    closed_seq: int
    """The entry of its last end of day that went through."""
    totals_differ: bool

    @property
    def left(self) -> tuple[str, ...]:
        """Providers whose parameters are still to be fetched."""
        if self.needs is not Needs.PARAMETER_SESSION:
            return ()
        return tuple(one for one in self.providers if one not in self.fetched)


_FIELDS = Life.__struct_fields__
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM terminal_life"  # noqa: S608 (names of our own struct)


def _life(row: Sequence[Any]) -> Life:
    value = dict(zip(_FIELDS, row, strict=True))
    value["step"], value["needs"] = LifeStep(value["step"]), Needs(value["needs"])
    for name in ("providers", "fetched"):
        value[name] = tuple(json.loads(value[name]))
    if value["default_password"] is not None:
        value["default_password"] = bool(value["default_password"])
    value["totals_differ"] = bool(value["totals_differ"])
    return Life(**value)


def get(connection: sqlite3.Connection, device: devices.Device) -> Life:
    """The life of a device; of one that was in use before steps were noted, what follows from that."""
    row = connection.execute(f"{_SELECT} WHERE device = ?", (device.id,)).fetchone()
    if row is not None:
        return _life(row)
    step = LifeStep.ACTIVE if device.active else LifeStep.DISCOVERED
    return Life(device.id, step, "", 0, "", "", (), (), None, "", Needs.NOTHING, 0, False)


def all_lives(connection: sqlite3.Connection) -> dict[str, Life]:
    """The life of every terminal, by id."""
    return {one.id: get(connection, one) for one in devices.all_devices(connection, DeviceKind.TERMINAL)}


def logged_in(connection: sqlite3.Connection, staff_id: str) -> list[devices.Device]:
    """Terminals on which this person is logged in. One that does not answer counts until it is taken out of use."""
    rows = connection.execute("SELECT device FROM terminal_life WHERE admin = ? AND admin <> ''", (staff_id,))
    found = [devices.get(connection, device) for (device,) in rows.fetchall()]
    return [device for device in found if device is not None and not device.removed]


def bearer(connection: sqlite3.Connection, name: str, not_id: str) -> devices.Device | None:
    """The terminal in use that bears this name, other than one."""
    found = devices.all_devices(connection, DeviceKind.TERMINAL)
    return next((one for one in found if one.active and one.name == name and one.id != not_id), None)


def former_bearer(connection: sqlite3.Connection, name: str, not_id: str) -> str:
    """The terminal out of use that last bore this name; empty when there is none."""
    found = [
        get(connection, one)
        for one in devices.all_devices(connection, DeviceKind.TERMINAL)
        if not one.active and one.name == name and one.id != not_id
    ]
    return max(found, key=lambda one: one.named_seq).device if found else ""


def _taken_under_its_name(connection: sqlite3.Connection, life: Life, limit: int) -> list[Payment]:
    found = payments.page(connection, PaymentFilter(terminal=life.device), None, limit)
    return [one for one in found if one.seq >= life.named_seq]


def history(connection: sqlite3.Connection, device: devices.Device, limit: int) -> list[Payment]:
    """Payments taken under the name that a terminal bears now, by it and by those that bore it before; newest first.

    Each keeps the id of the device that took it.
    """
    found: list[Payment] = []
    seen: set[str] = set()
    now: devices.Device | None = device
    while now is not None and now.id not in seen:
        life = get(connection, now)
        found += _taken_under_its_name(connection, life, limit)
        seen.add(now.id)
        now = devices.get(connection, life.after) if life.after else None
    return sorted(found, key=lambda one: one.seq, reverse=True)[:limit]


def taken_since(connection: sqlite3.Connection, terminal: str, since_seq: int) -> tuple[list[payments.Total], int]:
    """Sums by currency of what a terminal took since an entry and was not undone, and how many it has undone of before.

    What the bank refused later was taken all the same: the terminal has counted it.
    """
    rows = connection.execute(
        "SELECT currency, count(*), sum(amount + tip + rounding) FROM payments"
        " WHERE terminal = ? AND seq > ? AND kind = 'sale' AND state IN ('approved', 'stored')"
        " GROUP BY currency ORDER BY currency",
        (terminal, since_seq),
    ).fetchall()
    (undone,) = connection.execute(
        "SELECT count(*) FROM journal JOIN payments ON payments.id = journal.subject"
        " WHERE journal.seq > ? AND journal.kind = 'payment.reversed' AND payments.seq <= ? AND payments.terminal = ?",
        (since_seq, since_seq, terminal),
    ).fetchone()
    return [payments.Total("terminal", count, Money(total, currency)) for currency, count, total in rows], int(undone)


def batch_since(connection: sqlite3.Connection, device_id: str) -> int:
    """The entry by which a terminal's running batch began: its last end of day that went through; 0 for none."""
    device = devices.get(connection, device_id)
    if device is not None and (seq := get(connection, device).closed_seq):
        return seq
    (last,) = connection.execute(
        "SELECT max(seq) FROM journal WHERE kind = 'end_of_day.closed' AND subject = ?", (device_id,)
    ).fetchone()
    return int(last or 0)


def _set(tx: Tx, device: str | None, **values: Json) -> None:
    """Bring a row up to date, made with its first step if it is not there."""
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    updates = ", ".join(f"{name} = excluded.{name}" for name in values)
    step = "" if "step" in values else ", step"
    first = "" if "step" in values else f", '{LifeStep.ACTIVE}'"  # it was in use before steps were noted
    tx.execute(
        f"INSERT INTO terminal_life(device, {names}{step}) VALUES (?, {marks}{first})"  # noqa: S608 (own names)
        f" ON CONFLICT (device) DO UPDATE SET {updates}",
        (device, *values.values()),
    )


def _signed_in(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    _set(tx, entry.head.subject, step=LifeStep.CLAIMED, admin=body["staff"])


def _located(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    """A first location is a step; another one later is a move."""
    tx.execute("UPDATE devices SET location = ? WHERE id = ?", (body["location"], entry.head.subject))
    if body["step"]:
        _set(tx, entry.head.subject, step=LifeStep.LOCATED)


def _named(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    """With its first name its driver begins to run; another one later is a change of name."""
    tx.execute("UPDATE devices SET name = ? WHERE id = ?", (body["name"], entry.head.subject))
    if body["step"]:
        tx.execute("UPDATE devices SET active = 1 WHERE id = ?", (entry.head.subject,))
        _set(tx, entry.head.subject, step=LifeStep.NAMED)
    _set(tx, entry.head.subject, named_seq=entry.seq, after=body["after"])


def _synced(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    _set(tx, entry.head.subject, step=LifeStep.SYNCED, software=body["software"])


def _declared(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    _set(
        tx,
        entry.head.subject,
        model=body["model"],
        providers=json.dumps(body["providers"]),
        default_password=None if body["default_password"] is None else int(body["default_password"]),
    )


def _needs(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    _set(tx, entry.head.subject, needs=body["needs"], fetched="[]")


def _fetched(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    _set(tx, entry.head.subject, needs=body["needs"], fetched=json.dumps(body["fetched"]))


def _tms_contacted(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    _set(tx, entry.head.subject, needs=body["needs"], software=body["after"])


def _compared(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    _set(tx, entry.head.subject, closed_seq=body["started_seq"], totals_differ=int(body["differs"]))


PROJECTORS = {
    "device.signed_in": _signed_in,
    "device.located": _located,
    "device.named": _named,
    "device.synced": _synced,
    "device.declared": _declared,
    "device.needs": _needs,
    "device.parameters_fetched": _fetched,
    "device.tms_contacted": _tms_contacted,
    "end_of_day.compared": _compared,
}
