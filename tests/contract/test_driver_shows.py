"""What every terminal driver must keep that can show a text: it moves no money, and interrupts nobody who pays."""

from __future__ import annotations

import asyncio

import pytest

from drivers.kit.virtual_time import run
from drivers.sim.zvt import ZvtSimulator
from hubd.errors import DeviceError
from hubd.model.device import Capability
from hubd.model.money import Money
from hubd.ports import Approved
from tests.contract.terminal_bench import bench, terminals_that
from tests.contract.test_driver_contract import pay_again

LINES = ("This terminal is", "Bar")


@terminals_that(Capability.SHOW_TEXT)
def test_a_text_is_shown_and_the_books_stay_as_they_were(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            assert isinstance(made.simulator, ZvtSimulator), "the only one that shows texts so far"
            made.line.watch()
            assert isinstance((await made.pay(Money(2040, "EUR"))).outcome, Approved)
            books, sent = made.simulator.ledger.as_json(), made.money_blocks
            assert (await made.terminal.show(LINES, 5)).done
            assert made.simulator.shown == LINES
            assert (made.simulator.ledger.as_json(), made.money_blocks, sent) == (books, 1, 1)
            await pay_again(made)

    run(main())


@terminals_that(Capability.SHOW_TEXT)
def test_a_running_payment_is_not_interrupted_by_a_text(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            assert isinstance(made.simulator, ZvtSimulator)
            made.line.watch()
            made.simulator.faults.answer_delay_s = 1.0
            async with asyncio.TaskGroup() as group:
                paying = group.create_task(made.pay(Money(2040, "EUR")))
                await made.until(lambda: made.money_blocks == 1, "a payment under way")
                with pytest.raises(DeviceError) as refused:
                    await made.terminal.show(LINES, 5)
            assert refused.value.code == "device.busy"
            assert made.simulator.shown == ()
            assert isinstance(paying.result().outcome, Approved)

    run(main())


@terminals_that(Capability.SHOW_TEXT)
def test_a_terminal_that_somebody_else_uses_or_that_is_silent_shows_nothing(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            assert isinstance(made.simulator, ZvtSimulator)
            made.simulator.faults.busy_answers = 1
            busy = await made.terminal.show(LINES, 5)
            assert (busy.done, busy.reason, made.simulator.shown) == (False, "terminal_busy", ())
            made.simulator.faults.silent = True
            lost = await made.terminal.show(LINES, 5)
            assert (lost.done, lost.reason) == (False, "no_answer")
            made.simulator.faults.clear()
            await made.ready()
            await pay_again(made)

    run(main())


@terminals_that()
def test_a_driver_that_does_not_claim_it_sends_nothing(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            if Capability.SHOW_TEXT in made.terminal.capabilities:
                return
            made.line.watch()
            shown = await made.terminal.show(LINES, 5)
            assert (shown.done, shown.reason, made.line.hub_blocks) == (False, "not_supported", [])

    run(main())
