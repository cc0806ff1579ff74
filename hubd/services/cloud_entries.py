"""What each entry of the cloud's journal does on the hub, in one transaction with the cursor (docs: sync, S8-S14).

An entry that a hub appends because of one of the cloud's carries `cause`; the cloud never answers such an entry, and
the hub appends nothing in answer to its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from hubd.errors import HubError, SyncError
from hubd.identity import verify_signature
from hubd.model.entry import FLAG_CRITICAL, Draft, Entry
from hubd.model.payment import (
    CONTRADICTS_DECISION,
    CUSTODY_OPEN,
    CustodyEvent,
    Payment,
    PaymentEvent,
    PaymentState,
    contradicts,
    contradicts_decision,
    next_custody,
)
from hubd.model.replacement import Word
from hubd.services import replacement, settings, statements
from hubd.services.statements import Comparison
from hubd.services.taking import mode_flags, settle_order
from hubd.store import backup, enrolment, journal, mirror, payments, sealed
from hubd.store.lines import all_lines
from hubd.store.tx import Connection, Tx

KEY_DOMAIN = b"hubd.key.v1\0"
BACKUP_KEY_DOMAIN = b"hubd.backup_key.v1\0"
VERSION = 1


class Cause(Struct, frozen=True):
    """Which entry of the cloud's journal is applied. `repeated`: the hub had applied it before a restore (S10)."""

    line: bytes
    seq: int
    repeated: bool = False

    @property
    def actor(self) -> str:
        """The `actor` of what the hub appends (E4)."""
        return f"cloud:{self.line.hex()}:{self.seq}"

    def as_body(self) -> dict[str, Any]:
        """The field `cause` of what the hub appends."""
        body: dict[str, Any] = {"line": self.line.hex(), "seq": self.seq}
        return body | {"repeated": True} if self.repeated else body


class EpochAssigned(msgspec.Struct, frozen=True):
    """The cloud's number for one of the hub's lines."""

    line: str
    epoch: int


class KeysRotated(msgspec.Struct, frozen=True):
    """A further key of the cloud, vouched for by the root."""

    key_id: str
    public_key: str
    root_signature: str


class TenantBackupKey(msgspec.Struct, frozen=True):
    """The tenant's public key (X25519) for backups, vouched for by the root; a later one takes its place."""

    tenant: str
    public_key: str
    root_signature: str


class PaymentVerdict(msgspec.Struct, frozen=True):
    """What the settlement source said of a payment; at most once for each attempt."""

    payment: str
    attempt: int
    verdict: str
    code: str = ""


class StatementIssued(msgspec.Struct, frozen=True):
    """A statement as the cloud signed it."""

    statement: dict[str, Any]


class SettingSet(msgspec.Struct, frozen=True):
    """A setting from the merchant's cloud."""

    key: str
    value: Any
    scope: str
    effective_from_us: int


def is_known(entry: Entry) -> bool:
    """Whether this program can apply an entry of the cloud's journal."""
    return entry.head.body_version == VERSION and (entry.kind in _EFFECTS or entry.kind == "line.opened")


def stops_the_line(entry: Entry) -> bool:
    """Whether nothing after this entry may be applied until the hub is updated (E14)."""
    return bool(entry.head.flags & FLAG_CRITICAL) and not is_known(entry)


def needs_comparison(entry: Entry) -> bool:
    """Whether `prepare` must run, on everything before it committed, ahead of `apply`."""
    return entry.kind == "statement.issued" and entry.head.body_version == VERSION


def prepare(connection: Connection, entry: Entry) -> Comparison:
    """Read what a statement is compared with: outside the writer, because it reads the outage's entries again."""
    try:
        document = _body(entry, StatementIssued).statement
        return statements.compare(connection, document)
    except (HubError, KeyError, TypeError, ValueError) as exc:
        return Comparison(False, (f"unreadable: {type(exc).__name__}",))


def apply(tx: Tx, entry: Entry, cause: Cause, comparison: Comparison | None = None) -> None:
    """Do what a known entry says, once. Raises HubError when its effect is impossible: then it is a dead letter."""
    effect = _EFFECTS.get(entry.kind)
    if effect is not None:
        effect(tx, entry, cause, comparison)


def apply_or_set_aside(tx: Tx, entry: Entry, cause: Cause, comparison: Comparison | None = None) -> str:
    """Apply an entry; one whose effect is impossible becomes a dead letter in the same transaction (S14).

    Returns the state under which the mirror keeps the entry. What follows is never blocked by it.
    """
    if not is_known(entry):
        return mirror.UNINTERPRETED
    mark = tx.savepoint()
    try:
        apply(tx, entry, cause, comparison)
    except HubError as exc:
        tx.rollback_to(mark)
        mirror.add_dead_letter(tx, mirror.SOURCE_DOWN, entry.head.subject, entry.hash, f"{exc.code}: {exc.detail}")
        return mirror.DEAD
    tx.release(mark)
    return mirror.APPLIED


def retry(tx: Tx) -> int:
    """Apply dead letters and what an update has made readable, in order; returns how many were applied.

    A subject whose oldest letter fails again keeps its later ones waiting, so that its order stays.
    """
    applied, blocked = 0, set[str]()
    for letter in mirror.dead_letters(tx.connection):
        entry = mirror.get(tx.connection, letter.hash) if letter.source == mirror.SOURCE_DOWN else None
        if entry is None or letter.subject in blocked:
            continue
        if _apply_again(tx, entry):
            mirror.finish_dead_letter(tx, letter.id)
            applied += 1
        elif letter.subject:
            blocked.add(letter.subject)
    for entry in mirror.entries_in_state(tx.connection, mirror.UNINTERPRETED):
        if is_known(entry) and entry.head.subject not in blocked and not needs_comparison(entry):
            applied += _apply_again(tx, entry)
    return applied


def _apply_again(tx: Tx, entry: Entry) -> bool:
    comparison = prepare(tx.connection, entry) if needs_comparison(entry) else None
    mark = tx.savepoint()
    try:
        apply(tx, entry, Cause(entry.line, entry.seq, repeated=True), comparison)
    except HubError:
        tx.rollback_to(mark)
        return False
    tx.release(mark)
    mirror.set_state(tx, entry.hash, mirror.APPLIED)
    return True


_T = Any


def _body(entry: Entry, struct: type[_T]) -> _T:
    try:
        return msgspec.convert(entry.body(), struct)
    except msgspec.ValidationError as exc:
        raise SyncError("sync.invalid_entry", f"{entry.kind} has not the form of its version.") from exc


def _hex(text: str, size: int) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError as exc:
        raise SyncError("sync.invalid_entry", "A field is not hexadecimal.") from exc
    if len(raw) != size:
        raise SyncError("sync.invalid_entry", f"A field has {len(raw)} bytes where {size} belong.")
    return raw


def _epoch(tx: Tx, entry: Entry, cause: Cause, _comparison: Comparison | None) -> None:
    body = _body(entry, EpochAssigned)
    known = {line.line: line.epoch for line in all_lines(tx.connection)}
    line = _hex(body.line, 16)
    # A line that this hub forgot in a restore keeps its number with the cloud; here nothing stands for it.
    if line not in known or known[line] == body.epoch:
        return
    append_body = {"line": body.line, "epoch": body.epoch, "cause": cause.as_body()}
    journal.append(tx, Draft("epoch.assigned", "", cause.actor, append_body))


def _replaced(tx: Tx, entry: Entry, cause: Cause, _comparison: Comparison | None) -> None:
    replacement.learn(tx, _body(entry, Word), cause.actor, {"cause": cause.as_body()})


def _keys(tx: Tx, entry: Entry, cause: Cause, _comparison: Comparison | None) -> None:
    body = _body(entry, KeysRotated)
    bound = enrolment.get(tx.connection)
    if bound is None:
        raise SyncError("sync.not_enrolled", "A key came before the enrolment that pins its root.")
    key = _hex(body.public_key, 32)
    signed = KEY_DOMAIN + bytes((len(body.key_id),)) + body.key_id.encode("ascii") + key
    if not verify_signature(bound.root_key, _hex(body.root_signature, 64), signed):
        raise SyncError("sync.invalid_key", "A key is not signed by the root of the enrolment.")
    if enrolment.cloud_keys(tx.connection).get(body.key_id) == key:
        return
    append_body = {"key_id": body.key_id, "public_key": body.public_key, "cause": cause.as_body()}
    journal.append(tx, Draft("cloud.keys_rotated", body.key_id, cause.actor, append_body))


def _backup_key(tx: Tx, entry: Entry, cause: Cause, _comparison: Comparison | None) -> None:
    """Who can open every backup is decided by the root itself: a stolen signing key must not become a reader."""
    body = _body(entry, TenantBackupKey)
    bound = enrolment.get(tx.connection)
    if bound is None or bound.tenant != body.tenant:
        raise SyncError("sync.not_enrolled", "A key for backups came from a tenant that this hub does not belong to.")
    key, tenant = _hex(body.public_key, 32), body.tenant.encode("utf-8")
    signed = BACKUP_KEY_DOMAIN + bytes((len(tenant),)) + tenant + key
    if not verify_signature(bound.root_key, _hex(body.root_signature, 64), signed):
        raise SyncError("sync.invalid_key", "A key for backups is not signed by the root of the enrolment.")
    if not sealed.is_public_key(key):
        raise SyncError("sync.invalid_key", "A key for backups is one that nothing can be sealed for.")
    backup.set_tenant_key(tx, body.tenant, key, cause.actor, cause.as_body())


def _statement(tx: Tx, entry: Entry, cause: Cause, comparison: Comparison | None) -> None:
    assert comparison is not None, "a statement is compared before it is applied"
    document = _body(entry, StatementIssued).statement
    for name in ("id", "outage", "finality", "replaces"):
        if name not in document:
            raise SyncError("sync.invalid_entry", f"A statement lacks `{name}`.")
    statements.receive(tx, document, comparison, cause.actor, cause.as_body())


def _setting(tx: Tx, entry: Entry, cause: Cause, _comparison: Comparison | None) -> None:
    body = _body(entry, SettingSet)
    settings.change(
        tx,
        cause.actor,
        body.key,
        body.value,
        scope=body.scope,
        effective_from_us=body.effective_from_us,
        source="cloud",
        cause=cause.as_body(),
    )


_VERDICTS: Mapping[str, CustodyEvent] = {
    event.value: event
    for event in (CustodyEvent.CAPTURED, CustodyEvent.DECLINED_LATE, CustodyEvent.EXPIRED, CustodyEvent.REJECTED)
}


def _verdict(tx: Tx, entry: Entry, cause: Cause, _comparison: Comparison | None) -> None:
    body = _body(entry, PaymentVerdict)
    event = _VERDICTS.get(body.verdict)
    if event is None:
        raise SyncError("sync.invalid_entry", "A verdict is not one of this version.")
    payment = payments.get(tx.connection, body.payment)
    if payment is None:
        raise SyncError("sync.unknown_payment", "A verdict speaks of a payment that this hub does not have.")
    if payment.custody is None:
        raise SyncError("sync.no_custody", f"A verdict speaks of a payment that is {payment.state} and was not stored.")
    more = {"reason": body.code, "attempt": body.attempt, "verdict": body.verdict, "cause": cause.as_body()}
    undone = payment.state is PaymentState.REVERSED and event is CustodyEvent.CAPTURED
    if contradicts(payment.custody, event) or (undone and payment.custody in CUSTODY_OPEN):
        _conflict(tx, payment, cause, more)
    elif payment.custody in CUSTODY_OPEN:
        custody = next_custody(payment.custody, event)
        _append(tx, payment, event.value, cause, more | {"custody": custody.value})
        if contradicts_decision(payment.decision, event):
            _against_a_decision(tx, payment.id, cause, body)
    if payment.order_id is not None:
        settle_order(tx, payment.order_id, cause.actor)


def _against_a_decision(tx: Tx, payment_id: str, cause: Cause, body: PaymentVerdict) -> None:
    """The verdict stands, and a person must look at it again.

    Without `cause`: the cloud may have given its verdict before it knew of the decision, so this is news to it.
    """
    payment = payments.get(tx.connection, payment_id)
    assert payment is not None, "a row never disappears"
    more = payment.entry_body(reason=CONTRADICTS_DECISION, verdict=body.verdict, code=body.code)
    kind = f"payment.{PaymentEvent.CONFLICTED}"
    journal.append(tx, Draft(kind, payment.id, cause.actor, more, flags=mode_flags(payment.mode)))


def _conflict(tx: Tx, payment: Payment, cause: Cause, more: Mapping[str, Any]) -> None:
    if payment.state is not PaymentState.CONFLICT:
        _append(tx, payment, PaymentEvent.CONFLICTED.value, cause, more)


def _append(tx: Tx, payment: Payment, event: str, cause: Cause, more: Mapping[str, Any]) -> None:
    body = payment.entry_body(**more)
    journal.append(tx, Draft(f"payment.{event}", payment.id, cause.actor, body, flags=mode_flags(payment.mode)))


Effect = Callable[[Tx, Entry, Cause, Comparison | None], None]
_EFFECTS: dict[str, Effect] = {
    "epoch.assigned": _epoch,
    "line.replaced": _replaced,
    "cloud.keys_rotated": _keys,
    "tenant.backup_key": _backup_key,
    "payment.verdict": _verdict,
    "statement.issued": _statement,
    "setting.changed": _setting,
}
