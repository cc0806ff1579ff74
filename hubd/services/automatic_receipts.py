"""Receipts that nobody has to ask for: written with the verdict of their payment, printed when a printer can.

The job stands in the transaction of the verdict, under an id that follows from the payment, so neither a crash nor a
repeat prints it twice, and no payment waits for paper. The merchant's copy of an offline payment is always printed
(domain B13), the customer's where the location wants it (domain D13). Without a printer there is no job and nothing to
complain about: the receipt is in the journal, and page, PDF and a later job show it all the same. A receipt that
cannot be put together is said in the log; the verdict stands without its paper.
"""

from __future__ import annotations

import logging

from hubd.errors import NotFoundError
from hubd.model.device import DeviceKind
from hubd.model.ids import derived_id
from hubd.model.payment import Payment, PaymentState
from hubd.services.peripherals import Peripherals
from hubd.services.printing import Origin, PrintDesk, PrintRequest
from hubd.services.receipt_paper import CUSTOMER, MERCHANT
from hubd.services.receipts import paper
from hubd.services.settings import prints_customer_receipts
from hubd.store import devices, journal
from hubd.store.tx import Tx

log = logging.getLogger(__name__)


class AutomaticReceipts:
    """Makes the print jobs that follow from a payment."""

    def __init__(self, printing: PrintDesk, peripherals: Peripherals) -> None:
        self._printing = printing
        self._peripherals = peripherals
        self._begin: set[str] = set()
        """Printers with jobs of transactions that may have been committed since; too many of them do no harm."""

    def write(self, tx: Tx, payment: Payment) -> None:
        """Add the receipts of a payment that this transaction has taken: approved, stored, recorded or given back."""
        printer = self._peripherals.choose(DeviceKind.PRINTER, payment.till or "", payment.location)
        if printer is None:
            return
        purposes = [MERCHANT] if payment.state is PaymentState.STORED else []
        if prints_customer_receipts(tx.rows, payment.location, tx.now_us()):
            purposes.append(CUSTOMER)
        if not purposes or _belongs_to_the_past(tx, payment):
            return
        till = devices.get(tx.connection, payment.till) if payment.till else None
        language = till.language if till else ""
        for purpose in purposes:
            try:
                document = paper(tx.connection, payment, purpose, language)
            except Exception:  # a receipt that cannot be put together must not hold the verdict of its payment back
                log.exception("receipt.not_rendered", extra={"payment_id": payment.id, "kind": purpose})
                continue
            request = PrintRequest(derived_id(payment.id, f"receipt:{purpose}"), document, "", payment.id, purpose)
            self._printing.add(tx, request, printer, Origin(payment.till or "", payment.staff, "hub"))
            self._begin.add(printer.id)

    def begin(self) -> None:
        """Print what was written. Called once it is on disk."""
        while self._begin:
            self._printing.begin(self._begin.pop())


def _belongs_to_the_past(tx: Tx, payment: Payment) -> bool:
    """Whether nobody waits for its paper: it is weeks old, or a till told it to a hub that had forgotten it."""
    try:
        first = journal.entry_at(tx.connection, payment.seq)
    except NotFoundError:
        return True
    return first.kind == "payment.announced"
