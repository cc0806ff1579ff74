"""Card terminals of a run: the real simulator on lines that break, with books of its own that the checkers read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from drivers.kit.memory_line import Delivery, MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock
from drivers.sim.ledger import Ledger, Transaction, TransactionState
from drivers.sim.zvt import SimulatorOptions, ZvtSimulator
from hubd.runtime import Runtime
from tests.simulation.faults import TerminalFaults
from tests.simulation.seeded import Random, SeededIds
from tests.simulation.trace import Trace

CHARGED = frozenset({TransactionState.APPROVED, TransactionState.STORED, TransactionState.FORWARDED})
STRANDED_FOR_S = 90.0
"""How long a terminal believes in a line whose other end lost power."""
AWAY = 1 << 30


class WatchedLedger(Ledger):
    """The terminal's books; whoever judges the run hears of every line in them."""

    def __init__(self, booked: Callable[[Transaction], None]) -> None:
        super().__init__()
        self._booked = booked

    def book(self, transaction: Transaction) -> Transaction:
        booked = super().book(transaction)
        self._booked(booked)
        return booked


@dataclass(slots=True)
class Line:
    """One connection; `hub` is the hub's end."""

    hub: MemoryStream
    device: MemoryStream


@dataclass(slots=True)
class TerminalBox:
    """One terminal on the counter."""

    name: str
    url: str
    trace: Trace
    clock: VirtualClock
    dice: Random
    group: asyncio.TaskGroup
    booked: Callable[[TerminalBox, Transaction], None]
    device_id: str = ""
    prints_reference: bool = False
    """Its receipts show the id of the payment."""
    cable: str = ""
    """The only hub that reaches it; empty: every hub does."""
    lines: list[Line] = field(default_factory=list)
    sim: ZvtSimulator = field(init=False)
    ledger: WatchedLedger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = WatchedLedger(self._note)
        runtime = Runtime(self.clock, SeededIds(self.dice), self.dice, b"t" * 16, b"t" * 8)
        options = SimulatorOptions(
            think_s=self.dice.choice((0.5, 2.0, 8.0)),
            keeps_going=self.dice.random() < 0.5,
            print_blocks=self.dice.random() < 0.3,
            print_reference=self.prints_reference,
        )
        self.sim = ZvtSimulator(runtime, options, self.ledger)

    def _note(self, transaction: Transaction) -> None:
        self.trace.note(
            self.name, "booked", transaction.trace, transaction.kind, transaction.state.value,
            transaction.amount_minor, transaction.receipt_number, transaction.reference,
        )  # fmt: skip
        self.booked(self, transaction)

    @property
    def serial(self) -> bool:
        return self.url.startswith("serial:")

    def connect(self) -> Line:
        """A fresh line to it. Raises ConnectionRefusedError while it is unplugged."""
        if not self.sim.plugged:
            raise ConnectionRefusedError("nobody listens")
        line = Line(*memory_pipe())
        line.hub.delay_s = line.device.delay_s = self.dice.choice((0.0, 0.001, 0.02))
        for old in self.lines:
            if self.serial:
                old.device.cut()  # there is one cable: what lay unanswered in the old line is never answered beside it
            else:
                asyncio.get_running_loop().call_later(self.dice.uniform(0, STRANDED_FOR_S), old.device.cut)
        self.lines = [line]
        self.group.create_task(self.sim.serve(line.device, serial=self.serial), name=f"{self.name}:line")
        return line

    def plug_into(self, hub: str) -> None:
        """From now on only this hub reaches it; with an empty name every hub does."""
        self.trace.note(self.name, "plugged-into", hub or "all")
        self.cable = hub
        for line in self.lines:
            line.hub.cut()

    def charges(self) -> list[Transaction]:
        """Payments for which the customer's money moved, reversed later or not."""
        moved = CHARGED | {TransactionState.REVERSED}
        return [t for t in self.ledger.transactions if t.kind == "payment" and t.state in moved]

    # -- faults --------------------------------------------------------------------------------------------------------

    async def go_wrong(self, faults: TerminalFaults) -> None:
        """One fault now, and its end."""
        dice, sim = self.dice, self.sim
        lasts_s = dice.expovariate(1 / faults.lasts_s)
        kind = dice.random()
        if kind < faults.unplug:
            self.trace.note(self.name, "unplugged")
            await sim.unplug()
            await self.clock.sleep(lasts_s)
            sim.replug()
        elif kind < faults.unplug + faults.host_alone:
            self.trace.note(self.name, "host-away")
            sim.host_up = False
            await self.clock.sleep(lasts_s)
            sim.host_up = True
        elif kind < 0.35:
            self.trace.note(self.name, "line-cut")
            for line in self.lines:
                line.hub.cut()
        elif kind < 0.5 and self.serial:
            self.trace.note(self.name, "noise")
            self._noise(dice.uniform(0.02, 0.3))
            await self.clock.sleep(lasts_s)
            self._noise(0.0)
        else:
            name, value = self._fault()
            self.trace.note(self.name, "fault", name, value)
            sim.faults.set(name, value)
            await self.clock.sleep(lasts_s)
            sim.faults.clear()
        self.trace.note(self.name, "well")

    def _fault(self) -> tuple[str, object]:
        dice = self.dice
        menu: list[tuple[str, object]] = [
            ("split_bytes", dice.randint(1, 5)),
            ("answer_delay_s", dice.choice((0.5, 3.0, 6.0, 30.0, 200.0))),
            ("answer_twice", True),
            ("silent", True),
            ("babble", True),
            ("unplug_at_byte", dice.randint(1, 300)),
            ("drop_frame", dice.randint(1, 12)),
            ("wrong_amount", True),
            ("wrong_receipt", True),
            ("no_receipt_content", True),
            ("mute_enquiry_after_cancel", True),
            ("clearing_fails", True),
        ]
        if self.serial:
            menu.append(("corrupt_frame", dice.randint(1, 12)))
        return dice.choice(menu)

    def _noise(self, chance: float) -> None:
        def tamper(data: bytes) -> list[Delivery]:
            if self.dice.random() >= chance:
                return [Delivery(data)]
            kind = self.dice.random()
            if kind < 0.4:
                return []
            if kind < 0.6:
                return [Delivery(data), Delivery(data)]
            index = self.dice.randrange(len(data))
            return [Delivery(data[:index] + bytes((data[index] ^ 1 << self.dice.randrange(8),)) + data[index + 1 :])]

        for line in self.lines:
            line.device.tamper = tamper if chance else None

    async def heal(self) -> None:
        """Everything about it is well from now on."""
        self.sim.faults.clear()
        self.sim.host_up = True
        self._noise(0.0)
        if not self.sim.plugged:
            self.sim.replug()
