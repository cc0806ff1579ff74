"""Promise 6, field by field: wherever the API takes free text, a card number is refused and written nowhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.unit.local_api.counter import Counter, cash, counter

CARD = "4012888888881881"
NOWHERE = "01890000-0000-7000-8000-00000000dead"
LINE = {"name": "Tea", "tax_rate": "20", "gross": 1200, "net": 1000}
ORDER = {"total": {"amount": 1200, "currency": "EUR"}}
PLACE = {"name": "Lens", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
PERSON = {"name": "Ann", "pin": "284617"}
REFUND = {"amount": {"amount": 1, "currency": "EUR"}}

FREE_TEXT: list[tuple[str, str, Any]] = [
    ("PUT", f"/v1/payments/{NOWHERE}", cash(override={"reason": CARD})),
    ("PUT", f"/v1/payments/{NOWHERE}/refunds/{NOWHERE}", REFUND | {"reason": f"card {CARD}"}),
    ("POST", f"/v1/payments/{NOWHERE}/resolve", {"verdict": "failure", "reason": f"{CARD} seen"}),
    ("PUT", f"/v1/orders/{NOWHERE}", ORDER | {"lines": [LINE | {"name": CARD}]}),
    ("PUT", f"/v1/orders/{NOWHERE}", ORDER | {"lines": [LINE | {"article": CARD}]}),
    ("PUT", f"/v1/staff/{NOWHERE}", PERSON | {"name": CARD}),
    ("PUT", f"/v1/locations/{NOWHERE}", PLACE | {"name": CARD}),
    ("POST", f"/v1/devices/{NOWHERE}/assign", {"name": CARD}),
    ("POST", f"/v1/devices/{NOWHERE}/assign", {"name": "Counter", "address": f"tcp://{CARD}:20007"}),
    ("POST", f"/v1/devices/{NOWHERE}/deactivate", {"reason": CARD}),
    ("POST", f"/v1/endpoints/{NOWHERE}/claim", {"name": CARD}),
    ("PUT", "/v1/settings/store.name", {"value": CARD}),
    ("PUT", "/v1/settings/network.help_phone", {"value": CARD}),
    ("PUT", "/v1/settings/vendor.status_url", {"value": f"https://status.example/{CARD}"}),
    ("PUT", "/v1/policies/terminal", {"value": {CARD: 1}}),
    ("POST", "/v1/enrolment", {"cloud": f"https://cloud.example/{CARD}", "code": "x"}),
    ("POST", "/v1/pairings", {"id": NOWHERE, "code": "AAAA-AAAA", "name": CARD}),
    ("POST", "/v1/pairings", {"id": NOWHERE, "code": "AAAA-AAAA", "name": "T", "origin": f"https://{CARD}.example"}),
    ("GET", f"/v1/journal?subject={CARD}", None),
    ("GET", f"/v1/payments/{CARD}", None),
    ("POST", f"/v1/pairing-codes/{CARD}/confirm", None),
]


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Counter]:
    async with counter(tmp_path) as opened:
        yield opened


async def test_a_card_number_is_refused_in_every_field_and_written_nowhere(
    shop: Counter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="hubd")
    administrator = shop.administrator()
    head, wrong = shop.shop.services.db.head.seq, []
    for method, path, body in FREE_TEXT:
        who = shop.client(origin=body["origin"]) if "origin" in (body or {}) else administrator
        answer = await _ask(who, method, path, body)
        told = answer.json().get("code")
        if (answer.status_code, told) != (422, "card_data_refused"):
            wrong.append((method, path, body, answer.status_code, told))
        assert CARD not in answer.text, (method, path)
    assert wrong == []
    assert shop.shop.services.db.head.seq == head, "the journal has grown"
    assert CARD not in caplog.text
    mark = "Librairie du Coin"
    assert (await _ask(administrator, "PUT", "/v1/settings/store.name", {"value": mark})).status_code == httpx2.codes.OK
    written = await asyncio.to_thread(lambda: [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()])
    assert any(mark.encode() in content for content in written), "the control: what is taken is found there"
    assert not any(CARD.encode() in content for content in written)


async def _ask(who: httpx2.AsyncClient, method: str, path: str, body: Any) -> httpx2.Response:
    return await who.request(method, path, json=body, headers={"if-match": '"0"'})
