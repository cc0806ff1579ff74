"""The scale itself: what lies on it, and what it says of that in its protocol."""

from __future__ import annotations

import abc
from typing import Final

from drivers.cas_codec import ACK, DC1, ENQ, NAK, check_byte
from drivers.sim.faults import FaultyStream
from drivers.sim.peripheral import PeripheralSimulator
from hubd.runtime import Runtime

CAPACITY_GRAMS = 15_000
STREAM_INTERVAL_S = 0.1
ZERO_RANGE_GRAMS = 300
READ_BYTES_MAX = 64


class ScaleSimulator(PeripheralSimulator):
    """A scale with a load that is put on and taken off by command."""

    commands = "weight, stable, tare, unit, scale"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.grams = 0
        """What it shows, below zero too."""
        self.stable = True
        self.net = False
        self.pounds = False
        """Set to pounds: it shows hundredths of a pound."""
        self.zeroed = 0
        """How often it took the command to set itself to zero."""

    async def obey(self, request: dict[str, object]) -> dict[str, object] | None:
        """See `PeripheralSimulator`."""
        match request:
            case {"cmd": "weight", "grams": int(grams)}:
                self.grams = grams
            case {"cmd": "stable", "value": bool(stable)}:
                self.stable = stable
            case {"cmd": "tare", "value": bool(net)}:
                self.net = net
            case {"cmd": "unit", "value": "kg" | "lb" as unit}:
                self.pounds = unit == "lb"
            case {"cmd": "scale"}:
                return {"grams": self.grams, "stable": self.stable, "net": self.net, "zeroed": self.zeroed}
            case _:
                return None
        return {"ok": True}

    @property
    def hundredths_of_a_pound(self) -> int:
        """What it shows when it is set to pounds."""
        return round(self.grams / 4.5359237)

    @property
    def kilograms(self) -> str:
        """What it shows, six characters."""
        return f"{self.grams // 1000:02d}.{self.grams % 1000:03d}"

    def set_zero(self) -> None:
        """Zero is what lies on it now, if that is little and at rest."""
        if self.stable and not self.net and abs(self.grams) <= ZERO_RANGE_GRAMS:
            self.grams = 0
            self.zeroed += 1

    @abc.abstractmethod
    async def talk(self, stream: FaultyStream) -> None:
        """See `PeripheralSimulator`."""


class AskedScale(ScaleSimulator):
    """A scale that answers bytes one by one."""

    async def talk(self, stream: FaultyStream) -> None:
        """Read commands and answer them until the line is lost."""
        while data := await stream.read(READ_BYTES_MAX):
            for byte in data:
                answer = self.answer(byte)
                if answer:
                    await stream.write(answer)

    @abc.abstractmethod
    def answer(self, byte: int) -> bytes:
        """What it says to one byte; nothing: b""."""


class ToledoSimulator(AskedScale):
    """Mettler-Toledo 8217: W, Z, and the echo test."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.echoes = False

    def answer(self, byte: int) -> bytes:
        """See `AskedScale`."""
        command = bytes((byte,))
        if command == b"F":
            self.echoes = False
            return b"\x02F\r"
        if self.echoes:
            return command
        if command == b"E":
            self.echoes = True
            return b"\x02E\r"
        if command == b"Z":
            self.set_zero()
            return self._status()
        return self._weight() if command == b"W" else b""

    def _weight(self) -> bytes:
        if not self.stable or not 0 <= self.grams <= CAPACITY_GRAMS:
            return self._status()
        if self.faults.leak:
            return f"\x02{self.faults.leak}\r".encode("ascii")
        net = "N" if self.net else ""
        pounds = self.hundredths_of_a_pound
        shown = f"{pounds // 100:02d}.{pounds % 100:02d}" if self.pounds else self.kilograms
        return f"\x02{shown}{net}\r".encode("ascii")

    def _status(self) -> bytes:
        bits = [
            not self.stable,
            self.grams > CAPACITY_GRAMS,
            self.grams < 0,
            abs(self.grams) > ZERO_RANGE_GRAMS,
            self.grams == 0,
            self.net,
            True,
        ]
        return b"\x02?" + bytes((sum(bit << place for place, bit in enumerate(bits)),)) + b"\r"


class CasSimulator(AskedScale):
    """CAS AP-1: ENQ, DC1."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.ready = True

    async def obey(self, request: dict[str, object]) -> dict[str, object] | None:
        """With one command more: whether it has a weight to give."""
        match request:
            case {"cmd": "ready", "value": bool(ready)}:
                self.ready = ready
                return {"ok": True}
        return await super().obey(request)

    def answer(self, byte: int) -> bytes:
        """See `AskedScale`."""
        if byte == ENQ:
            return bytes((ACK if self.ready else NAK,))
        return self._block() if byte == DC1 else b""

    def _block(self) -> bytes:
        sign = "F" if self.grams > CAPACITY_GRAMS else "-" if self.grams < 0 else " "
        shown = f"{self.hundredths_of_a_pound / 100:06.2f}lb" if self.pounds else f"{abs(self.grams) / 1000:06.3f}kg"
        data = f"{'S' if self.stable else 'U'}{sign}{shown}".encode("ascii")[:10]
        data = self.faults.leak.encode("ascii") or data
        return b"\x01\x02" + data + bytes((check_byte(data), 0x03, 0x04))


class CasStreamSimulator(ScaleSimulator):
    """The CAS stream: a line of 22 bytes ten times a second, whether anybody listens or not."""

    async def talk(self, stream: FaultyStream) -> None:
        """Write until the line is lost."""
        while True:
            await stream.write(self._line())
            await self._runtime.clock.sleep(STREAM_INTERVAL_S)

    def _line(self) -> bytes:
        over = self.grams > CAPACITY_GRAMS
        state = "OL" if over else "ST" if self.stable else "US"
        lamps = 0x80 | 0x40 * self.stable | 0x02 * self.net | 0x01 * (self.grams == 0)
        shown = f"{self.hundredths_of_a_pound / 100:7.2f} lb" if self.pounds else f"{abs(self.grams) / 1000:7.3f} kg"
        sign = "-" if self.grams < 0 else " "
        shown = f"{self.faults.leak} kg" if self.faults.leak else shown
        head = f"{state},{'NT' if self.net else 'GS'},1".encode("ascii") + bytes((lamps,))
        return head + f",{sign}{shown}\r\n".encode("ascii")


SCALES: Final[dict[str, type[ScaleSimulator]]] = {
    "toledo8217": ToledoSimulator,
    "cas": CasSimulator,
    "cas_stream": CasStreamSimulator,
}
