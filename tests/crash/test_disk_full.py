"""A full and a read-only disk: new sales are refused before a terminal is touched, what runs ends, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hubd.app import once_there_is_room
from hubd.errors import StoreError
from hubd.runtime import SystemClock
from hubd.store import journal
from hubd.store.db import open_database
from hubd.store.tx import JournalHead, Tx, read_head
from local_api.client import ProblemError
from tests.crash.books import check_books
from tests.crash.store import STEP_TIMEOUT_S, Nursery, Store, open_store
from tests.rigs.process import run, wait_until
from tests.unit.store import journals
from tests.unit.store.journals import cash_sale, line_opened

pytestmark = pytest.mark.timeout(180)

DISK_BYTES = 512 * 1024 * 1024
"""Roomy enough that the hub sells at first: it refuses below 256 MB."""
BALLAST = "somebody-elses-file"


@asynccontextmanager
async def small_disk(options: str = "") -> AsyncIterator[Path]:
    """A file system of its own in memory."""
    place = Path(tempfile.mkdtemp(prefix="hubd-disk-"))
    await asyncio.to_thread(run, "mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700{options}", "tmpfs", place)
    try:
        yield place
    finally:
        await asyncio.to_thread(run, "umount", place)
        await asyncio.to_thread(place.rmdir)


def fill(disk: Path, leave_bytes: int) -> None:
    """Another program takes the disk, but for `leave_bytes`."""
    found = os.statvfs(disk)
    free = found.f_bavail * found.f_frsize
    with (disk / BALLAST).open("ab") as file:
        os.posix_fallocate(file.fileno(), file.tell(), max(4096, free - leave_bytes))


async def problem_is(store: Store, code: str, there: bool) -> None:
    """Wait until the hub shows a problem, or no longer does."""

    async def seen() -> bool:
        shown: dict[str, Any] = await store.ask("GET", "/v1/problems")
        return any(one["code"] == code for one in shown["items"]) == there

    await wait_until(seen, STEP_TIMEOUT_S, f"{code} {'raised' if there else 'gone'}")


async def refused(store: Store, tender: str) -> None:
    """A new sale is refused with the reason, and the terminal has heard nothing of it."""
    till = store.tills[0]
    more = {"terminal": store.terminals["terminal"]} if tender == "card" else {}
    sale = till.plan(5500, tender, **more)
    before = (await store.simulators[0].tell(cmd="ledger"))["authorizations_received"]
    body = {"amount": {"amount": sale.amount, "currency": "EUR"}, **sale.request}
    token = {"authorization": f"Bearer {till.credential.token}"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{store.http_port}") as client:
        answer = await client.put(f"/v1/payments/{sale.payment}", json=body, headers=token)
    assert (answer.status_code, answer.json()["code"]) == (507, "store.low_space"), answer.text
    assert answer.json()["retry"] == "same_request"
    assert (await store.simulators[0].tell(cmd="ledger"))["authorizations_received"] == before
    with contextlib.suppress(ProblemError):
        await till.client.get(f"/v1/payments/{sale.payment}")
        raise AssertionError("a refused sale has left a trace")
    del till.sales[sale.payment]


async def test_a_full_disk_refuses_sales_finishes_what_runs_and_recovers(nursery: Nursery) -> None:
    async with small_disk() as disk:
        terminals = {"terminal": ("--think-s", "4")}  # long enough for the disk to fill up while the customer thinks
        async with open_store(terminals, tills=1, nursery=nursery, data=disk / "data") as store:
            till = store.tills[0]
            earlier = await till.pay(till.plan(1250, "cash"))
            running = till.plan(4200, terminal=store.terminals["terminal"])
            assert (await till.pay(running))["state"] == "requested"
            await in_progress(store, running.payment)
            await asyncio.to_thread(fill, disk, 8 * 1024 * 1024)
            await problem_is(store, "store.low_space", there=True)
            for tender in ("cash", "card"):
                await refused(store, tender)
            # To the last byte: now nothing can be written at all but into the reserve that the hub gave up.
            assert not (disk / "data" / "reserve").exists(), "the reserve is for this moment"
            assert (await till.settled(running))["state"] == "approved"
            assert (await till.client.get(f"/v1/payments/{earlier['id']}"))["accepted"] == earlier["accepted"]
            await still_answers(store)
            (disk / BALLAST).unlink()
            await problem_is(store, "store.low_space", there=False)
            assert (await till.pay(till.plan(900, "cash")))["state"] == "approved"
            store.process.kill()
            check_books(store.database, store.sales, store.simulators)


async def test_a_disk_without_a_byte_loses_nothing_and_the_verdict_waits_for_room(nursery: Nursery) -> None:
    """The disk fills up to the last byte between the authorisation and its verdict, faster than the hub looks."""
    async with small_disk() as disk:
        terminals = {"terminal": ("--think-s", "1")}
        async with open_store(terminals, tills=1, nursery=nursery, data=disk / "data") as store:
            till = store.tills[0]
            await till.pay(till.plan(1250, "cash"))
            running = till.plan(4200, terminal=store.terminals["terminal"])
            await till.pay(running)
            await in_progress(store, running.payment)
            await asyncio.to_thread(fill, disk, 0)
            await wait_until(lambda: store.simulators[0].charges(running.payment), STEP_TIMEOUT_S, "the charge")
            await still_answers(store)
            assert (await till.settled(running, timeout_s=90))["state"] == "approved"
            (disk / BALLAST).unlink()
            await problem_is(store, "store.low_space", there=False)
            assert (await till.pay(till.plan(900, "cash")))["state"] == "approved"
            store.process.kill()
            check_books(store.database, store.sales, store.simulators)


async def in_progress(store: Store, payment: str) -> None:
    """Wait until the terminal has the payment."""

    async def begun() -> bool:
        return bool((await store.simulators[0].tell(cmd="ledger"))["authorizations_received"])

    await wait_until(begun, STEP_TIMEOUT_S, f"{payment} at the terminal")


async def still_answers(store: Store) -> None:
    """The page and hubctl say how it is."""
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{store.http_port}", follow_redirects=True) as browser:
        assert (await browser.get("/")).status_code == 200
    shown = await asyncio.to_thread(store.hubctl, "status", "--json")
    assert shown.returncode in {0, 1}, shown.stderr
    assert shown.stdout.startswith("{")


class RoomLater(SystemClock):
    """Whoever waits is given room meanwhile."""

    def __init__(self, disk: Path) -> None:
        super().__init__()
        self.waits = 0
        self._ballast = disk / BALLAST

    async def sleep(self, seconds: float) -> None:
        self.waits += 1
        await asyncio.to_thread(self._ballast.unlink)


async def test_a_commit_that_found_no_room_is_not_on_the_disk_and_a_start_that_needs_it_waits() -> None:
    """In WAL mode the disk is found full at COMMIT. What the files hold then is what a power cut would leave."""
    ids = [f"01890a5d-ac96-774b-bcce-{n:012d}" for n in range(200)]

    def many(tx: Tx) -> None:
        for _ in range(20):
            journal.append(tx, cash_sale(ids.pop()))

    async with small_disk() as disk, open_database(disk / "hub.db", journals.runtime()) as db:
        await db.write("open", line_opened)
        for leave in (0, 4096, 12 * 1024):  # no frame fits; some fit
            await asyncio.to_thread(fill, disk, leave)
            before = db.head
            with pytest.raises(StoreError) as caught:
                await db.write("many", many)
            assert caught.value.code == "store.full"
            await left_by_a_power_cut_is(db.path, before)
            clock = RoomLater(disk)
            await once_there_is_room(clock, lambda: db.write("many", many))
            assert clock.waits == 1
            assert db.head.seq == before.seq + 20
            await left_by_a_power_cut_is(db.path, db.head)


async def left_by_a_power_cut_is(database: Path, head: JournalHead) -> None:
    """Copies of the files, read as the next start would."""
    with tempfile.TemporaryDirectory(prefix="hubd-copy-") as place:
        for name in (database.name, f"{database.name}-wal"):
            await asyncio.to_thread(shutil.copy, database.with_name(name), place)
        async with open_database(Path(place) / database.name, journals.runtime()) as copy:
            assert await copy.read("head", read_head) == head


async def test_a_read_only_disk_stops_the_daemon_with_a_sentence_and_hubctl_works(nursery: Nursery) -> None:
    async with small_disk() as disk, open_store({}, tills=1, nursery=nursery, data=disk / "data") as store:
        till = store.tills[0]
        await till.pay(till.plan(1250, "cash"))
        store.process.kill()
        await asyncio.to_thread(run, "mount", "-o", "remount,ro", disk)
        store.process.start()
        await wait_until(lambda: store.process.returncode is not None, STEP_TIMEOUT_S, "the daemon's end")
        assert store.process.returncode in {1, 2}, store.process.tail()
        last = [line for line in store.process.output().splitlines() if line][-2:]
        assert "Traceback" not in store.process.output(), store.process.tail()
        assert any("read-only" in line.lower() for line in last), last
        for command in (["journal", "verify"], ["journal", "list"], ["journal", "replay", "--check"]):
            done = await asyncio.to_thread(store.hubctl, *command)
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        status = await asyncio.to_thread(store.hubctl, "status")
        assert status.returncode == 3, status.stdout
        await asyncio.to_thread(run, "mount", "-o", "remount,rw", disk)
        await store.start_hub()
        sale = next(iter(till.sales.values()))
        assert (await till.pay(sale))["accepted"]["seq"] == sale.told[0].seq
        store.process.kill()
        check_books(store.database, store.sales, store.simulators)
