"""Real journals for tests: a store with a line, locations, payments, orders and documents in it."""

from __future__ import annotations

import random  # noqa: TID251 (one seed makes one journal)
from collections.abc import Callable
from typing import Any

from hubd.model.entry import Document, Draft, Entry
from hubd.runtime import Runtime, system_runtime
from hubd.store import journal
from hubd.store.db import Database
from hubd.store.tx import Tx

HUB_ID = "aa" * 16
LINE_1 = bytes(range(16))
LINE_2 = bytes(range(16, 32))


_RUNTIME = system_runtime()


def runtime() -> Runtime:
    """The real world; the store asks it for time and ids only."""
    return _RUNTIME


def line_opened(tx: Tx, line: bytes = LINE_1, reason: str = "new") -> Entry:
    """Open a line as the hub does."""
    parent = {"line": tx.head.line.hex(), "seq": tx.head.seq, "hash": tx.head.hash.hex()} if tx.head.seq else None
    body: dict[str, Any] = {
        "hub_id": HUB_ID,
        "public_key": "bb" * 32,
        "reason": reason,
        "parent": parent,
        "number_series": [],
    }
    return journal.open_line(tx, line, Draft("line.opened", "", "hub", body))


def payment_body(**more: Any) -> dict[str, Any]:
    """What payment.requested and payment.recorded carry."""
    return {
        "amount": 1250,
        "baseline": "",
        "business_date": "2026-11-21",
        "counter": None,
        "currency": "EUR",
        "custody": None,
        "deadline_us": None,
        "device": "till-1",
        "digest": "00" * 32,
        "exponent": 2,
        "kind": "sale",
        "location": "loc-1",
        "method": "cash",
        "mode": "live",
        "order": None,
        "original": None,
        "outage": None,
        "policy_version": None,
        "reason": "",
        "rounding": 0,
        "series": None,
        "staff": None,
        "tender": "cash",
        "terminal": None,
        "tip": 0,
        "zone": "Europe/Paris",
    } | more


def cash_sale(payment_id: str, **more: Any) -> Draft:
    """A cash sale, done when it is told."""
    return Draft("payment.recorded", payment_id, "device:till-1", payment_body(**more))


def card_request(payment_id: str, **more: Any) -> Draft:
    """A card payment before the terminal is touched."""
    return Draft("payment.requested", payment_id, "device:till-1", payment_body(tender="card", method="card", **more))


def moved(payment_id: str, event: str, documents: tuple[Document, ...] = (), **more: Any) -> Draft:
    """A step of a payment."""
    return Draft(f"payment.{event}", payment_id, "hub", payment_body(**more), documents=documents)


def document(rng: random.Random, content: bytes = b"", klass: str = "receipt_lines", **more: Any) -> Document:
    """A document with a salt of its own."""
    return Document(
        rng.randbytes(16),
        klass,
        rng.randbytes(32),
        content or rng.randbytes(rng.randrange(1, 100)).hex().encode(),
        **more,
    )


def any_id(rng: random.Random) -> str:
    """A UUIDv7 whose time bits mean nothing."""
    from hubd.model.ids import uuid7

    return uuid7(rng.getrandbits(48), rng.randbytes(10))


def random_step(rng: random.Random, running: list[str]) -> Callable[[Tx], Any]:
    """One change of state as a service makes it: one to three entries in one transaction."""
    choice = rng.randrange(10)
    if choice < 3:
        draft = cash_sale(any_id(rng), amount=rng.randrange(1, 10**6), tip=rng.randrange(500))
        return lambda tx: journal.append(tx, draft)
    if choice < 6 or not running:
        payment_id = any_id(rng)
        running.append(payment_id)
        draft = card_request(payment_id, amount=rng.randrange(1, 10**6))
        return lambda tx: journal.append(tx, draft)
    payment_id = running.pop(rng.randrange(len(running)))
    steps = [moved(payment_id, "started")]
    event = rng.choice(["approved", "declined", "stored", "unknown", "cancelled"])
    steps.append(moved(payment_id, event, (document(rng),), evidence={"trace_number": str(rng.randrange(10**6))}))
    if event == "stored":
        steps += [moved(payment_id, step) for step in ("forwarding", "forwarded", "captured")[: rng.randrange(4)]]
    if event == "unknown" and rng.random() < 0.5:
        steps.append(Draft("payment.resolved", payment_id, "staff:manager-1", {"manual": "success"}))
    if rng.random() < 0.1:
        steps.append(Draft("weather.changed", "", "hub", {"sky": "gr\u00e5", "n": [1, None, True]}))

    def work(tx: Tx) -> None:
        for draft in steps:
            journal.append(tx, draft)

    return work


async def fill(db: Database, seed: int, steps: int) -> None:
    """Write a random journal of two lines."""
    rng = random.Random(seed)
    running: list[str] = []
    await db.write("open", line_opened)
    for number in range(steps):
        if number == steps // 2:
            await db.write("reopen", lambda tx: line_opened(tx, LINE_2, "restored"))
        await db.write("step", random_step(rng, running))
