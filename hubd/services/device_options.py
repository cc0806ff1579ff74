"""Options of a device, for people: what may be set, what is set and by whom, and the change of it.

A value that its driver could not use is refused before it is written. The driver then starts anew with the new ones,
and never in the middle of a payment, a print job or another dialogue: that is refused, or waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from hubd.discovery_ports import DriverBook
from hubd.errors import HubError, InvalidValueError, Retry, StoreError
from hubd.model.device_options import Option, OptionKind, check_options
from hubd.model.permissions import Permission
from hubd.runtime import Clock
from hubd.services.access import Caller
from hubd.services.device_rules import need_for, refuse_under_way
from hubd.services.devices import DeviceDesk
from hubd.services.documents import leave_no_byte
from hubd.services.jobs import Jobs
from hubd.services.option_keeper import Kept, OptionKeeper
from hubd.store import devices
from hubd.store.db import Database
from hubd.store.devices import Device
from hubd.store.tx import Tx

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often it is seen whether a device has ended what it was doing."""


class Source(StrEnum):
    """Where a value comes from."""

    SET = "set"
    """A person has set it, or the device has shown it."""
    CONFIGURATION = "configuration"
    DEFAULT = "default"
    LOST = "lost"
    """A secret that was set and that this hub cannot open: it has to be typed again."""


class OptionView(Struct, frozen=True):
    """One option and what counts for it now."""

    option: Option
    value: str
    """Empty for a secret, and where nobody has said anything."""
    source: Source


class OptionsView(Struct, frozen=True):
    """The options of a device."""

    device: Device
    version: int
    """What a change is based on."""
    options: tuple[OptionView, ...]
    waiting: bool = False
    """Whether its driver still runs with others, until what it does now has ended."""

    def value(self, name: str) -> str:
        """What counts for an option now; empty where nothing does."""
        return next((one.value for one in self.options if one.option.name == name), "")


class OptionDesk:
    """Shows and changes what is set of devices."""

    def __init__(
        self, db: Database, clock: Clock, keeper: OptionKeeper, desk: DeviceDesk, drivers: DriverBook, jobs: Jobs
    ) -> None:
        self._db = db
        self._clock = clock
        self._keeper = keeper
        self._desk = desk
        self._drivers = drivers
        self._jobs = jobs
        self._change = asyncio.Lock()

    async def of(self, device_id: str) -> OptionsView:
        """What may be set of a device and what is. Raises `device_unknown`."""
        device = await self._desk.known(device_id)
        return self._view(device, await self._keeper.of(device))

    def _view(self, device: Device, kept: Kept) -> OptionsView:
        declared = self._drivers.options(device.driver, device.address) if device.driver else ()
        waiting = self._jobs.is_running(_job(device.id))
        return OptionsView(device, kept.stored.version, tuple(_one(one, kept) for one in declared), waiting)

    async def put(
        self, device_id: str, values: Mapping[str, str | None], caller: Caller, if_version: int | None = None
    ) -> OptionsView:
        """Set what counts from now on; what is not named counts as it did before a person set it. Durable on return.

        A secret, or something learnt, that is not named stays; None takes it back. Raises `device.option_unknown`,
        `device.option_invalid`, `device.option_too_early`, `changed_meanwhile`, and `device.busy` while the terminal
        works on a payment.
        """

        def work(tx: Tx) -> tuple[bool, list[bytes]]:
            device = need_for(tx, device_id, caller, Permission.DEVICES_MANAGE)
            kept = self._keeper.read(tx.connection, device)
            if if_version is not None and kept.stored.version != if_version:
                raise HubError(
                    "changed_meanwhile",
                    "The options of this device were changed by somebody else.",
                    remedy="Read them again and decide anew.",
                    retry=Retry.AFTER_ENQUIRY,
                )
            refuse_under_way(tx, device_id)
            declared = self._drivers.options(device.driver, device.address)
            options, secrets = _wanted(declared, kept, values)
            other_secrets = secrets != kept.secrets or not kept.lost.isdisjoint(values)
            if options == kept.stored.options and not other_secrets:
                return False, []
            return True, self._keeper.write(tx, device, options, secrets if other_secrets else None, caller.actor)

        async with self._change:
            self._desk.refuse_while_paying(device_id)
            changed, gone = await self._db.write("device.configure", work)
            if changed:
                await self._renew(device_id)
        if gone:
            await leave_no_byte(self._db, self._clock, gone)
        return await self.of(device_id)

    async def _renew(self, device_id: str) -> None:
        if not await self._desk.renew(device_id):
            self._jobs.start(_job(device_id), self._renew_later(device_id))

    async def _renew_later(self, device_id: str) -> None:
        try:
            while not await self._desk.renew(device_id):
                await self._clock.sleep(LOOK_S)
        except HubError as exc:  # the next start of the driver takes them
            log.warning("device.options_wait", extra={"device_id": device_id, "code": exc.code})

    def learnt(self, device_id: str, values: Mapping[str, str]) -> None:
        """A device has shown something of itself: keep it. Its driver knows it already, and goes on."""
        self._jobs.start(f"device.learnt:{device_id}:{sorted(values.items())}", self._keep(device_id, values))

    async def _keep(self, device_id: str, values: Mapping[str, str]) -> None:
        def work(tx: Tx) -> None:
            device = devices.get(tx.connection, device_id)
            if device is None or device.removed:
                return
            kept = self._keeper.read(tx.connection, device)
            options = {**kept.stored.options, **values}
            options = {name: value for name, value in options.items() if value}
            if options != dict(kept.stored.options):
                self._keeper.write(tx, device, options, None, "hub")

        try:
            await self._db.write("device.learnt", work)
        except StoreError as exc:  # the disk is full, or the hub stops: the device shows it again
            log.warning("device.not_learnt", extra={"device_id": device_id, "code": exc.code})


def _job(device_id: str) -> str:
    return f"device.renew:{device_id}"


def _one(option: Option, kept: Kept) -> OptionView:
    name = option.name
    if name in kept.lost:
        return OptionView(option, "", Source.LOST)
    source = Source.DEFAULT
    if name in kept.stored.options or name in kept.secrets:
        source = Source.SET
    elif name in kept.configuration:
        source = Source.CONFIGURATION
    secret = option.kind is OptionKind.SECRET
    return OptionView(option, "" if secret else kept.in_force.get(name, option.default), source)


def _wanted(
    declared: tuple[Option, ...], kept: Kept, values: Mapping[str, str | None]
) -> tuple[dict[str, str], dict[str, str]]:
    """Options and secrets as they are to be; raises for what cannot be."""
    kinds = {option.name: option.kind for option in declared}
    taken_back = {name for name, value in values.items() if value is None and name in kinds}
    said = {name: value or "" for name, value in values.items() if name not in taken_back}
    check_options(declared, said)
    secrets = {name: value for name, value in kept.secrets.items() if name not in taken_back}
    options = {
        name: value
        for name, value in kept.stored.options.items()
        if kinds.get(name) is OptionKind.LEARNT and name not in taken_back
    }
    for name, value in said.items():
        (secrets if kinds[name] is OptionKind.SECRET else options)[name] = value
    in_force = {**kept.configuration, **options}
    for option in declared:
        if option.after and options.get(option.name, option.choices[0]) != option.choices[0]:
            _refuse_too_early(option, in_force)
    return options, secrets


def _refuse_too_early(option: Option, in_force: Mapping[str, str]) -> None:
    if not any(in_force.get(name) for name in option.after):
        raise InvalidValueError(
            "device.option_too_early",
            f"The option {option.name} is for later.",
            remedy=f"First this has to be known: {option.after[0]}.",
            params={"option": option.name, "first": option.after[0]},
        )
