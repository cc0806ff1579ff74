"""Sets the demo's shop up through the hub's own services: location, people, terminals, one paired till."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from hubd.daemon import Daemon
from hubd.demo.simulators import SimulatedTerminal
from hubd.model.device import DeviceKind
from hubd.model.permissions import Permission
from hubd.model.policy import SHIPPED
from hubd.services.access import Caller
from hubd.services.discovery import Standing
from hubd.services.pairing import PairingRequest
from hubd.services.settings import POLICY_PREFIX
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
"""How long the opening waits for the terminal that announces itself; mDNS takes a second or two."""
LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Shop:
    """What was set up."""

    location: str
    till_file: Path


def administrator(location: str) -> Caller:
    """The machine's administrator, as the operators' socket knows him."""
    return Caller("", None, location, frozenset(Permission), "en")


async def set_up(daemon: Daemon, terminals: list[SimulatedTerminal], state: Path) -> Shop:
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
    await services.discovery.consider()
    fixed = {terminal.address for terminal in daemon.config.terminals}
    for view in await services.devices.all():
        if view.device.address in fixed and not view.device.active:
            await services.devices.activate(view.device.id, caller)
    daemon.hub.supervisor.start("demo.found", partial(use_found, daemon, terminals, caller), ONCE)
    with suppress(TimeoutError):
        async with services.runtime.clock.timeout(FOUND_TIMEOUT_S):
            while await not_found(daemon, terminals):
                await services.runtime.clock.sleep(LOOK_EVERY_S)
    till_file = state / TILL_FILE
    if not till_file.exists():
        _write_private(till_file, await _pair_till(daemon, caller))
    till = json.loads(till_file.read_text("utf-8"))
    addresses = {"https": f"https://localhost:{daemon.https_port}", "http": f"http://127.0.0.1:{daemon.http_port}"}
    _write_private(till_file, till | addresses | {"fingerprint": daemon.fingerprint})
    return Shop(location, till_file)


async def not_found(daemon: Daemon, terminals: list[SimulatedTerminal]) -> list[str]:
    """Names of the terminals that the hub has not found on the network yet."""
    known = {view.device.identity for view in await daemon.services.devices.all() if view.device.active}
    wanted = {f"serial:{terminal.serial_number}": terminal.name for terminal in terminals if not terminal.address}
    return [name for identity, name in wanted.items() if identity not in known]


async def use_found(daemon: Daemon, terminals: list[SimulatedTerminal], caller: Caller) -> None:
    """Do what a manager does once the page shows a new terminal: give it its name and take it into use.

    Only the demo's own: whatever else is found on this machine is for a person to decide.
    """
    services = daemon.services
    names = {f"serial:{terminal.serial_number}": terminal.name for terminal in terminals if not terminal.address}
    while missing := await not_found(daemon, terminals):
        for found in services.discovery.all():
            name = names.get(found.endpoint.identity)
            if name in missing and found.standing is Standing.OFFERED:
                device = await services.discovery.claim(found.id, name, "", caller)
                await services.devices.activate(device.id, caller)
        await services.runtime.clock.sleep(LOOK_EVERY_S)


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
