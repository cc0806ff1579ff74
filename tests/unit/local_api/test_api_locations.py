"""Two locations, one hub: a role holds where it was granted, and a terminal takes money for its own shop alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hubd.errors import AccessError
from hubd.model.entry import Draft
from hubd.model.permissions import ADMINISTRATOR_PERMISSIONS, Permission
from hubd.services.access import Caller
from hubd.services.feed import Notice
from hubd.services.settings import policy_in_force
from hubd.store import journal
from local_api.events import may_see, meant_for
from tests.unit.local_api.counter import Counter, cash, counter
from tests.unit.services.shop import LOCATION, MANAGER, Terminals, shop_runtime

SECOND = "01890000-0000-7000-8000-000000000002"
PIN = "284617"
CARD = {"amount": {"amount": 1000, "currency": "EUR"}}


@dataclass
class Two:
    """A shop with a till and a manager at each of two locations."""

    at: Counter
    tokens: dict[str, str] = field(default_factory=dict)
    people: dict[str, str] = field(default_factory=dict)
    tills: dict[str, httpx2.AsyncClient] = field(default_factory=dict)
    managers: dict[str, httpx2.AsyncClient] = field(default_factory=dict)

    async def manager(self, home: str, *, roles: list[dict[str, str]]) -> httpx2.AsyncClient:
        """A person with these roles, signed in at the till of a location."""
        staff = self.at.new_id()
        added = await self.at.administrator().put(
            f"/v1/staff/{staff}", json={"name": "Ann", "pin": PIN, "roles": roles}
        )
        assert added.status_code < 300, added.text
        signed = await self.tills[home].post("/v1/sessions", json={"staff": staff, "pin": PIN})
        assert signed.status_code < 300, signed.text
        token = signed.json()["token"]
        return self.at.client(authorization=f"Bearer {self.tokens[home]}", hub_session=token)


@asynccontextmanager
async def two_locations(folder: Path, terminals: Terminals | None = None) -> AsyncIterator[Two]:
    """Open the shop; the administrator has set a second location up, paired two tills and named two managers."""
    async with counter(folder, terminals=terminals) as opened:
        await opened.owner()
        place = {"name": "Lens", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        made = await opened.administrator().put(f"/v1/locations/{SECOND}", json=place)
        assert made.status_code < 300, made.text
        two = Two(opened)
        for here in (LOCATION, SECOND):
            paired = await opened.pair(f"Till {here[-1]}", location=here)
            two.tokens[here] = paired["token"]
            two.tills[here] = opened.client(authorization=f"Bearer {paired['token']}")
            two.managers[here] = await two.manager(here, roles=[{"location": here, "role": "manager"}])
        yield two


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


REFUSED = (403, "access.not_allowed")


async def test_a_role_holds_where_it_was_granted(tmp_path: Path) -> None:
    async with two_locations(tmp_path) as two:
        payment, order = two.at.new_id(), two.at.new_id()
        line = {"name": "Tea", "tax_rate": "20", "gross": 1200, "net": 1000}
        placed = {"total": {"amount": 1200, "currency": "EUR"}, "lines": [line]}
        assert (await two.tills[LOCATION].put(f"/v1/orders/{order}", json=placed)).status_code == 201
        taken = await two.tills[LOCATION].put(f"/v1/payments/{payment}", json=cash())
        assert taken.status_code == 201

        here, there = two.managers[LOCATION], two.managers[SECOND]
        refund = {"amount": {"amount": 100, "currency": "EUR"}}
        verdict = {"verdict": "failure", "reason": "seen by nobody"}
        asked: list[tuple[str, str, dict[str, Any] | None]] = [
            ("GET", f"/v1/payments/{payment}", None),
            ("GET", f"/v1/payments/{payment}/receipt", None),
            ("POST", f"/v1/payments/{payment}/cancel", None),
            ("POST", f"/v1/payments/{payment}/enquire", None),
            ("POST", f"/v1/payments/{payment}/resolve", verdict),
            ("PUT", f"/v1/payments/{payment}/refunds/{two.at.new_id()}", refund),
            ("POST", f"/v1/payments/{payment}/reverse", None),
            ("GET", f"/v1/orders/{order}", None),
            ("PUT", f"/v1/payments/{two.at.new_id()}", cash(1200) | {"order": order}),
            ("POST", f"/v1/orders/{order}/cancel", None),
        ]
        for method, path, body in asked:
            answer = await there.request(method, path, json=body)
            assert answer.status_code in {403, 409}, (path, answer.text)
            assert answer.json()["code"] in {"access.not_allowed", "order_elsewhere"}, (path, answer.text)
        for listed in ("/v1/payments", "/v1/orders"):
            assert (await there.get(listed)).json()["items"] == []
            assert len((await here.get(listed)).json()["items"]) == 1
            assert len((await two.at.administrator().get(listed)).json()["items"]) == 1
        assert (await here.get(f"/v1/payments/{payment}/receipt")).status_code == 200
        assert (await here.post(f"/v1/payments/{payment}/reverse")).json()["state"] == "reversed"
        assert (await here.post(f"/v1/orders/{order}/cancel")).json()["state"] == "cancelled"


async def test_the_journal_tells_nobody_about_the_money_of_another_location(tmp_path: Path) -> None:
    async with two_locations(tmp_path) as two:
        payment = two.at.new_id()
        await two.tills[LOCATION].put(f"/v1/payments/{payment}", json=cash())
        await two.managers[LOCATION].post(f"/v1/payments/{payment}/reverse")
        for path in (f"/v1/journal?subject={payment}", "/v1/journal?limit=200"):
            told = {}
            for name, who in (
                ("here", two.managers[LOCATION]),
                ("there", two.managers[SECOND]),
                ("administrator", two.at.administrator()),
            ):
                items = (await who.get(path)).json()["items"]
                told[name] = [one for one in items if one["subject"] == payment]
            assert told["here"] == told["administrator"]
            assert [one["body"]["amount"] for one in told["here"] if one["kind"] == "payment.recorded"] == [1250]
            assert len(told["here"]) >= 2
            assert [one["body"] for one in told["there"]] == [None] * len(told["here"])
            assert [one["hash"] for one in told["there"]] == [one["hash"] for one in told["here"]], "the chain stays"


async def test_money_that_names_no_location_is_told_to_those_alone_who_read_everywhere(tmp_path: Path) -> None:
    async with two_locations(tmp_path) as two:
        body = {"date": "2026-11-18", "total": 125_000, "currency": "EUR"}
        draft = Draft("end_of_day.closed", two.at.new_id(), "hub", body)
        await two.at.shop.services.db.write("test", lambda tx: journal.append(tx, draft))
        everywhere = await two.manager(SECOND, roles=[{"location": "*", "role": "manager"}])
        readers = (two.managers[LOCATION], two.managers[SECOND], everywhere, two.at.administrator())
        found = [
            (await reader.get("/v1/journal", params={"subject": draft.subject})).json()["items"] for reader in readers
        ]
        assert [[one["body"] for one in items] for items in found] == [[None], [None], [body], [body]]


async def test_a_person_with_a_role_at_both_reaches_both(tmp_path: Path) -> None:
    async with two_locations(tmp_path) as two:
        payment = two.at.new_id()
        await two.tills[LOCATION].put(f"/v1/payments/{payment}", json=cash())
        roles = [{"location": SECOND, "role": "manager"}, {"location": LOCATION, "role": "cashier"}]
        both = await two.manager(SECOND, roles=roles)
        assert [one["id"] for one in (await both.get("/v1/payments")).json()["items"]] == [payment]
        assert code(await both.post(f"/v1/payments/{payment}/reverse")) == REFUSED, "a cashier there"
        everywhere = await two.manager(SECOND, roles=[{"location": "*", "role": "manager"}])
        assert (await everywhere.post(f"/v1/payments/{payment}/reverse")).json()["state"] == "reversed"


async def test_a_manager_grants_and_pairs_at_the_own_location_alone(tmp_path: Path) -> None:
    async with two_locations(tmp_path) as two:
        manager = two.managers[SECOND]
        new = {"name": "Bo", "pin": PIN, "roles": [{"location": LOCATION, "role": "cashier"}]}
        assert code(await manager.put(f"/v1/staff/{two.at.new_id()}", json=new)) == REFUSED
        new["roles"] = [{"location": "*", "role": "cashier"}]
        assert code(await manager.put(f"/v1/staff/{two.at.new_id()}", json=new)) == REFUSED
        new["roles"] = [{"location": SECOND, "role": "cashier"}]
        assert (await manager.put(f"/v1/staff/{two.at.new_id()}", json=new)).status_code < 300
        assert code(await manager.post("/v1/pairing-codes", json={"location": LOCATION})) == REFUSED
        assert (await manager.post("/v1/pairing-codes", json={"location": SECOND})).status_code == 201


async def test_nobody_takes_over_or_removes_a_person_of_another_location(tmp_path: Path) -> None:
    """With a PIN of his own choice for a manager there, a manager here would be manager there as well."""
    async with two_locations(tmp_path) as two:
        administrator, manager = two.at.administrator(), two.managers[SECOND]

        async def person(*wheres: str, role: str = "cashier") -> str:
            staff = two.at.new_id()
            body = {"name": "Cy", "pin": PIN, "roles": [{"location": where, "role": role} for where in wheres]}
            assert (await administrator.put(f"/v1/staff/{staff}", json=body)).status_code < 300
            return staff

        other = {"name": "Cy", "pin": "739164", "roles": []}
        technician = await person(LOCATION, role="technician")
        for staff in (
            technician,
            await person(LOCATION, role="manager"),
            await person(LOCATION, SECOND),
            await person("*"),
        ):
            assert code(await manager.put(f"/v1/staff/{staff}", json=other)) == REFUSED
            assert code(await manager.delete(f"/v1/staff/{staff}")) == REFUSED
        new = {"name": "Di", "pin": PIN, "roles": [{"location": LOCATION, "role": "technician"}]}
        assert code(await manager.put(f"/v1/staff/{two.at.new_id()}", json=new)) == REFUSED
        own = await person(SECOND, role="manager")
        assert (await manager.put(f"/v1/staff/{own}", json=other)).status_code < 300
        assert (await manager.delete(f"/v1/staff/{own}")).status_code < 300


async def test_an_owner_of_one_location_changes_that_one_alone(tmp_path: Path) -> None:
    async with two_locations(tmp_path) as two:
        owner = await two.manager(SECOND, roles=[{"location": SECOND, "role": "owner"}])
        place = {"name": "Lens", "zone": "Europe/Paris", "currency": "CHF", "country": "CH"}
        for elsewhere in (LOCATION, two.at.new_id()):
            assert code(await owner.put(f"/v1/locations/{elsewhere}", json=place)) == REFUSED
        assert (await owner.put(f"/v1/locations/{SECOND}", json=place)).status_code < 300


async def test_a_terminal_of_another_location_or_till_is_not_used(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = terminals.add("tcp://10.0.0.5:22000")
    async with two_locations(tmp_path, terminals) as two:
        shop = two.at.shop
        terminal = await shop.add_terminal("tcp://10.0.0.5:22000")
        wanted = CARD | {"terminal": terminal}
        refused = await two.tills[SECOND].put(f"/v1/payments/{two.at.new_id()}", json=wanted)
        assert (refused.json()["state"], refused.json()["reason"]) == ("refused", "terminal_elsewhere")
        owner = (await two.at.administrator().get("/v1/devices")).json()["items"]
        till = next(one["id"] for one in owner if one["name"] == "Till 1")
        assigned = {"name": "Counter", "role": f"till:{till}"}
        path = f"/v1/devices/{terminal}"
        assert code(await two.managers[SECOND].post(f"{path}/assign", json=assigned)) == REFUSED
        assert code(await two.managers[SECOND].post(f"{path}/deactivate", json={})) == REFUSED
        assert code(await two.managers[SECOND].post(f"{path}/end-of-day")) == REFUSED
        assert (await two.managers[LOCATION].post(f"{path}/assign", json=assigned)).status_code == 200
        other = await two.at.till("Till 3")
        refused = await other.put(f"/v1/payments/{two.at.new_id()}", json=wanted)
        assert (refused.json()["state"], refused.json()["reason"]) == ("refused", "terminal_elsewhere")
        assert list(simulator.ledger.transactions) == []
        own = two.at.new_id()
        assert (await two.tills[LOCATION].put(f"/v1/payments/{own}", json=wanted)).json()["state"] == "requested"
        assert (await shop.until(own, "approved")).terminal == terminal


async def test_an_outage_policy_is_set_for_one_location_by_who_may_there(tmp_path: Path) -> None:
    async with two_locations(tmp_path) as two:
        manager, path = two.managers[SECOND], "/v1/policies/terminal"
        read = await manager.get(path, params={"location": SECOND})
        policy = read.json()["value"] | {"enabled": not read.json()["value"]["enabled"]}
        match = {"if-match": read.headers["etag"]}
        elsewhere = {"value": policy, "location": LOCATION}
        assert code(await manager.put(path, json=elsewhere, headers=match)) == REFUSED
        changed = await manager.put(path, json={"value": policy, "location": SECOND}, headers=match)
        assert (changed.status_code, changed.json()["scope"]) == (200, f"location:{SECOND}")
        assert (await manager.get(path, params={"location": SECOND})).json()["value"] == policy
        assert (await manager.get(path, params={"location": LOCATION})).json()["value"] == read.json()["value"]
        stale = await manager.put(path, json={"value": policy, "location": SECOND}, headers=match)
        assert code(stale) == (412, "changed_meanwhile")
        here, there = await two.at.shop.services.db.read(
            "p", lambda c: [policy_in_force(c, "terminal", at, 2**60)[0] for at in (LOCATION, SECOND)]
        )
        assert here.enabled is not there.enabled is policy["enabled"]
        name = await manager.get("/v1/settings/store.name")
        wanted = {"value": "Lens", "location": SECOND}
        answer = await manager.put("/v1/settings/store.name", json=wanted, headers={"if-match": name.headers["etag"]})
        assert answer.json()["code"] == "setting_not_per_location"
        administrator = two.at.administrator()
        nowhere = {"value": policy, "location": two.at.new_id()}
        unknown = await administrator.put(path, json=nowhere, headers={"if-match": read.headers["etag"]})
        assert code(unknown) == (404, "location_unknown")


async def test_the_store_keeps_the_name_of_where_it_began(tmp_path: Path) -> None:
    async with counter(tmp_path) as opened:
        await opened.owner()
        earlier = "01890000-0000-7000-8000-000000000000"
        place = {"name": "Lens", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        administrator = opened.administrator()
        assert (await administrator.put(f"/v1/locations/{earlier}", json=place)).status_code < 300
        first = {**place, "name": "Lille-Centre"}
        assert (await administrator.put(f"/v1/locations/{LOCATION}", json=first)).status_code < 300, (
            "renamed, not moved"
        )
        listed = (await administrator.get("/v1/locations")).json()["items"]
        assert [one["name"] for one in listed] == ["Lille-Centre", "Lens"]
        shown = await opened.shop.services.overview.shop("")
        assert (shown.name, shown.location) == ("Lille-Centre", "Lille-Centre")
        assert (await opened.shop.services.access.administrator()).location == LOCATION


def test_an_event_about_money_is_for_those_who_may_see_it_there() -> None:
    reader = Caller("", "s", LOCATION, frozenset({Permission.PAYMENTS_READ}), "en")
    assert may_see("payment.approved", LOCATION, reader)
    assert not may_see("payment.approved", SECOND, reader)
    assert may_see("payment.approved", SECOND, MANAGER)
    assert not may_see("order.paid", LOCATION, reader)


def test_the_locations_of_a_permission() -> None:
    reading = frozenset({Permission.PAYMENTS_READ})
    plain = Caller("till", None, LOCATION, reading, "en")
    assert plain.locations_of(Permission.PAYMENTS_READ) == frozenset({LOCATION})
    assert plain.locations_of(Permission.ORDERS_READ) == frozenset()
    wide = Caller("till", "s", LOCATION, reading, "en", elsewhere=((SECOND, reading),))
    assert wide.locations_of(Permission.PAYMENTS_READ) == frozenset({LOCATION, SECOND})
    assert MANAGER.locations_of(Permission.PAYMENTS_READ) is None
    assert all(MANAGER.may_at(one, SECOND) for one in ADMINISTRATOR_PERMISSIONS)
    with pytest.raises(AccessError):
        plain.need_at(Permission.PAYMENTS_READ, SECOND)


def test_notices_of_a_location_are_told_to_those_who_may_see_them_there() -> None:
    here = Caller("till", None, LOCATION, frozenset({Permission.DEVICES_READ}), "en")
    everywhere = Caller("", None, LOCATION, ADMINISTRATOR_PERMISSIONS, "en", elsewhere=MANAGER.elsewhere)
    for name in ("device.state", "scan", "weight"):
        own, other = (Notice(1, name, "d", {}, location=place) for place in (LOCATION, SECOND))
        assert [meant_for(one, here) for one in (own, other)] == [True, False]
        assert [meant_for(one, everywhere) for one in (own, other)] == [True, True]
        assert not meant_for(Notice(1, name, "d", {}, till="another", location=LOCATION), here)
        assert meant_for(Notice(1, name, "d", {}, till="till", location=LOCATION), here)
    assert not meant_for(Notice(1, "nobody.knows", "d", {}), everywhere)
