"""A shop for tests: the real trading hub over a real database, with ZVT simulators on in-memory lines."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random as SeededRandom  # noqa: TID251 - the seed itself, made in one place

from drivers.kit.memory_line import memory_pipe
from drivers.registry import Registry, load
from drivers.runner import accept_none
from drivers.sim.program import Engine
from drivers.sim.zvt import SimulatorOptions, ZvtSimulator
from hubd.app import Hub, World, trading_hub
from hubd.config_sections import TerminalConfig
from hubd.daemon import configured_options
from hubd.discovery_ports import EndpointSource
from hubd.identity import KeySigner
from hubd.model.device import DeviceKind
from hubd.model.entry import Draft
from hubd.model.money import Money
from hubd.model.payment import CustodyEvent, Method, Payment, PaymentState, Tender, contradicts
from hubd.model.permissions import ADMINISTRATOR_PERMISSIONS, TILL_PERMISSIONS
from hubd.model.problem import Problem
from hubd.ports import ByteStream, OpenTransport
from hubd.runtime import Clock, Runtime, SystemClock, SystemIds, read_boot_id
from hubd.services.access import EVERYWHERE, Caller
from hubd.services.bundle import Services
from hubd.services.device_rules import NewDevice
from hubd.services.lines import LineReason
from hubd.services.pins import ThreadedScrypt
from hubd.services.taking import Taken, TakePayment, settle_order
from hubd.store import journal, payments, people
from hubd.store.db import AioSqliteThread, OpenDbThread
from hubd.store.tx import Tx

LOCATION = "01890000-0000-7000-8000-000000000001"
TILL_1 = "01890000-0000-7000-8000-0000000000a1"
TILL_2 = "01890000-0000-7000-8000-0000000000a2"
WAIT_S = 30.0
"""The longest that anything may take; a printer that does not answer costs five seconds of it on a quiet machine."""
BOOT = read_boot_id()
DRIVERS = load()
"""Read once, outside every event loop: both come from files."""


def till(device: str = TILL_1, *, attempt: int = 1, hub_line: str = "", language: str = "en") -> Caller:
    """A paired till with nobody signed in."""
    return Caller(device, None, LOCATION, TILL_PERMISSIONS, language, attempt, hub_line)


MANAGER = Caller(
    "",
    "01890000-0000-7000-8000-0000000000b1",
    LOCATION,
    ADMINISTRATOR_PERMISSIONS,
    "en",
    elsewhere=((EVERYWHERE, ADMINISTRATOR_PERMISSIONS),),
)
"""A person with every role, everywhere."""


@dataclass
class Terminals:
    """The terminals on the counter, by address; they outlive a restart of the hub."""

    runtime: Runtime
    simulators: dict[str, ZvtSimulator] = field(default_factory=dict)
    others: dict[str, Engine] = field(default_factory=dict)
    """Printers, scales and the like, by address."""
    unplugged: set[str] = field(default_factory=set)

    def add(self, url: str, options: SimulatorOptions | None = None) -> ZvtSimulator:
        """Put a terminal on the counter."""
        self.simulators[url] = ZvtSimulator(self.runtime, options)
        return self.simulators[url]


@dataclass
class Shop:
    """A hub that trades, and what tests ask of it."""

    hub: Hub
    counter: Terminals

    @property
    def services(self) -> Services:
        """The hub's services."""
        return self.hub.services

    def request(
        self,
        amount: int,
        *,
        payment_id: str = "",
        tender: Tender = Tender.CARD,
        method: Method | None = None,
        order: str | None = None,
        override: str | None = None,
        terminal: str | None = None,
    ) -> TakePayment:
        """A payment request in euro cents."""
        way = method or (Method.CASH if tender is Tender.CASH else Method.CARD)
        digest = hashlib.sha256(f"{amount}:{tender}:{way}:{order}".encode()).digest()
        return TakePayment(
            payment_id or self.services.runtime.ids.new_id(),
            digest,
            Money(amount, "EUR"),
            tender=tender,
            method=way,
            order_id=order,
            override_reason=override,
            terminal=terminal,
        )

    async def take(self, amount: int, caller: Caller | None = None, **more: object) -> Taken:
        """Ask for a payment."""
        return await self.services.payments.take(self.request(amount, **more), caller or till())  # type: ignore[arg-type]  # test keywords

    async def until(self, payment_id: str, *states: str) -> Payment:
        """The payment once it is in one of these states, and its terminal is free again if that ends its dialogue.

        A reader sees the verdict as soon as it is on disk, and that may be before the hub itself has gone on.
        """
        clock = self.services.runtime.clock
        async with clock.timeout(WAIT_S):
            payment = await self.services.payments.get(payment_id)
            while payment.state not in states:
                payment = await self.services.payments.wait_for_change(payment_id, payment.last_seq, WAIT_S)
            attached = self.services.terminals.get(payment.terminal or "")
            running = payment.state in {PaymentState.REQUESTED, PaymentState.IN_PROGRESS}
            while attached is not None and not running and attached.payment_id == payment_id:
                await clock.sleep(0.001)
            return payment

    async def verdict(self, payment_id: str, event: CustodyEvent) -> Payment:
        """What the cloud's word about a stored payment becomes (`hubd.services.cloud_entries`)."""

        def work(tx: Tx) -> Payment:
            payment = payments.get(tx.connection, payment_id)
            assert payment is not None
            against = payment.custody is not None and contradicts(payment.custody, event)
            body = payment.entry_body(reason="") if against else payment.entry_body(custody=event.value, reason="")
            journal.append(tx, Draft("payment.conflicted" if against else f"payment.{event}", payment_id, "hub", body))
            if payment.order_id is not None:
                settle_order(tx, payment.order_id, "hub")
            after = payments.get(tx.connection, payment_id)
            assert after is not None
            return after

        return await self.services.db.write("verdict", work)

    def problem(self, code: str) -> Problem | None:
        """The problem of this code that is raised now, about whatever it is."""
        return next((one for one in self.services.problems.present() if one.code == code), None)

    async def noted(self, code: str) -> Problem | None:
        """The same after a look at the money, which the hub takes every two seconds."""
        self.services.overview.note(await self.services.overview.shop())
        return self.problem(code)

    async def add_terminal(self, url: str, role: str = "") -> str:
        """Claim and activate a terminal that stands on the counter, and wait until it is ready."""
        device_id = self.services.runtime.ids.new_id()
        new = NewDevice(url, "zvt", "Terminal", "terminal", LOCATION, role)
        await self.services.devices.claim(device_id, new, "hub")
        await self.services.devices.activate(device_id, MANAGER)
        await self.ready(device_id)
        return device_id

    async def add_peripheral(self, url: str, driver: str, kind: DeviceKind, role: str = "") -> str:
        """Claim and use a printer, a scale or a scanner that stands on the counter, and wait until it is ready."""
        device_id = self.services.runtime.ids.new_id()
        new = NewDevice(url, driver, f"The {kind}", "", LOCATION, role, kind=kind)
        await self.services.devices.claim(device_id, new, "hub")
        await self.services.devices.activate(device_id, MANAGER)
        async with self.services.runtime.clock.timeout(WAIT_S):
            while (found := self.services.peripherals.get(device_id)) is None or found.face.status.state != "ready":
                await self.services.runtime.clock.sleep(0.005)
        return device_id

    async def ready(self, device_id: str) -> None:
        """Return once the terminal answers."""
        async with self.services.runtime.clock.timeout(WAIT_S):
            while (status := self.services.terminals.status(device_id)) is None or status.state != "ready":
                await self.services.runtime.clock.sleep(0.005)

    async def lost(self, device_id: str) -> None:
        """Return once the hub has noticed that the terminal does not answer any more."""
        async with self.services.runtime.clock.timeout(WAIT_S):
            while (status := self.services.terminals.status(device_id)) is not None and status.state == "ready":
                await self.services.runtime.clock.sleep(0.005)


def shop_runtime(process: bytes = b"1-process", clock: Clock | None = None) -> Runtime:
    """The real world, with chance from a seed."""
    return Runtime(clock or SystemClock(), SystemIds(), SeededRandom(7), BOOT, process)


@asynccontextmanager
async def shop(
    folder: Path,
    counter: Terminals | None = None,
    runtime: Runtime | None = None,
    reason: LineReason | None = None,
    fingerprint: str = "00" * 32,
    configured: Sequence[TerminalConfig] = (),
    sources: Sequence[EndpointSource] = (),
    registry: Registry = DRIVERS,
    transport: OpenTransport | None = None,
    open_thread: OpenDbThread = AioSqliteThread.open,
    archives: Path | None = None,
    device_key: bytes = bytes(range(32)),
) -> AsyncIterator[Shop]:
    """Open the shop on the database in `folder`; the second time it goes on with what it has."""
    runtime = runtime or shop_runtime()
    counter = counter or Terminals(runtime)

    async def open_transport(url: str) -> ByteStream:
        simulator: Engine | None = counter.simulators.get(url) or counter.others.get(url)
        if simulator is None or url in counter.unplugged:
            raise ConnectionRefusedError(url)
        ours, theirs = memory_pipe()
        wires.create_task(simulator.serve(theirs, serial=url.startswith("serial:")), name=f"simulator:{url}")
        return ours

    world = World(
        database=folder / "hub.db",
        runtime=runtime,
        signer=KeySigner(bytes(range(32))),
        open_transport=transport or open_transport,
        accept_lines=accept_none,
        registry=registry,
        sources=sources,
        pins=ThreadedScrypt(runtime.ids.token_bytes),
        fingerprint=fingerprint,
        line_reason=reason,
        driver_options=partial(configured_options, configured),
        device_key=device_key,
        open_thread=open_thread,
        archives=archives,
    )
    async with asyncio.TaskGroup() as wires, trading_hub(world) as hub:
        await hub.services.db.write("location", _set_location)
        yield Shop(hub, counter)


def _set_location(tx: Tx) -> None:
    if people.location(tx.connection, LOCATION) is None:
        body = {"name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        journal.append(tx, Draft("location.set", LOCATION, "hub", body))


__all__ = ["LOCATION", "MANAGER", "TILL_1", "TILL_2", "Shop", "Terminals", "shop", "shop_runtime", "till"]
