"""The store's devices: what is known of them, how the terminals are now, and what people may do with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from msgspec import Struct

from hubd.errors import DeviceError, HubError, InvalidValueError, NotFoundError, Retry, StoreError
from hubd.model.device import Capability, DeviceKind, DeviceState
from hubd.model.entry import Draft, Json
from hubd.model.money import Money
from hubd.model.payment import CUSTODY_OPEN, Custody, Payment
from hubd.model.permissions import Permission
from hubd.model.statement import TERMINAL_CLOSED
from hubd.model.terminal_life import SOFT_CLASS, LifeStep
from hubd.ports import Diagnosis, Modem, Printer, Progress, Scale, Scanner, Terminal, TerminalStatus, TraceLine
from hubd.services.access import Caller
from hubd.services.device_rules import (
    NewDevice,
    claim_body,
    end_of_day_body,
    need,
    need_for,
    paying_error,
    pending_on,
    refuse_known_by_plug,
    refuse_place_of_terminal,
    refuse_till_elsewhere,
    refuse_while_pending,
    unheard_error,
    unknown_device,
    with_currency,
)
from hubd.services.end_of_day import ClosedDay, note_comparison
from hubd.services.outcomes import MakeDocument
from hubd.services.peripherals import Peripheral, Peripherals
from hubd.services.terminal_steps import note_active, note_name, note_synced, steps_to_named
from hubd.services.terminals import Attached, Terminals
from hubd.store import devices, journal, outages, payments, people, terminal_life
from hubd.store.db import Database
from hubd.store.devices import Device
from hubd.store.tx import Connection, Tx

log = logging.getLogger(__name__)

NAME_MAX = 60
REASON_MIN, REASON_MAX = 3, 500
"""Characters of a reason that a person gives."""


class RunningDriver(Protocol):
    """A driver on its endpoint: run for ever, and the device that it offers."""

    @property
    def face(self) -> Terminal | Printer | Scale | Scanner | Modem:
        """What services talk to, of the kind that the driver's manifest names."""
        ...

    async def run(self) -> None:
        """Keep the device alive until cancelled."""
        ...

    def expect(self, number: str) -> None:
        """The number by which it named itself before; another one at another address is another device."""
        ...

    def follow(self, url: str) -> None:
        """It was announced at another address: look there when it does not answer at its own."""
        ...

    async def traced(self, after: int, wait_s: float) -> list[TraceLine]:
        """What went over its line behind this number, oldest first and without card data; waits for something."""
        ...

    async def look(self) -> str:
        """Ask for a sign of life now, without moving money; return what it told of its software by that, or "".

        Raises DeviceError when none comes or it is busy.
        """
        ...


class Workers(Protocol):
    """Starts and stops the tasks in which drivers run; one that fails is restarted and hurts nobody else."""

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run` under this name from now on."""
        ...

    async def stop(self, name: str) -> None:
        """Return once the task of this name has ended."""
        ...


MakeDriver = Callable[[Device, str], Awaitable[RunningDriver]]
"""(device, currency of its location or "") -> its driver, whose module may have to be imported first.

Raises DeviceError when no driver of that name can be used, with the reason."""


class DeviceView(Struct, frozen=True):
    """A device with what it holds and how it is. `status` is None for devices that have no driver here."""

    device: Device
    status: TerminalStatus | None
    held_count: int
    held: tuple[Money, ...]
    payment_id: str
    progress: Progress | None
    unheard: bool = False
    """Whether it took payments in an outage that is over and has not answered since."""
    capabilities: frozenset[Capability] = frozenset()
    """What it can do, while its driver runs."""


class DeviceDesk:
    """Lists, claims, activates, assigns and operates devices."""

    def __init__(
        self,
        db: Database,
        terminals: Terminals,
        peripherals: Peripherals,
        make_driver: MakeDriver,
        workers: Workers,
        make_document: MakeDocument,
    ) -> None:
        self._db = db
        self._make_document = make_document
        self._terminals, self._peripherals = terminals, peripherals
        self._make_driver = make_driver
        self._workers = workers
        self._load_errors: dict[str, HubError] = {}
        self._running: dict[str, RunningDriver] = {}
        self._attaching = asyncio.Lock()

    async def start(self) -> None:
        """Run the drivers of all active devices. Called once, before payments are taken."""
        found, numbers, places, lives = await self._db.read(
            "device.start",
            lambda c: (
                devices.all_devices(c),
                payments.terminal_numbers(c),
                people.locations(c),
                terminal_life.all_lives(c),
            ),
        )
        currencies = {place.id: place.currency for place in places}
        for device in found:
            if device.runs:
                in_use = device.leaving or device.id not in lives or lives[device.id].step is LifeStep.ACTIVE
                number = numbers.get(device.id, "")
                await self._attach(device, currencies.get(device.location, ""), number, in_use=in_use)

    async def all(self) -> list[DeviceView]:
        """Every device that was not removed; one that holds money cannot be removed."""
        found, stored, unheard = await self._db.read(
            "device.all",
            lambda c: (devices.all_devices(c), payments.in_terminals(c), outages.unheard(c)),
        )
        silent = {one.terminal for one in unheard if one.ended}
        return [self._view(device, stored, device.id in silent) for device in found]

    async def get(self, device_id: str) -> DeviceView:
        """One device. Raises `device_unknown`."""
        for view in await self.all():
            if view.device.id == device_id:
                return view
        raise unknown_device()

    async def known(self, device_id: str) -> Device:
        """A device as the journal knows it, without how it is now. Raises `device_unknown`."""
        found = await self._db.read("device.known", lambda c: devices.get(c, device_id))
        if found is None or found.removed:
            raise unknown_device()
        return found

    async def claim(self, device_id: str, new: NewDevice, actor: str) -> Device:
        """Note a proposed device; a terminal takes no payments before a person activates it. A known one: no change.

        Known is what has the same driver and identity, or, when only an address is known of it, the same address.
        """
        if not 1 <= len(new.name) <= NAME_MAX:
            raise InvalidValueError("invalid_name", f"A name has 1 to {NAME_MAX} characters.", remedy="Shorten it.")

        refuse_place_of_terminal(new.kind, new.role)

        def work(tx: Tx) -> Device:
            for known in devices.all_devices(tx.connection, new.kind):
                same = known.identity == new.identity if new.identity else known.address == new.address
                same = same and known.driver == new.driver
                if known.id == device_id or same:
                    return known
            if people.location(tx.connection, new.location) is None:
                raise NotFoundError("location_unknown", "The location is not known.", remedy="Read the locations.")
            refuse_till_elsewhere(tx, new.role, new.location)
            journal.append(tx, Draft("device.claimed", device_id, actor, claim_body(new)))
            return need(tx, device_id)

        return await self._db.write("device.claim", work)

    async def activate(self, device_id: str, caller: Caller) -> DeviceView:
        """Put a device to use; a person stands behind it who may activate (D02).

        A terminal takes every step that it has not taken yet, each journalled; the last two, and with them payments,
        once it answers (`sync`). Raises `name_in_use` when its name has gone to another one meanwhile.
        """

        def work(tx: Tx) -> None:
            device = need_for(tx, device_id, caller, Permission.TERMINALS_ACTIVATE)
            if not device.driver and device.device_class != SOFT_CLASS:
                raise DeviceError(
                    "device.not_a_terminal",
                    "Only devices that the hub drives are activated.",
                    remedy="Pair tills instead.",
                )
            if device.kind is DeviceKind.TERMINAL:
                steps_to_named(tx, device, caller)
            elif not device.active:
                journal.append(tx, Draft("device.activated", device_id, caller.actor, {"address": device.address}))

        await self._db.write("device.activate", work)
        attached = self._terminals.get(device_id)
        if attached is not None and attached.leaving:  # it was on its way out, and begins anew
            attached.leaving = attached.in_use = False
            self._terminals.changed(device_id)
        await self.attach_named(device_id)
        return await self.get(device_id)

    async def attach_named(self, device_id: str, number: str = "") -> None:
        """Run the driver of a device that is in use, or on its way there; nothing happens if it runs already.

        `number` is the one by which it named itself when its driver ran last.
        """

        def look(connection: Connection) -> tuple[Device | None, str, bool]:
            device = devices.get(connection, device_id)
            place = people.location(connection, device.location) if device else None
            in_use = device is not None and terminal_life.get(connection, device).step is LifeStep.ACTIVE
            return device, place.currency if place else "", in_use

        device, currency, in_use = await self._db.read("device.attach", look)
        if device is None or not (device.active and device.driver):
            return
        if self._terminals.get(device_id) is None and self._peripherals.get(device_id) is None:
            await self._attach(device, currency, number, in_use=in_use or device.kind is not DeviceKind.TERMINAL)

    async def sync(self, device_id: str) -> None:
        """Take the last two steps of a terminal that answers: each is on disk before the next (D01).

        Nothing happens to one that takes payments already or has been taken out of use meanwhile.
        """
        attached = self._terminals.get(device_id)
        status = attached.terminal.status if attached else None
        if attached is None or status is None or attached.in_use or status.state is not DeviceState.READY:
            return
        try:
            await self._db.write("device.synced", lambda tx: note_synced(tx, device_id, status))
            ready = await self._db.write("device.activated", lambda tx: note_active(tx, device_id))
        except StoreError as exc:
            # Its next change of state tries again; until then it takes no payments.
            log.warning("device.sync_failed", extra={"device_id": device_id, "code": exc.code})
            return
        if ready:
            attached.in_use = True
            self._terminals.changed(device_id)

    async def deactivate(self, device_id: str, caller: Caller, reason: str = "", *, force: bool = False) -> DeviceView:
        """Take a terminal out of use. Raises `pending_offline_payments` while it holds money or works on a payment.

        With `force` and a reason one that holds stored payments is let go (D05): they stay held and are shown with
        the device until each has a verdict or a person's decision. What it works on now is waited for all the same.

        One that was used in an outage and has not answered since may hold what nobody knows of: `terminal_unheard`,
        unless the person gives a reason. The statements of those outages then no longer wait for it.
        """
        said = reason.strip()
        if said and not REASON_MIN <= len(said) <= REASON_MAX:
            raise InvalidValueError(
                "reason_missing", "A decision needs a reason in words.", remedy=f"Write 3 to {REASON_MAX} characters."
            )
        documents = (self._make_document("manual_reason", said.encode("utf-8")),) if said else ()

        def work(tx: Tx) -> Device:
            device = need_for(tx, device_id, caller)
            pending = pending_on(tx, device_id)
            if force and said:
                pending = [one for one in pending if one.custody not in CUSTODY_OPEN]
            refuse_while_pending(pending)
            unheard = [one for one in outages.unheard(tx.connection) if one.terminal == device_id]
            if unheard and not said:
                raise unheard_error(len(unheard))
            for one in unheard:
                journal.append(tx, Draft(TERMINAL_CLOSED, one.outage, caller.actor, {"terminal": device_id}))
            if device.active or unheard:
                left = len(pending_on(tx, device_id))
                body = {"address": device.address, "closed_unheard": len(unheard), "left_pending": left}
                journal.append(tx, Draft("device.deactivated", device_id, caller.actor, body, documents=documents))
            return need(tx, device_id)

        await self._db.write("device.deactivate", work)
        await self.stop(device_id)
        return await self.get(device_id)

    async def stop(self, device_id: str) -> None:
        """Its driver does not run any more."""
        self._detach(device_id)
        self._running.pop(device_id, None)
        await self._workers.stop(_worker(device_id))

    async def attach_again(self, device_id: str) -> None:
        """Run its driver anew, with what the journal says of it now."""
        await self.stop(device_id)
        await self.attach_named(device_id)

    def refuse_while_paying(self, device_id: str) -> None:
        """Raise `device.busy` while a terminal is taken by a payment, also one whose intent is just being written."""
        attached = self._terminals.get(device_id)
        if attached is not None and attached.payment_id:
            raise paying_error()

    async def renew(self, device_id: str) -> bool:
        """Run a device's driver anew, with its options of now; False, and nothing happens, while it does something.

        That is a payment, a print job, an enquiry: whatever holds it. What waits its turn finds it gone and waits, or
        is told that nothing was sent.
        """
        attached = self._terminals.get(device_id)
        holder = attached or self._peripherals.get(device_id)
        if holder is None:  # it does not run: perhaps it could not, with the options that it had
            await self.attach_named(device_id)
            return True
        if holder.lock.locked() or (attached is not None and attached.payment_id):
            return False
        async with holder.lock:
            if attached is not None and attached.payment_id:
                return False
            status = self._status_of_face(holder)
            await self.stop(device_id)
        if attached is not None and attached.leaving:
            await self.apply(device_id)
        else:
            await self.attach_named(device_id, status.terminal_id)
        return True

    @staticmethod
    def _status_of_face(holder: Attached | Peripheral) -> TerminalStatus:
        return holder.terminal.status if isinstance(holder, Attached) else holder.face.status

    async def assign(self, device_id: str, name: str, role: str, address: str | None, caller: Caller) -> DeviceView:
        """Give a device its name, its role (`till:ID` or none) and, after a move, its new address.

        Raises `pending_offline_payments` for a new address while the terminal holds money or works on a payment:
        another terminal may stand there, and the hub would ask it what became of them.
        """
        if not 1 <= len(name) <= NAME_MAX:
            raise InvalidValueError("invalid_name", f"A name has 1 to {NAME_MAX} characters.", remedy="Shorten it.")

        def work(tx: Tx) -> tuple[Device, Device]:
            device = need_for(tx, device_id, caller)
            refuse_place_of_terminal(device.kind, role)
            refuse_till_elsewhere(tx, role, device.location)
            if address and address != device.address:
                refuse_known_by_plug(device, address)
                refuse_while_pending(pending_on(tx, device_id))
            if device.kind is DeviceKind.TERMINAL and name != device.name:
                note_name(tx, device, name, caller)
            body = {"address": address or device.address, "name": name, "role": role}
            journal.append(tx, Draft("device.assigned", device_id, caller.actor, body))
            return device, need(tx, device_id)

        before, after = await self._db.write("device.assign", work)
        if after.active and after.driver:
            if before.address != after.address:
                self._detach(device_id)
                await self._workers.stop(_worker(device_id))
                await self.attach_named(device_id)
            elif (attached := self._terminals.get(device_id)) is not None:
                attached.name, attached.role = after.name, after.role
                self._terminals.changed(device_id)
            elif (peripheral := self._peripherals.get(device_id)) is not None:
                peripheral.name, peripheral.role = after.name, after.role
                self._peripherals.changed(device_id)
        return await self.get(device_id)

    async def apply(self, device_id: str) -> None:
        """Let the driver of a device run, or not, as the journal says by now, under the name and role that it has."""
        device, currency = await self._db.read("device.apply", lambda c: with_currency(c, device_id))
        if not device.runs:
            self._detach(device_id)
            self._running.pop(device_id, None)
            await self._workers.stop(_worker(device_id))
            return
        await self._attach(device, currency)
        if (attached := self._terminals.get(device_id)) is not None:
            attached.name, attached.role, attached.leaving = device.name, device.role, device.leaving
            self._terminals.changed(device_id)

    async def driven(self) -> tuple[list[Device], frozenset[str]]:
        """The devices that have a driver, and which of them hold money or work on a payment."""
        found, open_ones = await self._db.read(
            "device.driven", lambda c: (devices.all_devices(c), payments.open_ones(c))
        )
        return [device for device in found if device.driver], frozenset(
            payment.terminal for payment in open_ones if payment.terminal
        )

    def running(self, device_id: str) -> RunningDriver | None:
        """The driver of a device, while it runs."""
        return self._running.get(device_id)

    def follow(self, device_id: str, url: str) -> None:
        """A device was announced at another address; its driver looks there when it does not answer at its own."""
        driver = self._running.get(device_id)
        if driver is not None:
            driver.follow(url)

    async def moved(self, device_id: str, address: str) -> None:
        """Note where a terminal's driver has found it: the next start begins there."""

        def work(tx: Tx) -> None:
            device = need(tx, device_id)
            if device.address != address:
                body = {"address": address, "name": device.name, "role": device.role}
                journal.append(tx, Draft("device.assigned", device_id, "hub", body))

        await self._db.write("device.moved", work)

    async def end_of_day(self, device_id: str, caller: Caller) -> ClosedDay:
        """Close a terminal's batch; its totals are noted in the journal beside the hub's own since its last one.

        Raises `pending_offline_payments` while money is in the terminal, or may be: its batch would close without it.
        A `end_of_day.started` that no `end_of_day.closed` follows means that the answer was lost or was a refusal.
        """
        attached = self._need_attached(device_id, caller)

        def begin(tx: Tx) -> tuple[dict[str, Json], int]:
            refuse_while_pending([one for one in pending_on(tx, device_id) if one.custody is not Custody.FORWARDED])
            body = end_of_day_body(tx, attached.location, caller)
            started = journal.append(tx, Draft("end_of_day.started", device_id, caller.actor, body))
            return body, started.seq

        def close(tx: Tx) -> ClosedDay:
            own = [
                {"name": one.name, "count": one.count, "total": one.total.amount_minor, "currency": one.total.currency}
                for one in payments.totals(tx.connection, f"day.{body['business_date']}.")
            ]
            told = {
                "count": totals.count,
                "total": totals.total.amount_minor if totals.total else None,
                "currency": totals.total.currency if totals.total else None,
                "exponent": totals.total.exponent if totals.total else None,
                "stored_count": totals.stored_count,
                "hub": own,
            }
            closed = note_comparison(tx, device_id, started_seq, totals, caller)
            journal.append(tx, Draft("end_of_day.closed", device_id, caller.actor, body | told))
            return closed

        async with attached.lock:
            body, started_seq = await self._db.write("device.end_of_day_begins", begin)
            totals = await attached.terminal.end_of_day()
            return await self._db.write("device.end_of_day", close)

    async def diagnose(self, device_id: str, caller: Caller) -> Diagnosis:
        """Let a terminal test its own line to its host."""
        attached = self._need_attached(device_id, caller)
        async with attached.lock:
            return await attached.terminal.diagnose()

    def _need_attached(self, device_id: str, caller: Caller) -> Attached:
        attached = self._terminals.get(device_id)
        caller.need_at(Permission.DEVICES_OPERATE, attached.location if attached else caller.location)
        if attached is None:
            raise DeviceError(
                "device.gone",
                "The terminal is not attached.",
                remedy="Activate it, or look at the devices for what is wrong.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=10,
            )
        self.refuse_while_paying(device_id)
        return attached

    async def _attach(self, device: Device, currency: str, number: str = "", *, in_use: bool = True) -> None:
        async with self._attaching:  # importing a driver takes time, and a device has one driver
            if self._terminals.get(device.id) is None and self._peripherals.get(device.id) is None:
                await self._attach_one(device, currency, number, in_use)

    async def _attach_one(self, device: Device, currency: str, number: str, in_use: bool) -> None:
        try:
            driver = await self._make_driver(device, currency)
        except HubError as exc:
            self._load_errors[device.id] = exc
            return
        before = await self._db.read("device.before", lambda c: devices.predecessors(c, device.id))
        self._load_errors.pop(device.id, None)
        self._running[device.id] = driver
        driver.expect(number)
        if device.kind is DeviceKind.TERMINAL:
            self._terminals.attach(
                Attached(
                    device.id,
                    device.name,
                    device.role,
                    device.location,
                    device.device_class or "terminal",
                    cast("Terminal", driver.face),
                    leaving=device.leaving,
                    before=before,
                    in_use=in_use,
                )
            )
        else:
            face = cast("Printer | Scale | Scanner | Modem", driver.face)
            self._peripherals.attach(
                Peripheral(device.id, device.kind, device.name, device.role, device.location, face, before=before)
            )
        self._workers.start(_worker(device.id), driver.run)

    def _detach(self, device_id: str) -> None:
        self._terminals.detach(device_id)
        self._peripherals.detach(device_id)

    def _status(self, device: Device) -> TerminalStatus | None:
        if (status := self._terminals.status(device.id)) is not None:
            return status
        if (peripheral := self._peripherals.get(device.id)) is not None:
            return peripheral.face.status
        return self._why_it_does_not_run(device)

    def _view(self, device: Device, stored: list[Payment], unheard: bool) -> DeviceView:
        held = [payment for payment in stored if payment.terminal == device.id]
        sums: dict[str, int] = {}
        for payment in held:
            sums[payment.currency] = sums.get(payment.currency, 0) + payment.money.amount_minor
        attached = self._terminals.get(device.id)
        return DeviceView(
            device,
            self._status(device),
            len(held),
            tuple(Money(total, currency) for currency, total in sorted(sums.items())),
            attached.payment_id if attached else "",
            attached.progress if attached else None,
            unheard,
            running.face.capabilities if (running := self._running.get(device.id)) else frozenset(),
        )

    def _why_it_does_not_run(self, device: Device) -> TerminalStatus | None:
        error = self._load_errors.get(device.id) if device.active else None
        return TerminalStatus(DeviceState.FAULTY, None, "", error.code, error.remedy) if error else None


def _worker(device_id: str) -> str:
    return f"driver:{device_id}"
