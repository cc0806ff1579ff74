"""A printer driver on its runner, against its simulator, on lines that a test can spoil; all in virtual time."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - the bench makes the Runtime that everybody else is given
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from drivers.base import DriverOptions
from drivers.faces import RunnerPrinter, face_of
from drivers.kit.bench import READY_TIMEOUT_S
from drivers.kit.bench import Line as Wire
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock
from drivers.runner import Runner
from drivers.sim.escpos import EscposSimulator, PrinterOptions
from drivers.sim.ipp import IppOptions, IppSimulator
from hubd.model.device import Capability, DeviceState
from hubd.model.printing import Align, Barcode, Cut, Line, Logo, PrintDocument, Qr, Row, Rule, Text, lay_out
from hubd.ports import NotPrinted, Printed, PrintOutcome, PrintUnknown, TerminalStatus
from hubd.runtime import Runtime, SystemIds
from tests.contract.terminal_bench import REGISTRY

COLUMNS = 20
TCP, SERIAL = "tcp://printer:9100", "serial:///dev/printer"
IPP = "tcp://printer:631/ipp/print"
PLAIN, ROLL, ROLL_COLUMNS = "text/plain;charset=utf-8", "om_receipt_80x200mm", 42
"""Of the IPP printer: what it prints of plain text can be compared line by line."""


@dataclass(frozen=True, slots=True)
class PrinterKind:
    """A printer that the contract is kept with: what it can say decides how much of the contract there is to keep."""

    driver_id: str
    url: str
    knows: Mapping[str, bool] = field(default_factory=dict)
    """What differs from a printer that can say everything; names of `PrinterOptions`."""
    options: DriverOptions = field(default_factory=dict)

    def simulator(self, runtime: Runtime, line_s: float) -> EscposSimulator | IppSimulator:
        """A narrow one, because some tests are run for every byte."""
        if self.driver_id == "ipp":
            return IppSimulator(runtime, IppOptions(formats=(PLAIN,), media=ROLL, line_s=line_s))
        given = {"columns": COLUMNS, "line_s": line_s, **self.knows}
        return EscposSimulator(runtime, PrinterOptions(**given))  # type: ignore[arg-type]  # by their names


KINDS = {
    "escpos-tcp": PrinterKind("escpos", TCP),
    "escpos-serial": PrinterKind("escpos", SERIAL),
    "escpos-in-turn": PrinterKind("escpos", TCP, {"process_ids": False}),
    "escpos-real-time": PrinterKind("escpos", TCP, {"process_ids": False, "paper_status": False}),
    "escpos-mute": PrinterKind("escpos", TCP, {"status": False}, {"status": "none"}),
    "ipp": PrinterKind("ipp", IPP),
}
_DISPLAY: DriverOptions = {"display": "2x20"}
DISPLAYS = {
    "display-tcp": PrinterKind("escpos", TCP, {}, _DISPLAY),
    "display-serial": PrinterKind("escpos", SERIAL, {}, _DISPLAY),
    "display-mute": PrinterKind("escpos", TCP, {"status": False}, {"status": "none", **_DISPLAY}),
}
"""Printers with a line display; they keep the whole contract as the others do, so only what is shown is tried."""
NUMBERED = ("escpos-tcp", "escpos-serial")
IN_TURN = (*NUMBERED, "escpos-in-turn")
ANSWERING = (*IN_TURN, "escpos-real-time")
"""Those that answer over raw lines."""
DRAWERS = (*ANSWERING, "escpos-mute")
TOLD = (*IN_TURN, "ipp")
"""Those that say when a document is on paper."""
TELLING = (*ANSWERING, "ipp")
"""Those that say how they are."""


def printers(*names: str) -> pytest.MarkDecorator:
    """Run a test with these kinds; with all of them when none is named."""
    return pytest.mark.parametrize("kind", names or tuple(KINDS))


def ticket(number: int, rows: int = 1) -> PrintDocument:
    """A document that is known by its number wherever it appears; with more rows it needs several chunks."""
    return PrintDocument(
        f"Receipt {number}",
        (
            Text(f"Ticket #{number:04d}#", Align.CENTER, bold=True, large=True),
            Logo(16, b"\xff\x81\x10\x04\x01\x81"),
            Rule(),
            *(Row(f"Café {row}", f"{row},20 €") for row in range(rows)),
            Qr(f"https://x.test/{number}"),
            Barcode("4006381333931", "ean13"),
            Text("Merci “beaucoup”", Align.RIGHT),
            Cut(),
        ),
    )


def on_paper(document: PrintDocument, columns: int) -> list[str]:
    """The document as a person would see it, down to its cut."""
    seen = []
    for item in lay_out(document, columns):
        match item:
            case Line(text, align, _, large):
                room = columns // 2 if large else columns
                places = {
                    Align.LEFT: text,
                    Align.RIGHT: text.rjust(room),
                    Align.CENTER: " " * ((room - len(text)) // 2) + text,
                }
                seen.append(places[align].rstrip())
            case Qr(data) | Barcode(data):
                seen += [" " * ((columns - len(data)) // 2) + data, ""]
            case Logo():
                text = f"[{item.width}x{item.height}]"
                seen.append(" " * ((columns - len(text)) // 2) + text)
    while seen and not seen[-1]:
        seen.pop()
    return seen


def on_page(document: PrintDocument, columns: int) -> list[str]:
    """The document as plain text shows it: letters of one size, codes by their text, no pictures."""
    seen = []
    for item in lay_out(document, columns):
        match item:
            case Line(text, Align.CENTER):
                seen.append((" " * ((columns - len(text)) // 2) + text).rstrip())
            case Line(text, Align.RIGHT):
                seen.append(text.rjust(columns))
            case Line(text):
                seen.append(text.rstrip())
            case Qr(data) | Barcode(data):
                seen.append((" " * ((columns - len(data)) // 2) + data).rstrip())
    return seen


class Bench:
    """Made by `bench()`; the printer is ready when a test gets it."""

    def __init__(self, kind: PrinterKind, group: asyncio.TaskGroup, line_s: float) -> None:
        self.kind = kind
        self.clock = VirtualClock()
        runtime = Runtime(self.clock, SystemIds(), random.Random(7), b"b" * 16)
        self.simulator = kind.simulator(runtime, line_s)
        self.lines: list[Wire] = []
        self.states: list[TerminalStatus] = []
        self.tickets = 0
        self._group = group
        self.runner = Runner(
            "printer",
            REGISTRY.factory(kind.driver_id),
            kind.url,
            self._open,
            runtime,
            lambda _, status: self.states.append(status),
            {"columns": str(COLUMNS), **kind.options},
        )
        face = face_of(self.runner)
        assert isinstance(face, RunnerPrinter)
        self.printer = face

    async def _open(self, url: str) -> MemoryStream:
        assert url == self.kind.url
        if not self.simulator.plugged:
            raise ConnectionRefusedError("nobody listens")
        hub, device = memory_pipe()
        self.lines.append(Wire(hub, device))
        serial = url.startswith("serial:")
        self._group.create_task(self.simulator.serve(device, serial=serial), name=f"device:{len(self.lines)}")
        return hub

    @property
    def escpos(self) -> EscposSimulator:
        """The printer, where it is one for receipts."""
        assert isinstance(self.simulator, EscposSimulator)
        return self.simulator

    @property
    def ipp(self) -> IppSimulator:
        """The printer, where it is one that speaks IPP."""
        assert isinstance(self.simulator, IppSimulator)
        return self.simulator

    @property
    def columns(self) -> int:
        """Characters on a line of its paper."""
        return ROLL_COLUMNS if isinstance(self.simulator, IppSimulator) else self.simulator.options.columns

    @property
    def line(self) -> Wire:
        """The newest line."""
        return self.lines[-1]

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Let virtual time go on until the condition holds."""
        end = self.clock.monotonic() + timeout_s
        while not condition():
            assert self.clock.monotonic() < end, f"waited {timeout_s} virtual seconds in vain for {what}"
            await self.clock.sleep(0.05)

    async def ready(self) -> None:
        """Wait until the printer is ready."""
        recovers_s = REGISTRY.manifest(self.kind.driver_id).recovers_within_s
        await self.until(lambda: self.printer.status.state is DeviceState.READY, "a ready printer", recovers_s)

    def new_ticket(self, rows: int = 1) -> Job:
        """A document with a number of its own."""
        self.tickets += 1
        return Job(self, self.tickets, ticket(self.tickets, rows))

    async def print(self, rows: int = 1) -> Job:
        """Print one. A printer that says nothing is given the time to print it before anybody looks."""
        job = self.new_ticket(rows)
        job.outcome = await self.printer.print(job.document)
        if Capability.PRINTER_STATUS not in self.printer.capabilities:
            await self.clock.sleep(1)
        return job


@dataclass(slots=True)
class Job:
    """What the hub was told of a document, and what the paper shows of it."""

    bench: Bench
    number: int
    document: PrintDocument
    outcome: PrintOutcome | None = None

    @property
    def traces(self) -> int:
        """How often its number stands on paper."""
        text = f"#{self.number:04d}#"
        return sum(line.text.count(text) for receipt in self.bench.simulator.receipts for line in receipt.lines)

    @property
    def whole(self) -> int:
        """How many receipts show it, and nothing else, down to the cut."""
        columns, found = self.bench.columns, 0
        paged = isinstance(self.bench.simulator, IppSimulator)
        expected = (on_page if paged else on_paper)(self.document, columns)
        for receipt in self.bench.simulator.receipts:
            shown = [line.plain(columns) for line in receipt.lines]
            while shown and not shown[-1]:
                shown.pop()
            found += receipt.cut and shown == expected
        return found

    def judge(self, *, may_be_doubled: bool = False) -> None:
        """Fail unless the paper agrees with what the hub was told."""
        match self.outcome:
            case Printed():
                assert (self.whole, self.traces) == (1, 1), self
            case NotPrinted():
                assert self.traces == 0, f"it was printed all the same: {self.outcome}"
            case PrintUnknown():
                assert self.traces <= (2 if may_be_doubled else 1), "printed again without being asked"
            case None:
                raise AssertionError("it was never printed")

    def __repr__(self) -> str:
        return f"{self.outcome}, whole {self.whole}, traces {self.traces}: {self.bench.simulator.receipts}"


@asynccontextmanager
async def bench(name: str, line_s: float = 0.0) -> AsyncIterator[Bench]:
    """A ready printer that takes `line_s` for a line; at the end the runner is stopped and no task may be left."""
    async with asyncio.TaskGroup() as group:
        made = Bench((KINDS | DISPLAYS)[name], group, line_s)
        task = group.create_task(made.runner.run(), name="runner")
        try:
            await made.ready()
            yield made
        finally:
            task.cancel()
