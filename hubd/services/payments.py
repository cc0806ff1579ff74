"""What a till or a person may ask of payments. A call answers once the intent is on disk, it never waits for people."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from hubd.errors import HubError, InvalidValueError, NotFoundError, PaymentError, Retry, StoreError
from hubd.model.entry import Draft, Entry
from hubd.model.money import Money
from hubd.model.payment import (
    CUSTODY_OPEN,
    ManualStatus,
    Method,
    Payment,
    PaymentEvent,
    PaymentKind,
    PaymentState,
    Tender,
    may_be_decided,
)
from hubd.model.permissions import Permission
from hubd.ports import NotStarted
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.services.calendar import business_date
from hubd.services.dialogue import Dialogues, cash_reversed
from hubd.services.lines import next_number
from hubd.services.outcomes import append_event, record_outcome, record_reversal
from hubd.services.settings import effective
from hubd.services.taking import (
    RECEIPTS,
    OutageView,
    Taken,
    TakePayment,
    TerminalView,
    check_request,
    counts_as_paid,
    current_outage,
    digest_matches,
    mode_flags,
    settle_order,
    take,
)
from hubd.services.terminals import READY, Terminals
from hubd.services.till_lines import TillLines
from hubd.store import documents, journal, payments
from hubd.store.db import Database
from hubd.store.payments import PaymentFilter
from hubd.store.tx import Connection, Tx

log = logging.getLogger(__name__)

WAIT_MAX_S = 25
_NO_TERMINAL = TerminalView(None, "no_terminal")
"""What cash asks for."""
REASON_MAX = 500


class Refusal(Struct, frozen=True):
    """Why the outage policy refused a payment: the rule's own limit, and stable words for what it would accept."""

    params: dict[str, Any]
    would_allow: tuple[str, ...]


class Refund(Struct, frozen=True):
    """A request to give money of a payment back."""

    id: str
    digest: bytes
    amount: Money
    reason: str = ""


class PaymentDesk:
    """Takes, records, cancels, reverses, refunds and resolves payments."""

    def __init__(
        self,
        db: Database,
        runtime: Runtime,
        dialogues: Dialogues,
        terminals: Terminals,
        tills: TillLines,
        outage: Callable[[], OutageView],
        room_for_sales: Callable[[], bool],
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._dialogues = dialogues
        self._terminals = terminals
        self._tills = tills
        self._outage = outage
        self._room_for_sales = room_for_sales

    async def take(self, request: TakePayment, caller: Caller) -> Taken:
        """Record a cash payment, begin a card payment, or refuse by policy; durable when this returns.

        The same request again, however often and from whomever, gives the same payment with the same `accepted`.
        Raises `id_conflict` for another request under this id, `hub_line_changed` for a till that must announce first,
        `hub_replaced` when another hub sells in the place of this one, and
        `store.low_space` before a terminal is touched when the disk is nearly full.
        """
        check_request(request)
        caller.need(Permission.PAYMENTS_TAKE)
        outage = self._outage()
        card = request.tender is Tender.CARD
        terminal = _NO_TERMINAL
        if card:
            terminal = self._terminals.choose(caller.device, caller.location, request.terminal, request.id)
        if terminal.chosen is not None and not terminal.refusal:
            # Before anything is awaited, so that a sale at the same moment sees it busy and takes another one.
            self._terminals.reserve(terminal.chosen, request.id)
        reason = None
        if request.override_reason is not None:
            reason = self._dialogues.make_document("override_reason", request.override_reason.encode("utf-8"))
        room = self._room_for_sales()

        def work(tx: Tx) -> Taken:
            known = payments.known(tx, request.id)
            if known is None:
                self._tills.demand_may_sell(tx, caller)
                if not room:
                    raise _no_room()
            announce = known is None and self._tills.may_have_arrived_before(tx, caller)
            taken = take(tx, request, caller, terminal, outage, reason, existing=known, must_announce=announce)
            self._tills.remember(tx, caller)
            if taken.created and taken.payment.is_taken:
                self._dialogues.taken(tx, taken.payment)
            return taken

        try:
            taken = await self._db.write("payment.take", work)
            self._dialogues.taken_on_disk()
            if taken.payment.state is PaymentState.REQUESTED:
                # Also for a repeat: the commit that created it may have looked failed, and nobody began the dialogue.
                self._dialogues.start_payment(taken.payment)
            elif taken.created and taken.payment.state is PaymentState.UNKNOWN:
                self._dialogues.start_enquiry(taken.payment)
        finally:
            if card and not self._dialogues.pays(request.id):
                self._terminals.release(request.id)
        return taken

    async def get(self, payment_id: str) -> Payment:
        """The payment as it is now. Raises `payment_unknown`."""
        payment = await self._db.read("payment.get", lambda connection: payments.get(connection, payment_id))
        if payment is None:
            raise _unknown_payment()
        return payment

    async def history(self, payment_id: str) -> list[Entry]:
        """Every entry about a payment, oldest first."""
        return await self._db.read("payment.history", lambda c: journal.entries_of(c, payment_id))

    async def get_for(self, payment_id: str, caller: Caller) -> Payment:
        """The payment for one who asks. Raises `payment_unknown`, `access.not_allowed` for another location's."""
        payment = await self.get(payment_id)
        caller.need_at(Permission.PAYMENTS_READ, payment.location)
        return payment

    async def page(self, narrow: PaymentFilter, before_seq: int | None, limit: int) -> list[Payment]:
        """Newest first, below `before_seq`."""
        return await self._db.read("payment.page", lambda c: payments.page(c, narrow, before_seq, limit))

    async def page_for(
        self, narrow: PaymentFilter, before_seq: int | None, limit: int, caller: Caller
    ) -> list[Payment]:
        """The same for one who asks: payments of the locations where he may read them."""
        seen = replace(narrow, locations=caller.locations_of(Permission.PAYMENTS_READ))
        return await self.page(seen, before_seq, limit)

    async def wait_for_change(self, payment_id: str, last_seq: int, seconds: float) -> Payment:
        """The payment once its state has moved beyond `last_seq`, or as it is after `seconds` (at most 25)."""
        head = self._db.head.seq  # before the read, so that a commit during it is not missed
        payment = await self.get(payment_id)
        try:
            async with self._runtime.clock.timeout(min(seconds, WAIT_MAX_S)):
                while payment.last_seq <= last_seq:
                    head = await self._db.moved_beyond(head)
                    payment = await self.get(payment_id)
        except TimeoutError:
            pass
        return payment

    async def cancel(self, payment_id: str, caller: Caller) -> Payment:
        """Ask that a running payment stops. The verdict is the terminal's: it may be approved all the same."""

        def work(tx: Tx) -> Payment:
            payment = _asked_for(tx, payment_id, caller, Permission.PAYMENTS_CANCEL)
            if payment.state is PaymentState.REQUESTED:
                return record_outcome(tx, payment_id, NotStarted("cancelled_by_till"), self._dialogues.make_document)
            return payment

        payment = await self._db.write("payment.cancel", work)
        if payment.state is PaymentState.IN_PROGRESS:
            attached = self._terminals.get(payment.terminal or "")
            # Only its own dialogue: the terminal may be working on the next customer's payment by now.
            if attached is None or attached.payment_id != payment_id or not await attached.terminal.abort():
                raise PaymentError(
                    "cancel_not_possible",
                    "The terminal cannot be told to stop now.",
                    remedy="Press the red key of the terminal, or wait for its answer.",
                    retry=Retry.AFTER_ENQUIRY,
                )
        elif payment.state in {PaymentState.APPROVED, PaymentState.STORED}:
            raise PaymentError(
                "already_paid",
                "The payment is done; it cannot be cancelled any more.",
                remedy="Reverse it instead.",
                retry=Retry.NEVER,
            )
        return payment

    async def ask_terminal(self, payment_id: str, caller: Caller) -> Payment:
        """Ask the terminal again what became of an unknown payment."""
        payment = await self.get(payment_id)
        caller.need_at(Permission.PAYMENTS_TAKE, payment.location)
        if payment.state is PaymentState.UNKNOWN:
            self._dialogues.start_enquiry(payment)
        return payment

    async def reverse(self, payment_id: str, caller: Caller) -> Payment:
        """Undo a payment in full, before settlement. Cash is reversed at once; a card by its terminal."""

        def work(tx: Tx) -> tuple[Payment, bool]:
            payment = _asked_for(tx, payment_id, caller, Permission.PAYMENTS_REVERSE)
            if payment.state in {PaymentState.REVERSAL_PENDING, PaymentState.REVERSED}:
                return payment, False
            self._tills.demand_announced(tx, caller)
            if payments.refunds_of(tx.connection, payment_id):
                raise PaymentError(
                    "already_refunded",
                    "Money of this payment was given back already, so it cannot be undone as a whole.",
                    remedy="Refund what is left of it.",
                    retry=Retry.NEVER,
                )
            if payment.state is PaymentState.STORED and payment.custody != "held":
                raise PaymentError(
                    "too_late_to_reverse",
                    "The stored payment is on its way to the bank already.",
                    remedy="Wait for the bank's answer, then refund it.",
                    retry=Retry.AFTER_ENQUIRY,
                )
            append_event(tx, payment, PaymentEvent.REVERSAL_REQUESTED, caller.actor, {"reason": ""})
            if payment.tender is Tender.CASH:
                return record_reversal(tx, payment_id, cash_reversed()), False
            pending = payments.get(tx.connection, payment_id)
            assert pending is not None, "a row never disappears"
            return pending, True

        payment, begin = await self._db.write("payment.reverse", work)
        if begin:
            self._dialogues.start_reversal(payment)
        elif payment.state is PaymentState.REVERSAL_PENDING and payment.decision is None:
            self._dialogues.start_reversal_enquiry(payment)
        return payment

    async def refusal(self, payment: Payment) -> Refusal | None:
        """Which limit of the outage policy refused it and what would be allowed; None if the policy did not."""
        if payment.state is not PaymentState.REFUSED or payment.policy_version is None:
            return None

        def read(connection: Connection) -> Refusal | None:
            try:
                told = journal.entry_at(connection, payment.last_seq).body().get("refusal")
            except NotFoundError:
                return None  # in the archive: what was allowed then is of no use now
            return Refusal(told["params"], tuple(told["would_allow"])) if told else None

        return await self._db.read("payment.refusal", read)

    def asking(self, payment: Payment) -> bool:
        """Whether the hub still asks about it by itself; after too many answers that say nothing it does not."""
        return self._dialogues.asks(payment.id)

    def decidable(self, payment: Payment) -> bool:
        """Whether a person may decide this payment now: nothing that the hub can ask will say what became of it."""
        return self._decidable(payment, self._answers(payment))

    def _answers(self, payment: Payment) -> bool:
        status = self._terminals.status(payment.terminal or "")
        return status is not None and status.state in READY

    def _decidable(self, payment: Payment, terminal_answers: bool) -> bool:
        overdue = payment.deadline_us is not None and payment.deadline_us <= self._runtime.clock.now_us()
        return may_be_decided(payment.state, payment.custody, terminal_answers=terminal_answers, overdue=overdue)

    async def resolve(self, payment_id: str, manual: ManualStatus, reason: str, caller: Caller) -> Payment:
        """A manager decides a payment that nobody can speak for; the automatic state stays beside it (D09).

        Raises `nothing_to_resolve` when the money has its verdict, `terminal_can_send` while the terminal that holds it
        answers and the deadline has not passed.
        """
        caller.need(Permission.PAYMENTS_RESOLVE)
        if not 3 <= len(reason.strip()) <= REASON_MAX:
            raise InvalidValueError(
                "reason_missing", "A decision needs a reason in words.", remedy=f"Write 3 to {REASON_MAX} characters."
            )
        document = self._dialogues.make_document("manual_reason", reason.strip().encode("utf-8"))
        answers = self._answers(await self.get(payment_id))

        def work(tx: Tx) -> Payment:
            payment = _asked_for(tx, payment_id, caller, Permission.PAYMENTS_RESOLVE)
            if not self._decidable(payment, answers):
                raise _not_decidable(payment)
            body = payment.entry_body(manual=manual.value, automatic=payment.state.value)
            draft = Draft(
                "payment.resolved",
                payment_id,
                caller.actor,
                body,
                flags=mode_flags(payment.mode),
                documents=(document,),
            )
            journal.append(tx, draft)
            if payment.order_id is not None:
                settle_order(tx, payment.order_id, caller.actor)
            after = payments.get(tx.connection, payment_id)
            assert after is not None, "a row never disappears"
            return after

        return await self._db.write("payment.resolve", work)

    async def refund(self, original_id: str, request: Refund, caller: Caller) -> Taken:
        """Give cash back for a payment, as a payment of its own that points to the original."""
        caller.need(Permission.PAYMENTS_REFUND)
        room = self._room_for_sales()
        said = request.reason.strip().encode("utf-8")
        reasons = (self._dialogues.make_document("refund_reason", said),) if said else ()

        def work(tx: Tx) -> Taken:
            existing = payments.get(tx.connection, request.id)
            if existing is not None:
                digest_matches(existing, TakePayment(request.id, request.digest, request.amount))
                return Taken(existing, existing.accepted, created=False)
            self._tills.demand_may_sell(tx, caller)
            if not room:
                raise _no_room()
            original = _asked_for(tx, original_id, caller, Permission.PAYMENTS_REFUND)
            _check_refundable(tx, original, request)
            series, counter = next_number(tx, caller.device or "hub", RECEIPTS)
            starts = effective(tx.connection, "day.starts_at_minute", tx.now_us()).value
            body = original.entry_body(
                amount=request.amount.amount_minor,
                attempt=caller.attempt,
                baseline="",
                business_date=business_date(tx.now_us(), original.zone, starts),
                counter=counter,
                custody=None,
                deadline_us=None,
                device=caller.device,
                digest=request.digest.hex(),
                kind=PaymentKind.REFUND.value,
                method=Method.CASH.value,
                order=None,
                original=original_id,
                outage=current_outage(tx, self._outage()),
                reason="",
                rounding=0,
                series=series,
                staff=caller.staff,
                tender=Tender.CASH.value,
                terminal=None,
                tip=0,
            )
            flags = mode_flags(original.mode)
            journal.append(
                tx, Draft("payment.recorded", request.id, caller.actor, body, flags=flags, documents=reasons)
            )
            if original.order_id is not None:
                settle_order(tx, original.order_id, caller.actor)
            payment = payments.get(tx.connection, request.id)
            assert payment is not None, "the projection has just written it"
            self._dialogues.taken(tx, payment)
            return Taken(payment, payment.accepted, created=True)

        taken = await self._db.write("payment.refund", work)
        self._dialogues.taken_on_disk()
        return taken

    async def document(self, document_id: bytes) -> str | None:
        """The text of a document that belongs to a payment; None if it is absent or erased."""
        found = await self._db.read("payment.document", lambda c: documents.get(c, document_id))
        return found.content.decode("utf-8") if found else None

    async def settled(self, seconds: float) -> None:
        """Return once no dialogue runs, or after `seconds`: the orderly part of a stop."""
        try:
            async with self._runtime.clock.timeout(seconds):
                while any(one.payment_id for one in self._terminals.all()):
                    await self._runtime.clock.sleep(0.05)
        except TimeoutError:
            for one in self._terminals.all():
                if one.payment_id:
                    extra = {"payment_id": one.payment_id, "device_id": one.id}
                    log.warning("payment.not_settled_by_stop", extra=extra)


def _asked_for(tx: Tx, payment_id: str, caller: Caller, permission: Permission) -> Payment:
    """The payment to be changed, by one who has the permission where it was taken."""
    payment = payments.get(tx.connection, payment_id)
    if payment is None:
        raise _unknown_payment()
    caller.need_at(permission, payment.location)
    return payment


def _check_refundable(tx: Tx, original: Payment, request: Refund) -> None:
    if original.kind is PaymentKind.REFUND or not counts_as_paid(original):
        raise PaymentError("not_refundable", "Only a payment that was taken can be refunded.", remedy="Read it.")
    if original.is_open:
        raise PaymentError(
            "refund_before_settlement",
            "The payment has no final answer yet, so it cannot be refunded.",
            remedy="Reverse it, or wait for the bank's answer.",
            retry=Retry.AFTER_ENQUIRY,
        )
    if original.tender is not Tender.CASH:
        raise PaymentError(
            "refund_not_supported",
            "A card payment is not refunded by this hub.",
            remedy="Reverse it before the terminal's end-of-day, or refund it with the acquirer.",
        )
    given = sum(refund.amount for refund in payments.refunds_of(tx.connection, original.id))
    if request.amount.amount_minor <= 0 or request.amount.currency != original.currency:
        raise InvalidValueError("amount_not_positive", "A refund is above zero, in the payment's currency.", remedy="")
    paid = original.amount + original.rounding
    if given + request.amount.amount_minor > paid:
        raise PaymentError(
            "over_refundable",
            "More would be given back than was paid.",
            remedy="Read the refunds of this payment.",
            params={"left": paid - given},
        )


def _not_decidable(payment: Payment) -> PaymentError:
    if payment.state is PaymentState.STORED and payment.custody in CUSTODY_OPEN:
        return PaymentError(
            "terminal_can_send",
            "The terminal that holds this payment answers, so the bank will be asked.",
            remedy="Wait until it is sent. Decide when its deadline has passed, or when the terminal stays silent.",
            retry=Retry.AFTER_ENQUIRY,
        )
    return PaymentError(
        "nothing_to_resolve",
        f"The payment is {payment.state}; there is nothing to decide.",
        remedy="Read the payment.",
        retry=Retry.AFTER_ENQUIRY,
    )


def _no_room() -> HubError:
    return StoreError(
        "store.low_space",
        "The hub's disk is nearly full, so no new sale is taken; running ones finish.",
        remedy="Call the technician; nothing that was taken is lost.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=60,
    )


def _unknown_payment() -> NotFoundError:
    return NotFoundError(
        "payment_unknown",
        "No payment of this id is known to this hub.",
        remedy="If an earlier attempt may have reached it, repeat the PUT with the same id.",
        retry=Retry.SAME_REQUEST,
    )
