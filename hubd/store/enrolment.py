"""To whom this hub belongs, and which keys of the cloud it believes."""

from __future__ import annotations

import sqlite3

from msgspec import Struct


class Enrolment(Struct, frozen=True):
    """The binding to tenant and store, with the cloud's root key pinned."""

    tenant: str
    store: str
    root_key: bytes
    seq: int


def get(connection: sqlite3.Connection) -> Enrolment | None:
    """The enrolment in force, or None: an unenrolled hub trades all the same."""
    row = connection.execute("SELECT tenant, store, root_key, seq FROM enrolment").fetchone()
    return Enrolment(*row) if row else None


def cloud_keys(connection: sqlite3.Connection) -> dict[str, bytes]:
    """Keys that the cloud's journal has introduced, by key id; the root is not among them."""
    rows = connection.execute("SELECT key_id, public_key FROM cloud_keys ORDER BY seq")
    return {str(key_id): bytes(key) for key_id, key in rows}
