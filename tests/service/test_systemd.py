"""hubd under a real systemd, installed as systemd/README.md says: started, queried, hung, killed, stopped.

One machine is booted for the module; every test begins with a running hub and may do what it likes to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.rigs.nspawn import Nspawn, add_project, set_up
from tests.rigs.process import RigError, wait_for

CONFIG = "/etc/hubd/hubd.toml"
# Everything by default; tests that need a wrong file write one.
CONFIG_TEXT = "# All defaults.\n"
# The shipped 30 s would only make the tests slow; what is tested is that the daemon feeds it and what happens if not.
SHORT_WATCHDOG = "[Service]\nWatchdogSec=4\n"
# Restarts take their time, and another container on this machine is waited for.
pytestmark = pytest.mark.timeout(240)
START_TIMEOUT_S = 60.0
RESTART_TIMEOUT_S = 40.0
LAN_ADDRESS = "10.99.0.1"


@pytest.fixture(scope="module")
def machine() -> Iterator[Nspawn]:
    """A machine with the hub installed and not yet started."""
    nspawn = Nspawn()
    add_project(nspawn)
    nspawn.add_file(CONFIG, CONFIG_TEXT, 0o640)
    nspawn.add_file("/etc/systemd/system/hubd.service.d/watchdog.conf", SHORT_WATCHDOG)
    with nspawn:
        set_up(nspawn)
        # The container's network is its own and has a loopback only: an address that is not 127.* stands for the LAN.
        nspawn.sh(f"ip address add {LAN_ADDRESS}/24 dev lo")
        yield nspawn


@pytest.fixture
def hub(machine: Nspawn) -> Nspawn:
    """The machine with the hub running, and the start limit's memory emptied."""
    machine.sh("systemctl reset-failed hubd || true")
    try:
        machine.sh("systemctl start hubd", timeout_s=START_TIMEOUT_S)
    except RigError as exc:
        raise RigError(f"{exc}\n{machine.journal_text('hubd')}") from None
    return machine


def main_pid(hub: Nspawn) -> int:
    """The daemon's process id inside the container."""
    return int(hub.show("hubd", "MainPID")["MainPID"])


def restarts(hub: Nspawn) -> int:
    """How often systemd has restarted the hub since it was last started by hand."""
    return int(hub.show("hubd", "NRestarts")["NRestarts"])


def http_status(hub: Nspawn, address: str) -> str:
    """Status code of one request, without a retry; 000 when nobody listens."""
    ask = f"curl --silent --insecure --max-time 10 --output /dev/null --write-out '%{{http_code}}' {address}"
    return hub.sh(ask, check=False).stdout


def wait_for_restart(hub: Nspawn, before: int) -> None:
    """Wait until systemd has restarted the hub and it is ready again."""
    wait_for(lambda: restarts(hub) > before, RESTART_TIMEOUT_S, "a restart by systemd")
    hub.wait_for_state("hubd", "active", RESTART_TIMEOUT_S)


def test_ready_means_that_the_api_answers_and_status_says_how_it_is(hub: Nspawn) -> None:
    hub.sh("systemctl restart hubd", timeout_s=START_TIMEOUT_S)  # returns with READY
    assert http_status(hub, "https://127.0.0.1:8443/healthz") == "200"
    shown = hub.show("hubd", "ActiveState", "SubState", "StatusText")
    assert (shown["ActiveState"], shown["SubState"]) == ("active", "running")
    assert shown["StatusText"] != ""


def test_tills_and_the_lamp_reach_it_over_the_lan(hub: Nspawn) -> None:
    assert http_status(hub, f"https://{LAN_ADDRESS}:8443/healthz") == "200"
    assert http_status(hub, f"http://{LAN_ADDRESS}:8080/") == "200"


def test_hubctl_answers_on_the_operators_socket(hub: Nspawn) -> None:
    done = hub.sh("/opt/hubd/bin/hubctl status --json", check=False)
    # 1 is "reached, and not healthy": a hub fresh from the box has neither terminal nor backup.
    assert done.returncode in (0, 1), done
    assert isinstance(json.loads(done.stdout)["schema"], int)


def test_hubctl_says_that_a_stopped_hub_is_not_reachable(hub: Nspawn) -> None:
    hub.sh("systemctl stop hubd", timeout_s=START_TIMEOUT_S)
    done = hub.sh("/opt/hubd/bin/hubctl status", check=False)
    assert done.returncode == 3, done
    assert "systemctl" in done.stdout + done.stderr, "it does not say what to type next"


def test_hubctl_refuses_the_removal_of_a_hub_that_runs_and_of_one_that_nobody_has_confirmed(hub: Nspawn) -> None:
    """As root, who goes on as the service user to read the store."""
    running = hub.sh("hubctl removable", check=False)
    assert running.returncode == 1
    assert "The hub runs" in running.stdout
    hub.sh("systemctl stop hubd")
    stopped = hub.sh("hubctl removable", check=False)
    assert stopped.returncode == 1
    assert "The hub runs" not in stopped.stdout
    assert "The cloud has not confirmed" in stopped.stdout


def test_it_runs_as_its_own_user_without_any_capability(hub: Nspawn) -> None:
    status = hub.sh(f"cat /proc/{main_pid(hub)}/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    user_id = hub.sh("id -u hubd").stdout.strip()
    assert fields["Uid"].split() == [user_id] * 4
    assert {fields[f"Cap{kind}"] for kind in ("Eff", "Prm", "Bnd", "Amb")} == {"0" * 16}
    assert fields["NoNewPrivs"].strip() == "1"
    groups = set(hub.sh("id -Gn hubd").stdout.split())
    assert groups == {"hubd", "dialout", "lp"}


def test_its_data_is_closed_to_other_users(hub: Nspawn) -> None:
    assert hub.sh("stat -c '%U %a' /var/lib/hubd").stdout.strip() == "hubd 700"
    assert hub.sh("stat -c '%U:%G %a' /etc/hubd /etc/hubd/hubd.toml").stdout.split() == [
        "root:hubd",
        "750",
        "root:hubd",
        "640",
    ]
    loose = hub.sh("find /var/lib/hubd -type f -perm /077").stdout
    assert loose == ""


@pytest.mark.parametrize("place", ["/etc", "/usr/lib", "/opt/hubd", "/sys/kernel", "/root", "/home"])
def test_the_sandbox_keeps_it_from_writing_elsewhere(hub: Nspawn, place: str) -> None:
    """Tried as root inside the daemon's own view of the files, so not even a stolen root could."""
    inside = f"nsenter -t {main_pid(hub)} -m --"
    assert hub.sh(f"{inside} touch /var/lib/hubd/.writable && {inside} rm /var/lib/hubd/.writable").returncode == 0
    assert hub.sh(f"{inside} touch {place}/hubd-was-here", check=False).returncode != 0


def test_its_log_reaches_the_journal_with_fields(hub: Nspawn) -> None:
    # Its own records only, not those of the manager about it.
    records = [r for r in hub.journal("hubd") if r.get("_SYSTEMD_UNIT") == "hubd.service"]
    fields = {name for record in records for name in record if name.startswith("HUBD_")}
    assert fields, records[-3:]


def test_a_hung_hub_is_killed_by_the_watchdog_and_started_again(hub: Nspawn) -> None:
    before, pid = restarts(hub), main_pid(hub)
    hub.sh(f"kill -STOP {pid}")
    wait_for_restart(hub, before)
    assert main_pid(hub) != pid
    messages = "\n".join(record.get("MESSAGE", "") for record in hub.journal("hubd"))
    assert "Failed with result 'watchdog'" in messages
    assert "Fatal Python error: Aborted" in messages, "no stack in the journal: nobody could tell where it hung"
    assert http_status(hub, "https://127.0.0.1:8443/healthz") == "200"


def test_a_busy_hub_is_left_alone_by_the_watchdog(hub: Nspawn) -> None:
    """The daemon feeds the watchdog: it outlives several periods, with a start of its own in the journal only once."""
    before, pid = restarts(hub), main_pid(hub)
    limit_us = int(hub.sh("systemctl show hubd -p WatchdogUSec --value").stdout.strip().removesuffix("s")) * 1_000_000
    first = int(hub.show("hubd", "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"])

    def fed_for_two_periods() -> bool:
        now = int(hub.show("hubd", "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"])
        return now - first > 2 * limit_us

    wait_for(fed_for_two_periods, 4 * limit_us / 1_000_000, "the watchdog to be fed for two periods", interval_s=0.2)
    assert (restarts(hub), main_pid(hub)) == (before, pid)


def test_a_killed_hub_comes_back_with_its_data(hub: Nspawn) -> None:
    kept_files = "find /var/lib/hubd -type f -size +0 ! -name '*-wal' ! -name '*-shm' -printf '%i %P\\n'"
    files = set(hub.sh(kept_files).stdout.splitlines())
    assert files, "the hub has written nothing, so nothing could be kept"
    before = restarts(hub)
    hub.sh(f"kill -KILL {main_pid(hub)}")
    wait_for_restart(hub, before)
    assert files - set(hub.sh(kept_files).stdout.splitlines()) == set()
    hub.sh("/opt/hubd/bin/hubctl journal verify")
    assert http_status(hub, "https://127.0.0.1:8443/healthz") == "200"


def manager_messages(hub: Nspawn, text: str) -> int:
    """How many records of the unit hold `text`; asked of the journal, since systemd forgets a unit that is inactive."""
    return sum(text in record.get("MESSAGE", "") for record in hub.journal("hubd"))


def test_a_stopped_hub_ends_by_itself_and_in_order(hub: Nspawn) -> None:
    in_order = manager_messages(hub, "Deactivated successfully")
    timed_out = manager_messages(hub, "timed out")
    hub.sh("systemctl stop hubd", timeout_s=START_TIMEOUT_S)
    hub.wait_for_state("hubd", "inactive", RESTART_TIMEOUT_S)
    assert manager_messages(hub, "Deactivated successfully") == in_order + 1
    assert manager_messages(hub, "timed out") == timed_out, "it was not ended by itself but by systemd's patience"
    assert http_status(hub, "https://127.0.0.1:8443/healthz") == "000"


def test_a_wrong_configuration_is_said_once_and_not_retried(hub: Nspawn) -> None:
    hub.sh("systemctl stop hubd", timeout_s=START_TIMEOUT_S)
    hub.path(CONFIG).write_text("[nonsense]\nkey = 1\n", encoding="ascii")
    try:
        with pytest.raises(RigError):
            hub.sh("systemctl start hubd", timeout_s=START_TIMEOUT_S)
        shown = hub.show("hubd", "ActiveState", "NRestarts", "ExecMainStatus")
        assert shown == {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "2"}
        assert "nonsense" in "\n".join(r.get("MESSAGE", "") for r in hub.journal("hubd"))
    finally:
        hub.path(CONFIG).write_text(CONFIG_TEXT, encoding="ascii")


def test_systemd_finds_no_fault_in_the_installed_unit(hub: Nspawn) -> None:
    done = hub.sh("systemd-analyze verify hubd.service 2>&1")
    assert [line for line in done.stdout.splitlines() if "hubd" in line] == []
    assert hub.sh("systemctl enable hubd 2>&1 && systemctl is-enabled hubd").stdout.splitlines()[-1] == "enabled"


def rule_complaints(hub: Nspawn) -> list[str]:
    """What udev says about lines of rule files when it reads them."""
    text = hub.sh("udevadm test --action=add /sys/class/mem/null 2>&1", check=False).stdout
    return re.findall(r"^\S*/etc/udev/rules\.d/[\w.-]+\.rules:\d+.*$", text, re.MULTILINE)


def test_udev_reads_the_rules_without_complaint(hub: Nspawn) -> None:
    assert rule_complaints(hub) == []
    wrong = hub.path("/etc/udev/rules.d/61-wrong.rules")
    wrong.write_text('SUBSYSTEM=="tty", NONSENSE="1"\n', encoding="ascii")
    try:
        assert len(rule_complaints(hub)) == 1, "udev's complaints are not seen by this test"
    finally:
        wrong.unlink()
