"""Orders of events that the simulation found to lose or double money, each as the shortest story that shows it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hubd.errors import HubError
from hubd.model.money import Money
from hubd.model.payment import PaymentKind, PaymentState, Tender
from hubd.services.payments import Refund
from hubd.services.till_lines import Held
from tests.unit.services.shop import MANAGER, Shop, Terminals, shop, shop_runtime, till

URL = "tcp://terminal-1"


def refund_of(amount: int, id_: str) -> Refund:
    return Refund(id_, hashlib.sha256(str(amount).encode()).digest(), Money(amount, "EUR"), "broken")


def held(payment_id: str, state: str, amount: int, kind: PaymentKind = PaymentKind.SALE) -> Held:
    return Held(payment_id, "", 0, "", state, Money(amount, "EUR"), kind)


async def test_what_was_refunded_is_not_reversed_too(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        sale = await opened.take(500, tender=Tender.CASH)
        refund = refund_of(200, opened.services.runtime.ids.new_id())
        await opened.services.payments.refund(sale.payment.id, refund, MANAGER)
        with pytest.raises(HubError, match="already_refunded"):
            await opened.services.payments.reverse(sale.payment.id, MANAGER)
        assert (await opened.services.payments.get(sale.payment.id)).state is PaymentState.APPROVED


async def test_a_reversal_asked_for_again_is_sent_once_and_believed(tmp_path: Path) -> None:
    """The answer to the reversal is lost; the till asks again; the hub enquires and finds it done."""
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        sale = await opened.take(2000)
        await opened.until(sale.payment.id, "approved")
        simulator.faults.set("unplug_at_byte", 12)
        await opened.services.payments.reverse(sale.payment.id, MANAGER)
        await opened.services.payments.reverse(sale.payment.id, MANAGER)
        payment = await opened.until(sale.payment.id, "reversed", "approved")
        booked = [one.kind for one in simulator.ledger.transactions]
        assert (payment.state is PaymentState.REVERSED) == ("reversal" in booked)
        assert booked.count("reversal") <= 1


async def _told(opened: Shop, payment_id: str, state: str) -> PaymentState:
    await opened.services.tills.announce(till(), [held(payment_id, state, 500)])
    return (await opened.services.payments.get(payment_id)).state


async def test_a_till_that_saw_more_than_a_restored_hub_makes_a_conflict(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        sale = await opened.take(500, tender=Tender.CASH)
        assert await _told(opened, sale.payment.id, "approved") is PaymentState.APPROVED
        assert await _told(opened, sale.payment.id, "reversed") is PaymentState.CONFLICT


async def test_a_forgotten_refund_comes_back_as_a_refund(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        id_ = opened.services.runtime.ids.new_id()
        await opened.services.tills.announce(till(), [held(id_, "approved", 500, PaymentKind.REFUND)])
        payment = await opened.services.payments.get(id_)
        assert (payment.kind, payment.tender, payment.state) == (PaymentKind.REFUND, Tender.CASH, PaymentState.APPROVED)
