"""Places in the shop, and the swap of the device in one: the place stays, another device takes it in one act.

A place is a kind of device, a location and a role: the receipt printer of till 2, the scale of the shop. Who takes it
inherits its name and its settings, and is meant by whoever still names the device from before. Money does not move with
a place: a terminal that holds some, or may, stays on the page until that has left, or a manager has said why not to
wait (design 9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from hubd.errors import DeviceError, InvalidValueError, NotFoundError
from hubd.model.device import DeviceKind, DeviceState
from hubd.model.entry import Document, Draft
from hubd.model.permissions import Permission
from hubd.model.statement import TERMINAL_CLOSED
from hubd.runtime import Clock
from hubd.services.access import Caller
from hubd.services.device_rules import NewDevice, claim_body, need, pending_on, refuse_under_way
from hubd.services.devices import REASON_MAX, REASON_MIN, DeviceDesk, DeviceView
from hubd.services.option_keeper import OptionKeeper
from hubd.services.outcomes import MakeDocument
from hubd.services.printing import move_waiting
from hubd.store import devices, journal, outages
from hubd.store.db import Database
from hubd.store.devices import Device
from hubd.store.tx import Connection, Tx

LOOK_S = 5.0
"""How often it is seen whether the money of a device that leaves is out."""
NOT_WELL = frozenset({DeviceState.GONE, DeviceState.SILENT, DeviceState.FAULTY})
"""States of a device whose place is offered to another one."""
WITHOUT_DRIVER = frozenset({DeviceKind.TILL, DeviceKind.VIEWER})


class RoleDesk:
    """Swaps devices in their places."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        desk: DeviceDesk,
        make_document: MakeDocument,
        printer_replaced: Callable[[str, str], Coroutine[Any, Any, None]],
        options: OptionKeeper,
    ) -> None:
        self._db = db
        self._clock = clock
        self._desk = desk
        self._make_document = make_document
        self._printer_replaced = printer_replaced
        self._options = options
        self._leaving = asyncio.Event()
        self._leaving.set()

    async def vacant(self, caller: Caller) -> list[DeviceView]:
        """Places whose device is gone, silent, faulty or out of use, worst first; those that the caller may manage."""
        found = [
            view
            for view in await self._desk.all()
            if view.device.driver
            and not view.device.replaced_by
            and (view.status is None or view.status.state in NOT_WELL)
            and caller.may_at(Permission.DEVICES_MANAGE, view.device.location)
        ]
        return sorted(found, key=lambda view: view.status is not None and view.status.state is DeviceState.FAULTY)

    async def replace(self, device_id: str, new: NewDevice, old_id: str, caller: Caller) -> Device:
        """Put a device in the place of another one of its kind; durable, with the jobs that wait for it, on return.

        It takes name, role, location and, under the same driver, the settings. A printer, scale or scanner is in use at
        once; a terminal still has to be activated by a person. `device_id` may be a device that was here before and is
        out of use. Raises `device_unknown`, `device.other_kind`, `device.already_used`, and `device.busy` while the old
        terminal works on a payment.
        """

        def work(tx: Tx) -> tuple[str, bool]:
            old = devices.get(tx.connection, old_id)
            if old is None or old.removed or old.replaced_by or old.kind in WITHOUT_DRIVER:
                raise _no_such_place()
            caller.need_at(Permission.DEVICES_MANAGE, old.location)
            alike = (one for one in devices.all_devices(tx.connection, new.kind) if _is_same(one, new))
            known = devices.get(tx.connection, device_id) or next(alike, None)
            _refuse_unfit(old, new, known)
            refuse_under_way(tx, old.id)
            mine = replace(new, name=new.name or old.name, role=old.role, location=old.location)
            taker = known.id if known else device_id
            if known is None:
                journal.append(tx, Draft("device.claimed", taker, caller.actor, claim_body(mine)))
            leaving = bool(pending_on(tx, old.id)) or _is_unheard(tx, old.id)
            body = {
                "by": taker,
                "leaving": leaving,
                "location": mine.location,
                "name": mine.name,
                "role": mine.role,
                "settings_of": (old.settings_of or old.address) if mine.driver == old.driver else "",
            }
            journal.append(tx, Draft("device.replaced", old.id, caller.actor, body))
            self._options.carry(tx, old, need(tx, taker), caller.actor)
            if new.kind is not DeviceKind.TERMINAL:
                journal.append(tx, Draft("device.activated", taker, caller.actor, {"address": mine.address}))
            if new.kind is DeviceKind.PRINTER:
                move_waiting(tx, old.id, taker, caller.actor)
            return taker, leaving

        taker, leaving = await self._db.write("device.replace", work)
        if leaving:
            self._leaving.set()
        await self._desk.apply(old_id)
        await self._desk.apply(taker)
        if new.kind is DeviceKind.PRINTER:
            await self._printer_replaced(old_id, taker)
        return await self._desk.known(taker)

    async def close(self, device_id: str, reason: str, caller: Caller) -> DeviceView:
        """Take a device off the page whose place is taken although money is, or may be, in it; the reason is kept.

        Its payments stay what they are, and stay its own: stored ones still wait for the bank's word, unknown ones for
        a person's. Raises `device.not_leaving` for one that has its place, `reason_missing`, and `device.busy`.
        """
        said = reason.strip()
        if not REASON_MIN <= len(said) <= REASON_MAX:
            raise InvalidValueError(
                "reason_missing", "A decision needs a reason in words.", remedy=f"Write 3 to {REASON_MAX} characters."
            )
        document = self._make_document("manual_reason", said.encode("utf-8"))

        def work(tx: Tx) -> None:
            device = devices.get(tx.connection, device_id)
            if device is None or device.removed:
                raise _no_such_place()
            caller.need_at(Permission.DEVICES_MANAGE, device.location)
            if not device.leaving:
                raise DeviceError(
                    "device.not_leaving",
                    "This device has its place, or has left already.",
                    remedy="Take it out of use instead, or put another one in its place.",
                )
            refuse_under_way(tx, device_id)
            _leave(tx, device_id, caller.actor, document)

        await self._db.write("device.close", work)
        await self._desk.apply(device_id)
        return await self._desk.get(device_id)

    async def run(self) -> None:
        """Let devices leave once nothing is in them any more, for ever."""
        while True:
            await self._leaving.wait()
            waiting = await self._db.read("device.leaving", _leaving)
            for device_id in waiting:
                await self._leave_if_empty(device_id)
            if not waiting:
                self._leaving.clear()
            else:
                await self._clock.sleep(LOOK_S)

    async def _leave_if_empty(self, device_id: str) -> None:
        def work(tx: Tx) -> bool:
            device = devices.get(tx.connection, device_id)
            if device is None or not device.leaving or pending_on(tx, device_id) or _is_unheard(tx, device_id):
                return False
            _leave(tx, device_id, "hub", None)
            return True

        if await self._db.write("device.leave", work):
            await self._desk.apply(device_id)


def _leaving(connection: Connection) -> list[str]:
    return [device.id for device in devices.all_devices(connection) if device.leaving]


def _refuse_unfit(old: Device, new: NewDevice, known: Device | None) -> None:
    if new.kind is not old.kind:
        raise DeviceError(
            "device.other_kind",
            f"A {new.kind} cannot take the place of a {old.kind}.",
            remedy="Choose a place for this kind of device.",
        )
    if known is not None and (known.active or known.id == old.id):
        raise DeviceError(
            "device.already_used",
            "A device that is in use takes no other place, nor its own.",
            remedy="Take it out of use first, or use it where it is.",
        )


def _is_same(device: Device, new: NewDevice) -> bool:
    return (device.driver, device.identity) == (new.driver, new.identity or new.address)


def _leave(tx: Tx, device_id: str, actor: str, document: Document | None) -> None:
    held = pending_on(tx, device_id)
    unheard = [one for one in outages.unheard(tx.connection) if one.terminal == device_id]
    for one in unheard:
        journal.append(tx, Draft(TERMINAL_CLOSED, one.outage, actor, {"terminal": device_id}))
    body = {
        "closed_unheard": len(unheard),
        "count": len(held),
        "currency": held[0].currency if held else "",
        "total": sum(payment.money.amount_minor for payment in held),
    }
    documents = (document,) if document else ()
    journal.append(tx, Draft("device.closed", device_id, actor, body, documents=documents))


def _is_unheard(tx: Tx, device_id: str) -> bool:
    return any(one.terminal == device_id for one in outages.unheard(tx.connection))


def _no_such_place() -> NotFoundError:
    return NotFoundError("device_unknown", "No device of this id has a place here.", remedy="Read the list.")
