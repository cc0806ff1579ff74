"""A terminal that says one thing and ends with another: what was said first counts too, and no failure is overheard."""

from __future__ import annotations

import pytest

from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from drivers.zvt_codec import Apdu, amount_to_bcd, build_fields, encode_apdu, encode_serial
from drivers.zvt_messages import ABORT, COMPLETION, INTERMEDIATE_STATUS, STATUS_INFORMATION, encode_totals
from hubd.errors import DeviceError
from hubd.model.money import Money
from hubd.ports import Declined, FlushResult, Stored, TerminalTotals, Unknown
from tests.contract.terminal_bench import Bench, bench

DECLINED = Money(2005, "EUR")
lines = pytest.mark.parametrize("url", ["tcp://terminal:20007", "serial:///dev/terminal"])
APPROVED = Apdu(STATUS_INFORMATION, build_fields([(0x27, b"\0"), (0x04, amount_to_bcd(2005)), (0x87, b"\x00\x01")]))
TAKE_GOODS = Apdu(INTERMEDIATE_STATUS, b"\x1c")
WELL = Apdu(COMPLETION)


def failed(code: int) -> Apdu:
    return Apdu(STATUS_INFORMATION, bytes((0x27, code)))


def says(made: Bench, instead_of: int, *apdus: Apdu, before: bool = False) -> None:
    """Let the terminal say this in the place of the first block of that command, or before it."""
    serial = made.url.startswith("serial:")
    encode = encode_serial if serial else encode_apdu
    said = b"".join(encode(apdu) for apdu in apdus)
    told: list[bytes] = []

    def spoil(_: int, block: bytes) -> list[Delivery]:
        if told or not block.removeprefix(b"\x10\x02").startswith(instead_of.to_bytes(2, "big")):
            return [Delivery(block)]
        told.append(block)
        return [Delivery(said), Delivery(block)] if before else [Delivery(said)]

    made.line.watch(spoil_device=spoil)


@lines
@pytest.mark.parametrize(("first", "verdict"), [(APPROVED, Unknown), (TAKE_GOODS, Unknown), (failed(0x6C), Declined)])
def test_a_refusal_after_a_word_of_approval_is_unknown(url: str, first: Apdu, verdict: type) -> None:
    async def main() -> None:
        async with bench("zvt", url) as made:
            await made.terminal.baseline()
            says(made, STATUS_INFORMATION, first, before=True)
            payment = await made.pay(DECLINED)
            assert type(payment.outcome) is verdict, payment.outcome
            payment.judge(DECLINED)

    run(main())


@lines
def test_a_flush_whose_status_says_that_it_failed_has_sent_nothing(url: str) -> None:
    async def main() -> None:
        async with bench("zvt", url) as made:
            made.simulator.host_up = False
            assert isinstance((await made.pay(Money(1500, "EUR"))).outcome, Stored)
            says(made, ABORT, failed(0xFA), WELL)
            assert await made.terminal.send_offline() == FlushResult(complete=False, reason="clearing_failed")
            assert len(made.simulator.ledger.stored()) == 1

    run(main())


@lines
def test_an_end_of_day_whose_status_says_that_it_failed_has_closed_nothing(url: str) -> None:
    async def main() -> None:
        async with bench("zvt", url) as made:
            made.simulator.host_up = False
            says(made, ABORT, failed(0x77), WELL)
            with pytest.raises(DeviceError, match="end_of_day_not_possible"):
                await made.terminal.end_of_day()

    run(main())


SUM = (0x04, amount_to_bcd(3051))
UNKNOWN_CURRENCY = (0x49, b"\x09\x99")
BEYOND = (0x60, encode_totals("0001", "0002", 2, 10**12 - 1)[:11] + encode_totals("0001", "0002", 1, 1)[4:11])


@lines
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ([SUM], TerminalTotals(None, Money(3051, "EUR"))),
        ([SUM, UNKNOWN_CURRENCY], TerminalTotals(None, None)),
        ([SUM, BEYOND], TerminalTotals(None, Money(3051, "EUR"))),
        ([], TerminalTotals(None, None)),
    ],
)
def test_an_end_of_day_invents_neither_count_nor_currency(
    url: str, fields: list[tuple[int, bytes]], told: TerminalTotals
) -> None:
    async def main() -> None:
        async with bench("zvt", url) as made:
            made.simulator.host_up = False
            says(made, ABORT, Apdu(STATUS_INFORMATION, build_fields([(0x27, b"\0"), *fields])), WELL)
            assert await made.terminal.end_of_day() == told

    run(main())
