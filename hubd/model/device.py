"""Devices as the hub sees them: endpoints that discovery found, kinds, capabilities, states."""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum

from msgspec import Struct

from hubd.errors import InvalidValueError


class DeviceKind(StrEnum):
    """What a device is for."""

    TILL = "till"
    VIEWER = "viewer"
    TERMINAL = "terminal"
    PRINTER = "printer"
    SCANNER = "scanner"
    SCALE = "scale"
    MODEM = "modem"


class Capability(StrEnum):
    """What a device can do, as its manifest states."""

    PAY = "pay"
    REVERSE = "reverse"
    QUERY_LAST = "query_last"
    END_OF_DAY = "end_of_day"
    SEND_OFFLINE = "send_offline"
    DIAGNOSE = "diagnose"
    ABORT = "abort"
    PARAMETER_SESSION = "parameter_session"
    """It can be told to fetch its acquirers' parameters."""
    TMS_CONTACT = "tms_contact"
    """It can be told to call its management system, which may change its software."""
    TELLS_SOFTWARE = "tells_software"
    """Its protocol tells name or version of its software (domain D14)."""
    SHOW_TEXT = "show_text"
    """It shows a text on its own display while nothing else goes on."""
    PRINT = "print"
    PRINT_RAW = "print_raw"
    """It takes the bytes of an ESC/POS job that somebody else's program has made."""
    CUT = "cut"
    DRAWER = "drawer"
    LINE_DISPLAY = "line_display"
    PRINTER_STATUS = "printer_status"
    """It says how it is, so that a job can be known to be on paper."""
    WEIGH = "weigh"
    SCAN = "scan"
    SEND_SMS = "send_sms"


class DeviceState(StrEnum):
    """How a device is, judged by the age of its last good answer."""

    CONNECTING = "connecting"
    READY = "ready"
    BUSY = "busy"
    SILENT = "silent"
    GONE = "gone"
    FAULTY = "faulty"


class EndpointKind(StrEnum):
    """By which source an endpoint was found."""

    CONFIGURED = "configured"
    MDNS = "mdns"
    USB = "usb"
    SERIAL = "serial"
    TYPED = "typed"
    """A person has typed its address."""


class IdentitySource(StrEnum):
    """The rung of the identity ladder that gave an identity, best first."""

    SERIAL_NUMBER = "serial_number"
    PORT_PATH = "port_path"
    NAME = "name"
    """Under which it announces itself: unique on its network, and easily changed."""
    ADDRESS = "address"


_RUNGS = {"serial": IdentitySource.SERIAL_NUMBER, "port": IdentitySource.PORT_PATH, "name": IdentitySource.NAME}


def rung_of(identity: str) -> IdentitySource:
    """By what a device with this identity is known again; see `Endpoint.identity`."""
    prefix, _, rest = identity.partition(":")
    return IdentitySource.ADDRESS if rest.startswith("//") else _RUNGS.get(prefix, IdentitySource.ADDRESS)


class Flaw(StrEnum):
    """What is wrong with an endpoint itself, whatever driver may want it."""

    NONE = ""
    NO_ADDRESS = "no_address"
    """It names no address that the hub can reach (IPv6 only, no port)."""
    ADDRESS_REFUSED = "address_refused"
    """It names an address that lies outside the shop's network."""
    KEYBOARD = "keyboard"
    """It is a keyboard that the system does not let the hub read, as it should be for one that people type on."""
    CLEAR_CARD_READER = "clear_card_reader"
    """It reads cards and gives their numbers in clear: never used, whatever else it looks like."""
    SAYS_NOTHING = "says_nothing"
    """Neither the system nor the device itself tells what it is."""


ENDPOINT_NAME_MAX = 60
IDENTITY_MAX = 200
TXT_ITEMS_MAX = 16
TXT_KEY_MAX = 32
TXT_VALUE_MAX = 128
"""In characters, all of them; what is longer is cut, what is more is dropped."""


class Endpoint(Struct, frozen=True):
    """A place where a device was seen. What comes from outside in it went through `plain` before."""

    key: str
    """What its source calls it, for as long as it is there, whatever its address becomes."""
    kind: EndpointKind
    url: str
    """An address that a transport can open, `tcp://host:port` or `serial:///dev/…`; empty with a flaw."""
    identity: str
    """The best identity known, prefixed with what gave it: `serial:…`, `name:…`; for an address the address itself."""
    identity_source: IdentitySource
    name: str = ""
    service: str = ""
    """The mDNS service type, `_zvt._tcp.local.`."""
    txt: tuple[tuple[str, str], ...] = ()
    usb_vid: int | None = None
    usb_pid: int | None = None
    usb_classes: tuple[int, ...] = ()
    """Classes of its interfaces: 7 is a printer, 3 a keyboard, a scanner or the like."""
    hid_pages: tuple[int, ...] = ()
    """Usage pages of its HID interfaces, as their report descriptors tell: 0x8C reads barcodes, 0x8D weighs."""
    position: str = ""
    """Where it is plugged in: the port path on the bus, `1-1.3`, with the interface where it has several."""
    driver: str = ""
    """The driver that a person named in the configuration."""
    device_class: str = ""
    flaw: Flaw = Flaw.NONE

    @property
    def scheme(self) -> str:
        """Kind of line: `tcp` or `serial`."""
        return self.url.partition("://")[0]


def plain(text: str, length_max: int) -> str:
    """What a stranger wrote, fit to be shown: no control, format or direction characters, one line, bounded.

    Markup is left to whoever shows it: the page escapes everything.
    """
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text[: 2 * length_max])
    shown = " ".join(shown.split())
    return shown if len(shown) <= length_max else shown[: length_max - 1] + "…"


PLACE_NAME_MAX = 40
_NOT_IN_A_PLACE = re.compile(r"[^a-z0-9_-]+")


def place_role(name: str) -> str:
    """The role of a place that people call so: `place:kitchen` for “Kitchen”. Raises `invalid_place`.

    Programs name it too, so it is plain lower-case letters, whatever language the shop speaks.
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    short = _NOT_IN_A_PLACE.sub("-", "".join(one for one in letters if not unicodedata.combining(one))).strip("-")
    if not 1 <= len(short) <= PLACE_NAME_MAX:
        raise InvalidValueError(
            "invalid_place",
            f"The name of a place has 1 to {PLACE_NAME_MAX} letters, digits and hyphens.",
            remedy="Send a short name, such as kitchen.",
        )
    return f"place:{short}"
