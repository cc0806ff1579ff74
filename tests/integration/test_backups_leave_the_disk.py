"""Backups leave the hub's disk: to a stick, by hand, and to a paired till over HTTPS; and only what survives counts."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

import hubd.services.backups
from hubd.model.entry import Entry
from hubd.store import backup, copies, journal
from local_api.client import BackupNotKeptError, Credential, HubClient, ProblemError
from tests.integration.test_daemon import WAIT_S, Running, configured, daemon
from tests.rigs.api import pair_till
from tests.rigs.process import wait_until
from tests.rigs.stick import stick
from tests.unit.services.shop import shop_runtime

pytestmark = pytest.mark.blocking_allowed("a daemon makes its sockets at its start, before it trades")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after the backups many times a second."""
    monkeypatch.setattr(hubd.services.backups, "CHECK_S", 0.05)


@dataclass
class Shop:
    """A daemon that is set up and has made its first backup by itself; the next one it makes in six hours."""

    running: Running
    code: str
    place: Path

    @property
    def db(self) -> Any:
        return self.running.daemon.services.db

    def administrator(self) -> httpx2.AsyncClient:
        path = self.running.daemon.config.paths.socket
        return httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(path)), base_url="http://hub")

    async def pair(self, name: str = "Till 1") -> Credential:
        async with self.administrator() as administrator:
            return await pair_till(administrator, self.running.daemon.services.runtime, name)

    async def make(self) -> dict[str, Any]:
        async with self.administrator() as administrator:
            made: dict[str, Any] = (await administrator.post("/v1/backups")).json()
            return made

    async def state(self) -> dict[str, Any]:
        async with self.administrator() as administrator:
            shown: dict[str, Any] = (await administrator.get("/v1/backups")).json()
            return shown

    async def entries(self) -> list[dict[str, Any]]:
        found: list[Entry] = await self.db.read("test.entries", lambda c: journal.entries_after(c, 0, 10_000))
        return [entry.body() | {"actor": entry.head.actor} for entry in found if entry.kind == "backup.made"]

    def overdue(self) -> bool:
        return ("no_backup_elsewhere", "") in self.running.problems()


@asynccontextmanager
async def opened(place: Path, more: str = "") -> AsyncIterator[Shop]:
    async with daemon(place, shop_runtime(), configured(place, more)) as running:
        shop = Shop(running, "", place)
        new_id = running.daemon.services.runtime.ids.new_id
        where = {"id": new_id(), "name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        wanted = {"owner": {"id": new_id(), "name": "Ada", "pin": "739164"}, "location": where}
        async with shop.administrator() as administrator:
            shop.code = (await administrator.post("/v1/setup", json=wanted)).json()["recovery_code"]

        async def first_backup() -> bool:
            return bool((await shop.state())["here"])

        await wait_until(first_backup, WAIT_S, "the first backup")
        yield shop


# -- a stick -----------------------------------------------------------------------------------------------------------


async def test_a_backup_is_taken_to_the_targets_and_recorded(tmp_path: Path) -> None:
    with stick(tmp_path) as usb:
        async with opened(tmp_path, f"[backup]\ntargets = ['{usb}']\n") as shop:
            made = await shop.running.hubctl("backup", "make")
            assert Path(made["file"]).parent == shop.running.daemon.config.paths.backups
            assert (usb / Path(made["file"]).name).stat().st_size == made["bytes"]
            newest = await shop.db.read("test.newest", copies.last_elsewhere)
            assert (newest.place, newest.seq, newest.hash) == ("usb:STICK", made["seq"], made["hash"])


async def test_a_target_that_fails_is_told_and_keeps_no_other_from_its_copy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = tmp_path / "not-a-stick"
    here.mkdir()
    with stick(tmp_path) as usb:
        async with opened(tmp_path, f"[backup]\ntargets = ['{here}', '{usb}']\n") as shop:
            made = await shop.make()
            assert made["failed"] == ["backup.same_disk"]
            assert list(here.iterdir()) == []
            assert (usb / made["file"]).exists()
            assert ("backup.failed", "") in shop.running.problems()
            assert {one["place"] for one in await shop.entries()} == {"usb:STICK"}
            (usb / made["file"]).unlink()
            await wait_until((usb / made["file"]).exists, WAIT_S, "the targets to be looked at again")
        said = [record.message for record in caplog.records if record.message.startswith("backup.target")]
        assert said == ["backup.target_failed"], "once, not every five minutes"


async def test_a_stick_that_is_plugged_in_later_gets_the_backup_that_is_there(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        shop = await stack.enter_async_context(opened(tmp_path, f"[backup]\ntargets = ['{tmp_path / 'STICK'}']\n"))
        made = await shop.make()
        await shop.running.until_raised("no_backup_elsewhere")
        stack.enter_context(stick(tmp_path))
        await shop.running.until_cleared("no_backup_elsewhere")
        assert made["id"] in {one["backup"] for one in await shop.entries()}
        assert (await shop.state())["elsewhere"]["place"] == "usb:STICK"


async def test_a_restored_hub_whose_numbers_are_lower_keeps_its_new_backup_on_the_stick(tmp_path: Path) -> None:
    with stick(tmp_path) as usb:
        for number in range(hubd.services.backups.KEPT_ELSEWHERE + 3):
            (usb / f"hub-9{number:011d}-00000000{backup.SUFFIX}").write_bytes(b"of the line that was lost")
        async with opened(tmp_path, f"[backup]\ntargets = ['{usb}']\n") as shop:
            made = await shop.make()
            left = [path.name for path in usb.glob(f"*{backup.SUFFIX}")]
            assert made["file"] in left
            assert len(left) == hubd.services.backups.KEPT_ELSEWHERE


# -- by hand -----------------------------------------------------------------------------------------------------------


async def test_a_copy_taken_by_hand_is_recorded_and_counts_only_on_another_disk(tmp_path: Path) -> None:
    with stick(tmp_path) as usb:
        async with opened(tmp_path) as shop:
            await shop.running.until_raised("no_backup_elsewhere")
            for folder in (tmp_path / "other", Path("/dev/shm") / tmp_path.name):
                made = await shop.running.hubctl("backup", "make", "--to", str(folder))
                assert Path(made["file"]).parent == folder
                assert made["another_disk"] is False
                await asyncio.to_thread(shutil.rmtree, folder)
                assert shop.overdue(), "the same disk, or memory: it counts for nothing"
            assert (await shop.state())["elsewhere"] is None

            made = await shop.running.hubctl("backup", "make", "--to", str(usb / "hubd"))
            digest = hashlib.sha256((usb / "hubd" / Path(made["file"]).name).read_bytes()).hexdigest()
            assert (made["another_disk"], made["sha256"]) == (True, digest)
            assert not shop.overdue()
            assert (await shop.state())["elsewhere"]["place"] == "usb:hubd"
            assert [path.name for path in (usb / "hubd").iterdir()] == [Path(made["file"]).name]
            entries = await shop.entries()
            assert [(one["place"], one["elsewhere"], one["actor"]) for one in entries] == [
                ("here:other", False, "hub"),
                (f"here:{tmp_path.name}", False, "hub"),
                ("usb:hubd", True, "hub"),
            ]
            assert (entries[-1]["backup"], entries[-1]["sha256"]) == (made["id"], digest)


# -- a paired till -----------------------------------------------------------------------------------------------------


async def test_a_till_fetches_the_newest_backup_holds_it_and_that_counts(tmp_path: Path) -> None:
    held = tmp_path / "till" / "backups"
    async with opened(tmp_path) as shop, HubClient(await shop.pair()) as till:
        await shop.make()
        await shop.running.until_raised("no_backup_elsewhere")
        first = await till.keep_backup(held)
        assert first is not None
        offered = (await shop.state())["here"][0]
        assert hashlib.sha256(first.read_bytes()).hexdigest() == offered["sha256"]
        assert first.name == offered["file"]
        assert not shop.overdue()
        device = (await till.get("/v1/hub"))["you"]["device"]
        assert (await shop.state())["elsewhere"]["place"] == f"till:{device}"
        [entry] = await shop.entries()
        assert (entry["place"], entry["actor"], entry["elsewhere"]) == (f"till:{device}", f"device:{device}", True)

        assert await till.keep_backup(held) == first, "what is there is only confirmed"
        assert len(await shop.entries()) == 1

        for _ in range(3):
            await shop.make()
            assert await till.keep_backup(held) is not None
        newest = await till.keep_backup(held)
        assert newest is not None
        assert len(list(held.iterdir())) == 2, "the newest two stay"
        restored = backup.restore(newest, backup.private_key_for(newest, shop.code), tmp_path / "restored")
        assert restored.hash == (await shop.state())["here"][0]["hash"]

        async with shop.administrator() as administrator:
            await administrator.delete(f"/v1/pairings/{device}")
        assert (await shop.state())["elsewhere"] is None, "a till that is not of the shop any more holds nothing for it"


async def test_a_broken_transfer_goes_on_where_it_stopped_and_a_damaged_one_starts_anew(tmp_path: Path) -> None:
    held = tmp_path / "till"
    held.mkdir()
    async with opened(tmp_path) as shop, HubClient(await shop.pair()) as till:
        made = await shop.make()
        whole = (shop.running.daemon.config.paths.backups / made["file"]).read_bytes()
        part = held / f"{made['id']}.part"
        part.write_bytes(whole[:1000])
        (held / "0190.part").write_bytes(b"of another one")
        kept = await till.keep_backup(held)
        assert kept is not None
        assert kept.read_bytes() == whole
        assert [path.name for path in held.iterdir()] == [made["file"]]

        kept.unlink()
        part.write_bytes(b"x" * 1000)
        before = await shop.entries()
        with pytest.raises(BackupNotKeptError, match="reads back as something else"):
            await till.keep_backup(held)
        assert list(held.iterdir()) == []
        assert await shop.entries() == before
        assert await till.keep_backup(held) == kept


async def test_content_is_served_in_ranges_with_its_digest(tmp_path: Path) -> None:
    async with opened(tmp_path) as shop, HubClient(await shop.pair()) as till:
        made = await shop.make()
        whole = (shop.running.daemon.config.paths.backups / made["file"]).read_bytes()
        url, headers = till._wire.url(f"/v1/backups/{made['id']}/content"), till._headers()

        async def get(wanted: str = "", **more: str) -> httpx2.Response:
            return await till._wire.http.get(url, headers=headers | ({"range": wanted} if wanted else {}) | more)

        answer = await get()
        assert (answer.status_code, answer.content) == (200, whole)
        assert answer.headers["repr-digest"] == f"sha-256=:{_base64(made['sha256'])}:"
        assert (answer.headers["etag"], answer.headers["accept-ranges"]) == (f'"{made["sha256"]}"', "bytes")
        for wanted, part, told in (
            ("bytes=0-99", whole[:100], f"bytes 0-99/{len(whole)}"),
            ("bytes=100-", whole[100:], f"bytes 100-{len(whole) - 1}/{len(whole)}"),
            ("bytes=-7", whole[-7:], f"bytes {len(whole) - 7}-{len(whole) - 1}/{len(whole)}"),
            (f"bytes=5-{len(whole) + 5}", whole[5:], f"bytes 5-{len(whole) - 1}/{len(whole)}"),
        ):
            answer = await get(wanted)
            assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, part, told)
            assert answer.headers["repr-digest"] == f"sha-256=:{_base64(made['sha256'])}:"
        for whole_anyway in ("bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=x-"):
            assert (await get(whole_anyway)).status_code == 200
        assert (await get("bytes=0-9", **{"if-range": '"another"'})).status_code == 200
        for nothing in (f"bytes={len(whole)}-", "bytes=9-3"):
            refused = await get(nothing)
            assert (refused.status_code, refused.json()["code"]) == (416, "backup.range")
        head = await till._wire.http.head(url, headers=headers)
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole)))


def _base64(digest: str) -> str:
    import base64

    return base64.b64encode(bytes.fromhex(digest)).decode()


async def test_only_so_many_fetch_at_once_and_a_hurried_one_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slow downloads are under way: a third is refused until one of them ends, for whatever reason."""
    monkeypatch.setattr(hubd.services.backups, "DOWNLOAD_STEP_BYTES", 64)
    monkeypatch.setattr(hubd.services.backups, "DOWNLOAD_BYTES_S", 64)
    async with opened(tmp_path) as shop, HubClient(await shop.pair()) as till:
        made = await shop.make()
        path = f"/v1/backups/{made['id']}/content"
        async with AsyncExitStack() as stack:
            for _ in range(hubd.services.backups.DOWNLOADS_AT_ONCE_MAX):
                slow = till._wire.http.stream("GET", till._wire.url(path), headers=till._headers())
                answer = await stack.enter_async_context(slow)
                steps = await stack.enter_async_context(aclosing(answer.aiter_raw()))
                assert len(await anext(steps)) == 64
            with pytest.raises(ProblemError) as refused:
                await till._wire.send("GET", path, headers=till._headers())
            assert (refused.value.status, refused.value.code) == (429, "backup.busy")
            assert refused.value.retry == "same_request"
        monkeypatch.setattr(hubd.services.backups, "DOWNLOAD_BYTES_S", 1 << 30)

        async def free_again() -> bool:
            answer = await till._wire.http.get(till._wire.url(path), headers=till._headers())
            return bool(hashlib.sha256(answer.content).hexdigest() == made["sha256"])

        await wait_until(free_again, WAIT_S, "the hub to notice that the others are gone")


async def test_who_may_not_or_says_something_untrue_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as shop, HubClient(await shop.pair()) as till:
        made = await shop.make()
        path = f"/v1/backups/{made['id']}"
        stranger = httpx2.AsyncClient(verify=till._wire.http._transport._pool._ssl_context)  # type: ignore[attr-defined]  # the pinned context
        async with stranger:
            for method, address in (("GET", f"{path}/content"), ("POST", f"{path}/stored"), ("GET", "/v1/backups")):
                answer = await stranger.request(method, till._wire.url(address))
                assert (answer.status_code, answer.json()["code"]) == (401, "access.not_signed_in")

        async def refused(address: str, body: dict[str, Any]) -> tuple[int, str]:
            with pytest.raises(ProblemError) as problem:
                await till.post(address, body)
            return problem.value.status, problem.value.code

        good = made["sha256"]
        by_hand = {"place": "x", "another_disk": True}
        assert await refused(f"{path}/stored", {"sha256": "00" * 32}) == (409, "backup.digest_differs")
        assert await refused(f"{path}/stored", {"sha256": good.upper()}) == (422, "invalid_field")
        assert await refused(f"{path}/stored", {"sha256": good, "by_hand": by_hand}) == (403, "backup.not_by_hand")
        other = shop.running.daemon.services.runtime.ids.new_id()
        assert await refused(f"/v1/backups/{other}/stored", {"sha256": good}) == (404, "backup.gone")
        assert await refused("/v1/backups", {}) == (403, "access.not_allowed")
        async with shop.administrator() as administrator:
            answer = await administrator.post(f"{path}/stored", json={"sha256": good})
            assert (answer.status_code, answer.json()["code"]) == (403, "backup.no_device")
        assert await shop.entries() == []


async def test_a_backup_that_has_rotted_on_the_hubs_disk_is_not_offered(tmp_path: Path) -> None:
    async with opened(tmp_path) as shop:
        good, bad = await shop.make(), await shop.make()
        file = shop.running.daemon.config.paths.backups / bad["file"]
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
        os.utime(file, ns=(1, 1))
        offered = [one["id"] for one in (await shop.state())["here"]]
        assert offered[0] == good["id"]
        assert bad["id"] not in offered
