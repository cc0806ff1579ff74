"""What several files of this layer begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rigs.api import ServedHub, served_hub
from tests.rigs.dead_hub import stopped_hub


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    """A hub whose API answers on real sockets."""
    async with served_hub(tmp_path) as served:
        yield served


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """The data directory of a hub that has stopped in order."""
    return await stopped_hub(tmp_path)
