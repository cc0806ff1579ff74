"""What was found, over the API: everybody who may read devices sees it, and a manager makes it one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from drivers.probing import candidates
from drivers.sim.scale.engine import CasSimulator
from hubd.model.device import Endpoint, EndpointKind, IdentitySource
from hubd.services.device_rules import NewDevice
from tests.simulation.discovery import announced
from tests.simulation.plugs import plugged_printer
from tests.unit.local_api.counter import OWNER_PIN, counter
from tests.unit.services.shop import DRIVERS, LOCATION, Terminals, shop_runtime

HERE = "terminal-1"
WAYS = candidates(entry.manifest for entry in DRIVERS.entries if entry.manifest is not None)


async def test_a_manager_claims_and_activates_what_was_found(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    terminals.add(f"tcp://{HERE}")
    async with counter(tmp_path, terminals=terminals) as held:
        till, owner = await held.till(), await held.owner()
        discovery = held.shop.services.discovery
        discovery.appeared(announced(HERE, name="<b>Counter</b>\x1b[2J"))
        discovery.appeared(announced("printer", name="4111 1111 1111 1111", service="_printer._tcp.local."))
        await discovery.consider()
        offered, odd = (await till.get("/v1/endpoints")).json()["items"]
        assert offered == {
            "id": offered["id"],
            "source": "mdns",
            "name": "<b>Counter</b>�[2J",
            "address": f"tcp://{HERE}",
            "service": "_zvt._tcp.local.",
            "identity": "serial:SN-0001",
            "identity_source": "serial_number",
            "position": None,
            "txt": {"id": "SN-0001"},
            "standing": "offered",
            "driver": "zvt",
            "drivers": [],
            "device": None,
            "reason": None,
            "why": None,
            "probed": None,
            "looks_like": None,
            "in_place_of": [],
        }
        assert (odd["standing"], odd["reason"], odd["driver"]) == ("unusable", "lpd_only", None)
        assert odd["name"] == "_printer._tcp.local."
        claim = f"/v1/endpoints/{offered['id']}/claim"
        refused = await till.post(claim, json={"name": "Mine"})
        assert (refused.status_code, refused.json()["code"]) == (403, "access.not_allowed")
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        manager = {"hub-session": session["token"]}
        wrong = await till.post(f"/v1/endpoints/{odd['id']}/claim", json={}, headers=manager)
        assert (wrong.status_code, wrong.json()["code"]) == (409, "device.not_offered")
        unknown = await till.post(f"/v1/endpoints/{held.new_id()}/claim", json={}, headers=manager)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "endpoint_unknown")
        card = await till.post(claim, json={"name": "4111 1111 1111 1111"}, headers=manager)
        assert card.json()["code"] == "card_data_refused"
        claimed = (await till.post(claim, json={"name": "Counter"}, headers=manager)).json()
        assert (claimed["name"], claimed["identity"], claimed["active"]) == ("Counter", "serial:SN-0001", False)
        entry = (await held.entries())[-1]
        assert (entry["kind"], entry["actor"]) == ("device.claimed", f"staff:{owner}")
        active = await till.post(f"/v1/devices/{claimed['id']}/activate", headers=manager)
        assert active.json()["active"] is True
        await held.shop.ready(claimed["id"])
        await discovery.consider()
        known = (await till.get("/v1/endpoints")).json()["items"][-1]
        assert (known["standing"], known["device"]) == ("known", claimed["id"])
        again = await till.post(claim, json={"name": "Other"}, headers=manager)
        assert (again.json()["id"], again.json()["name"]) == (claimed["id"], "Counter")


async def test_a_serial_line_is_used_by_the_driver_that_a_person_names(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    line = "serial:///dev/serial/by-id/usb-FTDI_FT232R_A1-if00-port0"
    terminals.add(line)
    async with counter(tmp_path, terminals=terminals) as held:
        till, owner = await held.till(), await held.owner()
        discovery = held.shop.services.discovery
        discovery.appeared(
            Endpoint(
                "/sys/1",
                EndpointKind.SERIAL,
                line,
                "serial:0403:6001:A1:00",
                IdentitySource.SERIAL_NUMBER,
                "FTDI FT232R",
                usb_vid=0x0403,
                usb_pid=0x6001,
                position="1-1:00",
            )
        )
        await discovery.consider()
        (seen,) = (await till.get("/v1/endpoints")).json()["items"]
        assert (seen["standing"], seen["driver"], seen["position"]) == ("choose", None, "1-1:00")
        assert "zvt" in seen["drivers"]
        assert not [one for one in held.shop.services.problems.present() if one.code == "device.not_activated"]
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        manager, claim = {"hub-session": session["token"]}, f"/v1/endpoints/{seen['id']}/claim"
        for body in ({}, {"driver": "acme"}):
            vague = await till.post(claim, json=body, headers=manager)
            assert (vague.status_code, vague.json()["code"]) == (409, "device.driver_not_chosen")
        claimed = (await till.post(claim, json={"driver": "zvt"}, headers=manager)).json()
        assert (claimed["driver"], claimed["kind"], claimed["name"]) == ("zvt", "terminal", "FTDI FT232R")
        await till.post(f"/v1/devices/{claimed['id']}/activate", headers=manager)
        await held.shop.ready(claimed["id"])
        await discovery.consider()
        (known,) = (await till.get("/v1/endpoints")).json()["items"]
        assert (known["standing"], known["device"]) == ("known", claimed["id"])


async def test_a_line_is_set_as_its_driver_needs_it_wherever_it_is_plugged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with counter(tmp_path) as held:
        till, owner = await held.till(), await held.owner()
        discovery = held.shop.services.discovery

        def plugged(path: str) -> Endpoint:
            number = IdentitySource.SERIAL_NUMBER
            return Endpoint("/sys/1", EndpointKind.SERIAL, f"serial://{path}", "serial:0403:6001:A1:00", number)

        discovery.appeared(plugged("/dev/ttyUSB0"))
        await discovery.consider()
        (seen,) = (await till.get("/v1/endpoints")).json()["items"]
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        claim, manager = f"/v1/endpoints/{seen['id']}/claim", {"hub-session": session["token"]}
        scale = (await till.post(claim, json={"driver": "toledo8217"}, headers=manager)).json()
        settings = "baud=9600&data_bits=7&parity=even&stop_bits=1"
        assert (scale["kind"], scale["address"]) == ("scale", f"serial:///dev/ttyUSB0?{settings}")
        await till.post(f"/v1/devices/{scale['id']}/activate", headers=manager)
        await discovery.consider()
        (known,) = (await till.get("/v1/endpoints")).json()["items"]
        assert (known["standing"], known["device"], known["reason"]) == ("known", scale["id"], None)
        await till.post(f"/v1/devices/{scale['id']}/deactivate", headers=manager)
        await discovery.consider()
        (again,) = (await till.get("/v1/endpoints")).json()["items"]
        assert again["standing"] == "choose", "the choice may have been wrong"
        other = (await till.post(claim, json={"driver": "cas"}, headers=manager)).json()
        assert (other["driver"], other["id"] == scale["id"]) == ("cas", False)
        same = (await till.post(claim, json={"driver": "toledo8217"}, headers=manager)).json()
        assert same["id"] == scale["id"]
        await till.post(f"/v1/devices/{scale['id']}/activate", headers=manager)
        followed: list[tuple[str, str]] = []
        monkeypatch.setattr(held.shop.services.devices, "follow", lambda device, url: followed.append((device, url)))
        discovery.appeared(plugged("/dev/ttyUSB4"))
        await discovery.consider()
        assert followed == [(scale["id"], f"serial:///dev/ttyUSB4?{settings}")]


async def test_a_device_is_swapped_in_one_request_and_the_old_one_says_who_has_its_place(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    old_simulator = terminals.add(f"tcp://{HERE}")
    terminals.add("tcp://terminal-2")
    async with counter(tmp_path, terminals=terminals) as held:
        till, owner = await held.till(), await held.owner()
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        manager = {"hub-session": session["token"]}
        discovery = held.shop.services.discovery
        old = await held.shop.add_terminal(f"tcp://{HERE}")
        place = {"name": "Front", "role": "place:bar"}
        refused = await till.post(f"/v1/devices/{old}/assign", json=place, headers=manager)
        assert refused.json()["code"] == "role_not_for_terminals"
        await old_simulator.unplug()
        await held.shop.lost(old)
        discovery.appeared(announced("terminal-2", name="Spare", number="SN-0002"))
        await discovery.consider()

        async def seen() -> dict[str, Any]:
            found: dict[str, Any] = (await till.get("/v1/endpoints", headers=manager)).json()["items"][0]
            return found

        async with held.shop.services.runtime.clock.timeout(10):
            while not (offered := await seen())["in_place_of"]:
                await held.shop.services.runtime.clock.sleep(0.005)
        assert [one["device"] for one in offered["in_place_of"]] == [old]
        claim = f"/v1/endpoints/{offered['id']}/claim"
        swapped = (await till.post(claim, json={"replaces": old}, headers=manager)).json()
        assert (swapped["name"], swapped["active"], swapped["kind"]) == ("Terminal", False, "terminal")
        before = (await till.get(f"/v1/devices/{old}")).json()
        assert (before["replaced_by"], before["leaving"], before["active"]) == (swapped["id"], False, False)
        close = await till.post(f"/v1/devices/{old}/close", json={"reason": "it burnt"}, headers=manager)
        assert (close.status_code, close.json()["code"]) == (409, "device.not_leaving")
        await discovery.consider()
        assert (await seen())["in_place_of"] == []
        kinds = [entry["kind"] for entry in (await held.entries())[-2:]]
        assert kinds == ["device.claimed", "device.replaced"]


async def test_an_address_that_a_person_types_belongs_to_no_plugged_device_and_to_no_other_file(tmp_path: Path) -> None:
    async with counter(tmp_path) as held:
        till, owner = await held.till(), await held.owner()
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        manager, discovery = {"hub-session": session["token"]}, held.shop.services.discovery
        discovery.appeared(plugged_printer("A1"))
        await discovery.consider()
        (seen,) = (await till.get("/v1/endpoints")).json()["items"]
        device = (await till.post(f"/v1/endpoints/{seen['id']}/claim", json={}, headers=manager)).json()
        assign = f"/v1/devices/{device['id']}/assign"
        for address in ("lp:///dev/usb/lp1", "tcp://10.0.0.9:9100"):
            answer = await till.post(assign, json={"name": "P", "address": address}, headers=manager)
            assert (answer.status_code, answer.json()["code"]) == (409, "device.known_by_plug")
        for address in ("lp:///dev/sda", "lp:///var/lib/hubd/hub.db", "hidraw:///dev/null", "file:///etc/passwd"):
            answer = await till.post(assign, json={"name": "P", "address": address}, headers=manager)
            assert answer.status_code == 422, address
        fixed = held.new_id()
        nexo = NewDevice("tls://10.0.0.5:8443?poiid=A", "nexo", "T", "terminal", LOCATION)
        await held.shop.services.devices.claim(fixed, nexo, "hub")
        moved = await till.post(
            f"/v1/devices/{fixed}/assign", json={"name": "T", "address": "tls://10.0.0.6:8443?poiid=A"}, headers=manager
        )
        assert moved.json()["address"] == "tls://10.0.0.6:8443?poiid=A"


async def test_a_line_is_asked_when_a_manager_wants_to_know_and_claimed_as_what_it_answers_like(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    line, plain = "serial:///dev/serial/by-id/usb-FTDI_FT232R_A1-if00-port0", "baud=9600&stop_bits=1"
    for way in WAYS:
        terminals.others[f"{line}?{way.line}"] = CasSimulator(terminals.runtime)
    async with counter(tmp_path, terminals=terminals) as held:
        till, owner = await held.till(), await held.owner()
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        manager, discovery = {"hub-session": session["token"]}, held.shop.services.discovery
        number = IdentitySource.SERIAL_NUMBER
        discovery.appeared(Endpoint("/sys/1", EndpointKind.SERIAL, line, "serial:0403:6001:A1:00", number))
        discovery.appeared(announced(HERE))
        await discovery.consider()

        async def seen() -> dict[str, Any]:
            every = (await till.get("/v1/endpoints")).json()["items"]
            return next(one for one in every if one["address"] == line)

        found = await seen()
        assert (found["standing"], found["probed"], found["looks_like"]) == ("choose", None, None)
        probe = f"/v1/endpoints/{found['id']}/probe"
        assert (await till.post(probe)).json()["code"] == "access.not_allowed"
        (other,) = [one for one in discovery.all() if one.endpoint.service]
        refused = await till.post(f"/v1/endpoints/{other.id}/probe", headers=manager)
        assert (refused.status_code, refused.json()["code"]) == (409, "device.not_probed")
        terminals.unplugged |= set(terminals.others)
        gone = await till.post(probe, headers=manager)
        assert (gone.status_code, gone.json()["code"]) == (409, "device.line_in_use")
        terminals.unplugged.clear()
        twice = await asyncio.gather(*(till.post(probe, headers=manager) for _ in range(2)))
        assert sorted(one.json().get("code", "asked") for one in twice) == ["asked", "device.busy"]
        asked = await seen()
        assert (asked["standing"], asked["probed"], asked["looks_like"]) == ("choose", "recognised", "cas")
        assert await held.shop.services.devices.all() == [
            view for view in await held.shop.services.devices.all() if not view.device.driver
        ], "a proposal, and no claim"
        claim = f"/v1/endpoints/{found['id']}/claim"
        vague = await till.post(claim, json={}, headers=manager)
        assert vague.json()["code"] == "device.driver_not_chosen", "what it looks like is confirmed by a person"
        scale = (await till.post(claim, json={"driver": "cas"}, headers=manager)).json()
        assert (scale["driver"], scale["address"]) == ("cas", f"{line}?{plain}")
        await till.post(f"/v1/devices/{scale['id']}/activate", headers=manager)
        used = await till.post(probe, headers=manager)
        assert used.json()["code"] == "device.not_probed", "a line that a device has is asked nothing"
