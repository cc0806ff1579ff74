"""A terminal driver on its runner, against its simulator, on lines that a test can spoil; all in virtual time."""

from __future__ import annotations

import asyncio
import os
import random  # noqa: TID251 - the bench makes the Runtime that everybody else is given
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from drivers.base import CURRENCY, PASSWORD, DriverOptions
from drivers.faces import RunnerTerminal, face_of
from drivers.kit.bench import READY_TIMEOUT_S, Line
from drivers.kit.memory_line import MemoryPorts, MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock
from drivers.registry import load
from drivers.runner import Runner
from drivers.sim.caisse_ap import CaisseApSimulator
from drivers.sim.concert import ConcertSimulator
from drivers.sim.ledger import Transaction, TransactionState
from drivers.sim.nexo import NexoSimulator
from drivers.sim.opi import OpiSimulator
from drivers.sim.poslink import PoslinkSimulator
from drivers.sim.poslink import SimulatorOptions as PoslinkSimulatorOptions
from drivers.sim.terminal import TerminalSimulator
from drivers.sim.zvt import ZvtSimulator
from hubd.model.device import Capability, DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    Cancelled,
    Declined,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Progress,
    ReverseRequest,
    StillRunning,
    Stored,
    TerminalStatus,
    Unknown,
)
from hubd.runtime import Runtime, SystemIds

MOVED = {TransactionState.APPROVED, TransactionState.STORED, TransactionState.FORWARDED}
ENQUIRIES_MAX = 40
ENQUIRY_INTERVAL_S = 30.0
SETTLE_S = 20.0


@dataclass(frozen=True, slots=True)
class TerminalKind:
    """What a driver brings along for the contract: its simulator, its addresses, how its money commands look."""

    simulator: Callable[[Runtime], TerminalSimulator]
    urls: tuple[str, ...]
    moves_money: Callable[[bytes], bool]
    """Whether a block that the hub writes can move money."""
    terminal_id: str = "52500038"
    """What it tells of itself; empty where the protocol has no word for it."""
    numbered: bool = False
    """Whether an enquiry is judged by receipt numbers, and not by the payment's own id."""
    shows_last4: bool = True
    """Whether its answers name the last four digits of the card."""
    tells_stored: bool = True
    """Whether it says that a payment is kept to be sent later; otherwise it calls it approved."""
    refused_problem: str = "function_not_possible"
    """What is shown when it does not let the hub in."""
    options: DriverOptions = field(default_factory=dict)
    """What its driver must be told of the simulated terminal; the contract pays in EUR."""
    byte_step: int = 1
    """Long messages are cut, split and spoiled at every byte of this many; at all of them with HUBD_SOAK."""

    def places(self, *bounds: int) -> range:
        """Bytes of a message to try, from `range` with the same bounds."""
        return range(*bounds)[:: 1 if os.environ.get("HUBD_SOAK") else self.byte_step]


def _zvt_moves_money(block: bytes) -> bool:
    return block.removeprefix(b"\x10\x02")[:2] in (b"\x06\x01", b"\x06\x30", b"\x06\x31")


def _concert_moves_money(block: bytes) -> bool:
    return block.startswith(b"\x02")


def _caisse_ap_moves_money(block: bytes) -> bool:
    return re.search(rb"CD001[0-9]", block) is not None


def _poslink_moves_money(block: bytes) -> bool:
    return block[1:5] == b"T00\x1c"


def _opi_moves_money(block: bytes) -> bool:
    return b'RequestType="CardPayment"' in block or b'RequestType="PaymentReversal"' in block


def _nexo_moves_money(block: bytes) -> bool:
    return any(f'"MessageCategory":"{name}"'.encode() in block for name in ("Payment", "Reversal"))


REGISTRY = load()
KINDS = {
    "concert": TerminalKind(
        ConcertSimulator,
        ("tcp://terminal:8888", "serial:///dev/terminal"),
        _concert_moves_money,
        terminal_id="",
        shows_last4=False,
        tells_stored=False,
        refused_problem="cash_connection_refused",
    ),
    "caisse_ap": TerminalKind(
        CaisseApSimulator,
        ("tcp://terminal:8888",),
        _caisse_ap_moves_money,
        terminal_id="",
        tells_stored=False,
        refused_problem="forbidden",
    ),
    "poslink": TerminalKind(
        lambda runtime: PoslinkSimulator(runtime, PoslinkSimulatorOptions(currency="EUR")),
        ("tcp://terminal:10009",),
        _poslink_moves_money,
        refused_problem="request_refused",
        options={CURRENCY: "EUR"},
    ),
    "opi": TerminalKind(
        OpiSimulator, ("tcp://terminal:4100",), _opi_moves_money, refused_problem="login_refused", byte_step=5
    ),
    "nexo": TerminalKind(
        NexoSimulator,
        ("tls://terminal:8443",),
        _nexo_moves_money,
        terminal_id="V400m-52500038",
        refused_problem="not_allowed",
        options={
            "poiid": "V400m-52500038",
            "key_identifier": "CryptoKeyIdentifier12345",
            PASSWORD: "p@ssw0rd123456",
        },
        byte_step=11,
    ),
    "zvt": TerminalKind(
        ZvtSimulator, ("tcp://terminal:20007", "serial:///dev/terminal"), _zvt_moves_money, numbered=True
    ),
}
CASES = [(driver_id, url) for driver_id, kind in sorted(KINDS.items()) for url in kind.urls]


def terminals_that(*wanted: Capability, numbered: bool = False) -> pytest.MarkDecorator:
    """Run a test with every driver that has these capabilities, on each kind of line that it has."""
    cases = [
        (driver_id, url)
        for driver_id, url in CASES
        if set(wanted) <= REGISTRY.manifest(driver_id).capabilities and (KINDS[driver_id].numbered or not numbered)
    ]
    ids = [f"{driver_id}-{url.partition(':')[0]}" for driver_id, url in cases]
    return pytest.mark.parametrize(("driver_id", "url"), cases, ids=ids)


class Bench:
    """Made by `bench()`; the terminal is ready when a test gets it."""

    def __init__(self, driver_id: str, url: str, group: asyncio.TaskGroup) -> None:
        self.driver_id = driver_id
        self.kind = KINDS[driver_id]
        self.url = url
        self.clock = VirtualClock()
        runtime = Runtime(self.clock, SystemIds(), random.Random(7), b"b" * 16)
        self.simulator = self.kind.simulator(runtime)
        self.lines: list[Line] = []
        self.states: list[TerminalStatus] = []
        self.on_line: Callable[[Line], None] | None = None
        self.reference_count = 0
        self.trace_numbers: dict[str, str] = {}
        """Of approved payments, by receipt number: a reversal is asked for with both."""
        self.ports = MemoryPorts(group)
        """Where the terminal may call the hub."""
        self.simulator.dial = self.ports.dial
        self._group = group
        factory = REGISTRY.factory(driver_id)
        self.runner = Runner(
            driver_id,
            factory,
            url,
            self._open,
            runtime,
            lambda _, status: self.states.append(status),
            self.kind.options,
            accept_lines=self.ports.accept,
        )
        face = face_of(self.runner)
        assert isinstance(face, RunnerTerminal)
        self.terminal = face

    async def _open(self, url: str) -> MemoryStream:
        assert url == self.url
        if not self.simulator.plugged:
            raise ConnectionRefusedError("nobody listens")
        hub, device = memory_pipe()
        line = Line(hub, device)
        self.lines.append(line)
        if self.on_line:
            self.on_line(line)
        self._group.create_task(
            self.simulator.serve(device, serial=url.startswith("serial:")), name=f"device:{len(self.lines)}"
        )
        return hub

    @property
    def line(self) -> Line:
        """The newest line."""
        return self.lines[-1]

    @property
    def money_blocks(self) -> int:
        """How many commands that move money the hub has written, on all watched lines."""
        return sum(self.kind.moves_money(block) for line in self.lines for block in line.hub_blocks)

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Let virtual time go on until the condition holds."""
        end = self.clock.monotonic() + timeout_s
        while not condition():
            assert self.clock.monotonic() < end, f"waited {timeout_s} virtual seconds in vain for {what}"
            await self.clock.sleep(0.05)

    async def ready(self) -> None:
        """Wait until the terminal is ready."""
        await self.until(lambda: self.terminal.status.state is DeviceState.READY, "a ready terminal", self.recovers_s)

    @property
    def recovers_s(self) -> float:
        """What its driver states."""
        return REGISTRY.manifest(self.driver_id).recovers_within_s

    def request(self, amount: Money) -> AuthorizeRequest:
        """A payment with a reference of its own."""
        self.reference_count += 1
        return AuthorizeRequest(f"payment-{self.reference_count}", amount)

    async def pay(self, amount: Money) -> Payment:
        """Take a payment and, if its outcome is unknown, ask until the terminal has told."""
        baseline = await self.terminal.baseline()
        known = {transaction.trace for transaction in self.simulator.ledger.transactions}
        before = self.money_blocks
        progress: list[Progress] = []
        request = self.request(amount)
        outcome = await self.terminal.authorize(request, progress.append)
        payment = Payment(outcome, baseline, known, self.can_ask)
        payment.commands = self.money_blocks - before
        if isinstance(outcome, Unknown):
            await self.resolve(payment, EnquiryRequest(request.reference, amount, baseline))
        payment.booked = [t for t in self.simulator.ledger.transactions if t.kind == "payment" and t.trace not in known]
        if isinstance(payment.verdict, (Approved, Stored)):
            evidence = payment.verdict.evidence
            self.trace_numbers[evidence.receipt_number] = evidence.trace_number
        return payment

    @property
    def can_ask(self) -> bool:
        """Whether the terminal can be asked what became of a payment."""
        return Capability.QUERY_LAST in self.terminal.capabilities

    async def resolve(self, payment: Payment, request: EnquiryRequest) -> None:
        """Ask what became of it, as often as a service would."""
        began = self.clock.monotonic()
        for _ in range(ENQUIRIES_MAX):
            payment.enquiry = await self.terminal.enquire(request)
            if isinstance(payment.enquiry, (Found, NotTaken)):
                took_s = self.clock.monotonic() - began
                assert took_s <= self.recovers_s, f"{took_s} s, and its driver states {self.recovers_s} s"
                return
            assert isinstance(payment.enquiry, (Inconclusive, StillRunning))
            if not self.can_ask:
                return
            await self.clock.sleep(ENQUIRY_INTERVAL_S)

    async def reverse(self, amount: Money, receipt_number: str) -> Payment:
        """Undo a payment and resolve it if its outcome is unknown."""
        baseline = await self.terminal.baseline()
        before = self.money_blocks
        trace_number = self.trace_numbers.get(receipt_number, "")
        request = ReverseRequest("reversal", amount, receipt_number, trace_number)
        payment = Payment(await self.terminal.reverse(request, lambda _: None), baseline, set(), self.can_ask)
        payment.commands = self.money_blocks - before
        if isinstance(payment.outcome, Unknown):
            enquiry = EnquiryRequest("reversal", amount, baseline, receipt_number, trace_number)
            await self.resolve(payment, enquiry)
        payment.booked = [t for t in self.simulator.ledger.transactions if t.kind == "reversal"]
        return payment


@dataclass(slots=True)
class Payment:
    """What the hub heard, and what the terminal's own books say."""

    outcome: Approved | Stored | Declined | Cancelled | NotStarted | Unknown
    baseline: str
    known: set[int]
    can_ask: bool
    enquiry: Found | NotTaken | StillRunning | Inconclusive | None = None
    booked: list[Transaction] = field(default_factory=list)
    commands: int = 0

    @property
    def refused_without_proof(self) -> bool:
        """Whether it is called off although the command has left; before that, not to have started is the truth."""
        called_off = isinstance(self.outcome, (Declined, Cancelled))
        return called_off or (isinstance(self.outcome, NotStarted) and self.commands > 0)

    @property
    def verdict(self) -> Approved | Stored | Declined | Cancelled | NotStarted | NotTaken | Unknown:
        """The last word: the outcome, or what the enquiry found; `Unknown` while it found nothing."""
        if isinstance(self.enquiry, Found):
            return self.enquiry.outcome
        return self.enquiry if isinstance(self.enquiry, NotTaken) else self.outcome

    def judge(self, amount: Money, *, may_stay_unknown: bool = False) -> None:
        """Fail unless hub and terminal agree about the money."""
        moved = [t for t in self.booked if t.state in MOVED]
        assert self.commands <= 1, "a command that moves money was written twice"
        assert len(self.booked) <= 1, f"the terminal made more than one transaction: {self.booked}"
        verdict = self.verdict
        if isinstance(verdict, Unknown):
            assert may_stay_unknown or not self.can_ask, f"never resolved: {self}"
        elif isinstance(verdict, (Approved, Stored)):
            assert [(t.amount_minor, t.currency) for t in moved] == [(amount.amount_minor, amount.currency)], self
        else:
            assert moved == [], f"the terminal has the money, the hub says {verdict}"


@asynccontextmanager
async def bench(driver_id: str, url: str) -> AsyncIterator[Bench]:
    """A ready terminal; at the end the runner is stopped and no task may be left."""
    async with asyncio.TaskGroup() as group:
        made = Bench(driver_id, url, group)
        task = group.create_task(made.runner.run(), name="runner")
        try:
            await made.ready()
            yield made
        finally:
            task.cancel()
