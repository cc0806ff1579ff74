"""One of thirty devices talks as fast as its line takes it: it is shown, and everybody else goes on.

How little they notice of it is measured by `bench/devices.py`, whose shop this is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240.0


@pytest.mark.timeout(300)
def test_a_babbling_device_is_shown_and_the_shop_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.devices", "attempt", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    shown = json.loads(done.stdout.splitlines()[-1])
    assert shown["serial_scanner"] == shown["escpos"] == "babble"
    assert shown["zvt"]
