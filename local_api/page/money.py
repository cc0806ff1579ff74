"""Payments, and outages with their statements."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from hubd.errors import NotFoundError
from hubd.model.device import DeviceKind
from hubd.model.ids import parse_id
from hubd.model.money import Money
from hubd.model.payment import Custody, ManualStatus, Payment, PaymentState
from hubd.model.permissions import Permission
from hubd.services.lists import PaymentFilter
from hubd.services.outages import OutageView, counted_in
from hubd.services.printing import PrintRequest
from hubd.services.receipt_paper import CUSTOMER, MERCHANT, PURPOSES
from hubd.services.receipts import WITHOUT_RECEIPT
from hubd.services.say import say
from local_api.page.home import names_of
from local_api.page.render import qr_svg
from local_api.page.screen import Answer, Screen, redirect, sum_by_currency
from local_api.paper import HTML, PDF, rendered

LIST_MAX = 100
TODAY = "today"
"""What the number of today's sales counted: live sales of the business day that are taken."""
UNCLEAR = frozenset({PaymentState.UNKNOWN, PaymentState.CONFLICT})
_FILTERS: dict[str, tuple[PaymentFilter, ...]] = {
    "": (PaymentFilter(),),
    "open": (PaymentFilter(open_only=True),),
    "held": (PaymentFilter(custody=Custody.HELD), PaymentFilter(custody=Custody.FORWARDING)),
    "forwarded": (PaymentFilter(custody=Custody.FORWARDED),),
    "unclear": (
        PaymentFilter(state=PaymentState.UNKNOWN),
        PaymentFilter(state=PaymentState.CONFLICT),
        PaymentFilter(state=PaymentState.REVERSAL_PENDING),
    ),
    "refused": tuple(
        PaymentFilter(custody=custody) for custody in (Custody.DECLINED_LATE, Custody.EXPIRED, Custody.REJECTED)
    ),
    "offline": (PaymentFilter(offline_only=True),),
}


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


async def payments(screen: Screen) -> Answer:
    """A list of payments, newest first, narrowed by what a number on another screen counted."""
    if "outage" in screen.query:
        return await _payments_of_outage(screen)
    show = screen.query.get("show", "")
    if show not in _FILTERS and show != TODAY:
        show = ""
    before = _number(screen.query.get("before", ""))
    shop = await screen.tools.overview.shop(screen.who.location)
    found: list[Payment] = []
    for narrow in (PaymentFilter(sold_on=shop.today),) if show == TODAY else _FILTERS[show]:
        found += await screen.services.payments.page_for(narrow, before, LIST_MAX, screen.who)
    found = sorted(found, key=lambda payment: -payment.seq)[:LIST_MAX]
    older = found[-1].seq if len(found) == LIST_MAX else None
    if show in {"open", "unclear"}:
        found = [payment for payment in found if payment.is_open]
    elif show == TODAY:
        found = [payment for payment in found if payment.is_taken]
    names = await names_of(screen)
    tabs = [
        ("", screen.words("All")),
        (TODAY, screen.words("Sold today")),
        ("open", screen.words("Not confirmed yet")),
        ("held", screen.words("In the terminals")),
        ("forwarded", screen.words("Bank's answer awaited")),
        ("unclear", screen.words("Result not known")),
        ("refused", screen.words("Refused afterwards")),
        ("offline", screen.words("Taken offline")),
    ]
    return screen.show(
        "payments.html",
        shop,
        show=show,
        outage="",
        tabs=tabs,
        payments=found,
        list_totals=sum_by_currency([payment.money for payment in found]),
        next_before=older,
        name_of=lambda device: names.get(device, screen.words("the shop")),
    )


async def _payments_of_outage(screen: Screen) -> Answer:
    """The payments that one number of an outage has counted, newest first."""
    show = screen.query.get("show", "")
    view = await screen.services.outages.get(parse_id(screen.query["outage"], "outage"))
    shop = await screen.tools.overview.shop(screen.who.location)
    names = await names_of(screen)
    found = [
        payment
        for payment in await screen.services.outages.payments(view.outage.id)
        if counted_in(payment, show) and screen.who.may_at(Permission.PAYMENTS_READ, payment.location)
    ]
    return screen.show(
        "payments.html",
        shop,
        show=show,
        outage=view.outage.id,
        tabs=[],
        payments=found[::-1],
        list_totals=sum_by_currency([payment.money for payment in found]),
        next_before=None,
        name_of=lambda device: names.get(device, screen.words("the shop")),
    )


async def payment(screen: Screen) -> Answer:
    """One payment with its history."""
    found = await screen.services.payments.get_for(screen.id(), screen.who)
    shop = await screen.tools.overview.shop(screen.who.location)
    names = await names_of(screen)
    desk = screen.services.payments
    decidable = desk.decidable(found) and found.decision is None
    unclear = decidable and (found.state in UNCLEAR or found.state is PaymentState.STORED)
    return screen.show(
        "payment.html",
        shop,
        payment=found,
        history=await desk.history(found.id),
        say=say(found, screen.language, decidable, desk.asking(found)),
        unclear=unclear,
        can_ask=found.state is PaymentState.UNKNOWN and screen.may(Permission.PAYMENTS_TAKE),
        has_receipt=found.state not in WITHOUT_RECEIPT,
        print_job=_print_jobs(screen),
        can_resolve=unclear and screen.may(Permission.PAYMENTS_RESOLVE),
        name_of=lambda device: names.get(device, screen.words("the shop")),
    )


def _print_jobs(screen: Screen) -> dict[str, str]:
    """The id of the job that each button to print would make; empty where there is no printer to print at."""
    printer = screen.services.peripherals.choose(DeviceKind.PRINTER, screen.who.device, screen.who.location)
    can = printer is not None and screen.may(Permission.PRINT)
    return {purpose: screen.services.runtime.ids.new_id() if can else "" for purpose in PURPOSES}


async def receipt(screen: Screen) -> Answer:
    """The receipt of a payment, to look at and to print from the browser."""
    return await _paper(screen, HTML)


async def receipt_pdf(screen: Screen) -> Answer:
    """The receipt of a payment as PDF, to keep or to mail."""
    return await _paper(screen, PDF)


async def _paper(screen: Screen, media: str) -> Answer:
    purpose = MERCHANT if screen.query.get("for") == MERCHANT else CUSTOMER
    view = await screen.services.receipts.view(screen.id(), purpose, screen.who)
    paper = await rendered(view.document, view.columns, media)
    return Answer(paper.body, headers=paper.headers, media_type=paper.media_type)


async def print_receipt(screen: Screen) -> Answer:
    """Print the receipt of a payment at the shop's printer; the same form sent twice prints once."""
    form = screen.form()
    purpose = MERCHANT if form.get("for") == MERCHANT else CUSTOMER
    document = await screen.services.receipts.paper(screen.id(), purpose, screen.who)
    job = PrintRequest(parse_id(form.get("job", ""), "job"), document, "", screen.id(), purpose)
    await screen.services.printing.submit(job, screen.who)
    return redirect(f"/payments/{screen.id()}")


async def ask_terminal(screen: Screen) -> Answer:
    """Ask the terminal once more what became of a payment; never charges."""
    found = await screen.services.payments.ask_terminal(screen.id(), screen.who)
    return redirect(f"/payments/{found.id}")


async def resolve(screen: Screen) -> Answer:
    """Note what a manager says of a payment that nobody can clear up any more."""
    form = screen.form()
    manual = ManualStatus(form["manual"]) if form.get("manual") in set(ManualStatus) else None
    if manual is None or not form.get("reason", "").strip():
        return redirect(f"/payments/{screen.id()}")
    found = await screen.services.payments.resolve(screen.id(), manual, form["reason"].strip(), screen.who)
    return redirect(f"/payments/{found.id}")


async def outages(screen: Screen) -> Answer:
    """Every outage, newest first."""
    found = await screen.services.outages.page(None, _number(screen.query.get("before", "")), LIST_MAX)
    shop = await screen.tools.overview.shop(screen.who.location)
    older = found[-1].outage.opened_seq if len(found) == LIST_MAX else None
    return screen.show("outages.html", shop, outages=found, next_before=older)


async def outage(screen: Screen) -> Answer:
    """One outage: what was taken in it, its statement, and for those who may, its payments."""
    view = await screen.services.outages.get(screen.id())
    shop = await screen.tools.overview.shop(screen.who.location)
    names = await names_of(screen)
    found = await screen.services.outages.payments(view.outage.id) if screen.may(Permission.PAYMENTS_READ) else []
    return screen.show(
        "outage.html",
        shop,
        view=view,
        payments=[one for one in found if screen.who.may_at(Permission.PAYMENTS_READ, one.location)],
        name_of=lambda device: names.get(device, screen.words("the shop")),
    )


class Row(Struct, frozen=True):
    """One line of a statement."""

    name: str
    count: int
    total: Money


async def statement(screen: Screen) -> Answer:
    """The newest statement of an outage, to look at and to print."""
    view = await screen.services.outages.get(screen.id())
    if view.statement is None:
        raise NotFoundError("statement.none", "The cloud has not sent a statement yet.", remedy="Look again later.")
    shop = await screen.tools.overview.shop(screen.who.location)
    document = view.statement.document
    address = screen.tools.statement_address(view.statement.id)
    names = await names_of(screen)
    return screen.show(
        "statement.html",
        shop,
        view=view,
        document=document,
        rows=_rows(screen, view),
        name_of=lambda terminal: names.get(terminal, terminal),
        qr=qr_svg(address, screen.words("Address of the cloud's copy")) if address else "",
    )


def _rows(screen: Screen, view: OutageView) -> list[Row]:
    names = {
        "taken": screen.words("Taken"),
        "cash": screen.words("of which in cash"),
        "card": screen.words("of which accepted at once"),
        "captured": screen.words("of which accepted by the bank later"),
        "processing": screen.words("of which handed over, answer awaited"),
        "stored": screen.words("of which still in the terminals"),
        "declined_late": screen.words("Refused by the bank afterwards"),
        "expired": screen.words("Expired"),
        "rejected": screen.words("Rejected by the provider"),
        "unknown": screen.words("Result not known"),
        "conflict": screen.words("Two sources disagree"),
        "reversal_pending": screen.words("Being reversed"),
        "reversed": screen.words("Reversed"),
        "declined": screen.words("Declined"),
        "cancelled": screen.words("Cancelled"),
        "refused": screen.words("Not started: not allowed at that moment"),
        "running": screen.words("On the terminal now"),
        "resolved_success": screen.words("Decided by a manager: paid"),
        "resolved_failure": screen.words("Decided by a manager: not paid"),
    }
    assert view.statement is not None, "asked only with a statement"
    found = []
    for part in view.statement.document["totals"]:
        refund = part["kind"] == "refund"
        buckets: dict[str, Any] = part["buckets"]
        for bucket in sorted(buckets, key=lambda name: list(names).index(name) if name in names else len(names)):
            name = names.get(bucket, bucket)
            money = Money(buckets[bucket]["total"], part["currency"])
            found.append(Row(f"{screen.words('Refund')} · {name}" if refund else name, buckets[bucket]["count"], money))
    return found
