"""The steps of a terminal into use as entries (domain D01, D05): each once, in order, inside `Database.write`."""

from __future__ import annotations

from itertools import count

from hubd.errors import DeviceError, NotFoundError
from hubd.model.entry import Draft
from hubd.model.terminal_life import SOFT_CLASS, LifeStep, check_step, is_beyond
from hubd.ports import TerminalStatus
from hubd.services.access import Caller
from hubd.store import devices, journal, people, terminal_life
from hubd.store.devices import Device
from hubd.store.tx import Tx


def claim_step(tx: Tx, device: Device, caller: Caller) -> None:
    """A person logs in on it and stands behind it. Raises `device.step_skipped` unless it is discovered."""
    check_step(terminal_life.get(tx.connection, device).step, LifeStep.CLAIMED)
    journal.append(tx, Draft("device.signed_in", device.id, caller.actor, {"staff": caller.staff or caller.actor}))


def locate_step(tx: Tx, device: Device, location: str, caller: Caller) -> None:
    """It gets the location where it is used. Raises `device.step_skipped`, `location_unknown`."""
    check_step(terminal_life.get(tx.connection, device).step, LifeStep.LOCATED)
    _locate(tx, device, location, caller, step=True)


def move(tx: Tx, device: Device, location: str, caller: Caller) -> None:
    """It goes to another location. Raises `device.step_skipped` for one that has none yet, `location_unknown`."""
    life = terminal_life.get(tx.connection, device)
    if not is_beyond(life.step, LifeStep.LOCATED):
        check_step(life.step, LifeStep.LOCATED)
    _locate(tx, device, location, caller, step=False)


def _locate(tx: Tx, device: Device, location: str, caller: Caller, *, step: bool) -> None:
    if people.location(tx.connection, location) is None:
        raise NotFoundError("location_unknown", "The location is not known.", remedy="Read the locations.")
    journal.append(tx, Draft("device.located", device.id, caller.actor, {"location": location, "step": step}))


def name_step(tx: Tx, device: Device, name: str, caller: Caller) -> None:
    """It gets its name; from here on its driver runs. Raises `device.step_skipped`, `name_in_use`."""
    check_step(terminal_life.get(tx.connection, device).step, LifeStep.NAMED)
    _name(tx, device, name, caller, step=True)
    if device.device_class == SOFT_CLASS:
        # Its vendor's app synchronises it and nobody here can ask: the person who registers it says that it did.
        journal.append(tx, Draft("device.synced", device.id, caller.actor, {"number": "", "software": ""}))
        journal.append(tx, Draft("device.activated", device.id, caller.actor, {"address": ""}))


def note_name(tx: Tx, device: Device, name: str, caller: Caller) -> None:
    """A change of name. Raises `name_in_use`, naming the terminal in use that bears it."""
    _name(tx, device, name, caller, step=False)


def _name(tx: Tx, device: Device, name: str, caller: Caller, *, step: bool) -> None:
    bearer = terminal_life.bearer(tx.connection, name, device.id)
    if bearer is not None:
        raise DeviceError(
            "name_in_use",
            f"Another terminal in use is called {name}.",
            remedy="Take that one out of use first, or choose another name.",
            params={"name": name, "device": bearer.id},
        )
    after = terminal_life.former_bearer(tx.connection, name, device.id)
    journal.append(tx, Draft("device.named", device.id, caller.actor, {"name": name, "after": after, "step": step}))


def steps_to_named(tx: Tx, device: Device, caller: Caller) -> None:
    """Every step up to its name that it has not taken, with the location and the name that it was proposed with.

    A name that nobody gave it, and that is taken, gets a number. Raises `name_in_use` for one that it has borne.
    """
    life = terminal_life.get(tx.connection, device)
    if life.step is LifeStep.DISCOVERED:
        claim_step(tx, device, caller)
    if not is_beyond(life.step, LifeStep.LOCATED):
        locate_step(tx, device, device.location, caller)
    if not is_beyond(life.step, LifeStep.NAMED):
        name = device.name if life.named_seq else _free_name(tx, device)
        name_step(tx, device, name, caller)


def _free_name(tx: Tx, device: Device) -> str:
    names = (device.name if number == 1 else f"{device.name} {number}" for number in count(1))
    return next(name for name in names if terminal_life.bearer(tx.connection, name, device.id) is None)


def note_synced(tx: Tx, device_id: str, status: TerminalStatus) -> None:
    """It has said who it is and has taken its settings. Nothing happens unless it waits for that."""
    device = devices.get(tx.connection, device_id)
    if device is None or terminal_life.get(tx.connection, device).step is not LifeStep.NAMED:
        return
    body = {"number": status.terminal_id, "software": status.software}
    journal.append(tx, Draft("device.synced", device_id, "hub", body))


def note_active(tx: Tx, device_id: str) -> bool:
    """It takes payments from now on; the person who logged in on it stands behind it. Whether it does."""
    device = devices.get(tx.connection, device_id)
    if device is None:
        return False
    life = terminal_life.get(tx.connection, device)
    if life.step is LifeStep.SYNCED:
        body = {"address": device.address, "staff": life.admin}
        journal.append(tx, Draft("device.activated", device_id, "hub", body))
    return life.step in {LifeStep.SYNCED, LifeStep.ACTIVE}
