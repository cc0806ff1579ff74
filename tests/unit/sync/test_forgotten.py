"""What the cloud calls forgotten is exactly what the writer of a new line has lost (sync S2, S9, S11)."""

from __future__ import annotations

from typing import Any

from hubd.model.entry import Draft
from hubd.services.lines import LineReason, ensure_line
from hubd.store import mirror, outages
from sync.codec import Confirm, Entries, HashAt, Message, Range
from tests.rigs.process import wait_until
from tests.unit.sync.shop import (
    LOST,
    ScriptedWire,
    cash,
    new_id,
    outage_closed,
    outage_opened,
    payment_body,
)
from tests.unit.sync.test_s_cases import forked_copy
from tests.unit.sync.world import Hub, World


async def given_back(hub: Hub) -> set[bytes]:
    """The entries of its own that a hub has been given to read."""
    return {entry.hash for entry in await hub.read(lambda c: mirror.entries_in_state(c, mirror.FORGOTTEN))}


async def test_one_backup_restored_twice_gives_back_what_followed_it_both_times(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=5)
    async with hub.online():
        await hub.drained()
    first, second = await forked_copy(world, hub, "first"), await forked_copy(world, hub, "second")
    common = {entry.hash for entry in await hub.entries()}
    await ensure_line(first.db, first.signer, first.runtime, LineReason.RESTORED)
    await first.note(count=3)
    async with first.online():
        await first.drained()
    lost = {entry.hash for entry in await first.entries()} - common
    await ensure_line(second.db, second.signer, second.runtime, LineReason.RESTORED)
    async with second.online():
        await world.until(lambda: second.kinds("sync.forgotten_listed"), "the forgotten entries")
        await second.drained()
    assert lost <= await given_back(second)


async def test_what_a_fork_has_hidden_is_given_back_whole(world: World) -> None:
    """Restored in silence, the hub writes other entries in the places of those that it has lost."""
    hub = await world.hub()
    await hub.note(count=3)
    async with hub.online():
        await hub.drained()
    copy = await forked_copy(world, hub)
    common = {entry.hash for entry in await hub.entries()}
    await hub.note("lost", 6)
    async with hub.online():
        await hub.drained()
    await copy.note("other", 2)
    await ensure_line(copy.db, copy.signer, copy.runtime, LineReason.RESTORED)
    async with copy.online():
        await world.until(lambda: copy.kinds("sync.forgotten_listed"), "the forgotten entries")
        await copy.drained()
    assert {entry.hash for entry in await hub.entries()} - common <= await given_back(copy)


async def test_an_older_line_that_goes_on_is_named_and_its_writer_is_not_told_to_fetch_it(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=3)
    async with hub.online():
        await hub.drained()
    copy = await forked_copy(world, hub)
    common = hub.db.head.seq
    await ensure_line(copy.db, copy.signer, copy.runtime, LineReason.REPLACED)
    async with copy.online():
        await copy.drained()
    await hub.note("late", 4)
    async with hub.online():
        await hub.drained()
    head = hub.db.head
    assert await world.look(lambda s: s.forgotten(hub.signer.hub_id)) == [
        Range(head.line, common + 1, head.seq, head.hash)
    ]
    async with hub.online():
        await hub.note()
        await hub.drained()
    assert await hub.kinds("sync.forgotten_listed") == []
    assert await given_back(hub) == set()


async def test_an_outage_that_began_in_a_fork_has_its_statement(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=3)
    copy = await forked_copy(world, hub)
    await hub.note("elsewhere", 4)
    async with hub.online():
        await hub.drained()
    outage = new_id()
    await copy.append(outage_opened(outage), cash(new_id(), 500, outage=outage))
    await ensure_line(copy.db, copy.signer, copy.runtime, LineReason.RESTORED)
    await copy.append(cash(new_id(), 700, outage=outage), outage_closed(outage))
    async with copy.online():
        await world.until(lambda: copy.kinds("statement.received"), "the statement")
        await copy.drained()
    (statement,) = await copy.read(lambda c: outages.statements(c, outage))
    assert statement.agrees
    assert statement.document["quarantined"]["count"] == 1
    (total,) = statement.document["totals"]
    assert total["buckets"]["cash"] == {"count": 1, "total": 700}
    assert await world.look(lambda s: s.dead_letters(copy.signer.hub_id)) == []


async def test_what_a_clone_has_left_parked_is_not_confirmed_to_the_other(world: World, wire: ScriptedWire) -> None:
    """The clone's first batch never arrives, its second waits for it; then the other hub sends the first."""
    hub = await world.hub()
    await hub.note("common", 150)
    copy = await forked_copy(world, hub)
    await copy.note("the clone's", 30)

    def lose_first(way: str, message: Message) -> Any:
        return LOST if way == "up" and isinstance(message, Entries) and message.from_seq <= 100 else None

    wire.rule = lose_first
    async with copy.online():
        await wait_until(lambda: wire.count("down", HashAt), 20, "the cloud to notice the gap")
    wire.rule = lambda _way, _message: None
    await hub.note("own", 3)
    wire.seen.clear()
    async with hub.online():
        await hub.drained()
    held = {entry.seq: entry.hash for entry in await hub.entries()}
    confirms = [message for way, message in wire.seen if way == "down" and isinstance(message, Confirm)]
    assert confirms
    assert [c.upto_seq for c in confirms if held.get(c.upto_seq) != c.hash] == []


async def test_a_payment_announced_in_a_fork_goes_on_with_its_state(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=3)
    copy = await forked_copy(world, hub)
    await hub.note("elsewhere", 9)
    async with hub.online():
        await hub.drained()
    payment = new_id()
    body = payment_body(800)
    await copy.append(Draft("payment.requested", payment, "device:till-1", body))
    await copy.append(Draft("payment.unknown", payment, "hub", body))
    await ensure_line(copy.db, copy.signer, copy.runtime, LineReason.RESTORED)
    await copy.append(Draft("payment.resolved", payment, "staff:s1", body | {"manual": "success"}))
    async with copy.online():
        await copy.drained()
    row = await world.look(lambda s: s.payment(copy.signer.hub_id, payment, False))
    assert row is not None
    assert (row.state, row.manual, row.times_created) == ("unknown", "success", 1)
