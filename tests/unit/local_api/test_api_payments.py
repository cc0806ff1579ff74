"""Payments over the API: once, with an answer that never changes, whoever repeats whatever."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.unit.local_api.counter import cash, counter
from tests.unit.services.test_hearing import gone


async def test_a_cash_payment_is_accepted_with_its_place_in_the_journal(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till = await shop.till()
        payment = shop.new_id()
        answer = await till.put(f"/v1/payments/{payment}", json=cash())
        assert answer.status_code == 201, answer.text
        shown = answer.json()
        assert shown["state"] == "approved"
        assert shown["total"] == {"amount": 1250, "currency": "EUR"}
        assert shown["say"]["cashier"]
        entry = next(entry for entry in await shop.entries() if entry["subject"] == payment)
        assert shown["accepted"] == {"line": entry["line"], "seq": entry["seq"], "hash": entry["hash"]}
        line, seq, start = answer.headers["hub-line"].split(":")
        assert (line, int(seq) >= entry["seq"]) == (entry["line"], True)
        assert start == shop.shop.services.runtime.start_id
        receipt = await till.get(f"/v1/payments/{payment}/receipt")
        assert receipt.json()["fiscal"]["hash"] == entry["hash"]


async def test_the_same_put_a_hundred_times_at_once_from_two_tills(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        tills = [await shop.till("Till 1"), await shop.till("Till 2")]
        payment = shop.new_id()

        async def put(number: int) -> tuple[int, str]:
            answer = await tills[number % 2].put(f"/v1/payments/{payment}", json=cash())
            return answer.status_code, str(answer.json().get("accepted"))

        answers = await asyncio.gather(*(put(number) for number in range(100)))
        assert sorted(status for status, _ in answers) == [200] * 99 + [201]
        assert len({accepted for _, accepted in answers}) == 1
        assert [entry["kind"] for entry in await shop.entries() if entry["subject"] == payment] == ["payment.recorded"]


FORGOTTEN = f"{'ab' * 16}:7:{'cd' * 8}"
"""A place that this hub has never told: as a till remembers it from before a restore."""


async def test_a_till_that_reads_first_is_held_all_the_same_by_a_hub_that_has_forgotten(tmp_path: Path) -> None:
    """Any answer moves the till's place; what was forgotten has to be noticed before."""
    async with counter(tmp_path) as shop:
        till = await shop.till()
        read = await till.get("/v1/payments", headers={"hub-line": FORGOTTEN})
        assert read.status_code == 200
        path, headers = f"/v1/payments/{shop.new_id()}", {"hub-line": read.headers["hub-line"]}
        held = await till.put(path, json=cash(), headers=headers)
        assert (held.status_code, held.json()["code"]) == (409, "hub_line_changed")
        announced = await till.post("/v1/announcements", json={"payments": []}, headers=headers)
        assert announced.status_code == 200, announced.text
        assert (await till.put(path, json=cash(), headers=headers)).status_code == 201


async def test_a_request_for_money_that_became_no_payment_is_told_in_the_tills_language(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        paired = await shop.pair("Caisse 1", language="fr")
        till = shop.client(authorization=f"Bearer {paired['token']}")
        await till.get("/v1/payments", headers={"hub-line": FORGOTTEN})
        held = (await till.put(f"/v1/payments/{shop.new_id()}", json=cash())).json()
        assert held["code"] == "hub_line_changed"
        assert held["say"]["cashier"].startswith("Le boîtier a été restauré.")
        assert (held["say"]["customer"], held["allowed"]) == ("Un instant, s'il vous plaît.", ["wait"])
        wrong = (await till.put(f"/v1/payments/{shop.new_id()}", json=cash(-1))).json()
        assert "say" not in wrong, "a program's mistake is nothing for a cashier"


async def test_an_answer_before_the_comparison_leaves_the_till_its_place(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till = await shop.till()
        refused = await till.get("/v1/payments", headers={"hub-line": "not-a-place"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_hub_line")
        assert "hub-line" not in refused.headers


async def test_another_request_under_the_same_id_is_a_conflict(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till = await shop.till()
        payment = shop.new_id()
        await till.put(f"/v1/payments/{payment}", json=cash(1250))
        answer = await till.put(f"/v1/payments/{payment}", json=cash(1251))
        assert answer.status_code == 409
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.json()["code"], answer.json()["retry"]) == ("id_conflict", "new_id")
        # The same request in another spelling is the same request.
        again = {"tender": "cash", "tip": 0, "amount": {"currency": "EUR", "amount": 1250}}
        assert (await till.put(f"/v1/payments/{payment}", json=again)).status_code == 200


async def test_a_card_payment_is_taken_and_waited_for(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till = await shop.till()
        shop.shop.counter.add("tcp://terminal")
        await shop.shop.add_terminal("tcp://terminal")
        payment = shop.new_id()
        body = {"amount": {"amount": 2000, "currency": "EUR"}}
        first = await till.put(f"/v1/payments/{payment}", json=body)
        assert (first.status_code, first.json()["state"]) == (201, "requested")
        assert first.json()["allowed"] == ["wait"]
        state = first.json()["state"]
        while state in {"requested", "in_progress"}:
            answer = await till.get(f"/v1/payments/{payment}", headers={"prefer": "wait=10"})
            assert answer.headers["preference-applied"] == "wait=10"
            state = answer.json()["state"]
        assert state == "approved"
        again = await till.put(f"/v1/payments/{payment}", json=body)
        assert (again.status_code, again.json()["accepted"]) == (200, first.json()["accepted"])


async def test_lists_are_narrowed_and_paged(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        one, two = await shop.till("Till 1"), await shop.till("Till 2")
        mine = [shop.new_id() for _ in range(5)]
        for payment in mine:
            await one.put(f"/v1/payments/{payment}", json=cash())
        await two.put(f"/v1/payments/{shop.new_id()}", json=cash())
        found, cursor = [], ""
        while True:
            page = (await one.get("/v1/payments", params={"device": "self", "limit": 2, "cursor": cursor})).json()
            found += [payment["id"] for payment in page["items"]]
            if not (cursor := page["next"]):
                break
        assert found == mine[::-1]
        assert (await one.get("/v1/payments", params={"device": "self", "open": "true"})).json()["items"] == []
        assert len((await one.get("/v1/payments", params={"since": "2020-01-01T00:00:00Z"})).json()["items"]) == 6
        assert (await one.get("/v1/payments", params={"until": "2020-01-01T00:00:00Z"})).json()["items"] == []
        assert (await one.get("/v1/payments", params={"since": "yesterday"})).json()["code"] == "invalid_time"


async def test_an_order_is_placed_paid_and_read(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till = await shop.till()
        order, payment = shop.new_id(), shop.new_id()
        line = {"name": "Café", "gross": 1200, "net": 1000, "tax_rate": "20", "article": "4006381333931"}
        body = {"lines": [line], "total": {"amount": 1200, "currency": "EUR"}}
        placed = await till.put(f"/v1/orders/{order}", json=body)
        assert (placed.status_code, placed.json()["state"]) == (201, "placed_local"), placed.text
        assert (await till.put(f"/v1/orders/{order}", json=body)).status_code == 200
        await till.put(f"/v1/payments/{payment}", json=cash(1200, order=order))
        assert (await till.get(f"/v1/orders/{order}")).json()["state"] == "paid"
        assert [one["id"] for one in (await till.get("/v1/orders")).json()["items"]] == [order]


async def test_an_order_in_another_currency_than_the_shops_is_refused(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till, order = await shop.till(), shop.new_id()
        line = {"name": "Café", "gross": 1200, "net": 1000, "tax_rate": "20"}
        for currency, status in (("GBP", 422), ("EUR", 201)):
            body = {"lines": [line], "total": {"amount": 1200, "currency": currency}}
            answer = await till.put(f"/v1/orders/{order}", json=body)
            assert answer.status_code == status, answer.text
            assert answer.json().get("code") == (None if status == 201 else "currency_not_here")
        assert [entry["kind"] for entry in await shop.entries() if entry["subject"] == order] == ["order.placed"]


async def test_a_till_alone_gives_no_money_back_but_a_manager_at_it_does(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till, owner = await shop.till(), await shop.owner()
        payment = shop.new_id()
        await till.put(f"/v1/payments/{payment}", json=cash())
        refused = await till.post(f"/v1/payments/{payment}/reverse")
        assert (refused.status_code, refused.json()["code"]) == (403, "access.not_allowed")
        session = await till.post("/v1/sessions", json={"staff": owner, "pin": "739164"})
        assert session.status_code == 201, session.text
        answer = await till.post(f"/v1/payments/{payment}/reverse", headers={"hub-session": session.json()["token"]})
        assert (answer.status_code, answer.json()["state"]) == (200, "reversed")
        by = [entry["actor"] for entry in await shop.entries() if entry["kind"] == "payment.reversal_requested"]
        assert by == [f"staff:{owner}"]


async def test_personal_data_are_forgotten_by_those_who_may_and_receipts_at_their_date(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till, administrator = await shop.till(), shop.administrator()
        await shop.owner()
        shop.shop.counter.add("tcp://terminal")
        await shop.shop.add_terminal("tcp://terminal")
        sale, refund, card = (shop.new_id() for _ in range(3))
        await till.put(f"/v1/payments/{sale}", json=cash())
        wanted = {"amount": {"amount": 100, "currency": "EUR"}, "reason": "brought back"}
        assert (await administrator.put(f"/v1/payments/{sale}/refunds/{refund}", json=wanted)).status_code == 201
        await till.put(f"/v1/payments/{card}", json={"amount": {"amount": 2000, "currency": "EUR"}})
        await shop.shop.until(card, "approved")
        said, receipt = [
            entry["documents"][0] for entry in await shop.entries()
            if entry["documents"] and entry["subject"] in {refund, card}
        ]  # fmt: skip
        refused = await till.post(f"/v1/documents/{said}/erase")
        assert (refused.status_code, refused.json()["code"]) == (403, "access.not_allowed")
        gone = await administrator.post(f"/v1/documents/{said}/erase")
        assert (gone.status_code, gone.json()["state"], gone.json()["kept_until"]) == (200, "erased", None)
        kept = await administrator.post(f"/v1/documents/{receipt}/erase")
        assert (kept.status_code, kept.json()["state"]) == (200, "kept")
        assert kept.json()["law"] == "FR LPF L102 B"
        unknown = await administrator.post(f"/v1/documents/{shop.new_id()}/erase")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "document.unknown")


async def test_a_till_sees_that_a_manager_can_decide_what_a_silent_terminal_holds(tmp_path: Path) -> None:
    async with counter(tmp_path) as shop:
        till, administrator = await shop.till(), shop.administrator()
        shop.shop.counter.add("tcp://terminal")
        terminal = await shop.shop.add_terminal("tcp://terminal")
        payment = shop.new_id()
        await till.put(f"/v1/payments/{payment}", json={"amount": {"amount": 1011, "currency": "EUR"}})
        await shop.shop.until(payment, "stored")
        assert (await till.get(f"/v1/payments/{payment}")).json()["allowed"] == []
        verdict = {"verdict": "failure", "reason": "the bank's list of the 21st"}
        refused = await administrator.post(f"/v1/payments/{payment}/resolve", json=verdict)
        assert (refused.status_code, refused.json()["code"]) == (409, "terminal_can_send")
        await gone(shop.shop, "tcp://terminal", terminal)
        seen = (await till.get("/v1/payments", params={"open": "true"})).json()["items"]
        assert [(one["id"], one["allowed"]) for one in seen] == [(payment, ["wait", "manager"])]
        decided = await administrator.post(f"/v1/payments/{payment}/resolve", json=verdict)
        assert decided.status_code == 200, decided.text
        shown = decided.json()
        told = (shown["state"], shown["custody"], shown["manual"], shown["open"], shown["allowed"])
        assert told == ("stored", "held", "failure", False, ["other_method"])
        assert (await till.get("/v1/payments", params={"open": "true"})).json()["items"] == []
