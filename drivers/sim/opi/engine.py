"""The terminal itself: requests in, answers out, books in the ledger. No transport, no thread, no time of its own.

A terminal that was put into service has made a payment that its installer cancelled: that is the last message of one
whose books are empty. One that is busy says so to whatever it is asked.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from drivers.link import LineLostError
from drivers.opi_link import OpiLink
from drivers.opi_messages import (
    ABORT_REQUEST,
    ABORTED,
    ADMINISTRATION,
    BUSY,
    CARD_PAYMENT,
    CARD_REPEAT_LAST_MESSAGE,
    COMMUNICATION_ERROR,
    DEVICE_UNAVAILABLE,
    DIAGNOSIS,
    END_OF_DAY,
    FAILURE,
    LOGGED_OUT,
    LOGIN,
    LOGOFF,
    OFFLINE,
    ONLINE,
    ONLINE_AGENT,
    PAYMENT_REVERSAL,
    REPEAT_LAST_MESSAGE,
    SEND_OFFLINE,
    SUCCESS,
    Authorisation,
    CardServiceRequest,
    CardServiceResponse,
    Request,
    ServiceRequest,
    ServiceResponse,
    Total,
    encode,
)
from drivers.sim.faults import FaultyStream, TerminalFaults
from drivers.sim.ledger import MONEY_MOVED, Ledger, Transaction, TransactionState
from drivers.sim.opi.dialogue import Dialogue, moment, receipt_lines, refusal, state_of
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
from hubd.model.money import Money
from hubd.ports import ByteStream
from hubd.runtime import Runtime

DIAL_TIMEOUT_S = 3.0
_CALLS_HOME = {ADMINISTRATION: "parameter_session", ONLINE_AGENT: "tms_contact"}
MISSING_DATA = "MissingMandatoryData"
_WITHOUT_DEVICES = frozenset({LOGIN, LOGOFF, REPEAT_LAST_MESSAGE, CARD_REPEAT_LAST_MESSAGE})
_NFC, _CHIP, _NO_CVM, _PIN = "NFC", "Chip", "NoCVM", "PIN"


@dataclass(frozen=True, slots=True)
class SimulatorOptions(TerminalOptions):
    """An OPI terminal's own settings."""

    device_port: int = 4102
    """Where it reaches the till's display and printer."""
    hangs_up: bool = False
    """Whether it closes the line after each answer."""


class OpiSimulator(TerminalSimulator):
    """One terminal with any number of lines to it, one request at a time."""

    codes = ResultCodes(cancelled=107, declined=5, no_connection=91)

    def __init__(self, runtime: Runtime, options: SimulatorOptions | None = None, ledger: Ledger | None = None) -> None:
        super().__init__(runtime, ledger)
        self.options: SimulatorOptions = options or SimulatorOptions()
        self.faults = TerminalFaults()
        self._logged_in = False
        self._running: Dialogue | None = None
        self._last_service = ServiceResponse(LOGOFF, "0", SUCCESS)

    async def talk(self, stream: ByteStream, *, serial: bool) -> None:
        """See `TerminalSimulator`."""
        link = OpiLink(stream, self._runtime.clock)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="opi-simulator:pump")
            try:
                while True:
                    message = await link.receive(None)
                    if isinstance(message, Request):
                        await self._serve_request(link, message, group)
                        if self.options.hangs_up:
                            break
            except OSError:
                pass  # the line is lost
            finally:
                await link.close()

    def power_cut(self) -> None:
        """The hub has to log in again."""
        self._logged_in = False

    # -- requests ------------------------------------------------------------------------------------------------------

    async def _serve_request(self, link: OpiLink, request: Request, group: asyncio.TaskGroup) -> None:
        if request.request_type == CARD_PAYMENT:
            self.authorizations_received += 1
        if request.request_type == ABORT_REQUEST:
            if self._running is not None:
                self._running.abort()
            await link.send(encode(refusal(request, FAILURE if self._running is None else SUCCESS)))
        elif self._running is not None:
            await link.send(encode(refusal(request, BUSY, self.options.terminal_id)))
        elif not self._logged_in and request.request_type != LOGIN:
            await link.send(encode(refusal(request, LOGGED_OUT, self.options.terminal_id)))
        else:
            dialogue = Dialogue(link, request, self._runtime.clock, self.options.terminal_id, self.faults.leak)
            self._running = dialogue
            try:
                await self._serve_dialogue(dialogue, request, group)
            finally:
                self._running = None
                await dialogue.close()

    async def _serve_dialogue(self, dialogue: Dialogue, request: Request, group: asyncio.TaskGroup) -> None:
        dialogue.keeps_going = self.options.keeps_going
        if request.request_type not in _WITHOUT_DEVICES:
            await self._call_till(dialogue, group)
        if isinstance(request, ServiceRequest):
            await self._serve_service(dialogue, request)
        elif request.request_type == CARD_PAYMENT:
            await self._authorize(dialogue, request)
        elif request.request_type == PAYMENT_REVERSAL:
            await self._reverse(dialogue, request)
        elif request.request_type == CARD_REPEAT_LAST_MESSAGE:
            await self._repeat_card_message(dialogue, request)
        else:
            await dialogue.answer(refusal(request, FAILURE, self.options.terminal_id))

    async def _call_till(self, dialogue: Dialogue, group: asyncio.TaskGroup) -> None:
        """Open channel 1 for what this request shows and prints."""
        try:
            async with self._runtime.clock.timeout(DIAL_TIMEOUT_S):
                stream = await self.dial(self.options.device_port)
        except OSError:
            return
        dialogue.devices = OpiLink(FaultyStream(stream, self.faults, self._runtime), self._runtime.clock)
        group.create_task(dialogue.devices.pump(), name="opi-simulator:devices")

    # -- payments ------------------------------------------------------------------------------------------------------

    async def _authorize(self, dialogue: Dialogue, request: CardServiceRequest) -> None:
        if request.amount is None:
            await dialogue.answer(refusal(request, MISSING_DATA, self.options.terminal_id))
            return
        if await self._repeats(dialogue, request):
            return
        order = Order(request.amount.amount_minor, request.amount.currency, request.request_id)
        special = order.ending
        if special == REFUSE_BUSY or dialogue.devices is None:
            # Without the till's display and printer no payment can be made.
            refused = BUSY if special == REFUSE_BUSY else DEVICE_UNAVAILABLE
            await dialogue.answer(refusal(request, refused, self.options.terminal_id))
            return
        try:
            stopped = await self._present_card(dialogue, special)
        except LineLostError:
            self.book_payment(order, TransactionState.CANCELLED, self.codes.cancelled)
            raise
        transaction = self.decide(order, stopped=stopped)
        if special in (ANSWER_LOST, ANSWER_LOST_FOR_GOOD) and not dialogue.detached and not stopped:
            raise LineLostError("test amount: the line goes with the answer")
        if not stopped:
            await self._print(dialogue, transaction)
            await dialogue.show("Retirez la carte")
        await self._answer(dialogue, transaction)

    async def _present_card(self, dialogue: Dialogue, special: int) -> bool:
        """The customer and the host take their time; return whether the payment was stopped."""
        await dialogue.show("Introduisez", "la carte")
        if special == SLOW:
            for _ in range(SLOW_STEPS):
                if await dialogue.wait(SLOW_STEP_S):
                    return True
                await dialogue.show("Introduisez", "la carte")
        if await dialogue.wait(self.options.think_s):
            return True
        await dialogue.show("Connexion", "en cours" if self.host_up else "impossible")
        return await dialogue.wait(self.options.think_s) or dialogue.aborted

    async def _repeats(self, dialogue: Dialogue, request: CardServiceRequest) -> bool:
        """Answer a request that has come before as it was answered then."""
        booked = [t for t in self.ledger.transactions if t.reference == request.request_id]
        if booked:
            await self._answer(dialogue, booked[-1], truthful=True)
        return bool(booked)

    async def _print(self, dialogue: Dialogue, transaction: Transaction) -> None:
        await dialogue.print_lines(receipt_lines(transaction, self.options.terminal_id))

    async def _answer(self, dialogue: Dialogue, transaction: Transaction, *, truthful: bool = False) -> None:
        """The answer to a payment or a reversal, with the lies of the fault menu unless `truthful`."""
        response = self._response(transaction, dialogue.request.till.workstation_id, truthful=truthful)
        await dialogue.answer(response)

    def _response(self, transaction: Transaction, workstation_id: str, *, truthful: bool) -> CardServiceResponse:
        wrong_amount = self.faults.wrong_amount and not truthful
        wrong_receipt = self.faults.wrong_receipt and not truthful and bool(transaction.receipt_number)
        result, text = state_of(transaction)
        number = int(transaction.receipt_number or 0) + 36 if wrong_receipt else transaction.receipt_number
        contactless = self.technology == "contactless"
        said = Authorisation(
            OFFLINE if transaction.offline else ONLINE,
            "Bancontact",
            "4771",
            f"{number:04d}" if wrong_receipt else transaction.receipt_number,
            str(transaction.result_code),
            "" if transaction.result_code else f"{transaction.trace % 1_000_000:06d}",
            moment(transaction),
        )
        cancelled = transaction.state is TransactionState.CANCELLED
        return CardServiceResponse(
            CARD_PAYMENT if transaction.kind == "payment" else PAYMENT_REVERSAL,
            transaction.reference,
            result,
            workstation_id,
            self.options.terminal_id,
            f"{transaction.trace % 1_000_000:06d}",
            amount=None
            if cancelled
            else Money(transaction.amount_minor + (1 if wrong_amount else 0), transaction.currency),
            authorisation=None if cancelled else said,
            technology="" if cancelled else _NFC if contactless else _CHIP,
            verification="" if transaction.result_code else _NO_CVM if contactless else _PIN,
            error_text=text,
        )

    async def _reverse(self, dialogue: Dialogue, request: CardServiceRequest) -> None:
        if await self._repeats(dialogue, request):
            return
        await dialogue.show("Annulation")
        payments = [t for t in self.ledger.transactions if t.kind == "payment"]
        asked = next((t for t in payments if f"{t.trace % 1_000_000:06d}" == request.original_stan), None)
        target = self.last_payment() if self.faults.reverse_last else asked
        stopped = await dialogue.wait(self.options.think_s)
        impossible = asked is None or target is None or target.state not in MONEY_MOVED
        if stopped or target is None or impossible or not (self.host_up or target.state is TransactionState.STORED):
            await dialogue.answer(refusal(request, ABORTED if stopped else FAILURE, self.options.terminal_id))
            return
        # The books know it by the hub's RequestID from the first moment: that is what an enquiry will be told.
        reversal = self.ledger.book(replace(self.book_reversal(target), reference=request.request_id))
        await self._print(dialogue, reversal)
        await self._answer(dialogue, reversal)

    async def _repeat_card_message(self, dialogue: Dialogue, request: CardServiceRequest) -> None:
        last = self.ledger.last_with_receipt
        if last is None:
            cancelled = CardServiceResponse(CARD_PAYMENT, "0", ABORTED, "0", self.options.terminal_id, "000000")
            await dialogue.answer(cancelled)
            return
        withheld = last.kind == "payment" and last.amount_minor % 100 == ANSWER_LOST_FOR_GOOD
        if withheld or self.faults.no_receipt_content:
            await dialogue.answer(refusal(request, FAILURE))
            return
        await self._answer(dialogue, last, truthful=True)

    # -- services ------------------------------------------------------------------------------------------------------

    async def _serve_service(self, dialogue: Dialogue, request: ServiceRequest) -> None:
        if request.request_type == REPEAT_LAST_MESSAGE:
            await dialogue.answer(self._last_service)
            return
        result, totals = await self._result_of(dialogue, request.request_type)
        self._last_service = ServiceResponse(
            request.request_type,
            request.request_id,
            result,
            request.till.workstation_id,
            self.options.terminal_id,
            f"{(self.ledger.next_trace - 1) % 1_000_000:06d}",
            totals,
        )
        await dialogue.answer(self._last_service)

    async def _result_of(self, dialogue: Dialogue, kind: str) -> tuple[str, tuple[Total, ...] | None]:
        if kind == LOGIN:
            self._logged_in = not self.faults.refuse_registration
            return (SUCCESS if self._logged_in else FAILURE), None
        if kind == LOGOFF:
            self._logged_in = False
            return SUCCESS, None
        await dialogue.show("Connexion", "en cours")
        await dialogue.wait(self.options.think_s)
        if not self.host_up:
            return COMMUNICATION_ERROR, None
        if kind == SEND_OFFLINE:
            return self._send_offline(), None
        if kind == END_OF_DAY:
            return await self._end_of_day(dialogue)
        if kind in _CALLS_HOME:
            lines, done = self.call_home(_CALLS_HOME[kind])
            await dialogue.print_lines(lines)
            return (SUCCESS if done else FAILURE), None
        return (SUCCESS if kind == DIAGNOSIS else FAILURE), None

    def _send_offline(self) -> str:
        if self.faults.clearing_fails:
            return FAILURE
        self.forward_stored()
        return SUCCESS

    async def _end_of_day(self, dialogue: Dialogue) -> tuple[str, tuple[Total, ...]]:
        batch = self.close_batch()
        await dialogue.print_lines(["* * Clôture * *", f"Nombre {len(batch)}"])
        amount = Money(sum(transaction.amount_minor for transaction in batch), self.options.currency)
        return SUCCESS, (Total(len(batch), amount, "Debit", "Bancontact"),) if batch else ()
