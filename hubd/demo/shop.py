"""Sets the demo's shop up through the hub's own services: location, people, devices, one paired till."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from hubd.daemon import Daemon
from hubd.demo.simulators import SCALE, SCANNER, Simulated
from hubd.model.device import DeviceKind
from hubd.model.permissions import Permission
from hubd.model.policy import SHIPPED, SHIPPED_VERSION
from hubd.services.access import Caller
from hubd.services.discovery import Standing
from hubd.services.pairing import PairingRequest
from hubd.services.settings import CUSTOMER_RECEIPT, POLICY_PREFIX
from hubd.services.staff import NewPerson, SetUp
from hubd.store.people import Location
from hubd.supervisor import ONCE

OWNER_NAME = "Camille"
OWNER_PIN = "2580"
CASHIER_NAME = "Noor"
CASHIER_PIN = "1397"
SHOP_NAME = "Demo store"
TILL_NAME = "Demo till"
ZONE, CURRENCY, COUNTRY = "Europe/Paris", "EUR", "FR"
TILL_FILE = "till.json"
RECOVERY_FILE = "recovery.json"
"""The code that opens the backups. A shop keeps it on paper, away from the hub; a demo has nobody to write it down."""
DEVICE_CLASS = "terminal"
FOUND_TIMEOUT_S = 20.0
"""How long the opening waits for the devices that announce themselves; mDNS takes a second or two."""
LOOK_EVERY_S = 0.2
OF_THE_TILL = frozenset({SCALE, SCANNER})
"""What belongs to the demo's till. The printer is everybody's: the page prints there too."""


@dataclass(frozen=True, slots=True)
class Shop:
    """What was set up."""

    location: str
    till_file: Path


def administrator(location: str) -> Caller:
    """The machine's administrator, as the operators' socket knows him."""
    return Caller("", None, location, frozenset(Permission), "en")


async def set_up(daemon: Daemon, devices: list[Simulated], state: Path) -> Shop:
    """Bring the shop to what the demo promises; what is there already stays as it is."""
    services = daemon.services
    new_id = services.runtime.ids.new_id
    if not await services.staff.is_set_up():
        place = Location(new_id(), SHOP_NAME, ZONE, CURRENCY, COUNTRY)
        owner = NewPerson(new_id(), OWNER_NAME, OWNER_PIN)
        made = await services.staff.set_up(SetUp(owner, place), administrator(place.id))
        _write_private(state / RECOVERY_FILE, {"recovery_code": made.recovery_code})
        held = await services.recovery.state(administrator(place.id))
        await services.recovery.confirm(held.id, administrator(place.id))
        roles = ((place.id, "cashier"),)
        cashier = NewPerson(new_id(), CASHIER_NAME, CASHIER_PIN, roles=roles)
        await services.staff.add(cashier, administrator(place.id))
        await _allow_cards_offline(daemon, administrator(place.id))
    location = (await services.staff.locations())[0].id
    caller = administrator(location)
    till_file = state / TILL_FILE
    if not till_file.exists():
        _write_private(till_file, await _pair_till(daemon, caller))
    till = json.loads(till_file.read_text("utf-8"))
    await _print_receipts(daemon, caller)
    await _use_configured(daemon, devices, str(till["device"]), caller)
    daemon.hub.supervisor.start("demo.found", partial(use_found, daemon, devices, caller), ONCE)
    with suppress(TimeoutError):
        async with services.runtime.clock.timeout(FOUND_TIMEOUT_S):
            while await not_found(daemon, devices):
                await services.runtime.clock.sleep(LOOK_EVERY_S)
    addresses = {"https": f"https://localhost:{daemon.https_port}", "http": f"http://127.0.0.1:{daemon.http_port}"}
    _write_private(till_file, till | addresses | {"fingerprint": daemon.fingerprint})
    return Shop(location, till_file)


async def _use_configured(daemon: Daemon, devices: list[Simulated], till: str, caller: Caller) -> None:
    """Take what stands at a fixed address into use; what is for the till alone gets its role with that, once."""
    services = daemon.services
    await services.discovery.consider()
    fixed = {terminal.address for terminal in daemon.config.terminals}
    mine = {device.address for device in devices if device.driver in OF_THE_TILL}
    for view in await services.devices.all():
        device = view.device
        if device.address in fixed and not device.active:
            await services.devices.activate(device.id, caller)
            if device.address in mine and not device.role:
                await services.devices.assign(device.id, device.name, f"till:{till}", None, caller)


async def device_id(daemon: Daemon, device: Simulated) -> str:
    """What the hub calls it; empty: it does not know it yet."""
    known = (view.device for view in await daemon.services.devices.all())
    return next((one.id for one in known if one.identity == device.identity), "")


async def not_found(daemon: Daemon, devices: list[Simulated]) -> list[str]:
    """Names of the devices that the hub has not found on the network yet."""
    known = {view.device.identity for view in await daemon.services.devices.all() if view.device.active}
    return [one.name for one in devices if not one.address and one.identity not in known]


async def use_found(daemon: Daemon, devices: list[Simulated], caller: Caller) -> None:
    """Do what a manager does once the page shows a new device: give it its name and take it into use.

    Only the demo's own: whatever else is found on this machine is for a person to decide.
    """
    services = daemon.services
    names = {device.identity: device.name for device in devices if not device.address}
    while missing := await not_found(daemon, devices):
        for found in services.discovery.all():
            name = names.get(found.endpoint.identity)
            if name in missing and found.standing is Standing.OFFERED:
                device = await services.discovery.claim(found.id, name, "", caller)
                await services.devices.activate(device.id, caller)
        await services.runtime.clock.sleep(LOOK_EVERY_S)


async def _print_receipts(daemon: Daemon, caller: Caller) -> None:
    """Let every sale print: shipped is that nobody gets paper who has not asked for it. A person's word stands."""
    settings = daemon.services.settings
    if (await settings.get(CUSTOMER_RECEIPT)).newest == SHIPPED_VERSION:
        await settings.put(caller.actor, CUSTOMER_RECEIPT, value=True)


async def _allow_cards_offline(daemon: Daemon, caller: Caller) -> None:
    """Turn the shipped outage policy on: it is off until a person with the right to decides."""
    policy = replace(SHIPPED[DEVICE_CLASS], enabled=True).as_json()
    await daemon.services.settings.put(caller.actor, f"{POLICY_PREFIX}{DEVICE_CLASS}", policy)


async def _pair_till(daemon: Daemon, caller: Caller) -> dict[str, Any]:
    """Pair a till as a person would: open a code, let the till send it, confirm."""
    services = daemon.services
    opened = await services.pairing.open(caller, DeviceKind.TILL)
    request = PairingRequest(services.runtime.ids.new_id(), opened.code, TILL_NAME, DeviceKind.TILL)
    services.pairing.request(request)
    done = await services.pairing.confirm(opened.id, caller)
    assert done.device is not None, "a confirmed pairing has its device"
    return {"device": done.device.id, "token": done.token, "location": done.device.location}


def _write_private(path: Path, content: dict[str, Any]) -> None:
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    beside.touch(mode=0o600)
    beside.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    beside.replace(path)
