"""The dialogue with a terminal, in a task of the hub: it survives the till's disconnect and ends in an entry.

Order of things, and what a power cut between them means:
1. `payment.requested` is on disk (the till was answered). Nothing was sent: at the next start it is cancelled.
2. unknown payments of this terminal are asked about, and its last receipt number is read (no money moves).
3. `payment.started` is on disk. From here the authorisation may have left: at the next start it is unknown.
4. the authorisation leaves; the verdict is written; a lost answer is unknown and is asked about at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hubd.errors import DeviceError, StoreError
from hubd.model.entry import Document
from hubd.model.ids import id_bytes
from hubd.model.payment import TAKEN, Payment, PaymentState
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    Cancelled,
    Enquiry,
    EnquiryRequest,
    Evidence,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Outcome,
    Progress,
    ReverseRequest,
    StillRunning,
    Stored,
    Unknown,
)
from hubd.runtime import Runtime
from hubd.services.jobs import Jobs
from hubd.services.outcomes import record_outcome, record_reversal, record_started
from hubd.services.rivals import RECEIPT_NUMBERS_UNIQUE_FOR_US, number_proves_nothing
from hubd.services.terminals import Attached, Terminals
from hubd.store import journal, payments
from hubd.store.db import Database
from hubd.store.tx import Tx

log = logging.getLogger(__name__)

STORE_RETRY_S = 1.0
"""A verdict that could not be written is written again: the disk may have been full for a moment."""
ENQUIRY_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Pauses between enquiries about an unknown payment; the last one repeats."""
NO_BASELINE = "no_baseline"
RESULT_CODES_OF_SUCCESS = frozenset({"00", "0"})
INCONCLUSIVE_MAX = 5
"""After so many answers that prove nothing the hub stops asking by itself: a person decides, or asks again.

A terminal that does not answer has not been asked: that is no reason to stop."""
SALT_BYTES = 32


class Dialogues:
    """Runs payments, reversals and enquiries on terminals, one at a time each."""

    def __init__(self, db: Database, runtime: Runtime, terminals: Terminals, jobs: Jobs, hub: bytes) -> None:
        self._db = db
        self._runtime = runtime
        self._terminals = terminals
        self._jobs = jobs
        self._hub = hub
        self._reversals_unknown: dict[str, None] = {}
        self.other_hub_heard: Callable[[], bool] = lambda: False
        """Whether another hub of this identity is on the network now."""
        self.stored: Callable[[], None] = lambda: None
        """Called when a terminal has taken custody of a payment: it may have to be sent at once."""
        self.taken: Callable[[Tx, Payment], None] = lambda _tx, _payment: None
        """Called inside the transaction in which a payment was taken: what follows from it is written with it."""
        self.taken_on_disk: Callable[[], None] = lambda: None
        """Called once that transaction is on disk."""
        self.heard: Callable[[str, tuple[str, ...]], None] = lambda _terminal, _lines: None
        """Called with what a terminal has shown or printed; it must not block."""

    def make_document(self, klass: str, content: bytes) -> Document:
        """A document with a fresh id and salt."""
        ids = self._runtime.ids
        return Document(id_bytes(ids.new_id()), klass, ids.token_bytes(SALT_BYTES), content)

    def start_payment(self, payment: Payment) -> None:
        """Begin the dialogue of a payment whose intent is on disk."""
        attached = self._terminals.get(payment.terminal or "")
        if attached is not None:
            # Taken at once and not in the job, so that a second request sees the terminal busy.
            attached.payment_id = attached.payment_id or payment.id
        self._jobs.start(f"payment:{payment.id}", self._pay(payment))

    def pays(self, payment_id: str) -> bool:
        """Whether the dialogue of this payment runs, or waits for its terminal."""
        return self._jobs.is_running(f"payment:{payment_id}")

    def asks(self, payment_id: str) -> bool:
        """Whether the hub is asking terminals about this payment, or will by itself."""
        return self._jobs.is_running(f"enquiry:{payment_id}") or self.pays(payment_id)

    def start_enquiry(self, payment: Payment) -> bool:
        """Ask about an unknown payment until there is an answer; False if that is running already."""
        return self._jobs.start(f"enquiry:{payment.id}", self._resolve(payment))

    def start_reversal(self, payment: Payment) -> None:
        """Begin the reversal of a payment whose request to reverse has just been written. Once only."""
        self._jobs.start(f"reversal:{payment.id}", self._reverse(payment))

    def start_reversal_enquiry(self, payment: Payment) -> bool:
        """Ask what became of a reversal that may have been sent; it is never sent again by itself."""
        return self._jobs.start(f"reversal:{payment.id}", self._resolve_reversal(payment))

    async def resume(self, *, restored: bool = False) -> None:
        """After a start: what was being done when the hub stopped. Called once, before new payments are taken.

        `restored` says that these are not the last moments that this hub has lived: what had not begun then may have
        happened since.
        """
        for payment in await self._db.read("dialogue.running", payments.running):
            if payment.state is PaymentState.REQUESTED:
                # `payment.started` is written before the authorisation leaves, so nothing was sent for this one,
                # unless the entry that said so is among what a restore has forgotten.
                outcome = Unknown("hub_restored") if restored else NotStarted("hub_restarted")
                await self._record(payment.id, outcome)
            elif payment.state is PaymentState.IN_PROGRESS:
                await self._record(payment.id, Unknown("hub_restarted"))
            elif payment.state is PaymentState.REVERSAL_PENDING:
                self.start_reversal_enquiry(payment)
        for payment in await self._db.read("dialogue.unknown", payments.unknown):
            self.start_enquiry(payment)

    async def _pay(self, payment: Payment) -> None:
        attached = self._terminals.get(payment.terminal or "")
        if attached is None:
            await self._record(payment.id, NotStarted("terminal_unreachable"))
            return
        try:
            async with attached.lock:
                attached.payment_id = payment.id
                outcome = await self._authorize(attached, payment)
                if outcome is None:
                    return
                after = await self._record(payment.id, outcome)
                self.heard(attached.id, _lines_of(outcome))
        finally:
            if attached.payment_id == payment.id:
                attached.payment_id = ""
            attached.progress = None
            self._terminals.changed(attached.id)
        if after.state is PaymentState.UNKNOWN:
            self.start_enquiry(after)

    async def _authorize(self, attached: Attached, payment: Payment) -> Outcome | None:
        """The verdict of the terminal; None if the payment had moved on before anything was sent."""
        await self._ask_about_earlier(attached)
        try:
            baseline = await attached.terminal.baseline()
        except DeviceError as exc:
            return NotStarted(exc.code)
        try:
            started = await self._db.write("payment.started", lambda tx: record_started(tx, payment.id, baseline))
        except StoreError as exc:
            # Nothing was sent. If the entry is there all the same, the verdict below is written on top of it.
            return NotStarted(exc.code)
        if started is None:
            return None
        request = AuthorizeRequest(payment.id, payment.money)
        return await attached.terminal.authorize(request, lambda progress: self._show(attached, progress))

    def _show(self, attached: Attached, progress: Progress) -> None:
        attached.progress = progress
        if progress.text:
            self.heard(attached.id, (progress.text,))
        self._terminals.changed(attached.id)

    async def _record(self, payment_id: str, outcome: Outcome, terminal: str | None = None) -> Payment:
        """Write a verdict, for as long as it takes: it happened, so it must get on disk.

        `terminal` is the one that has told it, for a payment of which the terminal was not known.
        """

        def record(tx: Tx) -> Payment:
            before = payments.get(tx.connection, payment_id)
            after = record_outcome(tx, payment_id, outcome, self.make_document, terminal)
            if after.state in TAKEN and before is not None and before.state not in TAKEN:
                self.taken(tx, after)
            return after

        after = await self._write_verdict(payment_id, record)
        self.taken_on_disk()
        if after.state is PaymentState.STORED:
            self.stored()
        return after

    async def _write_verdict(self, payment_id: str, record: Callable[[Tx], Payment]) -> Payment:
        while True:
            try:
                return await self._db.write("payment.outcome", record)
            except StoreError as exc:
                if exc.code == "store.closed":
                    raise
                log.warning("payment.outcome_waits_for_disk", extra={"payment_id": payment_id, "code": exc.code})
                await self._runtime.clock.sleep(STORE_RETRY_S)

    async def _ask_about_earlier(self, attached: Attached) -> None:
        """Before a new command replaces the terminal's last transaction, ask about what is unknown on it."""
        unknown = await self._db.read("dialogue.unknown", payments.unknown)
        for payment in unknown:
            if payment.terminal == attached.id:
                await self._ask(attached, payment)
        for payment in await self._db.read("dialogue.running", payments.running):
            if payment.terminal == attached.id and payment.id in self._reversals_unknown:
                await self._ask_about_reversal(attached, payment)

    async def _ask(self, attached: Attached, payment: Payment) -> Enquiry:
        request = EnquiryRequest(payment.id, payment.money, payment.baseline)
        answer = await attached.terminal.enquire(request)
        if isinstance(answer, Inconclusive) and answer.reason == NO_BASELINE:
            answer = await self._agreed_by_till(payment, answer)
        if (
            isinstance(answer, Found)
            and not answer.by_reference
            and await self._belongs_elsewhere(attached.id, payment, answer)
        ):
            answer = Inconclusive("may_be_another_payment", answer.outcome.evidence)
        match answer:
            case Found(outcome):
                await self._record(payment.id, outcome, attached.id)
            case NotTaken() if payment.terminal:
                await self._record(payment.id, Cancelled(Evidence(), "not_taken"))
            case NotTaken() | StillRunning() | Inconclusive():
                pass
        return answer

    async def _agreed_by_till(self, payment: Payment, answer: Inconclusive) -> Enquiry:
        """After a restore nobody knows the receipt number from before; then two witnesses have to agree.

        They are the till, which announced that the hub had told it "approved" or "stored", and the terminal, whose last
        transaction has this amount.
        """
        evidence = answer.evidence
        if evidence is None or evidence.amount != payment.money or evidence.result_code not in RESULT_CODES_OF_SUCCESS:
            return answer
        created = await self._db.read("dialogue.announced", lambda c: journal.entry_at(c, payment.seq).body())
        told = (created.get("announced") or {}).get("state")
        if told not in {PaymentState.APPROVED, PaymentState.STORED}:
            return answer
        return Found(Stored(evidence) if evidence.offline else Approved(evidence))

    async def _belongs_elsewhere(self, terminal_id: str, payment: Payment, found: Found) -> bool:
        """Whether the terminal's last transaction is, or may be, another payment of the same amount."""
        receipt = found.outcome.evidence.receipt_number
        now_us = self._runtime.clock.now_us()
        since_us = now_us - RECEIPT_NUMBERS_UNIQUE_FOR_US
        charged = isinstance(found.outcome, (Approved, Stored))
        if charged and payment.baseline and self.other_hub_heard():
            return True
        taken, rivals = await self._db.read(
            "dialogue.rivals",
            lambda c: (
                payments.has_receipt(c, terminal_id, receipt, payment.id, since_us)
                or (charged and payment.baseline != "" and number_proves_nothing(c, self._hub, payment, now_us)),
                [one for one in payments.unknown(c) if one.id != payment.id and one.money == payment.money],
            ),
        )
        if taken:
            return True
        # Without the receipt number from before, equal amounts that are both unknown cannot be told apart.
        return not payment.baseline and any(one.terminal in {None, terminal_id} for one in rivals)

    async def _resolve(self, payment: Payment) -> None:
        """Ask until there is an answer; a payment of which not even the terminal is known is asked for at each."""
        inconclusive = asked = 0
        while inconclusive < INCONCLUSIVE_MAX:
            answered = False
            for attached in self._may_know(payment):
                async with attached.lock:
                    now = await self._db.read("dialogue.payment", lambda c: payments.get(c, payment.id))
                    if now is None or now.state is not PaymentState.UNKNOWN:
                        return
                    answer = await self._ask(attached, payment)
                if isinstance(answer, Found) or (isinstance(answer, NotTaken) and payment.terminal):
                    return
                answered = answered or _proves_nothing(answer)
            inconclusive += answered
            pause = ENQUIRY_PAUSES_S[min(asked, len(ENQUIRY_PAUSES_S) - 1)]
            asked += 1
            await self._runtime.clock.sleep(pause)

    def _may_know(self, payment: Payment) -> list[Attached]:
        if payment.terminal is not None:
            attached = self._terminals.get(payment.terminal)
            return [attached] if attached else []
        return [one for one in self._terminals.all() if one.location == payment.location]

    async def _reverse(self, payment: Payment) -> None:
        attached = self._terminals.get(payment.terminal or "")
        if attached is None:
            await self._record_reversal(payment.id, NotStarted("terminal_unreachable"))
            return
        async with attached.lock:
            attached.payment_id = payment.id
            try:
                await self._ask_about_earlier(attached)
                if not await self._reversal_is_open(payment.id):
                    return  # decided while it waited for the terminal: whoever decided has seen to the money
                request = ReverseRequest(payment.id, payment.money, _receipt_of(payment), _trace_of(payment))
                outcome = await attached.terminal.reverse(request, lambda progress: self._show(attached, progress))
                await self._record_reversal(payment.id, outcome)
            finally:
                attached.payment_id, attached.progress = "", None
                self._terminals.changed(attached.id)
        if isinstance(outcome, Unknown):
            await self._resolve_reversal(payment)

    async def _reversal_is_open(self, payment_id: str) -> bool:
        now = await self._db.read("dialogue.payment", lambda c: payments.get(c, payment_id))
        return now is not None and now.state is PaymentState.REVERSAL_PENDING and now.decision is None

    async def _record_reversal(self, payment_id: str, outcome: Outcome) -> Payment:
        return await self._write_verdict(payment_id, lambda tx: record_reversal(tx, payment_id, outcome))

    async def _resolve_reversal(self, payment: Payment) -> None:
        """Ask until the terminal has told whether it has reversed; then a person decides, as with a payment."""
        self._reversals_unknown[payment.id] = None
        inconclusive = asked = 0
        try:
            while inconclusive < INCONCLUSIVE_MAX:
                attached = self._terminals.get(payment.terminal or "")
                if attached is not None:
                    async with attached.lock:
                        answer = await self._ask_about_reversal(attached, payment)
                    if answer is None or isinstance(answer, (Found, NotTaken)):
                        return
                    inconclusive += _proves_nothing(answer)
                pause = ENQUIRY_PAUSES_S[min(asked, len(ENQUIRY_PAUSES_S) - 1)]
                asked += 1
                await self._runtime.clock.sleep(pause)
        finally:
            self._reversals_unknown.pop(payment.id, None)

    async def _ask_about_reversal(self, attached: Attached, payment: Payment) -> Enquiry | None:
        """One enquiry, its verdict written; None when there is nothing to ask any more."""
        if not await self._reversal_is_open(payment.id):
            return None
        request = EnquiryRequest(payment.id, payment.money, "", _receipt_of(payment), _trace_of(payment))
        answer = await attached.terminal.enquire(request)
        match answer:
            case Found(outcome):
                await self._record_reversal(payment.id, outcome)
            case NotTaken():
                await self._record_reversal(payment.id, NotStarted("not_reversed"))
            case StillRunning() | Inconclusive():
                pass
        return answer


def _proves_nothing(answer: Enquiry) -> bool:
    """Whether the terminal has answered and left it open. One that is gone or silent is asked until it is back."""
    return isinstance(answer, Inconclusive) and answer.evidence is not None


def _lines_of(outcome: Outcome) -> tuple[str, ...]:
    match outcome:
        case NotStarted(reason, remedy):
            return (reason, remedy)
        case Unknown(reason):
            return (reason,)
        case _:
            return outcome.evidence.receipt_lines


def _receipt_of(payment: Payment) -> str:
    return str(payment.evidence.get("receipt_number", ""))


def _trace_of(payment: Payment) -> str:
    return str(payment.evidence.get("trace_number", ""))


def cash_reversed() -> Outcome:
    """The outcome of giving cash back: there is nobody to ask."""
    return Approved(Evidence())
