"""What users of ZVT terminals have reported of single models, on both kinds of line."""

from __future__ import annotations

import asyncio

import pytest

from drivers.sim.zvt import ZvtSimulator
from hubd.model.money import Money
from hubd.ports import Approved, EnquiryRequest, Inconclusive, NotTaken, StillRunning, Unknown
from tests.contract.terminal_bench import Bench, bench
from tests.simulation.loop import run

AMOUNT = Money(2040, "EUR")
lines = pytest.mark.parametrize("url", ["tcp://terminal:20007", "serial:///dev/terminal"])


def zvt(made: Bench) -> ZvtSimulator:
    assert isinstance(made.simulator, ZvtSimulator)
    return made.simulator


@lines
def test_a_card_still_in_the_reader_proves_nothing(url: str) -> None:
    async def main() -> None:
        async with bench("zvt", url) as made:
            baseline = await made.terminal.baseline()
            zvt(made).terminal_status = 0xDC
            assert await made.terminal.enquire(EnquiryRequest("p", AMOUNT, baseline)) == StillRunning()
            zvt(made).terminal_status = 0
            assert isinstance(await made.terminal.enquire(EnquiryRequest("p", AMOUNT, baseline)), NotTaken)

    run(main())


@lines
def test_mute_enquiry_after_a_cancelled_card_is_survived(url: str) -> None:
    """Ingenico i5310."""

    async def main() -> None:
        async with bench("zvt", url) as made, asyncio.TaskGroup() as group:
            zvt(made).faults.mute_enquiry_after_cancel = True
            paying = group.create_task(made.pay(Money(1090, "EUR")), name="pay")
            await made.clock.sleep(15)
            await made.terminal.abort()
            payment = await paying
            first = await made.terminal.enquire(EnquiryRequest("p", Money(1090, "EUR"), payment.baseline))
            assert isinstance(first, Inconclusive)
            second = await made.terminal.enquire(EnquiryRequest("p", Money(1090, "EUR"), payment.baseline))
            assert isinstance(second, NotTaken)

    run(main())


@lines
def test_a_reversal_of_another_payment_whose_status_lies_is_unknown(url: str) -> None:
    """PAX A80: the status information repeats what was asked, only the printed receipt tells."""

    async def main() -> None:
        async with bench("zvt", url) as made:
            first = (await made.pay(Money(222, "EUR"))).outcome
            await made.pay(Money(333, "EUR"))
            assert isinstance(first, Approved)
            zvt(made).faults.reverse_last_hidden = True
            reversal = await made.reverse(Money(222, "EUR"), first.evidence.receipt_number)
            assert isinstance(reversal.outcome, Unknown), reversal.outcome
            assert isinstance(reversal.verdict, Unknown), reversal.verdict

    run(main())


@lines
def test_an_enquiry_without_content_is_inconclusive(url: str) -> None:
    async def main() -> None:
        async with bench("zvt", url) as made:
            lost = await made.pay(Money(1014, "EUR"))
            assert isinstance(lost.enquiry, Inconclusive)
            assert lost.enquiry.reason == "no_content"

    run(main())
