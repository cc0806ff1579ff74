"""The power-cut rig itself: it acquits a durable writer and convicts another, so its verdicts mean something."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.rigs import sqlite_writer
from tests.rigs.powercut import STEP_TIMEOUT_S, Keep, PowerCutDisk, Unmountable, run_and_cut, sweep
from tests.rigs.process import Child, wait_for

CONTROL_CUTS = 3
ROWS_BEFORE_CONTROL_CUT = "150 "


def writer(synchronous: str, seed: int) -> Callable[[Path], Sequence[str | Path]]:
    """The command line of the writer for a given mount point."""
    program = Path(sqlite_writer.__file__)
    return lambda mount: [sys.executable, program, mount / "paid.db", synchronous, str(seed)]


def survivors(disk: PowerCutDisk) -> set[int]:
    """Power on again and read what is there; a file system or database that does not open has lost everything."""
    try:
        with disk.powered() as mount, closing(sqlite3.connect(mount / "paid.db")) as db:
            if db.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                return set()
            return {number for (number,) in db.execute("SELECT number FROM paid")}
    except (sqlite3.DatabaseError, Unmountable):
        return set()


@pytest.mark.parametrize(("keep", "after"), [("none", 30), ("subset", 17), ("torn", 45)])
def test_what_a_durable_writer_acknowledged_survives_the_cut(keep: Keep, after: int) -> None:
    with PowerCutDisk() as disk:
        acknowledged: set[int] = set()
        for seed in (1, 2):
            cut, texts = run_and_cut(disk, writer("FULL", seed), keep=keep, seed=seed, at="flush", after=after)
            acknowledged |= {int(text) for text in texts}
            assert cut.unflushed > 0, "the cut found nothing unflushed, so it proved nothing"
            assert texts, "the cut came before anything was acknowledged"
            found = survivors(disk)
            assert acknowledged - found == set()
            acknowledged = found


def test_the_control_without_flushes_loses_what_it_acknowledged() -> None:
    losing_cuts = 0
    for seed in range(CONTROL_CUTS):
        with PowerCutDisk() as disk:
            _, texts = run_and_cut(
                disk, writer("OFF", seed), keep="none", seed=seed, at="now", ready_text=ROWS_BEFORE_CONTROL_CUT
            )
            losing_cuts += bool({int(text) for text in texts} - survivors(disk))
    assert losing_cuts > 0, "the rig cannot tell a writer that never flushes from one that does"


def test_a_killed_test_run_is_cleaned_up_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mounts stay behind and stop answering; the next run takes them away."""
    program = (
        "import sys, signal; sys.path.insert(0, sys.argv[1]); from tests.rigs.powercut import PowerCutDisk\n"
        "with PowerCutDisk() as disk, disk.powered() as mount: print(mount, flush=True); signal.pause()"
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def swept() -> bool:
        sweep()
        return not mount.parent.exists()

    with Child([sys.executable, "-c", program, Path.cwd()], env={"TMPDIR": str(tmp_path)}) as killed:
        mount = Path(killed.wait_for_text("/", STEP_TIMEOUT_S))
        assert os.path.ismount(mount)
        killed.kill()
    wait_for(swept, STEP_TIMEOUT_S, "the sweep")
    with open("/proc/mounts", encoding="utf-8") as mounts:
        assert str(mount.parent) not in mounts.read()


def test_an_orderly_shutdown_keeps_even_what_was_never_flushed() -> None:
    """The loss above is the cut's doing: the same disk, unmounted in order, keeps a file nobody synced."""
    with PowerCutDisk() as disk:
        with disk.powered() as mount:
            (mount / "unsynced").write_text("still here", encoding="ascii")
        with disk.powered() as mount:
            assert (mount / "unsynced").read_text(encoding="ascii") == "still here"
