"""What all simulated card terminals share: books, faults, test amounts, and a host that decides by the amount.

Where a real terminal would ask its host, the last two digits of the amount decide (`TEST_AMOUNTS`). A protocol's
simulator adds its own words; what it books, and when, is here.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from drivers.sim.faults import FaultyStream, TerminalFaults
from drivers.sim.ledger import Ledger, Transaction, TransactionState
from hubd.ports import ByteStream
from hubd.runtime import Runtime

DECLINE, STORED_THEN_APPROVED, STORED_THEN_DECLINED, ANSWER_LOST, ANSWER_LOST_FOR_GOOD, REFUSE_BUSY, SLOW = (
    5, 11, 12, 13, 14, 20, 90,
)  # fmt: skip
TEST_AMOUNTS: Final = {
    DECLINE: "declined",
    STORED_THEN_APPROVED: "stored offline, approved when sent",
    STORED_THEN_DECLINED: "stored offline, declined when sent",
    ANSWER_LOST: "the answer is lost, an enquiry finds it approved",
    ANSWER_LOST_FOR_GOOD: "the answer is lost, an enquiry has no content",
    REFUSE_BUSY: "the terminal is busy",
    SLOW: "the customer takes 90 seconds",
}
SLOW_STEPS, SLOW_STEP_S = 9, 10.0


@dataclass(frozen=True, slots=True)
class TerminalOptions:
    """A terminal's own settings."""

    terminal_id: str = "52500038"
    currency: str = "EUR"
    floor_limit_minor: int = 5000
    """Highest amount it approves without its host."""
    think_s: float = 0.0
    """Seconds that the customer takes with the card, and the host with its answer."""
    keeps_going: bool = False
    """Whether a payment goes on when the hub's line is lost; otherwise it is cancelled until the card is booked."""


@dataclass(frozen=True, slots=True)
class ResultCodes:
    """How a protocol numbers why a payment was not taken; zero is success everywhere."""

    cancelled: int
    declined: int
    no_connection: int


@dataclass(frozen=True, slots=True)
class Order:
    """A payment that the hub asks for."""

    amount_minor: int
    currency: str = ""
    reference: str = ""

    @property
    def ending(self) -> int:
        """What decides: the last two digits."""
        return self.amount_minor % 100


Dial = Callable[[int], Awaitable[ByteStream]]
"""Opens a line to this port of the hub; raises OSError. Whoever opens it closes it."""


async def dial_nobody(port: int) -> ByteStream:
    """Nobody has opened a line yet, so there is no hub to call. Raises OSError."""
    raise OSError(f"no hub to call at port {port}")


class TerminalSimulator(abc.ABC):
    """One terminal with any number of lines to it. No transport, no thread, no time of its own."""

    codes: ResultCodes
    options: TerminalOptions
    faults: TerminalFaults

    def __init__(self, runtime: Runtime, ledger: Ledger | None) -> None:
        self._runtime = runtime
        self._lines: set[ByteStream] = set()
        self.ledger = ledger or Ledger()
        self.dial: Dial = dial_nobody
        """For protocols in which the terminal calls the hub as well: to where its newest line came from."""
        self.host_up = True
        self.plugged = True
        self.technology = "chip"
        self.software = "sim_1"
        """Version of its software, where its protocol tells that."""
        self.update = ""
        """A newer version that its management system has for it."""
        self.called_home: list[str] = []
        """Which calls for parameters or to its management system have ended well."""
        self.authorizations_received = 0
        """How many commands to take a payment have arrived, whatever became of them."""

    @abc.abstractmethod
    async def talk(self, stream: ByteStream, *, serial: bool) -> None:
        """Speak the protocol on one line until it is lost: return, or raise OSError. Closes what it opened."""

    @abc.abstractmethod
    def power_cut(self) -> None:
        """Forget what does not survive the plug being pulled."""

    async def serve(self, stream: ByteStream, *, serial: bool = False) -> None:
        """Talk on one line until it is lost. Cancellation closes it."""
        if not self.plugged:
            await stream.close()
            return
        self._lines.add(stream)
        faulty = FaultyStream(stream, self.faults, self._runtime)
        try:
            if self.faults.greeting:
                await faulty.write(bytes.fromhex(self.faults.greeting))
            await self.talk(faulty, serial=serial)
        except OSError:
            pass  # the line is lost; the next one finds the terminal as the books say
        finally:
            await faulty.close()
            self._lines.discard(stream)

    async def unplug(self) -> None:
        """Cut all lines and take no new one."""
        self.plugged = False
        for stream in tuple(self._lines):
            await stream.close()

    def replug(self) -> None:
        """Take lines again, as after a power cut."""
        self.plugged = True
        self.power_cut()

    async def control(self, request: dict[str, object]) -> dict[str, object]:
        """One command of the control socket; raises ValueError for what is not understood."""
        match request:
            case {"cmd": "ledger"}:
                return {
                    "ledger": self.ledger.as_json(),
                    "authorizations_received": self.authorizations_received,
                    "called_home": self.called_home,
                }
            case {"cmd": "update", "version": str(version)}:
                self.update = version
            case {"cmd": "host", "up": bool(up)}:
                self.host_up = up
            case {"cmd": "unplug"}:
                await self.unplug()
            case {"cmd": "replug"}:
                self.replug()
            case {"cmd": "card", "technology": "chip" | "contactless" as technology}:
                self.technology = str(technology)
            case {"cmd": "fault", "name": str(name), "value": value}:
                self.faults.set(name, value)
            case {"cmd": "well"}:
                self.faults.clear()
            case {"cmd": "said"}:
                return self.faults.said_json()
            case _:
                raise ValueError("commands are ledger, update, host, unplug, replug, card, fault, well, said")
        return {"ok": True}

    def call_home(self, what: str) -> tuple[list[str], bool]:
        """Fetch parameters or contact the management system: what is printed, and whether it went well."""
        if self.faults.says:
            return [self.faults.says], False
        if not self.host_up:
            return [], False
        self.called_home.append(what)
        if what == "tms_contact":
            self.software, self.update = self.update or self.software, ""
        return ["* * OK * *"], True

    # -- what it books -------------------------------------------------------------------------------------------------

    def decide(self, order: Order, *, stopped: bool) -> Transaction:
        """What becomes of a payment once customer and host had their time; it is in the books on return."""
        if stopped:
            return self.book_payment(order, TransactionState.CANCELLED, self.codes.cancelled)
        if order.ending == DECLINE:
            return self.book_payment(order, TransactionState.DECLINED, self.codes.declined)
        if order.ending in (STORED_THEN_APPROVED, STORED_THEN_DECLINED):
            return self.book_payment(order, TransactionState.STORED, 0)
        if self.host_up:
            return self.book_payment(order, TransactionState.APPROVED, 0)
        if order.amount_minor <= self.options.floor_limit_minor and self.technology != "contactless":
            return self.book_payment(order, TransactionState.STORED, 0)
        return self.book_payment(order, TransactionState.DECLINED, self.codes.no_connection)

    def book_payment(self, order: Order, state: TransactionState, result_code: int) -> Transaction:
        """Nothing after this can undo what the customer's bank has been told."""
        return self.ledger.book(
            Transaction(
                trace=self.ledger.next_trace,
                kind="payment",
                state=state,
                amount_minor=order.amount_minor,
                currency=order.currency or self.options.currency,
                receipt_number="" if state is TransactionState.CANCELLED else self.ledger.next_receipt,
                reference=order.reference,
                at_us=self._runtime.clock.now_us(),
                offline=state is TransactionState.STORED,
                result_code=result_code,
            )
        )

    def book_reversal(self, target: Transaction, reference: str = "") -> Transaction:
        """The payment is undone."""
        self.ledger.change(target, TransactionState.REVERSED)
        return self.ledger.book(
            Transaction(
                trace=self.ledger.next_trace,
                kind="reversal",
                state=TransactionState.APPROVED,
                amount_minor=target.amount_minor,
                currency=target.currency,
                receipt_number=target.receipt_number,
                reference=reference,
                at_us=self._runtime.clock.now_us(),
                original_trace=target.trace,
            )
        )

    def forward_stored(self) -> tuple[Transaction, ...]:
        """The host takes them all; whether it declines one late is its secret where the protocol has no word for it."""
        stored = self.ledger.stored()
        for transaction in stored:
            late = transaction.amount_minor % 100 == STORED_THEN_DECLINED
            settlement = "declined_late" if late else "captured"
            self.ledger.change(transaction, TransactionState.FORWARDED, settlement)
        return stored

    def close_batch(self) -> tuple[Transaction, ...]:
        """End of day: stored ones are sent, and the batch that ends here is returned."""
        self.forward_stored()
        batch = self.ledger.open_batch()
        self.ledger.book(
            Transaction(
                trace=self.ledger.next_trace,
                kind="end_of_day",
                state=TransactionState.APPROVED,
                amount_minor=sum(transaction.amount_minor for transaction in batch),
                currency=self.options.currency,
                at_us=self._runtime.clock.now_us(),
            )
        )
        return batch

    def last_payment(self) -> Transaction | None:
        """The newest payment that has a receipt."""
        payments = [t for t in self.ledger.transactions if t.kind == "payment" and t.receipt_number]
        return payments[-1] if payments else None
