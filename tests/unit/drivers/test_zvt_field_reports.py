"""What users of ZVT terminals have reported of single models, on both kinds of line."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from drivers.kit.virtual_time import run
from drivers.sim.zvt import ZvtSimulator
from drivers.zvt import ZvtTerminal
from hubd.model.money import Money
from hubd.ports import Approved, EnquiryRequest, Inconclusive, NotStarted, NotTaken, Progress, StillRunning, Unknown
from tests.contract.terminal_bench import Bench, bench

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


@lines
def test_a_reversal_that_undid_another_payment_is_unknown_and_never_repeated(url: str) -> None:
    """PAX A80: status and receipt name 3.33 where 2.22 was to be undone."""

    async def main() -> None:
        async with bench("zvt", url) as made:
            first = (await made.pay(Money(222, "EUR"))).outcome
            await made.pay(Money(333, "EUR"))
            assert isinstance(first, Approved)
            zvt(made).faults.reverse_last = True
            made.line.watch()
            reversal = await made.reverse(Money(222, "EUR"), first.evidence.receipt_number)
            assert isinstance(reversal.verdict, Unknown), reversal.verdict
            assert (reversal.commands, [t.amount_minor for t in reversal.booked]) == (1, [333])

    run(main())


@lines
def test_either_word_for_taken_is_understood(url: str) -> None:
    async def main() -> None:
        async with bench("zvt", url) as made:
            zvt(made).faults.alternative_acks = True
            assert isinstance((await made.pay(AMOUNT)).outcome, Approved)

    run(main())


@lines
def test_please_wait_is_no_payment_and_the_hub_does_not_ask_again_by_itself(url: str) -> None:
    async def main() -> None:
        async with bench("zvt", url) as made:
            await made.terminal.baseline()
            made.line.watch()
            zvt(made).faults.busy_answers = 1
            payment = await made.pay(AMOUNT)
            assert isinstance(payment.outcome, NotStarted)
            assert (payment.outcome.reason, payment.commands, payment.booked) == ("terminal_busy", 1, [])
            (await made.pay(AMOUNT)).judge(AMOUNT)

    run(main())


@lines
def test_the_hub_never_changes_an_amount_nor_calls_goods_back(url: str) -> None:
    """84 9D and 84 66 as answers to a status information would: it says 80 00 00 and nothing else."""

    async def main() -> None:
        async with bench("zvt", url) as made:
            await made.terminal.baseline()
            made.line.watch()
            (await made.pay(AMOUNT)).judge(AMOUNT)
            said = {block.removeprefix(b"\x10\x02")[:3] for block in made.line.hub_blocks if len(block) > 1}
            assert {head for head in said if head[0] in (0x80, 0x84)} == {b"\x80\x00\x00"}

    run(main())


@lines
def test_a_terminal_shows_a_text_takes_a_time_and_its_words_reach_the_cashier(url: str) -> None:
    async def main() -> None:
        async with bench("zvt", url) as made:
            driver = made.runner.driver
            assert isinstance(driver, ZvtTerminal)
            assert (await driver.show(("Guten Tag", "Küche"), 5)).done
            assert zvt(made).shown == ("Guten Tag", "Küche")
            assert (await driver.set_clock(datetime(2026, 12, 1, 14, 25, 30))).done  # noqa: DTZ001 - the shop's own
            assert zvt(made).clock_set == "261201142530"
            zvt(made).faults.words = "Karte länger vorhalten"
            heard: list[Progress] = []
            await made.terminal.authorize(made.request(AMOUNT), heard.append)
            assert Progress("terminal_says", "Karte länger vorhalten") in heard

    run(main())
