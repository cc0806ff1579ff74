"""Backups on a schedule: made, verified, sealed, and taken to another disk; and the archive beside them (design 5).

A hub whose newest verified backup elsewhere is older than 24 h has the problem `no_backup_elsewhere`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hubd.errors import HubError, StoreError
from hubd.health import Problems
from hubd.runtime import Runtime
from hubd.store import archive, backup
from hubd.store.backup import Contents, Elsewhere, Made
from hubd.store.db import Database

log = logging.getLogger(__name__)

ELSEWHERE_AGE_MAX_US = 24 * 3600 * 1_000_000
CHECK_S = 300.0
"""How often the age of the newest backup is looked at, and a target that came back is tried."""
KEPT_HERE = 4
KEPT_ELSEWHERE = 12
ARCHIVE_EVERY_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Places:
    """Where backups are made and where they go."""

    here: Path
    targets: Sequence[Path]
    archive: Path


@dataclass(frozen=True, slots=True)
class BackupState:
    """How backups stand."""

    last_elsewhere: Elsewhere | None
    overdue: bool
    last_error: str


class BackupDesk:
    """Makes backups, looks after their age, and cuts old confirmed entries into the archive."""

    def __init__(
        self, db: Database, runtime: Runtime, problems: Problems, places: Places, contents: Contents, interval_s: float
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._problems = problems
        self._places = places
        self._contents = contents
        self._interval_s = interval_s
        self._last_error = ""
        self._busy = asyncio.Lock()

    async def state(self) -> BackupState:
        """How backups stand now."""
        newest = await self._db.read("backup.elsewhere", backup.last_elsewhere)
        age = None if newest is None else self._runtime.clock.now_us() - newest.made_at_us
        return BackupState(newest, age is None or age > ELSEWHERE_AGE_MAX_US, self._last_error)

    async def make(self) -> Made:
        """Make a backup now and take it to every target that is there; durable and verified on return.

        Raises `backup.no_recipient` before the hub is set up: nobody could open it.
        """
        async with self._busy:
            recipients = await self._db.read("backup.recipients", backup.recipients)
            if not recipients:
                raise StoreError(
                    "backup.no_recipient",
                    "There is no recovery code yet, so nobody could open the backup.",
                    remedy="Set the hub up first; it tells the recovery code once.",
                )
            now = self._runtime.clock.now_us()
            made = await backup.make(self._db, self._places.here, self._contents, recipients, now, self._runtime.ids)
            for target in self._places.targets:
                await self._take_to(made, target)
            await asyncio.to_thread(_keep_newest, self._places.here, KEPT_HERE)
            return made

    async def _take_to(self, made: Made, target: Path) -> None:
        if not await asyncio.to_thread(target.is_dir):
            log.info("backup.target_absent", extra={"path": str(target)})
            return
        try:
            await asyncio.to_thread(backup.copy_to, made, target)
        except OSError as exc:
            raise StoreError(
                "backup.target_failed",
                f"The backup could not be written to {target}: {exc.strerror}.",
                remedy="Check the stick; use another one.",
            ) from exc
        await self._db.write("backup.recorded", lambda tx: backup.record_elsewhere(tx, made, f"usb:{target.name}"))
        await asyncio.to_thread(_keep_newest, target, KEPT_ELSEWHERE)

    async def run(self) -> None:
        """Back up on schedule, for ever."""
        due = self._runtime.clock.monotonic()
        while True:
            if self._runtime.clock.monotonic() >= due and await self._try():
                due = self._runtime.clock.monotonic() + self._interval_s
            state = await self.state()
            somebody = await self._db.read("backup.recipients", backup.recipients)
            self._problems.set(bool(somebody) and state.overdue, "no_backup_elsewhere")
            await self._runtime.clock.sleep(CHECK_S)

    async def _try(self) -> bool:
        try:
            await self.make()
        except HubError as exc:
            self._last_error = exc.code
            if exc.code != "backup.no_recipient":
                log.warning("backup.failed", extra={"code": exc.code})
                self._problems.raise_("backup.failed")
            return False
        self._last_error = ""
        self._problems.clear("backup.failed")
        return True

    async def archive_for_ever(self) -> None:
        """Once a day: confirmed entries older than 35 days go into files, and only then out of the database."""
        while True:
            await archive.archive(self._db, self._places.archive, self._runtime.clock)
            await self._runtime.clock.sleep(ARCHIVE_EVERY_S)


def _keep_newest(folder: Path, count: int) -> None:
    """Remove older backups; their names rise with the journal."""
    for old in sorted(folder.glob(f"*{backup.SUFFIX}"))[:-count]:
        old.unlink()
