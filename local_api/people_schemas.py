"""Requests and answers about people and upkeep: pairing, sessions, staff, locations, set-up, enrolment."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from hubd.model.card_data import check_free_text
from local_api.schemas import Answer, Currency, IdText, Request, ShortText


class PairingIn(Request, frozen=True):
    """A device sends the code that a person gave it. Repeat it unchanged until the answer is 201."""

    id: IdText
    code: Annotated[str, msgspec.Meta(min_length=8, max_length=12)]
    name: ShortText
    kind: Literal["till", "viewer"] = "till"
    language: Annotated[str, msgspec.Meta(pattern="^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    origin: Annotated[str, msgspec.Meta(max_length=200)] = ""
    public_key: Annotated[str, msgspec.Meta(max_length=400)] = ""

    def __post_init__(self) -> None:
        """Refuse card data; the name is checked by its own rules."""
        check_free_text(self.origin, "origin")


class PairingOut(Answer, frozen=True):
    """How far a pairing is. Once confirmed: the device's id and its token, to be kept secret."""

    id: str
    state: Literal["waiting", "confirmed"]
    number: str
    device: str | None = None
    token: str | None = None
    location: str | None = None
    kind: str | None = None


class PairingCodeIn(Request, frozen=True):
    """Open a code for one device."""

    kind: Literal["till", "viewer"] = "till"
    location: IdText | None = None


class PairingCodeOut(Answer, frozen=True):
    """An open code, or a device that waits with it. Never read the code out on the phone."""

    id: str
    state: str
    kind: str
    location: str
    seconds_left: int
    code: str | None
    qr: str | None
    name: str | None
    origin: str | None
    number: str | None
    device: str | None


class ForgottenOut(Answer, frozen=True):
    """What became of the wish to forget a document: erased, or kept until the date that a law gives."""

    id: str
    state: Literal["erased", "kept"]
    kept_until: str | None
    """ISO date; null once it is erased, or while the hub does not know the date yet."""
    law: str | None


class SessionIn(Request, frozen=True):
    """Sign in with a PIN. On the page the session is a cookie and the token is not told."""

    staff: IdText
    pin: Annotated[str, msgspec.Meta(pattern="^[0-9]{4,12}$")]
    location: IdText | None = None
    code: Annotated[str, msgspec.Meta(max_length=24)] = ""
    """The second factor: the six digits of the phone, or a recovery code."""


class SecondFactorOut(Answer, frozen=True):
    """A secret for the phone; it counts once its first code has come back."""

    secret: str
    uri: str
    """`otpauth://`, to be drawn as a QR code."""


class SecondFactorIn(Request, frozen=True):
    """The first code of the phone."""

    code: Annotated[str, msgspec.Meta(pattern="^[0-9]{6}$")]


class RecoveryCodesOut(Answer, frozen=True):
    """Ten codes, each for one sign-in: told once, to be printed."""

    recovery_codes: list[str]


class SessionOut(Answer, frozen=True):
    """A session: send `token` as `Hub-Session` with what the person does. Over after 15 minutes without use."""

    staff: str
    name: str
    location: str
    permissions: list[str]
    language: str
    idle_seconds: int
    token: str | None = None
    enrol: bool = False
    """The person may do nothing here before a second factor is enrolled."""


class GrantIn(Request, frozen=True):
    """A role at a location; `*` means everywhere."""

    role: Literal["cashier", "manager", "owner", "technician", "auditor", "viewer", "activator", "terminal"]
    location: Annotated[str, msgspec.Meta(max_length=36)] = "*"


class StaffIn(Request, frozen=True):
    """A person to add or change."""

    name: ShortText
    pin: Annotated[str, msgspec.Meta(pattern="^[0-9]{4,12}$")]
    language: Annotated[str, msgspec.Meta(pattern="^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    roles: Annotated[list[GrantIn], msgspec.Meta(max_length=20)] = msgspec.field(default_factory=list)


class StaffOut(Answer, frozen=True):
    """A person."""

    id: str
    name: str
    language: str
    roles: list[dict[str, str]]


class LocationIn(Request, frozen=True):
    """A place where the store sells."""

    name: ShortText
    zone: Annotated[str, msgspec.Meta(max_length=64, description='IANA zone: "Europe/Paris".')]
    currency: Currency
    country: Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")]


class LocationOut(Answer, frozen=True):
    """A place where the store sells."""

    id: str
    name: str
    zone: str
    currency: str
    country: str


class OwnerIn(Request, frozen=True):
    """The store's owner."""

    id: IdText
    name: ShortText
    pin: Annotated[str, msgspec.Meta(pattern="^[0-9]{4,12}$")]
    language: Annotated[str, msgspec.Meta(pattern="^[a-z]{2}(-[A-Z]{2})?$")] = "en"


class FirstLocationIn(LocationIn, frozen=True, kw_only=True):
    """The first location with its id."""

    id: IdText


class SetUpIn(Request, frozen=True):
    """Make a fresh hub usable. `code` is not needed on the machine itself (unix socket)."""

    owner: OwnerIn
    location: FirstLocationIn
    code: Annotated[str, msgspec.Meta(max_length=12)] = ""


class SetUpOut(Answer, frozen=True):
    """Whether the hub is set up. The set-up code is for the machine's administrator."""

    done: bool
    code: str | None = None
    recovery_code: str | None = None


class RecoveryCodeOut(Answer, frozen=True):
    """The recovery code while nobody has confirmed that it is on paper; told no more afterwards."""

    confirmed: bool
    id: str | None = None
    code: str | None = None
    """Missing after a restart of the hub before the confirmation: then a new one is to be made."""


class RecoveryConfirmIn(Request, frozen=True):
    """The code with this id is on paper."""

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


class EnrolIn(Request, frozen=True):
    """Where the cloud is and the one-time code that it gave."""

    cloud: Annotated[str, msgspec.Meta(max_length=200)]
    code: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.cloud, "cloud")


class EnrolledOut(Answer, frozen=True):
    """To whom the hub belongs now."""

    tenant: str
    store: str


class SyncRetried(Answer, frozen=True):
    """What a retry has brought."""

    applied: int
    """Messages of the cloud that could not be used before and are applied now."""
