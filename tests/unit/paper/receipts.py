"""A receipt with everything on it, as `ReceiptDesk` tells it."""

from __future__ import annotations

from typing import Any

from hubd.services.receipts import OFFLINE_MARK


def euros(amount: int) -> dict[str, object]:
    return {"amount": amount, "currency": "EUR"}


def offline_receipt(language: str) -> dict[str, Any]:
    """Of a card payment that a terminal holds, for an order with a tip, taken while the clock was not trusted."""
    sums = {"amount": euros(720), "tip": euros(80), "rounding": euros(0), "total": euros(800)}
    card = {"card_name": "Visa", "pan_last4": "4771", "terminal_id": "52500038"}
    return {
        "number": "T1-000007",
        "training": True,
        "test": False,
        "local_time": "2026-11-30 12:00:00",
        "clock_trusted": False,
        "store": "Chez Émile",
        "location": {"id": "l", "name": "Lyon"},
        "till": {"id": "t", "name": "Caisse 1"},
        "kind": "sale",
        "order": {
            "id": "o",
            "number": "A-1",
            "total": euros(720),
            "lines": [{"name": "Café", "quantity": 2000, "gross": 720}],
            "taxes": [{"rate": "10", "net": euros(655), "tax": euros(65), "gross": euros(720)}],
        },
        "payment": {"tender": "card", "state": "stored", "card": card, **sums},
        "offline_mark": OFFLINE_MARK[language],
        "offline_deadline": "2026-12-01 12:00:00",
        "terminal_lines": ["Carte ****4771"],
        "fiscal": {"line": "ab" * 16, "seq": 7, "hash": "cd" * 32},
    }
