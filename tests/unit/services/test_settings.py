"""Settings are in force in the order in which they were set, whatever the clock says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hubd.identity import KeySigner
from hubd.services.lines import ensure_line
from hubd.services.settings import SettingsDesk, effective
from hubd.store.db import Database, open_database
from tests.unit.clocks import SteppedClock, stepped_runtime

HOUR_S = 3600
HOUR_US = HOUR_S * 1_000_000
KEY = "day.starts_at_minute"


@asynccontextmanager
async def desk(folder: Path, clock: SteppedClock) -> AsyncIterator[tuple[SettingsDesk, Database]]:
    """The desk over a database of its own."""
    runtime = stepped_runtime(clock)
    async with open_database(folder / "hub.db", runtime) as db:
        await ensure_line(db, KeySigner(bytes(range(32))), runtime)
        yield SettingsDesk(db, clock.now_us), db


@pytest.mark.parametrize("ahead_s", [3 * HOUR_S, -3 * HOUR_S])
async def test_what_is_set_now_counts_from_now_on_although_the_clock_was_wrong(tmp_path: Path, ahead_s: int) -> None:
    """Simulation seed 168: a policy was switched off while the clock was ahead, and stayed on once it was right."""
    clock = SteppedClock()
    async with desk(tmp_path, clock) as (settings, _):
        await settings.put("hub", KEY, 1)
        clock.jump(ahead_s)
        await settings.put("hub", KEY, 2)
        assert (await settings.get(KEY)).value == 2
        clock.jump(-ahead_s)
        assert (await settings.get(KEY)).value == 2
        await settings.put("hub", KEY, 3)
        clock.jump(24 * HOUR_S)
        assert (await settings.get(KEY)).value == 3


async def test_a_hub_that_boots_in_1970_keeps_what_was_set(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with desk(tmp_path, clock) as (settings, _):
        await settings.put("hub", KEY, 1)
        clock.jump(-clock.now_us() / 1_000_000)
        assert (await settings.get(KEY)).value == 1


async def test_what_is_planned_waits_for_its_moment_and_what_is_set_meanwhile_counts_until_then(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with desk(tmp_path, clock) as (settings, _):
        await settings.put("hub", KEY, 1, effective_from_us=clock.now_us() + 2 * HOUR_US)
        assert (await settings.get(KEY)).value == 0
        clock.jump(HOUR_S)
        await settings.put("hub", KEY, 2)
        assert (await settings.get(KEY)).value == 2
        clock.jump(2 * HOUR_S)
        assert (await settings.get(KEY)).value == 1
        await settings.put("hub", KEY, 3)
        assert (await settings.get(KEY)).value == 3


async def test_of_the_past_counts_what_had_been_said_by_then(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with desk(tmp_path, clock) as (settings, db):
        await settings.put("hub", KEY, 1)
        seq, then_us = db.head.seq, clock.now_us()
        clock.jump(HOUR_S)
        await settings.put("hub", KEY, 2)
        found = await db.read("then", lambda c: effective(c, KEY, then_us, upto_seq=seq))
        assert found.value == 1
