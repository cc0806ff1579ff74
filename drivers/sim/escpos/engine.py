"""The printer itself: a buffer, a mechanism, paper, a cover and a drawer. No transport, no time of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from drivers.sim.escpos.display import LineDisplay
from drivers.sim.escpos.paper import Paper, Receipt
from drivers.sim.escpos.receiver import Receiver
from drivers.sim.faults import FaultyStream, LineFaults
from hubd.ports import ByteStream
from hubd.runtime import Runtime

READ_BYTES_MAX = 1024
NETWORK_WINDOW_BYTES = 4096
"""What a network adapter holds beside the buffer; then it takes no more until there is room."""
IN_BUFFER_BYTES_MAX = 1040
"""Of one command: a longer picture goes to its own memory as it comes, and holds up nothing behind it."""
PICTURE_ROWS_PER_LINE = 30
COMMANDS = (
    "receipts", "html", "look", "display", "state", "paper", "cover", "drawer", "offline", "cutter", "unplug",
    "replug", "power_cut", "fault", "well", "said",
)  # fmt: skip
"""Of the control socket."""


@dataclass(frozen=True, slots=True)
class PrinterOptions:
    """What kind of printer it is."""

    columns: int = 42
    buffer_bytes: int = 4096
    paper_lines: int = 4000
    """A full roll."""
    near_end_lines: int = 100
    line_s: float = 0.0
    """Seconds that one line takes."""
    status: bool = True
    """Whether it answers to anything at all."""
    paper_status: bool = True
    """Whether it knows GS r."""
    process_ids: bool = True
    """Whether it knows GS ( H."""
    drawer_open_high: bool = True
    """Level of the connector's pin 3 while the drawer is open."""


@dataclass(slots=True)
class PrinterFaults(LineFaults):
    """What can be wrong beside the line."""

    drawer_stuck: bool = False
    """A pulse does not open it: it is locked."""


class EscposSimulator:
    """One printer, for one host at a time. What is in its buffer is printed although the line is lost."""

    def __init__(self, runtime: Runtime, options: PrinterOptions | None = None) -> None:
        self._runtime = runtime
        self.options = options or PrinterOptions()
        self.faults = PrinterFaults()
        self.paper = Paper(self.options.columns)
        self.display = LineDisplay()
        self.plugged = True
        self.paper_lines = self.options.paper_lines
        self.cover_open = False
        self.offline = False
        self.cutter_jammed = False
        self.drawer_open = False
        self.pulses: list[int] = []
        """Pins of the pulses that it gave."""
        self.overruns = 0
        """Bytes that came over a serial line while there was no room for them."""
        self._receiver = Receiver()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._mechanism = asyncio.Lock()
        self._line: ByteStream | None = None
        self._raw_line: ByteStream | None = None

    @property
    def receipts(self) -> list[Receipt]:
        """What it has printed; the last one is not cut."""
        return self.paper.receipts

    @property
    def stopped(self) -> bool:
        """Whether it cannot print; what it has in its buffer waits."""
        return self.paper_lines <= 0 or self.cover_open or self.offline or self.cutter_jammed

    # -- the line ------------------------------------------------------------------------------------------------------

    async def serve(self, stream: ByteStream, *, serial: bool = False) -> None:
        """Take one line until it is lost; a second one beside it is refused. Cancellation closes it."""
        if not self.plugged or self._line is not None:
            await stream.close()
            return
        self._line, self._raw_line = FaultyStream(stream, self.faults, self._runtime, frame_bytes_min=1), stream
        try:
            if self.faults.greeting:
                await self._say(bytes.fromhex(self.faults.greeting))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work(stream), name="escpos-simulator:mechanism")
                try:
                    await self._receive(stream, serial=serial)
                except OSError:
                    pass  # the line is lost; what has arrived is printed
                finally:
                    self._line, self._raw_line = None, None
                    self._news.set()
        finally:
            self._news.set()
            await stream.close()

    async def _receive(self, stream: ByteStream, *, serial: bool) -> None:
        while data := await stream.read(READ_BYTES_MAX):
            for byte in data:
                full = serial and self._waiting_bytes >= self.options.buffer_bytes
                self.overruns += full
                asked, commands = self._receiver.take(byte, full=full)
                for command in commands:
                    self._queue.append(command)
                    self._queued_bytes += min(len(command), IN_BUFFER_BYTES_MAX)
                for number in asked:
                    await self._say(bytes((self._status(number),)))
            self._news.set()
            while self._waiting_bytes >= self.options.buffer_bytes + NETWORK_WINDOW_BYTES:
                self._room.clear()
                await self._room.wait()

    @property
    def _waiting_bytes(self) -> int:
        return self._queued_bytes + min(self._receiver.begun_bytes, IN_BUFFER_BYTES_MAX)

    async def _say(self, answer: bytes) -> None:
        """To whoever is there; nobody may be."""
        if self._line is None or not self.options.status:
            return
        try:
            await self._line.write(answer + self.faults.leak.encode("ascii"))
        except OSError:
            return  # the line has just been lost; reading it will tell

    def _status(self, number: int) -> int:
        low, out = self.paper_lines <= self.options.near_end_lines, self.paper_lines <= 0
        high = self.drawer_open is self.options.drawer_open_high
        bits = {
            1: 0x04 * high | 0x08 * self.stopped,
            2: 0x04 * self.cover_open | 0x20 * out | 0x40 * self.cutter_jammed,
            3: 0x08 * self.cutter_jammed,
            4: 0x0C * low | 0x60 * out,
        }
        return 0x12 | bits[number]

    # -- the mechanism -------------------------------------------------------------------------------------------------

    async def _work(self, line: ByteStream) -> None:
        """Print what comes until this line is lost, and then what there still is."""
        async with self._mechanism:
            while True:
                while self.stopped or not self._queue:
                    if self._raw_line is not line:
                        return
                    self._news.clear()
                    await self._news.wait()
                command = self._queue.popleft()
                self._queued_bytes -= min(len(command), IN_BUFFER_BYTES_MAX)
                self._room.set()
                await self._do(command)

    async def _do(self, command: bytes) -> None:
        lines = 0
        if self.display.takes(command):
            return
        if command[:2] == b"\x1bp":
            self._pulse(command[2])
        elif command[:3] == b"\x1d(H":
            if self.options.process_ids:
                await self._say(b"\x37\x22" + command[7:11] + b"\x00")
        elif command[:2] == b"\x1dr":
            if self.options.paper_status:
                await self._say(b"\x03" if self.paper_lines <= self.options.near_end_lines else b"\x00")
        else:
            lines = self.paper.do(command)
            if command[:2] == b"\x1dv":
                lines = -(-(command[6] + 256 * command[7]) // PICTURE_ROWS_PER_LINE)
        self.paper_lines = max(0, self.paper_lines - lines)
        if lines and self.options.line_s:
            await self._runtime.clock.sleep(lines * self.options.line_s)

    def _pulse(self, pin: int) -> None:
        self.pulses.append(5 if pin in (1, 49) else 2)
        self.drawer_open = self.drawer_open or not self.faults.drawer_stuck

    # -- what people do to it ------------------------------------------------------------------------------------------

    def load_paper(self, lines: int | None = None) -> None:
        """Put in a roll, full unless said otherwise; zero takes the paper out."""
        self.paper_lines = self.options.paper_lines if lines is None else lines
        self._news.set()

    def set_cover(self, *, is_open: bool) -> None:
        """Open or close the cover."""
        self.cover_open = is_open
        self._news.set()

    def set_offline(self, *, offline: bool) -> None:
        """Take it off the line with its button, and back."""
        self.offline = offline
        self._news.set()

    def set_jammed(self, *, jammed: bool) -> None:
        """Let the cutter jam, and clear it."""
        self.cutter_jammed = jammed
        self._news.set()

    async def unplug(self) -> None:
        """Pull the cable of the line; it goes on printing what it has."""
        self.plugged = False
        await self._hang_up()

    def replug(self) -> None:
        """Plug the cable in again."""
        self.plugged = True

    async def power_cut(self) -> None:
        """Off and on: the buffer and the line that was being put together are lost, the paper is not."""
        self._receiver.forget()
        self._queue.clear()
        self._queued_bytes = 0
        self.paper.forget()
        self.display.forget()
        self._room.set()
        await self._hang_up()

    async def _hang_up(self) -> None:
        if self._raw_line is not None:
            await self._raw_line.close()

    async def control(self, request: dict[str, object]) -> dict[str, object]:
        """One command of the control socket; raises ValueError for what is not understood."""
        match request:
            case {"cmd": "receipts"}:
                return {"receipts": self.paper.as_json(), "pulses": list(self.pulses)}
            case {"cmd": "html"}:
                return {"html": self.paper.as_html()}
            case {"cmd": "display"}:
                return {"display": self.display.rows}
            case {"cmd": "look", "newest": int(newest)}:
                shown = {"paper": self.paper.newest_as_html(newest), "style": self.paper.style, "plugged": self.plugged}
                return shown | self._state()
            case {"cmd": "state"}:
                return self._state()
            case {"cmd": "paper", "lines": int(lines)}:
                self.load_paper(lines)
            case {"cmd": "paper"}:
                self.load_paper()
            case {"cmd": "cover", "open": bool(is_open)}:
                self.set_cover(is_open=is_open)
            case {"cmd": "drawer", "open": bool(is_open)}:
                self.drawer_open = is_open
            case {"cmd": "offline", "on": bool(offline)}:
                self.set_offline(offline=offline)
            case {"cmd": "cutter", "jammed": bool(jammed)}:
                self.set_jammed(jammed=jammed)
            case _:
                return await self._control_line(request)
        return {"ok": True}

    def _state(self) -> dict[str, object]:
        return {"paper_lines": self.paper_lines, "cover_open": self.cover_open, "drawer_open": self.drawer_open}

    async def _control_line(self, request: dict[str, object]) -> dict[str, object]:
        match request:
            case {"cmd": "unplug"}:
                await self.unplug()
            case {"cmd": "replug"}:
                self.replug()
            case {"cmd": "power_cut"}:
                await self.power_cut()
            case {"cmd": "fault", "name": str(name), "value": value}:
                self.faults.set(name, value)
            case {"cmd": "well"}:
                self.faults.clear()
            case {"cmd": "said"}:
                return self.faults.said_json()
            case _:
                raise ValueError(f"commands are {', '.join(COMMANDS)}")
        return {"ok": True}
