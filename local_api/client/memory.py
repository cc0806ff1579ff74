"""What a till must not forget: the last `Hub-Line`, and the payments of its last seven days.

Kept in a file if one is given, written before a payment is sent and again when its answer is in.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEPT_MAX = 5_000
"""Payments, and what a hub takes in one announcement: with one more it would refuse them all, for ever."""


@dataclass
class Memory:
    """The till's own notes. With `path`, they survive a power cut."""

    path: Path | None = None
    hub_line: str = ""
    attempts: dict[str, int] = field(default_factory=dict)
    """Payment id -> how often it was sent without an answer that says what became of it."""
    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Payment id -> what the hub accepted, in the form of an announcement."""
    unanswered: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Payment id -> a request that may have been accepted, in the same form: a restored hub must hear of it too, or it
    would take the repeat for a first attempt."""

    @classmethod
    def load(cls, path: Path) -> Memory:
        """Read the notes of before, or begin."""
        if not path.exists():
            return cls(path)
        kept = json.loads(path.read_text("utf-8"))
        return cls(path, kept["hub_line"], kept["attempts"], kept["held"], kept.get("unanswered", {}))

    async def attempt(self, payment: str, body: dict[str, Any]) -> int:
        """Count one more try of this payment and return its number; on disk before it is sent."""
        self.attempts[payment] = self.attempts.get(payment, 0) + 1
        money = body["amount"]
        minor = money["amount"] + body.get("tip", 0) + body.get("rounding", 0)
        self.unanswered[payment] = {
            "id": payment,
            "line": "0" * 32,
            "seq": 0,
            "hash": "0" * 64,
            "state": "requested",
            "amount": {"amount": minor, "currency": money["currency"]},
            "tender": body.get("tender", "card"),
        }
        await asyncio.to_thread(self.save)
        return self.attempts[payment]

    async def refused(self, payment: str) -> None:
        """The hub has answered that it took nothing. An earlier try may still have been lost; then the note stays."""
        self.attempts[payment] -= 1
        if not self.attempts[payment]:
            del self.attempts[payment], self.unanswered[payment]
        await asyncio.to_thread(self.save)

    def announcement(self) -> list[dict[str, Any]]:
        """What a restored hub has to hear: what may have been accepted and what was, as much as it takes at once."""
        told = [*self.held.values(), *self.unanswered.values()]
        return told[-KEPT_MAX:]

    async def answered(self, payment: dict[str, Any]) -> None:
        """Keep what the hub accepted."""
        self.attempts.pop(payment["id"], None)
        self.unanswered.pop(payment["id"], None)
        self.held.pop(payment["id"], None)
        self.held[payment["id"]] = {
            "id": payment["id"],
            **payment["accepted"],
            "state": payment["state"],
            "amount": payment["total"],
            "tender": payment["tender"],
            "kind": payment["kind"],
            **({"original": payment["original"]} if payment.get("original") else {}),
        }
        while len(self.held) > KEPT_MAX:
            del self.held[next(iter(self.held))]
        await asyncio.to_thread(self.save)

    def save(self) -> None:
        """Write the notes so that a power cut leaves the old ones or the new ones."""
        if self.path is None:
            return
        temporary = self.path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            notes = {"hub_line": self.hub_line, "attempts": self.attempts, "held": self.held}
            json.dump(notes | {"unanswered": self.unanswered}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
