"""Tickets: EventSource and WebSocket send no headers, so a till asks for a ticket for one use within 30 seconds."""

from __future__ import annotations

from hubd.errors import AccessError
from hubd.runtime import Runtime
from hubd.services.access import Caller, make_token, token_digest

TICKET_LIFE_S = 30
TICKETS_MAX = 1_000


class Tickets:
    """Issues and redeems tickets; in memory, since they outlive no restart."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._open: dict[bytes, tuple[float, Caller, str]] = {}

    def issue(self, caller: Caller, origin: str) -> str:
        """A ticket that stands for this caller once, in a page of this origin (empty: in no page of another server)."""
        now = self._runtime.clock.monotonic()
        self._open = {digest: kept for digest, kept in self._open.items() if kept[0] > now}
        while len(self._open) >= TICKETS_MAX:
            del self._open[next(iter(self._open))]
        ticket = make_token(self._runtime)
        self._open[token_digest(ticket)] = (now + TICKET_LIFE_S, caller, origin)
        return ticket

    def redeem(self, ticket: str) -> tuple[Caller, str]:
        """The caller it was issued to and his page's origin; raises `access.ticket_over` for a used or old one."""
        ends, caller, origin = self._open.pop(token_digest(ticket), (0.0, None, ""))
        if caller is None or ends < self._runtime.clock.monotonic():
            raise AccessError(
                "access.ticket_over",
                "The ticket is used, too old or unknown.",
                remedy="Ask for a new one: POST /v1/events/ticket.",
            )
        return caller, origin
