"""Card terminals that speak the Open Payment Initiative's XML (CCV in Belgium and the Netherlands, Thales)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import Struct

from drivers.base import DriverOptions, Identity, Lines, Manifest, Tcp, TerminalDriver
from drivers.link import READ_BYTES_MAX, LineLostError
from drivers.opi_codec import FrameReader, describe_document, frame
from drivers.opi_devices import Heard, TillDevices
from drivers.opi_link import OpiLink
from drivers.opi_messages import (
    ABORT_REQUEST,
    ADMINISTRATION,
    CARD_PAYMENT,
    CARD_REPEAT_LAST_MESSAGE,
    COMMUNICATION_ERROR,
    DIAGNOSIS,
    END_OF_DAY,
    LOGGED_OUT,
    LOGIN,
    ONLINE_AGENT,
    PAYMENT_REVERSAL,
    REPEAT_LAST_MESSAGE,
    SEND_OFFLINE,
    SUCCESS,
    CardServiceRequest,
    CardServiceResponse,
    DeviceRequest,
    Message,
    Request,
    ServiceRequest,
    ServiceResponse,
    encode,
    request_id_of,
    sum_of,
)
from drivers.opi_options import OpiOptions, options_of
from drivers.opi_verdict import NOT_BEGUN, UNCERTAIN, identity_of, judge_enquiry, judge_payment, judge_reversal
from drivers.trace import Describe, by_message
from hubd.errors import DeviceError, Retry
from hubd.model.device import Capability, DeviceKind
from hubd.model.device_options import Option, OptionKind
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    ByteStream,
    Diagnosis,
    Enquiry,
    EnquiryRequest,
    FlushResult,
    Inconclusive,
    NotStarted,
    Outcome,
    Progress,
    ProgressSink,
    ReverseRequest,
    Serviced,
    Stored,
    TerminalTotals,
    Unknown,
)
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="opi",
    name="OPI terminal",
    kind=DeviceKind.TERMINAL,
    matches=(Tcp(4100),),
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
        }
    ),
    stage="experimental",
    docs="OPI XML over TCP port 4100; the terminal connects back to the hub's port 4102 (option `device_port`).",
    driver="OpiTerminal",
    recovers_within_s=240.0,
    options=(
        Option(
            "device_port",
            OptionKind.NUMBER,
            "Port for this terminal",
            "As the terminal's menu shows it (POS device port); each terminal of the hub needs one of its own.",
            default="4102",
            least=1,
            most=65535,
        ),
        Option("workstation_id", OptionKind.TEXT, "Number of the till", "If the terminal's service asks.", default="1"),
        Option("pop_id", OptionKind.TEXT, "Point of payment", "If the terminal's service asks.", default="001"),
        Option(
            "language",
            OptionKind.TEXT,
            "Language of its texts",
            "Two letters; without it the terminal uses its own.",
            pattern="[a-z]{2}",
            form="two small letters",
        ),
    ),
)

QUICK_TIMEOUT_S = 10.0
"""For the answer to a request in which neither a customer nor the host has a part."""
ANSWER_TIMEOUT_S = 180.0
"""Between two messages of a running request, on either channel."""
DIALOGUE_TIMEOUT_S = 900.0
"""No request may hold the terminal longer, however often it reports progress."""
OPEN_TIMEOUT_S, HANG_UP_S = 5.0, 0.3
"""A terminal that closes the line so soon after an answer does that after each."""
ABORT_TIMEOUT_S = 2.0
"""For opening a line and sending an AbortRequest on it."""
ABORT_ANSWER_S = 1.0
EARLIER_REQUESTS = 8
"""Ids of requests that have ended; what the terminal still prints for them belongs to no later payment."""

_FOREIGN = frozenset({"not_opi", "babble", "length_beyond_limit"})
"""Reasons for which a line is lost because something else than an OPI terminal talks there."""
_PORT_TAKEN = "device_port_taken"
Answer = TypeVar("Answer", CardServiceResponse, ServiceResponse)


class _Ended(Struct):
    """A dialogue that has ended with its answer."""

    answer: CardServiceResponse
    lines: tuple[str, ...]
    quiet: bool


class _Lost(Struct, frozen=True):
    """The dialogue did not end: what happened is not known."""

    reason: str


class _NotSent(Struct, frozen=True):
    """There was no line for it: nothing has left."""


def _ignore(_: Progress) -> None:
    """Nobody is looking."""


class OpiTerminal(TerminalDriver):
    """The hub's side of OPI: a CardPayment leaves at most once per payment, and only its answer is a verdict."""

    capabilities = MANIFEST.capabilities

    def __init__(self, runtime: Runtime, options: OpiOptions | DriverOptions | None = None) -> None:
        self._clock = runtime.clock
        self._options = options if isinstance(options, OpiOptions) else options_of(options or {})
        self._devices = TillDevices(self._clock, self._options.till, self._heard_from_terminal)
        self._lines: Lines | None = None
        self._link: OpiLink | None = None
        self._listening = asyncio.Event()
        self._line_changed = asyncio.Event()
        self._idle = asyncio.Event()
        """Set while no dialogue runs: only then is it known whether a lost line had done its work."""
        self._clean = False
        self._answered = False
        """Whether this line has carried an answer."""
        self._hangs_up = False
        """Whether the terminal closes the line after each answer, as many do. Taken for granted until `identify` knows,
        so that a line which ends with the answer to the Login counts as well."""
        self._running = ""
        """RequestID of the dialogue that runs now."""
        self._last = ""
        """Identity of the last transaction, if it is known."""
        self._names_requests: bool | None = None
        """Whether the terminal repeats its last message under that message's own RequestID; None before it has."""
        self._earlier: deque[str] = deque(maxlen=EARLIER_REQUESTS)
        self._requests = 0

    # -- the line ------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line; channel 1 is open while `pump` runs."""
        self._lines = lines
        self._link = OpiLink(stream, self._clock)
        self._listening, self._line_changed, self._idle = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._clean, self._answered, self._hangs_up, self._running = True, False, True, ""
        self._last = ""

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """See `Driver.describers`."""
        return by_message(FrameReader(), describe_document), by_message(FrameReader(), describe_document)

    async def pump(self) -> str:
        """Listen on channel 1 and read channel 0 until the line is lost, and return why."""
        link, lines = self._attached()
        try:
            async with lines.accept(self._options.device_port, self._devices.serve):
                self._listening.set()
                return await self._read_lines()
        except OSError:
            await link.close()
            self._clean = False
            self._listening.set()
            return _PORT_TAKEN

    async def _read_lines(self) -> str:
        """Read one line after the other, where the terminal closes each after its answer."""
        while True:
            link, _ = self._attached()
            reason = await link.pump()
            await self._idle.wait()
            while link is self._link:
                if not self._rests:
                    return reason
                self._line_changed.clear()
                await self._line_changed.wait()

    @property
    def _rests(self) -> bool:
        """Whether there is no line because the terminal has closed it after its answer, and will take the next."""
        return self._clean and self._hangs_up and self._answered

    async def close(self) -> None:
        """Give the line back."""
        if self._link is not None:
            self._clean = False
            self._line_changed.set()
            await self._link.close()

    @property
    def usable(self) -> bool:
        """Whether the line is there, or rests, and every dialogue on it has ended as it should."""
        return self._clean and self._link is not None and (not self._link.lost or self._rests)

    def _attached(self) -> tuple[OpiLink, Lines]:
        """The line, also when it is lost: a dialogue on it then ends as `_Lost`, and money may have moved before."""
        if self._link is None or self._lines is None:
            raise _line_error("hung_up", "connection")
        return self._link, self._lines

    async def _line(self) -> OpiLink | None:
        """The line for the next dialogue; another one where the terminal closes each. None when it cannot be had."""
        link, lines = self._attached()
        if not (self._hangs_up and self._answered):
            return link
        try:
            async with self._clock.timeout(OPEN_TIMEOUT_S):
                stream = await lines.another()
        except OSError:
            self._clean = False
            self._line_changed.set()
            return None
        self._link, self._answered = OpiLink(stream, self._clock), False
        self._line_changed.set()
        await link.close()
        return self._link

    # -- dialogues -----------------------------------------------------------------------------------------------------

    def _heard_from_terminal(self, request: DeviceRequest) -> None:
        """Channel 1 has a request: it belongs to the running dialogue, unless it names one that has ended."""
        if self._running and self._link is not None and request.request_id not in self._earlier:
            self._link.put(request)

    async def _run(
        self, request: Request, wanted: Callable[[Message], Answer | None], heard: Heard, timeout_s: float
    ) -> Answer | _Lost | _NotSent:
        """One request from its first byte to its answer; it is written once."""
        link = await self._line()
        if link is None:
            return _NotSent()
        link.discard_received()
        self._clean, self._running = False, request.request_id
        self._idle.clear()
        try:
            async with self._clock.timeout(DIALOGUE_TIMEOUT_S):
                await link.send(encode(request))
                heard.begun()
                answer = await self._follow(link, wanted, heard, timeout_s)
            # A terminal that has logged the hub out is logged in to again, on a new line.
            self._clean, self._answered = answer.overall_result.casefold() != LOGGED_OUT.casefold(), True
            return answer
        except LineLostError as error:
            return _Lost(error.reason)
        except OSError:  # TimeoutError is one
            return _Lost("no_answer")
        finally:
            self._earlier.append(request.request_id)
            self._running = ""
            self._idle.set()

    async def _follow(
        self, link: OpiLink, wanted: Callable[[Message], Answer | None], heard: Heard, timeout_s: float
    ) -> Answer:
        """Wait for the answer. Answers to anything else mean nothing here: they are late, or doubled by the line."""
        while True:
            message = await link.receive(timeout_s)
            if isinstance(message, DeviceRequest):
                heard.note(message)
                continue
            answer = wanted(message)
            if answer is not None:
                return answer

    def _service(self, kind: str) -> ServiceRequest:
        return ServiceRequest(kind, self._next_id(), self._options.till, self._timestamp())

    def _next_id(self) -> str:
        """An id of fewer digits than a payment's (`request_id_of`)."""
        self._requests += 1
        return str(self._requests)

    def _timestamp(self) -> str:
        return datetime.fromtimestamp(self._clock.now_us() // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")

    async def _serve(self, kind: str, timeout_s: float = ANSWER_TIMEOUT_S) -> tuple[ServiceResponse, tuple[str, ...]]:
        """Run a service; return its answer, whatever it is, and what was printed. Raises DeviceError without one."""
        request, heard = self._service(kind), Heard(_ignore)

        def wanted(message: Message) -> ServiceResponse | None:
            ours = isinstance(message, ServiceResponse) and message.request_id == request.request_id
            return message if ours and isinstance(message, ServiceResponse) else None

        result = await self._run(request, wanted, heard, timeout_s)
        match result:
            case _Lost(reason):
                raise _line_error(reason, kind)
            case _NotSent():
                raise _line_error("hung_up", kind)
        return result, tuple(heard.lines)

    # -- Terminal ------------------------------------------------------------------------------------------------------

    async def identify(self) -> Identity:
        """Listen on channel 1, log in, and learn whether the terminal closes the line after each answer."""
        await self._listening.wait()
        link, _ = self._attached()
        if not self._clean:
            raise _port_taken(self._options.device_port)
        answer, _ = await self._serve(LOGIN, QUICK_TIMEOUT_S)
        if answer.overall_result != SUCCESS:
            raise _refused("login", answer)
        self._hangs_up = await link.ends_within(HANG_UP_S)
        return Identity(answer.terminal_id)

    async def check(self) -> Identity:
        """Ask for the last service's answer again: that is a sign of life and moves nothing."""
        result = await self._run(
            self._service(REPEAT_LAST_MESSAGE),
            lambda message: message if isinstance(message, ServiceResponse) else None,
            Heard(_ignore),
            QUICK_TIMEOUT_S,
        )
        if not isinstance(result, ServiceResponse):
            raise _line_error(result.reason if isinstance(result, _Lost) else "hung_up", "sign of life")
        if not self._clean:
            raise _refused("sign of life", result)
        return Identity()

    async def baseline(self) -> str:
        """`identity_of` the terminal's last transaction; "" when it does not tell."""
        if self._last or not self.usable:
            return self._last
        result = await self._repeat()
        self._last = "" if isinstance(result, (_Lost, _NotSent)) else identity_of(*result)
        return self._last

    async def _repeat(self) -> tuple[CardServiceResponse, str] | _Lost | _NotSent:
        """Ask for the last card message again. Returns it and the id of the request that asked."""
        own = self._next_id()
        result = await self._run(
            CardServiceRequest(CARD_REPEAT_LAST_MESSAGE, own, self._options.till, self._timestamp()),
            lambda message: message if isinstance(message, CardServiceResponse) else None,
            Heard(_ignore),
            QUICK_TIMEOUT_S,
        )
        if isinstance(result, (_Lost, _NotSent)):
            return result
        self._names_requests = result.request_id != own
        return result, own

    async def authorize(self, request: AuthorizeRequest, progress: ProgressSink) -> Outcome:
        """Take a payment. OPI cannot forbid an offline approval for one payment: the verdict then says `Stored`."""
        if not self.usable:
            return _unreachable()
        if request.amount.amount_minor <= 0:
            return NotStarted("amount_refused", "The amount must be above zero.")
        command = CardServiceRequest(
            CARD_PAYMENT,
            request_id_of(CARD_PAYMENT, request.reference),
            self._options.till,
            self._timestamp(),
            request.amount,
        )
        before, self._last = self._last, ""
        result = await self._move_money(command, progress)
        if not isinstance(result, _Ended):
            return result
        outcome = judge_payment(result.answer, result.lines, request, before, quiet=result.quiet)
        if isinstance(outcome, (Approved, Stored)) and self._names_requests is not None:
            self._last = identity_of(result.answer, "" if self._names_requests else result.answer.request_id)
        return outcome

    async def _move_money(self, command: CardServiceRequest, progress: ProgressSink) -> _Ended | NotStarted | Unknown:
        """Send a command that moves money, once. Cancellation asks the terminal to stop and is passed on."""
        heard = Heard(progress)

        def wanted(message: Message) -> CardServiceResponse | None:
            if not isinstance(message, CardServiceResponse):
                return None
            ours = (message.request_id, message.request_type) == (command.request_id, command.request_type)
            return message if ours else None

        try:
            result = await self._run(command, wanted, heard, ANSWER_TIMEOUT_S)
        except BaseException:  # cancellation, or a caller's sink that fails: the customer must not be left to pay
            self._clean = False
            await self._send_abort()
            raise
        match result:
            case _NotSent():
                return _unreachable()
            case _Lost(reason):
                return Unknown(reason)
        return _Ended(result, tuple(heard.lines), heard.quiet)

    async def enquire(self, request: EnquiryRequest) -> Enquiry:
        """Ask for the last card message again and compare RequestID, STAN and amount."""
        if not self.usable:
            return Inconclusive("terminal_unreachable")
        match await self._repeat():
            case _Lost(reason):
                return Inconclusive(reason)
            case _NotSent():
                return Inconclusive("terminal_unreachable")
            case (answer, own):
                return judge_enquiry(answer, own, request)

    async def reverse(self, request: ReverseRequest, progress: ProgressSink) -> Outcome:
        """Undo a payment by its STAN; what the terminal says it undid is compared with what was asked."""
        if not self.usable:
            return _unreachable()
        if not (request.trace_number.isascii() and request.trace_number.isdigit()):
            return NotStarted("trace_number_missing", "Reverse it at the terminal or with the acquirer.")
        command = CardServiceRequest(
            PAYMENT_REVERSAL,
            request_id_of(PAYMENT_REVERSAL, request.reference),
            self._options.till,
            self._timestamp(),
            original_stan=request.trace_number,
        )
        self._last = ""
        result = await self._move_money(command, progress)
        if not isinstance(result, _Ended):
            return result
        return judge_reversal(result.answer, result.lines, request, quiet=result.quiet)

    async def abort(self) -> bool:
        """Ask the running request to stop; its verdict comes from where it was started."""
        return await self._send_abort() if self._running else False

    async def _send_abort(self) -> bool:
        """On a line of its own, because channel 0 waits for its answer; on that one where there is no other."""
        link, lines = self._attached()
        request = CardServiceRequest(ABORT_REQUEST, self._next_id(), self._options.till, self._timestamp())
        stream: ByteStream | None = None
        try:
            async with self._clock.timeout(ABORT_TIMEOUT_S):
                stream = await lines.another()
                await stream.write(frame(encode(request)))
        except OSError:
            return await self._abort_beside(link, request) if stream is None else False
        else:
            await self._read_briefly(stream)
            return True
        finally:
            if stream is not None:
                await stream.close()

    async def _abort_beside(self, link: OpiLink, request: CardServiceRequest) -> bool:
        try:
            async with self._clock.timeout(ABORT_TIMEOUT_S):
                await link.send(encode(request))
        except OSError:
            return False
        return True

    async def _read_briefly(self, stream: ByteStream) -> None:
        """Wait for the answer to an AbortRequest, whatever it is: closing the line takes back what has not arrived."""
        with contextlib.suppress(OSError):
            async with self._clock.timeout(ABORT_ANSWER_S):
                await stream.read(READ_BYTES_MAX)

    async def end_of_day(self) -> TerminalTotals:
        """Close the batch. A lost answer raises `device.no_answer`: look at the terminal's own receipt."""
        answer, lines = await self._serve(END_OF_DAY)
        if answer.overall_result != SUCCESS:
            raise _refused("end-of-day", answer)
        count, total = (None, None) if answer.totals is None else sum_of(answer.totals)
        return TerminalTotals(count, total, lines=lines)

    async def send_offline(self) -> FlushResult:
        """SendOfflineTransactions. A failure is one of the upload as a whole, never that a payment was declined."""
        if not self.usable:
            return FlushResult(complete=False, reason="terminal_unreachable")
        try:
            answer, _ = await self._serve(SEND_OFFLINE)
        except DeviceError as error:
            return FlushResult(complete=False, reason=str(error.params.get("reason", error.code)))
        if answer.overall_result == SUCCESS:
            return FlushResult(complete=True)
        return FlushResult(complete=False, reason=NOT_BEGUN.get(answer.overall_result.casefold(), "clearing_failed"))

    async def diagnose(self) -> Diagnosis:
        """Diagnosis: the terminal calls its host."""
        answer, lines = await self._serve(DIAGNOSIS)
        text = "\n".join(lines) or answer.error_text
        if answer.overall_result == SUCCESS:
            return Diagnosis(host_reachable=True, text=text)
        if answer.overall_result == COMMUNICATION_ERROR:
            return Diagnosis(host_reachable=False, text=text or UNCERTAIN["communicationerror"])
        raise _refused("diagnosis", answer)

    async def parameter_session(self) -> Serviced:
        """Administration: the terminal fetches what its acquirers have set. It does not say from which."""
        return await self._call_home(ADMINISTRATION)

    async def tms_contact(self) -> Serviced:
        """OnlineAgent: the terminal calls its management system."""
        return await self._call_home(ONLINE_AGENT)

    async def _call_home(self, kind: str) -> Serviced:
        try:
            answer, lines = await self._serve(kind)
        except DeviceError as error:
            return Serviced(done=False, reason=str(error.params.get("reason", error.code)))
        text = "\n".join(lines) or answer.error_text
        if answer.overall_result == SUCCESS:
            return Serviced(done=True, text=text)
        said = answer.overall_result.casefold()
        return Serviced(done=False, reason=NOT_BEGUN.get(said) or UNCERTAIN.get(said) or "refused", text=text)


def _unreachable() -> NotStarted:
    return NotStarted("terminal_unreachable", "Check the terminal's power and its cable or network.")


def _port_taken(port: int) -> DeviceError:
    return DeviceError(
        "device.port_taken",
        f"The hub cannot listen on port {port} for what this terminal prints and shows.",
        remedy="Give each OPI terminal a device_port of its own (terminals.options) and set the same in its menu.",
        params={"reason": _PORT_TAKEN},
    )


def _line_error(reason: str, what: str) -> DeviceError:
    foreign = reason in _FOREIGN
    return DeviceError(
        "device.protocol" if foreign else "device.gone" if reason in ("hung_up", "closed") else "device.no_answer",
        f"The terminal did not answer to the {what} ({reason}).",
        remedy="Correct its address, or switch it to OPI in its menu."
        if foreign
        else "Check its power and its cable or network; the hub reconnects by itself.",
        retry=Retry.AFTER_ENQUIRY,
        params={"reason": reason},
    )


def _refused(what: str, answer: ServiceResponse) -> DeviceError:
    reason = NOT_BEGUN.get(answer.overall_result.casefold(), f"{what.replace('-', '_').replace(' ', '_')}_refused")
    busy = reason == NOT_BEGUN["busy"]
    return DeviceError(
        "device.busy" if busy else "device.refused",
        f"The terminal refused the {what} ({reason}).",
        remedy="Wait for it to finish." if busy else "Read its display; its service desk knows the code.",
        retry=Retry.SAME_REQUEST if busy else Retry.NEVER,
        params={"reason": reason},
    )
