"""The line to the cloud, and the reference cloud behind it: a process of its own that is killed and restored too."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hubd.cloud_ports import LinkAddress
from hubd.model.entry import Draft
from hubd.runtime import Runtime
from hubd.services.bundle import Services
from hubd.store import enrolment, journal
from sync.cloud.cloud import ReferenceCloud, enrol_bytes
from sync.cloud.keys import CloudKeys
from sync.cloud.link import InProcessCloud, InProcessSession
from sync.cloud.settlement import TestAmountAcquirer
from sync.cloud.storage import CloudStorage
from sync.cloud.store import InlineRunner
from tests.simulation.cloud_ledger import CloudLedger, read_only
from tests.simulation.faults import LinkFaults
from tests.simulation.seeded import SeededIds, stream

if TYPE_CHECKING:
    from tests.simulation.machine import HubMachine
    from tests.simulation.world import Store

T = TypeVar("T")
TENANT = "t1"
COMMIT_MAX_S = 0.01
CLOUD_RESTART_S = 5.0
DRAIN_MAX_S = 3600.0
DRAINED_FOR_S = 30.0


class _Disk(InlineRunner):
    """The cloud's storage takes a moment, before the commit and after it: a kill may fall into either."""

    def __init__(self, path: Path, pause: Callable[[], asyncio.Future[None]]) -> None:
        super().__init__(path)
        self._pause = pause

    async def run(self, fn: Callable[[CloudStorage], T]) -> T:
        await self._pause()
        result = await super().run(fn)
        await self._pause()
        return result

    def put_away(self) -> None:
        """Close the file."""
        self._connection.close()


class Link:
    """What lies between the store and its cloud, and that cloud. Implements `sync.cloud.link.Wire`."""

    def __init__(self, store: Store, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store = store
        self.path = folder / "cloud.db"
        self.dice = stream(store.seed, "wire")
        self.faults: LinkFaults | None = store.options.link
        self._quick = self.dice.random() < store.options.link.quick
        self.network = True
        self.cloud = True
        self.forgets = False
        """The cloud was restored from a backup: for a while it has less than it has proven."""
        self.acquirer = TestAmountAcquirer()
        self._keys = CloudKeys(stream(store.seed, "root").randbytes(32), (stream(store.seed, "sign").randbytes(32),))
        self._starts = 0
        self._serving: asyncio.Task[None] | None = None
        self._away_since: float | None = None
        self._back_since = 0.0
        self._seen: dict[str, tuple[int, bytes]] = {}
        self._enrolled: set[bytes] = set()
        self._reader: sqlite3.Connection | None = None
        self._disk: _Disk
        self.broker = InProcessCloud(self._new_cloud(), store.clock, self)

    # -- the cloud's process -------------------------------------------------------------------------------------------

    def _new_cloud(self) -> ReferenceCloud:
        self._starts += 1
        dice = stream(self.store.seed, f"cloud:{self._starts}")
        runtime = Runtime(self.store.clock, SeededIds(dice), dice, dice.randbytes(16), dice.randbytes(8))
        pause = stream(self.store.seed, f"cloud-disk:{self._starts}")
        disk = self._disk = _Disk(self.path, lambda: self.store.clock.sleep(pause.uniform(0, COMMIT_MAX_S)))  # type: ignore[arg-type,return-value]  # awaited at once
        return ReferenceCloud(disk, self._keys, runtime, self.acquirer)

    def start(self) -> None:
        """Serve from now on, if it does not do so."""
        if self._serving is not None:
            return
        self._serving = self.store.serve(self.broker.run(), "cloud")

    async def kill(self, files: dict[str, bytes] | None = None) -> None:
        """End the cloud's process at this moment and start it again, perhaps on an earlier state of its disk."""
        self.store.trace.note("cloud", "killed", "restored" if files is not None else "")
        assert self._serving is not None, "it runs"
        self._serving.cancel()
        await asyncio.wait([self._serving])
        await self.broker.cloud.close()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._serving = None
        if files is not None:
            self.forgets = True
            for old in self.path.parent.iterdir():
                old.unlink()
            for name, content in files.items():
                (self.path.parent / name).write_bytes(content)
        self.broker.cloud = self._new_cloud()
        await self.store.clock.sleep(self.dice.expovariate(1 / CLOUD_RESTART_S))
        self.start()

    def files(self) -> dict[str, bytes]:
        """What lies on the cloud's disk: every commit so far."""
        return {
            path.name: path.read_bytes()
            for path in sorted(self.path.parent.iterdir())
            if not path.name.endswith("-shm")
        }

    async def close(self) -> None:
        """Stop for good."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])
        if self._reader is not None:
            self._reader.close()
        await self.broker.cloud.close()

    def put_away(self) -> None:
        """Let go of every file, however the run ended."""
        if self._reader is not None:
            self._reader.close()
        self._disk.put_away()

    # -- the line ------------------------------------------------------------------------------------------------------

    def plan(self, direction: str, payload: bytes) -> Sequence[float]:
        """See `Wire`."""
        if not self.network:
            return ()
        faults, dice = self.faults, self.dice
        if faults is None:
            return (0.0,)
        kind = dice.random()
        if kind < faults.lose:
            return ()
        if kind < faults.lose + faults.cut:
            asyncio.get_running_loop().call_soon(self.broker.cut)
            return ()
        usual_s = 0.0 if self._quick else dice.uniform(0, 0.05)
        delay_s = dice.uniform(0, faults.late_s) if dice.random() < faults.late else usual_s
        if dice.random() < faults.twice:
            return (delay_s, delay_s + dice.uniform(0, faults.late_s))
        return (delay_s,)

    def go_down(self, *, cloud_alone: bool) -> None:
        """The network, or the cloud alone, is away from now on."""
        self.store.trace.note("link", "down", "cloud" if cloud_alone else "network")
        if cloud_alone:
            self.cloud = self.broker.answering = False
        else:
            self.network = self.broker.reachable = False
            if self.dice.random() < 0.5:
                self.broker.cut()  # else half-open: nothing arrives, and nobody is told
        now = self.store.clock.monotonic()
        if self._away_since is None or now - self._back_since > 9.0:
            self._away_since = now

    def come_back(self) -> None:
        """All is well."""
        self.store.trace.note("link", "up")
        self.network = self.cloud = self.broker.reachable = self.broker.answering = True
        self._back_since = self.store.clock.monotonic()

    def heal(self) -> None:
        """All is well and stays so."""
        self.faults = None
        self.come_back()
        self.start()

    def away_for_s(self) -> float:
        """How long the present outage has lasted; of the last one, while it may not have been noticed as over."""
        return 0.0 if self._away_since is None else self.store.clock.monotonic() - self._away_since

    # -- hubs ----------------------------------------------------------------------------------------------------------

    def address(self, hub: HubMachine, runtime: Runtime) -> LinkAddress:
        """Where a hub finds its topics."""
        hub_id = hub.signer.hub_id.hex()
        return LinkAddress(TENANT, hub_id, f"{hub_id}-{runtime.start_id}")

    async def enrol(self, hub: HubMachine, services: Services) -> None:
        """Bind a hub to its tenant, once for each key; what the page does with a code."""
        known = await services.db.read("enrolled", lambda connection: enrolment.get(connection) is not None)
        if known and hub.signer.hub_id in self._enrolled:
            return
        cloud, code, nonce = self.broker.cloud, f"code-{hub.name}-{hub.starts}", b"n"
        await cloud.add_code(code, TENANT, "s1")
        signature = hub.signer.sign(enrol_bytes(code, hub.signer.public_key, nonce))
        done = await cloud.enrol(code, hub.signer.public_key, nonce, signature)
        body = {"tenant": done.tenant, "store": done.store, "locations": [], "root_key": done.root_key.hex()}
        await services.db.write("enrol", lambda tx: journal.append(tx, Draft("hub.enrolled", "", "hub", body)))
        self._enrolled.add(hub.signer.hub_id)

    # -- judged --------------------------------------------------------------------------------------------------------

    def cursor_seen(self, hub: HubMachine, seq: int, digest: bytes) -> None:
        """A hub has committed this confirmed cursor: then the cloud must have committed what it confirms."""
        if not seq or self._seen.get(hub.name) == (seq, digest):
            return
        self._seen[hub.name] = (seq, digest)
        if self.forgets:
            return
        if self._reader is None:
            self._reader = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, isolation_level=None)
        found = self._reader.execute(
            "SELECT 1 FROM entries WHERE hub = ? AND hash = ?", (hub.signer.hub_id, digest)
        ).fetchone()
        self.store.trace.need(
            found is not None,
            "what is confirmed is in the cloud",
            f"{hub.name} has a confirmed cursor at {seq} that the cloud has not committed",
        )

    async def drained(self) -> None:
        """Return once everything has reached the cloud, and stays so."""
        clock = self.store.clock
        until, since = clock.monotonic() + DRAIN_MAX_S, clock.monotonic()
        while clock.monotonic() - since < DRAINED_FOR_S:
            await clock.sleep(1.0)
            waiting = {
                hub.name: hub.sync.status for hub in self.store.hubs if hub.sync and hub.sync.status.unsent_count
            }
            down = [hub.name for hub in self.store.hubs if not hub.is_up]
            if waiting or down:
                since = clock.monotonic()
            if clock.monotonic() > until:
                self.store.trace.broken("everything drains", f"not confirmed: {waiting} {down}")
                return

    def final(self) -> None:
        """The cloud's own ledger against the hubs' files."""
        for hub in self.store.hubs:
            self.confirmed_all(hub)
            ledger = CloudLedger(self.store.trace, self.path, hub, self.store.retired)
            ledger.check()

    def enrolled_anew(self, clone: HubMachine) -> None:
        """A clone that was given a key of its own is another hub to the cloud, with its chain from the first entry."""
        if clone.key != self.store.hubs[0].key:
            CloudLedger(self.store.trace, self.path, clone, []).check()

    def confirmed_all(self, hub: HubMachine) -> None:
        """A hub that has drained holds a confirmation for its last entry."""
        with read_only(hub.disk.path) as own:
            head = own.execute("SELECT max(seq) FROM journal").fetchone()[0]
            confirmed = own.execute("SELECT seq FROM cursors WHERE name = 'confirmed'").fetchone()
        self.store.trace.need(
            confirmed is not None and confirmed[0] == head, "everything drains", f"{confirmed} of {head} of {hub.name}"
        )


class HubLink:
    """A hub's own way to the broker; implements `hubd.ports.CloudLink`. Gone with the life of the process."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sessions: list[InProcessSession] = []
        self._dead = False

    @asynccontextmanager
    async def connect(self, address: LinkAddress) -> AsyncIterator[InProcessSession]:
        """See `CloudLink`."""
        if self._dead:
            raise ConnectionRefusedError("no power")
        async with self._link.broker.connect(address) as session:
            self._sessions.append(session)
            yield session

    def cut(self) -> None:
        """The process is gone: nothing leaves and nothing arrives any more."""
        self._dead = True
        for session in self._sessions:
            session.cut()
