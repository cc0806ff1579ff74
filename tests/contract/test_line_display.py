"""A line display at a printer: what it shows reaches no paper, and what a broken line leaves is undone first."""

from __future__ import annotations

import pytest

from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from hubd.model.device import Capability
from hubd.ports import NotPrinted, Printed, PrintUnknown
from tests.contract.printer_bench import COLUMNS, DISPLAYS, bench, on_paper, ticket


@pytest.mark.parametrize("kind", sorted(DISPLAYS))
def test_two_rows_are_shown_replaced_and_cleared_and_paper_stays_paper(kind: str) -> None:
    async def main() -> None:
        async with bench(kind) as made:
            simulator = made.escpos
            assert Capability.LINE_DISPLAY in made.printer.capabilities
            assert isinstance(await made.printer.display(("Café crème", "3,20 €")), Printed)
            await made.until(lambda: simulator.display.rows == ["Café crème", "3,20 €"], "the price")
            assert not simulator.display.selected, "the printer prints again"
            assert isinstance(await made.printer.print(ticket(1)), Printed)
            await made.until(lambda: len(simulator.receipts) > 1, "a receipt that is cut")
            seen = [line.plain(COLUMNS).rstrip() for line in simulator.receipts[0].lines]
            assert seen[0] == on_paper(ticket(1), COLUMNS)[0]
            assert simulator.display.rows == ["Café crème", "3,20 €"], "it stays until something else is shown"
            assert isinstance(await made.printer.display(()), Printed)
            await made.until(lambda: simulator.display.rows == ["", ""], "an empty display")
            assert not any("Café crème" in line.text for one in simulator.receipts for line in one.lines)

    run(main())


def test_after_a_line_that_broke_with_the_display_selected_receipts_are_on_paper() -> None:
    def only_the_selection(_: int, data: bytes) -> list[Delivery]:
        if b"\x1b=\x02" not in data:
            return [Delivery(data)]
        return [Delivery(data[: data.index(b"\x1b=\x02") + 3])]

    async def main() -> None:
        async with bench("display-tcp") as made:
            made.line.watch(only_the_selection)
            assert isinstance(await made.printer.display(("Café crème",)), PrintUnknown)
            await made.until(lambda: made.escpos.display.selected, "a display that waits for the rest, which is lost")
            await made.ready()
            assert not made.escpos.display.selected
            assert isinstance(await made.printer.print(ticket(1)), Printed)
            first = on_paper(ticket(1), COLUMNS)[0]
            assert first in [line.plain(COLUMNS).rstrip() for line in made.escpos.receipts[0].lines]

    run(main())


def test_a_printer_without_one_says_so_and_is_sent_nothing() -> None:
    async def main() -> None:
        async with bench("escpos-tcp") as made:
            assert Capability.LINE_DISPLAY not in made.printer.capabilities
            assert await made.printer.display(("x",)) == NotPrinted("not_supported")
            assert made.escpos.display.rows == ["", ""]

    run(main())


def test_a_printer_without_paper_shows_nothing_and_says_why() -> None:
    async def main() -> None:
        async with bench("display-tcp") as made:
            made.escpos.load_paper(0)
            shown = await made.printer.display(("x",))
            assert isinstance(shown, NotPrinted)
            assert shown.reason == "paper_out"

    run(main())
