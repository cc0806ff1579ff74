"""Sets the demo's shop up through the hub's own services: location, people, terminals, one paired till."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hubd.config import TerminalConfig
from hubd.daemon import Daemon, claim_configured
from hubd.model.device import DeviceKind
from hubd.model.permissions import Permission
from hubd.model.policy import SHIPPED
from hubd.services.access import Caller
from hubd.services.pairing import PairingRequest
from hubd.services.settings import POLICY_PREFIX
from hubd.services.staff import NewPerson, SetUp
from hubd.store.people import Location

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


@dataclass(frozen=True, slots=True)
class Shop:
    """What was set up."""

    location: str
    till_file: Path


def administrator(location: str) -> Caller:
    """The machine's administrator, as the operators' socket knows him."""
    return Caller("", None, location, frozenset(Permission), "en")


async def set_up(daemon: Daemon, terminals: tuple[TerminalConfig, ...], state: Path) -> Shop:
    """Bring the shop to what the demo promises; what is there already stays as it is."""
    services = daemon.services
    new_id = services.runtime.ids.new_id
    if not await services.staff.is_set_up():
        place = Location(new_id(), SHOP_NAME, ZONE, CURRENCY, COUNTRY)
        owner = NewPerson(new_id(), OWNER_NAME, OWNER_PIN)
        made = await services.staff.set_up(SetUp(owner, place), administrator(place.id))
        _write_private(state / RECOVERY_FILE, {"recovery_code": made.recovery_code})
        roles = ((place.id, "cashier"),)
        cashier = NewPerson(new_id(), CASHIER_NAME, CASHIER_PIN, roles=roles)
        await services.staff.add(cashier, administrator(place.id))
        await _allow_cards_offline(daemon, administrator(place.id))
    location = (await services.staff.locations())[0].id
    caller = administrator(location)
    await claim_configured(services, terminals)
    for view in await services.devices.all():
        if view.device.kind is DeviceKind.TERMINAL and not view.device.active:
            await services.devices.activate(view.device.id, caller)
    till_file = state / TILL_FILE
    if not till_file.exists():
        _write_private(till_file, await _pair_till(daemon, caller))
    till = json.loads(till_file.read_text("utf-8"))
    addresses = {"https": f"https://localhost:{daemon.https_port}", "http": f"http://127.0.0.1:{daemon.http_port}"}
    _write_private(till_file, till | addresses | {"fingerprint": daemon.fingerprint})
    return Shop(location, till_file)


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
