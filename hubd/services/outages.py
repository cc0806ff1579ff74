"""Outages: from measured facts to a mode that everybody reads, and to rows that survive restarts (design 7).

The worker that measures calls `observe` at least once a second. Everybody else reads `snapshot()`, which never waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import Struct

from hubd.errors import NotFoundError, StoreError
from hubd.model.elapsed import Anchor, Now, elapsed
from hubd.model.entry import CLOCK_TRUSTED, Draft, Entry
from hubd.model.mode import (
    DEFAULT_HYSTERESIS,
    OUTAGES,
    Facts,
    Hysteresis,
    Mode,
    ModeSnapshot,
    ModeState,
    last_good_ms,
    resume,
    step,
)
from hubd.model.money import Money
from hubd.model.payment import LATE_REFUSED, Custody, ManualStatus, Payment, PaymentState, Tender
from hubd.model.payment import Mode as PaymentMode
from hubd.model.policy import Elapsed
from hubd.model.statement import JOINED
from hubd.runtime import Runtime
from hubd.services.taking import mode_flags
from hubd.store import devices, journal, outages, payments
from hubd.store.db import Database
from hubd.store.outages import Outage, OutageFilter, StoredStatement
from hubd.store.tx import Connection, Tx

log = logging.getLogger(__name__)

ENTRIES_A_READ = 2_000
Listener = Callable[[ModeSnapshot], None]


class Group(Struct, frozen=True):
    """Count and sum of some payments. Sums by currency, because a shop may take more than one."""

    count: int = 0
    totals: tuple[Money, ...] = ()

    def plus(self, money: Money) -> Group:
        """The group with one payment more."""
        others = tuple(total for total in self.totals if total.currency != money.currency)
        same = next((total for total in self.totals if total.currency == money.currency), Money(0, money.currency))
        return Group(self.count + 1, (*others, same + money))


class Taken(Struct, frozen=True):
    """What was taken in an outage, each payment in exactly one group."""

    accepted: Group = Group()
    """Cards with the issuer's word: approved at once, or captured later."""
    waiting: Group = Group()
    """Handed over by the terminal, the bank's answer is still to come."""
    held: Group = Group()
    """Still in a terminal, or on their way out of it."""
    refused_late: Group = Group()
    decided_paid: Group = Group()
    """A person has said that it was paid, where nobody else could."""
    decided_unpaid: Group = Group()
    unknown: Group = Group()
    """Nobody can say yet: unknown, in conflict, running, or a reversal that is not answered."""
    not_taken: Group = Group()
    """Declined, cancelled, refused by policy, or reversed: no money moved in the end."""
    cash: Group = Group()

    @property
    def cards(self) -> Group:
        """All card payments of the outage for which money moved or may have moved."""
        found = Group()
        decided = (self.decided_paid, self.decided_unpaid)
        for group in (self.accepted, self.waiting, self.held, self.refused_late, *decided, self.unknown):
            for total in group.totals:
                found = Group(found.count, found.plus(total).totals)
            found = Group(found.count + group.count, found.totals)
        return found

    @property
    def settled(self) -> bool:
        """Whether every payment has its verdict, or a person's word in its place."""
        return not (self.waiting.count or self.held.count or self.unknown.count)


class NamedTerminal(Struct, frozen=True):
    """A terminal, as people call it."""

    id: str
    name: str


class OutageView(Struct, frozen=True):
    """An outage with what was taken in it and its newest statement."""

    outage: Outage
    taken: Taken
    statement: StoredStatement | None
    unheard: tuple[NamedTerminal, ...] = ()
    """Terminals used in it that have not answered since, nor been closed by a person; empty while it lasts."""


def group_of(payment: Payment) -> str:
    """The field of `Taken` that a payment belongs to."""
    if payment.decision is not None:
        return "decided_paid" if payment.decision is ManualStatus.SUCCESS else "decided_unpaid"
    if payment.state in {PaymentState.DECLINED, PaymentState.CANCELLED, PaymentState.REFUSED, PaymentState.REVERSED}:
        return "not_taken"
    if payment.state not in {PaymentState.APPROVED, PaymentState.STORED}:
        return "unknown"
    if payment.tender is Tender.CASH:
        return "cash"
    if payment.state is PaymentState.APPROVED or payment.custody is Custody.CAPTURED:
        return "accepted"
    if payment.custody in LATE_REFUSED:
        return "refused_late"
    return "waiting" if payment.custody is Custody.FORWARDED else "held"


def counted_in(payment: Payment, field: str) -> bool:
    """Whether a field of `Taken`, or its `cards`, has counted this payment of the outage."""
    group = group_of(payment)
    wanted = group not in {"cash", "not_taken"} if field == "cards" else group == field
    return wanted and payment.mode is PaymentMode.LIVE


def summarise(found: list[Payment]) -> Taken:
    """Count and sum the live payments of an outage."""
    groups: dict[str, Group] = {}
    for payment in found:
        if payment.mode is PaymentMode.LIVE:
            name = group_of(payment)
            groups[name] = groups.get(name, Group()).plus(payment.money)
    return Taken(**groups)


class OutageDesk:
    """Holds the mode; opens and closes outage rows; tells listeners. One per hub."""

    def __init__(self, database: Database, runtime: Runtime, limits: Hysteresis = DEFAULT_HYSTERESIS) -> None:
        self._database = database
        self._runtime = runtime
        self._limits = limits
        self._state = ModeState()
        self._facts = Facts()
        self._outage: Outage | None = None
        self._anchor: Anchor | None = None
        self._uptime_between_ms = 0
        self._ended_ms: dict[str, int] = {}
        """Monotonic end of the outages that ended in this process."""
        self._listeners: list[Listener] = []
        self._store_failing = False

    async def load(self) -> None:
        """Take up an outage that an earlier run left open. Call once before `observe`."""
        found, anchor, uptime = await self._database.read("outage.load", self._read_open)
        if found is None:
            return
        self._outage, self._anchor, self._uptime_between_ms = found, anchor, uptime
        now_ms = self._mono_ms()
        same_boot = found.anchor_boot == self._runtime.boot
        self._state = resume(found.cause == Mode.NETWORK_OUTAGE, found.anchor_mono_ms if same_boot else 0, now_ms)
        log.info("outage.resumed", extra={"outage_id": found.id})

    def listen(self, listener: Listener) -> None:
        """Call `listener` after every change of the mode or of the outage, on disk or not; it must not block.

        B17 hangs on it: the flush of stored payments starts when the mode comes back to `online`.
        """
        self._listeners.append(listener)

    def facts(self) -> Facts:
        """What was measured last."""
        return self._facts

    def snapshot(self) -> ModeSnapshot:
        """The mode as it is now, with the outage it belongs to."""
        outage = self._outage
        if outage is None:
            return ModeSnapshot(self._state.mode, cause=self._state.cause)
        return ModeSnapshot(
            self._state.mode,
            outage.id,
            self._state.cause or Mode(outage.cause),
            outage.started_at_us,
            outage.anchor_mono_ms,
            outage.anchor_boot,
        )

    def since_ms(self) -> int:
        """Monotonic milliseconds since which the mode has its value."""
        return self._state.since_ms

    def elapsed(self) -> Elapsed:
        """How long the present outage has lasted, least rounded down and most rounded up; zero outside one."""
        if self._anchor is None:
            return Elapsed(0, 0)
        clock = self._runtime.clock
        now = Now(self._runtime.boot, self._mono_ms(), clock.now_us(), clock.trusted())
        lasted = elapsed(self._anchor, now, self._uptime_between_ms)
        most_s = None if lasted.most_ms is None else -(-lasted.most_ms // 1000)
        return Elapsed(lasted.least_ms // 1000, most_s)

    def ended_s(self, outage_id: str) -> float:
        """Monotonic second at which an outage ended; 0 if that was before this process, which has heard nothing since.

        Asked only about outages that are over. No wall clock: that may be set back just when service returns.
        """
        return self._ended_ms.get(outage_id, 0) / 1000

    async def observe(self, facts: Facts) -> ModeSnapshot:
        """Judge a new set of facts; open or close the outage row that follows from them."""
        before = self.snapshot()
        self._facts = facts
        self._state = step(self._state, facts, self._mono_ms(), self._limits)
        await self._follow()
        after = self.snapshot()
        if after != before:
            log.info("mode.changed", extra={"mode": after.mode.value, "before": before.mode.value})
            for listener in self._listeners:
                listener(after)
        return after

    async def page(
        self, narrow: OutageFilter | None = None, before_seq: int | None = None, limit: int = 50
    ) -> list[OutageView]:
        """Newest first, with what was taken in each."""

        def read(connection: Connection) -> list[OutageView]:
            return [view_of(connection, found) for found in outages.page(connection, narrow, before_seq, limit)]

        return await self._database.read("outage.list", read)

    async def get(self, outage_id: str) -> OutageView:
        """One outage. Raises NotFoundError."""

        def read(connection: Connection) -> OutageView | None:
            found = outages.get(connection, outage_id)
            return view_of(connection, found) if found else None

        view = await self._database.read("outage.get", read)
        if view is None:
            raise NotFoundError("outage.not_found", "This hub knows no such outage.", params={"outage": outage_id})
        return view

    async def payments(self, outage_id: str) -> list[Payment]:
        """What was taken in an outage, oldest first."""
        return await self._database.read("outage.payments", lambda c: payments.of_outage(c, outage_id))

    async def _follow(self) -> None:
        """Bring the rows up to the mode. A store that refuses now is tried again with the next observation."""
        try:
            if self._state.mode in OUTAGES and self._outage is None:
                await self._open()
            elif self._state.mode is Mode.ONLINE and self._outage is not None:
                await self._close(self._outage)
        except StoreError:
            if not self._store_failing:
                log.warning("outage.not_recorded", exc_info=True)
            self._store_failing = True
        else:
            self._store_failing = False

    async def _open(self) -> None:
        cause = self._state.cause
        assert cause is not None, "an outage has a cause"
        anchor_ms = self._state.anchor_ms
        now_ms, now_us = self._mono_ms(), self._runtime.clock.now_us()
        anchor_ms = now_ms if anchor_ms is None else anchor_ms
        outage_id = self._runtime.ids.new_id()
        draft = Draft(
            kind="outage.opened",
            subject=outage_id,
            actor="hub",
            body={
                "cause": cause.value,
                "started_at_us": now_us - (now_ms - anchor_ms) * 1000,
                "started_mono_ms": anchor_ms,
            },
        )

        def work(tx: Tx) -> Outage | None:
            journal.append(tx, draft)
            _join(tx, outage_id, anchor_ms)
            return outages.get(tx.connection, outage_id)

        self._outage = await self._database.write("outage.open", work)
        assert self._outage is not None, "it was written in the same transaction"
        trusted = self._outage.opened_clock == CLOCK_TRUSTED
        self._anchor = Anchor(self._runtime.boot, anchor_ms, self._outage.started_at_us if trusted else None)
        self._uptime_between_ms = 0

    async def _close(self, outage: Outage) -> None:
        now_ms, now_us = self._mono_ms(), self._runtime.clock.now_us()
        ended_at_us = now_us - (now_ms - last_good_ms(self._state)) * 1000
        network = self._state.network_seen or outage.cause == Mode.NETWORK_OUTAGE
        cause = Mode.NETWORK_OUTAGE if network else Mode.SERVICE_DISRUPTION
        draft = Draft(
            kind="outage.closed",
            subject=outage.id,
            actor="hub",
            body={"ended_at_us": max(ended_at_us, outage.started_at_us), "cause": cause.value},
        )
        # Before the row says that it is over: whoever reads that must find when.
        self._ended_ms[outage.id] = last_good_ms(self._state)
        await self._database.write("outage.close", lambda tx: journal.append(tx, draft))
        self._outage, self._anchor, self._uptime_between_ms = None, None, 0

    def _mono_ms(self) -> int:
        return int(self._runtime.clock.monotonic() * 1000)

    def _read_open(self, connection: Connection) -> tuple[Outage | None, Anchor | None, int]:
        found = outages.current(connection)
        if found is None:
            return None, None, 0
        trusted_us = found.started_at_us if found.opened_clock == CLOCK_TRUSTED else None
        uptime: dict[bytes, int] = {}
        seq = found.opened_seq - 1
        while entries := journal.entries_after(connection, seq, ENTRIES_A_READ):
            for entry in entries:
                head = entry.head
                uptime[head.boot] = max(uptime.get(head.boot, 0), head.mono_ms)
                trusted_us = trusted_us or _anchored_by(entry, found)
            seq = entries[-1].seq
        between = sum(most for boot, most in uptime.items() if boot not in {self._runtime.boot, found.anchor_boot})
        between += max(0, uptime.get(found.anchor_boot, 0) - found.anchor_mono_ms)
        return found, Anchor(found.anchor_boot, found.anchor_mono_ms, trusted_us), between


def _join(tx: Tx, outage_id: str, anchor_ms: int) -> None:
    """What was asked for since the first loss was taken in the outage, although nobody had called it one yet.

    By the monotonic time of this boot: the wall clock may have been set meanwhile.
    """
    for payment in payments.asked_since(tx, anchor_ms):
        # One that a till has announced after a restore was asked for days ago, perhaps; it has no request's digest.
        if payment.outage is None and payment.manual is None and payment.digest:
            body = payment.entry_body(outage=outage_id, state=payment.state, before_reversal=payment.before_reversal)
            journal.append(tx, Draft(JOINED, payment.id, "hub", body, flags=mode_flags(payment.mode)))


def _anchored_by(entry: Entry, outage: Outage) -> int | None:
    """The true start of an outage, by a later entry of the same boot whose clock a witness had confirmed."""
    head = entry.head
    if head.clock != CLOCK_TRUSTED or head.boot != outage.anchor_boot:
        return None
    return head.at_us - (head.mono_ms - outage.anchor_mono_ms) * 1000


def view_of(connection: Connection, found: Outage) -> OutageView:
    """An outage with what was taken in it and its newest statement."""
    statements = outages.statements(connection, found.id)
    taken = summarise(payments.of_outage(connection, found.id))
    waiting = outages.unheard_of_outage(connection, found.id) if found.ended_at_us is not None else []
    unheard = tuple(_named(connection, terminal) for terminal in waiting)
    return OutageView(found, taken, statements[-1] if statements else None, unheard)


def _named(connection: Connection, terminal: str) -> NamedTerminal:
    device = devices.get(connection, terminal)
    return NamedTerminal(terminal, device.name if device else terminal)
