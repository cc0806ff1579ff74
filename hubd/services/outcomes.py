"""What a terminal said, turned into entries. Runs inside `Database.write`; one verdict on one payment each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import asdict, replace

from hubd.model.entry import Document, Draft
from hubd.model.payment import CONTRADICTS_DECISION, ManualStatus, Method, Payment, PaymentEvent, PaymentState
from hubd.model.policy import Accept, Elapsed, Refuse, Sale, deadline_us, decide
from hubd.model.retention import receipt_keeping
from hubd.ports import Approved, Cancelled, Declined, Evidence, NotStarted, Outcome, Stored, Unknown
from hubd.services.calendar import business_date
from hubd.services.lines import next_number
from hubd.services.settings import policy_in_force
from hubd.services.taking import RECEIPTS, mode_flags, settle_order
from hubd.store import devices, journal, outages, payments, people
from hubd.store.tx import Tx

_PRESENTED = {
    "chip": Method.CHIP,
    "contactless": Method.CONTACTLESS,
    "manual": Method.MANUAL_ENTRY,
    "swipe": Method.SWIPE,
}
"""How the customer did present himself, by the terminal's word (`Evidence.technology`)."""
MakeDocument = Callable[[str, bytes], Document]
"""(class, content) -> a document with a fresh id and salt."""


def evidence_body(evidence: Evidence) -> dict[str, Any]:
    """The part of a terminal's answer that belongs in an entry: no card data beyond the last four, no print lines."""
    body = asdict(evidence)
    del body["receipt_lines"]
    body["amount"] = evidence.amount.amount_minor if evidence.amount else None
    body["currency"] = evidence.amount.currency if evidence.amount else None
    return {name: value for name, value in body.items() if value not in ("", None, False)}


def record_started(tx: Tx, payment_id: str, baseline: str) -> Payment | None:
    """Note durably that the authorisation is about to leave, with the terminal's receipt number before it.

    None if the payment is no longer `requested` (it was cancelled meanwhile): then nothing may be sent.
    """
    payment = payments.get(tx.connection, payment_id)
    assert payment is not None, "a dialogue belongs to a payment that has a row"
    if payment.state is not PaymentState.REQUESTED:
        return None
    _append(tx, payment, PaymentEvent.STARTED, {"baseline": baseline, "reason": ""})
    return payments.get(tx.connection, payment_id)


def record_outcome(
    tx: Tx, payment_id: str, outcome: Outcome, make_document: MakeDocument, terminal: str | None = None
) -> Payment:
    """Append the verdict of a dialogue or an enquiry, and what follows from it for the order.

    A verdict on a payment that has one already is not applied twice; one that contradicts it makes a conflict.
    `terminal` told it; a payment of which no terminal was known belongs to it from then on.
    """
    payment = payments.get(tx.connection, payment_id)
    assert payment is not None, "a verdict belongs to a payment that has a row"
    event, more, evidence = _event_of(tx, payment, outcome)
    if payment.terminal is None and terminal is not None:
        more["terminal"] = terminal
    waiting = payment.state in {PaymentState.REQUESTED, PaymentState.IN_PROGRESS, PaymentState.UNKNOWN}
    if not waiting:
        if not _agrees(payment.state, event):
            more.pop("series", None), more.pop("counter", None)
            _append(tx, payment, PaymentEvent.CONFLICTED, more | {"verdict": event.value})
    elif payment.state is PaymentState.UNKNOWN and event is PaymentEvent.UNKNOWN:
        return payment
    elif payment.manual is not None and not _agrees_with_manual(payment.manual, event):
        said = {"verdict": event.value, "code": more.get("reason", ""), "reason": CONTRADICTS_DECISION}
        _append(tx, payment, PaymentEvent.CONFLICTED, more | said)
    else:
        documents = _receipt_documents(tx, payment, evidence, make_document)
        _append(tx, payment, event, more, documents)
    if payment.order_id is not None:
        settle_order(tx, payment.order_id, "hub")
    after = payments.get(tx.connection, payment_id)
    assert after is not None, "a row never disappears"
    return after


def _event_of(tx: Tx, payment: Payment, outcome: Outcome) -> tuple[PaymentEvent, dict[str, Any], Evidence | None]:
    match outcome:
        case Approved(evidence):
            return PaymentEvent.APPROVED, _with_number(tx, payment, evidence), evidence
        case Stored(evidence):
            more = _with_number(tx, payment, evidence)
            return PaymentEvent.STORED, more | _in_custody(tx, payment, evidence, more["evidence"]), evidence
        case Declined(evidence, reason):
            return PaymentEvent.DECLINED, {"evidence": evidence_body(evidence), "reason": reason}, evidence
        case Cancelled(evidence, reason):
            return PaymentEvent.CANCELLED, {"evidence": evidence_body(evidence), "reason": reason}, evidence
        case NotStarted(reason):
            return PaymentEvent.CANCELLED, {"reason": reason}, None
        case Unknown(reason):
            return PaymentEvent.UNKNOWN, {"reason": reason}, None


def _with_number(tx: Tx, payment: Payment, evidence: Evidence) -> dict[str, Any]:
    """Receipt numbers are taken only by payments that were taken, so their series have no gaps."""
    more: dict[str, Any] = {"evidence": evidence_body(evidence), "reason": ""}
    if payment.counter is None:
        more["series"], more["counter"] = next_number(tx, payment.till or "hub", RECEIPTS)
    return more


def _in_custody(tx: Tx, payment: Payment, evidence: Evidence, told: dict[str, Any]) -> dict[str, Any]:
    """Outage, deadline and policy of a stored payment, judged when the terminal says that it keeps it.

    The decision before the terminal was touched knew of no outage if the line broke in that very moment: the terminal
    notices first. And it knew the till's word alone of how the card would be presented. What the policy would have
    refused is marked, because the money is in the terminal all the same.
    """
    device = devices.get(tx.connection, payment.terminal or "")
    device_class = (device.device_class if device else "") or "terminal"
    # A policy that has allowed the payment is the one that it is held against, also if it has changed meanwhile.
    decided = (tx.now_us(), None) if payment.policy_version is None else (payment.requested_at_us, payment.seq)
    policy, version = policy_in_force(tx.connection, device_class, payment.location, *decided)
    outage = outages.get(tx.connection, payment.outage) if payment.outage else outages.current(tx.connection)
    more: dict[str, Any] = {"custody": "held", "outage": outage.id if outage else payment.outage}
    more["deadline_us"] = payment.deadline_us
    if payment.deadline_us is None:
        rule = Accept(policy.upload_anchor, policy.upload_within_s)
        first = payments.first_offline_us(tx.connection, outage.id, payment.terminal) if outage else None
        started = outage.started_at_us if outage else payment.requested_at_us
        more["deadline_us"] = deadline_us(rule, started, first, tx.now_us())
    if payment.policy_version is None:
        more["policy_version"] = version
    method = _PRESENTED.get(evidence.technology, payment.method)
    verdict = decide(policy, Sale(payment.money, method, by_manager=False), Elapsed(0, 0))
    if isinstance(verdict, Refuse):
        told["outside_policy"] = verdict.code
    return more


def _receipt_documents(
    tx: Tx, payment: Payment, evidence: Evidence | None, make_document: MakeDocument
) -> tuple[Document, ...]:
    """What the terminal wants printed, kept for as long as the law of the shop's country demands."""
    if evidence is None or not evidence.receipt_lines:
        return ()
    location = people.location(tx.connection, payment.location)
    country = location.country if location else ""
    # The business date may come from a clock that was wrong then and is right now.
    day = max(payment.business_date, business_date(tx.now_us(), payment.zone, 0))
    keeping = receipt_keeping(country, day, clock_trusted=tx.clock_trusted())
    document = make_document("terminal_receipt", "\n".join(evidence.receipt_lines).encode("utf-8"))
    return (replace(document, keep_until=keeping.until, law=keeping.law),)


def _agrees(state: PaymentState, event: PaymentEvent) -> bool:
    if event is PaymentEvent.UNKNOWN or state is PaymentState.CONFLICT:
        return True
    taken = {PaymentState.APPROVED, PaymentState.STORED, PaymentState.REVERSAL_PENDING, PaymentState.REVERSED}
    return (state in taken) == (event in {PaymentEvent.APPROVED, PaymentEvent.STORED})


def _agrees_with_manual(manual: ManualStatus, event: PaymentEvent) -> bool:
    if event is PaymentEvent.UNKNOWN:
        return True
    return (manual is ManualStatus.SUCCESS) == (event in {PaymentEvent.APPROVED, PaymentEvent.STORED})


def record_reversal(tx: Tx, payment_id: str, outcome: Outcome) -> Payment:
    """Append what became of a reversal. An unknown one stays `reversal_pending`: a person or an enquiry decides."""
    payment = payments.get(tx.connection, payment_id)
    assert payment is not None, "a reversal belongs to a payment that has a row"
    if payment.state is not PaymentState.REVERSAL_PENDING:
        return payment
    match outcome:
        case Approved(evidence):
            _append(
                tx, payment, PaymentEvent.REVERSED, {"evidence": payment.evidence, "reversal": evidence_body(evidence)}
            )
        case Declined(evidence, "already_reversed"):
            # An earlier attempt of ours, or a person at the terminal, has undone it: the money is back.
            _append(
                tx, payment, PaymentEvent.REVERSED, {"evidence": payment.evidence, "reversal": evidence_body(evidence)}
            )
        case Declined(_, reason) | Cancelled(_, reason) | NotStarted(reason):
            _append(tx, payment, PaymentEvent.REVERSAL_FAILED, {"reason": reason})
        case Stored() | Unknown():
            return payment
    if payment.order_id is not None:
        settle_order(tx, payment.order_id, "hub")
    after = payments.get(tx.connection, payment_id)
    assert after is not None, "a row never disappears"
    return after


def _append(
    tx: Tx, payment: Payment, event: PaymentEvent, more: dict[str, Any], documents: tuple[Document, ...] = ()
) -> None:
    append_event(tx, payment, event, "hub", more, documents)


def append_event(
    tx: Tx,
    payment: Payment,
    event: PaymentEvent,
    actor: str,
    more: dict[str, Any],
    documents: tuple[Document, ...] = (),
) -> None:
    """Append one step of a payment with everything that an entry about money carries."""
    kind = f"payment.{event}"
    draft = Draft(
        kind, payment.id, actor, payment.entry_body(**more), flags=mode_flags(payment.mode), documents=documents
    )
    journal.append(tx, draft)
