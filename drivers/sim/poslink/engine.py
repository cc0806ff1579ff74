"""The terminal itself: commands in, answers out, books in the ledger. No transport, no thread, no time of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from drivers.link import READ_BYTES_MAX, LineLostError
from drivers.poslink_codec import Dialect, Frame
from drivers.poslink_link import PoslinkLink
from drivers.sim.faults import TerminalFaults
from drivers.sim.ledger import MONEY_MOVED, Ledger, Transaction, TransactionState
from drivers.sim.poslink.dialogue import (
    CANCEL,
    Dialogue,
    Groups,
    HttpLine,
    Line,
    account_group,
    additional_group,
    amount_group,
    host_group,
    moment_of,
    number_of,
    trace_group,
)
from drivers.sim.terminal import (
    ANSWER_LOST,
    ANSWER_LOST_FOR_GOOD,
    REFUSE_BUSY,
    SLOW,
    SLOW_STEP_S,
    SLOW_STEPS,
    STORED_THEN_DECLINED,
    Order,
    ResultCodes,
    TerminalOptions,
    TerminalSimulator,
)
from hubd.ports import ByteStream
from hubd.runtime import Runtime

OK, STORED, DECLINE, ABORTED, ERROR, COMM_ERROR = "000000", "000001", "000100", "100002", "100003", "100010"
DUPLICATE, VOIDED, NOT_FOUND, UNSUPPORTED = "100011", "100021", "100023", "100004"
BUSY = "100099"
"""Real terminals have a number of their own for it, which is not published; their text is."""
EMPTY: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True)
class SimulatorOptions(TerminalOptions):
    """A POSLink terminal's own settings."""

    currency: str = "USD"
    with_length: bool = False
    """Whether it puts the length behind STX."""
    hangs_up: bool = False
    """Whether it ends the line after every answer."""
    tells_history: bool = True
    """Whether it knows the command for the batch that was closed last."""


class _StartedStream:
    """A stream of which the first bytes have been read already."""

    def __init__(self, stream: ByteStream, first: bytes) -> None:
        self._stream, self._first = stream, first

    async def read(self, max_bytes: int) -> bytes:
        """See `ByteStream`."""
        first, self._first = self._first[:max_bytes], self._first[max_bytes:]
        return first or await self._stream.read(max_bytes)

    async def write(self, data: bytes) -> None:
        """See `ByteStream`."""
        await self._stream.write(data)

    async def close(self) -> None:
        """See `ByteStream`."""
        await self._stream.close()


class PoslinkSimulator(TerminalSimulator):
    """One terminal with any number of lines to it, one command at a time."""

    codes = ResultCodes(cancelled=100002, declined=100, no_connection=100)

    def __init__(self, runtime: Runtime, options: SimulatorOptions | None = None, ledger: Ledger | None = None) -> None:
        super().__init__(runtime, ledger)
        self.options: SimulatorOptions = options or SimulatorOptions()
        self.faults: TerminalFaults = TerminalFaults()
        self._running: Dialogue | None = None
        self.exchanges = 0
        """How many commands were answered."""

    async def talk(self, stream: ByteStream, *, serial: bool) -> None:
        """See `TerminalSimulator`. A line that begins with a GET carries one command."""
        first = await stream.read(READ_BYTES_MAX)
        if first.startswith(b"GET "):
            line = HttpLine(stream, self._runtime.clock)
            asked = await line.request(first)
            if asked is not None:
                await self._answer(line, asked)
            return
        dialect = Dialect.LENGTH if self.options.with_length else Dialect.PLAIN
        link = PoslinkLink(_StartedStream(stream, first), self._runtime.clock, dialect)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="poslink-simulator:pump")
            try:
                while first:
                    frame = await link.receive(None)
                    if isinstance(frame, Frame):
                        await self._answer(link, frame)
                        if self.options.hangs_up:
                            break
            except OSError:
                pass  # the line is lost
            finally:
                await link.close()

    def power_cut(self) -> None:
        """Everything is in the books; a transaction that ran is forgotten with its line."""

    # -- commands ------------------------------------------------------------------------------------------------------

    async def _answer(self, line: Line, frame: Frame) -> None:
        command = frame.groups[0][0]
        groups = [*frame.groups[2:], *[EMPTY] * 12]
        if command == "T00" and groups[0] == ("01",):
            self.authorizations_received += 1
        if command == CANCEL:
            if self._running is not None:
                self._running.aborted = True
            return
        kept, leak = self.options.keeps_going, self.faults.leak
        dialogue = Dialogue(line, self._runtime.clock, keeps_going=kept, leak=leak)
        if self._running is not None:
            await dialogue.answer(_answer_to(command), BUSY, "SERVICE BUSY", [])
            return
        self._running = dialogue
        try:
            await self._serve_command(dialogue, command, groups)
        finally:
            self._running = None
        self.exchanges += 1
        for waiting in dialogue.deferred:
            await self._answer(line, waiting)

    async def _serve_command(self, dialogue: Dialogue, command: str, groups: Groups) -> None:
        match command, groups[0][0]:
            case "T00", "01":
                await self._sale(dialogue, groups)
            case "T00", "16":
                await self._void(dialogue, groups)
            case "R02", _:
                await self._detail(dialogue, groups)
            case _:
                handlers = {
                    "A00": self._initialize,
                    "B00": self._batch_close,
                    "B08": self._saf_upload,
                    "R06": self._host_report,
                    "R08": self._history,
                    "R10": self._saf_summary,
                }
                answer = handlers[command]() if command in handlers else (UNSUPPORTED, "UNSUPPORT COMMAND", [])
                await dialogue.wait(self.options.think_s if command in ("B00", "B08", "R06") else 0)
                await dialogue.answer(_answer_to(command), *answer)

    def _initialize(self) -> tuple[str, str, Groups]:
        if self.faults.refuse_registration:
            return ERROR, "FULL INTEGRATION ONLY", []
        leak = self.faults.leak
        return OK, "OK", [(leak or self.options.terminal_id,), ("S300",), (leak or self.software,), (leak,)]

    def _host_report(self) -> tuple[str, str, Groups]:
        return (
            (OK, "OK", [(f"BATCH OPEN {self.faults.leak}".strip(),)])
            if self.host_up
            else (COMM_ERROR, "COMM ERROR", [])
        )

    def _history(self) -> tuple[str, str, Groups]:
        if not self.options.tells_history:
            return UNSUPPORTED, "UNSUPPORT COMMAND", []
        closed = [t for t in self.ledger.transactions if t.kind == "end_of_day"]
        if not closed:
            return NOT_FOUND, "NOT FOUND", []
        # The time is that of the answer, so only the number of the batch tells two of them apart.
        now = moment_of(replace(closed[-1], at_us=self._runtime.clock.now_us()))
        return OK, "OK", [("1",), (str(closed[-1].amount_minor),), (now,), (str(len(closed)),)]

    def _saf_summary(self) -> tuple[str, str, Groups]:
        stored = self.ledger.stored()
        return OK, "OK", [(str(len(stored)),), (str(sum(t.amount_minor for t in stored)),)]

    def _saf_upload(self) -> tuple[str, str, Groups]:
        if not self.host_up or self.faults.clearing_fails:
            return COMM_ERROR, "COMM ERROR", []
        stored = self.forward_stored()
        if not stored:
            return NOT_FOUND, "NOT FOUND", []
        taken = [t for t in stored if t.amount_minor % 100 != STORED_THEN_DECLINED]
        total, uploaded = (sum(t.amount_minor for t in some) for some in (stored, taken))
        counts = [str(len(stored)), str(total), "", str(len(taken)), str(uploaded)]
        return OK, "OK", [(text,) for text in (*counts, str(len(stored) - len(taken)), str(len(stored) - len(taken)))]

    def _batch_close(self) -> tuple[str, str, Groups]:
        if not self.host_up:
            return COMM_ERROR, "COMM ERROR", []
        batch = self.close_batch()
        total = sum(t.amount_minor for t in batch)
        # Credit, debit, EBT, gift, loyalty, cash, cheque.
        counts, amounts = ((str(value), *["0"] * 6) for value in (len(batch), total))
        return OK, "OK", [("0", "CLOSED"), counts, amounts, ("",), (self.options.terminal_id,), ("1",)]

    # -- payments ------------------------------------------------------------------------------------------------------

    async def _sale(self, dialogue: Dialogue, groups: Groups) -> None:
        order = Order(int(groups[1][0]), self.options.currency, groups[3][0])
        if order.ending == REFUSE_BUSY:
            await dialogue.answer("T01", BUSY, "SERVICE BUSY", [])
            return
        twin = [t for t in self._records() if t.kind == "payment" and t.reference == order.reference]
        if twin:
            await dialogue.answer("T01", DUPLICATE, "DUP TRANSACTION", self._transaction_groups(twin[0]))
            return
        try:
            stopped = await self._present_card(dialogue, order.ending)
        except LineLostError:
            self.book_payment(order, TransactionState.CANCELLED, self.codes.cancelled)
            raise
        transaction = self.decide(order, stopped=stopped)
        if order.ending in (ANSWER_LOST, ANSWER_LOST_FOR_GOOD) and not dialogue.detached and not stopped:
            raise LineLostError("test amount: the line goes with the answer")
        if stopped:
            await dialogue.answer("T01", ABORTED, "ABORTED", [])
        elif transaction.result_code:
            await dialogue.answer("T01", DECLINE, "DECLINE", self._transaction_groups(transaction))
        else:
            stored = transaction.state is TransactionState.STORED
            code, message = (STORED, "APPROVED OFFLINE") if stored else (OK, "OK")
            await dialogue.answer("T01", code, message, self._transaction_groups(transaction))

    async def _present_card(self, dialogue: Dialogue, ending: int) -> bool:
        """The customer and the host take their time; return whether the payment was stopped."""
        if ending == SLOW:
            for _ in range(SLOW_STEPS):
                if await dialogue.wait(SLOW_STEP_S):
                    return True
        return await dialogue.wait(2 * self.options.think_s) or dialogue.aborted

    def _transaction_groups(self, transaction: Transaction, *, truthful: bool = False) -> Groups:
        """Host, type, amounts, account, trace, AVS, commercial, e-commerce, additional; lies of the fault menu."""
        declined = transaction.result_code != 0
        amount, number = 0 if declined else transaction.amount_minor, "" if declined else number_of(transaction)
        if not truthful and not declined:
            amount += 1 if self.faults.wrong_amount else 0
            number = str((int(number) + 36) % 9999 + 1) if self.faults.wrong_receipt else number
        leak = self.faults.leak
        return [
            host_group(transaction, leak),
            ("16",) if transaction.kind == "reversal" else ("01",),
            amount_group(amount),
            account_group(self.technology, leak),
            trace_group(transaction, number),
            ("", ""),
            ("", "", ""),
            EMPTY,
            additional_group(self.technology, leak),
        ]

    async def _void(self, dialogue: Dialogue, groups: Groups) -> None:
        reference, number = groups[3][0], groups[3][3]
        asked = next((t for t in self._records() if t.kind == "payment" and number_of(t) == number), None)
        target = self.last_payment() if self.faults.reverse_last else asked
        if asked is None or target is None:
            await dialogue.answer("T01", NOT_FOUND, "NOT FOUND", [])
            return
        if target.state not in MONEY_MOVED:
            await dialogue.answer("T01", VOIDED, "ALREADY VOIDED", [])
            return
        if await dialogue.wait(self.options.think_s):
            await dialogue.answer("T01", ABORTED, "ABORTED", [])
            return
        if not self.host_up and target.state is not TransactionState.STORED:
            await dialogue.answer("T01", COMM_ERROR, "COMM ERROR", [])
            return
        reversal = self.ledger.book(replace(self.book_reversal(target), reference=reference))
        await dialogue.answer("T01", OK, "OK", self._transaction_groups(reversal))

    # -- records -------------------------------------------------------------------------------------------------------

    def _records(self) -> list[Transaction]:
        """What the open batch holds, oldest first: declined and cancelled ones leave no record."""
        kept = {*MONEY_MOVED, TransactionState.REVERSED}
        records: list[Transaction] = []
        for transaction in self.ledger.transactions:
            if transaction.kind == "end_of_day":
                records.clear()
            elif transaction.state in kept:
                records.append(transaction)
        return records

    async def _detail(self, dialogue: Dialogue, groups: Groups) -> None:
        index, number, reference = groups[3][0], groups[4][0], groups[6][0]
        records = [t for t in self._records() if number in ("", number_of(t)) and reference in ("", t.reference)]
        place = int(index or 0)
        if place >= len(records):
            await dialogue.answer("R03", NOT_FOUND, "NOT FOUND", [])
            return
        found = records[place]
        withheld = found.kind == "payment" and found.amount_minor % 100 == ANSWER_LOST_FOR_GOOD
        if reference and (withheld or self.faults.no_receipt_content):
            await dialogue.answer("R03", OK, "OK", [])
            return
        host, kind, amounts, account, trace, *_, additional = self._transaction_groups(found, truthful=True)
        original = ("01",) if found.kind == "reversal" else EMPTY
        head = [(str(len(records)),), (str(place),), host, ("01",), kind, original]
        await dialogue.answer("R03", OK, "OK", [*head, amounts, account, trace, EMPTY, EMPTY, EMPTY, additional])


def _answer_to(command: str) -> str:
    """The number of a command's answer."""
    return f"{command[0]}{int(command[1:]) + 1:02d}" if command[1:].isdigit() else command
