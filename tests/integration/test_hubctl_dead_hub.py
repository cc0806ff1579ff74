"""hubctl while no hub runs: it says why and what to type next, and reads the store on a full or read-only disk."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubd.cli.lock import only_one
from hubd.runtime import SystemClock
from hubd.store import archive, cursors, journal, meta, sealed
from hubd.store.cursors import Cursor, Proof
from hubd.store.db import open_database
from tests.rigs.dead_hub import CARD, NAME, PAYMENTS, TOKEN, VERIFIER, as_json, hubctl
from tests.rigs.process import run as run_tool
from tests.unit.store import journals
from tests.unit.store.test_archive import DAYS_40, LaterClock


def test_status_says_why_what_the_store_holds_and_what_to_type(data: Path) -> None:
    done = hubctl(data, "status")
    assert done.returncode == 3
    assert "No hub runs here" in done.stderr
    assert "Next: Start it with `hubd run`" in done.stderr
    assert "12 approved, 1 requested" in done.stdout
    found = as_json(hubctl(data, "status", "--json"))
    assert found["reachable"] is False
    assert found["why"]["code"] == "hub.not_running"
    assert found["store"]["head"]["seq"] == PAYMENTS + 3
    assert found["store"]["unconfirmed_count"] == PAYMENTS + 3


@pytest.mark.parametrize("command", ["devices", "payments", "orders", "sync", "outages"])
def test_commands_that_need_the_hub_end_with_3_and_the_next_command(data: Path, command: str) -> None:
    done = hubctl(data, command, "--json")
    assert done.returncode == 3
    assert done.stdout == ""
    assert "hubd run" in done.stderr


def test_a_socket_nobody_serves_is_not_a_hub(data: Path) -> None:
    (data.parent / "run").mkdir()
    (data.parent / "run/hubd.sock").touch()
    assert hubctl(data, "payments").returncode == 3


def test_usage_and_configuration_are_2(data: Path, tmp_path: Path) -> None:
    assert hubctl(data, "bogus").returncode == 2
    assert hubctl(data, "payments", "--limit", "many").returncode == 2
    for words in ("restore", "restore FILE --from-cloud https://c", "demo sale dear", "demo outage total"):
        assert hubctl(data, *words.split()).returncode == 2, words
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[api]\nhttps_prt = 1\n")
    done = hubctl(data, "--config", str(wrong), "status")
    assert done.returncode == 2
    assert "did you mean api.https_port" in done.stderr


def test_journal_is_listed_verified_and_replayed(data: Path) -> None:
    entries = as_json(hubctl(data, "journal", "list", "--json", "--limit", "2"))["entries"]
    assert [entry["kind"] for entry in entries] == ["payment.requested", "payment.recorded"]
    assert as_json(hubctl(data, "journal", "verify", "--json"))["verify"]["entries"] == PAYMENTS + 3
    assert "The journal is whole." in hubctl(data, "journal", "verify").stdout
    assert as_json(hubctl(data, "journal", "replay", "--check", "--json"))["replay"]["ok"] is True
    assert hubctl(data, "journal", "replay").returncode == 2


async def test_verify_prints_every_line_the_archives_and_the_proof(data: Path) -> None:
    """E17, for people as for scripts."""
    cash = [journals.cash_sale(f"01900000-0000-7000-8000-00000000{number:04d}") for number in range(100, 103)]
    journals.runtime().clock.trust()  # type: ignore[attr-defined]  # a clock of the tests
    async with open_database(data / "hub.db", journals.runtime()) as db:
        await db.write("one whose time is known", lambda tx: journal.append(tx, cash.pop()))
        first = db.head
        await db.write("line", lambda tx: journals.line_opened(tx, journals.LINE_2, "restored"))
        await db.write("sales", lambda tx: [journal.append(tx, draft) for draft in cash])
        await db.write("seen", lambda tx: cursors.put(tx, cursors.CONFIRMED, Cursor(first.line, first.seq, first.hash)))
        assert await archive.archive(db, data / "archive", LaterClock(DAYS_40)) is not None
        head = db.head
        proof = Proof(head.line, head.seq, head.hash, "key-7", 5, bytes(64))
        await db.write("proof", lambda tx: cursors.add_proof(tx, proof))
    shown = " ".join(hubctl(data, "journal", "verify").stdout.split())
    assert f"archived {first.seq} in 1 files" in shown
    assert f"line {head.line.hex()} restored, {first.seq + 1} to {head.seq} {head.hash.hex()}" in shown
    assert f"cloud's proof {proof.seq} {proof.hash.hex()}, key key-7, signature unknown_key" in shown
    found = as_json(hubctl(data, "journal", "verify", "--json"))["verify"]
    assert (len(found["archives"]), found["archive_entries"]) == (1, first.seq)
    assert {key: found["proof"][key] for key in ("key_id", "seq", "hash")} == {
        "key_id": "key-7", "seq": proof.seq, "hash": proof.hash.hex(),
    }  # fmt: skip


def damage(data: Path, *statements: str) -> None:
    """Change the store behind the hub's back, as a broken disk or a hand would."""
    import sqlite3

    connection = sqlite3.connect(data / "hub.db")
    for trigger in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {trigger[0]}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_changed_entry_is_found(data: Path) -> None:
    damage(data, "UPDATE journal SET body = CAST(replace(CAST(body AS TEXT), '1250', '1350') AS BLOB) WHERE seq = 5")
    done = hubctl(data, "journal", "verify")
    assert done.returncode == 1
    assert "WRONG: entry 5" in done.stdout
    findings = as_json(hubctl(data, "doctor", "--json"))["findings"]
    assert [finding["level"] for finding in findings if finding["check"] == "store"] == ["bad"]


def test_a_changed_row_is_found(data: Path) -> None:
    damage(data, "UPDATE payments SET amount = 1 WHERE id LIKE '%000000000003'")
    assert hubctl(data, "journal", "verify").returncode == 0
    done = hubctl(data, "journal", "replay", "--check")
    assert done.returncode == 1
    assert "DIFFERS: payments" in done.stdout


def test_a_file_that_is_no_database_is_said_so(data: Path) -> None:
    (data / "hub.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    done = hubctl(data, "journal", "verify")
    assert done.returncode == 1
    assert "store.corrupt" in done.stderr
    assert "Copy the whole data directory" in done.stderr
    assert hubctl(data, "status").returncode == 3


# -- somebody who may not look -----------------------------------------------------------------------------------------

AS_A_STRANGER = """
import contextlib, io, os, sys
from hubd.cli import main

def run(*words):
    sys.argv = ["hubctl", *words]
    try:
        main()
    except SystemExit as exc:
        return exc.code
    return 0

words, folder = sys.argv[2:], sys.argv[1]
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    run(*words)  # what it imports may lie where a stranger cannot read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
else:
    os.chmod(folder, 0)  # to its owner, a directory without any right is as closed as another's
code = run(*words)
if os.geteuid() != 65534:
    os.chmod(folder, 0o700)
sys.exit(code)
"""


def stranger(data: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run hubctl as somebody for whom the directory that holds data and socket is closed, as the service's own are."""
    return subprocess.run(
        [sys.executable, "-c", AS_A_STRANGER, str(data.parent), *args],
        capture_output=True,
        text=True,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("HUBD_")},
            "HUBD_PATHS_DATA": str(data),
            "HUBD_PATHS_RUNTIME": str(data.parent / "run"),
            "HUBD_CONFIG": "/nowhere/hubd.toml",
        },
        timeout=60,
        check=False,
    )


def test_who_may_not_look_hears_what_to_type(data: Path) -> None:
    for command in ("status", "payments"):
        done = stranger(data, command)
        assert done.returncode == 3, (command, done.stderr)
        assert "Run `sudo hubctl" in done.stderr, command
    looked = stranger(data, "doctor")
    assert looked.returncode == 1
    assert "Run `sudo hubctl doctor`" in looked.stdout
    for command in ("make", "list"):
        done = stranger(data, "backup", command)
        assert (done.returncode, done.stdout) == (1, ""), "a folder that is closed is not an empty one"
        assert "sudo -u hubd hubctl" in done.stderr


# -- a disk that is read-only or full ----------------------------------------------------------------------------------

WORKING = (
    ("status", 3),
    ("doctor", 1),
    ("logs", 0),
    ("journal verify", 0),
    ("journal replay --check", 0),
    ("removable", 1),
)


@pytest.fixture
def small_disk(data: Path, tmp_path: Path) -> Iterator[Path]:
    """The same data on an ext4 disk of its own."""
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as stream:
        stream.truncate(24 * 1024 * 1024)
    run_tool("mkfs.ext4", "-q", "-m", "0", image)
    run_tool("mount", "-o", "loop", image, place)
    try:
        run_tool("cp", "-a", data, place / "data")
        (place / "data/hubd.log").write_text(
            '{"at":"2026-11-21T10:00:00+00:00","level":"info","message":"hub.ready"}\n'
        )
        yield place / "data"
    finally:
        run_tool("umount", place)


def fill_disk(path: Path) -> None:
    with path.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(65536))


def check_working(data: Path, temporary: Path) -> None:
    for words, code in WORKING:
        done = hubctl(data, *words.split())
        assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "12 approved" in hubctl(data, "status").stdout
    assert "hub.ready" in hubctl(data, "logs").stdout
    assert hubctl(data, "backup", "make", "--to", str(temporary / "stick")).returncode == 0
    assert "backup make --to" in hubctl(data, "backup", "make").stderr
    report = as_json(hubctl(data, "bugreport", "--json", "--to", str(temporary)))
    assert {"store.json", "schema.sql", "logs.jsonl"} <= set(report["files"])


def test_everything_works_on_a_read_only_disk(small_disk: Path, tmp_path: Path) -> None:
    run_tool("mount", "-o", "remount,ro", small_disk.parent)
    check_working(small_disk, tmp_path)
    looked = hubctl(small_disk, "doctor").stdout
    assert "read-only" in looked
    assert "`hubctl backup make --to DIRECTORY`" in looked, "the words to type are those of a command"


def test_everything_works_on_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        fill_disk(small_disk / "filler")
    check_working(small_disk, tmp_path)


def test_a_killed_hubs_unfinished_log_is_read_and_left_as_it_is(data: Path) -> None:
    """Copies of a running hub's files are what a SIGKILL leaves: a WAL that no checkpoint has emptied."""
    code = (
        "import asyncio, os, pathlib, sys\n"
        "from hubd.store.db import open_database\n"
        "from tests.unit.store import journals\n"
        "from hubd.store import journal\n"
        "async def main():\n"
        "    async with open_database(pathlib.Path(sys.argv[1]), journals.runtime()) as db:\n"
        "        await db.write('one', lambda tx: journal.append(tx, journals.cash_sale("
        "'01900000-0000-7000-8000-0000000eeeee')))\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(data / "hub.db")], timeout=60, check=False)
    assert killed.returncode == -9
    before = {name: (data / name).read_bytes() for name in ("hub.db", "hub.db-wal")}
    assert before["hub.db-wal"]
    found = as_json(hubctl(data, "status", "--json"))
    assert found["store"]["head"]["seq"] == PAYMENTS + 4
    assert {name: (data / name).read_bytes() for name in before} == before, "looking must not write"


# -- backups -----------------------------------------------------------------------------------------------------------


def test_a_backup_of_a_dead_hub_is_made_listed_and_restored(data: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    made = as_json(hubctl(data, "backup", "make", "--to", str(stick), "--json"))
    assert made["seq"] == PAYMENTS + 3
    assert b"payments" not in Path(made["file"]).read_bytes()
    assert [item["file"] for item in as_json(hubctl(data, "backup", "list", str(stick), "--json"))["backups"]] == [
        made["file"]
    ]
    new = tmp_path / "other" / "data"
    wrong = hubctl(new, "restore", made["file"], "--code", "AAAA-AAAA")
    assert wrong.returncode == 1
    assert not (new / "hub.db").exists()
    done = as_json(hubctl(new, "restore", made["file"], "--code", (tmp_path / "code").read_text(), "--json"))
    assert (done["seq"], done["kept_old"]) == (PAYMENTS + 3, None)
    assert hubctl(new, "journal", "verify").returncode == 0
    assert sorted(path.name for path in new.parent.iterdir()) == ["data"]


@pytest.mark.parametrize("form", ["raw", "hexadecimal"])
def test_the_tenants_key_restores_without_the_code(data: Path, tmp_path: Path, form: str) -> None:
    private = bytes(range(32))
    with sqlite3.connect(data / "hub.db") as connection:
        row = (meta.TENANT_KEY, sealed.public_key_of(private).hex())
        connection.execute("INSERT INTO meta(name, value) VALUES (?, ?)", row)
    connection.close()
    made = as_json(hubctl(data, "backup", "make", "--to", str(tmp_path / "stick"), "--json"))
    key, new = tmp_path / "tenant.key", tmp_path / "other" / "data"
    for wrong in (b"", private + b"\n", private[:31], b"xy" * 32, bytes(32)):
        key.write_bytes(wrong)
        refused = hubctl(new, "restore", made["file"], "--key-file", str(key))
        assert refused.returncode == 1, wrong
        assert not (new / "hub.db").exists()
    key.write_bytes(private if form == "raw" else private.hex().encode() + b"\n")
    assert as_json(hubctl(new, "restore", made["file"], "--key-file", str(key), "--json"))["seq"] == PAYMENTS + 3
    assert hubctl(new, "journal", "verify").returncode == 0


def test_a_restore_never_throws_away_what_nobody_else_has(data: Path, tmp_path: Path) -> None:
    made = as_json(hubctl(data, "backup", "make", "--json"))
    code = (tmp_path / "code").read_text()
    damage(data, "UPDATE journal SET hash = zeroblob(32) WHERE seq = 15")  # another entry than the backup's
    refused = hubctl(data, "restore", made["file"], "--code", code)
    assert refused.returncode == 1
    assert "restore.unconfirmed" in refused.stderr
    assert (data / "hub.db").exists()


def test_a_running_hub_is_not_restored_over(data: Path, tmp_path: Path) -> None:
    made = as_json(hubctl(data, "backup", "make", "--to", str(tmp_path / "stick"), "--json"))
    with only_one(data):
        refused = hubctl(data, "restore", made["file"], "--code", (tmp_path / "code").read_text())
    assert refused.returncode == 1
    assert "hub.already_running" in refused.stderr


# -- the bug report ----------------------------------------------------------------------------------------------------


def contents(path: Path) -> dict[str, str]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        for member in archive.getmembers():
            stream = archive.extractfile(member)
            assert stream is not None
            found[Path(member.name).name] = stream.read().decode()
    return found


def test_nothing_personal_or_secret_can_be_in_a_bug_report(data: Path, tmp_path: Path) -> None:
    """Names, verifiers, card numbers and tokens are put wherever a mistake could put them; none comes out."""
    secrets = [NAME, NAME.upper(), "vandenbroucke", VERIFIER, TOKEN, CARD, "4111 1111 1111 1111"]
    lines = [
        {"at": "2026-11-21T10:00:00+00:00", "level": "error", "message": f"x {secret}", "reason": secret, "who": secret}
        for secret in secrets
    ]
    lines += [{"level": "error", "message": "trace", "traceback": f'Traceback\n  name = "{NAME}"\n  pan={CARD}\n'}]
    lines += [{"level": "info", "message": "hub.ready", "device_id": "d-kept"}]
    (data / "hubd.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = tmp_path / "hubd.toml"
    config.write_text(
        f"[cloud]\naddress = 'mqtts://hub:{TOKEN}@127.0.0.1:1'\n"
        f"[[terminals]]\naddress = 'tcp://127.0.0.1:1'\nname = '{NAME}'\npassword = '918273'\n"
    )
    done = hubctl(data, "--config", str(config), "bugreport", "--to", str(tmp_path), "--json")
    files = contents(Path(as_json(done)["file"]))
    everything = "\n".join(files.values())
    for secret in [*secrets, "Margaux", "Vandenbroucke", "918273"]:
        assert secret.casefold() not in everything.casefold(), secret
    assert "d-kept" in files["logs.jsonl"]
    assert "CREATE TABLE journal" in files["schema.sql"]
    assert json.loads(files["store.json"])["rows"]["payments"] == PAYMENTS + 1
    assert json.loads(files["entries.json"])[0]["kind"] == "payment.requested"
    assert oct(Path(as_json(done)["file"]).stat().st_mode)[-3:] == "600"


# -- doctor ------------------------------------------------------------------------------------------------------------


def levels(done: subprocess.CompletedProcess[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for finding in as_json(done)["findings"]:
        found.setdefault(finding["check"], set()).add(finding["level"])
        assert finding["remedy"] or finding["level"] == "good"
    return found


def test_doctor_names_open_directories_taken_ports_and_dead_brokers(data: Path) -> None:
    import socket

    data.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        found = hubctl(data, "doctor", "--json", HUBD_API_HTTPS_PORT=port, HUBD_CLOUD_ADDRESS="mqtt://127.0.0.1:1")
    assert found.returncode == 1
    assert levels(found)["permissions"] == {"bad"}
    assert "bad" in levels(found)["ports"]
    assert levels(found)["broker"] == {"bad"}
    data.chmod(0o700)
    mended = levels(hubctl(data, "doctor", "--json"))
    assert mended["permissions"] == {"good"}
    assert mended["store"] == {"good"}


# -- logs --------------------------------------------------------------------------------------------------------------


def test_logs_are_filtered_by_payment_level_and_count(data: Path) -> None:
    records = [
        {"level": "info", "message": "payment.started", "payment_id": "p1"},
        {"level": "warning", "message": "payment.unknown", "payment_id": "p1"},
        {"level": "info", "message": "payment.started", "payment_id": "p2"},
    ]
    (data / "hubd.log").write_text("".join(json.dumps(record) + "\n" for record in records) + "not JSON\n")
    lines = hubctl(data, "logs", "--payment", "p1", "--json").stdout.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["payment.started", "payment.unknown"]
    assert len(hubctl(data, "logs", "--level", "warning").stdout.splitlines()) == 1
    assert "payment_id=p2" in hubctl(data, "logs", "-n", "1").stdout
    assert hubctl(data, "logs", "--level", "loud").returncode == 2


def test_logs_of_a_file_begin_at_the_moment_that_was_asked_for(data: Path) -> None:
    now = datetime.fromtimestamp(SystemClock().now_us() / 1_000_000, UTC)
    ages = {"days": 172_800, "hours": 10_800, "now": 0}
    records = [
        {"at": (now - timedelta(seconds=age)).isoformat(), "level": "info", "message": name}
        for name, age in ages.items()
    ]
    (data / "hubd.log").write_text("".join(json.dumps(record) + "\n" for record in records))
    for since, expected in {
        "1 hour ago": ["now"],
        "4 hours ago": ["hours", "now"],
        (now.astimezone() - timedelta(days=1)).strftime("%Y-%m-%d %H:%M"): ["hours", "now"],
        "3 days ago": ["days", "hours", "now"],
    }.items():
        lines = hubctl(data, "logs", "--since", since, "--json").stdout.splitlines()
        assert [json.loads(line)["message"] for line in lines] == expected, since
    wrong = hubctl(data, "logs", "--since", "lately")
    assert (wrong.returncode, wrong.stdout) == (2, "")


def test_logs_that_journald_does_not_give_are_not_called_empty(data: Path) -> None:
    done = hubctl(data, "logs", "--since", "lately")
    assert done.returncode == 1
    assert "Nothing was logged" not in done.stdout
    assert "lately" in done.stderr, "journald's own words"


# -- the budget --------------------------------------------------------------------------------------------------------


def test_help_imports_neither_the_web_framework_nor_the_store(data: Path) -> None:
    """The budget as a fact and not as a time: none of the modules that cost. (msgspec is what values are made of.)"""
    code = (
        "import sys\nfrom hubd.cli.app import app\n"
        "heavy = {'fastapi', 'starlette', 'uvicorn', 'httpx2', 'cryptography', 'sqlite3', 'aiosqlite', 'zeroconf',"
        " 'aiomqtt', 'segno'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
    assert "Exit codes" in hubctl(data, "--help").stdout
