"""Looking at a store without the daemon: read-only, never `immutable`, on a full or read-only disk too.

For `hubctl` while the hub is down. The caller runs as the owner of the file, or SQLite would leave a shared-memory file
behind that the hub cannot open.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import Struct

from hubd.errors import StoreError
from hubd.model.entry import Entry, load_entry
from hubd.store import archive_files, backup, cursors, sealed, verify
from hubd.store.cursors import Cursor
from hubd.store.tx import JournalHead, read_head

BUSY_TIMEOUT_S = 5.0
NO_ROOM_HERE = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL})
"""What SQLite says when it cannot make its shared memory beside the file: the disk is read-only or full."""
COPY_BYTES_MAX = 4 * 1024 * 1024 * 1024


class Count(Struct, frozen=True):
    """A number of things, with their sum in minor units where they are money."""

    name: str
    currency: str
    count: int
    total: int


class StoreSummary(Struct, frozen=True):
    """What a dead hub's store says about itself."""

    schema: int
    head: JournalHead
    head_at_us: int | None
    confirmed: Cursor
    counts: tuple[Count, ...]
    payments_by_state: dict[str, int]
    open_outage_started_at_us: int | None
    enrolled_tenant: str
    rows: dict[str, int]

    @property
    def unconfirmed_count(self) -> int:
        """Entries that the cloud has not confirmed."""
        return max(0, self.head.seq - self.confirmed.seq)


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection to the store at `path`. Raises `store.absent`, `store.unreadable`, `store.corrupt`.

    Where SQLite cannot open it in place (a clean file on a read-only disk has no room for its shared memory), a copy
    in the machine's temporary directory is opened instead.
    """
    if not path.exists():
        raise StoreError(
            "store.absent",
            f"{path} does not exist.",
            remedy="Start the hub once: it makes its store; or name the configuration of another hub with --config.",
        )
    try:
        with _opened(path) as connection:
            yield connection
            return
    except _CannotOpenHere:
        pass
    with _copied(path) as copy, _opened(copy) as connection:
        yield connection


class _CannotOpenHere(Exception):
    pass


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    except sqlite3.OperationalError as exc:
        raise _CannotOpenHere from exc
    with closing(connection):
        try:
            connection.execute("BEGIN")  # one snapshot for everything that the caller reads
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF in NO_ROOM_HERE:
                raise _CannotOpenHere from exc
            raise StoreError("store.unreadable", f"{path} cannot be read: {exc}.", remedy="Try again.") from exc
        except sqlite3.DatabaseError as exc:
            raise StoreError(
                "store.corrupt",
                f"{path} is damaged: {exc}.",
                remedy="Copy the whole data directory before anything else; then `hubctl restore`.",
            ) from exc
        yield connection


@contextmanager
def _copied(path: Path) -> Iterator[Path]:
    log = path.with_name(path.name + "-wal")
    files = [file for file in (path, log) if file.exists()]
    size = sum(file.stat().st_size for file in files)
    with tempfile.TemporaryDirectory(prefix="hubctl-") as folder:
        if size > COPY_BYTES_MAX or size > shutil.disk_usage(folder).free:
            raise StoreError(
                "store.unreadable",
                f"{path} cannot be opened here, and there is no room for a copy of {size} bytes.",
                remedy="Set TMPDIR to a directory with room.",
            )
        try:
            for file in files:
                shutil.copyfile(file, Path(folder) / file.name)
        except OSError as exc:
            raise StoreError(
                "store.unreadable",
                f"{path} cannot be read: {exc.strerror}.",
                remedy="The disk may be failing: look at `journalctl -k`, and copy what can be copied.",
            ) from exc
        yield Path(folder) / path.name


def summary(connection: sqlite3.Connection) -> StoreSummary:
    """Numbers of the store, none of them personal."""
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    head = read_head(connection)
    last = connection.execute("SELECT max(updated_at_us) FROM payments").fetchone()
    outage = connection.execute("SELECT min(started_at_us) FROM outages WHERE ended_at_us IS NULL").fetchone()
    tenant = connection.execute("SELECT tenant FROM enrolment").fetchone()
    counts = connection.execute("SELECT name, currency, count, total FROM counters ORDER BY name, currency")
    states = connection.execute("SELECT state, count(*) FROM payments GROUP BY state ORDER BY state")
    return StoreSummary(
        schema=schema,
        head=head,
        head_at_us=last[0],
        confirmed=cursors.get(connection, cursors.CONFIRMED),
        counts=tuple(Count(*row) for row in counts),
        payments_by_state=dict(states.fetchall()),
        open_outage_started_at_us=outage[0],
        enrolled_tenant=tenant[0] if tenant else "",
        rows=table_rows(connection),
    )


def tables(connection: sqlite3.Connection) -> list[str]:
    """Names of all tables."""
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return [row[0] for row in rows]


def table_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """Table → number of its rows."""
    return {
        name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608 - a table's own name
        for name in tables(connection)
    }


def schema_text(connection: sqlite3.Connection) -> str:
    """The statements that make this schema."""
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name")
    return ";\n".join(row[0] for row in rows) + ";\n"


def last_entries(connection: sqlite3.Connection, limit: int) -> list[tuple[int, str, str]]:
    """(seq, kind, subject) of the newest entries, newest first; no bodies, for a bug report."""
    rows = connection.execute("SELECT seq, kind, subject FROM journal ORDER BY seq DESC LIMIT ?", (limit,))
    return [(row[0], row[1], row[2]) for row in rows]


def personal_texts(connection: sqlite3.Connection) -> list[str]:
    """Texts about people that a bug report must not hold: every document that is text, names of tills and phones."""
    found = [row[0] for row in connection.execute("SELECT name FROM devices WHERE kind IN ('till', 'viewer')")]
    for (content,) in connection.execute("SELECT content FROM documents WHERE content IS NOT NULL"):
        try:
            found.append(bytes(content).decode("utf-8"))
        except UnicodeDecodeError:
            continue
    return found


def owner_of(path: Path) -> tuple[int, int]:
    """User and group that own the store's file, or its directory where there is no file yet."""
    status = os.stat(path if path.exists() else path.parent)
    return status.st_uid, status.st_gid


def cloud_key(connection: sqlite3.Connection, key_id: str) -> bytes | None:
    """The cloud's public key with this id, or the root key of enrolment where no id is given; None if unknown."""
    row = connection.execute("SELECT public_key FROM cloud_keys WHERE key_id = ?", (key_id,)).fetchone()
    if row is None and not key_id:
        row = connection.execute("SELECT root_key FROM enrolment").fetchone()
    return bytes(row[0]) if row else None


def verified_entries(source: Path) -> list[Entry]:
    """Entries of an archive folder or of a database, in order. Raises `journal.broken` if their chain is."""
    if source.is_dir():
        report = verify.verify_archives(source).report
        _refuse_broken(report)
        return [
            load_entry(record.head, record.body, record.hash)
            for name in archive_files.names(source)
            for record in archive_files.read_entries(source / name.journal)
        ]
    with open_read_only(source) as connection:
        _refuse_broken(verify.verify_connection(connection))
        return [load_entry(row.head, row.body, row.hash) for row in verify.rows_after(connection, 0)]


def _refuse_broken(report: verify.Report) -> None:
    if report.first_bad_seq is not None:
        raise StoreError(
            "journal.broken",
            f"The chain of entries ends at {report.first_bad_seq}: {report.why}",
            remedy="Nothing can be computed from it; keep the files and ask for help.",
        )


def sqlite_version() -> str:
    """Of the library that is linked."""
    return sqlite3.sqlite_version


def backups_in(folder: Path) -> list[tuple[Path, int, int, int]]:
    """(file, entries, made at, size) of the backups in a folder, oldest first; what is not one is passed over.

    A folder that is not there has none. Raises `store.not_allowed` for one that the caller may not look into.
    """
    found = []
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(backup.SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as exc:
        raise StoreError(
            "store.not_allowed",
            f"You may not read {folder}.",
            remedy="Run it as the service user: `sudo -u hubd hubctl …`.",
        ) from exc
    for path in paths:
        try:
            with path.open("rb") as source:
                about = sealed.read_header(source).about
        except (OSError, StoreError):
            continue
        seq, made_at_us = about.get("seq"), about.get("made_at_us")
        if isinstance(seq, int) and isinstance(made_at_us, int):
            found.append((path, seq, made_at_us, path.stat().st_size))
    return sorted(found, key=lambda one: one[2])
