"""Devices that people have paired, claimed and activated: tills, viewers, terminals. What they report is not stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hubd.model.device import DeviceKind
from hubd.model.entry import Entry, Json
from hubd.model.terminal_life import LifeStep
from hubd.store.tx import Tx


class Device(Struct, frozen=True):
    """A device of the store as the journal knows it."""

    id: str
    seq: int
    kind: DeviceKind
    name: str
    location: str
    driver: str
    device_class: str
    """Which outage policy counts for it: `reader` (Square Reader, Stand), `terminal` (Register, Terminal), …"""
    address: str
    identity: str
    role: str
    active: bool
    token_sha256: bytes | None
    public_key: bytes | None
    origin: str
    language: str
    paired_by: str
    removed: bool
    replaced_by: str = ""
    """The device that took its place; empty while it has its own."""
    leaving: bool = False
    """Its place is taken, and money may still be in it: it takes no payments, and its driver runs until that is out."""
    settings_of: str = ""
    """The address under which the configuration has settings for its place; empty: under its own."""

    @property
    def runs(self) -> bool:
        """Whether its driver is to run."""
        return bool(self.driver) and not self.removed and (self.active or self.leaving)


_FIELDS = Device.__struct_fields__
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM devices"  # noqa: S608 (names of our own struct)


def _device(row: Sequence[Any]) -> Device:
    value = dict(zip(_FIELDS, row, strict=True))
    value["kind"] = DeviceKind(value["kind"])
    for flag in ("active", "removed", "leaving"):
        value[flag] = bool(value[flag])
    return Device(**value)


def get(connection: sqlite3.Connection, device_id: str) -> Device | None:
    """The device with this id, removed ones included."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (device_id,)).fetchone()
    return _device(row) if row else None


def by_token(connection: sqlite3.Connection, token_sha256: bytes) -> Device | None:
    """The device whose credential has this digest, unless it was removed."""
    row = connection.execute(f"{_SELECT} WHERE token_sha256 = ? AND removed = 0", (token_sha256,)).fetchone()
    return _device(row) if row else None


def all_devices(connection: sqlite3.Connection, kind: DeviceKind | None = None) -> list[Device]:
    """Every device that was not removed, oldest first."""
    rows = connection.execute(f"{_SELECT} WHERE removed = 0 AND (? IS NULL OR kind = ?) ORDER BY seq", (kind, kind))
    return [_device(row) for row in rows]


def successor(connection: sqlite3.Connection, device_id: str) -> str:
    """The device that has the place of this one now; "" when nobody has taken it."""
    found = _chain(connection, device_id, "SELECT replaced_by FROM devices WHERE id = ?")
    return found[-1] if found else ""


def predecessors(connection: sqlite3.Connection, device_id: str) -> tuple[str, ...]:
    """The devices whose place this one has, directly or not, newest first."""
    return tuple(_chain(connection, device_id, "SELECT id FROM devices WHERE replaced_by = ? ORDER BY seq DESC"))


def _chain(connection: sqlite3.Connection, device_id: str, next_ones: str) -> list[str]:
    found, wanted = [], [device_id]
    while wanted:
        for (other,) in connection.execute(next_ones, (wanted.pop(),)):
            if other and other != device_id and other not in found:
                found.append(other)
                wanted.append(other)
    return found


def never_activated(connection: sqlite3.Connection) -> list[Device]:
    """Terminals that were found and that nobody has led into use yet; one taken out of use is not among them."""
    rows = connection.execute(
        f"{_SELECT} WHERE removed = 0 AND active = 0 AND kind = ? AND NOT EXISTS"  # noqa: S608 (see _SELECT)
        " (SELECT 1 FROM journal WHERE subject = devices.id AND kind IN ('device.named', 'device.activated'))"
        " ORDER BY devices.seq",
        (DeviceKind.TERMINAL,),
    )
    return [_device(row) for row in rows]


def _paired(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    """A till or a viewer, let in by a person."""
    tx.execute(
        "INSERT INTO devices(id, seq, kind, name, location, active, token_sha256, public_key, origin, language,"
        " paired_by)"
        " VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)",
        (
            entry.head.subject,
            entry.seq,
            body["kind"],
            body["name"],
            body["location"],
            bytes.fromhex(body["token_sha256"]) if body.get("token_sha256") else None,
            bytes.fromhex(body["public_key"]) if body.get("public_key") else None,
            body.get("origin", ""),
            body.get("language", "en"),
            entry.head.actor,
        ),
    )


def _claimed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    """A terminal or another attached device, proposed by discovery or configuration; not usable before activation."""
    tx.execute(
        "INSERT INTO devices(id, seq, kind, name, location, driver, device_class, address, identity, role, active)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        (
            entry.head.subject,
            entry.seq,
            body["kind"],
            body["name"],
            body["location"],
            body["driver"],
            body["device_class"],
            body["address"],
            body["identity"],
            body["role"],
        ),
    )


def _activated(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute("UPDATE devices SET active = 1, replaced_by = '', leaving = 0 WHERE id = ?", (entry.head.subject,))
    tx.execute("UPDATE terminal_life SET step = ? WHERE device = ?", (LifeStep.ACTIVE, entry.head.subject))


def out_of_use(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    """It takes no payments any more, and nobody is logged in on it."""
    tx.execute("UPDATE devices SET active = 0 WHERE id = ?", (entry.head.subject,))
    tx.execute(
        "UPDATE terminal_life SET step = ?, admin = '' WHERE device = ?", (LifeStep.DISCOVERED, entry.head.subject)
    )


def _assigned(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "UPDATE devices SET role = ?, name = ?, address = ? WHERE id = ?",
        (body["role"], body["name"], body["address"], entry.head.subject),
    )


def _replaced(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    """The place goes over to the device `by`, which may be one that was here before."""
    tx.execute(
        "UPDATE devices SET active = 0, role = '', replaced_by = ?, leaving = ? WHERE id = ?",
        (body["by"], int(bool(body["leaving"])), entry.head.subject),
    )
    # Its name went over with the place; used again, it begins anew and under another one.
    tx.execute(
        "UPDATE terminal_life SET step = ?, admin = '', named_seq = 0 WHERE device = ?",
        (LifeStep.DISCOVERED, entry.head.subject),
    )
    tx.execute(
        "UPDATE devices SET name = ?, role = ?, location = ?, settings_of = ?, replaced_by = '', leaving = 0"
        " WHERE id = ?",
        (body["name"], body["role"], body["location"], body["settings_of"], body["by"]),
    )


def _closed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    """A device whose place is taken has left: nothing is in it any more, or a person has said why not to wait."""
    tx.execute("UPDATE devices SET leaving = 0 WHERE id = ?", (entry.head.subject,))


def _removed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute("UPDATE devices SET removed = 1, active = 0 WHERE id = ?", (entry.head.subject,))


PROJECTORS = {
    "device.paired": _paired,
    "device.claimed": _claimed,
    "device.activated": _activated,
    "device.deactivated": out_of_use,
    "device.signed_out": out_of_use,
    "device.assigned": _assigned,
    "device.removed": _removed,
    "device.replaced": _replaced,
    "device.closed": _closed,
}
