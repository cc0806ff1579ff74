"""What people do with a terminal's life: its steps one by one, its history, and what its vendor's texts ask for."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import cast

from msgspec import Struct

from hubd.errors import DeviceError, InvalidValueError, NotFoundError, Retry, StoreError
from hubd.health import Problems
from hubd.model.device import Capability, DeviceKind, DeviceState
from hubd.model.entry import Draft
from hubd.model.payment import Payment
from hubd.model.permissions import Permission
from hubd.model.runbooks import steps_of
from hubd.model.terminal_life import PROVIDERS_MAX, SOFT_CLASS, LifeStep, Needs, needs_of
from hubd.ports import Serviceable, Serviced
from hubd.services.access import Caller
from hubd.services.device_rules import NewDevice, pending_on, refuse_while_pending
from hubd.services.devices import NAME_MAX, DeviceDesk, DeviceView
from hubd.services.end_of_day import ClosedDay
from hubd.services.terminal_steps import claim_step, locate_step, move, name_step
from hubd.services.terminals import Terminals
from hubd.store import devices, journal, terminal_life
from hubd.store.db import Database
from hubd.store.devices import Device
from hubd.store.terminal_life import Life as Life
from hubd.store.tx import Connection, Tx

log = logging.getLogger(__name__)

HISTORY_MAX = 500
UNKNOWN_SOFTWARE = "unknown"


class ServiceRun(Struct, frozen=True):
    """What became of telling a terminal to call home, and what a person does where it could not be told."""

    ran: bool
    """Whether the terminal was told; its protocol may have no word for it."""
    done: bool
    reason: str
    left: tuple[str, ...]
    """Providers that are still open."""
    steps: tuple[str, ...]
    """The runbook, while something is left to do."""
    before: str = ""
    after: str = ""
    """Its software before and after; `unknown` where its protocol does not tell."""


class TerminalLife:
    """Steps, history, calls home and texts of terminals."""

    def __init__(self, db: Database, terminals: Terminals, desk: DeviceDesk, problems: Problems) -> None:
        self._db = db
        self._terminals = terminals
        self._desk = desk
        self._problems = problems

    # -- steps -------------------------------------------------------------------------------------------------------

    async def of(self, device_id: str) -> Life:
        """How far a terminal is. Raises `device_unknown`, `device.not_a_terminal`."""
        return await self._db.read("life.of", lambda c: terminal_life.get(c, _terminal(devices.get(c, device_id))))

    async def all(self) -> dict[str, Life]:
        """The life of every terminal, by id."""
        return await self._db.read("life.all", terminal_life.all_lives)

    async def register_soft(self, device_id: str, name: str, location: str, caller: Caller) -> DeviceView:
        """Note a terminal that is an app on a phone (D06). Repeating it changes nothing. Raises `name_in_use`."""
        caller.need_at(Permission.DEVICES_MANAGE, location)
        new = NewDevice("", "", name, SOFT_CLASS, location, identity=device_id)
        await self._desk.claim(device_id, new, caller.actor)
        return await self._desk.activate(device_id, caller)

    async def step(self, device_id: str, step: LifeStep, value: str, caller: Caller) -> DeviceView:
        """Take one step: `claimed`, `located` (value is the location) or `named` (value is the name).

        The last two are the terminal's own: they follow when it answers. Raises `device.step_skipped`.
        """

        def work(tx: Tx) -> None:
            device = self._changeable(tx, device_id, caller)
            caller.need_at(Permission.TERMINALS_ACTIVATE, device.location)
            if step is LifeStep.CLAIMED:
                claim_step(tx, device, caller)
            elif step is LifeStep.LOCATED:
                caller.need_at(Permission.DEVICES_MANAGE, value)
                locate_step(tx, device, value, caller)
            elif step is LifeStep.NAMED:
                if not 1 <= len(value) <= NAME_MAX:
                    raise InvalidValueError(
                        "invalid_name", f"A name has 1 to {NAME_MAX} characters.", remedy="Shorten it."
                    )
                name_step(tx, device, value, caller)
            else:
                raise InvalidValueError(
                    "invalid_step", "This step is the terminal's own.", remedy="Switch it on; it follows by itself."
                )

        await self._db.write("life.step", work)
        await self._desk.attach_named(device_id)
        return await self._desk.get(device_id)

    async def move(self, device_id: str, location: str, caller: Caller) -> DeviceView:
        """Take a terminal to another location (D10), where it is for every till until a person says for which one.

        Raises `pending_offline_payments` while it holds money.
        """

        def work(tx: Tx) -> None:
            device = self._changeable(tx, device_id, caller)
            caller.need_at(Permission.DEVICES_MANAGE, location)
            refuse_while_pending(pending_on(tx, device_id))
            if device.location != location:
                move(tx, device, location, caller)
                if device.role:  # its till has stayed behind
                    body = {"address": device.address, "name": device.name, "role": ""}
                    journal.append(tx, Draft("device.assigned", device_id, caller.actor, body))

        await self._db.write("life.move", work)
        await self._desk.attach_again(device_id)
        return await self._desk.get(device_id)

    async def sign_out(self, device_id: str, caller: Caller) -> DeviceView:
        """Log the person out who stands behind a terminal; it takes no payments until somebody is logged in again.

        Raises `device.gone` for one that does not answer (it counts as logged in until it is taken out of use, D03)
        and `pending_offline_payments`.
        """
        status = self._terminals.status(device_id)
        if status is None or status.state is not DeviceState.READY:
            raise DeviceError(
                "device.gone",
                "The terminal does not answer: it counts as logged in.",
                remedy="Switch it on, or take it out of use.",
                retry=Retry.AFTER_ENQUIRY,
            )

        def work(tx: Tx) -> None:
            device = self._changeable(tx, device_id, caller)
            refuse_while_pending(pending_on(tx, device_id))
            admin = terminal_life.get(tx.connection, device).admin
            journal.append(tx, Draft("device.signed_out", device_id, caller.actor, {"staff": admin}))

        await self._db.write("life.signed_out", work)
        await self._desk.stop(device_id)
        return await self._desk.get(device_id)

    async def history(self, device_id: str, caller: Caller) -> list[Payment]:
        """Payments under the name that it bears, also by the terminals that bore it before it; newest first (D05)."""

        def look(connection: Connection) -> tuple[Device, list[Payment]]:
            device = _terminal(devices.get(connection, device_id))
            return device, terminal_life.history(connection, device, HISTORY_MAX)

        device, found = await self._db.read("life.history", look)
        caller.need_at(Permission.PAYMENTS_READ, device.location)
        return [one for one in found if one.location == device.location]

    # -- what its vendor asks for --------------------------------------------------------------------------------------

    async def declare(
        self, device_id: str, model: str, providers: tuple[str, ...], default_password: bool | None, caller: Caller
    ) -> Life:
        """What a person says of a terminal that cannot be asked: its model, its providers, its menu's password.

        The password itself is never asked for: only whether it is still the one of the vendor's manual.
        """
        if len(providers) > PROVIDERS_MAX or len(set(providers)) != len(providers) or not all(providers):
            raise InvalidValueError(
                "invalid_providers",
                f"A terminal has up to {PROVIDERS_MAX} providers, each named once.",
                remedy="Name each one that its menu shows.",
            )

        def work(tx: Tx) -> None:
            device = self._changeable(tx, device_id, caller)
            body = {"model": model, "providers": list(providers), "default_password": default_password}
            journal.append(tx, Draft("device.declared", device.id, caller.actor, body))

        await self._db.write("life.declared", work)
        await self.note_problems()
        return await self.of(device_id)

    async def parameter_session(
        self, device_id: str, done_at_terminal: tuple[str, ...], language: str, caller: Caller
    ) -> ServiceRun:
        """Let a terminal fetch its acquirers' parameters (D07), or note for which ones a person has done it there.

        With several providers it is complete when each is done: where the protocol does not say which were reached,
        the hub believes it for a single one only. Raises `pending_offline_payments`, `device.busy`, `device.gone`.
        """
        life = await self._serviced_life(device_id, caller)
        strangers = set(done_at_terminal) - set(life.providers)
        if strangers:
            raise InvalidValueError(
                "unknown_provider", "The terminal has no such provider.", remedy="Declare its providers first."
            )
        result, ran = Serviced(done=bool(done_at_terminal), providers=done_at_terminal), False
        if not done_at_terminal:
            result, ran = await self._run(device_id, Capability.PARAMETER_SESSION)
        reached = result.providers or (life.providers if result.done and len(life.providers) < 2 else ())
        fetched = tuple(one for one in life.providers if one in {*life.fetched, *reached})
        left = tuple(one for one in life.providers if one not in fetched)
        complete = not left and (result.done or bool(fetched))
        needs = Needs.NOTHING if complete else Needs.PARAMETER_SESSION
        body = {
            "by": "terminal" if ran else "person" if done_at_terminal else "nobody",
            "done": result.done,
            "reason": result.reason,
            "fetched": list(fetched),
            "left": list(left),
            "needs": needs.value,
        }
        draft = Draft("device.parameters_fetched", device_id, caller.actor, body)
        await self._db.write("life.parameters", lambda tx: journal.append(tx, draft))
        await self.heard(device_id, result.text.splitlines())
        await self.note_problems()
        steps = () if complete else steps_of(Needs.PARAMETER_SESSION, life.model, language)
        return ServiceRun(ran, complete, result.reason, left, steps)

    async def tms_contact(self, device_id: str, language: str, caller: Caller) -> ServiceRun:
        """Let a terminal call its management system (D15); its software before and after is noted.

        Raises `pending_offline_payments` while it holds or works on a payment (vendors want an empty queue),
        `device.busy`, `device.gone`.
        """
        life = await self._serviced_life(device_id, caller)
        before = await self._software_now(device_id)
        result, ran = await self._run(device_id, Capability.TMS_CONTACT)
        # What it told before the call says nothing of now: of one that is just starting anew, none is known.
        after = await self._software_now(device_id) if ran else before
        needs = Needs.NOTHING if result.done and life.needs is Needs.TMS_CONTACT else life.needs
        if not result.done and needs is Needs.NOTHING:
            needs = needs_of(result.text.splitlines())
        body = {
            "ran": ran,
            "done": result.done,
            "reason": result.reason,
            "before": before,
            "after": after,
            "needs": needs.value,
        }
        draft = Draft("device.tms_contacted", device_id, caller.actor, body)
        await self._db.write("life.tms", lambda tx: journal.append(tx, draft))
        await self.note_problems()
        steps = () if result.done else steps_of(Needs.TMS_CONTACT, life.model, language)
        return ServiceRun(ran, result.done, result.reason, (), steps, before, after)

    async def end_of_day(self, device_id: str, caller: Caller) -> ClosedDay:
        """`DeviceDesk.end_of_day`; a difference to what the hub knows of the terminal is a problem until the next."""
        closed = await self._desk.end_of_day(device_id, caller)
        await self.note_problems()
        return closed

    def software_of(self, life: Life) -> str:
        """Name and version of a terminal's software as it tells them now, or last told; else `unknown` (D14)."""
        now = self._software(life.device)
        return (life.software or now) if now == UNKNOWN_SOFTWARE else now

    async def software_told(self, device: Device) -> str:
        """`software_of` a terminal; empty for other devices."""
        return self.software_of(await self.of(device.id)) if device.kind is DeviceKind.TERMINAL else ""

    async def _software_now(self, device_id: str) -> str:
        """What it answers now when it is asked for a sign of life; `unknown` where it tells nothing by that."""
        running = self._desk.running(device_id)
        attached = self._terminals.get(device_id)
        if running is None or attached is None or Capability.TELLS_SOFTWARE not in attached.terminal.capabilities:
            return UNKNOWN_SOFTWARE
        try:
            return await running.look() or UNKNOWN_SOFTWARE
        except DeviceError:
            return UNKNOWN_SOFTWARE

    def _software(self, device_id: str) -> str:
        status = self._terminals.status(device_id)
        return (status.software if status else "") or UNKNOWN_SOFTWARE

    async def _serviced_life(self, device_id: str, caller: Caller) -> Life:
        """The life of a terminal that may be told to call home now."""

        def look(connection: Connection) -> tuple[Device, Life]:
            device = _terminal(devices.get(connection, device_id))
            return device, terminal_life.get(connection, device)

        device, life = await self._db.read("life.serviced", look)
        caller.need_at(Permission.DEVICES_OPERATE, device.location)
        await self._db.write("life.may_call", lambda tx: refuse_while_pending(pending_on(tx, device_id)))
        return life

    async def _run(self, device_id: str, capability: Capability) -> tuple[Serviced, bool]:
        """Tell the terminal, if its protocol can; whether it was told."""
        attached = self._terminals.get(device_id)
        if attached is None or capability not in attached.terminal.capabilities:
            return Serviced(done=False, reason="not_supported"), False
        if attached.payment_id:
            raise DeviceError(
                "device.busy",
                "The terminal is taking a payment.",
                remedy="Wait for it.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=10,
            )
        terminal = cast("Serviceable", attached.terminal)
        async with attached.lock:
            if capability is Capability.PARAMETER_SESSION:
                return await terminal.parameter_session(), True
            return await terminal.tms_contact(), True

    async def listen(self, device_id: str, lines: Iterable[str]) -> None:
        """`heard` as a job of the hub: where the disk refuses the note, the terminal will say it again."""
        try:
            await self.heard(device_id, lines)
        except StoreError as exc:
            log.warning("device.text_not_noted", extra={"device_id": device_id, "code": exc.code})

    async def heard(self, device_id: str, lines: Iterable[str]) -> None:
        """Lines that a terminal has shown or printed; what they say that it needs is noted once."""
        needs = needs_of(lines)
        if needs is Needs.NOTHING:
            return

        def work(tx: Tx) -> None:
            device = devices.get(tx.connection, device_id)
            if device is not None and terminal_life.get(tx.connection, device).needs is not needs:
                journal.append(tx, Draft("device.needs", device_id, "hub", {"needs": needs.value}))

        await self._db.write("life.needs", work)
        await self.note_problems()

    async def note_problems(self) -> None:
        """Raise and clear what follows from the lives of the terminals."""
        lives, found = await self._db.read(
            "life.problems", lambda c: (terminal_life.all_lives(c), devices.all_devices(c, DeviceKind.TERMINAL))
        )
        for device in found:
            life, name = lives[device.id], device.name
            session = life.needs is Needs.PARAMETER_SESSION
            left = ", ".join(life.left) or "-"
            self._problems.set(session, "terminal.parameter_session", device.id, name=name, left=left)
            self._problems.set(life.needs is Needs.TMS_CONTACT, "terminal.tms_contact", device.id, name=name)
            weak = life.default_password is True and device.active
            self._problems.set(weak, "terminal.default_password", device.id, name=name)
            self._problems.set(life.totals_differ, "terminal.totals_differ", device.id, name=name)

    def _changeable(self, tx: Tx, device_id: str, caller: Caller) -> Device:
        device = _terminal(devices.get(tx.connection, device_id))
        caller.need_at(Permission.DEVICES_MANAGE, device.location)
        return device


def _terminal(device: Device | None) -> Device:
    if device is None or device.removed:
        raise NotFoundError("device_unknown", "No device of this id is known to this hub.", remedy="Read the list.")
    if device.kind is not DeviceKind.TERMINAL:
        raise DeviceError("device.not_a_terminal", "This device is no card terminal.", remedy="Name a terminal.")
    return device
