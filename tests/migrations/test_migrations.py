"""Every release's journal still opens, verifies and replays; both roads to the schema lead to the same place."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hubd.errors import StoreError
from hubd.model.entry import EntryFormatError
from hubd.model.kinds import KINDS
from hubd.store import migrations, replay, verify
from hubd.store.db import open_database
from hubd.store.projection import PROJECTED_TABLES
from tests.migrations import make_release
from tests.unit.store import journals
from tests.verifier import verify_journal

RELEASES = sorted(make_release.RELEASES.glob("*.sql"))
AGAIN = "if the schema or a kind changed before the release is out, run: python -m tests.migrations.make_release"
pytestmark = pytest.mark.blocking_allowed("it lays out files before the store opens them, and looks at them after")


def load(path: Path, release: Path) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(release.read_text("utf-8"))
    connection.close()
    return path


def test_there_is_a_journal_of_a_release() -> None:
    assert RELEASES


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
async def test_the_journal_of_every_release_opens_verifies_and_replays(release: Path, tmp_path: Path) -> None:
    path = load(tmp_path / "hub.db", release)
    async with open_database(path, journals.runtime()) as db:
        report = await verify.verify_database(db)
        assert report.ok, report.as_json()
        assert report.uninterpreted == 1, f"only the entry that every release does not know; {AGAIN}"
        found = await db.read_apart("replay", replay.check)
        assert found.ok, (found.failed, [str(d) for d in found.differences], AGAIN)
        assert found.entries == report.entries > len(KINDS)
    theirs = verify_journal.verify_database(str(path))
    assert (theirs["ok"], theirs["entries"]) == (True, report.entries)


async def test_todays_journal_shows_every_kind_and_fills_every_table(tmp_path: Path) -> None:
    assert make_release.kinds_without_entry() == set(), "add the new kind to make_release.drafts()"
    async with open_database(tmp_path / "hub.db", journals.runtime()) as db:
        await make_release.write_journal(db)
        for table in PROJECTED_TABLES:
            rows = await db.read("rows", lambda c, table=table: list(replay.rows_of(c, table)))  # type: ignore[misc]  # a default in a lambda
            assert rows, f"nothing in {table}"
        assert (await db.read_apart("replay", replay.check)).ok


def test_the_steps_lead_to_the_schema_in_one_file() -> None:
    assert make_release.schema_of(make_release.by_steps()) == make_release.LATEST.read_text("utf-8"), f"{AGAIN} latest"
    fresh = sqlite3.connect(":memory:")
    fresh.executescript(make_release.LATEST.read_text("utf-8"))
    assert make_release.schema_of(fresh) == make_release.LATEST.read_text("utf-8")


def test_the_steps_are_numbered_without_gaps_up_to_the_schema_of_the_program() -> None:
    assert [number for number, _ in migrations.migration_files()] == list(range(1, migrations.SCHEMA + 1))
    assert 1 <= migrations.COMPAT <= migrations.SCHEMA


def newer(path: Path, compat: int) -> None:
    connection = make_release.by_steps()
    connection.execute("CREATE TABLE of_tomorrow(x)")
    connection.execute("UPDATE meta SET value = ? WHERE name = 'compat'", (str(compat),))
    connection.execute(f"PRAGMA user_version={migrations.SCHEMA + 1}")
    target = sqlite3.connect(path)
    connection.backup(target)
    target.execute("PRAGMA journal_mode=WAL")
    target.close()


async def test_a_newer_file_stops_the_start_with_a_sentence_and_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    newer(path, migrations.SCHEMA + 1)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"store\.too_new: The database was written by a newer hubd"):
        async with open_database(path, journals.runtime()):
            pass
    assert path.read_bytes() == before


async def test_a_newer_format_of_entries_stops_the_start_and_the_store_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    async with open_database(path, journals.runtime()) as db:
        await db.write("open", journals.line_opened)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER journal_no_update")
        (head,) = connection.execute("SELECT head FROM journal").fetchone()
        connection.execute("UPDATE journal SET head = ?", (b"\x02" + head[1:],))
    connection.close()
    before = path.read_bytes()
    with pytest.raises(EntryFormatError, match=r"journal\.newer_format: .* Install the newer hubd"):
        async with open_database(path, journals.runtime()):
            pass
    assert path.read_bytes() == before


async def test_a_newer_file_that_calls_this_program_compatible_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    newer(path, migrations.SCHEMA)
    async with open_database(path, journals.runtime()) as db:
        await db.write("open", journals.line_opened)
        assert await db.read("v", lambda c: c.execute("PRAGMA user_version").fetchone()) == (migrations.SCHEMA + 1,)


@pytest.mark.parametrize(
    "content",
    [b"this is not a database, and long enough to be read as a page" * 200, b"SQLite format 3\0" + b"\xff" * 5000],
)
async def test_a_file_that_is_no_database_is_called_corrupt_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hub.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.corrupt"):
        async with open_database(path, journals.runtime()):
            pass
    assert path.read_bytes() == content


def test_a_step_that_fails_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [*migrations.migration_files(), (migrations.SCHEMA + 1, "CREATE TABLE half(x);\nCREATE TABLE meta(y);")]
    monkeypatch.setattr(migrations, "migration_files", lambda: steps)
    connection = make_release.by_steps()
    before = make_release.schema_of(connection)
    with pytest.raises(sqlite3.OperationalError):
        migrations.migrate(connection, migrations.SCHEMA + 1)
    assert make_release.schema_of(connection) == before
    assert connection.execute("PRAGMA user_version").fetchone() == (migrations.SCHEMA,)
