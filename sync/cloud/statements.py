"""Statements: the cloud's own counts and sums over a range of a hub's entries, signed with the cloud's key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sync.cloud.down import DownJournal
from sync.cloud.hashing import CloudEntry, write_body
from sync.cloud.keys import CloudKeys
from sync.cloud.storage import QUARANTINED, CloudStorage, HubRow, LedgerPayment, LineRow, OutageRow

DOMAIN = b"hubd.statement.v1\x00"
FIXED_BUCKETS = ("taken", "cash", "stored", "captured", "declined_late", "processing", "unknown")
OPEN_BUCKETS = frozenset({"stored", "processing", "unknown", "running", "reversal_pending", "conflict"})
TAKEN_BUCKETS = frozenset({"cash", "card", "stored", "processing", "captured", "reversal_pending"})
USES_TERMINAL = frozenset(
    {"started", "approved", "stored", "declined", "unknown", "forwarding", "requeued", "forwarded"}
)
"""Events of a payment after which its terminal may have been sent something."""
NEVER_SENT = frozenset({"requested", "refused", "cancelled"})
"""States in which a payment that joins an outage has not used its terminal."""
_DECIDED_STATES = ("unknown", "conflict", "reversal_pending")
_CUSTODY_BUCKETS = {"held": "stored", "forwarding": "processing", "forwarded": "processing"}


def _decision(row: LedgerPayment) -> str:
    """What a person has said, while it stands in for a verdict: only in the state in which it was said."""
    if row.decided_on != row.state:
        return ""
    if row.state == "stored":
        return row.manual if row.custody != "captured" else ""
    return row.manual if row.state in _DECIDED_STATES else ""


def is_taken(row: LedgerPayment) -> bool:
    """Whether it belongs to the takings; a person's word stands in for a verdict."""
    said = _decision(row)
    return said == "success" if said else bucket_of(row) in TAKEN_BUCKETS


def bucket_of(row: LedgerPayment) -> str:
    """The one heading under which a payment is counted."""
    if stands := _decision(row):
        if row.state == "reversal_pending" and stands == "success" and row.before_reversal == "approved":
            return "card"  # a reversal that never happened leaves the payment what it was; cash is reversed at once
        return f"resolved_{stands}"
    if row.state == "stored":
        return _CUSTODY_BUCKETS.get(row.custody, row.custody)
    if row.state == "approved":
        return "cash" if row.tender == "cash" else "card"
    if row.state in ("requested", "in_progress"):
        return "running"
    return row.state


def totals_of(rows: list[LedgerPayment]) -> list[dict[str, Any]]:
    """Counts and sums by currency and kind; live money only."""
    sums: dict[tuple[str, str, int], dict[str, dict[str, int]]] = {}
    for row in rows:
        if row.mode != "live":
            continue
        buckets = sums.setdefault(
            (row.currency, row.kind, row.exponent), {name: {"count": 0, "total": 0} for name in FIXED_BUCKETS}
        )
        bucket = bucket_of(row)
        for name in [bucket, "taken"] if is_taken(row) else [bucket]:
            found = buckets.setdefault(name, {"count": 0, "total": 0})
            found["count"] += 1
            found["total"] += row.amount + row.tip + row.rounding
    return [
        {"currency": currency, "kind": kind, "exponent": exponent, "buckets": buckets}
        for (currency, kind, exponent), buckets in sorted(sums.items())
    ]


class Statements:
    """Issues statements, inside the caller's transaction."""

    def __init__(
        self, keys: CloudKeys, down: DownJournal, now_us: Callable[[], int], new_id: Callable[[], str]
    ) -> None:
        self._keys = keys
        self._down = down
        self._now_us = now_us
        self._new_id = new_id

    def issue_if_due(self, storage: CloudStorage, hub: HubRow, outage_id: str) -> bool:
        """Issue a provisional statement when an outage ends, a final one when its last payment has its verdict.

        It also waits for the terminals that were used: what is in one that nobody has heard since, nobody knows. Where
        they are all that is missing, a new provisional statement says which. A final statement whose sums change later
        (a reversal, a contradiction) is replaced.
        """
        outage = storage.outage(hub.hub, outage_id)
        if outage is None or outage.ended_at_us is None:
            return False
        content = self._content(storage, hub, outage)
        latest = storage.latest_statement(hub.hub, outage_id)
        if latest is not None:
            before = json.loads(latest[2])
            same = all(before.get(name) == content[name] for name in ("totals", "finality", "unheard"))
            if same or (before["finality"] == "provisional" and content["open"]):
                return False
        self._issue(storage, hub, outage_id, content, latest[0] if latest else None)
        return True

    def _issue(
        self, storage: CloudStorage, hub: HubRow, outage_id: str, content: dict[str, Any], replaces: str | None
    ) -> None:
        document = content | {
            "id": self._new_id(),
            "replaces": replaces,
            "issued_at_us": self._now_us(),
            "key_id": self._keys.current.key_id,
        }
        document["signature"] = self._keys.current.sign(DOMAIN + write_body(document)).hex()
        text = write_body(document).decode("utf-8")
        storage.add_statement(hub.hub, outage_id, document["id"], document["finality"], text)
        self._down.append(storage, hub.hub, "statement.issued", document["id"], {"statement": document})

    def _content(self, storage: CloudStorage, hub: HubRow, outage: OutageRow) -> dict[str, Any]:
        rows = storage.outage_payments(hub.hub, outage.outage)
        own = [row for row in rows if not row.quarantined]
        apart = [row for row in rows if row.quarantined]
        open_count = sum(1 for row in own if row.mode == "live" and bucket_of(row) in OPEN_BUCKETS)
        ids = "".join(f"{row.id}\n" for row in sorted(own, key=lambda row: row.id))
        ranges = _ranges(storage, hub.hub, outage)
        chained = _read_chain(storage, hub.hub, outage, ranges)
        return {
            "format": 1,
            "tenant": hub.tenant,
            "store": hub.store,
            "hub": hub.hub.hex(),
            "outage": outage.outage,
            "cause": outage.cause,
            "started_at_us": outage.started_at_us,
            "ended_at_us": outage.ended_at_us,
            "finality": "provisional" if open_count or chained.unheard else "final",
            "ranges": ranges,
            "verdicts": [
                {"line": place.line.hex(), "upto_seq": place.seq, "hash": place.hash.hex()}
                for place in storage.down_lines(hub.hub)
            ],
            "payments": {"count": len(own), "ids_sha256": hashlib.sha256(ids.encode("ascii")).hexdigest()},
            "totals": totals_of(own),
            "open": open_count,
            "unheard": chained.unheard,
            "lost": len(chained.payments - {row.id for row in own}),
            "doubled": sum(row.times_created - 1 for row in own),
            "quarantined": {"count": len(apart), "totals": totals_of(apart)},
            "uninterpreted": storage.uninterpreted_count(hub.hub),
        }


def _ranges(storage: CloudStorage, hub: bytes, outage: OutageRow) -> list[dict[str, Any]]:
    """One range for each line from the outage's first entry to the head of the newest line that holds its end.

    What is stored and not interpreted yet is in none: the ledger, whose sums stand beside the ranges, does not know it.
    """
    by_line = {row.line: row for row in storage.lines(hub)}
    if not outage.opened_seq:
        outage = _counted_from(storage, hub, outage, by_line)
    path = next((found for row in reversed(by_line.values()) if (found := _path(row, by_line, outage))), [])
    spans = []
    for row in path:
        from_seq = outage.opened_seq if row.line == outage.opened_line else row.opened_seq
        pending = storage.first_pending(hub, row.line)
        head = row.head_seq if pending is None else pending - 1
        upto = next((child.opened_seq - 1 for child in path if child.parent_line == row.line), head)
        hash_ = storage.hash_in_line(hub, row.line, upto)
        if hash_ is not None and from_seq <= upto:
            spans.append({"line": row.line.hex(), "from_seq": from_seq, "upto_seq": upto, "hash": hash_.hex()})
    return spans


def _counted_from(
    storage: CloudStorage, hub: bytes, outage: OutageRow, by_line: dict[bytes, LineRow]
) -> OutageRow:  # fmt: skip
    """An outage that began in a fork is counted from the first line after it: what was set aside is counted apart."""
    row = by_line[outage.opened_line]
    while storage.known(hub, row.parent_hash) != QUARANTINED and row.parent_line in by_line:
        row = by_line[row.parent_line]
    return replace(outage, opened_line=row.line, opened_seq=row.opened_seq)


def _path(row: LineRow, by_line: dict[bytes, LineRow], outage: OutageRow) -> list[LineRow]:
    """The lines from the one in which the outage began down to `row`; nothing if `row` does not descend from it."""
    path = [row]
    while path[0].line != outage.opened_line:
        parent = by_line.get(path[0].parent_line)
        if parent is None or parent in path:
            return []
        path.insert(0, parent)
    return path


@dataclass(slots=True)
class _Chain:
    """What the hub's entries in the ranges of a statement tell of one outage."""

    outage: str
    payments: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)

    @property
    def unheard(self) -> list[str]:
        """Terminals that took payments in the outage and for whose answer the statement waits."""
        return sorted(self.used - self.heard - self.closed)

    def add(self, entry: CloudEntry) -> None:
        subject_kind, _, event = entry.kind.partition(".")
        if entry.kind == "outage.terminal_heard" and entry.subject == self.outage:
            self.heard.add(str(entry.fields().get("terminal")))
        elif entry.kind == "outage.terminal_closed" and entry.subject == self.outage:
            self.closed.add(str(entry.fields().get("terminal")))
        elif subject_kind == "payment":
            fields = entry.fields()
            if fields.get("outage") != self.outage:
                return
            self.payments.add(entry.subject)
            terminal = fields.get("terminal")
            sent = event in USES_TERMINAL or (event == "joined_outage" and fields.get("state") not in NEVER_SENT)
            if terminal and sent and fields.get("mode") == "live":
                self.used.add(str(terminal))
                if event == "started":
                    self.closed.discard(str(terminal))


def _read_chain(storage: CloudStorage, hub: bytes, outage: OutageRow, ranges: list[dict[str, Any]]) -> _Chain:
    """The hub's own entries again: what the ledger is compared with, and which terminals are still to be heard."""
    found = _Chain(outage.outage)
    for span in ranges:
        line, at = bytes.fromhex(span["line"]), span["from_seq"]
        while at <= span["upto_seq"]:
            batch = storage.entries(hub, line, at, span["upto_seq"], 1_000)
            if not batch:
                break
            for entry in batch:
                found.add(entry)
            at = batch[-1].seq + 1
    return found
