"""A device added by its address, over the API: by a manager only, asked once, claimed as whatever is found."""

from __future__ import annotations

from pathlib import Path

from drivers.sim.escpos import EscposSimulator
from tests.unit.local_api.counter import OWNER_PIN, counter
from tests.unit.services.shop import Terminals, shop_runtime

PRINTER, TERMINAL = "tcp://printer:9100", "tcp://terminal-1:20007"
ELSEWHERE = "01890000-0000-7000-8000-000000000002"


async def test_a_manager_adds_a_printer_by_its_address_for_a_till_of_another_location(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    terminals.others[PRINTER] = EscposSimulator(terminals.runtime)
    terminals.add(TERMINAL)
    async with counter(tmp_path, terminals=terminals) as held:
        till, owner = await held.till(), await held.owner()
        asked = {"address": "printer:9100", "name": "Bon"}
        refused = await till.post("/v1/endpoints", json=asked)
        assert (refused.status_code, refused.json()["code"]) == (403, "access.not_allowed")
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        manager = {"hub-session": session["token"]}
        place = {"name": "Roubaix", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        assert (await till.put(f"/v1/locations/{ELSEWHERE}", json=place, headers=manager)).status_code == 200
        seen = (await till.post("/v1/endpoints", json=asked, headers=manager)).json()
        assert (seen["source"], seen["standing"], seen["driver"], seen["address"], seen["probed"]) == (
            "typed",
            "offered",
            "escpos",
            PRINTER,
            "recognised",
        )
        assert [one["id"] for one in (await till.get("/v1/endpoints")).json()["items"]] == [seen["id"]]
        for wrong, status, code in (
            ({"address": "127.0.0.1:9100"}, 409, "device.address_refused"),
            ({"address": "serial:///dev/ttyUSB0"}, 409, "device.address_refused"),
            ({"address": "printer:x"}, 422, "device.address_invalid"),
            ({"address": "nobody:9100"}, 409, "device.unreachable"),
            ({"address": "printer:9100", "driver": "acme"}, 409, "device.driver_not_chosen"),
            ({"address": "4111111111111111:9100"}, 422, "card_data_refused"),
            ({"address": "printer:9100", "name": "4111 1111 1111 1111"}, 422, "card_data_refused"),
        ):
            answer = await till.post("/v1/endpoints", json=wrong, headers=manager)
            assert (answer.status_code, answer.json()["code"]) == (status, code), wrong
        claim = f"/v1/endpoints/{seen['id']}/claim"
        nowhere = await till.post(claim, json={"location": held.new_id()}, headers=manager)
        assert (nowhere.status_code, nowhere.json()["code"]) == (404, "location_unknown")
        there = {"location": ELSEWHERE, "role": f"till:{(await held.pair('Till 2'))['device']}"}
        far = await till.post(claim, json=there, headers=manager)
        assert (far.status_code, far.json()["code"]) == (422, "till_elsewhere")
        claimed = (await till.post(claim, json={"location": ELSEWHERE, "role": "place:bar"}, headers=manager)).json()
        assert (claimed["name"], claimed["location"], claimed["role"], claimed["address"]) == (
            "Bon",
            ELSEWHERE,
            "place:bar",
            PRINTER,
        )
        entry = (await held.entries())[-1]
        assert (entry["kind"], entry["actor"]) == ("device.claimed", f"staff:{owner}")
        used = await till.post(f"/v1/devices/{claimed['id']}/activate", headers=manager)
        assert used.json()["active"] is True
        taken = await till.post("/v1/endpoints", json=asked | {"driver": "zvt"}, headers=manager)
        assert (taken.status_code, taken.json()["code"]) == (409, "device.address_taken")
        known = (await till.post("/v1/endpoints", json=asked, headers=manager)).json()
        assert (known["standing"], known["device"], known["id"]) == ("known", claimed["id"], seen["id"])
