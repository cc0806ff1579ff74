"""The receipt as data, with what French cash-register law wants on it (domain 5.3); rendering belongs to others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from hubd.errors import NotFoundError, PaymentError, Retry
from hubd.model.entry import Document, Entry, Json
from hubd.model.money import Money, TaxRate
from hubd.model.order import Order
from hubd.model.payment import Payment, PaymentEvent, PaymentKind, PaymentState
from hubd.model.permissions import Permission
from hubd.model.printing import PrintDocument
from hubd.model.receipt_layout import ReceiptLayout
from hubd.services.access import Caller
from hubd.services.calendar import local_time, rfc3339
from hubd.services.receipt_paper import marked, receipt_document
from hubd.services.settings import effective, receipt_layout
from hubd.store import devices, documents, journal, orders, payments, people, print_jobs
from hubd.store.archive import archived_entries_of, document_from_archive
from hubd.store.db import Database
from hubd.store.tx import Connection

OFFLINE_MARK = {
    "en": "offline payment, waiting for the bank",
    "fr": "paiement hors ligne — en attente",
    "nl": "offline betaling, wacht op de bank",
}
WITHOUT_RECEIPT = frozenset(
    {
        PaymentState.REQUESTED,
        PaymentState.IN_PROGRESS,
        PaymentState.UNKNOWN,
        PaymentState.REFUSED,
        PaymentState.CONFLICT,
    }
)

_WITHOUT_NUMBER = frozenset({f"payment.{PaymentEvent.DECLINED}", f"payment.{PaymentEvent.CANCELLED}"})


T = TypeVar("T")


class ReceiptView(Struct, frozen=True):
    """A receipt to be looked at, mailed or printed from a browser."""

    document: PrintDocument
    columns: int
    """Of the layout of its location."""


class ReceiptDesk:
    """Puts receipts together from payment, order, location and the journal, or its archive files for an old one."""

    def __init__(self, db: Database, archives: Path | None = None) -> None:
        self._db = db
        self._archives = archives

    async def receipt(self, payment_id: str, caller: Caller) -> dict[str, Any]:
        """The receipt of a payment that has a verdict, in the caller's language.

        Raises `payment_unknown`, `no_receipt_yet`, and `access.not_allowed` for a payment of another location.
        """
        return await self._read(
            lambda c, folder: _receipt(c, _asked_for(c, payment_id, caller), caller.language, folder)[0]
        )

    async def paper(self, payment_id: str, purpose: str, caller: Caller) -> PrintDocument:
        """The same as a document in the layout of its location, in the shop's language; `purpose` is one of PURPOSES.

        Raises as `receipt` does.
        """
        return await self._read(
            lambda c, folder: paper(c, _asked_for(c, payment_id, caller), purpose, caller.language, folder)
        )

    async def view(self, payment_id: str, purpose: str, caller: Caller) -> ReceiptView:
        """What `paper` gives, to be looked at: it says COPY where a paper of it is, or may be, out already."""

        def look(connection: Connection, folder: Path | None) -> ReceiptView:
            payment = _asked_for(connection, payment_id, caller)
            data, layout = _receipt(connection, payment, caller.language, folder)
            document = receipt_document(data, purpose, layout, caller.language)
            out = print_jobs.papers_of(connection, payment.id, purpose)
            return ReceiptView(marked(document, out + 1), layout.columns)

        return await self._read(look)

    async def _read(self, look: Callable[[Connection, Path | None], T]) -> T:
        folder = self._archives
        try:
            return await self._db.read("receipt", lambda connection: look(connection, None))
        except NotFoundError as exc:
            if exc.code != "journal.no_entry" or folder is None:
                raise
        # Entry and print lines of a payment older than 35 days: a file has to be read, so apart from other readers.
        return await self._db.read_apart("receipt.archived", lambda connection: look(connection, folder))


def paper(
    connection: Connection, payment: Payment, purpose: str, language: str, archives: Path | None = None
) -> PrintDocument:
    """A receipt as a document, also inside the transaction that gives the payment its verdict.

    `language` counts where the layout of the location names none. Raises `no_receipt_yet` without a verdict, and
    `journal.no_entry` for a payment whose entries are in the archive while `archives` is None.
    """
    data, layout = _receipt(connection, payment, language, archives)
    return receipt_document(data, purpose, layout, language)


def _asked_for(connection: Connection, payment_id: str, caller: Caller) -> Payment:
    payment = payments.get(connection, payment_id)
    if payment is None:
        raise NotFoundError("payment_unknown", "No payment of this id is known to this hub.", remedy="Read the list.")
    caller.need_at(Permission.PAYMENTS_READ, payment.location)
    return payment


def _receipt(
    connection: Connection, payment: Payment, language: str, archives: Path | None
) -> tuple[dict[str, Any], ReceiptLayout]:
    """The receipt's data, and the layout that counted when it was issued."""
    if payment.state in WITHOUT_RECEIPT:
        raise PaymentError(
            "no_receipt_yet",
            "The payment has no verdict yet, or was refused.",
            remedy="Wait for its verdict.",
            retry=Retry.SAME_REQUEST,
            retry_after_s=5,
        )
    order = orders.get(connection, payment.order_id) if payment.order_id else None
    location = people.location(connection, payment.location)
    till = devices.get(connection, payment.till) if payment.till else None
    history, terminal_lines = _journalled(connection, payment, archives)
    accepted, issued = history[0], _issued(history, payment)
    layout = receipt_layout(connection, payment.location, issued.head.at_us, issued.seq)
    spoken = (layout.language or language)[:2]
    offline = _offline_open(payment)
    data = {
        "number": f"{payment.series}-{payment.counter:06d}" if payment.counter is not None else None,
        "training": payment.mode.value == "training",
        "test": payment.mode.value == "test",
        "issued_at": rfc3339(issued.head.at_us, payment.zone),
        "local_time": _local(issued.head.at_us, payment.zone),
        "clock_trusted": issued.head.clock == 1,
        "business_date": payment.business_date,
        "store": _store_name(connection, issued),
        "location": {"id": payment.location, "name": location.name if location else None},
        "till": {"id": payment.till, "name": till.name if till else None},
        "staff": payment.staff,
        "kind": payment.kind.value,
        "order": _order_part(order),
        "payment": _payment_part(payment),
        "reversal": _reversal_part(history, payment),
        "refunds": [_refund_part(refund) for refund in payments.refunds_of(connection, payment.id)],
        "offline_mark": OFFLINE_MARK.get(spoken, OFFLINE_MARK["en"]) if offline else None,
        "offline_deadline": _local(payment.deadline_us, payment.zone) if offline and payment.deadline_us else None,
        "terminal_lines": terminal_lines.content.decode("utf-8").split("\n") if terminal_lines else [],
        "fiscal": {"line": accepted.line.hex(), "seq": accepted.seq, "hash": accepted.hash.hex()},
    }
    return data, layout


def _local(at_us: int, zone: str) -> str:
    return local_time(at_us, zone).strftime("%Y-%m-%d %H:%M:%S")


def _issued(history: list[Entry], payment: Payment) -> Entry:
    """The entry that gave the receipt its number; without one, the verdict. What comes later changes no receipt."""
    for entry in history:
        if payment.counter is not None and entry.body().get("counter") == payment.counter:
            return entry
        if payment.counter is None and entry.kind in _WITHOUT_NUMBER:
            return entry
    return history[-1]


def _store_name(connection: Connection, issued: Entry) -> Json:
    """What the shop was called then."""
    return effective(connection, "store.name", issued.head.at_us, upto_seq=issued.seq).value or None


def _journalled(connection: Connection, payment: Payment, archives: Path | None) -> tuple[list[Entry], Document | None]:
    """The entries of a payment, and the terminal's print lines: they leave the database with their entry."""
    document_id = payment.receipt_document
    lines = documents.get(connection, document_id) if document_id else None
    if archives is None:
        journal.entry_at(connection, payment.seq)  # raises where the first entries are in the archive
        return journal.entries_of(connection, payment.id), lines
    if document_id and lines is None:
        found = (document_from_archive(archives, document_id, seq) for seq in (payment.seq, payment.last_seq))
        lines = next((one for one in found if one is not None), None)
    archived = archived_entries_of(archives, payment.id, payment.seq, payment.last_seq)
    if not archived or archived[0].seq != payment.seq:
        raise NotFoundError("journal.no_entry", f"The archive has no entry {payment.seq}.", params={"seq": payment.seq})
    kept = journal.entries_of(connection, payment.id)
    return archived + [entry for entry in kept if entry.seq > archived[-1].seq], lines


def _offline_open(payment: Payment) -> bool:
    return payment.state is PaymentState.STORED and payment.is_open


def _payment_part(payment: Payment) -> dict[str, Any]:
    evidence = payment.evidence
    sign = -1 if payment.kind is PaymentKind.REFUND else 1
    return {
        "id": payment.id,
        "tender": payment.tender.value,
        "method": payment.method.value,
        "state": payment.state.value,
        "custody": payment.custody,
        "manual": payment.manual,
        "amount": Money(sign * payment.amount, payment.currency).as_json(),
        "tip": Money(sign * payment.tip, payment.currency).as_json(),
        "rounding": Money(sign * payment.rounding, payment.currency).as_json(),
        "total": Money(sign * payment.money.amount_minor, payment.currency).as_json(),
        "card": {
            name: evidence[name]
            for name in (
                "card_name",
                "pan_last4",
                "technology",
                "verification",
                "terminal_id",
                "receipt_number",
                "trace_number",
                "authorization_code",
            )
            if evidence.get(name)
        },
        "original": payment.original_id,
    }


def _reversal_part(history: list[Entry], payment: Payment) -> dict[str, Any] | None:
    """When the payment was undone, and by which number of the terminal; None while it stands."""
    if payment.state is not PaymentState.REVERSED:
        return None
    undone = next(entry for entry in reversed(history) if entry.kind == f"payment.{PaymentEvent.REVERSED}")
    return {
        "reversed_at": rfc3339(undone.head.at_us, payment.zone),
        "receipt_number": undone.body().get("reversal", {}).get("receipt_number"),
    }


def _refund_part(refund: Payment) -> dict[str, Any]:
    return {
        "id": refund.id,
        "number": f"{refund.series}-{refund.counter:06d}" if refund.counter is not None else None,
        "amount": Money(refund.amount, refund.currency).as_json(),
    }


def _order_part(order: Order | None) -> dict[str, Any] | None:
    if order is None:
        return None
    taxes: dict[str, list[int]] = {}
    for line in order.lines:
        sums = taxes.setdefault(line.tax_rate, [0, 0])
        sums[0] += line.net
        sums[1] += line.gross
    by_rate = sorted(taxes.items(), key=lambda item: TaxRate.parse(item[0]).per_100_000)
    return {
        "id": order.id,
        "number": order.number,
        "lines": [line.as_body() for line in order.lines],
        "total": Money(order.total, order.currency).as_json(),
        "taxes": [
            {
                "rate": rate,
                "net": Money(net, order.currency).as_json(),
                "tax": Money(gross - net, order.currency).as_json(),
                "gross": Money(gross, order.currency).as_json(),
            }
            for rate, (net, gross) in by_rate
        ],
    }
