"""Fixtures of the synchronisation tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.sync.shop import ScriptedWire
from tests.unit.sync.world import World


@pytest.fixture
def wire() -> ScriptedWire:
    return ScriptedWire()


@pytest.fixture
async def world(tmp_path: Path, wire: ScriptedWire) -> AsyncIterator[World]:
    async with World(tmp_path, wire=wire) as world:
        yield world
