"""Whatever field of whatever message a device puts a card number into, it reaches no value, no state, no log, no trace.

A dialogue is held once and the fields of its messages are noted. Then it is held once for each of them, with a card
number in that field wherever it occurs, and everything that the driver hands over is searched.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from drivers.faces import RunnerModem, RunnerPrinter
from drivers.kit.bench import PeripheralBench, peripheral_bench
from drivers.kit.memory_line import Delivery, MemoryStream
from drivers.kit.virtual_time import VirtualClock, run
from drivers.nexo_crypto import NexoKey
from drivers.runner import Runner
from drivers.sim.ipp import IppSimulator
from drivers.sim.modem import ModemSimulator
from hubd.errors import HubError
from hubd.model.device import Capability, DeviceState
from hubd.model.money import Money
from hubd.model.sms import IncomingSms
from hubd.ports import Approved, EnquiryRequest, ReverseRequest, Stored, TerminalStatus
from tests.contract import card_fields
from tests.contract.card_fields import Fields
from tests.contract.printer_bench import IPP, ticket
from tests.contract.terminal_bench import KINDS, REGISTRY, Bench, bench
from tests.rigs.card_search import CardSearch

NUMBER = "5204739684211358"
SEARCH = CardSearch([NUMBER])
AMOUNT = Money(2040, "EUR")
WELL, ILL = (2040,), (1005, 1013)
"""Amounts that are approved, and that are declined and lost: two dialogues."""
READY_WITHIN_S = 60.0
MODEM = "serial:///dev/modem?baud=115200&stop_bits=1"
TERMINALS: dict[str, Fields] = {
    "caisse_ap": card_fields.caisse_ap,
    "concert": card_fields.concert,
    "nexo": card_fields.nexo(NexoKey("CryptoKeyIdentifier12345", "p@ssw0rd123456", 1)),
    "opi": card_fields.opi,
    "poslink": card_fields.poslink,
    "zvt": card_fields.zvt,
}
Told = Callable[[Coroutine[Any, Any, object] | Awaitable[object]], Awaitable[object]]


@dataclass
class Changer:
    """What becomes of a device's messages: the one field that is changed, or none; which fields there are."""

    fields: Fields
    wanted: str = ""
    seen: set[str] = field(default_factory=set)
    changed: int = 0

    def tamper(self, message: bytes) -> list[Delivery]:
        """See `MemoryStream`: the message as it arrives."""
        for name, other in self.fields(message, NUMBER):
            self.seen.add(name)
            if name == self.wanted:
                self.changed += 1
                return [Delivery(other)]
        return [Delivery(message)]


class Notes:
    """All that a driver hands over."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def add(self, said: object) -> None:
        """Something that was said by the way."""
        self.told.append(repr(said))

    async def of(self, asked: Awaitable[object]) -> object:
        """What was asked for, or why it was refused."""
        try:
            said = await asked
        except HubError as error:
            self.told.append(f"{error.code} {error.detail} {error.remedy} {error.params}")
            return None
        except OSError as error:
            self.told.append(f"{error!r}")
            return None
        self.add(said)
        return said

    def of_runner(self, runner: Runner, states: list[TerminalStatus]) -> None:
        """What is kept of the device, and of its line."""
        self.told += [*map(repr, states), repr(runner.driver.__dict__.get("_facts"))]
        self.told += [line.text for line in runner.trace.lines()]


async def back(clock: VirtualClock, status: Callable[[], TerminalStatus]) -> None:
    """The device is pulled and plugged in; it may not come back if it says what no device says."""
    end = clock.monotonic() + READY_WITHIN_S
    while clock.monotonic() < end and status().state is not DeviceState.READY:
        await clock.sleep(0.5)


async def use_terminal(made: Bench, notes: Notes, amounts: tuple[int, ...]) -> None:
    """Everything that a terminal can be asked for."""
    terminal = made.terminal
    for amount in (Money(minor, "EUR") for minor in amounts):
        baseline = await notes.of(terminal.baseline())
        request = made.request(amount)
        paid = await notes.of(terminal.authorize(request, notes.add))
        await notes.of(terminal.enquire(EnquiryRequest(request.reference, amount, str(baseline or ""))))
        if amount == AMOUNT and isinstance(paid, (Approved, Stored)) and Capability.REVERSE in terminal.capabilities:
            evidence = paid.evidence
            undo = ReverseRequest("reversal", amount, evidence.receipt_number, evidence.trace_number)
            await notes.of(terminal.reverse(undo, notes.add))
    if amounts is ILL:
        return
    for ask in (terminal.end_of_day, terminal.diagnose, terminal.send_offline):
        await notes.of(ask())
    if Capability.PARAMETER_SESSION in terminal.capabilities:
        await notes.of(terminal.parameter_session())
        await notes.of(terminal.tms_contact())


def with_terminal(driver_id: str, changer: Changer, amounts: tuple[int, ...]) -> str:
    """A whole dialogue with a terminal, from its introduction on; all that came of it."""

    async def main() -> str:
        notes = Notes()
        async with bench(driver_id, KINDS[driver_id].urls[0]) as made:
            dial = made.ports.dial

            async def dialled(port: int) -> MemoryStream:
                stream = await dial(port)
                stream.tamper = changer.tamper
                return stream

            if driver_id == "concert":
                made.simulator.faults.set("full_answer", True)
            made.simulator.dial = dialled
            made.on_line = lambda line: setattr(line.device, "tamper", changer.tamper)
            await made.simulator.unplug()
            await made.clock.sleep(1)
            made.simulator.replug()
            await back(made.clock, lambda: made.terminal.status)
            await use_terminal(made, notes, amounts)
            notes.of_runner(made.runner, made.states)
        return "\n".join(notes.told)

    return run(main())


async def use_printer(made: PeripheralBench[Any], notes: Notes) -> None:
    """A paper, and how the printer is."""
    face = made.face
    assert isinstance(face, RunnerPrinter)
    await notes.of(face.print(ticket(1)))
    notes.add(face.condition)


async def use_modem(made: PeripheralBench[Any], notes: Notes) -> None:
    """A message out, and one in."""
    face = made.face
    assert isinstance(face, RunnerModem)
    face.listen(notes.add)
    await made.simulator.receive("+33612345678", "Bonjour")

    async def commit(message: IncomingSms) -> None:
        notes.add(message)

    await notes.of(face.send("+33612345678", "Votre commande est prête.", "message-1"))
    await notes.of(face.take(commit))
    notes.add(face.condition)


def with_peripheral(driver_id: str, changer: Changer) -> str:
    """The same with a device that holds no money."""
    url, make, use = {"ipp": (IPP, IppSimulator, use_printer), "gsm_modem": (MODEM, ModemSimulator, use_modem)}[
        driver_id
    ]

    async def main() -> str:
        notes = Notes()
        async with peripheral_bench(REGISTRY.factory(driver_id), url, make) as made:
            made.on_line = lambda line: setattr(line.device, "tamper", changer.tamper)
            await made.simulator.unplug()
            await made.clock.sleep(1)
            made.simulator.replug()
            await back(made.clock, lambda: made.face.status)
            await use(made, notes)
            await made.clock.sleep(30)
            notes.of_runner(made.runner, made.states)
        return "\n".join(notes.told)

    return run(main())


def leaks(
    hold: Callable[[Changer], str], fields: Fields, caplog: pytest.LogCaptureFixture
) -> Iterator[tuple[str, set[str]]]:
    """Each field through which the number comes, and the forms in which it does."""
    first = Changer(fields)
    assert not SEARCH.found(hold(first))
    assert len(first.seen) >= 10, first.seen
    for name in sorted(first.seen):
        caplog.clear()
        changer = Changer(fields, name)
        told = hold(changer) + caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
        assert changer.changed, f"{name} was not said again"
        if found := SEARCH.found(told):
            yield name, found


@pytest.mark.parametrize("amounts", [WELL, ILL], ids=["well", "ill"])
@pytest.mark.parametrize("driver_id", TERMINALS)
def test_no_field_of_a_terminal_brings_a_card_in(
    driver_id: str, amounts: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert dict(leaks(lambda changer: with_terminal(driver_id, changer, amounts), TERMINALS[driver_id], caplog)) == {}


@pytest.mark.parametrize("driver_id", ["ipp", "gsm_modem"])
def test_no_field_of_a_printer_or_a_modem_brings_a_card_in(driver_id: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    fields = card_fields.ipp if driver_id == "ipp" else card_fields.modem
    assert dict(leaks(lambda changer: with_peripheral(driver_id, changer), fields, caplog)) == {}
