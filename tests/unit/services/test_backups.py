"""When backups go to the cloud, and how old the newest copy elsewhere may be, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from hubd.config import parse_config
from hubd.config_sections import BACKUP_INTERVAL_H_MAX, PathsConfig
from hubd.errors import ConfigError, Retry, SyncError
from hubd.health import Problems
from hubd.services.backups import (
    CHECK_S,
    CLOUD,
    KEPT_ELSEWHERE,
    KEPT_HERE,
    SEND_PAUSE_MAX_S,
    BackupDesk,
    Places,
)
from hubd.store import backup, copies
from hubd.store.backup import Contents, Made
from hubd.store.db import Database, open_database
from tests.rigs.process import wait_until
from tests.unit.clocks import SteppedClock
from tests.unit.store import journals

WAIT_S = 20.0
HOUR_S = 3600.0


@dataclass
class Cloud:
    """What `send` stands for: it answers as it is told, and counts."""

    refusal: SyncError | None = None
    sent: list[Made] = field(default_factory=list)

    async def send(self, made: Made) -> bool:
        self.sent.append(made)
        if self.refusal is not None:
            raise self.refusal
        return True


@dataclass
class Bench:
    desk: BackupDesk
    clock: SteppedClock
    db: Database
    cloud: Cloud

    async def tries(self, count: int) -> None:
        await wait_until(lambda: len(self.cloud.sent) == count, WAIT_S, f"try {count}")
        await self.db.read("test.settled", lambda _: None)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Bench]:
    clock = SteppedClock()
    runtime = replace(journals.runtime(), clock=clock)
    async with open_database(folder / "hub.db", runtime) as db:
        await db.write("open", journals.line_opened)
        await db.write("code", lambda tx: backup.set_recovery(tx, backup.new_recovery(runtime.ids)))
        places = Places(folder / "backups", (), folder / "archive")
        contents = Contents(folder / "archive", {}, frozenset())
        desk = BackupDesk(db, runtime, Problems(clock), places, contents, 6 * HOUR_S)
        yield Bench(desk, clock, db, Cloud())


@pytest.mark.parametrize(
    ("retry", "pauses"),
    [
        (Retry.SAME_REQUEST, [2 * CHECK_S, 4 * CHECK_S, 8 * CHECK_S]),
        (Retry.NEVER, [SEND_PAUSE_MAX_S, SEND_PAUSE_MAX_S]),
    ],
)
async def test_what_was_sent_in_vain_is_not_sent_again_at_once(
    tmp_path: Path, retry: Retry, pauses: list[float]
) -> None:
    async with opened(tmp_path) as bench, asyncio.TaskGroup() as group:
        await bench.desk.make()
        bench.cloud.refusal = SyncError("backup.cloud_unreachable", "Not now.", retry=retry)
        task = group.create_task(bench.desk.send_for_ever(bench.cloud.send))
        await bench.tries(1)
        for number, pause in enumerate(pauses, 1):
            bench.clock.advance(pause - 1)
            for _ in range(50):
                await bench.db.read("test.turn", lambda _: None)
            assert len(bench.cloud.sent) == number, f"before {pause:g} s are over"
            bench.clock.advance(1)
            await bench.tries(number + 1)
        task.cancel()


async def test_the_cloud_gets_one_about_once_a_day_and_the_newest(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench, asyncio.TaskGroup() as group:
        await bench.desk.make()
        task = group.create_task(bench.desk.send_for_ever(bench.cloud.send))
        await bench.tries(1)
        for _ in range(2):
            bench.clock.advance(6 * HOUR_S)
            await bench.desk.make()
        bench.clock.advance(6 * HOUR_S)
        newest = (await bench.desk.make()).made
        for _ in range(50):
            await bench.db.read("test.turn", lambda _: None)
        assert len(bench.cloud.sent) == 1
        bench.clock.advance(3 * HOUR_S)
        await bench.tries(2)
        assert bench.cloud.sent[-1] == newest

        async def noted() -> bool:
            last = await bench.db.read("test.last", copies.last_elsewhere)
            return last is not None and (last.place, last.id) == (CLOUD, newest.id)

        await wait_until(noted, WAIT_S, "the copy to be recorded")
        task.cancel()


def test_what_was_erased_has_left_every_kept_backup_within_a_week() -> None:
    """With the longest interval that can be configured; a plugged-in stick keeps more of them than the hub."""
    assert max(KEPT_HERE, KEPT_ELSEWHERE) * BACKUP_INTERVAL_H_MAX * HOUR_S <= 7 * 24 * HOUR_S
    longest = parse_config("[backup]\ninterval_h = 24\n", "test", {}, PathsConfig(Path(), Path("/run/hubd")))
    assert longest.backup.interval_h == BACKUP_INTERVAL_H_MAX, "what an older version took starts the hub still"
    with pytest.raises(ConfigError):
        parse_config("[backup]\ninterval_h = 25\n", "test", {}, PathsConfig(Path(), Path("/run/hubd")))


async def test_a_copy_is_too_old_after_a_day_and_one_from_the_future_is_of_no_known_age(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        made = (await bench.desk.make()).made
        assert (await bench.desk.state()).overdue, "there is none elsewhere yet"
        await bench.db.write("test.copy", lambda tx: copies.record(tx, made, "usb:x"))
        bench.clock.advance(24 * HOUR_S - 1)
        assert not (await bench.desk.state()).overdue
        bench.clock.advance(2)
        assert (await bench.desk.state()).overdue
        bench.clock.jump(-3 * 24 * HOUR_S)
        assert (await bench.desk.state()).overdue
