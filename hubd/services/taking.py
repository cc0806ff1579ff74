"""The transaction in which a payment request becomes a durable intent, a recorded cash payment or a refusal.

All functions here run inside `Database.write`: they touch only the transaction and what they are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from hubd.errors import InvalidValueError, NotFoundError, OrderError, PaymentError, Retry
from hubd.model.entry import Accepted, Document, Draft
from hubd.model.money import Money, cash_rounding_max
from hubd.model.order import PAID_TWICE, UNPAID, Order, OrderEvent, OrderState
from hubd.model.payment import Method, Mode, Payment, PaymentKind, PaymentState, Tender
from hubd.model.permissions import Permission
from hubd.model.policy import Elapsed, Refuse, Sale, deadline_us, decide
from hubd.services.access import Caller
from hubd.services.calendar import business_date
from hubd.services.lines import next_number
from hubd.services.settings import effective, policy_in_force
from hubd.store import journal, orders, outages, payments, people
from hubd.store.tx import Connection, Tx

_SALE = PaymentKind.SALE.value
RECEIPTS = "receipt"
"""Purpose of the number series that receipts take their numbers from."""
_NOBODY_KNOWS = frozenset({PaymentState.UNKNOWN, PaymentState.CONFLICT})
"""States in which the customer may have been charged: until it is decided, nobody charges the order again."""


class TakePayment(Struct, frozen=True, gc=False):
    """A till's request, checked by its own grammar at the edge."""

    id: str
    digest: bytes
    """SHA-256 of the request's canonical form: the same again is a repeat, another one under this id is refused."""
    amount: Money
    tip: int = 0
    rounding: int = 0
    tender: Tender = Tender.CARD
    method: Method = Method.CARD
    mode: Mode = Mode.LIVE
    order_id: str | None = None
    terminal: str | None = None
    override_reason: str | None = None
    """A manager's reason to take another payment although the last one of the order is unknown."""

    @property
    def money(self) -> Money:
        """What the customer is asked for."""
        return Money(self.amount.amount_minor + self.tip + self.rounding, self.amount.currency)


class TerminalView(Struct, frozen=True, gc=False):
    """What the deciding transaction may know of the terminals, taken just before it."""

    chosen: str | None
    """The terminal that would take the payment; None when there is none to choose."""
    refusal: str = ""
    """Why it cannot take one now, as a code that a till's sentences know; empty when it can."""
    device_class: str = "terminal"


NO_TIME = Elapsed(0, 0)


class OutageView(Struct, frozen=True, gc=False):
    """The outage that counts for card payments at this moment, or none."""

    outage_id: str | None
    started_at_us: int = 0
    elapsed: Elapsed = NO_TIME
    cards_offline: bool = False
    """Whether a card payment now would be an offline payment, so that the policy decides."""


class Taken(Struct, frozen=True, gc=False):
    """Answer to a payment request: the payment as it is now and whether this call created it."""

    payment: Payment
    accepted: Accepted
    """Place of the entry that created it; line, seq and hash of every answer."""
    created: bool


def check_request(request: TakePayment) -> None:
    """Raise for a request that is wrong in itself, whatever the state of the shop."""
    amount = request.amount.amount_minor
    if amount <= 0:
        raise InvalidValueError(
            "amount_not_positive", "A payment is above zero.", remedy="To give money back, make a refund."
        )
    if request.rounding:
        _check_rounding(request)
    if request.tip and (request.tip < 0 or request.money.amount_minor <= 0):
        raise InvalidValueError("amount_out_of_range", "The tip does not fit the amount.", remedy="Check it.")
    if request.mode is not Mode.LIVE:
        # An order, a terminal and a series of receipt numbers are live; training needs its own of each.
        raise InvalidValueError(
            "mode_not_available",
            "This hub takes live payments only.",
            remedy="Leave `mode` out. Practise with the demo store, whose terminals are simulated.",
        )
    if (request.tender is Tender.CASH) != (request.method is Method.CASH):
        raise InvalidValueError(
            "method_mismatch",
            "Tender and method do not fit each other.",
            remedy="Cash goes with cash, cards with card.",
        )


def _check_rounding(request: TakePayment) -> None:
    """An order counts the amount without it, so it may be no more than coins make necessary."""
    most = cash_rounding_max(request.amount.currency) if request.tender is Tender.CASH else 0
    if abs(request.rounding) > most or request.money.amount_minor <= 0:
        raise InvalidValueError(
            "rounding_out_of_range",
            f"This amount cannot be rounded by that much; at most {most} minor units here.",
            remedy="Round cash to the next coin; send no rounding with a card, and a discount as lines of the order.",
            params={"max": most},
        )


def digest_matches(existing: Payment, request: TakePayment) -> None:
    """Raise `id_conflict` when the id stands for another request; an announced payment has none to compare."""
    if existing.digest and existing.digest != request.digest:
        raise PaymentError(
            "id_conflict",
            "This id belongs to another payment request.",
            remedy="Make a new id for a new payment; repeat the old request unchanged to read its result.",
            retry=Retry.NEW_ID,
        )


def _order_for(connection: Connection, request: TakePayment, location: str) -> Order | None:
    if request.order_id is None:
        return None
    order = orders.get(connection, request.order_id)
    if order is None:
        raise NotFoundError(
            "order_unknown", "The order is not known to this hub.", remedy="Place the order first, then pay it."
        )
    if order.location != location:
        raise OrderError(
            "order_elsewhere",
            "The order was placed at another location.",
            remedy="Take its payment there, or place the order here.",
        )
    if order.currency != request.amount.currency:
        raise InvalidValueError("currency_mismatch", "The order is in another currency.", remedy="Pay in its currency.")
    if order.state in {OrderState.PAID, OrderState.PAID_OFFLINE_PENDING, OrderState.CANCELLED}:
        raise OrderError(
            "order_closed",
            f"The order is {order.state} already.",
            remedy="Read the order; its payments are listed there.",
            retry=Retry.AFTER_ENQUIRY,
        )
    due = order.total - sum(paid.amount for paid in payments.of_order(connection, order.id) if counts_as_paid(paid))
    if request.amount.amount_minor > due:
        raise OrderError(
            "over_amount_due",
            "The payment is larger than what is still due on the order.",
            remedy="Read the order and take what is due; give change or a tip apart.",
            params={"due": due},
        )
    return order


def counts_as_paid(payment: Payment) -> bool:
    """Whether an order counts this payment: taken, or decided as a success by a manager while nobody can say."""
    return payment.is_taken and payment.kind is not PaymentKind.REFUND and payment.mode is Mode.LIVE


def blocking_payment(connection: Connection, order_id: str) -> Payment | None:
    """The payment of this order that must be resolved before another may be taken (design 10)."""
    for payment in reversed(payments.of_order(connection, order_id)):
        if payment.state in _NOBODY_KNOWS and payment.decision is None:
            return payment
        if payment.state in {PaymentState.REQUESTED, PaymentState.IN_PROGRESS}:
            return payment
    return None


def take(
    tx: Tx,
    request: TakePayment,
    caller: Caller,
    terminal: TerminalView,
    outage: OutageView,
    reason_document: Document | None,
    *,
    existing: Payment | None,
    must_announce: bool,
) -> Taken:
    """Turn a request into entries. A repeat, whose payment is `existing`, changes nothing and returns that."""
    if existing is not None:
        digest_matches(existing, request)
        return Taken(existing, existing.accepted, created=False)
    order = _order_for(tx.rows, request, caller.location)
    body = _body(tx, request, caller, terminal, outage)
    if must_announce:
        body |= {"reason": "attempt_before_restart", "digest": request.digest.hex()}
        return _append(tx, "payment.announced", request, caller, body)
    blocking = blocking_payment(tx.connection, request.order_id) if request.order_id is not None else None
    if blocking is not None and not _overridden(tx, request, caller, blocking, reason_document):
        code = "previous_unknown" if blocking.state in _NOBODY_KNOWS else "previous_in_progress"
        return _append(tx, "payment.refused", request, caller, body | {"reason": code})
    if request.tender is Tender.CASH:
        body["series"], body["counter"] = next_number(tx, caller.device or "hub", RECEIPTS)
        taken = _append(tx, "payment.recorded", request, caller, body)
        if order is not None:
            settle_order(tx, order.id, caller.actor)
        return taken
    refusal, more = _card_refusal(tx, request, caller, terminal, outage, body)
    if refusal:
        return _append(tx, "payment.refused", request, caller, body | {"reason": refusal} | more)
    return _append(tx, "payment.requested", request, caller, body | more)


def _card_refusal(
    tx: Tx, request: TakePayment, caller: Caller, terminal: TerminalView, outage: OutageView, body: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Policy first, because it says what would be allowed; then the terminal. Also what an accepted intent carries."""
    more: dict[str, Any] = {}
    if outage.cards_offline:
        policy, version = policy_in_force(tx.connection, terminal.device_class, caller.location, tx.now_us())
        more["policy_version"] = version
        sale = Sale(request.money, request.method, by_manager=caller.may(Permission.PAYMENTS_OVERRIDE))
        verdict = decide(policy, sale, outage.elapsed)
        if isinstance(verdict, Refuse):
            more["refusal"] = {"params": dict(verdict.params), "would_allow": list(verdict.would_allow)}
            return verdict.code, more
        # An outage that has just begun may not have its row yet (the disk is slow or full): the policy counts already.
        first = (
            payments.first_offline_us(tx.connection, outage.outage_id, terminal.chosen) if outage.outage_id else None
        )
        more["deadline_us"] = deadline_us(verdict, outage.started_at_us or tx.now_us(), first, tx.now_us())
    return terminal.refusal, more


def _body(tx: Tx, request: TakePayment, caller: Caller, terminal: TerminalView, outage: OutageView) -> dict[str, Any]:
    zone, day, currency = _calendar(tx, caller.location)
    amount = request.amount
    if amount.currency != currency:
        raise InvalidValueError(
            "currency_not_here", f"This shop sells in {currency}.", remedy="Send amounts in the shop's currency."
        )
    return {
        "amount": amount.amount_minor,
        "attempt": caller.attempt,
        "baseline": "",
        "business_date": day,
        "counter": None,
        "currency": currency,
        "custody": None,
        "deadline_us": None,
        "device": caller.device,
        "digest": request.digest.hex(),
        "exponent": amount.exponent,
        "kind": _SALE,
        "location": caller.location,
        "method": request.method._value_,
        "mode": request.mode._value_,
        "order": request.order_id,
        "original": None,
        "outage": current_outage(tx, outage),
        "policy_version": None,
        "reason": "",
        "rounding": request.rounding,
        "series": None,
        "staff": caller.staff,
        "tender": request.tender._value_,
        "terminal": terminal.chosen if request.tender is Tender.CARD else None,
        "tip": request.tip,
        "zone": zone,
    }


def current_outage(tx: Tx, outage: OutageView) -> str | None:
    """The outage to which what is taken now belongs.

    While the row of one that has just been declared is being written nobody outside the transaction knows its id.
    """
    if outage.outage_id is None and outage.cards_offline:
        found = outages.current(tx.connection)
        return found.id if found else None
    return outage.outage_id


def _calendar(tx: Tx, location_id: str) -> tuple[str, str, str]:
    """Zone, business date and currency of a location at this moment; read once for all sales of a group."""
    known = tx.memo.get(("calendar", location_id))
    if known is None:
        location = people.location(tx.connection, location_id)
        if location is None:
            raise NotFoundError("location_unknown", "The location is not known.", remedy="Set the hub up first.")
        starts = effective(tx.connection, "day.starts_at_minute", tx.now_us()).value
        known = location.zone, starts, location.currency
        tx.memo["calendar", location_id] = known
    zone, starts, currency = known
    return zone, business_date(tx.now_us(), zone, starts), currency


def _append(tx: Tx, kind: str, request: TakePayment, caller: Caller, body: Mapping[str, Any]) -> Taken:
    entry = journal.append(tx, Draft(kind, request.id, caller.actor, body, flags=mode_flags(request.mode)))
    payment = payments.created(tx, entry)
    return Taken(payment, payment.accepted, created=True)


_MODE_FLAGS = {Mode.LIVE: 0, Mode.TRAINING: 2, Mode.TEST: 4}


def mode_flags(mode: Mode) -> int:
    """The entry flags of training and test mode (E5)."""
    return _MODE_FLAGS[mode]


def _overridden(
    tx: Tx, request: TakePayment, caller: Caller, blocking: Payment, reason_document: Document | None
) -> bool:
    if reason_document is None or blocking.state not in _NOBODY_KNOWS:
        return False
    caller.need(Permission.PAYMENTS_OVERRIDE)
    body = {"rule": "previous_unknown", "payment": request.id, "overrides": blocking.id}
    journal.append(tx, Draft("override.given", request.id, caller.actor, body, documents=(reason_document,)))
    return True


def paid_too_much(connection: Connection, order: Order, counted: Sequence[Payment]) -> int:
    """Minor units that an order was paid beyond its total and that were not given back; 0 for nearly every order."""
    paid = sum(payment.amount for payment in counted)
    if paid <= order.total:
        return 0
    given = (refund for payment in counted for refund in payments.refunds_of(connection, payment.id))
    return max(0, paid - order.total - sum(refund.amount for refund in given))


def settle_order(tx: Tx, order_id: str, actor: str) -> None:
    """Bring an order to the state that its payments justify; nothing happens if it is there already.

    An order that was paid twice says so in its reason until money was given back.
    """
    order = orders.get(tx.connection, order_id)
    assert order is not None, "a payment names an order that has no row"
    if order.state is OrderState.CANCELLED:
        return
    counted = [payment for payment in payments.of_order(tx.connection, order_id) if counts_as_paid(payment)]
    paid = sum(payment.amount for payment in counted)
    certain = sum(payment.amount for payment in counted if not payment.is_open)
    if paid < order.total:
        wanted = OrderState.AWAITING_PAYMENT
    else:
        wanted = OrderState.PAID if certain >= order.total else OrderState.PAID_OFFLINE_PENDING
    reason = PAID_TWICE if paid_too_much(tx.connection, order, counted) else ""
    same = wanted is order.state and reason == (order.reason if order.reason == PAID_TWICE else "")
    if same or (wanted is OrderState.AWAITING_PAYMENT and order.state in UNPAID):
        return
    if order.state is OrderState.PAID and wanted is OrderState.PAID_OFFLINE_PENDING:
        wanted = OrderState.AWAITING_PAYMENT
    if wanted is OrderState.AWAITING_PAYMENT:
        reason = "payment_lost"
    body = order.entry_body(paid=paid, reason=reason)
    journal.append(tx, Draft(f"order.{OrderEvent(wanted.value)}", order_id, actor, body))
