"""Pairing, sessions, staff, locations and the first set-up."""

from __future__ import annotations

from collections.abc import Sequence

from hubd.errors import AccessError
from hubd.model.device import DeviceKind
from hubd.model.permissions import Permission, parse_role
from hubd.services.access import Caller
from hubd.services.pairing import HubAddress, Pairing, PairingRequest, PairingState, qr_text
from hubd.services.recovery import OWNER_ONLY, RecoveryState
from hubd.services.staff import Location, NewPerson, Person, SetUp
from local_api.call import Call, Reply
from local_api.gate import SESSION_COOKIE, sender_of
from local_api.people_schemas import (
    GrantIn,
    LocationIn,
    LocationOut,
    PairingCodeIn,
    PairingCodeOut,
    PairingIn,
    PairingOut,
    RecoveryCodeOut,
    RecoveryCodesOut,
    RecoveryConfirmIn,
    SecondFactorIn,
    SecondFactorOut,
    SessionIn,
    SessionOut,
    SetUpIn,
    SetUpOut,
    StaffIn,
    StaffOut,
)
from local_api.schemas import Items
from local_api.table import Auth, RouteSpec

COOKIE_FLAGS = "Path=/; Secure; HttpOnly; SameSite=Strict"


def code_out(call: Call, pairing: Pairing) -> PairingCodeOut:
    """An open code for the person at the page; the code itself only until a device has used it."""
    facts, desk = call.context.facts, call.context.services.pairing
    is_open = pairing.state is PairingState.OPEN
    hub = HubAddress(facts.hub_id, facts.fingerprint, facts.addresses())
    request = pairing.request
    return PairingCodeOut(
        id=pairing.id,
        state=pairing.state.value,
        kind=pairing.kind.value,
        location=pairing.location,
        seconds_left=desk.seconds_left(pairing),
        code=pairing.code if is_open else None,
        qr=qr_text(hub, pairing.code) if is_open else None,
        name=request.name if request else None,
        origin=request.origin if request else None,
        number=pairing.number or None,
        device=pairing.device.id if pairing.device else None,
    )


async def post_pairing(call: Call) -> Reply:
    """A device sends its code: 202 while a person has yet to confirm, 201 with the device's id and token after."""
    wanted, desk = call.body, call.context.services.pairing
    assert isinstance(wanted, PairingIn), "the table names the type of the body"
    request = PairingRequest(
        wanted.id,
        wanted.code,
        wanted.name,
        DeviceKind(wanted.kind),
        wanted.language,
        wanted.origin,
        wanted.public_key,
    )
    origin = call.header.get("origin")
    if wanted.origin != origin and (origin or wanted.origin):
        raise AccessError(
            "access.foreign_origin",
            "The origin in the request is not the one of the page that sends it.",
            remedy="A browser sends location.origin; a native till sends none.",
        )
    pairing = desk.request(request, sender_of(call.scope))
    await desk.settled(pairing, call.wait_s)
    desk.request(request, sender_of(call.scope))  # raises if it was refused meanwhile
    if pairing.state is PairingState.CONFIRMED and pairing.device is not None:
        device = pairing.device
        answer = PairingOut(
            wanted.id, "confirmed", pairing.number, device.id, pairing.token or None, device.location, device.kind.value
        )
        return Reply(answer, 201)
    return Reply(PairingOut(wanted.id, "waiting", pairing.number), 202, call.applied_wait())


async def delete_pairing(call: Call) -> Reply:
    """Take a till or viewer out; a device may take itself out."""
    await call.context.services.pairing.remove(call.id("device"), call.caller)
    return Reply(status=204)


async def post_code(call: Call) -> Reply:
    """Open a code for one device and ten minutes."""
    wanted, desk = call.body, call.context.services.pairing
    assert isinstance(wanted, PairingCodeIn), "the table names the type of the body"
    return Reply(code_out(call, await desk.open(call.caller, DeviceKind(wanted.kind), wanted.location)), 201)


async def list_codes(call: Call) -> Reply:
    """Open codes and the devices that wait with one."""
    return Reply(Items([code_out(call, pairing) for pairing in call.context.services.pairing.waiting()]))


async def confirm_code(call: Call) -> Reply:
    """Let the device in whose screen shows the same number."""
    return Reply(code_out(call, await call.context.services.pairing.confirm(call.id(), call.caller)))


async def refuse_code(call: Call) -> Reply:
    """Close a code."""
    call.context.services.pairing.refuse(call.id(), call.caller)
    return Reply(status=204)


async def post_session(call: Call) -> Reply:
    """Sign in with a PIN, at a paired device (token in the answer) or on the page (cookie)."""
    wanted = call.body
    assert isinstance(wanted, SessionIn), "the table names the type of the body"
    session = await call.context.services.access.sign_in(
        wanted.staff, wanted.pin, device=call.device, location=wanted.location, code=wanted.code
    )
    native = call.device is not None and not call.header.get("cookie")
    headers = {} if native else {"set-cookie": f"{SESSION_COOKIE}={session.token}; {COOKIE_FLAGS}"}
    answer = SessionOut(
        session.staff,
        session.name,
        session.location,
        sorted(session.permissions),
        session.language,
        session.idle_s,
        session.token if native else None,
        session.enrol,
    )
    return Reply(answer, 201, headers)


async def post_second_factor(call: Call) -> Reply:
    """Make a secret for the phone of the person who is signed in."""
    begun = await call.context.services.access.begin_second_factor(call.caller)
    return Reply(SecondFactorOut(begun.secret, begun.uri))


async def confirm_second_factor(call: Call) -> Reply:
    """Keep the secret by its first code; the answer tells the recovery codes, this once."""
    wanted = call.body
    assert isinstance(wanted, SecondFactorIn), "the table names the type of the body"
    codes = await call.context.services.access.confirm_second_factor(call.caller, wanted.code)
    return Reply(RecoveryCodesOut(list(codes)))


async def delete_second_factor(call: Call) -> Reply:
    """Take a person's second factor away, for a phone that is lost."""
    await call.context.services.staff.reset_second_factor(call.id(), call.caller)
    return Reply(status=204)


async def delete_session(call: Call) -> Reply:
    """Sign out."""
    header = call.header
    token = header.get("hub-session")
    for part in header.get("cookie").split(";"):
        name, _, value = part.strip().partition("=")
        token = token or (value if name == SESSION_COOKIE else "")
    if token:
        call.context.services.access.sign_out(token)
    return Reply(status=204, headers={"set-cookie": f"{SESSION_COOKIE}=; Max-Age=0; {COOKIE_FLAGS}"})


def staff_out(person: Person) -> StaffOut:
    """A person as he leaves the hub."""
    roles = [{"location": location, "role": role} for location, role in person.roles]
    return StaffOut(person.id, person.name, person.language, roles)


def _roles(grants: Sequence[GrantIn]) -> tuple[tuple[str, str], ...]:
    return tuple((grant.location, grant.role) for grant in grants)


async def list_staff(call: Call) -> Reply:
    """Everybody who may sign in: a till shows the names to choose from."""
    return Reply(Items([staff_out(person) for person in await call.context.services.staff.everybody()]))


async def put_staff(call: Call) -> Reply:
    """Add a person, or change one."""
    wanted = call.body
    assert isinstance(wanted, StaffIn), "the table names the type of the body"
    person = NewPerson(call.id(), wanted.name, wanted.pin, wanted.language, _roles(wanted.roles))
    return Reply(staff_out(await call.context.services.staff.add(person, call.caller)))


async def delete_staff(call: Call) -> Reply:
    """Take a person out; name and PIN are erased."""
    await call.context.services.staff.remove(call.id(), call.caller)
    return Reply(status=204)


async def post_grant(call: Call) -> Reply:
    """Give a role."""
    wanted = call.body
    assert isinstance(wanted, GrantIn), "the table names the type of the body"
    desk = call.context.services.staff
    return Reply(staff_out(await desk.grant(call.id(), wanted.location, parse_role(wanted.role), call.caller)))


async def withdraw_grant(call: Call) -> Reply:
    """Take a role back."""
    wanted = call.body
    assert isinstance(wanted, GrantIn), "the table names the type of the body"
    desk = call.context.services.staff
    return Reply(staff_out(await desk.withdraw(call.id(), wanted.location, parse_role(wanted.role), call.caller)))


async def list_locations(call: Call) -> Reply:
    """All locations."""
    found = await call.context.services.staff.locations()
    return Reply(Items([LocationOut(one.id, one.name, one.zone, one.currency, one.country) for one in found]))


async def put_location(call: Call) -> Reply:
    """Add or change a location."""
    wanted = call.body
    assert isinstance(wanted, LocationIn), "the table names the type of the body"
    place = Location(call.id(), wanted.name, wanted.zone, wanted.currency, wanted.country)
    one = await call.context.services.staff.set_location(place, call.caller)
    return Reply(LocationOut(one.id, one.name, one.zone, one.currency, one.country))


async def get_setup(call: Call) -> Reply:
    """Whether the hub is set up; the administrator of the machine also reads the code that lets a browser do it."""
    desk, caller = call.context.services.staff, call.maybe_caller
    done = await desk.is_set_up()
    administrator = caller is not None and not caller.device and caller.staff is None
    return Reply(SetUpOut(done, desk.setup_code if administrator and not done else None))


async def post_setup(call: Call) -> Reply:
    """Make the first location and the owner. The same request again tells the recovery code until it is confirmed."""
    wanted, desk, caller = call.body, call.context.services.staff, call.maybe_caller
    assert isinstance(wanted, SetUpIn), "the table names the type of the body"
    if caller is None or caller.device or caller.staff is not None:
        desk.check_setup_code(wanted.code)
    place, owner = wanted.location, wanted.owner
    made = await desk.set_up(
        SetUp(
            NewPerson(owner.id, owner.name, owner.pin, owner.language),
            Location(place.id, place.name, place.zone, place.currency, place.country),
        ),
        Caller("", None, place.id, frozenset(), owner.language),
    )
    return Reply(SetUpOut(True, recovery_code=made.recovery_code or None), 201)


def _recovery(state: RecoveryState) -> RecoveryCodeOut:
    return RecoveryCodeOut(state.confirmed, state.id or None, state.code or None)


async def get_recovery_code(call: Call) -> Reply:
    """The recovery code, for its owner, until he confirms that it is on paper."""
    return Reply(_recovery(await call.context.services.recovery.state(call.caller)))


async def post_recovery_code(call: Call) -> Reply:
    """Make a code in the place of one that is lost; one that can still be shown or is confirmed stays."""
    return Reply(_recovery(await call.context.services.recovery.make_again(call.caller)))


async def confirm_recovery_code(call: Call) -> Reply:
    """The code is on paper; it is told no more."""
    wanted = call.body
    assert isinstance(wanted, RecoveryConfirmIn), "the table names the type of the body"
    await call.context.services.recovery.confirm(wanted.id, call.caller)
    return Reply(status=204)


_P = Permission
_PAGE = frozenset({Auth.DEVICE, Auth.COOKIE, Auth.LOCAL})
_PERSON = frozenset({Auth.COOKIE, Auth.LOCAL})
ROUTES = (
    RouteSpec(
        "POST",
        "/v1/pairings",
        None,
        post_pairing,
        "Pair a device with a person's code",
        auth=frozenset(),
        body=PairingIn,
        reply=PairingOut,
        created=True,
        waits=True,
        any_origin=True,
        tag="pairing",
    ),
    RouteSpec(
        "DELETE", "/v1/pairings/{device}", _P.HUB_READ, delete_pairing, "Take a paired device out", tag="pairing"
    ),
    RouteSpec(
        "POST",
        "/v1/pairing-codes",
        _P.PAIRINGS_MANAGE,
        post_code,
        "Open a code",
        body=PairingCodeIn,
        reply=PairingCodeOut,
        created=True,
        tag="pairing",
    ),
    RouteSpec(
        "GET", "/v1/pairing-codes", _P.PAIRINGS_MANAGE, list_codes, "List open codes", reply=Items, tag="pairing"
    ),
    RouteSpec(
        "POST",
        "/v1/pairing-codes/{id}/confirm",
        _P.PAIRINGS_MANAGE,
        confirm_code,
        "Let the waiting device in",
        reply=PairingCodeOut,
        tag="pairing",
    ),
    RouteSpec("POST", "/v1/pairing-codes/{id}/refuse", _P.PAIRINGS_MANAGE, refuse_code, "Close a code", tag="pairing"),
    RouteSpec(
        "POST",
        "/v1/sessions",
        None,
        post_session,
        "Sign in with a PIN",
        body=SessionIn,
        reply=SessionOut,
        created=True,
        tag="sessions",
    ),
    RouteSpec("DELETE", "/v1/sessions", None, delete_session, "Sign out", tag="sessions"),
    RouteSpec(
        "POST",
        "/v1/second-factor",
        None,
        post_second_factor,
        "Begin to enrol a second factor",
        reply=SecondFactorOut,
        tag="sessions",
    ),
    RouteSpec(
        "POST",
        "/v1/second-factor/confirm",
        None,
        confirm_second_factor,
        "Confirm a second factor by its first code",
        body=SecondFactorIn,
        reply=RecoveryCodesOut,
        tag="sessions",
    ),
    RouteSpec(
        "DELETE",
        "/v1/staff/{id}/second-factor",
        _P.STAFF_MANAGE,
        delete_second_factor,
        "Take a second factor away",
        tag="staff",
    ),
    RouteSpec("GET", "/v1/staff", _P.STAFF_READ, list_staff, "List staff", reply=Items, tag="staff"),
    RouteSpec(
        "PUT",
        "/v1/staff/{id}",
        _P.STAFF_MANAGE,
        put_staff,
        "Add or change a person",
        body=StaffIn,
        reply=StaffOut,
        tag="staff",
    ),
    RouteSpec("DELETE", "/v1/staff/{id}", _P.STAFF_MANAGE, delete_staff, "Take a person out", tag="staff"),
    RouteSpec(
        "POST",
        "/v1/staff/{id}/grants",
        _P.STAFF_MANAGE,
        post_grant,
        "Give a role",
        body=GrantIn,
        reply=StaffOut,
        tag="staff",
    ),
    RouteSpec(
        "POST",
        "/v1/staff/{id}/grants/withdraw",
        _P.STAFF_MANAGE,
        withdraw_grant,
        "Take a role back",
        body=GrantIn,
        reply=StaffOut,
        tag="staff",
    ),
    RouteSpec("GET", "/v1/locations", _P.LOCATIONS_READ, list_locations, "List locations", reply=Items, tag="staff"),
    RouteSpec(
        "PUT",
        "/v1/locations/{id}",
        _P.LOCATIONS_MANAGE,
        put_location,
        "Add or change a location",
        body=LocationIn,
        reply=LocationOut,
        tag="staff",
    ),
    RouteSpec("GET", "/v1/setup", None, get_setup, "Whether the hub is set up", auth=_PAGE, reply=SetUpOut, tag="hub"),
    RouteSpec(
        "POST",
        "/v1/setup",
        None,
        post_setup,
        "Set the hub up, once",
        auth=_PAGE,
        body=SetUpIn,
        reply=SetUpOut,
        created=True,
        tag="hub",
    ),
    RouteSpec(
        "GET",
        "/v1/recovery-code",
        OWNER_ONLY,
        get_recovery_code,
        "The recovery code, until it is confirmed",
        auth=_PERSON,
        reply=RecoveryCodeOut,
        tag="hub",
    ),
    RouteSpec(
        "POST",
        "/v1/recovery-code",
        OWNER_ONLY,
        post_recovery_code,
        "Make a recovery code in the place of one that is lost unconfirmed",
        auth=_PERSON,
        reply=RecoveryCodeOut,
        tag="hub",
    ),
    RouteSpec(
        "POST",
        "/v1/recovery-code/confirm",
        OWNER_ONLY,
        confirm_recovery_code,
        "Say that the recovery code is on paper",
        auth=_PERSON,
        body=RecoveryConfirmIn,
        tag="hub",
    ),
)
