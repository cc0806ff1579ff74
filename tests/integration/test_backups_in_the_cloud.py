"""Backups in the cloud: sent by the hub, believed when the cloud says the digest, given back to hubs of the store."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

import hubd.services.backups
from hubd.cloud_ports import Signer
from hubd.config import parse_config
from hubd.config_sections import PathsConfig
from hubd.daemon import Daemon, running_hub
from hubd.errors import SyncError
from hubd.identity import KeySigner
from hubd.store import backup, copies
from hubd.store.backup import Made
from sync.cloud.backups import BackupShelf
from sync.cloud.cloud import enrol_bytes
from sync.cloud_backups import CloudBackups
from tests.integration.test_daemon import ALONE, WAIT_S
from tests.rigs.cloud import CloudDoor, cloud_door
from tests.rigs.process import wait_until
from tests.unit.services.shop import shop_runtime
from tests.unit.sync.world import World

pytestmark = pytest.mark.blocking_allowed("a daemon makes its sockets at its start, before it trades")
BYTES_MAX = 4 << 20


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after the backups many times a second."""
    monkeypatch.setattr(hubd.services.backups, "CHECK_S", 0.05)


@dataclass
class Cloud:
    """The reference cloud behind HTTP, with a shelf for backups."""

    world: World
    door: CloudDoor
    folder: Path

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*/*.hubbackup"))

    async def member(self, key: int, where: str) -> KeySigner:
        """The key of a hub of tenant t1 that is enrolled for this store."""
        signer, code = KeySigner(bytes([key]) * 32), f"code-{key}"
        await self.world.cloud.add_code(code, "t1", where)
        signature = signer.sign(enrol_bytes(code, signer.public_key, b"m"))
        await self.world.cloud.enrol(code, signer.public_key, b"m", signature)
        return signer


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    place = tmp_path / "cloud"
    place.mkdir()
    async with World(place) as world:
        shelf = BackupShelf(world.cloud, place / "backups", bytes_max=BYTES_MAX)
        async with cloud_door(world.cloud, world.runtime.clock, shelf=shelf) as door:
            yield Cloud(world, door, place / "backups")


@asynccontextmanager
async def store(place: Path) -> AsyncIterator[tuple[Daemon, httpx2.AsyncClient]]:
    config = parse_config(ALONE, "test", {}, PathsConfig(place / "data", place / "run"))
    async with running_hub(config, shop_runtime()) as daemon:
        transport = httpx2.AsyncHTTPTransport(uds=str(config.paths.socket))
        async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as administrator:
            yield daemon, administrator


async def test_an_enrolled_hub_leaves_its_backup_with_the_cloud_and_that_counts(tmp_path: Path, cloud: Cloud) -> None:
    async with store(tmp_path / "store") as (daemon, administrator):
        new_id = daemon.services.runtime.ids.new_id
        where = {"id": new_id(), "name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        wanted = {"owner": {"id": new_id(), "name": "Ada", "pin": "739164"}, "location": where}
        code = (await administrator.post("/v1/setup", json=wanted)).json()["recovery_code"]

        def overdue() -> bool:
            return "no_backup_elsewhere" in {problem.code for problem in daemon.services.problems.present()}

        await wait_until(overdue, WAIT_S, "a hub without a cloud to miss a backup elsewhere")
        await cloud.world.cloud.add_code("once", "t1", "s9")
        answer = await administrator.post("/v1/enrolment", json={"cloud": cloud.door.url, "code": "once"})
        assert answer.status_code == 200, answer.text
        await wait_until(lambda: not overdue(), WAIT_S, "the backup to be in the cloud")

        state = (await administrator.get("/v1/backups")).json()
        assert state["elsewhere"]["place"] == "cloud"
        [file] = cloud.files()
        [here] = [one for one in state["here"] if one["id"] == file.stem]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == here["sha256"]
        noted = await daemon.services.db.read("test.noted", copies.last_elsewhere)
        assert noted is not None
        assert (noted.place, noted.sha256) == ("cloud", here["sha256"])

        await administrator.post("/v1/backups")
        assert len((await administrator.get("/v1/backups")).json()["here"]) == 2
        assert cloud.files() == [file], "about once a day is often enough for a shop's line"
    restored = backup.restore(file, backup.private_key_for(file, code), tmp_path / "restored")
    assert restored.hash == here["hash"]


# -- the cloud's side --------------------------------------------------------------------------------------------------


def signed(signer: Signer, method: str, path: str, content: bytes = b"", **more: str) -> dict[str, str]:
    """Headers of a request of this hub."""
    hub = CloudBackups(shop_runtime(), signer, _nowhere)
    digest = hashlib.sha256(content).digest() if content else bytes(32)
    return hub.headers(method, path, digest, len(content)) | more


async def _nowhere() -> None:
    return None


ID = "0190aaaa-0000-7000-8000-00000000000"


async def test_hubs_of_the_same_store_get_it_back_and_others_do_not(cloud: Cloud) -> None:
    first, second, stranger = [await cloud.member(key, where) for key, where in ((11, "s1"), (12, "s1"), (13, "s2"))]
    async with httpx2.AsyncClient(base_url=cloud.door.url) as client:
        for number in range(6):
            path, content = f"/backups/{ID}{number}", bytes([number]) * 1000
            headers = signed(first, "PUT", path, content)
            answer = await client.put(path, content=content, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.json()["sha256"] == hashlib.sha256(content).hexdigest()
        assert len(cloud.files()) == 4, "of each hub the newest four"

        async def listed(hub: Signer) -> list[dict[str, Any]]:
            answer = await client.get("/backups", headers=signed(hub, "GET", "/backups"))
            items: list[dict[str, Any]] = answer.json()["items"]
            return items

        assert [one["id"] for one in await listed(second)] == [f"{ID}{number}" for number in (5, 4, 3, 2)]
        assert await listed(stranger) == []
        path = f"/backups/{first.hub_id.hex()}/{ID}5"
        headers = signed(second, "GET", path)
        whole = await client.get(path, headers=headers)
        assert (whole.status_code, whole.content) == (200, bytes([5]) * 1000)
        assert (await client.get(path, headers=headers)).status_code == 403, "a request serves once"
        part = await client.get(path, headers=signed(second, "GET", path, range="bytes=990-"))
        assert (part.status_code, part.content) == (206, bytes([5]) * 10)
        refused = await client.get(path, headers=signed(stranger, "GET", path))
        assert (refused.status_code, refused.json()["code"]) == (404, "backup.gone")


async def test_what_is_not_what_was_signed_is_not_stored(cloud: Cloud) -> None:
    hub = await cloud.member(11, "s1")
    path, content = f"/backups/{ID}0", b"sealed" * 100
    good = signed(hub, "PUT", path, content)
    unknown = KeySigner(bytes([14]) * 32)
    big = signed(hub, "PUT", path, content) | {"hub-bytes": str(BYTES_MAX + 1)}
    large = CloudBackups(shop_runtime(), hub, _nowhere).headers("PUT", path, bytes(32), BYTES_MAX + 1)
    odd = signed(hub, "PUT", "/backups/x.json", content)
    cases: list[tuple[str, dict[str, str], bytes, int, str]] = [
        (path, {}, content, 400, "invalid_request"),
        (path, good | {"hub-nonce": "zz"}, content, 400, "invalid_request"),
        (path, good | {"hub-id": unknown.hub_id.hex()}, content, 403, "backup.signature"),
        (f"/backups/{ID}1", good, content, 403, "backup.signature"),
        (path, big, content, 403, "backup.signature"),
        (path, large, content, 413, "backup.too_large"),
        ("/backups/x.json", odd, content, 400, "invalid_request"),
        (path, signed(hub, "PUT", path, content), content + b"x", 400, "backup.digest"),
        (path, signed(hub, "PUT", path, content), content[:-1], 400, "backup.digest"),
        (path, signed(hub, "PUT", path, content), content[:-1] + b"x", 400, "backup.digest"),
    ]
    async with httpx2.AsyncClient(base_url=cloud.door.url) as client:
        for address, headers, body, status, code in cases:
            answer = await client.put(address, content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert [one for one in cloud.folder.rglob("*") if one.is_file()] == []
        assert (await client.put(path, content=content, headers=good)).status_code == 200
        again = signed(hub, "PUT", path, content)
        assert (await client.put(path, content=content, headers=again)).status_code == 200
        other = signed(hub, "PUT", path, b"other")
        answer = await client.put(path, content=b"other", headers=other)
        assert (answer.status_code, answer.json()["code"]) == (409, "backup.other_content")
    assert [one.read_bytes() for one in cloud.files()] == [content]


async def test_a_cloud_that_takes_no_backups_or_has_this_one_is_not_sent_it(cloud: Cloud, tmp_path: Path) -> None:
    """The file does not exist: whoever began to send it would fail in another way."""
    signer, content = await cloud.member(11, "s1"), b"sealed" * 100
    made = Made(tmp_path / "gone", f"{ID}0", hashlib.sha256(content).hexdigest(), len(content), 1, "00" * 32, 1)

    def hub(address: str) -> CloudBackups:
        async def place() -> tuple[str, bool]:
            return address, True

        return CloudBackups(shop_runtime(), signer, place)

    async with cloud_door(cloud.world.cloud, cloud.world.runtime.clock) as without_shelf:
        with pytest.raises(SyncError, match=r"backup\.cloud_refused"):
            await hub(without_shelf.url).send(made)
        assert without_shelf.asked == 1
    with pytest.raises(SyncError, match=r"backup\.cloud_unreachable"):
        await hub(without_shelf.url).send(made)
    with pytest.raises(SyncError, match=r"backup\.cloud_unreachable"):
        await hub(cloud.door.url).send(made)
    path = f"/backups/{made.id}"
    async with httpx2.AsyncClient(base_url=cloud.door.url) as client:
        answer = await client.put(path, content=content, headers=signed(signer, "PUT", path, content))
        assert answer.status_code == 200
    assert await hub(cloud.door.url).send(made) is True
