"""The composition root: the one place that knows every piece and plugs them together.

`trading_hub` builds the part that trades: store, services, terminals. It takes everything that touches the outside
through `World`, so the deterministic simulation runs exactly this composition; production adds servers and probes
around it (`hubd.daemon`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec import Struct, field

from drivers.base import CURRENCY, DriverOptions, Manifest, Tcp
from drivers.faces import RunningDevice
from drivers.line_options import line_options, with_line
from drivers.probing import find_out, look_at
from drivers.registry import Registry
from drivers.runner import Runner
from drivers.trace import DEFAULT_LIMITS, TraceLimits
from hubd.cloud_ports import Signer
from hubd.discovery_ports import Claimed, EndpointSource, Probed
from hubd.errors import DeviceError, StoreError
from hubd.health import Problems
from hubd.model.device import DeviceState, Endpoint, EndpointKind
from hubd.model.device_options import Option
from hubd.model.mode import Mode, ModeSnapshot
from hubd.model.terminal_life import needs_of
from hubd.ports import AcceptLines, ByteStream, OpenTransport, Scan, TerminalStatus, Weight
from hubd.runtime import Clock, Runtime
from hubd.services.access import AccessDesk
from hubd.services.addresses import AddressDesk, is_loopback
from hubd.services.automatic_receipts import AutomaticReceipts
from hubd.services.bundle import Services
from hubd.services.device_options import OptionDesk
from hubd.services.devices import DeviceDesk
from hubd.services.dialogue import Dialogues
from hubd.services.discovery import DiscoveryDesk
from hubd.services.documents import DocumentDesk
from hubd.services.feed import Feed
from hubd.services.flush import Flusher
from hubd.services.hearing import Hearing
from hubd.services.jobs import Jobs
from hubd.services.lines import LineReason, ensure_line
from hubd.services.option_keeper import OptionKeeper, SecretBox
from hubd.services.orders import OrderDesk
from hubd.services.outages import OutageDesk
from hubd.services.overview_desk import OverviewDesk
from hubd.services.pairing import PairingDesk
from hubd.services.payments import PaymentDesk
from hubd.services.peripherals import Peripheral, Peripherals
from hubd.services.pins import PinHasher
from hubd.services.printing import PrintDesk
from hubd.services.probing import ProbeDesk
from hubd.services.receipts import ReceiptDesk
from hubd.services.recovery import RecoveryDesk
from hubd.services.replacement import ReplacementDesk
from hubd.services.roles import RoleDesk
from hubd.services.settings import SettingsDesk
from hubd.services.staff import StaffDesk
from hubd.services.taking import OutageView
from hubd.services.terminal_life import TerminalLife
from hubd.services.terminals import READY, Terminals
from hubd.services.till_lines import TillLines
from hubd.services.trials import TrialDesk
from hubd.services.weighing import WeighingDesk
from hubd.store import backup, verify
from hubd.store.db import AioSqliteThread, Database, OpenDbThread, open_database
from hubd.store.devices import Device
from hubd.supervisor import FOREVER, ONCE, Supervisor, Worker, supervision

log = logging.getLogger(__name__)

T = TypeVar("T")
DISK_FULL_RETRY_S = 1.0
CHECK_AFTER_S = 5.0
"""The check of everything begins when the tills that waited for the hub have been answered."""
CHECK_PAUSE_S = 0.05
"""Between two steps of about half that time: the check takes a third of a core at most, and sales the rest."""
ANYBODY_MENDS = {"paper_out": "printer.no_paper", "cover_open": "printer.cover_open"}
"""Faults of a printer, and problems of their own: whoever reads them can mend them without calling anybody."""
OFFLINE_MODES = frozenset({Mode.NETWORK_OUTAGE, Mode.SERVICE_DISRUPTION})


class World(Struct, frozen=True):
    """What a trading hub needs from outside."""

    database: Path
    runtime: Runtime
    signer: Signer
    open_transport: OpenTransport
    accept_lines: AcceptLines
    registry: Registry
    pins: PinHasher
    fingerprint: str
    """Of the hub's own CA key, for pairing."""
    open_thread: OpenDbThread = AioSqliteThread.open
    room_for_sales: Callable[[], bool] = field(default=lambda: True)
    """Whether the disk has room for new sales; asked before a terminal is touched."""
    archives: Path | None = None
    """Where the archive files lie; None: there are none to check."""
    line_reason: LineReason | None = None
    """Why this start opens a new line whatever the store says; None: the store decides (restored, replaced)."""
    driver_options: Callable[[Device], DriverOptions] = field(default=lambda _: {})
    """What the configuration says of a device; what people have set counts more. Asked at every start of a driver."""
    device_key: bytes = b""
    """Seals the secrets of devices. Empty: what is set of them ends with this start."""
    sources: Sequence[EndpointSource] = ()
    """Where devices are looked for."""
    trace_limits: TraceLimits = DEFAULT_LIMITS
    """How much of each device's line is kept in memory."""
    machine_id: str = ""
    disk_id: str = ""
    """On what this hub runs; a journal that finds itself elsewhere opens a new line. Empty where nobody can tell."""


class Hub(Struct, frozen=True):
    """A trading hub: its services, and the supervisor under which more workers may run."""

    services: Services
    supervisor: Supervisor


class _DriverWorkers:
    """Runs drivers under the supervisor: restarted for ever, and never a reason to stop the hub."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._workers: dict[str, Worker] = {}

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        async def forever() -> None:
            await run()

        self._workers[name] = self._supervisor.start(name, forever, FOREVER)

    async def stop(self, name: str) -> None:
        worker = self._workers.pop(name, None)
        if worker is not None:
            await self._supervisor.stop(worker)
            await self._supervisor.forget(worker)


class _Drivers(Struct):
    """Makes the drivers of devices, and passes on what they say; the desks that hear it are made after this."""

    world: World
    keeper: OptionKeeper
    jobs: Jobs
    changed: Callable[[str, TerminalStatus], None]
    discovery: DiscoveryDesk | None = None
    options: OptionDesk | None = None

    async def make(self, device: Device, currency: str) -> RunningDevice:
        """See `hubd.services.devices.MakeDriver`."""
        world = self.world
        said = (await self.keeper.of(device)).in_force

        async def open_where_it_is(url: str) -> ByteStream:
            assert self.discovery is not None, "no driver runs before all desks are made"
            if not self.discovery.stands_at(device.identity, url):
                raise OSError("it is not plugged in here")
            return await world.open_transport(with_line(url, said))

        if not world.registry.loaded(device.driver):
            await asyncio.to_thread(world.registry.load, device.driver)
        factory = world.registry.factory(device.driver)
        options = {**said, **({CURRENCY: currency} if currency else {})}
        runner = Runner(
            device.id,
            factory,
            device.address,
            open_where_it_is,
            world.runtime,
            self.changed,
            options,
            self._moved,
            world.accept_lines,
            world.trace_limits,
            self._learnt,
        )
        return RunningDevice(runner)

    def _moved(self, device_id: str, address: str) -> None:
        assert self.discovery is not None, "no driver runs before all desks are made"
        self.jobs.start(f"device.moved:{device_id}:{address}", self.discovery.moved(device_id, address))

    def _learnt(self, device_id: str, values: DriverOptions) -> None:
        assert self.options is not None, "no driver runs before all desks are made"
        self.options.learnt(device_id, values)


def _discovery(
    world: World, devices: DeviceDesk, staff: StaffDesk, terminals: Terminals, problems: Problems, roles: RoleDesk
) -> DiscoveryDesk:
    book, plugs = _DriverBook(world.registry), any(one.kind is EndpointKind.USB for one in world.sources)
    return DiscoveryDesk(world.runtime, book, devices, staff, terminals, problems, roles, knows_plugs=plugs)


async def _find_out(world: World, url: str) -> Probed:
    manifests = [entry.manifest for entry in world.registry.entries if entry.manifest is not None and entry.usable]
    return await find_out(url, manifests, world.open_transport, world.runtime.clock)


async def _look_at(world: World, url: str, driver: str) -> Probed | None:
    return await look_at(url, world.registry.manifest(driver), world.open_transport, world.runtime.clock)


def _addresses(world: World, discovery: DiscoveryDesk, devices: DeviceDesk) -> AddressDesk:
    """Devices on the hub's own machine are for a demo, or for whoever has named one in the configuration."""
    loopback = any(is_loopback(one.url) for source in world.sources for one in source.present())
    return AddressDesk(discovery, devices, _DriverBook(world.registry), partial(_look_at, world), loopback=loopback)


class _DriverBook:
    """`hubd.ports.DriverBook` of the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def claim(self, seen: Endpoint) -> Claimed | None:
        manifest = self._registry.claim(seen)
        return _claimed(manifest) if manifest else None

    def rivals(self, seen: Endpoint) -> tuple[Claimed, ...]:
        return tuple(_claimed(manifest) for manifest in self._registry.rivals(seen))

    def candidates(self, seen: Endpoint) -> tuple[Claimed, ...]:
        return tuple(_claimed(manifest) for manifest in self._registry.candidates(seen))

    def options(self, driver: str, address: str) -> tuple[Option, ...]:
        try:
            return (*self._registry.manifest(driver).options, *line_options(address))
        except DeviceError:
            return ()

    def at_addresses(self) -> tuple[Claimed, ...]:
        return tuple(_claimed(manifest) for manifest in self._registry.at_addresses())


def _claimed(manifest: Manifest) -> Claimed:
    port = next((match.port for match in manifest.matches if isinstance(match, Tcp)), 0)
    return Claimed(manifest.id, manifest.kind, manifest.name, manifest.capabilities, manifest.line, port)


def _outage_view(outages: OutageDesk) -> OutageView:
    snapshot = outages.snapshot()
    offline = snapshot.mode in OFFLINE_MODES
    if snapshot.outage_id is None or snapshot.started_at_us is None:
        return OutageView(None, cards_offline=offline)
    return OutageView(snapshot.outage_id, snapshot.started_at_us, outages.elapsed(), offline)


def _flush_when_online(jobs: Jobs, flusher: Flusher, snapshot: ModeSnapshot) -> None:
    if snapshot.mode is Mode.ONLINE:
        jobs.start("flush.service_back", flusher.service_back())


def _flush_what_was_stored(runtime: Runtime, jobs: Jobs, flusher: Flusher, outages: OutageDesk) -> None:
    """A terminal may store a payment while we are online; nothing changes then that would wake the flusher."""
    if outages.snapshot().mode is Mode.ONLINE:
        jobs.start(f"flush.wake:{runtime.ids.new_id()}", flusher.wake())


def _compose(world: World, db: Database, supervisor: Supervisor, jobs: Jobs) -> Services:
    runtime = world.runtime
    feed, problems, terminals, peripherals = Feed(db, runtime), Problems(runtime.clock), Terminals(), Peripherals()
    access = AccessDesk(db, runtime, world.pins, feed)
    tills, outages = TillLines(db, runtime, world.signer), OutageDesk(db, runtime)
    dialogues, view = Dialogues(db, runtime, terminals, jobs, world.signer.hub_id), partial(_outage_view, outages)
    staff = StaffDesk(db, runtime, access, world.pins, RecoveryDesk(db, runtime, problems))
    payments = PaymentDesk(db, runtime, dialogues, terminals, tills, view, world.room_for_sales)

    def device_changed(device_id: str, status: TerminalStatus) -> None:
        _note_change(problems, terminals, peripherals, device_id, status)
        if status.state in READY and outages.snapshot().mode is Mode.ONLINE:
            jobs.start("flush.wake", flusher.wake())

    box = SecretBox(world.device_key, runtime.ids.token_bytes)
    keeper = OptionKeeper(db, box, world.driver_options, dialogues.make_document)
    drivers = _Drivers(world, keeper, jobs, device_changed)
    devices = DeviceDesk(db, terminals, peripherals, drivers.make, _DriverWorkers(supervisor), dialogues.make_document)
    printing = _printing(db, runtime, peripherals, jobs, problems, dialogues)
    roles = RoleDesk(db, runtime.clock, devices, dialogues.make_document, printing.replaced, keeper)
    options = drivers.options = OptionDesk(db, runtime.clock, keeper, devices, _DriverBook(world.registry), jobs)
    discovery = drivers.discovery = _discovery(world, devices, staff, terminals, problems, roles)
    flusher = Flusher(db, runtime, terminals, jobs, lambda: outages.snapshot().mode is Mode.ONLINE)
    return _wired(
        Services(
            runtime=runtime,
            db=db,
            jobs=jobs,
            feed=feed,
            problems=problems,
            access=access,
            pins=world.pins,
            pairing=PairingDesk(db, runtime, access, feed, world.fingerprint),
            staff=staff,
            settings=SettingsDesk(db, runtime.clock.now_us),
            terminals=terminals,
            peripherals=peripherals,
            tills=tills,
            replacement=ReplacementDesk(db, world.signer.hub_id),
            dialogues=dialogues,
            payments=payments,
            orders=OrderDesk(db, tills),
            receipts=ReceiptDesk(db, world.archives),
            devices=devices,
            options=options,
            life=TerminalLife(db, terminals, devices, problems),
            weighing=WeighingDesk(peripherals, partial(_tell_weight, feed)),
            printing=printing,
            trials=TrialDesk(runtime, devices, terminals, peripherals, printing),
            roles=roles,
            discovery=discovery,
            probing=ProbeDesk(discovery, partial(_find_out, world)),
            addresses=_addresses(world, discovery, devices),
            flusher=flusher,
            outages=outages,
            hearing=Hearing(db, runtime, terminals, outages),
            documents=DocumentDesk(db, runtime, world.archives),
            overview=OverviewDesk(db, runtime, terminals, outages, problems, world.room_for_sales, world.signer.hub_id),
        )
    )


def _wired(made: Services) -> Services:
    """The desks, each hearing what it has to hear of another."""
    feed, problems, outages, dialogues = made.feed, made.problems, made.outages, made.dialogues
    outages.listen(partial(_flush_when_online, made.jobs, made.flusher))
    made.discovery.tell = lambda count: feed.tell("endpoints.changed", "", {"count": count})
    made.peripherals.watch(lambda _: made.discovery.look_again())
    _tell_followers(feed, made.terminals, made.peripherals, outages, problems)
    dialogues.stored = partial(_flush_what_was_stored, made.runtime, made.jobs, made.flusher, outages)
    dialogues.other_hub_heard = lambda: any(one.code == "hub.cloned" for one in problems.present())
    return made


def _printing(
    db: Database, runtime: Runtime, peripherals: Peripherals, jobs: Jobs, problems: Problems, dialogues: Dialogues
) -> PrintDesk:
    desk = PrintDesk(db, runtime, peripherals, jobs, problems, dialogues.make_document)
    receipts = AutomaticReceipts(desk, peripherals)
    dialogues.taken, dialogues.taken_on_disk = receipts.write, receipts.begin
    return desk


def _tell_followers(
    feed: Feed, terminals: Terminals, peripherals: Peripherals, outages: OutageDesk, problems: Problems
) -> None:
    """What is of this moment and not stored: followers of the events hear it once (docs/reference/events.md)."""
    shown: dict[str, tuple[str, str, str]] = {}
    places: dict[str, str] = {}
    """Where each was: of a device that has gone, those are told who were told of it before."""

    def terminal_changed(device_id: str) -> None:
        attached = terminals.get(device_id)
        status = terminals.status(device_id)
        state = status.state.value if status else DeviceState.GONE.value
        prompt = attached.progress.code if attached and attached.progress else ""
        now = (state, attached.payment_id if attached else "", prompt)
        before = shown.get(device_id, ("", "", ""))
        shown[device_id] = now
        place = places[device_id] = attached.location if attached else places.get(device_id, "")
        if now[0] != before[0]:
            feed.tell("device.state", device_id, {"state": state}, location=place)
        if now[1:] != before[1:] and now[1]:
            feed.tell("payment.prompt", now[1], {"device": device_id, "prompt": prompt}, location=place)

    def peripheral_changed(device_id: str) -> None:
        peripheral = peripherals.get(device_id)
        state = peripheral.face.status.state.value if peripheral else DeviceState.GONE.value
        if shown.get(device_id, ("",))[0] != state:
            shown[device_id] = (state, "", "")
            place = places[device_id] = peripheral.location if peripheral else places.get(device_id, "")
            feed.tell("device.state", device_id, {"state": state}, location=place)

    terminals.watch(terminal_changed)
    peripherals.watch(peripheral_changed)
    peripherals.on_scan(partial(_tell_scan, feed, peripherals))
    outages.listen(lambda snapshot: feed.tell("mode.changed", "", {"mode": snapshot.mode.value}))
    problems.listen(lambda: feed.tell("problems.changed", "", {"count": len(problems.visible())}))


def _follow_lives(services: Services) -> None:
    """Terminals take their last steps by themselves, and what they say in words is listened to."""

    def heard(device_id: str, lines: tuple[str, ...]) -> None:
        if needs_of(lines):
            name = f"device.heard:{services.runtime.ids.new_id()}"
            services.jobs.start(name, services.life.listen(device_id, lines))

    services.terminals.watch(partial(_sync_one_that_answers, services))
    services.dialogues.heard = heard


def _sync_one_that_answers(services: Services, device_id: str) -> None:
    """A terminal that waits for its last steps takes them as soon as it answers."""
    if services.terminals.waiting(device_id):
        services.jobs.start(f"device.sync:{device_id}", services.devices.sync(device_id))


def _tell_scan(feed: Feed, peripherals: Peripherals, device_id: str, scan: Scan) -> None:
    """What a scanner reads is told to the till that has it, or to all of its location that share it; never stored."""
    scanner = peripherals.get(device_id)
    if scanner is not None:
        data = {"text": scan.text, "symbology": scan.symbology}
        feed.tell("scan", device_id, data, scanner.till, scanner.location)


def _tell_weight(feed: Feed, scale: Peripheral, weight: Weight) -> None:
    """A weight that somebody has asked for is told to the till that has the scale; never stored."""
    feed.tell("weight", scale.id, {"grams": weight.grams, "net": weight.net}, scale.till, scale.location)


def _note_change(
    problems: Problems, terminals: Terminals, peripherals: Peripherals, device_id: str, status: TerminalStatus
) -> None:
    """Tell the book that has the device. Its problems follow from its status; a driver stopped on purpose is none."""
    peripheral, attached = peripherals.get(device_id), terminals.get(device_id)
    (peripherals if peripheral else terminals).changed(device_id)
    name = peripheral.name if peripheral else attached.name if attached else device_id
    stopped = status.problem == "stopped"
    problems.set(status.state is DeviceState.SILENT, "device.silent", device_id, name=name)
    problems.set(status.state is DeviceState.GONE and not stopped, "device.gone", device_id, name=name)
    faulty = status.state is DeviceState.FAULTY
    for reason, code in ANYBODY_MENDS.items():
        problems.set(faulty and status.problem == reason, code, device_id, name=name)
    other = faulty and status.problem not in ANYBODY_MENDS
    problems.set(other, "device.faulty", device_id, name=name, reason=status.problem)


async def once_there_is_room(clock: Clock, write: Callable[[], Awaitable[T]]) -> T:
    """A start that needs a new line cannot go on without it: it waits while the disk is full, and does not crash."""
    while True:
        try:
            return await write()
        except StoreError as exc:
            if exc.code != "store.full":
                raise
            log.warning("hub.start_waits_for_disk", extra={"code": exc.code})
            await clock.sleep(DISK_FULL_RETRY_S)


async def _go_on_in_the_right_line(world: World, db: Database) -> bool:
    """Open the line that this start needs, before anything else is written, and remember where it was opened.

    Returns whether it is a further line: then what this database knows need not be the last that was true.
    """
    ids = (world.machine_id, world.disk_id)
    found = await db.read("line.reason", lambda connection: backup.line_reason(connection, *ids))
    reason = world.line_reason or (LineReason(found) if found else None)
    clock = world.runtime.clock
    opened = await once_there_is_room(clock, partial(ensure_line, db, world.signer, world.runtime, reason))
    # Nothing is written that is there already: a hub whose disk is full must come up and say so.
    if opened is not None or not await db.read("line.of_here", lambda c: backup.is_line_of(c, *ids)):
        here = partial(db.write, "line.opened_here", lambda tx: backup.line_opened(tx, *ids))
        await once_there_is_room(clock, here)
    return opened is not None and reason is not None


async def _check_store(world: World, services: Services, supervisor: Supervisor) -> None:
    """The newest entries and the counters at once; everything in the background after a stop that was not clean.

    A damaged store is a problem that people see, and the shop goes on selling: what is new is written well.
    """

    def damaged(seq: int, why: str) -> None:
        log.error("store.damaged", extra={"seq": seq, "reason": why})
        services.problems.raise_("store.damaged", seq=seq)

    for why in await services.db.read("store.check_start", verify.check_start):
        damaged(services.db.head.seq, why)

    async def breathe() -> None:
        await world.runtime.clock.sleep(CHECK_PAUSE_S)

    async def check_all() -> None:
        await world.runtime.clock.sleep(CHECK_AFTER_S)
        report = await verify.verify_database(services.db, world.archives, breathe)
        if not report.ok:
            damaged(report.first_bad_seq or 0, report.why or report.archive_why)

    if not services.db.stopped_cleanly:
        supervisor.start("store.check", check_all, ONCE)


async def _look_for_devices(
    sources: Sequence[EndpointSource], discovery: DiscoveryDesk, supervisor: Supervisor
) -> None:
    for source in sources:
        for endpoint in source.present():
            discovery.appeared(endpoint)
        supervisor.start(f"discovery.{source.kind}", partial(source.run, discovery), FOREVER)
    if sources:
        await discovery.consider()
        supervisor.start("discovery", discovery.run, FOREVER)


@asynccontextmanager
async def trading_hub(world: World) -> AsyncIterator[Hub]:
    """A hub that trades, from the first line to the last commit. On leaving, everything is stopped in order.

    What an earlier run left unfinished is taken up before the block begins: payments that were being worked on are
    cancelled (nothing was sent) or unknown (and asked about), flushes that did not end are held again.
    """
    async with open_database(world.database, world.runtime, world.open_thread) as db:
        restored = await _go_on_in_the_right_line(world, db)
        async with supervision(world.runtime) as supervisor, Jobs() as jobs:
            services = _compose(world, db, supervisor, jobs)
            _follow_lives(services)
            await services.tills.begin()
            supervisor.start("feed", services.feed.run, FOREVER)
            supervisor.start("hearing", services.hearing.watch, FOREVER)
            supervisor.start("roles", services.roles.run, FOREVER)
            await _check_store(world, services, supervisor)
            await services.access.guard.load()
            await services.recovery.load()
            await services.outages.load()
            await services.flusher.resume()
            await services.printing.recover()
            await services.devices.start()
            await services.life.note_problems()
            await services.dialogues.resume(restored=restored)
            await _look_for_devices(world.sources, services.discovery, supervisor)
            try:
                yield Hub(services, supervisor)
            finally:
                services.feed.stop()
