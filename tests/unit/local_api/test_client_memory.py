"""What the till's client remembers, and that a hub takes it in one announcement."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import msgspec
import pytest

from local_api.client import Credential, HubClient, new_id
from local_api.client import client as client_module
from local_api.client.memory import KEPT_MAX, Memory
from local_api.routes.store import ROUTES
from local_api.schemas import AnnouncementIn
from local_api.table import BODY_BYTES_MAX
from local_api.tls import CertificateStore


async def test_a_till_with_a_full_memory_and_a_lost_answer_can_still_announce() -> None:
    memory, lost = Memory(), new_id()
    held = {
        "line": "ab" * 16,
        "seq": 2**40,
        "hash": "cd" * 32,
        "state": "reversal_pending",
        "amount": {"amount": 10**12, "currency": "EUR"},
        "tender": "card",
        "kind": "refund",
        "original": new_id(),
    }
    ids = [new_id() for _ in range(KEPT_MAX)]
    memory.held = {one: {"id": one, **held} for one in ids}
    await memory.attempt(lost, {"amount": {"amount": 1250, "currency": "EUR"}})
    body = msgspec.json.encode({"payments": memory.announcement()})
    told = [one.id for one in msgspec.json.decode(body, type=AnnouncementIn).payments]
    assert {lost, ids[-1]} <= set(told), "what was never answered is told, and of the others the newest"
    assert ids[0] not in told
    [row] = [row for row in ROUTES if row.path == "/v1/announcements"]
    assert BODY_BYTES_MAX < len(body) < row.body_bytes_max


@pytest.mark.parametrize(
    ("status", "code", "attempts"),
    [
        (503, "hub_stopping", ["1", "2", "2"]),
        (503, "store.failed", ["1", "2", "2"]),
        (500, "internal", ["1", "2", "2"]),
        (507, "store.full", ["1", "1", "1"]),
        (429, "too_many_requests", ["1", "1", "1"]),
    ],
)
async def test_a_restored_hub_is_told_of_a_try_whose_outcome_the_hub_did_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, attempts: list[str]
) -> None:
    monkeypatch.setattr(client_module, "PAUSE_FIRST_S", 0.0)
    payment, tries, told = new_id(), list[str](), list[str]()
    money = {"amount": 1250, "currency": "EUR"}
    paid = {"id": payment, "accepted": {}, "state": "approved", "total": money, "tender": "cash", "kind": "sale"}

    def hub(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            told.extend(one["id"] for one in json.loads(request.content)["payments"])
            return httpx2.Response(200, json={})
        tries.append(request.headers["attempt"])
        refusals = [(status, code), (409, "hub_line_changed")]
        if len(tries) > len(refusals):
            return httpx2.Response(201, json=paid)
        answer, problem = refusals[len(tries) - 1]
        return httpx2.Response(answer, json={"code": problem, "retry": "same_request"})

    store = CertificateStore(tmp_path, "cd" * 16, lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: True)
    fingerprint = await asyncio.to_thread(store.fingerprint)
    ca_pem = await asyncio.to_thread(store.ca_file.read_text, "ascii")
    credential = Credential("cd" * 16, fingerprint, ca_pem, ("hub",), new_id(), "token")
    async with HubClient(credential) as till:
        await till._wire._client.aclose()
        till._wire._client = httpx2.AsyncClient(transport=httpx2.MockTransport(hub))
        await till.pay(payment, 1250, "EUR", tender="cash")
    assert tries == attempts
    assert told == ([payment] if attempts[1] == "2" else []), "what may have been taken is told, and nothing else"
    assert not till.memory.unanswered
    assert not till.memory.attempts
