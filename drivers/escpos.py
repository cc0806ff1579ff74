"""Receipt printers that speak ESC/POS, over TCP 9100, a serial line or USB.

**When a document counts as printed.** Raw printing has no acknowledgement, and DLE EOT is answered by a printer that
holds everything in its buffer and then runs out of paper. So the driver takes the best word that the printer has, found
out when it is met (`Proof`): the process id (GS ( H), which it says when what came before is on paper; else GS r, which
it answers in its turn; else DLE EOT after the bytes, and again after the time that printing takes.

**Printers that never answer** (two wires of three, some print servers, a write-only device file) are not guessed: a
hung printer looks the same. A person says `status=none`; the driver then has no `PRINTER_STATUS`, and `Printed` means
that the open line took the whole document, with nothing known of paper, cover and drawer. To call every receipt of such
a shop unknown would have each of them printed twice. Only a line that broke or stood still is unknown there.

**The line is kept open.** A raw-9100 printer takes one host at a time, and the hub is that host: paper and cover are
known within `keep_alive_s`, and nobody prints into the middle of a receipt. Other programs print through the hub. A
document is never continued on another line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import TypeVar

from drivers.base import (
    DriverOptions,
    Identity,
    Lines,
    Manifest,
    Mdns,
    PrinterDriver,
    Probe,
    Serial,
    Step,
    Tcp,
    UsbClass,
)
from drivers.escpos_codec import (
    AUTO_STATUS_OFF,
    COMMAND_BYTES_MAX,
    INITIALISE,
    LINE_FEED,
    PAPER_STATUS,
    PRINTER_SELECT,
    PROCESS_ID_LENGTH,
    AnswerReader,
    ProcessId,
    Status,
    ask_process_id,
    describe_answer,
    describe_sent,
    encode_cut,
    encode_display,
    encode_document,
    encode_pulse,
    in_chunks,
)
from drivers.escpos_link import EscposLink
from drivers.link import LineLostError
from drivers.trace import Describe, by_message
from hubd.errors import DeviceError
from hubd.model.device import Capability, DeviceKind
from hubd.model.device_options import Option, OptionKind
from hubd.model.printing import COLUMNS_MAX, COLUMNS_MIN, PrintDocument, Raw, lay_out
from hubd.ports import ByteStream, NotPrinted, Printed, PrinterCondition, PrintOutcome, PrintUnknown
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="escpos",
    name="ESC/POS receipt printer",
    kind=DeviceKind.PRINTER,
    matches=(
        UsbClass(7),
        Mdns(
            "_pdl-datastream._tcp.local.",
            told_by=("esc/pos", "escpos", "receipt", "tm-"),
            denied_by=("pdf", "postscript", "pcl", "urf", "raster", "jpeg", "escpl", "escpr", "zpl"),
        ),
        Tcp(9100),
        Serial(),
    ),
    capabilities=frozenset(
        {Capability.PRINT, Capability.PRINT_RAW, Capability.CUT, Capability.DRAWER, Capability.PRINTER_STATUS}
    ),
    stage="experimental",
    docs="ESC/POS over TCP port 9100, USB or a serial line, with a cash drawer; 42 columns unless set (48, 32).",
    driver="EscposPrinter",
    line="baud=9600&stop_bits=1",
    probes=(
        Probe(
            order=20,
            steps=(
                Step(b"\x1b@\x10\x04\x01", rb"^[\x12\x16\x1a\x1e\x32\x36\x3a\x3e]$"),
                Step(b"\x10\x04\x04", rb"^[\x12\x1e\x72\x7e]$"),
            ),
            lines=(
                "baud=9600&stop_bits=1",
                "baud=19200&stop_bits=1",
                "baud=38400&stop_bits=1",
                "baud=115200&stop_bits=1",
            ),
        ),
    ),
    recovers_within_s=240.0,
    options=(
        Option(
            "columns",
            OptionKind.NUMBER,
            "Characters in a line",
            "32 for paper of 58 mm, 42 or 48 for 80 mm.",
            default="42",
            least=16,
            most=96,
        ),
        Option(
            "drawer_pin",
            OptionKind.CHOICE,
            "Pin of the drawer",
            "Try the other one if the drawer does not open.",
            default="2",
            choices=("2", "5"),
        ),
        Option(
            "drawer_open",
            OptionKind.CHOICE,
            "Switch of the drawer while it is open",
            "The other one if open and closed are mixed up; none without a switch.",
            default="high",
            choices=("high", "low", "none"),
        ),
        Option(
            "status",
            OptionKind.CHOICE,
            "Does the printer answer?",
            "Choose none for one that never answers: a receipt then counts as printed when the line took it.",
            default="auto",
            choices=("auto", "none"),
        ),
        Option(
            "display",
            OptionKind.CHOICE,
            "Line display at the printer",
            "Two rows of twenty signs for the customer; whether one hangs there cannot be seen from here.",
            default="none",
            choices=("none", "2x20"),
        ),
    ),
)

COLUMNS, DRAWER_PIN, DRAWER_OPEN, STATUS = "columns", "drawer_pin", "drawer_open", "status"
DISPLAY = "display"
"""Names of the driver's options: characters a line; 2 or 5; pin 3 while the drawer is open, `high`, `low` or `none`;
`auto`, or `none` for a printer that never answers; `2x20` where a line display hangs on it, which nobody can see."""

CHUNK_BYTES = 1536
"""Sent before the printer must say that it is done with them: buffers of 4096 bytes are common, none is overrun."""
CHUNK_TIMEOUT_S = 30.0
"""For a chunk to be taken and printed: twice what an impact printer needs for it at 9600 baud."""
JOB_TIMEOUT_S = 300.0
SLOWEST_BYTES_PER_S = 400.0
"""Of a serial line: what a picture that cannot be parted, and a job full of them, may take beyond the times above."""
POLL_S = 1.0
"""How often a printer that is busy with a chunk is asked whether it can print at all."""
STUCK_POLLS = 2
"""So often in a row it must say that it cannot: a cover is opened and closed while paper is set right."""
DISCOVERY_TIMEOUT_S = 2.0
SETTLE_S = 0.2
"""What a new line still carries of an old conversation is read and dropped."""
QUIET_S = 0.5
"""After the first answer in turn, late ones to questions of an older line follow within this time."""
PRINTING_LINES_PER_S, PRINTING_TIME_MAX_S = 12.0, 10.0
DRAWER_TIME_S, DRAWER_POLL_S = 1.0, 0.2
T = TypeVar("T")
_BASE_36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PROCESS_IDS = len(_BASE_36) ** PROCESS_ID_LENGTH

_REMEDIES = {
    "paper_out": "Put in a new roll of paper and close the cover.",
    "cover_open": "Close the printer's cover.",
    "offline": "Press the printer's feed button once; if it stays so, switch it off and on.",
    "cutter_jammed": "Switch the printer off, clear the cutter, switch it on.",
    "overheated": "Let the printer cool down for some minutes.",
    "printer_error": "Switch the printer off and on; if it stays so, its service desk knows the blinking code.",
    "no_answer": "Switch the printer off and on.",
    "unreachable": "Check the printer's power and its cable or network; the hub reconnects by itself.",
}


class Proof(IntEnum):
    """What a printer has to say about a document; more is better."""

    UNKNOWN = 0
    """Not yet found out: it could not print."""
    ARRIVED = 1
    """DLE EOT: the bytes are there and it is well."""
    PROCESSED = 2
    """GS r: what came before is printed, whoever sent it."""
    NUMBERED = 3
    """GS ( H: this document is printed."""


@dataclass(frozen=True, slots=True)
class EscposOptions:
    """What differs between installations."""

    columns: int = 42
    drawer_pin: int = 2
    drawer_open_high: bool | None = True
    """Level of pin 3 while the drawer is open; None when no switch is wired."""
    answers: bool = True
    display: bool = False


class _StuckError(Exception):
    """The printer says that it cannot go on, or contradicts itself."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _options_of(configured: DriverOptions) -> EscposOptions:
    """Raises DeviceError `device.option_invalid`, shown where the printer is listed."""
    widths = {str(columns): columns for columns in range(COLUMNS_MIN, COLUMNS_MAX + 1)}
    return EscposOptions(
        columns=_chosen(configured, COLUMNS, "42", widths),
        drawer_pin=_chosen(configured, DRAWER_PIN, "2", {"2": 2, "5": 5}),
        drawer_open_high=_chosen(configured, DRAWER_OPEN, "high", {"high": True, "low": False, "none": None}),
        answers=_chosen(configured, STATUS, "auto", {"auto": True, "none": False}),
        display=_chosen(configured, DISPLAY, "none", {"none": False, "2x20": True}),
    )


def _chosen(configured: DriverOptions, name: str, default: str, values: dict[str, T]) -> T:
    found = configured.get(name, default)
    if found in values:
        return values[found]
    known = ", ".join(values) if len(values) < 9 else f"{next(iter(values))} to {list(values)[-1]}"
    raise DeviceError(
        "device.option_invalid", f"The printer's option {name} cannot be {found}.", remedy=f"Choose one of: {known}."
    )


class EscposPrinter(PrinterDriver):
    """The hub's side of ESC/POS: a document leaves at most once, and only the printer's own word makes it printed."""

    keep_alive_s = 10.0

    def __init__(self, runtime: Runtime, options: EscposOptions | DriverOptions | None = None) -> None:
        self._clock = runtime.clock
        self._options = options if isinstance(options, EscposOptions) else _options_of(options or {})
        silent = frozenset() if self._options.answers else frozenset({Capability.PRINTER_STATUS})
        shown = frozenset({Capability.LINE_DISPLAY}) if self._options.display else frozenset()
        self.capabilities = (MANIFEST.capabilities - silent) | shown
        self._link: EscposLink | None = None
        self._clean = False
        self._proof, self._best = Proof.UNKNOWN, Proof.UNKNOWN
        """What it can say, found out on this line and on any."""
        self._has_answered = False
        self._half_sent = True
        """Whether the printer may be in the middle of a command; nobody knows what it was sent before this start."""
        self._longest = COMMAND_BYTES_MAX
        """Bytes of the longest command that it was sent since it was last well."""
        self._torn = False
        """Whether the last document may have ended without its cut."""
        self._status: Status | None = None
        self._number = runtime.rng.randrange(_PROCESS_IDS)

    # -- the line ------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line."""
        self._link = EscposLink(stream, self._clock)
        self._clean = False
        self._status = None
        if self._proof is not Proof.NUMBERED:
            # Answers without a number may still be owed on the old line: `_discover` waits them out.
            self._proof = Proof.UNKNOWN

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """See `Driver.describers`."""
        return describe_sent, by_message(AnswerReader(), describe_answer)

    async def pump(self) -> str:
        """Read until the line is lost, and return why."""
        return await self._attached_link().pump()

    async def close(self) -> None:
        """Give the line back."""
        if self._link is not None:
            await self._link.close()

    @property
    def usable(self) -> bool:
        """Whether the line is there and every dialogue on it has ended as it should."""
        return self._clean and self._link is not None and not self._link.lost

    def _attached_link(self) -> EscposLink:
        if self._link is None:
            raise LineLostError("closed")
        return self._link

    # -- what it says of itself ----------------------------------------------------------------------------------------

    @property
    def condition(self) -> PrinterCondition:
        """Paper, cover and drawer as it last said; nothing is known of a printer that is not there."""
        if self._status is None or self._link is None or self._link.lost:
            return PrinterCondition()
        return self._status.condition(drawer_open_high=self._options.drawer_open_high)

    @property
    def noticed(self) -> Identity | None:
        """What it last said that keeps it from printing."""
        return None if self._status is None else _identity(self._status.trouble)

    async def identify(self) -> Identity:
        """End what an older line may have left half sent, ask how it is, and what it can say of a document.

        Prints nothing. Raises DeviceError `device.no_status` for a printer that has never answered, and
        `device.protocol` when something else talks there.
        """
        link = self._attached_link()
        self._clean = False
        await self._clock.sleep(SETTLE_S)
        link.forget()
        try:
            trouble = await self._meet(link) if self._options.answers else await self._end_command(link)
        except LineLostError as error:
            raise _foreign(error.reason) if error.reason in ("not_escpos", "babble") else error from None
        self._clean = True
        return _identity(trouble)

    async def _meet(self, link: EscposLink) -> str:
        if self._half_sent:
            await self._end_command(link)
        try:
            status = await self._look(link)
        except TimeoutError:
            # What it was sent by somebody else may end in a picture, where no question is heard.
            await self._end_command(link)
            status = await self._first_answer(link)
        self._has_answered, self._half_sent = True, False
        await link.send(AUTO_STATUS_OFF, CHUNK_TIMEOUT_S)
        if not status.trouble:
            await self._discover(link)
        return status.trouble

    async def _first_answer(self, link: EscposLink) -> Status:
        try:
            return await self._look(link)
        except TimeoutError:
            if self._has_answered:
                raise
        raise DeviceError(
            "device.no_status",
            "The printer does not say how it is.",
            remedy="Switch it off and on, check both data wires and its speed. One that never answers has status=none.",
            params={"reason": "no_status"},
        )

    async def _end_command(self, link: EscposLink) -> str:
        """As many zeros as the longest command may still wait for: outside of one they mean nothing."""
        zeros = bytes(self._longest)
        # A line that broke while the display was selected would have the next receipt shown instead of printed.
        back = PRINTER_SELECT if self._options.display else b""
        await link.send(zeros + back + INITIALISE, _time_for(zeros))
        self._half_sent = False
        return ""

    async def check(self) -> Identity:
        """DLE EOT. A printer that never answers is well as long as its line is open."""
        if not self._options.answers:
            return Identity()
        link = self._attached_link()
        self._clean = False
        status = await self._look(link)
        link.forget()
        self._clean = True
        return _identity(status.trouble)

    async def _look(self, link: EscposLink) -> Status:
        """One question after the other: an answer does not say what it answers. Raises LineLostError, TimeoutError."""
        printer, offline, paper = await link.ask(1), await link.ask(2), await link.ask(4)
        status = Status(printer, offline, paper)
        if status.trouble == "printer_error":
            status = Status(printer, offline, paper, await link.ask(3))
        self._status = status
        return status

    async def _discover(self, link: EscposLink) -> None:
        """Find out what it can say of a document; what an older printer prints of the question is cleared.

        A printer that is busy for longer than the question waits is taken for one that can say less, on this line.
        """
        if self._proof is Proof.NUMBERED:
            return
        if self._best is Proof.PROCESSED:
            await self._wait_out(link)
            return
        asked = ProcessId(self._next_number())
        self._proof = Proof.ARRIVED
        for question in (ask_process_id(asked.number), INITIALISE + PAPER_STATUS):
            await link.send(question, CHUNK_TIMEOUT_S)
            wait_s = DISCOVERY_TIMEOUT_S
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(DISCOVERY_TIMEOUT_S):
                    while self._proof is not Proof.NUMBERED:
                        answer = await link.in_turn(wait_s)
                        self._proof = Proof.NUMBERED if answer == asked else Proof.PROCESSED
                        wait_s = QUIET_S
            if self._proof is Proof.NUMBERED:
                break
        self._best = max(self._best, self._proof)

    async def _wait_out(self, link: EscposLink) -> None:
        """It may still print what an older line has brought; its answer to that comes just before the one to us."""
        await link.send(INITIALISE + PAPER_STATUS, CHUNK_TIMEOUT_S)
        try:
            await self._answer_in_turn(link)
        except _StuckError:
            return  # it is asked again before the next document
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(DISCOVERY_TIMEOUT_S):
                while True:
                    await link.in_turn(QUIET_S)
        self._proof = Proof.PROCESSED

    def _next_number(self) -> str:
        self._number = rest = (self._number + 1) % _PROCESS_IDS
        digits = ""
        for _ in range(PROCESS_ID_LENGTH):
            rest, digit = divmod(rest, len(_BASE_36))
            digits = _BASE_36[digit] + digits
        return digits

    # -- Printer -------------------------------------------------------------------------------------------------------

    async def print(self, document: PrintDocument) -> PrintOutcome:
        """Print it once. What was left of an unfinished document before it is cut off first."""
        columns = self._options.columns
        commands: Iterator[bytes] = encode_document(lay_out(document, columns), columns)
        if self._torn:
            commands = chain([INITIALISE + encode_cut()], commands)
        was_torn, self._torn = self._torn, True
        raw_bytes = sum(len(item.data) for item in document.items if isinstance(item, Raw))
        outcome = await self._deliver(commands, JOB_TIMEOUT_S + raw_bytes / SLOWEST_BYTES_PER_S)
        if not isinstance(outcome, PrintUnknown):
            self._torn = was_torn and isinstance(outcome, NotPrinted)
        return outcome

    async def open_drawer(self) -> PrintOutcome:
        """One pulse. A printer that cannot print would keep it, and open the drawer when somebody puts in paper.

        Where the drawer's switch is wired it must be seen open after it: `drawer_still_closed` is a lock, or a cable.
        """
        outcome = await self._deliver([encode_pulse(self._options.drawer_pin)])
        if not isinstance(outcome, Printed) or not self._options.answers:
            return outcome
        link, waited_s = self._attached_link(), 0.0
        self._clean = False
        try:
            while self.condition.drawer_open is False and waited_s < DRAWER_TIME_S:
                await self._clock.sleep(DRAWER_POLL_S)
                waited_s += DRAWER_POLL_S
                await self._look(link)
        except LineLostError as error:
            return PrintUnknown(error.reason)
        except TimeoutError:
            return PrintUnknown("no_answer")
        self._clean = True
        condition = self.condition
        return PrintUnknown("drawer_still_closed") if condition.drawer_open is False else Printed(condition)

    async def display(self, rows: tuple[str, ...]) -> PrintOutcome:
        """In one piece, from the display's selection to the printer's; a display tells nothing of itself."""
        if not self._options.display:
            return await super().display(rows)
        return await self._deliver([encode_display(rows)])

    async def _deliver(self, commands: Iterable[bytes], timeout_s: float = JOB_TIMEOUT_S) -> PrintOutcome:
        """Ask, send, ask. From the first byte of a command on, all but a good answer is unknown."""
        if not self.usable:
            return _not_printed("unreachable")
        link = self._attached_link()
        self._clean = False
        try:
            trouble = await self._ready_to_print(link)
        except OSError:
            return _not_printed("no_answer")
        if trouble:
            self._clean = True
            return _not_printed(trouble)
        if link.lost:
            return _not_printed("unreachable")
        self._half_sent = True
        try:
            async with self._clock.timeout(timeout_s):
                await self._hand_over(link, in_chunks(commands, CHUNK_BYTES))
                trouble = (await self._look(link)).trouble if self._options.answers else ""
        except (_StuckError, LineLostError) as error:
            return PrintUnknown(error.reason)
        except TimeoutError:
            return PrintUnknown("no_answer")
        if trouble:
            return PrintUnknown(trouble)
        self._clean, self._half_sent, self._longest = True, False, COMMAND_BYTES_MAX
        return Printed(self.condition)

    async def _ready_to_print(self, link: EscposLink) -> str:
        if not self._options.answers:
            return ""
        link.forget()
        status = await self._look(link)
        if not status.trouble and self._proof is Proof.UNKNOWN:
            await self._discover(link)
        return status.trouble

    async def _hand_over(self, link: EscposLink, chunks: Iterator[bytes]) -> None:
        """All chunks, each with a question that is lost, late and doubled together with it."""
        chunks = self._measured(chunks)
        if not self._options.answers:
            for chunk in chunks:
                await link.send(chunk, _time_for(chunk))
        elif self._proof is Proof.NUMBERED:
            await self._numbered(link, chunks)
        elif self._proof is Proof.PROCESSED:
            await self._processed(link, chunks)
        else:
            lines = 0
            for chunk in chunks:
                await link.ask(1, chunk, _time_for(chunk))
                lines += chunk.count(LINE_FEED)
            await self._clock.sleep(min(PRINTING_TIME_MAX_S, lines / PRINTING_LINES_PER_S))

    def _measured(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Remember before it is sent how long a command may be that a broken line leaves begun."""
        for chunk in chunks:
            self._longest = max(self._longest, len(chunk))
            yield chunk

    async def _numbered(self, link: EscposLink, chunks: Iterator[bytes]) -> None:
        """The last question has no chunk: a chunk that was doubled on its way is answered twice before it."""
        ours: list[str] = []
        for chunk in chain(chunks, [b""]):
            ours.append(self._next_number())
            await link.send(chunk + ask_process_id(ours[-1]), _time_for(chunk))
            while (answer := await self._answer_in_turn(link, _time_for(chunk))) != ProcessId(ours[-1]):
                if isinstance(answer, ProcessId) and answer.number in ours:
                    raise _StuckError("answered_twice")

    async def _processed(self, link: EscposLink, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            await link.send(chunk + PAPER_STATUS, _time_for(chunk))
            await self._answer_in_turn(link, _time_for(chunk))
            await link.ask(1)  # its answer comes behind a doubled one
            if link.answered_more:
                raise _StuckError("answered_twice")

    async def _answer_in_turn(self, link: EscposLink, timeout_s: float = CHUNK_TIMEOUT_S) -> object:
        """Wait as long as it prints; give up when it says that it cannot go on, is silent, or takes too long."""
        until = self._clock.monotonic() + timeout_s
        stuck = 0
        while True:
            try:
                return await link.in_turn(POLL_S)
            except TimeoutError:
                trouble = (await self._look(link)).trouble
            stuck = stuck + 1 if trouble else 0
            if stuck >= STUCK_POLLS:
                raise _StuckError(trouble)
            if self._clock.monotonic() > until:
                raise _StuckError("too_slow")


def _time_for(chunk: bytes) -> float:
    """Seconds for a chunk; more for one that is longer than others because it is a single command."""
    return CHUNK_TIMEOUT_S + max(0, len(chunk) - CHUNK_BYTES) / SLOWEST_BYTES_PER_S


def _identity(trouble: str) -> Identity:
    return Identity(problem=trouble, remedy=_REMEDIES[trouble] if trouble else "")


def _not_printed(reason: str) -> NotPrinted:
    return NotPrinted(reason, _REMEDIES[reason])


def _foreign(reason: str) -> DeviceError:
    return DeviceError(
        "device.protocol",
        f"Another kind of device answers there ({reason}).",
        remedy="Correct its address, or the speed of its line.",
        params={"reason": reason},
    )
