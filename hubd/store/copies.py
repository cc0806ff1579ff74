"""Copies of backups off the hub's disk: how they get there, and which of them count (design 5).

A copy is an entry, `backup.made`, once it has been read back where it lies: by the hub, by `hubctl`, or by the device
that holds it. The newest one that counts is what the problem `no_backup_elsewhere` asks for.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from msgspec import Struct
from msgspec.structs import asdict

from hubd.errors import StoreError
from hubd.model.entry import Draft, Entry, Json
from hubd.store import archive_files, devices, journal, meta
from hubd.store.archive_files import COPY_BYTES, sync_folder
from hubd.store.backup import Made
from hubd.store.disks import is_another_disk
from hubd.store.tx import Tx

PLACES_MAX = 32
"""Places that are remembered; of more, the one with the oldest backup is forgotten."""
TILL = "till:"


class Elsewhere(Struct, frozen=True):
    """A verified copy that is not on the hub's disk."""

    place: str
    """`usb:NAME`, `till:ID`, `cloud`."""
    id: str
    sha256: str
    seq: int
    hash: str
    made_at_us: int

    @property
    def rank(self) -> tuple[int, str]:
        """Rises with the journal, whatever the clock said."""
        return self.seq, self.id


def copy_to(made: Made, target_folder: Path) -> Path:
    """Copy a backup to another disk, sync it and read it back from there; raises `backup.copy_differs`.

    Raises `backup.same_disk` if the folder is on the disk that the backup is to survive.
    """
    if not is_another_disk(target_folder, made.path.parent):
        raise StoreError(
            "backup.same_disk",
            "That folder is on the hub's own disk, or in its memory.",
            remedy="Plug in a USB stick and choose it.",
        )
    return copy_and_read_back(made, target_folder)


def copy_and_read_back(made: Made, target_folder: Path) -> Path:
    """The copy itself, wherever it goes."""
    part = target_folder / (made.path.name + ".part")
    with made.path.open("rb") as source, part.open("wb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)
        sync_and_forget(target)
    return finish(part, made.sha256)


def sync_and_forget(file: BinaryIO) -> None:
    """Put a file on its medium, and make the next reader read it from there, not from the memory it was written to."""
    file.flush()
    os.fsync(file.fileno())
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def finish(part: Path, sha256: str) -> Path:
    """Read `NAME.part` back and give it its name; raises `backup.copy_differs`, and nothing is left then."""
    if archive_files.sha256_of(part).hex() != sha256:
        part.unlink()
        raise StoreError(
            "backup.copy_differs",
            "The copy read back differs.",
            remedy="Use another stick; this one cannot be trusted.",
        )
    final = part.with_suffix("")
    part.replace(final)
    sync_folder(part.parent)
    return final


def record(tx: Tx, made: Made, place: str, actor: str = "hub", *, counts: bool = True) -> Entry | None:
    """Note that a copy at `place` was read back and is good: an entry. The same copy there, or an older one, adds none.

    `counts`: it survives the hub's disk. One that does not is an entry all the same, and ends no problem.
    """
    known = _all(tx.connection)
    if any(one.place == place and one.rank >= (made.seq, made.id) for one in known):
        return None
    if counts:
        new = Elsewhere(place, made.id, made.sha256, made.seq, made.hash, made.made_at_us)
        kept = [one for one in known if one.place != place] + [new]
        kept = sorted(kept, key=lambda one: one.rank)[-PLACES_MAX:]
        meta.put(tx, meta.BACKUP_COPIES, json.dumps([asdict(one) for one in kept], sort_keys=True))
    body: dict[str, Json] = {"place": place, "seq": made.seq, "hash": made.hash, "sha256": made.sha256}
    body |= {"size": made.size, "backup": made.id, "made_at_us": made.made_at_us, "elsewhere": counts}
    return journal.append(tx, Draft("backup.made", "", actor, body))


def _all(connection: sqlite3.Connection) -> list[Elsewhere]:
    value = meta.get(connection, meta.BACKUP_COPIES)
    return [Elsewhere(**one) for one in json.loads(value)] if value else []


def elsewhere(connection: sqlite3.Connection) -> list[Elsewhere]:
    """Copies that count, the newest backup first: a till that was removed holds none for this shop any more."""

    def counts(one: Elsewhere) -> bool:
        if not one.place.startswith(TILL):
            return True
        device = devices.get(connection, one.place.removeprefix(TILL))
        return device is not None and device.active

    return sorted(filter(counts, _all(connection)), key=lambda one: one.rank, reverse=True)


def last_elsewhere(connection: sqlite3.Connection) -> Elsewhere | None:
    """The newest verified backup that left the disk, for the problem `no_backup_elsewhere`."""
    found = elsewhere(connection)
    return found[0] if found else None


class ReadFrom:
    """A file read in threads by somebody who may go away at any step, also while it is being opened.

    Closed before it was opened, it stays closed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = Lock()
        self._closed = False
        self._file: BinaryIO | None = None

    def open(self, offset: int) -> None:
        """Open it at this place. Raises OSError; does nothing once it was closed."""
        try:
            with self._turn:
                if not self._closed:
                    self._file = self._path.open("rb")
                    self._file.seek(offset)
        finally:
            self._put_away_if_closed()

    def read(self, count: int) -> bytes:
        """The next bytes; none at the end, and none once it was closed."""
        try:
            with self._turn:
                return self._file.read(count) if self._file and not self._closed else b""
        finally:
            self._put_away_if_closed()

    def close(self) -> None:
        """Give the file back; may be called at any time, and waits for nobody.

        A thread that is at work on the file gives it back when it has done, so this may be called in the event loop,
        where a wait for a thread could be cancelled before it had begun.
        """
        self._closed = True
        self._put_away_if_closed()

    def _put_away_if_closed(self) -> None:
        # Whoever has the turn looks again after it, so one of the two always finds it closed and free.
        if self._closed and self._turn.acquire(blocking=False):
            try:
                if self._file:
                    self._file.close()
            finally:
                self._turn.release()
