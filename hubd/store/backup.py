"""Backups: made while the hub trades, verified, sealed for public keys only, and restored. Copies: `copies.py`.

A backup holds the database, the archives, the settings file and the CA. It never holds the hub's own key: a restored
hub that kept that key would be a clone. No key that opens a backup lies on the hub's disk. Everything here but the
`async` functions blocks; the daemon calls it through `Database.read_apart`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from msgspec import Struct

from hubd.errors import NotFoundError, StoreError
from hubd.model.entry import Draft, Json
from hubd.runtime import IdSource
from hubd.store import archive_files, documents, journal, leaving, meta, migrations, sealed, verify
from hubd.store.archive_files import COPY_BYTES, sync_folder
from hubd.store.db import Database
from hubd.store.sealed import Recipient, SealError
from hubd.store.tx import Tx, read_head

DATABASE_NAME = "hub.db"
ARCHIVE_FOLDER = "archive"
SUFFIX = ".hubbackup"
MANIFEST = "manifest.json"
FORMAT = 1
MEMBERS_MAX = 10_000
RECOVERY_ID_DOMAIN = b"hubd.recovery-id.v1\0"
RECOVERY_ID_CHARS = 16
OLD_SUFFIX = ".before-restore"
STAYS = ("keys/hub.key", "keys/cloud.json")
"""Files of the present data directory that a restore takes over: on the same machine the hub stays who it is, its key
and what the cloud gave to it.

On another machine there is none, so the hub makes a new key, as a replaced hub must."""


class Contents(Struct, frozen=True):
    """Where the parts of a backup lie. `extra` maps a name in the backup, such as `config/hubd.toml`, to a file."""

    archives: Path
    extra: dict[str, Path]
    never: frozenset[Path]
    """The hub's own key: asking to include it, by whatever name, is refused."""


class Made(Struct, frozen=True):
    """A backup that was made, read back and verified."""

    path: Path
    id: str
    """UUIDv7, made with the backup: what a device that holds a copy calls it by."""
    sha256: str
    size: int
    seq: int
    hash: str
    made_at_us: int


# -- the recovery code -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewRecovery:
    """A recovery code with what the hub keeps of it."""

    code: str = field(repr=False)
    salt: bytes
    public_key: bytes

    @property
    def id(self) -> str:
        """Names it without telling anything of it."""
        return hashlib.sha256(RECOVERY_ID_DOMAIN + self.public_key).hexdigest()[:RECOVERY_ID_CHARS]


def new_recovery(ids: IdSource) -> NewRecovery:
    """Make a recovery code. Slow on purpose, as reading one is: not in the event loop, not in a transaction."""
    code, salt = ids.token_bytes(sealed.CODE_BYTES), ids.token_bytes(sealed.SALT_BYTES)
    public = sealed.public_key_of(sealed.recovery_private_key(code, salt))
    return NewRecovery(sealed.recovery_code(code), salt, public)


def set_recovery(tx: Tx, made: NewRecovery) -> str:
    """Seal for this code from now on: only its public key and salt are kept. Returns the code, to be printed.

    It counts as unconfirmed. Backups for a code before it, which nobody has on paper, are as good as none.
    """
    if meta.get(tx.connection, meta.RECOVERY_KEY) and not meta.get(tx.connection, meta.TENANT_KEY):
        meta.remove(tx, meta.BACKUP_COPIES)
    meta.put(tx, meta.RECOVERY_SALT, made.salt.hex())
    meta.put(tx, meta.RECOVERY_KEY, made.public_key.hex())
    meta.put(tx, meta.RECOVERY_UNCONFIRMED, made.id)
    return made.code


def unconfirmed_recovery(connection: sqlite3.Connection) -> str:
    """The id of the code in force while nobody has confirmed it; empty when there is nothing to confirm."""
    return meta.get(connection, meta.RECOVERY_UNCONFIRMED) or ""


def confirm_recovery(tx: Tx) -> None:
    """The code in force is on paper."""
    meta.remove(tx, meta.RECOVERY_UNCONFIRMED)


def recovery_recipient(connection: sqlite3.Connection) -> Recipient | None:
    """The recovery code's public key; None before set-up."""
    public = meta.get(connection, meta.RECOVERY_KEY)
    return Recipient("recovery", bytes.fromhex(public)) if public else None


def set_tenant_key(tx: Tx, tenant: str, public_key: bytes, actor: str, cause: dict[str, Json]) -> None:
    """Seal for this key of the tenant from now on, besides the recovery code's; the one before opens older backups.

    Who can open the backups is for auditors too, so it is an entry; the same key again changes nothing.
    """
    if meta.get(tx.connection, meta.TENANT_KEY) == public_key.hex():
        return
    meta.put(tx, meta.TENANT_KEY, public_key.hex())
    body: dict[str, Json] = {"tenant": tenant, "public_key": public_key.hex(), "cause": cause}
    journal.append(tx, Draft("backup.key_set", "", actor, body))


def recipients(connection: sqlite3.Connection) -> tuple[Recipient, ...]:
    """Everybody who can open the backups of this hub; nobody before it is set up or enrolled."""
    recovery, tenant = recovery_recipient(connection), meta.get(connection, meta.TENANT_KEY)
    found = (recovery, Recipient("tenant", bytes.fromhex(tenant)) if tenant else None)
    return tuple(recipient for recipient in found if recipient is not None)


# -- making ------------------------------------------------------------------------------------------------------------


async def make(
    db: Database, folder: Path, contents: Contents, recipients: tuple[Recipient, ...], now_us: int, ids: IdSource
) -> Made:
    """Make a backup in `folder` while the hub goes on trading; verified before it is sealed and read back after.

    Raises `backup.unverified` if the copy does not verify (then nothing is left behind), `backup.no_recipient` without
    keys. The database is copied from one snapshot of a read-only connection: no commit waits for it.
    """
    return await db.read_apart("backup", lambda c: make_from(c, folder, contents, recipients, now_us, ids))


def make_from(
    connection: sqlite3.Connection,
    folder: Path,
    contents: Contents,
    recipients: tuple[Recipient, ...],
    now_us: int,
    ids: IdSource,
) -> Made:
    """The same from a read-only connection; `hubctl backup` uses it while the hub is down."""
    for path in contents.extra.values():
        if path.resolve() in {secret.resolve() for secret in contents.never}:
            raise StoreError("backup.secret", "The hub's own key must not be part of a backup.")
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f"work-{ids.token_bytes(8).hex()}"
    work.mkdir(mode=0o700)
    try:
        copy = work / DATABASE_NAME
        seq, hash_ = _copy_database(connection, copy, contents.archives)
        salt = meta.get(connection, meta.RECOVERY_SALT)
        id_ = ids.new_id()
        about: dict[str, Json] = {"format": FORMAT, "id": id_, "made_at_us": now_us, "salt": salt}
        about |= {"seq": seq, "hash": hash_.hex()}
        part = work / "sealed.part"
        key = _seal(part, _members(copy, contents), recipients, about, ids.token_bytes)
        digest = archive_files.sha256_of(part)
        _check_sealed(part, key)
        final = folder / f"hub-{seq:012d}-{digest[:4].hex()}{SUFFIX}"
        part.replace(final)
        sync_folder(folder)
        return Made(final, id_, digest.hex(), final.stat().st_size, seq, hash_.hex(), now_us)
    finally:
        shutil.rmtree(work)


def _copy_database(connection: sqlite3.Connection, copy: Path, archives: Path) -> tuple[int, bytes]:
    """Copy, and verify the copy: SQLite's own check, then the journal with archives and documents."""
    target = sqlite3.connect(copy, isolation_level=None)
    try:
        try:
            connection.backup(target)
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(copy)) from exc
        target.execute("PRAGMA journal_mode=DELETE").fetchall()
        report = _verify(target, archives)
        return report.head_seq, report.head_hash
    finally:
        target.close()


def _verify(connection: sqlite3.Connection, archives: Path) -> verify.Report:
    try:
        (answer,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        report = verify.verify_connection(connection, archives)
    except sqlite3.DatabaseError as exc:
        raise StoreError("backup.unverified", "The database in the backup cannot be read.") from exc
    if answer != "ok" or not report.ok:
        why = answer if answer != "ok" else report.why or report.archive_why or "documents or proofs do not agree"
        raise StoreError(
            "backup.unverified",
            f"The copy does not verify: {why}",
            remedy="Run `hubctl journal verify`; older backups are kept.",
            params={"first_bad_seq": report.first_bad_seq or 0},
        )
    return report


def _members(copy: Path, contents: Contents) -> Iterator[tuple[str, Path]]:
    yield DATABASE_NAME, copy
    if contents.archives.is_dir():
        for path in sorted(contents.archives.glob("*.jsonl.gz")):
            yield f"{ARCHIVE_FOLDER}/{path.name}", path
    for name, path in sorted(contents.extra.items()):
        if path.is_file():
            yield name, path


def _seal(
    part: Path,
    members: Iterable[tuple[str, Path]],
    recipients: tuple[Recipient, ...],
    about: dict[str, Json],
    token_bytes: Callable[[int], bytes],
) -> bytes:
    with part.open("wb") as raw:
        sealer = sealed.Sealer(raw, recipients, about, token_bytes)
        digests: dict[str, str] = {}
        with tarfile.open(fileobj=cast("IO[bytes]", sealer), mode="w|") as tar:
            for name, path in members:
                digests[name] = archive_files.sha256_of(path).hex()
                tar.add(path, arcname=name, filter=_anonymous)
            manifest = part.with_name(MANIFEST)
            manifest.write_text(json.dumps(digests, sort_keys=True), "utf-8")
            tar.add(manifest, arcname=MANIFEST, filter=_anonymous)
        sealer.close()
        raw.flush()
        os.fsync(raw.fileno())
        return sealer.file_key


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o600
    return info


class _Chunks:
    """The unsealed bytes as a file that tarfile can read from front to back."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, None)) is not None:
            self._rest += chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def finish(self) -> None:
        """Read to the end, so that a missing last chunk is noticed."""
        for _ in self._chunks:
            pass


def _each_member(source: BinaryIO, header: sealed.Header, key: bytes) -> Iterator[tuple[str, IO[bytes]]]:
    chunks = _Chunks(sealed.unseal(source, header, key))
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", chunks), mode="r|") as tar:
            for count, info in enumerate(tar):
                content = tar.extractfile(info) if info.isfile() else None
                parts = PurePosixPath(info.name).parts
                if content is None or count > MEMBERS_MAX or info.name.startswith("/") or ".." in parts:
                    raise SealError("The backup holds something that no backup holds.")
                yield info.name, content
        chunks.finish()
    except tarfile.TarError as exc:
        raise SealError("The backup is damaged inside.") from exc


def _check_sealed(part: Path, key: bytes) -> None:
    """Read the sealed file back from the disk, with the key that only this moment knows."""
    seen: dict[str, str] = {}
    manifest: dict[str, str] | None = None
    with part.open("rb") as source:
        header = sealed.read_header(source)
        for name, content in _each_member(source, header, key):
            if name == MANIFEST:
                manifest = json.loads(content.read())
            else:
                seen[name] = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]  # tarfile gives a binary file
    if seen != manifest:
        raise StoreError("backup.unverified", "The backup read back is not what was written.", remedy="Check the disk.")


# -- restoring ---------------------------------------------------------------------------------------------------------


class Restored(Struct, frozen=True):
    """What a restore did."""

    seq: int
    hash: str
    made_at_us: int
    kept_old: Path | None
    """Where the data directory that was there has been moved to; it is never deleted."""
    erased_again: int


def private_key_for(path: Path, code: str) -> bytes:
    """The private key for a backup from the code on the printed sheet; the salt stands in the backup."""
    with path.open("rb") as source:
        salt = sealed.read_header(source).about.get("salt")
    if not isinstance(salt, str):
        raise SealError(
            "The backup was made before the hub had a recovery code.", "Name the private key that it was sealed for."
        )
    return sealed.recovery_private_key(sealed.read_recovery_code(code), bytes.fromhex(salt))


def restore(path: Path, private_key: bytes, data_folder: Path) -> Restored:
    """Verify a backup and put it in place of `data_folder`, which is moved aside, never deleted.

    Everything is unpacked and verified beside it first. Raises `restore.unconfirmed` if the present store holds entries
    that neither the cloud has confirmed nor the backup holds: a restore must not lose money. The restored hub opens a
    new line at its first start. The hub must be stopped.
    """
    beside = data_folder.with_name(data_folder.name + ".restoring")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True, mode=0o700)
    try:
        header = _unpack(path, private_key, beside)
        restored = sqlite3.connect(beside / DATABASE_NAME, isolation_level=None)
        try:
            report = _verify(restored, beside / ARCHIVE_FOLDER)
            migrations.migrate(restored)
            gone = _compare_with_present(data_folder, restored)
            gone |= documents.erased_ids(restored)
            erased = _prepare(restored, report, gone)
        finally:
            restored.close()
        erased += archive_files.forget(beside / ARCHIVE_FOLDER, gone)
        for name in STAYS:
            if (data_folder / name).is_file():
                (beside / name).parent.mkdir(exist_ok=True, mode=0o700)
                shutil.copy2(data_folder / name, beside / name)
        _sync_tree(beside)
        old = _move_aside(data_folder)
        beside.rename(data_folder)
        sync_folder(data_folder.parent)
        made_at = header.about.get("made_at_us")
        return Restored(report.head_seq, report.head_hash.hex(), made_at if type(made_at) is int else 0, old, erased)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _unpack(path: Path, private_key: bytes, folder: Path) -> sealed.Header:
    digests: dict[str, str] = {}
    manifest: dict[str, str] | None = None
    with path.open("rb") as source:
        header = sealed.read_header(source)
        for name, content in _each_member(source, header, sealed.file_key(header, private_key)):
            if name == MANIFEST:
                manifest = json.loads(content.read())
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with target.open("wb") as file:
                shutil.copyfileobj(content, file, COPY_BYTES)
            digests[name] = archive_files.sha256_of(target).hex()
    if manifest is None or digests != manifest or DATABASE_NAME not in digests:
        raise SealError("The backup is not complete.")
    return header


def _compare_with_present(data_folder: Path, restored: sqlite3.Connection) -> frozenset[bytes]:
    """Refuse if the present store holds what nobody else has; returns what was erased since the backup."""
    path = data_folder / DATABASE_NAME
    if not path.exists():
        return frozenset()
    try:
        present = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        try:
            found = leaving.unconfirmed(present)
            if found is not None and journal.hash_at(restored, found.head.seq) != found.head.hash:
                raise _unconfirmed(found)
            return documents.erased_ids(present)
        finally:
            present.close()
    except sqlite3.DatabaseError:
        return frozenset()  # it cannot be read; it is kept aside as it is, and nothing of it is thrown away


def _unconfirmed(found: leaving.Unconfirmed) -> StoreError:
    return StoreError(
        "restore.unconfirmed",
        f"This hub holds {found.entries} entries, {found.payments} payments among them,"
        " that the cloud has not confirmed.",
        remedy="Let the hub reach the cloud first, or restore into another, empty directory and keep this one.",
        params={
            "entries": found.entries,
            "payments": found.payments,
            "head": found.head.seq,
            "confirmed": found.confirmed.seq,
        },
    )


def _prepare(restored: sqlite3.Connection, report: verify.Report, gone: frozenset[bytes]) -> int:
    tx = Tx.for_replay(restored)
    restored.execute("PRAGMA secure_delete=ON").fetchall()
    restored.execute("BEGIN IMMEDIATE")
    erased = sum(documents.erase(tx, document_id) for document_id in gone)
    meta.put(tx, meta.RESTORED, json.dumps({"seq": report.head_seq, "hash": report.head_hash.hex()}))
    meta.remove(tx, meta.CLEAN_STOP)
    meta.remove(tx, meta.BACKUP_COPIES)
    restored.execute("COMMIT")
    return erased


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)


def _move_aside(data_folder: Path) -> Path | None:
    if not data_folder.exists():
        return None
    if not any(data_folder.iterdir()):
        data_folder.rmdir()
        return None
    number = 1
    while (aside := data_folder.with_name(f"{data_folder.name}{OLD_SUFFIX}-{number}")).exists():
        number += 1
    data_folder.rename(aside)
    return aside


# -- at the start after it ---------------------------------------------------------------------------------------------


def line_reason(connection: sqlite3.Connection, machine_id: str, disk_id: str) -> str | None:
    """Why a new line must be opened now: `new`, `restored`, `replaced` (machine or disk changed), or None."""
    if read_head(connection).seq == 0:
        return "new"
    if meta.get(connection, meta.RESTORED) is not None:
        return "restored"
    before = (meta.get(connection, meta.MACHINE_ID), meta.get(connection, meta.DISK_ID))
    known = [(now, then) for now, then in zip((machine_id, disk_id), before, strict=True) if now and then]
    return "replaced" if any(now != then for now, then in known) else None


def is_line_of(connection: sqlite3.Connection, machine_id: str, disk_id: str) -> bool:
    """Whether `line_opened` has noted this place already."""
    here = meta.get(connection, meta.MACHINE_ID) == machine_id and meta.get(connection, meta.DISK_ID) == disk_id
    return here and meta.get(connection, meta.RESTORED) is None


def line_opened(tx: Tx, machine_id: str, disk_id: str) -> None:
    """Remember where the line was opened, in the transaction that opens it or finds it as it was."""
    meta.put(tx, meta.MACHINE_ID, machine_id)
    meta.put(tx, meta.DISK_ID, disk_id)
    meta.remove(tx, meta.RESTORED)


def read_made(path: Path) -> Made | None:
    """What a backup file says of itself, with its digest as it lies there; None for what is none or is damaged.

    The name holds the beginning of the digest that was checked when it was made.
    """
    try:
        with path.open("rb") as source:
            about = sealed.read_header(source).about
        digest, size = archive_files.sha256_of(path), path.stat().st_size
    except (OSError, StoreError):
        return None
    match about:
        case {"id": str(id_), "seq": int(seq), "hash": str(hash_), "made_at_us": int(made_at)}:
            whole = path.stem.endswith(f"-{digest[:4].hex()}")
            return Made(path, id_, digest.hex(), size, seq, hash_, made_at) if whole else None
    return None


def newest(folder: Path) -> Path:
    """The newest backup in a folder; raises NotFoundError if there is none.

    Two of one moment of the journal have their own ids: the later one may be sealed for a new recovery code.
    """
    names = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.name)
    if not names:
        raise NotFoundError("backup.none", "There is no backup in that folder.", params={"folder": str(folder)})
    same = [path for path in names if path.name.rpartition("-")[0] == names[-1].name.rpartition("-")[0]]
    return max(same, key=_id_of) if len(same) > 1 else names[-1]


def _id_of(path: Path) -> str:
    try:
        with path.open("rb") as source:
            return str(sealed.read_header(source).about.get("id", ""))
    except (OSError, StoreError):
        return ""
