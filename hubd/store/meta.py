"""What the hub knows about its own file: not entries, not projections, never sent."""

from __future__ import annotations

import sqlite3

from hubd.store.tx import Tx

CLEAN_STOP = "clean_stop"
"""`0` while the store is open, `1` after a clean stop."""
MACHINE_ID = "machine_id"
DISK_ID = "disk_id"
RESTORED = "restored"
"""Set in a database that came out of a backup, until the new line is open: JSON {seq, hash}."""
RECOVERY_SALT = "recovery_salt"
RECOVERY_KEY = "recovery_key"
"""The public key that belongs to the recovery code, hex."""
TENANT_KEY = "tenant_key"
"""The tenant's public key for backups, hex: the newest that the cloud's journal has told."""
BACKUP_COPIES = "backup_copies"
"""The verified copies of backups that left the disk, one a place: JSON list (hubd.store.copies.Elsewhere)."""
RECOVERY_UNCONFIRMED = "recovery_unconfirmed"
"""Names the recovery code while nobody has said that it is on paper (hubd.store.backup.NewRecovery.id)."""


def get(connection: sqlite3.Connection, name: str) -> str | None:
    """The value of this name."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else None


def put(tx: Tx, name: str, value: str) -> None:
    """Set a value."""
    tx.execute("INSERT OR REPLACE INTO meta(name, value) VALUES (?, ?)", (name, value))


def remove(tx: Tx, name: str) -> None:
    """Remove a value; nothing happens if there is none."""
    tx.execute("DELETE FROM meta WHERE name = ?", (name,))
