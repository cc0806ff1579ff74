"""The systemd rig itself, with a few lines of shell as the service: it really watches, kills and restarts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.rigs.nspawn import Nspawn
from tests.rigs.process import RigError, wait_for

# A service that feeds its watchdog until somebody creates /run/hang.
NOTIFIER = """#!/bin/sh
systemd-notify --ready --status="fed"
while :; do
    [ -e /run/hang ] || systemd-notify WATCHDOG=1
    /bin/sleep 0.2
done
"""
UNIT = """[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/local/bin/notifier
WatchdogSec=2
Restart=always
RestartSec=0
TimeoutStartSec=2
"""
SILENT_UNIT = UNIT.replace("/usr/local/bin/notifier", "/bin/sleep 1000").replace("Restart=always", "Restart=no")
STEP_TIMEOUT_S = 20.0
# Another container on this machine is waited for.
pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def machine() -> Iterator[Nspawn]:
    """One booted machine for all tests here."""
    nspawn = Nspawn()
    nspawn.add_file("/usr/local/bin/notifier", NOTIFIER, 0o755)
    nspawn.add_file("/etc/systemd/system/rig.service", UNIT)
    nspawn.add_file("/etc/systemd/system/silent.service", SILENT_UNIT)
    with nspawn:
        yield nspawn


def test_pid_1_is_a_systemd_of_its_own(machine: Nspawn) -> None:
    assert machine.sh("cat /proc/1/comm").stdout.strip() == "systemd"
    assert machine.sh("readlink /proc/1/ns/pid").stdout.strip() != os.readlink("/proc/self/ns/pid")


def test_a_service_that_stops_feeding_its_watchdog_is_restarted(machine: Nspawn) -> None:
    machine.sh("systemctl start rig")
    assert machine.show("rig", "StatusText") == {"StatusText": "fed"}
    machine.path("/run/hang").touch()
    wait_for(lambda: machine.show("rig", "NRestarts")["NRestarts"] != "0", STEP_TIMEOUT_S, "a restart")
    machine.path("/run/hang").unlink()
    machine.wait_for_state("rig", "active", STEP_TIMEOUT_S)
    assert any("Watchdog timeout" in record.get("MESSAGE", "") for record in machine.journal("rig"))


def test_a_service_that_is_never_ready_fails_to_start(machine: Nspawn) -> None:
    with pytest.raises(RigError, match="silent"):
        machine.sh("systemctl start silent")
    assert machine.show("silent", "Result") == {"Result": "timeout"}


def test_nothing_inside_changes_this_machine(machine: Nspawn) -> None:
    machine.sh("echo changed > /etc/hubd-rig-was-here")
    assert machine.path("/etc/hubd-rig-was-here").exists()
    assert not os.path.exists("/etc/hubd-rig-was-here")
