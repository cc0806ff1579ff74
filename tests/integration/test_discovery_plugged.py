"""USB devices and serial lines, plugged and pulled on a mocked bus that udev and libusb believe in."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from hubd.cli.client import Client
from tests.rigs.hid_descriptors import BOOT_KEYBOARD, KEYS_AND_MOUSE, POS_SCANNER
from tests.rigs.process import Child, free_port, wait_for
from tests.rigs.usb_bus import ROOT, UsbBus, device, hid, hid_paths, node, paths

SEEN_WITHIN_S = 10.0
"""What a test waits for at most; how quick it is, is in bench/ and below, by the stopwatch of two processes."""
PLUG_S, PULL_S = 2.0, 1.0
"""From the plug to the endpoint, from the pull to its end (issue: plug to page, unplug to page)."""
VERIFONE = device("1-1", "11ca", "0300", number="SN-ACM-1", maker="VeriFone", model="V200c_Plus", interfaces=":020201:")
IDENTITY = "serial:11ca:0300:SN-ACM-1:00"
LINE = node("1-1", 0, "tty", "ttyACM0", "ttyACM0", links="/dev/serial/by-id/usb-VeriFone_V200c_Plus_SN-ACM-1-if00")


class Watcher:
    """A process that looks at the bus, and what it has said."""

    def __init__(self, child: Child) -> None:
        self._child = child

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._child.stdout().splitlines() if line.startswith("{")]

    def present(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for one in self.said():
            if "appeared" in one:
                found[one["appeared"]["key"]] = one["appeared"]
            else:
                found.pop(one["vanished"], None)
        return found

    def until(self, count: int) -> list[dict[str, Any]]:
        """What is present once that many endpoints are."""
        wait_for(lambda: len(self.present()) == count, SEEN_WITHIN_S, f"{count} endpoints")
        return sorted(self.present().values(), key=lambda one: str(one["key"]))


@contextmanager
def watched(bus: UsbBus, *options: str) -> Iterator[Watcher]:
    command = bus.command(sys.executable, "-m", "tests.rigs.plugged_watcher", *options)
    with Child(command, env=dict(bus.environ)) as child:
        yield Watcher(child)


@pytest.fixture
def bus() -> Iterator[UsbBus]:
    with UsbBus() as made:
        yield made


def test_what_is_plugged_in_before_the_start_is_seen_and_known_by_its_serial_number(bus: UsbBus) -> None:
    bus.plug(VERIFONE + LINE)
    with watched(bus) as watcher:
        (line,) = watcher.until(1)
        assert line["kind"] == "serial"
        assert line["url"] == "serial:///dev/serial/by-id/usb-VeriFone_V200c_Plus_SN-ACM-1-if00"
        assert line["identity"] == "serial:11ca:0300:SN-ACM-1:00"
        assert line["identity_source"] == "serial_number"
        assert line["name"] == "VeriFone V200c Plus"
        assert line["position"] == "1-1:00"
        assert (line["usb_vid"], line["usb_pid"]) == (0x11CA, 0x0300)


def test_plug_and_pull_are_seen_in_time(bus: UsbBus) -> None:
    with watched(bus) as watcher:
        bus.plug(device("1-2", "05e0", "1200", number="A1", model="Scanner", interfaces=":030000:", device_address=3))
        watcher.until(1)
        for turn in range(3):
            name = f"ttyACM{turn}"
            plugged_at = time.monotonic()  # noqa: TID251 - the other end of this stopwatch is in the watcher
            bus.plug(VERIFONE + node("1-1", 0, "tty", name, name))
            watcher.until(2)
            appeared = max(one["at"] for one in watcher.said() if "appeared" in one)
            assert appeared - plugged_at < PLUG_S
            pulled_at = time.monotonic()  # noqa: TID251 - as above
            bus.pull(*paths("1-1", 0, "tty", name))
            watcher.until(1)
            vanished = max(one["at"] for one in watcher.said() if "vanished" in one)
            assert vanished - pulled_at < PULL_S


def test_a_pull_is_told_while_a_list_is_made_and_that_list_brings_nothing_back(bus: UsbBus, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    bus.plug(VERIFONE + LINE)
    with watched(bus, str(gate)) as watcher:
        watcher.until(1)
        bus.plug(device("1-2", "05e0", "1200", number="A1", model="Scanner", interfaces=":030000:", device_address=3))
        wait_for(gate.with_suffix(".made").exists, SEEN_WITHIN_S, "a list with both")
        bus.pull(*paths("1-1", 0, "tty", "ttyACM0"))
        watcher.until(0)
        gate.touch()
        (left,) = watcher.until(1)
        assert left["identity"] == "serial:05e0:1200:A1"
        appeared = [one["appeared"]["identity"] for one in watcher.said() if "appeared" in one]
        assert appeared == [IDENTITY, left["identity"]]


def test_two_equal_adapters_without_a_number_are_told_apart_by_their_plugs(bus: UsbBus) -> None:
    for port, address, tty in (("1-3", 4, "ttyUSB0"), ("1-4", 5, "ttyUSB1")):
        bus.plug(device(port, "1a86", "7523", model="USB_Serial", interfaces=":ff0102:", device_address=address))
        bus.plug(node(port, 0, "tty", tty, tty, links="/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0"))
    with watched(bus) as watcher:
        found = watcher.until(2)
        assert [one["identity"] for one in found] == ["port:1-3:00:1a86:7523", "port:1-4:00:1a86:7523"]
        assert {one["identity_source"] for one in found} == {"port_path"}
        # The link by id belongs to both, so it names neither.
        assert [one["url"] for one in found] == ["serial:///dev/ttyUSB0", "serial:///dev/ttyUSB1"]


def test_two_adapters_that_tell_the_same_number_are_not_known_by_it(bus: UsbBus) -> None:
    for port, address, tty in (("1-3", 4, "ttyUSB0"), ("1-4", 5, "ttyUSB1")):
        bus.plug(device(port, "0403", "6001", number="0001", interfaces=":ffffff:", device_address=address))
        bus.plug(node(port, 0, "tty", tty, tty))
    with watched(bus) as watcher:
        found = watcher.until(2)
        assert [one["identity"] for one in found] == ["port:1-3:00:0403:6001", "port:1-4:00:0403:6001"]


def test_several_lines_of_one_device_are_several_endpoints(bus: UsbBus) -> None:
    bus.plug(device("1-5", "0403", "6010", number="FT9", interfaces=":ffffff:", device_address=6))
    bus.plug(node("1-5", 0, "tty", "ttyUSB0", "ttyUSB0") + node("1-5", 1, "tty", "ttyUSB1", "ttyUSB1"))
    with watched(bus) as watcher:
        identities = [one["identity"] for one in watcher.until(2)]
        assert identities == ["serial:0403:6010:FT9:00", "serial:0403:6010:FT9:01"]


def test_a_printer_is_shown_by_its_node_and_by_its_class(bus: UsbBus) -> None:
    bus.plug(device("1-6", "04b8", "0202", number="J7", maker="EPSON", model="TM-T88IV", interfaces=":070102:"))
    bus.plug(node("1-6", 0, "usbmisc", "lp0", "usb/lp0"))
    with watched(bus) as watcher:
        (printer,) = watcher.until(1)
        assert (printer["kind"], printer["url"]) == ("usb", "lp:///dev/usb/lp0")
        assert printer["usb_classes"] == [7]


SCANNER = device("1-2", "0c2e", "0b61", number="S1", maker="Honeywell", model="1400g", interfaces=":030000:030101:")
POS = hid("1-2", 1, POS_SCANNER, "hidraw1")
DEVICE = f"/sys{ROOT}/1-2"
TYPES = MappingProxyType({"ID_INPUT": "1", "ID_INPUT_KEY": "1", "ID_INPUT_KEYBOARD": "1"})
BY_PATH, BY_ID = "/dev/input/by-path/pci-0:2:1.0-event-kbd", "/dev/input/by-id/usb-Honeywell_1400g_S1-event-kbd"
KEYS = hid("1-2", 0, BOOT_KEYBOARD, "hidraw0", "event5", more=TYPES, links=f"{BY_PATH} {BY_ID}")


def test_a_scanner_in_pos_mode_is_one_endpoint_whatever_else_it_has(bus: UsbBus) -> None:
    bus.plug(SCANNER + KEYS + POS)
    with watched(bus) as watcher:
        (scanner,) = watcher.until(1)
        assert (scanner["kind"], scanner["url"]) == ("usb", "hidraw:///dev/hidraw1")
        assert (scanner["hid_pages"], scanner["identity"]) == ([0x8C], "serial:0c2e:0b61:S1")


def test_a_keyboard_is_one_endpoint_by_the_events_of_its_letters(bus: UsbBus) -> None:
    beside = {"ID_INPUT": "1", "ID_INPUT_KEY": "1", "ID_INPUT_MOUSE": "1"}
    bus.plug(SCANNER + KEYS)
    bus.plug(hid("1-2", 1, KEYS_AND_MOUSE, "hidraw2", "event3", more=beside))
    with watched(bus) as watcher:
        (keyboard,) = watcher.until(1)
        assert (keyboard["kind"], keyboard["url"], keyboard["flaw"]) == ("usb", f"evdev://{BY_ID}", "")


def test_a_keyboard_without_a_number_is_opened_by_its_plug(bus: UsbBus) -> None:
    bus.plug(SCANNER.replace("E: ID_SERIAL_SHORT=S1\n", "") + KEYS)
    with watched(bus) as watcher:
        assert [one["url"] for one in watcher.until(1)] == [f"evdev://{BY_PATH}"]


def test_hubs_are_not_shown_and_what_has_no_node_is(bus: UsbBus) -> None:
    bus.plug(device("1-7", "1d6b", "0002", model="Hub", interfaces=":090000:"))
    bus.plug(device("1-7.1", "abcd", "0001", model="Thing", interfaces=":ff0000:", device_address=9))
    with watched(bus) as watcher:
        (thing,) = watcher.until(1)
        assert (thing["name"], thing["url"], thing["position"]) == ("Thing", "", "1-7.1")


CONFIG = """
[paths]
data = "{place}/data"
runtime = "{place}/run"
[api]
https_port = 0
http_port = {port}
addresses = ["127.0.0.1"]
[probes]
gateway = "tcp://127.0.0.1:1"
dns_server = "127.0.0.1:1"
internet = ["tcp://127.0.0.1:1"]
[discovery]
mdns = false
"""


def test_a_hub_tells_its_followers_of_plug_and_pull_in_time(bus: UsbBus, tmp_path: Path) -> None:
    """The page asks for itself anew when `/news` answers: what that takes is the rest of "plug to page"."""
    config = tmp_path / "hubd.toml"
    config.write_text(CONFIG.format(place=tmp_path, port=free_port()))
    command = bus.command(sys.executable, "-m", "hubd", "run", "--config", str(config))
    with Child(command, env=dict(bus.environ), stop_timeout_s=40) as hub:
        hub.wait_for_text("trades.", 40)
        client = Client(tmp_path / "run/hubd.sock", tmp_path / "data")

        def endpoints() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = client.get("/v1/endpoints")["items"]
            return found

        assert endpoints() == []
        for turn in range(2):
            name = f"ttyACM{turn}"
            plugged_at = time.monotonic()  # noqa: TID251 - a stopwatch around a real process
            bus.plug(VERIFONE + node("1-1", 0, "tty", name, name))
            (seen,) = wait_for(endpoints, SEEN_WITHIN_S, "the plugged reader")
            assert time.monotonic() - plugged_at < PLUG_S  # noqa: TID251 - as above
            assert (seen["source"], seen["standing"], seen["identity"]) == ("serial", "choose", IDENTITY)
            pulled_at = time.monotonic()  # noqa: TID251 - as above
            bus.pull(*paths("1-1", 0, "tty", name))
            wait_for(lambda: not endpoints(), SEEN_WITHIN_S, "the pulled reader to go")
            assert time.monotonic() - pulled_at < PULL_S  # noqa: TID251 - as above
        assert hub.stop() == 0


@contextmanager
def hub_on(bus: UsbBus, place: Path) -> Iterator[tuple[Child, Client]]:
    config = place / "hubd.toml"
    config.write_text(CONFIG.format(place=place, port=free_port()))
    command = bus.command(sys.executable, "-m", "hubd", "run", "--config", str(config))
    with Child(command, env=dict(bus.environ), stop_timeout_s=40) as hub:
        hub.wait_for_text("trades.", 40)
        yield hub, Client(place / "run/hubd.sock", place / "data")
        assert hub.stop() == 0


def test_scanners_are_offered_or_a_persons_choice_and_gone_when_pulled(bus: UsbBus, tmp_path: Path) -> None:
    with hub_on(bus, tmp_path) as (_, client):

        def seen() -> list[tuple[Any, ...]]:
            found = client.get("/v1/endpoints")["items"]
            return [(one["standing"], one["driver"], one["drivers"], one["address"]) for one in found]

        def until(*wanted: tuple[Any, ...]) -> None:
            wait_for(lambda: seen() == list(wanted), SEEN_WITHIN_S, f"{wanted}")

        bus.plug(SCANNER + POS)
        until(("offered", "hid_scanner", [], "hidraw:///dev/hidraw1"))
        bus.pull(*hid_paths("1-2", 1, "hidraw1"), DEVICE)
        until()
        bus.plug(SCANNER + KEYS)
        until(("choose", None, ["keyboard_scanner"], f"evdev://{BY_ID}"))
        bus.pull(*hid_paths("1-2", 0, "hidraw0", "event5"), DEVICE)
        until()


def test_a_number_that_is_an_attack_is_made_plain(bus: UsbBus) -> None:
    bus.plug(device("1-8", "abcd", "0001", number="<b>\u202ex" + "9" * 400, model="A" * 300, interfaces=":ff0000:"))
    with watched(bus) as watcher:
        (thing,) = watcher.until(1)
        assert "\u202e" not in thing["identity"]
        assert len(thing["identity"]) <= 200
        assert len(thing["name"]) <= 60
