"""The simulated terminal's own books. Tests judge the hub by them, so they share nothing with the hub's."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path


class TransactionState(StrEnum):
    """What the terminal, or the host behind it, holds true of a transaction."""

    APPROVED = "approved"
    STORED = "stored"
    FORWARDED = "forwarded"
    REVERSED = "reversed"
    DECLINED = "declined"
    CANCELLED = "cancelled"


MONEY_MOVED = frozenset({TransactionState.APPROVED, TransactionState.STORED, TransactionState.FORWARDED})


@dataclass(frozen=True, slots=True)
class Transaction:
    """One authorisation, reversal or end-of-day as the terminal remembers it."""

    trace: int
    kind: str
    """payment, reversal or end_of_day."""
    state: TransactionState
    amount_minor: int
    currency: str
    receipt_number: str = ""
    reference: str = ""
    at_us: int = 0
    original_trace: int = 0
    offline: bool = False
    settlement: str = ""
    """What the host says once it has a stored transaction: captured or declined_late."""
    result_code: int = 0


class Ledger:
    """Transactions by trace number; with a path, every change is a line on disk before it is answered."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._by_trace: dict[int, Transaction] = {}
        if path is not None and path.exists():
            self._load(path)

    def _load(self, path: Path) -> None:
        for line in path.read_text("utf-8").splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the process was killed
            self._by_trace[fields["trace"]] = Transaction(**{**fields, "state": TransactionState(fields["state"])})

    def book(self, transaction: Transaction) -> Transaction:
        """Write a new or changed transaction; it survives a kill from here on."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(transaction)) + "\n")
        self._by_trace[transaction.trace] = transaction
        return transaction

    def change(self, transaction: Transaction, state: TransactionState, settlement: str = "") -> Transaction:
        """Write a transaction's new state."""
        return self.book(replace(transaction, state=state, settlement=settlement or transaction.settlement))

    @property
    def transactions(self) -> tuple[Transaction, ...]:
        """All transactions in the order in which they began."""
        return tuple(self._by_trace[trace] for trace in sorted(self._by_trace))

    @property
    def next_trace(self) -> int:
        """The next transaction's number."""
        return max(self._by_trace, default=0) + 1

    @property
    def next_receipt(self) -> str:
        """The next receipt number: four digits, from 0001, round after 9999."""
        numbers = [int(t.receipt_number) for t in self.transactions if t.kind == "payment" and t.receipt_number]
        return f"{(numbers[-1] if numbers else 0) % 9999 + 1:04d}"

    @property
    def last_with_receipt(self) -> Transaction | None:
        """What a repeated receipt would show."""
        with_receipt = [t for t in self.transactions if t.receipt_number and t.kind != "end_of_day"]
        return with_receipt[-1] if with_receipt else None

    def payment(self, receipt_number: str) -> Transaction | None:
        """The newest payment with this receipt number."""
        found = [t for t in self.transactions if t.kind == "payment" and t.receipt_number == receipt_number]
        return found[-1] if found else None

    def stored(self) -> tuple[Transaction, ...]:
        """Payments that wait to be sent to the host."""
        return tuple(t for t in self.transactions if t.state is TransactionState.STORED)

    def open_batch(self) -> tuple[Transaction, ...]:
        """Payments since the last end-of-day that hold money."""
        batch: list[Transaction] = []
        for transaction in self.transactions:
            if transaction.kind == "end_of_day":
                batch.clear()
            elif transaction.kind == "payment" and transaction.state in MONEY_MOVED:
                batch.append(transaction)
        return tuple(batch)

    def as_json(self) -> list[dict[str, object]]:
        """All transactions for the control socket."""
        return [asdict(transaction) for transaction in self.transactions]
