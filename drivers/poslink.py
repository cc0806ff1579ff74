"""Card terminals that speak POSLink (PAX, semi-integrated; US acquirers), over TCP or HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from drivers.base import CURRENCY, DriverOptions, Identity, Lines, Manifest, Tcp, TerminalDriver
from drivers.poslink_codec import Dialect, describe_event, readers
from drivers.poslink_exchange import Exchanges, Lost
from drivers.poslink_messages import (
    BATCH_CLOSE,
    COMM_ERROR,
    HISTORY_REPORT,
    HOST_REPORT,
    INITIALIZE,
    INVALID_HOST_ANSWER,
    OK,
    OUT_OF_BALANCE,
    RECEIVE_ERROR,
    SAF_ALL,
    SAF_NEW,
    SAF_REPORT,
    SAF_UPLOAD,
    SALE,
    SEND_ERROR,
    Answer,
    Request,
    Transaction,
    batch_mark,
    decode_batch_close,
    decode_record,
    decode_saf_upload,
    decode_serial_number,
    decode_software,
    decode_transaction,
    detail,
    digest_of,
    payment_reference,
    sale,
    void,
)
from drivers.poslink_verdict import (
    EMPTY_BATCH,
    UNSUPPORTED_MARK,
    Baseline,
    changed_since,
    decode_baseline,
    judge_payment,
    judge_record,
    judge_reversal,
    refused_enquiry,
    stamp_of,
)
from drivers.trace import Describe, by_message
from hubd.errors import DeviceError, InvalidValueError, Retry
from hubd.model.device import Capability, DeviceKind
from hubd.model.device_options import Option, OptionKind
from hubd.model.money import Money, exponent_of
from hubd.ports import (
    Approved,
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
    ProgressSink,
    ReverseRequest,
    StillRunning,
    TerminalTotals,
    Unknown,
)
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="poslink",
    name="PAX POSLink terminal",
    kind=DeviceKind.TERMINAL,
    matches=(Tcp(10009),),
    capabilities=frozenset(
        {
            Capability.PAY,
            Capability.REVERSE,
            Capability.QUERY_LAST,
            Capability.END_OF_DAY,
            Capability.SEND_OFFLINE,
            Capability.DIAGNOSE,
            Capability.ABORT,
            Capability.TELLS_SOFTWARE,
        }
    ),
    stage="experimental",
    docs="PAX semi-integrated (POSLink 1.28 and newer) over TCP port 10009; dialects with a length and over HTTP.",
    driver="PoslinkTerminal",
    recovers_within_s=240.0,
    options=(
        Option(
            "dialect",
            OptionKind.CHOICE,
            "Dialect of its protocol",
            "As its application is set: plain, with a length before each message, or over HTTP.",
            default="plain",
            choices=("plain", "length", "http"),
        ),
    ),
)

DIALECT = "dialect"
"""Option: plain, length or http; see `Dialect`."""
REFUSAL_ECHO_S = 0.3
"""After a transaction's answer without a reference the line is left alone this long; what comes then is dropped."""
BASELINE_FRESH_S = 120.0
"""How long the state of the terminal's books stands for itself; a terminal may close its batch by its own clock."""
OPEN_PAYMENT_S = 180.0
"""How long a sale without an answer may go on in the terminal. Until then a missing record proves nothing."""

_FOREIGN = frozenset({"not_poslink", "babble", "frame_beyond_limit", "no_length", "http_refused"})
_HOST_FAULTS = frozenset({INVALID_HOST_ANSWER, SEND_ERROR, RECEIVE_ERROR, COMM_ERROR})


@dataclass(frozen=True, slots=True)
class PoslinkOptions:
    """What differs between installations."""

    currency: str = "USD"
    dialect: Dialect = Dialect.PLAIN


def _options_of(configured: DriverOptions) -> PoslinkOptions:
    """Raises DeviceError `device.currency_unsupported` or `device.dialect_unknown`, shown with the terminal."""
    plain = PoslinkOptions()
    currency, dialect = configured.get(CURRENCY, plain.currency), configured.get(DIALECT, plain.dialect)
    if not _in_hundredths(currency):
        raise DeviceError(
            "device.currency_unsupported",
            f"POSLink counts in hundredths; {currency}, the currency of the terminal's location, has none.",
            remedy="Correct the currency of the location, or use a terminal of another kind there.",
        )
    if dialect not in set(Dialect):
        raise DeviceError(
            "device.dialect_unknown",
            f"POSLink has no dialect {dialect}.",
            remedy=f"Write one of {', '.join(Dialect)} in the options of the terminal.",
        )
    return PoslinkOptions(currency, Dialect(dialect))


def _in_hundredths(currency: str) -> bool:
    try:
        return exponent_of(currency) == 2
    except InvalidValueError:
        return False


class PoslinkTerminal(TerminalDriver):
    """The hub's side of POSLink: T00 leaves at most once per payment, and only its own answer is a verdict."""

    capabilities = MANIFEST.capabilities

    def __init__(self, runtime: Runtime, options: PoslinkOptions | DriverOptions | None = None) -> None:
        self._clock = runtime.clock
        self._options = options if isinstance(options, PoslinkOptions) else _options_of(options or {})
        self._exchanges = Exchanges(runtime.clock, self._options.dialect)
        self._baseline: tuple[float, Baseline] | None = None
        # Who has started may have crashed in the middle of a payment.
        self._open_until = self._clock.monotonic() + OPEN_PAYMENT_S

    # -- the line ------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line. The terminal's books are read again: somebody else may have used it."""
        self._exchanges.attach(stream, url, lines)
        self._baseline = None

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """See `Driver.describers`."""
        asked, answered = readers(self._options.dialect)
        return by_message(asked, describe_event), by_message(answered, describe_event)

    async def pump(self) -> str:
        """Read until the line is lost, and return why."""
        return await self._exchanges.pump()

    async def close(self) -> None:
        """Give the line back."""
        await self._exchanges.close()

    @property
    def usable(self) -> bool:
        """Whether every exchange has ended as it should, and there is a line or may be another one."""
        return self._exchanges.usable

    # -- Terminal ------------------------------------------------------------------------------------------------------

    async def identify(self) -> Identity:
        """A00: the serial number. It changes nothing and prints nothing."""
        answer = self._ended(await self._exchanges.exchange(Request(INITIALIZE)), "initialisation")
        if answer.code != OK:
            raise _refused("initialisation", answer)
        return Identity(decode_serial_number(answer), software=decode_software(answer))

    async def check(self) -> Identity:
        """A00 again: a sign of life. A terminal that is busy gives one too."""
        answer = self._ended(await self._exchanges.exchange(Request(INITIALIZE)), "initialisation")
        if answer.code == OK:
            return Identity(decode_serial_number(answer), software=decode_software(answer))
        return Identity() if answer.busy else Identity(problem=answer.reason)

    async def baseline(self) -> str:
        """The state of the terminal's books as a text (`Baseline`), or "" when it does not tell."""
        if not self.usable:
            return ""
        if self._baseline is None or self._clock.monotonic() - self._baseline[0] > BASELINE_FRESH_S:
            self._baseline = None
            now = await self._survey()
            if isinstance(now, Baseline):
                self._baseline = (self._clock.monotonic(), now)
        return self._baseline[1].encode() if self._baseline else ""

    async def _survey(self) -> Baseline | Answer | Lost:
        """Newest record, last closed batch, stored transactions; or the answer that does not tell."""
        newest = await self._newest()
        if not isinstance(newest, str):
            return newest
        marks: list[str] = []
        for request in (Request(HISTORY_REPORT), Request(SAF_REPORT, ((SAF_ALL,),))):
            answer = await self._exchanges.exchange(request)
            if isinstance(answer, Lost):
                return answer
            if answer.code == OK:
                marks.append(batch_mark(answer) if not marks else digest_of(answer.groups[:2]))
            elif answer.not_found or answer.unsupported:
                marks.append("-" if answer.not_found else UNSUPPORTED_MARK)
            else:
                return answer
        return Baseline(newest, marks[0], marks[1])

    async def _newest(self) -> str | Answer | Lost:
        """Number and time of the newest record. Which end of the list is the newest is not published: both are read."""
        stamps: list[tuple[str, str]] = []
        index = 0
        while True:
            answer = await self._exchanges.exchange(detail(record=index))
            if isinstance(answer, Lost):
                return answer
            if answer.not_found and not stamps:
                return EMPTY_BATCH
            record = decode_record(answer) if answer.code == OK else None
            if record is None or not stamp_of(record.transaction):
                return answer
            stamps.append((record.transaction.at, stamp_of(record.transaction)))
            if index or record.total == 1:
                return max(stamps)[1]
            index = record.total - 1

    async def authorize(self, request: AuthorizeRequest, progress: ProgressSink) -> Outcome:
        """Take a payment. POSLink cannot forbid an offline approval for one payment: the verdict then says `Stored`."""
        if request.amount.currency != self._options.currency:
            return NotStarted("amount_refused", f"This terminal takes {self._options.currency}.")
        reference = payment_reference(request.reference)
        try:
            command = sale(request.amount.amount_minor, reference)
        except ValueError as error:
            return NotStarted("amount_refused", str(error))
        before, self._baseline = self._baseline, None
        answer = await self._move_money(command, progress)
        if not isinstance(answer, Answer):
            return answer
        outcome = judge_payment(answer, request.amount, reference)
        self._baseline = _after(outcome, stamp_of(decode_transaction(answer)), before)
        return outcome

    async def _move_money(self, command: Request, progress: ProgressSink) -> Answer | NotStarted | Unknown:
        """Send a command that moves money, once. Cancellation asks the terminal to stop and is passed on."""
        if not self.usable:
            return NotStarted("terminal_unreachable", "Check the terminal's power and its cable or network.")
        open_until, self._open_until = self._open_until, self._clock.monotonic() + OPEN_PAYMENT_S
        try:
            answer = await self._exchanges.exchange(command, progress, once=True)
        except BaseException:  # cancellation: once it was told to stop, a terminal that answers has stopped
            if self._exchanges.cancelled:
                self._open_until = 0.0
            raise
        if isinstance(answer, Lost):
            if answer.sent:
                return Unknown(answer.reason)
            self._open_until = open_until
            return NotStarted(answer.reason, "Check the terminal's power and its cable or network.")
        self._open_until = 0.0
        if not decode_transaction(answer).reference:
            # A terminal that answers twice would otherwise refuse the next payment with the echo, and then take it.
            await self._clock.sleep(REFUSAL_ECHO_S)
        return answer

    async def enquire(self, request: EnquiryRequest) -> Enquiry:
        """Ask for the record with the payment's reference; without one, whether the books show that there was none."""
        if not self.usable:
            return Inconclusive("terminal_unreachable")
        reference = payment_reference(request.reference)
        before = decode_baseline(request.baseline)
        found = await self._ask(request, reference, before)
        if found is not None:
            return found
        if before is None:
            return Inconclusive("no_baseline", Evidence())
        doubt = await self._doubt_about_books(before, reversal=bool(request.wanted))
        if doubt is not None:
            return doubt
        # Again: a sale that ended while we looked has its record by now, and an echo does not come twice.
        found = await self._ask(request, reference, before)
        if found is not None:
            return found
        return StillRunning() if self._clock.monotonic() < self._open_until else NotTaken(Evidence())

    async def _ask(self, request: EnquiryRequest, reference: str, before: Baseline | None) -> Enquiry | None:
        """What the terminal's record of this reference proves; None when it says that it has none."""
        answer = await self._exchanges.exchange(detail(reference=reference))
        if isinstance(answer, Lost):
            return Inconclusive(answer.reason)
        if answer.busy:
            return StillRunning()
        if answer.not_found:
            return None
        if answer.code != OK:
            return refused_enquiry(answer, request.amount.currency)
        record = decode_record(answer)
        if record is None:
            return Inconclusive("no_content", Evidence())
        return judge_record(record, request, reference, before)

    async def _doubt_about_books(self, before: Baseline, *, reversal: bool) -> Enquiry | None:
        """Why the open batch may not be the one from before the payment; None when it is."""
        now = await self._survey()
        if isinstance(now, Lost):
            return Inconclusive(now.reason)
        if isinstance(now, Answer):
            return StillRunning() if now.busy else Inconclusive(now.reason, Evidence())
        changed = changed_since(before, now, reversal=reversal)
        if changed:
            return Inconclusive(changed, Evidence())
        if before.newest in (EMPTY_BATCH, now.newest):
            return None
        answer = await self._exchanges.exchange(detail(number=before.number))
        if isinstance(answer, Lost):
            return Inconclusive(answer.reason)
        record = decode_record(answer) if answer.code == OK else None
        same = record is not None and stamp_of(record.transaction) == before.newest
        return None if same else Inconclusive("batch_changed", Evidence())

    async def reverse(self, request: ReverseRequest, progress: ProgressSink) -> Outcome:
        """Undo a payment of the open batch. Its record is read first: numbers begin again with every batch."""
        if not self.usable:
            return NotStarted("terminal_unreachable", "Check the terminal's power and its cable or network.")
        number = request.receipt_number
        if not (number.isascii() and number.isdigit() and len(number) <= 4):
            return NotStarted("receipt_number_unusable", "Reverse it at the terminal or with the acquirer.")
        answer = await self._exchanges.exchange(detail(number=number))
        if isinstance(answer, Lost):
            return Unknown(answer.reason)
        record = decode_record(answer) if answer.code == OK else None
        if record is None:
            reason = "terminal_busy" if answer.busy else "not_in_batch" if answer.not_found else answer.reason
            return NotStarted(reason, "Refund it at the terminal or with the acquirer.")
        if not _is_payment(record.transaction, request):
            return NotStarted("other_payment", "Refund it at the terminal or with the acquirer.")
        self._baseline = None
        reference = payment_reference(request.reference)
        answered = await self._move_money(void(record.transaction.number, reference), progress)
        return judge_reversal(answered, request.amount, reference) if isinstance(answered, Answer) else answered

    async def abort(self) -> bool:
        """A14 on the line of the running sale; its verdict comes from where it was started. Not possible over HTTP."""
        return await self._exchanges.cancel()

    async def end_of_day(self) -> TerminalTotals:
        """B00. A lost answer raises `device.no_answer`: look at the terminal's own report."""
        self._baseline = None
        answer = self._ended(await self._exchanges.exchange(Request(BATCH_CLOSE), once=True), "batch close")
        if answer.code not in (OK, OUT_OF_BALANCE):
            raise _refused("batch close", answer)
        totals = decode_batch_close(answer)
        minor = totals.amount_minor
        return TerminalTotals(
            totals.count,
            None if minor is None else Money(minor, self._options.currency),
            lines=("OUT OF BALANCE",) if answer.code == OUT_OF_BALANCE else (),
        )

    async def send_offline(self) -> FlushResult:
        """B08 for the new stored transactions. It names none of them; what its host refuses stays in the terminal."""
        if not self.usable:
            return FlushResult(complete=False, reason="terminal_unreachable")
        self._baseline = None
        answer = await self._exchanges.exchange(Request(SAF_UPLOAD, ((SAF_NEW,),)), once=True)
        if isinstance(answer, Lost):
            return FlushResult(complete=False, reason=answer.reason)
        if answer.not_found:
            return FlushResult(complete=True, remaining=0)  # it stores nothing, or has sent it with a batch
        if answer.code != OK:
            failed = answer.code in _HOST_FAULTS
            return FlushResult(complete=False, reason="clearing_failed" if failed else answer.reason)
        said = decode_saf_upload(answer)
        if said.total is None or said.uploaded is None:
            return FlushResult(complete=False, reason="no_counts")
        remaining = max(0, said.total - said.uploaded)
        return FlushResult(complete=not remaining, remaining=remaining, reason="clearing_failed" if remaining else "")

    async def diagnose(self) -> Diagnosis:
        """R06: the terminal asks its host for the batch as the host knows it."""
        answer = self._ended(await self._exchanges.exchange(Request(HOST_REPORT)), "host report")
        if answer.code == OK:
            return Diagnosis(host_reachable=True, text=answer.message)
        if answer.code in _HOST_FAULTS:
            return Diagnosis(host_reachable=False, text=answer.message)
        raise _refused("host report", answer)

    def _ended(self, result: Answer | Lost, what: str) -> Answer:
        if isinstance(result, Lost):
            raise _line_error(result.reason, what)
        return result


def _after(outcome: Outcome, stamp: str, before: tuple[float, Baseline] | None) -> tuple[float, Baseline] | None:
    """What is known of the books after a sale; None when they must be read again."""
    match outcome:
        case _ if before is None:
            return None
        case Approved() if stamp:
            return before[0], replace(before[1], newest=stamp)
        case Declined() | Cancelled() | NotStarted():
            return before
    return None


def _is_payment(record: Transaction, request: ReverseRequest) -> bool:
    """Whether a record is of the payment that is to be undone."""
    return (
        record.kind == SALE
        and record.number.lstrip("0") == request.receipt_number.lstrip("0")
        and record.amount_minor == request.amount.amount_minor
        and request.trace_number in ("", record.reference)
    )


def _line_error(reason: str, what: str) -> DeviceError:
    foreign = reason in _FOREIGN
    return DeviceError(
        "device.protocol" if foreign else "device.gone" if reason in ("hung_up", "closed") else "device.no_answer",
        f"The terminal did not answer to the {what} ({reason}).",
        remedy="Correct its address or its dialect, or switch it to POSLink in its menu."
        if foreign
        else "Check its power and its cable or network; the hub reconnects by itself.",
        retry=Retry.AFTER_ENQUIRY,
        params={"reason": reason},
    )


def _refused(what: str, answer: Answer) -> DeviceError:
    return DeviceError(
        "device.busy" if answer.busy else "device.refused",
        f"The terminal refused the {what} ({answer.reason}).",
        remedy="Wait for it to finish." if answer.busy else "Read its display; its service desk knows the code.",
        retry=Retry.SAME_REQUEST if answer.busy else Retry.NEVER,
        params={"reason": answer.reason},
    )
