"""Payments through the trading hub: real store, real driver, simulated terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from drivers.sim.ledger import TransactionState
from drivers.sim.zvt import SimulatorOptions
from hubd.errors import HubError
from hubd.model.entry import Draft
from hubd.model.money import Money
from hubd.model.order import OrderLine, OrderState
from hubd.model.payment import ManualStatus, Mode, PaymentState, Tender
from hubd.services.orders import PlaceOrder
from hubd.services.payments import Refund
from hubd.store import journal, payments, replay
from tests.unit.services.shop import MANAGER, TILL_2, Shop, Terminals, shop, shop_runtime, till

URL = "tcp://terminal-1"


async def order_of(opened: Shop, total: int) -> str:
    order_id = opened.services.runtime.ids.new_id()
    net = round(total / 1.2)
    line = OrderLine("sku-1", "Coffee", 1000, "piece", "20", total, net, 0)
    await opened.services.orders.put(PlaceOrder(order_id, b"order" * 6, (line,), Money(total, "EUR")), till())
    return order_id


async def test_cash_is_recorded_at_once_with_a_receipt_number(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        first = await opened.take(1250, tender=Tender.CASH)
        second = await opened.take(300, tender=Tender.CASH)
        assert first.payment.state is PaymentState.APPROVED
        assert first.created
        assert (first.payment.counter, second.payment.counter) == (1, 2)
        assert first.payment.series == second.payment.series
        receipt = await opened.services.receipts.receipt(first.payment.id, till(language="fr"))
        assert receipt["payment"]["total"] == {"amount": 1250, "currency": "EUR"}
        assert receipt["fiscal"]["hash"] == first.accepted.hash.hex()


async def test_card_payment_is_approved_and_pays_its_order(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        order = await order_of(opened, 2000)
        taken = await opened.take(2000, order=order)
        assert taken.payment.state is PaymentState.REQUESTED
        payment = await opened.until(taken.payment.id, "approved")
        assert payment.evidence["receipt_number"]
        assert (await opened.services.orders.get(order)).state is OrderState.PAID
        assert [one.amount_minor for one in simulator.ledger.transactions] == [2000]


@pytest.mark.parametrize(
    ("amount", "state", "charged"),
    [(1005, "declined", 0), (1011, "stored", 1), (1013, "approved", 1), (1020, "cancelled", 0)],
)
async def test_test_amounts_end_as_named(tmp_path: Path, amount: int, state: str, charged: int) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        taken = await opened.take(amount)
        payment = await opened.until(taken.payment.id, state)
        assert payment.state == state
        moved = [one for one in simulator.ledger.transactions if one.state in {"approved", "stored"}]
        assert len(moved) == charged


async def test_lost_answer_is_unknown_and_blocks_the_order_on_every_till(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        order = await order_of(opened, 1014)
        taken = await opened.take(1014, order=order)
        await opened.until(taken.payment.id, "unknown")
        again = await opened.take(1014, till(TILL_2), order=order, tender=Tender.CASH)
        assert (again.payment.state, again.payment.reason) == (PaymentState.REFUSED, "previous_unknown")
        resolved = await opened.services.payments.resolve(
            taken.payment.id, ManualStatus.FAILURE, "terminal shows no payment", MANAGER
        )
        assert (resolved.state, resolved.manual) == (PaymentState.UNKNOWN, ManualStatus.FAILURE)
        cash = await opened.take(1014, order=order, tender=Tender.CASH)
        assert cash.payment.state is PaymentState.APPROVED
        assert (await opened.services.orders.get(order)).state is OrderState.PAID


async def test_a_stop_waits_for_a_dialogue_and_names_the_payment_that_did_not_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        await opened.services.payments.settled(0.2)
        simulator.faults.set("silent", True)
        taken = await opened.take(1014)
        await opened.services.payments.settled(0.2)
        named = [record.__dict__["payment_id"] for record in caplog.records if "not_settled" in record.message]
        assert named == [taken.payment.id]


async def test_a_cancel_stops_its_own_dialogue_and_never_the_next_customer_s(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL, SimulatorOptions(think_s=20))
    async with shop(tmp_path, counter) as opened:
        terminal = await opened.add_terminal(URL)
        desk = opened.services.payments
        taken = await opened.take(1000)
        await opened.until(taken.payment.id, "in_progress")
        attached = opened.services.terminals.get(terminal)
        assert attached is not None
        attached.payment_id = opened.services.runtime.ids.new_id()
        with pytest.raises(HubError) as refused:
            await desk.cancel(taken.payment.id, till())
        assert (refused.value.code, refused.value.retry) == ("cancel_not_possible", "after_enquiry")
        assert (await desk.get(taken.payment.id)).state is PaymentState.IN_PROGRESS
        attached.payment_id = taken.payment.id
        await desk.cancel(taken.payment.id, till())
        assert (await opened.until(taken.payment.id, "cancelled", "declined")).money.amount_minor == 1000
        assert [one.state.value for one in simulator.ledger.transactions] == ["cancelled"]


async def test_the_same_put_a_hundred_times_is_one_payment(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        request = opened.request(4200)
        callers = [till(), till(TILL_2)]
        answers = await asyncio.gather(
            *(opened.services.payments.take(request, callers[number % 2]) for number in range(100))
        )
        assert sum(answer.created for answer in answers) == 1
        assert len({answer.accepted.hash for answer in answers}) == 1
        await opened.until(request.id, "approved")
        assert len(simulator.ledger.transactions) == 1
        with pytest.raises(HubError, match="id_conflict"):
            await opened.take(4300, payment_id=request.id)


async def test_a_payment_found_in_progress_at_the_start_is_asked_about_not_repeated(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL, SimulatorOptions(keeps_going=True))
    simulator.faults.set("silent", True)
    async with shop(tmp_path, counter) as opened:
        simulator.faults.clear()
        await opened.add_terminal(URL)
        await simulator.control({"cmd": "fault", "name": "answer_delay_s", "value": 0.4})
        taken = await opened.take(2500)
        await opened.until(taken.payment.id, "in_progress")
    simulator.faults.clear()
    async with shop(tmp_path, counter, shop_runtime(b"2-process")) as opened:
        payment = await opened.until(taken.payment.id, "approved", "cancelled")
        charged = [one for one in simulator.ledger.transactions if one.state in {"approved", "stored"}]
        assert len(charged) == (1 if payment.state is PaymentState.APPROVED else 0)


async def test_reversal_and_refund_give_money_back_once(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        card = await opened.take(2000)
        await opened.until(card.payment.id, "approved")
        await opened.services.payments.reverse(card.payment.id, MANAGER)
        await opened.until(card.payment.id, "reversed")
        assert [one.state for one in simulator.ledger.transactions].count(TransactionState.REVERSED) == 1
        cash = await opened.take(900, tender=Tender.CASH)
        refund = Refund(opened.services.runtime.ids.new_id(), b"r" * 32, Money(900, "EUR"))
        given = await opened.services.payments.refund(cash.payment.id, refund, MANAGER)
        again = await opened.services.payments.refund(cash.payment.id, refund, MANAGER)
        assert given.accepted.hash == again.accepted.hash
        more = Refund(opened.services.runtime.ids.new_id(), b"s" * 32, Money(1, "EUR"))
        with pytest.raises(HubError, match="over_refundable"):
            await opened.services.payments.refund(cash.payment.id, more, MANAGER)
        totals = await opened.services.db.read("totals", lambda c: payments.totals(c, "perpetual"))
        assert {one.name: one.total.amount_minor for one in totals} == {
            "perpetual.sales": 900,
            "perpetual.refunds": 900,
        }


async def test_an_unreachable_terminal_refuses_and_charges_nothing(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        nobody = await opened.take(1000)
        assert (nobody.payment.state, nobody.payment.reason) == (PaymentState.REFUSED, "no_terminal")


async def test_sales_at_the_same_moment_take_different_terminals(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulators = [counter.add(f"tcp://terminal-{number}", SimulatorOptions(think_s=0.2)) for number in (1, 2)]
    async with shop(tmp_path, counter) as opened:
        for number in (1, 2):
            await opened.add_terminal(f"tcp://terminal-{number}")
        taken = await asyncio.gather(*(opened.take(1000 + 100 * number) for number in range(4)))
        states = sorted((one.payment.state, one.payment.reason) for one in taken)
        assert states == [("refused", "terminal_busy")] * 2 + [("requested", "")] * 2
        for one in taken:
            if one.payment.state is PaymentState.REQUESTED:
                await opened.until(one.payment.id, "approved")
        assert [len(simulator.ledger.transactions) for simulator in simulators] == [1, 1]
        again = await opened.take(1500)
        assert again.payment.state is PaymentState.REQUESTED, "a reservation ends with its payment"
        await opened.until(again.payment.id, "approved")


async def test_another_currency_than_the_shops_is_refused(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        request = replace(opened.request(100, tender=Tender.CASH), amount=Money(100, "JPY"))
        with pytest.raises(HubError, match="currency_not_here"):
            await opened.services.payments.take(request, till())


async def test_what_a_terminal_stores_before_the_hub_notices_has_a_deadline_and_is_marked(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    simulator.host_up = False
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        taken = await opened.take(4200)
        payment = await opened.until(taken.payment.id, "stored")
        assert payment.deadline_us is not None
        assert payment.policy_version == 0
        assert payment.evidence["outside_policy"] == "offline_not_enabled"


async def test_a_manager_closes_a_reversal_that_nobody_can_tell_about(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        order = await order_of(opened, 2000)
        paid = await opened.take(2000, order=order)
        await opened.until(paid.payment.id, "approved")
        await simulator.control({"cmd": "fault", "name": "silent", "value": True})
        pending = await opened.services.payments.reverse(paid.payment.id, MANAGER)
        assert (pending.state, pending.is_open) == (PaymentState.REVERSAL_PENDING, True)
        decided = await opened.services.payments.resolve(
            paid.payment.id, ManualStatus.FAILURE, "the terminal's journal shows the reversal", MANAGER
        )
        assert (decided.is_open, decided.is_taken) == (False, False)
        assert (await opened.services.orders.get(order)).state is OrderState.AWAITING_PAYMENT
        simulator.faults.clear()


@pytest.mark.parametrize(
    ("tender", "amount", "rounding"),
    [(Tender.CASH, 100_000, -99_999), (Tender.CASH, 100, 99), (Tender.CASH, 2, -2), (Tender.CARD, 1000, -1)],
)
async def test_rounding_beyond_coins_pays_no_order(tmp_path: Path, tender: Tender, amount: int, rounding: int) -> None:
    async with shop(tmp_path) as opened:
        order = await order_of(opened, amount)
        request = replace(opened.request(amount, tender=tender, order=order), rounding=rounding)
        with pytest.raises(HubError, match="rounding_out_of_range"):
            await opened.services.payments.take(request, till())
        assert (await opened.services.orders.get(order)).state is OrderState.PLACED_LOCAL


async def test_cash_is_rounded_to_the_next_coin(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        order = await order_of(opened, 1002)
        request = replace(opened.request(1002, tender=Tender.CASH, order=order), rounding=-2)
        taken = await opened.services.payments.take(request, till())
        assert taken.payment.money == Money(1000, "EUR")
        assert (await opened.services.orders.get(order)).state is OrderState.PAID


@pytest.mark.parametrize("mode", [Mode.TRAINING, Mode.TEST])
async def test_what_is_not_live_pays_no_order_reaches_no_terminal_and_takes_no_number(
    tmp_path: Path, mode: Mode
) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        order = await order_of(opened, 1000)
        for tender in (Tender.CASH, Tender.CARD):
            request = replace(opened.request(1000, tender=tender, order=order), mode=mode)
            with pytest.raises(HubError, match="mode_not_available"):
                await opened.services.payments.take(request, till())
        assert (await opened.services.orders.get(order)).state is OrderState.PLACED_LOCAL
        assert not simulator.ledger.transactions
        first = await opened.take(1000, tender=Tender.CASH, order=order)
        assert first.payment.counter == 1, "the live series has no gap"


async def test_a_journal_with_a_training_payment_in_it_owes_the_whole_order(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        order = await order_of(opened, 1000)
        practice = await opened.take(400, tender=Tender.CASH)
        body = practice.payment.entry_body(
            attempt=1, baseline="", deadline_us=None, digest="00" * 32, original=None, reason=""
        )
        body |= {"mode": "training", "order": order, "series": None, "counter": None}
        draft = Draft("payment.recorded", opened.services.runtime.ids.new_id(), "hub", body, flags=2)
        await opened.services.db.write("practice", lambda tx: journal.append(tx, draft))
        whole = await opened.take(1000, tender=Tender.CASH, order=order)
        assert whole.payment.state is PaymentState.APPROVED
        assert (await opened.services.orders.get(order)).state is OrderState.PAID


TWICE = "order.paid_twice"


async def test_an_order_paid_twice_is_told_until_money_was_given_back(tmp_path: Path) -> None:
    """The card's answer was lost, a manager took cash all the same, and then the card is found to have been charged."""
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        order = await order_of(opened, 1014)
        card = (await opened.take(1014, order=order)).payment.id
        await opened.until(card, "unknown")
        cash = (await opened.take(1014, MANAGER, order=order, tender=Tender.CASH, override="he must leave")).payment
        assert cash.state is PaymentState.APPROVED
        assert await opened.noted(TWICE) is None
        await opened.services.payments.resolve(card, ManualStatus.SUCCESS, "on the terminal's list", MANAGER)
        problem = await opened.noted(TWICE)
        assert problem is not None
        assert problem.money == (Money(1014, "EUR"),)
        told = await opened.services.orders.get(order)
        assert f"{told.number} ({card} + {cash.series}-{cash.counter:06d})" in problem.title("nl")
        assert (told.state, told.reason) == (OrderState.PAID, "paid_twice")
        half = Refund(opened.services.runtime.ids.new_id(), b"h" * 32, Money(507, "EUR"))
        await opened.services.payments.refund(cash.id, half, MANAGER)
        problem = await opened.noted(TWICE)
        assert problem is not None
        assert problem.money == (Money(507, "EUR"),)
        rest = Refund(opened.services.runtime.ids.new_id(), b"r" * 32, Money(507, "EUR"))
        await opened.services.payments.refund(cash.id, rest, MANAGER)
        assert await opened.noted(TWICE) is None
        told = await opened.services.orders.get(order)
        assert (told.state, told.reason) == (OrderState.PAID, "")
        assert (await opened.services.db.read_apart("replay", lambda c: replay.check(c))).ok
        assert simulator.ledger.transactions


async def test_reversing_one_of_two_payments_ends_it(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        order = await order_of(opened, 1014)
        card = (await opened.take(1014, order=order)).payment.id
        await opened.until(card, "unknown")
        cash = (await opened.take(1014, MANAGER, order=order, tender=Tender.CASH, override="he must leave")).payment
        await opened.services.payments.resolve(card, ManualStatus.SUCCESS, "on the terminal's list", MANAGER)
        assert await opened.noted(TWICE) is not None
        await opened.services.payments.reverse(cash.id, MANAGER)
        assert await opened.noted(TWICE) is None
        assert (await opened.services.orders.get(order)).state is OrderState.PAID


async def test_an_order_that_costs_nothing_is_paid_at_once(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        order = await order_of(opened, 0)
        assert (await opened.services.orders.get(order)).state is OrderState.PAID
        with pytest.raises(HubError, match="order_closed"):
            await opened.take(1, order=order, tender=Tender.CASH)
        with pytest.raises(HubError, match="order_closed"):
            await opened.services.orders.cancel(order, MANAGER)
        with pytest.raises(HubError, match="total_below_zero"):
            await order_of(opened, -100)
