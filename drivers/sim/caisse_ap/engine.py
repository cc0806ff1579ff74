"""The terminal itself: messages in, messages out, books in the ledger. No transport, no thread, no time of its own."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from enum import StrEnum

from drivers.caisse_ap_codec import (
    CURRENCY_NUMBERS,
    DEBIT,
    IDENTIFICATION,
    NOT_PERFORMED,
    PERFORMED,
    TAKEN_INTO_ACCOUNT,
    Identification,
    Message,
    Payment,
    amount_of,
    decode_request,
    encode_elements,
)
from drivers.caisse_ap_link import FOREIGN, CaisseApLink
from drivers.link import LineLostError
from drivers.sim.faults import TerminalFaults
from drivers.sim.ledger import Ledger, Transaction, TransactionState
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

_FORBIDDEN, _BAD_FORMAT, _BAD_SELECTION, _UNKNOWN_ACTION, _BAD_CURRENCY = "05", "09", "10", "12", "13"
_VERSION, _SOFTWARE_ID = "0301", "330538600404"
"""Terminals answer with their own version and software number, not with the cash register's."""
_ECHOED = ("CA", "CB", "CD", "CE")


class LineHabit(StrEnum):
    """What becomes of a line once a request on it has been answered."""

    KEPT = "kept"
    CLOSED = "closed"
    DEAF = "deaf"
    """It stays open, and nothing that comes on it is read any more."""


@dataclass(frozen=True, slots=True)
class SimulatorOptions(TerminalOptions):
    """A Caisse-AP terminal's own settings."""

    lines: LineHabit = LineHabit.KEPT
    echoes_reference: bool = True
    """Whether it gives private data (tag CF) back; otherwise it answers with data of its own there."""


class CaisseApSimulator(TerminalSimulator):
    """One terminal with any number of lines to it, one payment at a time.

    What a busy terminal says to a payment is not public; this one calls it an error of selection (AF 10), and leaves
    the cause out when it is only asked for its identity.
    """

    codes = ResultCodes(cancelled=6, declined=4, no_connection=7)

    def __init__(self, runtime: Runtime, options: SimulatorOptions | None = None, ledger: Ledger | None = None) -> None:
        super().__init__(runtime, ledger)
        self.options: SimulatorOptions = options or SimulatorOptions()
        self.faults: TerminalFaults = TerminalFaults()
        self.busy = False
        """Whether a payment is under way, or somebody works in its menu."""

    async def talk(self, stream: ByteStream, *, serial: bool) -> None:
        """See `TerminalSimulator`."""
        link = CaisseApLink(stream, self._runtime.clock)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="caisse-ap-simulator:pump")
            try:
                await self._serve_line(link)
            except LineLostError as error:
                if error.reason in FOREIGN:
                    await self._refuse_unread(stream)
            finally:
                await link.close()

    async def _serve_line(self, link: CaisseApLink) -> None:
        while True:
            await self._answer(link, await link.receive(_is_request))
            if self.options.lines is LineHabit.CLOSED:
                return
            if self.options.lines is LineHabit.DEAF:
                await link.ended.wait()
                return
            link.forget_received()

    async def _refuse_unread(self, stream: ByteStream) -> None:
        await stream.write(
            encode_elements([("CZ", _VERSION), ("CJ", _SOFTWARE_ID), ("AE", NOT_PERFORMED), ("AF", _BAD_FORMAT)])
        )

    def power_cut(self) -> None:
        """A payment that was under way is not known any more."""
        self.busy = False

    # -- requests ------------------------------------------------------------------------------------------------------

    async def _answer(self, link: CaisseApLink, message: Message) -> None:
        request = decode_request(message)
        match request:
            case Identification():
                await self._identify(link, message)
            case Payment():
                await self._authorize(link, message, request)
            case None:
                await self._say(link, message, NOT_PERFORMED, _what_is_wrong(message))

    async def _identify(self, link: CaisseApLink, message: Message) -> None:
        if self.faults.refuse_registration:
            await self._say(link, message, NOT_PERFORMED, _FORBIDDEN)
        else:
            await self._say(link, message, NOT_PERFORMED if self.busy else PERFORMED)

    async def _authorize(self, link: CaisseApLink, message: Message, request: Payment) -> None:
        self.authorizations_received += 1
        order = Order(request.amount_minor, request.currency, request.reference)
        if self.busy or order.ending == REFUSE_BUSY:
            await self._say(link, message, NOT_PERFORMED, _BAD_SELECTION)
            return
        waits_for_outcome = message.get("BA") != "1"
        if not waits_for_outcome:
            await self._say(link, message, TAKEN_INTO_ACCOUNT)
        self.busy = True
        try:
            gone = await self._present_card(link, order)
        finally:
            self.busy = False
        if gone and not self.options.keeps_going:
            self.book_payment(order, TransactionState.CANCELLED, self.codes.cancelled)
            raise LineLostError(link.lost)
        transaction = self.decide(order, stopped=False)
        if gone or not waits_for_outcome:
            return
        if order.ending in (ANSWER_LOST, ANSWER_LOST_FOR_GOOD):
            raise LineLostError("test amount: the line goes with the answer")
        await self._tell(link, message, transaction)

    async def _present_card(self, link: CaisseApLink, order: Order) -> bool:
        """The customer and the host take their time; return whether the line was lost meanwhile."""
        seconds = self.options.think_s + (SLOW_STEPS * SLOW_STEP_S if order.ending == SLOW else 0.0)
        until = self._runtime.clock.monotonic() + seconds
        try:
            async with self._runtime.clock.timeout(seconds):
                await link.ended.wait()
        except TimeoutError:
            return False
        if self.options.keeps_going:
            await self._runtime.clock.sleep(max(0.0, until - self._runtime.clock.monotonic()))
        return True

    # -- what it says --------------------------------------------------------------------------------------------------

    async def _tell(self, link: CaisseApLink, message: Message, transaction: Transaction) -> None:
        status = NOT_PERFORMED if transaction.result_code else PERFORMED
        cause = f"{transaction.result_code:02d}" if transaction.result_code else ""
        await self._say(link, message, status, cause, [*self._card(transaction), *self._private(transaction)])

    def _card(self, transaction: Transaction) -> list[tuple[str, str]]:
        leak = self.faults.leak
        contactless = self.technology == "contactless"
        fields = [
            ("CC", "00B" if contactless else "001"),
            ("CI", "2" if contactless else "1"),
            ("AI", "A0000000421010"),
            ("AA", leak or "497010######4771"),
            ("AB", "2712"),
            ("CG", "4242424"),
        ]
        if not transaction.offline:
            fields.append(("AC", f"{transaction.trace % 1_000_000:06d}"))
        return fields

    def _leaked(self) -> list[tuple[str, str]]:
        """A card number in the fields that any answer may have: text of the host, tracks, ticket, private tags."""
        leak = self.faults.leak
        if not leak:
            return []
        ticket = base64.b64encode(f"CARTE BANCAIRE\n{leak}\n".encode("latin-1")).decode("ascii")
        named = [(tag, leak) for tag in ("AM", "AD", "AG", "AH", "AJ", "AL", "AN", "CH", "TI", "ZX")]
        return [*named, ("AK", f";{leak}=27121010000?"), ("ZT", f"CK003100AK{len(ticket):03d}{ticket}")]

    def _private(self, transaction: Transaction) -> list[tuple[str, str]]:
        """What stands in CF: what the cash register sent, data of the terminal's own, or what a fault makes of it."""
        if self.faults.leak:
            return [("CF", self.faults.leak)]
        if not self.options.echoes_reference or not transaction.reference:
            return [("CF", "1010000000")]
        wrong = self.faults.wrong_receipt
        return [("CF", "".join(reversed(transaction.reference)) if wrong else transaction.reference)]

    async def _say(
        self,
        link: CaisseApLink,
        message: Message,
        status: str,
        cause: str = "",
        more: list[tuple[str, str]] | None = None,
    ) -> None:
        """Answer a request: its own fields come back, the amount filled up with zeros as some terminals do."""
        fields = [("CZ", _VERSION), ("CJ", _SOFTWARE_ID)]
        for tag in _ECHOED:
            value = message.get(tag)
            if value:
                fields.append((tag, self._amount(value) if tag == "CB" else value))
        fields.append(("AE", status))
        if cause:
            fields.append(("AF", f"{cause}{self.faults.leak}"))
        await link.send(encode_elements([*fields, *(more or []), *self._leaked()]))

    def _amount(self, value: str) -> str:
        if amount_of(value) is None:
            return value
        return f"{int(value) + (1 if self.faults.wrong_amount else 0):08d}"


def _is_request(message: Message) -> bool:
    """Whether a message holds all that a cash register has to say."""
    if message.get("CD") == IDENTIFICATION:
        return True
    return all(message.get(tag) for tag in ("CJ", "CA", "CB", "CD", "CE"))


def _what_is_wrong(message: Message) -> str:
    if message.get("CD") not in (DEBIT, ""):
        return _UNKNOWN_ACTION
    known = message.get("CE") in CURRENCY_NUMBERS.values()
    return _BAD_FORMAT if known or not message.get("CE") else _BAD_CURRENCY
