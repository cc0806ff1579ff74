"""Barcode scanners on a serial line or USB-CDC ("USB-COM", "virtual COM port")."""

from __future__ import annotations

from drivers.base import DriverOptions, Lines, Manifest, Serial, Usb
from drivers.scan_gate import LineScanner
from drivers.scan_text import Refused
from drivers.serial_scanner_codec import Ending, SerialScans, form_of
from hubd.errors import DeviceError
from hubd.model.device import Capability, DeviceKind
from hubd.model.device_options import Option, OptionKind
from hubd.ports import ByteStream, Scan
from hubd.runtime import Runtime

MANIFEST = Manifest(
    id="serial_scanner",
    name="Serial barcode scanner",
    kind=DeviceKind.SCANNER,
    matches=(Usb(0x05E0, 0x1701), Usb(0x0C2E, 0x0700), Usb(0x0C2E, 0x0720), Serial()),
    capabilities=frozenset({Capability.SCAN}),
    stage="experimental",
    docs="Codes end with CR, LF or CRLF (option `end=quiet`: with nothing); AIM identifiers are understood.",
    driver="SerialScanner",
    line="baud=9600&stop_bits=1",
    options=(
        Option(
            "end",
            OptionKind.CHOICE,
            "How its codes end",
            "Found out by itself; choose quiet for a scanner that ends them with nothing.",
            choices=("cr", "lf", "crlf", "quiet"),
        ),
    ),
    recovers_within_s=120.0,
)

END = "end"
"""Option: how codes end (`cr`, `lf`, `crlf`, `quiet`); absent: it is learned."""


def _ending_of(options: DriverOptions) -> Ending | None:
    """Raises DeviceError `device.option_invalid`."""
    said = options.get(END, "")
    if not said:
        return None
    try:
        return Ending(said)
    except ValueError:
        raise DeviceError(
            "device.option_invalid",
            f"The option {END} is one of {', '.join(Ending)}.",
            remedy="Correct the options of this device, on its page or in the configuration.",
        ) from None


class SerialScanner(LineScanner):
    """Reads, and never writes."""

    capabilities = MANIFEST.capabilities

    def __init__(self, runtime: Runtime, options: DriverOptions | None = None) -> None:
        super().__init__(runtime.clock)
        self._ending = _ending_of(options or {})
        self._scans = SerialScans(self._ending)

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line; habits are learned anew, for it may be another scanner."""
        super().attach(stream, url, lines)
        self._scans = SerialScans(self._ending)

    def _form_of(self, data: bytes) -> str:
        return form_of(data)

    @property
    def _wait_s(self) -> float | None:
        return self._scans.wait_s

    def _readings(self, data: bytes | None) -> list[Scan | Refused]:
        return self._scans.quiet() if data is None else self._scans.feed(data)
