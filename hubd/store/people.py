"""Staff, their grants per location, and the locations. Names and PIN verifiers are documents, never in entries."""

from __future__ import annotations

import sqlite3

from msgspec import Struct

from hubd.model.entry import Entry, Json
from hubd.store.tx import Tx


class StaffMember(Struct, frozen=True):
    """A person who may act. `name_document` and `pin_document` lead to the documents."""

    id: str
    name_document: bytes
    pin_document: bytes
    language: str
    active: bool


class SecondFactor(Struct, frozen=True):
    """Of one person: the document with the secret, and which recovery codes are used, a bit each."""

    document: bytes
    used: int


class Location(Struct, frozen=True):
    """A place where the store sells, with its calendar."""

    id: str
    name: str
    zone: str
    currency: str
    country: str


def staff(connection: sqlite3.Connection, staff_id: str) -> StaffMember | None:
    """The person with this id."""
    row = connection.execute(
        "SELECT id, name_document, pin_document, language, active FROM staff WHERE id = ?", (staff_id,)
    ).fetchone()
    return StaffMember(row[0], row[1], row[2], row[3], bool(row[4])) if row else None


def all_staff(connection: sqlite3.Connection) -> list[StaffMember]:
    """Everybody who is active, oldest first."""
    rows = connection.execute(
        "SELECT id, name_document, pin_document, language, active FROM staff WHERE active = 1 ORDER BY seq"
    )
    return [StaffMember(row[0], row[1], row[2], row[3], bool(row[4])) for row in rows]


def second_factor(connection: sqlite3.Connection, staff_id: str) -> SecondFactor | None:
    """A person's second factor."""
    row = connection.execute("SELECT document, used FROM second_factors WHERE staff = ?", (staff_id,)).fetchone()
    return SecondFactor(*row) if row else None


def is_second_factor(connection: sqlite3.Connection, document_id: bytes) -> bool:
    """Whether a document is somebody's second factor."""
    return connection.execute("SELECT 1 FROM second_factors WHERE document = ?", (document_id,)).fetchone() is not None


def with_second_factor(connection: sqlite3.Connection) -> frozenset[str]:
    """Everybody who has one."""
    return frozenset(row[0] for row in connection.execute("SELECT staff FROM second_factors"))


def roles_of(connection: sqlite3.Connection, staff_id: str, location: str) -> frozenset[str]:
    """Roles granted to a person at a location, or everywhere (`*`)."""
    rows = connection.execute("SELECT role FROM grants WHERE staff = ? AND location IN (?, '*')", (staff_id, location))
    return frozenset(row[0] for row in rows)


def all_grants(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Every grant in force: (staff, location, role)."""
    rows = connection.execute("SELECT staff, location, role FROM grants ORDER BY staff, location, role")
    return [(row[0], row[1], row[2]) for row in rows]


def locations(connection: sqlite3.Connection) -> list[Location]:
    """All locations in the order in which they were set up: the first is where the store began."""
    rows = connection.execute("SELECT id, name, zone, currency, country FROM locations ORDER BY seq")
    return [Location(*row) for row in rows]


def location(connection: sqlite3.Connection, location_id: str) -> Location | None:
    """The location with this id."""
    row = connection.execute(
        "SELECT id, name, zone, currency, country FROM locations WHERE id = ?", (location_id,)
    ).fetchone()
    return Location(*row) if row else None


def _staff_added(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    name, pin = entry.head.documents[:2]
    tx.execute(
        "INSERT INTO staff(id, seq, name_document, pin_document, language, active) VALUES (?, ?, ?, ?, ?, 1)",
        (entry.head.subject, entry.seq, name.id, pin.id, body["language"]),
    )


def _staff_changed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    name, pin = entry.head.documents[:2]
    tx.execute(
        "UPDATE staff SET name_document = ?, pin_document = ?, language = ? WHERE id = ?",
        (name.id, pin.id, body["language"], entry.head.subject),
    )


def _staff_removed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute("UPDATE staff SET active = 0 WHERE id = ?", (entry.head.subject,))


def _factor_confirmed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    [document] = entry.head.documents
    tx.execute(
        "INSERT OR REPLACE INTO second_factors(staff, document, used) VALUES (?, ?, 0)",
        (entry.head.subject, document.id),
    )


def _factor_recovered(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute("UPDATE second_factors SET used = used | (1 << ?) WHERE staff = ?", (body["number"], entry.head.subject))


def _factor_reset(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute("DELETE FROM second_factors WHERE staff = ?", (entry.head.subject,))


def _granted(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO grants(staff, location, role, seq) VALUES (?, ?, ?, ?)",
        (entry.head.subject, body["location"], body["role"], entry.seq),
    )


def _withdrawn(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "DELETE FROM grants WHERE staff = ? AND location = ? AND role = ?",
        (entry.head.subject, body["location"], body["role"]),
    )


def _location_set(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.forget()
    tx.execute(
        "INSERT INTO locations(id, seq, name, zone, currency, country) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT(id) DO UPDATE SET name = excluded.name, zone = excluded.zone, currency = excluded.currency,"
        " country = excluded.country",
        (entry.head.subject, entry.seq, body["name"], body["zone"], body["currency"], body["country"]),
    )


PROJECTORS = {
    "staff.added": _staff_added,
    "staff.changed": _staff_changed,
    "staff.removed": _staff_removed,
    "staff.second_factor_confirmed": _factor_confirmed,
    "staff.second_factor_recovered": _factor_recovered,
    "staff.second_factor_reset": _factor_reset,
    "grant.given": _granted,
    "grant.withdrawn": _withdrawn,
    "location.set": _location_set,
}
