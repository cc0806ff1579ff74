"""The daemon: the trading hub with everything that reaches the outside put around it.

Start order: identity and certificates, store and services, servers, then what looks outside (cloud link, probes, mDNS):
a till that waits after a power cut comes first. Stop order is the reverse: no new requests, streams ended, dialogues
finished or marked unknown, the last commit.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import ifaddr
from msgspec import Struct, field
from msgspec.structs import asdict

import hubd
from drivers import registry
from drivers.base import PASSWORD, DriverOptions
from drivers.discovery.configured import ConfiguredSource, configured
from drivers.registry import Registry
from drivers.trace import TraceLimits
from drivers.transport import accept_tcp, open_transport
from hubd.app import Hub, World, trading_hub
from hubd.cloud_ports import CloudLink
from hubd.config import Config
from hubd.config_sections import TerminalConfig
from hubd.discovery_ports import EndpointSink, EndpointSource
from hubd.errors import ConfigError
from hubd.identity import KeySigner, load_or_create_key, load_or_create_secret
from hubd.loading import load
from hubd.model.device import Endpoint, EndpointKind
from hubd.model.mode import Hop
from hubd.runtime import Clock, Runtime, SystemClock
from hubd.sdnotify import ServiceManager, feed_watchdog
from hubd.services.access import Caller
from hubd.services.backups import BackupDesk, Places
from hubd.services.bundle import Services
from hubd.services.clock import note_clock_corrected
from hubd.services.pins import ThreadedScrypt
from hubd.store import devices, mirror
from hubd.store.backup import Contents
from hubd.store.devices import Device
from hubd.store.space import SpaceGuard
from hubd.supervisor import FOREVER, ONCE, RestartPolicy, Supervisor, WorkerState
from local_api.app import create_api
from local_api.context import HubFacts
from local_api.gate import App, Listener
from local_api.page.app import make_lamp, make_pages
from local_api.page.render import templates
from local_api.rivals import Rivals
from local_api.server import Door, DoorServer, tcp_sockets, unix_socket
from local_api.tls import CertificateStore
from sync import enrol_file
from sync.archive import FileArchive
from sync.cloud_backups import CloudBackups
from sync.connectivity import Cadence, Connectivity, NoCloud, Probe
from sync.enrol_file import TokenEnrolment
from sync.enrolled_link import EnrolledLink, broker_place
from sync.enrolment import Enrolment
from sync.link_worker import AddressSource, CloudSync
from sync.probes import network_probes

log = logging.getLogger(__name__)

ESSENTIAL = RestartPolicy(give_up_after=5, essential=True, restart_when_done=True)
"""Without its servers a hub is no hub: if they cannot run, the service manager starts it anew."""
DIALOGUES_FINISH_S = 20.0
"""How long a stop waits for terminals that are in the middle of a payment; what is left is unknown and asked about."""
SPACE_CHECK_S = 5.0
CLOCK_CHECK_S = 10.0
HEALTH_CHECK_S = 5.0
SYNC_PROBLEMS = ("sync.proof_mismatch", "sync.too_old", "sync.rejected")
CERTIFICATE_WARNS_DAYS = 30
"""A leaf is remade long before; one that is so near its end could not be remade."""
ADDRESS_CHECK_S = 15.0
WARM_UP_AFTER_S = 2.0
LOOPBACK = "127.0.0.1"
HUB_KEY = "hub.key"
DEVICE_KEY = "devices.key"
"""Seals the passwords of devices; a restored hub can open them, the cloud cannot."""
CA_FILES = ("ca.pem", "ca.key")
MACHINE_ID_FILE = Path("/etc/machine-id")


class Outside(Struct, frozen=True):
    """What the demo puts in the place of the world: its own cloud link and probes. None: the real ones."""

    link: CloudLink | None = None
    address: AddressSource | None = None
    probes: Mapping[Hop, Probe] | None = None


class Daemon(Struct, frozen=True):
    """A hub whose API answers."""

    hub: Hub
    config: Config
    https_port: int
    http_port: int
    fingerprint: str
    sync: CloudSync | None
    connectivity: Connectivity
    enrolment: Enrolment

    @property
    def services(self) -> Services:
        """The hub's services."""
        return self.hub.services


class _Room(Struct):
    """What was last seen of the disk; new sales are refused while it is short."""

    guard: SpaceGuard
    for_sales: bool = True

    def look(self) -> None:
        """Measure now. Touches the disk: not in the event loop."""
        self.for_sales = not self.guard.check().refuses_sales


class _Doors(Struct):
    """The listeners, in the order of their starts."""

    servers: list[DoorServer] = field(default_factory=list)

    def add(self, supervisor: Supervisor, door: Door) -> DoorServer:
        server = DoorServer(door)
        self.servers.append(server)

        async def ask_to_stop() -> None:
            server.stop()

        supervisor.start(f"server.{door.name}", server.run, ESSENTIAL, ask_to_stop=ask_to_stop)
        return server

    def close(self) -> None:
        for server in self.servers:
            server.close()


def _machine_id() -> str:
    """The installation's id; empty where there is none."""
    try:
        return MACHINE_ID_FILE.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _disk_id(folder: Path) -> str:
    """The file system's own id (on ext4 it follows from its UUID); empty where it has none."""
    number = os.statvfs(folder).f_fsid
    return f"{number:x}" if number else ""


async def _enrol(enrolment: Enrolment, sync: CloudSync, cloud: str, code: str, caller: Caller) -> tuple[str, str]:
    bound = await enrolment.enrol(cloud, code, caller)
    sync.wake()
    return bound.tenant, bound.store


def own_addresses(configured: Sequence[str]) -> list[str]:
    """Addresses at which this machine listens: those configured, or, for 0.0.0.0, all IPv4 ones it has now."""
    if "0.0.0.0" not in configured:
        return list(configured)
    found = {str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4}
    return sorted(found)


def _prepare_files(config: Config, runtime: Runtime) -> tuple[KeySigner, CertificateStore, str]:
    for folder in (config.paths.data, config.paths.keys, config.paths.archive, config.paths.backups):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config.paths.runtime.mkdir(parents=True, exist_ok=True, mode=0o750)
    signer = load_or_create_key(config.paths.keys / HUB_KEY, runtime.ids.token_bytes)
    certificates = CertificateStore(
        config.paths.keys,
        signer.hub_id.hex(),
        lambda: datetime.fromtimestamp(runtime.clock.now_us() / 1_000_000, UTC),
        runtime.clock.trusted,
    )
    return signer, certificates, certificates.fingerprint()


def configured_options(terminals: Iterable[TerminalConfig], device: Device) -> DriverOptions:
    """What the configuration says of this device, or of the one whose place it took, and the journal does not keep."""
    named = {device.address, device.settings_of}
    found = next((one for one in terminals if one.address in named), None)
    if found is None:
        return {}
    pairs = (option.partition("=") for option in found.options)
    return {PASSWORD: found.password} | {key.strip(): value.strip() for key, _, value in pairs}


class PluggedLater(Struct, frozen=True):
    """`PluggedSource`, whose libraries are loaded beside the loop: no answer needs them."""

    clock: Clock
    kind: EndpointKind = EndpointKind.USB

    def present(self) -> Sequence[Endpoint]:
        """Nothing is known before it is listed."""
        return ()

    async def run(self, sink: EndpointSink) -> None:
        """Look until cancelled."""
        try:
            await load("drivers.discovery.usb")
        except ImportError as error:  # a system without libudev: the hub trades, and does not see what is plugged in
            log.warning("discovery.no_udev", extra={"error": type(error).__name__})
            await asyncio.Event().wait()
        from drivers.discovery.usb import PluggedSource

        await PluggedSource(self.clock).run(sink)


class _Mdns(Struct, frozen=True):
    """`MdnsSource`, whose library is loaded beside the loop: no answer needs it."""

    clock: Clock
    services: Sequence[str]
    interfaces: Callable[[], Sequence[str]]
    kind: EndpointKind = EndpointKind.MDNS

    def present(self) -> Sequence[Endpoint]:
        """Nothing is known before it is heard."""
        return ()

    async def run(self, sink: EndpointSink) -> None:
        """Look until cancelled."""
        await load("drivers.discovery.mdns")
        from drivers.discovery.mdns import MdnsSource

        await MdnsSource(self.clock, self.services, self.interfaces).run(sink)


def _sources(config: Config, runtime: Runtime, drivers: Registry) -> Sequence[EndpointSource]:
    """Where devices are looked for: what the configuration names, and plugs and network unless it says no."""
    fixed = [configured(one.address, one.driver, one.name, one.device_class) for one in config.terminals]
    sources: list[EndpointSource] = [ConfiguredSource(fixed)]
    if config.discovery.usb:
        sources.append(PluggedLater(runtime.clock))
    if config.discovery.mdns:
        interfaces = config.discovery.interfaces or config.api.addresses
        sources.append(_Mdns(runtime.clock, drivers.services(), partial(own_addresses, interfaces)))
    return sources


@asynccontextmanager
async def running_hub(
    config: Config,
    runtime: Runtime,
    manager: ServiceManager | None = None,
    outside: Outside | None = None,
    started: Callable[[Daemon], Awaitable[None]] | None = None,
) -> AsyncIterator[Daemon]:
    """A hub whose API answers; stopped in order on leaving.

    `started` runs before READY is told to the service manager: the demo sets its shop up there.
    """
    manager, outside = manager or ServiceManager(), outside or Outside()
    signer, certificates, fingerprint = await asyncio.to_thread(_prepare_files, config, runtime)
    room = _Room(SpaceGuard(config.paths.data))
    await asyncio.to_thread(room.look)
    drivers = await asyncio.to_thread(partial(registry.load, at_once=False))
    world = World(
        database=config.paths.database,
        runtime=runtime,
        signer=signer,
        open_transport=open_transport,
        accept_lines=accept_tcp,
        registry=drivers,
        pins=ThreadedScrypt(runtime.ids.token_bytes),
        fingerprint=fingerprint,
        room_for_sales=lambda: room.for_sales,
        archives=config.paths.archive,
        driver_options=partial(configured_options, config.terminals),
        device_key=await asyncio.to_thread(
            load_or_create_secret, config.paths.keys / DEVICE_KEY, runtime.ids.token_bytes
        ),
        sources=await asyncio.to_thread(_sources, config, runtime, drivers),
        trace_limits=TraceLimits(config.devices.trace_kib * 1024, config.devices.trace_minutes * 60.0),
        machine_id=await asyncio.to_thread(_machine_id),
        disk_id=await asyncio.to_thread(_disk_id, config.paths.data),
    )
    async with trading_hub(world) as hub:
        name = await asyncio.to_thread(certificates.name)
        parts = _Parts(config, runtime, hub, signer, certificates, fingerprint, name, room, outside)
        daemon = await parts.assemble()
        if started is not None:
            await started(daemon)
        hub.supervisor.start(
            "watchdog",
            partial(feed_watchdog, manager, runtime.clock, partial(hub.services.db.read, "watchdog", _round_trip)),
            RestartPolicy(essential=True),
        )
        log.info("hub.started", extra={"port": daemon.https_port})
        manager.ready(f"Trading on port {daemon.https_port}")
        try:
            yield daemon
        finally:
            manager.stopping("Finishing what terminals are doing")
            hub.services.feed.stop()
            began = runtime.clock.monotonic()
            await hub.services.payments.settled(DIALOGUES_FINISH_S)
            log.info("hub.dialogues_ended", extra={"lasted_s": round(runtime.clock.monotonic() - began, 1)})
            parts.doors.close()


def _has_problem(sync: CloudSync | None, code: str) -> bool:
    return sync is not None and code in dict(sync.status.problems)


def _nobody() -> None:
    """There is no cloud to be tried again."""


def _round_trip(connection: Any) -> object:
    return connection.execute  # the hop to the database thread and back is the proof


class _Parts(Struct):
    """Builds what surrounds a trading hub."""

    config: Config
    runtime: Runtime
    hub: Hub
    signer: KeySigner
    certificates: CertificateStore
    fingerprint: str
    name: str
    """The `.local` name that the CA vouches for."""
    room: _Room
    outside: Outside
    doors: _Doors = field(default_factory=_Doors)
    lamp: App | None = None
    lamps: set[str] = field(default_factory=set)
    """Addresses at which the lamp is shown."""
    connectivity: Connectivity | None = None
    https_port: int = 0
    """Known before the first hello to the cloud, which names it."""

    async def assemble(self) -> Daemon:
        """Open the doors, then start what looks at the world: a till that waits after a power cut comes first."""
        config, hub, services = self.config, self.hub, self.hub.services
        https = tcp_sockets(config.api.addresses, config.api.https_port)
        self.https_port = int(https[0].getsockname()[1])
        enrolment = Enrolment(services.db, self.runtime, self.signer, config.cloud, config.paths.keys)
        sync, backups = self._sync(enrolment), self._backups()
        probes = self.outside.probes or network_probes(self.runtime, config.probes)
        connectivity = self.connectivity = Connectivity(
            self.runtime,
            services.outages,
            probes,
            sync or NoCloud(),
            Cadence(probe_s=config.probes.interval_s),
            sync.wake if sync else _nobody,
        )
        https_port, http_port = await self._open_doors(https, sync, enrolment, backups)
        if sync is not None:
            hub.supervisor.start("sync", sync.run, FOREVER)
            files = enrol_file.places(config.paths.data, config.file)
            token = TokenEnrolment(enrolment, services.problems, self.runtime, files, sync.wake)
            hub.supervisor.start("enrolment", token.run, FOREVER)
        hub.supervisor.start("connectivity", connectivity.run, FOREVER)
        hub.supervisor.start("space", self._watch_space, FOREVER)
        hub.supervisor.start("addresses", partial(self._watch_addresses, https_port, http_port), FOREVER)
        hub.supervisor.start("clock", self._watch_clock, FOREVER)
        hub.supervisor.start("health", partial(self._watch_health, sync), FOREVER)
        two_starts = partial(_has_problem, sync, "sync.two_starts")
        rivals = Rivals(self.runtime.clock, services.replacement, services.problems, told_by_cloud=two_starts)
        hub.supervisor.start("rivals", rivals.run, FOREVER)
        if config.discovery.mdns:
            hub.supervisor.start("announce", partial(self._announce, https_port, rivals), FOREVER)
        hub.supervisor.start("problems", services.overview.watch, FOREVER)
        hub.supervisor.start("backups", backups.run, FOREVER)
        to_cloud = CloudBackups(self.runtime, self.signer, enrolment.cloud)
        if config.cloud.enabled:
            hub.supervisor.start("backups.cloud", partial(backups.send_for_ever, to_cloud.send), FOREVER)
        hub.supervisor.start("archive", backups.archive_for_ever, FOREVER)
        hub.supervisor.start("documents", services.documents.run, FOREVER)
        await self._open_spools()
        hub.supervisor.start("warm_up", self._warm_up, ONCE)
        return Daemon(hub, config, https_port, http_port, self.fingerprint, sync, connectivity, enrolment)

    async def _open_spools(self) -> None:
        """The ports of printers that tills print to as to a network printer; loaded only where there are some."""
        if not self.config.spools:
            return
        await load("local_api.spool.serve")
        from local_api.spool.serve import spool_workers

        for worker in spool_workers(self.config, self.hub.services):
            self.hub.supervisor.start(worker.name, worker.run, FOREVER, ask_to_stop=worker.ask_to_stop)

    async def _warm_up(self) -> None:
        """What the first WebSocket and the first page would wait for, once the tills that waited have their answer."""
        await self.runtime.clock.sleep(WARM_UP_AFTER_S)
        await load("uvicorn.protocols.websockets.wsproto_impl")
        await templates()

    async def _announce(self, https_port: int, rivals: Rivals) -> None:
        """The hub's own record, with line and epoch as they are at each look; who else announces its id is a rival."""
        await load("local_api.announce")
        from local_api.announce import AnnouncedPrinter, Announcement, Announcer

        def printers() -> tuple[AnnouncedPrinter, ...]:
            return ()

        if self.config.spools:
            await load("local_api.spool.serve")
            from local_api.spool.serve import announced_printers

            printers = partial(announced_printers, self.config, self.hub.services)

        async def present() -> Announcement:
            line, epoch = await self.hub.services.replacement.line_and_epoch()
            return Announcement(
                self.signer.hub_id.hex(),
                self.fingerprint,
                line.hex(),
                epoch,
                https_port,
                tuple(one for one in own_addresses(self.config.api.addresses) if ":" not in one),
                self.name,
                printers(),
            )

        await Announcer(self.runtime.clock, present, rivals.heard, self.config.discovery.interfaces).run()

    def _sync(self, enrolment: Enrolment) -> CloudSync | None:
        if self.outside.link is not None:
            address = self.outside.address or enrolment.address
            return self._conversation(self.outside.link, address, None)
        if not self.config.cloud.enabled:
            return None
        configured = broker_place(self.config.cloud.address) if self.config.cloud.address else None
        link = EnrolledLink(enrolment, configured)
        archive = FileArchive(self.config.paths.archive)
        return self._conversation(link, enrolment.address, archive)

    def _conversation(self, link: CloudLink, address: AddressSource, archive: FileArchive | None) -> CloudSync:
        clock = self.runtime.clock
        return CloudSync(
            self.hub.services.db,
            self.runtime,
            self.signer,
            link,
            address,
            archive=archive,
            reach=self._reach,
            witness=clock.trust if isinstance(clock, SystemClock) else None,
        )

    def _reach(self) -> dict[str, list[str]]:
        """Where tills in browsers find this hub and what they may trust there: told in every hello to the cloud."""
        return {
            "names": [self.name],
            "addresses": [f"https://{one}:{self.https_port}" for one in own_addresses(self.config.api.addresses)],
            "fingerprints": [self.fingerprint],
        }

    def _backups(self) -> BackupDesk:
        paths, services = self.config.paths, self.hub.services
        places = Places(paths.backups, [Path(target) for target in self.config.backup.targets], paths.archive)
        extra = {f"keys/{name}": paths.keys / name for name in (*CA_FILES, DEVICE_KEY)}
        contents = Contents(paths.archive, extra, frozenset({paths.keys / HUB_KEY}))
        interval_s = self.config.backup.interval_h * 3600.0
        return BackupDesk(services.db, self.runtime, services.problems, places, contents, interval_s)

    async def _open_doors(
        self, https: Sequence[socket.socket], sync: CloudSync | None, enrolment: Enrolment, backups: BackupDesk
    ) -> tuple[int, int]:
        config, services, supervisor = self.config.api, self.hub.services, self.hub.supervisor
        addresses = own_addresses(config.addresses)
        https_port = self.https_port
        loopback = tcp_sockets([LOOPBACK], config.http_port)
        http_port = int(loopback[0].getsockname()[1])
        ca_pem = await asyncio.to_thread(self.certificates.ca_file.read_bytes)
        facts = HubFacts(
            hub_id=self.signer.hub_id.hex(),
            version=hubd.__version__,
            fingerprint=self.fingerprint,
            addresses=lambda: [f"{address}:{https_port}" for address in own_addresses(config.addresses)],
            names=frozenset({self.name}),
            sync=(lambda: asdict(sync.status)) if sync else None,
            ca_pem=ca_pem,
            enrol=partial(_enrol, enrolment, sync) if sync else None,
            belongs_to=enrolment.belongs_to if sync else None,
            retry_sync=sync.retry if sync else None,
            backups=backups,
        )
        api = create_api(services, facts, make_pages(services, facts, self._measure_now, enrolment.statement_address))
        tls = await asyncio.to_thread(self.certificates.context, addresses)
        self.doors.add(supervisor, Door("https", api.app(Listener.TLS), https, tls))
        self.doors.add(supervisor, Door("loopback", api.app(Listener.LOOPBACK), loopback))
        self.lamp = make_lamp(services, facts)
        self._open_lamps(addresses, http_port)
        operators = unix_socket(self.config.paths.socket)
        self.doors.add(supervisor, Door("socket", api.app(Listener.SOCKET), [operators]))
        return https_port, http_port

    def _open_lamps(self, addresses: Sequence[str], port: int) -> None:
        """Show the lamp where the LAN reaches this machine now; one that is open stays, also while its address is gone.

        Raises ConfigError when an address is taken, or gone again.
        """
        assert self.lamp is not None, "made with the first doors"
        for address in addresses:
            if address != LOOPBACK and address not in self.lamps:
                door = Door(f"lamp.{address}", self.lamp, tcp_sockets([address], port))
                self.doors.add(self.hub.supervisor, door)
                self.lamps.add(address)

    def _open_lamps_that_can_be(self, addresses: Sequence[str], port: int, dark: Set[str]) -> set[str]:
        """Try each address alone and return those without a lamp; of those in `dark` the log has been told."""
        failed = set[str]()
        for address in addresses:
            try:
                self._open_lamps([address], port)
            except ConfigError as exc:
                failed.add(address)
                if address not in dark:
                    log.warning("lamp.not_opened", extra={"code": exc.code, "address": address, "port": port})
        return failed

    def _measure_now(self) -> None:
        if self.connectivity is not None:
            self.connectivity.measure_now()

    async def _watch_health(self, sync: CloudSync | None) -> None:
        """What the parts say of themselves becomes problems that people see."""
        problems, waiting = self.hub.services.problems, set[str]()
        while True:
            for code in SYNC_PROBLEMS:
                problems.set(_has_problem(sync, code), code)
            for worker in self.hub.supervisor:
                failing = worker.state in {WorkerState.WAITING, WorkerState.GAVE_UP} and worker.restarts > 1
                problems.set(failing, "worker.failing", worker.name, name=worker.name)
            new, letters = await self.hub.services.db.read(
                "health", lambda c: (devices.never_activated(c), mirror.dead_letter_count(c))
            )
            problems.set(letters > 0, "sync.dead_letters", count=letters)
            for device_id in waiting - {device.id for device in new}:
                problems.clear("device.not_activated", device_id)
            waiting = {device.id for device in new}
            for device in new:
                problems.raise_("device.not_activated", device.id, name=device.name)
            days = await asyncio.to_thread(self.certificates.days_left)
            problems.set(days < CERTIFICATE_WARNS_DAYS, "certificate.expires", days=days)
            await self.runtime.clock.sleep(HEALTH_CHECK_S)

    async def _watch_clock(self) -> None:
        """Learn of a witness, and note once that the clock is right from here on (nothing is rewritten)."""
        clock, db = self.runtime.clock, self.hub.services.db
        before = clock.trusted()
        while True:
            if isinstance(clock, SystemClock):
                await asyncio.to_thread(clock.look)
            if clock.trusted() and not before:
                await db.write("clock.corrected", note_clock_corrected)
                before = True
            await self.runtime.clock.sleep(CLOCK_CHECK_S)

    async def _watch_space(self) -> None:
        while True:
            await asyncio.to_thread(self.room.look)
            self.hub.services.problems.set(not self.room.for_sales, "store.low_space")
            await self.runtime.clock.sleep(SPACE_CHECK_S)

    async def _watch_addresses(self, port: int, http_port: int) -> None:
        known, dark = own_addresses(self.config.api.addresses), set[str]()
        while True:
            await self.runtime.clock.sleep(ADDRESS_CHECK_S)
            now = own_addresses(self.config.api.addresses)
            if await asyncio.to_thread(self.certificates.renew, now):
                log.info("certificate.renewed", extra={"port": port})
                tls = self.doors.servers[0].door.tls
                assert tls is not None, "the first door is HTTPS"
                # The context that is in use takes the new chain for the handshakes to come.
                await asyncio.to_thread(self.certificates.load_into, tls)
            if now != known:
                log.info("addresses.changed", extra={"count": len(now)})
                known = now
            dark = self._open_lamps_that_can_be(now, http_port, dark)
