"""The terminal itself: sessions in, answers out, books in the ledger. No transport, no thread, no time of its own.

Where the protocol leaves a terminal free, this one does what is worst for a hub: a frame that it has acknowledged is a
payment even if EOT never comes, a session waits for its frame for ever, and an answer is repeated only so often.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from drivers.concert_codec import (
    APPROVED,
    CURRENCY_NUMBERS,
    FULL_ANSWER,
    NOT_VERIFIED,
    REPORT_CHARACTERS,
    BadFrame,
    Frame,
    PaymentAnswer,
    PaymentRequest,
    Signal,
    decode_request,
    encode_answer,
)
from drivers.concert_link import ConcertLink
from drivers.link import LineLostError
from drivers.sim.faults import TerminalFaults
from drivers.sim.ledger import Ledger, TransactionState
from drivers.sim.terminal import (
    ANSWER_LOST,
    ANSWER_LOST_FOR_GOOD,
    REFUSE_BUSY,
    SLOW,
    SLOW_STEP_S,
    SLOW_STEPS,
    Order,
    ResultCodes,
    TerminalOptions,
    TerminalSimulator,
)
from hubd.ports import ByteStream
from hubd.runtime import Runtime

_REFUSED = 7
SIGNAL_TIMEOUT_S = 3.0
"""For the hub's one-byte answers, and for its EOT."""
REPEATS_MAX = 3
"""How often ENQ and the answer are sent again."""
MASKED_CARD = "############4771"


@dataclass(slots=True)
class Faults(TerminalFaults):
    """The menu of this protocol."""

    not_verified: bool = False
    """It answers 9: it does not know itself what became of the payment."""
    no_echo: bool = False
    """It puts a number of its own where the hub's reference was."""
    full_answer: bool = False
    """It sends the report although the short answer was asked for."""
    answers_late: bool = False
    """An answer whose line was lost is told on the next line."""


class ConcertSimulator(TerminalSimulator):
    """One terminal with any number of lines to it, one payment at a time."""

    codes = ResultCodes(_REFUSED, _REFUSED, _REFUSED)

    def __init__(self, runtime: Runtime, options: TerminalOptions | None = None, ledger: Ledger | None = None) -> None:
        super().__init__(runtime, ledger)
        self.options: TerminalOptions = options or TerminalOptions()
        self.faults: Faults = Faults()
        self.requests: list[PaymentRequest] = []
        """What has arrived, oldest first."""
        self._paying = False
        self._untold: Frame | None = None

    def power_cut(self) -> None:
        """What was not told is forgotten; it is in the books all the same."""
        self._untold = None

    async def talk(self, stream: ByteStream, *, serial: bool) -> None:
        """See `TerminalSimulator`."""
        link = ConcertLink(stream, self._runtime.clock)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="concert-simulator:pump")
            try:
                await self._tell_late(link)
                while True:
                    await self._session(link)
            except OSError:
                pass  # the line is lost
            finally:
                await link.close()

    async def _session(self, link: ConcertLink) -> None:
        """From the hub's ENQ to the end of what follows from it."""
        while await link.receive(None) is not Signal.ENQ:
            pass
        if self._paying or self.faults.refuse_registration:
            await link.send(Signal.NAK)
            return
        await link.send(Signal.ACK)
        request = await self._request(link)
        if request is not None:
            self._paying = True
            try:
                await self._pay(link, request)
            finally:
                self._paying = False

    async def _request(self, link: ConcertLink) -> PaymentRequest | None:
        """The frame of an open session; None when it ends without one."""
        while True:
            match await link.receive(None):
                case Signal.ENQ:
                    await link.send(Signal.ACK)
                case Signal.EOT:
                    return None
                case BadFrame():
                    await link.send(Signal.NAK)
                case Frame() as frame:
                    request = decode_request(frame)
                    if isinstance(request, PaymentRequest):
                        self.authorizations_received += 1
                        self.requests.append(request)
                        if request.amount_minor % 100 != REFUSE_BUSY:
                            return request
                    await link.send(Signal.NAK)
                case _:
                    pass

    # -- a payment -----------------------------------------------------------------------------------------------------

    async def _pay(self, link: ConcertLink, request: PaymentRequest) -> None:
        order = Order(request.amount_minor, request.currency, request.private.strip())
        detached = False
        try:
            await link.send(Signal.ACK)
            await self._wait(link, SIGNAL_TIMEOUT_S, Signal.EOT)
            await self._wait(link, self._card_s(order))
        except LineLostError:
            if not self.options.keeps_going:
                self.book_payment(order, TransactionState.CANCELLED, _REFUSED)
                raise
            await self._runtime.clock.sleep(self._card_s(order))
            detached = True
        transaction = self.decide(order, stopped=False)
        answer = self._answer(request, transaction.result_code)
        if detached or order.ending in (ANSWER_LOST, ANSWER_LOST_FOR_GOOD):
            self._untold = answer if self.faults.answers_late else None
            raise LineLostError("hub_gone")
        await self._tell(link, answer)

    def _card_s(self, order: Order) -> float:
        """Seconds that the customer and the host take."""
        return 2 * self.options.think_s + (SLOW_STEPS * SLOW_STEP_S if order.ending == SLOW else 0.0)

    async def _wait(self, link: ConcertLink, seconds: float, until: Signal | None = None) -> None:
        """Let time pass, or the signal come. A hub that asks for another session meanwhile hears NAK."""
        try:
            async with self._runtime.clock.timeout(seconds):
                while (heard := await link.receive(None)) is not until:
                    if heard is Signal.ENQ and until is None:
                        await link.send(Signal.NAK)
        except TimeoutError:
            return

    def _answer(self, request: PaymentRequest, result_code: int) -> Frame:
        """The answer as it is asked for, with the lies of the fault menu."""
        faults = self.faults
        result = NOT_VERIFIED if faults.not_verified else str(result_code)
        answer = PaymentAnswer(
            request.pos_number,
            result,
            request.amount_minor + faults.wrong_amount,
            request.mode,
            CURRENCY_NUMBERS[request.currency],
        )
        private = f"{self.ledger.next_trace:010d}" if faults.no_echo else request.private
        private = faults.leak[:10].ljust(10) if faults.leak else private
        card = faults.leak or MASKED_CARD
        full = request.answer == FULL_ANSWER or faults.full_answer or bool(faults.leak)
        report = f"{card} {'APPROVED' if result == APPROVED else ''}".ljust(REPORT_CHARACTERS) if full else ""
        return encode_answer(answer, private, report)

    async def _tell_late(self, link: ConcertLink) -> None:
        if self._untold is not None:
            answer, self._untold = self._untold, None
            await self._tell(link, answer)

    async def _tell(self, link: ConcertLink, answer: Frame) -> None:
        """ENQ, the answer, EOT; each repeated after silence or NAK, and given up in the end."""
        if await self._insist(link, Signal.ENQ) and await self._insist(link, answer):
            await link.send(Signal.EOT)

    async def _insist(self, link: ConcertLink, what: Signal | Frame) -> bool:
        """Send until it is acknowledged; False when it never is."""
        for _ in range(1 + REPEATS_MAX):
            await link.send(what)
            try:
                async with self._runtime.clock.timeout(SIGNAL_TIMEOUT_S):
                    while (heard := await link.receive(None)) not in (Signal.ACK, Signal.NAK):
                        pass
            except TimeoutError:
                continue
            if heard is Signal.ACK:
                return True
        return False
