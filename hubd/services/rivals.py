"""Whether another hub may use the same terminals: a copy of this one, or the hub that this one was restored from.

Two hubs of one identity at one terminal look the same to it: a payment that is unknown in one is followed by a sale of
the other, and receipt number and amount then fit both. Whoever has reason to think of another hub must not be
convinced by them (docs/develop/simulation.md).
"""

from __future__ import annotations

from hubd.errors import NotFoundError
from hubd.model.payment import Payment, PaymentState, Tender
from hubd.services.lines import LineReason
from hubd.store import journal, lines, payments, replacements
from hubd.store.tx import Connection

SUSPECTED_FOR_US = 24 * 3600 * 1_000_000
"""How long after this hub has learned that it is not the only one it may still meet the other at a terminal."""
RECEIPT_NUMBERS_UNIQUE_FOR_US = 7 * 86_400 * 1_000_000
"""Terminals count receipts to 9999 and begin again; within a week a number names one transaction."""
REVERSAL_MARK = "r"
"""Ends the baseline of a driver whose terminal has last reversed that receipt."""


def number_proves_nothing(connection: Connection, hub: bytes, payment: Payment, now_us: int) -> bool:
    """Whether the next receipt number and the right amount are no proof that a terminal speaks of this payment.

    Either this hub was copied or restored a short while ago, or another sells in its place, or somebody has used the
    terminal between the last receipt that this hub knows and the payment in question.
    """
    return (
        _line_changed(connection, now_us)
        or replacements.stopped(connection, hub)
        or _used_by_others(connection, payment, now_us)
    )


def _line_changed(connection: Connection, now_us: int) -> bool:
    newest = lines.all_lines(connection)[-1]
    if newest.reason == LineReason.NEW:
        return False
    try:
        opened = journal.entry_at(connection, newest.opened_seq)
    except NotFoundError:
        return False  # archived: it is weeks old
    return now_us - opened.head.at_us < SUSPECTED_FOR_US


def _used_by_others(connection: Connection, payment: Payment, now_us: int) -> bool:
    number = payment.baseline.removesuffix(REVERSAL_MARK)
    if payment.terminal is None or not number:
        return False
    since_us = now_us - RECEIPT_NUMBERS_UNIQUE_FOR_US
    if not payments.has_any_receipt(connection, payment.terminal, payment.id, since_us):
        return False  # the first payment here for a while: who has used it before, nobody knows
    return not payments.has_receipt(connection, payment.terminal, number, payment.id, since_us)


def claimed_twice(connection: Connection, announced: Payment, now_us: int) -> list[Payment]:
    """Payments that were found approved by asking, where the terminal may have meant `announced`: the same amount.

    A till has announced it: another hub, or this one before a restore, has sold it.
    """
    if announced.tender is not Tender.CARD:
        return []
    return [
        one
        for one in payments.settled_by_asking(connection, now_us - RECEIPT_NUMBERS_UNIQUE_FOR_US)
        if one.id != announced.id
        and one.money == announced.money
        and one.location == announced.location
        and one.state in {PaymentState.APPROVED, PaymentState.STORED}
    ]
