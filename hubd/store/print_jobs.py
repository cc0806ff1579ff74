"""Print jobs as rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from hubd.model.entry import Entry, Json
from hubd.model.print_job import PrintEvent, PrintJob, PrintState, next_print_state
from hubd.store.tx import Tx

_FIELDS = PrintJob.__struct_fields__
_SELECT = f"SELECT {', '.join(_FIELDS)} FROM print_jobs"  # noqa: S608 (names of our own struct)
PAGE_MAX = 500


def _job(row: Sequence[Any]) -> PrintJob:
    value = dict(zip(_FIELDS, row, strict=True))
    value["state"] = PrintState(value["state"])
    return PrintJob(**value)


def get(connection: sqlite3.Connection, job_id: str) -> PrintJob | None:
    """The job with this id, if the hub knows it."""
    row = connection.execute(f"{_SELECT} WHERE id = ?", (job_id,)).fetchone()
    return _job(row) if row else None


def open_jobs(connection: sqlite3.Connection, printer: str | None = None) -> list[PrintJob]:
    """Jobs that wait, are being printed, or of which nobody knows whether they are; oldest first."""
    rows = connection.execute(
        f"{_SELECT} WHERE state IN ('waiting', 'printing', 'unknown') AND (? IS NULL OR printer = ?) ORDER BY seq",
        (printer, printer),
    )
    return [_job(row) for row in rows]


def of_printer(connection: sqlite3.Connection, printer: str, limit: int) -> list[PrintJob]:
    """The newest jobs of a printer, at most `limit`, newest first."""
    rows = connection.execute(f"{_SELECT} WHERE printer = ? ORDER BY seq DESC LIMIT ?", (printer, min(limit, PAGE_MAX)))
    return [_job(row) for row in rows]


def papers_of(connection: sqlite3.Connection, payment: str, purpose: str) -> int:
    """How many papers there are, or may be, of a receipt: those of all its jobs."""
    (count,) = connection.execute(
        "SELECT coalesce(sum(papers), 0) FROM print_jobs WHERE payment = ? AND purpose = ? AND payment <> ''",
        (payment, purpose),
    ).fetchone()
    return int(count)


def page(
    connection: sqlite3.Connection, before_seq: int | None, limit: int, locations: frozenset[str] | None
) -> list[PrintJob]:
    """Newest first, below `before_seq`, at most `limit`; of these locations, or of all."""
    places = sorted(locations) if locations is not None else []
    within = f" AND location IN ({', '.join('?' * len(places))})" if locations is not None else ""
    rows = connection.execute(
        f"{_SELECT} WHERE (? IS NULL OR seq < ?){within} ORDER BY seq DESC LIMIT ?",
        (before_seq, before_seq, *places, min(limit, PAGE_MAX)),
    )
    return [_job(row) for row in rows]


def _requested(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    values = {
        "id": entry.head.subject,
        "seq": entry.seq,
        "line": entry.line,
        "hash": entry.hash,
        "last_seq": entry.seq,
        "state": PrintState.WAITING,
        "title": body["title"],
        "printer": body["printer"],
        "payment": body["payment"],
        "purpose": body["purpose"],
        "document": bytes.fromhex(body["document"]),
        "papers": 0,
        "till": body["device"],
        "staff": body["staff"],
        "location": body["location"],
        "reason": "",
        "requested_at_us": entry.head.at_us,
        "updated_at_us": entry.head.at_us,
    }
    marks = ", ".join("?" * len(values))
    tx.execute(
        f"INSERT INTO print_jobs({', '.join(values)}) VALUES ({marks})",  # noqa: S608 (own names)
        list(values.values()),
    )


_PAPERS = {PrintEvent.STARTED: 1, PrintEvent.POSTPONED: -1}
"""A job that is begun may be on paper; one whose printer refused before the first byte is not."""


def _moved(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    before = get(tx.connection, entry.head.subject)
    assert before is not None, f"{entry.kind} of a print job that has no row"
    event = PrintEvent(entry.kind.partition(".")[2])
    tx.execute(
        "UPDATE print_jobs SET state = ?, reason = ?, printer = ?, papers = ?, last_seq = ?, updated_at_us = ?"
        " WHERE id = ?",
        (
            next_print_state(before.state, event),
            body.get("reason", ""),
            body.get("printer", before.printer),
            before.papers + _PAPERS.get(event, 0),
            entry.seq,
            entry.head.at_us,
            before.id,
        ),
    )


PROJECTORS = {"print.requested": _requested, **{f"print.{event}": _moved for event in PrintEvent}}
