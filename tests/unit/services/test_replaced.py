"""A hub that another one has replaced sells no more, and everything else goes on (ADR 13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd.errors import HubError
from hubd.model.entry import Draft
from hubd.model.money import Money
from hubd.model.order import OrderLine
from hubd.model.payment import PaymentState, Tender
from hubd.model.replacement import Word
from hubd.services.lines import LineReason
from hubd.services.orders import PlaceOrder
from hubd.services.overview import Way
from hubd.services.payments import Refund
from hubd.services.replacement import demand_in_service, learn
from hubd.store import journal
from hubd.store.tx import Tx
from sync.cloud.keys import CloudKeys
from sync.cloud.replacing import word_bytes
from tests.unit.services.shop import MANAGER, Shop, Terminals, shop, shop_runtime, till

URL = "tcp://terminal-1"
KEYS = CloudKeys(b"1" * 32, (b"2" * 32,))
NEW_LINE = bytes(16)


def signed(hub: bytes, lines: tuple[bytes, bytes], epoch: int) -> Word:
    """The cloud's word that the second line sells in the place of the first, wherever they parted."""
    certificate, key = KEYS.certificates()[0], KEYS.current
    return Word(
        hub.hex(),
        lines[0].hex(),
        lines[1].hex(),
        0,
        epoch,
        5,
        key.key_id,
        key.public_key.hex(),
        certificate.root_signature.hex(),
        key.sign(word_bytes("t-1", hub, lines, 0, epoch, 5)).hex(),
    )


async def enrol(opened: Shop) -> bytes:
    """Bind the shop to the cloud of these keys; returns the hub's id."""
    body = {"tenant": "t-1", "store": "s-1", "locations": [], "root_key": KEYS.root.public_key.hex()}
    draft = Draft("hub.enrolled", "", "hub", body)
    await opened.services.db.write("test.enrol", lambda tx: journal.append(tx, draft))
    first = (await opened.services.db.read("test.first", lambda c: journal.entries_after(c, 0, 1)))[0]
    return bytes.fromhex(first.body()["hub_id"])


def order(opened: Shop) -> PlaceOrder:
    line = OrderLine("sku-1", "Coffee", 1000, "piece", "20", 500, 417, 0)
    return PlaceOrder(opened.services.runtime.ids.new_id(), b"order" * 6, (line,), Money(500, "EUR"))


async def must_not_sell(opened: Shop, paid: str) -> None:
    """Everything that would take or give money or promise goods is refused, and leaves no entry."""
    desk, before = opened.services.payments, opened.services.db.head
    refund = Refund(opened.services.runtime.ids.new_id(), b"refund" * 5, Money(100, "EUR"))
    with pytest.raises(HubError, match="hub_replaced"):
        await opened.take(2000)
    with pytest.raises(HubError, match="hub_replaced"):
        await opened.take(500, tender=Tender.CASH)
    with pytest.raises(HubError, match="hub_replaced"):
        await desk.refund(paid, refund, MANAGER)
    with pytest.raises(HubError, match="hub_replaced"):
        await opened.services.orders.put(order(opened), till())
    assert opened.services.db.head == before


async def until_ready(opened: Shop) -> None:
    await opened.ready(opened.services.terminals.all()[0].id)


async def test_a_replaced_hub_refuses_before_a_terminal_is_touched_and_stays_so(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        hub, line = await enrol(opened), opened.services.db.head.line
        request = opened.request(1500, tender=Tender.CASH)
        paid = await opened.services.payments.take(request, till())
        card = await opened.take(900)
        await opened.until(card.payment.id, "approved")
        assert await opened.services.replacement.hear(signed(hub, (line, NEW_LINE), 2))
        await must_not_sell(opened, paid.payment.id)
        again = await opened.services.payments.take(request, till())
        assert (again.created, again.payment.state) == (False, PaymentState.APPROVED)

    for reason in (None, LineReason.REPLACED):
        async with shop(tmp_path, counter, shop_runtime(b"2-process"), reason) as opened:
            await until_ready(opened)
            await must_not_sell(opened, paid.payment.id)
            opened.services.overview.note(await opened.services.overview.shop())
            assert "hub.replaced" in [problem.code for problem in opened.services.problems.visible()]
            assert (await opened.services.payments.get(paid.payment.id)).state is PaymentState.APPROVED
    assert [one.amount_minor for one in simulator.ledger.transactions] == [900]


async def test_a_newer_word_for_this_hub_lets_it_sell_again(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        hub, line = await enrol(opened), opened.services.db.head.line
        assert await opened.services.replacement.hear(signed(hub, (line, NEW_LINE), 2))
        with pytest.raises(HubError, match="hub_replaced"):
            await opened.take(500, tender=Tender.CASH)
        assert await opened.services.replacement.hear(signed(hub, (NEW_LINE, line), 3))
        assert (await opened.take(500, tender=Tender.CASH)).created
        opened.services.overview.note(await opened.services.overview.shop())
        assert "hub.replaced" not in [problem.code for problem in opened.services.problems.present()]


async def test_works_of_one_group_know_a_word_that_came_between_them(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        hub, line = await enrol(opened), opened.services.db.head.line

        def work(tx: Tx) -> None:
            demand_in_service(tx, hub)
            learn(tx, signed(hub, (line, NEW_LINE), 2), "hub", {})
            demand_in_service(tx, hub)

        with pytest.raises(HubError, match="hub_replaced"):
            await opened.services.db.write("test.group", work)
        assert (await opened.take(500, tender=Tender.CASH)).created, "what was rolled back was never heard"


async def test_a_word_for_another_line_changes_nothing(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        hub = await enrol(opened)
        with pytest.raises(HubError, match=r"sync\.invalid_word"):
            await opened.services.replacement.hear(signed(bytes(16), (opened.services.db.head.line, NEW_LINE), 2))
        assert await opened.services.replacement.hear(signed(hub, (b"3" * 16, NEW_LINE), 2))
        assert (await opened.take(500, tender=Tender.CASH)).created
        assert not await opened.services.replacement.stopped()


async def test_no_way_is_shown_as_open_on_a_replaced_hub(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        hub, line = await enrol(opened), opened.services.db.head.line
        await opened.services.replacement.hear(signed(hub, (line, NEW_LINE), 2))
        picture = await opened.services.overview.shop()
        assert picture.replaced
        ways = (await opened.services.overview.overview()).ways
        assert [(one.way, one.allowed) for one in ways if one.way is Way.CASH] == [(Way.CASH, False)]
