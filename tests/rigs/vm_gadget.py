"""USB devices of any maker, out of the kernel's gadget framework and its dummy controller, in the virtual machine.

Runs in the guest, under its own Python. A gadget's other side is a node of the same guest: `/dev/ttyGS0` (serial line),
`/dev/g_printer0`, `/dev/hidg0`: who writes there is the device talking.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

ROOT = Path("/sys/kernel/config/usb_gadget")
FUNCTIONS = {"serial": "acm", "printer": "printer", "scanner": "hid", "keyboard": "hid"}
# USB HID POS 1.02: usage page 8C, usage 02 (bar code scanner); input report 2 with 63 bytes of decoded data (usage FE).
SCANNER_REPORT = bytes.fromhex("058c0902a101850209fe150026ff007508953f8102c0")
# HID 1.11, appendix E.6: the boot keyboard's report descriptor.
KEYBOARD_REPORT = bytes.fromhex(
    "05010906a101050719e029e715002501750195088102950175088101950575010508"
    "1901290591029501750391019506750815002565050719002965"
    "8100c0"
)


def make(
    name: str, vid: str, pid: str, functions: list[str], maker: str = "", model: str = "", number: str = ""
) -> dict[str, Any]:
    """Describe a device; it is not plugged in yet. Without a serial number it has none at all."""
    place = ROOT / name
    place.mkdir()
    for key, value in {"idVendor": f"0x{vid}", "idProduct": f"0x{pid}", "bcdUSB": "0x0200"}.items():
        (place / key).write_text(value)
    strings = place / "strings" / "0x409"
    strings.mkdir()
    for key, value in {"manufacturer": maker, "product": model, "serialnumber": number}.items():
        if value:
            (strings / key).write_text(value)
    configuration = place / "configs" / "c.1"
    configuration.mkdir()
    for index, kind in enumerate(functions):
        function = place / "functions" / f"{FUNCTIONS[kind]}.{name}{index}"
        function.mkdir()
        _describe(function, kind, maker, model)
        (configuration / function.name).symlink_to(function)
    return {}


def _describe(function: Path, kind: str, maker: str, model: str) -> None:
    if kind == "printer":
        (function / "pnp_string").write_text(f"MFG:{maker};MDL:{model};CLS:PRINTER;CMD:ESC/POS;")
    if kind in ("scanner", "keyboard"):
        boot = int(kind == "keyboard")
        (function / "report_desc").write_bytes(KEYBOARD_REPORT if boot else SCANNER_REPORT)
        (function / "report_length").write_text("8" if boot else "64")
        (function / "subclass").write_text(str(boot))
        (function / "protocol").write_text(str(boot))


def plug(name: str, port: int) -> dict[str, Any]:
    """Plug it into a port of the dummy controllers, counted from 0. Its nodes on the device's side are told."""
    (ROOT / name / "UDC").write_text(f"dummy_udc.{port}")
    nodes = []
    for function in sorted((ROOT / name / "functions").iterdir()):
        if (function / "port_num").exists():
            nodes.append(f"/dev/ttyGS{(function / 'port_num').read_text().strip()}")
        elif (function / "dev").exists():
            numbers = (function / "dev").read_text().strip()
            nodes.append("/dev/" + _uevent(Path("/sys/dev/char") / numbers)["DEVNAME"])
        else:
            nodes += [f"/dev/{one.name}" for one in sorted(Path("/sys/class/usb_printer_gadget").glob("*"))]
    return {"nodes": nodes}


def _uevent(place: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (place / "uevent").read_text().splitlines())


def pull(name: str, forget: bool = False) -> dict[str, Any]:
    """Pull it out, in the middle of whatever it does. With `forget` it is no more."""
    place = ROOT / name
    if (place / "UDC").read_text().strip():
        (place / "UDC").write_text("\n")
    if forget:
        for link in (place / "configs" / "c.1").iterdir():
            if link.is_symlink():
                link.unlink()
        for inner in [*(place / "functions").iterdir(), place / "configs" / "c.1", place / "strings" / "0x409", place]:
            os.rmdir(inner)
    return {}
