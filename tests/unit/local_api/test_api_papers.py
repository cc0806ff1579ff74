"""One receipt, three renderings: by `Accept` from the API, and by address on the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.sim.escpos import EscposSimulator
from hubd.model.device import DeviceKind
from hubd.services.settings import RECEIPT_LAYOUT
from local_api.paper import HTML, JSON, PDF, preferred
from tests.rigs import pdf
from tests.unit.local_api.counter import Counter, cash, counter
from tests.unit.services.shop import Terminals, shop_runtime
from tests.unit.services.test_printing import PRINTER, WAIT_S


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("image/png", JSON),
        ("application/json", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),
        ("application/pdf", PDF),
        ("text/html;q=0.4, application/pdf;q=0.5", PDF),
        ("text/*", HTML),
        ("text/*;q=0, */*;q=0.1, application/json;q=0", PDF),
        ("application/pdf;q=2", JSON),
        ("application/pdf;q=nan, text/html;q=0.001", HTML),
        ("TEXT/HTML", HTML),
    ],
)
def test_the_answer_is_what_the_caller_likes_best(accept: str, wanted: str) -> None:
    assert preferred(accept, (JSON, HTML, PDF)) == wanted


async def a_receipt(held: Counter) -> str:
    till = await held.till("Kassa <1>")
    payment = held.new_id()
    layout = {"header": ["<b>Rue & Gare</b>"], "columns": 32, "language": "fr"}
    await held.shop.services.settings.put("hub", RECEIPT_LAYOUT, layout)
    assert (await till.put(f"/v1/payments/{payment}", json=cash())).status_code == 201
    return payment


async def test_a_receipt_is_data_a_page_or_a_pdf(tmp_path: Path) -> None:
    async with counter(tmp_path) as held:
        payment = await a_receipt(held)
        administrator = held.administrator()
        path = f"/v1/payments/{payment}/receipt"
        data = await administrator.get(path)
        assert data.headers["content-type"] == JSON
        page = await administrator.get(path, headers={"accept": HTML}, params={"purpose": "merchant"})
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert (page.headers["vary"], page.headers["cache-control"]) == ("Accept", "no-store")
        assert "&lt;b&gt;Rue &amp; Gare&lt;/b&gt;" in page.text
        assert "<b>" not in page.text
        assert "Exemplaire commerçant" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        made = await administrator.get(path, headers={"accept": PDF})
        assert made.headers["content-type"] == PDF
        assert f"Ticket {data.json()['number']}" in pdf.text_of(made.content)
        assert "Exemplaire commerçant" not in pdf.text_of(made.content)
        wrong = await administrator.get(path, headers={"accept": HTML}, params={"purpose": "other"})
        assert wrong.status_code == 422


async def test_what_a_job_prints_can_be_looked_at_and_says_copy_once_it_is_out(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = EscposSimulator(terminals.runtime)
    terminals.others[PRINTER] = simulator
    async with counter(tmp_path, terminals=terminals) as held:
        till = await held.till()
        await held.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        simulator.load_paper(0)
        job = f"/v1/print-jobs/{held.new_id()}"
        note = {"document": {"title": "Note", "items": [{"type": "text", "text": "Hello"}, {"type": "cut"}]}}
        assert (await till.put(job, json=note)).status_code == 201
        shown = await till.get(f"{job}/paper", headers={"accept": HTML})
        assert ("Hello" in shown.text, "COPY" in shown.text) == (True, False)
        simulator.load_paper(1000)
        clock = held.shop.services.runtime.clock
        async with clock.timeout(WAIT_S):
            while (await till.get(job)).json()["state"] != "printed":
                await clock.sleep(0.01)
        copied = await till.get(f"{job}/paper", headers={"accept": PDF})
        assert pdf.text_of(copied.content)[0].strip() == "COPY"
        unknown = await till.get(f"/v1/print-jobs/{held.new_id()}/paper")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "print_job_unknown")


async def test_a_setting_is_read_for_a_location(tmp_path: Path) -> None:
    async with counter(tmp_path) as held:
        await held.owner()
        administrator = held.administrator()
        (place,) = (await administrator.get("/v1/locations")).json()["items"]
        path = f"/v1/settings/{RECEIPT_LAYOUT}"
        version = (await administrator.get(path, params={"location": place["id"]})).headers["etag"]
        change = {"value": {"footer": ["Merci"]}, "location": place["id"]}
        changed = await administrator.put(path, json=change, headers={"if-match": version})
        assert (changed.status_code, changed.json()["value"]["footer"]) == (200, ["Merci"])
        here = await administrator.get(path, params={"location": place["id"]})
        assert (here.json()["value"]["footer"], here.json()["scope"]) == (["Merci"], f"location:{place['id']}")
        assert (await administrator.get(path)).json()["value"]["footer"] == []
        bad = {"value": {"footer": ["4111 1111 1111 1111"]}, "location": place["id"]}
        refused = await administrator.put(path, json=bad, headers={"if-match": here.headers["etag"]})
        assert (refused.status_code, refused.json()["code"]) == (422, "card_data_refused")
        bad = {"value": {"columns": 7}, "location": place["id"]}
        refused = await administrator.put(path, json=bad, headers={"if-match": here.headers["etag"]})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_receipt_layout")
