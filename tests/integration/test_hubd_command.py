"""The daemon's command before anything runs: exit codes, refusals, limits."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from hubd.cli.lock import only_one
from hubd.errors import ConfigError, StoreError
from hubd.main import exit_code_of
from hubd.runtime import SystemIds
from tests.rigs.process import Child, wait_for
from tests.tidy.tree import ROOT


def hubd(where: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUBD_")}
    return subprocess.run(
        [sys.executable, "-m", "hubd", *args],
        cwd=where,
        env={**kept, "PYTHONPATH": str(ROOT), "HUBD_CONFIG": str(where / "none.toml"), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_wrong_key_stops_with_2_names_the_nearest_and_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "hubd.toml"
    file.write_text(f"[paths]\ndata = '{tmp_path}/data'\n[api]\nhttps_prt = 8443\n")
    for command in ("run", "check-config"):
        done = hubd(tmp_path, command, "--config", str(file))
        assert done.returncode == 2
        assert "api.https_prt is unknown; did you mean api.https_port?" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_good_configuration_is_said_so(tmp_path: Path) -> None:
    done = hubd(tmp_path, "check-config")
    assert (done.returncode, done.stdout) == (0, "The configuration is good.\n")


def test_an_enrolment_file_is_looked_at_too(tmp_path: Path) -> None:
    file, data = tmp_path / "enrol.toml", {"HUBD_PATHS_DATA": str(tmp_path / "data")}
    file.write_text('cloud = "https://cloud.example"\ntoken = "gt-4821-secret"\n')
    file.chmod(0o600)
    done = hubd(tmp_path, "check-config", **data)
    assert (done.returncode, str(file) in done.stdout) == (0, True)
    file.chmod(0o644)
    done = hubd(tmp_path, "check-config", **data)
    assert done.returncode == 2
    assert done.stderr.startswith("enrolment.file_open: ")
    file.write_text('cloud = "https://cloud.example"\ntokn = "gt-4821-secret"\n')
    file.chmod(0o600)
    done = hubd(tmp_path, "check-config", **data)
    assert done.stderr.startswith("enrolment.file_invalid: ")
    assert "gt-4821-secret" not in done.stderr


def test_arguments_are_read_without_the_libraries_that_hubctl_reads_them_with(tmp_path: Path) -> None:
    """A start after a power cut, for which tills wait, does not load them; no time is measured."""
    code = (
        "import sys\nfrom hubd.main import main\nsys.argv = ['hubd', 'check-config']\nmain()\n"
        "print(sorted({'typer', 'click', 'pydantic', 'fastapi'} & set(sys.modules)))\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HUBD_CONFIG": str(tmp_path / "none.toml")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_missing_file_and_an_unknown_option_are_2(tmp_path: Path) -> None:
    assert hubd(tmp_path, "run", "--config", str(tmp_path / "absent.toml")).returncode == 2
    assert hubd(tmp_path, "run", "--bogus").returncode == 2


def test_a_second_hub_on_the_same_data_is_refused(tmp_path: Path) -> None:
    places = {"HUBD_PATHS_DATA": str(tmp_path / "data"), "HUBD_PATHS_RUNTIME": str(tmp_path / "run")}
    with only_one(tmp_path / "data"):
        done = hubd(tmp_path, "run", **places)
    assert done.returncode == 1
    assert "hub.already_running" in done.stderr


def test_a_killed_hub_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, signal\nfrom hubd.cli.lock import only_one\n"
        "with only_one(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    signal.pause()\n"
    )
    with Child([sys.executable, "-c", code, tmp_path], env={"PYTHONPATH": str(ROOT)}) as holder:
        wait_for(lambda: "held" in holder.stdout(), 20, "the lock to be held")
        holder.kill()
        with only_one(tmp_path):
            pass


def test_a_data_directory_that_cannot_be_made_names_itself(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = hubd(tmp_path, "run", HUBD_PATHS_DATA=str(tmp_path / "file/data"), HUBD_PATHS_RUNTIME=str(tmp_path / "run"))
    assert done.returncode == 2
    assert "file/data cannot be used" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("config.unknown_key", "x"), 2),
        (ConfigError("config.port_taken", "x"), 1),
        (ConfigError("config.socket", "x"), 1),
        (StoreError("store.corrupt", "x"), 1),
    ],
)
def test_what_another_start_may_mend_is_1(error: ConfigError | StoreError, code: int) -> None:
    assert exit_code_of(error) == code


# -- a hub that runs ---------------------------------------------------------------------------------------------------

ALONE = """
[paths]
data = "{place}/data"
runtime = "{place}/run"
[api]
https_port = 0
http_port = 0
addresses = ["127.0.0.1"]
[probes]
gateway = "tcp://127.0.0.1:1"
dns_server = "127.0.0.1:1"
internet = ["tcp://127.0.0.1:1"]
[discovery]
mdns = false
"""


MANY_PROCESSES = pytest.mark.timeout(240)
"""A daemon and several commands in turn: three seconds of work, and a minute on a machine that has other work too."""


@MANY_PROCESSES
def test_a_hub_alone_starts_feeds_its_manager_answers_its_operator_and_stops_in_order(tmp_path: Path) -> None:
    """Without Internet, cloud or set-up: READY when the API answers, the watchdog fed, exit code 0 on SIGTERM."""
    config = tmp_path / "hubd.toml"
    config.write_text(ALONE.format(place=tmp_path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        environ = {
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "1500000",
        }
        with Child(
            [sys.executable, "-m", "hubd", "run", "--config", config], env=environ, stop_timeout_s=40
        ) as running:
            said = [manager.recv(4096).decode() for _ in range(4)]
            assert any(text.startswith("READY=1\nSTATUS=") for text in said)
            assert said.count("WATCHDOG=1") >= 2
            line = running.wait_for_text("hubd 0.1.0 trades.", 20)
            assert "https://localhost:" in line
            status = hubctl(tmp_path, "--config", str(config), "status", "--json")
            found = json.loads(status.stdout)
            assert found["reachable"] is True
            assert found["setup"]["done"] is False
            assert found["setup"]["code"]
            setup = hubctl(
                tmp_path,
                *("--config", str(config), "users", "setup", "--owner", "Ada", "--shop", "Corner", "--zone", "UTC"),
                *("--currency", "EUR", "--country", "FR"),
                stdin="2580\n2580\n",
            )
            assert "Corner is set up" in setup.stdout, setup.stderr
            people = json.loads(hubctl(tmp_path, "--config", str(config), "users", "list", "--json").stdout)
            assert [person["name"] for person in people["users"]] == ["Ada"]
            assert "2580" not in running.stderr() + running.stdout()
            manager.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while manager.recv(4096):  # the kernel queues ten; while hubctl ran, the watchdog's have filled it
                    pass
            assert running.stop() == 0
            manager.settimeout(5)
            assert any(manager.recv(4096).startswith(b"STOPPING=1") for _ in range(200))
        lines = [json.loads(text) for text in running.stderr().splitlines()]
        assert "hub.started" in [entry["message"] for entry in lines]
        assert lines[-1]["message"] == "hub.stopped"
    assert hubctl(tmp_path, "--config", str(config), "status").returncode == 3


def hubctl(where: Path, *args: str, stdin: str = "", terminal: int | None = None) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUBD_")}
    given = {"input": stdin} if terminal is None else {"stdin": terminal}
    return subprocess.run(
        [sys.executable, "-c", "from hubd.cli import main; main()", *args],
        cwd=where,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **given,
    )


@contextlib.contextmanager
def running_hubd(config: Path) -> Iterator[None]:
    """A hub's own process, until the block ends."""
    command = [sys.executable, "-m", "hubd", "run", "--config", str(config)]
    with Child(command, env={"PYTHONPATH": str(ROOT)}, stop_timeout_s=40) as running:
        running.wait_for_text("hubd 0.1.0 trades.", 40)
        yield
        assert running.stop() == 0


@MANY_PROCESSES
def test_the_recovery_code_is_shown_until_it_is_on_paper_and_made_anew_after_a_restart(tmp_path: Path) -> None:
    config = tmp_path / "hubd.toml"
    config.write_text(ALONE.format(place=tmp_path))
    owner = {"id": SystemIds().new_id(), "name": "Ada", "pin": "2580"}
    place = {"id": SystemIds().new_id(), "name": "Corner", "zone": "UTC", "currency": "EUR", "country": "FR"}

    def users(*words: str, typed: str | None = None) -> str:
        """What hubctl prints; `typed` by a person at a terminal, else a script runs it."""
        words = ("--config", str(config), "users", *words)
        done = hubctl(tmp_path, *words) if typed is None else at_a_terminal(tmp_path, typed, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with running_hubd(config):
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(tmp_path / "run/hubd.sock"))) as client:
            made = client.post("http://hub/v1/setup", json={"owner": owner, "location": place}).json()
        assert made["recovery_code"] in users("recovery-code", typed="n\n")
        assert made["recovery_code"] in users("recovery-code", "--new", typed="n\n"), "what is not lost stays"
    with running_hubd(config):
        assert "restarted" in users("recovery-code")
        shown = users("recovery-code", "--new", typed="n\n")
        assert made["recovery_code"] not in shown
        code = shown.partition("Recovery code: ")[2].split()[0]
        assert code in users("recovery-code", typed="y\n")
        assert code not in users("recovery-code")
        assert code not in users("recovery-code", "--new")


def at_a_terminal(where: Path, typed: str, *args: str) -> subprocess.CompletedProcess[str]:
    """hubctl with a person in front of it, who has typed ahead."""
    person, terminal = os.openpty()
    try:
        os.write(person, typed.encode())
        return hubctl(where, *args, terminal=terminal)
    finally:
        os.close(person)
        os.close(terminal)
