"""What the till's client remembers, and that a hub takes it in one announcement."""

from __future__ import annotations

import msgspec

from local_api.client import new_id
from local_api.client.memory import KEPT_MAX, Memory
from local_api.routes.store import ROUTES
from local_api.schemas import AnnouncementIn
from local_api.table import BODY_BYTES_MAX


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
