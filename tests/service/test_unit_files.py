"""What can be said of the files in systemd/ without starting anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rigs.process import require_tool, run
from tests.rigs.staged import REPOSITORY

SYSTEMD = REPOSITORY / "systemd"
UNIT = SYSTEMD / "hubd.service"
EXPOSURE_MAX_TENTHS = 20


def exposure_check(unit: Path) -> int:
    """Exit code of systemd's own judgement of a unit's exposure."""
    analyze = require_tool("systemd-analyze", "systemd")
    return run(
        analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX_TENTHS}", unit, check=False
    ).returncode


def test_exposure_is_at_most_2_0() -> None:
    assert exposure_check(UNIT) == 0


def test_the_exposure_check_can_fail(tmp_path: Path) -> None:
    open_unit = tmp_path / "hubd.service"
    open_unit.write_text(UNIT.read_text(encoding="utf-8").replace("ProtectSystem=strict", ""), encoding="utf-8")
    weaker = open_unit.read_text(encoding="utf-8").replace("CapabilityBoundingSet=", "")
    open_unit.write_text(weaker.replace("SystemCallFilter=", "#"), encoding="utf-8")
    assert exposure_check(open_unit) != 0


def settings_without_reason(text: str) -> list[str]:
    """Lines of the [Service] section that no comment directly above explains."""
    section, explained, found = "", False, []
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#") and not explained:
            found.append(line)
        explained = line.startswith("# ") and not line.startswith("# --")
    return found


def test_every_line_of_the_service_has_its_reason() -> None:
    assert settings_without_reason(UNIT.read_text(encoding="utf-8")) == []


def test_a_line_without_reason_is_found() -> None:
    text = "[Service]\n# Because.\nUser=hubd\nPrivateTmp=yes\n# -- heading ----\nProtectHome=yes\n"
    assert settings_without_reason(text) == ["PrivateTmp=yes", "ProtectHome=yes"]


@pytest.mark.parametrize("forbidden", ["IPAddressDeny=", "PrivateNetwork=yes", "PrivateDevices=yes", "User=root"])
def test_the_unit_does_not_cut_the_hub_off(forbidden: str) -> None:
    settings = [line for line in UNIT.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert [line for line in settings if line.startswith(forbidden)] == []


def test_there_is_no_socket_activation() -> None:
    """A dead hub must refuse at once, not let systemd accept and keep a till waiting."""
    assert list(SYSTEMD.glob("*.socket")) == []
