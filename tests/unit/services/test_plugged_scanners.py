"""A scanner in POS mode is offered; a keyboard is one that a person chooses, and means nothing before its test code."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from drivers.discovery.plugged import Node, Plugged, endpoints_of
from drivers.sim.scanner import HidScannerSimulator, KeyboardScannerSimulator
from hubd.errors import DeviceError
from hubd.model.device import DeviceKind, Endpoint, EndpointKind
from hubd.services.discovery import Standing
from tests.simulation.plugs import SimulatedPlugs
from tests.unit.services.shop import MANAGER, WAIT_S, Shop, Terminals, shop, shop_runtime
from tests.unit.services.test_discovery import found

EVENTS = Node("input", "/dev/input/event5", "/sys/1-2/input/input5/event5", {"ID_INPUT_KEYBOARD": "1"})
RAW = Node("hidraw", "/dev/hidraw0", "/sys/1-2/0003/hidraw/hidraw0", {})
POS = replace(RAW, path="/dev/hidraw1", sys_path="/sys/1-2/0004/hidraw/hidraw1", hid_pages=(0x8C,))
HIDDEV = Node("usbmisc", "/dev/usb/hiddev0", "/sys/1-2/0004/usbmisc/hiddev0", {})


def plugged(*nodes: Node, ids: str = "0c2e:0b61") -> Endpoint:
    maker, model = ids.split(":")
    told = {"ID_VENDOR_ID": maker, "ID_MODEL_ID": model, "ID_SERIAL_SHORT": "S1"}
    told["ID_USB_INTERFACES"] = ":030101:"
    (endpoint,) = endpoints_of([Plugged("/sys/1-2", "1-2", told, nodes)], ()).values()
    return endpoint


async def problem(opened: Shop, device: str) -> str:
    """What is wrong with a device once it is ready or says what it lacks."""
    clock = opened.services.runtime.clock
    async with clock.timeout(WAIT_S):
        while True:
            one = opened.services.peripherals.get(device)
            if one is not None and (one.face.status.problem or one.face.status.state == "ready"):
                return one.face.status.problem
            await clock.sleep(0.005)


async def test_a_pos_scanner_is_offered_and_used_at_its_plug(tmp_path: Path) -> None:
    counter, plugs, endpoint = Terminals(shop_runtime()), SimulatedPlugs(), plugged(HIDDEV, RAW, EVENTS, POS)
    assert (endpoint.kind, endpoint.url) == (EndpointKind.USB, "hidraw:///dev/hidraw1")
    counter.others[endpoint.url] = HidScannerSimulator(counter.runtime)
    plugs.announce(endpoint)
    async with shop(tmp_path, counter, sources=[plugs]) as opened:
        (one,) = await found(opened)
        assert (one.standing, one.driver, one.kind) == (Standing.OFFERED, "hid_scanner", DeviceKind.SCANNER)
        device = await opened.services.discovery.claim(one.id, "", "", MANAGER)
        await opened.services.devices.activate(device.id, MANAGER)
        assert await problem(opened, device.id) == ""
        (known,) = await found(opened)
        assert (known.standing, known.device_id) == (Standing.KNOWN, device.id)
        plugs.pull(endpoint)
        await found(opened, 0)


async def test_a_keyboard_is_claimed_by_nobody_and_waits_for_the_test_code_once_chosen(tmp_path: Path) -> None:
    counter, plugs, endpoint = Terminals(shop_runtime()), SimulatedPlugs(), plugged(RAW, EVENTS)
    counter.others[endpoint.url] = KeyboardScannerSimulator(counter.runtime)
    plugs.announce(endpoint)
    async with shop(tmp_path, counter, sources=[plugs]) as opened:
        (one,) = await found(opened)
        assert (one.standing, one.drivers) == (Standing.CHOOSE, ("keyboard_scanner",))
        assert "Only if it is a scanner that types" in one.why
        assert opened.problem("device.not_activated") is None
        with pytest.raises(DeviceError, match="driver_not_chosen"):
            await opened.services.discovery.claim(one.id, "", "", MANAGER)
        device = await opened.services.discovery.claim(one.id, "", "", MANAGER, driver="keyboard_scanner")
        assert device.address == "evdev:///dev/input/event5", "it is not taken from the console unasked"
        await opened.services.devices.activate(device.id, MANAGER)
        assert await problem(opened, device.id) == "layout_unknown"


async def test_a_keyboard_that_the_hub_may_not_read_is_shown_as_one(tmp_path: Path) -> None:
    plugs = SimulatedPlugs()
    plugs.announce(plugged(RAW, replace(EVENTS, readable=False)))
    async with shop(tmp_path, Terminals(shop_runtime()), sources=[plugs]) as opened:
        (one,) = await found(opened)
        assert (one.standing, one.reason, one.drivers) == (Standing.UNUSABLE, "keyboard", ())
        with pytest.raises(DeviceError, match="not_offered"):
            await opened.services.discovery.claim(one.id, "", "", MANAGER, driver="keyboard_scanner")


def test_a_few_keys_and_a_mouse_are_no_keyboard() -> None:
    keys = replace(EVENTS, properties={"ID_INPUT_KEY": "1"})
    mouse = Node("input", "/dev/input/mouse0", "/sys/1-2/input/input5/mouse0", {"ID_INPUT_KEYBOARD": "1"})
    assert plugged(keys, mouse).url == ""


@pytest.mark.parametrize(("product", "nodes"), [("0001", (RAW, EVENTS)), ("0002", (RAW,))])
async def test_a_reader_of_cards_in_clear_is_refused_by_name_and_is_nobody_s_choice(
    tmp_path: Path, product: str, nodes: tuple[Node, ...]
) -> None:
    plugs = SimulatedPlugs()
    plugs.announce(plugged(*nodes, ids=f"0801:{product}"))
    async with shop(tmp_path, Terminals(shop_runtime()), sources=[plugs]) as opened:
        (one,) = await found(opened)
        assert (one.standing, one.reason, one.drivers) == (Standing.UNUSABLE, "clear_card_reader", ())
        assert "card numbers" in one.why
        with pytest.raises(DeviceError, match="not_offered"):
            await opened.services.discovery.claim(one.id, "", "", MANAGER, driver="keyboard_scanner")


async def test_a_device_that_does_not_say_what_it_is_is_shown(tmp_path: Path) -> None:
    plugs = SimulatedPlugs()
    told = {"ID_VENDOR_ID": "1234", "ID_MODEL_ID": "5678"}
    (silent,) = endpoints_of([Plugged("/sys/1-3", "1-3", told)], ()).values()
    plugs.announce(silent)
    async with shop(tmp_path, Terminals(shop_runtime()), sources=[plugs]) as opened:
        (one,) = await found(opened)
        assert (one.standing, one.reason, one.endpoint.name) == (Standing.UNUSABLE, "says_nothing", "1234:5678")


def test_a_hub_of_usb_is_no_device() -> None:
    told = {"ID_VENDOR_ID": "1d6b", "ID_MODEL_ID": "0002", "ID_USB_INTERFACES": ":090000:"}
    assert endpoints_of([Plugged("/sys/usb1", "usb1", told)], ()) == {}


def test_a_printer_with_a_serial_line_beside_it_is_both() -> None:
    told = {"ID_VENDOR_ID": "04b8", "ID_MODEL_ID": "0e28", "ID_SERIAL_SHORT": "P1"}
    told["ID_USB_INTERFACES"] = ":070102:020201:0a0000:"
    nodes = (
        Node("tty", "/dev/ttyACM0", "/sys/1-4/1-4:1.1/tty/ttyACM0", {"ID_USB_INTERFACE_NUM": "01"}),
        Node("usbmisc", "/dev/usb/lp0", "/sys/1-4/1-4:1.0/usbmisc/lp0", {}),
    )
    one, other = endpoints_of([Plugged("/sys/1-4", "1-4", told, nodes)], ()).values()
    assert (one.kind, one.url, one.identity) == (EndpointKind.SERIAL, "serial:///dev/ttyACM0", "serial:04b8:0e28:P1:01")
    assert (other.kind, other.url, other.identity) == (EndpointKind.USB, "lp:///dev/usb/lp0", "serial:04b8:0e28:P1")
    assert (one.usb_classes, other.usb_classes) == ((0x02, 0x0A), (0x07, 0x02, 0x0A)), "it is claimed as a printer once"
