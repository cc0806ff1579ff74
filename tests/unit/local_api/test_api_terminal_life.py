"""A terminal's life over the API."""

from __future__ import annotations

from pathlib import Path

from tests.unit.local_api.counter import OWNER_PIN, counter
from tests.unit.services.shop import LOCATION, Terminals, shop_runtime

HERE = "tcp://terminal-1"


async def test_a_manager_leads_a_terminal_through_its_life(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = terminals.add(HERE)
    async with counter(tmp_path, terminals=terminals) as held:
        till, owner = await held.till(), await held.owner()
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": OWNER_PIN})).json()
        manager = {"hub-session": session["token"]}
        terminal, phone = await held.shop.add_terminal(HERE), held.new_id()
        at = f"/v1/devices/{terminal}"
        life = (await till.get(f"{at}/life")).json()
        assert (life["step"], life["software"], life["needs"]) == ("active", "unknown", None)
        assert (await till.post(f"{at}/sign-out")).json()["code"] == "access.not_allowed"
        assert (await till.post(f"{at}/tms-contact")).json()["code"] == "access.not_allowed"
        skipped = await till.post(f"{at}/steps", json={"step": "claimed"}, headers=manager)
        assert (skipped.status_code, skipped.json()["code"]) == (409, "device.step_skipped")
        said = {"model": "A920", "providers": ["CCV"], "default_password": True}
        declared = (await till.put(f"{at}/declaration", json=said, headers=manager)).json()
        assert (declared["providers"], declared["default_password"]) == (["CCV"], True)
        secret = await till.put(f"{at}/declaration", json=said | {"password": "1"}, headers=manager)
        assert secret.json()["code"] == "unknown_field", "no password has a place here"
        ran = (await till.post(f"{at}/parameter-session", json={}, headers=manager)).json()
        assert (ran["ran"], ran["done"], ran["left"]) == (True, True, [])
        simulator.faults.says = "Configuration échouée"
        ran = (await till.post(f"{at}/tms-contact", headers=manager)).json()
        assert (ran["done"], ran["before"]) == (False, "Simulator sim_1")
        assert ran["steps"]
        setting = await till.get("/v1/settings/vendor.support_contact", headers=manager)
        changed = {"if-match": setting.headers["etag"]} | manager
        await till.put("/v1/settings/vendor.support_contact", json={"value": "+31 88 1"}, headers=changed)
        found = (await till.get("/v1/problems")).json()["items"]
        assert {one["code"] for one in found} >= {"terminal.tms_contact", "terminal.default_password"}
        assert {one["support"] for one in found} == {"+31 88 1"}, "every card of a problem names it"
        simulator.faults.clear()
        await held.shop.until((await held.shop.take(2000)).payment.id, "approved")
        closed = (await till.post(f"{at}/end-of-day", headers=manager)).json()
        assert [(row["what"], row["terminal"], row["hub"], row["result"]) for row in closed["rows"]] == [
            ("count", 1, 1, "equal"),
            ("total", 2000, 2000, "equal"),
        ]
        history = (await till.get(f"{at}/history", headers=manager)).json()["items"]
        assert [one["terminal"] for one in history] == [terminal]
        soft = {"name": "Phone", "location": LOCATION}
        made = await till.put(f"/v1/devices/{phone}", json=soft, headers=manager)
        assert (made.json()["device_class"], made.json()["active"]) == ("soft", True)
        assert (await till.put(f"/v1/devices/{phone}", json=soft, headers=manager)).status_code == 200
        moved = await till.post(f"{at}/location", json={"location": LOCATION}, headers=manager)
        assert moved.json()["location"] == LOCATION
        await held.shop.ready(terminal)
        out = (await till.post(f"{at}/sign-out", headers=manager)).json()
        assert out["active"] is False
