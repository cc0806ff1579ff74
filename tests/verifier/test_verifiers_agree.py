"""Two verifiers, one written from the reference page alone, must say the same of every journal, whole or harmed."""

from __future__ import annotations

import ast
import random  # noqa: TID251 (one seed makes one journal and one harm)
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hubd.model.entry import entry_hash
from hubd.store import archive, archive_files, cursors, documents, journal, verify
from hubd.store.cursors import Cursor, Proof
from hubd.store.db import Database, open_database
from tests.unit.store import journals
from tests.unit.store.test_archive import DAYS_40, LaterClock
from tests.verifier import verify_journal

SCRIPT = Path(verify_journal.__file__)
GUARDS = ("journal_no_update", "journal_no_delete", "journal_append")
BODIES = [
    *(
        b"{}",
        b"[]",
        b"",
        b"{ }",
        b" {}",
        b"{}\n",
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":2}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
    ),
    *(
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":' + b"1" * 5000 + b"}",
    ),
    *(b'{"a":9007199254740992}', b'{"a":9007199254740991}', b'{"a":-9007199254740991}', b'{"a":-9007199254740992}'),
    *(b'{"a":' + b"[" * deep + b"]" * deep + b"}" for deep in (63, 64, 5000)),
    *(b'{"a":"' + b"x" * size + b'"}' for size in (65_528, 65_529)),
]
pytestmark = pytest.mark.blocking_allowed("it harms files between two looks at them; nothing else runs")


def ours(path: Path, folder: Path | None) -> dict[str, Any]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    report = verify.verify_connection(connection, folder)
    connection.close()
    return common(report)


def common(report: verify.Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "not_seen_upto": report.start_seq,
        "entries": report.entries,
        "first_bad_seq": report.first_bad_seq,
        "newer_format": report.newer_format,
        "lines": [[s.line.hex(), s.first_seq, s.head_seq, s.head_hash.hex()] for s in report.lines],
        "documents": {str(state): count for state, count in report.documents.items()},
        "head": [report.head_seq, report.head_hash.hex()],
        "proof": None if report.proof is None else [report.proof.seq, report.proof.hash.hex()],
        "proofs_mismatched": report.proofs_mismatched,
    }


def theirs(path: Path) -> dict[str, Any]:
    report = verify_journal.verify_database(str(path))
    report.pop("why", None)
    return report


def archive_ours(folder: Path) -> dict[str, Any]:
    return common(verify.verify_archives(folder).report)


def archive_theirs(folder: Path) -> dict[str, Any]:
    report = verify_journal.verify_archive(str(folder))
    report.pop("why", None)
    return report


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "hub.db", journals.runtime()) as db:
        yield db


async def build(db: Database, seed: int, folder: Path) -> Path:
    """A random journal with erased documents, proofs and perhaps a cut, as a file of its own without guards."""
    rng = random.Random(seed)
    await journals.fill(db, seed, 25)
    ids = await db.read("ids", lambda c: [row[0] for row in c.execute("SELECT id FROM documents ORDER BY id")])
    for id_ in ids[:2]:
        await db.write("erase", lambda tx, id_=id_: journal.append(tx, documents.erasure(id_, "asked", "hub")))  # type: ignore[misc]  # a default in a lambda
    for seq in rng.sample(range(1, db.head.seq), 3):
        entry = await db.read("at", lambda c, seq=seq: journal.entry_at(c, seq))  # type: ignore[misc]  # a default in a lambda
        hash_ = entry.hash if rng.random() < 0.7 else rng.randbytes(32)
        proof = Proof(entry.line, seq, hash_, "k", 1, b"")
        await db.write("proof", lambda tx, proof=proof: cursors.add_proof(tx, proof))  # type: ignore[misc]  # a default in a lambda
    if rng.random() < 0.5:
        journals.runtime().clock.trust()  # type: ignore[attr-defined]  # a clock of the tests
        upto = rng.randrange(5, db.head.seq)
        await db.write("c", lambda tx: cursors.put(tx, cursors.CONFIRMED, Cursor(journals.LINE_1, upto, bytes(32))))
        await archive.archive(db, folder, LaterClock(DAYS_40))
    copy = db.path.with_name("copy.db")
    await db.exclusively("copy", lambda c: c.execute("VACUUM INTO ?", (str(copy),)))
    with sqlite3.connect(copy) as connection:
        for trigger in GUARDS:
            connection.execute(f"DROP TRIGGER {trigger}")
    connection.close()
    return copy


def harm(connection: sqlite3.Connection, rng: random.Random) -> str:
    """Do one bad thing to a journal; returns what."""
    (low, high) = connection.execute("SELECT min(seq), max(seq) FROM journal").fetchone()
    seq = rng.randint(low, high)
    columns = connection.execute("SELECT head, body, hash FROM journal WHERE seq = ?", (seq,)).fetchone()
    row = dict(zip(("head", "body", "hash"), map(bytes, columns), strict=True))
    what = rng.choice(["drop", "swap", "copy", "fork", "document", "erase"] + ["flip", "rehash", "body"] * 3)
    if what in ("flip", "rehash"):
        column = rng.choice(["head", "body", "hash"] if what == "flip" else ["head", "body"])
        at, raw = rng.randrange(len(row[column])), bytearray(row[column])
        raw[at] ^= 1 << rng.randrange(8)
        row[column] = bytes(raw)
    elif what == "body":
        row["body"] = rng.choice(BODIES)
    if what in ("rehash", "body"):
        before = connection.execute("SELECT hash FROM journal WHERE seq = ?", (seq - 1,)).fetchone()
        before = before or connection.execute("SELECT upto_hash FROM journal_cut").fetchone()
        row["hash"] = entry_hash(before[0], row["head"], row["body"])
    if what in ("flip", "rehash", "body"):
        connection.execute("UPDATE journal SET head = ?, body = ?, hash = ? WHERE seq = ?", (*row.values(), seq))
    elif what == "drop":
        connection.execute("DELETE FROM journal WHERE seq = ?", (seq,))
    elif what == "swap" and seq < high:
        connection.execute("UPDATE journal SET seq = -1 WHERE seq = ?", (seq,))
        connection.execute("UPDATE journal SET seq = ? WHERE seq = ?", (seq, seq + 1))
        connection.execute("UPDATE journal SET seq = ? WHERE seq = -1", (seq + 1,))
    elif what == "copy":
        connection.execute("UPDATE journal SET kind = kind || 'x' WHERE seq = ?", (seq,))
    elif what == "fork":
        connection.execute("INSERT INTO journal SELECT max(seq) + 1, head, body, hash, kind, subject FROM journal")
    elif what == "document":
        connection.execute("UPDATE documents SET content = x'00' WHERE id = (SELECT min(id) FROM documents)")
    elif what == "erase":
        connection.execute("DELETE FROM documents WHERE id = (SELECT max(id) FROM documents)")
    return f"{what} at {seq}"


@pytest.mark.parametrize("seed", range(6))
async def test_they_agree_on_whole_and_on_harmed_journals(store: Database, tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "archive"
    whole = await build(store, seed, folder)
    assert ours(whole, None) == theirs(whole)
    assert ours(whole, None)["first_bad_seq"] is None
    assert archive_ours(folder) == archive_theirs(folder)
    both = sqlite3.connect(whole)
    with_archive = verify.verify_connection(both, folder)
    both.close()
    assert with_archive.ok == verify_journal.verify_database(str(whole), str(folder))["ok"] == ours(whole, None)["ok"]
    assert with_archive.archive_why == ""
    rng, found = random.Random(seed), 0
    for number in range(60):
        harmed = tmp_path / "harmed.db"
        shutil.copy(whole, harmed)
        connection = sqlite3.connect(harmed, isolation_level=None)
        what = harm(connection, rng)
        connection.close()
        mine, others = ours(harmed, None), theirs(harmed)
        assert mine == others, f"harm {number}: {what}"
        found += mine["first_bad_seq"] is not None
    assert found > 30, "most harm breaks the chain, and both saw it"


async def test_they_agree_on_harmed_archives(store: Database, tmp_path: Path) -> None:
    folder, rng = tmp_path / "archive", random.Random(9)
    journals.runtime().clock.trust()  # type: ignore[attr-defined]  # a clock of the tests
    await journals.fill(store, 9, 30)
    for upto in (15, 30):
        await store.write("c", lambda tx, upto=upto: cursors.put(tx, cursors.CONFIRMED, Cursor(b"", upto, bytes(32))))  # type: ignore[misc]  # a default in a lambda
        await archive.archive(store, folder, LaterClock(DAYS_40))
    assert archive_ours(folder) == archive_theirs(folder)
    assert archive_ours(folder)["entries"] == 30
    files = sorted(folder.glob("*.gz"))
    for _ in range(60):
        harmed = tmp_path / "harmed"
        shutil.rmtree(harmed, ignore_errors=True)
        shutil.copytree(folder, harmed)
        file = harmed / rng.choice(files).name
        if rng.random() < 0.5:
            raw = bytearray(file.read_bytes())
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
            file.write_bytes(bytes(raw))
        else:
            lines = list(archive_files.read_lines(file))
            if lines:
                lines.pop(rng.randrange(len(lines)))
            archive_files.write_lines(file, lines)
        assert archive_ours(harmed) == archive_theirs(harmed), file.name


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    source = SCRIPT.read_text("utf-8")
    assert len(source.splitlines()) < 150
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.fixture
async def small_journal(store: Database) -> Path:
    await journals.fill(store, 4, 10)
    copy = store.path.with_name("copy.db")
    await store.exclusively("copy", lambda c: c.execute("VACUUM INTO ?", (str(copy),)))
    return copy


def test_it_runs_on_its_own(small_journal: Path) -> None:
    run = [sys.executable, "-I", str(SCRIPT), str(small_journal)]
    assert subprocess.run(run, capture_output=True, check=False).returncode == 0
    connection = sqlite3.connect(small_journal)
    connection.execute("DROP TRIGGER journal_no_update")
    connection.execute("UPDATE journal SET hash = zeroblob(32) WHERE seq = 3")
    connection.commit()
    connection.close()
    harmed = subprocess.run(run, capture_output=True, check=False, text=True)
    assert harmed.returncode == 1
    assert '"first_bad_seq": 3' in harmed.stdout


@pytest.mark.parametrize("flags", [8, 16, 128])
def test_both_refuse_an_unknown_flag_that_was_hashed_anew(small_journal: Path, flags: int) -> None:
    connection = sqlite3.connect(small_journal, isolation_level=None)
    connection.execute("DROP TRIGGER journal_no_update")
    head, body = connection.execute("SELECT head, body FROM journal WHERE seq = 1").fetchone()
    bad = head[:-2] + bytes((head[-2] | flags,)) + head[-1:]
    connection.execute("UPDATE journal SET head = ?, hash = ? WHERE seq = 1", (bad, entry_hash(bytes(32), bad, body)))
    connection.close()
    assert ours(small_journal, None) == theirs(small_journal)
    assert (theirs(small_journal)["first_bad_seq"], theirs(small_journal)["entries"]) == (1, 0)
