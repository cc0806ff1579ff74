"""What the core asks of the outside world, as protocols that drivers, sync and tests implement.

The values that come back are verdicts, not exceptions: a caller must handle each of them. Only `NotStarted` promises
that no money can have moved.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from hubd.model.device import Capability, DeviceState
from hubd.model.money import Money
from hubd.model.printing import PrintDocument
from hubd.model.sms import IncomingSms, ModemCondition, SmsOutcome, SmsReport


class ByteStream(Protocol):
    """A connection to a device or a peer. One reader, one writer."""

    async def read(self, max_bytes: int) -> bytes:
        """Return 1 to `max_bytes` bytes, or b"" once the other side has gone. Raises OSError when the line breaks."""
        ...

    async def write(self, data: bytes) -> None:
        """Hand all bytes to the line. Raises OSError when the line is broken; bytes may have left all the same."""
        ...

    async def close(self) -> None:
        """Release the line; may be called again."""
        ...


OpenTransport = Callable[[str], Awaitable[ByteStream]]
"""Opens `tcp://host:port`, `tls://host:port?…` or `serial:///path?baud=115200`.

Raises OSError when it cannot, HubError for an address that cannot be used or a certificate that is refused."""

ServeLine = Callable[[ByteStream], Awaitable[None]]
"""Talks on one line until it is lost."""
AcceptLines = Callable[[int, str, ServeLine], AbstractAsyncContextManager[None]]
"""(port, host, serve): while the block runs, each line that this host opens to this port of ours is served and closed.

Lines from other hosts are closed at once. Raises OSError when the port is taken."""


class Evidence(Struct, frozen=True):
    """What a terminal said about one transaction, with card data already dropped at the decoder.

    Every field may be missing, because terminals differ; `amount` and `receipt_number` are what the hub compares with
    what it asked for before it believes an answer.
    """

    amount: Money | None = None
    receipt_number: str = ""
    trace_number: str = ""
    terminal_id: str = ""
    result_code: str = ""
    card_name: str = ""
    pan_last4: str = ""
    technology: str = ""
    """chip, contactless, swipe, manual or empty."""
    verification: str = ""
    """pin, signature, none or empty."""
    authorization_code: str = ""
    device_at: str = ""
    """The terminal's own date and time as it gave them, `MMDD HHMMSS` or empty; never used for ordering."""
    offline: bool = False
    receipt_lines: tuple[str, ...] = ()
    """Print lines, personal data: they go into an erasable document, never into an entry."""


class Approved(Struct, frozen=True):
    """The terminal says that the issuer approved."""

    evidence: Evidence


class Stored(Struct, frozen=True):
    """The terminal approved without the issuer and keeps the transaction to send it later."""

    evidence: Evidence


class Declined(Struct, frozen=True):
    """The terminal itself says that the payment was declined."""

    evidence: Evidence
    reason: str = "declined"


class Cancelled(Struct, frozen=True):
    """The terminal itself says that the customer, the cashier or its time limit stopped the payment."""

    evidence: Evidence
    reason: str = "cancelled"


class NotStarted(Struct, frozen=True):
    """No byte that could move money left the hub, or the terminal refused before it began. Nothing was charged."""

    reason: str
    """`terminal_busy`, `terminal_unreachable`, `not_registered`, `amount_refused`, or a driver's own word."""
    remedy: str = ""


class Unknown(Struct, frozen=True):
    """No trustworthy answer came; the money may have moved. Resolved by asking, never by charging again."""

    reason: str


Outcome = Approved | Stored | Declined | Cancelled | NotStarted | Unknown


class Found(Struct, frozen=True):
    """The terminal's last transaction is the payment in question, with this verdict."""

    outcome: Approved | Stored | Declined | Cancelled
    by_reference: bool = False
    """The terminal names the payment by its id. Without that, it is the number after the baseline and the amount that
    speak for it: proof only where nobody else uses the terminal."""


class NotTaken(Struct, frozen=True):
    """The terminal answered that its last transaction is the one from before: the payment never happened there."""

    evidence: Evidence


class StillRunning(Struct, frozen=True):
    """The terminal is in the middle of a dialogue; ask again later."""


class Inconclusive(Struct, frozen=True):
    """The terminal answered, but its answer proves nothing (no content, other amount, other receipt), or was silent."""

    reason: str
    evidence: Evidence | None = None
    """None when no answer came; an answer without content is an empty `Evidence`."""


Enquiry = Found | NotTaken | StillRunning | Inconclusive


class AuthorizeRequest(Struct, frozen=True):
    """One payment to take. `reference` is the payment's id, for the terminal's additional text and our traces."""

    reference: str
    amount: Money


class EnquiryRequest(Struct, frozen=True):
    """Ask what became of a payment. `baseline` is the terminal's last receipt number before it, if it was known."""

    reference: str
    amount: Money
    baseline: str
    wanted: str = ""
    """The receipt number of the transaction itself, when it is known (reversals); empty otherwise."""
    trace_number: str = ""
    """The trace number that belongs to `wanted`, as the terminal told it then."""


class ReverseRequest(Struct, frozen=True):
    """Undo one approved or stored payment in full, named by the terminal's own receipt number."""

    reference: str
    amount: Money
    receipt_number: str
    trace_number: str = ""
    """Of the same payment; a terminal that names the trace number of what it has undone is held to it."""


class TerminalTotals(Struct, frozen=True):
    """What a terminal counted since its last end-of-day; what it did not say is None."""

    count: int | None
    total: Money | None
    stored_count: int = 0
    lines: tuple[str, ...] = ()


class FlushResult(Struct, frozen=True):
    """What became of a terminal's stored transactions when it was told to send them.

    `forwarded` lists receipt numbers that the terminal says it has handed over; an empty tuple with `complete` means
    that it reported all as sent without naming them. `remaining` is what it still holds, None when it does not say.
    """

    complete: bool
    forwarded: tuple[str, ...] = ()
    remaining: int | None = None
    reason: str = ""


class Diagnosis(Struct, frozen=True):
    """The terminal's own view of its line to its host."""

    host_reachable: bool
    text: str = ""


class Serviced(Struct, frozen=True):
    """What came of telling a terminal to call its acquirers for parameters, or its management system."""

    done: bool
    """Only by the terminal's own word that it ended well; a lost answer is not done."""
    reason: str = ""
    """Why not: `host_no_connection`, `refused`, `no_answer`, or a driver's own word."""
    providers: tuple[str, ...] = ()
    """The acquirers that it names as reached; empty when it does not say which."""
    text: str = ""
    """What it printed or showed meanwhile."""


class Progress(Struct, frozen=True):
    """Something a cashier may want to see while a terminal works: a stable code and whether the card is in play."""

    code: str
    """insert_card, enter_pin, remove_card, waiting_for_host, offline, online, started, please_wait, …"""
    text: str = ""
    """The device's own words, in its own language and without card data; for people, never to be judged by."""


ProgressSink = Callable[[Progress], None]


class LastProblem(Struct, frozen=True):
    """The problem that a device has or had last, since its driver was started; kept when it is over."""

    code: str
    remedy: str
    at_us: int
    """Wall time at which it began."""


class TerminalStatus(Struct, frozen=True):
    """State of one device by the age of its last good answer."""

    state: DeviceState
    last_answer_monotonic: float | None
    terminal_id: str = ""
    problem: str = ""
    remedy: str = ""
    last_problem: LastProblem | None = None
    software: str = ""
    """Name and version of its software, where it tells them (D14); else empty."""


class Way(StrEnum):
    """Which way the bytes of a line of a trace went."""

    TO_DEVICE = ">"
    FROM_DEVICE = "<"
    LINE = "="
    """None went: the line was opened, lost or accepted."""


class TraceLine(Struct, frozen=True):
    """What went over a device's line at one moment, as its driver's decoder describes it: without card data."""

    number: int
    """Of the newest of them; later lines have greater ones."""
    at_us: int
    """Wall time of the newest of them."""
    way: Way
    text: str
    times: int = 1
    """How often in a row the same was said."""


class Terminal(Protocol):
    """A card terminal: one dialogue at a time, every method bounded in time, none of them raises for a lost answer.

    Methods raise DeviceError only before a byte left (`device.gone`, `device.busy`) where the return type has no value
    for it. Cancellation of `authorize` or `reverse` sends an abort if the dialogue allows it and then re-raises; the
    caller must treat the payment as unknown.
    """

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this terminal can do."""
        ...

    @property
    def status(self) -> TerminalStatus:
        """How it is now."""
        ...

    async def baseline(self) -> str:
        """The receipt number of the terminal's last transaction before a new one; empty if it cannot tell."""
        ...

    async def authorize(self, request: AuthorizeRequest, progress: ProgressSink) -> Outcome:
        """Take a payment. Amount, currency and receipt number of the answer are compared with what was asked."""
        ...

    async def enquire(self, request: EnquiryRequest) -> Enquiry:
        """Ask what became of a payment; never moves money."""
        ...

    async def reverse(self, request: ReverseRequest, progress: ProgressSink) -> Outcome:
        """Undo a payment: `Approved` means reversed. A reversal of anything else than what was asked is `Unknown`."""
        ...

    async def abort(self) -> bool:
        """Ask the running dialogue to stop; True if the request was sent. The verdict comes from `authorize`."""
        ...

    async def end_of_day(self) -> TerminalTotals:
        """Close the terminal's batch. Raises DeviceError with a code when it refuses."""
        ...

    async def send_offline(self) -> FlushResult:
        """Tell the terminal to send its stored transactions now."""
        ...

    async def diagnose(self) -> Diagnosis:
        """Let the terminal test its line to its host."""
        ...


class Serviceable(Terminal, Protocol):
    """A terminal whose capabilities name one of these two acts (domain D07, D15); neither moves money."""

    async def parameter_session(self) -> Serviced:
        """Let it fetch its acquirers' parameters. Raises DeviceError only before a byte left."""
        ...

    async def tms_contact(self) -> Serviced:
        """Let it call its management system; it may restart. Raises DeviceError only before a byte left."""
        ...


class Showing(Terminal, Protocol):
    """A terminal whose capabilities say that it shows a text, while nobody uses it; nothing of it moves money."""

    async def show(self, lines: tuple[str, ...], seconds: int) -> Serviced:
        """Show one to eight lines for so many seconds. Raises DeviceError only before a byte left."""


class Paper(StrEnum):
    """How much paper a printer says it has."""

    OK = "ok"
    LOW = "low"
    OUT = "out"
    UNKNOWN = "unknown"


class PrinterCondition(Struct, frozen=True):
    """What a printer said of itself when it was last asked; None where it has no word for it."""

    paper: Paper = Paper.UNKNOWN
    cover_open: bool | None = None
    drawer_open: bool | None = None


class Printed(Struct, frozen=True):
    """The printer took every byte, and said after them that it is well: the paper is out."""

    condition: PrinterCondition


class NotPrinted(Struct, frozen=True):
    """Nothing of the document left the hub, or the printer said before it that it cannot print. Safe to try again."""

    reason: str
    """`paper_out`, `cover_open`, `unreachable`, `busy`, or a driver's own word."""
    remedy: str = ""


class PrintUnknown(Struct, frozen=True):
    """Some of the document left the hub and no good answer came: it may be out, in part or in full."""

    reason: str


PrintOutcome = Printed | NotPrinted | PrintUnknown


class Printer(Protocol):
    """A printer: one document at a time, every method bounded in time, none of them raises for a lost answer."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""
        ...

    @property
    def status(self) -> TerminalStatus:
        """How it is now."""
        ...

    @property
    def condition(self) -> PrinterCondition:
        """Paper, cover and drawer as it last said."""
        ...

    async def print(self, document: PrintDocument) -> PrintOutcome:
        """Print it once. Nothing is repeated: whoever asks again decides, and marks the second paper as a copy."""
        ...

    async def open_drawer(self) -> PrintOutcome:
        """Open the cash drawer; `Printed` when the pulse was taken and, where that is told, it was read back open."""
        ...


class Displaying(Printer, Protocol):
    """A printer whose capabilities say that a line display hangs on it."""

    async def display(self, rows: tuple[str, ...]) -> PrintOutcome:
        """Show at most two rows to the customer instead of what is shown; none clears. `Printed`: it was taken."""


class Weight(Struct, frozen=True):
    """A weight that the scale called stable."""

    grams: int
    """Without tare where the scale has one set; never negative."""
    net: bool = False
    """Whether a tare was taken off."""


class NoWeight(Struct, frozen=True):
    """There is no weight that may be sold by."""

    reason: str
    """`in_motion`, `under_zero`, `over_capacity`, `no_answer`, `unreachable`, `busy`, or a driver's own word."""
    remedy: str = ""


class Scale(Protocol):
    """A scale, asked for a weight."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""
        ...

    @property
    def status(self) -> TerminalStatus:
        """How it is now."""
        ...

    async def weigh(self) -> Weight | NoWeight:
        """Ask once; bounded by two seconds. A weight without the scale's own word that it is stable is none."""
        ...

    async def zero(self) -> NoWeight | None:
        """Set the empty scale to zero; None when it took the command."""
        ...


class Scan(Struct, frozen=True):
    """What a scanner has read: a code on a product or a coupon, never a card."""

    text: str
    symbology: str = ""
    """`ean13`, `gs1_128`, `qr` …, when the scanner tells; else empty."""


class Scanner(Protocol):
    """A scanner speaks by itself; what it has read comes through `listen`."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""
        ...

    @property
    def status(self) -> TerminalStatus:
        """How it is now."""
        ...

    def listen(self, sink: Callable[[Scan], None]) -> None:
        """Give every scan to `sink` from now on, and to nobody else."""
        ...


class Modem(Protocol):
    """A modem that sends and receives text messages: one dialogue at a time, none raises for a lost answer."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""
        ...

    @property
    def status(self) -> TerminalStatus:
        """How it is now."""
        ...

    @property
    def condition(self) -> ModemCondition:
        """Network and signal as it last said."""
        ...

    async def send(self, number: str, text: str, message_id: str) -> SmsOutcome:
        """Send a text to an E.164 number, once: nothing is ever sent again by itself. The id is the originator's."""
        ...

    async def take(self, commit: Callable[[IncomingSms], Awaitable[None]]) -> int:
        """Give every stored message to `commit`, and delete each once that has returned; return how many.

        Whatever `commit` raises is passed on, and its message stays. One that was committed may come again after a
        crash. Raises DeviceError when the modem is busy, not there or does not answer.
        """
        ...

    def listen(self, sink: Callable[[SmsReport | None], None]) -> None:
        """Give delivery reports to `sink`, and None when a message has come in. The modem keeps no reports."""
        ...
