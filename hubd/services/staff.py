"""Staff, their roles, locations, and the set-up that makes the first owner. All of it works without a cloud."""

from __future__ import annotations

import asyncio
import hmac
import re
from dataclasses import dataclass, field

from msgspec import Struct

from hubd.errors import AccessError, InvalidValueError, NotFoundError
from hubd.model.card_data import check_free_text
from hubd.model.entry import Document, Draft
from hubd.model.ids import id_bytes, parse_id
from hubd.model.money import exponent_of
from hubd.model.permissions import Permission, Role, parse_role, role_permissions
from hubd.runtime import Runtime
from hubd.services.access import EVERYWHERE, AccessDesk, Caller
from hubd.services.calendar import zone_of
from hubd.services.documents import leave_no_byte
from hubd.services.pairing import make_code, normal_code
from hubd.services.pins import PinHasher, check_pin
from hubd.services.recovery import OWNER_ONLY, RecoveryDesk
from hubd.services.second_factor import take_away
from hubd.store import backup, documents, journal, people, terminal_life
from hubd.store.db import Database
from hubd.store.people import Location as Location
from hubd.store.people import StaffMember
from hubd.store.tx import Connection, Tx

NAME_CHARS_MAX = 80
SETUP_TRIES = 5
_OWNER = Caller("", None, "", frozenset({OWNER_ONLY}), "en")
_COUNTRY = re.compile(r"[A-Z]{2}")
_LANGUAGE = re.compile(r"[a-z]{2}(-[A-Z]{2})?")


@dataclass(frozen=True, slots=True)
class Person:
    """A person with the name and the roles that the caller may see."""

    id: str
    name: str
    language: str
    roles: tuple[tuple[str, str], ...]
    """(location, role) pairs; location `*` means everywhere."""


@dataclass(frozen=True, slots=True)
class FirstOwner(Person):
    """The owner as set-up made him, with the code that opens the hub's backups: told once, to be printed."""

    recovery_code: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class NewPerson:
    """A person to add or to change."""

    id: str
    name: str
    pin: str = field(repr=False)
    language: str = "en"
    roles: tuple[tuple[str, str], ...] = ()


class SetUp(Struct, frozen=True):
    """What makes a hub usable: its first location and its owner."""

    owner: NewPerson
    location: Location


def check_name(name: str, what: str = "name") -> str:
    """Return a name without the space around it; raise `invalid_name`, `card_data_refused`."""
    plain = check_free_text(name.strip(), what)
    if not 1 <= len(plain) <= NAME_CHARS_MAX or not plain.isprintable():
        raise InvalidValueError(
            "invalid_name", f"A {what} has 1 to {NAME_CHARS_MAX} printable characters.", remedy="Shorten it."
        )
    return plain


def check_location(location: Location) -> Location:
    """Return a location whose fields follow their grammars; raise for the first that does not. Reads a file."""
    parse_id(location.id, "location id")
    zone_of(location.zone)
    exponent_of(location.currency)
    if not _COUNTRY.fullmatch(location.country):
        raise InvalidValueError("invalid_country", "The country is not a code.", remedy='Send two capitals: "FR".')
    return Location(location.id, check_name(location.name), location.zone, location.currency, location.country)


class StaffDesk:
    """Adds, changes and removes people, grants roles, sets locations, and sets the hub up once."""

    def __init__(
        self, db: Database, runtime: Runtime, access: AccessDesk, hasher: PinHasher, recovery: RecoveryDesk
    ) -> None:
        self._db = db
        self.recovery = recovery
        self._setting_up = asyncio.Lock()
        self._digest_key = runtime.ids.token_bytes(32)
        self._set_up_as = b""
        self._runtime = runtime
        self._access = access
        self._hasher = hasher
        self._setup_code = make_code(runtime)
        self._setup_tries = SETUP_TRIES

    async def everybody(self) -> list[Person]:
        """Everybody who is active, oldest first."""
        return await self._db.read("staff", _read_people)

    async def is_set_up(self) -> bool:
        """Whether there is an owner who can sign in."""
        return bool(await self._db.read("is_set_up", people.all_staff))

    async def add(self, person: NewPerson, caller: Caller) -> Person:
        """Add a person, or change name, PIN and language of one with this id; durable when it returns."""
        caller.need(Permission.STAFF_MANAGE)
        checked = await self._checked(person)
        for location, role in checked.roles:
            self._may_grant(caller, location, parse_role(role))

        def work(tx: Tx) -> list[bytes]:
            known = people.staff(tx.connection, checked.id)
            if known is not None:
                self._may_touch(tx, known, caller)
                if _renames(tx, known, checked.name):
                    _refuse_while_logged_in(tx, known.id)
            _append_person(tx, checked, caller.actor, known is not None)
            if known is None:
                return []
            return _erase(tx, (known.name_document, known.pin_document), caller.actor, "staff_changed")

        if gone := await self._db.write("add_staff", work):
            await leave_no_byte(self._db, self._runtime.clock, gone)
        await self._access.guard.forgive(checked.id)
        self._access.forget()
        return await self._get(checked.id)

    async def remove(self, staff_id: str, caller: Caller) -> None:
        """Take a person out and erase name and PIN; the entries keep the id alone."""
        caller.need(Permission.STAFF_MANAGE)

        def work(tx: Tx) -> list[bytes]:
            known = people.staff(tx.connection, staff_id)
            if known is None:
                raise _no_person()
            if not known.active:
                return []
            self._may_touch(tx, known, caller)
            _keep_an_owner(tx, staff_id)
            _refuse_while_logged_in(tx, staff_id)
            journal.append(tx, Draft("staff.removed", staff_id, caller.actor, {}))
            secrets = take_away(tx, staff_id, caller.actor, "staff_removed")
            return secrets + _erase(tx, (known.name_document, known.pin_document), caller.actor, "staff_removed")

        gone = await self._db.write("remove_staff", work)
        self._access.forget()  # before the bytes go, which may have to wait for a reader
        if gone:
            await leave_no_byte(self._db, self._runtime.clock, gone)

    async def reset_second_factor(self, staff_id: str, caller: Caller) -> None:
        """Take a person's second factor away, erased and journalled; nothing happens to one who has none."""
        caller.need(Permission.STAFF_MANAGE)

        def work(tx: Tx) -> list[bytes]:
            known = people.staff(tx.connection, staff_id)
            if known is None:
                raise _no_person()
            self._may_touch(tx, known, caller)
            return take_away(tx, staff_id, caller.actor, "second_factor_reset")

        gone = await self._db.write("second_factor.reset", work)
        await self._access.guard.forgive(staff_id)
        self._access.forget()
        if gone:
            await leave_no_byte(self._db, self._runtime.clock, gone)

    async def grant(self, staff_id: str, location: str, role: Role, caller: Caller) -> Person:
        """Give a role at a location, or everywhere with `*`."""
        self._may_grant(caller, location, role)

        def work(tx: Tx) -> None:
            if people.staff(tx.connection, staff_id) is None:
                raise _no_person()
            if role not in people.roles_of(tx.connection, staff_id, location):
                body = {"location": location, "role": role.value}
                journal.append(tx, Draft("grant.given", staff_id, caller.actor, body))

        await self._db.write("grant", work)
        self._access.forget()
        return await self._get(staff_id)

    async def withdraw(self, staff_id: str, location: str, role: Role, caller: Caller) -> Person:
        """Take a role back; the last owner everywhere keeps his."""
        self._may_grant(caller, location, role)

        def work(tx: Tx) -> None:
            if (staff_id, location, role.value) not in people.all_grants(tx.connection):
                return
            if role is Role.OWNER:
                _keep_an_owner(tx, staff_id)
            body = {"location": location, "role": role.value}
            journal.append(tx, Draft("grant.withdrawn", staff_id, caller.actor, body))

        await self._db.write("withdraw", work)
        self._access.forget()
        return await self._get(staff_id)

    async def locations(self) -> list[Location]:
        """All locations."""
        return await self._db.read("locations", people.locations)

    async def set_location(self, location: Location, caller: Caller) -> Location:
        """Add or change a location; to add one takes the right everywhere."""
        caller.need_at(Permission.LOCATIONS_MANAGE, location.id)
        checked = await asyncio.to_thread(check_location, location)
        await self._db.write("set_location", lambda tx: _append_location(tx, checked, caller.actor))
        self._access.forget()
        return checked

    @property
    def setup_code(self) -> str:
        """The code that lets a browser on the LAN set the hub up; shown to the machine's administrator alone."""
        return self._setup_code

    def check_setup_code(self, typed: str) -> None:
        """Raise `setup.code_wrong`; after five wrong ones a new code stands at the machine."""
        if not hmac.compare_digest(normal_code(typed).encode(), self._setup_code.encode()):
            self._setup_tries -= 1
            if self._setup_tries <= 0:
                self._setup_code, self._setup_tries = make_code(self._runtime), SETUP_TRIES
            raise AccessError(
                "setup.code_wrong",
                "The set-up code is wrong.",
                remedy="Read it on the machine with `hubctl status`; after five wrong ones it changes.",
            )

    async def set_up(self, wanted: SetUp, caller: Caller) -> FirstOwner:
        """Make the first location, the owner and the recovery code. Raises `setup.done` when there is an owner.

        The same request again, in the same process, is answered again: with the code until a person has confirmed it.
        """
        async with self._setting_up:
            if not await self.is_set_up():
                code = await self._set_up(wanted, caller)
                self._set_up_as = self._digest(wanted)
            elif hmac.compare_digest(self._digest(wanted), self._set_up_as):
                code = (await self.recovery.state(_OWNER)).code
            else:
                raise _set_up_already()
        self._access.forget()
        made = await self._get(wanted.owner.id)
        return FirstOwner(made.id, made.name, made.language, made.roles, code)

    def _digest(self, wanted: SetUp) -> bytes:
        """Of the request with its PIN: under a key that ends with this process."""
        owner, place = wanted.owner, wanted.location
        fields = (owner.id, owner.name, owner.pin, place.id, place.name, place.zone, place.currency, place.country)
        return hmac.digest(self._digest_key, repr(fields).encode(), "sha256")

    async def _set_up(self, wanted: SetUp, caller: Caller) -> str:
        location = await asyncio.to_thread(check_location, wanted.location)
        owner = await self._checked(wanted.owner)
        roles = ((EVERYWHERE, Role.OWNER.value),)
        checked = _Checked(owner.id, owner.language, owner.name, owner.pin, roles)

        def work(tx: Tx) -> str:
            if people.all_staff(tx.connection):
                raise _set_up_already()
            _append_location(tx, location, caller.actor)
            _append_person(tx, checked, caller.actor, False)
            journal.append(tx, Draft("hub.set_up", "", caller.actor, {"location": location.id, "owner": owner.id}))
            return backup.set_recovery(tx, recovery)

        recovery = await self.recovery.hold_new()
        try:
            return await self._db.write("set_up", work)
        finally:
            await self.recovery.settled()

    async def _checked(self, person: NewPerson) -> _Checked:
        parse_id(person.id, "staff id")
        if not _LANGUAGE.fullmatch(person.language):
            raise InvalidValueError("invalid_language", "The language is not a tag.", remedy='Send such as "fr".')
        verifier = await self._hasher.make(check_pin(person.pin))
        return _Checked(
            person.id,
            person.language,
            self._document("staff_name", check_name(person.name)),
            self._document("pin_verifier", verifier),
            person.roles,
        )

    def _document(self, klass: str, text: str) -> Document:
        ids = self._runtime.ids
        return Document(id_bytes(ids.new_id()), klass, ids.token_bytes(32), text.encode())

    def _may_grant(self, caller: Caller, location: str, role: Role) -> None:
        """Nobody gives or takes more than he has: a manager makes no owner, and nobody at another location."""
        caller.need_at(Permission.STAFF_MANAGE, location)
        for permission in role_permissions(role) - role_permissions(Role.TECHNICIAN):
            caller.need_at(permission, location)
        if location != EVERYWHERE:
            parse_id(location, "location id")

    def _may_touch(self, tx: Tx, person: StaffMember, caller: Caller) -> None:
        """Who sets a person's PIN can sign in as him: it takes the right to grant every role that he has."""
        places = [place.id for place in people.locations(tx.connection)]
        for who, where, role in people.all_grants(tx.connection):
            if who == person.id:
                for place in places if where == EVERYWHERE else [where]:
                    self._may_grant(caller, place, parse_role(role))

    async def _get(self, staff_id: str) -> Person:
        found = [person for person in await self.everybody() if person.id == staff_id]
        if not found:
            raise _no_person()
        return found[0]


class _Checked(Struct, frozen=True):
    id: str
    language: str
    name: Document
    pin: Document
    roles: tuple[tuple[str, str], ...]


def _append_person(tx: Tx, person: _Checked, actor: str, known: bool) -> None:
    kind = "staff.changed" if known else "staff.added"
    body = {"language": person.language}
    journal.append(tx, Draft(kind, person.id, actor, body, documents=(person.name, person.pin)))
    granted = set(people.all_grants(tx.connection))
    for location, role in person.roles:
        if (person.id, location, role) not in granted:
            journal.append(tx, Draft("grant.given", person.id, actor, {"location": location, "role": role}))


def _erase(tx: Tx, ids: tuple[bytes, ...], actor: str, reason: str) -> list[bytes]:
    gone = [document for document in ids if documents.erase(tx, document)]
    for document in gone:
        journal.append(tx, documents.erasure(document, reason, actor))
    return gone


def _append_location(tx: Tx, location: Location, actor: str) -> None:
    body = {
        "name": location.name,
        "zone": location.zone,
        "currency": location.currency,
        "country": location.country,
    }
    if people.location(tx.connection, location.id) != location:
        journal.append(tx, Draft("location.set", location.id, actor, body))


def _keep_an_owner(tx: Tx, leaving: str) -> None:
    active = {person.id for person in people.all_staff(tx.connection)} - {leaving}
    owners = {
        who for who, where, role in people.all_grants(tx.connection) if role == Role.OWNER and where == EVERYWHERE
    }
    if leaving in owners and not active & owners:
        raise AccessError(
            "last_owner", "This is the last owner of the store.", remedy="Make somebody else an owner first."
        )


def _renames(tx: Tx, known: StaffMember, name: Document) -> bool:
    """A PIN or a language may change at any time: a PIN that somebody has seen cannot wait for a terminal."""
    before = documents.get(tx.connection, known.name_document)
    return before is None or before.content != name.content


def _refuse_while_logged_in(tx: Tx, staff_id: str) -> None:
    """Raise `staff_logged_in`, naming the terminals; one that does not answer counts until it is out of use (D03)."""
    found = terminal_life.logged_in(tx.connection, staff_id)
    if found:
        named = ", ".join(device.name for device in found)
        raise AccessError(
            "staff_logged_in",
            f"This person is logged in on {len(found)} terminal(s): {named}.",
            remedy="Log out on each of them, or take out of use the one that does not answer.",
            params={"count": len(found), "devices": ", ".join(device.id for device in found), "names": named},
        )


def _read_people(connection: Connection) -> list[Person]:
    grants = people.all_grants(connection)
    found = []
    for member in people.all_staff(connection):
        document = documents.get(connection, member.name_document)
        roles = tuple((where, role) for who, where, role in grants if who == member.id)
        found.append(Person(member.id, document.content.decode() if document else "", member.language, roles))
    return found


def _set_up_already() -> AccessError:
    return AccessError("setup.done", "This hub is set up already.", remedy="Sign in as its owner to change it.")


def _no_person() -> NotFoundError:
    return NotFoundError("staff_unknown", "There is no person with this id.", remedy="List the staff.")
