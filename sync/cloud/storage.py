"""What the reference cloud asks of its storage: SQLite for one store, PostgreSQL behind the same port later.

Every method runs inside the transaction of `CloudRunner.run`; what a run did is durable when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from sync.cloud.hashing import CloudEntry
from sync.codec import Place, Range

T = TypeVar("T")

PENDING = "pending"
"""Stored and confirmed, not yet interpreted: a backlog is proven first and understood right after."""
INTERPRETED = "interpreted"
UNINTERPRETED = "uninterpreted"
STOPPED = "stopped"
DEAD = "dead"
QUARANTINED = "quarantined"

OWN = "own"
FORGOTTEN = "forgotten"

WANTED = "wanted"
UNKNOWN = "unknown"
DONE = "done"
HELD_BACK = "held_back"
"""An effect of a quarantined entry: a person decides (S3)."""


@dataclass(frozen=True, slots=True)
class HubRow:
    """One enrolled hub."""

    hub: bytes
    tenant: str
    store: str
    public_key: bytes
    locations: tuple[str, ...] = ()
    restored_upto: int = 0
    """Up to this seq the hub holds proofs that this cloud does not remember: effects there are never executed (S7)."""
    restored_mark: bytes = b""
    """What made the cloud notice that it was restored; noticed once."""
    next_epoch: int = 1


@dataclass(frozen=True, slots=True)
class CodeRow:
    """What an enrolment code binds to."""

    tenant: str
    store: str
    locations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LineRow:
    """One line of one hub, with its head. One row to lock for each batch (S5)."""

    line: bytes
    opened_seq: int
    head_seq: int
    head_hash: bytes
    parent_hash: bytes
    parent_line: bytes
    epoch: int
    stopped: bool = False


class LedgerPayment(msgspec.Struct, frozen=True, gc=False):
    """A payment in the cloud's own ledger."""

    id: str
    quarantined: bool
    outage: str
    tender: str
    kind: str
    mode: str
    currency: str
    exponent: int
    amount: int
    tip: int
    rounding: int
    state: str
    custody: str
    manual: str
    decided_on: str
    """State in which `manual` was said."""
    before_reversal: str
    times_created: int
    seq: int


@dataclass(frozen=True, slots=True)
class OutageRow:
    """An outage as the hub's entries tell it."""

    outage: str
    cause: str
    started_at_us: int
    opened_line: bytes
    opened_seq: int
    """0: its beginning was set aside (quarantined); `opened_line` is then the line of its end, once it has ended."""
    ended_at_us: int | None
    closed_hash: bytes
    zone_hint: str = ""


@dataclass(frozen=True, slots=True)
class EffectRow:
    """Something to be done outside, once for (hub, subject, effect, attempt)."""

    hub: bytes
    subject: str
    effect: str
    attempt: int
    state: str
    detail: str


class CloudStorage(Protocol):
    """One hub's things at a time; `hub` is always the 16 bytes of its id."""

    def hub(self, hub: bytes) -> HubRow | None: ...
    def put_hub(self, row: HubRow) -> None: ...
    def hubs(self) -> list[bytes]: ...
    def put_backup_key(self, tenant: str, public_key: bytes) -> None: ...
    def backup_key(self, tenant: str) -> bytes: ...
    def add_code(self, code_sha256: bytes, code: CodeRow, uses: int, expires_us: int) -> None: ...
    def take_code(self, code_sha256: bytes, now_us: int) -> CodeRow | None: ...
    def code_refusal(self, code_sha256: bytes, now_us: int) -> str: ...
    def note_renewal(self, hub: bytes, nonce: bytes, now_us: int) -> bool: ...
    def let_in_until(self, hub: bytes, expires_us: int) -> None: ...
    def let_in_over(self, now_us: int) -> list[bytes]: ...
    def shut_out(self, hub: bytes) -> None: ...

    def known(self, hub: bytes, hash_: bytes) -> str | None: ...
    def hash_in_line(self, hub: bytes, line: bytes, seq: int) -> bytes | None: ...
    def place(self, hub: bytes, hash_: bytes) -> tuple[bytes, int, bytes] | None: ...
    def add_entry(self, hub: bytes, entry: CloudEntry, state: str) -> None: ...
    def add_entries(self, hub: bytes, entries: Sequence[CloudEntry], state: str) -> None: ...
    def pending(self, hub: bytes, limit: int) -> list[CloudEntry]: ...
    def first_pending(self, hub: bytes, line: bytes) -> int | None: ...
    def pending_hubs(self) -> list[bytes]: ...
    def settle_pending(self, hub: bytes, states: Sequence[str]) -> None:
        """Give the first pending entries of a hub these states, in the order of `pending`."""
        ...

    def entries(self, hub: bytes, line: bytes, from_seq: int, upto_seq: int, limit: int) -> list[CloudEntry]: ...
    def uninterpreted(self, hub: bytes) -> list[CloudEntry]: ...
    def uninterpreted_count(self, hub: bytes) -> int: ...
    def highest_seq(self, hub: bytes, upto_seq: int) -> int: ...
    def line(self, hub: bytes, line: bytes) -> LineRow | None: ...
    def lines(self, hub: bytes) -> list[LineRow]: ...
    def put_line(self, hub: bytes, row: LineRow) -> None: ...
    def entry_count(self, hub: bytes) -> int: ...

    def park(self, hub: bytes, prev_hash: bytes, message: bytes, limit: int) -> bool: ...
    def unpark(self, hub: bytes, prev_hash: bytes) -> bytes | None: ...

    def down_head(self, hub: bytes) -> Place | None: ...
    def down_place(self, hub: bytes, seq: int) -> Place | None: ...
    def down_known(self, hub: bytes, hash_: bytes) -> bool: ...
    def down_lines(self, hub: bytes) -> list[Place]: ...
    def add_down(self, hub: bytes, entry: CloudEntry, state: str) -> None: ...
    def down_entries(self, hub: bytes, from_seq: int, limit: int) -> list[CloudEntry]: ...
    def down_confirmed(self, hub: bytes) -> Place | None: ...
    def set_down_confirmed(self, hub: bytes, place: Place) -> None: ...

    def payment(self, hub: bytes, payment: str, quarantined: bool) -> LedgerPayment | None: ...
    def put_payment(self, hub: bytes, row: LedgerPayment) -> None: ...
    def payments(self, hub: bytes, payments: Sequence[str]) -> list[LedgerPayment]:
        """Those of these payments that the ledger has, without the quarantined ones."""
        ...

    def put_payments(self, hub: bytes, rows: Sequence[LedgerPayment]) -> None: ...
    def outage_payments(self, hub: bytes, outage: str) -> list[LedgerPayment]: ...
    def outage(self, hub: bytes, outage: str) -> OutageRow | None: ...
    def put_outage(self, hub: bytes, row: OutageRow) -> None: ...
    def add_statement(self, hub: bytes, outage: str, statement: str, finality: str, document: str) -> None: ...
    def latest_statement(self, hub: bytes, outage: str) -> tuple[str, str, str] | None: ...
    def statement(self, statement: str) -> tuple[bytes, str] | None: ...

    def effect(self, hub: bytes, subject: str, effect: str, attempt: int) -> EffectRow | None: ...
    def put_effect(self, row: EffectRow) -> None: ...
    def effects_to_do(self, limit: int) -> list[EffectRow]: ...

    def want_document(self, hub: bytes, document: bytes, digest: bytes) -> None: ...
    def document_digest(self, hub: bytes, document: bytes) -> bytes | None: ...
    def put_document(self, hub: bytes, document: bytes, klass: str, salt: bytes, content: bytes) -> None: ...
    def erase_document(self, hub: bytes, document: bytes) -> None: ...
    def documents_wanted(self, hub: bytes, limit: int) -> list[bytes]: ...
    def document_content(self, hub: bytes, document: bytes) -> bytes | None: ...

    def add_forgotten(self, hub: bytes, span: Range) -> bool:
        """Name a span, or the part by which it has grown; False if all of it was named before."""
        ...

    def forgotten(self, hub: bytes) -> list[Range]: ...
    def forgotten_listed(self, hub: bytes, line: bytes, upto_seq: int) -> None: ...
    def add_incident(self, hub: bytes, kind: str, detail: str) -> None: ...
    def incidents(self, hub: bytes) -> list[tuple[str, str]]: ...
    def add_dead_letter(self, hub: bytes, hash_: bytes, reason: str) -> None: ...
    def dead_letters(self, hub: bytes) -> list[tuple[bytes, str]]: ...


class CloudRunner(Protocol):
    """Runs functions on the storage, one at a time, each in a transaction that is durable when `run` returns."""

    async def run(self, fn: Callable[[CloudStorage], T]) -> T:
        """Run and commit; nothing of it stays if it raises."""
        ...

    async def close(self) -> None:
        """Let go of the storage; nothing may run afterwards."""
        ...


OUTGOING = Sequence[tuple[bytes, bytes]]
"""(hub, frame) to publish on that hub's topic `down`."""
