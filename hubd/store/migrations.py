"""Numbered schema files, applied forward only, each in one transaction, with a schema and a compat number.

`user_version` holds the schema number, `meta.compat` the oldest program that may open the file. A newer file than the
program understands stops the start with a sentence; nothing is touched then.
"""

from __future__ import annotations

import sqlite3
from importlib import resources

from hubd.errors import StoreError

SCHEMA = 6
COMPAT = 1
"""Oldest schema number whose program can still open a file of this one."""


def migration_files() -> list[tuple[int, str]]:
    """(number, SQL) of every step, in order."""
    folder = resources.files("hubd.store") / "schema"
    steps = [
        (int(entry.name[:4]), entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if entry.name[:4].isdigit() and entry.name.endswith(".sql")
    ]
    return sorted(steps)


def migrate(connection: sqlite3.Connection, upto: int = SCHEMA) -> int:
    """Bring the file to schema `upto`; returns the number it had. Raises `store.too_new` or `store.corrupt`."""
    have = refuse_unreadable(connection)
    for number, sql in migration_files():
        if have < number <= upto:
            _apply(connection, number, sql)
    return have


def refuse_unreadable(connection: sqlite3.Connection) -> int:
    """Return the schema number; raises `store.too_new` or `store.corrupt` before anything is changed."""
    try:
        (have,) = connection.execute("PRAGMA user_version").fetchone()
        if have > SCHEMA:
            _refuse_if_incompatible(connection, have)
    except sqlite3.OperationalError:
        raise  # busy, or the disk fails to read: that says nothing about the file
    except sqlite3.DatabaseError as exc:
        raise StoreError(
            "store.corrupt",
            "The database cannot be read.",
            remedy="Run `hubctl doctor`, then `hubctl restore`; the hub's file is left as it is.",
        ) from exc
    return int(have)


def _apply(connection: sqlite3.Connection, number: int, sql: str) -> None:
    script = (
        f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version={number:d};\n"  # noqa: S608 (our own file and numbers)
        f"INSERT OR REPLACE INTO meta(name, value) VALUES ('compat', '{min(COMPAT, number):d}');\nCOMMIT;"
    )
    try:
        connection.executescript(script)
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _refuse_if_incompatible(connection: sqlite3.Connection, have: int) -> None:
    row = connection.execute("SELECT value FROM meta WHERE name = 'compat'").fetchone()
    if row is None or int(row[0]) > SCHEMA:
        raise StoreError(
            "store.too_new",
            f"The database was written by a newer hubd (schema {have}, this program knows {SCHEMA}).",
            remedy="Install the newer hubd again; nothing was changed.",
        )
