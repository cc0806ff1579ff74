"""A receipt is what was handed out: its time and number stay, and what happened since stands beside them."""

from __future__ import annotations

from pathlib import Path

from hubd.model.money import Money
from hubd.model.payment import Custody, ManualStatus, PaymentState, Tender
from hubd.services.payments import Refund
from hubd.store import payments
from tests.unit.clocks import JumpingClock
from tests.unit.services.shop import MANAGER, Terminals, shop, shop_runtime, till
from tests.unit.services.test_hearing import NEAR, counter_of, gone, in_outage, service_back
from tests.unit.services.test_outage import allow_offline

HEADER = ("number", "issued_at", "local_time", "clock_trusted", "store")


async def test_a_reversed_payment_keeps_the_time_of_its_receipt(tmp_path: Path) -> None:
    clock = JumpingClock()
    counter = Terminals(shop_runtime(clock=clock))
    counter.add(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_terminal(NEAR)
        desk, reading = opened.services.receipts, till()
        payment = await opened.until((await opened.take(2000)).payment.id, "approved")
        before = await desk.receipt(payment.id, reading)
        assert (before["reversal"], before["refunds"], "copy" in before) == (None, [], False)
        clock.ahead_s += 90
        await opened.services.settings.put("hub", "store.name", "Renamed")
        await opened.services.payments.reverse(payment.id, MANAGER)
        await opened.until(payment.id, "reversed")
        after = await desk.receipt(payment.id, reading)
        assert [after[name] for name in HEADER] == [before[name] for name in HEADER]
        assert after["payment"]["state"] == "reversed"
        assert after["reversal"]["reversed_at"] > before["issued_at"]
        assert after["reversal"]["receipt_number"]


async def test_a_receipt_shows_the_refunds_that_correct_it(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        taken = await opened.take(1250, tender=Tender.CASH)
        refund = Refund(opened.services.runtime.ids.new_id(), b"r" * 32, Money(250, "EUR"))
        await opened.services.payments.refund(taken.payment.id, refund, MANAGER)
        receipt = await opened.services.receipts.receipt(taken.payment.id, till())
        [shown] = receipt["refunds"]
        assert (shown["id"], shown["amount"]) == (refund.id, {"amount": 250, "currency": "EUR"})
        own = await opened.services.receipts.receipt(refund.id, MANAGER)
        assert shown["number"] == own["number"] is not None


async def test_a_decision_and_the_custody_stand_on_the_receipt_of_a_stored_payment(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal = await opened.add_terminal(NEAR)
        await allow_offline(opened)
        await in_outage(opened)
        payment = await opened.until((await opened.take(2000)).payment.id, "stored")
        desk, reading = opened.services.receipts, till(language="fr")
        before = await desk.receipt(payment.id, reading)
        assert (before["payment"]["custody"], before["payment"]["manual"]) == (Custody.HELD, None)
        assert before["offline_mark"] == "paiement hors ligne — en attente"
        await gone(opened, NEAR, terminal)
        await service_back(opened)
        await opened.services.payments.resolve(payment.id, ManualStatus.FAILURE, "statement 12", MANAGER)
        after = await desk.receipt(payment.id, reading)
        assert [after[name] for name in HEADER] == [before[name] for name in HEADER]
        assert (after["payment"]["state"], after["payment"]["manual"]) == (PaymentState.STORED, ManualStatus.FAILURE)
        row = await opened.services.db.read("row", lambda c: payments.get(c, payment.id))
        assert row is not None
        assert row.updated_at_us > payment.updated_at_us
