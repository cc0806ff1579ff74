"""Card terminals that speak Caisse-AP over IP, also called Concert V3 (France)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from drivers.base import CURRENCY, DriverOptions, Identity, Lines, Manifest, Tcp, TerminalDriver
from drivers.caisse_ap_codec import (
    CURRENCY_NUMBERS,
    IDENTIFICATION,
    TAKEN_INTO_ACCOUNT,
    Answer,
    ElementReader,
    Identification,
    Payment,
    decode_answer,
    describe_element,
    encode_request,
    reference_of,
)
from drivers.caisse_ap_link import FOREIGN, CaisseApLink
from drivers.caisse_ap_verdict import (
    BUSY,
    REMEDIES,
    answers_identification,
    identification_problem,
    judge_payment,
    names_the_payment,
)
from drivers.link import LineLostError
from drivers.trace import Describe, by_message
from hubd.errors import DeviceError, Retry
from hubd.model.device import Capability, DeviceKind
from hubd.ports import (
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
    TerminalTotals,
    Unknown,
)
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="caisse_ap",
    name="Caisse-AP terminal",
    kind=DeviceKind.TERMINAL,
    matches=(Tcp(8888),),
    capabilities=frozenset({Capability.PAY}),
    stage="experimental",
    docs="Caisse-AP over IP (Concert V3, France) at TCP port 8888. After a lost answer a person decides.",
    driver="CaisseApTerminal",
)

CONNECT_TIMEOUT_S = 5.0
IDENTIFICATION_TIMEOUT_S = 5.0
"""An identification is answered by the terminal alone, without customer or host."""
ANSWER_TIMEOUT_S = 180.0
"""From a payment's request to its outcome: as long as the known cash registers wait."""


@dataclass(frozen=True, slots=True)
class CaisseApOptions:
    """What differs between installations."""

    till: str = "01"
    """Tag CA, two digits: the number of the cash register, given back in every answer."""
    send_reference: bool = True
    """Whether the payment's id goes along as private data (tag CF), to be compared with what comes back."""


def _options_of(configured: DriverOptions) -> CaisseApOptions:
    """Raises DeviceError `device.currency_unknown`, shown where the terminal is listed."""
    currency = configured.get(CURRENCY, "")
    if currency and currency not in CURRENCY_NUMBERS:
        raise DeviceError(
            "device.currency_unknown",
            f"This driver knows no number for {currency}, the currency of the terminal's location.",
            remedy="Correct the currency of the location, or use a terminal of another kind there.",
        )
    return CaisseApOptions()


class CaisseApTerminal(TerminalDriver):
    """The hub's side of Caisse-AP: a payment's request leaves once, right after the terminal has said that it is there.

    Cash registers open a line for each request, and many terminals close it behind their answer. A line that the
    terminal leaves open is kept, because its end tells at once that the terminal has gone; a terminal that does not
    answer on a kept line, or ends it later, is given a new line for each request from then on.
    """

    capabilities = MANIFEST.capabilities

    def __init__(self, runtime: Runtime, options: CaisseApOptions | DriverOptions | None = None) -> None:
        self._clock = runtime.clock
        self._options = options if isinstance(options, CaisseApOptions) else _options_of(options or {})
        self._link: CaisseApLink | None = None
        self._lines: Lines | None = None
        self._changed = asyncio.Event()
        self._clean = False
        self._closed = False
        self._in_dialogue = False
        self._resting = False
        """The line has ended behind an answer, as it may; the next request opens another."""
        self._line_per_request = False

    # -- lines ---------------------------------------------------------------------------------------------------------

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line; more of them are opened to the same address when requests need them."""
        self._link, self._lines = CaisseApLink(stream, self._clock), lines
        self._clean, self._closed, self._in_dialogue, self._resting = True, False, False, False

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """See `Driver.describers`."""
        return by_message(ElementReader(), describe_element), by_message(ElementReader(), describe_element)

    async def pump(self) -> str:
        """Read one line after the other, and return why when one was lost that should be there."""
        link = self._attached_link()
        while True:
            await link.pump()
            while self._link is link and (self._in_dialogue or self._resting) and not self._closed:
                self._changed.clear()
                await self._changed.wait()
            if self._attached_link() is link:
                self._line_per_request |= self._clean and link.lost == "hung_up"
                return link.lost
            link = self._attached_link()

    async def close(self) -> None:
        """Give the line back; a request that waits for an answer does not get one."""
        self._closed = True
        self._changed.set()
        if self._link is not None:
            await self._link.close()

    @property
    def usable(self) -> bool:
        """Whether the terminal is believed to be there, and every dialogue with it has ended as it should."""
        if not self._clean or self._closed or self._link is None:
            return False
        return self._resting or not self._link.lost

    def _attached_link(self) -> CaisseApLink:
        if self._link is None:
            raise _line_error("hung_up")
        return self._link

    async def _line(self) -> CaisseApLink:
        """A line on which nothing is under way: the kept one, or a new one. Raises OSError."""
        link = self._attached_link()
        if not (link.lost or link.pending):
            return link
        await link.close()
        if self._closed or self._lines is None:
            raise LineLostError("closed")
        async with self._clock.timeout(CONNECT_TIMEOUT_S):
            return await self._adopt(await self._lines.another())

    async def _adopt(self, stream: ByteStream) -> CaisseApLink:
        if self._closed:
            await stream.close()
            raise LineLostError("closed")
        self._link, self._resting = CaisseApLink(stream, self._clock), False
        self._changed.set()
        return self._link

    async def _rest(self, link: CaisseApLink) -> None:
        """An answer has come whole: its line may have ended with it, or is given back now."""
        if self._line_per_request:
            await link.close()
        self._resting = bool(link.lost) and not self._closed

    # -- dialogues -----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _dialogue(self) -> Iterator[None]:
        """While requests run. Whoever ends one as it should sets `_clean` again."""
        self._clean, self._in_dialogue = False, True
        try:
            yield
        finally:
            self._in_dialogue = False
            self._changed.set()

    async def _answers(
        self, link: CaisseApLink, expected: Callable[[Answer], bool], complete: Callable[[Answer], bool]
    ) -> list[Answer]:
        """All different answers that come together. Raises OSError; the caller bounds the time."""
        answers: list[Answer] = []
        while not answers or link.pending:
            answer = decode_answer(await link.receive(lambda message: complete(decode_answer(message))))
            if expected(answer) and answer not in answers:
                answers.append(answer)
        return answers

    async def _identification(self) -> str:
        """Let the terminal identify itself; return why it cannot be used now, or "". Raises OSError."""
        link = await self._line()
        async with self._clock.timeout(IDENTIFICATION_TIMEOUT_S):
            await link.send(encode_request(Identification(self._options.till)))
            answers = await self._answers(link, answers_identification, lambda answer: bool(answer.status))
        await self._rest(link)
        return identification_problem(answers[-1])

    async def _prove(self) -> str:
        """Let the terminal say that it is there, on a new line if a kept one is of no use. Raises OSError."""
        kept = self._attached_link()
        was_kept = kept.answered and not kept.lost
        try:
            return await self._identification()
        except OSError:
            if not was_kept:
                raise
            self._line_per_request = True
            await kept.close()
            return await self._identification()

    # -- Terminal ------------------------------------------------------------------------------------------------------

    async def identify(self) -> Identity:
        """Identification (CD I): a sign of life that moves nothing. The protocol has no number of the terminal."""
        problem = await self._introduced(self._identification)
        if problem:
            raise _not_now(problem)
        return Identity()

    async def check(self) -> Identity:
        """Identification again; a terminal that says that it is busy is there, and well."""
        problem = await self._introduced(self._prove)
        return Identity(problem="" if problem == BUSY else problem)

    async def _introduced(self, ask: Callable[[], Awaitable[str]]) -> str:
        with self._dialogue():
            try:
                problem = await ask()
            except LineLostError as error:
                raise _line_error(error.reason) from error
            self._clean = True
        return problem

    async def baseline(self) -> str:
        """Nothing: receipts are not numbered."""
        return ""

    async def authorize(self, request: AuthorizeRequest, progress: ProgressSink) -> Outcome:
        """Take a payment. Whether the terminal has asked its host, or will, is not said: `Approved` stands for both."""
        payment = Payment(
            request.amount.amount_minor,
            request.amount.currency,
            self._options.till,
            reference_of(request.reference) if self._options.send_reference else "",
        )
        try:
            message = encode_request(payment)
        except ValueError as error:
            return NotStarted("amount_refused", str(error))
        if payment.amount_minor <= 0:
            return NotStarted("amount_refused", "The amount must be above zero.")
        if not self.usable:
            return NotStarted("terminal_unreachable", _CHECK_POWER)
        with self._dialogue():
            outcome = await self._take(payment, message, progress)
            self._clean = not isinstance(outcome, Unknown) and outcome != _UNREACHABLE
        return outcome

    async def _take(self, payment: Payment, message: bytes, progress: ProgressSink) -> Outcome:
        """Ask whether the terminal is there, then let the request leave, once.

        What the terminal takes while nobody can hear it, nobody can ask about later.
        """
        try:
            problem = await self._prove()
            link = await self._line()
        except OSError:
            return _UNREACHABLE
        if problem:
            return NotStarted(problem, REMEDIES[problem])
        try:
            async with self._clock.timeout(ANSWER_TIMEOUT_S):
                await link.send(message)
                progress(Progress("started"))
                answers = await self._answers(link, _is_outcome, names_the_payment)
        except LineLostError as error:
            return Unknown(error.reason)
        except TimeoutError:
            return Unknown("no_answer")
        await self._rest(link)
        return judge_payment(answers, payment)

    async def enquire(self, request: EnquiryRequest) -> Enquiry:
        """Nothing can be asked about an earlier payment; asking again will not help either."""
        return Inconclusive("no_enquiry", Evidence())

    async def reverse(self, request: ReverseRequest, progress: ProgressSink) -> Outcome:
        """Refused: a cancellation (CD 2) does not say which payment it undoes."""
        return NotStarted("function_not_possible", "Undo it at the terminal itself, with the card.")

    async def abort(self) -> bool:
        """There is no such request: the terminal's own key stops a payment."""
        return False

    async def end_of_day(self) -> TerminalTotals:
        """Refused: the terminal sends its transactions by itself."""
        raise _not_possible("end-of-day")

    async def send_offline(self) -> FlushResult:
        """Refused: the terminal sends its transactions by itself."""
        return FlushResult(complete=False, reason="function_not_possible")

    async def diagnose(self) -> Diagnosis:
        """Refused: the terminal's own menu tests its line to its host."""
        raise _not_possible("diagnosis")


_CHECK_POWER = "Check the terminal's power and its cable or network; the hub reconnects by itself."
_UNREACHABLE = NotStarted("terminal_unreachable", _CHECK_POWER)


def _is_outcome(answer: Answer) -> bool:
    """Whether it ends a payment: not that the request was heard, and not a late answer to an identification."""
    return answer.status != TAKEN_INTO_ACCOUNT and answer.action != IDENTIFICATION


def _line_error(reason: str) -> DeviceError:
    foreign = reason in FOREIGN
    return DeviceError(
        "device.protocol" if foreign else "device.gone" if reason in ("hung_up", "closed") else "device.no_answer",
        f"The terminal did not answer to the identification ({reason}).",
        remedy="Correct its address, or switch it to Caisse-AP (Concert) over IP in its menu."
        if foreign
        else _CHECK_POWER,
        retry=Retry.AFTER_ENQUIRY,
        params={"reason": reason},
    )


def _not_now(problem: str) -> DeviceError:
    busy = problem == BUSY
    return DeviceError(
        "device.busy" if busy else "device.refused",
        f"The terminal does not serve the cash register now ({problem}).",
        remedy=REMEDIES[problem],
        retry=Retry.SAME_REQUEST if busy else Retry.NEVER,
        params={"reason": problem},
    )


def _not_possible(what: str) -> DeviceError:
    return DeviceError(
        "device.refused",
        f"The terminal has no {what} for cash registers (function_not_possible).",
        remedy="Use the terminal's own menu.",
        params={"reason": "function_not_possible"},
    )
