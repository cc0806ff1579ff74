"""Entries as a shop writes them, and wires that spoil messages by what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hubd.model.entry import Draft
from hubd.runtime import SystemIds
from sync.codec import Message, open_frame

NOW: tuple[float, ...] = (0.0,)
LOST: tuple[float, ...] = ()
TWICE: tuple[float, ...] = (0.0, 0.0)
NOT_CASH = {"tender": "card", "method": "card"}


def new_id() -> str:
    return SystemIds().new_id()


def payment_body(amount: int, **more: Any) -> dict[str, Any]:
    """What every entry about a card payment carries."""
    body: dict[str, Any] = {
        "amount": amount,
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
        "method": "card",
        "mode": "live",
        "order": None,
        "original": None,
        "outage": None,
        "policy_version": 1,
        "reason": "",
        "rounding": 0,
        "series": None,
        "staff": None,
        "tender": "card",
        "terminal": "term-1",
        "tip": 0,
        "zone": "Europe/Paris",
    }
    return body | more


def cash(payment: str, amount: int, **more: Any) -> Draft:
    body = payment_body(amount, tender="cash", method="cash", terminal=None, **more)
    return Draft("payment.recorded", payment, "device:till-1", body)


def stored(payment: str, amount: int, **more: Any) -> list[Draft]:
    """A card payment that the terminal approved without its host."""
    body = payment_body(amount, **more)
    return [
        Draft("payment.requested", payment, "device:till-1", body),
        Draft("payment.started", payment, "hub", body),
        Draft("payment.stored", payment, "hub", body | {"custody": "held"}),
    ]


def forwarded(payment: str, amount: int, **more: Any) -> list[Draft]:
    """The terminal hands it over."""
    body = payment_body(amount, **more)
    return [
        Draft("payment.forwarding", payment, "hub", body | {"custody": "forwarding"}),
        Draft("payment.forwarded", payment, "hub", body | {"custody": "forwarded"}),
    ]


def outage_opened(outage: str) -> Draft:
    body = {"cause": "network_outage", "started_at_us": 1_000_000, "started_mono_ms": 1}
    return Draft("outage.opened", outage, "hub", body)


def outage_closed(outage: str) -> Draft:
    return Draft("outage.closed", outage, "hub", {"ended_at_us": 2_000_000, "cause": "network_outage"})


def heard(outage: str, terminal: str = "term-1") -> Draft:
    """The terminal has answered since the outage ended."""
    return Draft("outage.terminal_heard", outage, "hub", {"terminal": terminal})


class ScriptedWire:
    """Asks `rule` what becomes of each message; None means that it arrives."""

    def __init__(self, rule: Callable[[str, Message], Sequence[float] | None] = lambda _d, _m: None) -> None:
        self.rule = rule
        self.seen: list[tuple[str, Message]] = []
        self.raw: list[tuple[str, bytes]] = []

    def plan(self, direction: str, payload: bytes) -> Sequence[float]:
        message = open_frame(payload).message()
        self.seen.append((direction, message))
        self.raw.append((direction, payload))
        planned = self.rule(direction, message)
        return NOW if planned is None else planned

    def count(self, direction: str, kind: type[Any]) -> int:
        return sum(1 for way, message in self.seen if way == direction and isinstance(message, kind))
