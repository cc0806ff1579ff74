"""`hubctl removable`: a hub is taken out of service only when nothing would be lost with it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hubd.cli.lock import only_one
from hubd.model.entry import Draft
from hubd.store import cursors, journal
from hubd.store.cursors import Cursor
from hubd.store.db import open_database
from hubd.store.tx import Tx
from tests.rigs.dead_hub import MAIN, PAYMENTS, as_json, hubctl, settings_of
from tests.tidy.tree import ROOT
from tests.unit.store import journals

UNKNOWN = "01900000-0000-7000-8000-00000000ffff"
OUTAGE = "01900000-0000-7000-8000-00000000eeee"
RESOLVED = [journals.moved(UNKNOWN, "unknown"), Draft("payment.resolved", UNKNOWN, "staff:m", {"manual": "success"})]


async def go_on(data: Path, *drafts: Draft, confirmed: bool = True) -> None:
    """The hub runs for a moment: it writes these entries, and the cloud confirms what there is."""

    def work(tx: Tx) -> None:
        for draft in drafts:
            journal.append(tx, draft)
        if confirmed:
            cursors.put(tx, cursors.CONFIRMED, Cursor(tx.head.line, tx.head.seq, tx.head.hash))

    async with open_database(data / "hub.db", journals.runtime()) as db:
        await db.write("go on", work)


def outage_with_a_terminal(*ends: str) -> list[Draft]:
    """An outage in which a terminal took a payment, and what became of it."""
    begun = {"cause": "network_outage", "started_at_us": 1, "started_mono_ms": 1}
    over = {"cause": "network_outage", "ended_at_us": 2}
    used: dict[str, Any] = {"outage": OUTAGE, "terminal": "t1"}
    card = "01900000-0000-7000-8000-00000000dddd"
    return [
        Draft("outage.opened", OUTAGE, "hub", begun),
        journals.card_request(card, **used),
        *(journals.moved(card, end, **used) for end in ("started", *ends)),
        Draft("outage.closed", OUTAGE, "hub", over),
    ]


@pytest.mark.parametrize(
    ("drafts", "confirmed", "in_the_way"),
    [
        (RESOLVED, False, ["cloud"]),
        ([], True, ["outcome"]),
        ([journals.moved(UNKNOWN, "unknown")], True, ["outcome"]),
        ([journals.moved(UNKNOWN, step) for step in ("stored", "forwarding", "forwarded")], True, ["custody"]),
        ([*RESOLVED, *outage_with_a_terminal("approved")], True, ["terminals"]),
        ([*RESOLVED, journals.moved(UNKNOWN, "conflicted")], True, ["outcome"]),
        (RESOLVED, True, []),
    ],
    ids=["unconfirmed", "requested", "unknown", "in a terminal", "unheard", "contradicted", "nothing"],
)
async def test_a_hub_is_removable_only_when_nothing_would_be_lost_with_it(
    data: Path, drafts: list[Draft], confirmed: bool, in_the_way: list[str]
) -> None:
    await go_on(data, *drafts, confirmed=confirmed)
    before = (data / "hub.db").read_bytes()
    done = hubctl(data, "removable", "--json")
    found = as_json(done)
    assert [finding["check"] for finding in found["in_the_way"]] == in_the_way
    assert (done.returncode, found["removable"]) == ((1, False) if in_the_way else (0, True))
    assert all(finding["text"] and finding["remedy"] for finding in found["in_the_way"])
    assert (data / "hub.db").read_bytes() == before, "looking must not write"


def test_why_a_hub_is_not_removable_is_said_with_each_payment(data: Path) -> None:
    done = hubctl(data, "removable")
    assert done.returncode == 1
    assert f"has not confirmed {PAYMENTS + 3} entries, {PAYMENTS + 1} payments among them" in done.stdout
    assert "keep its data directory" in done.stdout
    assert "12.50 EUR" in done.stdout
    assert UNKNOWN in done.stdout


@pytest.mark.blocking_allowed("it holds the lock that a running hub holds")
async def test_a_hub_that_runs_is_not_removable(data: Path) -> None:
    await go_on(data, *RESOLVED)
    with only_one(data):
        assert [finding["check"] for finding in as_json(hubctl(data, "removable", "--json"))["in_the_way"]] == ["hub"]
    assert hubctl(data, "removable").returncode == 0


def test_who_may_not_look_whether_a_hub_runs_is_not_told_that_none_does(data: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from hubd.cli.lock import is_held\n"
        "os.seteuid(65534)\n"
        "print(is_held(pathlib.Path(sys.argv[1])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(data)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_where_no_store_is_nothing_may_be_removed(tmp_path: Path) -> None:
    """The path may be wrong."""
    done = hubctl(tmp_path / "elsewhere", "removable")
    assert done.returncode == 1
    assert "store.absent" in done.stderr


def test_the_removal_in_the_manual_stops_where_something_would_be_lost(data: Path, tmp_path: Path) -> None:
    """The steps of systemd/README.md, as they stand there, on a machine that is a directory."""
    section = (ROOT / "systemd/README.md").read_text("utf-8").partition("\n## Remove\n")[2]
    steps = section.partition("```sh\n")[2].partition("```")[0]
    machine, programs = tmp_path / "machine", tmp_path / "bin"
    for place in ("etc/hubd", "etc/systemd/system", "opt/hubd", "media/STICK"):
        (machine / place).mkdir(parents=True)
    programs.mkdir()
    hubctl_line = f'exec {sys.executable} -c "{MAIN}" "$@"'
    noted = f'echo "$1" >>{tmp_path}/asked'
    for name, line in (("systemctl", noted), ("udevadm", "exit 0"), ("hubctl", hubctl_line)):
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    steps = re.sub(r"(?<=\s)/(etc|usr|opt|media)/", rf"{machine}/\1/", steps.replace("/var/lib/hubd", str(data)))
    ours = (f"{machine}/", f"{data}", f"{programs}/")
    strangers = [path for path in re.findall(r"(?<![\w.])/[^\s;|&)]+", steps) if not path.startswith(ours)]
    assert strangers == [], "followed, they would delete from the machine that runs this test"
    environ = {**os.environ, **settings_of(data), "PATH": f"{programs}:/usr/bin:/bin", "PYTHONPATH": str(ROOT)}

    def follow() -> list[str]:
        """What systemd is asked for."""
        (tmp_path / "asked").write_text("", "utf-8")
        subprocess.run(["sh", "-c", steps], env=environ, timeout=60, check=False, capture_output=True)
        return (tmp_path / "asked").read_text("utf-8").split()

    assert follow() == ["disable", "enable"], "the shop's hub goes on"
    assert (data / "hub.db").exists()
    assert (machine / "opt/hubd").exists()
    asyncio.run(go_on(data, *RESOLVED))
    assert follow() == ["disable", "daemon-reload"]
    assert not data.exists()
    assert not (machine / "opt/hubd").exists()
    assert list((machine / "media/STICK").glob("*.hubbackup"))
