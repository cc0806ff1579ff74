"""What every terminal driver must keep when the line goes after the terminal has given its verdict."""

from __future__ import annotations

from drivers.kit.virtual_time import run
from hubd.model.device import Capability
from hubd.ports import Unknown
from tests.contract.terminal_bench import bench, terminals_that
from tests.contract.test_driver_contract import AMOUNT


@terminals_that(Capability.QUERY_LAST, numbered=True)
def test_a_line_that_goes_before_a_receipt_number_is_asked_for_again_leaves_the_payment_unknown(
    driver_id: str, url: str
) -> None:
    """The terminal has approved and ended the dialogue: a line that is lost then says nothing against the payment."""

    async def main(cut_after: int) -> int:
        async with bench(driver_id, url) as made:
            await made.terminal.baseline()
            begun = made.line.device.bytes_written
            await made.pay(AMOUNT)
            dialogue = made.line.device.bytes_written - begun
            made.simulator.faults.wrong_receipt = True
            made.line.device.cut_after = begun + dialogue + cut_after
            payment = await made.pay(AMOUNT)
            assert isinstance(payment.outcome, Unknown), payment.outcome
            payment.judge(AMOUNT)
            return dialogue

    size = run(main(0))
    for at in range(size - 12, size + 12):
        run(main(at))
