"""Payments: take, read, cancel, reverse, resolve, refund, receipt."""

from __future__ import annotations

import msgspec

from hubd.model.entry import Accepted as Place
from hubd.model.money import Money
from hubd.model.payment import OPEN_STATES, Method, Payment, PaymentState, Tender
from hubd.model.permissions import Permission
from hubd.services.calendar import rfc3339
from hubd.services.lists import PaymentFilter
from hubd.services.payments import Refund
from hubd.services.say import say
from hubd.services.taking import TakePayment
from local_api.call import Call, Reply, time_us
from local_api.context import ApiContext
from local_api.paper import HTML, JSON, PDF, preferred, rendered
from local_api.schemas import (
    Accepted,
    PaymentIn,
    PaymentOut,
    PaymentPage,
    PaymentQuery,
    Reason,
    ReceiptQuery,
    RefundIn,
    RefusalOut,
    SayOut,
    money_out,
)
from local_api.table import RouteSpec

EVIDENCE_SHOWN = (
    "receipt_number",
    "trace_number",
    "terminal_id",
    "card_name",
    "pan_last4",
    "technology",
    "verification",
    "authorization_code",
    "offline",
    "outside_policy",
)
TAG = "payments"
_VARY = {"vary": "Accept"}


def accepted_out(entry: Place) -> Accepted:
    """The entry that made something durable."""
    return Accepted(entry.line.hex(), entry.seq, entry.hash.hex())


def payment_out(context: ApiContext, payment: Payment, accepted: Place, language: str) -> PaymentOut:
    """A payment as it leaves the hub."""
    desk = context.services.payments
    spoken = say(payment, language, desk.decidable(payment), desk.asking(payment))

    def money(minor: int) -> Money:
        return Money(minor, payment.currency)

    return PaymentOut(
        id=payment.id,
        accepted=accepted_out(accepted),
        seq=payment.last_seq,
        kind=payment.kind,
        state=payment.state,
        custody=payment.custody,
        manual=payment.manual,
        open=payment.is_open,
        mode=payment.mode,
        tender=payment.tender,
        method=payment.method,
        amount=money_out(money(payment.amount)),
        tip=money_out(money(payment.tip)),
        rounding=money_out(money(payment.rounding)),
        total=money_out(payment.money),
        order=payment.order_id,
        original=payment.original_id,
        till=payment.till,
        terminal=payment.terminal,
        staff=payment.staff,
        location=payment.location,
        business_date=payment.business_date,
        number=f"{payment.series}-{payment.counter:06d}" if payment.counter is not None else None,
        reason=payment.reason,
        outage=payment.outage,
        evidence={name: payment.evidence[name] for name in EVIDENCE_SHOWN if payment.evidence.get(name)},
        deadline=rfc3339(payment.deadline_us, payment.zone) if payment.deadline_us is not None else None,
        requested_at=rfc3339(payment.requested_at_us, payment.zone),
        updated_at=rfc3339(payment.updated_at_us, payment.zone),
        say=SayOut(spoken.cashier, spoken.customer),
        allowed=list(spoken.allowed),
    )


async def _shown(call: Call, payment: Payment, status: int = 200) -> Reply:
    return Reply(await _one(call, payment, payment.accepted), status, call.applied_wait())


async def _one(call: Call, payment: Payment, accepted: Place) -> PaymentOut:
    value = payment_out(call.context, payment, accepted, call.caller.language)
    refusal = await call.context.services.payments.refusal(payment)
    if refusal is None:
        return value
    return msgspec.structs.replace(value, refusal=RefusalOut(refusal.params, list(refusal.would_allow)))


async def _waited(call: Call, payment: Payment) -> Payment:
    """The payment after its next change of state, if the caller prefers to wait for one."""
    if not call.wait_s or payment.state not in OPEN_STATES:
        return payment
    return await call.context.services.payments.wait_for_change(payment.id, payment.last_seq, call.wait_s)


async def put_payment(call: Call) -> Reply:
    """Take or record a payment: answered once its intent, or its refusal by policy, is on disk."""
    payment_id, wanted = call.id(), call.body
    assert isinstance(wanted, PaymentIn), "the table names the type of the body"
    method = wanted.method or (Method.CASH if wanted.tender is Tender.CASH else Method.CARD)
    request = TakePayment(
        id=payment_id,
        digest=call.digest("payment"),
        amount=wanted.amount.money(),
        tip=wanted.tip,
        rounding=wanted.rounding,
        tender=wanted.tender,
        method=method,
        mode=wanted.mode,
        order_id=wanted.order,
        terminal=wanted.terminal,
        override_reason=wanted.override.reason if wanted.override else None,
    )
    taken = await call.context.services.payments.take(request, call.caller)
    payment = await _waited(call, taken.payment)
    value = await _one(call, payment, taken.accepted)
    return Reply(value, 201 if taken.created else 200, call.applied_wait())


async def get_payment(call: Call) -> Reply:
    """The payment as it is now; with `Prefer: wait=N`, after its next change."""
    payment = await call.context.services.payments.get_for(call.id(), call.caller)
    return await _shown(call, await _waited(call, payment))


async def list_payments(call: Call) -> Reply:
    """Payments, newest first. `device=self&open=true` is the first call of every starting till."""
    query = call.query
    assert isinstance(query, PaymentQuery), "the table names the type of the query"
    narrow = PaymentFilter(
        state=query.state,
        custody=query.custody,
        till=(call.caller.device if query.device == "self" else query.device) or None,
        terminal=query.terminal or None,
        open_only=query.open,
        offline_only=query.offline,
        since_us=time_us(query.since, "since"),
        until_us=time_us(query.until, "until"),
    )
    desk = call.context.services.payments
    found = await desk.page_for(narrow, query.before_seq, query.limit + 1, call.caller)
    items = await shown_list(call.context, found[: query.limit], call.caller.language)
    more = str(found[query.limit - 1].seq) if len(found) > query.limit else ""
    return Reply(PaymentPage(items, more))


async def shown_list(context: ApiContext, found: list[Payment], language: str) -> list[PaymentOut]:
    """Payments as they leave, each with the entry that accepted it."""
    return [payment_out(context, payment, payment.accepted, language) for payment in found]


async def cancel_payment(call: Call) -> Reply:
    """Ask that a running payment stops; the verdict is the terminal's."""
    payment = await call.context.services.payments.cancel(call.id(), call.caller)
    return await _shown(call, await _waited(call, payment))


async def reverse_payment(call: Call) -> Reply:
    """Undo a payment in full."""
    payment = await call.context.services.payments.reverse(call.id(), call.caller)
    return await _shown(call, await _waited(call, payment))


async def resolve_payment(call: Call) -> Reply:
    """A manager's word about a payment that nobody can speak for."""
    wanted = call.body
    assert isinstance(wanted, Reason), "the table names the type of the body"
    desk = call.context.services.payments
    return await _shown(call, await desk.resolve(call.id(), wanted.verdict, wanted.reason, call.caller))


async def ask_terminal(call: Call) -> Reply:
    """Ask the terminal again what became of an unknown payment."""
    payment = await call.context.services.payments.ask_terminal(call.id(), call.caller)
    if payment.state is PaymentState.UNKNOWN:
        payment = await _waited(call, payment)
    return await _shown(call, payment)


async def put_refund(call: Call) -> Reply:
    """Give money back, as a payment of its own."""
    wanted = call.body
    assert isinstance(wanted, RefundIn), "the table names the type of the body"
    original = call.id()
    request = Refund(call.id("refund_id"), call.digest(f"refund:{original}"), wanted.amount.money(), wanted.reason)
    taken = await call.context.services.payments.refund(original, request, call.caller)
    value = payment_out(call.context, taken.payment, taken.accepted, call.caller.language)
    return Reply(value, 201 if taken.created else 200)


async def get_receipt(call: Call) -> Reply:
    """The receipt as data, with its fiscal fields; as a page or as PDF for whom `Accept` prefers that."""
    query, desk = call.query, call.context.services.receipts
    assert isinstance(query, ReceiptQuery), "the table names the type of the query"
    media = preferred(call.header.get("accept"), (JSON, HTML, PDF))
    if media == JSON:
        return Reply(await desk.receipt(call.id(), call.caller), headers=_VARY)
    view = await desk.view(call.id(), query.purpose, call.caller)
    paper = await rendered(view.document, view.columns, media)
    return Reply(paper.body, headers={**_VARY, **paper.headers}, media_type=paper.media_type)


_P = Permission
ROUTES = (
    RouteSpec(
        "PUT",
        "/v1/payments/{id}",
        _P.PAYMENTS_TAKE,
        put_payment,
        "Take or record a payment",
        body=PaymentIn,
        reply=PaymentOut,
        created=True,
        straight=True,
        tag=TAG,
    ),
    RouteSpec(
        "GET",
        "/v1/payments/{id}",
        _P.PAYMENTS_READ,
        get_payment,
        "Read a payment",
        reply=PaymentOut,
        straight=True,
        tag=TAG,
    ),
    RouteSpec(
        "GET",
        "/v1/payments",
        _P.PAYMENTS_READ,
        list_payments,
        "List payments",
        query=PaymentQuery,
        reply=PaymentPage,
        tag=TAG,
    ),
    RouteSpec(
        "POST",
        "/v1/payments/{id}/cancel",
        _P.PAYMENTS_CANCEL,
        cancel_payment,
        "Ask that a running payment stops",
        reply=PaymentOut,
        tag=TAG,
    ),
    RouteSpec(
        "POST",
        "/v1/payments/{id}/enquire",
        _P.PAYMENTS_TAKE,
        ask_terminal,
        "Ask the terminal what became of an unknown payment",
        reply=PaymentOut,
        tag=TAG,
    ),
    RouteSpec(
        "POST",
        "/v1/payments/{id}/reverse",
        _P.PAYMENTS_REVERSE,
        reverse_payment,
        "Undo a payment in full",
        reply=PaymentOut,
        tag=TAG,
    ),
    RouteSpec(
        "POST",
        "/v1/payments/{id}/resolve",
        _P.PAYMENTS_RESOLVE,
        resolve_payment,
        "Decide a payment that nobody can speak for",
        body=Reason,
        reply=PaymentOut,
        tag=TAG,
    ),
    RouteSpec(
        "PUT",
        "/v1/payments/{id}/refunds/{refund_id}",
        _P.PAYMENTS_REFUND,
        put_refund,
        "Give money of a payment back",
        body=RefundIn,
        reply=PaymentOut,
        created=True,
        tag=TAG,
    ),
    RouteSpec(
        "GET",
        "/v1/payments/{id}/receipt",
        _P.PAYMENTS_READ,
        get_receipt,
        "Read the receipt, as data, as a page or as PDF",
        query=ReceiptQuery,
        reply=dict,
        also=(HTML, PDF),
        tag=TAG,
    ),
)
