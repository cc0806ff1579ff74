"""What was set of devices survives a power cut: by device and not by node, with its passwords and what was learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hubd.model.scanner_test import TEST_CODE
from tests.integration.test_discovery_plugged import CONFIG
from tests.integration.test_scales_and_scanners import Simulator
from tests.integration.test_swap_plugged import IDS, TIMEOUT_S, Hub, Printers
from tests.rigs.process import wait_for
from tests.rigs.usb_bus import UsbBus

PASSWORD = "580312"
WORDS = "word " * 30
DEVICES = """
[[terminals]]
address = "{scanner}"
driver = "keyboard_scanner"
name = "Scanner"
[[terminals]]
address = "{terminal}"
name = "Terminal"
"""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


class Counter:
    """A scanner and a terminal, each a program of its own, and the configuration that names them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.scanner = self._simulator(folder / "scanner", stack)
        self.terminal = self._simulator(folder / "terminal", stack)
        typed = self.scanner.start("scanner", "pty", "--mode", "keyboard", "--layout", "fr")
        scanner = typed.partition("?")[0].replace("serial://", "evdev://")
        terminal = self.terminal.start("zvt", "tcp", "--password", PASSWORD)
        self.config = CONFIG + DEVICES.format(scanner=scanner, terminal=terminal)

    @staticmethod
    def _simulator(folder: Path, stack: ExitStack) -> Simulator:
        folder.mkdir()
        made = Simulator(folder)
        stack.callback(made.close)
        return made


def named(hub: Hub, name: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return [one for one in hub.client.get("/v1/devices")["items"] if one["name"] == name]

    return wait_for(found, TIMEOUT_S, name)[0]


def options_of(hub: Hub, device: str) -> dict[str, dict[str, Any]]:
    found = hub.client.get(f"/v1/devices/{device}/options")
    return {one["name"]: one for one in found["options"]}


def set_options(hub: Hub, device: str, **options: str) -> None:
    path = f"/v1/devices/{device}/options"
    version = hub.client.get(path)["version"]
    hub.client.call("PUT", path, {"options": options}, headers={"if-match": f'"{version}"'})


def use(hub: Hub, identity: str, name: str, columns: str) -> str:
    seen = hub.until_endpoint(identity)
    device: str = hub.client.call("POST", f"/v1/endpoints/{seen['id']}/claim", {"name": name})["id"]
    hub.client.call("POST", f"/v1/devices/{device}/activate")
    hub.until_state(device, "ready")
    set_options(hub, device, columns=columns)
    hub.until_state(device, "ready")
    return device


def widest(printers: Printers, number: str) -> int:
    return max(len(line.rstrip()) for line in printers.paper(number).splitlines())


def until_learnt(hub: Hub, counter: Counter, scanner: str) -> None:
    """Scan until it is kept: what comes before a line has been quiet once is dropped."""

    def kept() -> bool:
        counter.scanner.tell(cmd="scan", text=TEST_CODE, symbology="code128")
        return bool(options_of(hub, scanner)["layout"]["value"] == "fr")

    wait_for(kept, TIMEOUT_S, "the layout", interval_s=1.0)


def test_options_follow_their_devices_over_a_power_cut_after_which_the_nodes_are_swapped(
    tmp_path: Path, stack: ExitStack
) -> None:
    bus = stack.enter_context(UsbBus())
    printers, counter = Printers(bus, tmp_path, stack), Counter(tmp_path, stack)
    hub = Hub(bus, tmp_path, counter.config)
    printers.plug("A1", "1-1", "lp0", 2)
    printers.plug("B2", "1-2", "lp1", 3)
    with hub.child:
        hub.child.wait_for_text("trades.", TIMEOUT_S)
        place = {"id": IDS.new_id(), "name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        owner = {"id": IDS.new_id(), "name": "Claire", "pin": "739164", "language": "fr"}
        hub.client.call("POST", "/v1/setup", {"owner": owner, "location": place})
        narrow, wide = use(hub, "A1", "Narrow", "30"), use(hub, "B2", "Wide", "40")
        scanner, terminal = named(hub, "Scanner")["id"], named(hub, "Terminal")["id"]
        for device in (scanner, terminal):
            hub.client.call("POST", f"/v1/devices/{device}/activate")
        assert hub.until_state(scanner, "faulty")["problem"] == "layout_unknown"
        until_learnt(hub, counter, scanner)
        hub.until_state(terminal, "faulty")
        set_options(hub, terminal, password=PASSWORD)
        hub.until_state(terminal, "ready")
        hub.child.kill()
        printers.pull("A1", "1-1", "lp0")
        printers.pull("B2", "1-2", "lp1")
        printers.plug("B2", "1-2", "lp0", 4)
        printers.plug("A1", "1-1", "lp1", 5)
        hub.child.start()
        wait_for(lambda: hub.child.stdout().count("trades.") == 2, TIMEOUT_S, "the second start")
        for device in (narrow, wide, scanner, terminal):
            hub.until_state(device, "ready")
        assert hub.client.get(f"/v1/devices/{narrow}")["address"] == "lp:///dev/usb/lp1"
        for device in (narrow, wide):
            hub.until_printed(hub.print(device, WORDS))
        assert widest(printers, "A1") == len("word " * 6) - 1
        assert widest(printers, "B2") == len("word " * 8) - 1
        assert options_of(hub, scanner)["layout"]["source"] == "set"
        assert options_of(hub, terminal)["password"]["value"] is None
        key = tmp_path / "data/keys/devices.key"
        assert key.stat().st_mode & 0o077 == 0
        written = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
        assert PASSWORD.encode() not in written
