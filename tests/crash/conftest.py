"""One nursery for the whole layer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.store import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """The process that starts hubs quickly."""
    with Nursery() as started:
        yield started
