"""Each guard of tests/conftest.py catches what it is there for: it is shown what must fail, and what may pass."""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.tidy.tree import ROOT

SHOWN = """
import asyncio, logging, threading
import pytest
from hubd.runtime import read_boot_id

kept = []


def say(message, *args):
    logging.getLogger("hubd.shown").debug(message, *args)


async def test_blocking_call():
    read_boot_id()

async def test_blocking_call_that_the_code_swallows():
    try:
        read_boot_id()
    except Exception:
        pass

@pytest.mark.blocking_allowed("shown: a marked test may")
async def test_ok_marked_blocking_call():
    read_boot_id()

async def test_ok_blocking_call_in_a_thread():
    await asyncio.to_thread(read_boot_id)

async def test_task_left():
    kept.append(asyncio.ensure_future(asyncio.Event().wait()))

async def test_ok_task_cancelled():
    task = asyncio.ensure_future(asyncio.Event().wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

def test_thread_left():
    threading.Thread(target=threading.Event().wait, daemon=True).start()

def test_ok_thread_joined():
    thread = threading.Thread(target=print)
    thread.start()
    thread.join()

def test_log_call_broken():
    say("%d payments waiting", "three")

def test_ok_log_call():
    say("%d payments waiting", 3)

async def test_coroutine_never_awaited():
    asyncio.sleep(1)
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bool]:
    """Run the tests above under a copy of our configuration; name → passed."""
    where = tmp_path_factory.mktemp("guards")
    (where / "tests").mkdir()
    shutil.copy(ROOT / "pyproject.toml", where)
    shutil.copy(ROOT / "tests" / "conftest.py", where / "tests")
    (where / "tests" / "test_shown.py").write_text(SHOWN)
    report = where / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        f"--junitxml={report}",
        "tests",
    ]
    run = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=50, check=False)
    assert report.exists(), run.stdout + run.stderr
    passed = _read(report)
    assert len(passed) == SHOWN.count("def test_"), run.stdout
    return passed


def _read(report: Path) -> dict[str, bool]:
    passed: dict[str, bool] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        good = case.find("failure") is None and case.find("error") is None
        passed[case.attrib["name"]] = passed.get(case.attrib["name"], True) and good
    return passed


def test_every_guard_catches_what_it_is_shown(outcomes: dict[str, bool]) -> None:
    let_through = [name for name, passed in outcomes.items() if passed and not name.startswith("test_ok_")]
    assert let_through == []


def test_no_guard_stops_what_is_allowed(outcomes: dict[str, bool]) -> None:
    stopped = [name for name, passed in outcomes.items() if not passed and name.startswith("test_ok_")]
    assert stopped == []
