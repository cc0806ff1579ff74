"""From an entry to the rows that hold the current state. The only writer of projections, live and in replay."""

from __future__ import annotations

from collections.abc import Callable

from hubd.model.entry import Entry, Json
from hubd.model.kinds import KINDS, is_known
from hubd.model.upcast import upcast
from hubd.store import (
    device_options,
    devices,
    documents,
    lines,
    orders,
    outages,
    payments,
    people,
    print_jobs,
    replacements,
    settings,
    terminal_life,
)
from hubd.store.tx import Tx

Projector = Callable[[Tx, Entry, dict[str, Json]], None]

_PROJECTORS: dict[str, Projector] = {
    **lines.PROJECTORS,
    **payments.PROJECTORS,
    **orders.PROJECTORS,
    **devices.PROJECTORS,
    **device_options.PROJECTORS,
    **people.PROJECTORS,
    **settings.PROJECTORS,
    **outages.PROJECTORS,
    **documents.PROJECTORS,
    **replacements.PROJECTORS,
    **print_jobs.PROJECTORS,
    **terminal_life.PROJECTORS,
}

PROJECTED_TABLES = (
    "lines",
    "payments",
    "counters",
    "orders",
    "devices",
    "staff",
    "grants",
    "second_factors",
    "locations",
    "settings",
    "number_series",
    "outages",
    "outage_terminals",
    "statements",
    "enrolment",
    "cloud_keys",
    "replacements",
    "print_jobs",
    "terminal_life",
    "device_options",
)
"""Every table whose rows follow from the entries alone."""


def project(tx: Tx, entry: Entry, body: dict[str, Json]) -> None:
    """Apply one entry to the projections. Kinds and versions unknown to this program change nothing (E13)."""
    kind, version = entry.head.kind, entry.head.body_version
    if not is_known(kind, version):
        return
    projector = _PROJECTORS.get(kind)
    if projector is not None:
        projector(tx, entry, body if version == KINDS[kind] else upcast(kind, version, body))
