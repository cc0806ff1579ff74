"""Card terminals that speak Caisse Concert, "protocole E/E+" (France; Ingenico with Telium Manager, Sagem, Verifone).

USB-CDC lines run at 9600 8N1, native serial lines at 9600 7E1; some models take the same bytes over TCP. The address
says which: `serial:///dev/ttyACM0?baud=9600&stop_bits=1`, with `&data_bits=7&parity=even` for a native line.

What decides the shape of this driver:

- One message moves money, and it leaves at most once. NAK means that the terminal did not take it, so a repeat would be
  allowed; but the message has no number by which a terminal could tell a repeat from a second payment, and a doubled
  NAK would then be answered with a second copy. So NAK ends the payment as not started, and the till may try again.
- There is no enquiry: what is not heard is never learnt. Once the message has left, the driver listens for the answer
  until the time is over, whatever else was lost, and answers the terminal's repeats.
- Nothing stops a payment that has begun: there is no abort.
- A sign of life is a session without a message: ENQ, ACK, EOT. It cannot carry an amount, and it is how pyTeliumManager
  asks whether a terminal is ready; it runs once a minute on an idle line, and never beside a dialogue. A terminal that
  a person uses, and that says NAK therefore, is alive; one that says nothing is shown as silent until it answers again.
- The terminal does not say who it is, and other devices answer ENQ with ACK too. No endpoint is claimed by itself: a
  person names the driver and the address.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from drivers.base import CURRENCY, DriverOptions, Identity, Lines, Manifest, Probe, Serial, Step, TerminalDriver
from drivers.concert_codec import (
    CURRENCY_NUMBERS,
    FORCE_ONLINE,
    TERMINAL_DECIDES,
    BadFrame,
    Frame,
    FrameReader,
    PaymentAnswer,
    PaymentRequest,
    Signal,
    decode_answer,
    describe_from_terminal,
    describe_to_terminal,
    encode_request,
    reference_of,
)
from drivers.concert_link import ConcertLink
from drivers.concert_verdict import judge
from drivers.link import LineLostError
from drivers.trace import Describe, by_message
from hubd.errors import DeviceError, Retry
from hubd.model.device import Capability, DeviceKind
from hubd.model.device_options import Option, OptionKind
from hubd.ports import (
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
    TerminalTotals,
    Unknown,
)
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="concert",
    name="Caisse Concert terminal",
    kind=DeviceKind.TERMINAL,
    matches=(Serial(),),
    capabilities=frozenset({Capability.PAY}),
    stage="experimental",
    docs="Protocole E/E+ (Telium Manager 37783600 or newer) over USB with 9600 8N1, a native serial line with 9600 7E1,"
    " or TCP. It knows no enquiry: a person decides when an answer is lost.",
    driver="ConcertTerminal",
    line="baud=9600&stop_bits=1",
    probes=(
        Probe(
            order=40,
            steps=(Step(b"\x05", rb"^\x06$"),),
            after=b"\x04",
            lines=("baud=9600&stop_bits=1", "baud=9600&data_bits=7&parity=even&stop_bits=1"),
        ),
    ),
    options=(
        Option(
            "pos_number",
            OptionKind.TEXT,
            "Number of the till",
            "The number under which the terminal knows the hub.",
            default="01",
            pattern="[0-9]{2}",
            form="two digits",
        ),
        Option(
            "authorization",
            OptionKind.CHOICE,
            "Who decides to go online",
            "Choose online where the terminal must ask the bank for every payment.",
            default="terminal",
            choices=("terminal", "online"),
        ),
    ),
)

log = logging.getLogger(__name__)

POS_NUMBER = "pos_number"
"""Option: two digits, the cash register's number; 01 unless the terminal knows it by another one."""
AUTHORIZATION = "authorization"
"""Option: `terminal` (it decides whether to go online) or `online` (it must)."""
_AUTHORIZATIONS = {"terminal": TERMINAL_DECIDES, "online": FORCE_ONLINE}

SIGNAL_TIMEOUT_S = 3.0
"""For the one-byte answer to ENQ or to a frame."""
ENQ_REPEATS_MAX = 2
"""How often a session that moves no money yet is asked for again after silence."""
QUIET_S = 0.3
"""How long the line must say nothing before the frame leaves, so that no echo can be read as the answer to it."""
SETTLE_TIMEOUT_S = 5.0
"""How long a new line may go on with what it was saying to somebody before us."""
REFUSAL_QUIET_S = 1.0
"""How long a NAK to the frame must stay uncontradicted."""
ANSWER_TIMEOUT_S = 180.0
"""From the frame to the whole answer. The open clients wait 120 s; nothing can be asked after it is over."""
ANSWER_REPEATS_MAX = 3
"""How many spoiled frames of one answer are answered with NAK."""
END_TIMEOUT_S = 5.0
"""For the EOT behind an answer; longer than a terminal waits before it repeats an answer whose ACK was lost."""
EOT_SEND_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class ConcertOptions:
    """What differs between installations."""

    pos_number: str = "01"
    authorization: str = TERMINAL_DECIDES


def _options_of(configured: DriverOptions) -> ConcertOptions:
    """Raises DeviceError `device.option_invalid` or `device.currency_unknown`, shown where the terminal is listed."""
    plain = ConcertOptions()
    pos_number = configured.get(POS_NUMBER, plain.pos_number)
    authorization = configured.get(AUTHORIZATION, "terminal")
    currency = configured.get(CURRENCY, "EUR")
    if currency not in CURRENCY_NUMBERS:
        raise DeviceError(
            "device.currency_unknown",
            f"This driver knows no number for {currency}, the currency of the terminal's location.",
            remedy="Correct the currency of the location, or use a terminal of another kind there.",
        )
    if re.fullmatch(r"[0-9]{2}", pos_number) is None or authorization not in _AUTHORIZATIONS:
        raise DeviceError(
            "device.option_invalid",
            "An option of the Caisse Concert terminal is not usable.",
            remedy="Write pos_number= with two digits, and authorization=terminal or authorization=online.",
        )
    return ConcertOptions(pos_number, _AUTHORIZATIONS[authorization])


class ConcertTerminal(TerminalDriver):
    """The hub's side of Concert: the payment's frame leaves at most once, and only a whole answer is a verdict."""

    capabilities = MANIFEST.capabilities

    def __init__(self, runtime: Runtime, options: DriverOptions | None = None) -> None:
        self._clock = runtime.clock
        self._options = _options_of(options or {})
        self._link: ConcertLink | None = None
        self._clean = False

    # -- the line ------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line."""
        self._link = ConcertLink(stream, self._clock)
        self._clean = True

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """See `Driver.describers`."""
        return by_message(FrameReader(), describe_to_terminal), by_message(FrameReader(), describe_from_terminal)

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

    def _attached_link(self) -> ConcertLink:
        if self._link is None:
            raise _no_answer("hung_up")
        return self._link

    # -- sessions ------------------------------------------------------------------------------------------------------

    async def _open_session(self, link: ConcertLink) -> Signal | None:
        """ENQ until it is answered: ACK or NAK, None for silence. Nothing in it can move money.

        Raises LineLostError.
        """
        link.discard_received()
        for attempt in range(1 + ENQ_REPEATS_MAX):
            if attempt:
                await link.send(Signal.EOT)
            await link.send(Signal.ENQ)
            answer = await self._answer_to_enq(link)
            if answer in (Signal.ACK, Signal.NAK) and not await self._speaks(link):
                return answer
        return None

    async def _answer_to_enq(self, link: ConcertLink) -> Signal | None:
        """ACK or NAK; None when neither came in time, or when the terminal had something to say first."""
        try:
            async with self._clock.timeout(SIGNAL_TIMEOUT_S):
                while (heard := await link.receive(None)) not in (Signal.ACK, Signal.NAK, Signal.ENQ):
                    pass
        except TimeoutError:
            return None
        if heard is Signal.ENQ:
            await self._take_late_answer(link)
            return None
        return Signal.ACK if heard is Signal.ACK else Signal.NAK

    async def _speaks(self, link: ConcertLink) -> bool:
        """Wait until the line is quiet and drop echoes; True if the terminal said something, which was taken."""
        spoke = False
        try:
            async with self._clock.timeout(SETTLE_TIMEOUT_S):
                while True:
                    try:
                        heard = await link.receive(QUIET_S)
                    except TimeoutError:
                        return spoke
                    if heard is Signal.ENQ:
                        await self._take_late_answer(link)
                        spoke = True
        except TimeoutError:
            return True

    async def _take_late_answer(self, link: ConcertLink) -> None:
        """Let the terminal finish what it has to say of a payment that nobody waits for any more; it is dropped.

        Without that it would not be free for the next one. The log keeps what a person needs to decide the payment.
        """
        await link.send(Signal.ACK)
        try:
            async with self._clock.timeout(SETTLE_TIMEOUT_S):
                while (heard := await link.receive(None)) is not Signal.EOT:
                    if isinstance(heard, Frame):
                        _log_late(heard)
                    if isinstance(heard, BadFrame):
                        await link.send(Signal.NAK)
                    elif isinstance(heard, Frame) or heard is Signal.ENQ:
                        await link.send(Signal.ACK)
        except TimeoutError:
            return  # it has gone silent in the middle; whatever it still holds, it will ask again

    # -- Terminal ------------------------------------------------------------------------------------------------------

    async def identify(self) -> Identity:
        """An empty session. What an old dialogue still sends on this line is taken and dropped before."""
        link = self._attached_link()
        try:
            await self._speaks(link)
        except LineLostError as error:
            raise _no_answer(error.reason) from error
        if await self._empty_session() is Signal.NAK:
            raise DeviceError(
                "device.refused",
                "The terminal answers, and takes nothing from a cash register.",
                remedy="Finish what it shows; in its menu, switch the cash connection on (Initialization, Parameters).",
                retry=Retry.SAME_REQUEST,
                params={"reason": "cash_connection_refused"},
            )
        return Identity()

    async def check(self) -> Identity:
        """An empty session; see the module for why it is harmless. NAK is a sign of life too."""
        await self._empty_session()
        return Identity()

    async def _empty_session(self) -> Signal:
        """ENQ, ACK, EOT. Raises DeviceError when no answer comes; then the line is not used any more."""
        link = self._attached_link()
        self._clean = False
        try:
            answer = await self._open_session(link)
            if answer is Signal.ACK:
                await link.send(Signal.EOT)
        except LineLostError as error:
            raise _no_answer(error.reason) from error
        if answer is None:
            raise _no_answer("no_answer")
        self._clean = True
        return answer

    async def baseline(self) -> str:
        """The protocol has no receipt numbers."""
        return ""

    async def authorize(self, request: AuthorizeRequest, progress: ProgressSink) -> Outcome:
        """Take a payment. A terminal that approves offline does not say so: that is `Approved` too."""
        asked = PaymentRequest(
            self._options.pos_number,
            request.amount.amount_minor,
            request.amount.currency,
            reference_of(request.reference),
            authorization=self._options.authorization,
        )
        if not self.usable:
            return NotStarted("terminal_unreachable", "Check the terminal's power and its cable or network.")
        try:
            frame = encode_request(asked)
        except ValueError as error:
            return NotStarted("amount_refused", str(error))
        if not asked.amount_minor:
            return NotStarted("amount_refused", "The amount must be above zero.")
        self._clean = False
        link = self._attached_link()
        refused = await self._begin(link)
        return refused or await self._move_money(link, frame, asked, progress)

    async def _begin(self, link: ConcertLink) -> NotStarted | None:
        """Open the session in which the frame may leave; None when it is open."""
        try:
            answer = await self._open_session(link)
        except LineLostError:
            answer = None
        except BaseException:  # cancellation: the terminal must not wait for a frame that never comes
            await self._send_eot(link)
            raise
        if answer is Signal.ACK:
            return None
        if answer is Signal.NAK:
            self._clean = True
            return NotStarted("terminal_busy", "Finish or cancel what the terminal shows, then try again.")
        return NotStarted("terminal_unreachable", "Check the terminal's power and its cable or network.")

    async def _send_eot(self, link: ConcertLink) -> None:
        try:
            async with self._clock.timeout(EOT_SEND_TIMEOUT_S):
                await link.send(Signal.EOT)
        except OSError:
            return  # the line is not used again in any case

    async def _move_money(
        self, link: ConcertLink, frame: Frame, asked: PaymentRequest, progress: ProgressSink
    ) -> Outcome:
        """Send the frame, once, and listen until the terminal has answered or the time is over."""
        try:
            async with self._clock.timeout(ANSWER_TIMEOUT_S):
                await link.send(frame)
                answer = await self._answer(link, progress)
        except LineLostError as error:
            return Unknown(error.reason)
        except TimeoutError:
            return Unknown("no_answer")
        if not isinstance(answer, Frame):
            return answer
        outcome = judge(decode_answer(answer), asked)
        return outcome if await self._ends_without_another(link, answer) else Unknown("contradiction")

    async def _answer(self, link: ConcertLink, progress: ProgressSink) -> Frame | NotStarted | Unknown:
        """From the frame to the terminal's answer to it. Silence proves nothing, so only the caller's clock ends it."""
        taken = invited = refused = False
        spoiled = 0
        while True:
            try:
                heard = await link.receive(REFUSAL_QUIET_S if refused else None)
            except TimeoutError:
                await self._send_eot(link)
                self._clean = not link.lost
                return NotStarted("not_taken", "Read the terminal's display, then try again.")
            match heard:
                case Signal.ACK if not taken:
                    taken, refused = True, False
                    await link.send(Signal.EOT)
                    progress(Progress("started"))
                case Signal.NAK if not taken:
                    refused = True
                case Signal.ENQ:
                    # Only a terminal that has taken the frame has an answer: its ACK was lost.
                    taken = invited = True
                    refused = False
                    await link.send(Signal.ACK)
                case Frame() if invited:
                    return heard
                case BadFrame() if invited:
                    spoiled += 1
                    if spoiled > ANSWER_REPEATS_MAX:
                        return Unknown("answer_unreadable")
                    await link.send(Signal.NAK)
                case _:
                    pass  # an echo, or something spoiled: the terminal repeats what mattered

    async def _ends_without_another(self, link: ConcertLink, answer: Frame) -> bool:
        """Acknowledge an answer, and its repeats, until EOT. False when another answer contradicts it.

        The answer was final when it came whole: a line that is lost now, or an EOT that does not come, changes nothing.
        """
        try:
            await link.send(Signal.ACK)
            async with self._clock.timeout(END_TIMEOUT_S):
                while (heard := await link.receive(None)) is not Signal.EOT:
                    if isinstance(heard, Frame) and heard != answer:
                        return False
                    if isinstance(heard, Frame) or heard is Signal.ENQ:
                        await link.send(Signal.ACK)
        except OSError:  # TimeoutError is one
            return True
        self._clean = True
        return True

    async def enquire(self, request: EnquiryRequest) -> Enquiry:
        """The protocol has no word for it."""
        return Inconclusive("no_enquiry")

    async def reverse(self, request: ReverseRequest, progress: ProgressSink) -> Outcome:
        """Refused: the protocol cannot name the payment to undo."""
        return NotStarted("not_supported", "Reverse it at the terminal.")

    async def abort(self) -> bool:
        """Never: the protocol cannot stop a payment. The customer or the cashier cancels at the terminal."""
        return False

    async def end_of_day(self) -> TerminalTotals:
        """Raises DeviceError: it is done at the terminal."""
        raise _not_supported()

    async def send_offline(self) -> FlushResult:
        """Refused: the terminal sends what it has stored by itself."""
        return FlushResult(complete=False, reason="not_supported")

    async def diagnose(self) -> Diagnosis:
        """Raises DeviceError: it is done at the terminal."""
        raise _not_supported()


def _log_late(frame: Frame) -> None:
    answer = decode_answer(frame)
    if isinstance(answer, PaymentAnswer):
        said = {"result": answer.result, "amount_minor": answer.amount_minor, "reference": answer.reference}
        log.warning("device.late_answer", extra=said)


def _no_answer(reason: str) -> DeviceError:
    foreign = reason == "babble"
    return DeviceError(
        "device.protocol" if foreign else "device.gone" if reason in ("hung_up", "closed") else "device.no_answer",
        f"The terminal did not answer ({reason}).",
        remedy="Correct its address, its speed, or its protocol."
        if foreign
        else "Check its power and its cable, and that the cash connection is switched on in its menu.",
        retry=Retry.SAME_REQUEST,
        params={"reason": reason},
    )


def _not_supported() -> DeviceError:
    return DeviceError(
        "device.not_supported",
        "The terminal's protocol has no such command.",
        remedy="Use the terminal's own menu.",
    )
