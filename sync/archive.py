"""Archived entries for a resend below the cut: a cloud that was restored may ask for them (S17)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from hubd.model.entry import FIRST_PREV_HASH, Entry
from hubd.store.archive import entries_from_archive


class FileArchive:
    """The archive files of this hub, read off the event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def entries_after(self, seq: int, limit: int) -> tuple[bytes, Sequence[Entry]]:
        """The hash of entry `seq` and up to `limit` entries behind it; NotFoundError if the archive has them not."""
        if seq == 0:
            return FIRST_PREV_HASH, await asyncio.to_thread(entries_from_archive, self._folder, 0, limit)
        found = await asyncio.to_thread(entries_from_archive, self._folder, seq - 1, limit + 1)
        return found[0].hash, found[1:]
