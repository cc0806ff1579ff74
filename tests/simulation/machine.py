"""One hub: the trading hub of production on a machine that loses power, is restored, and whose clock lies."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivers.kit.memory_line import Delivery, MemoryStream
from drivers.registry import load
from drivers.runner import accept_none
from hubd.app import Hub, World, trading_hub
from hubd.errors import HubError, StoreError
from hubd.identity import KeySigner
from hubd.model.entry import Draft
from hubd.model.mode import Facts, Mode
from hubd.model.permissions import ROLE_PERMISSIONS, Role
from hubd.ports import ByteStream
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.services.bundle import Services
from hubd.services.device_rules import NewDevice
from hubd.services.lines import LineReason
from hubd.store import journal
from hubd.store.people import Location
from hubd.supervisor import FOREVER
from sync.link_worker import CloudSync
from tests.simulation.devices import TerminalBox
from tests.simulation.disk import CutPoint, Disk
from tests.simulation.link import HubLink
from tests.simulation.seeded import MachineClock, SeededIds, stream

if TYPE_CHECKING:
    from tests.simulation.world import Store

LOCATION = Location("01990000-0000-7000-8000-000000000001", "Shop", "Europe/Paris", "EUR", "FR")
MEASURE_EVERY_S = 4.0
REQUEST_S = 0.02
RESTART_S = 2.0
"""What the service manager waits before it starts a process again that ended by itself."""
CLOCK_REPAIR_S = 900.0
REGISTRY = load()


class LostError(Exception):
    """No answer came: the request may have arrived or not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a till receives: a result or a refusal, and the hub's `Hub-Line`."""

    result: Any
    hub_line: str
    mode: Mode


class InlinePins:
    """Implements `hubd.services.pins.PinHasher` in the loop itself; nobody signs in during a run."""

    async def make(self, pin: str) -> str:
        return hashlib.sha256(pin.encode()).hexdigest()

    async def matches(self, pin: str, verifier: str) -> bool:
        return verifier == await self.make(pin)


def administrator(role: Role = Role.OWNER) -> Caller:
    """A person of the store, signed in."""
    return Caller("", "01990000-0000-7000-8000-00000000000a", LOCATION.id, ROLE_PERMISSIONS[role], "en")


def leaves(error: BaseException) -> list[BaseException]:
    """The errors inside a group, however deep."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


class _WatchedSync(CloudSync):
    """Says when the hub refuses a confirmation: a cloud that is what it should be never gives it a reason."""

    refused: Callable[[str], None]

    def report(self, code: str, detail: str) -> None:
        super().report(code, detail)
        if code == "sync.proof_mismatch":
            self.refused(detail)


@dataclass(slots=True)
class _Life:
    """One run of the process."""

    number: int
    runtime: Runtime
    link: HubLink
    alive: bool = True
    streams: list[MemoryStream] = field(default_factory=list)
    answers: dict[int, asyncio.Future[Answer | None]] = field(default_factory=dict)


class HubMachine:
    """A hub with its disk, its clock and its power switch."""

    def __init__(self, store: Store, name: str, folder: Path, key: bytes) -> None:
        self.store = store
        self.trace = store.trace
        self.name = name
        self.clock = MachineClock()
        self.dice = stream(store.seed, f"machine:{name}")
        self.disk = Disk(folder, store.clock, stream(store.seed, f"disk:{name}"), self._committed)
        self.disk.on_cut = self.power_cut
        self.key = key
        self.signer = KeySigner(key)
        self.services: Services | None = None
        self.hub: Hub | None = None
        self.sync: CloudSync | None = None
        self.line_reason: LineReason | None = None
        """For the next start."""
        self.starts = 0
        self.forgets = False
        """It was given an earlier state of its disk once: only what tills announce is sure to be known."""
        self.closing = False
        self.money_cut: CutPoint | None = None
        """The power goes when the next command that moves money leaves."""
        self.forgets_in_silence = False
        """Nothing told it so: until a till does, it believes that nothing was sent for what had not begun."""
        self._boot = b""
        self._files: dict[str, bytes] | None = None
        self._off_s = 0.0
        self._new_boot = True
        self._life: _Life | None = None
        self._task: asyncio.Task[None] | None = None
        self._living: asyncio.Task[None] | None = None
        self._requests: asyncio.TaskGroup | None = None
        self._stop = asyncio.Event()
        self._up = asyncio.Event()

    def _committed(self, head: tuple[int, bytes], cursor: tuple[int, bytes] | None) -> None:
        self.trace.note(self.name, "commit", head[0], head[1].hex()[:16], cursor[0] if cursor else 0)
        if cursor is not None:
            self.store.link.cursor_seen(self, *cursor)

    def busy(self) -> list[str]:
        """What it does by itself at this moment: dialogues, enquiries, flushes."""
        services = self.services
        if services is None:
            return ["starting"]
        return services.jobs.running()

    @property
    def is_up(self) -> bool:
        """Whether it answers requests now."""
        return self.services is not None

    async def until_up(self) -> Services:
        """Its services, once it answers."""
        while self.services is None:
            self._up.clear()
            await self._up.wait()
        return self.services

    # -- lives ---------------------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """Start, run, be killed, start again, until it is closed."""
        while not self.closing:
            life = self._next_life()
            self._stop.clear()
            async with asyncio.TaskGroup() as group:
                self._life = life
                self._task = group.create_task(self._one_life(life), name=f"{self.name}:life:{life.number}")
            if self._is_closing() and self._files is None:
                return  # stopped in order: its files are as it left them
            if not self._is_closing():
                await self.store.clock.sleep(self._off_s)
            files = self.disk.files() if self._files is None else self._files
            self._files = None
            self.disk.switch_on(files)

    def _is_closing(self) -> bool:
        return self.closing

    def _next_life(self) -> _Life:
        self.starts += 1
        dice = stream(self.store.seed, f"{self.name}:life:{self.starts}")
        if self._new_boot:
            self._boot, self._new_boot = dice.randbytes(16), False
            self.clock.boot()
            if dice.random() < self.store.options.clock.no_battery:
                self.clock.set_wall_us(dice.randrange(10_000_000))
                self.clock.set_trusted(False)
                self.store.later(dice.uniform(1, CLOCK_REPAIR_S), self.repair_clock)
        runtime = Runtime(self.clock, SeededIds(dice), dice, self._boot, dice.randbytes(8))
        self.trace.note(self.name, "start", self.starts, runtime.start_id, self.line_reason or "")
        return _Life(self.starts, runtime, HubLink(self.store.link))

    def repair_clock(self) -> None:
        """A witness has told the time."""
        self.clock.set_wall_us(self.store.clock.now_us())
        self.clock.set_trusted(True)
        self.trace.note(self.name, "clock-right")

    async def _one_life(self, life: _Life) -> None:
        try:
            async with trading_hub(self._world(life)) as hub:
                if not life.alive:
                    return
                self.line_reason = None
                await self._set_up(hub.services)
                await self.store.link.enrol(self, hub.services)
                address = self.store.link.address(self, life.runtime)
                sync = _WatchedSync(hub.services.db, life.runtime, self.signer, life.link, address)
                sync.refused = partial(self.trace.broken, "the cloud confirms what the hub has written")
                self.sync = sync
                hub.supervisor.start("sync", sync.run, FOREVER)
                async with asyncio.TaskGroup() as requests:
                    self._requests, self.hub, self.services = requests, hub, hub.services
                    self.store.hub_is_up(self)
                    self._up.set()
                    measuring = requests.create_task(self._measure(hub.services), name=f"{self.name}:measure")
                    await self._stop.wait()
                    self.services = None
                    await hub.services.payments.settled(300.0)
                    measuring.cancel()
        except BaseException as error:  # noqa: BLE001 - the end of a process; judged below
            self._ended(life, error)
        finally:
            self.services, self._requests = None, None
            self._let_go(life)
        self.trace.note(self.name, "ended", life.number)

    def _ended(self, life: _Life, error: BaseException) -> None:
        if not life.alive:
            return  # it was killed; what its last moments raise is of no interest
        self._off_s = RESTART_S
        found = leaves(error)
        full = any(isinstance(leaf, StoreError) and leaf.code == "store.full" for leaf in found)
        expected = all(isinstance(leaf, (StoreError, sqlite3.Error)) for leaf in found) and not full
        self.trace.note(self.name, "crashed", *(repr(leaf) for leaf in found))
        self.trace.need(expected, "the hub does not crash", "; ".join(repr(leaf) for leaf in found))
        if not expected:
            self.store.keep_error(error)

    def _world(self, life: _Life) -> World:
        async def open_transport(url: str) -> ByteStream:
            return self._connect(life, url)

        return World(
            database=self.disk.path,
            runtime=life.runtime,
            signer=self.signer,
            open_transport=open_transport,
            accept_lines=accept_none,
            registry=REGISTRY,
            pins=InlinePins(),
            fingerprint="",
            open_thread=self.disk.open_thread,
            room_for_sales=lambda: not self.disk.full or self.dice.random() < 0.3,
            line_reason=self.line_reason,
        )

    def _connect(self, life: _Life, url: str) -> MemoryStream:
        if not life.alive:
            raise ConnectionRefusedError("no power")
        box = self.store.terminal(url)
        if box.cable not in {"", self.name}:
            raise ConnectionRefusedError("its cable is in another hub")
        line = box.connect()
        line.hub.tamper = self._leaving
        life.streams.append(line.hub)
        return line.hub

    def _leaving(self, data: bytes) -> list[Delivery]:
        """Every block that leaves for a terminal comes by here; the power may go with one that moves money."""
        point = self.money_cut
        if point is None or data.removeprefix(b"\x10\x02")[:2] not in (b"\x06\x01", b"\x06\x30"):
            return [Delivery(data)]
        self.money_cut = None
        if point is CutPoint.BEFORE:
            self.power_cut()
            return []
        self.store.later(self.dice.choice((0.0, 0.0, 1.0, 4.0, 20.0)), self.power_cut)
        return [Delivery(data)]

    async def _set_up(self, services: Services) -> None:
        """What the set-up page does; nothing that is there already is made again."""
        owner = administrator()
        if not await services.staff.locations():
            # The desk looks the time zone up in a thread; the entry that it writes is this one.
            body = {"name": LOCATION.name, "zone": LOCATION.zone, "currency": "EUR", "country": "FR"}
            draft = Draft("location.set", LOCATION.id, owner.actor, body)
            await services.db.write("location.set", lambda tx: journal.append(tx, draft))
        known = {view.device.address: view.device for view in await services.devices.all()}
        for box in self.store.terminals:
            device = known.get(box.url)
            if device is None:
                new = NewDevice(box.url, "zvt", box.name, "terminal", LOCATION.id)
                device = await services.devices.claim(box.device_id, new, owner.actor)
            if not device.active:
                await services.devices.activate(device.id, owner)

    async def _measure(self, services: Services) -> None:
        """The probes: what the network and the cloud answer."""
        while True:
            await services.outages.observe(self._facts(services.outages.facts()))
            await self.clock.sleep(MEASURE_EVERY_S)

    def _facts(self, facts: Facts) -> Facts:
        now_ms = int(self.clock.monotonic() * 1000)
        network, cloud = self.store.link.network, self.store.link.cloud
        return Facts(
            link=facts.link.measured(True, now_ms),
            gateway=facts.gateway.measured(True, now_ms),
            dns=facts.dns.measured(network, now_ms),
            internet=facts.internet.measured(network, now_ms),
            broker=facts.broker.measured(network, now_ms),
            cloud=facts.cloud.measured(network and cloud, now_ms),
        )

    # -- requests ------------------------------------------------------------------------------------------------------

    async def request(self, fn: Callable[[Services], Awaitable[Any]], patience_s: float) -> Answer:
        """Carry out a request as the API would; raises LostError when no answer comes in time.

        A caller who gives up does not stop what was begun.
        """
        await self.store.clock.sleep(REQUEST_S)
        services, life, requests = self.services, self._life, self._requests
        if services is None or life is None or requests is None:
            raise LostError
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        life.answers[id(answer)] = answer
        requests.create_task(self._handle(services, life, fn, answer), name=f"{self.name}:request")
        await asyncio.wait([answer], timeout=patience_s)
        life.answers.pop(id(answer), None)
        if not answer.done() or (told := answer.result()) is None:
            raise LostError
        return told

    async def _handle(
        self,
        services: Services,
        life: _Life,
        fn: Callable[[Services], Awaitable[Any]],
        answer: asyncio.Future[Answer | None],
    ) -> None:
        mode = services.outages.snapshot().mode
        try:
            result = await fn(services)
        except HubError as error:
            result = error
        except Exception as error:  # noqa: BLE001 - the API would answer 500
            if not life.alive:
                return
            result = LostError()
            self.store.keep_error(error)
            self.trace.broken("no request ends in an unexpected error", repr(error))
        if life.alive and not answer.done():
            answer.set_result(Answer(result, services.feed.hub_line, mode))

    # -- power ---------------------------------------------------------------------------------------------------------

    def power_cut(self) -> None:
        """The machine is without power for a while; what was not committed is gone."""
        self._kill("power", self.dice.expovariate(1 / self.store.options.power.off_s))
        self._new_boot = True

    def process_kill(self) -> None:
        """The process alone is gone; the machine goes on."""
        self._kill("process", RESTART_S)

    def _kill(self, how: str, off_s: float) -> None:
        life = self._life
        if life is None or not life.alive or self.closing:
            return
        self.trace.note(self.name, "killed", how)
        life.alive = False
        self.services = None
        self.money_cut = None
        self._off_s = off_s
        self._files = self.disk.cut()
        for end in life.streams:
            if how == "power":
                end.strand()
            else:
                end.cut()
        self._let_go(life)
        life.link.cut()
        if self._task is not None:
            self._task.cancel()

    def _let_go(self, life: _Life) -> None:
        for answer in life.answers.values():
            if not answer.done():
                answer.set_result(None)

    def restore(self, files: dict[str, bytes], reason: LineReason | None, off_s: float) -> None:
        """Put an earlier state of the disk back; with a reason, as `hubctl restore` does it, without, in silence."""
        self.trace.note(self.name, "restore", reason or "in silence")
        self.power_cut()
        self._files = files
        self._off_s = off_s
        self.line_reason = reason
        self.forgets = True
        self.forgets_in_silence = reason is None
        for sale in self.store.sales_of(self):
            sale.shaken = True

    async def retire(self) -> None:
        """Switch off for good, in the middle of whatever it does."""
        self.power_cut()
        self.closing = True
        if self._living is not None:
            await asyncio.wait([self._living])

    def boot_beside(self, files: dict[str, bytes], reason: LineReason | None) -> None:
        """Begin to live on a copy of another hub's disk."""
        self.trace.note(self.name, "boots", reason or "in silence")
        self.disk.switch_on(files)
        self.line_reason = reason
        self.forgets, self.forgets_in_silence = True, reason is None
        self.start()

    def enrol_anew(self, key: bytes) -> None:
        """A technician makes it a hub of its own: a new key, and a start that enrols it."""
        self.trace.note(self.name, "key", KeySigner(key).hub_id.hex())
        self.process_kill()
        self.key, self.signer = key, KeySigner(key)

    def start(self) -> None:
        """Switch on."""
        self._living = self.store.serve(self.live(), f"{self.name}:live")

    async def close(self) -> None:
        """Stop in order."""
        self.closing = True
        self._stop.set()
        task = self._task
        if task is not None:
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])


def terminal_of(url: str, boxes: list[TerminalBox]) -> TerminalBox:
    """The terminal at this address."""
    return next(box for box in boxes if box.url == url)
