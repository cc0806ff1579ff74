"""Settings: one mechanism, effective-dated and versioned, for everything a merchant may want to change (design 11)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hubd.model.entry import Entry, Json
from hubd.store.tx import Tx


class Setting(Struct, frozen=True):
    """One value of a setting, in force from `effective_from_us` until a later one."""

    key: str
    scope: str
    """`hub`, `location:ID`, `device:ID` for what was set here; `store`, `group:ID`, `fleet` for what the cloud set."""
    effective_from_us: int
    seq: int
    version: int
    source: str
    """`local`, `cloud` or `shipped`."""
    value: Json


SCOPE_ORDER = ("device", "location", "hub", "store", "group", "fleet")
"""Narrow before wide: the first scope that has a value in force wins."""


def _setting(row: Sequence[Any]) -> Setting:
    key, scope, effective_from_us, seq, version, source, value = row
    return Setting(key, scope, effective_from_us, seq, version, source, json.loads(value))


def in_force(
    connection: sqlite3.Connection, key: str, at_us: int, scopes: tuple[str, ...] = ("hub",)
) -> Setting | None:
    """The value that counts at `at_us`: of the narrowest scope given, its latest effective date, its latest entry."""
    marks = ", ".join("?" * len(scopes))
    rows = connection.execute(
        "SELECT key, scope, effective_from_us, seq, version, source, value FROM settings"  # noqa: S608 (question marks)
        " WHERE key = ? AND effective_from_us <= ?"
        f" AND scope IN ({marks}) ORDER BY effective_from_us DESC, seq DESC",
        (key, at_us, *scopes),
    ).fetchall()
    best = min(rows, key=lambda row: SCOPE_ORDER.index(row[1].partition(":")[0]), default=None)
    return _setting(best) if best else None


def history(connection: sqlite3.Connection, key: str) -> list[Setting]:
    """Every value a setting has had or will have, by effective date."""
    rows = connection.execute(
        "SELECT key, scope, effective_from_us, seq, version, source, value FROM settings WHERE key = ?"
        " ORDER BY effective_from_us, seq",
        (key,),
    )
    return [_setting(row) for row in rows]


def next_version(connection: sqlite3.Connection, key: str) -> int:
    """The version number that the next change of a key gets."""
    row = connection.execute("SELECT max(version) FROM settings WHERE key = ?", (key,)).fetchone()
    return int(row[0] or 0) + 1


def _changed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.memo.clear()
    tx.execute(
        "INSERT INTO settings(key, scope, effective_from_us, seq, version, source, value) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            body["key"],
            body["scope"],
            body["effective_from_us"],
            entry.seq,
            body["version"],
            body["source"],
            json.dumps(body["value"], sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        ),
    )


PROJECTORS = {"setting.changed": _changed}
