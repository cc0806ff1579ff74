"""What the cloud makes of a hub's entries: its own ledger of payments and outages, and what follows from it.

An entry is stored first and interpreted then; what cannot be interpreted is set aside and never blocks (E13). Entries
with a `cause` came about because of the cloud's own journal: they are counted and never answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

from msgspec import structs

from sync.cloud.hashing import FLAG_CRITICAL, CloudEntry, NotAnEntry
from sync.cloud.storage import (
    DEAD,
    HELD_BACK,
    INTERPRETED,
    QUARANTINED,
    STOPPED,
    UNINTERPRETED,
    UNKNOWN,
    WANTED,
    CloudStorage,
    EffectRow,
    LedgerPayment,
    OutageRow,
)

SETTLE = "settle"

_STATES = {
    "requested": "requested",
    "recorded": "approved",
    "refused": "refused",
    "announced": "unknown",
    "started": "in_progress",
    "approved": "approved",
    "stored": "stored",
    "declined": "declined",
    "cancelled": "cancelled",
    "unknown": "unknown",
    "reversal_requested": "reversal_pending",
    "reversed": "reversed",
    "conflicted": "conflict",
}
_CUSTODIES = {
    "stored": "held",
    "forwarding": "forwarding",
    "requeued": "held",
    "forwarded": "forwarded",
    "captured": "captured",
    "declined_late": "declined_late",
    "expired": "expired",
    "rejected": "rejected",
}
_CREATING = ("requested", "recorded", "refused", "announced")
_OTHER_PAYMENT_EVENTS = ("reversal_failed", "resolved", "joined_outage")
_KNOWN_PREFIXES = (
    "line.", "epoch.", "hub.", "clock.", "archive.", "document.", "numbers.", "payment.", "order.", "device.",
    "staff.", "grant.", "location.", "setting.", "outage.", "statement.", "receipt.", "override.", "backup.",
    "end_of_day.", "cloud.", "sync.",
)  # fmt: skip


class Interpreted:
    """What one run of entries touched: outages to look at again."""

    def __init__(self) -> None:
        self.outages: dict[str, None] = {}
        """Outages whose statement may be due, oldest first."""


class Payments(Protocol):
    """Where the interpretation finds and puts payments: the storage itself, or a page of it."""

    def payment(self, hub: bytes, payment: str, quarantined: bool) -> LedgerPayment | None:
        """The payment in one of the two ledgers of a hub."""
        ...

    def put_payment(self, hub: bytes, row: LedgerPayment) -> None:
        """Keep a payment in the ledger that it names."""
        ...


class Page:
    """The payments that a run of entries of one hub is about, read at once and written at once.

    Nothing else may look at these payments between the first entry of the run and `write`.
    """

    def __init__(self, storage: CloudStorage, hub: bytes, entries: Iterable[CloudEntry]) -> None:
        self._storage = storage
        self._hub = hub
        named = list(dict.fromkeys(entry.subject for entry in entries if entry.kind.startswith("payment.")))
        self._read = dict.fromkeys(named)
        self._rows = {row.id: row for row in storage.payments(hub, named)}
        self._changed: dict[str, None] = {}

    def payment(self, hub: bytes, payment: str, quarantined: bool) -> LedgerPayment | None:
        """As the storage's; a quarantined payment is not on the page."""
        if quarantined or payment not in self._read:
            return self._storage.payment(hub, payment, quarantined)
        return self._rows.get(payment)

    def put_payment(self, hub: bytes, row: LedgerPayment) -> None:
        """Keep it until `write`."""
        assert not row.quarantined, "what is pending goes on where its line ends"
        self._rows[row.id] = row
        self._changed[row.id] = None

    def write(self) -> None:
        """Put what has changed into the storage."""
        self._storage.put_payments(self._hub, [self._rows[id_] for id_ in self._changed])


class Ledger:
    """Interprets entries of any hub, inside the caller's transaction."""

    def interpret(
        self, storage: CloudStorage, hub: bytes, entry: CloudEntry, *, quarantined: bool, restored: bool,
        payments: Payments | None = None,
    ) -> tuple[str, list[str]]:  # fmt: skip
        """Returns the state under which the entry is kept, and the outages that it touches (if it may be answered)."""
        if not entry.kind.startswith(_KNOWN_PREFIXES) or entry.version != 1:
            return (STOPPED if entry.flags & FLAG_CRITICAL else UNINTERPRETED), []
        try:
            fields = entry.fields()
            touched = self._apply(
                storage, payments or storage, hub, entry, fields, quarantined=quarantined, restored=restored
            )
        except (NotAnEntry, KeyError, TypeError, ValueError) as exc:
            storage.add_dead_letter(hub, entry.hash, f"{entry.kind}: {type(exc).__name__} {exc}")
            return (QUARANTINED if quarantined else DEAD), []
        if quarantined or _answers(fields):
            touched = []
        return (QUARANTINED if quarantined else INTERPRETED), touched

    def _apply(
        self, storage: CloudStorage, payments: Payments, hub: bytes, entry: CloudEntry, fields: dict[str, Any], *,
        quarantined: bool, restored: bool,
    ) -> list[str]:  # fmt: skip
        subject_kind, _, event = entry.kind.partition(".")
        if subject_kind == "payment":
            row = self._payment(storage, payments, hub, entry, event, fields, quarantined=quarantined)
            if event == "forwarded" and not _answers(fields):
                self._follow(storage, hub, row, quarantined=quarantined, restored=restored)
            return [row.outage] if row.outage else []
        if entry.kind == "outage.opened":
            # Of one that begins beside its line (quarantined) the end may follow in a line of its own.
            place = (b"", 0) if quarantined else (entry.line, entry.seq)
            opened = OutageRow(entry.subject, fields["cause"], fields["started_at_us"], *place, None, b"")
            if storage.outage(hub, entry.subject) is None:
                storage.put_outage(hub, opened)
        elif quarantined:
            return []
        elif entry.kind == "outage.closed":
            known = storage.outage(hub, entry.subject)
            if known is None:
                raise ValueError("an outage ends that never began")
            closed = replace(
                known,
                opened_line=known.opened_line or entry.line,
                ended_at_us=fields["ended_at_us"],
                closed_hash=entry.hash,
                cause=fields["cause"],
            )
            storage.put_outage(hub, closed)
            return [entry.subject]
        elif entry.kind in ("outage.terminal_heard", "outage.terminal_closed"):
            _ = fields["terminal"]
            return [entry.subject]
        elif entry.kind == "document.erased":
            storage.erase_document(hub, bytes.fromhex(fields["id"]))
        elif entry.kind == "sync.forgotten_listed":
            storage.forgotten_listed(hub, bytes.fromhex(fields["line"]), fields["upto_seq"])
        return []

    def _payment(
        self, storage: CloudStorage, payments: Payments, hub: bytes, entry: CloudEntry, event: str,
        fields: dict[str, Any], *, quarantined: bool,
    ) -> LedgerPayment:  # fmt: skip
        if event not in _STATES and event not in _CUSTODIES and event not in _OTHER_PAYMENT_EVENTS:
            raise ValueError(f"a payment cannot be {event}")
        row = payments.payment(hub, entry.subject, quarantined)
        if row is None and quarantined:
            before = payments.payment(hub, entry.subject, False)
            row = structs.replace(before, quarantined=True) if before is not None else None
        if row is None and not quarantined and event not in _CREATING:
            # It was created in a fork and goes on in the line that the hub has opened since.
            before = payments.payment(hub, entry.subject, True)
            row = structs.replace(before, quarantined=False) if before is not None else None
        if row is None:
            row = _first(entry, fields, quarantined)
        elif event in _CREATING:
            row = structs.replace(row, times_created=row.times_created + 1)
            payments.put_payment(hub, row)
            storage.add_incident(hub, "payment_created_twice", entry.subject)
            return row
        row = _moved(row, event, fields)
        payments.put_payment(hub, row)
        return row

    def _follow(
        self, storage: CloudStorage, hub: bytes, row: LedgerPayment, *, quarantined: bool, restored: bool
    ) -> None:
        """Ask the settlement source about a payment, once for each attempt (S1); never for what a person must see."""
        if storage.effect(hub, row.id, SETTLE, 1) is not None:
            return
        state = HELD_BACK if quarantined else UNKNOWN if restored else WANTED
        storage.put_effect(EffectRow(hub, row.id, SETTLE, 1, state, ""))

    def record_verdict(self, storage: CloudStorage, hub: bytes, payment: str, verdict: str) -> str:
        """Count the cloud's own verdict in its ledger; returns the outage of the payment, or nothing."""
        row = storage.payment(hub, payment, False)
        if row is None:
            return ""
        storage.put_payment(hub, _moved(row, verdict, {}))
        return row.outage


def _answers(fields: dict[str, Any]) -> bool:
    """Whether the hub wrote the entry because of one of ours; an outage's cause is a word, not a place."""
    return isinstance(fields.get("cause"), dict)


def _first(entry: CloudEntry, fields: dict[str, Any], quarantined: bool) -> LedgerPayment:
    return LedgerPayment(
        id=entry.subject,
        quarantined=quarantined,
        outage=fields.get("outage") or "",
        tender=fields["tender"],
        kind=fields["kind"],
        mode=fields["mode"],
        currency=fields["currency"],
        exponent=fields["exponent"],
        amount=fields["amount"],
        tip=fields["tip"],
        rounding=fields["rounding"],
        state=fields.get("state") or ("stored" if fields.get("custody") else "requested"),
        custody=fields.get("custody") or "",
        manual="",
        decided_on="",
        before_reversal=fields.get("before_reversal") or "",
        times_created=1,
        seq=entry.seq,
    )


def _moved(row: LedgerPayment, event: str, fields: dict[str, Any]) -> LedgerPayment:
    state, before = row.state, row.before_reversal
    if event == "reversal_requested":
        before = row.state
    if event == "reversal_failed" and row.before_reversal:
        state, before = row.before_reversal, ""
    else:
        state = _STATES.get(event, state)
    return structs.replace(
        row,
        state=state,
        before_reversal=before,
        custody=_CUSTODIES.get(event, row.custody),
        manual=fields["manual"] if event == "resolved" else row.manual,
        decided_on=row.state if event == "resolved" else row.decided_on,
        outage=(fields["outage"] or "") if "outage" in fields else row.outage,
        amount=fields.get("amount", row.amount),
        tip=fields.get("tip", row.tip),
        rounding=fields.get("rounding", row.rounding),
    )
