"""What `60-hubd.rules` gives the unprivileged service user: every node that a built-in driver opens, and no keyboard.

udev itself reads the rules, with the distribution's own around them, about devices of a mocked bus. The rules and the
group `hubd` are put in place in a mount namespace of the test's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from msgspec import Struct

from drivers.registry import load
from tests.rigs.process import require_tool, run
from tests.rigs.staged import REPOSITORY
from tests.rigs.usb_bus import ROOT, device, node

RULES = REPOSITORY / "systemd/60-hubd.rules"
SYSUSERS = REPOSITORY / "systemd/hubd.sysusers"
GROUP_ID = 64_123
"""Of `hubd` in the namespace."""
SCANNER_VENDOR, UNKNOWN_VENDOR = "0c2e", "1234"
POS = {"bInterfaceClass": "03", "bInterfaceProtocol": "00"}
KEYBOARD = {"bInterfaceClass": "03", "bInterfaceProtocol": "01"}
PRINTER = {"bInterfaceClass": "07", "bInterfaceProtocol": "02"}

LINES = {
    "zvt": {"serial"}, "concert": {"serial"}, "cas": {"serial"}, "cas_stream": {"serial"}, "toledo8217": {"serial"},
    "serial_scanner": {"serial"}, "escpos": {"serial", "lp"}, "hid_scanner": {"hidraw"}, "keyboard_scanner": {"evdev"},
    "gsm_modem": {"serial"}, "caisse_ap": set(), "ipp": set(), "nexo": set(), "opi": set(), "poslink": set(),
}  # fmt: skip
"""The kinds of nodes that each built-in driver opens; those without any speak over the network alone."""


class Given(Struct, frozen=True):
    """A node and what the rules must say of it; an empty group means that they must not open it."""

    kind: str
    described: str
    path: str
    group: str


def plugged(
    kind: str,
    subsystem: str,
    name: str,
    dev: str,
    group: str,
    of_interface: Mapping[str, str] = MappingProxyType({}),
    *,
    vendor: str = SCANNER_VENDOR,
    properties: Mapping[str, str] = MappingProxyType({}),
) -> Given:
    """A node of a USB device, with a device number: without one udev gives it no group."""
    number = {"MAJOR": "240", "MINOR": "0", **properties}
    described = device("1-1", vendor, "0001")
    described += node("1-1", 0, subsystem, name, dev, of_interface=of_interface, more=number)
    return Given(kind, described, f"{ROOT}/1-1/1-1:1.0/{subsystem}/{name}", group)


def on_board(name: str) -> Given:
    """A serial line of the machine itself."""
    path = f"/devices/platform/serial8250/tty/{name}"
    told = f"N: {name}\nE: DEVNAME=/dev/{name}\nE: SUBSYSTEM=tty\nE: MAJOR=240\nE: MINOR=0\n\n"
    return Given("serial", f"P: {path}\n{told}", path, "dialout")


NODES = {
    "ttyACM": plugged("serial", "tty", "ttyACM0", "ttyACM0", "dialout"),
    "ttyUSB": plugged("serial", "tty", "ttyUSB0", "ttyUSB0", "dialout"),
    "ttyS": on_board("ttyS0"),
    "ttyAMA": on_board("ttyAMA0"),
    "usblp": plugged("lp", "usbmisc", "lp0", "usb/lp0", "lp", PRINTER),
    "hid-pos": plugged("hidraw", "hidraw", "hidraw0", "hidraw0", "hubd", POS),
    "scanner-keyboard": plugged("evdev", "input", "event7", "input/event7", "hubd", KEYBOARD),
}
CLOSED = {
    "keyboard-raw": plugged("hidraw", "hidraw", "hidraw1", "hidraw1", "", KEYBOARD, vendor=UNKNOWN_VENDOR),
    "security-token": plugged("hidraw", "hidraw", "hidraw2", "hidraw2", "", POS, properties={"ID_SECURITY_TOKEN": "1"}),
    "keyboard": plugged("evdev", "input", "event8", "input/event8", "", KEYBOARD, vendor=UNKNOWN_VENDOR),
}


def said_of(given: Given, folder: Path, rules: str) -> dict[str, str]:
    """Group and mode that our rules give a node, as udev tells it; empty when they give none."""
    require_tool("udevadm", "udev")
    ours, groups, described = folder / "rules.d", folder / "group", folder / "bus.umockdev"
    ours.mkdir(exist_ok=True)
    (ours / RULES.name).write_text(rules, "utf-8")
    groups.write_text(Path("/etc/group").read_text("utf-8") + f"hubd:x:{GROUP_ID}:\n", "utf-8")
    described.write_text(given.described, "utf-8")
    script = (
        f"mount --bind {ours} /etc/udev/rules.d && mount --bind {groups} /etc/group && "
        "mount -t tmpfs none /run && "
        f"{require_tool('umockdev-run', 'umockdev')} -d {described} -- "
        f"udevadm test --action=add /sys{given.path} 2>&1"
    )
    text = run(require_tool("unshare", "util-linux"), "--mount", "sh", "-c", script).stdout
    assert f"DEVPATH={given.path}" in text, text
    return dict(re.findall(rf"{RULES.name}:\d+ (GROUP|MODE) (\d+)$", text, re.MULTILINE))


def group_id(name: str) -> str:
    """Its number in the namespace."""
    known = re.search(rf"^{name}:[^:]*:(\d+):", Path("/etc/group").read_text("utf-8"), re.MULTILINE)
    return str(GROUP_ID) if name == "hubd" else known[1] if known else ""


def test_every_built_in_driver_and_every_kind_of_node_is_looked_at() -> None:
    assert set(LINES) == {entry.manifest.id for entry in load().entries if entry.manifest is not None}
    assert set.union(*LINES.values()) == {given.kind for given in NODES.values()}
    members = re.findall(r"^m\s+hubd\s+(\w+)", SYSUSERS.read_text("utf-8"), re.MULTILINE)
    assert {given.group for given in NODES.values()} == {"hubd", *members}, "the user is in the groups, and in no other"


@pytest.mark.parametrize("name", sorted(NODES))
def test_the_service_user_may_open_what_a_driver_opens(name: str, tmp_path: Path) -> None:
    given = NODES[name]
    wanted = {"GROUP": group_id(given.group), "MODE": "0660"}
    assert wanted["GROUP"]
    assert said_of(given, tmp_path, RULES.read_text("utf-8")) == wanted
    assert said_of(given, tmp_path, "# none\n") == {}, "without the rules this test must fail"


@pytest.mark.parametrize("name", sorted(CLOSED))
def test_keyboards_and_security_tokens_stay_closed(name: str, tmp_path: Path) -> None:
    given = CLOSED[name]
    assert said_of(given, tmp_path, RULES.read_text("utf-8")) == {}
    open_wide = f'SUBSYSTEM=="{"input" if given.kind == "evdev" else "hidraw"}", GROUP="hubd", MODE="0660"\n'
    assert said_of(given, tmp_path, open_wide) != {}, "a rule that opens it is not seen"
