"""A drain: the cloud's turns, how it makes way, and that the hub's writer is left to the tills."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hubd.identity import key_id_of, verify_signature
from sync import link_worker
from sync.cloud import cloud as reference_cloud
from sync.codec import NO_NONCE, Confirm, Entries, Hello, Limits, Message, Place, Sealer, open_frame, proof_bytes
from sync.sender import Sender
from tests.unit.sync.world import TENANT, Hub, World

NONCE = b"n" * 16


class Talk:
    """A conversation by hand, past the transport."""

    def __init__(self, world: World, hub: Hub) -> None:
        self.world, self.hub, self.to = world, hub, NO_NONCE
        self.sealer = Sealer(hub.address.topic("up"), key_id_of(hub.signer.public_key), hub.signer.sign)

    async def say(self, messages: Sequence[Message]) -> list[Message]:
        frames = [(self.hub.signer.hub_id, self.sealer.seal(message, self.to)) for message in messages]
        return [open_frame(raw).message() for _, raw in await self.world.cloud.receive(frames)]

    async def begin(self) -> None:
        head = self.hub.db.head
        hello = Hello(NONCE, 1, head.line, head.seq, head.hash, start="by-hand")
        greeting = next(message for message in await self.say([hello]) if isinstance(message, Hello))
        self.to = greeting.nonce
        await self.say([hello])


async def batches_of(hub: Hub) -> list[Entries]:
    return await Sender(hub.db).batches(0, 1_000, Limits(batch_entries=60))


async def pending_of(world: World, hub: Hub) -> int:
    return len(await world.look(lambda storage: storage.pending(hub.signer.hub_id, 10_000)))


async def test_batches_of_one_turn_are_confirmed_once_up_to_the_last(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=400)
    talk = Talk(world, hub)
    await talk.begin()
    batches = await batches_of(hub)
    assert len(batches) > 5
    for expected in (batches[3], batches[-1], batches[-1]):  # the third time nothing is new, and it is said again (S4)
        upto = batches.index(expected) + 1
        said = [message for message in await talk.say(batches[:upto]) if isinstance(message, Confirm)]
        assert len(said) == 1
        last = Place(expected.line, expected.from_seq + len(expected.entries) - 1, expected.upto_hash)
        assert Place(said[0].line, said[0].upto_seq, said[0].hash) == last
        proof = said[0].proof
        assert proof is not None
        signed = proof_bytes(TENANT, hub.signer.hub_id, last, proof.time_us)
        assert verify_signature(world.keys.current.public_key, proof.signature, signed)


async def test_a_turn_confirms_nothing_behind_a_gap(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=400)
    talk = Talk(world, hub)
    await talk.begin()
    batches = await batches_of(hub)
    said = await talk.say([*batches[:2], *batches[3:]])
    confirmed = [message.upto_seq for message in said if isinstance(message, Confirm)]
    assert confirmed == [batches[2].from_seq - 1]
    closed = [message for message in await talk.say([batches[2]]) if isinstance(message, Confirm)]
    assert [message.upto_seq for message in closed] == [hub.db.head.seq]


async def test_interpretation_makes_way_and_has_its_turn_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await world.hub()
    await hub.note(count=400)
    talk = Talk(world, hub)
    await talk.begin()
    batches = await batches_of(hub)
    await talk.say(batches[:1])  # opens the line
    serving, world._serving = world._serving, None
    assert serving is not None
    serving.cancel()  # the cloud's own task that interprets; from here on it is asked by hand
    monkeypatch.setattr(reference_cloud, "INTERPRETING_WAITS_MAX_S", 30.0)
    others = [True]
    async with asyncio.TaskGroup() as group:
        understanding = group.create_task(world.cloud.interpret(lambda: others[0]))
        await talk.say(batches[1:3])
        await talk.say(batches[3:])
        assert await pending_of(world, hub) == hub.db.head.seq - 60
        assert not understanding.done()
        others[0] = False  # and nothing more comes: after a short silence it has its turn
    left = await pending_of(world, hub)
    assert left < hub.db.head.seq - 60
    monkeypatch.setattr(reference_cloud, "INTERPRETING_WAITS_MAX_S", 0.01)
    while left:
        async with world.runtime.clock.timeout(10):
            await world.cloud.interpret(lambda: True)
        before, left = left, await pending_of(world, hub)
        assert left < before <= left + reference_cloud.INTERPRETED_A_TURN


async def test_the_cursor_rests_no_longer_than_something_is_in_flight(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_worker, "CURSOR_RESTS", 1e9)
    monkeypatch.setattr(link_worker, "CURSOR_RESTS_MAX_S", 3_600.0)
    hub = await world.hub(limits=Limits(batch_entries=10, in_flight=4))
    await hub.note(count=300)
    async with hub.online():
        await hub.drained()
        await hub.note(count=1)
        await hub.drained()
