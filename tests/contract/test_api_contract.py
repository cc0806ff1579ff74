"""The API as others rely on it: routes with their permissions, the description, the error codes; changes show here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hubd.model.permissions import ROLE_PERMISSIONS, TILL_PERMISSIONS, Permission, Role
from local_api.app import Api, api_rows
from local_api.context import ApiContext, HubFacts
from local_api.events import NOTICES, SHOWN
from local_api.openapi import describe, docs_page
from local_api.reference import codes_in, errors_page, openapi_bytes
from local_api.table import Auth, RouteSpec, RouteTable

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("api_routes.txt")
REFERENCE = ROOT / "docs" / "reference"
ROWS = api_rows(None)
FACTS = HubFacts("ab" * 16, "0.1.0", "00" * 32, lambda: ())


def shown(row: RouteSpec) -> str:
    """A row as the checked-in table has it."""
    ways = ",".join(sorted(row.auth)) if row.permission else "-"
    return f"{row.method:6} {row.path:42} {row.permission or 'open':22} {ways}"


def test_every_route_has_the_permission_that_was_agreed() -> None:
    now = "\n".join(shown(row) for row in sorted(ROWS, key=lambda row: (row.path, row.method))) + "\n"
    assert now == TABLE.read_text("utf-8"), "a route or its permission changed: review it, then write api_routes.txt"


def test_what_is_open_to_strangers_is_this_and_no_more() -> None:
    assert sorted(f"{row.method} {row.path}" for row in ROWS if row.permission is None) == [
        "DELETE /v1/sessions",
        "GET /ca.pem",
        "GET /docs",
        "GET /healthz",
        "GET /openapi.json",
        "GET /readyz",
        "GET /v1/browser-check",
        "GET /v1/hub",
        "GET /v1/hub/replacements",
        "GET /v1/setup",
        "POST /v1/pairings",
        "POST /v1/second-factor",
        "POST /v1/second-factor/confirm",
        "POST /v1/sessions",
        "POST /v1/setup",
    ]


def test_tickets_open_streams_only() -> None:
    assert {row.path for row in ROWS if Auth.TICKET in row.auth} == {"/v1/events", "/v1/events/ws", "/v1/scans"}
    assert [row.path for row in ROWS if row.any_origin] == ["/v1/pairings"]
    assert [row.path for row in ROWS if row.same_host] == ["/v1/browser-check"]


def test_the_description_is_fresh() -> None:
    stale = "run: python -m local_api.reference docs/reference"
    assert (REFERENCE / "local-api.json").read_bytes() == openapi_bytes(), stale
    assert (REFERENCE / "errors.md").read_text("utf-8") == errors_page(), stale


@pytest.mark.parametrize("code", ["device_unknown", "location_unknown", "pairing.unknown", "staff_unknown"])
def test_a_code_that_hubctl_uses_too_is_listed_as_the_api_answers_it(code: str) -> None:
    row = next(line for line in errors_page().splitlines() if line.startswith(f"| `{code}` |"))
    assert row.split(" | ")[1] == "404", row


def test_the_description_names_every_route_with_its_shapes() -> None:
    document = describe(ROWS)
    assert document["openapi"].startswith("3.1")
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert described == {("get" if row.method == "WS" else row.method.lower(), row.path) for row in ROWS}
    references: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(found := value.get("$ref"), str):
                references.add(found.rpartition("/")[2])
            for one in value.values():
                collect(one)
        elif isinstance(value, list):
            for one in value:
                collect(one)

    collect(document)
    assert references <= set(document["components"]["schemas"])
    payment = document["components"]["schemas"]["PaymentIn"]
    assert payment["additionalProperties"] is False
    assert payment["required"] == ["amount"]
    ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(ids) == len(set(ids)), "an operation's id must be its own"


def test_the_page_of_the_description_loads_nothing_from_elsewhere() -> None:
    page = docs_page(describe(ROWS)).decode()
    assert "/v1/payments/{id}" in page
    for foreign in ("http://", "https://", "//cdn", "<script", "<link", "@import", "url("):
        assert foreign not in page.replace("https://till.example.com", ""), f"{foreign} in /docs"


def test_two_rows_for_one_address_stop_the_start() -> None:
    with pytest.raises(AssertionError, match="twice"):
        RouteTable([*ROWS, ROWS[0]])


def test_the_table_finds_what_it_has_and_nothing_else() -> None:
    table = RouteTable(ROWS)
    rows, values = table.find("/v1/payments/abc/refunds/def")
    assert (set(rows), values) == ({"PUT"}, {"id": "abc", "refund_id": "def"})
    for path in ("/", "/v1", "/v1/payments/abc/refunds", "/v1//payments", "/V1/payments", "/v1/payments/a/b/c/d"):
        assert table.find(path) == ({}, {}), path


def test_roles_are_ordered_and_nobody_but_a_till_announces() -> None:
    assert ROLE_PERMISSIONS[Role.CASHIER] < ROLE_PERMISSIONS[Role.MANAGER] < ROLE_PERMISSIONS[Role.OWNER]
    assert not TILL_PERMISSIONS & {
        Permission.PAYMENTS_REVERSE,
        Permission.PAYMENTS_REFUND,
        Permission.PAYMENTS_RESOLVE,
        Permission.PAYMENTS_OVERRIDE,
        Permission.PAIRINGS_MANAGE,
        Permission.STAFF_MANAGE,
        Permission.SETTINGS_CHANGE,
    }
    assert all(Permission.ANNOUNCE not in granted for granted in ROLE_PERMISSIONS.values())
    money = {Permission.PAYMENTS_TAKE, Permission.PAYMENTS_REVERSE, Permission.PAYMENTS_REFUND}
    for role in (Role.VIEWER, Role.AUDITOR, Role.TECHNICIAN):
        assert not ROLE_PERMISSIONS[role] & money


def test_the_page_about_events_names_every_kind_with_its_permission() -> None:
    page = (REFERENCE / "events.md").read_text("utf-8")
    for word, (permission, fields) in SHOWN.items():
        [row] = [line for line in page.splitlines() if line.startswith("|") and f"`{word}.*`" in line]
        assert f"`{permission}`" in row
        assert all(name in row for name in fields), row
    for name, permission in NOTICES.items():
        assert f"`{name}` (`{permission}`)" in page.replace("\n", " ")


def test_nothing_is_mounted_that_is_not_in_the_table() -> None:
    api = Api(ApiContext(None, FACTS, None), RouteTable(ROWS), None)  # type: ignore[arg-type]  # routes need no services
    mounted = {
        (str(getattr(route, "path", "")), method)
        for route in api._routes()
        for method in getattr(route, "methods", None) or {"WS"}
    }
    listed = {(row.path, row.method) for row in ROWS}
    assert mounted - {(path, "HEAD") for path, _ in mounted} == listed


def test_codes_are_read_from_the_source() -> None:
    found = list(codes_in('raise PaymentError("a.b", f"It is {x}.", remedy="Do " "this.", retry=Retry.NEW_ID)'))
    assert [(one.code, one.status, one.retry, one.detail, one.remedy) for one in found] == [
        ("a.b", 409, "new_id", "It is ….", "Do this.")
    ]
