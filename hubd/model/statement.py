r"""Statements about an outage: what both sides counted, signed by the cloud, and how anyone checks one (design 8).

A statement is a JSON object under the rules of entry bodies (docs/reference/journal.md E6). Its signature is Ed25519
over `"hubd.statement.v1\0"` and the canonical bytes of the object without the field `signature`. It covers the hub's
entries of `ranges`, and of the later ones only those that apply an entry of the cloud's journal up to `verdicts`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct, field

from hubd.errors import HubError
from hubd.model.entry import Entry, Json, encode_body
from hubd.model.money import exponent_of
from hubd.model.payment import Custody, ManualStatus, Mode, PaymentState, decision, is_open

STATEMENT_DOMAIN = b"hubd.statement.v1\0"
FORMAT = 1
PROVISIONAL = "provisional"
FINAL = "final"

ALWAYS_SHOWN = ("taken", "cash", "stored", "captured", "declined_late", "processing", "unknown")
"""Buckets that a statement names for every currency, zero or not."""

_STATE_AFTER = {
    "payment.requested": PaymentState.REQUESTED,
    "payment.recorded": PaymentState.APPROVED,
    "payment.refused": PaymentState.REFUSED,
    "payment.announced": PaymentState.UNKNOWN,
    "payment.started": PaymentState.IN_PROGRESS,
    "payment.approved": PaymentState.APPROVED,
    "payment.stored": PaymentState.STORED,
    "payment.declined": PaymentState.DECLINED,
    "payment.cancelled": PaymentState.CANCELLED,
    "payment.unknown": PaymentState.UNKNOWN,
    "payment.reversal_requested": PaymentState.REVERSAL_PENDING,
    "payment.reversed": PaymentState.REVERSED,
    "payment.conflicted": PaymentState.CONFLICT,
}
_CUSTODY_AFTER = {
    "payment.stored": Custody.HELD,
    "payment.forwarding": Custody.FORWARDING,
    "payment.requeued": Custody.HELD,
    "payment.forwarded": Custody.FORWARDED,
    "payment.captured": Custody.CAPTURED,
    "payment.declined_late": Custody.DECLINED_LATE,
    "payment.expired": Custody.EXPIRED,
    "payment.rejected": Custody.REJECTED,
}
USES_TERMINAL = frozenset(
    f"payment.{event}"
    for event in ("started", "approved", "stored", "declined", "unknown", "forwarding", "requeued", "forwarded")
)
"""Entries after which a payment was, or may have been, sent to its terminal; a refused or cancelled one never was."""
JOINED = "payment.joined_outage"
"""Asked for after the first loss and before the outage was declared: the body tells the state reached until then."""
NEVER_SENT = frozenset({PaymentState.REQUESTED, PaymentState.REFUSED, PaymentState.CANCELLED})
"""States in which nothing of a payment has gone to a terminal."""
TERMINAL_HEARD = "outage.terminal_heard"
TERMINAL_CLOSED = "outage.terminal_closed"
_CREATED = ("payment.requested", "payment.recorded", "payment.refused", "payment.announced")
_ABOUT_PAYMENTS = frozenset({*_STATE_AFTER, *_CUSTODY_AFTER, JOINED})
_PAID_CUSTODY = {
    Custody.HELD: "stored",
    Custody.FORWARDING: "processing",
    Custody.FORWARDED: "processing",
    Custody.CAPTURED: "captured",
}


class Counted(Struct):
    """One payment as the entries counted so far tell it."""

    tender: str
    kind: str
    mode: str
    currency: str
    amounts: dict[str, int]
    state: PaymentState
    custody: Custody | None = None
    manual: ManualStatus | None = None
    decided_on: PaymentState | None = None
    before_reversal: PaymentState | None = None

    @property
    def total(self) -> int:
        """Amount, tip and rounding together, in minor units."""
        return sum(self.amounts.values())

    @property
    def is_open(self) -> bool:
        """Whether its money still waits for a word."""
        return is_open(self.state, self.custody, self.decision)

    @property
    def decision(self) -> ManualStatus | None:
        """A person's word, while it stands in for a verdict."""
        return decision(self.state, self.custody, self.manual, self.decided_on)

    @property
    def bucket(self) -> str:
        """The one heading under which the statement counts it."""
        if self.decision is not None:
            stands = self.state is PaymentState.REVERSAL_PENDING and self.decision is ManualStatus.SUCCESS
            # A reversal that never happened leaves the payment what it was.
            return "card" if stands and self.before_reversal is PaymentState.APPROVED else f"resolved_{self.decision}"
        if self.state is PaymentState.STORED and self.custody is not None:
            return _PAID_CUSTODY.get(self.custody, self.custody.value)
        if self.state is PaymentState.APPROVED:
            return "cash" if self.tender == "cash" else "card"
        if self.state in {PaymentState.REQUESTED, PaymentState.IN_PROGRESS}:
            return "running"
        return self.state.value

    @property
    def taken(self) -> bool:
        """Whether the shop counts it as paid (`Payment.is_taken`): what a person says stands in for a verdict."""
        if self.decision is not None:
            return self.decision is ManualStatus.SUCCESS
        return self.bucket in {"cash", "card", "stored", "processing", "captured", "reversal_pending"}


class OutageCount(Struct):
    """The payments of one outage, counted from entries alone."""

    outage: str
    payments: dict[str, Counted] = field(default_factory=dict)
    doubled: int = 0
    """Payments that the entries create a second time; 0 in every journal that hubd wrote."""
    used: set[str] = field(default_factory=set)
    """Terminals to which live payments of the outage were sent."""
    heard: set[str] = field(default_factory=set)
    """Terminals that have answered since the outage ended."""
    closed: set[str] = field(default_factory=set)
    """Terminals for which a person no longer waits."""

    def add(self, kind: str, subject: str, body: Mapping[str, Json]) -> None:
        """Count one entry; entries about anything else change nothing.

        A terminal that is used again after a person has closed it is waited for again.

        A payment may join the outage after it was asked for (it was asked for before the outage was declared, or its
        terminal turns out to be cut off); every entry about money carries enough to begin counting there.
        """
        if kind in {TERMINAL_HEARD, TERMINAL_CLOSED}:
            if subject == self.outage:
                (self.heard if kind == TERMINAL_HEARD else self.closed).add(body["terminal"])
            return
        payment = self.payments.get(subject)
        if payment is None:
            if body.get("outage") != self.outage or kind not in _ABOUT_PAYMENTS:
                return
            self.payments[subject] = payment = _first_seen(body)
        elif kind in _CREATED:
            self.doubled += 1
            return
        _advance(payment, kind, body)
        terminal = body.get("terminal")
        sent = kind in USES_TERMINAL or (kind == JOINED and payment.state not in NEVER_SENT)
        if terminal and sent and payment.mode == Mode.LIVE and body.get("outage") == self.outage:
            self.used.add(terminal)
            if kind == "payment.started":
                self.closed.discard(terminal)

    @property
    def unheard(self) -> list[str]:
        """Terminals used in the outage that have not answered since, and that nobody has closed; in order."""
        return sorted(self.used - self.heard - self.closed)

    @property
    def open_count(self) -> int:
        """Payments whose money still waits for a word."""
        return sum(1 for payment in self.payments.values() if payment.mode == Mode.LIVE and payment.is_open)

    def ids_sha256(self) -> str:
        """SHA-256 over the sorted ids, each followed by a line feed: both sides name the same payments."""
        return hashlib.sha256("".join(f"{id_}\n" for id_ in sorted(self.payments)).encode("ascii")).hexdigest()

    def totals(self) -> list[dict[str, Json]]:
        """Counts and sums by currency and kind; only live money."""
        found: dict[tuple[str, str], dict[str, list[int]]] = {}
        for payment in self.payments.values():
            if payment.mode != Mode.LIVE:
                continue
            buckets = found.setdefault((payment.currency, payment.kind), {name: [0, 0] for name in ALWAYS_SHOWN})
            for name in (payment.bucket, *(["taken"] if payment.taken else [])):
                bucket = buckets.setdefault(name, [0, 0])
                bucket[0] += 1
                bucket[1] += payment.total
        return [
            {
                "currency": currency,
                "exponent": exponent_of(currency),
                "kind": kind,
                "buckets": {name: {"count": count, "total": total} for name, (count, total) in sorted(buckets.items())},
            }
            for (currency, kind), buckets in sorted(found.items())
        ]


def _first_seen(body: Mapping[str, Json]) -> Counted:
    return Counted(
        tender=body["tender"],
        kind=body["kind"],
        mode=body["mode"],
        currency=body["currency"],
        amounts={name: body[name] for name in ("amount", "tip", "rounding")},
        state=PaymentState(body.get("state") or ("stored" if body.get("custody") else "requested")),
        custody=Custody(body["custody"]) if body.get("custody") else None,
        before_reversal=PaymentState(body["before_reversal"]) if body.get("before_reversal") else None,
    )


def _advance(payment: Counted, kind: str, body: Mapping[str, Json]) -> None:
    before = payment.state
    payment.state = _STATE_AFTER.get(kind, before)
    payment.custody = _CUSTODY_AFTER.get(kind, payment.custody)
    if kind == "payment.reversal_requested":
        payment.before_reversal = before
    elif kind == "payment.reversal_failed" and payment.before_reversal is not None:
        payment.state = payment.before_reversal
    elif kind == "payment.resolved":
        payment.manual, payment.decided_on = ManualStatus(body["manual"]), before
    payment.amounts.update({name: body[name] for name in payment.amounts if name in body})


def count_outage(document: Mapping[str, Any], entries: Iterable[Entry]) -> OutageCount:
    """Count the payments of the statement's outage from the hub's entries, which come in the order of seq.

    Entries inside the statement's ranges count, and later ones only if they apply an entry of the cloud's journal that
    the statement knew (their `cause`).
    """
    count = OutageCount(document["outage"])
    ranges = {bytes.fromhex(r["line"]): (r["from_seq"], r["upto_seq"]) for r in document["ranges"]}
    verdicts = {v["line"]: v["upto_seq"] for v in document["verdicts"]}
    for entry in entries:
        if not entry.kind.startswith(("payment.", "outage.terminal_")):
            continue
        first, last = ranges.get(entry.line, (0, -1))
        body = entry.body()
        cause = body.get("cause") or {}
        if first <= entry.seq <= last or cause.get("seq", 1) <= verdicts.get(cause.get("line", ""), 0):
            count.add(entry.kind, entry.head.subject, body)
    return count


def differences(document: Mapping[str, Any], count: OutageCount) -> list[str]:
    """Names of the fields in which a statement and a count of the same entries disagree; empty when they agree."""
    own: dict[str, Json] = {
        "payments": {"count": len(count.payments), "ids_sha256": count.ids_sha256()},
        "totals": count.totals(),
        "open": count.open_count,
        "unheard": count.unheard,
        "doubled": count.doubled,
    }
    return [name for name, value in own.items() if document.get(name) != value]


def canonical_bytes(document: Mapping[str, Any]) -> bytes:
    """The bytes that the cloud signs: everything but the signature, as an entry's body is written."""
    return STATEMENT_DOMAIN + encode_body({key: value for key, value in document.items() if key != "signature"})


class Verdict(Struct, frozen=True):
    """The answer of a check, with a sentence for each thing that is wrong."""

    ok: bool
    reasons: tuple[str, ...] = ()
    payments: int = 0
    matched: tuple[str, ...] = ()
    """What was compared and agrees, for a person to read."""


def verify_statement(
    document: Mapping[str, Any], public_key: bytes, verify: Callable[[bytes, bytes, bytes], bool]
) -> Verdict:
    """Whether the cloud's key signed exactly this statement, and whether it contradicts itself."""
    reasons = []
    try:
        signature = bytes.fromhex(document["signature"])
        if not verify(public_key, signature, canonical_bytes(document)):
            reasons.append("The signature is not this key's over this statement.")
        if document["format"] != FORMAT:
            reasons.append(f"The statement has format {document['format']}, this program reads {FORMAT}.")
        if document["finality"] == FINAL and document["open"]:
            reasons.append("It calls itself final while payments are open.")
        if document["finality"] == FINAL and document.get("unheard"):
            reasons.append("It calls itself final while terminals of the outage have not been heard.")
        count = document["payments"]["count"]
    except (KeyError, ValueError, TypeError, HubError):
        return Verdict(False, ("It is not a statement of this format.",))
    return Verdict(not reasons, tuple(reasons), count, () if reasons else ("signature",))


def verify_with_entries(document: Mapping[str, Any], entries: Iterable[Entry]) -> Verdict:
    """Whether the hub's entries, in the order of seq and their chain already verified, say what the statement says."""
    kept = list(entries)
    reasons = []
    by_place = {(entry.line.hex(), entry.seq): entry for entry in kept}
    for span in document["ranges"]:
        last = by_place.get((span["line"], span["upto_seq"]))
        missing = sum(1 for seq in range(span["from_seq"], span["upto_seq"] + 1) if (span["line"], seq) not in by_place)
        if missing:
            reasons.append(f"{missing} of the entries that it covers are not in the archive.")
        elif last is not None and last.hash.hex() != span["hash"]:
            reasons.append(f"Entry {span['upto_seq']} has another hash than the statement names.")
    count = count_outage(document, kept)
    reasons += [f"The entries give another value for `{name}`." for name in differences(document, count)]
    matched = () if reasons else ("hash", "payments", "totals", "open", "unheard", "doubled")
    return Verdict(not reasons, tuple(reasons), len(count.payments), matched)
