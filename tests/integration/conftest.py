"""What several files of this layer begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rigs.api import ServedHub, served_hub
from tests.rigs.dead_hub import stopped_hub

LONGEST_FIRST = (
    "test_demo_store",
    "test_hubctl_dead_hub",
    "test_readme",
    "test_add_a_driver",
    "test_office_printers",
    "test_api_ordinary",
    "test_hubd_command",
    "test_backups_leave_the_disk",
    "test_daemon",
)
"""Two processes share the files of this layer: one that begins a long file last would end long after the other."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files; the order of the others, and of the tests in each, stays as it was drawn."""
    last = len(LONGEST_FIRST)
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, last))


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    """A hub whose API answers on real sockets."""
    async with served_hub(tmp_path) as served:
        yield served


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """The data directory of a hub that has stopped in order."""
    return await stopped_hub(tmp_path)
