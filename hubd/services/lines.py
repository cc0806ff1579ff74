"""Opening lines and number series (docs/reference/journal.md E8-E10).

A line's id is random, and every name that must never come twice is derived from it: a restored hub cannot collide
with what it has forgotten, because it cannot guess the ids that it used then.
"""

from __future__ import annotations

import base64
from enum import StrEnum

from hubd.cloud_ports import Signer
from hubd.model.entry import Draft, Entry, Json
from hubd.runtime import Runtime
from hubd.store import journal, lines
from hubd.store.db import Database
from hubd.store.tx import Tx

LINE_BYTES = 16
SERIES_LINE_BYTES = 5
"""Bytes of the line in a series' name, eight characters: 2^40 makes a collision with a forgotten line no matter."""


class LineReason(StrEnum):
    """Why a line was opened."""

    NEW = "new"
    RESTORED = "restored"
    STALE = "stale"
    FORK = "fork"
    REPLACED = "replaced"


def open_new_line(tx: Tx, signer: Signer, line: bytes, reason: LineReason) -> Entry:
    """Begin the line `line` (16 fresh random bytes) whose parent is the journal's present head.

    The series of the line before give no numbers any more; an entry for each says from which one on they are unused,
    as far as this hub knows.
    """
    head, ended = tx.head, lines.open_ones(tx)
    parent = {"line": head.line.hex(), "seq": head.seq, "hash": head.hash.hex()} if head.line else None
    body: dict[str, Json] = {
        "hub_id": signer.hub_id.hex(),
        "public_key": signer.public_key.hex(),
        "reason": reason.value,
        "parent": parent,
        "number_series": [],
    }
    opened = journal.open_line(tx, line, Draft(kind="line.opened", subject="", actor="hub", body=body))
    for series in ended:
        rest = {
            "series": series.series,
            "owner": series.owner,
            "purpose": series.purpose,
            "from": series.last_used + 1,
        }
        journal.append(tx, Draft(kind="numbers.released", subject=series.series, actor="hub", body=rest))
    return opened


async def ensure_line(db: Database, signer: Signer, runtime: Runtime, reason: LineReason | None = None) -> Entry | None:
    """Open the first line of a new journal, or a further one if `reason` says that this start needs it.

    Returns the entry that opened it, or None when the journal goes on in its line. Call it at every start before
    anything else writes: with `RESTORED` after a restore, with `REPLACED` when machine or disk changed.
    """
    line = runtime.ids.token_bytes(LINE_BYTES)

    def work(tx: Tx) -> Entry | None:
        if not tx.head.line:
            return open_new_line(tx, signer, line, LineReason.NEW)
        return open_new_line(tx, signer, line, reason) if reason is not None else None

    return await db.write("ensure_line", work)


def next_number(tx: Tx, owner: str, purpose: str) -> tuple[str, int]:
    """The next number of a till's (or the hub's) series for one purpose: (series, counter), gapless in the series.

    Opens a series with its entry `numbers.opened` when this line has none for them yet. The number is used up by the
    entry that carries it in the same transaction; if that entry is not written, the number is not spent.
    """
    line = tx.head.line
    found = lines.open_series(tx, owner, purpose)
    if found is not None:
        series, last_used = found
        return series, last_used + 1
    series = _free_name(tx, line)
    body = {"series": series, "owner": owner, "purpose": purpose}
    journal.append(tx, Draft(kind="numbers.opened", subject=series, actor="hub", body=body))
    return series, 1


def _free_name(tx: Tx, line: bytes) -> str:
    """Line and ordinal, such as `K7QDM2XA-3`: the line's part is random, the ordinal counts within the line."""
    stem = base64.b32encode(line[:SERIES_LINE_BYTES]).decode("ascii")
    ordinal = 1
    while lines.series_exists(tx.connection, f"{stem}-{ordinal}"):
        ordinal += 1
    return f"{stem}-{ordinal}"
