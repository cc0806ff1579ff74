"""What the reference promises of the entries about money holds for every entry of a story with all of it."""

from __future__ import annotations

import re
from pathlib import Path

from hubd.model.money import Money
from hubd.model.order import OrderLine
from hubd.model.payment import ManualStatus, Tender
from hubd.services.orders import PlaceOrder
from hubd.services.payments import Refund
from hubd.store import journal
from tests.unit.services.shop import MANAGER, Shop, shop, till
from tests.unit.services.test_hearing import NEAR, counter_of, gone, in_outage, service_back
from tests.unit.services.test_outage import allow_offline

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "journal.md"
PROMISED = {
    kinds: frozenset(re.findall(r"`(\w+)`", fields))
    for kinds, fields in re.findall(
        r"^\| `(payment\.|order\.)` \| (.*) \|$", REFERENCE.read_text("utf-8"), re.MULTILINE
    )
}
STORY = {
    "order.awaiting_payment",
    "order.cancelled",
    "order.paid",
    "order.paid_offline_pending",
    "order.placed",
    "payment.approved",
    "payment.declined",
    "payment.recorded",
    "payment.refused",
    "payment.requested",
    "payment.resolved",
    "payment.reversal_requested",
    "payment.reversed",
    "payment.started",
    "payment.stored",
}


async def ordered(opened: Shop, total: int) -> str:
    order = opened.services.runtime.ids.new_id()
    line = OrderLine("sku-1", "Coffee", 1000, "piece", "0", total, total, 0)
    await opened.services.orders.put(PlaceOrder(order, b"order" * 6, (line,), Money(total, "EUR")), till())
    return order


async def tell_the_story(opened: Shop, terminal: str) -> None:
    """Sell, refuse, undo, refund, lose the line, store, and decide what the bank never answers for."""
    desk = opened.services.payments
    cancelled = await ordered(opened, 900)
    await opened.services.orders.cancel(cancelled, till())
    sold = (await opened.take(2000, order=await ordered(opened, 2000))).payment
    await opened.until(sold.id, "approved")
    await desk.reverse(sold.id, MANAGER)
    await opened.until(sold.id, "reversed")
    await opened.until((await opened.take(2005)).payment.id, "declined")
    cash = (await opened.take(1250, tender=Tender.CASH)).payment
    await desk.refund(cash.id, Refund(opened.services.runtime.ids.new_id(), b"r" * 32, Money(250, "EUR")), MANAGER)
    await opened.take(1000, terminal=opened.services.runtime.ids.new_id())
    await allow_offline(opened)
    await in_outage(opened)
    stored = (await opened.take(3000, order=await ordered(opened, 3000))).payment
    await opened.until(stored.id, "stored")
    await gone(opened, NEAR, terminal)
    await service_back(opened)
    await desk.resolve(stored.id, ManualStatus.SUCCESS, "statement 12", MANAGER)


async def test_every_entry_about_money_carries_what_the_reference_promises(tmp_path: Path) -> None:
    assert set(PROMISED) == {"payment.", "order."}
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal = await opened.add_terminal(NEAR)
        await tell_the_story(opened, terminal)
        entries = await opened.services.db.read("entries", lambda c: journal.entries_after(c, 0, 1_000))
        told = {entry.kind for entry in entries if entry.kind.startswith(tuple(PROMISED))}
        assert told >= STORY
        for entry in entries:
            for kinds, fields in PROMISED.items():
                if entry.kind.startswith(kinds):
                    assert fields - set(entry.body()) == set(), entry.kind
