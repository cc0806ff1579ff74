"""Every codec is fed what no device sends, each in its own process; and what is broken on purpose is found."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.fuzz.plants import PLANTS
from tests.fuzz.targets import TARGETS, seeds

SOAK = bool(os.environ.get("HUBD_SOAK"))
pytestmark = pytest.mark.timeout(900 if SOAK else 60)
LENGTH = ["--seconds=300"] if SOAK else ["--runs=60"]
LED = platform.machine() == "x86_64"
"""The fuzzer has wheels for it alone; elsewhere the seeds are fed."""


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=800 if SOAK else 50, check=False)


@pytest.mark.parametrize("name", TARGETS)
def test_a_codec_keeps_its_promises(name: str) -> None:
    if LED:
        done = fuzz(name, *LENGTH)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        assert "Done" in done.stderr
    else:
        for seed in seeds(name):
            TARGETS[name](seed)


@pytest.mark.parametrize("plant", PLANTS if LED else ())
def test_what_is_broken_on_purpose_is_found(plant: str) -> None:
    done = fuzz(PLANTS[plant][0], f"--plant={plant}", "--runs=5000")
    assert done.returncode == 77, done.stderr[-4000:]
    assert PLANTS[plant][2] in done.stdout + done.stderr
