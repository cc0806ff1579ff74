"""What people have set of devices, and what devices have shown of themselves: options by device, not by address."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from hubd.model.entry import Entry, Json
from hubd.store.tx import Tx


class Configured(Struct, frozen=True):
    """The options of one device, as the last entry about them says."""

    version: int = 0
    """The seq of that entry; 0: nobody has set anything."""
    options: Mapping[str, str] = MappingProxyType({})
    secrets: tuple[str, ...] = ()
    """Names of the options whose values the document holds, sealed."""
    document: bytes | None = None


def get(connection: sqlite3.Connection, device_id: str) -> Configured:
    """What is set of this device."""
    row = connection.execute(
        "SELECT seq, options, secrets, document FROM device_options WHERE device = ?", (device_id,)
    ).fetchone()
    if row is None:
        return Configured()
    seq, options, secrets, document = row
    return Configured(seq, json.loads(options), tuple(json.loads(secrets)), document)


def _configured(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO device_options(device, seq, options, secrets, document) VALUES (?, ?, ?, ?, ?)",
        (
            entry.head.subject,
            entry.seq,
            json.dumps(body["options"], sort_keys=True),
            json.dumps(body["secrets"]),
            bytes.fromhex(body["document"]) if body["document"] else None,
        ),
    )


PROJECTORS = {"device.configured": _configured}
