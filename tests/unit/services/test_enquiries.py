"""How long the hub goes on asking about an unknown payment, and what it asks before a terminal's memory is replaced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random as SeededRandom  # noqa: TID251 - the seed itself, made in one place

import pytest

from drivers.kit.virtual_time import VirtualClock, run
from drivers.sim.zvt import SimulatorOptions, ZvtSimulator
from hubd.model.payment import ManualStatus, PaymentState
from hubd.runtime import Runtime, SystemIds
from hubd.services.dialogue import INCONCLUSIVE_MAX
from tests.simulation.disk import Disk
from tests.simulation.seeded import stream
from tests.unit.services.shop import BOOT, MANAGER, Shop, Terminals, shop

pytestmark = pytest.mark.blocking_allowed("the database runs inline, on a loop whose time is virtual")
URL = "tcp://terminal-1"
LOST = 2000 + 13
"""The simulated terminal approves this amount and loses its answer; an enquiry finds it."""
ASKED_LONG_ENOUGH_S = 600.0


def at_a_counter(folder: Path, story: Callable[[Shop, ZvtSimulator], Awaitable[None]]) -> None:
    """Tell a story of a shop with one terminal, in virtual time."""

    async def main() -> None:
        clock = VirtualClock()
        runtime = Runtime(clock, SystemIds(), SeededRandom(7), BOOT, b"1-process")
        disk = Disk(folder, clock, stream(1, "disk"), lambda _head, _confirmed: None)
        counter = Terminals(runtime)
        simulator = counter.add(URL, SimulatorOptions())
        async with shop(folder, counter, runtime, open_thread=disk.open_thread) as opened:
            await opened.add_terminal(URL)
            await story(opened, simulator)

    run(main())


@pytest.mark.parametrize("minutes", [1, 5, 120])
def test_a_terminal_that_was_gone_for_long_is_asked_when_it_is_back(tmp_path: Path, minutes: int) -> None:
    async def story(opened: Shop, simulator: ZvtSimulator) -> None:
        opened.counter.unplugged.add(URL)
        taken = await opened.take(LOST)
        await opened.until(taken.payment.id, "unknown")
        await simulator.unplug()
        await opened.services.runtime.clock.sleep(minutes * 60)
        assert (await opened.services.payments.get(taken.payment.id)).state is PaymentState.UNKNOWN
        opened.counter.unplugged.discard(URL)
        simulator.replug()
        await opened.services.runtime.clock.sleep(2 * 60)
        assert (await opened.services.payments.get(taken.payment.id)).state is PaymentState.APPROVED
        assert simulator.authorizations_received == 1

    at_a_counter(tmp_path, story)


def test_a_terminal_that_answers_and_proves_nothing_is_left_to_a_person(tmp_path: Path) -> None:
    async def story(opened: Shop, simulator: ZvtSimulator) -> None:
        simulator.faults.no_receipt_content = True
        taken = await opened.take(LOST)
        unknown = await opened.until(taken.payment.id, "unknown")
        await opened.services.runtime.clock.sleep(ASKED_LONG_ENOUGH_S)
        assert not opened.services.payments.asking(unknown), f"asked {INCONCLUSIVE_MAX} times, then no more"

    at_a_counter(tmp_path, story)


def test_before_a_reversal_replaces_the_last_receipt_the_terminal_is_asked_about_what_is_unknown(
    tmp_path: Path,
) -> None:
    """A terminal tells of its last transaction alone: after the reversal nobody could ask about the payment."""

    async def story(opened: Shop, simulator: ZvtSimulator) -> None:
        sold = await opened.until((await opened.take(1500)).payment.id, "approved")
        await opened.services.runtime.clock.sleep(1)  # the terminal is free again just after the verdict is on disk
        simulator.faults.no_receipt_content = True
        lost = await opened.until((await opened.take(LOST)).payment.id, "unknown")
        await opened.services.runtime.clock.sleep(ASKED_LONG_ENOUGH_S)
        simulator.faults.no_receipt_content = False
        await opened.services.payments.reverse(sold.id, MANAGER)
        assert (await opened.until(sold.id, "reversed")).state is PaymentState.REVERSED
        assert (await opened.services.payments.get(lost.id)).state is PaymentState.APPROVED

    at_a_counter(tmp_path, story)


def test_a_reversal_that_was_decided_before_it_was_sent_is_not_sent(tmp_path: Path) -> None:
    """It waits for an enquiry; meanwhile the manager says that the money was taken, and the customer leaves."""

    async def story(opened: Shop, simulator: ZvtSimulator) -> None:
        sold = await opened.until((await opened.take(1500)).payment.id, "approved")
        await opened.services.runtime.clock.sleep(1)
        simulator.faults.no_receipt_content = True
        await opened.until((await opened.take(LOST)).payment.id, "unknown")
        await opened.services.runtime.clock.sleep(ASKED_LONG_ENOUGH_S)
        simulator.faults.answer_delay_s = 1
        await opened.services.payments.reverse(sold.id, MANAGER)
        decided = await opened.services.payments.resolve(sold.id, ManualStatus.SUCCESS, "the customer pays", MANAGER)
        simulator.faults.answer_delay_s = 0
        await opened.services.runtime.clock.sleep(ASKED_LONG_ENOUGH_S)
        assert [one.kind for one in simulator.ledger.transactions] == ["payment", "payment"]
        assert await opened.services.payments.get(sold.id) == decided
        after = await opened.until((await opened.take(700)).payment.id, "approved")
        assert after.state is PaymentState.APPROVED, "the terminal is free"

    at_a_counter(tmp_path, story)


def test_a_restarted_hub_does_not_believe_that_another_payment_was_reversed(tmp_path: Path) -> None:
    """The terminal undoes its last payment, whichever was named; only the trace number tells, and the ledger has it."""

    async def sell(opened: Shop) -> str:
        sold = await opened.until((await opened.take(1500)).payment.id, "approved")
        await opened.services.runtime.clock.sleep(1)
        return sold.id

    async def story(opened: Shop, simulator: ZvtSimulator) -> None:
        first, _ = await sell(opened), await sell(opened)
        (device,) = await opened.services.devices.all()
        await opened.services.devices.deactivate(device.device.id, MANAGER)
        await opened.services.devices.activate(device.device.id, MANAGER)  # a driver that remembers nothing
        await opened.ready(device.device.id)
        simulator.faults.reverse_last_hidden = True
        await opened.services.payments.reverse(first, MANAGER)
        await opened.services.runtime.clock.sleep(ASKED_LONG_ENOUGH_S)
        payment = await opened.services.payments.get(first)
        assert payment.state is PaymentState.REVERSAL_PENDING, "a person decides"

    at_a_counter(tmp_path, story)
