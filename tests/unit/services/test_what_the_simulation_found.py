"""Orders of events that the simulation found to lose or double money, each as the shortest story that shows it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from drivers.sim.ledger import Transaction, TransactionState
from drivers.sim.zvt import SimulatorOptions
from hubd.app import once_there_is_room
from hubd.errors import HubError, StoreError
from hubd.model.money import Money
from hubd.model.payment import PaymentKind, PaymentState, Tender
from hubd.services import dialogue
from hubd.services.lines import LineReason
from hubd.services.payments import Refund
from hubd.services.say import say
from hubd.services.till_lines import Held
from tests.rigs.process import wait_until
from tests.unit.services.shop import MANAGER, TILL_1, Shop, Terminals, shop, shop_runtime, till
from tests.unit.sync.world import FastClock

URL = "tcp://terminal-1"
REVERSER = msgspec.structs.replace(MANAGER, device=TILL_1)
"""A manager who is signed in at a till."""


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


async def test_a_hub_that_was_restored_undoes_nothing_for_a_till_that_has_not_announced(tmp_path: Path) -> None:
    """The refund was made after the backup: the restored hub does not know of it until the till says so."""
    async with shop(tmp_path) as opened:
        sale = await opened.take(500, tender=Tender.CASH)
        await opened.services.tills.check(TILL_1, f"{'ab' * 16}:9:{'cd' * 8}")
        with pytest.raises(HubError, match="hub_line_changed"):
            await opened.services.payments.reverse(sale.payment.id, REVERSER)
        refund = Held(
            opened.services.runtime.ids.new_id(), "", 0, "", "approved", Money(200, "EUR"), PaymentKind.REFUND,
            sale.payment.id,
        )  # fmt: skip
        await opened.services.tills.announce(till(), [refund])
        with pytest.raises(HubError, match="already_refunded"):
            await opened.services.payments.reverse(sale.payment.id, REVERSER)


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


LOST = 2000 + 13
"""The simulated terminal approves this amount and loses its answer; an enquiry finds it."""


async def _settled(opened: Shop, payment_id: str, expected: PaymentState) -> PaymentState:
    """The state after the terminal has been asked; the next sale asks about what is unknown before it begins."""
    if expected is PaymentState.UNKNOWN:
        (device,) = await opened.services.devices.all()
        await opened.until(payment_id, "unknown")
        await opened.ready(device.device.id)
        await opened.until((await opened.take(1300)).payment.id, "approved")
    else:
        await opened.until(payment_id, "approved")
    return (await opened.services.payments.get(payment_id)).state


@pytest.mark.parametrize(
    ("reason", "prints", "state"),
    [
        (None, False, PaymentState.APPROVED),
        (LineReason.REPLACED, False, PaymentState.UNKNOWN),
        (LineReason.REPLACED, True, PaymentState.APPROVED),
        (LineReason.RESTORED, False, PaymentState.UNKNOWN),
    ],
)
async def test_a_hub_that_may_not_be_alone_believes_a_receipt_only_by_its_id(
    tmp_path: Path, reason: LineReason | None, prints: bool, state: PaymentState
) -> None:
    """Another hub of the same identity may have sold the same amount as the terminal's very next receipt (seed 113)."""
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL, SimulatorOptions(print_reference=prints))
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        await opened.until((await opened.take(1200)).payment.id, "approved")
    async with shop(tmp_path, counter, reason=reason) as opened:
        (device,) = await opened.services.devices.all()
        await opened.ready(device.device.id)
        sale = await opened.take(LOST)
        assert await _settled(opened, sale.payment.id, state) is state
    assert [one.amount_minor for one in simulator.ledger.transactions][:2] == [1200, LOST]


async def test_a_hub_that_hears_its_copy_leaves_the_number_and_the_amount_to_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue, "ENQUIRY_PAUSES_S", (0.5,))
    counter = Terminals(shop_runtime())
    counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        opened.services.problems.raise_("hub.cloned")
        sale = await opened.take(LOST)
        assert await _settled(opened, sale.payment.id, PaymentState.UNKNOWN) is PaymentState.UNKNOWN
        desk = opened.services.payments
        unknown = await desk.get(sale.payment.id)
        assert desk.asking(unknown)
        assert say(unknown, "en", asking=True).allowed == ("wait", "ask_terminal", "manager")
        await wait_until(lambda: not desk.asking(unknown), 10, "the end of the enquiry")
        given_up = say(unknown, "en", asking=desk.asking(unknown))
        assert "A manager decides" in given_up.cashier
        assert given_up.allowed == ("ask_terminal", "manager")


@pytest.mark.parametrize("used", [False, True])
async def test_a_terminal_that_others_use_too_is_not_believed_by_number_and_amount(tmp_path: Path, used: bool) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        device_id = await opened.add_terminal(URL)
        await opened.until((await opened.take(1200)).payment.id, "approved")
        await simulator.unplug()
        await opened.lost(device_id)
        books = simulator.ledger
        if used:
            approved = TransactionState.APPROVED
            books.book(Transaction(books.next_trace, "payment", approved, 300, "EUR", books.next_receipt))
        simulator.replug()
        await opened.ready(device_id)
        sale = await opened.take(LOST)
        expected = PaymentState.UNKNOWN if used else PaymentState.APPROVED
        assert await _settled(opened, sale.payment.id, expected) is expected


@pytest.mark.parametrize(("amount", "state"), [(LOST, PaymentState.CONFLICT), (LOST + 1, PaymentState.APPROVED)])
async def test_one_receipt_that_two_payments_claim_is_decided_by_a_person(
    tmp_path: Path, amount: int, state: PaymentState
) -> None:
    """Found approved by asking; then a till announces that another hub has sold the same amount."""
    counter = Terminals(shop_runtime())
    counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        asked = await opened.take(LOST)
        assert (await opened.until(asked.payment.id, "approved")).evidence["receipt_number"] == "0001"
        plain = await opened.take(1200)
        await opened.until(plain.payment.id, "approved")
        other = opened.services.runtime.ids.new_id()
        await opened.services.tills.announce(till(), [held(other, "approved", amount), held(other, "approved", amount)])
        assert (await opened.services.payments.get(asked.payment.id)).state is state
        assert (await opened.services.payments.get(plain.payment.id)).state is PaymentState.APPROVED
        assert (await opened.services.payments.get(other)).state is PaymentState.UNKNOWN


async def test_a_start_that_needs_a_new_line_waits_while_the_disk_is_full_and_crashes_over_nothing_less() -> None:
    answers: list[StoreError | str] = [StoreError("store.full", "full"), StoreError("store.full", "full"), "opened"]

    async def write() -> str:
        answer = answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    clock = FastClock()
    assert await once_there_is_room(clock, write) == "opened"
    answers[:] = [StoreError("store.failed", "outcome unknown"), "opened"]
    with pytest.raises(StoreError, match="failed"):
        await once_there_is_room(clock, write)
