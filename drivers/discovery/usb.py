"""What is plugged in: USB devices, their serial lines, and those of the board. udev says when something changes.

Nothing is opened or sent. What was pulled is gone with udev's word. After each event everything is listed anew, in a
thread, because reading sysfs may block; a device that comes and goes without end is listed at most four times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyudev
import usb.core
import usb.util

from drivers.discovery.hid_descriptor import DESCRIPTOR_MAX, applications
from drivers.discovery.plugged import Node, Plugged, SerialPort, endpoints_of
from hubd.discovery_ports import EndpointSink
from hubd.model.device import Endpoint, EndpointKind
from hubd.runtime import Clock

log = logging.getLogger(__name__)

SETTLE_S = 0.25
"""udev tells of a device piece by piece: device, interfaces, nodes, links. That long nothing more must come."""
SETTLE_MAX_S = 2.0
"""Something that never settles is shown all the same."""
RESCAN_S = 60.0
"""Everything is listed this often even if udev is silent: a message may be lost when its buffer is full."""
SUBSYSTEMS = ("usb", "tty", "usbmisc", "hidraw", "input")
DEVICES_MAX = 128
_VIRTUAL = "/devices/virtual/"
"""Consoles, pseudo-terminals and the device side of USB gadgets of this very machine."""
_QUEUE = "/run/udev/queue"
"""It exists while udev works on events (what `udevadm settle` waits for)."""
_NO_UART = "0"
"""What a serial port of the board says in `type` when there is no chip behind its name."""

Listed = dict[tuple[EndpointKind, str], Endpoint]


class PluggedSource:
    """See `EndpointSource`. Its endpoints are of the kinds USB and SERIAL."""

    def __init__(self, clock: Clock, scan: Callable[[], Listed] | None = None) -> None:
        self._clock = clock
        self._scan = scan or list_plugged
        self._shown: Listed = {}
        self._pulled: set[str] = set()
        """Devices that were pulled since the newest list was begun, which may still have them."""

    @property
    def kind(self) -> EndpointKind:
        """What it looks at."""
        return EndpointKind.USB

    def present(self) -> Sequence[Endpoint]:
        """Nothing is known before it is listed."""
        return ()

    async def run(self, sink: EndpointSink) -> None:
        """Look until cancelled. Raises OSError when udev cannot be heard."""
        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        for subsystem in SUBSYSTEMS:
            monitor.filter_by(subsystem)
        monitor.start()  # before the first list, so that nothing falls between the two
        heard = asyncio.Event()
        loop = asyncio.get_running_loop()

        def drain() -> None:
            while (device := monitor.poll(timeout=0)) is not None:
                heard.set()
                if device.action == "remove" and device.device_type == "usb_device":
                    self._forget(device.sys_path, sink)

        loop.add_reader(monitor.fileno(), drain)
        try:
            while True:
                heard.clear()
                self._pulled.clear()
                self._show(await asyncio.to_thread(self._scan), sink)
                await self._until_changed(heard)
        finally:
            loop.remove_reader(monitor.fileno())

    async def _until_changed(self, heard: asyncio.Event) -> None:
        """Return when something has changed and settled, or after a minute."""
        try:
            async with self._clock.timeout(RESCAN_S):
                await heard.wait()
        except TimeoutError:
            return
        end = self._clock.monotonic() + SETTLE_MAX_S
        while (heard.is_set() or _udev_is_busy()) and self._clock.monotonic() < end:
            heard.clear()
            await self._clock.sleep(SETTLE_S)

    def _forget(self, sys_path: str, sink: EndpointSink) -> None:
        """A device was pulled: whatever was shown of it is gone, without asking what else there is."""
        self._pulled.add(sys_path)
        self._show(self._shown, sink)

    def _show(self, listed: Listed, sink: EndpointSink) -> None:
        """Tell what is new and what is gone."""
        for sys_path in self._pulled:
            listed = {place: one for place, one in listed.items() if not _belongs(place[1], sys_path)}
        for place in self._shown.keys() - listed.keys():
            sink.vanished(*place)
        for place, endpoint in listed.items():
            if self._shown.get(place) != endpoint:
                sink.appeared(endpoint)
        self._shown = listed


def _belongs(key: str, sys_path: str) -> bool:
    """Whether an endpoint is a device, or one of its nodes."""
    return key == sys_path or key.startswith(f"{sys_path}/")


def _udev_is_busy() -> bool:
    """Whether udev has more to tell; a slow machine pauses for longer than `SETTLE_S` between device and tty."""
    return os.access(_QUEUE, os.F_OK)


def list_plugged() -> Listed:
    """List everything that is plugged in now. Reads sysfs and udev's database; blocks."""
    context = pyudev.Context()
    # Once over all nodes, not once below each device: on a small board every enumeration is a walk through sysfs.
    below: dict[str, list[Node]] = {}
    ports: list[SerialPort] = []
    consoles = _consoles()
    for node in _devices(context, [f"/sys/class/{subsystem}" for subsystem in SUBSYSTEMS[1:]]):
        if not node.device_node:
            continue
        if owner := _owner(node):
            below.setdefault(owner, []).append(_node(node, node.device_node))
        elif node.subsystem == "tty" and node.sys_name not in consoles and _has_chip(node):
            ports.append(SerialPort(node.device_node, node.sys_path, dict(node.properties)))
    devices: list[Plugged] = []
    for device in _devices(context, ["/sys/bus/usb/devices"]):
        if device.device_type == "usb_device" and len(devices) < DEVICES_MAX:
            devices.append(_plugged(device, below.get(device.sys_path, [])))
    return endpoints_of(devices, ports)


def _devices(context: pyudev.Context, folders: Sequence[str]) -> Iterator[pyudev.Device]:
    """What these folders of sysfs lead to, without this machine's own make-believe.

    libudev's enumeration reads each of the hundred consoles and pseudo-terminals of a machine before it can be told to
    pass them over: three quarters of the time of a list.
    """
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            continue  # no driver of that kind is loaded
        for name in names:
            with contextlib.suppress(FileNotFoundError, pyudev.DeviceNotFoundError):  # gone again
                link = os.readlink(f"{folder}/{name}")
                if _VIRTUAL not in link and ":" not in name:
                    yield pyudev.Devices.from_sys_path(context, os.path.normpath(f"{folder}/{link}"))


def _plugged(device: pyudev.Device, nodes: Sequence[Node]) -> Plugged:
    properties = dict(device.properties)
    if not properties.get("ID_USB_INTERFACES"):
        properties["ID_USB_INTERFACES"] = _described(device)
    return Plugged(device.sys_path, device.sys_name, properties, nodes)


def _node(device: pyudev.Device, path: str) -> Node:
    pages = tuple(dict.fromkeys(page for page, _ in applications(_report_descriptor(device))))
    readable = os.access(path, os.R_OK)
    return Node(device.subsystem, path, device.sys_path, dict(device.properties), readable=readable, hid_pages=pages)


def _report_descriptor(device: pyudev.Device) -> bytes:
    """Of the HID interface that a raw node belongs to; empty for any other node, and for one that is gone again."""
    parent = device.find_parent("hid") if device.subsystem == "hidraw" else None
    if parent is None:
        return b""
    try:
        with Path(parent.sys_path, "report_descriptor").open("rb") as file:
            return file.read(DESCRIPTOR_MAX)
    except OSError as error:
        log.info("discovery.no_descriptors", extra={"reason": type(error).__name__})
        return b""


def _owner(node: pyudev.Device) -> str:
    """The USB device that a node belongs to: behind a hub the nearest one, not the hub."""
    parent = node.find_parent("usb", "usb_device")
    return parent.sys_path if parent is not None else ""


def _described(device: pyudev.Device) -> str:
    """The interfaces from the device's descriptors, in udev's notation, where udev has not looked at them."""
    bus, address = device.properties.get("BUSNUM", ""), device.properties.get("DEVNUM", "")
    wanted = {"bus": int(bus), "address": int(address)} if bus.isdigit() and address.isdigit() else None
    if wanted is None:
        parts = (device.device_node or "").split("/")[-2:]
        if len(parts) != 2 or not all(part.isdigit() for part in parts):
            return ""
        wanted = {"bus": int(parts[0]), "address": int(parts[1])}
    try:
        found = usb.core.find(**wanted)
        classes = [
            f"{one.bInterfaceClass:02x}{one.bInterfaceSubClass:02x}{one.bInterfaceProtocol:02x}"
            for configuration in (found or ())
            for one in configuration
        ]
    except (usb.core.USBError, usb.core.NoBackendError, NotImplementedError) as error:
        # Gone again, not permitted, no libusb, or a libusb that cannot: the device is shown without its classes.
        log.info("discovery.no_descriptors", extra={"reason": type(error).__name__})
        return ""
    return ":" + ":".join(classes) + ":" if classes else ""


def _has_chip(port: pyudev.Device) -> bool:
    """Whether anything is behind the name of a serial port of the board."""
    uart = port.attributes.get("type")
    return uart is not None and uart.decode("ascii", "replace").strip() != _NO_UART


def _consoles() -> frozenset[str]:
    try:
        return frozenset(Path("/sys/class/tty/console/active").read_text("ascii").split())
    except OSError:
        return frozenset()
