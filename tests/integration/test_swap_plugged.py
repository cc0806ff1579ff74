"""A broken printer is swapped at its plug: a mocked bus, and real lines to printers that are programs of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hubd.cli.client import Client
from hubd.runtime import system_runtime
from tests.integration.test_discovery_plugged import CONFIG
from tests.integration.test_scales_and_scanners import Simulator
from tests.rigs.process import Child, free_port, wait_for
from tests.rigs.usb_bus import UsbBus, device, node, paths

TIMEOUT_S = 40.0
IDS = system_runtime().ids
PRINTER = {"maker": "EPSON", "model": "TM-T88", "interfaces": ":070102:"}


class Printers:
    """Printers that are plugged in and pulled out of a bus."""

    def __init__(self, bus: UsbBus, folder: Path, stack: ExitStack) -> None:
        self._bus, self._folder, self._stack = bus, folder, stack
        self._simulators: dict[str, Simulator] = {}
        self._lines: dict[str, Path] = {}

    def plug(self, number: str, port: str, lp: str, address: int) -> None:
        """The kernel gives it this node, behind which is the printer of this serial number."""
        if number not in self._simulators:
            (self._folder / number).mkdir()
            made = self._simulators[number] = Simulator(self._folder / number)
            self._stack.callback(made.close)
            self._lines[number] = Path(urlsplit(made.start("escpos", "pty", "--line-s", "0")).path)
        else:
            self._simulators[number].tell(cmd="replug")
            wait_for(self._lines[number].exists, TIMEOUT_S, "the line")
        # The bus makes a node only once and never takes it away, so this one is made here.
        made_here = node(port, 0, "usbmisc", lp, f"usb/{lp}").replace(f"N: usb/{lp}\n", "")
        nodes = device(port, "04b8", "0202", number=number, device_address=address, **PRINTER)
        dev = Path(self._bus.directory) / "dev/usb" / lp
        dev.parent.mkdir(parents=True, exist_ok=True)
        dev.unlink(missing_ok=True)
        dev.symlink_to(self._lines[number])
        self._bus.plug(nodes + made_here)

    def pull(self, number: str, port: str, lp: str) -> None:
        (Path(self._bus.directory) / "dev/usb" / lp).unlink(missing_ok=True)
        self._simulators[number].tell(cmd="unplug")
        self._bus.pull(*paths(port, 0, "usbmisc", lp))

    def paper(self, number: str) -> str:
        receipts = self._simulators[number].tell(cmd="receipts")["receipts"]
        return "\n".join(line for receipt in receipts for line in receipt["lines"])


class Hub:
    """The hub as a process that sees the bus, and its administrator."""

    def __init__(self, bus: UsbBus, folder: Path, text: str = CONFIG) -> None:
        config = folder / "hubd.toml"
        config.write_text(text.format(place=folder, port=free_port()))
        command = bus.command(sys.executable, "-m", "hubd", "run", "--config", str(config))
        self.child = Child(command, env=dict(bus.environ), stop_timeout_s=TIMEOUT_S)
        self.client = Client(folder / "run/hubd.sock", folder / "data")

    def until_endpoint(self, identity: str) -> dict[str, Any]:
        def seen() -> list[dict[str, Any]]:
            return [one for one in self.client.get("/v1/endpoints")["items"] if one["identity"].endswith(identity)]

        return wait_for(seen, TIMEOUT_S, f"the endpoint {identity}")[0]

    def until_state(self, device_id: str, *states: str) -> dict[str, Any]:
        def known() -> dict[str, Any] | None:
            found: dict[str, Any] = self.client.get(f"/v1/devices/{device_id}")
            return found if found["state"] in states else None

        return wait_for(known, TIMEOUT_S, f"one of {states}")

    def print(self, printer: str, text: str) -> str:
        job = IDS.new_id()
        document = {"title": "Note", "items": [{"type": "text", "text": text}, {"type": "cut"}]}
        self.client.call("PUT", f"/v1/print-jobs/{job}", {"document": document, "printer": printer})
        return job

    def until_printed(self, job: str) -> None:
        wait_for(lambda: self.client.get(f"/v1/print-jobs/{job}")["state"] == "printed", TIMEOUT_S, "the paper")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_a_printer_is_swapped_at_its_plug_and_known_again_after_a_start_with_other_nodes(
    tmp_path: Path, stack: ExitStack
) -> None:
    bus = stack.enter_context(UsbBus())
    printers, hub = Printers(bus, tmp_path, stack), Hub(bus, tmp_path)
    printers.plug("A1", "1-1", "lp0", 2)
    with hub.child:
        hub.child.wait_for_text("trades.", TIMEOUT_S)
        place = {"id": IDS.new_id(), "name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        owner = {"id": IDS.new_id(), "name": "Claire", "pin": "739164", "language": "fr"}
        hub.client.call("POST", "/v1/setup", {"owner": owner, "location": place})
        seen = hub.until_endpoint("A1")
        claim = {"name": "Kitchen", "role": "place:kitchen"}
        old = hub.client.call("POST", f"/v1/endpoints/{seen['id']}/claim", claim)["id"]
        hub.client.call("POST", f"/v1/devices/{old}/activate")
        hub.until_state(old, "ready")
        hub.until_printed(hub.print(old, "from the first"))
        printers.pull("A1", "1-1", "lp0")
        hub.until_state(old, "gone")
        waits = hub.print(old, "waits for the next")
        printers.plug("B2", "1-1", "lp0", 3)
        offered = hub.until_endpoint("B2")
        assert (offered["standing"], [one["device"] for one in offered["in_place_of"]]) == ("offered", [old])
        hub.until_state(old, "gone")
        assert printers.paper("B2") == "", "whoever has the node now is a stranger"
        swapped = hub.client.call("POST", f"/v1/endpoints/{offered['id']}/claim", {"replaces": old})
        assert (swapped["name"], swapped["role"], swapped["active"]) == ("Kitchen", "place:kitchen", True)
        hub.until_printed(waits)
        assert printers.paper("B2").count("waits for the next") == 1
        assert hub.child.stop() == 0
        printers.pull("B2", "1-1", "lp0")
        printers.plug("C3", "1-2", "lp0", 4)
        printers.plug("B2", "1-1", "lp1", 5)
        hub.child.start()
        wait_for(lambda: hub.child.stdout().count("trades.") == 2, TIMEOUT_S, "the second start")
        moved = hub.until_state(swapped["id"], "ready")
        assert moved["address"] == "lp:///dev/usb/lp1"
        hub.until_printed(hub.print(old, "the old name still works"))
        assert printers.paper("B2").count("the old name still works") == 1
        assert printers.paper("C3") == ""
        assert hub.until_endpoint("C3")["standing"] == "offered"
        assert hub.child.stop() == 0
