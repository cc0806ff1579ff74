"""The cases of the synchronisation protocol, each by its number: hub and cloud on real files, joined in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.sync.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path) as world:
        yield world


async def test_everything_goes_up_and_is_confirmed_with_proof(world: World) -> None:
    hub = await world.hub()
    await hub.note(count=350)
    async with hub.online() as sync:
        await hub.drained()
        await world.until(lambda: _true(sync.status.connected), "connected")
    assert await world.holds(hub)


async def _true(value: object) -> object:
    return value
