"""Outages as rows over a real store: dated to the first loss, across restarts and power cuts, with what was taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hubd.errors import NotFoundError
from hubd.identity import KeySigner
from hubd.model.entry import Draft
from hubd.model.mode import Facts, Hop, Mode, ModeSnapshot
from hubd.model.policy import Elapsed
from hubd.services.lines import ensure_line
from hubd.services.outages import OutageDesk
from hubd.store import journal, outages
from hubd.store.db import Database, open_database
from tests.unit.clocks import START_US, SteppedClock, stepped_runtime

BOOT_A, BOOT_B, BOOT_C = b"a" * 16, b"b" * 16, b"c" * 16


@asynccontextmanager
async def hub(folder: Path, clock: SteppedClock, boot: bytes = BOOT_A) -> AsyncIterator[tuple[OutageDesk, Database]]:
    runtime = stepped_runtime(clock, boot)
    # The writer waits in real time for others to join; only the outage desk lives in the stepped clock.
    async with open_database(folder / "hub.db", runtime) as db:
        await ensure_line(db, KeySigner(bytes(range(32))), runtime)
        desk = OutageDesk(db, runtime)
        await desk.load()
        yield desk, db


async def lasting(desk: OutageDesk, clock: SteppedClock, pattern: str, seconds: int) -> ModeSnapshot:
    values = {"+": True, "-": False, "?": None}
    for _ in range(seconds):
        clock.advance(1)
        now_ms = int(clock.monotonic() * 1000)
        facts: Facts = desk.facts()
        for hop, letter in zip(Hop, pattern, strict=True):
            facts = facts.with_hop(hop, facts.hop(hop).measured(values[letter], now_ms))
        await desk.observe(facts)
    return desk.snapshot()


async def rows(db: Database) -> list[outages.Outage]:
    return await db.read("rows", outages.page)


async def test_outage_is_one_row_dated_to_its_first_loss_and_to_the_first_good_moment(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with hub(tmp_path, clock) as (desk, db):
        await lasting(desk, clock, "++++++", 20)
        lost_us = clock.now_us() + 1_000_000
        for _ in range(5):  # flapping, two seconds down, two up
            await lasting(desk, clock, "++----", 2)
            await lasting(desk, clock, "++++++", 2)
        during = desk.snapshot()
        assert (during.mode, during.cause, during.started_at_us) == (Mode.NETWORK_OUTAGE, Mode.NETWORK_OUTAGE, lost_us)
        back_us = clock.now_us() - 1_000_000
        after = await lasting(desk, clock, "++++++", 20)
        assert after == ModeSnapshot(Mode.ONLINE)
        (row,) = await rows(db)
        assert (row.id, row.started_at_us, row.ended_at_us) == (during.outage_id, lost_us, back_us)
        kinds = [entry.kind for entry in await db.read("entries", lambda c: journal.entries_of(c, row.id))]
        assert kinds == ["outage.opened", "outage.closed"]


async def test_listeners_hear_of_the_return_once_the_row_is_closed(tmp_path: Path) -> None:
    clock = SteppedClock()
    heard: list[tuple[Mode, str | None]] = []
    async with hub(tmp_path, clock) as (desk, _):
        desk.listen(lambda snapshot: heard.append((snapshot.mode, snapshot.outage_id)))
        await lasting(desk, clock, "++++++", 2)
        outage = (await lasting(desk, clock, "++++--", 10)).outage_id
        await lasting(desk, clock, "++++++", 12)
    assert heard == [(Mode.ONLINE, None), (Mode.SERVICE_DISRUPTION, outage), (Mode.ONLINE, None)]


async def test_restart_in_an_outage_goes_on_with_the_same_row(tmp_path: Path) -> None:
    clock = SteppedClock()
    async with hub(tmp_path, clock) as (desk, _):
        await lasting(desk, clock, "------", 30)
        before = desk.snapshot()
        assert desk.elapsed() == Elapsed(29, 29)
    clock.advance(60)
    async with hub(tmp_path, clock) as (desk, db):
        assert desk.snapshot() == before, "known before anything is measured"
        assert desk.elapsed() == Elapsed(89, 89)
        await lasting(desk, clock, "------", 5)
        await lasting(desk, clock, "++++++", 12)
        (row,) = await rows(db)
        assert row.ended_at_us is not None


async def test_power_cut_makes_elapsed_an_interval_that_a_witness_bounds(tmp_path: Path) -> None:
    first = SteppedClock()
    async with hub(tmp_path, first, BOOT_A) as (desk, _):
        await lasting(desk, first, "------", 600)
    # Off for two hours; the new boot's monotonic clock begins anew and its wall clock has no witness yet.
    second = SteppedClock(wall_us=START_US + 7_800_000_000, monotonic=10.0, trusted=False)
    async with hub(tmp_path, second, BOOT_B) as (desk, db):
        assert desk.elapsed() == Elapsed(15, None), "five seconds until it was written, and ten since the boot"
        await lasting(desk, second, "------", 20)
        assert desk.elapsed() == Elapsed(35, None)
        second.trust()
        bounded = desk.elapsed()
        assert bounded.most_s is not None
        true_s = (second.now_us() - (START_US + 1_000_000)) // 1_000_000
        assert bounded.least_s <= true_s <= bounded.most_s
        assert bounded.most_s - bounded.least_s <= 5
        assert len(await rows(db)) == 1, "it is still the same outage"


async def test_outage_that_began_without_a_witness_has_no_upper_bound_after_a_power_cut(tmp_path: Path) -> None:
    first = SteppedClock(wall_us=86_400_000_000, trusted=False)  # 1970
    async with hub(tmp_path, first, BOOT_A) as (desk, _):
        await lasting(desk, first, "------", 60)
        assert desk.elapsed() == Elapsed(59, 59), "within a boot nothing is missing"
    second = SteppedClock(monotonic=5.0)
    async with hub(tmp_path, second, BOOT_B) as (desk, _):
        assert desk.elapsed().most_s is None


async def test_witness_later_in_the_same_boot_dates_the_first_loss(tmp_path: Path) -> None:
    first = SteppedClock(wall_us=86_400_000_000, trusted=False)  # 1970
    async with hub(tmp_path, first, BOOT_A) as (desk, db):
        await lasting(desk, first, "------", 60)
        first.jump((START_US - first.now_us()) / 1_000_000)
        first.trust()
        corrected = Draft("clock.corrected", "", "hub", {"old": 1, "new": 2})
        await db.write("clock", lambda tx: journal.append(tx, corrected))
    second = SteppedClock(wall_us=START_US + 3_600_000_000, monotonic=5.0)
    async with hub(tmp_path, second, BOOT_B) as (desk, _):
        found = desk.elapsed()
        assert found.most_s is not None
        assert found.least_s <= 3_600 + 59 <= found.most_s


async def test_middle_boots_count_for_the_least(tmp_path: Path) -> None:
    first = SteppedClock(trusted=False)
    async with hub(tmp_path, first, BOOT_A) as (desk, _):
        await lasting(desk, first, "------", 30)
    second = SteppedClock(monotonic=100.0, trusted=False)
    async with hub(tmp_path, second, BOOT_B) as (desk, db):
        note = Draft("clock.corrected", "", "hub", {"old": 1, "new": 2})
        await db.write("clock", lambda tx: journal.append(tx, note))
    third = SteppedClock(monotonic=7.0, trusted=False)
    async with hub(tmp_path, third, BOOT_C) as (desk, _):
        assert desk.elapsed() == Elapsed(5 + 100 + 7, None)


async def test_unknown_outage_is_not_found(tmp_path: Path) -> None:
    async with hub(tmp_path, SteppedClock()) as (desk, _):
        with pytest.raises(NotFoundError):
            await desk.get("01890000-0000-7000-8000-000000000001")
