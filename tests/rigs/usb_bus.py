"""A mocked USB bus: devices that are plugged and pulled, seen by udev and libusb in processes that are told of it.

The bus is held by `usb_bus_program.py`, which runs under the distribution's Python because umockdev's library is bound
there; it gets one JSON line a command. Bytes never flow here (see the virtual machine for that).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from tests.rigs.process import require_tool

PROGRAM = Path(__file__).with_name("usb_bus_program.py")
ROOT = "/devices/pci0000:00/0000:00:14.0/usb1"
HID = "0003:0000:0000"
"""How the kernel begins the name of a HID device on USB: bus and ids; a running number follows."""


class UsbBus:
    """A context: the bus exists inside. `environ` is what a process needs to see it."""

    def __init__(self) -> None:
        self._wrapper = require_tool("umockdev-wrapper", "umockdev")
        self._process: subprocess.Popen[str] | None = None
        self.directory = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [self._wrapper, "/usr/bin/python3", str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.directory = self._read()["directory"]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def command(self, *argv: str) -> list[str]:
        """A command line that runs inside the mocked system."""
        return [self._wrapper, *argv]

    @property
    def environ(self) -> Mapping[str, str]:
        """For a process that is started with `command`."""
        return {"UMOCKDEV_DIR": self.directory}

    def plug(self, description: str) -> None:
        """Plug in what is described in umockdev's own format; udev tells of it device by device."""
        self._ask({"plug": description})

    def pull(self, *sys_paths: str) -> None:
        """Pull devices: the innermost first."""
        self._ask({"pull": list(sys_paths)})

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert answer == {"ok": True}, answer

    def _read(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the mocked bus has died"
        answer: dict[str, Any] = json.loads(line)
        return answer


def device(
    port: str,
    vid: str,
    pid: str,
    *,
    number: str = "",
    maker: str = "",
    model: str = "",
    interfaces: str = "",
    device_address: int = 2,
) -> str:
    """A USB device at a port (`1-1.3`), as udev tells of it; `interfaces` as in `:070102:`."""
    lines = [
        f"P: {ROOT}/{port}",
        f"N: bus/usb/001/{device_address:03d}",
        f"E: DEVNAME=/dev/bus/usb/001/{device_address:03d}",
        "E: DEVTYPE=usb_device",
        "E: SUBSYSTEM=usb",
        f"E: ID_VENDOR_ID={vid}",
        f"E: ID_MODEL_ID={pid}",
        *([f"E: ID_SERIAL_SHORT={number}"] if number else []),
        *([f"E: ID_VENDOR={maker}"] if maker else []),
        *([f"E: ID_MODEL={model}"] if model else []),
        *([f"E: ID_USB_INTERFACES={interfaces}"] if interfaces else []),
        "E: BUSNUM=001",
        f"E: DEVNUM={device_address:03d}",
        f"A: idVendor={vid}\\n",
        f"A: idProduct={pid}\\n",
    ]
    return "\n".join(lines) + "\n\n"


def node(
    port: str,
    interface: int,
    subsystem: str,
    name: str,
    dev: str,
    *,
    links: str = "",
    of_interface: Mapping[str, str] = MappingProxyType({}),
    more: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """A device node that a driver of the kernel has made for an interface of the device at that port.

    `of_interface` are attributes of the interface, `more` are properties that other rules have given the node.
    """
    place = f"{ROOT}/{port}/{port}:1.{interface}"
    return _interface(place, of_interface) + _node(place, interface, subsystem, name, dev, links, more)


def _interface(place: str, attributes: Mapping[str, str]) -> str:
    told = "".join(f"A: {key}={value}\\n\n" for key, value in attributes.items())
    return f"P: {place}\nE: DEVTYPE=usb_interface\nE: SUBSYSTEM=usb\n{told}\n"


def _node(below: str, interface: int, subsystem: str, name: str, dev: str, links: str, more: Mapping[str, str]) -> str:
    lines = [
        f"P: {below}/{subsystem}/{name}",
        f"N: {dev}",
        f"E: DEVNAME=/dev/{dev}",
        f"E: SUBSYSTEM={subsystem}",
        "E: ID_BUS=usb",
        f"E: ID_USB_INTERFACE_NUM={interface:02d}",
        *([f"E: DEVLINKS={links}"] if links else []),
        *(f"E: {key}={value}" for key, value in more.items()),
    ]
    return "\n".join(lines) + "\n\n"


def hid(
    port: str,
    interface: int,
    descriptor: bytes,
    raw: str,
    event: str = "",
    *,
    links: str = "",
    more: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """A HID interface with its report descriptor and raw node (`hidraw0`), and the node of its `event5`s if it has any.

    `links` and `more` are those of the events.
    """
    place = f"{ROOT}/{port}/{port}:1.{interface}"
    below = f"{place}/{HID}.{interface:04d}"
    told = _interface(place, {}) + f"P: {below}\nE: SUBSYSTEM=hid\nH: report_descriptor={descriptor.hex().upper()}\n\n"
    told += _node(below, interface, "hidraw", raw, raw, "", {})
    return told + (_node(below, interface, "input", event, f"input/{event}", links, more) if event else "")


def hid_paths(port: str, interface: int, raw: str, event: str = "") -> list[str]:
    """What `hid` made, innermost first, to be pulled."""
    place = f"/sys{ROOT}/{port}/{port}:1.{interface}"
    below = f"{place}/{HID}.{interface:04d}"
    return [*([f"{below}/input/{event}"] if event else []), f"{below}/hidraw/{raw}", below, place]


def paths(port: str, interface: int, subsystem: str, name: str) -> tuple[str, str, str]:
    """What `node` and `device` made, innermost first, to be pulled."""
    base = f"/sys{ROOT}/{port}"
    return f"{base}/{port}:1.{interface}/{subsystem}/{name}", f"{base}/{port}:1.{interface}", base
