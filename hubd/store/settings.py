"""Settings: one mechanism, effective-dated and versioned, for everything a merchant may want to change (design 11)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hubd.errors import NotFoundError
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


SEQ_MAX = (1 << 63) - 1
SCOPE_ORDER = ("device", "location", "hub", "store", "group", "fleet")
"""Narrow before wide: the first scope that has a value in force wins."""


def _setting(row: Sequence[Any]) -> Setting:
    key, scope, effective_from_us, seq, version, source, value = row
    return Setting(key, scope, effective_from_us, seq, version, source, json.loads(value))


def in_force(
    connection: sqlite3.Connection,
    key: str,
    at_us: int,
    scopes: tuple[str, ...] = ("hub",),
    upto_seq: int | None = None,
) -> Setting | None:
    """The value that counts at `at_us`: of the narrowest scope given, the one that took effect last.

    What was set "from now" counts from its entry on, whatever the clock said then or says now: a clock that was ahead
    must not postpone it, one that is behind must not take it back. What was set for a later moment waits for it.
    `upto_seq` asks about the past: only what had been said by then.
    """
    marks = ", ".join("?" * len(scopes))
    rows = connection.execute(
        "SELECT key, scope, effective_from_us, seq, version, source, value FROM settings"  # noqa: S608 (question marks)
        f" WHERE key = ? AND seq <= ? AND scope IN ({marks}) ORDER BY seq",
        (key, SEQ_MAX if upto_seq is None else upto_seq, *scopes),
    ).fetchall()
    if not rows:
        return None
    found = [_setting(row) for row in rows]
    for name in SCOPE_ORDER:
        known = [one for one in found if one.scope.partition(":")[0] == name]
        taken = _last_in_effect(connection, known, at_us) if known else None
        if taken is not None:
            return taken
    return None


def _last_in_effect(connection: sqlite3.Connection, known: list[Setting], at_us: int) -> Setting | None:
    """Of values in the order of their entries: the last one set from now, or one planned for a moment after it."""
    newest = known[-1]
    if max(one.effective_from_us for one in known) <= min(newest.effective_from_us, at_us):
        return newest  # dates and entries are in the same order: nearly always
    best: Setting | None = None
    since_us = 0
    planned: list[Setting] = []
    for one in known:
        set_at_us = _set_at_us(connection, one)
        if one.effective_from_us > set_at_us:
            planned.append(one)
        else:
            best, since_us = one, set_at_us
    for one in sorted(planned, key=lambda one: (one.effective_from_us, one.seq)):
        later = best is None or one.seq > best.seq or one.effective_from_us > since_us
        if later and one.effective_from_us <= at_us:
            best = one
    return best


def _set_at_us(connection: sqlite3.Connection, setting: Setting) -> int:
    """What the clock said when it was set; for an archived entry its own date, which has passed long ago."""
    try:
        from hubd.store import journal  # the journal projects settings: it needs this module first

        return journal.entry_at(connection, setting.seq).head.at_us
    except NotFoundError:
        return setting.effective_from_us


def history(connection: sqlite3.Connection, key: str) -> list[Setting]:
    """Every value a setting has had or will have, by effective date."""
    rows = connection.execute(
        "SELECT key, scope, effective_from_us, seq, version, source, value FROM settings WHERE key = ?"
        " ORDER BY effective_from_us, seq",
        (key,),
    )
    return [_setting(row) for row in rows]


def newest_version(connection: sqlite3.Connection, key: str, scopes: tuple[str, ...]) -> int | None:
    """The version of the last change of a key in these scopes, whenever it counts; None if nobody has set it."""
    marks = ", ".join("?" * len(scopes))
    row = connection.execute(
        f"SELECT max(version) FROM settings WHERE key = ? AND scope IN ({marks})",  # noqa: S608 (question marks)
        (key, *scopes),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def next_version(connection: sqlite3.Connection, key: str) -> int:
    """The version number that the next change of a key gets."""
    row = connection.execute("SELECT max(version) FROM settings WHERE key = ?", (key,)).fetchone()
    return int(row[0] or 0) + 1


def _changed(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.forget()
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
