"""The scanner itself: it reads what it is told to, and says it in its protocol on every line."""

from __future__ import annotations

import abc
from typing import Final

from drivers.hid_scanner_codec import encode_code
from drivers.keyboard_layouts import LAYOUTS, Press, keys_of
from drivers.keyboard_scanner_codec import ALTGR, DOWN, ENTER, EV_KEY, LEFT_SHIFT, UP, KeyEvent, encode_event
from drivers.sim.faults import FaultyStream
from drivers.sim.peripheral import PeripheralSimulator
from hubd.runtime import Runtime

READ_BYTES_MAX = 64
IDENTIFIERS: Final = {
    "ean13": "]E0", "ean8": "]E4", "code128": "]C0", "gs1_128": "]C1", "qr": "]Q1", "code39": "]A0", "itf": "]I1",
}  # fmt: skip
ENDINGS: Final = {"cr": "\r", "lf": "\n", "crlf": "\r\n", "quiet": ""}
EV_MSC, MSC_SCAN, EV_SYN = 4, 4, 0
KEY_STEP_US = 2_000
"""From one report of its keys to the next."""


class ScannerSimulator(PeripheralSimulator):
    """A scanner that is given codes by command."""

    commands = "scan, sent"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.sent = 0
        """How many codes it has read."""

    async def talk(self, stream: FaultyStream) -> None:
        """Nothing is asked of a scanner: what it is sent is read and dropped until the line is lost."""
        while await stream.read(READ_BYTES_MAX):
            pass

    async def scan(self, text: str, symbology: str = "ean13") -> None:
        """Read one code. Raises ValueError for a symbology that it does not know."""
        if symbology not in IDENTIFIERS:
            raise ValueError(f"symbologies are {', '.join(IDENTIFIERS)}")
        self.sent += 1
        for block in self.blocks(text, symbology):
            await self.say(block)

    @abc.abstractmethod
    def blocks(self, text: str, symbology: str) -> list[bytes]:
        """What it writes for one code, in the pieces in which it leaves the device."""

    async def obey(self, request: dict[str, object]) -> dict[str, object] | None:
        """See `PeripheralSimulator`."""
        match request:
            case {"cmd": "scan", "text": str(text), **rest}:
                await self.scan(text, str(rest.get("symbology", "code128")))
            case {"cmd": "sent"}:
                return {"sent": self.sent}
            case _:
                return None
        return {"ok": True}


class SerialScannerSimulator(ScannerSimulator):
    """A scanner on a serial line."""

    def __init__(self, runtime: Runtime, ending: str = "cr", *, identifiers: bool = True) -> None:
        super().__init__(runtime)
        self.ending = ending
        self.identifiers = identifiers

    def blocks(self, text: str, symbology: str) -> list[bytes]:
        """See `ScannerSimulator`."""
        prefix = IDENTIFIERS[symbology] if self.identifiers else ""
        return [f"{prefix}{text}{ENDINGS[self.ending]}".encode()]


class HidScannerSimulator(ScannerSimulator):
    """A scanner in HID POS mode."""

    def blocks(self, text: str, symbology: str) -> list[bytes]:
        """See `ScannerSimulator`."""
        return encode_code(IDENTIFIERS[symbology], text.encode())


class KeyboardScannerSimulator(ScannerSimulator):
    """A scanner, or a person, that types."""

    commands = "scan, type, sent"

    def __init__(self, runtime: Runtime, layout: str = "us", end: int = ENTER) -> None:
        super().__init__(runtime)
        self.layout = LAYOUTS[layout]
        self.end = end

    def blocks(self, text: str, symbology: str) -> list[bytes]:
        """See `ScannerSimulator`."""
        return self.presses([*keys_of(text, self.layout), Press(self.end)], KEY_STEP_US)

    def presses(self, presses: list[Press], step_us: int) -> list[bytes]:
        """The records of these keys, a block for each report."""
        now = self._runtime.clock.now_us()
        blocks = []
        for press in presses:
            held = [LEFT_SHIFT] * press.shift + [ALTGR] * press.altgr
            steps = [(code, DOWN) for code in held] + [(press.code, DOWN), (press.code, UP)]
            for code, value in [*steps, *((code, UP) for code in held)]:
                now += step_us
                blocks.append(self._report(now, code, value))
        return blocks

    @staticmethod
    def _report(at_us: int, code: int, value: int) -> bytes:
        events = (
            KeyEvent(at_us, EV_MSC, MSC_SCAN, 0x70000 + code),
            KeyEvent(at_us, EV_KEY, code, value),
            KeyEvent(at_us, EV_SYN, 0, 0),
        )
        return b"".join(map(encode_event, events))

    async def type(self, text: str, step_s: float) -> None:
        """Type a text and Enter with this long between two movements of a key, in real time."""
        for press in [*keys_of(text, self.layout), Press(ENTER)]:
            for block in self.presses([press], round(step_s * 1_000_000)):
                await self.say(block)
                await self._runtime.clock.sleep(step_s)

    async def obey(self, request: dict[str, object]) -> dict[str, object] | None:
        """See `PeripheralSimulator`."""
        match request:
            case {"cmd": "type", "text": str(text), "step_s": float(step_s)}:
                await self.type(text, step_s)
                return {"ok": True}
        return await super().obey(request)
