"""How soon hub and cloud speak again after one of them was away: at a word, not after a silence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sync.codec import Again, Hello, Message
from tests.rigs.process import wait_until
from tests.unit.sync.shop import LOST, ScriptedWire
from tests.unit.sync.world import World

FORGOTTEN = "ConnectionResetError: the cloud has forgotten this connection"


def said_of_lost_links(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["reason"] for record in caplog.records if record.message == "sync.link_down"]


async def test_cloud_that_has_forgotten_the_conversation_says_so_and_is_greeted_anew(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    hub = await world.hub()
    async with hub.online() as sync:
        await hub.drained()
        await world.stop_cloud()
        await world.start_cloud()
        await hub.note()
        await hub.drained()
        assert sync.status.problems == ()
    assert FORGOTTEN in said_of_lost_links(caplog)


async def test_recorded_again_of_an_older_conversation_ends_nothing(
    world: World, wire: ScriptedWire, caplog: pytest.LogCaptureFixture
) -> None:
    hub = await world.hub()
    async with hub.online():
        await hub.drained()
        await world.stop_cloud()
        await world.start_cloud()
        await hub.note()
        await hub.drained()
        again = [raw for (_, message), (_, raw) in zip(wire.seen, wire.raw, strict=True) if isinstance(message, Again)]
        assert again
        world.link.publish([(hub.signer.hub_id, raw) for raw in again])
        await hub.note()
        await hub.drained()
    assert said_of_lost_links(caplog).count(FORGOTTEN) == 1


async def test_first_hello_that_finds_nobody_is_said_again_on_the_same_connection(
    world: World, wire: ScriptedWire
) -> None:
    hub = await world.hub()
    unheard = 1

    def nobody_listens(way: str, message: Message) -> Sequence[float] | None:
        nonlocal unheard
        if way == "up" and isinstance(message, Hello) and unheard:
            unheard -= 1
            return LOST
        return None

    wire.rule = nobody_listens
    async with hub.online() as sync:
        await wait_until(lambda: sync.status.connected, 10, "both hellos")
        await hub.drained()
    hellos = [message for way, message in wire.seen if way == "up" and isinstance(message, Hello)]
    assert {hello.connection for hello in hellos} == {1}
    assert len({hello.nonce for hello in hellos}) == 1
