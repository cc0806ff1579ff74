"""What the API knows beside the services: who this hub is and where it may be found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct, field

from hubd.services.access import Caller
from hubd.services.backups import BackupDesk
from hubd.services.bundle import Services
from local_api.tickets import Tickets

API_VERSION = "1.0"
CAPABILITIES = (
    "announcements",
    "backups.keep",
    "events",
    "events.websocket",
    "orders",
    "pairing.signature",
    "payments.card",
    "payments.cash",
    "payments.refund.cash",
    "payments.reverse",
    "payments.wait",
    "receipts",
    "statements",
)


Enrol = Callable[[str, str, Caller], Awaitable[tuple[str, str]]]
"""(cloud address, one-time code, caller) -> tenant and store."""


class HubFacts(Struct, frozen=True):
    """Who this hub is. Made by the composition root; nothing in it is secret but what `backup` returns."""

    hub_id: str
    """32 hex digits, from the hub's own key."""
    version: str
    fingerprint: str
    """SHA-256 of the CA's public key, 64 hex digits: what the pairing QR pins."""
    addresses: Callable[[], Sequence[str]]
    """`host:port` of the HTTPS server, best first."""
    ca_pem: bytes = b""
    """The CA's certificate, for everybody: pinning clients fetch it and compare its key."""
    names: frozenset[str] = frozenset()
    """Host names that a browser may use for this hub, such as `hubd-1a2b3c4d.local`."""
    sync: Callable[[], dict[str, Any]] | None = None
    """What the sender and receiver say of themselves."""
    enrol: Enrol | None = None
    """Binds the hub to a cloud; None where it talks to none."""
    belongs_to: Callable[[], Awaitable[tuple[str, str] | None]] | None = None
    """Tenant and store, once the hub is enrolled; None where it talks to no cloud."""
    retry_sync: Callable[[], Awaitable[int]] | None = None
    """Applies again what the cloud sent and could not be used, and says how many were; None: it talks to none."""
    backups: BackupDesk | None = None
    ready: Callable[[], list[str]] = field(default=list)
    """Codes of what keeps the hub from being ready; empty when it is."""


class ApiContext(Struct, frozen=True):
    """All that a handler may touch."""

    services: Services
    facts: HubFacts
    tickets: Tickets
