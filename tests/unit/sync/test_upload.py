"""A backlog is stored and confirmed first and interpreted right after: with the same result, and across a stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hubd.model.entry import Draft
from hubd.model.statement import verify_with_entries
from sync.cloud.storage import PENDING, CloudStorage, HubRow
from sync.cloud.store import ThreadRunner
from sync.cloud.upload import INTERPRETED_AT_ONCE_MAX, Taken, Upload
from sync.codec import Entries, Limits
from sync.sender import Sender
from tests.unit.sync.shop import cash, forwarded, new_id, outage_closed, outage_opened, stored
from tests.unit.sync.world import TENANT, Hub, World


async def backlog(hub: Hub) -> int:
    """A shop's hour without a line: sales, stored payments, one that nobody can read, two outages; how many."""
    payments = 0
    for outage in (new_id(), new_id()):
        await hub.append(outage_opened(outage))
        for number in range(60):
            card = new_id()
            await hub.append(cash(new_id(), 100 + number, outage=outage), *stored(card, 1000, outage=outage))
            await hub.append(*forwarded(card, 1000, outage=outage))
            payments += 2
        await hub.append(
            Draft("garden.watered", "", "hub", {"litres": 3}), Draft("payment.stolen", new_id(), "hub", {})
        )
        await hub.append(outage_closed(outage))
    return payments


async def batches_of(hub: Hub, entries: int) -> list[Entries]:
    return await Sender(hub.db).batches(0, 1_000, Limits(batch_entries=entries))


def ledger(storage: CloudStorage, hub: bytes, outages: Sequence[str]) -> dict[str, Any]:
    """All that interpretation leaves behind, but for what carries the time or a random id."""
    return {
        "payments": {outage: storage.outage_payments(hub, outage) for outage in outages},
        "outages": [storage.outage(hub, outage) for outage in outages],
        "finality": [(found or ("", "none", ""))[1] for found in (storage.latest_statement(hub, o) for o in outages)],
        "effects": [(effect.subject, effect.state) for effect in storage.effects_to_do(1_000)],
        "dead letters": storage.dead_letters(hub),
        "incidents": storage.incidents(hub),
        "uninterpreted": storage.uninterpreted_count(hub),
        "pending": storage.pending_hubs(),
    }


class Taker:
    """The cloud's intake on a storage of its own."""

    def __init__(self, world: World, hub: Hub, path: Path) -> None:
        service = world.cloud.service
        self.upload = Upload(service.ledger, service.statements, service.down)
        self.row = HubRow(hub.signer.hub_id, TENANT, "s1", hub.signer.public_key)
        self.runner = ThreadRunner(path)

    async def take(self, batches: Sequence[Entries]) -> list[Taken]:
        def work(storage: CloudStorage) -> list[Taken]:
            if storage.hub(self.row.hub) is None:
                storage.put_hub(self.row)
            taken = [self.upload.take(storage, self.row, batch) for batch in batches]
            return [one for one in taken if isinstance(one, Taken)]

        return await self.runner.run(work)

    async def interpret(self, limit: int) -> int:
        return await self.runner.run(lambda storage: self.upload.interpret(storage, self.row, limit))

    async def ledger(self, outages: Sequence[str]) -> dict[str, Any]:
        return await self.runner.run(lambda storage: ledger(storage, self.row.hub, outages))


@pytest.mark.parametrize("slice_", [1, 7, 1_000])
async def test_backlog_means_the_same_as_entries_that_came_one_by_one(
    world: World, tmp_path: Path, slice_: int
) -> None:
    hub = await world.hub()
    await backlog(hub)
    outages = list(dict.fromkeys(e.head.subject for e in await hub.entries() if e.kind == "outage.opened"))
    slowly, at_once = Taker(world, hub, tmp_path / "slowly.db"), Taker(world, hub, tmp_path / "at-once.db")
    small = await batches_of(hub, 10)
    assert len(await slowly.take(small)) == len(small)
    # The first batch opens the line and is interpreted with it; what goes on there waits.
    large = [small[0], *await Sender(hub.db).batches(small[0].from_seq + len(small[0].entries) - 1, 1_000, Limits())]
    assert max(len(batch.entries) for batch in large) > INTERPRETED_AT_ONCE_MAX
    assert len(await at_once.take(large)) == len(large)
    assert (await at_once.ledger(outages))["pending"] == [hub.signer.hub_id]
    while await at_once.interpret(slice_):
        pass
    assert await at_once.ledger(outages) == await slowly.ledger(outages)
    await slowly.runner.close()
    await at_once.runner.close()


async def test_statement_speaks_only_of_what_is_understood(world: World, tmp_path: Path) -> None:
    hub = await world.hub()
    outage, cards = new_id(), [new_id() for _ in range(40)]
    await hub.append(outage_opened(outage), *(draft for card in cards for draft in stored(card, 1000, outage=outage)))
    await hub.append(outage_closed(outage))
    for card in cards:
        await hub.append(*forwarded(card, 1000, outage=outage))
    taker = Taker(world, hub, tmp_path / "cloud.db")
    small = await batches_of(hub, 10)
    await taker.take([small[0], *await Sender(hub.db).batches(10, 1_000, Limits())])
    entries = await hub.entries()
    found: dict[str, dict[str, Any]] = {}
    while await taker.interpret(3):
        latest = await taker.runner.run(lambda storage: storage.latest_statement(hub.signer.hub_id, outage))
        if latest is not None:
            found[latest[0]] = json.loads(latest[2])
    await taker.runner.close()
    (first,) = found.values()
    assert first["ranges"][-1]["upto_seq"] < entries[-1].seq
    assert (first["finality"], first["payments"]["count"], first["lost"]) == ("provisional", 40, 0)
    verdict = verify_with_entries(first, entries)
    assert verdict.ok, verdict.reasons


async def test_confirmed_backlog_is_interpreted_by_the_next_start_of_the_cloud(world: World, tmp_path: Path) -> None:
    hub = await world.hub()
    payments = await backlog(hub)
    async with hub.online():
        await hub.drained()
    await world.stop_cloud()
    # As a kill between the confirmation and the interpretation would leave it.
    await world.start_cloud()
    rows = [e.head.subject for e in await hub.entries() if e.kind == "outage.opened"]

    def counted(storage: CloudStorage) -> int:
        return sum(len(storage.outage_payments(hub.signer.hub_id, outage)) for outage in rows)

    async def all_counted() -> bool:
        return await world.look(counted) == payments and not await world.look(lambda s: s.pending_hubs())

    await world.until(all_counted, "the cloud to understand all of it")


async def test_what_is_out_of_the_ordinary_finds_everything_before_it_interpreted(world: World, tmp_path: Path) -> None:
    hub = await world.hub()
    await backlog(hub)
    taker = Taker(world, hub, tmp_path / "cloud.db")
    batches = [*(await batches_of(hub, 10))[:1], *await Sender(hub.db).batches(10, 1_000, Limits())]
    await taker.take(batches)
    await hub.note(count=2)
    early = (await Sender(hub.db).batches(hub.db.head.seq - 1, 1, Limits()))[0]
    assert await taker.take([early]) == [], "what comes before it is not here yet"
    assert await taker.runner.run(lambda s: s.pending_hubs()) == [hub.signer.hub_id], "a gap hurries nothing"
    again = batches[-1]  # a repeat: not the end of the line
    assert (await taker.take([again]))[0].new_count == 0
    assert await taker.runner.run(lambda s: s.pending_hubs()) == []
    known = {entry.hash for entry in (await hub.entries())[:-2]}
    kept = await taker.runner.run(lambda s: {s.known(hub.signer.hub_id, hash_) for hash_ in known})
    assert PENDING not in kept
    await taker.runner.close()
