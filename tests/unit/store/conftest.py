"""A real store in a temporary directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hubd.store.db import Database, open_database
from tests.unit.store import journals


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "hub.db", journals.runtime()) as database:
        yield database


@pytest.fixture
async def open_db(db: Database) -> Database:
    """With its first line open."""
    await db.write("open", journals.line_opened)
    return db
