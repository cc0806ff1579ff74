"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass

from hubd.errors import AccessError
from hubd.model.permissions import Permission


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for something, as the edge has established it. Services trust it and check permissions with `need`."""

    device: str
    """Id of the paired till or viewer; empty for the page's own browser session and for the machine's administrator."""
    staff: str | None
    """Id of the person who is signed in."""
    location: str
    permissions: frozenset[Permission]
    language: str
    attempt: int = 1
    """Which try of the same request this is, as the till counts; above 1 the first may have arrived before."""
    hub_line: str = ""
    """The `Hub-Line` that the till sent back (`line:seq:start`), its place in the chain checked; may be empty."""

    @property
    def actor(self) -> str:
        """The actor of entries of this call (E4): the person if one is signed in, else the device, else `hub`."""
        if self.staff is not None:
            return f"staff:{self.staff}"
        return f"device:{self.device}" if self.device else "hub"

    @property
    def seen_start(self) -> str:
        """The hub's start that the till saw last; empty if it told none. Another one than ours: we started since."""
        return self.hub_line.rpartition(":")[2]

    def may(self, permission: Permission) -> bool:
        """Whether the caller has this permission."""
        return permission in self.permissions

    def need(self, permission: Permission) -> None:
        """Raise `access.not_allowed` without this permission."""
        if permission not in self.permissions:
            raise AccessError(
                "access.not_allowed",
                "The caller may not do this.",
                remedy="Let a person whose role allows it sign in with the PIN, and repeat the request.",
                params={"permission": permission},
            )
