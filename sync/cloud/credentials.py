"""Short-lived credentials for the broker. The hub's key is its only lasting credential; these follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

LIFETIME_S = 3600


@dataclass(frozen=True, slots=True)
class BrokerCredentials:
    """What a hub needs to enter the broker until they expire."""

    username: str
    password: str = field(repr=False)
    expires_at_us: int


class CredentialIssuer(Protocol):
    """Tells the broker whom to let in, and to which topics."""

    async def issue(self, tenant: str, hub: bytes) -> BrokerCredentials:
        """Fresh credentials for one hub's own topics; earlier ones of the same hub end here. OSError: try later."""
        ...


class OpenBroker:
    """For a broker that lets everybody in (one store, local play): names without secrets."""

    def __init__(self, expires_at_us: int = 2**53 - 1) -> None:
        self._expires_at_us = expires_at_us

    async def issue(self, tenant: str, hub: bytes) -> BrokerCredentials:
        """A name, and no password that anybody checks."""
        return BrokerCredentials(hub.hex(), "", self._expires_at_us)
