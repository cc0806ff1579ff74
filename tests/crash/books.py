"""Compares a dead hub's store with what the tills were told and with what the terminals' own books say.

Nothing of the hub's code is asked: entries are read with the independent verifier, states follow from the kinds of
entries alone.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.store import Sale, Simulator
from tests.verifier.verify_journal import read_body, read_head, verify_database

TAKEN = frozenset({"approved", "stored"})
NOT_TAKEN = frozenset({"declined", "cancelled", "refused", "reversed"})
NOBODY_KNOWS = frozenset({"unknown", "reversal_pending", "requested", "in_progress", "conflict"})
STATE_AFTER = {
    "payment.requested": "requested",
    "payment.announced": "unknown",
    "payment.recorded": "approved",
    "payment.refused": "refused",
    "payment.started": "in_progress",
    "payment.approved": "approved",
    "payment.stored": "stored",
    "payment.declined": "declined",
    "payment.cancelled": "cancelled",
    "payment.unknown": "unknown",
    "payment.reversal_requested": "reversal_pending",
    "payment.reversed": "reversed",
    "payment.conflicted": "conflict",
}


@dataclass(slots=True)
class Payment:
    """What the journal alone says of one payment."""

    id: str
    amount: int
    tender: str
    states: list[str] = field(default_factory=list)
    custody: list[str] = field(default_factory=list)
    manual: str = ""
    number: str = ""

    @property
    def state(self) -> str:
        """The last state."""
        return self.states[-1]

    @property
    def is_taken(self) -> bool:
        """Whether the shop counts it as paid."""
        return self.state in TAKEN or (self.state in NOBODY_KNOWS and self.manual == "success")


@dataclass(slots=True)
class Books:
    """A store's journal, read without the hub."""

    entries: dict[int, tuple[str, str, str, str]]
    """seq -> line, hash, kind, subject."""
    payments: dict[str, Payment]

    @property
    def joined(self) -> set[str]:
        """Payments that were asked for before their outage was declared."""
        return {subject for _, _, kind, subject in self.entries.values() if kind == "payment.joined_outage"}


def read_books(database: Path) -> Books:
    """Verify the chain with the independent verifier, then read it. Raises for a chain that is not whole."""
    report = verify_database(str(database))
    assert report["ok"], report
    entries: dict[int, tuple[str, str, str, str]] = {}
    payments: dict[str, Payment] = {}
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT seq, head, body, hash FROM journal ORDER BY seq")
        for seq, raw_head, raw_body, digest in rows:
            head = read_head(raw_head)
            kind, subject = head["kind"], head["subject"]
            entries[seq] = (head["line"].hex(), digest.hex(), kind, subject)
            if kind.startswith("payment."):
                _apply(payments, kind, subject, read_body(raw_body))
    return Books(entries, payments)


def _apply(payments: dict[str, Payment], kind: str, subject: str, body: dict[str, Any]) -> None:
    payment = payments.setdefault(subject, Payment(subject, body["amount"], body["tender"]))
    if kind == "payment.reversal_failed":
        payment.states.append(payment.states[-2])
    elif kind == "payment.resolved":
        payment.manual = body["manual"]
    elif kind == "payment.joined_outage":
        pass  # neither state nor custody
    elif kind in STATE_AFTER:
        payment.states.append(STATE_AFTER[kind])
    else:
        payment.custody.append(kind.removeprefix("payment."))
    if body.get("counter") is not None:
        payment.number = f"{body['series']}-{body['counter']}"


def check_nothing_acknowledged_is_lost(books: Books, sales: dict[str, Sale], before: float = float("inf")) -> int:
    """Every 2xx that a till heard is in the journal, at the place it was told, once; returns how many were heard.

    `before` leaves out what was heard later (after a power cut there is no hub to hear from).
    """
    heard = 0
    for sale in sales.values():
        places = {(told.line, told.seq, told.hash) for told in sale.told if told.at < before}
        heard += bool(places)
        assert len(places) <= 1, f"`accepted` of {sale.payment} changed: {places}"
        for line, seq, digest in places:
            assert books.entries.get(seq, ("",))[:2] == (line, digest), f"{sale} is not at {seq}: it is lost"
            assert books.entries[seq][3] == sale.payment
            assert books.payments[sale.payment].amount == sale.amount
    return heard


def check_states_never_went_back(books: Books, sales: dict[str, Sale]) -> None:
    """A final word that a till was told is a state that the journal knows for this payment."""
    for sale in sales.values():
        for told in sale.told:
            known = books.payments[sale.payment].states
            assert told.state in known, f"a till was told {told.state}, the journal has {known}"


def check_terminals_agree(books: Books, simulators: list[Simulator]) -> None:
    """Nothing charged twice, nothing charged forgotten, nothing taken that was not charged."""
    charges = Counter[str]()
    for simulator in simulators:
        for one in simulator.transactions():
            if one["kind"] == "payment" and one["state"] in {"approved", "stored", "forwarded"}:
                charges[one["reference"]] += 1
                assert one["reference"] in books.payments, f"the terminal has charged what no journal names: {one}"
                assert books.payments[one["reference"]].amount == one["amount_minor"]
    doubled = {payment: count for payment, count in charges.items() if count > 1}
    assert not doubled, f"charged twice: {doubled}"
    for payment in books.payments.values():
        if payment.tender != "card":
            continue
        charged = charges[payment.id] == 1
        if charged:
            assert payment.state not in NOT_TAKEN, f"{payment} is charged and forgotten"
            assert payment.manual != "failure", f"{payment} was charged"
        else:
            assert payment.state not in TAKEN, f"{payment} is taken and was never charged"
            assert payment.manual != "success", f"{payment} was never charged"


def check_numbers(books: Books) -> None:
    """Receipt numbers: each once, each series without a gap."""
    numbers = [payment.number for payment in books.payments.values() if payment.number]
    assert len(numbers) == len(set(numbers)), "a receipt number was given twice"
    series: dict[str, list[int]] = {}
    for number in numbers:
        name, _, counter = number.rpartition("-")
        series.setdefault(name, []).append(int(counter))
    for name, counters in series.items():
        assert sorted(counters) == list(range(1, len(counters) + 1)), f"series {name} has a gap: {sorted(counters)}"


def check_books(database: Path, sales: dict[str, Sale], simulators: list[Simulator]) -> Books:
    """All of the above."""
    books = read_books(database)
    check_nothing_acknowledged_is_lost(books, sales)
    check_states_never_went_back(books, sales)
    check_terminals_agree(books, simulators)
    check_numbers(books)
    return books
