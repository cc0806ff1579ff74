"""What every driver is made of: its manifest, the rules by which it claims an endpoint, and what the runner calls."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from urllib.parse import urlsplit

from msgspec import Struct

from drivers.appetite import TALK, Appetite
from drivers.trace import Describe, count_bytes
from hubd.model.device import Capability, DeviceKind, Endpoint
from hubd.model.device_options import Option
from hubd.model.printing import PrintDocument
from hubd.model.sms import IncomingSms, ModemCondition, SmsOutcome, SmsReport
from hubd.ports import (
    AuthorizeRequest,
    ByteStream,
    Diagnosis,
    Enquiry,
    EnquiryRequest,
    FlushResult,
    NotPrinted,
    NoWeight,
    Outcome,
    PrinterCondition,
    PrintOutcome,
    ProgressSink,
    ReverseRequest,
    Scan,
    ServeLine,
    Serviced,
    TerminalTotals,
    Weight,
)
from hubd.runtime import Runtime


class Usb(Struct, frozen=True):
    """A USB device by vendor and product."""

    vid: int
    pid: int
    rank: int = 4

    def fits(self, seen: Endpoint) -> bool:
        """Whether the endpoint is this device."""
        return (seen.usb_vid, seen.usb_pid) == (self.vid, self.pid)


class UsbClass(Struct, frozen=True):
    """A USB device by the class of one of its interfaces: whoever made it, and whatever its numbers are."""

    interface_class: int
    rank: int = 3

    def fits(self, seen: Endpoint) -> bool:
        """Whether the endpoint has an interface of this class."""
        return self.interface_class in seen.usb_classes


class HidUsage(Struct, frozen=True):
    """A USB device by the usage page of one of its HID interfaces, which says what it does, whoever made it."""

    page: int
    rank: int = 3

    def fits(self, seen: Endpoint) -> bool:
        """Whether the endpoint is the raw line of an interface of this page."""
        return seen.scheme == "hidraw" and self.page in seen.hid_pages


class Mdns(Struct, frozen=True):
    """A device that announces itself on the network.

    A service that devices of several languages share has words that tell ours, or that deny it, in what is announced of
    the device's model and of the languages it is printed with; with neither, a person says what it is.
    """

    service: str
    told_by: tuple[str, ...] = ()
    """In small letters. Empty: the service itself tells."""
    denied_by: tuple[str, ...] = ()
    rank: int = 3

    def fits(self, seen: Endpoint) -> bool:
        """Whether the endpoint was announced as this service, and as one of our devices where that has to be told."""
        return seen.service == self.service and not self._denied(seen) and (not self.told_by or self._told(seen))

    def may_fit(self, seen: Endpoint) -> bool:
        """Whether it was announced as this service and says neither that it is ours nor that it is not."""
        return seen.service == self.service and not self._denied(seen) and bool(self.told_by) and not self._told(seen)

    def _told(self, seen: Endpoint) -> bool:
        return _says(seen, (*MODEL_KEYS, *LANGUAGE_KEYS), self.told_by)

    def _denied(self, seen: Endpoint) -> bool:
        return _says(seen, LANGUAGE_KEYS, self.denied_by)


MODEL_KEYS, LANGUAGE_KEYS = ("ty", "product", "usb_mdl"), ("pdl", "usb_cmd")
"""TXT keys of printers (Bonjour Printing Specification)."""


def _says(seen: Endpoint, keys: tuple[str, ...], searched: tuple[str, ...]) -> bool:
    texts = [value.casefold() for key, value in seen.txt if key in keys]
    return any(word in text for text in texts for word in searched)


class Tcp(Struct, frozen=True):
    """A device at its usual TCP port."""

    port: int
    rank: int = 2

    def fits(self, seen: Endpoint) -> bool:
        """Whether the address is TCP with this port. What is announced as a service says by that what it is."""
        place = seen.url.partition("://")[2].partition("?")[0].partition("/")[0]
        return seen.scheme == "tcp" and not seen.service and place.rpartition(":")[2] == str(self.port)


class Tls(Struct, frozen=True):
    """A device at its usual TLS port."""

    port: int
    rank: int = 2

    def fits(self, seen: Endpoint) -> bool:
        """Whether the address is TLS with this port."""
        return seen.scheme == "tls" and urlsplit(seen.url).port == self.port


class Serial(Struct, frozen=True):
    """Devices of this driver hang on serial lines.

    Adapters look alike whatever hangs on them, so this claims nothing: it makes the driver one of those among which a
    person chooses.
    """

    rank: int = 0

    def fits(self, seen: Endpoint) -> bool:
        """Whether the endpoint is a serial line."""
        return seen.scheme == "serial"


class Keyboard(Struct, frozen=True):
    """Devices of this driver type like a keyboard.

    Nothing tells them from the keyboard that people type on, so this claims nothing either: a person chooses.
    """

    rank: int = 0

    def fits(self, seen: Endpoint) -> bool:
        """Whether the endpoint is a keyboard."""
        return seen.scheme == "evdev"


Match = Usb | UsbClass | HidUsage | Mdns | Tcp | Tls | Serial | Keyboard


class Step(Struct, frozen=True):
    """One question on a line and what the right device answers to it."""

    send: bytes
    """Empty: only listen."""
    expect: bytes
    """A regular expression over what came; it must be found."""
    within_s: float = 0.4


class Probe(Struct, frozen=True):
    """How a device of this driver is recognised on a serial line that tells nothing (`drivers.probing`).

    Nothing in it may be a command that moves money, and nothing that another device could take for one.
    """

    order: int
    """When it is tried: the lower, the less its questions can mean to other devices."""
    steps: tuple[Step, ...]
    thanks: tuple[bytes, ...] = ()
    """What ends the dialogue with the right device."""
    after: bytes = b""
    """What is sent in the end, whatever was answered."""
    lines: tuple[str, ...] = ()
    """Settings of the line at which it is tried; empty: the manifest's own."""
    serial_only: bool = False
    """Whether its questions are framed otherwise over a network."""

    @property
    def listens(self) -> bool:
        """Whether it asks nothing."""
        return not any(step.send for step in self.steps)


RECOVERS_WITHIN_S = 30.0
"""What a manifest states when it states nothing; see `Manifest.recovers_within_s`."""


class Manifest(Struct, frozen=True):
    """What a driver says of itself. Written as a literal, so that it can be read without importing the driver."""

    id: str
    name: str
    kind: DeviceKind
    matches: tuple[Match, ...]
    capabilities: frozenset[Capability]
    stage: str
    """experimental, supported or proven."""
    docs: str
    driver: str
    """Name of the class in the same module."""
    line: str = ""
    """How a serial line that discovery finds is set, `baud=9600&stop_bits=1`; empty: the transport's defaults."""
    probes: tuple[Probe, ...] = ()
    """How it is recognised on a serial line; empty: only a person knows."""
    recovers_within_s: float = RECOVERS_WITHIN_S
    """Once a fault of its line is over: the longest until the device works again, and until what became of a dialogue
    that was cut off is known, where its protocol has a word for that. The contracts of drivers hold it to this."""
    options: tuple[Option, ...] = ()
    """What a person may set of one device, beside its line (`drivers.line_options`): all that the driver reads."""


class Identity(Struct, frozen=True):
    """What a device says it is, after the first exchange with it."""

    device_number: str = ""
    """The device's own number: for a terminal its TID."""
    problem: str = ""
    """A code when it answers but cannot work yet (`diagnosis_required`); empty when all is well."""
    remedy: str = ""
    """What a person does about the problem; empty where the runner has words of its own for it."""
    software: str = ""
    """Name and version of its software, where it has told them just now; without card data."""


class Lines(Struct, frozen=True):
    """Lines that a driver may need beside the one that it was given."""

    another: Callable[[], Awaitable[ByteStream]]
    """Opens one more to the device's address; raises OSError. Whoever opens it closes it."""
    accept: Callable[[int, ServeLine], AbstractAsyncContextManager[None]]
    """Listens at a port for lines that the device itself opens; see `hubd.ports.AcceptLines`."""


DriverOptions = Mapping[str, str]
"""What is set of one device, by name: see `Manifest.options`. A driver takes what it knows and notes none of it."""


def _nobody_keeps(_options: DriverOptions) -> None:
    """A driver that runs without a hub forgets what it has learnt."""


class Driver(abc.ABC):
    """A device on one line at a time, driven by the runner: attach, pump beside identify, then dialogues.

    The runner calls one dialogue at a time and none before `identify` has returned. A dialogue that did not end as it
    should leaves `usable` false: the runner then opens a new line, because late answers to it may still come.
    """

    capabilities: frozenset[Capability]
    keep_alive_s: float = 60.0
    """An idle device is asked for a sign of life this long after its last answer: some die in the night."""
    appetite: Appetite = TALK
    """What may come of the device before it counts as babbling and loses its line, whatever the driver makes of it."""
    learnt: Callable[[DriverOptions], None] = staticmethod(_nobody_keeps)
    """Called with options that the device itself has shown, to be kept for the next start; it must not block."""

    @abc.abstractmethod
    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line; what was known of the one before is forgotten."""

    @abc.abstractmethod
    async def pump(self) -> str:
        """Read the line until it is lost, and return why."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Give the line back; may be called again."""

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """What the trace of a new line to this address may tell of bytes to the device, and of those from it.

        A description holds no card data, whatever the device says; see `drivers.trace`. Not overridden: a count.
        """
        return count_bytes, count_bytes

    @property
    @abc.abstractmethod
    def usable(self) -> bool:
        """Whether the next dialogue may use this line."""

    @property
    def noticed(self) -> Identity | None:
        """What the last dialogue has shown of the device's state, beside its result; None when nothing."""
        return None

    @abc.abstractmethod
    async def identify(self) -> Identity:
        """Make the device ours. Raises DeviceError, OSError or TimeoutError when it is not, or not ready to be."""

    @abc.abstractmethod
    async def check(self) -> Identity:
        """Ask for a sign of life without moving money. Raises DeviceError, OSError or TimeoutError when none came."""


NOT_SUPPORTED = "not_supported"
"""The protocol has no word for it."""


class TerminalDriver(Driver):
    """A card terminal. What it cannot do (`capabilities`) it refuses: `DeviceError` or a value that says so."""

    @abc.abstractmethod
    async def baseline(self) -> str:
        """See `hubd.ports.Terminal.baseline`."""

    @abc.abstractmethod
    async def authorize(self, request: AuthorizeRequest, progress: ProgressSink) -> Outcome:
        """See `hubd.ports.Terminal.authorize`."""

    @abc.abstractmethod
    async def enquire(self, request: EnquiryRequest) -> Enquiry:
        """See `hubd.ports.Terminal.enquire`."""

    @abc.abstractmethod
    async def reverse(self, request: ReverseRequest, progress: ProgressSink) -> Outcome:
        """See `hubd.ports.Terminal.reverse`."""

    @abc.abstractmethod
    async def abort(self) -> bool:
        """See `hubd.ports.Terminal.abort`. The only call that may run beside a dialogue."""

    @abc.abstractmethod
    async def end_of_day(self) -> TerminalTotals:
        """See `hubd.ports.Terminal.end_of_day`."""

    @abc.abstractmethod
    async def send_offline(self) -> FlushResult:
        """See `hubd.ports.Terminal.send_offline`."""

    @abc.abstractmethod
    async def diagnose(self) -> Diagnosis:
        """See `hubd.ports.Terminal.diagnose`."""

    async def parameter_session(self) -> Serviced:
        """See `hubd.ports.Serviceable.parameter_session`; overridden where the capability is named."""
        return Serviced(done=False, reason=NOT_SUPPORTED)

    async def tms_contact(self) -> Serviced:
        """See `hubd.ports.Serviceable.tms_contact`; overridden where the capability is named."""
        return Serviced(done=False, reason=NOT_SUPPORTED)

    async def show(self, lines: tuple[str, ...], seconds: int) -> Serviced:
        """See `hubd.ports.Showing.show`; overridden where the capability is named."""
        return Serviced(done=False, reason=NOT_SUPPORTED)


class PrinterDriver(Driver):
    """A printer."""

    @property
    @abc.abstractmethod
    def condition(self) -> PrinterCondition:
        """See `hubd.ports.Printer.condition`."""

    @abc.abstractmethod
    async def print(self, document: PrintDocument) -> PrintOutcome:
        """See `hubd.ports.Printer.print`."""

    @abc.abstractmethod
    async def open_drawer(self) -> PrintOutcome:
        """See `hubd.ports.Printer.open_drawer`."""

    async def display(self, rows: tuple[str, ...]) -> PrintOutcome:
        """See `hubd.ports.Displaying.display`; overridden where the capability is named."""
        return NotPrinted(NOT_SUPPORTED)


class ScaleDriver(Driver):
    """A scale."""

    @abc.abstractmethod
    async def weigh(self) -> Weight | NoWeight:
        """See `hubd.ports.Scale.weigh`."""

    @abc.abstractmethod
    async def zero(self) -> NoWeight | None:
        """See `hubd.ports.Scale.zero`."""


class ScannerDriver(Driver):
    """A scanner. It speaks by itself, so its silence says nothing: it is well as long as its line is open."""

    @abc.abstractmethod
    def listen(self, sink: Callable[[Scan], None]) -> None:
        """See `hubd.ports.Scanner.listen`."""


class ModemDriver(Driver):
    """A modem that sends and receives text messages."""

    @property
    @abc.abstractmethod
    def condition(self) -> ModemCondition:
        """See `hubd.ports.Modem.condition`."""

    @abc.abstractmethod
    async def send(self, number: str, text: str, message_id: str) -> SmsOutcome:
        """See `hubd.ports.Modem.send`."""

    @abc.abstractmethod
    async def take(self, commit: Callable[[IncomingSms], Awaitable[None]]) -> int:
        """See `hubd.ports.Modem.take`."""

    @abc.abstractmethod
    def listen(self, sink: Callable[[SmsReport | None], None]) -> None:
        """See `hubd.ports.Modem.listen`."""


CURRENCY = "currency"
"""ISO 4217 code of the location that the terminal stands at; absent: the driver's own default."""
PASSWORD = "password"
"""Of the terminal's cash register function; absent: the driver's own default."""

DriverFactory = Callable[[Runtime, DriverOptions], Driver]
