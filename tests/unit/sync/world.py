"""A hub and a reference cloud on real SQLite files, joined by the in-process link, with a clock that runs fast."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - one seeded source for each Runtime of a test
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hubd.cloud_ports import CloudLink, LinkAddress
from hubd.identity import KeySigner
from hubd.model.entry import Document, Draft, Entry
from hubd.runtime import Runtime, SystemClock, SystemIds
from hubd.services.lines import ensure_line
from hubd.store import cursors, journal
from hubd.store.db import Database, open_database
from hubd.store.tx import Tx
from sync.cloud.cloud import ReferenceCloud, enrol_bytes
from sync.cloud.keys import CloudKeys
from sync.cloud.link import InProcessCloud, PerfectWire, Wire
from sync.cloud.mqtt import CloudBroker, CloudWorker
from sync.cloud.settlement import TestAmountAcquirer
from sync.cloud.storage import CloudStorage
from sync.cloud.store import ThreadRunner
from sync.codec import Limits
from sync.link_worker import CloudSync
from sync.mqtt import BrokerAddress, MqttLink
from tests.rigs.broker import Broker
from tests.rigs.process import wait_until

T = TypeVar("T")
SPEED = 20.0
WAIT_S = 15.0
ROOT_SEED = bytes(range(32))
SIGNING_SEED = bytes(range(32, 64))
TENANT = "t1"


class FastClock:
    """The system's clock, running twenty times as fast, so that time limits of minutes end within a test."""

    def __init__(self, wrong_us: int = 0) -> None:
        self._real = SystemClock()
        self._wrong_us = wrong_us

    def now_us(self) -> int:
        return self._real.now_us() + self._wrong_us

    def trusted(self) -> bool:
        return True

    def monotonic(self) -> float:
        return self._real.monotonic() * SPEED

    async def sleep(self, seconds: float) -> None:
        await self._real.sleep(seconds / SPEED)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        return self._real.timeout(None if seconds is None else seconds / SPEED)


def make_runtime(seed: int = 1) -> Runtime:
    ids = SystemIds()
    return Runtime(clock=FastClock(), ids=ids, rng=random.Random(seed), boot=ids.token_bytes(16))


@dataclass
class Hub:
    """One hub: its key, its file and, while `online` is entered, its conversation with the cloud."""

    name: str
    signer: KeySigner
    path: Path
    runtime: Runtime
    db: Database
    link: CloudLink
    limits: Limits | None = None
    archive: Any = None
    own_address: LinkAddress | None = None
    witness: Callable[[], None] | None = None
    sync: CloudSync = field(init=False)

    def __post_init__(self) -> None:
        self.new_sync()

    @property
    def address(self) -> LinkAddress:
        hub = self.signer.hub_id.hex()
        return LinkAddress(TENANT, hub, f"{hub}-{self.runtime.start_id}")

    def new_sync(self) -> CloudSync:
        self.sync = CloudSync(
            self.db,
            self.runtime,
            self.signer,
            self.link,
            self.own_address or self.address,
            limits=self.limits,
            archive=self.archive,
            witness=self.witness,
        )
        return self.sync

    @asynccontextmanager
    async def online(self) -> AsyncIterator[CloudSync]:
        sync = self.new_sync()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(sync.run(), name=f"sync of {self.name}")
            try:
                yield sync
            finally:
                task.cancel()

    async def note(self, text: str = "x", count: int = 1, documents: Sequence[Document] = ()) -> list[Entry]:
        """Append harmless entries in one transaction."""

        def work(tx: Tx) -> list[Entry]:
            body = {"text": text, "made_at": 1}
            draft = Draft("backup.made", "", "hub", body, documents=tuple(documents))
            return [journal.append(tx, draft) for _ in range(count)]

        return await self.db.write("test.note", work)

    async def append(self, *drafts: Draft) -> list[Entry]:
        return await self.db.write("test.append", lambda tx: [journal.append(tx, draft) for draft in drafts])

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        return await self.db.read("test.read", fn)

    async def confirmed(self) -> int:
        return (await self.read(lambda c: cursors.get(c, cursors.CONFIRMED))).seq

    async def applied(self) -> cursors.Cursor:
        return await self.read(lambda c: cursors.get(c, cursors.APPLIED))

    async def kinds(self, *prefixes: str) -> list[str]:
        entries = await self.entries()
        return [entry.kind for entry in entries if entry.kind.startswith(prefixes or ("",))]

    async def entries(self) -> list[Entry]:
        return await self.read(lambda c: journal.entries_after(c, 0, 100_000))

    async def drained(self, timeout_s: float = WAIT_S) -> None:
        """Wait until the cloud has confirmed everything that is in the journal now."""

        async def done() -> bool:
            return await self.confirmed() >= self.db.head.seq

        await wait_until(done, timeout_s, f"{self.name} to be drained: {self.sync.status}")


class World:
    """A cloud and its hubs."""

    def __init__(self, place: Path, *, wire: Wire | None = None) -> None:
        self.place = place
        self.runtime = make_runtime(0)
        self.keys = CloudKeys(ROOT_SEED, (SIGNING_SEED,))
        self.acquirer = TestAmountAcquirer()
        self.wire = wire or PerfectWire()
        self.stack = AsyncExitStack()
        self.cloud: ReferenceCloud
        self.link: InProcessCloud
        self.hub_link: CloudLink
        self._serving: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup

    async def __aenter__(self) -> World:
        self._group = await self.stack.enter_async_context(asyncio.TaskGroup())
        self.link = InProcessCloud(self._open_cloud(self.place / "cloud.db"), self.runtime.clock, self.wire)
        self.hub_link = self.link
        self._serve()
        return self

    async def __aexit__(self, *error: Any) -> None:
        if self._serving is not None:
            self._serving.cancel()
        try:
            await self.stack.__aexit__(*error)
        finally:
            await self.cloud.close()

    def _open_cloud(self, path: Path) -> ReferenceCloud:
        self.cloud = ReferenceCloud(ThreadRunner(path), self.keys, self.runtime, self.acquirer)
        return self.cloud

    def _serve(self) -> None:
        self._serving = self._group.create_task(self.link.run(), name="cloud")

    async def stop_cloud(self) -> None:
        assert self._serving is not None
        self._serving.cancel()
        await asyncio.wait([self._serving])
        await self.cloud.close()

    async def start_cloud(self) -> None:
        """The same file, a new process: conversations are forgotten."""
        self.link.cloud = self._open_cloud(self.place / "cloud.db")
        self._serve()

    async def back_up_cloud(self) -> None:
        await self.stop_cloud()
        shutil.copy(self.place / "cloud.db", self.place / "cloud.backup")
        await self.start_cloud()

    async def restore_cloud(self) -> None:
        """Put the backup in the place of the cloud's file, as an operator would after losing a disk."""
        await self.stop_cloud()
        for path in self.place.glob("cloud.db*"):
            path.unlink()
        shutil.copy(self.place / "cloud.backup", self.place / "cloud.db")
        await self.start_cloud()

    async def hub(self, name: str = "hub", *, key: int = 7, path: Path | None = None, **more: Any) -> Hub:
        """A hub with a line of its own, enrolled. Two names with one key are clones."""
        path = path or self.place / f"{name}.db"
        runtime = make_runtime(key + len(name))
        signer = KeySigner(bytes([key]) * 32)
        db = await self.stack.enter_async_context(open_database(path, runtime))
        hub = Hub(name, signer, path, runtime, db, self.hub_link, **more)
        if await ensure_line(db, signer, runtime) is not None:
            await self.enrol(hub)
        return hub

    async def enrol(self, hub: Hub) -> None:
        code = f"code-{hub.name}"
        await self.cloud.add_code(code, TENANT, "s1")
        signature = hub.signer.sign(enrol_bytes(code, hub.signer.public_key, b"n"))
        done = await self.cloud.enrol(code, hub.signer.public_key, b"n", signature)
        body = {"tenant": done.tenant, "store": done.store, "locations": [], "root_key": done.root_key.hex()}
        await hub.append(Draft("hub.enrolled", "", "hub", body))

    async def look(self, fn: Callable[[CloudStorage], T]) -> T:
        found: T = await self.cloud.read(fn)
        return found

    async def incidents(self, hub: Hub) -> list[str]:
        return [kind for kind, _ in await self.look(lambda s: s.incidents(hub.signer.hub_id))]

    async def until(self, condition: Callable[[], Awaitable[object]], what: str, timeout_s: float = WAIT_S) -> None:
        async def check() -> bool:
            return bool(await condition())

        await wait_until(check, timeout_s, what)

    async def holds(self, hub: Hub) -> bool:
        """Whether the cloud has every entry of the hub's journal, by hash."""
        entries = await hub.entries()
        return await self.look(lambda s: all(s.known(hub.signer.hub_id, entry.hash) for entry in entries))


async def copy_of(hub: Hub, path: Path) -> Path:
    """A backup of the hub's file as it is now."""

    def work(connection: sqlite3.Connection) -> None:
        with sqlite3.connect(path) as target:
            connection.backup(target)
        target.close()

    await hub.db.exclusively("test.backup", work)
    return path


class BrokerWorld(World):
    """The same, with a real broker between hub and cloud."""

    def __init__(self, place: Path, broker: Broker, *, hub_port: int | None = None) -> None:
        super().__init__(place)
        self.broker = broker
        self._hub_port = hub_port
        self.worker: CloudWorker

    async def __aenter__(self) -> BrokerWorld:
        self._group = await self.stack.enter_async_context(asyncio.TaskGroup())
        self.hub_link = MqttLink(BrokerAddress(self.broker.host, self._hub_port or self.broker.port))
        self._open_cloud(self.place / "cloud.db")
        await self._start_worker()
        return self

    async def _start_worker(self) -> None:
        self.worker = CloudWorker(self.cloud, CloudBroker(self.broker.host, self.broker.port), self.runtime.clock)
        self._serving = self._group.create_task(self.worker.run(), name="cloud worker")
        await self.worker.connected.wait()

    async def start_cloud(self) -> None:
        self._open_cloud(self.place / "cloud.db")
        await self._start_worker()
