"""Barcode scanners in HID POS mode (usage page 8C), read from the kernel's hidraw file."""

from __future__ import annotations

from drivers.base import DriverOptions, HidUsage, Lines, Manifest
from drivers.hid_scanner_codec import REPORT_BYTES, REPORT_ID, HidScans
from drivers.scan_gate import LineScanner
from drivers.scan_text import Refused
from drivers.trace import size
from hubd.model.device import Capability, DeviceKind
from hubd.ports import ByteStream, Scan
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="hid_scanner",
    name="HID POS barcode scanner",
    kind=DeviceKind.SCANNER,
    matches=(HidUsage(0x8C),),
    capabilities=frozenset({Capability.SCAN}),
    stage="experimental",
    docs="USB HID POS mode, `hidraw:///dev/hidraw0`.",
    driver="HidScanner",
    recovers_within_s=120.0,
)


class HidScanner(LineScanner):
    """Reads, and never writes."""

    capabilities = MANIFEST.capabilities

    def __init__(self, runtime: Runtime, options: DriverOptions | None = None) -> None:
        super().__init__(runtime.clock)
        self._scans = HidScans()

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line; a code that the one before had begun is forgotten."""
        super().attach(stream, url, lines)
        self._scans = HidScans()

    def _form_of(self, data: bytes) -> str:
        known = len(data) == REPORT_BYTES and data[0] == REPORT_ID
        return f"report with {data[1]} bytes of a code" if known else size(data)

    @property
    def _wait_s(self) -> float | None:
        return self._scans.wait_s

    def _readings(self, data: bytes | None) -> list[Scan | Refused]:
        return self._scans.quiet() if data is None else self._scans.feed(data)
