"""What udev knows of a plugged device, as an endpoint. Pure: properties in, endpoints out.

A USB adapter or a terminal with a serial line is shown by its line, a printer by its node (also beside a line), a
scanner by the one of its interfaces that says so, else a keyboard as such, anything else by itself with the reason why
nobody can use it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from hubd.model.card_data import holds_card_data
from hubd.model.device import ENDPOINT_NAME_MAX, IDENTITY_MAX, Endpoint, EndpointKind, Flaw, IdentitySource, plain

HUB_CLASS = 0x09
HID_CLASS = 0x03
PRINTER_CLASS = 0x07
_INTERFACE = re.compile(r"([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_SAFE_NODE = re.compile(r"/dev/[A-Za-z0-9/_.:+@,\-]{1,180}")
"""What may stand in an address: links of /dev/serial carry text that the device itself has chosen."""
_OPENED_BY = {"usbmisc": "lp", "hidraw": "hidraw", "input": "evdev"}
"""Subsystem of a node → kind of line that a transport opens there. Keyboards' event nodes are never opened unasked."""
CLEAR_CARD_READERS = frozenset({(0x0801, 0x0001), (0x0801, 0x0002)})
"""Maker and model of readers that tell what is on a card as it is: MagTek's as keyboard and as HID device. Its
encrypting readers have other numbers."""
POS_PAGES = frozenset({0x8C, 0x8D})
"""Barcode scanner and scale ("HID Point of Sale Usage Tables" 1.02)."""


class Node(Struct, frozen=True):
    """A device node below a USB device: `/dev/ttyACM0`, `/dev/usb/lp0`, `/dev/hidraw1`."""

    subsystem: str
    path: str
    """Of the node."""
    sys_path: str
    properties: Mapping[str, str]
    readable: bool = True
    """Whether the hub may open it."""
    hid_pages: tuple[int, ...] = ()
    """Of a raw HID node: the usage pages of what its interface is."""

    @property
    def is_keyboard(self) -> bool:
        """Whether udev takes it for the events of a keyboard: letters and digits, not a few keys beside a mouse."""
        events = self.subsystem == "input" and re.search(r"/event\d+$", self.sys_path) is not None
        return events and self.properties.get("ID_INPUT_KEYBOARD") == "1"


class Plugged(Struct, frozen=True):
    """One USB device as udev and its descriptors tell of it, with the nodes that drivers of the kernel have made."""

    sys_path: str
    sys_name: str
    """Its port path on the bus: `1-1.3`."""
    properties: Mapping[str, str]
    nodes: Sequence[Node] = ()


class SerialPort(Struct, frozen=True):
    """A serial line of the board itself."""

    path: str
    sys_path: str
    properties: Mapping[str, str]


def endpoints_of(devices: Iterable[Plugged], ports: Iterable[SerialPort]) -> dict[tuple[EndpointKind, str], Endpoint]:
    """All endpoints of what is plugged in now, by kind and key.

    Where two of them tell the same serial number (cheap adapters do), neither is known by it.
    """
    found = [endpoint for device in devices for endpoint in _of_device(device)]
    numbers = Counter(endpoint.identity for endpoint, _ in found)
    chosen = [
        replace(endpoint, identity=position, identity_source=IdentitySource.PORT_PATH)
        if numbers[endpoint.identity] > 1
        else endpoint
        for endpoint, position in found
    ]
    chosen += [_of_port(port) for port in ports]
    return {(endpoint.kind, endpoint.key): endpoint for endpoint in chosen}


def _of_device(device: Plugged) -> list[tuple[Endpoint, str]]:
    """Each endpoint with the identity of its port, which always works and says less."""
    classes = interface_classes(device.properties)
    if HUB_CLASS in classes:
        return []
    lines = [node for node in device.nodes if node.subsystem == "tty"]
    node = _node_of(device)
    if lines and (node is None or not (_is_printer(node) or POS_PAGES.intersection(node.hid_pages))):
        return [_of_line(device, line, classes) for line in lines]
    # What the node stands for is claimed there, and not at the line beside it once more.
    others = tuple(one for one in classes if node is None or one != (PRINTER_CLASS if _is_printer(node) else HID_CLASS))
    found = [_of_line(device, line, others) for line in lines]
    endpoint, position = _endpoint(device, EndpointKind.USB, device.sys_path, "", device.sys_name, "", classes)
    if node is not None:
        path = _path_of(device, node, "/dev/input/" if node.is_keyboard else "")
        url = f"{_OPENED_BY[node.subsystem]}://{path}" if path else ""
        endpoint = replace(endpoint, url=url, hid_pages=node.hid_pages)
    return [*found, (replace(endpoint, flaw=_flaw_of(endpoint, node)), position)]


def _flaw_of(endpoint: Endpoint, node: Node | None) -> Flaw:
    if (endpoint.usb_vid, endpoint.usb_pid) in CLEAR_CARD_READERS:
        return Flaw.CLEAR_CARD_READER
    if not endpoint.usb_classes and node is None:
        return Flaw.SAYS_NOTHING
    return Flaw.KEYBOARD if node and node.is_keyboard and not node.readable else Flaw.NONE


def _node_of(device: Plugged) -> Node | None:
    """The one of its nodes that says most of what it is; of equal ones that of the first interface."""

    def rank(node: Node) -> int:
        if _is_printer(node):
            return 0
        if POS_PAGES.intersection(node.hid_pages):
            return 1
        return 2 if node.is_keyboard else 3

    nodes = [node for node in device.nodes if _is_printer(node) or node.subsystem == "hidraw" or node.is_keyboard]
    return min(nodes, key=lambda node: (rank(node), node.sys_path), default=None)


def _is_printer(node: Node) -> bool:
    """`hiddev`, which the kernel makes beside the raw node of some scanners, is of the same subsystem."""
    return node.subsystem == "usbmisc" and node.path.rpartition("/")[2].startswith("lp")


def _path_of(device: Plugged, node: Node, links_in: str) -> str:
    """Where it is opened: by a link that outlives its number, where there is one. Empty for what is no safe path."""
    links = node.properties.get("DEVLINKS", "").split() if links_in else []
    # The link by id holds only where the device has a number of its own; the one by path holds everywhere.
    folders = ["by-id/", "by-path/"] if _number_of(device.properties) else ["by-path/"]
    kept = [
        link for folder in folders for link in links if link.startswith(links_in + folder) and not holds_card_data(link)
    ]
    return next((path for path in [*kept, node.path] if _SAFE_NODE.fullmatch(path)), "")


def _of_line(device: Plugged, node: Node, classes: tuple[int, ...]) -> tuple[Endpoint, str]:
    number = node.properties.get("ID_USB_INTERFACE_NUM", "") or _interface_number(node.sys_path)
    path = _path_of(device, node, "/dev/serial/")
    url = f"serial://{path}" if path else ""
    position = f"{device.sys_name}:{number}" if number else device.sys_name
    return _endpoint(device, EndpointKind.SERIAL, node.sys_path, url, position, number, classes)


def _endpoint(
    device: Plugged, kind: EndpointKind, key: str, url: str, position: str, interface: str, classes: tuple[int, ...]
) -> tuple[Endpoint, str]:
    vid, pid = _hex(device.properties.get("ID_VENDOR_ID", "")), _hex(device.properties.get("ID_MODEL_ID", ""))
    product = f"{vid or 0:04x}:{pid or 0:04x}"
    number = _number_of(device.properties)
    port = plain(f"port:{position}:{product}", IDENTITY_MAX)
    by_number = plain(f"serial:{product}:{number}" + (f":{interface}" if interface else ""), IDENTITY_MAX)
    endpoint = Endpoint(
        key=key,
        kind=kind,
        url=url,
        identity=by_number if number else port,
        identity_source=IdentitySource.SERIAL_NUMBER if number else IdentitySource.PORT_PATH,
        name=_kept(_name_of(device.properties), ENDPOINT_NAME_MAX) or product,
        usb_vid=vid,
        usb_pid=pid,
        usb_classes=classes,
        position=position,
    )
    return endpoint, port


def _of_port(port: SerialPort) -> Endpoint:
    name = port.path.rpartition("/")[2]
    return Endpoint(
        key=port.sys_path,
        kind=EndpointKind.SERIAL,
        url=f"serial://{port.path}" if _SAFE_NODE.fullmatch(port.path) else "",
        identity=f"port:{name}",
        identity_source=IdentitySource.PORT_PATH,
        name=name,
        position=name,
    )


def interface_classes(properties: Mapping[str, str]) -> tuple[int, ...]:
    """Classes of a device's interfaces, in order: from `ID_USB_INTERFACES` (`:070102:030000:`)."""
    found = _INTERFACE.findall(properties.get("ID_USB_INTERFACES", "")[:400].replace(":", " "))
    return tuple(dict.fromkeys(int(parts[0], 16) for parts in found))


def _number_of(properties: Mapping[str, str]) -> str:
    """The serial number of the device itself; udev makes one up from vendor and model where there is none."""
    return _kept(properties.get("ID_SERIAL_SHORT", ""), IDENTITY_MAX // 2)


def _kept(text: str, length_max: int) -> str:
    """The device's words made plain, unless they hold a card number: such a text enters nowhere."""
    return "" if holds_card_data(text) else plain(text, length_max)


def _name_of(properties: Mapping[str, str]) -> str:
    """Maker and model: the device's own words, else those of the list of USB ids."""
    model = properties.get("ID_MODEL", "").replace("_", " ") or properties.get("ID_MODEL_FROM_DATABASE", "")
    maker = properties.get("ID_VENDOR", "").replace("_", " ") or properties.get("ID_VENDOR_FROM_DATABASE", "")
    return model if model.startswith(maker) else f"{maker} {model}".strip()


def _interface_number(sys_path: str) -> str:
    """`00` from `…/1-1/1-1:1.0/tty/ttyACM0`: which of several lines of one device."""
    found = re.search(r":\d+\.(\d+)(?:/|$)", sys_path)
    return f"{int(found.group(1)):02d}" if found else ""


def _hex(text: str) -> int | None:
    return int(text, 16) if re.fullmatch(r"[0-9a-fA-F]{1,4}", text) else None
