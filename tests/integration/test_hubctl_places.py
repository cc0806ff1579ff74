"""`hubctl devices assign|rename|move|deactivate|activate|add-phone`, by name, with refusals that change nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivers.sim.escpos import EscposSimulator
from drivers.sim.scale.engine import ToledoSimulator
from hubd.model.device import DeviceKind
from hubd.store.people import Location
from tests.integration.test_hubctl_statement import hubctl
from tests.rigs.api import ServedHub, served_hub
from tests.simulation.discovery import announced
from tests.unit.services.shop import LOCATION, MANAGER, Terminals, shop_runtime

pytestmark = pytest.mark.timeout(180)
"""Each command is a process of its own."""
NEAR, PRINTER, FOUND = "tcp://terminal-1", "tcp://printer:9100", "tcp://terminal-9"
ELSEWHERE = "01890000-0000-7000-8000-000000000002"


async def device_of(hub: ServedHub, device: str) -> tuple[str, str, str, bool]:
    found = await hub.shop.services.devices.known(device)
    return found.name, found.role, found.location, found.active


async def test_a_printer_is_bound_to_a_till_to_a_place_and_to_all_again(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.others[PRINTER] = EscposSimulator(counter.runtime)
    async with served_hub(tmp_path, terminals=counter) as hub:
        printer = await hub.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        till = (await hub.pair("Caisse 1")).device
        said = ("devices", "assign", "The printer")
        assert await hubctl(hub, *said, "--till", "Caisse 1") == (0, "The printer is for Caisse 1.\n")
        assert (await device_of(hub, printer))[1] == f"till:{till}"
        for wrong in ((), ("--till", "Caisse 1", "--shared"), ("--till", "Caisse 3"), ("--place", "!")):
            assert await hubctl(hub, *said, *wrong) == (1, ""), wrong
        assert (await device_of(hub, printer))[1] == f"till:{till}"
        assert await hubctl(hub, *said, "--place", "Küche") == (0, "The printer is for the place kuche.\n")
        assert await hubctl(hub, *said, "--shared") == (0, "The printer is for every till of its location.\n")
        assert (await device_of(hub, printer))[1] == ""


async def test_a_device_gets_another_name_and_is_taken_out_of_use_and_back(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.others[PRINTER] = EscposSimulator(counter.runtime)
    async with served_hub(tmp_path, terminals=counter) as hub:
        printer = await hub.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        till = (await hub.pair("Caisse 1")).device
        assert await hubctl(hub, "devices", "rename", "The printer", "Bon") == (0, "It is called Bon now.\n")
        assert await hubctl(hub, "devices", "rename", "Caisse 1", "Comptoir") == (0, "It is called Comptoir now.\n")
        code, shown = await hubctl(hub, "devices", "assign", "Bon", "--till", "Comptoir", "--json")
        assert (code, json.loads(shown)["device"]["role"]) == (0, f"till:{till}")
        code, shown = await hubctl(hub, "devices", "deactivate", "Bon")
        assert (code, shown) == (0, "Bon is out of use.\n")
        assert await device_of(hub, printer) == ("Bon", f"till:{till}", LOCATION, False)
        assert await hubctl(hub, "devices", "activate", "Bon") == (0, "Bon is in use.\n")
        assert (await device_of(hub, printer))[3]


async def test_a_terminal_moves_leaves_with_a_reason_and_its_name_goes_on(tmp_path: Path) -> None:
    """D05 and D06 from the command line."""
    counter = Terminals(shop_runtime())
    counter.add(NEAR)
    async with served_hub(tmp_path, terminals=counter) as hub:
        services = hub.shop.services
        for place, name in ((LOCATION, "Lille"), (ELSEWHERE, "Roubaix")):
            await services.staff.set_location(Location(place, name, "Europe/Paris", "EUR", "FR"), MANAGER)
        terminal = await hub.shop.add_terminal(NEAR)
        assert await hubctl(hub, "devices", "assign", "Terminal", "--place", "bar") == (2, ""), (
            "a terminal has no place"
        )
        assert await hubctl(hub, "devices", "move", "Terminal", "Roubaix") == (0, "Terminal belongs to Roubaix now.\n")
        assert (await device_of(hub, terminal))[2] == ELSEWHERE
        assert await hubctl(hub, "devices", "move", "Terminal", "Paris") == (1, "")
        assert await hubctl(hub, "devices", "add-phone", "Tap") == (1, ""), "at which of two locations is not said"
        code, shown = await hubctl(hub, "devices", "add-phone", "Tap", "--location", "Lille", "--json")
        phone = json.loads(shown)["device"]["id"]
        assert (code, await device_of(hub, phone)) == (0, ("Tap", "", LOCATION, True))
        assert await hubctl(hub, "devices", "rename", "Tap", "Terminal") == (1, ""), "the name is in use"
        assert await hubctl(hub, "devices", "deactivate", "Terminal", "--force") == (1, ""), "no reason"
        code, shown = await hubctl(hub, "devices", "deactivate", "Terminal", "--force", "--reason", "fell down")
        assert (code, shown) == (0, "Terminal is out of use.\n")
        assert await hubctl(hub, "devices", "rename", "Tap", "Terminal") == (0, "It is called Terminal now.\n")


async def test_what_was_found_is_used_under_a_name_for_a_till_at_a_location(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.add(FOUND)
    async with served_hub(tmp_path, terminals=counter) as hub:
        services = hub.shop.services
        await services.staff.set_location(Location(LOCATION, "Lille", "Europe/Paris", "EUR", "FR"), MANAGER)
        services.discovery.appeared(announced("terminal-9", name="CZ-9", number="SN-0009"))
        await services.discovery.consider()
        (seen,) = services.discovery.all()
        till = (await hub.pair("Caisse 1")).device
        said = ("--name", "Bar", "--till", "Caisse 1", "--location", "Lille")
        assert (await hubctl(hub, "devices", "use", seen.id, *said))[0] == 0
        (used,) = [one.device for one in await services.devices.all() if one.device.identity == "serial:SN-0009"]
        assert (used.name, used.role, used.location) == ("Bar", f"till:{till}", LOCATION)


async def test_a_printer_is_added_by_its_address_and_a_wrong_one_is_not_used(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.others[PRINTER] = EscposSimulator(counter.runtime)
    counter.others["tcp://scale:9100"] = ToledoSimulator(counter.runtime)
    async with served_hub(tmp_path, terminals=counter) as hub:
        services = hub.shop.services
        till = (await hub.pair("Caisse 1")).device
        assert await hubctl(hub, "devices", "add", "nobody:9100") == (1, "")
        assert await hubctl(hub, "devices", "add", "127.0.0.1", "--driver", "escpos") == (1, "")
        assert await hubctl(hub, "devices", "add", "scale:9100") == (1, ""), "it does not answer as a printer"
        assert [one for one in await services.devices.all() if one.device.driver] == []
        said = ("devices", "add", "printer", "--driver", "escpos", "--name", "Bon", "--till", "Caisse 1")
        assert await hubctl(hub, *said) == (0, "Bon is in use (escpos).\n")
        (printer,) = [one.device for one in await services.devices.all() if one.device.driver]
        assert await device_of(hub, printer.id) == ("Bon", f"till:{till}", LOCATION, True)
        assert (await hubctl(hub, "devices", "deactivate", "Bon"))[0] == 0
        again = ("devices", "add", "printer:9100", "--name", "Bar", "--place", "bar")
        assert await hubctl(hub, *again) == (0, "Bar is in use (escpos).\n"), "the same device, with what is said now"
        assert await device_of(hub, printer.id) == ("Bar", "place:bar", LOCATION, True)
        code, shown = await hubctl(hub, "devices", "add", "scale:9100", "--anyway", "--json")
        assert (code, json.loads(shown)["device"]["driver"]) == (0, "escpos")
