"""Who may activate a terminal (domain D02), and what a credential of a terminal opens (domain D04)."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import pytest

from hubd.model.permissions import BACK_OFFICE_PERMISSIONS, ROLE_PERMISSIONS, Permission, Role
from hubd.services.device_rules import NewDevice
from local_api.app import api_rows, create_api
from local_api.context import HubFacts
from local_api.page.app import make_pages, page_rows
from local_api.table import Auth
from tests.unit.local_api.counter import FINGERPRINT, HUB_ID, NAME, Counter, counter
from tests.unit.services.shop import LOCATION, Terminals, shop_runtime

PIN = "284617"
REFUSED = {"access.not_allowed", "access.not_signed_in", "access.session_over"}
URL = "tcp://terminal-1:20007"


async def add_person(shop: Counter, *roles: str) -> str:
    """A person with these roles, whose PIN is the one of this file."""
    staff = shop.new_id()
    body = {"name": "Ann", "pin": PIN, "roles": [{"role": role, "location": LOCATION} for role in roles]}
    added = await shop.administrator().put(f"/v1/staff/{staff}", json=body)
    assert added.status_code == 200, added.text
    return staff


async def page_of(shop: Counter, staff: str) -> httpx2.AsyncClient:
    """The person's own browser, signed in."""
    signed = await shop.client().post("/v1/sessions", json={"staff": staff, "pin": PIN})
    assert signed.status_code == 201, signed.text
    return shop.client(cookie=signed.headers["set-cookie"].partition(";")[0])


async def claimed(shop: Counter) -> str:
    """A terminal that nobody has activated."""
    device = shop.new_id()
    await shop.shop.services.devices.claim(device, NewDevice(URL, "zvt", "Terminal", "terminal", LOCATION, ""), "hub")
    return device


@pytest.mark.parametrize(
    ("role", "status"),
    [("cashier", 403), ("terminal", 403), ("auditor", 403), ("activator", 200), ("manager", 200), ("owner", 200)],
)
async def test_with_several_people_the_role_or_an_explicit_permission_activates_d02(
    tmp_path: Path, role: str, status: int
) -> None:
    """D02: a user without `terminals.activate` gets 403; a person to whom it was given may, and manages nothing."""
    terminals = Terminals(shop_runtime())
    terminals.add(URL)
    async with counter(tmp_path, terminals=terminals) as shop:
        await shop.owner()
        device = await claimed(shop)
        page = await page_of(shop, await add_person(shop, role))
        answer = await page.post(f"/v1/devices/{device}/activate")
        assert answer.status_code == status, answer.text
        if status != 200:
            assert answer.json()["code"] == "access.not_allowed"
        if role == "activator":
            assert (await page.post(f"/v1/devices/{device}/deactivate")).status_code == 403


async def test_the_only_user_activates_until_there_is_a_second_one_d02(tmp_path: Path) -> None:
    """D02: the only user of the tenant is allowed, whatever the role; with a second person it takes the permission."""
    terminals = Terminals(shop_runtime())
    terminals.add(URL)
    async with counter(tmp_path, terminals=terminals) as shop:
        place = {"name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        assert (await shop.administrator().put(f"/v1/locations/{LOCATION}", json=place)).status_code == 200
        device = await claimed(shop)
        page = await page_of(shop, await add_person(shop, "cashier"))
        assert (await page.post(f"/v1/devices/{device}/activate")).status_code == 200
        await add_person(shop, "owner")
        refused = await page.post(f"/v1/devices/{device}/activate")
        assert (refused.status_code, refused.json()["code"]) == (403, "access.not_allowed")


def filled(path: str) -> str:
    """An address of a row, with an id in the place of every parameter."""
    return re.sub(r"\{[^}]+\}", "01890000-0000-7000-8000-0000000000ff", path)


async def test_a_credential_of_a_terminal_gets_403_on_every_manager_route_d04(tmp_path: Path) -> None:
    """D04: generated over the whole table of routes, the page's too, so that a new route is covered."""
    async with counter(tmp_path) as shop:
        await shop.owner()
        services = shop.shop.services
        facts = HubFacts(HUB_ID, "0.1.0", FINGERPRINT, lambda: ("192.168.1.10:8443",), names=frozenset({NAME}))
        shop.api = create_api(services, facts, make_pages(services, facts))
        staff = await add_person(shop, "terminal")
        page, till = await page_of(shop, staff), await shop.till()
        page.event_hooks = {}  # the description of the API knows no rows of the page
        signed = (await till.post("/v1/sessions", json={"staff": staff, "pin": PIN})).json()
        assert not BACK_OFFICE_PERMISSIONS & {Permission(one) for one in signed["permissions"]}
        at_till = {"hub-session": signed["token"]}
        refused = set[str]()
        for row in (*api_rows(None), *page_rows()):
            if row.permission is None or row.method == "WS":
                continue
            paper = row.tag == "page"
            if row.permission not in ROLE_PERMISSIONS[Role.TERMINAL]:
                answer = await page.request(row.method, filled(row.path))
                by_browser = 403 if Auth.COOKIE in row.auth else 401  # a browser is nobody where devices alone may ask
                assert answer.status_code == (303 if paper else by_browser), (row.method, row.path, answer.text)
                assert not paper or answer.headers["location"].startswith("/sign-in"), row.path
                refused.add(row.permission)
            if row.permission in BACK_OFFICE_PERMISSIONS and not paper:
                answer = await till.request(row.method, filled(row.path), headers=at_till)
                assert answer.status_code in {401, 403}, (row.method, row.path, answer.text)
                assert answer.json()["code"] in REFUSED, row.path
        asked = {row.permission for row in (*api_rows(None), *page_rows()) if row.permission is not None}
        assert refused == asked - ROLE_PERMISSIONS[Role.TERMINAL]
        assert (await page.get("/v1/payments", params={"open": "true"})).status_code == 200, "its own app is open"


def test_who_runs_the_shop_has_what_a_credential_of_a_terminal_has_not() -> None:
    assert not ROLE_PERMISSIONS[Role.TERMINAL] & BACK_OFFICE_PERMISSIONS
    assert ROLE_PERMISSIONS[Role.TERMINAL] < ROLE_PERMISSIONS[Role.CASHIER]
    for role in Role:
        assert bool(ROLE_PERMISSIONS[role] & BACK_OFFICE_PERMISSIONS) == (
            role not in {Role.TERMINAL, Role.CASHIER, Role.VIEWER}
        ), role
