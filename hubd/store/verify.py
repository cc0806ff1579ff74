"""Verify a journal: chain, format, lines, documents, archives, the cloud's proofs (docs/reference/journal.md).

`ChainCheck` is fed with rows, wherever they come from: a running store in steps, a read-only file, a backup, an
archive. It stops at the first bad entry; what follows one proves nothing.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Struct, field

from hubd.model.entry import (
    DOCUMENT_DOMAIN,
    FIRST_PREV_HASH,
    DocumentRef,
    EntryFormatError,
    Head,
    Json,
    decode_body,
    decode_head,
    entry_hash,
)
from hubd.model.kinds import is_known
from hubd.store import archive_files, cursors, payments
from hubd.store.cursors import Proof
from hubd.store.db import Database

TAIL_CHECKED_AT_START = 1_000
STEP_ENTRIES = 500
"""Entries of a running store that are checked in one read, so that no read holds the WAL for long."""
PROOF_DOMAIN = b"hubd.proof.v1\0"
LINE_REASONS = frozenset({"new", "restored", "stale", "fork", "replaced"})


class DocumentState(StrEnum):
    """What became of a document that an entry refers to."""

    GOOD = "good"
    ABSENT = "absent"
    ERASED = "erased"
    WRONG = "wrong"


class Row(Struct, frozen=True):
    """An entry as it is kept; `kind` and `subject` are the copies of a database row, None in an archive."""

    seq: int
    head: bytes
    body: bytes
    hash: bytes
    kind: str | None = None
    subject: str | None = None


class LineSeen(Struct, frozen=True):
    """A line with what could be seen of it."""

    line: bytes
    first_seq: int
    head_seq: int
    head_hash: bytes
    reason: str
    """Why it was opened; empty for a line whose opening lies before the part that could be seen."""


class Report(Struct):
    """What a verification found (E17)."""

    start_seq: int = 0
    """Entries up to this one were not seen here (they are in archives)."""
    entries: int = 0
    lines: list[LineSeen] = field(default_factory=list)
    head_seq: int = 0
    head_hash: bytes = FIRST_PREV_HASH
    first_bad_seq: int | None = None
    why: str = ""
    newer_format: bool = False
    documents: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DocumentState, 0))
    first_wrong_document: tuple[int, str] | None = None
    uninterpreted: int = 0
    proof: Proof | None = None
    proof_signature: str = ""
    """`good`, `bad`, or `unknown_key` of the newest proof that matches."""
    proofs_mismatched: list[int] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    archive_entries: int = 0
    archive_why: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; a newer format and absent documents are not wrong, only not judged."""
        return (
            self.first_bad_seq is None
            and not self.documents[DocumentState.WRONG]
            and not self.proofs_mismatched
            and not self.archive_why
            and self.proof_signature != "bad"
        )

    def as_json(self) -> dict[str, Json]:
        """For `hubctl journal verify --json`."""
        return {
            "ok": self.ok,
            "not_seen_upto": self.start_seq,
            "entries": self.entries,
            "lines": [
                {
                    "line": seen.line.hex(),
                    "first_seq": seen.first_seq,
                    "head_seq": seen.head_seq,
                    "head_hash": seen.head_hash.hex(),
                    "reason": seen.reason,
                }
                for seen in self.lines
            ],
            "head": {"seq": self.head_seq, "hash": self.head_hash.hex()},
            "first_bad_seq": self.first_bad_seq,
            "why": self.why,
            "newer_format": self.newer_format,
            "documents": {state.value: self.documents[state] for state in DocumentState},
            "uninterpreted": self.uninterpreted,
            "proof": None
            if self.proof is None
            else {
                "key_id": self.proof.key_id,
                "line": self.proof.line.hex(),
                "seq": self.proof.seq,
                "hash": self.proof.hash.hex(),
                "signature": self.proof_signature,
            },
            "proofs_mismatched": self.proofs_mismatched,
            "archives": self.archives,
            "archive_entries": self.archive_entries,
            "archive_why": self.archive_why,
        }


LookUp = Callable[[DocumentRef], DocumentState]


class _BadEntry(Exception):
    pass


class ChainCheck:
    """Feed it rows in order; it keeps the report. Nothing is read or written by it."""

    def __init__(self, start_seq: int = 0, start_hash: bytes = FIRST_PREV_HASH, proofs: Iterable[Proof] = ()) -> None:
        self.report = Report(start_seq=start_seq, head_seq=start_seq, head_hash=start_hash)
        self._line = b""
        self._seen: set[bytes] = set()
        self._proofs: dict[int, list[Proof]] = {}
        for proof in proofs:
            self._proofs.setdefault(proof.seq, []).append(proof)
        for proof in self._proofs.get(start_seq, ()):
            self._judge_proof(proof, proof.hash == start_hash)

    def feed(self, row: Row, look_up: LookUp) -> bool:
        """Check one more row. False once the chain ends: at a bad entry, or at a format newer than this program."""
        report = self.report
        try:
            head = self._check(row)
        except EntryFormatError as error:
            report.first_bad_seq, report.why, report.newer_format = report.head_seq + 1, error.detail, error.newer
            return False
        except _BadEntry as error:
            report.first_bad_seq, report.why = report.head_seq + 1, str(error)
            return False
        report.entries += 1
        report.head_seq, report.head_hash = row.seq, row.hash
        self._note_line(head, row)
        if not is_known(head.kind, head.body_version):
            report.uninterpreted += 1
        for document in head.documents:
            state = look_up(document)
            report.documents[state] += 1
            if state is DocumentState.WRONG and report.first_wrong_document is None:
                report.first_wrong_document = (row.seq, document.id.hex())
        for proof in self._proofs.get(row.seq, ()):
            self._judge_proof(proof, proof.line == head.line and proof.hash == row.hash)
        return True

    def _check(self, row: Row) -> Head:
        if row.seq != self.report.head_seq + 1 or len(row.hash) != 32:
            raise _BadEntry(f"The next entry has seq {row.seq}.")
        head = decode_head(row.head)
        body = decode_body(row.body)
        if head.seq != row.seq:
            raise _BadEntry(f"The head says seq {head.seq}.")
        self._check_line(head, body)
        if entry_hash(self.report.head_hash, row.head, row.body) != row.hash:
            raise _BadEntry("The hash does not follow from the entry and the hash before it.")
        if row.kind not in (None, head.kind) or row.subject not in (None, head.subject):
            raise _BadEntry("The columns kind and subject are not those of the head.")
        return head

    def _check_line(self, head: Head, body: dict[str, Json]) -> None:
        if head.kind == "line.opened":
            if head.line in self._seen:
                raise _BadEntry("A line is opened that was there before.")
            self._check_opening(head, body)
        elif head.line != self._line and (self._line or head.seq == 1):
            raise _BadEntry("The line changes without line.opened.")

    def _check_opening(self, head: Head, body: dict[str, Json]) -> None:
        fields = (body.get("hub_id"), body.get("public_key"), body.get("reason"), body.get("number_series"))
        hub_id, public_key, reason, series = fields
        if not (_is_hex(hub_id) and _is_hex(public_key) and reason in LINE_REASONS and isinstance(series, list)):
            raise _BadEntry("line.opened lacks a field or has one of another form.")
        parent = body.get("parent", "missing")
        if head.seq == 1:
            if parent is not None:
                raise _BadEntry("The first entry has no parent.")
            return
        if not isinstance(parent, dict) or parent.get("seq") != head.seq - 1:
            raise _BadEntry("The parent of a line is the entry before it.")
        if parent.get("hash") != self.report.head_hash.hex():
            raise _BadEntry("The parent of a line has another hash.")
        if not _is_hex(parent.get("line")) or (self._line and parent["line"] != self._line.hex()):
            raise _BadEntry("The parent of a line was in another line.")

    def _note_line(self, head: Head, row: Row) -> None:
        lines = self.report.lines
        if head.line != self._line:
            reason = str(decode_body(row.body)["reason"]) if head.kind == "line.opened" else ""
            lines.append(LineSeen(head.line, row.seq, row.seq, row.hash, reason))
            self._line = head.line
            self._seen.add(head.line)
        else:
            last = lines[-1]
            lines[-1] = LineSeen(last.line, last.first_seq, row.seq, row.hash, last.reason)

    def _judge_proof(self, proof: Proof, matches: bool) -> None:
        if matches:
            self.report.proof = proof
        else:
            self.report.proofs_mismatched.append(proof.seq)


def _is_hex(value: Json) -> bool:
    return isinstance(value, str) and not value.strip("0123456789abcdef")


# -- where rows and documents come from --------------------------------------------------------------------------------


def rows_after(connection: sqlite3.Connection, seq: int, limit: int = -1) -> Iterable[Row]:
    """Rows of the journal above `seq`, in order; without a limit all of them, one by one."""
    rows = connection.execute(
        "SELECT seq, head, body, hash, kind, subject FROM journal WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
    )
    return (Row(*row) for row in rows)


def document_state(ref: DocumentRef, salt: bytes | None, content: bytes | None, erased: bool) -> DocumentState:
    """Judge a document by what is left of it."""
    if erased:
        return DocumentState.ERASED
    if salt is None or content is None:
        return DocumentState.ABSENT
    digest = hashlib.sha256(DOCUMENT_DOMAIN + salt + content).digest()
    return DocumentState.GOOD if len(salt) == 32 and digest == ref.digest else DocumentState.WRONG


def look_up_in(connection: sqlite3.Connection) -> LookUp:
    """Documents as the database has them."""

    def look_up(ref: DocumentRef) -> DocumentState:
        row = connection.execute("SELECT salt, content, erased FROM documents WHERE id = ?", (ref.id,)).fetchone()
        return document_state(ref, row[0], row[1], bool(row[2])) if row else DocumentState.ABSENT

    return look_up


def _look_up_in_archive(found: dict[bytes, bytes | None], otherwise: LookUp) -> LookUp:
    def look_up(ref: DocumentRef) -> DocumentState:
        if ref.id not in found:
            return otherwise(ref)
        digest = found[ref.id]
        if digest is None:
            return DocumentState.ERASED
        return DocumentState.GOOD if digest == ref.digest else DocumentState.WRONG

    return look_up


def _cut(connection: sqlite3.Connection) -> tuple[int, bytes]:
    upto_seq, upto_hash = connection.execute("SELECT upto_seq, upto_hash FROM journal_cut").fetchone()
    return upto_seq, upto_hash


def _absent(ref: DocumentRef) -> DocumentState:
    return DocumentState.ABSENT


def verify_archives(folder: Path, look_up: LookUp = _absent, upto_seq: int | None = None) -> ChainCheck:
    """Check the archives of a folder as one chain from seq 1, up to the file that ends at `upto_seq` if it is given."""
    check = ChainCheck()
    for name in archive_files.names(folder):
        if upto_seq is not None and name.from_seq > upto_seq:
            break
        check.report.archives.append(name.journal)
        try:
            in_file = _look_up_in_archive(archive_files.document_digests(folder / name.documents), look_up)
            for record in archive_files.read_entries(folder / name.journal):
                if not check.feed(Row(record.seq, record.head, record.body, record.hash), in_file):
                    return check
        except archive_files.ArchiveDamagedError as error:
            check.report.first_bad_seq, check.report.why = check.report.head_seq + 1, error.detail
            return check
    return check


def _check_archives(report: Report, folder: Path | None, cut: tuple[int, bytes], look_up: LookUp) -> None:
    upto_seq, upto_hash = cut
    if upto_seq == 0 or folder is None:
        return
    archived = verify_archives(folder, look_up, upto_seq).report
    report.archives, report.archive_entries = archived.archives, archived.entries
    if archived.first_bad_seq is not None:
        report.archive_why = f"Entry {archived.first_bad_seq}: {archived.why}"
    elif (archived.head_seq, archived.head_hash) != (upto_seq, upto_hash):
        report.archive_why = f"The archives end at {archived.head_seq}, the database begins after {upto_seq}."
    for state in DocumentState:
        report.documents[state] += archived.documents[state]


# -- whole verifications -----------------------------------------------------------------------------------------------


def verify_connection(connection: sqlite3.Connection, archives: Path | None = None) -> Report:
    """Check everything that a read-only connection shows, in one go: `hubctl` with the hub down, backups."""
    cut = _cut(connection)
    check = ChainCheck(*cut, proofs=cursors.all_proofs(connection))
    look_up = look_up_in(connection)
    for row in rows_after(connection, cut[0]):
        if not check.feed(row, look_up):
            break
    _check_archives(check.report, archives, cut, look_up)
    _check_signature(connection, check.report)
    return check.report


async def _at_once() -> None:
    return None


async def verify_database(
    db: Database, archives: Path | None = None, breathe: Callable[[], Awaitable[None]] = _at_once
) -> Report:
    """The same for a running hub, in steps that hold no snapshot for long; entries written meanwhile are included.

    `breathe` is awaited between two steps, by who wants to leave the processor to others.
    """
    cut = await db.read("verify.cut", _cut)
    check = ChainCheck(*cut, proofs=await db.read("verify.proofs", cursors.all_proofs))
    going_on = True

    def step(connection: sqlite3.Connection) -> bool:
        look_up = look_up_in(connection)
        seq = check.report.head_seq
        rows = list(rows_after(connection, seq, STEP_ENTRIES))
        return all(check.feed(row, look_up) for row in rows) and len(rows) == STEP_ENTRIES

    while going_on:
        going_on = await db.read("verify.step", step)
        await breathe()
    if archives is not None:
        await db.read_apart("verify.archives", lambda c: _check_archives(check.report, archives, cut, look_up_in(c)))
    await db.read("verify.signature", lambda c: _check_signature(c, check.report))
    return check.report


def proof_bytes(tenant: str, hub_id: bytes, proof: Proof) -> bytes:
    """What the cloud signs."""
    raw = tenant.encode("utf-8")
    return (
        PROOF_DOMAIN
        + bytes((len(raw),))
        + raw
        + hub_id
        + proof.line
        + proof.seq.to_bytes(8, "big")
        + proof.hash
        + proof.time_us.to_bytes(8, "big", signed=True)
    )


def _check_signature(connection: sqlite3.Connection, report: Report) -> None:
    """Judge the newest matching proof by the keys that the journal itself has told."""
    proof = report.proof
    if proof is None:
        return
    enrolled = connection.execute("SELECT tenant, root_key FROM enrolment").fetchone()
    opened = connection.execute(
        "SELECT body FROM journal WHERE kind = 'line.opened' ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    row = connection.execute("SELECT public_key FROM cloud_keys WHERE key_id = ?", (proof.key_id,)).fetchone()
    report.proof_signature = "unknown_key"
    if enrolled is None or opened is None:
        return
    signed = proof_bytes(enrolled[0], bytes.fromhex(decode_body(opened[0])["hub_id"]), proof)
    key = row[0] if row else enrolled[1]
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(proof.signature, signed)
        report.proof_signature = "good"
    except (InvalidSignature, ValueError):
        report.proof_signature = "bad" if row else "unknown_key"


# -- at start ----------------------------------------------------------------------------------------------------------


def check_start(connection: sqlite3.Connection) -> list[str]:
    """What every start looks at: the last 1,000 entries, and the running totals of what is open. Empty if all is well.

    The time it takes does not grow with the journal; totals over everything are compared by `replay`.
    """
    findings: list[str] = []
    cut_seq, cut_hash = _cut(connection)
    (head_seq,) = connection.execute("SELECT coalesce(max(seq), ?) FROM journal", (cut_seq,)).fetchone()
    start = max(cut_seq, head_seq - TAIL_CHECKED_AT_START)
    row = connection.execute("SELECT hash FROM journal WHERE seq = ?", (start,)).fetchone()
    start_hash = cut_hash if start == cut_seq else (row[0] if row else None)
    if start_hash is None:
        return [f"Entry {start} is missing."]
    check = ChainCheck(start, start_hash)
    for row in rows_after(connection, start):
        if not check.feed(row, _absent):
            findings.append(f"Entry {check.report.first_bad_seq}: {check.report.why}")
            break
    return findings + payments.wrong_open_totals(connection)
