"""The README's table of supported devices, made from the manifests: `python -m tests.tidy.devices` writes it."""

from __future__ import annotations

from drivers.base import HidUsage, Keyboard, Manifest, Mdns, Serial, Tcp, Tls, Usb, UsbClass
from drivers.registry import load
from tests.tidy.tree import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- devices: python -m tests.tidy.devices -->\n", "<!-- end devices -->"


def connections(manifest: Manifest) -> str:
    """How a device of this driver is reached."""
    said = []
    for match in manifest.matches:
        match match:
            case Tcp(port):
                said.append(f"TCP port {port}")
            case Tls(port):
                said.append(f"TLS port {port}")
            case Mdns(service):
                said.append(f"mDNS `{service.removesuffix('.local.')}`")
            case Serial():
                said.append("serial line")
            case Keyboard():
                said.append("USB keyboard")
            case HidUsage(page):
                said.append(f"USB HID usage page {page:02X}")
            case UsbClass(number):
                said.append(f"USB class {number}")
            case Usb(vid, pid):
                said.append(f"USB {vid:04x}:{pid:04x}")
    return ", ".join(said) or "the address in the settings"


def table() -> str:
    """One row a driver."""
    rows = ["| device | connection | can | stage | notes |", "| --- | --- | --- | --- | --- |"]
    for entry in load().entries:
        assert entry.manifest is not None, f"{entry.module} has no manifest: {entry.reason}"
        one = entry.manifest
        can = ", ".join(sorted(capability.value.replace("_", " ") for capability in one.capabilities))
        rows.append(f"| {one.name} | {connections(one)} | {can} | {one.stage} | {one.docs} |")
    return "\n".join(rows) + "\n"


def with_table(readme: str) -> str:
    """The README with the table as it should be."""
    before, found, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    assert found, f"the README has no {BEGIN.strip()}"
    assert ended, f"the README has no {END}"
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text("utf-8")), "utf-8")
