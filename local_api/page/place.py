"""Where a device stands and for whom: its name, its till or place, its location, and whether it is in use at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

from msgspec import Struct

from hubd.errors import DeviceError, HubError, InvalidValueError
from hubd.model.device import DeviceKind, place_role
from hubd.model.ids import parse_id
from hubd.model.permissions import Permission
from hubd.model.terminal_life import SOFT_CLASS
from hubd.services.devices import DeviceView
from local_api.page.people import sentence
from local_api.page.screen import Answer, Screen, redirect

Choice = tuple[str, str]
"""What a form sends, and what a person reads."""


class Place(Struct, frozen=True):
    """What a device's page offers to whoever may look; each is empty or false for a person who may not do it."""

    manage: bool
    """Name and role may be given, and it may be taken out of use."""
    activate: bool
    roles: tuple[Choice, ...] = ()
    locations: tuple[Choice, ...] = ()
    """Where it may be taken; only terminals move."""
    places: bool = False
    """Whether it may stand at a place that is no till."""


async def place_of(screen: Screen, view: DeviceView) -> Place:
    """What the person who looks may do with this device."""
    device, who = view.device, screen.who
    driven = bool(device.driver) or device.device_class == SOFT_CLASS
    manage = who.may_at(Permission.DEVICES_MANAGE, device.location) and not device.leaving and driven
    ready = who.may_at(Permission.TERMINALS_ACTIVATE, device.location)
    activate = ready and driven and not device.active and not device.leaving
    if not manage:
        return Place(manage, activate)
    every = await screen.services.devices.all()
    terminal = device.kind is DeviceKind.TERMINAL
    roles = roles_at(screen, every, device.location, device.role, places=not terminal)
    elsewhere = [one for one in await managed_locations(screen) if one[0] != device.location]
    return Place(manage, activate, roles, tuple(elsewhere) if terminal else (), not terminal)


async def managed_locations(screen: Screen) -> list[Choice]:
    """The locations whose devices the person may manage."""
    found = await screen.services.staff.locations()
    return [(one.id, one.name) for one in found if screen.who.may_at(Permission.DEVICES_MANAGE, one.id)]


def roles_anywhere(screen: Screen, every: Sequence[DeviceView], locations: Sequence[Choice]) -> tuple[Choice, ...]:
    """The same of a device that is not anywhere yet: the tills of all these locations, told apart where they are more.

    Which location follows from the till; see `location_in`.
    """
    if len(locations) == 1:
        return roles_at(screen, every, locations[0][0])
    found: dict[str, str] = {}
    for location, name in locations:
        for role, label in roles_at(screen, every, location):
            found[role] = f"{name} · {label}" if role.startswith("till:") else label
    return tuple(found.items())


async def location_in(screen: Screen, form: dict[str, str], role: str) -> str:
    """Where a new device stands: where its till is, else what was chosen; "" for where the person is."""
    if role.startswith("till:"):
        return (await screen.services.devices.known(role.removeprefix("till:"))).location
    return parse_id(form["location"], "location") if form.get("location") else ""


def roles_at(
    screen: Screen, every: Sequence[DeviceView], location: str, now: str = "", *, places: bool = True
) -> tuple[Choice, ...]:
    """For whom a device of this location can be: all, each till, each place that has a device; and what it has now."""
    known = [("", screen.words("Every till"))]
    known += [
        (f"till:{one.device.id}", one.device.name)
        for one in every
        if one.device.kind is DeviceKind.TILL and one.device.location == location
    ]
    if places:
        known += [(role, role.removeprefix("place:")) for role in _places(every, location)]
    if now not in dict(known):
        known.append((now, screen.words("A till that is not here any more")))
    return tuple(known)


def _places(every: Iterable[DeviceView], location: str) -> list[str]:
    used = {one.device.role for one in every if one.device.location == location}
    return sorted(role for role in used if role.startswith("place:"))


def role_in(form: dict[str, str]) -> str:
    """The role that a person has chosen: a place typed by its name wins over the list. Raises `invalid_place`."""
    typed, chosen = form.get("place", "").strip(), form.get("role", "")
    if typed:
        return place_role(typed)
    kind, _, name = chosen.partition(":")
    if kind == "till":
        return f"till:{parse_id(name, 'role')}"
    return place_role(name) if kind == "place" else ""


# -- acts --------------------------------------------------------------------------------------------------------------


async def assign(screen: Screen) -> Answer:
    """Give a device its name and its till or place."""
    form = screen.form()
    try:
        await screen.services.devices.assign(screen.id(), form.get("name", "").strip(), role_in(form), None, screen.who)
    except (DeviceError, InvalidValueError) as error:
        return back(screen, error.code)
    return redirect(f"/devices/{screen.id()}?told=assigned#place")


async def move(screen: Screen) -> Answer:
    """Take a terminal to another location."""
    location = parse_id(screen.form().get("location", ""), "location")
    try:
        await screen.services.life.move(screen.id(), location, screen.who)
    except (DeviceError, InvalidValueError) as error:
        return back(screen, error.code)
    return redirect(f"/devices/{screen.id()}?told=moved#place")


async def deactivate(screen: Screen) -> Answer:
    """Take a device out of use (D05), with a reason; with money in it, or unheard, only when a person insists."""
    form, devices = screen.form(), screen.services.devices
    sure, reason = form.get("sure") == "yes", form.get("reason", "").strip()
    if not reason:
        return back(screen, "reason_missing")
    if not sure and (await devices.get(screen.id())).unheard:
        # To the service a reason alone says that nobody waits for it any more; here it is always asked for.
        return back(screen, "terminal_unheard")
    try:
        await devices.deactivate(screen.id(), screen.who, reason, force=sure)
    except (DeviceError, InvalidValueError) as error:
        under_way = sure and error.code == "pending_offline_payments"
        return back(screen, "device.busy" if under_way else error.code)
    return redirect(f"/devices/{screen.id()}?told=out_of_use#place")


async def activate(screen: Screen) -> Answer:
    """Use a device that is not in use."""
    try:
        await screen.services.devices.activate(screen.id(), screen.who)
    except (DeviceError, InvalidValueError) as error:
        return back(screen, error.code)
    return redirect(f"/devices/{screen.id()}?told=in_use#place")


async def register_soft(screen: Screen) -> Answer:
    """Register a terminal that is an app on a phone (D06); sending the form again changes nothing."""
    form = screen.form()
    device, location = parse_id(form.get("id", ""), "id"), parse_id(form.get("location", ""), "location")
    try:
        await screen.services.life.register_soft(device, form.get("name", "").strip(), location, screen.who)
    except (DeviceError, InvalidValueError) as error:
        return redirect(f"/devices?{urlencode({'refused': error.code})}")
    return redirect(f"/devices/{device}")


def back(screen: Screen, code: str) -> Answer:
    """Back to the device's page, which says why it was refused."""
    return redirect(f"/devices/{screen.id()}?{urlencode({'refused': code})}#place")


def refused(screen: Screen) -> str:
    """Why an act was refused, in the person's language; empty when none was."""
    words, code = screen.words, screen.query.get("refused", "")
    if not code:
        return ""
    known = {
        "name_in_use": words("Another terminal in use has this name. Take that one out of use, or choose another."),
        "role_not_for_terminals": words("A card terminal is for a till, or for all of them. Nobody pays at a place."),
        "till_elsewhere": words("This till is at another location than the device."),
        "invalid_place": words("A place has a short name, such as kitchen."),
        "device.busy": words("The terminal is working on a payment. Wait until it is over."),
        "device.step_skipped": words("Use this device first."),
        "location_unknown": words("This hub knows no such location."),
        "device.driver_not_chosen": words("Say which device it is."),
        "device.unreachable": words("Nothing answers at this address. Switch the device on, and compare the address."),
        "device.other_answer": words("What is there does not answer as it should. It is in the list below."),
        "device.address_invalid": words("This is not an address, such as 192.168.1.50 or 192.168.1.50:9100."),
        "device.address_refused": words("This address is not in the shop's network."),
        "device.address_taken": words("Another device at this address is in use. Take that one out of use first."),
    }
    return known.get(code) or sentence(screen, HubError(code, ""))


def told(screen: Screen) -> str:
    """What an act has brought, in the person's language; empty when there was none."""
    words = screen.words
    return {
        "assigned": words("It is written down."),
        "moved": words("It belongs to its new location now."),
        "out_of_use": words("It is out of use."),
        "in_use": words("It is in use."),
    }.get(screen.query.get("told", ""), "")
