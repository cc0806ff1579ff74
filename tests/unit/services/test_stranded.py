"""Money in a terminal that is gone: a person decides with the bank's statement, and a late word is shown beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hubd.errors import DeviceError, HubError
from hubd.model.device import DeviceState
from hubd.model.entry import Entry
from hubd.model.money import Money
from hubd.model.order import OrderLine, OrderState
from hubd.model.payment import (
    CONTRADICTS_DECISION,
    Custody,
    CustodyEvent,
    ManualStatus,
    Payment,
    PaymentState,
    Tender,
)
from hubd.model.statement import OutageCount
from hubd.services.lists import PaymentFilter
from hubd.services.orders import PlaceOrder
from hubd.services.outages import Group
from hubd.services.say import say
from hubd.store import documents, journal, payments, verify
from tests.unit.clocks import JumpingClock
from tests.unit.services.shop import MANAGER, Shop, shop, till
from tests.unit.services.test_hearing import (
    NEAR,
    SETTLE_S,
    back,
    counter_of,
    gone,
    in_outage,
    replays_to_the_same,
    service_back,
)
from tests.unit.services.test_outage import allow_offline

AMOUNT = 2000
REASON = "account statement 12 of the bank"
SUCCESS, FAILURE = ManualStatus.SUCCESS, ManualStatus.FAILURE


class Stranded:
    """A shop whose outage is over, with one stored payment in its terminal, which pays an order."""

    def __init__(self, opened: Shop, terminal: str, order: str, payment: Payment) -> None:
        self.opened, self.terminal, self.order, self.id = opened, terminal, order, payment.id
        self.outage = payment.outage

    async def now(self) -> Payment:
        return await self.opened.services.payments.get(self.id)

    async def decide(self, manual: ManualStatus) -> Payment:
        return await self.opened.services.payments.resolve(self.id, manual, REASON, MANAGER)

    async def order_state(self) -> OrderState:
        return (await self.opened.services.orders.get(self.order)).state

    async def entries(self) -> list[Entry]:
        return await self.opened.services.payments.history(self.id)

    async def until_custody(self, custody: Custody) -> Payment:
        async with self.opened.services.runtime.clock.timeout(SETTLE_S):
            while (payment := await self.now()).custody is not custody:
                await self.opened.services.runtime.clock.sleep(0.02)
        return payment

    async def totals(self, prefix: str) -> dict[str, tuple[int, int]]:
        found = await self.opened.services.db.read("totals", lambda c: payments.totals(c, prefix))
        return {one.name: (one.count, one.total.amount_minor) for one in found}


@pytest.fixture
async def stranded(tmp_path: Path) -> AsyncIterator[Stranded]:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal = await opened.add_terminal(NEAR)
        await allow_offline(opened)
        await in_outage(opened)
        order = opened.services.runtime.ids.new_id()
        line = OrderLine("sku-1", "Coffee", 1000, "piece", "20", AMOUNT, 1667, 0)
        await opened.services.orders.put(PlaceOrder(order, b"order" * 6, (line,), Money(AMOUNT, "EUR")), till())
        taken = await opened.take(AMOUNT, order=order)
        payment = await opened.until(taken.payment.id, "stored")
        yield Stranded(opened, terminal, order, payment)
        await replays_to_the_same(opened)
        assert await opened.services.db.read("check", verify.check_start) == []


async def test_a_terminal_that_answers_is_asked_before_any_person(stranded: Stranded) -> None:
    with pytest.raises(HubError) as caught:
        await stranded.decide(SUCCESS)
    assert caught.value.code == "terminal_can_send"
    payment = await stranded.now()
    assert (payment.manual, stranded.opened.services.payments.decidable(payment)) == (None, False)
    assert say(payment, "en").allowed == ()


async def test_what_is_overdue_is_decided_although_the_terminal_answers(stranded: Stranded) -> None:
    payment = await stranded.now()
    clock = stranded.opened.services.runtime.clock
    assert isinstance(clock, JumpingClock)
    assert payment.deadline_us is not None
    clock.ahead_s += (payment.deadline_us - clock.now_us()) / 1e6 + 1
    decided = await stranded.decide(FAILURE)
    assert (decided.state, decided.custody, decided.manual) == (PaymentState.STORED, Custody.HELD, FAILURE)


@pytest.mark.parametrize(
    ("manual", "order", "taken"),
    [(SUCCESS, OrderState.PAID, {"perpetual.sales": (1, AMOUNT)}), (FAILURE, OrderState.AWAITING_PAYMENT, {})],
)
async def test_a_person_decides_what_a_gone_terminal_holds(
    stranded: Stranded, manual: ManualStatus, order: OrderState, taken: dict[str, tuple[int, int]]
) -> None:
    opened = stranded.opened
    await gone(opened, NEAR, stranded.terminal)
    await service_back(opened)
    desk = opened.services.payments
    waiting = await stranded.now()
    assert say(waiting, "en", desk.decidable(waiting)).allowed == ("wait", "manager")
    with pytest.raises(DeviceError, match="not confirmed"):
        await opened.services.devices.deactivate(stranded.terminal, MANAGER, "fell into the sea")
    decided = await stranded.decide(manual)
    assert (decided.state, decided.custody, decided.manual) == (PaymentState.STORED, Custody.HELD, manual)
    assert (decided.is_open, decided.is_taken) == (False, manual is SUCCESS)
    assert await stranded.order_state() is order
    assert await stranded.totals("perpetual.") == taken
    assert await stranded.totals("held") == {"held_decided": (1, AMOUNT)}
    assert await desk.page(PaymentFilter(open_only=True), None, 10) == []
    said = (await stranded.entries())[-1]
    assert (said.kind, said.body()["automatic"], said.body()["custody"]) == ("payment.resolved", "stored", "held")
    (ref,) = said.head.documents
    kept = await opened.services.db.read("document", lambda c: documents.get(c, ref.id))
    assert kept is not None
    assert kept.content.decode() == REASON
    assert [view.held_count for view in await opened.services.devices.all()] == [0]
    closed = await opened.services.devices.deactivate(stranded.terminal, MANAGER, "fell into the sea")
    assert not closed.device.active
    assert stranded.outage is not None
    view = await opened.services.outages.get(stranded.outage)
    assert (view.unheard, view.taken.settled) == ((), True)


async def test_a_terminal_that_comes_back_and_sends_what_was_decided_as_paid_agrees(stranded: Stranded) -> None:
    await gone(stranded.opened, NEAR, stranded.terminal)
    await service_back(stranded.opened)
    await stranded.decide(SUCCESS)
    await back(stranded.opened, NEAR, stranded.terminal)
    payment = await stranded.until_custody(Custody.FORWARDED)
    assert (payment.state, payment.manual, payment.is_open) == (PaymentState.STORED, SUCCESS, False)
    assert await stranded.order_state() is OrderState.PAID


async def test_a_terminal_that_comes_back_and_sends_what_was_decided_as_unpaid_contradicts(stranded: Stranded) -> None:
    opened = stranded.opened
    await gone(opened, NEAR, stranded.terminal)
    await service_back(opened)
    await stranded.decide(FAILURE)
    await back(opened, NEAR, stranded.terminal)
    payment = await opened.until(stranded.id, "conflict")
    assert (payment.custody, payment.manual, payment.reason) == (Custody.FORWARDED, FAILURE, CONTRADICTS_DECISION)
    assert payment.is_open
    assert [one.kind for one in await stranded.entries()][-2:] == ["payment.forwarded", "payment.conflicted"]
    overview = await opened.services.overview.shop()
    opened.services.overview.note(overview)
    assert "payments.conflict" in {problem.code for problem in opened.services.problems.present()}
    assert [one.id for one in await opened.services.payments.page(PaymentFilter(open_only=True), None, 10)] == [
        payment.id
    ]
    again = await stranded.decide(SUCCESS)
    assert (again.state, again.manual, again.is_open) == (PaymentState.CONFLICT, SUCCESS, False)
    assert await stranded.order_state() is OrderState.PAID
    assert [one.body()["manual"] for one in await stranded.entries() if one.kind == "payment.resolved"] == [
        "failure",
        "success",
    ], "both words stand in the journal"


async def test_while_a_conflict_is_open_its_order_is_not_charged_again(stranded: Stranded) -> None:
    """A person had said that it was not paid, the terminal sends it all the same: the customer may be charged."""
    opened = stranded.opened
    await gone(opened, NEAR, stranded.terminal)
    await service_back(opened)
    await stranded.decide(FAILURE)
    await back(opened, NEAR, stranded.terminal)
    await opened.until(stranded.id, "conflict")
    for tender in (Tender.CARD, Tender.CASH):
        again = (await opened.take(AMOUNT, order=stranded.order, tender=tender)).payment
        assert (again.state, again.reason) == (PaymentState.REFUSED, "previous_unknown")
    paid = await opened.take(AMOUNT, MANAGER, order=stranded.order, tender=Tender.CASH, override="he paid twice, I saw")
    assert paid.payment.state is PaymentState.APPROVED
    assert await stranded.order_state() is OrderState.PAID


async def test_a_conflict_that_a_person_has_decided_lets_its_order_be_paid(stranded: Stranded) -> None:
    opened = stranded.opened
    await gone(opened, NEAR, stranded.terminal)
    await service_back(opened)
    await stranded.decide(FAILURE)
    await back(opened, NEAR, stranded.terminal)
    await opened.until(stranded.id, "conflict")
    await stranded.decide(FAILURE)
    assert (await opened.take(AMOUNT, order=stranded.order, tender=Tender.CASH)).payment.state is PaymentState.APPROVED


async def test_what_was_forwarded_and_never_answered_for_is_decided_by_a_person(stranded: Stranded) -> None:
    await service_back(stranded.opened)
    payment = await stranded.until_custody(Custody.FORWARDED)
    status = stranded.opened.services.terminals.status(stranded.terminal)
    assert status is not None
    assert status.state is DeviceState.READY
    assert say(payment, "fr", stranded.opened.services.payments.decidable(payment)).allowed == ("wait", "manager")
    with pytest.raises(HubError) as refused:
        await stranded.opened.services.payments.reverse(stranded.id, MANAGER)
    assert refused.value.code == "too_late_to_reverse"
    decided = await stranded.decide(SUCCESS)
    assert (decided.is_open, decided.is_taken, decided.custody) == (False, True, Custody.FORWARDED)


async def test_an_old_word_does_not_answer_what_a_reversal_asks_later(stranded: Stranded) -> None:
    opened = stranded.opened
    await gone(opened, NEAR, stranded.terminal)
    await stranded.decide(SUCCESS)
    asked = await opened.services.payments.reverse(stranded.id, MANAGER)
    assert (asked.state, asked.is_open) == (PaymentState.REVERSAL_PENDING, True)
    last = await opened.until(stranded.id, "stored", "reversal_pending")
    kinds = [one.kind for one in await stranded.entries()]
    assert "payment.reversal_requested" in kinds
    assert last.manual is SUCCESS


async def test_the_journal_tells_who_decided(stranded: Stranded) -> None:
    await gone(stranded.opened, NEAR, stranded.terminal)
    await stranded.decide(FAILURE)
    found = await stranded.opened.services.db.read("entries", lambda c: journal.entries_of(c, stranded.id))
    assert found[-1].head.actor == MANAGER.actor


async def test_a_card_that_is_tapped_in_an_outage_is_marked_although_the_till_named_no_way(tmp_path: Path) -> None:
    """The till says `card` and leaves it to the terminal, which stores what the policy excludes (B06)."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_terminal(NEAR)
        await allow_offline(opened)
        await in_outage(opened)
        inserted = await opened.take(2011)
        stored = await opened.until(inserted.payment.id, "stored")
        assert "outside_policy" not in stored.evidence
        assert await opened.noted("payments.outside_policy") is None
        await counter.simulators[NEAR].control({"cmd": "card", "technology": "contactless"})
        tapped = await opened.take(3011)
        assert tapped.payment.state is PaymentState.REQUESTED
        stored = await opened.until(tapped.payment.id, "stored")
        assert stored.evidence["outside_policy"] == "method_not_allowed_offline"
        problem = await opened.noted("payments.outside_policy")
        assert problem is not None
        assert problem.money == (Money(3011, "EUR"),)
        await opened.verdict(tapped.payment.id, CustodyEvent.CAPTURED)
        assert await opened.noted("payments.outside_policy") is None, "the bank has paid"


REFUSED = "payments.declined_late"


async def refused_afterwards(stranded: Stranded) -> None:
    """The terminal sends what it holds, and the bank says no."""
    await service_back(stranded.opened)
    await stranded.until_custody(Custody.FORWARDED)
    await stranded.opened.verdict(stranded.id, CustodyEvent.DECLINED_LATE)
    assert await stranded.order_state() is OrderState.AWAITING_PAYMENT
    assert await stranded.opened.noted(REFUSED) is not None
    assert (await stranded.opened.services.overview.overview()).action.kind == "refused_payment"


@pytest.mark.parametrize(
    ("manual", "order", "taken"),
    [(SUCCESS, OrderState.PAID, {"perpetual.sales": (1, AMOUNT)}), (FAILURE, OrderState.AWAITING_PAYMENT, {})],
)
async def test_a_manager_closes_what_the_bank_refused_afterwards(
    stranded: Stranded, manual: ManualStatus, order: OrderState, taken: dict[str, tuple[int, int]]
) -> None:
    await refused_afterwards(stranded)
    desk = stranded.opened.services.payments
    assert say(await stranded.now(), "en", desk.decidable(await stranded.now())).allowed == ("manager",)
    decided = await stranded.decide(manual)
    assert (decided.state, decided.custody, decided.decision) == (PaymentState.STORED, Custody.DECLINED_LATE, manual)
    assert await stranded.order_state() is order
    assert await stranded.totals("perpetual.") == taken
    assert await stranded.opened.noted(REFUSED) is None
    assert (await stranded.opened.services.overview.overview()).action.kind != "refused_payment"


async def test_what_the_bank_refused_is_closed_when_its_order_is_paid_again(stranded: Stranded) -> None:
    await refused_afterwards(stranded)
    await stranded.opened.take(AMOUNT // 2, order=stranded.order, tender=Tender.CASH)
    assert await stranded.opened.noted(REFUSED) is not None, "half of it is still missing"
    await stranded.opened.take(AMOUNT // 2, order=stranded.order, tender=Tender.CASH)
    assert await stranded.order_state() is OrderState.PAID
    assert await stranded.opened.noted(REFUSED) is None
    assert (await stranded.now()).manual is None, "nobody had to decide"


async def test_the_banks_money_after_a_persons_word_on_its_refusal_is_a_conflict(stranded: Stranded) -> None:
    await refused_afterwards(stranded)
    await stranded.decide(FAILURE)
    contradicted = await stranded.opened.verdict(stranded.id, CustodyEvent.CAPTURED)
    assert (contradicted.state, contradicted.is_open) == (PaymentState.CONFLICT, True)


async def test_a_managers_word_on_an_unknown_payment_is_one_truth(tmp_path: Path) -> None:
    """Order, takings, outage, home and statement count the same (D09)."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_terminal(NEAR)
        await allow_offline(opened)
        outage = await in_outage(opened)
        taken = await opened.take(1014)
        await opened.until(taken.payment.id, "unknown")
        before = (await opened.services.overview.shop()).sales_today
        decided = await opened.services.payments.resolve(taken.payment.id, SUCCESS, REASON, MANAGER)
        assert decided.is_taken
        picture = await opened.services.overview.shop()
        assert (before.count, picture.sales_today) == (0, Group(1, (Money(1014, "EUR"),)))
        assert await opened.noted("payments.unknown") is None
        view = await opened.services.outages.get(outage)
        assert (view.taken.decided_paid.count, view.taken.unknown.count) == (1, 0)
        entries = await opened.services.db.read("entries", lambda c: journal.entries_after(c, 0, 10_000))
        count = OutageCount(outage)
        for entry in entries:
            count.add(entry.kind, entry.head.subject, entry.body())
        (total,) = count.totals()
        assert total["buckets"]["taken"] == total["buckets"]["resolved_success"] == {"count": 1, "total": 1014}
        await replays_to_the_same(opened)
