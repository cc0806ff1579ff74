"""Options of devices over the API: enough for a form, a change names its version, a secret never comes back."""

from __future__ import annotations

from pathlib import Path

from drivers.sim.escpos import EscposSimulator
from drivers.sim.zvt import SimulatorOptions
from hubd.model.device import DeviceKind
from tests.unit.local_api.counter import Counter, counter
from tests.unit.services.shop import Terminals, shop_runtime

PRINTER, TERMINAL = "tcp://printer:9100", "tcp://terminal-1"


async def a_printer(held: Counter) -> str:
    return f"/v1/devices/{await held.shop.add_peripheral(PRINTER, 'escpos', DeviceKind.PRINTER)}/options"


async def test_a_form_can_be_made_of_what_is_told_and_a_change_names_its_version(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    terminals.others[PRINTER] = EscposSimulator(terminals.runtime)
    async with counter(tmp_path, terminals=terminals) as held:
        path, administrator = await a_printer(held), held.administrator()
        told = await administrator.get(path)
        assert (told.status_code, told.headers["etag"], told.json()["version"]) == (200, '"0"', 0)
        columns, *others = told.json()["options"]
        assert [one["name"] for one in others] == ["drawer_pin", "drawer_open", "status", "display"]
        assert (columns["kind"], columns["least"], columns["most"]) == ("number", 16, 96)
        assert (columns["default"], columns["value"], columns["source"]) == ("42", "42", "default")
        assert all(one["title"] and one["why"] and one["allowed"] for one in told.json()["options"])
        body = {"options": {"columns": "32"}}
        blind = await administrator.put(path, json=body)
        assert (blind.status_code, blind.json()["code"]) == (428, "if_match_missing")
        done = await administrator.put(path, json=body, headers={"if-match": told.headers["etag"]})
        assert (done.status_code, done.json()["options"][0]["value"]) == (200, "32"), done.text
        assert (done.json()["options"][0]["source"], done.json()["waiting"]) == ("set", False)
        late = await administrator.put(path, json=body, headers={"if-match": told.headers["etag"]})
        assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")
        again = await administrator.put(path, json=body, headers={"if-match": done.headers["etag"]})
        assert (again.status_code, again.headers["etag"]) == (200, done.headers["etag"])


async def test_what_cannot_be_is_refused_with_a_code_and_what_would_be_right(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    terminals.others[PRINTER] = EscposSimulator(terminals.runtime)
    async with counter(tmp_path, terminals=terminals) as held:
        path, administrator, till = await a_printer(held), held.administrator(), await held.till()
        for options, code, remedy in (
            ({"columns": "9"}, "device.option_invalid", "It is a number from 16 to 96."),
            ({"columns": ""}, "device.option_invalid", "It is a number from 16 to 96."),
            ({"drawer_open": "ajar"}, "device.option_invalid", "It is one of high, low, none."),
            (
                {"password": "123456"},
                "device.option_unknown",
                "Name one of: columns, drawer_pin, drawer_open, status, display.",
            ),
            ({"columns": "4111 1111 1111 1111"}, "card_data_refused", ""),
        ):
            refused = await administrator.put(path, json={"options": options}, headers={"if-match": '"0"'})
            assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
            assert remedy in refused.json()["remedy"]
        no = await till.put(path, json={"options": {}}, headers={"if-match": '"0"'})
        assert (no.status_code, no.json()["code"]) == (403, "access.not_allowed")
        nobody = await administrator.get(f"/v1/devices/{held.new_id()}/options")
        assert (nobody.status_code, nobody.json()["code"]) == (404, "device_unknown")
        assert (await administrator.get(path)).json()["version"] == 0


async def test_a_password_goes_in_and_never_comes_out(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    terminals.add(TERMINAL, SimulatorOptions(password="000000"))
    async with counter(tmp_path, terminals=terminals) as held:
        path, administrator = f"/v1/devices/{await held.shop.add_terminal(TERMINAL)}/options", held.administrator()
        body = {"options": {"password": "739164"}}
        done = await administrator.put(path, json=body, headers={"if-match": '"0"'})
        (password,) = done.json()["options"]
        assert (password["value"], password["default"], password["source"]) == (None, None, "set")
        assert "739164" not in done.text
        bad = await administrator.put(
            path, json={"options": {"password": "93715"}}, headers={"if-match": done.headers["etag"]}
        )
        assert (bad.status_code, "93715" in bad.text) == (422, False)
        back = await administrator.put(
            path, json={"options": {"password": None}}, headers={"if-match": done.headers["etag"]}
        )
        assert back.json()["options"][0]["source"] == "default"
