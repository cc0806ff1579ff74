"""Who calls, and what they may do."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from hubd.errors import AccessError, HubError, Retry
from hubd.model.device import DeviceKind
from hubd.model.permissions import (
    ADMINISTRATOR_PERMISSIONS,
    BACK_OFFICE_PERMISSIONS,
    COUNTER_PERMISSIONS,
    Permission,
    Role,
    device_permissions,
    permissions_of,
)
from hubd.runtime import Runtime
from hubd.services.calendar import zone_of
from hubd.services.feed import Feed
from hubd.services.pins import PinGuard, PinHasher
from hubd.services.second_factor import Begun, SecondFactors
from hubd.services.settings import SECOND_FACTOR, effective
from hubd.services.signatures import ReplayWindow, SignedRequest, verify_p256
from hubd.store import devices, documents, people
from hubd.store.db import Database
from hubd.store.devices import Device as Device
from hubd.store.people import Location, StaffMember
from hubd.store.tx import Connection

EVERYWHERE = "*"
"""Stands for all locations, also those to come, in a grant."""


class Caller(Struct, frozen=True):
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
    elsewhere: tuple[tuple[str, frozenset[Permission]], ...] = ()
    """What the person may do at other locations, or everywhere (`*`). A device may do nothing outside its own."""
    session: bytes = b""
    """Digest of the person's session, by which a stream notices that it is over; empty without one."""

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
        """Raise `access.not_allowed` without this permission at the caller's own location."""
        self.need_at(permission, self.location)

    def may_at(self, permission: Permission, location: str) -> bool:
        """Whether the caller has this permission at a location: roles are granted per location."""
        if location == self.location:
            return permission in self.permissions
        return any(permission in granted for where, granted in self.elsewhere if where in {location, EVERYWHERE})

    def need_at(self, permission: Permission, location: str) -> None:
        """Raise `access.not_allowed` without this permission at the location of what is asked about."""
        if not self.may_at(permission, location):
            raise AccessError(
                "access.not_allowed",
                "The caller may not do this.",
                remedy="Let a person whose role allows it sign in with the PIN, and repeat the request.",
                params={"permission": permission},
            )

    def locations_of(self, permission: Permission) -> frozenset[str] | None:
        """The locations where the caller has this permission; None: everywhere."""
        if any(where == EVERYWHERE and permission in granted for where, granted in self.elsewhere):
            return None
        own = {self.location} if permission in self.permissions else set()
        return frozenset(own | {where for where, granted in self.elsewhere if permission in granted})


TOKEN_BYTES = 32
SESSION_IDLE_S = 15 * 60
SESSION_LONGEST_S = 12 * 3600
SESSIONS_MAX = 1_000
PLACE_KEPT_S = 12 * 3600
"""How long an address counts as a till's after it has called: routers give addresses to others."""
_ACCESS_KINDS = ("device.", "staff.", "grant.", "location.", "setting.")
_NOBODY = "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""A verifier that nothing matches: an unknown person must take as long to refuse as a wrong PIN."""


def make_token(runtime: Runtime) -> str:
    """256 unpredictable bits, as text that fits into a header."""
    return base64.urlsafe_b64encode(runtime.ids.token_bytes(TOKEN_BYTES)).decode("ascii").rstrip("=")


def token_digest(token: str) -> bytes:
    """What the hub keeps of a token. No slow hash is needed: nobody guesses 256 bits."""
    return hashlib.sha256(token.encode("utf-8")).digest()


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is signed in, at one device or in one browser, until idle for 15 minutes."""

    token: str = field(repr=False)
    staff: str
    name: str
    device: str
    location: str
    permissions: frozenset[Permission]
    language: str
    idle_s: int = SESSION_IDLE_S
    enrol: bool = False
    """Whether the person may do nothing here before enrolling a second factor."""


class _Open(Struct):
    """What the hub remembers of a session; its token is kept as a digest."""

    staff: str
    device: str
    location: str
    opened: float
    used: float
    proved: bool = False
    """Whether the person gave a second factor."""

    def is_over(self, now: float) -> bool:
        """Whether it was idle for too long, or is too old."""
        return now - self.used > SESSION_IDLE_S or now - self.opened > SESSION_LONGEST_S


class _Known(Struct, frozen=True):
    by_token: Mapping[bytes, Device]
    by_id: Mapping[str, Device]
    staff: Mapping[str, StaffMember]
    grants: tuple[tuple[str, str, str], ...]
    locations: tuple[Location, ...]
    enrolled: frozenset[str]
    asked_of_all: bool
    """Whether everybody who runs the shop has to have a second factor."""


def _read_known(connection: Connection, now_us: int) -> _Known:
    paired = [
        device
        for device in devices.all_devices(connection)
        if device.kind in {DeviceKind.TILL, DeviceKind.VIEWER} and device.active
    ]
    places = tuple(people.locations(connection))
    everybody = people.all_staff(connection)
    grants = people.all_grants(connection)
    if len(everybody) == 1:
        grants.append((everybody[0].id, EVERYWHERE, Role.ACTIVATOR.value))  # nobody else could activate (domain D02)
    for place in places:
        zone_of(place.zone)  # read from its file here, beside the event loop, and in memory from then on
    return _Known(
        by_token={device.token_sha256: device for device in paired if device.token_sha256},
        by_id={device.id: device for device in paired},
        staff={person.id: person for person in everybody},
        grants=tuple(grants),
        locations=places,
        enrolled=people.with_second_factor(connection),
        asked_of_all=bool(effective(connection, SECOND_FACTOR, now_us).value),
    )


class AccessDesk:
    """Establishes who calls: devices by token or signature, people by PIN for a short session.

    Sessions live in memory only: after a restart people sign in again. What is known of devices and grants is kept
    in memory too, and read anew after every entry that changes it.
    """

    def __init__(self, db: Database, runtime: Runtime, hasher: PinHasher, feed: Feed) -> None:
        self._db = db
        self._runtime = runtime
        self._hasher = hasher
        self._known: _Known | None = None
        self._sessions: dict[bytes, _Open] = {}
        self._windows: dict[str, ReplayWindow] = {}
        self._places: dict[str, tuple[str, float]] = {}
        """By device, the address from which it called last, and when."""
        self.guard = PinGuard(db, runtime)
        self.factors = SecondFactors(db, runtime, self.guard)
        feed.listen(_ACCESS_KINDS, lambda _entry: self.forget())

    def forget(self) -> None:
        """Read devices and grants anew at the next call; for those who have just changed them."""
        self._known = None

    async def _all(self) -> _Known:
        known = self._known
        if known is None:
            known = self._known = await self._db.read("access", lambda c: _read_known(c, self._runtime.clock.now_us()))
        return known

    async def device_of_token(self, token: str) -> Device:
        """The paired device that holds this token; raises `access.unknown_token`."""
        device = (await self._all()).by_token.get(token_digest(token))
        if device is None:
            raise AccessError(
                "access.unknown_token",
                "The token is not known to this hub, or its device was removed.",
                remedy="Pair the device again: a person in the store shows a new code.",
            )
        return device

    async def device_of_signature(self, signed: SignedRequest) -> Device:
        """The paired browser whose key made this signature; raises `access.bad_signature`, `access.stale_signature`."""
        device = (await self._all()).by_id.get(signed.key_id)
        if device is None or device.public_key is None:
            raise AccessError("access.bad_signature", "The signature names no paired browser.", remedy="Pair it again.")
        if signed.start != self._runtime.start_id:
            raise AccessError(
                "access.stale_signature",
                "The signature was made for another start of the hub.",
                remedy="Sign again with the start that the answer's Hub-Line names.",
                retry=Retry.SAME_REQUEST,
            )
        if not verify_p256(device.public_key, signed.signature, signed.base):
            raise AccessError("access.bad_signature", "The signature does not fit the request.", remedy="Sign anew.")
        if not self._windows.setdefault(device.id, ReplayWindow()).accept(signed.counter):
            raise AccessError(
                "access.stale_signature",
                "The counter of the signature was used before.",
                remedy="Raise the counter with every request and sign again.",
                retry=Retry.SAME_REQUEST,
            )
        return device

    def called_from(self, device: Device, address: str) -> None:
        """Remember where a device is that has just proved itself."""
        self._places[device.id] = (address, self._runtime.clock.monotonic())

    async def till_at(self, address: str) -> Device | None:
        """The paired till that called from this address last, within twelve hours; no proof, only a likelihood."""
        since = self._runtime.clock.monotonic() - PLACE_KEPT_S
        ids = [id_ for id_, (place, at) in self._places.items() if place == address and at >= since]
        known = (await self._all()).by_id
        tills = [known[id_] for id_ in ids if id_ in known and known[id_].kind is DeviceKind.TILL]
        return max(tills, key=lambda till: self._places[till.id][1], default=None)

    async def origins(self) -> frozenset[str]:
        """Origins of all paired browsers; preflight requests are answered for these alone."""
        return frozenset(device.origin for device in (await self._all()).by_id.values() if device.origin)

    async def caller(
        self, device: Device | None, session: str | None, *, attempt: int = 1, hub_line: str = "", language: str = ""
    ) -> Caller:
        """The caller of a request from this device and, if a session token is given, this person.

        Raises `access.session_over` for a session that is not known (any more) or belongs to another device.
        """
        known = await self._all()
        person = self._person(session, device.id if device else "") if session else None
        if device is None and person is None:
            raise AccessError("access.not_signed_in", "Nobody is signed in.", remedy="Sign in with your PIN.")
        location = device.location if device else (person.location if person else "")
        granted = device_permissions(device.kind) if device else frozenset[Permission]()
        spoken = device.language if device else "en"
        elsewhere: tuple[tuple[str, frozenset[Permission]], ...] = ()
        if person is not None:
            mine, elsewhere = _powers(known, person, device, location)
            granted |= mine
            spoken = known.staff[person.staff].language if person.staff in known.staff and not device else spoken
        return Caller(
            device=device.id if device else "",
            staff=person.staff if person else None,
            location=location,
            permissions=granted,
            language=language or spoken,
            attempt=attempt,
            hub_line=hub_line,
            elsewhere=elsewhere,
            session=token_digest(session) if session and person is not None else b"",
        )

    async def is_current(self, caller: Caller) -> bool:
        """Whether a caller is still let in and may still do what he might: streams ask it as they go on."""
        return self._still_lets_in(await self._all(), caller)

    def is_surely_current(self, caller: Caller) -> bool:
        """The same without waiting: False also while what is known has to be read anew."""
        return self._known is not None and self._still_lets_in(self._known, caller)

    def _still_lets_in(self, known: _Known, caller: Caller) -> bool:
        device = known.by_id.get(caller.device)
        if caller.device and device is None:
            return False
        if caller.staff is None:
            return True  # what a device may do is fixed by its kind
        session = self._sessions.get(caller.session)
        if session is None or session.is_over(self._runtime.clock.monotonic()):
            return False  # a session that is over is forgotten at somebody's next request only
        granted, elsewhere = _powers(known, session, device, caller.location)
        if device is not None:
            granted |= device_permissions(device.kind)
        return granted == caller.permissions and elsewhere == caller.elsewhere

    async def administrator(self, language: str = "en") -> Caller:
        """The administrator of the machine, who reached the unix socket: the file's permissions let nobody else in."""
        places = (await self._all()).locations
        everywhere = ((EVERYWHERE, ADMINISTRATOR_PERMISSIONS),)
        own = places[0].id if places else ""
        return Caller("", None, own, ADMINISTRATOR_PERMISSIONS, language, elsewhere=everywhere)

    async def sign_in(
        self, staff: str, pin: str, *, device: Device | None, location: str | None = None, code: str = ""
    ) -> Session:
        """Open a session for a person who knows the PIN and, where one is asked for, has a second factor (D04).

        Without it a paired till opens the work of the counter alone, and elsewhere a person who has enrolled is
        refused; who has yet to enrol may do nothing else. Raises `pin_wrong`, `pin_locked`, `access.no_role_here`,
        `second_factor.needed`, and what `SecondFactors.check` raises.
        """
        known = await self._all()
        person = known.staff.get(staff)
        # Ids that nobody has share one count: made-up ids could fill the guard's memory.
        guarded = f"{staff if person else 'nobody'}@{device.id if device else 'page'}"
        self.guard.reserve(guarded)
        try:
            verifier, name = await self._db.read("sign_in", lambda connection: _secrets_of(connection, person))
            matches = await self._hasher.matches(pin, verifier or _NOBODY)
        except HubError:
            self.guard.give_back(guarded)
            raise
        if person is None or not verifier or not matches:
            await self.guard.failed(guarded)
            raise AccessError("pin_wrong", "The PIN is wrong, or the person is not known.", remedy="Type it again.")
        await self.guard.passed(guarded)
        place = device.location if device else location or (known.locations[0].id if known.locations else "")
        if not _granted(known, staff, place):
            raise AccessError(
                "access.no_role_here",
                "The person has no role at this location.",
                remedy="Let a manager grant one.",
            )
        if code:
            await self.factors.check(staff, code, device.id if device else "page")
        self.forget()  # a setting may have begun to count since, and the code may have been taken away
        known = await self._all()
        token = make_token(self._runtime)
        now = self._runtime.clock.monotonic()
        self._drop_old(now)
        opened = _Open(staff, device.id if device else "", place, now, now, proved=bool(code))
        limited = _is_limited(known, opened, place)
        at_till = device is not None and device.kind is DeviceKind.TILL
        if limited and staff in known.enrolled and not at_till:
            raise _factor_needed()
        self._sessions[token_digest(token)] = opened
        granted, _ = _powers(known, opened, device, place)
        enrol = limited and not at_till
        return Session(token, staff, name, opened.device, place, granted, person.language, enrol=enrol)

    async def begin_second_factor(self, caller: Caller) -> Begun:
        """Make a secret for the phone of the person who is signed in; one who has a factor must have used it."""
        session = await self._enrolling(caller)
        person = (await self._all()).staff[session.staff]
        return await self.factors.begin(person.id, person.name_document)

    async def confirm_second_factor(self, caller: Caller, code: str) -> tuple[str, ...]:
        """Keep the secret by its first code: the session has proved it. Returns the recovery codes, told this once."""
        session = await self._enrolling(caller)
        codes = await self.factors.confirm(session.staff, code)
        session.proved = True
        self.forget()
        return codes

    async def _enrolling(self, caller: Caller) -> _Open:
        known, session = await self._all(), self._sessions.get(caller.session)
        if session is None or session.staff not in known.staff:
            raise AccessError("access.not_signed_in", "Nobody is signed in.", remedy="Sign in with your PIN.")
        if session.staff in known.enrolled and not session.proved:
            raise _factor_needed()
        return session

    def sign_out(self, token: str) -> None:
        """End a session; nothing happens if it is over."""
        self._sessions.pop(token_digest(token), None)

    def _drop_old(self, now: float) -> None:
        for digest, session in list(self._sessions.items()):
            if session.is_over(now):
                del self._sessions[digest]
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[min(self._sessions, key=lambda digest: self._sessions[digest].used)]

    def _person(self, token: str, device: str) -> _Open:
        now = self._runtime.clock.monotonic()
        self._drop_old(now)
        session = self._sessions.get(token_digest(token))
        if session is None or session.device != device:
            raise AccessError("access.session_over", "The session is over.", remedy="Sign in again with the PIN.")
        session.used = now
        return session


def _granted(known: _Known, staff: str, location: str) -> frozenset[Permission]:
    if staff not in known.staff:
        return frozenset()
    return permissions_of(
        frozenset(role for who, where, role in known.grants if who == staff and where in (location, EVERYWHERE))
    )


def _is_limited(known: _Known, session: _Open, location: str) -> bool:
    """Whether a second factor is asked of this person, and the session has none."""
    if session.proved or not (known.asked_of_all or session.staff in known.enrolled):
        return False
    elsewhere = _elsewhere(known, session.staff, location)
    return bool(BACK_OFFICE_PERMISSIONS & _granted(known, session.staff, location).union(*(p for _, p in elsewhere)))


def _powers(
    known: _Known, session: _Open, device: Device | None, location: str
) -> tuple[frozenset[Permission], tuple[tuple[str, frozenset[Permission]], ...]]:
    """What a session may do here and elsewhere. Limited: the work of the counter at a till, else nothing at all."""
    granted, elsewhere = _granted(known, session.staff, location), _elsewhere(known, session.staff, location)
    if not _is_limited(known, session, location):
        return granted, elsewhere
    if device is None or device.kind is not DeviceKind.TILL:
        return frozenset(), ()
    return granted - (BACK_OFFICE_PERMISSIONS - COUNTER_PERMISSIONS), ()


def _factor_needed() -> AccessError:
    return AccessError(
        "second_factor.needed",
        "The PIN alone does not open this.",
        remedy="Send the code that the phone shows, or a recovery code.",
    )


def _elsewhere(known: _Known, staff: str, own: str) -> tuple[tuple[str, frozenset[Permission]], ...]:
    """What a person's grants at other locations, and those for all, allow."""
    if staff not in known.staff:
        return ()
    roles: dict[str, set[str]] = {}
    for who, where, role in known.grants:
        if who == staff and where != own:
            roles.setdefault(where, set()).add(role)
    return tuple((where, permissions_of(frozenset(names))) for where, names in sorted(roles.items()))


def _secrets_of(connection: Connection, person: StaffMember | None) -> tuple[str, str]:
    """PIN verifier and name; empty where there is no such person or the documents were erased."""
    if person is None:
        return "", ""
    pin = documents.get(connection, person.pin_document)
    name = documents.get(connection, person.name_document)
    return (pin.content.decode() if pin else ""), (name.content.decode() if name else "")
