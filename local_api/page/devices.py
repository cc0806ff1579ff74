"""The devices of the store and what was found beside them, with the acts on both."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlencode

from hubd.discovery_ports import ProbeOutcome
from hubd.errors import DeviceError, InvalidValueError
from hubd.model.device import Capability
from hubd.model.money import Money
from hubd.model.permissions import Permission
from hubd.model.runbooks import steps_of
from hubd.services.devices import DeviceView
from hubd.services.discovery import Found, Standing, places_for, shown_name
from hubd.services.end_of_day import Row
from hubd.services.terminal_life import UNKNOWN_SOFTWARE, Life
from local_api.page import place
from local_api.page.screen import Answer, Screen, redirect


async def devices(screen: Screen) -> Answer:
    """Every device, with what it holds and how it is."""
    shop = await screen.tools.overview.shop(screen.who.location)
    every = await screen.services.devices.all()
    locations = await place.managed_locations(screen)
    return screen.show(
        "devices.html",
        shop,
        refused=place.refused(screen),
        locations=locations,
        here_location=screen.who.location,
        roles=place.roles_anywhere(screen, every, locations),
        at_addresses=screen.services.addresses.choices(),
        new_id=screen.services.runtime.ids.new_id(),
        devices=[view for view in every if view.device.leaving or not view.device.replaced_by],
        names={view.device.id: view.device.name for view in every},
        before=_before(every),
        places_for=places_for,
        vacant=await screen.services.roles.vacant(screen.who),
        found=[(one, shown_name(one), why_not(screen, one)) for one in screen.services.discovery.all() if is_news(one)],
        kinds=kinds(screen),
        sources=sources(screen),
        rungs=rungs(screen),
        lives=await screen.services.life.all(),
        software=partial(software, screen),
        support=(await screen.services.settings.get("vendor.support_contact", "")).value,
        steps_of=partial(_steps, screen),
        can_operate=screen.may(Permission.DEVICES_OPERATE),
        can=partial(can, screen),
        outcome_of=partial(outcome_of, screen),
        can_activate=screen.may(Permission.TERMINALS_ACTIVATE),
        can_manage=screen.may(Permission.DEVICES_MANAGE),
        can_pair=screen.may(Permission.PAIRINGS_MANAGE),
    )


async def activate(screen: Screen) -> Answer:
    """Use a device that was claimed."""
    await screen.services.devices.activate(screen.id(), screen.who)
    return redirect("/devices")


async def use_found(screen: Screen) -> Answer:
    """Make what was found a device of the store and use it: in the place of another one, or in one of its own."""
    form = screen.form()
    try:
        role = place.role_in(form)
        device = await screen.services.discovery.claim(
            screen.id(),
            form.get("name", "").strip(),
            role,
            screen.who,
            form.get("driver", ""),
            form.get("replaces", ""),
            await place.location_in(screen, form, role),
        )
        await screen.services.devices.activate(device.id, screen.who)
    except (DeviceError, InvalidValueError) as error:
        return redirect(f"/devices?{urlencode({'refused': error.code})}")
    await screen.services.discovery.consider()  # what is in use is not among what was found any more
    return redirect("/devices")


async def add(screen: Screen) -> Answer:
    """Use a device at an address that a person has typed; one that does not answer as it should is only shown."""
    form, services = screen.form(), screen.services
    address, driver, name = (form.get(key, "").strip() for key in ("address", "driver", "name"))
    try:
        role = place.role_in(form)
        location = await place.location_in(screen, form, role)
        found = await services.addresses.add(address, driver, name, screen.who)
        if found.standing is Standing.OFFERED and found.probed and found.probed.outcome is not ProbeOutcome.RECOGNISED:
            return redirect(f"/devices?refused=device.other_answer#found-{found.id}")
        device = await services.discovery.claim(found.id, name, role, screen.who, location=location)
        if found.device_id and (name or role):  # it was here before, and keeps what it had unless a person says so
            await services.devices.assign(device.id, name or device.name, role or device.role, None, screen.who)
        await services.devices.activate(device.id, screen.who)
    except (DeviceError, InvalidValueError) as error:
        return redirect(f"/devices?{urlencode({'refused': error.code})}")
    return redirect(f"/devices/{device.id}?told=in_use#place")


async def find_out(screen: Screen) -> Answer:
    """Ask what hangs on a line; the page then shows what it looks like."""
    await screen.services.probing.probe(screen.id(), screen.who)
    return redirect("/devices")


def outcome_of(screen: Screen, found: Found) -> str:
    """What asking has brought, in words; "" before anybody has asked."""
    words = screen.words
    if found.probed is None:
        return ""
    if found.probed.outcome is ProbeOutcome.RECOGNISED and found.looks_like is None:
        return words("It answers as it should.")
    return {
        ProbeOutcome.RECOGNISED: words("It answers like a device of this kind:"),
        ProbeOutcome.TALKS: words("Something is there, and the hub does not know it."),
        ProbeOutcome.SILENT: words("Nothing answers. A scanner is silent until it reads a code."),
    }[found.probed.outcome]


async def end_of_day(screen: Screen) -> Answer:
    """Close a terminal's batch and show by whom what was counted."""
    shop = await screen.tools.overview.shop(screen.who.location)
    device = (await screen.services.devices.get(screen.id())).device
    closed = await screen.services.life.end_of_day(device.id, screen.who)
    return screen.show("end_of_day.html", shop, device=device, closed=closed, counted=_counted)


def _counted(row: Row, value: int | None) -> Money | int | None:
    """A number as a number, a sum as money; None where a side did not tell it."""
    return Money(value, row.currency) if value is not None and row.what == "total" and row.currency else value


def _steps(screen: Screen, life: Life) -> tuple[str, ...]:
    """What a person does at the terminal about what it needs, in his language."""
    return steps_of(life.needs, life.model, screen.language)


def is_news(found: Found) -> bool:
    """Whether it is more than one of the devices that the page shows anyway."""
    return found.standing is not Standing.KNOWN or found.reason in ("holds_money", "replaced")


def _before(every: list[DeviceView]) -> dict[str, str]:
    """Device → what it is that had its place last: its driver and what it was known by."""
    return {one.device.replaced_by: one.device.identity for one in every if one.device.replaced_by}


def why_not(screen: Screen, found: Found) -> str:
    """Why it cannot be used, in the person's language; "" when it can."""
    words = screen.words
    return {
        "": "",
        "no_driver": words("The hub does not know how to work with this kind of device."),
        "lpd_only": words("It speaks LPD only, by which a printer tells nothing of paper and jobs."),
        "office_printer": words("It is an office printer. Switch IPP (AirPrint) on in its settings."),
        "no_line": words("The hub's system does not know how to open it."),
        "driver_unusable": words("Its driver cannot be used. Call your technician."),
        "no_address": words("It names no address that the hub can reach."),
        "address_refused": words("It names an address outside the shop's network."),
        "keyboard": words("It is a keyboard. If it is a scanner that types, a technician lets the hub read it."),
        "clear_card_reader": words("It reads cards and tells their numbers in clear. Such a reader is refused."),
        "says_nothing": words("It does not say what it is. Try another cable and another socket."),
        "no_location": words("The shop is not set up yet."),
        "replaced": words("Another device has taken its place."),
        "holds_money": words("Its device holds payments. A technician confirms the new address."),
    }.get(found.reason, found.reason)


async def close(screen: Screen) -> Answer:
    """Take a terminal out of use that will not come back, or off the page once replaced; the reason is kept."""
    reason = screen.form().get("reason", "").strip()
    device = await screen.services.devices.known(screen.id())
    if reason and device.leaving:
        await screen.services.roles.close(device.id, reason, screen.who)
    elif reason:
        await screen.services.devices.deactivate(screen.id(), screen.who, reason)
    return redirect("/devices")


async def remove(screen: Screen) -> Answer:
    """Take a till or a phone out."""
    await screen.services.pairing.remove(screen.id(), screen.who)
    return redirect("/devices")


def kinds(screen: Screen) -> dict[str, str]:
    """What each kind of device is called."""
    words = screen.words
    return {
        "terminal": words("Card terminal"),
        "till": words("Till"),
        "viewer": words("Phone or screen that looks on"),
        "printer": words("Printer"),
        "scanner": words("Scanner"),
        "scale": words("Scale"),
        "modem": words("Modem for text messages"),
    }


def sources(screen: Screen) -> dict[str, str]:
    """Where it was found."""
    words = screen.words
    return {
        "configured": words("Named in the configuration"),
        "mdns": words("Found on the network"),
        "usb": words("Plugged in"),
        "serial": words("Plugged in, with a serial line"),
        "typed": words("At an address that was typed"),
    }


def rungs(screen: Screen) -> dict[str, str]:
    """By what it is known again: the rungs of the identity ladder."""
    words = screen.words
    return {
        "serial_number": words("its serial number"),
        "port_path": words("the plug it is in"),
        "name": words("the name that it tells"),
        "address": words("its address"),
    }


def software(screen: Screen, view: DeviceView, life: Life) -> str:
    """Name and version of a terminal's software as it told them; otherwise why there is none, in words."""
    told = screen.services.life.software_of(life)
    if told != UNKNOWN_SOFTWARE:
        return told
    mute = view.capabilities and Capability.TELLS_SOFTWARE not in view.capabilities
    return screen.words("not told by this protocol") if mute else screen.words("unknown")


def can(screen: Screen, found: Found) -> str:
    """What an offered device can do, in words; empty where a person has to choose first."""
    return able(screen, found.choices[0].capabilities) if len(found.choices) == 1 else ""


def able(screen: Screen, capabilities: frozenset[Capability]) -> str:
    """What a device can do, in words."""
    words = screen.words
    told = {
        Capability.PAY: words("take payments"),
        Capability.REVERSE: words("undo payments"),
        Capability.SEND_OFFLINE: words("send stored payments"),
        Capability.PRINT: words("print"),
        Capability.CUT: words("cut the paper"),
        Capability.DRAWER: words("open the drawer"),
        Capability.WEIGH: words("weigh"),
        Capability.SCAN: words("scan"),
        Capability.SEND_SMS: words("send text messages"),
    }
    return ", ".join(text for one, text in told.items() if one in capabilities)
