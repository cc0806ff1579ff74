"""Verification and replay: a whole journal is good, and each way to be wrong is found where it is."""

from __future__ import annotations

import random  # noqa: TID251 (one seed makes one journal)
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from hubd.model.entry import FLAG_TEST, Draft, encode_head, entry_hash, load_entry
from hubd.store import cursors, documents, journal, meta, replay, verify
from hubd.store.cursors import Proof
from hubd.store.db import Database
from tests.unit.store import journals
from tests.unit.store.journals import fill

GUARDS = ("journal_no_update", "journal_no_delete", "journal_append", "journal_cut_forward")


async def copy_of(db: Database, path: Path) -> sqlite3.Connection:
    """A copy without the triggers, for what only an intruder does."""
    await db.exclusively("copy", lambda c: c.execute("VACUUM INTO ?", (str(path),)))
    connection = sqlite3.connect(path, isolation_level=None)
    for trigger in GUARDS:
        connection.execute(f"DROP TRIGGER {trigger}")
    return connection


@pytest.fixture
async def whole(db: Database, tmp_path: Path) -> AsyncIterator[sqlite3.Connection]:
    await fill(db, seed=1, steps=60)
    connection = await copy_of(db, tmp_path / "copy.db")
    yield connection
    connection.close()


def test_a_whole_journal_is_good(whole: sqlite3.Connection) -> None:
    report = verify.verify_connection(whole)
    (count,) = whole.execute("SELECT count(*) FROM journal").fetchone()
    assert report.ok
    assert report.entries == report.head_seq == count
    assert [(seen.line, seen.reason) for seen in report.lines] == [
        (journals.LINE_1, "new"),
        (journals.LINE_2, "restored"),
    ]
    assert report.documents["good"] > 0
    assert report.uninterpreted > 0
    assert verify.check_start(whole) == []
    assert replay.check(whole).ok


async def test_a_running_store_is_checked_in_steps(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(db, seed=2, steps=40)
    monkeypatch.setattr(verify, "STEP_ENTRIES", 7)
    report = await verify.verify_database(db)
    assert report.ok
    assert report.entries == db.head.seq


def flip_body(c: sqlite3.Connection) -> None:
    c.execute("UPDATE journal SET body = CAST(' ' || body AS BLOB) WHERE seq = 20")


def change_amount(c: sqlite3.Connection) -> None:
    body = bytes(c.execute("SELECT body FROM journal WHERE seq = 20").fetchone()[0])
    c.execute("UPDATE journal SET body = ? WHERE seq = 20", (body.replace(b'"amount":', b'"amount":1'),))


def drop_row(c: sqlite3.Connection) -> None:
    c.execute("DELETE FROM journal WHERE seq = 20")


def swap_rows(c: sqlite3.Connection) -> None:
    c.execute("UPDATE journal SET seq = -1 WHERE seq = 20")
    c.execute("UPDATE journal SET seq = 20 WHERE seq = 21")
    c.execute("UPDATE journal SET seq = 21 WHERE seq = -1")


def change_copy(c: sqlite3.Connection) -> None:
    c.execute("UPDATE journal SET subject = 'x' WHERE seq = 20")


def unknown_flag(c: sqlite3.Connection) -> None:
    """Hashed anew, so that only the rule about flags can find it."""
    head, body = c.execute("SELECT head, body FROM journal WHERE seq = 20").fetchone()
    (previous,) = c.execute("SELECT hash FROM journal WHERE seq = 19").fetchone()
    entry = load_entry(head, body, b"")
    bad = encode_head(entry.head)
    at = len(bad) - 48 * len(entry.head.documents) - 2
    bad = bad[:at] + bytes((bad[at] | 8,)) + bad[at + 1 :]
    c.execute("UPDATE journal SET head = ?, hash = ? WHERE seq = 20", (bad, entry_hash(previous, bad, body)))


@pytest.mark.parametrize("harm", [flip_body, change_amount, drop_row, swap_rows, change_copy, unknown_flag])
def test_harm_is_found_at_its_place(whole: sqlite3.Connection, harm: Callable[[sqlite3.Connection], None]) -> None:
    harm(whole)
    report = verify.verify_connection(whole)
    assert not report.ok
    assert (report.first_bad_seq, report.entries, report.head_seq) == (20, 19, 19)
    assert verify.check_start(whole)[0].startswith("Entry 20:")


def test_a_newer_format_is_not_called_bad_but_not_judged(whole: sqlite3.Connection) -> None:
    whole.create_function("unhex_", 1, bytes.fromhex)
    whole.execute("UPDATE journal SET head = unhex_('02' || substr(hex(head), 3)) WHERE seq = 30")
    report = verify.verify_connection(whole)
    assert report.newer_format
    assert report.first_bad_seq == 30


def test_a_line_that_changes_without_opening_is_found(whole: sqlite3.Connection) -> None:
    check = verify.ChainCheck()
    rows = list(verify.rows_after(whole, 0))
    opened = next(row.seq for row in rows if row.seq > 1 and row.kind == "line.opened")
    previous = rows[opened - 2].hash
    head = load_entry(rows[opened].head, rows[opened].body, b"").head
    forged = encode_head(replace(head, seq=opened))
    rows[opened - 1] = replace(
        rows[opened],
        seq=opened,
        head=forged,
        hash=entry_hash(previous, forged, rows[opened].body),
    )
    for row in rows[:opened]:
        check.feed(row, verify.look_up_in(whole))
    assert check.report.first_bad_seq == opened
    assert check.report.why == "The line changes without line.opened."


def test_a_wrong_document_is_told_apart_from_absent_and_erased(whole: sqlite3.Connection) -> None:
    ids = [row[0] for row in whole.execute("SELECT id FROM documents ORDER BY id").fetchall()]
    before = verify.verify_connection(whole).documents["good"]
    whole.execute("UPDATE documents SET content = x'00' WHERE id = ?", (ids[0],))
    whole.execute("DELETE FROM documents WHERE id = ?", (ids[1],))
    whole.execute("UPDATE documents SET content = NULL, salt = NULL, erased = 1 WHERE id = ?", (ids[2],))
    report = verify.verify_connection(whole)
    assert report.documents == {"good": before - 3, "absent": 1, "erased": 1, "wrong": 1}
    assert report.first_bad_seq is None
    assert not report.ok
    assert report.first_wrong_document is not None


async def test_the_newest_matching_proof_is_named_and_its_signature_judged(open_db: Database) -> None:
    cloud = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    key = cloud.public_key().public_bytes_raw()
    enrolled = {"tenant": "t-1", "store": "s-1", "locations": [], "root_key": key.hex()}
    await open_db.write("enrol", lambda tx: journal.append(tx, Draft("hub.enrolled", "", "hub", enrolled)))
    head = open_db.head

    def signed(seq: int, hash_: bytes, signer: Ed25519PrivateKey = cloud) -> Proof:
        bare = Proof(head.line, seq, hash_, "root", 5, b"")
        return Proof(
            head.line,
            seq,
            hash_,
            "root",
            5,
            signer.sign(verify.proof_bytes("t-1", bytes.fromhex(journals.HUB_ID), bare)),
        )

    assert (await verify.verify_database(open_db)).proof is None
    await open_db.write("proof", lambda tx: cursors.add_proof(tx, signed(2, head.hash)))
    report = await verify.verify_database(open_db)
    assert report.ok
    assert report.proof == signed(2, head.hash)
    assert report.proof_signature == "good"
    rotated = {"key_id": "root", "public_key": "cc" * 32}
    await open_db.write("rotate", lambda tx: journal.append(tx, Draft("cloud.keys_rotated", "", "hub", rotated)))
    assert (await verify.verify_database(open_db)).proof_signature == "bad"
    await open_db.write("proof", lambda tx: cursors.add_proof(tx, signed(1, bytes(32))))
    report = await verify.verify_database(open_db)
    assert report.proofs_mismatched == [1]
    assert not report.ok


async def test_start_finds_totals_that_do_not_follow_from_the_rows(open_db: Database) -> None:
    request = journals.card_request(journals.any_id(random.Random(1)))
    await open_db.write("request", lambda tx: journal.append(tx, request))
    assert await open_db.read("check", verify.check_start) == []
    await open_db.write("harm", lambda tx: tx.execute("UPDATE counters SET total = 7 WHERE name = 'running'").rowcount)
    assert await open_db.read("check", verify.check_start) == [
        "The total running in EUR says (1, 7), the payments say (1, 1250)."
    ]


@pytest.mark.parametrize(
    ("harm", "table"),
    [
        ("UPDATE payments SET amount = amount + 1 WHERE seq = (SELECT min(seq) FROM payments)", "payments"),
        ("DELETE FROM payments WHERE seq = (SELECT max(seq) FROM payments)", "payments"),
        ("INSERT INTO locations VALUES ('x', 1, 'X', 'UTC', 'EUR', 'FR')", "locations"),
        ("UPDATE counters SET count = count + 1 WHERE name = 'perpetual.sales'", "counters"),
        ("UPDATE lines SET reason = 'fork' WHERE opened_seq = 1", "lines"),
    ],
)
def test_replay_names_the_table_and_the_row_that_differ(whole: sqlite3.Connection, harm: str, table: str) -> None:
    whole.execute(harm)
    found = replay.check(whole)
    assert not found.ok
    assert [difference.table for difference in found.differences] == [table]


def test_replay_reports_an_entry_that_the_tables_refuse(whole: sqlite3.Connection) -> None:
    """A payment that is approved although nobody asked for it."""
    seq, hash_ = whole.execute("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    head = load_entry(*whole.execute("SELECT head, body, hash FROM journal WHERE seq = ?", (seq,)).fetchone()).head
    raw = encode_head(
        replace(head, seq=seq + 1, kind="payment.approved", subject="nobody", flags=FLAG_TEST, documents=())
    )
    whole.execute(
        "INSERT INTO journal VALUES (?, ?, ?, ?, 'payment.approved', 'nobody')",
        (seq + 1, raw, b"{}", entry_hash(hash_, raw, b"{}")),
    )
    assert verify.verify_connection(whole).ok
    assert replay.check(whole).failed.startswith(f"Entry {seq + 1} (payment.approved)")


async def test_erasing_keeps_the_chain_and_leaves_no_byte(open_db: Database) -> None:
    secret = b"Jeanne Moreau, 12 rue des Lilas"
    rng = random.Random(3)
    wanted, kept = (
        journals.document(rng, secret),
        journals.document(rng, b"kept", keep_until="2036-12-31", law="LPF L102"),
    )
    payment = journals.any_id(rng)
    await open_db.write("request", lambda tx: journal.append(tx, journals.card_request(payment)))
    await open_db.write("ok", lambda tx: journal.append(tx, journals.moved(payment, "approved", (wanted, kept))))
    assert secret in everything(open_db.path)
    assert await open_db.write("ask", lambda tx: documents.request_erasure(tx, wanted.id, "2026-11-21")) is None
    await open_db.write("erase", lambda tx: journal.append(tx, documents.erasure(wanted.id, "asked", "staff:m-1")))
    assert await documents.forget_bytes(open_db, [wanted.id])
    assert secret not in everything(open_db.path)
    later = await open_db.write("ask", lambda tx: documents.request_erasure(tx, kept.id, "2026-11-21"))
    assert later == documents.KeptUntil(kept.id, "2036-12-31", "LPF L102")
    assert await open_db.read("due", lambda c: documents.due(c, "2036-12-30")) == []
    assert await open_db.read("due", lambda c: documents.due(c, "2036-12-31")) == [kept.id]
    assert await open_db.read("get", lambda c: documents.get(c, wanted.id)) is None
    assert await open_db.read("erased", lambda c: documents.is_erased(c, wanted.id))
    assert await open_db.read("erased", documents.erased_ids) == {wanted.id}
    report = await verify.verify_database(open_db)
    assert report.ok
    assert report.documents == {"good": 1, "absent": 0, "erased": 1, "wrong": 0}
    assert (await open_db.read_apart("replay", replay.check)).ok


def everything(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))


async def test_meta_is_neither_entry_nor_projection(open_db: Database) -> None:
    await open_db.write("put", lambda tx: meta.put(tx, "a", "1"))
    assert await open_db.read("get", lambda c: meta.get(c, "a")) == "1"
    await open_db.write("remove", lambda tx: meta.remove(tx, "a"))
    assert await open_db.read("get", lambda c: meta.get(c, "a")) is None
    assert (await open_db.read_apart("replay", replay.check)).ok


def test_a_seq_that_is_left_out_is_found_although_the_hashes_agree(whole: sqlite3.Connection) -> None:
    rows = list(verify.rows_after(whole, 0))[:10]
    head = encode_head(replace(load_entry(rows[9].head, rows[9].body, b"").head, seq=11))
    rows[9] = replace(rows[9], seq=11, head=head, hash=entry_hash(rows[8].hash, head, rows[9].body))
    check = verify.ChainCheck()
    assert [check.feed(row, verify.look_up_in(whole)) for row in rows] == [True] * 9 + [False]
    assert (check.report.first_bad_seq, check.report.why) == (10, "The next entry has seq 11.")
