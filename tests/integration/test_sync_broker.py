"""Hub, real mosquitto and cloud, while the broker dies, freezes and the line is cut or goes silent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rigs.broker import Broker
from tests.rigs.link_proxy import LinkProxy
from tests.rigs.process import wait_until
from tests.unit.sync.shop import forwarded, new_id, stored
from tests.unit.sync.world import BrokerWorld

RECOVERY_S = 30.0


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as broker:
        yield broker


@pytest.fixture
async def line(broker: Broker) -> AsyncIterator[LinkProxy]:
    async with LinkProxy(broker.host, broker.port) as line:
        yield line


@pytest.fixture
async def world(tmp_path: Path, broker: Broker, line: LinkProxy) -> AsyncIterator[BrokerWorld]:
    """The hub reaches the broker over the line that a test may spoil; the cloud stands beside the broker."""
    async with BrokerWorld(tmp_path, broker, hub_port=line.port) as world:
        yield world


async def all_once(world: BrokerWorld, hub_id: bytes, head_seq: int) -> bool:
    return await world.look(lambda s: s.entry_count(hub_id)) == head_seq


async def test_broker_killed_in_the_middle_of_a_drain_loses_and_doubles_nothing(
    world: BrokerWorld, broker: Broker
) -> None:
    hub = await world.hub()
    await hub.note(count=4000)
    async with hub.online():
        await wait_until(lambda: hub.sync.status.confirmed_seq > 200, RECOVERY_S, "the drain to begin")
        await broker.kill()
        await hub.note(count=10)
        await broker.start()
        await hub.drained(RECOVERY_S)
    assert await world.holds(hub)
    assert await all_once(world, hub.signer.hub_id, hub.db.head.seq)


async def test_broker_that_accepts_and_says_nothing_is_not_a_cloud_that_answers(
    world: BrokerWorld, broker: Broker
) -> None:
    hub = await world.hub()
    async with hub.online() as sync:
        await hub.drained()
        broker.freeze()
        answered = sync.last_cloud_answer_monotonic
        await hub.note(count=5)
        await wait_until(lambda: not sync.status.connected, RECOVERY_S, "the silence to be seen")
        assert sync.last_cloud_answer_monotonic == answered
        broker.thaw()
        sync.wake()
        await hub.drained(RECOVERY_S)
    assert await world.holds(hub)


async def connected_again(line: LinkProxy, before: int) -> None:
    await wait_until(lambda: line.traffic.connections > before, RECOVERY_S, "a new connection")


async def test_line_cut_in_the_middle_of_a_message_resumes_from_the_confirmed_cursor(
    world: BrokerWorld, line: LinkProxy
) -> None:
    hub = await world.hub()
    payment = new_id()
    await hub.append(*stored(payment, 1000), *forwarded(payment, 1000))
    await hub.note(count=2500)
    async with hub.online():
        for cut_after in (900, 5_000, 20_000):
            line.faults.cut_after_up_bytes = cut_after
            before = line.traffic.connections
            await connected_again(line, before)
        line.heal()
        await hub.drained(RECOVERY_S)
        await world.until(lambda: hub.kinds("payment.captured"), "the verdict", RECOVERY_S)
    assert await world.holds(hub)
    assert await hub.kinds("payment.captured") == ["payment.captured"]
    assert world.acquirer.asked == [payment]


async def test_half_open_line_is_noticed_and_replaced(world: BrokerWorld, line: LinkProxy) -> None:
    hub = await world.hub()
    async with hub.online() as sync:
        await hub.drained()
        line.blackhole()
        await hub.note(count=20)
        await wait_until(lambda: not sync.status.connected, RECOVERY_S, "the hub to see that nobody answers")
        line.heal()
        sync.wake()
        await hub.drained(RECOVERY_S)
    assert await world.holds(hub)
