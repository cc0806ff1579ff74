"""Signing in, setting up, devices, letting devices in, and the conversation with the cloud."""

from __future__ import annotations

import logging
from typing import Any

from markupsafe import Markup
from msgspec import Struct

from hubd.errors import AccessError, HubError
from hubd.model.device import DeviceKind
from hubd.services.access import Caller
from hubd.services.pairing import HubAddress, Pairing, PairingRequest, PairingState, qr_text
from hubd.services.staff import Location, NewPerson, SetUp
from local_api.gate import DEVICE_COOKIE, SESSION_COOKIE, sender_of
from local_api.page.render import qr_svg
from local_api.page.screen import Answer, Screen, fact_lines, redirect, safe_target
from local_api.routes.people import COOKIE_FLAGS

log = logging.getLogger(__name__)

YEAR_S = 31_536_000
JOIN_COOKIE = "hubd_join"
JOIN_LIFE_S = 600
CODE_CHARS_MAX = 24
CODE_ASKED = frozenset({"second_factor.needed", "second_factor.code_wrong", "second_factor.clock_uncertain"})
NO_PERSON = "00000000-0000-7000-8000-000000000000"
"""Nobody has this id: a wrong name costs the same time as a wrong PIN."""


class Country(Struct, frozen=True):
    """What follows from the country of a shop."""

    code: str
    zone: str
    currency: str


COUNTRIES = (
    Country("FR", "Europe/Paris", "EUR"),
    Country("BE", "Europe/Brussels", "EUR"),
    Country("NL", "Europe/Amsterdam", "EUR"),
    Country("LU", "Europe/Luxembourg", "EUR"),
    Country("DE", "Europe/Berlin", "EUR"),
    Country("CH", "Europe/Zurich", "CHF"),
    Country("IE", "Europe/Dublin", "EUR"),
    Country("GB", "Europe/London", "GBP"),
)


async def sign_in_form(screen: Screen, error: str = "", typed: dict[str, str] | None = None) -> Answer:
    """Name and PIN."""
    shop = await screen.tools.overview.shop()
    if not shop.set_up:
        return redirect("/set-up")
    given = typed or {}
    ask_code = "code" in given
    then = safe_target(given.get("then") or screen.query.get("then", "/"))
    return screen.show(
        "sign_in.html", shop, 401 if error else 200, error=error, typed=given, then=then, ask_code=ask_code
    )


async def sign_in(screen: Screen) -> Answer:
    """Open a session in this browser; wrong names and wrong PINs are told alike."""
    form = screen.form()
    wanted = form.get("name", "").strip().casefold()
    people = [one for one in await screen.services.staff.everybody() if one.name.strip().casefold() == wanted]
    try:
        session = await screen.services.access.sign_in(
            people[0].id if len(people) == 1 else NO_PERSON,
            form.get("pin", ""),
            device=screen.scope["hubd.device"],
            code=form.get("code", "").strip()[:CODE_CHARS_MAX],
        )
    except HubError as error:
        typed = {"name": form.get("name", ""), "then": form.get("then", "/")}
        if error.code in CODE_ASKED or "code" in form:
            typed["code"] = ""
        return await sign_in_form(screen, sentence(screen, error), typed)
    then = "/second-factor" if session.enrol else safe_target(form.get("then", "/"))
    return redirect(then, f"{SESSION_COOKIE}={session.token}; {COOKIE_FLAGS}")


async def second_factor(screen: Screen) -> Answer:
    """Where a person enrols a second factor."""
    return await _second_factor(screen)


async def second_factor_begin(screen: Screen) -> Answer:
    """The secret for the phone, as a picture and as text."""
    begun = await screen.services.access.begin_second_factor(_person(screen))
    picture = qr_svg(begun.uri, screen.words("Second factor"))
    return await _second_factor(screen, picture=picture, secret=begun.secret)


async def second_factor_confirm(screen: Screen) -> Answer:
    """The first code; the recovery codes are shown this once."""
    try:
        codes = await screen.services.access.confirm_second_factor(_person(screen), screen.form().get("code", ""))
    except AccessError as error:
        return await _second_factor(screen, 422, error=sentence(screen, error))
    return await _second_factor(screen, codes=codes)


async def _second_factor(screen: Screen, status: int = 200, **values: Any) -> Answer:
    shop = await screen.tools.overview.shop(_person(screen).location)
    return screen.show("second_factor.html", shop, status, **{"error": "", "codes": (), "picture": "", **values})


def _person(screen: Screen) -> Caller:
    if screen.caller is None or screen.caller.staff is None:
        raise AccessError("access.not_signed_in", "Nobody is signed in.", remedy="Sign in with your PIN.")
    return screen.caller


async def sign_out(screen: Screen) -> Answer:
    """End the session of this browser. Nothing that is stored depends on it."""
    for part in screen.headers.get("cookie").split(";"):
        name, _, value = part.strip().partition("=")
        if name == SESSION_COOKIE:
            screen.services.access.sign_out(value)
    return redirect("/", f"{SESSION_COOKIE}=; Max-Age=0; {COOKIE_FLAGS}")


async def set_up_form(screen: Screen, error: str = "", typed: dict[str, str] | None = None) -> Answer:
    """The shop and its owner, once."""
    shop = await screen.tools.overview.shop()
    if shop.set_up:
        return redirect("/")
    words = screen.words
    names = {
        "FR": words("France"),
        "BE": words("Belgium"),
        "NL": words("Netherlands"),
        "LU": words("Luxembourg"),
        "DE": words("Germany"),
        "CH": words("Switzerland"),
        "IE": words("Ireland"),
        "GB": words("United Kingdom"),
    }
    countries = [(country.code, names[country.code]) for country in COUNTRIES]
    # With ids of its own, the form that is sent twice is the same request and has the same answer.
    ids = screen.services.runtime.ids
    made = {"owner": ids.new_id(), "place": ids.new_id()}
    values = {"error": error, "typed": made | (typed or {}), "countries": countries}
    return screen.show("set_up.html", shop, 422 if error else 200, **values)


async def set_up(screen: Screen) -> Answer:
    """Make the owner and the first location, name the shop, sign the owner in, and go on to the recovery code."""
    form, services = screen.form(), screen.services
    country = next((one for one in COUNTRIES if one.code == form.get("country")), COUNTRIES[0])
    owner = NewPerson(form.get("owner", ""), form.get("name", ""), form.get("pin", ""), screen.language)
    place = Location(form.get("place", ""), form.get("store", ""), country.zone, country.currency, country.code)
    try:
        services.staff.check_setup_code(form.get("code", ""))
        caller = Caller("", None, "", frozenset(), screen.language)
        person = await services.staff.set_up(SetUp(owner, place), caller)
    except HubError as error:
        typed = {name: form.get(name, "") for name in ("code", "store", "country", "name", "owner", "place")}
        return await set_up_form(screen, sentence(screen, error), typed)
    try:
        await services.settings.put(f"staff:{person.id}", "store.name", place.name.strip())
        session = await services.access.sign_in(person.id, form["pin"], device=None)
    except HubError as error:
        # The name can be set later, and whoever signs in then is led to the code.
        log.warning("setup.unfinished", extra={"code": error.code})
        return redirect("/sign-in?then=/recovery-code")
    return redirect("/recovery-code", f"{SESSION_COOKIE}={session.token}; {COOKIE_FLAGS}")


async def recovery_code(screen: Screen, error: str = "") -> Answer:
    """The code that opens the backups, again and again until somebody confirms that it is on paper."""
    state = await screen.services.recovery.state(screen.who)
    if state.confirmed:
        return redirect("/")
    shop = await screen.tools.overview.shop(screen.who.location)
    return screen.show("recovery_code.html", shop, 409 if error else 200, state=state, error=error)


async def recovery_code_new(screen: Screen) -> Answer:
    """Make one in the place of a code that went with a restart; a second press of the button makes no second one."""
    await screen.services.recovery.make_again(screen.who)
    return redirect("/recovery-code")


async def recovery_code_confirm(screen: Screen) -> Answer:
    """It is on paper."""
    try:
        await screen.services.recovery.confirm(screen.form().get("id", ""), screen.who)
    except AccessError as error:
        return await recovery_code(screen, sentence(screen, error))
    return redirect("/")


async def pairing(screen: Screen) -> Answer:
    """Open codes, and devices that wait with one."""
    shop = await screen.tools.overview.shop(screen.who.location)
    desk, facts = screen.services.pairing, screen.tools.facts
    hub = HubAddress(facts.hub_id, facts.fingerprint, facts.addresses())

    def qr(one: Pairing) -> Markup:
        # A phone's camera opens the page where the code is typed; the code itself never stands in an address.
        phone = one.kind is DeviceKind.VIEWER and hub.addresses
        return qr_svg(
            f"https://{hub.addresses[0]}/join" if phone else qr_text(hub, one.code), screen.words("Pairing code")
        )

    return screen.show("pairing.html", shop, pairings=desk.waiting(), seconds_left=desk.seconds_left, qr=qr)


async def pairing_open(screen: Screen) -> Answer:
    """Open a code."""
    kind = DeviceKind.VIEWER if screen.form().get("kind") == "viewer" else DeviceKind.TILL
    await screen.services.pairing.open(screen.who, kind)
    return redirect("/pairing")


async def pairing_confirm(screen: Screen) -> Answer:
    """A person says that the numbers are the same."""
    await screen.services.pairing.confirm(screen.id(), screen.who)
    return redirect("/pairing")


async def pairing_refuse(screen: Screen) -> Answer:
    """Close a code."""
    screen.services.pairing.refuse(screen.id(), screen.who)
    return redirect("/pairing")


async def join_form(screen: Screen, error: str = "", typed: dict[str, str] | None = None) -> Answer:
    """A phone that wants to look on: its code, then waiting for the manager, then the first screen."""
    shop = await screen.tools.overview.shop()
    waiting = _join_request(screen)
    if waiting is not None and not error:
        try:
            found = screen.services.pairing.request(waiting, sender_of(screen.scope))
        except HubError as refused:
            answer = await join_form(screen, sentence(screen, refused), {"name": waiting.name})
            return Answer(answer.body, answer.status, cookies=(f"{JOIN_COOKIE}=; Max-Age=0; {COOKIE_FLAGS}",))
        if found.state is PairingState.CONFIRMED and found.token:
            forget = f"{JOIN_COOKIE}=; Max-Age=0; {COOKIE_FLAGS}"
            return redirect("/", f"{DEVICE_COOKIE}={found.token}; Max-Age={YEAR_S}; {COOKIE_FLAGS}", forget)
        return screen.show("join.html", shop, waiting=found, error="", typed={})
    return screen.show("join.html", shop, 422 if error else 200, waiting=None, error=error, typed=typed or {})


async def join(screen: Screen) -> Answer:
    """Send a phone's code. What it sent is kept in its own cookie, so that a reload repeats the same request."""
    form = screen.form()
    request = PairingRequest(
        screen.services.runtime.ids.new_id(),
        form.get("code", ""),
        form.get("name", ""),
        DeviceKind.VIEWER,
        screen.language,
    )
    try:
        screen.services.pairing.request(request, sender_of(screen.scope))
    except HubError as error:
        return await join_form(screen, sentence(screen, error), {"name": request.name})
    kept = "|".join((request.id, request.code, request.language, request.name.encode().hex()))
    return redirect("/join", f"{JOIN_COOKIE}={kept}; Max-Age={JOIN_LIFE_S}; {COOKIE_FLAGS}")


def _join_request(screen: Screen) -> PairingRequest | None:
    for part in screen.headers.get("cookie").split(";"):
        cookie, _, value = part.strip().partition("=")
        fields = value.split("|")
        if cookie == JOIN_COOKIE and len(fields) == 4:
            try:
                name = bytes.fromhex(fields[3]).decode("utf-8")
            except ValueError:
                return None
            return PairingRequest(fields[0], fields[1], name, DeviceKind.VIEWER, fields[2])
    return None


async def sync(screen: Screen) -> Answer:
    """What the cloud has confirmed, and what technicians want to know of it."""
    shop = await screen.tools.overview.shop(screen.who.location)
    told: dict[str, Any] = screen.tools.facts.sync() if screen.tools.facts.sync else {}
    owner = await screen.tools.facts.belongs_to() if screen.tools.facts.belongs_to else None
    clock, cloud = screen.services.runtime.clock, screen.services.outages.facts().cloud
    offset_us = clock.now_us() - int(clock.monotonic() * 1_000_000)
    head = screen.services.db.head
    return screen.show(
        "sync.html",
        shop,
        head_seq=head.seq,
        line=head.line.hex(),
        cloud_answer_us=offset_us + cloud.good_ms * 1000 if cloud.good_ms else None,
        owner=owner,
        sync_facts=sorted(told.items()),
        facts=fact_lines(screen),
    )


async def enrolment_form(screen: Screen, error: str = "", typed: dict[str, str] | None = None) -> Answer:
    """The cloud's address and the code that it showed; a hub that belongs to a store has nothing to fill in."""
    shop = await screen.tools.overview.shop(screen.who.location)
    if shop.cloud_expected or screen.tools.facts.enrol is None:
        return redirect("/sync")
    return screen.show("enrolment.html", shop, 422 if error else 200, error=error, typed=typed or {})


async def enrol(screen: Screen) -> Answer:
    """Bind the hub to its store; the same code again, after a lost answer, counts once."""
    form, bind = screen.form(), screen.tools.facts.enrol
    if bind is None:
        return redirect("/sync")
    typed = {name: form.get(name, "").strip() for name in ("cloud", "code")}
    try:
        await bind(typed["cloud"], typed["code"], screen.who)
    except HubError as error:
        return await enrolment_form(screen, sentence(screen, error), typed)
    return redirect("/sync")


def sentence(screen: Screen, error: HubError) -> str:
    """What went wrong, in the person's language; the code is for the technician."""
    words = screen.words
    known = {
        "pin_wrong": words("Name or PIN is wrong."),
        "second_factor.needed": words("Type the PIN again, and the code that your phone shows."),
        "second_factor.code_wrong": words("The code is wrong, used or too old."),
        "second_factor.clock_uncertain": words("The hub is not sure of the time. Use one of your recovery codes."),
        "second_factor.not_begun": words("This code came too late. Begin again."),
        "pin_locked": words("Too many wrong PINs. Wait a few minutes."),
        "access.no_role_here": words("This person has no role in this shop."),
        "access.not_allowed": words("Your role does not allow this."),
        "access.busy": words("The hub is busy. Try again in a moment."),
        "pairing.code_wrong": words("The code is wrong, used or over. Ask for a new one."),
        "pairing.too_many_tries": words("Too many wrong codes. Wait a minute."),
        "pairing.code_used": words("Another device has used this code. Ask for a new one."),
        "pairing.refused": words("The manager has refused."),
        "pairing.other_kind": words("This code is for another kind of device."),
        "pairing.unknown": words("This code is over. Open a new one."),
        "pairing.not_waiting": words("No device waits with this code."),
        "too_many_pairings": words("Too many codes are open. Close one of them."),
        "setup.code_wrong": words("The set-up code is wrong. Read it at the hub again."),
        "recovery.other_code": words("Another code has been made since. Write this one down."),
        "setup.done": words("This hub is set up already."),
        "invalid_pin": words("Choose another PIN: at least four digits, not 1234 or 0000."),
        "invalid_name": words("The name is empty or too long."),
        "card_data_refused": words("Card numbers do not belong here."),
        "pending_offline_payments": words(
            "This device still holds payments. Leave it plugged in until they have left."
        ),
        "terminal_unheard": words(
            "This terminal took payments in an outage and has not answered since. Switch it on or say why not."
        ),
        "reason_missing": words("A reason has 3 to 500 characters."),
        "payment_unknown": words("This hub knows no such payment."),
        "outage.not_found": words("This hub knows no such outage."),
        "statement.none": words("The cloud has not sent a statement yet."),
        "device_unknown": words("This hub knows no such device."),
        "endpoint_unknown": words("This device is not seen any more. Look at the list again."),
        "device.not_offered": words("This device cannot be used."),
        "not_found": words("There is no such page."),
        "enrolment.not_https": words("The address of the cloud begins with https:// and has no spaces."),
        "enrolment.invalid_code": words("This is not an enrolment code. Copy it as it stands."),
        "enrolment.refused": words("The cloud does not know this code. Copy it again or ask for a new one."),
        "enrolment.code_spent": words("This code has been used already. Ask for a new one."),
        "enrolment.code_expired": words("This code is too old. Ask for a new one."),
        "enrolment.not_a_cloud": words("What answers at this address is not the cloud. Check the address."),
        "enrolment.other_tenant": words("This hub belongs to another business. A technician has to reset it first."),
        "enrolment.unreachable": words("The cloud does not answer. Check the address and the Internet; selling works."),
        "store.full": words("The hub's disk is full, so nothing could be kept."),
    }
    return known.get(error.code, words("That did not work. Try again; if it stays, call your technician."))
