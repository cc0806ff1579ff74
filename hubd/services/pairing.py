"""Pairing: a till, a kiosk or a manager's phone becomes known to the hub, and a person in the store says so.

A manager opens a code on the page or with hubctl; the device sends it; the same manager sees the device's name, its
origin and a number that must stand on the device too, and confirms. Codes live in memory: 8 characters, 10 minutes.
Wrong ones are held against their sender, never against the open codes: else a stranger could keep every till out.
Only the confirmed device is an entry; of its token the hub keeps the SHA-256.

The number is computed from the hub's key as the device sees it. Somebody between device and hub shows another key,
and with it another number: a key that fits cannot be made before the code is known, and then it is too late.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlencode, urlsplit

from msgspec import Struct

from hubd.errors import AccessError, InvalidValueError, NotFoundError, Retry
from hubd.model.card_data import check_free_text
from hubd.model.device import DeviceKind
from hubd.model.entry import Draft
from hubd.model.ids import parse_id
from hubd.model.permissions import Permission
from hubd.runtime import Runtime
from hubd.services.access import AccessDesk, Caller, make_token, token_digest
from hubd.services.device_rules import pending_of_till, refuse_while_pending
from hubd.services.feed import Feed
from hubd.services.signatures import parse_public_key
from hubd.store import devices, journal, people
from hubd.store.db import Database
from hubd.store.devices import Device
from hubd.store.tx import Tx

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE_CHARS = 8
CODE_LIFE_S = 600
WRONG_CODES_MAX = 5
WRONG_CODE_COUNTS_S = 60
"""For this long a wrong code is held against its sender. At a thousand tries a second from ever new addresses, with
all twenty codes open for ten minutes, a guess of 40 bits still succeeds once in a hundred thousand times."""
SENDERS_MAX = 1_000
"""Senders of wrong codes that are remembered; of more, the one that was heard longest ago is forgotten."""
CODES_OPEN_MAX = 20
NAME_CHARS_MAX = 60
PAIRABLE = (DeviceKind.TILL, DeviceKind.VIEWER)
_LOOKALIKES = str.maketrans("OIL", "011")
_LANGUAGE = re.compile(r"[a-z]{2}(-[A-Z]{2})?")
_HOST = re.compile(r"[a-z0-9.\-]+(:\d{1,5})?|\[[0-9a-f:]+\](:\d{1,5})?")


class PairingState(StrEnum):
    """How far a pairing is."""

    OPEN = "open"
    WAITING = "waiting"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PairingRequest:
    """What a device sends with the code it was given."""

    id: str
    """Made by the device before its first try; with the code it fetches the token, also after a lost answer."""
    code: str = field(repr=False)
    name: str
    kind: DeviceKind
    language: str = "en"
    origin: str = ""
    """The origin of a till that is a page of another server; empty for native devices."""
    public_key: str = ""
    """SPKI in base64 of a browser's non-exportable P-256 key; then no token is given."""


@dataclass(slots=True)
class Pairing:
    """One open code and what has come of it. `code` is for the person who opened it, nobody else."""

    id: str
    code: str = field(repr=False)
    kind: DeviceKind
    location: str
    opened_by: str
    ends: float
    state: PairingState = PairingState.OPEN
    request: PairingRequest | None = None
    number: str = ""
    """Six digits that the person compares with the device's screen."""
    device: Device | None = None
    token: str = field(default="", repr=False)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class HubAddress(Struct, frozen=True):
    """What a pairing QR tells: who the hub is, the SHA-256 of its CA's public key, and where it may be found."""

    hub_id: str
    fingerprint: str
    addresses: Sequence[str]


def make_code(runtime: Runtime) -> str:
    """Eight characters of Crockford's base 32: 40 bits, easy to read out and to type."""
    raw = int.from_bytes(runtime.ids.token_bytes(5), "big")
    return "".join(CROCKFORD[(raw >> (5 * place)) & 31] for place in range(CODE_CHARS))


def normal_code(text: str) -> str:
    """A typed code: case, separators and the letters that look like digits do not matter."""
    return re.sub(r"[\s\-]", "", text).upper().translate(_LOOKALIKES)


def comparison_number(fingerprint: str, code: str, pairing_id: str) -> str:
    """The number that device and page show. The device computes it from the key that it sees itself."""
    text = f"hubd.pair.v1\0{fingerprint}\0{normal_code(code)}\0{pairing_id}"
    return f"{int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'big') % 1_000_000:06d}"


def qr_text(hub: HubAddress, code: str) -> str:
    """The content of the pairing QR: an address that also works typed into a browser's till."""
    query = urlencode({"hub": hub.hub_id, "key": hub.fingerprint, "code": code, "at": ",".join(hub.addresses)})
    return f"hubd://pair?{query}"


def check_origin(origin: str) -> str:
    """Return a browser's origin in its one spelling; raise `invalid_origin`. Plain HTTP is for this machine alone."""
    parts = urlsplit(origin)
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    plain = f"{parts.scheme}://{parts.netloc}"
    if (
        origin != plain
        or not _HOST.fullmatch(parts.netloc)
        or not (parts.scheme == "https" or (parts.scheme == "http" and local))
    ):
        raise InvalidValueError(
            "invalid_origin",
            "The origin is not one that a browser sends.",
            remedy='Send location.origin, such as "https://till.example.com".',
        )
    return origin


class WrongCodes:
    """Wrong codes of the last minute, by the address that sent them."""

    def __init__(self, runtime: Runtime) -> None:
        self._clock = runtime.clock
        self._wrong: dict[str, list[float]] = {}

    def check(self, sender: str) -> None:
        """Raise `pairing.too_many_tries` for a sender of five in a minute."""
        recent = self._recent(sender)
        if len(recent) >= WRONG_CODES_MAX:
            raise AccessError(
                "pairing.too_many_tries",
                "Too many wrong codes came from this device.",
                remedy="Wait a minute, then send the code that stands on the hub's page now.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=max(1, int(recent[0] + WRONG_CODE_COUNTS_S - self._clock.monotonic()) + 1),
            )

    def count(self, sender: str) -> None:
        """Hold a wrong code against its sender."""
        recent = [*self._recent(sender), self._clock.monotonic()]
        self._wrong.pop(sender, None)
        if len(self._wrong) >= SENDERS_MAX:
            del self._wrong[next(iter(self._wrong))]
        self._wrong[sender] = recent

    def _recent(self, sender: str) -> list[float]:
        since = self._clock.monotonic() - WRONG_CODE_COUNTS_S
        return [at for at in self._wrong.get(sender, ()) if at > since]


class PairingDesk:
    """Opens codes, takes devices' requests, lets a person confirm them, and removes devices again."""

    def __init__(self, db: Database, runtime: Runtime, access: AccessDesk, feed: Feed, fingerprint: str) -> None:
        self._db = db
        self._runtime = runtime
        self._access = access
        self._feed = feed
        self._fingerprint = fingerprint
        self._pairings: dict[str, Pairing] = {}
        self._wrong = WrongCodes(runtime)

    async def open(self, caller: Caller, kind: DeviceKind, location: str | None = None) -> Pairing:
        """Open a code for one device. Raises `location_unknown`, `too_many_pairings`."""
        place = location or caller.location
        caller.need_at(Permission.PAIRINGS_MANAGE, place)
        if kind not in PAIRABLE:
            raise InvalidValueError("invalid_kind", "Only tills and viewers are paired.", remedy="Use till or viewer.")
        if await self._db.read("pairing.place", lambda connection: people.location(connection, place)) is None:
            raise NotFoundError("location_unknown", "There is no such location.", remedy="Set the hub up first.")
        self._drop_old()
        if len(self._pairings) >= CODES_OPEN_MAX:
            raise AccessError(
                "too_many_pairings",
                "Too many codes are open.",
                remedy="Finish or refuse one of them.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=60,
            )
        ends = self._runtime.clock.monotonic() + CODE_LIFE_S
        pairing = Pairing(self._runtime.ids.new_id(), make_code(self._runtime), kind, place, caller.actor, ends)
        self._pairings[pairing.id] = pairing
        self._tell(pairing)
        return pairing

    def waiting(self) -> list[Pairing]:
        """Every open code and request, oldest first."""
        self._drop_old()
        return list(self._pairings.values())

    def seconds_left(self, pairing: Pairing) -> int:
        """How long the code is still good."""
        return max(0, int(pairing.ends - self._runtime.clock.monotonic()))

    def request(self, request: PairingRequest, sender: str = "") -> Pairing:
        """Take a device's request, or repeat it; the answer's state says whether a person has confirmed it.

        Raises `pairing.code_wrong`, and `pairing.too_many_tries` for a sender (an address) of five wrong codes in a
        minute. A repetition is no guess: a device that waits already is always answered.
        """
        parse_id(request.id, "pairing id")
        check_free_text(request.name, "name")
        if not 1 <= len(request.name.strip()) <= NAME_CHARS_MAX or not request.name.isprintable():
            raise InvalidValueError("invalid_name", "The name is empty or too long.", remedy="Name it as people do.")
        if not _LANGUAGE.fullmatch(request.language):
            raise InvalidValueError("invalid_language", "The language is not a tag.", remedy='Send such as "fr".')
        if request.origin:
            check_origin(request.origin)
        if request.public_key:
            parse_public_key(request.public_key)
        self._drop_old()
        pairing = self._with_code(request, sender)
        if request.kind is not pairing.kind:
            raise InvalidValueError(
                "pairing.other_kind", f"The code is for a {pairing.kind}.", remedy="Ask for a code for this device."
            )
        if pairing.request is None:
            pairing.request, pairing.state = request, PairingState.WAITING
            pairing.number = comparison_number(self._fingerprint, request.code, request.id)
            self._tell(pairing)
        elif pairing.request != request:
            raise AccessError(
                "pairing.code_used",
                "Another device has used this code.",
                remedy="If that was not you, refuse it on the page. Ask for a new code.",
            )
        if pairing.state is PairingState.REFUSED:
            raise AccessError("pairing.refused", "The pairing was refused.", remedy="Ask the manager of the store.")
        return pairing

    async def settled(self, pairing: Pairing, wait_s: float) -> None:
        """Return when a person has confirmed or refused it, or after `wait_s`."""
        if pairing.state is PairingState.WAITING and wait_s > 0:
            try:
                async with self._runtime.clock.timeout(wait_s):
                    await pairing.changed.wait()
            except TimeoutError:
                return

    async def confirm(self, pairing_id: str, caller: Caller) -> Pairing:
        """Let the device in; durable when this returns. Repeating it changes nothing."""
        pairing = self._pairing(pairing_id)
        caller.need_at(Permission.PAIRINGS_MANAGE, pairing.location)
        if pairing.state is PairingState.CONFIRMED:
            return pairing
        request = pairing.request
        if request is None or pairing.state is not PairingState.WAITING:
            raise AccessError(
                "pairing.not_waiting", "No device waits with this code.", remedy="Let the device send the code first."
            )
        key = parse_public_key(request.public_key).hex() if request.public_key else None
        token = "" if key else make_token(self._runtime)
        body = {
            "kind": pairing.kind.value,
            "name": request.name.strip(),
            "location": pairing.location,
            "origin": request.origin,
            "language": request.language,
            "token_sha256": token_digest(token).hex() if token else None,
            "public_key": key,
        }
        device_id = self._runtime.ids.new_id()

        def work(tx: Tx) -> Device:
            journal.append(tx, Draft("device.paired", device_id, caller.actor, body))
            device = devices.get(tx.connection, device_id)
            assert device is not None, "the projection has just written it"
            return device

        # Said before the write, so that a second confirmation at the same time finds it and pairs nothing twice.
        pairing.state = PairingState.CONFIRMED
        try:
            pairing.device = await self._db.write("pair", work)
        except BaseException:
            pairing.state = PairingState.WAITING
            raise
        pairing.token = token
        self._access.forget()
        self._settle(pairing)
        return pairing

    def refuse(self, pairing_id: str, caller: Caller) -> None:
        """Close a code, whether a device waits with it or not."""
        pairing = self._pairing(pairing_id)
        caller.need_at(Permission.PAIRINGS_MANAGE, pairing.location)
        if pairing.state is not PairingState.CONFIRMED:
            pairing.state = PairingState.REFUSED
            self._settle(pairing)

    async def remove(self, device_id: str, caller: Caller) -> None:
        """Take a till or viewer out; its token is worthless when this returns. Repeating it changes nothing.

        Raises `pending_offline_payments` while a payment of this till has no outcome.
        """

        def work(tx: Tx) -> None:
            device = devices.get(tx.connection, device_id)
            if device is None or device.kind not in PAIRABLE:
                raise NotFoundError("device_unknown", "There is no paired device with this id.", remedy="List them.")
            if caller.device != device_id:
                caller.need_at(Permission.PAIRINGS_MANAGE, device.location)
            if not device.removed:
                refuse_while_pending(pending_of_till(tx, device_id))
                journal.append(tx, Draft("device.removed", device_id, caller.actor, {"reason": "unpaired"}))

        await self._db.write("unpair", work)
        self._access.forget()

    def _pairing(self, pairing_id: str) -> Pairing:
        self._drop_old()
        pairing = self._pairings.get(pairing_id)
        if pairing is None:
            raise NotFoundError("pairing.unknown", "The code is over or was never open.", remedy="Open a new code.")
        return pairing

    def _with_code(self, request: PairingRequest, sender: str) -> Pairing:
        for pairing in self._pairings.values():
            if pairing.request == request:
                return pairing
        self._wrong.check(sender)
        typed = normal_code(request.code).encode()
        for pairing in self._pairings.values():
            if hmac.compare_digest(pairing.code.encode(), typed):
                return pairing
        self._wrong.count(sender)
        raise AccessError(
            "pairing.code_wrong",
            "The code is wrong, used or over.",
            remedy="Compare it with the hub's page, or open a new code there.",
        )

    def _settle(self, pairing: Pairing) -> None:
        pairing.changed.set()
        self._tell(pairing)

    def _tell(self, pairing: Pairing) -> None:
        self._feed.tell("pairing.changed", pairing.id, {"state": pairing.state.value, "kind": pairing.kind.value})

    def _drop_old(self) -> None:
        now = self._runtime.clock.monotonic()
        self._pairings = {key: kept for key, kept in self._pairings.items() if kept.ends > now}
