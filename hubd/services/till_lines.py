"""Restored hubs: a till's `Hub-Line` against the hub's own chain (design 10, sync S9).

Every answer tells the till (line, seq, start); it sends back the last it saw. If that place is not in this hub's
chain, the hub was restored or cloned and has forgotten something: a new line is opened, and money requests of that
till are answered `hub_line_changed` until it has announced what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from hubd.cloud_ports import Signer
from hubd.errors import InvalidValueError, PaymentError, Retry, StoreError
from hubd.model.entry import Document, Draft
from hubd.model.ids import parse_id
from hubd.model.money import Money
from hubd.model.payment import Payment, PaymentEvent, PaymentKind, PaymentState, Tender
from hubd.ports import Approved, Evidence, NotStarted
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.services.calendar import business_date
from hubd.services.lines import LINE_BYTES, LineReason, open_new_line
from hubd.services.outcomes import append_event, record_outcome
from hubd.services.replacement import demand_in_service
from hubd.services.rivals import claimed_twice
from hubd.services.taking import mode_flags, settle_order
from hubd.store import journal, payments, people
from hubd.store import till_lines as rows
from hubd.store.db import Database
from hubd.store.tx import Tx

ANNOUNCED_MAX = 5_000
"""What a till may hold of its last seven days."""
HUB_LINE = re.compile(r"([0-9a-f]{32}):(\d{1,18}):([0-9a-f]{1,32})")


def _settle_cash(tx: Tx, payment: Payment, told: str) -> Payment:
    """Cash has no terminal to ask: the till was there, and its own word, which the hub once gave it, settles it."""
    if payment.tender is not Tender.CASH:
        return payment
    if told == PaymentState.APPROVED:
        return record_outcome(tx, payment.id, Approved(Evidence()), _no_document)
    if told in {PaymentState.REFUSED, PaymentState.CANCELLED, PaymentState.DECLINED}:
        return record_outcome(tx, payment.id, NotStarted("announced_by_till"), _no_document)
    return payment


def _no_document(klass: str, content: bytes) -> Document:
    raise AssertionError(f"cash has no print lines of a terminal to keep as {klass} ({len(content)} bytes)")


class HubLine(Struct, frozen=True):
    """A place in a hub's chain with the start (boot and process) of the hub that told it."""

    line: bytes
    seq: int
    start: str

    @classmethod
    def parse(cls, text: str) -> HubLine:
        """Read `line:seq:start`; raises `invalid_hub_line`."""
        match = HUB_LINE.fullmatch(text)
        if match is None:
            raise InvalidValueError(
                "invalid_hub_line", "The Hub-Line header is not line:seq:start.", remedy="Send back what the hub told."
            )
        return cls(bytes.fromhex(match[1]), int(match[2]), match[3])

    def __str__(self) -> str:
        """The form of the header."""
        return f"{self.line.hex()}:{self.seq}:{self.start}"


class Held(Struct, frozen=True):
    """One payment that a till holds of its last days."""

    id: str
    line: str
    seq: int
    hash: str
    state: str
    amount: Money
    kind: PaymentKind = PaymentKind.SALE
    original: str | None = None
    """Of a refund: the payment it belongs to. Refunds are given in cash."""
    tender: Tender = Tender.CARD


class Announced(Struct, frozen=True):
    """Answer to an announcement: what the hub knew and what it had forgotten."""

    known: int
    forgotten: tuple[str, ...]


def _doubt(tx: Tx, settled: Sequence[Payment], caller: Caller) -> None:
    """What was found approved by asking may have been the charge that a till has just announced: a person decides."""
    for known in settled:
        body = known.entry_body(reason="claimed_twice", verdict=PaymentState.UNKNOWN)
        append_event(tx, known, PaymentEvent.CONFLICTED, caller.actor, body)
        if known.order_id is not None:
            settle_order(tx, known.order_id, caller.actor)


_TAKEN = frozenset({"approved", "stored", "reversal_pending", "reversed"})


def _was_further(known: Payment, told: str) -> bool:
    """Whether a till was told of a payment what the hub cannot have said in the state that it knows."""
    match known.state:
        case PaymentState.CANCELLED | PaymentState.DECLINED:
            # Cancelled by the start after a restore, but the till saw it go on: it may have been charged.
            went_on = known.reason == "hub_restarted" and told not in {"", "requested", known.state.value}
            return told in _TAKEN or went_on
        case PaymentState.APPROVED | PaymentState.STORED:
            return told in {"reversal_pending", "reversed", "declined", "cancelled"}
        case PaymentState.REVERSED:
            return told in {"declined", "cancelled"}
        case _:
            return False


class TillLines:
    """Compares what tills saw with what this hub has."""

    def __init__(self, db: Database, runtime: Runtime, signer: Signer) -> None:
        self._db = db
        self._runtime = runtime
        self._hub_id = signer.hub_id
        self._signer = signer
        self._start_id = runtime.start_id
        self._started_at = db.head.seq
        self._ended_at: dict[str, int] = {}
        """For each earlier start of this hub the head at its end: it has told tills of nothing beyond."""
        self._remembered_from = self._started_at
        """Which start wrote what lies before is no longer known."""
        self._noted = False

    async def begin(self) -> None:
        """Learn which starts there were and note this one. Call it before a till is answered.

        A disk without room is no reason not to start: then the first payment notes it.
        """
        known = await self._db.read("till.starts", rows.starts)
        if known:
            heads = [head for _, head in known]
            ends = [*heads[1:], self._started_at]
            self._ended_at = {start: end for (start, _), end in zip(known, ends, strict=True)}
            self._remembered_from = heads[0]
        try:
            await self._db.write("till.start", self._note)
        except StoreError as exc:
            if exc.code != "store.full":
                raise
            return
        self._noted = True

    def _note(self, tx: Tx) -> None:
        rows.note_start(tx, self._start_id, self._started_at)

    def _written_twice(self, seen: HubLine) -> bool:
        """Whether the till saw this place in a start that has not written what our chain holds there.

        Then two entries have had it, the till's and ours: the disk was put back to an earlier state, or copied.
        """
        if seen.start == self._start_id:
            return False
        return seen.seq > self._ended_at.get(seen.start, self._remembered_from)

    def here(self) -> HubLine:
        """The present place, for the `Hub-Line` of an answer."""
        head = self._db.head
        return HubLine(head.line, head.seq, self._start_id)

    async def check(self, till: str, header: str) -> None:
        """Look at what a till saw last. If it is not in our chain: a new line, and the till is held until it announces.

        Raises `invalid_hub_line` for a header that is not one. Costs one read; writes only on a discrepancy.
        """
        seen = HubLine.parse(header)
        head = self._db.head
        twice = self._written_twice(seen)
        if seen.line == head.line and seen.seq <= head.seq and not twice:
            return  # the present line, not beyond the head: nothing was forgotten (the everyday case)
        if not twice and await self._db.read("till.in_chain", lambda c: rows.in_chain(c, seen.line, seen.seq)):
            return
        line = self._runtime.ids.token_bytes(LINE_BYTES)

        def work(tx: Tx) -> None:
            if not twice and rows.in_chain(tx.connection, seen.line, seen.seq):
                return
            # One new line is enough for all tills that remember what this hub forgot.
            if not rows.opened_since_restore(tx.connection, seen.line, seen.seq):
                open_new_line(tx, self._signer, line, LineReason.RESTORED)
                rows.note_forgotten(tx, seen.line, seen.seq)
            rows.hold(tx, till, seen.start, seen.line, seen.seq)

        await self._db.write("till.hub_line", work)

    def demand_may_sell(self, tx: Tx, caller: Caller) -> None:
        """Raise for a till that must not sell here now: before anything is written and a terminal is touched.

        `hub_replaced` when another hub has taken the place of this one, `hub_line_changed` while the till must announce
        what it holds before it may ask for money.
        """
        demand_in_service(tx, self._hub_id)
        self.demand_announced(tx, caller)

    def demand_announced(self, tx: Tx, caller: Caller) -> None:
        """Raise `hub_line_changed` for a till that must announce: what it holds may be money that was given back."""
        if caller.device and rows.conversation(tx, caller.device)[0]:
            raise PaymentError(
                "hub_line_changed",
                "The hub was restored and may have forgotten payments of this till.",
                remedy="Announce what the till holds of its last 7 days (POST /v1/announcements), then repeat.",
                retry=Retry.SAME_REQUEST,
            )

    def may_have_arrived_before(self, tx: Tx, caller: Caller) -> bool:
        """Whether an unknown id with `Attempt` above 1 may have reached a hub that has forgotten it.

        Only if the hub has started since the till's last answer; otherwise the first attempt never arrived.
        """
        if caller.attempt <= 1 or not caller.device:
            return False
        seen = caller.seen_start or rows.last_start(tx.connection, caller.device)
        return seen != self._start_id

    def remember(self, tx: Tx, caller: Caller) -> None:
        """Note the start in which this till was answered, in the transaction of the answer; written once a start."""
        if not self._noted:
            self._note(tx)
        if caller.device and rows.conversation(tx, caller.device)[1] != self._start_id:
            rows.answered(tx, caller.device, self._start_id, tx.head.line, tx.head.seq)

    async def announce(self, caller: Caller, held: Sequence[Held]) -> tuple[Announced, list[Payment]]:
        """A till tells what it holds. Ids that the hub does not know become `unknown`, never sent to a terminal.

        Durable on return; the till may ask for money again. Returns the payments that became unknown.
        """
        if len(held) > ANNOUNCED_MAX:
            raise InvalidValueError(
                "too_many_announced", f"At most {ANNOUNCED_MAX} payments at once.", remedy="Announce the newest ones."
            )

        def work(tx: Tx) -> tuple[Announced, list[Payment]]:
            forgotten = []
            for one in held:
                known = payments.get(tx.connection, one.id)
                if known is None:
                    known = self._adopt(tx, caller, one)
                    forgotten.append(_settle_cash(tx, known, one.state))
                elif _was_further(known, one.state):
                    # A restore has brought back an earlier state: neither it nor the till's word is the truth alone.
                    body = known.entry_body(reason="forgotten_by_restore", verdict=one.state)
                    event = f"payment.{PaymentEvent.CONFLICTED}"
                    journal.append(tx, Draft(event, known.id, caller.actor, body, flags=mode_flags(known.mode)))
                else:
                    continue
                if one.state in _TAKEN:
                    _doubt(tx, claimed_twice(tx.connection, known, tx.now_us()), caller)
            rows.release(tx, caller.device, self._start_id, tx.head.line, tx.head.seq)
            announced = Announced(len(held) - len(forgotten), tuple(payment.id for payment in forgotten))
            return announced, [payment for payment in forgotten if payment.state is PaymentState.UNKNOWN]

        return await self._db.write("till.announce", work)

    def _adopt(self, tx: Tx, caller: Caller, one: Held) -> Payment:
        location = people.location(tx.connection, caller.location)
        assert location is not None, "a paired till has a location"
        cash = one.kind is PaymentKind.REFUND or one.tender is Tender.CASH
        body = {
            "amount": one.amount.amount_minor,
            "announced": {"hash": one.hash, "line": one.line, "seq": one.seq, "state": one.state},
            "attempt": caller.attempt,
            "baseline": "",
            "business_date": business_date(tx.now_us(), location.zone),
            "counter": None,
            "currency": one.amount.currency,
            "custody": None,
            "deadline_us": None,
            "device": caller.device,
            "digest": "",
            "exponent": one.amount.exponent,
            "kind": one.kind.value,
            "location": caller.location,
            "method": "cash" if cash else "card",
            "mode": "live",
            "order": None,
            "original": one.original,
            "outage": None,
            "policy_version": None,
            "reason": "forgotten_by_restore",
            "rounding": 0,
            "series": None,
            "staff": caller.staff,
            "tender": "cash" if cash else "card",
            "terminal": None,
            "tip": 0,
            "zone": location.zone,
        }
        journal.append(tx, Draft("payment.announced", parse_id(one.id), caller.actor, body))
        payment = payments.get(tx.connection, one.id)
        assert payment is not None, "the projection has just written it"
        assert payment.state is PaymentState.UNKNOWN, "an announced payment is unknown"
        return payment
