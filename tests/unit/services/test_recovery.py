"""The recovery code until it is on paper: shown again, never on disk, replaced when a restart has lost it."""

from __future__ import annotations

from pathlib import Path

import pytest

import hubd.services.backups
from hubd.errors import AccessError
from hubd.services.backups import BackupDesk, Places
from hubd.services.staff import Location, NewPerson, SetUp
from hubd.store import backup, copies
from hubd.store.backup import Contents
from hubd.store.sealed import Recipient, read_recovery_code
from tests.rigs.process import wait_until
from tests.unit.services.shop import LOCATION, MANAGER, Shop, shop

WAIT_S = 20.0
PLACE = Location(LOCATION, "Lille", "Europe/Paris", "EUR", "FR")


def wanted(opened: Shop, pin: str = "7319") -> SetUp:
    return SetUp(NewPerson(opened.services.runtime.ids.new_id(), "Claire", pin, "fr"), PLACE)


def problems(opened: Shop) -> list[str]:
    return [problem.code for problem in opened.services.problems.present()]


def files_with(folder: Path, code: str) -> list[str]:
    """Files in which a code stands, as people write it or as the bytes that it means."""
    secrets = (code.encode(), code.replace("-", "").encode(), read_recovery_code(code))
    files = [(file.name, file.read_bytes()) for file in folder.rglob("*") if file.is_file()]
    return [name for name, content in files if any(secret in content for secret in secrets)]


async def recipient(opened: Shop) -> Recipient | None:
    return await opened.services.db.read("test.recipient", backup.recovery_recipient)


@pytest.mark.blocking_allowed("reads the files of a small store")
async def test_an_unconfirmed_code_is_shown_again_by_this_process_and_lies_on_no_disk(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        made = await opened.services.staff.set_up(wanted(opened), MANAGER)
        state = await opened.services.recovery.state(MANAGER)
        assert (state.confirmed, state.code) == (False, made.recovery_code)
        assert problems(opened).count("backup.code_unconfirmed") == 1
        assert files_with(tmp_path, made.recovery_code) == []
        assert made.recovery_code not in repr(state)
    assert files_with(tmp_path, made.recovery_code) == []


async def test_a_restart_before_the_confirmation_asks_for_a_new_code_once(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        first = (await opened.services.staff.set_up(wanted(opened), MANAGER)).recovery_code
        reader = await recipient(opened)
    async with shop(tmp_path) as opened:
        desk = opened.services.recovery
        lost = await desk.state(MANAGER)
        assert (lost.confirmed, lost.code) == (False, "")
        assert "backup.code_unconfirmed" in problems(opened)
        new = await desk.make_again(MANAGER)
        assert new.code not in {"", first}
        assert new.id != lost.id
        assert await desk.make_again(MANAGER) == new, "a second press of the button makes no second code"
        assert await recipient(opened) != reader
        with pytest.raises(AccessError, match=r"recovery\.other_code"):
            await desk.confirm(lost.id, MANAGER)
        assert (await desk.state(MANAGER)).code == new.code, "nobody confirms what he has not read"
        await desk.confirm(new.id, MANAGER)
        assert problems(opened).count("backup.code_unconfirmed") == 0
        assert (await desk.state(MANAGER)).code == ""
        assert (await desk.make_again(MANAGER)).confirmed, "a confirmed code stays"
        kept = await recipient(opened)
    async with shop(tmp_path) as opened:
        assert (await opened.services.recovery.state(MANAGER)).confirmed
        assert await recipient(opened) == kept


async def test_a_hub_without_set_up_has_nothing_to_confirm(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        assert (await opened.services.recovery.state(MANAGER)).confirmed
        assert "backup.code_unconfirmed" not in problems(opened)


async def test_a_set_up_that_fails_keeps_no_code(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        first = await opened.services.staff.set_up(wanted(opened), MANAGER)
        with pytest.raises(AccessError, match=r"setup\.done"):
            await opened.services.staff.set_up(wanted(opened), MANAGER)
        assert (await opened.services.recovery.state(MANAGER)).code == first.recovery_code
        assert len(opened.services.recovery._held) == 1


@pytest.mark.blocking_allowed("restores a small backup")
async def test_a_new_code_gets_a_backup_of_its_own_and_the_old_one_counts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubd.services.backups, "CHECK_S", 0.05)
    async with shop(tmp_path) as opened:
        await opened.services.staff.set_up(wanted(opened), MANAGER)
    here = tmp_path / "backups"

    def backups() -> list[Path]:
        return sorted(here.glob(f"*{backup.SUFFIX}"))

    async with shop(tmp_path) as opened:
        services = opened.services
        contents = Contents(tmp_path / "archive", {}, frozenset())
        places = Places(here, [], contents.archives)
        desk = BackupDesk(services.db, services.runtime, services.problems, places, contents, 3600.0)
        first = (await desk.make()).made
        await services.db.write("test.copy", lambda tx: copies.record(tx, first, "usb:stick", "hub", counts=True))
        assert services.jobs.start("test.backups", desk.run())
        await wait_until(lambda: len(backups()) == 2, WAIT_S, "the backup of the start")
        assert (await desk.state()).elsewhere
        new = await services.recovery.make_again(MANAGER)
        assert not (await desk.state()).elsewhere, "nobody can open that one"
        await wait_until(lambda: len(backups()) == 3, WAIT_S, "a backup for the new code")
    assert new.code
    newest = backup.newest(here)
    key = backup.private_key_for(newest, new.code)
    assert backup.restore(newest, key, tmp_path / "new").seq > first.seq
