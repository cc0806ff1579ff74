"""Payments: what happened to the money, who holds it, and what a person has said; three axes that move independently.

Domain 6.1. The tables below are the whole machine; a test walks every pair of state and event. Delivery to the cloud
is not here: it is derived from the cursor and never stored.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Any

from msgspec import Struct

from hubd.errors import InvalidTransitionError
from hubd.model.entry import Accepted
from hubd.model.money import Money


class PaymentState(StrEnum):
    """What happened to the money."""

    REQUESTED = "requested"
    IN_PROGRESS = "in_progress"
    APPROVED = "approved"
    STORED = "stored"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    REVERSAL_PENDING = "reversal_pending"
    REVERSED = "reversed"
    CONFLICT = "conflict"


class PaymentEvent(StrEnum):
    """What may happen to a payment; each is the tail of a journal kind (`payment.approved`)."""

    STARTED = "started"
    APPROVED = "approved"
    STORED = "stored"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    REVERSAL_REQUESTED = "reversal_requested"
    REVERSED = "reversed"
    REVERSAL_FAILED = "reversal_failed"
    CONFLICTED = "conflicted"


class Custody(StrEnum):
    """Who is responsible for a stored payment's way to the acquirer; only for `stored`."""

    HELD = "held"
    FORWARDING = "forwarding"
    FORWARDED = "forwarded"
    CAPTURED = "captured"
    DECLINED_LATE = "declined_late"
    EXPIRED = "expired"
    REJECTED = "rejected"


class CustodyEvent(StrEnum):
    """What may happen to a stored payment; each is the tail of a journal kind (`payment.forwarded`)."""

    FORWARDING = "forwarding"
    REQUEUED = "requeued"
    FORWARDED = "forwarded"
    CAPTURED = "captured"
    DECLINED_LATE = "declined_late"
    EXPIRED = "expired"
    REJECTED = "rejected"


class ManualStatus(StrEnum):
    """What a manager has said of a payment; beside the automatic state for ever, never instead (D09)."""

    SUCCESS = "success"
    FAILURE = "failure"


_S, _E = PaymentState, PaymentEvent
_VERDICTS = {
    _E.APPROVED: _S.APPROVED,
    _E.STORED: _S.STORED,
    _E.DECLINED: _S.DECLINED,
    _E.CANCELLED: _S.CANCELLED,
}

PAYMENT_TRANSITIONS: dict[PaymentState, dict[PaymentEvent, PaymentState]] = {
    _S.REQUESTED: {**_VERDICTS, _E.STARTED: _S.IN_PROGRESS, _E.UNKNOWN: _S.UNKNOWN},
    _S.IN_PROGRESS: {**_VERDICTS, _E.UNKNOWN: _S.UNKNOWN},
    _S.UNKNOWN: {**_VERDICTS, _E.CONFLICTED: _S.CONFLICT},
    _S.APPROVED: {_E.REVERSAL_REQUESTED: _S.REVERSAL_PENDING, _E.CONFLICTED: _S.CONFLICT},
    _S.STORED: {_E.REVERSAL_REQUESTED: _S.REVERSAL_PENDING, _E.CONFLICTED: _S.CONFLICT},
    _S.REVERSAL_PENDING: {_E.REVERSED: _S.REVERSED, _E.CONFLICTED: _S.CONFLICT},
    _S.DECLINED: {_E.CONFLICTED: _S.CONFLICT},
    _S.CANCELLED: {_E.CONFLICTED: _S.CONFLICT},
    _S.REVERSED: {_E.CONFLICTED: _S.CONFLICT},
    _S.REFUSED: {},
    _S.CONFLICT: {},
}
"""`reversal_failed` is not in the table: it leads back to the state before, which `next_state` is told."""

_C, _CE = Custody, CustodyEvent
_LATE = {_CE.CAPTURED: _C.CAPTURED, _CE.DECLINED_LATE: _C.DECLINED_LATE, _CE.EXPIRED: _C.EXPIRED}

CUSTODY_TRANSITIONS: dict[Custody, dict[CustodyEvent, Custody]] = {
    # A verdict may overtake the custodian's own word: the cloud hears from the acquirer before the terminal answers.
    _C.HELD: {**_LATE, _CE.FORWARDING: _C.FORWARDING, _CE.REJECTED: _C.REJECTED},
    _C.FORWARDING: {
        **_LATE,
        _CE.REQUEUED: _C.HELD,
        _CE.FORWARDED: _C.FORWARDED,
        _CE.REJECTED: _C.REJECTED,
    },
    _C.FORWARDED: {**_LATE, _CE.REJECTED: _C.REJECTED},
    _C.CAPTURED: {},
    _C.DECLINED_LATE: {},
    _C.EXPIRED: {},
    _C.REJECTED: {},
}

OPEN_STATES = frozenset({_S.REQUESTED, _S.IN_PROGRESS, _S.UNKNOWN, _S.REVERSAL_PENDING, _S.CONFLICT})
"""States in which nobody may yet say what happened to the money."""
CUSTODY_OPEN = frozenset({_C.HELD, _C.FORWARDING, _C.FORWARDED})
"""Stored payments whose verdict is still to come."""
LATE_REFUSED = frozenset({_C.DECLINED_LATE, _C.EXPIRED, _C.REJECTED})
"""Stored payments that the bank has not paid in the end."""
TAKEN = frozenset({_S.APPROVED, _S.STORED, _S.REVERSAL_PENDING})


MANUALLY_DECIDED = frozenset({_S.UNKNOWN, _S.CONFLICT, _S.REVERSAL_PENDING})
"""States in which a manager's word stands in for the automatic verdict that nobody can give; beside them `stored`,
where the money is on its way (`may_be_decided`)."""
CONTRADICTS_DECISION = "contradicts_decision"
"""Reason of a `payment.conflicted` that says the opposite of what a person had decided."""


def next_state(state: PaymentState, event: PaymentEvent, before_reversal: PaymentState | None = None) -> PaymentState:
    """Return the state after `event`; raise `InvalidTransitionError` for what must not happen.

    `before_reversal` is the state in which the reversal was asked for; a failed reversal leads back there.
    """
    if event is PaymentEvent.REVERSAL_FAILED and state is PaymentState.REVERSAL_PENDING and before_reversal:
        return before_reversal
    try:
        return PAYMENT_TRANSITIONS[state][event]
    except KeyError:
        raise InvalidTransitionError("payment", state, event) from None


def next_custody(custody: Custody, event: CustodyEvent) -> Custody:
    """Return the custody after `event`; raise `InvalidTransitionError` for what must not happen."""
    try:
        return CUSTODY_TRANSITIONS[custody][event]
    except KeyError:
        raise InvalidTransitionError("custody", custody, event) from None


def contradicts(custody: Custody, event: CustodyEvent) -> bool:
    """Whether a late verdict says the opposite of one that was applied: then the payment becomes `conflict`."""
    decided = {_C.CAPTURED, _C.DECLINED_LATE, _C.EXPIRED, _C.REJECTED}
    target = {**_LATE, _CE.REJECTED: _C.REJECTED}.get(event)
    return custody in decided and target is not None and target is not custody


def decision(
    state: PaymentState, custody: Custody | None, manual: ManualStatus | None, decided_on: PaymentState | None
) -> ManualStatus | None:
    """What a person has said, while it stands in for a verdict; None once the payment has moved on.

    A word counts only for the state in which it was given: it does not answer the question that a later conflict or
    reversal asks. It stands beside the payment all the same, for ever.
    """
    if manual is None or decided_on is not state:
        return None
    if state is PaymentState.STORED:
        return manual if custody in CUSTODY_OPEN or custody in LATE_REFUSED else None
    return manual if state in MANUALLY_DECIDED else None


def may_be_decided(state: PaymentState, custody: Custody | None, *, terminal_answers: bool, overdue: bool) -> bool:
    """Whether a person may say what happened to the money, because nothing that the hub can ask will say it.

    What a terminal holds, it can send itself, as long as it answers and the deadline has not passed. What was forwarded
    may be settled without anybody telling the hub: then the bank's statement is the only source. What the bank has
    refused late is closed by a person: the customer has paid in another way, or the money is lost.
    """
    if state is PaymentState.STORED:
        held = custody is Custody.HELD and (overdue or not terminal_answers)
        return held or custody is Custody.FORWARDED or custody in LATE_REFUSED
    return state in MANUALLY_DECIDED


def is_open(state: PaymentState, custody: Custody | None, decided: ManualStatus | None) -> bool:
    """Whether the money of this payment still waits for a word (unknown, in progress, or stored without verdict).

    `decided` is the person's word that stands for this state (`decision`).
    """
    if state in OPEN_STATES:
        return decided is None or state not in MANUALLY_DECIDED
    return state is PaymentState.STORED and custody in CUSTODY_OPEN and decided is None


def contradicts_decision(decided: ManualStatus | None, event: CustodyEvent) -> bool:
    """Whether the word about a stored payment is the opposite of what a person had decided meanwhile.

    What was decided as not paid and is handed over all the same will be charged: that is said at once.
    """
    if decided is ManualStatus.FAILURE:
        return event in {_CE.FORWARDED, _CE.CAPTURED}
    return decided is ManualStatus.SUCCESS and event in {_CE.DECLINED_LATE, _CE.EXPIRED, _CE.REJECTED}


class PaymentKind(StrEnum):
    """A refund is a payment of its own that points to the original."""

    SALE = "sale"
    REFUND = "refund"


class Mode(StrEnum):
    """Whether money is meant. Only `live` counts in totals."""

    LIVE = "live"
    TEST = "test"
    TRAINING = "training"


class Tender(StrEnum):
    """One way in which part of an order is paid."""

    CASH = "cash"
    CARD = "card"


class Method(StrEnum):
    """How the customer presents himself. `card` leaves it to the terminal."""

    CASH = "cash"
    CARD = "card"
    CHIP = "chip"
    SWIPE = "swipe"
    CONTACTLESS = "contactless"
    MANUAL_ENTRY = "manual_entry"
    GIFT_CARD = "gift_card"
    CLEARPAY = "clearpay"


class Payment(Struct, frozen=True, gc=False):
    """One attempt to move money, as the entries up to `last_seq` tell it. Amounts in minor units of `currency`."""

    id: str
    seq: int
    """Place of the entry that created it, with `line` and `hash`: the `accepted` of every answer."""
    line: bytes
    hash: bytes
    last_seq: int
    digest: bytes
    """SHA-256 of the request as the till made it; another request under the same id is refused."""
    kind: PaymentKind
    state: PaymentState
    custody: Custody | None
    manual: ManualStatus | None
    decided_on: PaymentState | None
    """State in which `manual` was said."""
    before_reversal: PaymentState | None
    mode: Mode
    tender: Tender
    method: Method
    amount: int
    tip: int
    rounding: int
    currency: str
    order_id: str | None
    original_id: str | None
    till: str
    terminal: str | None
    staff: str | None
    location: str
    business_date: str
    zone: str
    outage: str | None
    policy_version: int | None
    series: str | None
    counter: int | None
    baseline: str
    reason: str
    evidence: dict[str, Any]
    """What the terminal said: receipt_number, trace_number, terminal_id, card_name, pan_last4, technology, …"""
    receipt_document: bytes | None
    deadline_us: int | None
    requested_at_us: int
    updated_at_us: int

    @property
    def accepted(self) -> Accepted:
        """Place of the entry that created it; kept in the row, because that entry may be archived one day."""
        return Accepted(self.line, self.seq, self.hash)

    @property
    def money(self) -> Money:
        """What is asked of the customer: amount, tip and rounding together."""
        return Money(self.amount + self.tip + self.rounding, self.currency)

    @property
    def is_open(self) -> bool:
        """Whether its money still waits for a word."""
        return is_open(self.state, self.custody, self.decision)

    @property
    def decision(self) -> ManualStatus | None:
        """A person's word, while it stands in for a verdict."""
        return decision(self.state, self.custody, self.manual, self.decided_on)

    @property
    def is_taken(self) -> bool:
        """Whether the shop counts it as paid for now."""
        return is_taken(self.state, self.custody, self.decision)

    def entry_body(self, **more: Any) -> dict[str, Any]:
        """What every entry about this money carries (docs/reference/journal.md), with `more` on top."""
        return {
            "amount": self.amount,
            "business_date": self.business_date,
            "counter": self.counter,
            "currency": self.currency,
            "custody": self.custody,
            "device": self.till,
            "exponent": self.money.exponent,
            "kind": self.kind,
            "location": self.location,
            "method": self.method,
            "mode": self.mode,
            "order": self.order_id,
            "outage": self.outage,
            "policy_version": self.policy_version,
            "rounding": self.rounding,
            "series": self.series,
            "staff": self.staff,
            "tender": self.tender,
            "terminal": self.terminal,
            "tip": self.tip,
            "zone": self.zone,
        } | more


def is_taken(state: PaymentState, custody: Custody | None, decision: ManualStatus | None) -> bool:
    """Whether a payment of this state, custody and decision counts as paid for now.

    Orders and takings ask here, and statements say the same: a person's word stands in for a verdict.
    """
    if decision is not None:
        return decision is ManualStatus.SUCCESS
    return state in TAKEN and custody not in LATE_REFUSED


def counter_names(payment: Payment) -> tuple[str, ...]:
    """The running totals that a payment belongs to in its present state; training and test belong to none."""
    if payment.mode is not Mode.LIVE:
        return ()
    state, custody = payment.state, payment.custody
    decided = None if payment.manual is None else payment.decision
    return _counter_names(state, custody, decided, payment.kind, payment.tender, payment.business_date)


_RUNNING = frozenset({_S.REQUESTED, _S.IN_PROGRESS})
_CONTESTED = frozenset({_S.CONFLICT, _S.REVERSAL_PENDING})


@lru_cache(maxsize=1024)
def _counter_names(
    state: PaymentState,
    custody: Custody | None,
    decision: ManualStatus | None,
    kind: PaymentKind,
    tender: Tender,
    business_date: str,
) -> tuple[str, ...]:
    names: list[str] = []
    if state in _RUNNING:
        names.append("running")
    elif state is _S.UNKNOWN:
        names.append("unknown" if decision is None else "unknown_decided")
    elif state in _CONTESTED:
        names.append(state.value if decision is None else f"{state.value}_decided")
    elif state is _S.STORED and custody is not None:
        names.append(custody.value if decision is None else f"{custody.value}_decided")
    if is_taken(state, custody, decision):
        sign = "refunds" if kind is PaymentKind.REFUND else "sales"
        names += [f"perpetual.{sign}", f"day.{business_date}.{sign}.{tender}"]
    return tuple(names)
