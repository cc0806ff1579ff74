"""The hub about itself: who it is, whether it can sell, its journal, its numbers, its problems."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
import pytest

from hubd.model.entry import Draft
from hubd.model.mode import Facts, Hop
from hubd.model.money import Money
from hubd.store import journal
from hubd.store.tx import Tx
from tests.unit.local_api.counter import FINGERPRINT, HUB_ID, cash, counter


async def test_strangers_hear_who_it_is_and_callers_how_it_is(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        stranger = (await shop.client().get("/v1/hub")).json()
        assert (stranger["hub"], stranger["fingerprint"], stranger["api"]) == (HUB_ID, FINGERPRINT, "1.0")
        assert {"payments.cash", "events"} <= set(stranger["capabilities"])
        assert not {"mode", "you", "problems", "accepts"} & set(stranger)
        till = await shop.till()
        known = (await till.get("/v1/hub")).json()
        assert known["mode"] == "unknown"
        assert "payments.take" in known["you"]["permissions"]
        assert isinstance(known["accepts"], list)
        assert known["accepts"][0]["way"] == "cash"
        assert known["failing"] is None
        facts = Facts()
        for hop, works in ((Hop.LINK, True), (Hop.GATEWAY, False), (Hop.INTERNET, False)):
            facts = facts.with_hop(hop, facts.hop(hop).measured(works, 1))
        await shop.shop.services.outages.observe(facts)
        assert (await till.get("/v1/hub")).json()["failing"] == "gateway", "the nearest one: where a person looks first"


async def test_ready_says_what_is_in_the_way(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        stranger = shop.client()
        assert (await stranger.get("/healthz")).json() == {"status": "ok"}
        refused = await stranger.get("/readyz")
        assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
        assert refused.headers["retry-after"] == "5"
        assert "not_set_up" in refused.json()["params"]["problems"]
        await shop.owner()
        assert (await stranger.get("/readyz")).json() == {"status": "ready"}


async def test_metrics_are_made_anew_for_each_scrape(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        administrator, till = shop.administrator(), await shop.till()
        before = (await administrator.get("/metrics")).text
        await till.put(f"/v1/payments/{shop.new_id()}", json=cash())
        after = await administrator.get("/metrics")
        assert after.headers["content-type"].startswith("text/plain")
        assert 'hubd_payments{currency="EUR",name="perpetual.sales"} 1.0' in after.text
        assert "perpetual.sales" not in before
        assert (await shop.client().get("/metrics")).status_code == 401


async def test_problems_come_in_the_callers_language_and_sums_only_for_those_who_may(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till, owner = await shop.till(), await shop.owner()
        services = shop.shop.services
        services.problems.raise_("payments.unknown", money=[Money(1250, "EUR")], count=1)
        [shown] = [one for one in (await till.get("/v1/problems")).json()["items"] if one["code"] == "payments.unknown"]
        assert (shown["severity"], shown["money"]) == ("critical", [])
        session = (await till.post("/v1/sessions", json={"staff": owner, "pin": "739164"})).json()
        signed_in = {"hub-session": session["token"]}
        found = (await till.get("/v1/problems", headers=signed_in)).json()["items"]
        assert [one["money"] for one in found if one["code"] == "payments.unknown"] == [
            [{"amount": 1250, "currency": "EUR"}]
        ]
        french = (await shop.administrator().get("/v1/problems", headers={"accept-language": "fr"})).json()["items"]
        assert "réponse du terminal" in str(french)


async def test_the_journal_is_read_in_order_and_by_subject(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till = await shop.till()
        payment = shop.new_id()
        await till.put(f"/v1/payments/{payment}", json=cash())
        entries = await shop.entries()
        assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
        administrator = shop.administrator()
        history = (await administrator.get("/v1/journal", params={"subject": payment})).json()
        assert [entry["kind"] for entry in history["items"]] == ["payment.recorded"]
        paged = (await administrator.get("/v1/journal", params={"limit": 2})).json()
        assert (len(paged["items"]), paged["next"]) == (2, 2)
        sync = (await administrator.get("/v1/sync")).json()
        assert (sync["head"]["seq"], sync["confirmed_seq"], sync["waiting"]) == (len(entries), 0, len(entries))
        assert (await till.get("/v1/journal")).status_code == 403


async def test_the_journal_is_narrowed_by_kind_device_and_time(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till, other = await shop.till(), await shop.till()
        mine = [(await till.put(f"/v1/payments/{shop.new_id()}", json=cash())).json()["id"] for _ in range(3)]
        theirs = (await other.put(f"/v1/payments/{shop.new_id()}", json=cash())).json()["id"]
        administrator = shop.administrator()

        async def found(**narrow: str) -> list[str]:
            ids: list[str] = []
            after = 0
            while True:
                page = (
                    await administrator.get("/v1/journal", params={"after": str(after), "limit": "2", **narrow})
                ).json()
                ids += [entry["subject"] for entry in page["items"]]
                after = page["next"]
                if not after:
                    return ids

        assert await found(kind="payment.recorded") == [*mine, theirs]
        device = (await administrator.get(f"/v1/payments/{theirs}")).json()["till"]
        assert await found(kind="payment.", device=device) == [theirs]
        entries = (await administrator.get("/v1/journal", params={"subject": mine[1]})).json()["items"]
        at = entries[0]["at"]
        assert await found(kind="payment.", since=at) == [*mine[1:], theirs]
        assert await found(kind="payment.", until=at) == mine[:1]
        assert (await administrator.get("/v1/journal", params={"since": "yesterday"})).json()["code"] == "invalid_time"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("after", "1"),
        ("kind", "payment."),
        ("device", "01890000-0000-7000-8000-000000000009"),
        ("since", "2026-11-18T12:00:00Z"),
        ("until", "2026-11-18T12:00:00Z"),
    ],
)
async def test_the_history_of_one_thing_is_not_narrowed_and_says_so(tmp_path: Path, name: str, value: str) -> None:
    async with counter(tmp_path) as shop:
        asked = {"subject": shop.new_id(), name: value}
        answer = await shop.administrator().get("/v1/journal", params=asked)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field"), "not a list that looks complete"
        assert answer.json()["params"] == {"field": name}


async def test_head_answers_like_get_without_a_body(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        answer = await shop.client().head("/v1/hub")
        assert (answer.status_code, answer.content) == (200, b"")
        for name in ("content-security-policy", "x-content-type-options", "referrer-policy", "hub-line"):
            assert name in answer.headers


def _outages(new_id: Callable[[], str], tx: Tx) -> None:
    """One that lasted for the first minute of 1970, and one that goes on since one o'clock."""
    over, now = new_id(), new_id()
    for outage, second in ((over, 1), (now, 3600)):
        began = {"cause": "network_outage", "started_at_us": second * 1_000_000, "started_mono_ms": 0}
        journal.append(tx, Draft("outage.opened", outage, "hub", began))
        if outage == over:
            ended = {"cause": "network_outage", "ended_at_us": 60_000_000}
            journal.append(tx, Draft("outage.closed", outage, "hub", ended))


async def test_every_list_is_narrowed_by_state_device_and_time(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till, administrator = await shop.till("Till 1"), shop.administrator()
        other = await shop.till("Till 2")
        line = {"name": "Café", "gross": 1200, "net": 1000, "tax_rate": "20"}
        body = {"lines": [line], "total": {"amount": 1200, "currency": "EUR"}}
        first, second = shop.new_id(), shop.new_id()
        assert (await till.put(f"/v1/orders/{first}", json=body)).status_code == 201
        assert (await other.put(f"/v1/orders/{second}", json=body)).status_code == 201
        later = (await administrator.get(f"/v1/orders/{second}")).json()["placed_at"]

        async def ids(client: httpx2.AsyncClient, path: str, **params: str) -> list[str]:
            answer = await client.get(path, params=params)
            assert answer.status_code == 200, answer.text
            return [one["id"] for one in answer.json()["items"]]

        assert await ids(till, "/v1/orders", device="self") == [first]
        assert await ids(administrator, "/v1/orders", since=later) == [second]
        assert await ids(administrator, "/v1/orders", until=later) == [first]
        assert await ids(administrator, "/v1/orders", state="paid") == []
        assert len(await ids(administrator, "/v1/devices", kind="till")) == 2
        assert await ids(administrator, "/v1/devices", kind="printer") == []
        assert await ids(administrator, "/v1/devices", state="ready") == []

        await shop.shop.services.db.write("outages", partial(_outages, shop.new_id))
        old, now = (await ids(administrator, "/v1/outages"))[::-1]
        assert await ids(administrator, "/v1/outages", state="open") == [now]
        assert await ids(administrator, "/v1/outages", state="over") == [old]
        assert await ids(administrator, "/v1/outages", until="1970-01-01T00:10:00Z") == [old]
        assert await ids(administrator, "/v1/outages", since="1970-01-01T00:10:00Z") == [now]
        page = (await administrator.get("/v1/outages", params={"limit": "1"})).json()
        assert ([one["id"] for one in page["items"]], bool(page["next"])) == ([now], True)
        assert await ids(administrator, "/v1/outages", limit="1", cursor=page["next"]) == [old]
        for path in ("/v1/orders", "/v1/outages"):
            wrong = await administrator.get(path, params={"since": "yesterday"})
            assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_time")
