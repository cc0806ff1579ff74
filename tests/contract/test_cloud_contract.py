"""What any cloud that offers the link must keep: run against the one in memory and the one behind a real broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hubd.model.entry import Draft, Entry
from hubd.store import outages
from tests.rigs.broker import Broker
from tests.rigs.process import wait_until
from tests.unit.sync.shop import cash, forwarded, heard, new_id, outage_closed, outage_opened, stored
from tests.unit.sync.world import BrokerWorld, Hub, World, copy_of


@pytest.fixture(params=["in_process", "mqtt"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "in_process":
        async with World(tmp_path) as world:
            yield world
    else:
        async with Broker() as broker, BrokerWorld(tmp_path, broker) as world:
            yield world


async def test_entries_are_confirmed_with_proof_and_held_by_hash(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=1234)
    async with hub.online() as sync:
        await hub.drained()
        # What the hub writes because of the cloud's journal (its epoch) may follow a moment later.
        await wait_until(lambda: sync.status.unsent_count == 0, 15, "nothing to be unsent")
        assert sync.status.problems == ()
    assert await world.holds(hub)


async def test_new_entries_follow_at_once(world: World) -> None:
    hub = await world.hub()
    async with hub.online():
        await hub.drained()
        for _ in range(5):
            await hub.note()
            await hub.drained()


async def test_cloud_that_was_restarted_goes_on_where_it_was(world: World) -> None:
    hub = await world.hub()
    async with hub.online():
        await hub.note(count=120)
        await hub.drained()
        await world.stop_cloud()
        await hub.note(count=120)
        await world.start_cloud()
        await hub.drained()
    count = await world.look(lambda s: s.entry_count(hub.signer.hub_id))
    assert count == hub.db.head.seq


async def knows(world: World, hub: Hub, entry: Entry) -> bool:
    return await world.look(lambda s: s.known(hub.signer.hub_id, entry.hash) is not None)


async def test_two_hubs_of_one_cloud_are_kept_apart(world: World) -> None:
    one, other = await world.hub("one", key=1), await world.hub("other", key=2)
    await one.note("one", 130)
    await other.note("other", 70)
    async with one.online(), other.online():
        await one.drained()
        await other.drained()
    for hub, stranger in ((one, other), (other, one)):
        assert await world.holds(hub)
        assert not await knows(world, hub, (await stranger.entries())[-1])


async def test_hub_that_is_not_enrolled_is_not_answered(world: World) -> None:
    hub = await world.hub("known", key=3)
    stranger = await world.hub("stranger", key=4)
    await world.look(lambda s: None)
    async with hub.online():
        await hub.drained()
    frames = [(bytes(16), b"x" * 200), (stranger.signer.hub_id, b"y" * 200)]
    assert await world.cloud.receive(frames) == []


async def test_outage_ends_with_a_final_statement_on_which_both_sides_agree(world: World) -> None:
    hub = await world.hub()
    outage, good, late = new_id(), new_id(), new_id()
    await hub.append(outage_opened(outage))
    await hub.append(cash(new_id(), 700, outage=outage), cash(new_id(), 800, outage=outage))
    await hub.append(*stored(good, 1011, outage=outage), *stored(late, 1012, outage=outage))
    await hub.append(outage_closed(outage))
    async with hub.online():
        await world.until(lambda: hub.kinds("statement.received"), "the provisional statement")
        await hub.append(*forwarded(good, 1011, outage=outage), *forwarded(late, 1012, outage=outage))

        async def newest(finality: str, unheard: list[str], open_count: int) -> bool:
            found = await hub.read(lambda c: outages.statements(c, outage))
            document = found[-1].document
            return (found[-1].finality, document["unheard"], document["open"]) == (finality, unheard, open_count)

        await world.until(lambda: newest("provisional", ["term-1"], 0), "a statement that waits for the terminal alone")
        await hub.append(heard(outage))
        await world.until(lambda: newest("final", [], 0), "the final statement")
        await hub.drained()
    found = await hub.read(lambda c: outages.statements(c, outage))
    assert [statement.finality for statement in found] == ["provisional", "provisional", "final"]
    assert [statement.agrees for statement in found] == [True, True, True]
    assert [statement.replaces for statement in found] == [None, found[0].id, found[1].id]
    document = found[-1].document
    assert (document["lost"], document["doubled"], document["open"]) == (0, 0, 0)
    buckets = document["totals"][0]["buckets"]
    assert buckets["cash"] == {"count": 2, "total": 1500}
    assert buckets["captured"] == {"count": 1, "total": 1011}
    assert buckets["declined_late"] == {"count": 1, "total": 1012}
    assert buckets["taken"] == {"count": 3, "total": 2511}


async def test_setting_from_the_cloud_is_in_force_with_its_cause(world: World) -> None:
    hub = await world.hub()
    fields = {"key": "store.name", "value": "Boulangerie", "scope": "store", "effective_from_us": 0}
    async with hub.online():
        await hub.drained()
        await world.cloud.say(hub.signer.hub_id, "setting.changed", "store.name", fields)
        await world.until(lambda: hub.kinds("setting.changed"), "the setting")
        await hub.drained()
    entry = next(entry for entry in await hub.entries() if entry.kind == "setting.changed")
    assert entry.body()["cause"]["seq"] > 0
    assert entry.head.actor.startswith("cloud:")


async def test_restored_hub_never_collides_with_what_it_forgot(world: World) -> None:
    hub = await world.hub()
    path = await copy_of(hub, world.place / "copy.db")
    await hub.append(Draft("backup.made", "", "hub", {"text": "forgotten"}))
    async with hub.online():
        await hub.drained()
    copy = await world.hub("copy", path=path)
    async with copy.online():
        await copy.note("after the restore")
        await world.until(lambda: copy.kinds("sync.forgotten_listed"), "the forgotten entries")
        await copy.drained()
    assert await world.holds(hub)
    assert await world.holds(copy)
