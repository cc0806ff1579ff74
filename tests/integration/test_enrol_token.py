"""Enrolment by a group token in `enrol.toml`: whole daemons, the reference cloud behind HTTP and a real broker."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx2
import pytest
from msgspec import structs

from hubd.config import parse_config
from hubd.config_sections import CloudConfig, PathsConfig
from hubd.daemon import Daemon, running_hub
from hubd.health import Problems
from hubd.identity import KeySigner
from hubd.services.lines import ensure_line
from hubd.store import enrolment as bound
from hubd.store import journal
from hubd.store.db import open_database
from sync import enrol_file
from sync.enrol_file import FILE_NAME, TokenEnrolment
from sync.enrolment import CREDENTIALS_FILE, Enrolment, enrol_bytes
from tests.integration.test_daemon import ALONE
from tests.rigs.broker import Broker
from tests.rigs.cloud import CloudDoor, cloud_door
from tests.rigs.process import wait_until
from tests.unit.clocks import SteppedClock
from tests.unit.services.shop import shop_runtime
from tests.unit.sync.world import BrokerWorld, Hub, World, make_runtime

TOKEN = "gt-4821-secret-of-forty-stores"
WAIT_S = 30.0
ROOMY = 60 * 60
pytestmark = pytest.mark.blocking_allowed("a daemon makes its sockets at its start, before it trades")


def write(file: Path, cloud: str, token: str = TOKEN, mode: int = 0o600) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'cloud = "{cloud}"\ntoken = "{token}"\n')
    file.chmod(mode)
    return file


@asynccontextmanager
async def store(place: Path) -> AsyncIterator[Daemon]:
    """A store's hub as its image builder left it: the configuration's directory and the data directory are two."""
    config = parse_config(ALONE, "test", {}, PathsConfig(place / "data", place / "run"))
    config = replace(config, file=place / "etc/hubd.toml")
    async with running_hub(config, shop_runtime()) as daemon:
        yield daemon


async def is_bound(daemon: Daemon) -> bool:
    return await daemon.services.db.read("test.bound", bound.get) is not None


async def enrolments(daemon: Daemon) -> int:
    entries = await daemon.services.db.read("test.entries", lambda c: journal.entries_after(c, 0, 100_000))
    return sum(entry.kind == "hub.enrolled" for entry in entries)


def problems(daemon: Daemon) -> dict[str, object]:
    return {problem.code: problem.params.get("reason") for problem in daemon.services.problems.present()}


async def until_problem(daemon: Daemon, code: str, *, there: bool = True) -> None:
    await wait_until(lambda: (code in problems(daemon)) is there, WAIT_S, f"{code}: {there}")


async def until_erased(file: Path) -> None:
    await wait_until(lambda: not file.exists(), WAIT_S, f"{file} to be erased")


async def until_confirmed(daemon: Daemon) -> None:
    """The cloud's word on what this hub has written: the conversation goes on by what the enrolment brought."""

    def confirmed() -> bool:
        return daemon.sync is not None and daemon.sync.status.confirmed_seq > 0

    await wait_until(confirmed, WAIT_S, "the cloud's word")


def files_with(folder: Path, secret: str) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]


async def test_two_stores_enrol_by_one_token_the_third_is_told_that_it_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Aim: no person, no second entry, nothing of the token left or logged; who is refused says why."""
    monkeypatch.setattr(enrol_file, "LOOK_S", 0.05)
    caplog.set_level(logging.DEBUG)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker())
        world = await stack.enter_async_context(BrokerWorld(tmp_path, broker))
        door = await stack.enter_async_context(cloud_door(world.cloud, world.runtime.clock, broker))
        await world.cloud.add_code(TOKEN, "t1", "s1", ("l1",), uses=2, lifetime_s=ROOMY)
        places = [tmp_path / "a/data", tmp_path / "b/etc", tmp_path / "c/data"]
        files = [write(place / FILE_NAME, door.url) for place in places]
        for name, file in zip("ab", files, strict=False):
            async with store(tmp_path / name) as daemon:
                await until_erased(file)
                assert await is_bound(daemon)
                await until_confirmed(daemon)
                assert problems(daemon).keys().isdisjoint({"enrolment.token_refused", "enrolment.token_left"})
            assert files_with(tmp_path / name, TOKEN) == []
        asked = door.asked
        async with store(tmp_path / "a") as daemon:
            await until_confirmed(daemon)
            assert await enrolments(daemon) == 1
        assert door.asked == asked, "an enrolled hub has nothing to ask"
        async with store(tmp_path / "c") as daemon:
            await until_problem(daemon, "enrolment.token_refused")
            assert problems(daemon)["enrolment.token_refused"] == "enrolment.code_spent"
            assert TOKEN in files[2].read_text(), "a technician can see what was refused"
            assert not await is_bound(daemon)
            # A new token in the file heals it without a restart.
            await world.cloud.add_code(f"{TOKEN}-2", "t1", "s3", uses=1)
            write(files[2], door.url, f"{TOKEN}-2")
            await until_erased(files[2])
            await until_problem(daemon, "enrolment.token_refused", there=False)
    assert TOKEN not in "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)


async def test_a_file_that_others_may_read_is_a_problem_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrol_file, "LOOK_S", 0.05)
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker())
        world = await stack.enter_async_context(BrokerWorld(tmp_path, broker))
        door = await stack.enter_async_context(cloud_door(world.cloud, world.runtime.clock, broker))
        await world.cloud.add_code(TOKEN, "t1", "s1")
        file = write(tmp_path / "hub/data" / FILE_NAME, door.url, mode=0o644)
        daemon = await stack.enter_async_context(store(tmp_path / "hub"))
        await until_problem(daemon, "enrolment.file_unusable")
        assert problems(daemon)["enrolment.file_unusable"] == "enrolment.file_open"
        assert (door.asked, TOKEN in file.read_text()) == (0, True)
        file.chmod(0o600)
        await until_erased(file)
        await until_problem(daemon, "enrolment.file_unusable", there=False)
        assert await is_bound(daemon)


# -- crashes, one step at a time ---------------------------------------------------------------------------------------


@dataclass
class Bench:
    """A hub's own side of it, with a clock that a test moves."""

    world: World
    hub: Hub
    file: Path
    clock: SteppedClock = field(default_factory=SteppedClock)
    woken: int = 0

    def __post_init__(self) -> None:
        self.runtime = structs.replace(self.hub.runtime, clock=self.clock)
        self.problems = Problems(self.clock)
        self.start()

    def start(self) -> None:
        """A new process on the same files."""
        self.enrolment = Enrolment(self.hub.db, self.runtime, self.hub.signer, CloudConfig(), self.file.parent)
        self.token = TokenEnrolment(self.enrolment, self.problems, self.runtime, [self.file], self.wake)

    def wake(self) -> None:
        self.woken += 1

    def reasons(self) -> dict[str, object]:
        return {problem.code: problem.params.get("reason") for problem in self.problems.present()}

    async def bindings(self) -> int:
        return len(await self.hub.kinds("hub.enrolled"))


async def bench(world: World, place: Path, key: int = 9) -> Bench:
    """A hub that trades and belongs to nobody."""
    await asyncio.to_thread(place.mkdir)
    runtime, signer = make_runtime(key), KeySigner(bytes([key]) * 32)
    db = await world.stack.enter_async_context(open_database(place / "hub.db", runtime))
    await ensure_line(db, signer, runtime)
    return Bench(world, Hub(place.name, signer, place / "hub.db", runtime, db, world.hub_link), place / FILE_NAME)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path) as world:
        yield world


async def post_enrol(door: CloudDoor, hub: Hub) -> None:
    """The cloud takes the hub in, and the hub never hears of it."""
    key = hub.signer.public_key
    signature = hub.signer.sign(enrol_bytes(TOKEN, key, b"nonce"))
    body = {
        "protocol": 1,
        "code": TOKEN,
        "public_key": key.hex(),
        "nonce": b"nonce".hex(),
        "signature": signature.hex(),
    }
    async with httpx2.AsyncClient() as client:
        assert (await client.post(f"{door.url}/enrol", json=body)).status_code == 200


async def test_a_crash_before_the_answer_uses_the_token_once(tmp_path: Path, world: World) -> None:
    one, two = await bench(world, tmp_path / "one"), await bench(world, tmp_path / "two", key=10)
    await world.cloud.add_code(TOKEN, "t1", "s1", uses=2, lifetime_s=ROOMY)
    async with cloud_door(world.cloud, world.runtime.clock) as door:
        await post_enrol(door, one.hub)
        for each in (one, two):
            write(each.file, door.url)
            await each.token.look()
            assert (each.file.exists(), await each.bindings(), each.woken) == (False, 1, 1)


async def test_a_crash_between_the_binding_and_its_credentials_binds_once(tmp_path: Path, world: World) -> None:
    hub = await bench(world, tmp_path / "one")
    await world.cloud.add_code(TOKEN, "t1", "s1", uses=1)
    async with cloud_door(world.cloud, world.runtime.clock) as door:
        write(hub.file, door.url)
        await hub.token.look()
        (hub.file.parent / CREDENTIALS_FILE).unlink()
        write(hub.file, door.url)
        hub.start()
        await hub.token.look()
        assert (hub.file.exists(), await hub.bindings(), await hub.enrolment.is_enrolled()) == (False, 1, True)


async def test_a_crash_before_the_erasure_leaves_no_token_and_asks_nobody(tmp_path: Path, world: World) -> None:
    hub = await bench(world, tmp_path / "one")
    await world.cloud.add_code(TOKEN, "t1", "s1", uses=1)
    async with cloud_door(world.cloud, world.runtime.clock) as door:
        write(hub.file, door.url)
        await hub.enrolment.enrol(door.url, TOKEN, enrol_file.HUB)
        asked = door.asked
        hub.start()
        await hub.token.look()
        assert (hub.file.exists(), door.asked, await hub.bindings()) == (False, asked, 1)


async def test_what_cannot_be_erased_is_said_and_tried_again(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await bench(world, tmp_path / "one")
    await world.cloud.add_code(TOKEN, "t1", "s1", uses=1)
    real = os.fsync
    async with cloud_door(world.cloud, world.runtime.clock) as door:
        write(hub.file, door.url)
        await hub.enrolment.enrol(door.url, TOKEN, enrol_file.HUB)

        def broken(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", broken)
        await hub.token.look()
        assert "enrolment.token_left" in hub.reasons()
        monkeypatch.setattr(os, "fsync", real)
        await hub.token.look()
        assert (hub.file.exists(), hub.reasons()) == (False, {})


async def test_a_silent_cloud_is_asked_again_with_pauses_and_a_refusal_rests_for_an_hour(
    tmp_path: Path, world: World
) -> None:
    hub = await bench(world, tmp_path / "one")
    async with cloud_door(world.cloud, world.runtime.clock) as door:
        port = door.port
    write(hub.file, f"http://127.0.0.1:{port}")
    await hub.token.look()
    assert hub.reasons() == {"enrolment.token_refused": "enrolment.unreachable"}
    async with cloud_door(world.cloud, world.runtime.clock, port=port) as door:
        hub.clock.advance(enrol_file.RETRY_FIRST_S)
        await hub.token.look()
        await hub.token.look()
        assert (door.asked, hub.reasons()) == (1, {"enrolment.token_refused": "enrolment.refused"})
        await world.cloud.add_code(TOKEN, "t1", "s1")
        hub.clock.advance(enrol_file.REFUSED_RETRY_S - 1)
        await hub.token.look()
        assert door.asked == 1
        hub.clock.advance(1)
        await hub.token.look()
        assert (hub.file.exists(), hub.reasons(), hub.woken) == (False, {}, 1)


async def test_uses_and_expiry_outlive_the_cloud_s_process(tmp_path: Path, world: World) -> None:
    one, two = await bench(world, tmp_path / "one"), await bench(world, tmp_path / "two", key=10)
    old = await bench(world, tmp_path / "old", key=11)
    await world.cloud.add_code(TOKEN, "t1", "s1", uses=1, lifetime_s=ROOMY)
    await world.cloud.add_code("old-token", "t1", "s1", uses=5, lifetime_s=0)
    async with cloud_door(world.cloud, world.runtime.clock) as door:
        write(one.file, door.url)
        await one.token.look()
    assert not one.file.exists()
    await world.stop_cloud()
    await world.start_cloud()
    # Started anew with the same words, as a service with fixed arguments is.
    await world.cloud.add_code(TOKEN, "t1", "s1", uses=1, lifetime_s=ROOMY)
    await world.cloud.add_code("old-token", "t1", "s1", uses=5, lifetime_s=ROOMY)
    async with cloud_door(world.cloud, world.runtime.clock) as door:
        write(two.file, door.url)
        write(old.file, door.url, "old-token")
        await asyncio.gather(two.token.look(), old.token.look())
        assert two.reasons() == {"enrolment.token_refused": "enrolment.code_spent"}
        assert old.reasons() == {"enrolment.token_refused": "enrolment.code_expired"}
        assert two.file.exists()
        assert old.file.exists()
