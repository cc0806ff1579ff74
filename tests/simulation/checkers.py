"""What must be true, judged by the ledgers of tills, terminals and cloud. Reads the hub's file itself, with own SQL."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivers.sim.ledger import Transaction, TransactionState
from hubd.model.mode import Mode
from hubd.model.payment import Payment, Tender
from hubd.model.policy import SHIPPED, OutagePolicy
from tests.simulation.devices import CHARGED, TerminalBox
from tests.verifier.verify_journal import verify_database

if TYPE_CHECKING:
    from tests.simulation.machine import HubMachine
    from tests.simulation.workload import Sale
    from tests.simulation.world import Store

TAKEN = {"approved", "stored", "reversal_pending"}
NOT_TAKEN = {"declined", "cancelled", "refused"}
AFTER = {
    "approved": {"approved", "reversal_pending", "reversed", "conflict"},
    "stored": {"stored", "reversal_pending", "reversed", "conflict"},
    "reversed": {"reversed", "conflict"},
    "declined": {"declined", "conflict"},
    "cancelled": {"cancelled", "conflict"},
    "refused": {"refused"},
    "conflict": {"conflict"},
}
"""What a payment may be after the till was told this."""
OPEN_CUSTODIES = {"held", "forwarding", "forwarded"}
UNDECIDED = {"requested", "in_progress", "unknown", "conflict", "reversal_pending"}
NEVER_SENT = {"requested", "refused", "cancelled"}
WINDOW_SLACK_S = 20.0


@dataclass(frozen=True, slots=True)
class Row:
    """A payment as the hub's file has it."""

    id: str
    seq: int
    kind: str
    state: str
    custody: str | None
    manual: str | None
    tender: str
    amount: int
    order_id: str | None
    original: str | None
    series: str | None
    counter: int | None


def payments_in(path: Path) -> dict[str, Row]:
    """Every payment of a hub."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT id, seq, kind, state, custody, manual, tender, amount + tip + rounding, order_id, original_id,"
            " series, counter FROM payments ORDER BY seq"
        )
        return {row[0]: Row(*row) for row in rows}


def entries_in(path: Path) -> Iterator[tuple[int, bytes, str, str, dict[str, Any]]]:
    """Every entry: seq, hash, kind, subject, body."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        for seq, digest, kind, subject, body in db.execute(
            "SELECT seq, hash, kind, subject, body FROM journal ORDER BY seq"
        ):
            yield seq, digest, kind, subject, json.loads(body)


def taken_before_declared(path: Path) -> list[tuple[str, str | None]]:
    """Payments asked for after the first loss of an outage and before it was declared: id, the outage they are in."""
    found = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        asked: list[tuple[bytes, int, str]] = []
        for kind, subject, head, body in db.execute("SELECT kind, subject, head, body FROM journal ORDER BY seq"):
            boot, mono_ms = head[34:50], int.from_bytes(head[50:58], "big")
            if kind in {"payment.requested", "payment.recorded", "payment.refused"}:
                asked.append((boot, mono_ms, subject))
            elif kind == "payment.resolved":
                asked = [one for one in asked if one[2] != subject]
            elif kind == "outage.opened":
                since = json.loads(body)["started_mono_ms"]
                found += [subject for asked_in, at, subject in asked if asked_in == boot and at >= since]
                asked.clear()
        outages = dict(db.execute("SELECT id, outage FROM payments"))
    return [(payment, outages[payment]) for payment in found]


class Checks:
    """The judge of one run."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.trace = store.trace
        self._by_reference: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._policies: dict[str, list[OutagePolicy]] = defaultdict(lambda: [SHIPPED["terminal"]])
        self._policies_ever = [SHIPPED["terminal"]]
        """A hub that was restored may follow any of them again, until it is told anew."""
        self.ran = 0

    # -- after every step ----------------------------------------------------------------------------------------------

    def booked(self, box: TerminalBox, transaction: Transaction) -> None:
        """A terminal has written into its books."""
        if transaction.kind != "payment" or transaction.state not in CHARGED | {TransactionState.REVERSED}:
            return
        charges = self._by_reference[transaction.reference]
        charges.add((box.name, transaction.trace))
        self.trace.need(
            len(charges) == 1, "one payment, one charge", f"{transaction.reference} was charged as {sorted(charges)}"
        )
        sale = self.store.sale(transaction.reference)
        self.trace.need(
            sale is not None and sale.amount == transaction.amount_minor,
            "only what a till asked for is charged",
            f"{transaction}",
        )

    def policy_changes(self, hub: HubMachine, policy: OutagePolicy) -> None:
        """From now on the hub may follow this policy too."""
        self._policies[hub.name].append(policy)
        self._policies_ever.append(policy)

    def policy_changed(self, hub: HubMachine, policy: OutagePolicy) -> None:
        """From now on the hub follows this policy and no other."""
        if not hub.forgets:
            self._policies[hub.name] = [policy]

    def accepted_in_outage(self, sale: Sale, payment: Payment, mode: Mode, hub: HubMachine) -> None:
        """The hub lets a card payment go to a terminal; in an outage the policy must allow it."""
        if mode not in {Mode.NETWORK_OUTAGE, Mode.SERVICE_DISRUPTION} or sale.attempts > 1:
            return
        lasted_s = self.store.link.away_for_s()
        assert sale.request is not None, "only a sale is decided by policy"
        self.trace.need(
            any(
                policy.enabled
                and sale.request.method not in policy.excluded_methods
                and sale.amount <= policy.limit_per_payment["EUR"]
                and lasted_s <= policy.accept_for_s + WINDOW_SLACK_S
                for policy in (self._policies_ever if hub.forgets else self._policies[hub.name])
            ),
            "policy limits hold",
            f"{sale.id}: {sale.amount} by {sale.request.method} after {lasted_s:.0f} s,"
            f" under {[policy.as_json() for policy in self._policies[hub.name]]}",
        )

    # -- once in a while, and after every restart ----------------------------------------------------------------------

    def look(self, hub: HubMachine) -> None:
        """What must be true of a hub at any moment."""
        if self.trace.violation is not None or not hub.disk.powered or not hub.disk.path.exists():
            return
        self.ran += 1
        rows = payments_in(hub.disk.path)
        with closing(sqlite3.connect(f"file:{hub.disk.path}?mode=ro", uri=True)) as db:
            for sale in self.store.sales_of(hub):
                row = rows.get(sale.id)
                if row is None:
                    self.trace.need(
                        sale.accepted is None or sale.shaken, "nothing acknowledged is lost", f"{sale.id} {sale.told}"
                    )
                    continue
                self._is_as_told(hub, sale, row, db)
                self._agrees_with_terminals(hub, sale, row)

    def _is_as_told(self, hub: HubMachine, sale: Sale, row: Row, db: sqlite3.Connection) -> None:
        if sale.shaken:
            return
        if sale.accepted is not None:
            _, seq, digest = sale.accepted
            found = db.execute("SELECT hash FROM journal WHERE seq = ?", (seq,)).fetchone()
            kept = row.seq == seq and found is not None and bytes(found[0]).hex() == digest
            self.trace.need(kept, "nothing acknowledged is lost", f"{sale.id} was accepted at {seq}, is at {row.seq}")
        last = sale.told[-1] if sale.told else ""
        if last in AFTER:
            self.trace.need(
                row.state in AFTER[last], "a verdict stays", f"{sale.id}: told {last}, is {row.state} in {hub.name}"
            )

    def _agrees_with_terminals(self, hub: HubMachine, sale: Sale, row: Row) -> None:
        charge = self.charge(row.id)
        if charge is None or (hub.forgets_in_silence and sale.shaken):
            return
        self.trace.need(
            row.state not in NOT_TAKEN or charge.state is TransactionState.REVERSED,
            "a charged payment is never declined",
            f"{row.id} is {row.state} in {hub.name}, the terminal has {charge}",
        )

    def charge(self, payment_id: str) -> Transaction | None:
        """The payment in the terminals' books, if the customer's money has moved."""
        for box in self.store.terminals:
            for transaction in box.charges():
                if transaction.reference == payment_id:
                    return transaction
        return None

    def money_moved(self, payment_id: str, tender: Tender) -> bool:
        """What a manager finds out: whether the customer has paid, and has not got it back."""
        if tender is Tender.CASH:
            return True
        charge = self.charge(payment_id)
        if charge is None:
            # An announced payment is unknown whatever it was; the till's own slip says that it was cash.
            sale = self.store.sale(payment_id)
            return sale is not None and sale.kind.value == "cash"
        return charge.state is not TransactionState.REVERSED

    # -- at the end ----------------------------------------------------------------------------------------------------

    def final(self, hub: HubMachine) -> None:
        """What must be true once everything is well and quiet."""
        self.look(hub)
        rows = payments_in(hub.disk.path)
        self._all_known(hub, rows)
        for row in rows.values():
            self._resolved(hub, row)
        self._sums(hub, rows)
        self._orders(hub, rows)
        self._numbers(hub)
        self._outages(hub, rows)
        self._chain(hub)

    def clone(self, hub: HubMachine) -> None:
        """What must be true of a second hub that is switched off now."""
        self.look(hub)
        self._numbers(hub)
        self._chain(hub)

    def _all_known(self, hub: HubMachine, rows: dict[str, Row]) -> None:
        for sale in self.store.sales_of(hub):
            self.trace.need(sale.done, "every till gets its answer", f"{sale.id} after {sale.attempts} attempts")
            known = sale.id in rows
            self.trace.need(known or bool(sale.given_up), "nothing acknowledged is lost", f"{sale.id} at the end")
            if sale.given_up:
                charged = self.charge(sale.id)
                self.trace.need(
                    charged is None, "what is refused is not charged", f"{sale.id} {sale.given_up} {charged}"
                )
        for box in self.store.terminals:
            for charge in box.charges():
                known = any(charge.reference in payments_in(h.disk.path) for h in self.store.hubs)
                self.trace.need(known, "every charge is known", f"{charge} of {box.name}")

    def _resolved(self, hub: HubMachine, row: Row) -> None:
        self.trace.need(
            row.state not in {"requested", "in_progress"}, "everything drains", f"{row.id} is still {row.state}"
        )
        if row.tender != "card" or row.kind != "sale":
            return
        charge = self.charge(row.id)
        holds = charge is not None and charge.state in CHARGED
        if row.state in {"unknown", "conflict", "reversal_pending"}:
            self.trace.need(row.manual is not None, "unknown is resolved or visible", f"{row.id} is {row.state}")
            return
        cash_really = (sale := self.store.sale(row.id)) is not None and sale.kind.value == "cash"
        self.trace.need(
            holds == (row.state in TAKEN) or cash_really,
            "hub and terminal agree",
            f"{row.id} is {row.state} in {hub.name}, the terminal has {charge}",
        )
        if row.state == "stored":
            self.trace.need(
                row.custody in {"forwarded", "captured", "declined_late"},
                "everything drains",
                f"{row.id} is {row.custody}",
            )

    def _sums(self, hub: HubMachine, rows: dict[str, Row]) -> None:
        """Counts and sums of cash by the tills, of cards by the terminals, and both by the hub."""
        told_cash = [
            sale
            for sale in self.store.sales_of(hub)
            if sale.kind.value == "cash" and not sale.given_up and sale.told[-1] in {"approved", "unknown", "conflict"}
        ]
        hub_cash = [
            row for row in rows.values()
            if row.kind == "sale" and (row.tender == "cash" or self._was_cash(row)) and _counts(row)
        ]  # fmt: skip
        self._same("cash", hub, {s.id: s.amount for s in told_cash}, {row.id: row.amount for row in hub_cash})
        booked = {
            t.reference: t.amount_minor for box in self.store.terminals for t in box.charges() if t.state in CHARGED
        }
        hub_cards = {
            row.id: row.amount
            for row in rows.values()
            if row.kind == "sale" and row.tender == "card" and _counts(row) and not self._was_cash(row)
        }
        self._same("cards", hub, booked, hub_cards)
        given = {s.id: s.amount for s in self.store.sales_of(hub) if s.kind.value == "refund" and s.accepted}
        self._same("refunds", hub, given, {row.id: row.amount for row in rows.values() if row.kind == "refund"})
        by_original: dict[str, int] = defaultdict(int)
        for row in rows.values():
            if row.kind == "refund" and row.original is not None and row.state == "approved":
                by_original[row.original] += row.amount
        for original, given_back in by_original.items():
            row = rows[original]
            kept = 0 if row.state == "reversed" else row.amount
            self.trace.need(
                given_back <= kept, "no more is given back than was paid", f"{original}: {given_back} of {kept}"
            )

    def _was_cash(self, row: Row) -> bool:
        sale = self.store.sale(row.id)
        return sale is not None and sale.kind.value == "cash"

    def _same(self, what: str, hub: HubMachine, theirs: dict[str, int], ours: dict[str, int]) -> None:
        missing = sorted(theirs.keys() - ours.keys())
        more = sorted(ours.keys() - theirs.keys())
        wrong = sorted(key for key in theirs.keys() & ours.keys() if theirs[key] != ours[key])
        self.trace.need(
            not (missing or more or wrong),
            "sums agree",
            f"{what}: {len(theirs)} for {sum(theirs.values())} there,"
            f" {len(ours)} for {sum(ours.values())} in {hub.name};"
            f" missing {missing}, more {more}, wrong {wrong}",
        )

    def _orders(self, hub: HubMachine, rows: dict[str, Row]) -> None:
        paid: dict[str, int] = defaultdict(int)
        for row in rows.values():
            of = rows[row.original].order_id if row.kind == "refund" and row.original in rows else row.order_id
            if of is not None and _pays(row):
                paid[of] += row.amount if row.kind == "sale" else -row.amount
        with closing(sqlite3.connect(f"file:{hub.disk.path}?mode=ro", uri=True)) as db:
            orders = {id_: (total, reason) for id_, total, reason in db.execute("SELECT id, total, reason FROM orders")}
        for id_, (total, reason) in orders.items():
            self.trace.need(
                (paid[id_] > total) == (reason == "paid_twice"),
                "an order paid twice is told",
                f"{id_}: {paid[id_]} of {total}, {reason!r} in {hub.name}",
            )
        for order in self.store.orders_of(hub):
            if order.accepted is None:
                continue
            known = order.id in orders or hub.forgets or order.shaken
            self.trace.need(known, "nothing acknowledged is lost", f"order {order.id}")
            overridden = any(s.overridden for s in self.store.sales_of(hub) if s.order_id == order.id)
            self.trace.need(
                paid[order.id] <= order.total or overridden or hub.forgets or order.shaken,
                "no order is paid twice",
                f"{order.id}: {paid[order.id]} of {order.total}",
            )

    def _numbers(self, hub: HubMachine) -> None:
        """Every series, counted from the entries themselves: each number once, from 1, without gaps."""
        used: dict[str, list[int]] = defaultdict(list)
        seen: set[tuple[str, int, str]] = set()
        for _, _, kind, subject, body in entries_in(hub.disk.path):
            if not isinstance(body.get("counter"), int) or not kind.startswith(("payment.", "order.")):
                continue
            place = (body["series"], body["counter"], subject)
            if place not in seen:
                seen.add(place)
                used[body["series"]].append(body["counter"])
        for series, counters in used.items():
            self.trace.need(
                counters == list(range(1, len(counters) + 1)), "numbers without gaps", f"{series}: {counters}"
            )

    def _outages(self, hub: HubMachine, rows: dict[str, Row]) -> None:
        """Every terminal that an ended outage used was heard, once; statements agree and are final when they may be."""
        ended: set[str] = set()
        used: set[tuple[str, str]] = set()
        heard: list[tuple[str, str]] = []
        newest: dict[str, dict[str, Any]] = {}
        for _, _, kind, subject, body in entries_in(hub.disk.path):
            if kind == "outage.closed":
                ended.add(subject)
            elif kind == "outage.terminal_heard":
                heard.append((subject, body["terminal"]))
                self.trace.need(subject in ended, "heard after the outage", f"{body['terminal']} in {subject}")
            elif _uses_terminal(kind, body):
                used.add((body["outage"], body["terminal"]))
            elif kind == "statement.received":
                newest[body["statement"]["outage"]] = body
        for payment, outage in taken_before_declared(hub.disk.path):
            self.trace.need(outage is not None, "an outage begins with the first loss", f"{payment} in {hub.name}")
        missing = sorted(one for one in used if one[0] in ended and one not in heard)
        self.trace.need(not missing, "every terminal of an outage is heard", f"{missing} in {hub.name}")
        self.trace.need(len(heard) == len(set(heard)), "heard once", f"{heard} in {hub.name}")
        if hub.forgets or self.store.link.forgets or self.store.retired:
            return
        open_ones = {row.id for row in rows.values() if row.state == "stored" and row.custody in OPEN_CUSTODIES}
        open_ones |= {row.id for row in rows.values() if row.state in UNDECIDED and row.manual is None}
        for outage in ended:
            told = newest.get(outage)
            self.trace.need(told is not None, "an outage ends with a statement", f"{outage} in {hub.name}")
            if told is not None:
                final = told["statement"]["finality"] == "final"
                self.trace.need(told["agrees"], "hub and cloud agree on a statement", json.dumps(told["reasons"]))
                self.trace.need(final or bool(open_ones), "statements become final", f"{outage}: {told['statement']}")

    def _chain(self, hub: HubMachine) -> None:
        report = verify_database(str(hub.disk.path))
        good = report["first_bad_seq"] is None and not report["documents"]["wrong"] and not report["proofs_mismatched"]
        self.trace.need(good and report["entries"] > 0, "the chain is unbroken", json.dumps(report))


def _uses_terminal(kind: str, body: dict[str, Any]) -> bool:
    """Whether an entry says that a terminal was used in an outage."""
    if kind == "payment.joined_outage":
        return body["terminal"] is not None and body["state"] not in NEVER_SENT
    return kind in {"payment.started", "payment.stored"} and body["outage"] is not None


def _counts(row: Row) -> bool:
    if row.state in {"unknown", "conflict", "reversal_pending"}:
        return row.manual == "success" or (row.manual is None and row.state == "reversal_pending")
    return row.state in TAKEN


def _pays(row: Row) -> bool:
    """Whether an order counts it; not what the bank has refused afterwards."""
    return _counts(row) and (row.state != "stored" or row.custody in OPEN_CUSTODIES | {"captured"})
