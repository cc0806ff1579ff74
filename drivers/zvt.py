"""Card terminals that speak ZVT (Germany, Austria, Switzerland), over TCP or a serial line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import Struct

from drivers.base import (
    CURRENCY,
    PASSWORD,
    DriverOptions,
    Identity,
    Lines,
    Manifest,
    Mdns,
    Probe,
    Serial,
    Step,
    Tcp,
    TerminalDriver,
)
from drivers.link import LineLostError
from drivers.trace import Describe, by_message
from drivers.zvt_codec import CURRENCY_NUMBERS, Apdu, SerialReader, TcpReader, describe_event
from drivers.zvt_link import ZvtLink
from drivers.zvt_messages import (
    ABORT_COMMAND,
    CONFIG_BYTE,
    DIAGNOSIS,
    END_OF_DAY,
    EXTENDED_DIAGNOSIS,
    INITIALISATION,
    POSITIVE_ACK,
    REPEAT_RECEIPT,
    RESULT_TEXT,
    SEND_OFFLINE,
    STATUS_ENQUIRY,
    Abort,
    Ack,
    Authorization,
    Command,
    Completion,
    DisplayText,
    Plain,
    Refusal,
    Registration,
    Reversal,
    SetClock,
    StatusInformation,
    Unsupported,
    decode_answer,
    decode_registration,
    decode_software,
    decode_terminal_status,
    encode_command,
)
from drivers.zvt_verdict import (
    NO_RECEIPT,
    Transcript,
    baseline_of,
    follows,
    judge_enquiry,
    judge_payment,
    judge_reversal,
)
from hubd.errors import DeviceError, Retry
from hubd.model.device import Capability, DeviceKind
from hubd.model.device_options import Option, OptionKind
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    ByteStream,
    Diagnosis,
    Enquiry,
    EnquiryRequest,
    Evidence,
    FlushResult,
    Inconclusive,
    NotStarted,
    Outcome,
    Progress,
    ProgressSink,
    ReverseRequest,
    Serviced,
    StillRunning,
    Stored,
    TerminalTotals,
    Unknown,
)
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="zvt",
    name="ZVT terminal",
    kind=DeviceKind.TERMINAL,
    matches=(Tcp(20007), Mdns("_zvt._tcp.local."), Serial()),
    capabilities=frozenset(
        {
            Capability.PAY,
            Capability.REVERSE,
            Capability.QUERY_LAST,
            Capability.END_OF_DAY,
            Capability.SEND_OFFLINE,
            Capability.DIAGNOSE,
            Capability.ABORT,
            Capability.PARAMETER_SESSION,
            Capability.TMS_CONTACT,
            Capability.TELLS_SOFTWARE,
            Capability.SHOW_TEXT,
        }
    ),
    stage="experimental",
    docs="ZVT over TCP port 20007 or a serial line with 115200 8N2 (PA00P015 13.07, PA00P016 04).",
    driver="ZvtTerminal",
    probes=(
        Probe(
            order=50,
            # A status enquiry (05 01), and how any terminal begins to answer: block received, then a block of its own.
            steps=(
                Step(
                    b"\x10\x02\x05\x01\x03\x00\x00\x00\x10\x03\xdf\xdb",
                    rb"\x06\x10\x02(?:\x80\x00|\x84.|\x06[\x0f\x1e]|\x04[\x0f\xff]).{1,64}?\x10\x03..",
                    1.0,
                ),
            ),
            thanks=(b"\x06\x10\x02\x80\x00\x00\x10\x03\xf5\x1f", b"\x06\x10\x02\x80\x00\x00\x10\x03\xf5\x1f"),
            lines=("baud=9600&stop_bits=2", "baud=115200&stop_bits=2"),
            serial_only=True,
        ),
    ),
    recovers_within_s=240.0,
    options=(
        Option(
            "password",
            OptionKind.SECRET,
            "Password of the terminal",
            "The cash register's password in the terminal's menu; 000000 and 123456 are usual.",
            default="000000",
            pattern="[0-9]{6}",
            form="six digits",
        ),
    ),
)

ACK_TIMEOUT_S = 5.0
"""T3: from a command to its acknowledgement."""
ANSWER_TIMEOUT_S = 180.0
"""T4: between two messages of a running command."""
DIALOGUE_TIMEOUT_S = 900.0
"""No command may hold the terminal longer, however often it reports progress."""
ABORT_SEND_TIMEOUT_S = 1.0
SERIAL_QUIET_S = 0.3
SERIAL_SETTLE_TIMEOUT_S = 3.0
"""A serial line has no connections: what an old dialogue still sends is read and dropped before a new one begins."""
REFUSAL_ECHO_S = 0.3
"""After a refusal the line is left alone this long; what comes then is dropped."""

_FOREIGN = frozenset({"not_zvt", "babble", "length_beyond_limit"})
"""Reasons for which a line is lost because something else than a ZVT terminal talks there."""
_BUSY = 0x9C
_HOST_FAULTS = frozenset({0x9B, 0xA0, 0xA1, 0xA3})
_CARD_IN_PLAY = frozenset({_BUSY, 0xDC, 0xE1})


@dataclass(frozen=True, slots=True)
class ZvtOptions:
    """What differs between installations."""

    password: str = field(default="000000", repr=False)
    currency: str = "EUR"
    send_reference: bool = True
    """Whether the payment's id goes along as additional text (field 3C); some terminals print it."""


class _Lost(Struct, frozen=True):
    """The dialogue did not end: what happened is not known."""

    reason: str


def _options_of(configured: DriverOptions) -> ZvtOptions:
    """Raises DeviceError `device.password_invalid` or `device.currency_unknown`, shown where the terminal is listed."""
    plain = ZvtOptions()
    password, currency = configured.get(PASSWORD, plain.password), configured.get(CURRENCY, plain.currency)
    if currency not in CURRENCY_NUMBERS:
        raise DeviceError(
            "device.currency_unknown",
            f"This driver knows no number for {currency}, the currency of the terminal's location.",
            remedy="Correct the currency of the location, or use a terminal of another kind there.",
        )
    if re.fullmatch(r"[0-9]{6}", password) is None:
        raise DeviceError(
            "device.password_invalid",
            "The password of a ZVT terminal has six digits.",
            remedy="Correct it on the page of this device; the terminal's menu shows the right one.",
        )
    return ZvtOptions(password=password, currency=currency)


def _ignore(_: Progress) -> None:
    """Nobody is looking."""


class ZvtTerminal(TerminalDriver):
    """The hub's side of ZVT: `06 01` leaves at most once per payment, and only a final answer is a verdict."""

    capabilities = MANIFEST.capabilities

    def __init__(self, runtime: Runtime, options: ZvtOptions | DriverOptions | None = None) -> None:
        self._clock = runtime.clock
        self._options = options if isinstance(options, ZvtOptions) else _options_of(options or {})
        self._link: ZvtLink | None = None
        self._serial = False
        self._clean = False
        self._in_dialogue = False
        self._last_receipt = ""

    # -- the line ------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line. The last receipt number is asked for again: somebody else may have used the terminal."""
        self._serial = url.startswith("serial:")
        self._link = ZvtLink(stream, self._clock, serial=self._serial)
        self._clean, self._in_dialogue, self._last_receipt = True, False, ""

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """See `Driver.describers`."""
        readers = [SerialReader() if url.startswith("serial:") else TcpReader() for _ in range(2)]
        return by_message(readers[0], describe_event), by_message(readers[1], describe_event)

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

    def _attached_link(self) -> ZvtLink:
        """The line, also when it is lost: a dialogue on it then ends as `_Lost`, and money may have moved before."""
        if self._link is None:
            raise _line_error("hung_up", "connection")
        return self._link

    # -- dialogues -----------------------------------------------------------------------------------------------------

    async def _run(self, command: Command, progress: ProgressSink, *, once: bool) -> Transcript | Refusal | _Lost:
        """One command from its first byte to its end. With `once` its block leaves at most one time."""
        link = self._attached_link()
        link.discard_received()
        self._clean, self._in_dialogue = False, True
        try:
            async with self._clock.timeout(DIALOGUE_TIMEOUT_S):
                await link.send(encode_command(command), once=once)
                refusal = await self._acknowledged(link)
                if refusal is None:
                    progress(Progress("started"))
                    result: Transcript | Refusal = await self._follow(link, progress)
                else:
                    result = refusal
        except LineLostError as error:
            return _Lost(error.reason)
        except OSError:  # TimeoutError is one, and so is a block that was not confirmed
            return _Lost("no_answer")
        finally:
            self._in_dialogue = False
        self._clean = True
        return result

    async def _acknowledged(self, link: ZvtLink) -> Refusal | None:
        """Wait for the answer to a command. What comes before it belongs to an older dialogue and means nothing."""
        async with self._clock.timeout(ACK_TIMEOUT_S):
            while True:
                match decode_answer(await link.receive(ACK_TIMEOUT_S)):
                    case Ack():
                        return None
                    case Refusal() as refusal:
                        return refusal
                    case _:
                        await link.send(POSITIVE_ACK)

    async def _follow(self, link: ZvtLink, progress: ProgressSink) -> Transcript:
        """The terminal is in charge: acknowledge what it says until it ends the command."""
        transcript = Transcript()
        while transcript.end is None:
            answer = decode_answer(await link.receive(ANSWER_TIMEOUT_S))
            if isinstance(answer, (Ack, Refusal)):
                continue  # the answer to an abort command, or a doubled one to ours
            await link.send(Apdu(0x8483) if isinstance(answer, Unsupported) else POSITIVE_ACK)
            transcript.note(answer, progress)
        return transcript

    # -- Terminal ------------------------------------------------------------------------------------------------------

    async def identify(self) -> Identity:
        """Register: nothing is paid at the terminal itself, receipts and progress come here (1.4 of the protocol)."""
        if self._serial:
            await self._settle()
        command = Registration(self._options.password, CONFIG_BYTE, self._options.currency)
        result = await self._run(command, _ignore, once=False)
        transcript = self._ended(result, "registration")
        if not isinstance(transcript.end, Completion):
            raise _refused("registration", transcript.end)
        registered = decode_registration(transcript.end)
        if registered.status & 1:
            return Identity(registered.terminal_id, "initialisation_required")
        return Identity(registered.terminal_id, "diagnosis_required" if registered.status & 2 else "")

    async def _settle(self) -> None:
        link = self._attached_link()
        try:
            async with self._clock.timeout(SERIAL_SETTLE_TIMEOUT_S):
                seen = -1
                while seen != link.bytes_read:
                    seen = link.bytes_read
                    await self._clock.sleep(SERIAL_QUIET_S)
        except TimeoutError:
            raise DeviceError("device.protocol", "The line does not become quiet.", remedy="Check the cable.") from None
        link.discard_received()

    async def check(self) -> Identity:
        """Status enquiry: a sign of life, the terminal's own state, and its software where it tells that.

        Not asked in `identify`: some terminals are silent about it after a card was taken away (Ingenico i5310), and a
        silence there would keep them from ever becoming ready.
        """
        status, software = await self._terminal_status()
        if status in (0, *_CARD_IN_PLAY):
            return Identity(software=software)
        return Identity(problem=RESULT_TEXT.get(status, f"terminal_status_{status:02x}"), software=software)

    async def _terminal_status(self) -> tuple[int, str]:
        """Its status and its software, as it tells them now."""
        result = await self._run(Plain(STATUS_ENQUIRY, self._options.password), _ignore, once=False)
        if isinstance(result, Refusal):
            return result.code, ""
        transcript = self._ended(result, "status enquiry")
        if isinstance(transcript.end, Completion):
            return decode_terminal_status(transcript.end), decode_software(transcript.end)
        code = transcript.end.code if transcript.end else None
        return (0xFF if code is None else code), ""

    async def baseline(self) -> str:
        """What `baseline_of` says of the last transaction; `0000` when there is none, "" when it does not tell."""
        if self._last_receipt or not self.usable:
            return self._last_receipt
        result = await self._repeat_receipt()
        if isinstance(result, Transcript):
            if isinstance(result.end, Abort) and result.end.code == 0x83:
                self._last_receipt = NO_RECEIPT
            elif isinstance(result.end, Completion) and result.status is not None:
                self._last_receipt = baseline_of(result.status)
        return self._last_receipt

    async def _repeat_receipt(self) -> Transcript | Refusal | _Lost:
        return await self._run(Plain(REPEAT_RECEIPT, self._options.password), _ignore, once=False)

    async def authorize(self, request: AuthorizeRequest, progress: ProgressSink) -> Outcome:
        """Take a payment. ZVT cannot forbid an offline approval for one payment: the verdict then says `Stored`."""
        command = Authorization(
            request.amount.amount_minor,
            request.amount.currency,
            request.reference if self._options.send_reference and request.reference.isascii() else "",
        )
        refused = self._refuse_early(command, request.amount)
        if refused:
            return refused
        before, self._last_receipt = self._last_receipt, ""
        result = await self._move_money(command, progress)
        if not isinstance(result, Transcript):
            self._last_receipt = before if isinstance(result, NotStarted) else ""
            return result
        outcome = judge_payment(result, request.amount, before)
        if isinstance(outcome, (Approved, Stored)):
            return await self._confirm_number(outcome, before)
        if not isinstance(outcome, (Unknown, NotStarted)):
            self._last_receipt = outcome.evidence.receipt_number or before
        return outcome

    def _refuse_early(self, command: Authorization, amount: Money) -> NotStarted | None:
        if not self.usable:
            return NotStarted("terminal_unreachable", "Check the terminal's power and its cable or network.")
        try:
            encode_command(command)
        except ValueError as error:
            return NotStarted("amount_refused", str(error))
        return None if amount.amount_minor > 0 else NotStarted("amount_refused", "The amount must be above zero.")

    async def _move_money(
        self, command: Authorization | Reversal, progress: ProgressSink
    ) -> Transcript | NotStarted | Unknown:
        """Send a command that moves money, once. Cancellation asks the terminal to stop and is passed on."""
        link = self._attached_link()
        self._clean = False
        try:
            result = await self._run(command, progress, once=True)
        except BaseException:  # cancellation, or a caller's sink that fails: the customer must not be left to pay
            await self._send_abort(link)
            self._clean = False
            raise
        match result:
            case Refusal(code):
                # A terminal that answers twice would otherwise refuse the next payment with the echo, and then take it.
                await self._clock.sleep(REFUSAL_ECHO_S)
                reason = RESULT_TEXT.get(code, f"refused_{code:02x}")
                return NotStarted(reason, "Wait for the terminal to finish." if code == _BUSY else "")
            case _Lost(reason):
                return Unknown(reason)
        return result

    async def _confirm_number(self, outcome: Approved | Stored, before: str) -> Outcome:
        """Ask again when a receipt number does not follow the one before: it is what a reversal will name."""
        number = outcome.evidence.receipt_number
        if not follows(number, before):
            result = await self._repeat_receipt()
            again = result.status if isinstance(result, Transcript) else None
            if again is None or again.receipt_number != number:
                return Unknown("receipt_number_unconfirmed")
        self._last_receipt = number
        return outcome

    async def enquire(self, request: EnquiryRequest) -> Enquiry:
        """Ask whether the terminal is idle and what its last transaction was."""
        if not self.usable:
            return Inconclusive("terminal_unreachable")
        try:
            status, _ = await self._terminal_status()
        except DeviceError:
            return Inconclusive("no_answer")
        if status in _CARD_IN_PLAY:
            return StillRunning()
        result = await self._repeat_receipt()
        match result:
            case Refusal(code):
                return StillRunning() if code == _BUSY else Inconclusive(RESULT_TEXT.get(code, "refused"), Evidence())
            case _Lost(reason):
                return Inconclusive(reason)
        return judge_enquiry(result, request)

    async def reverse(self, request: ReverseRequest, progress: ProgressSink) -> Outcome:
        """Undo a payment by its receipt number; what the terminal says it undid is compared with what was asked."""
        if not self.usable:
            return NotStarted("terminal_unreachable", "Check the terminal's power and its cable or network.")
        if not (len(request.receipt_number) == 4 and request.receipt_number.isdigit()):
            return NotStarted("receipt_number_unusable", "Reverse it at the terminal or with the acquirer.")
        self._last_receipt = ""
        result = await self._move_money(Reversal(self._options.password, request.receipt_number), progress)
        if not isinstance(result, Transcript):
            return result
        return judge_reversal(result, request)

    async def abort(self) -> bool:
        """Ask the running command to stop; its verdict comes from where it was started."""
        if not self._in_dialogue or self._link is None:
            return False
        return await self._send_abort(self._link)

    async def _send_abort(self, link: ZvtLink) -> bool:
        try:
            async with self._clock.timeout(ABORT_SEND_TIMEOUT_S):
                await link.send(encode_command(Plain(ABORT_COMMAND)))
        except OSError:
            return False
        return True

    async def end_of_day(self) -> TerminalTotals:
        """Close the batch. A lost answer raises `device.no_answer`: look at the terminal's own receipt."""
        self._last_receipt = ""
        result = await self._run(Plain(END_OF_DAY, self._options.password), _ignore, once=True)
        transcript = self._ended(result, "end-of-day")
        if not isinstance(transcript.end, Completion):
            raise _refused("end-of-day", transcript.end)
        if transcript.failure:
            raise _refused("end-of-day", Abort(transcript.failure))
        status = transcript.status or StatusInformation()
        count, minor = status.totals or (None, status.amount_minor)
        currency = self._options.currency if status.currency is None else status.currency
        total = Money(minor, currency) if minor is not None and currency else None
        return TerminalTotals(count, total, lines=tuple(transcript.lines))

    async def send_offline(self) -> FlushResult:
        """06 51. FA means that the upload failed as a whole, never that a payment was declined.

        A failure in the status information counts also when the terminal ends the command as if all was well.
        """
        if not self.usable:
            return FlushResult(complete=False, reason="terminal_unreachable")
        result = await self._run(Plain(SEND_OFFLINE, self._options.password), _ignore, once=True)
        match result:
            case Refusal(code):
                return FlushResult(complete=False, reason=RESULT_TEXT.get(code, f"refused_{code:02x}"))
            case _Lost(reason):
                return FlushResult(complete=False, reason=reason)
        if isinstance(result.end, Completion) and not result.failure:
            return FlushResult(complete=True)
        said = result.end.code if isinstance(result.end, Abort) else result.failure
        return FlushResult(complete=False, reason=RESULT_TEXT.get(said or 0xFF, "refused"))

    async def diagnose(self) -> Diagnosis:
        """06 70: the terminal calls its host."""
        result = await self._run(Plain(DIAGNOSIS), _ignore, once=False)
        transcript = self._ended(result, "diagnosis")
        text = "\n".join(transcript.lines)
        if isinstance(transcript.end, Completion):
            return Diagnosis(host_reachable=True, text=text)
        if transcript.end is not None and transcript.end.code in _HOST_FAULTS:
            return Diagnosis(host_reachable=False, text=text or RESULT_TEXT[transcript.end.code or 0xA3])
        raise _refused("diagnosis", transcript.end)

    async def parameter_session(self) -> Serviced:
        """06 93: the terminal fetches its parameters from its hosts. It does not say from which."""
        return self._serviced(await self._run(Plain(INITIALISATION, self._options.password), _ignore, once=False))

    async def tms_contact(self) -> Serviced:
        """06 70 of the extended type: beside its host the terminal calls its management system."""
        return self._serviced(await self._run(Plain(DIAGNOSIS, form=EXTENDED_DIAGNOSIS), _ignore, once=False))

    async def show(self, lines: tuple[str, ...], seconds: int) -> Serviced:
        """06 E0: show one to eight lines on the terminal; 0 seconds: until its next command. Raises ValueError."""
        return self._serviced(await self._run(DisplayText(lines, seconds), _ignore, once=False))

    async def set_clock(self, now: datetime) -> Serviced:
        """06 91: set the terminal's clock to the shop's local time."""
        command = SetClock(f"{now:%y%m%d}", f"{now:%H%M%S}")
        return self._serviced(await self._run(command, _ignore, once=False))

    def _serviced(self, result: Transcript | Refusal | _Lost) -> Serviced:
        match result:
            case Refusal(code):
                return Serviced(done=False, reason=RESULT_TEXT.get(code, f"refused_{code:02x}"))
            case _Lost(reason):
                return Serviced(done=False, reason=reason)
        text = "\n".join(result.lines)
        if isinstance(result.end, Completion) and not result.failure:
            return Serviced(done=True, text=text)
        said = result.end.code if isinstance(result.end, Abort) else result.failure
        return Serviced(done=False, reason=RESULT_TEXT.get(said or 0xFF, "refused"), text=text)

    def _ended(self, result: Transcript | Refusal | _Lost, what: str) -> Transcript:
        match result:
            case Refusal(code):
                raise _refused(what, Abort(code))
            case _Lost(reason):
                raise _line_error(reason, what)
        return result


def _line_error(reason: str, what: str) -> DeviceError:
    foreign = reason in _FOREIGN
    return DeviceError(
        "device.protocol" if foreign else "device.gone" if reason in ("hung_up", "closed") else "device.no_answer",
        f"The terminal did not answer to the {what} ({reason}).",
        remedy="Correct its address, or switch it to ZVT in its menu."
        if foreign
        else "Check its power and its cable or network; the hub reconnects by itself.",
        retry=Retry.AFTER_ENQUIRY,
        params={"reason": reason},
    )


def _refused(what: str, end: Abort | Completion | None) -> DeviceError:
    code = end.code if isinstance(end, Abort) and end.code is not None else 0xFF
    busy = code == _BUSY
    return DeviceError(
        "device.busy" if busy else "device.refused",
        f"The terminal refused the {what} ({RESULT_TEXT.get(code, f'{code:02X}')}).",
        remedy="Wait for it to finish." if busy else "Read its display; its service desk knows the code.",
        retry=Retry.SAME_REQUEST if busy else Retry.NEVER,
        params={"reason": RESULT_TEXT.get(code, f"{code:02x}")},
    )
