"""What sources have found, which driver each is for, and which device of the store it is.

Discovery only proposes. What the configuration names is claimed at once, because a person wrote it; anything else is
kept in memory, bounded, until a person claims it, so nothing that a stranger announces is ever written down. A device
is known again by its identity, not by its address; where it is announced is a hint to its driver and no proof.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from hubd.discovery_ports import Claimed, DriverBook, Probed
from hubd.errors import DeviceError, NotFoundError
from hubd.health import Problems
from hubd.model.device import DeviceKind, Endpoint, EndpointKind, Flaw, IdentitySource
from hubd.model.permissions import Permission
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.services.device_rules import NewDevice
from hubd.services.devices import NAME_MAX, DeviceDesk, DeviceView
from hubd.services.roles import RoleDesk
from hubd.services.staff import StaffDesk
from hubd.services.terminals import Terminals
from hubd.store.devices import Device

log = logging.getLogger(__name__)

ENDPOINTS_MAX = 64
"""Of each kind. When they are full, an endpoint of a known device takes the place of one that nobody uses."""
NOTICES_MAX = 5
"""Problems raised for found devices; a network full of announcements must not bury what matters."""
LOCATION_CHECK_S = 5.0
"""How often a configured device without a location to stand in is looked at again."""
TERMINAL_CLASS = "terminal"
"""The class of a terminal of which the configuration says nothing else; outage policies name classes."""


NETWORK = ("tcp:", "tls:")
PLUGS = frozenset({EndpointKind.USB, EndpointKind.SERIAL})


class Standing(StrEnum):
    """What an endpoint is to the store."""

    OFFERED = "offered"
    """A driver can use it; a person decides."""
    CHOOSE = "choose"
    """A line at which anything may hang, or a device that several claim: a person says by which of `drivers`."""
    KNOWN = "known"
    """It is a device of the store, at its address or on the way to its new one."""
    UNUSABLE = "unusable"
    """No driver can use it; `reason` says why."""


_WHY = {
    "": "",
    "no_driver": "No driver of this hub speaks with it.",
    "lpd_only": "It announces LPD alone, by which a printer says nothing of its paper, its cover or its jobs.",
    "office_printer": "It is an office printer and announces no IPP: switch IPP (AirPrint) on in its settings.",
    "no_line": "The system has no driver of its own for it, or has not made its device node.",
    "driver_unusable": "Its driver cannot be used.",
    Flaw.NO_ADDRESS: "It names no address that the hub can reach.",
    Flaw.ADDRESS_REFUSED: "It names an address outside the shop's network.",
    Flaw.KEYBOARD: "It is a keyboard that the hub may not read. A scanner that types is allowed by a udev rule.",
    Flaw.CLEAR_CARD_READER: "It reads cards and tells their card numbers in clear: such a reader is refused.",
    Flaw.SAYS_NOTHING: "It does not say what it is: try another cable and another socket.",
    "no_location": "The shop is not set up yet.",
    "elsewhere": "Its device has another address; this one is tried when it does not answer there.",
    "holds_money": "Its device holds payments and is known by its name only: a person confirms the new address.",
    "not_in_use": "The device was taken out of use.",
    "replaced": "Another device has taken its place.",
}
_FOR_NOBODY = frozenset({Flaw.CLEAR_CARD_READER, Flaw.SAYS_NOTHING})
"""What is wrong with a device so that it is not even asked which driver wants it."""
_NO_DRIVER = {"_printer._tcp.local.": "lpd_only", "_pdl-datastream._tcp.local.": "office_printer"}
_PRINTING = ("_pdl-datastream._tcp.local.", "_ipp._tcp.local.", "_printer._tcp.local.")
"""Services that one printer announces beside each other, the best first: a raw port that is offered is that of a
receipt printer, which cuts and opens a drawer there."""
_ORDER = {Standing.OFFERED: 0, Standing.CHOOSE: 1, Standing.UNUSABLE: 2, Standing.KNOWN: 3}


class Found(Struct, frozen=True):
    """An endpoint and what it is to the store."""

    id: str
    """Of this moment: it changes when the endpoint vanishes and appears again."""
    endpoint: Endpoint
    standing: Standing
    driver: str = ""
    kind: DeviceKind | None = None
    device_id: str = ""
    """The device of the store that it is."""
    reason: str = ""
    drivers: tuple[str, ...] = ()
    """Those among which a person chooses: those that claim it, or all that work on such a line."""
    choices: tuple[Claimed, ...] = ()
    """The same ones that can be chosen, or the only one, with what they can do."""
    probed: Probed | None = None
    """What asking has brought, once somebody has wanted to know."""

    @property
    def looks_like(self) -> Claimed | None:
        """The driver whose devices answer as this one did, at the settings at which it did."""
        if self.probed is None or self.standing is not Standing.CHOOSE:
            return None
        known = next((one for one in self.choices if one.driver == self.probed.driver), None)
        return replace(known, line=self.probed.line) if known else None

    @property
    def why(self) -> str:
        """The reason in a sentence; for one of which a person has to say what it is, that."""
        if self.reason == "claimed_twice":
            names = " and ".join(one.name for one in self.choices)
            return f"Several drivers claim it: {names}. Say which one it is."
        if self.standing is Standing.CHOOSE and self.endpoint.kind is EndpointKind.MDNS:
            return f"It does not say how it wants to be spoken to: name its driver ({', '.join(self.drivers)})."
        if self.standing is Standing.CHOOSE and self.endpoint.scheme == "evdev":
            names = ", ".join(self.drivers)
            return f"A keyboard. Only if it is a scanner that types: name its driver ({names}), and scan the test code."
        if self.standing is Standing.CHOOSE:
            return f"A line at which anything may hang: name its driver ({', '.join(self.drivers)})."
        return _WHY.get(self.reason, self.reason)


class DiscoveryDesk:
    """The endpoints that are seen now. It is the sink of every source; `run` belongs to the supervisor."""

    def __init__(
        self,
        runtime: Runtime,
        drivers: DriverBook,
        devices: DeviceDesk,
        staff: StaffDesk,
        terminals: Terminals,
        problems: Problems,
        roles: RoleDesk,
        *,
        knows_plugs: bool = False,
    ) -> None:
        self._runtime = runtime
        self._drivers = drivers
        self._devices = devices
        self._staff = staff
        self._problems = problems
        self._roles = roles
        self._knows_plugs = knows_plugs
        self.tell: Callable[[int], None] = lambda _count: None
        """Called with how many endpoints are seen whenever what is known of them has changed."""
        self._seen: dict[tuple[EndpointKind, str], tuple[str, Endpoint]] = {}
        self._found: list[Found] = []
        self._known: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._full: set[EndpointKind] = set()
        self._probed: dict[str, Probed] = {}
        self._considering = asyncio.Lock()
        terminals.watch(lambda _: self.look_again())

    # -- what sources say ----------------------------------------------------------------------------------------------

    def appeared(self, endpoint: Endpoint) -> None:
        """See `EndpointSink`."""
        place = (endpoint.kind, endpoint.key)
        before = self._seen.get(place)
        if before is None and not self._room_for(endpoint):
            if endpoint.kind not in self._full:
                log.warning("discovery.full", extra={"kind": endpoint.kind.value, "count": ENDPOINTS_MAX})
                self._full.add(endpoint.kind)
            return
        self._seen[place] = (before[0] if before else self._runtime.ids.new_id(), endpoint)
        if before is None or before[1] != endpoint:
            self._changed.set()

    def vanished(self, kind: EndpointKind, key: str) -> None:
        """See `EndpointSink`. How its device is follows from the device's answers, not from this."""
        if self._seen.pop((kind, key), None) is not None:
            self._full.discard(kind)
            self._changed.set()

    def _room_for(self, endpoint: Endpoint) -> bool:
        same = [place for place in self._seen if place[0] is endpoint.kind]
        if len(same) < ENDPOINTS_MAX:
            return True
        if endpoint.identity not in self._known:
            return False
        strangers = [place for place in same if self._seen[place][1].identity not in self._known]
        if strangers:
            del self._seen[strangers[0]]
        return bool(strangers)

    def stands_at(self, identity: str, url: str) -> bool:
        """Whether a device may be opened here.

        Nodes are numbered anew with every start, and whoever is plugged in next gets that of the one before: what is
        known by its number or plug is opened only where that is seen. Where nobody looks at plugs, an address is
        believed.
        """
        if not self._knows_plugs or "://" in identity or url.startswith(NETWORK):
            return True
        place = url.partition("?")[0]
        plugged = (seen for _, seen in self._seen.values() if seen.kind in PLUGS)
        return any((seen.identity, seen.url) == (identity, place) for seen in plugged)

    def look_again(self) -> None:
        """A device has changed: what was found may mean something else now."""
        if self._seen:
            self._changed.set()

    # -- what follows --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep up with what changes, for ever."""
        while True:
            waiting = any(found.reason == "no_location" for found in self._found)
            try:
                async with self._runtime.clock.timeout(LOCATION_CHECK_S if waiting else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
            await self.consider()

    async def consider(self) -> None:
        """Bring devices and endpoints together: claim what is configured, tell drivers of new addresses."""
        async with self._considering:
            self._changed.clear()
            devices, busy = await self._devices.driven()
            self._known = frozenset(device.identity for device in devices)
            judged = [await self._judge(found_id, one, devices, busy) for found_id, one in list(self._seen.values())]
            self._probed = {one.id: self._probed[one.id] for one in judged if one.id in self._probed}
            found = _one_of_each([replace(one, probed=self._probed.get(one.id)) for one in judged])
            self._raise_problems(found)
            changed, self._found = found != self._found, found
            if changed:
                self.tell(len(found))

    async def moved(self, device_id: str, address: str) -> None:
        """A driver has found its device at another address."""
        await self._devices.moved(device_id, address)
        self.look_again()

    async def _judge(self, found_id: str, seen: Endpoint, devices: list[Device], busy: frozenset[str]) -> Found:
        def unusable(reason: str, drivers: tuple[str, ...] = ()) -> Found:
            return Found(found_id, seen, Standing.UNUSABLE, reason=reason, drivers=drivers)

        if seen.flaw in _FOR_NOBODY:
            return unusable(seen.flaw.value)
        try:
            rivals = self._drivers.rivals(seen)
            claimed = None if rivals else self._drivers.claim(seen)
        except DeviceError:
            return unusable("driver_unusable")
        if (seen.flaw or not seen.url) and (claimed or rivals):
            return unusable(seen.flaw.value or "no_line")
        choices = rivals or (self._drivers.candidates(seen) if claimed is None and not seen.flaw else ())
        if claimed is None:
            # A device that was taken out of use may have been the wrong choice: the line is open to another one.
            active = [device for device in devices if device.active or device.leaving]
            claimed = next((one for one in choices if _device_of(seen, one, active)), None)
        if claimed is None and choices:
            names = tuple(one.driver for one in choices)
            reason = "claimed_twice" if rivals else ""
            return Found(found_id, seen, Standing.CHOOSE, reason=reason, drivers=names, choices=choices)
        if claimed is None:
            keyboard = seen.flaw is Flaw.KEYBOARD
            return unusable(seen.flaw.value if keyboard else _NO_DRIVER.get(seen.service, "no_driver"))
        device = _device_of(seen, claimed, devices)
        if device is None and seen.kind is EndpointKind.CONFIGURED:
            device = await self._claim_configured(seen, claimed)
            if device is None:
                return unusable("no_location")
        if device is None:
            return Found(found_id, seen, Standing.OFFERED, claimed.driver, claimed.kind, choices=(claimed,))
        reason = self._follow(device, seen, busy)
        return Found(found_id, seen, Standing.KNOWN, claimed.driver, claimed.kind, device.id, reason)

    def _follow(self, device: Device, seen: Endpoint, busy: frozenset[str]) -> str:
        """Tell the driver of a new address; why it is not there yet, or ""."""
        if not device.active and not device.leaving:
            return "replaced" if device.replaced_by else "not_in_use"
        url = _at(seen, device.address.partition("?")[2])
        if url == device.address or seen.identity_source is IdentitySource.ADDRESS:
            if seen.kind in PLUGS:
                self._devices.follow(device.id, url)  # it was plugged in again: no need to wait for the next try
            return ""
        weak = seen.identity_source is not IdentitySource.SERIAL_NUMBER and seen.kind not in PLUGS
        if weak and device.id in busy:
            return "holds_money"
        self._devices.follow(device.id, url)
        return "elsewhere"

    async def _claim_configured(self, seen: Endpoint, claimed: Claimed) -> Device | None:
        places = await self._staff.locations()
        if not places:
            return None
        new = NewDevice(
            address=seen.url,
            driver=claimed.driver,
            name=seen.name or claimed.driver,
            device_class=seen.device_class or _class_of(claimed.kind),
            location=places[0].id,
            kind=claimed.kind,
        )
        return await self._devices.claim(self._runtime.ids.new_id(), new, "hub")

    def _raise_problems(self, found: list[Found]) -> None:
        wanted = {one.id: one for one in found if one.standing is Standing.OFFERED or one.reason == "claimed_twice"}
        shown = list(wanted)[:NOTICES_MAX]
        for before in self._found:
            if before.id not in shown:
                self._problems.clear("device.not_activated", before.id)
                self._problems.clear("device.claimed_twice", before.id)
        for one in (wanted[found_id] for found_id in shown):
            name = shown_name(one)
            twice, offered = one.reason == "claimed_twice", one.standing is Standing.OFFERED
            self._problems.set(offered, "device.not_activated", one.id, name=name)
            first, second = [choice.name for choice in one.choices][:2] if twice else ("", "")
            self._problems.set(twice, "device.claimed_twice", one.id, name=name, first=first, second=second)

    # -- what people ask -----------------------------------------------------------------------------------------------

    def all(self) -> list[Found]:
        """What is seen now, as it was last judged: offered ones first, then those that nobody can use."""
        here = {found_id for found_id, _ in self._seen.values()}
        return sorted((one for one in self._found if one.id in here), key=lambda one: _ORDER[one.standing])

    def one(self, found_id: str) -> Found:
        """What is seen under this id, as it was last judged. Raises `endpoint_unknown`."""
        found = next((one for one in self.all() if one.id == found_id), None)
        if found is None:
            raise NotFoundError("endpoint_unknown", "Nothing of this id is seen now.", remedy="Read the list again.")
        return found

    def note_probed(self, found_id: str, probed: Probed) -> None:
        """Keep what asking has brought for as long as the endpoint is there; `consider` shows it."""
        self._probed[found_id] = probed

    async def claim(
        self,
        found_id: str,
        name: str,
        role: str,
        caller: Caller,
        driver: str = "",
        replaces: str = "",
        location: str = "",
    ) -> Device:
        """Make an offered endpoint a device of the store; a terminal takes no payments before it is activated.

        It stands at `location`, else where the caller is. Where a person has to choose, `driver` is one of
        `Found.drivers`: else `device.driver_not_chosen`. With `replaces` it takes the place of that device, see
        `RoleDesk.replace`, and `role` and `location` are that one's. Raises `endpoint_unknown`, and
        `device.not_offered` with the reason. One that is a device already: that device.
        """
        caller.need_at(Permission.DEVICES_MANAGE, location or caller.location)
        await self.consider()
        found = self.one(found_id)
        if found.standing is Standing.UNUSABLE:
            raise DeviceError(
                "device.not_offered",
                f"This device cannot be used. {found.why}",
                remedy="Look at the list of what was found.",
                params={"reason": found.reason},
            )
        old = await self._devices.known(replaces) if replaces else None
        chosen = self._chosen(found, driver or _as_before(found, old))
        new = NewDevice(
            address=_at(found.endpoint, _line_as_before(chosen, old) or chosen.line),
            driver=chosen.driver,
            name=name or (old.name if old else shown_name(found)[:NAME_MAX]),
            device_class=_class_of(chosen.kind),
            location=location or await self._location(caller),
            role=role,
            identity=found.endpoint.identity,
            kind=chosen.kind,
        )
        device_id = found.device_id or self._runtime.ids.new_id()
        if old is not None:
            device = await self._roles.replace(device_id, new, old.id, caller)
        else:
            device = await self._devices.claim(device_id, new, caller.actor)
        await self.consider()
        return device

    def _chosen(self, found: Found, driver: str) -> Claimed:
        if found.standing is Standing.CHOOSE:
            choices = {one.driver: one for one in found.choices}
            if found.looks_like is not None:
                choices[found.looks_like.driver] = found.looks_like
        else:
            known = Claimed(found.driver, found.kind or DeviceKind.TERMINAL, "")
            choices = {found.driver: found.choices[0] if found.choices else known}
            driver = driver or found.driver
        if driver not in choices:
            raise DeviceError(
                "device.driver_not_chosen",
                "What hangs on this line cannot be seen from here.",
                remedy=f"Name its driver: {', '.join(choices)}.",
                params={"drivers": ", ".join(choices)},
            )
        return choices[driver]

    async def _location(self, caller: Caller) -> str:
        places = [place.id for place in await self._staff.locations()]
        return caller.location if caller.location in places or not places else places[0]


def _one_of_each(found: list[Found]) -> list[Found]:
    """Without the other services of a printer that is there by a better one: to people it is one device."""
    standings = [Standing.KNOWN, Standing.OFFERED, Standing.CHOOSE, Standing.UNUSABLE]
    printers = [one for one in found if one.endpoint.service in _PRINTING]
    printers.sort(key=lambda one: (standings.index(one.standing), _PRINTING.index(one.endpoint.service)))
    kept: list[Found] = []
    for one in printers:
        if not any(_same_printer(one.endpoint, other.endpoint) for other in kept):
            kept.append(one)
    return [one for one in found if one in kept or one.endpoint.service not in _PRINTING]


def _same_printer(one: Endpoint, other: Endpoint) -> bool:
    """One that tells a number is known by it; else all its services have one name and stand at one address."""
    if one.service == other.service:
        return False
    numbers = [seen.identity for seen in (one, other) if seen.identity_source is IdentitySource.SERIAL_NUMBER]
    if len(numbers) == 2:
        return numbers[0] == numbers[1]
    # A printer without LPD announces that at port 0, so that nobody else takes its name.
    hosts = {urlsplit(seen.url).hostname for seen in (one, other) if seen.url}
    return one.name == other.name and len(hosts) <= 1


def _at(seen: Endpoint, line: str) -> str:
    """The address with the settings of its line: what discovery finds at a plug has none of its own."""
    return f"{seen.url}?{line}" if line and seen.scheme == "serial" and "?" not in seen.url else seen.url


def _as_before(found: Found, old: Device | None) -> str:
    """The driver of the device whose place it takes, where a person has to choose and has not."""
    return old.driver if old is not None and old.driver in found.drivers else ""


def _line_as_before(chosen: Claimed, old: Device | None) -> str:
    """The settings of the line of the one before: a device of the same kind is usually set like it."""
    same = old is not None and old.driver == chosen.driver and old.address.startswith("serial:")
    return old.address.partition("?")[2] if old is not None and same else ""


def _class_of(kind: DeviceKind | None) -> str:
    return TERMINAL_CLASS if kind is DeviceKind.TERMINAL else ""


def shown_name(found: Found) -> str:
    """What people call it before it has a name of its own."""
    return found.endpoint.name or found.driver or found.endpoint.service or "device"


def places_for(found: Found, vacant: list[DeviceView]) -> list[DeviceView]:
    """Those of the places that want a device which this one could take."""
    usable = found.standing in (Standing.OFFERED, Standing.CHOOSE) or found.reason == "replaced"
    kinds = {one.kind for one in found.choices} | ({found.kind} if found.kind else set())
    return [view for view in vacant if usable and view.device.kind in kinds]


def _device_of(seen: Endpoint, claimed: Claimed, devices: list[Device]) -> Device | None:
    """The device of the store that this endpoint is: by identity, else by the address of one that has no other."""
    mine = [device for device in devices if device.driver == claimed.driver]
    for device in mine:
        if device.identity == seen.identity:
            return device
    return next((device for device in mine if device.identity == device.address == seen.url), None)
