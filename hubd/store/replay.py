"""Rebuild the projections from the entries alone, and compare them with the rows that the hub works with.

`hubctl journal replay --check` starts from the projection snapshot of the last archive, if there was one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct, field

from hubd.errors import HubError, StoreError
from hubd.model.entry import Entry, Json, load_entry
from hubd.model.kinds import is_known
from hubd.store import archive_files, migrations
from hubd.store.projection import PROJECTED_TABLES, project
from hubd.store.tx import Tx

DIFFERENCES_MAX = 20
"""Differences that are told; what is wrong beyond them is found again after these are mended."""

_IN_USE = {"counters": "count <> 0 OR total <> 0"}
"""A running total of nothing is the same as none: whether its row exists depends on how work was grouped."""


class Difference(Struct, frozen=True):
    """A row that does not follow from the entries, as the replay has it and as the hub has it."""

    table: str
    replayed: dict[str, Json] | None
    kept: dict[str, Json] | None

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.table}: replayed {_text(self.replayed)}, kept {_text(self.kept)}"


class Replay(Struct):
    """What a replay found."""

    entries: int = 0
    from_seq: int = 0
    """Replayed on top of the snapshot after this seq; 0 without one."""
    uninterpreted: int = 0
    failed: str = ""
    """The entry that the projections refused, if one did."""
    differences: list[Difference] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the rows follow from the entries."""
        return not self.differences and not self.failed

    def as_json(self) -> dict[str, Json]:
        """For `hubctl journal replay --check --json`."""
        return {
            "ok": self.ok,
            "from_seq": self.from_seq,
            "entries": self.entries,
            "uninterpreted": self.uninterpreted,
            "failed": self.failed,
            "differences": [
                {"table": difference.table, "replayed": difference.replayed, "kept": difference.kept}
                for difference in self.differences
            ],
        }


def _text(row: dict[str, Json] | None) -> str:
    return "nothing" if row is None else json.dumps(row, ensure_ascii=False, sort_keys=True)


def scratch(schema: int = migrations.SCHEMA) -> sqlite3.Connection:
    """An empty store in memory (it spills to a temporary file when large), at the schema of this program."""
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous=OFF").fetchall()
    migrations.migrate(connection, schema)
    return connection


def apply(connection: sqlite3.Connection, entries: Iterable[Entry], found: Replay) -> None:
    """Project entries into a scratch store; stops with `failed` at one that the projections refuse."""
    tx = Tx.for_replay(connection)
    connection.execute("BEGIN")
    try:
        for entry in entries:
            if not is_known(entry.kind, entry.head.body_version):
                found.uninterpreted += 1
            try:
                project(tx, entry, entry.body())
            except (HubError, sqlite3.Error, AssertionError, KeyError, TypeError, ValueError, AttributeError) as exc:
                found.failed = f"Entry {entry.seq} ({entry.kind}) cannot be applied: {type(exc).__name__}: {exc}"
                break
            found.entries += 1
    finally:
        tx.settle()
        connection.execute("COMMIT")


def entries_between(connection: sqlite3.Connection, after_seq: int, upto_seq: int | None = None) -> Iterator[Entry]:
    """Entries above `after_seq` up to `upto_seq`, one by one."""
    rows = connection.execute(
        "SELECT head, body, hash FROM journal WHERE seq > ? AND (? IS NULL OR seq <= ?) ORDER BY seq",
        (after_seq, upto_seq, upto_seq),
    )
    return (load_entry(*row) for row in rows)


# -- rows in a form that does not depend on the file -------------------------------------------------------------------


def _columns(connection: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """Names of all columns, and of those of the primary key in its order."""
    info = connection.execute(f"PRAGMA table_info({table})").fetchall()
    key = sorted((row for row in info if row[5]), key=lambda row: row[5])
    return [row[1] for row in info], [row[1] for row in key]


def rows_of(connection: sqlite3.Connection, table: str) -> Iterator[dict[str, Json]]:
    """The rows of a projection in the order of its key, with bytes as {"hex": …}."""
    columns, key = _columns(connection, table)
    condition = f" WHERE {_IN_USE[table]}" if table in _IN_USE else ""
    query = f"SELECT {', '.join(columns)} FROM {table}{condition} ORDER BY {', '.join(key)}"  # noqa: S608 (own names)
    for row in connection.execute(query):
        yield {name: _plain(value) for name, value in zip(columns, row, strict=True)}


def _plain(value: Json) -> Json:
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def differences(
    replayed: sqlite3.Connection, kept: sqlite3.Connection, limit: int = DIFFERENCES_MAX
) -> list[Difference]:
    """The first rows that differ, table by table."""
    found: list[Difference] = []
    for table in PROJECTED_TABLES:
        _, key = _columns(replayed, table)
        for difference in _table_differences(table, key, rows_of(replayed, table), rows_of(kept, table)):
            found.append(difference)
            if len(found) >= limit:
                return found
    return found


def _table_differences(
    table: str, key: list[str], left: Iterator[dict[str, Json]], right: Iterator[dict[str, Json]]
) -> Iterator[Difference]:
    """Walk two sorted lists of rows side by side."""
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        if a == b:
            a, b = next(left, None), next(right, None)
            continue
        order_a = None if a is None else [_sortable(a[name]) for name in key]
        order_b = None if b is None else [_sortable(b[name]) for name in key]
        if order_b is None or (order_a is not None and order_a < order_b):
            yield Difference(table, a, None)
            a = next(left, None)
        elif order_a is None or order_b < order_a:
            yield Difference(table, None, b)
            b = next(right, None)
        else:
            yield Difference(table, a, b)
            a, b = next(left, None), next(right, None)


def _sortable(value: Json) -> tuple[int, Json]:
    """The order that SQLite gives values of one column: numbers, texts by their bytes, blobs."""
    if isinstance(value, dict):
        return 2, value["hex"]
    return (1, value.encode("utf-8")) if isinstance(value, str) else (0, value)


# -- snapshots ---------------------------------------------------------------------------------------------------------


def snapshot_lines(connection: sqlite3.Connection) -> Iterator[Json]:
    """The projections as JSON lines: first the schema number, then every row with its table."""
    yield {"schema": migrations.SCHEMA}
    for table in PROJECTED_TABLES:
        for row in rows_of(connection, table):
            yield {"table": table, "row": row}


def load_snapshot(path: Path) -> sqlite3.Connection:
    """A scratch store with a snapshot in it, brought to the schema of this program.

    Raises ArchiveDamagedError for a file that is not one, `store.too_new` for one of a later program.
    """
    lines = archive_files.read_lines(path)
    first = next(lines, None)
    if not isinstance(first, dict) or not isinstance(first.get("schema"), int):
        raise archive_files.ArchiveDamagedError(path, "it is not a snapshot")
    if first["schema"] > migrations.SCHEMA:
        raise StoreError("store.too_new", "The snapshot was written by a newer hubd.", remedy="Install the newer hubd.")
    connection = scratch(first["schema"])
    connection.execute("BEGIN")
    try:
        for line in lines:
            table, row = line["table"], line["row"]
            if table not in PROJECTED_TABLES or not set(row) <= set(_columns(connection, table)[0]):
                raise archive_files.ArchiveDamagedError(path, "it names a table or column that does not exist")
            values = [bytes.fromhex(v["hex"]) if isinstance(v, dict) else v for v in row.values()]
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table}({', '.join(row)}) VALUES ({marks})", values)  # noqa: S608 - table and columns are our own names
    except (KeyError, TypeError, sqlite3.Error) as exc:
        raise archive_files.ArchiveDamagedError(path, "a line is not a row") from exc
    connection.execute("COMMIT")
    migrations.migrate(connection)
    return connection


def rebuilt(
    connection: sqlite3.Connection, archives: Path | None, upto_seq: int | None = None
) -> tuple[sqlite3.Connection, Replay]:
    """A scratch store with the projections as the entries up to `upto_seq` (default: all) give them.

    With an archive behind it, it starts from the newest snapshot; raises `store.archive_missing` if that is not there
    or is not the one that the journal's `archive.cut` entry describes.
    """
    found = Replay()
    (cut,) = connection.execute("SELECT upto_seq FROM journal_cut").fetchone()
    if cut:
        base = load_snapshot(_snapshot_of_cut(connection, cut, archives))
        found.from_seq = cut
    else:
        base = scratch()
    apply(base, entries_between(connection, cut, upto_seq), found)
    return base, found


def _snapshot_of_cut(connection: sqlite3.Connection, cut: int, archives: Path | None) -> Path:
    row = connection.execute(
        "SELECT body FROM journal WHERE kind = 'archive.cut' AND subject = ? ORDER BY seq DESC LIMIT 1", (str(cut),)
    ).fetchone()
    names = [name for name in archive_files.names(archives) if name.upto_seq == cut] if archives else []
    path = archives / names[0].projection if archives and names else None
    if row is None or path is None or not path.exists():
        raise StoreError(
            "store.archive_missing",
            f"The archive that ends at entry {cut} is not there.",
            remedy="Copy the archive folder back from a backup, then check again.",
        )
    if archive_files.sha256_unpacked(path).hex() != json.loads(row[0])["projection_sha256"]:
        raise archive_files.ArchiveDamagedError(path, "it is not the snapshot that the journal describes")
    return path


def check(connection: sqlite3.Connection, archives: Path | None = None) -> Replay:
    """Replay everything that a read-only connection shows and compare. The connection must hold one snapshot."""
    base, found = rebuilt(connection, archives)
    try:
        if not found.failed:
            found.differences = differences(base, connection)
    finally:
        base.close()
    return found
