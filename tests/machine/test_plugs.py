"""Plugged in and pulled out of a real USB stack: seen in time, known again, told apart, and nothing else touched."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rigs.vm_hub import MachineHub

pytestmark = pytest.mark.timeout(900)
PLUG_S, PULL_S = 4.0, 2.0
"""What the product promises, on a machine of which each core is about a tenth of a present one."""
PRINTER = ("printer", "04b8:0202", "EPSON", "TM-T20II")
TERMINAL = ("serial", "079b:0028", "Ingenico", "Desk 5000")
SCANNER = ("scanner", "0c2e:0b61", "Honeywell", "Voyager")
ROUNDS = 3


def times(hub: MachineHub, plug: Callable[[], object], pull: Callable[[], object], name: str) -> tuple[float, float]:
    """The longest of the times from plug to page and from pull to page."""
    plugged, pulled = [], []
    for _ in range(ROUNDS):
        plugged.append(hub.time_until(plug, lambda page: name in page, name))
        pulled.append(hub.time_until(pull, lambda page: name not in page, f"no {name}"))
    for what, took in (("plug", plugged), ("pull", pulled)):
        rounds = ", ".join(f"{one.seconds:.2f} ({one.elapsed_s:.2f} by the clock)" for one in took)
        print(f"\n{name}: {what} to page {rounds} s")
    return max(one.seconds for one in plugged), max(one.seconds for one in pulled)


@pytest.mark.parametrize(
    ("device", "address", "standing", "choice"),
    [
        (PRINTER, "lp:///dev/usb/lp0", "offered", "escpos"),
        (TERMINAL, "serial:///dev/serial/by-id/usb-Ingenico_Desk_5000_N1-if00", "choose", "concert"),
        (SCANNER, "hidraw:///dev/hidraw0", "offered", "hid_scanner"),
    ],
    ids=["printer", "terminal", "scanner"],
)
def test_a_plug_is_on_the_page_in_four_seconds_and_a_pull_in_two(
    hub: MachineHub, device: tuple[str, str, str, str], address: str, standing: str, choice: str
) -> None:
    function, product, maker, model = device
    hub.make("one", product, [function], maker, model, "N1")
    plugged, pulled = times(hub, lambda: hub.plug("one", 0), lambda: hub.pull("one"), f"{maker} {model}")
    assert hub.endpoints() == []
    assert plugged <= PLUG_S
    assert pulled <= PULL_S
    hub.time_until(lambda: hub.plug("one", 0), lambda page: model in page, model)
    (seen,) = hub.endpoints()
    assert seen["identity"] == f"serial:{product}:N1" + (":00" if function == "serial" else "")
    assert (seen["identity_source"], seen["address"], seen["standing"]) == ("serial_number", address, standing)
    assert choice in (seen["driver"] or "", *seen["drivers"])
    assert seen["reason"] is None


def test_qemus_own_adapter_is_seen_and_gone_in_time(hub: MachineHub) -> None:
    name = "QEMU USB SERIAL"
    plugged, pulled = times(hub, lambda: hub.plug_adapter("ftdi", "FT-1"), lambda: hub.pull_adapter("ftdi"), name)
    assert plugged <= PLUG_S
    assert pulled <= PULL_S
    hub.plug_adapter("ftdi", "FT-1")
    hub.wait_for_endpoint("serial:0403:6001:FT-1:00")


def test_the_devices_own_side_of_a_gadget_is_nobodys_device(hub: MachineHub) -> None:
    hub.make("one", "079b:0028", ["serial"], "Ingenico", "Desk 5000", "N1")
    hub.make("two", "0c2e:0b61", ["scanner"], "Honeywell", "Voyager", "N2")
    nodes = [*hub.plug("one", 0), *hub.plug("two", 1)]
    hub.machine.sh(f"test -c {nodes[0]} && test -c {nodes[1]}")
    hub.wait_for_count(2)
    addresses = [one["address"] for one in hub.endpoints()]
    assert not [address for address in addresses if address and ("ttyGS" in address or "hidg" in address)]


def test_adapters_plugged_in_the_other_order_keep_their_names_whatever_their_tty_is(hub: MachineHub) -> None:
    for name in ("A", "B"):
        hub.plug_adapter(name, f"FT-{name}")
        hub.wait_for_endpoint(f"FT-{name}")
    first = {name: hub.endpoint(f"FT-{name}") for name in ("A", "B")}
    ttys = {name: hub.tty_of(first[name]) for name in ("A", "B")}
    for name in ("A", "B"):
        hub.pull_adapter(name)
    hub.wait_for_count(0)
    for name in ("B", "A"):
        hub.plug_adapter(name, f"FT-{name}")
        hub.wait_for_endpoint(f"FT-{name}")
    second = {name: hub.endpoint(f"FT-{name}") for name in ("A", "B")}
    assert {name: hub.tty_of(second[name]) for name in ("A", "B")} == {"A": ttys["B"], "B": ttys["A"]}, "no new number"
    for name in ("A", "B"):
        before, after = first[name], second[name]
        assert before is not None
        assert after is not None
        assert (before["identity"], before["address"]) == (after["identity"], after["address"])


def test_two_equal_adapters_without_a_number_are_told_apart_by_their_plugs(
    hub: MachineHub,
) -> None:
    for port, name in enumerate(("left", "right")):
        hub.make(name, "1a86:55d4", ["serial"], "QinHeng", "USB Single Serial")
        hub.plug(name, port)
        hub.wait_for_count(port + 1)  # one after the other, so that the ttys are numbered in this order
    found = hub.endpoints()
    assert {one["identity_source"] for one in found} == {"port_path"}
    assert len({one["identity"] for one in found}) == len({one["address"] for one in found}) == 2
    assert all(one["identity"].startswith(f"port:{one['position']}:1a86:55d4") for one in found)
    ttys = {one["identity"]: hub.tty_of(one) for one in found}
    page = hub.page()
    assert all(one["position"] in page for one in found)
    for name in ("left", "right"):
        hub.pull(name)
    hub.wait_for_count(0)
    for port, name in ((1, "right"), (0, "left")):
        hub.plug(name, port)
        hub.wait_for_count(2 - port)
    again = {one["identity"]: hub.tty_of(one) for one in hub.endpoints()}
    assert set(again) == set(ttys), "a plug has another name"
    assert all(again[identity] != ttys[identity] for identity in ttys), "the ttys were not numbered anew"


ASK = """
import os, sys
for asked in sys.argv[1:]:
    way, path = asked.split(":", 1)
    try:
        os.close(os.open(path, {"read": os.O_RDONLY, "write": os.O_RDWR}[way] | os.O_NONBLOCK | os.O_NOCTTY))
        print(asked, "open")
    except OSError as error:
        print(asked, type(error).__name__)
"""


def test_the_service_user_opens_what_the_rules_grant_and_nothing_else(hub: MachineHub) -> None:
    hub.make("printer", "04b8:0202", ["printer"], "EPSON", "TM-T20II", "N1")
    hub.make("terminal", "079b:0028", ["serial"], "Ingenico", "Desk 5000", "N2")
    hub.make("scanner", "0c2e:0b61", ["scanner"], "Honeywell", "Voyager", "N3")
    hub.make("wedge", "0c2e:0b01", ["keyboard"], "Honeywell", "Wedge", "N4")
    hub.make("keyboard", "046d:c31c", ["keyboard"], "Logitech", "Keyboard", "N5")
    for port, name in enumerate(("printer", "terminal", "scanner", "wedge", "keyboard")):
        hub.plug(name, port)
    hub.wait_for_count(5)
    hub.machine.sh("udevadm settle")
    by_id = "/dev/input/by-id/usb-Honeywell_Wedge_N4-event-kbd", "/dev/input/by-id/usb-Logitech_Keyboard_N5-event-kbd"
    granted = ["write:/dev/usb/lp0", "write:/dev/ttyACM0", "read:/dev/hidraw0", f"read:{by_id[0]}"]
    # What types is only heard; keyboards are not, nor their raw reports, nor what no rule names.
    others = [f"write:{by_id[0]}", f"read:{by_id[1]}"]
    nodes = ("hidraw1", "hidraw2", "ttyGS0", "hidg0", "g_printer0", "vda", "input/event0")
    others += [f"read:/dev/{node}" for node in nodes]
    answers = hub.as_service(ASK, *granted, *others)
    opened = [path for path, answer in (line.split() for line in answers.splitlines()) if answer == "open"]
    assert opened == granted, answers
    assert "FileNotFoundError" not in answers
