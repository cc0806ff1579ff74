"""The terminal itself: commands in, dialogue out, books in the ledger. No transport, no thread, no time of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from drivers.link import LineLostError
from drivers.sim.faults import TerminalFaults
from drivers.sim.ledger import MONEY_MOVED, Ledger, Transaction, TransactionState
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
from drivers.sim.zvt.dialogue import (
    ALTERNATIVE_ACK,
    BUSY,
    Dialogue,
    receipt_lines,
    reference_lines,
    status_fields,
)
from drivers.zvt_codec import CURRENCY_NUMBERS, Apdu, amount_to_bcd, bcd, build_fields, build_tlv
from drivers.zvt_link import ZvtLink
from drivers.zvt_messages import (
    DEVICE,
    DEVICE_NAME,
    DEVICE_SOFTWARE,
    DIAGNOSIS,
    END_OF_DAY,
    EXTENDED_DIAGNOSIS,
    INITIALISATION,
    LOG_OFF,
    OFFLINE_TRANSACTION,
    POSITIVE_ACK,
    REPEAT_RECEIPT,
    SEND_OFFLINE,
    STATUS_ENQUIRY,
    TERMINAL_SAYS,
    Authorization,
    Command,
    DisplayText,
    Plain,
    Registration,
    Reversal,
    SetClock,
    decode_command,
    encode_totals,
)
from hubd.ports import ByteStream
from hubd.runtime import Runtime

_INSERT_CARD, _WAITING_FOR_HOST, _REMOVE_CARD, _OFFLINE = 0x0A, 0x04, 0x0B, 0xF1
_CANCELLED, _DECLINED, _NO_CONNECTION, _NO_RECEIPT = 0x6C, 0x05, 0xA3, 0x83
_NOT_REGISTERED, _NOT_REVERSIBLE, _ALREADY_REVERSED, _CLEARING_FAILED = 0x6B, 0xB5, 0xB4, 0xFA


@dataclass(frozen=True, slots=True)
class SimulatorOptions(TerminalOptions):
    """A ZVT terminal's own settings."""

    password: str = "000000"
    print_blocks: bool = False
    print_reference: bool = False
    """Whether receipts show the additional text of the authorisation (field 3C)."""


@dataclass(slots=True)
class Faults(TerminalFaults):
    """The menu of this protocol."""

    reverse_last_hidden: bool = False
    """As `reverse_last`, but the status information repeats what was asked; only the printed receipt tells."""
    mute_enquiry_after_cancel: bool = False
    """Ingenico i5310: no answer to a status enquiry right after a cancelled card read."""
    alternative_acks: bool = False
    """It takes commands with 84 00 00 where others say 80 00 00."""
    words: str = ""
    """What it tells the cashier in its own words while a card is awaited (04 FF with code FF)."""
    busy_answers: int = 0
    """So many commands more are answered 84 9C 00 and not taken."""


class ZvtSimulator(TerminalSimulator):
    """One terminal with any number of lines to it, one dialogue at a time."""

    codes = ResultCodes(_CANCELLED, _DECLINED, _NO_CONNECTION)

    def __init__(self, runtime: Runtime, options: SimulatorOptions | None = None, ledger: Ledger | None = None) -> None:
        super().__init__(runtime, ledger)
        self.options: SimulatorOptions = options or SimulatorOptions()
        self.faults: Faults = Faults()
        self._registered = False
        self.registered_currency = ""
        self._in_dialogue = False
        self._just_cancelled = False
        self.terminal_status = 0
        """What a status enquiry tells: 00 ready, DC card inserted, C2 diagnosis needed."""
        self.shown: tuple[str, ...] = ()
        """What a display text (06 E0) has put on its screen."""
        self.clock_set = ""
        """Date and time as the last 06 91 said them."""

    async def talk(self, stream: ByteStream, *, serial: bool) -> None:
        """See `TerminalSimulator`."""
        link = ZvtLink(stream, self._runtime.clock, serial=serial)
        async with asyncio.TaskGroup() as group:
            group.create_task(link.pump(), name="zvt-simulator:pump")
            try:
                while True:
                    await self._answer(link, await link.receive(None))
            except OSError:
                pass  # the line is lost
            finally:
                await link.close()

    def power_cut(self) -> None:
        """The registration is forgotten."""
        self._registered = False

    # -- commands ------------------------------------------------------------------------------------------------------

    async def _answer(self, link: ZvtLink, apdu: Apdu) -> None:
        if apdu.command >> 8 in (0x80, 0x84):
            return  # an acknowledgement that came too late
        command = decode_command(apdu)
        if isinstance(command, Authorization):
            self.authorizations_received += 1
        if command is None:
            await link.send(Apdu(0x849A))
        elif self._in_dialogue:
            await link.send(BUSY)
        elif self.faults.busy_answers:
            self.faults.busy_answers -= 1
            await link.send(BUSY)
        elif not self._registered and not isinstance(command, Registration) and apdu.command != STATUS_ENQUIRY:
            await link.send(Apdu(0x8400 | _NOT_REGISTERED))
        else:
            kept, leak = self.options.keeps_going, self.faults.leak
            dialogue = Dialogue(link, self._runtime.clock, keeps_going=kept, leak=leak)
            dialogue.taken = ALTERNATIVE_ACK if self.faults.alternative_acks else POSITIVE_ACK
            self._in_dialogue = True
            try:
                await self._serve_command(dialogue, command)
            finally:
                self._in_dialogue = False

    async def _serve_command(self, dialogue: Dialogue, command: Command) -> None:
        match command:
            case Registration():
                await self._register(dialogue, command)
            case Authorization():
                await self._authorize(dialogue, command)
            case Reversal():
                await self._reverse(dialogue, command)
            case DisplayText(lines):
                await dialogue.acknowledge()
                self.shown = lines
                await dialogue.progress(TERMINAL_SAYS, " ".join(lines))
                await dialogue.complete()
            case SetClock(date, time):
                await dialogue.acknowledge()
                self.clock_set = date + time
                await dialogue.complete()
            case Plain(code, form=form):
                await self._plain(dialogue, code, form)

    async def _plain(self, dialogue: Dialogue, code: int, form: int) -> None:
        if code == STATUS_ENQUIRY and self._just_cancelled and self.faults.mute_enquiry_after_cancel:
            self._just_cancelled = False
            return
        handlers = {
            STATUS_ENQUIRY: self._status,
            REPEAT_RECEIPT: self._repeat_receipt,
            END_OF_DAY: self._end_of_day,
            SEND_OFFLINE: self._send_offline,
            DIAGNOSIS: self._contact_tms if form == EXTENDED_DIAGNOSIS else self._diagnose,
            INITIALISATION: self._fetch_parameters,
            LOG_OFF: self._log_off,
        }
        if code not in handlers:
            await dialogue.acknowledge(Apdu(0x8483))
            return
        await dialogue.acknowledge()
        await handlers[code](dialogue)

    async def _register(self, dialogue: Dialogue, command: Registration) -> None:
        if self.faults.refuse_registration or command.password != self.options.password:
            await dialogue.acknowledge(Apdu(0x8483))
            return
        await dialogue.acknowledge()
        self._registered = True
        self.registered_currency = command.currency
        number = bytes.fromhex(CURRENCY_NUMBERS[self.options.currency])
        await dialogue.complete(build_fields([(0x19, b"\x00"), (0x29, bcd(self.options.terminal_id)), (0x49, number)]))

    async def _log_off(self, dialogue: Dialogue) -> None:
        self._registered = False
        await dialogue.complete()

    async def _status(self, dialogue: Dialogue) -> None:
        """As cVEND terminals answer: the version, the status, and the device's container with name and version."""
        version = self.software.encode("ascii")
        device = build_tlv(DEVICE_NAME, b"Simulator") + build_tlv(DEVICE_SOFTWARE, version)
        head = bytes(0xF0 | int(digit) for digit in f"{len(version):03d}") + version
        await dialogue.complete(
            head + bytes((self.terminal_status,)) + build_fields([(0x06, build_tlv(DEVICE, device))])
        )

    async def _diagnose(self, dialogue: Dialogue) -> None:
        await dialogue.progress(_WAITING_FOR_HOST)
        await dialogue.wait(self.options.think_s)
        await (dialogue.complete() if self.host_up else dialogue.fail(_NO_CONNECTION))

    async def _fetch_parameters(self, dialogue: Dialogue) -> None:
        await self._call_home(dialogue, "parameter_session")

    async def _contact_tms(self, dialogue: Dialogue) -> None:
        await self._call_home(dialogue, "tms_contact")

    async def _call_home(self, dialogue: Dialogue, what: str) -> None:
        await dialogue.progress(_WAITING_FOR_HOST)
        await dialogue.wait(self.options.think_s)
        lines, done = self.call_home(what)
        await dialogue.print_lines(lines, as_block=self.options.print_blocks)
        await (dialogue.complete() if done else dialogue.fail(_NO_CONNECTION))

    async def _repeat_receipt(self, dialogue: Dialogue) -> None:
        last = self.ledger.last_with_receipt
        if last is None:
            await dialogue.fail(_NO_RECEIPT)
            return
        withheld = last.kind == "payment" and last.amount_minor % 100 == ANSWER_LOST_FOR_GOOD
        if not withheld and not self.faults.no_receipt_content:
            await self._tell(dialogue, last, truthful=True)
        await dialogue.complete()

    # -- payments ------------------------------------------------------------------------------------------------------

    async def _authorize(self, dialogue: Dialogue, command: Authorization) -> None:
        order = Order(command.amount_minor, command.currency, command.reference)
        special = order.ending
        if special == REFUSE_BUSY:
            await dialogue.acknowledge(BUSY)
            return
        try:
            await dialogue.acknowledge()
            stopped = await self._present_card(dialogue, special)
        except LineLostError:
            self.book_payment(order, TransactionState.CANCELLED, _CANCELLED)
            raise
        self._just_cancelled = stopped
        transaction = self.decide(order, stopped=stopped)
        if special in (ANSWER_LOST, ANSWER_LOST_FOR_GOOD) and not dialogue.detached and not stopped:
            raise LineLostError("test amount: the line goes with the answer")
        if transaction.offline:
            await dialogue.progress(OFFLINE_TRANSACTION)
        await self._tell(dialogue, transaction)
        if not stopped:
            await dialogue.progress(_REMOVE_CARD)
        await (dialogue.fail(transaction.result_code) if transaction.result_code else dialogue.complete())

    async def _present_card(self, dialogue: Dialogue, special: int) -> bool:
        """The customer and the host take their time; return whether the payment was stopped."""
        await dialogue.progress(_INSERT_CARD)
        if self.faults.words:
            await dialogue.progress(TERMINAL_SAYS, self.faults.words)
        if special == SLOW:
            for _ in range(SLOW_STEPS):
                if await dialogue.wait(SLOW_STEP_S):
                    return True
                await dialogue.progress(_INSERT_CARD)
        if await dialogue.wait(self.options.think_s):
            return True
        await dialogue.progress(_WAITING_FOR_HOST if self.host_up else _OFFLINE)
        return await dialogue.wait(self.options.think_s) or dialogue.aborted

    async def _tell(self, dialogue: Dialogue, transaction: Transaction, *, truthful: bool = False) -> None:
        """Status information and receipt, with the lies of the fault menu unless `truthful`."""
        amount, receipt = transaction.amount_minor, transaction.receipt_number
        if not truthful:
            amount += 1 if self.faults.wrong_amount else 0
            if self.faults.wrong_receipt and receipt:
                receipt = f"{(int(receipt) + 36) % 9999 + 1:04d}"
        await dialogue.status_information(
            status_fields(
                transaction,
                self.options.terminal_id,
                amount_minor=amount,
                receipt_number=receipt,
                technology=self.technology,
            )
        )
        if transaction.receipt_number:
            lines = receipt_lines(transaction, self.options.terminal_id, transaction.amount_minor)
            if self.options.print_reference:
                lines += reference_lines(transaction.reference)
            await dialogue.print_lines(lines, as_block=self.options.print_blocks)

    async def _reverse(self, dialogue: Dialogue, command: Reversal) -> None:
        await dialogue.acknowledge()
        asked = self.ledger.payment(command.receipt_number)
        wrong = self.faults.reverse_last or self.faults.reverse_last_hidden
        target = self.last_payment() if wrong else asked
        if asked is None or target is None or target.state not in MONEY_MOVED:
            reversed_before = target is not None and target.state is TransactionState.REVERSED
            await dialogue.fail(_ALREADY_REVERSED if reversed_before else _NOT_REVERSIBLE)
            return
        await dialogue.progress(_WAITING_FOR_HOST)
        if await dialogue.wait(self.options.think_s):
            await dialogue.fail(_CANCELLED)
            return
        if not self.host_up and target.state is not TransactionState.STORED:
            await dialogue.fail(_NO_CONNECTION)
            return
        reversal = self.book_reversal(target)
        shown = asked if self.faults.reverse_last_hidden else target
        await self._tell_reversal(dialogue, reversal, shown)
        await dialogue.complete()

    async def _tell_reversal(self, dialogue: Dialogue, reversal: Transaction, shown: Transaction) -> None:
        wrong = 1 if self.faults.wrong_amount else 0
        fields = status_fields(
            reversal,
            self.options.terminal_id,
            amount_minor=shown.amount_minor + wrong,
            receipt_number=shown.receipt_number,
            technology=self.technology,
        )
        await dialogue.status_information(fields)
        lines = receipt_lines(reversal, self.options.terminal_id, reversal.amount_minor)
        await dialogue.print_lines(lines, as_block=self.options.print_blocks)

    # -- batch ---------------------------------------------------------------------------------------------------------

    async def _send_offline(self, dialogue: Dialogue) -> None:
        await dialogue.progress(_WAITING_FOR_HOST)
        await dialogue.wait(self.options.think_s)
        if not self.host_up or self.faults.clearing_fails:
            await dialogue.fail(_CLEARING_FAILED)
            return
        await self._tell_totals(dialogue, self.forward_stored())
        await dialogue.complete()

    async def _end_of_day(self, dialogue: Dialogue) -> None:
        await dialogue.progress(_WAITING_FOR_HOST)
        await dialogue.wait(self.options.think_s)
        if not self.host_up:
            await dialogue.fail(0x77)
            return
        batch = self.close_batch()
        await self._tell_totals(dialogue, batch)
        await dialogue.print_lines(["* * Kassenschnitt * *", f"Anzahl {len(batch)}"], as_block=False)
        await dialogue.complete()

    async def _tell_totals(self, dialogue: Dialogue, batch: tuple[Transaction, ...]) -> None:
        total = sum(transaction.amount_minor for transaction in batch)
        receipts = [transaction.receipt_number for transaction in batch] or ["0000"]
        fields = [
            (0x27, b"\x00"),
            (0x04, amount_to_bcd(total)),
            (0x49, bytes.fromhex(CURRENCY_NUMBERS[self.options.currency])),
            (0x60, encode_totals(receipts[0], receipts[-1], len(batch), total)),
        ]
        await dialogue.status_information(build_fields(fields))
