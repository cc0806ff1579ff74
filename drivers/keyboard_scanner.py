"""Barcode scanners that type like a keyboard ("wedge"), read from the kernel's evdev file."""

from __future__ import annotations

import logging

from drivers.appetite import Appetite
from drivers.base import DriverOptions, Identity, Keyboard, Lines, Manifest
from drivers.keyboard_layouts import LAYOUTS, Layout, Press
from drivers.keyboard_scanner_codec import (
    RECORD,
    Keys,
    NotEvdevError,
    layout_of_text,
    layout_text,
    learn,
    read_line,
)
from drivers.scan_gate import LineScanner
from drivers.scan_text import Refused
from hubd.errors import DeviceError
from hubd.model.device import Capability, DeviceKind
from hubd.model.device_options import Option, OptionKind
from hubd.model.scanner_test import TEST_CODE
from hubd.ports import ByteStream, Scan
from hubd.runtime import Runtime

log = logging.getLogger(__name__)

MANIFEST = Manifest(
    id="keyboard_scanner",
    name="Keyboard barcode scanner",
    kind=DeviceKind.SCANNER,
    matches=(Keyboard(),),
    capabilities=frozenset({Capability.SCAN}),
    stage="experimental",
    docs="`evdev:///dev/input/by-id/NAME-event-kbd`; the option `grab=1` takes it from the console once a person is "
    "sure. Option `layout=fr` (us, fr, be, de, nl), or the test code scanned once. Never chosen by itself.",
    driver="KeyboardScanner",
    options=(
        Option(
            "layout",
            OptionKind.CHOICE,
            "Keyboard that the scanner imitates",
            "Found out by itself: let it read the test code once.",
            choices=("us", "fr", "be", "de", "nl"),
        ),
        Option("keys", OptionKind.LEARNT, "Keys of the test code", "Of a scanner that imitates none of these."),
    ),
    recovers_within_s=120.0,
)

TYPED = Appetite(burst_bytes=1024 * 1024, bytes_per_s=64 * 1024)
"""A key that goes down and up is six records, as many again where shift is held: the longest code is 300 KiB."""
TYPING = Appetite(burst_bytes=512 * 1024, bytes_per_s=8 * 1024)
"""Of what makes no code: a person who types on the wrong keyboard is no babble."""
LAYOUT = "layout"
"""Option: for which keyboard the scanner is set; absent: learned from the test code."""
KEYS = "keys"
"""Option: the keys of a layout that only the test code tells, see `layout_text`."""


def _layout_of(options: DriverOptions) -> Layout | None:
    """Raises DeviceError `device.option_invalid`. A name counts more than keys that were learnt before."""
    name, keys = options.get(LAYOUT, ""), options.get(KEYS, "")
    if name and name not in LAYOUTS:
        raise DeviceError(
            "device.option_invalid",
            f"The option {LAYOUT} is one of {', '.join(LAYOUTS)}.",
            remedy="Correct the options of this device, on its page or in the configuration.",
        )
    return LAYOUTS.get(name) if name else layout_of_text(keys)


class KeyboardScanner(LineScanner):
    """Reads, and never writes. Until the layout is known, only the test code means anything."""

    capabilities = MANIFEST.capabilities
    appetite = TYPED
    noise = TYPING

    def __init__(self, runtime: Runtime, options: DriverOptions | None = None) -> None:
        super().__init__(runtime.clock)
        self._layout = _layout_of(options or {})
        self._keys = Keys()

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line; what was typed on the one before is forgotten, the layout is not."""
        super().attach(stream, url, lines)
        self._keys = Keys()

    def _form_of(self, data: bytes) -> str:
        return f"{len(data) // RECORD.size} records of keys, {len(data) % RECORD.size} bytes"

    async def pump(self) -> str:
        """See `LineScanner.pump`; what is no stream of keys ends it too."""
        try:
            return await super().pump()
        except NotEvdevError:
            await self.close()
            return "not_evdev"

    @property
    def _wait_s(self) -> float | None:
        return self._keys.wait_s

    def _readings(self, data: bytes | None) -> list[Scan | Refused]:
        lines = self._keys.quiet() if data is None else self._keys.feed(data)
        return [reading for one in lines if (reading := self._read(one)) is not None]

    def _read(self, line: list[Press] | Refused) -> Scan | Refused | None:
        if isinstance(line, Refused):
            return line
        learned = learn(line, unknown=self._layout is None)
        if learned is None:
            return read_line(line, self._layout)
        name, self._layout = learned
        log.info("scanner.layout_learned", extra={"setting": name})
        known = name in LAYOUTS
        self.learnt({LAYOUT: name if known else "", KEYS: "" if known else layout_text(self._layout)})
        return None

    async def check(self) -> Identity:
        """See `ScannerDriver`; without a layout it cannot work yet."""
        return self._with_layout(await super().check())

    async def identify(self) -> Identity:
        """See `check`."""
        return await self.check()

    def _with_layout(self, identity: Identity) -> Identity:
        if identity.problem or self._layout is not None:
            return identity
        remedy = f"Scan the test code {TEST_CODE} once, or name the keyboard layout in the options of this device."
        return Identity(problem="layout_unknown", remedy=remedy)
