"""Bodies of what discovery sees, and of the acts that make it a device of the store."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hubd.model.card_data import check_free_text
from local_api.schemas import ROLE, Answer, IdText, Request, ShortText


class ClaimIn(Request, frozen=True):
    """What an offered device is to be called, and for which till or place it is (`till:ID`, `place:NAME`, or empty)."""

    name: ShortText | None = None
    """Absent: as it announces itself."""
    role: Annotated[str, msgspec.Meta(pattern=ROLE)] = ""
    driver: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{1,40}$")] | None = None
    """One of the endpoint's `drivers`, where a person has to choose; absent otherwise."""
    replaces: Annotated[str, msgspec.Meta(max_length=36)] = ""
    """The device whose place it takes, with its name, role, location and settings; then `role` stays empty."""
    location: IdText | None = None
    """Where it stands; absent: at the caller's own location."""

    def __post_init__(self) -> None:
        """Refuse card data."""
        if self.name:
            check_free_text(self.name, "name")


class AddressIn(Request, frozen=True):
    """Where a device stands that announces itself nowhere: `host`, `host:port` or `tcp://host:port`."""

    address: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    driver: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_]{1,40}$")] | None = None
    """Absent: the one whose usual port it is."""
    name: ShortText | None = None

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.address, "address")
        if self.name:
            check_free_text(self.name, "name")


class PlaceOut(Answer, frozen=True):
    """A place in the shop that wants a device: that of `device`, with its name and role."""

    device: str
    name: str
    kind: str
    role: str
    location: str


class EndpointOut(Answer, frozen=True):
    """Something that was seen in the configuration, at a plug, on the network or where a person has typed.

    What it is to the store: `standing` is `offered` (a person may claim it), `choose` (and name one of `drivers`),
    `known` (it is `device`) or `unusable`; `reason` is a stable code, `why` a sentence; `position` is where it is
    plugged in.
    """

    id: str
    source: str
    name: str
    address: str | None
    service: str | None
    identity: str
    identity_source: str
    position: str | None
    txt: dict[str, str]
    standing: str
    driver: str | None
    drivers: list[str]
    device: str | None
    reason: str | None
    why: str | None
    probed: str | None = None
    """What asking has brought: `recognised`, `talks`, `silent`; null before anybody has wanted to know."""
    looks_like: str | None = None
    """One of `drivers`: the one whose devices answer like this one. A proposal, for a person to confirm."""
    in_place_of: list[PlaceOut] = msgspec.field(default_factory=list)
    """Places of this kind whose device is gone, silent, faulty or out of use, worst first: `replaces` of the claim."""
