"""Testing a terminal moves no money: nothing that could leaves the hub, and its books stay as they were."""

from __future__ import annotations

import pytest

from drivers.kit.virtual_time import run
from hubd.errors import DeviceError
from hubd.model.money import Money
from hubd.ports import Approved
from tests.contract.terminal_bench import bench, terminals_that

terminals = terminals_that()


@terminals
def test_a_test_leaves_the_books_as_they_were_and_the_next_payment_works(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            first = await made.pay(Money(2040, "EUR"))
            assert isinstance(first.outcome, Approved)
            books, sent = made.simulator.ledger.as_json(), made.money_blocks
            for _ in range(3):
                await made.runner.look()
            assert made.simulator.ledger.as_json() == books
            assert made.money_blocks == sent
            assert made.terminal.status.problem == ""
            second = await made.pay(Money(1250, "EUR"))
            assert isinstance(second.outcome, Approved)
            assert made.simulator.ledger.as_json() != books, "the check sees money that moves"

    run(main())


@terminals
def test_a_terminal_that_says_nothing_fails_its_test(driver_id: str, url: str) -> None:
    async def main() -> None:
        async with bench(driver_id, url) as made:
            await made.simulator.unplug()
            with pytest.raises(DeviceError) as refused:
                await made.runner.look()
            assert refused.value.code in ("device.no_answer", "device.gone")
            assert refused.value.remedy

    run(main())
