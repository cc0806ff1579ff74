"""Adyen terminals in the shop's own network: nexo Retailer 3.0 (Terminal API with local communications)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import Raw

from drivers.appetite import PAGES
from drivers.base import CURRENCY, PASSWORD, DriverOptions, Identity, Lines, Manifest, TerminalDriver, Tls
from drivers.http_line import HttpAnswer, HttpDevice, HttpReader, HttpSeen, LineLostError
from drivers.nexo_codec import (
    REQUEST,
    RESPONSE,
    Header,
    NexoMessageError,
    answers,
    decode_message,
    describe_message,
    encode_message,
    request_header,
    service_id_from,
    service_id_of,
)
from drivers.nexo_crypto import NONCE_BYTES, NexoKey
from drivers.nexo_messages import (
    ABORT,
    DIAGNOSIS,
    LOGIN,
    PAYMENT,
    RECONCILIATION,
    REVERSAL,
    SUCCESS,
    TRANSACTION_STATUS,
    Body,
    DiagnosisReply,
    Reply,
    TransactionId,
    abort_request,
    decode_diagnosis,
    decode_login,
    decode_payment,
    decode_reversal,
    decode_status,
    decode_totals,
    diagnosis_request,
    login_request,
    payment_request,
    reconciliation_request,
    reversal_request,
    status_request,
)
from drivers.nexo_verdict import (
    Answered,
    NotFound,
    as_enquiry,
    baseline_of,
    judge_payment,
    judge_reversal,
    judge_status,
    not_found_doubt,
    reason_of,
    reference_to,
    refused_again,
    sent_to_host,
    transaction_of,
)
from drivers.trace import Describe, by_message
from hubd.errors import DeviceError, HubError, Retry
from hubd.model.device import Capability, DeviceKind
from hubd.model.device_options import Option, OptionKind
from hubd.model.money import Money
from hubd.ports import (
    AuthorizeRequest,
    ByteStream,
    Cancelled,
    Declined,
    Diagnosis,
    Enquiry,
    EnquiryRequest,
    Evidence,
    FlushResult,
    Inconclusive,
    NotStarted,
    NotTaken,
    Outcome,
    Progress,
    ProgressSink,
    ReverseRequest,
    StillRunning,
    TerminalTotals,
    Unknown,
)
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="nexo",
    name="Adyen terminal",
    kind=DeviceKind.TERMINAL,
    matches=(Tls(8443),),
    capabilities=frozenset(
        {
            Capability.PAY,
            Capability.REVERSE,
            Capability.QUERY_LAST,
            Capability.END_OF_DAY,
            Capability.DIAGNOSE,
            Capability.ABORT,
            Capability.TELLS_SOFTWARE,
        }
    ),
    stage="experimental",
    docs="Terminal API (nexo Retailer 3.0) with local communications: `tls://host:8443?roots=FILE&poiid=MODEL-SERIAL`; "
    "the options `poiid` and `key_identifier`, the password is the shared key's passphrase. Forwards by itself.",
    driver="NexoTerminal",
    recovers_within_s=60.0,
    options=(
        Option(
            "poiid",
            OptionKind.TEXT,
            "POIID",
            "Model and serial number, as the back of the terminal shows them.",
            pattern="[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}",
            form="model and serial number with a dash, V400m-324688179",
        ),
        Option("key_identifier", OptionKind.TEXT, "Name of the shared key", "As it is set in the Customer Area."),
        Option(
            "key_version",
            OptionKind.TEXT,
            "Version of the shared key",
            "As it is set in the Customer Area.",
            default="1",
            pattern="[0-9]{1,9}",
            form="a number",
        ),
        Option(
            "password",
            OptionKind.SECRET,
            "Passphrase of the shared key",
            "As it is set in the Customer Area.",
            pattern="[ -~]+",
            form="plain letters, digits and signs",
        ),
    ),
)

SALE_ID = "hubd"
"""The hub as the terminal knows it. Fixed, because an enquiry names it: with another one nothing would be found."""
PATH = "/nexo"
PAYMENT_TIMEOUT_S = 125.0
"""The terminal gives a payment 120 s; after that its status is asked for."""
REVERSAL_TIMEOUT_S = 125.0
ANSWER_TIMEOUT_S = 10.0
HOST_TIMEOUT_S = 60.0
"""For what the terminal asks its host before it answers."""
ABORT_TIMEOUT_S = 3.0
REFUSAL_ECHO_S = 0.3
"""After a refusal the line is left alone this long, so that an answer given twice is not taken for the next one's."""
NOT_FOUND_AGAIN_S = 2.0
"""A request may still be on its way inside the terminal when it is asked about; so it is asked twice."""
REVERSAL_ATTEMPTS_MAX = 8
"""Per payment and receipt, in the 48 hours for which the terminal remembers them."""

_CHECK_POWER = "Check the terminal's power and its network."
_KEY_REMEDY = "Compare key identifier, version and passphrase with the terminal's settings at Adyen."
_POIID = re.compile(r"[A-Za-z0-9]{1,20}-[A-Za-z0-9]{1,20}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NexoOptions:
    """What differs between installations."""

    poiid: str
    key: NexoKey
    currency: str = "EUR"


@dataclass(slots=True)
class _Pending:
    """The message that moves money and is without its answer."""

    header: Header
    sent: bool = field(default=False)


def _options_of(configured: DriverOptions) -> NexoOptions:
    """Raises DeviceError `device.option_missing`, shown where the terminal is listed."""
    poiid, identifier = configured.get("poiid", ""), configured.get("key_identifier", "")
    passphrase, version = configured.get(PASSWORD, ""), configured.get("key_version", "1")
    shared = identifier and passphrase and passphrase.isascii() and re.fullmatch(r"[0-9]{1,9}", version)
    usable = _POIID.fullmatch(poiid) and shared
    if not usable:
        raise DeviceError(
            "device.option_missing",
            "An Adyen terminal needs its POIID (model and serial number) and its shared key, with an ASCII passphrase.",
            remedy="Set poiid (such as V400m-324688179), key_identifier, key_version and as password the key's "
            "passphrase, on the page of this device.",
        )
    key = NexoKey(identifier, passphrase, int(version))
    return NexoOptions(poiid, key, configured.get(CURRENCY, "EUR"))


class NexoTerminal(TerminalDriver):
    """The hub's side: a payment request leaves at most once, under a number that an enquiry can name after a restart.

    A terminal may end its connection after any answer; the next request then opens another.
    """

    capabilities = MANIFEST.capabilities
    appetite = PAGES

    def __init__(self, runtime: Runtime, options: NexoOptions | DriverOptions | None = None) -> None:
        self._clock, self._ids = runtime.clock, runtime.ids
        self._options = options if isinstance(options, NexoOptions) else _options_of(options or {})
        self._http = HttpDevice(self._clock)
        self._clean = False
        self._pending: _Pending | None = None

    # -- the line ------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line."""
        self._http.attach(stream, url, lines)
        self._clean, self._pending = True, None

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """See `Driver.describers`."""
        return by_message(HttpReader(answers=False), _describe), by_message(HttpReader(answers=True), _describe)

    async def pump(self) -> str:
        """Read until the line is lost, and return why. Where the terminal ended it in peace, the next one is read."""
        return await self._http.pump()

    async def close(self) -> None:
        """Give the line back."""
        await self._http.close()

    @property
    def usable(self) -> bool:
        """Whether every dialogue has ended as it should, and the line is there or may be opened anew."""
        return self._clean and self._http.there

    # -- messages ------------------------------------------------------------------------------------------------------

    def _header(self, category: str, service_id: str = "") -> Header:
        fresh = service_id or service_id_from(self._ids.token_bytes(16))
        return request_header(category, fresh, SALE_ID, self._options.poiid)

    def _encoded(self, header: Header, body: Body) -> bytes:
        return encode_message(REQUEST, header, body, self._options.key, self._ids.token_bytes(NONCE_BYTES))

    def _content(self, answer: HttpAnswer, asked: Header) -> Raw:
        """What an answer holds. Raises `NexoMessageError` when it is not the terminal's answer to this request."""
        if answer.status != 200:
            raise NexoMessageError(f"http_{answer.status}")
        header, content = decode_message(RESPONSE, answer.body, self._options.key)
        if not answers(header, asked):
            raise NexoMessageError("other_message")
        return content

    async def _ask(self, header: Header, body: Body, decode: Callable[[Raw], T], timeout_s: float) -> T:
        """A request that moves no money. Raises `LineLostError`, TimeoutError, `NexoMessageError`."""
        line = await self._http.ready_line()
        self._clean = False
        answer = await line.post(self._http.host, PATH, self._encoded(header, body), timeout_s)
        content = decode(self._content(answer, header))
        self._clean = True
        return content

    async def _ask_or_raise(self, category: str, body: Body, decode: Callable[[Raw], T], timeout_s: float) -> T:
        try:
            return await self._ask(self._header(category), body, decode, timeout_s)
        except NexoMessageError as error:
            raise _not_understood(error.reason, category) from None
        except LineLostError as error:
            raise _line_error(error.reason, category) from None
        except OSError:  # TimeoutError is one
            raise _line_error("no_answer", category) from None

    async def _move_money(
        self, header: Header, body: Body, timeout_s: float, progress: ProgressSink
    ) -> Raw | Unknown | NotStarted:
        """Send a request that moves money, once. Cancellation asks the terminal to stop and is passed on."""
        try:
            line = await self._http.ready_line()
        except LineLostError:
            return NotStarted("terminal_unreachable", _CHECK_POWER)
        data = self._encoded(header, body)
        self._clean = False
        self._pending = pending = _Pending(header)

        def sent() -> None:
            pending.sent = True
            progress(Progress("started"))

        try:
            answer = await line.post(self._http.host, PATH, data, timeout_s, sent)
            content = self._content(answer, header)
        except LineLostError as error:
            return Unknown(error.reason)
        except NexoMessageError as error:
            return Unknown(error.reason)
        except OSError:  # TimeoutError is one
            return Unknown("no_answer")
        except BaseException:  # cancellation, or a caller's sink that fails: the customer must not be left to pay
            await self._send_abort(pending)
            raise
        finally:
            self._pending = None
        self._clean = True
        return content

    # -- Terminal ------------------------------------------------------------------------------------------------------

    async def identify(self) -> Identity:
        """A diagnosis: whoever answers it knows the shared key and is the terminal with this POIID."""
        return self._identity(await self._diagnosis(with_host=False, timeout_s=ANSWER_TIMEOUT_S))

    async def check(self) -> Identity:
        """The same, as a sign of life."""
        return await self.identify()

    async def _diagnosis(self, *, with_host: bool, timeout_s: float) -> DiagnosisReply:
        return await self._ask_or_raise(DIAGNOSIS, diagnosis_request(with_host=with_host), decode_diagnosis, timeout_s)

    def _identity(self, reply: DiagnosisReply) -> Identity:
        if reply.reply.condition in ("Busy", "InProgress"):
            return Identity(self._options.poiid)  # taking a payment for somebody, perhaps for us before a restart
        if reply.reply.result != SUCCESS:
            raise _refused("diagnosis", reply.reply)
        problem = "terminal_maintenance" if reply.global_status == "Maintenance" else ""
        return Identity(self._options.poiid, problem, software=reply.firmware)

    async def baseline(self) -> str:
        """At which terminal and when: what an enquiry needs to know when the terminal finds nothing."""
        return baseline_of(self._options.poiid, self._now())

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_us() / 1_000_000, UTC)

    def _stamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%S.000Z")

    async def authorize(self, request: AuthorizeRequest, progress: ProgressSink) -> Outcome:
        """Take a payment. Adyen cannot forbid an offline approval for one payment: the verdict then says `Stored`."""
        if not self.usable:
            return NotStarted("terminal_unreachable", _CHECK_POWER)
        if request.amount.amount_minor <= 0:
            return NotStarted("amount_refused", "The amount must be above zero.")
        header = self._header(PAYMENT, service_id_of(PAYMENT, request.reference))
        body = payment_request(request.reference, request.amount, self._stamp())
        content = await self._move_money(header, body, PAYMENT_TIMEOUT_S, progress)
        if not isinstance(content, Raw):
            return content
        try:
            outcome = judge_payment(decode_payment(content), request.reference, request.amount)
        except NexoMessageError as error:
            return Unknown(error.reason)
        return await self._after_refusal(outcome)

    async def _after_refusal(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, NotStarted):
            await self._clock.sleep(REFUSAL_ECHO_S)
        return outcome

    async def enquire(self, request: EnquiryRequest) -> Enquiry:
        """Ask by the number under which the payment, or with `wanted` its reversal, was sent."""
        if not self.usable:
            return Inconclusive("terminal_unreachable")
        try:
            if request.wanted:
                return await self._enquire_reversal(request)
            header = self._header(PAYMENT, service_id_of(PAYMENT, request.reference))
            said = await self._status_of(header, request.reference, request.amount, None)
            if isinstance(said, NotFound):
                said = await self._again(header, request.reference, request.amount, None)
        except NexoMessageError as error:
            return Inconclusive(error.reason)
        except LineLostError as error:
            return Inconclusive(error.reason)
        except OSError:  # TimeoutError is one
            return Inconclusive("no_answer")
        return self._not_taken(request) if isinstance(said, NotFound) else as_enquiry(said)

    async def _status_of(
        self, asked: Header, reference: str, amount: Money, original: TransactionId | None
    ) -> Answered | NotFound | StillRunning | Inconclusive:
        body = status_request(reference_to(asked))
        reply = await self._ask(self._header(TRANSACTION_STATUS), body, decode_status, ANSWER_TIMEOUT_S)
        return judge_status(reply, asked, reference, amount, original)

    async def _again(
        self, asked: Header, reference: str, amount: Money, original: TransactionId | None
    ) -> Answered | NotFound | StillRunning | Inconclusive:
        """Ask once more after a pause; the line on which the message was sent has been closed before."""
        await self._clock.sleep(NOT_FOUND_AGAIN_S)
        return await self._status_of(asked, reference, amount, original)

    def _not_taken(self, request: EnquiryRequest) -> Enquiry:
        doubt = not_found_doubt(request.baseline, request.wanted, self._options.poiid, self._now())
        return Inconclusive(doubt, Evidence()) if doubt else NotTaken(Evidence())

    # -- reversals -----------------------------------------------------------------------------------------------------

    def _attempt(self, reference: str, receipt_number: str, attempt: int) -> Header:
        return self._header(REVERSAL, service_id_of(REVERSAL, f"{reference}\n{receipt_number}", attempt))

    async def _attempts(
        self, reference: str, amount: Money, receipt_number: str
    ) -> tuple[int, Answered | StillRunning | Inconclusive | None]:
        """How many reversals of this payment the terminal knows of, and what it says of the last; moves no money.

        Each attempt has a number of its own, so that neither the terminal takes the second for the first, nor an
        enquiry the answer to the first for that to the second.
        """
        original = transaction_of(receipt_number)
        last: Answered | StillRunning | Inconclusive | None = None
        for attempt in range(REVERSAL_ATTEMPTS_MAX):
            said = await self._status_of(self._attempt(reference, receipt_number, attempt), reference, amount, original)
            if isinstance(said, NotFound):
                return attempt, last
            last = said
            if not (isinstance(said, Answered) and isinstance(said.outcome, (Declined, Cancelled, NotStarted))):
                return attempt + 1, last
        return REVERSAL_ATTEMPTS_MAX, last

    async def _enquire_reversal(self, request: EnquiryRequest) -> Enquiry:
        if transaction_of(request.wanted) is None:
            return Inconclusive("receipt_number_unusable", Evidence())
        known, said = await self._attempts(request.reference, request.amount, request.wanted)
        if said is None or isinstance(said, Answered):
            await self._clock.sleep(NOT_FOUND_AGAIN_S)
            again, said = await self._attempts(request.reference, request.amount, request.wanted)
            if again < known:
                return Inconclusive("contradiction", Evidence())
        return self._not_taken(request) if said is None else as_enquiry(said)

    async def reverse(self, request: ReverseRequest, progress: ProgressSink) -> Outcome:
        """Undo a payment by its POITransactionID. `Approved` means that Adyen has taken the request.

        One that the terminal has only stored cannot be undone here: nobody has given its host's part yet.
        """
        original = transaction_of(request.receipt_number)
        if original is None or not sent_to_host(original):
            return NotStarted("receipt_number_unusable", "Refund it in Adyen's Customer Area.")
        if not self.usable:
            return NotStarted("terminal_unreachable", _CHECK_POWER)
        try:
            attempt, before = await self._attempts(request.reference, request.amount, request.receipt_number)
        except (OSError, NexoMessageError):
            return NotStarted("terminal_unreachable", _CHECK_POWER)
        refused = refused_again(attempt >= REVERSAL_ATTEMPTS_MAX, before)
        if refused is not None:
            return refused
        header = self._attempt(request.reference, request.receipt_number, attempt)
        body = reversal_request(request.reference, original, request.amount, self._stamp())
        content = await self._move_money(header, body, REVERSAL_TIMEOUT_S, progress)
        if not isinstance(content, Raw):
            return content
        try:
            outcome = judge_reversal(decode_reversal(content), original, request.amount)
        except NexoMessageError as error:
            return Unknown(error.reason)
        return await self._after_refusal(outcome)

    # -- the rest ------------------------------------------------------------------------------------------------------

    async def abort(self) -> bool:
        """Ask for the end of the message that is pending, on a line of its own; the verdict comes where it began."""
        pending = self._pending
        return pending is not None and pending.sent and await self._send_abort(pending)

    async def _send_abort(self, pending: _Pending) -> bool:
        sent = asyncio.Event()
        header = self._header(ABORT)
        data = self._encoded(header, abort_request(reference_to(pending.header)))
        try:
            async with self._clock.timeout(ABORT_TIMEOUT_S):
                await self._http.post_apart(PATH, data, ABORT_TIMEOUT_S, sent.set)
        except (OSError, HubError):
            pass  # no answer; what matters is whether it left
        return sent.is_set()

    async def end_of_day(self) -> TerminalTotals:
        """Log in, as the protocol wants before totals, and end the period. A lost answer raises `device.no_answer`."""
        login = await self._ask_or_raise(LOGIN, login_request(self._stamp()), decode_login, HOST_TIMEOUT_S)
        if login.result != SUCCESS:
            raise _refused("login", login)
        said = await self._ask_or_raise(RECONCILIATION, reconciliation_request(), decode_totals, HOST_TIMEOUT_S)
        if said.reply.result != SUCCESS:
            raise _refused("end-of-day", said.reply)
        lines = (f"POIReconciliationID {said.period}",) if said.period else ()
        return TerminalTotals(said.count, said.total, lines=lines)

    async def send_offline(self) -> FlushResult:
        """There is no command for it: the terminal sends what it holds by itself, and tells how much is left."""
        try:
            reply = await self._diagnosis(with_host=True, timeout_s=HOST_TIMEOUT_S)
        except DeviceError as error:
            return FlushResult(complete=False, reason=error.code)
        held = reply.unconfirmed_count
        if reply.reply.result != SUCCESS:
            return FlushResult(complete=False, reason=reason_of(reply.reply))
        if held is None:
            return FlushResult(complete=False, reason="not_supported")
        return FlushResult(complete=held == 0, remaining=held, reason="" if held == 0 else "left_to_the_terminal")

    async def diagnose(self) -> Diagnosis:
        """Let the terminal test its line to its host."""
        reply = await self._diagnosis(with_host=True, timeout_s=HOST_TIMEOUT_S)
        if reply.reply.result != SUCCESS:
            raise _refused("diagnosis", reply.reply)
        text = [f"status {reply.global_status}"] if reply.global_status else []
        if reply.unconfirmed_count is not None:
            text.append(f"unconfirmed {reply.unconfirmed_count}")
        if reply.firmware:
            text.append(f"firmware {reply.firmware}")
        return Diagnosis(host_reachable=reply.host_reachable, text=", ".join(text))


def _not_understood(reason: str, what: str) -> DeviceError:
    key = reason in ("other_key", "not_authentic", "malformed", "header_mismatch")
    return DeviceError(
        "device.protocol",
        f"The answer to the {what} is not that of this terminal ({reason}).",
        remedy=_KEY_REMEDY if key else "Correct the terminal's address and POIID.",
        params={"reason": reason},
    )


def _line_error(reason: str, what: str) -> DeviceError:
    foreign = reason in ("not_http", "unasked", "answer_too_long")
    return DeviceError(
        "device.protocol" if foreign else "device.gone" if reason in ("hung_up", "closed") else "device.no_answer",
        f"The terminal did not answer to the {what} ({reason}).",
        remedy="Another kind of device answers at this address. Correct it." if foreign else _CHECK_POWER,
        retry=Retry.AFTER_ENQUIRY,
        params={"reason": reason},
    )


def _refused(what: str, reply: Reply) -> DeviceError:
    busy = reply.condition == "Busy"
    return DeviceError(
        "device.busy" if busy else "device.refused",
        f"The terminal refused the {what} ({reason_of(reply)}).",
        remedy="Wait for it to finish." if busy else "Read its display; Adyen's support knows the condition.",
        retry=Retry.SAME_REQUEST if busy else Retry.NEVER,
        params={"reason": reason_of(reply)},
    )


def _describe(seen: HttpSeen) -> str:
    return describe_message(seen.what, seen.body)
