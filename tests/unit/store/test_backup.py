"""Backups: sealed for public keys, verified, off the disk; a restore never loses what nobody else holds."""

from __future__ import annotations

import io
import random  # noqa: TID251 (one seed makes one journal)
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hubd.config_sections import PathsConfig
from hubd.daemon import HUB_KEY
from hubd.errors import InvalidValueError, NotFoundError, StoreError
from hubd.store import archive, backup, copies, cursors, documents, journal, meta, replay, sealed, verify
from hubd.store.backup import Contents, Made
from hubd.store.cursors import Cursor
from hubd.store.db import Database, open_database
from hubd.store.sealed import Recipient
from sync.enrolment import CREDENTIALS_FILE
from tests.unit.store import journals
from tests.unit.store.test_archive import DAYS_40, LaterClock

pytestmark = pytest.mark.blocking_allowed("it prepares and inspects files; the hub calls all this in its own threads")

IDS = journals.runtime().ids
TENANT = bytes(range(32))


def contents(tmp_path: Path) -> Contents:
    config, ca, key = tmp_path / "hubd.toml", tmp_path / "ca.pem", tmp_path / "hub.key"
    config.write_text("[hub]\n")
    ca.write_text("-----BEGIN CERTIFICATE-----")
    key.write_bytes(b"SECRET-KEY-OF-THE-HUB")
    extra = {"config/hubd.toml": config, "ca/ca.pem": ca}
    return Contents(tmp_path / "data" / "archive", extra, frozenset({key}))


async def make_one(tmp_path: Path, *, seed: int = 1) -> tuple[Made, str]:
    """A store that has traded and archived, backed up; returns the backup and the recovery code."""
    (tmp_path / "data").mkdir(exist_ok=True)
    journals.runtime().clock.trust()  # type: ignore[attr-defined]  # a clock of the tests
    async with open_database(tmp_path / "data" / "hub.db", journals.runtime()) as db:
        await journals.fill(db, seed, 40)
        code = await db.write("set up", lambda tx: backup.set_recovery(tx, backup.new_recovery(IDS)))
        await db.write("c", lambda tx: cursors.put(tx, cursors.CONFIRMED, Cursor(journals.LINE_1, 20, bytes(32))))
        await archive.archive(db, tmp_path / "data" / "archive", LaterClock(DAYS_40))
        recovery = await db.read("key", backup.recovery_recipient)
        assert recovery is not None
        keys = (recovery, Recipient("tenant", sealed.public_key_of(TENANT)))
        made = await backup.make(db, tmp_path / "backups", contents(tmp_path), keys, 77, IDS)
        assert (made.seq, made.hash) == (db.head.seq, db.head.hash.hex())
    return made, code


async def confirm_all(tmp_path: Path) -> None:
    async with open_database(tmp_path / "data" / "hub.db", journals.runtime()) as db:
        everything = Cursor(db.head.line, db.head.seq, db.head.hash)
        await db.write("c", lambda tx: cursors.put(tx, cursors.CONFIRMED, everything))


async def test_what_was_backed_up_comes_back_whole_and_opens_a_new_line(tmp_path: Path) -> None:
    made, code = await make_one(tmp_path)
    new = tmp_path / "new"
    restored = backup.restore(made.path, backup.private_key_for(made.path, code.lower().replace("-", " ")), new)
    assert (restored.seq, restored.hash, restored.made_at_us, restored.kept_old) == (made.seq, made.hash, 77, None)
    assert (new / "config" / "hubd.toml").read_text() == "[hub]\n"
    assert (new / "ca" / "ca.pem").exists()
    async with open_database(new / "hub.db", journals.runtime()) as db:
        assert (await verify.verify_database(db, new / "archive")).ok
        assert (await db.read_apart("replay", lambda c: replay.check(c, new / "archive"))).ok
        assert await db.read("why", lambda c: backup.line_reason(c, "m", "d")) == "restored"

        def opened(tx: object) -> None:
            journals.line_opened(tx, bytes(range(32, 48)), "restored")  # type: ignore[arg-type]  # a transaction of the tests
            backup.line_opened(tx, "m", "d")  # type: ignore[arg-type]  # a transaction of the tests

        await db.write("open", opened)
        assert await db.read("why", lambda c: backup.line_reason(c, "m", "d")) is None
        assert await db.read("why", lambda c: backup.line_reason(c, "other", "d")) == "replaced"
        assert await db.read("why", lambda c: backup.line_reason(c, "m", "other")) == "replaced"
        assert await db.read("why", lambda c: backup.line_reason(c, "m", "")) is None, "a disk that tells no serial"


async def test_a_first_start_opens_a_line_because_there_is_none(db: Database) -> None:
    assert await db.read("why", lambda c: backup.line_reason(c, "m", "d")) == "new"


async def test_the_tenant_opens_it_too_and_nobody_else(tmp_path: Path) -> None:
    made, code = await make_one(tmp_path)
    backup.restore(made.path, TENANT, tmp_path / "new")
    with pytest.raises(StoreError, match="not sealed for this key"):
        backup.restore(made.path, bytes(range(1, 33)), tmp_path / "newer")
    assert not (tmp_path / "newer").exists()
    raw = made.path.read_bytes()
    assert b"SQLite format" not in raw
    plain = b"".join(content for content in opened_members(made, code).values())
    assert b"SQLite format" in plain
    assert b"SECRET-KEY-OF-THE-HUB" not in plain
    assert sealed.read_recovery_code(code) not in plain
    assert code.encode() not in plain


def opened_members(made: Made, code: str) -> dict[str, bytes]:
    with made.path.open("rb") as source:
        header = sealed.read_header(source)
        key = sealed.file_key(header, backup.private_key_for(made.path, code))
        return {name: content.read() for name, content in backup._each_member(source, header, key)}


async def test_the_hubs_key_is_refused_and_no_backup_is_made_without_a_recipient(
    open_db: Database, tmp_path: Path
) -> None:
    parts = contents(tmp_path)
    (secret,) = parts.never
    (tmp_path / "innocent").symlink_to(secret)
    smuggled = replace(parts, extra={"config/innocent": tmp_path / "innocent"})
    keys = (Recipient("tenant", sealed.public_key_of(TENANT)),)
    with pytest.raises(StoreError, match=r"backup\.secret"):
        await backup.make(open_db, tmp_path / "b", smuggled, keys, 1, IDS)
    with pytest.raises(StoreError, match=r"backup\.no_recipient"):
        await backup.make(open_db, tmp_path / "b", parts, (), 1, IDS)
    assert list((tmp_path / "b").iterdir()) == []


async def test_a_store_that_does_not_verify_gives_no_backup(open_db: Database, tmp_path: Path) -> None:
    def harm(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TRIGGER journal_no_update")
        connection.execute("UPDATE journal SET body = CAST('{}' AS BLOB)")

    await open_db.exclusively("harm", harm)
    keys = (Recipient("tenant", sealed.public_key_of(TENANT)),)
    with pytest.raises(StoreError, match=r"backup\.unverified"):
        await backup.make(open_db, tmp_path / "b", contents(tmp_path), keys, 1, IDS)
    assert list((tmp_path / "b").iterdir()) == []


async def test_every_changed_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    made, _ = await make_one(tmp_path)
    whole, rng = made.path.read_bytes(), random.Random(1)
    harmed = tmp_path / "harmed.hubbackup"
    for _ in range(40):
        raw = bytearray(whole)
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        harmed.write_bytes(bytes(raw))
        with pytest.raises(StoreError, match=r"backup\.unreadable"):
            backup.restore(harmed, TENANT, tmp_path / "new")
    chunk = sealed.CHUNK_BYTES + sealed.TAG_BYTES
    for shorter in (whole[:-1], whole[:100], b"", whole[: -((len(whole) - 1) % chunk) - 1], whole + b"x"):
        harmed.write_bytes(shorter)
        with pytest.raises(StoreError, match=r"backup\.unreadable"):
            backup.restore(harmed, TENANT, tmp_path / "new")
    assert not (tmp_path / "new").exists()


async def test_a_restore_refuses_to_lose_what_nobody_else_holds(tmp_path: Path) -> None:
    made, _ = await make_one(tmp_path)
    async with open_database(tmp_path / "data" / "hub.db", journals.runtime()) as db:
        sale = journals.cash_sale(journals.any_id(random.Random(7)))
        await db.write("sale", lambda tx: journal.append(tx, sale))
    with pytest.raises(StoreError, match=r"restore\.unconfirmed") as caught:
        backup.restore(made.path, TENANT, tmp_path / "data")
    assert caught.value.params["payments"] != 0
    assert "another, empty directory" in caught.value.remedy
    assert not (tmp_path / "data.restoring").exists()
    await confirm_all(tmp_path)
    restored = backup.restore(made.path, TENANT, tmp_path / "data")
    assert restored.kept_old == tmp_path / "data.before-restore-1"
    assert (restored.kept_old / "hub.db").exists()


async def test_a_restore_of_the_newest_state_needs_no_cloud_and_keeps_the_hubs_key(tmp_path: Path) -> None:
    made, _ = await make_one(tmp_path)
    keys = PathsConfig(tmp_path / "data", tmp_path / "run").keys
    keys.mkdir()
    for name in (HUB_KEY, CREDENTIALS_FILE):
        (keys / name).write_text(name)
    assert backup.restore(made.path, TENANT, tmp_path / "data").kept_old is not None
    assert [(keys / name).read_text() for name in (HUB_KEY, CREDENTIALS_FILE)] == [HUB_KEY, CREDENTIALS_FILE]
    backup.restore(made.path, TENANT, tmp_path / "another machine")
    assert not (tmp_path / "another machine" / "keys").exists()


async def test_what_was_erased_since_the_backup_is_erased_again(tmp_path: Path) -> None:
    made, _ = await make_one(tmp_path)
    async with open_database(tmp_path / "data" / "hub.db", journals.runtime()) as db:
        in_database = await db.read(
            "ids", lambda c: c.execute("SELECT id FROM documents WHERE erased = 0").fetchone()[0]
        )
        in_archive = await db.read_apart("old", lambda _: archived_document(tmp_path / "data" / "archive"))
        for id_ in (in_database, in_archive):
            await db.write("erase", lambda tx, id_=id_: journal.append(tx, documents.erasure(id_, "asked", "hub")))  # type: ignore[misc]  # a default in a lambda
        assert await documents.forget_bytes(db, [in_archive], tmp_path / "data" / "archive")
    await confirm_all(tmp_path)
    restored = backup.restore(made.path, TENANT, tmp_path / "data")
    assert restored.erased_again == 2
    async with open_database(tmp_path / "data" / "hub.db", journals.runtime()) as db:
        assert await db.read("gone", lambda c: documents.is_erased(c, in_database))
        report = await verify.verify_database(db, tmp_path / "data" / "archive")
        assert report.ok
        assert report.documents["erased"] == 2


def archived_document(folder: Path) -> bytes:
    from hubd.store import archive_files

    name = archive_files.names(folder)[0]
    return next(id_ for id_, found in archive_files.read_documents(folder / name.documents) if found)


async def test_it_leaves_the_disk_and_is_read_back_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = await make_one(tmp_path)
    stick = tmp_path / "stick"
    stick.mkdir()
    with pytest.raises(StoreError, match=r"backup\.same_disk"):
        copies.copy_to(made, stick)
    copied = copies.copy_and_read_back(made, stick)
    assert copied.read_bytes() == made.path.read_bytes()
    assert backup.newest(stick) == copied
    with pytest.raises(StoreError, match=r"backup\.copy_differs"):
        copies.copy_and_read_back(replace(made, sha256="00" * 32), stick)
    assert [path.name for path in stick.iterdir()] == [copied.name]
    with pytest.raises(NotFoundError):
        backup.newest(tmp_path / "data")
    async with open_database(tmp_path / "data" / "hub.db", journals.runtime()) as db:
        assert await db.read("none", copies.last_elsewhere) is None
        here = await db.write("here", lambda tx: copies.record(tx, made, "here:x", counts=False))
        assert here is not None
        assert here.body()["elsewhere"] is False
        assert await db.read("none", copies.last_elsewhere) is None, "a copy that dies with the disk counts for nothing"
        entry = await db.write("record", lambda tx: copies.record(tx, made, "usb:x"))
        assert entry is not None
        assert (entry.kind, entry.body()["sha256"], entry.body()["elsewhere"]) == ("backup.made", made.sha256, True)
        assert await db.write("again", lambda tx: copies.record(tx, made, "usb:x")) is None
        older = replace(made, seq=made.seq - 1, made_at_us=999, sha256="00" * 32)
        assert await db.write("older", lambda tx: copies.record(tx, older, "usb:x")) is None
        assert await db.write("other", lambda tx: copies.record(tx, older, "cloud")) is not None
        elsewhere = await db.read("some", copies.last_elsewhere)
        assert elsewhere == copies.Elsewhere("usb:x", made.id, made.sha256, made.seq, made.hash, 77)


async def test_trading_goes_on_while_a_backup_is_made(open_db: Database, tmp_path: Path) -> None:
    import asyncio

    keys = (Recipient("tenant", sealed.public_key_of(TENANT)),)
    async with asyncio.TaskGroup() as group:
        making = group.create_task(backup.make(open_db, tmp_path / "b", contents(tmp_path), keys, 1, IDS))
        rng, sold = random.Random(1), 0
        while not making.done():
            sale = journals.cash_sale(journals.any_id(rng))
            await open_db.write("sale", lambda tx, sale=sale: journal.append(tx, sale))  # type: ignore[misc]  # a default in a lambda
            sold += 1
    made = await making
    assert sold > 0
    assert 1 <= made.seq <= open_db.head.seq


async def test_the_recovery_code_stays_off_the_disk(open_db: Database) -> None:
    code = await open_db.write("set up", lambda tx: backup.set_recovery(tx, backup.new_recovery(IDS)))
    salt = await open_db.read("salt", lambda c: meta.get(c, meta.RECOVERY_SALT))
    assert salt is not None
    private = sealed.recovery_private_key(sealed.read_recovery_code(code), bytes.fromhex(salt))
    everything = b"".join(path.read_bytes() for path in open_db.path.parent.glob("hub.db*"))
    for secret in (code.encode(), code.replace("-", "").encode(), private, private.hex().encode()):
        assert secret not in everything
    recipient = await open_db.read("key", backup.recovery_recipient)
    assert recipient == Recipient("recovery", sealed.public_key_of(private))


@given(st.binary(min_size=16, max_size=16), st.integers(0, 27), st.sampled_from(sealed._ALPHABET))
def test_a_recovery_code_reads_back_and_a_typing_error_is_noticed(raw: bytes, at: int, other: str) -> None:
    code = sealed.recovery_code(raw)
    assert sealed.read_recovery_code(f" {code.lower().replace('0', 'o').replace('1', 'l')} ") == raw
    plain = code.replace("-", "")
    mistyped = plain[:at] + other + plain[at + 1 :]
    if mistyped != plain:
        assert read_or_refuse(mistyped) != raw


def read_or_refuse(code: str) -> bytes | str:
    try:
        return sealed.read_recovery_code(code)
    except InvalidValueError as error:
        return error.code


@given(
    st.binary(max_size=200), st.sampled_from([0, 1, sealed.CHUNK_BYTES - 1, sealed.CHUNK_BYTES, 3 * sealed.CHUNK_BYTES])
)
def test_what_is_sealed_is_unsealed(tail: bytes, size: int) -> None:
    content, target = bytes(size) + tail, io.BytesIO()
    sealer = sealed.Sealer(target, (Recipient("a", sealed.public_key_of(TENANT)),), {"x": 1}, IDS.token_bytes)
    sealer.write(content)
    sealer.close()
    target.seek(0)
    header = sealed.read_header(target)
    assert header.about == {"x": 1}
    assert b"".join(sealed.unseal(target, header, sealed.file_key(header, TENANT))) == content


def test_a_sealed_file_that_ends_between_two_chunks_is_noticed() -> None:
    target = io.BytesIO()
    sealer = sealed.Sealer(target, (Recipient("a", sealed.public_key_of(TENANT)),), {}, IDS.token_bytes)
    sealer.write(bytes(2 * sealed.CHUNK_BYTES + 1))
    sealer.close()
    cut = io.BytesIO(target.getvalue()[: -(1 + sealed.TAG_BYTES)])
    header = sealed.read_header(cut)
    with pytest.raises(StoreError, match="cut off"):
        list(sealed.unseal(cut, header, sealed.file_key(header, TENANT)))
