"""Paper over the API: a till's own words and the hub's receipts, with card data refused and rights kept."""

from __future__ import annotations

from pathlib import Path

from drivers.sim.escpos import EscposSimulator
from hubd.model.device import DeviceKind
from tests.unit.local_api.counter import counter
from tests.unit.services.shop import WAIT_S, Terminals, shop_runtime

PRINTER = "tcp://printer:9100"
NOTE = {"document": {"title": "Note", "items": [{"type": "text", "text": "Hello"}, {"type": "cut"}]}}


async def test_a_till_prints_its_own_words_and_the_hubs_receipts(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = EscposSimulator(terminals.runtime)
    terminals.others[PRINTER] = simulator
    async with counter(tmp_path, terminals=terminals) as held:
        till = await held.till()
        job = f"/v1/print-jobs/{held.new_id()}"
        early = await till.put(job, json=NOTE)
        assert (early.status_code, early.json()["code"]) == (409, "no_printer")
        await held.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        first = await till.put(job, json=NOTE)
        assert (first.status_code, first.json()["title"]) == (201, "Note")
        clock = held.shop.services.runtime.clock
        async with clock.timeout(WAIT_S):
            while (await till.get(job)).json()["state"] != "printed":
                await clock.sleep(0.01)
        again = await till.put(job, json=NOTE)
        assert (again.status_code, again.json()["accepted"]) == (200, first.json()["accepted"])
        other = {"document": {"title": "Note", "items": [{"type": "text", "text": "Bye"}]}}
        conflict = await till.put(job, json=other)
        assert (conflict.status_code, conflict.json()["code"]) == (409, "id_conflict")
        assert [item["id"] for item in (await till.get("/v1/print-jobs")).json()["items"]] == [first.json()["id"]]
        payment = held.new_id()
        cash = {"amount": {"amount": 1250, "currency": "EUR"}, "tender": "cash"}
        assert (await till.put(f"/v1/payments/{payment}", json=cash)).status_code == 201
        receipt = {"receipt": {"payment": payment}}
        taken = await till.put(f"/v1/print-jobs/{held.new_id()}", json=receipt)
        assert (taken.status_code, taken.json()["payment"]) == (201, payment)
        async with clock.timeout(WAIT_S):
            while (await till.get(f"/v1/print-jobs/{taken.json()['id']}")).json()["state"] != "printed":
                await clock.sleep(0.01)
        shown = "\n".join(line.plain(42) for receipt in simulator.receipts for line in receipt.lines)
        assert shown.count("Hello") == 1
        assert "12.50" in shown


async def test_card_numbers_and_nonsense_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    async with counter(tmp_path) as held:
        till = await held.till()
        head = held.shop.services.db.head.seq

        async def code(body: object) -> str:
            answer = await till.put(f"/v1/print-jobs/{held.new_id()}", json=body)
            assert answer.status_code >= 400, answer.text
            return str(answer.json()["code"])

        card = "4111 1111 1111 1111"
        for item in (
            {"type": "text", "text": card},
            {"type": "row", "left": card, "right": ""},
            {"type": "qr", "data": card},
            {"type": "barcode", "data": card},
        ):
            assert await code({"document": {"title": "x", "items": [item]}}) == "card_data_refused"
        assert await code({"document": {"title": card, "items": [{"type": "cut"}]}}) == "card_data_refused"
        assert await code({}) == "malformed_request"
        assert await code({**NOTE, "receipt": {"payment": held.new_id()}}) == "malformed_request"
        assert await code({"receipt": {"payment": held.new_id()}}) == "payment_unknown"
        unknown = await till.get(f"/v1/print-jobs/{held.new_id()}")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "print_job_unknown")
        no_scale = await till.get(f"/v1/scales/{held.new_id()}/weight")
        assert (no_scale.status_code, no_scale.json()["code"]) == (404, "scale_unknown")
        assert held.shop.services.db.head.seq == head


async def test_rows_for_a_display_are_checked_and_a_printer_without_one_says_so(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = EscposSimulator(terminals.runtime)
    terminals.others[PRINTER] = simulator
    async with counter(tmp_path, terminals=terminals) as held:
        printer = await held.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        till, path = await held.till(), f"/v1/devices/{printer}/display"
        none = await till.post(path, json={"rows": ["Total", "3,20 €"]})
        assert (none.status_code, none.json()["code"]) == (409, "no_line_display")
        card = await till.post(path, json={"rows": ["4111 1111", "1111 1111"]})
        assert card.json()["code"] == "card_data_refused"
        refused: tuple[dict[str, object], ...] = ({"rows": ["a", "b", "c"]}, {"rows": ["x" * 21]}, {"lines": []})
        for wrong in refused:
            assert (await till.post(path, json=wrong)).status_code == 422
        unknown = await till.post(f"/v1/devices/{held.new_id()}/display", json={})
        assert unknown.status_code == 404
        assert simulator.display.rows == ["", ""]
