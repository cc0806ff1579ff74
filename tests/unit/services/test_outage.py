"""An outage from the first loss to the flush: policy first, then the terminal, then sending (B05, B06, B17)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from drivers.sim.ledger import TransactionState
from hubd.model.mode import Facts, Hop, Mode
from hubd.model.money import Money
from hubd.model.payment import Custody, Method, PaymentState, Tender
from hubd.model.policy import SHIPPED
from hubd.model.statement import count_outage
from hubd.services.say import say
from hubd.services.settings import POLICY_PREFIX
from hubd.services.till_lines import Held
from hubd.store import journal
from hubd.store.outages import unheard
from tests.unit.services.shop import MANAGER, Shop, Terminals, shop, shop_runtime, till

URL = "tcp://terminal-1"
HOPS = (Hop.LINK, Hop.GATEWAY, Hop.DNS, Hop.INTERNET)


async def until_mode(opened: Shop, *, up: bool, mode: Mode) -> None:
    """Measure the line until the hub has judged it; what is measured is up to the test, how it is judged is not."""
    clock = opened.services.runtime.clock
    facts = Facts(cloud_expected=False)
    async with clock.timeout(30):
        while opened.services.outages.snapshot().mode is not mode:
            now_ms = int(clock.monotonic() * 1000)
            for hop in HOPS:
                facts = facts.with_hop(hop, facts.hop(hop).measured(up or hop is Hop.LINK, now_ms))
            await opened.services.outages.observe(facts)
            await clock.sleep(0.05)


async def allow_offline(opened: Shop) -> None:
    policy = replace(SHIPPED["terminal"], enabled=True)
    await opened.services.settings.put(MANAGER.actor, f"{POLICY_PREFIX}terminal", policy.as_json())


async def test_an_outage_from_loss_to_flush(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        terminal = await opened.add_terminal(URL)
        await until_mode(opened, up=True, mode=Mode.ONLINE)
        simulator.host_up = False
        await until_mode(opened, up=False, mode=Mode.NETWORK_OUTAGE)
        outage = opened.services.outages.snapshot().outage_id
        assert outage is not None
        problems = opened.services.problems
        assert [one.code for one in problems.visible()] == ["network.outage"], "with the mode, not with a later look"

        off = await opened.take(1000)
        assert (off.payment.state, off.payment.reason) == (PaymentState.REFUSED, "offline_not_enabled")
        await allow_offline(opened)
        tap = await opened.take(1000, method=Method.CONTACTLESS)
        assert (tap.payment.state, tap.payment.reason) == (PaymentState.REFUSED, "method_not_allowed_offline")
        dear = await opened.take(10_001)
        assert (dear.payment.state, dear.payment.reason) == (PaymentState.REFUSED, "over_offline_limit")
        why = await opened.services.payments.refusal(dear.payment)
        assert why is not None
        assert (why.params["limit"], why.would_allow) == (10_000, ("cash", "smaller_amount"))
        assert say(dear.payment, "en").allowed == ("other_method",), "a manager cannot lift this limit"
        assert not simulator.ledger.transactions

        chip = await opened.take(2000, method=Method.CHIP)
        stored = await opened.until(chip.payment.id, "stored")
        assert (stored.custody, stored.outage) == (Custody.HELD, outage)
        assert stored.deadline_us is not None
        cash = await opened.take(500, tender=Tender.CASH)
        assert (cash.payment.state, cash.payment.outage) == (PaymentState.APPROVED, outage)
        view = await opened.services.devices.get(terminal)
        assert (view.held_count, [money.amount_minor for money in view.held]) == (1, [2000])

        simulator.host_up = True
        await until_mode(opened, up=True, mode=Mode.ONLINE)
        async with opened.services.runtime.clock.timeout(10):
            payment = await opened.services.payments.get(chip.payment.id)
            while payment.custody is not Custody.FORWARDED:
                payment = await opened.services.payments.wait_for_change(payment.id, payment.last_seq, 10)
        assert payment.state is PaymentState.STORED, "a flush is not an approval"
        assert [one.state for one in simulator.ledger.transactions] == [TransactionState.FORWARDED]
        closed = await opened.services.outages.get(outage)
        assert closed.outage.ended_at_us is not None


async def test_a_payment_is_held_against_the_policy_that_allowed_it_and_no_later_one(tmp_path: Path) -> None:
    """The manager ends offline payments while the customer types the PIN: this sale was within the rules."""
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        await until_mode(opened, up=True, mode=Mode.ONLINE)
        simulator.host_up = False
        await until_mode(opened, up=False, mode=Mode.NETWORK_OUTAGE)
        await allow_offline(opened)
        simulator.faults.answer_delay_s = 0.5
        taken = await opened.take(2000, method=Method.CHIP)
        key = f"{POLICY_PREFIX}terminal"
        version = await opened.services.settings.put(MANAGER.actor, key, SHIPPED["terminal"].as_json())
        meanwhile = await opened.services.payments.get(taken.payment.id)
        assert meanwhile.state in {PaymentState.REQUESTED, PaymentState.IN_PROGRESS}, "the customer types the PIN"
        simulator.faults.answer_delay_s = 0.0
        stored = await opened.until(taken.payment.id, "stored")
        assert stored.policy_version == version - 1
        assert "outside_policy" not in stored.evidence
        refused = await opened.take(2000, method=Method.CHIP)
        assert (refused.payment.reason, refused.payment.policy_version) == ("offline_not_enabled", version)


async def test_what_was_asked_for_since_the_first_loss_was_taken_in_the_outage(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        terminal = await opened.add_terminal(URL)
        await until_mode(opened, up=True, mode=Mode.ONLINE)
        before = await opened.take(100, tender=Tender.CASH)
        # Its entry is from a millisecond before the loss.
        await opened.services.runtime.clock.sleep(0.002)
        outages, clock = opened.services.outages, opened.services.runtime.clock
        lost = outages.facts()
        for hop in HOPS:
            lost = lost.with_hop(hop, lost.hop(hop).measured(hop is Hop.LINK, int(clock.monotonic() * 1000)))
        await outages.observe(lost)
        assert outages.snapshot().outage_id is None, "nobody has called it an outage yet"
        cash = await opened.take(200, tender=Tender.CASH)
        card = await opened.take(300)
        await opened.until(card.payment.id, "approved")
        await until_mode(opened, up=False, mode=Mode.NETWORK_OUTAGE)
        outage = outages.snapshot().outage_id
        assert outage is not None
        after = await opened.take(400, tender=Tender.CASH)
        found = {one.amount: one.outage for one in await outages.payments(outage)}
        assert found == {200: outage, 300: outage, 400: outage}
        assert (await opened.services.payments.get(before.payment.id)).outage is None
        await until_mode(opened, up=True, mode=Mode.ONLINE)
        view = await outages.get(outage)
        assert (view.taken.cash.count, view.taken.accepted.count) == (2, 1)
        entries = await opened.services.db.read("entries", lambda c: journal.entries_after(c, 0, 1_000))
        document = {
            "outage": outage,
            "ranges": [{"line": entries[-1].line.hex(), "from_seq": 1, "upto_seq": entries[-1].seq}],
            "verdicts": [],
        }
        count = count_outage(document, entries)
        assert {id_: one.bucket for id_, one in count.payments.items()} == {
            cash.payment.id: "cash",
            card.payment.id: "card",
            after.payment.id: "cash",
        }
        assert count.used == {terminal}
        assert await opened.services.db.read("unheard", lambda c: [row.terminal for row in unheard(c)]) == [terminal]


async def test_what_is_asked_for_while_the_outage_is_being_written_belongs_to_it_too(tmp_path: Path) -> None:
    """The mode is known before the row: a sale of that moment waits behind it in the store, and knows no outage."""
    async with shop(tmp_path) as opened:
        await until_mode(opened, up=True, mode=Mode.ONLINE)
        outages, clock = opened.services.outages, opened.services.runtime.clock
        seen: list[str] = []

        async def sell() -> None:
            while outages.snapshot().mode is not Mode.NETWORK_OUTAGE or outages.snapshot().outage_id is not None:
                await clock.sleep(0)
            seen.append((await opened.take(700, tender=Tender.CASH)).payment.id)

        async with clock.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(sell())
            await until_mode(opened, up=False, mode=Mode.NETWORK_OUTAGE)
        outage = outages.snapshot().outage_id
        assert outage is not None
        assert [(await opened.services.payments.get(one)).outage for one in seen] == [outage]


async def test_what_a_till_announces_after_a_restore_joins_no_outage(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        await until_mode(opened, up=True, mode=Mode.ONLINE)
        outages, clock = opened.services.outages, opened.services.runtime.clock
        lost = outages.facts()
        for hop in HOPS:
            lost = lost.with_hop(hop, lost.hop(hop).measured(hop is Hop.LINK, int(clock.monotonic() * 1000)))
        await outages.observe(lost)
        new_id, amount = opened.services.runtime.ids.new_id(), Money(900, "EUR")
        held = Held(new_id, "ab" * 16, 9, "cd" * 32, "approved", amount, tender=Tender.CASH)
        await opened.services.tills.announce(till(), [held])
        await until_mode(opened, up=False, mode=Mode.NETWORK_OUTAGE)
        assert (await opened.services.payments.get(held.id)).outage is None
