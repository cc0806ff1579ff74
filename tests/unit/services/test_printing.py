"""Print jobs: on disk before the paper, once on paper, and COPY on whatever comes after."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.sim.escpos import EscposSimulator
from hubd.config_sections import TerminalConfig
from hubd.errors import HubError
from hubd.model.device import DeviceKind
from hubd.model.payment import Tender
from hubd.model.print_job import PRINT_TRANSITIONS, PrintEvent, PrintJob, PrintState, next_print_state
from hubd.model.printing import Cut, Item, PrintDocument, Row, Text
from hubd.services.access import Caller
from hubd.services.printing import PrintRequest
from hubd.services.receipt_paper import receipt_document
from tests.unit.paper.receipts import offline_receipt
from tests.unit.services.shop import MANAGER, TILL_1, TILL_2, Shop, Terminals, shop, shop_runtime, till

PRINTER = "tcp://printer:9100"
WAIT_S = 30.0
"""A printer whose answer comes late under load is taken for lost and reached anew, which takes its time."""


def counter_with_printer() -> tuple[Terminals, EscposSimulator]:
    counter = Terminals(shop_runtime())
    simulator = EscposSimulator(counter.runtime)
    counter.others[PRINTER] = simulator
    return counter, simulator


def paper(simulator: EscposSimulator) -> str:
    """Everything that it has printed, one receipt after the other."""
    return "\n".join(line.plain(simulator.options.columns) for receipt in simulator.receipts for line in receipt.lines)


def a_job(opened: Shop, *lines: str, language: str = "en", printer: str = "") -> PrintRequest:
    items: tuple[Item, ...] = (*(Text(line) for line in lines), Cut())
    return PrintRequest(opened.services.runtime.ids.new_id(), PrintDocument("Note", items, language), printer)


async def until(opened: Shop, job_id: str, state: PrintState) -> PrintJob:
    clock, desk = opened.services.runtime.clock, opened.services.printing
    async with clock.timeout(WAIT_S):
        while (job := await desk.get(job_id, MANAGER)).state is not state:
            await clock.sleep(0.005)
    return job


def test_every_step_that_is_not_in_the_table_is_refused() -> None:
    for state in PrintState:
        for event in PrintEvent:
            if event in PRINT_TRANSITIONS[state]:
                assert next_print_state(state, event) in PrintState
            else:
                with pytest.raises(HubError, match="cannot become"):
                    next_print_state(state, event)


async def test_a_job_is_printed_once_however_often_it_is_sent(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    async with shop(tmp_path, counter) as opened:
        with pytest.raises(HubError, match="no printer in use"):
            await opened.services.printing.submit(a_job(opened, "early"), till())
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        job = a_job(opened, "Hello, it is 12.50 €")
        first = await opened.services.printing.submit(job, till())
        assert first.created
        done = await until(opened, job.id, PrintState.PRINTED)
        again = await opened.services.printing.submit(job, till(attempt=2))
        assert (again.created, again.accepted, again.job.state) == (False, first.accepted, PrintState.PRINTED)
        other = PrintRequest(job.id, PrintDocument("Note", (Text("something else"),)))
        with pytest.raises(HubError, match="another print job"):
            await opened.services.printing.submit(other, till())
        assert paper(simulator).count("Hello, it is 12.50 €") == 1
        assert done.papers == 1
        assert "something else" not in paper(simulator)


async def test_a_job_waits_for_paper_and_is_printed_after_it_in_its_turn(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    async with shop(tmp_path, counter) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        simulator.load_paper(0)
        first, second = a_job(opened, "first"), a_job(opened, "second")
        await opened.services.printing.submit(first, till())
        clock = opened.services.runtime.clock
        async with clock.timeout(WAIT_S):
            while opened.problem("print.waiting") is None:
                await clock.sleep(0.005)
            # The job tells why, or the printer does where a look at it came before the job.
            (printer,) = opened.services.peripherals.all(DeviceKind.PRINTER)
            while "paper_out" not in {
                (await opened.services.printing.get(first.id, MANAGER)).reason,
                printer.face.status.problem,
            }:
                await clock.sleep(0.005)
        assert "first" not in paper(simulator)
        simulator.load_paper(1000)
        await opened.services.printing.submit(second, till())
        await until(opened, second.id, PrintState.PRINTED)
        assert (await until(opened, first.id, PrintState.PRINTED)).papers == 1
        assert paper(simulator).index("first") < paper(simulator).index("second")
        assert "COPY" not in paper(simulator)
        async with clock.timeout(WAIT_S):
            while opened.problem("print.waiting") is not None:
                await clock.sleep(0.005)


async def test_a_stop_in_mid_paper_leaves_unknown_and_the_next_paper_says_copy(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    async with shop(tmp_path, counter) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        job = a_job(opened, "once is enough", language="fr")
        simulator.faults.silent = True
        await opened.services.printing.submit(job, till())
        await until(opened, job.id, PrintState.PRINTING)
    simulator.faults.clear()
    async with shop(tmp_path, counter) as opened:
        assert (await opened.services.printing.get(job.id, MANAGER)).reason == "hub_stopped"
        assert opened.problem("print.unknown") is not None
        (printer,) = opened.services.peripherals.all(DeviceKind.PRINTER)
        async with opened.services.runtime.clock.timeout(WAIT_S):
            while printer.face.status.state != "ready":
                await opened.services.runtime.clock.sleep(0.005)
        known = await opened.services.printing.get(job.id, MANAGER)
        assert known.state is PrintState.UNKNOWN, "nothing is printed again by itself"
        await opened.services.printing.again(job.id, "", till())
        assert (await until(opened, job.id, PrintState.PRINTED)).papers == 2
        assert "DUPLICATA" in paper(simulator)
        async with opened.services.runtime.clock.timeout(WAIT_S):
            while opened.problem("print.unknown") is not None:
                await opened.services.runtime.clock.sleep(0.005)


async def test_a_receipt_is_original_once_for_each_purpose(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    async with shop(tmp_path, counter) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        payment = (await opened.take(1250, tender=Tender.CASH)).payment
        data = await opened.services.receipts.receipt(payment.id, MANAGER)

        async def printed(purpose: str) -> str:
            """What came out for this."""
            before = len(paper(simulator))
            request = PrintRequest(
                opened.services.runtime.ids.new_id(),
                receipt_document(data, purpose, language="nl"),
                "",
                payment.id,
                purpose,
            )
            await opened.services.printing.submit(request, till())
            await until(opened, request.id, PrintState.PRINTED)
            return paper(simulator)[before:]

        first = await printed("customer")
        assert "Totaal EUR" in first
        assert "12,50" in first
        assert f"Bon {data['number']}" in first
        assert data["fiscal"]["hash"][:16] in first
        assert "KOPIE" not in await printed("merchant")
        assert "KOPIE" in await printed("customer")


async def test_the_tills_own_printer_comes_before_a_shared_one(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    shared = EscposSimulator(counter.runtime)
    counter.others["tcp://shared:9100"] = shared
    async with shop(tmp_path, counter) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER, f"till:{TILL_1}")
        await opened.add_peripheral("tcp://shared:9100", "escpos", DeviceKind.PRINTER)
        for caller, words in ((till(TILL_1), "mine"), (till(TILL_2), "ours")):
            job = a_job(opened, words)
            await opened.services.printing.submit(job, caller)
            await until(opened, job.id, PrintState.PRINTED)
        assert ("mine" in paper(simulator), "ours" in paper(simulator)) == (True, False)
        assert ("mine" in paper(shared), "ours" in paper(shared)) == (False, True)


async def test_a_job_that_waits_is_cancelled_and_one_that_was_printed_is_not(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    async with shop(tmp_path, counter) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        done = a_job(opened, "done")
        await opened.services.printing.submit(done, till())
        await until(opened, done.id, PrintState.PRINTED)
        with pytest.raises(HubError, match="cannot become cancelled"):
            await opened.services.printing.cancel(done.id, till())
        await simulator.unplug()
        (printer,) = opened.services.peripherals.all(DeviceKind.PRINTER)
        async with opened.services.runtime.clock.timeout(WAIT_S):
            while printer.face.status.state == "ready":
                await opened.services.runtime.clock.sleep(0.005)
        waiting = a_job(opened, "never")
        await opened.services.printing.submit(waiting, till())
        assert (await opened.services.printing.cancel(waiting.id, till())).state is PrintState.CANCELLED
        assert (await opened.services.printing.cancel(waiting.id, till())).state is PrintState.CANCELLED
        assert "never" not in paper(simulator)


async def test_a_drawer_is_opened_and_read_back(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    async with shop(tmp_path, counter) as opened:
        printer = await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        await opened.services.printing.open_drawer(printer, till())
        assert simulator.drawer_open


async def test_a_till_shows_two_rows_to_the_customer_and_clears_them_and_nothing_is_stored(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    configured = (TerminalConfig(PRINTER, "escpos", options=("display=2x20",)),)
    async with shop(tmp_path, counter, configured=configured) as opened:
        printer = await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        desk, head = opened.services.printing, opened.services.db.head.seq
        await desk.display(printer, ("Café", "3,20 €"), till())
        await until_shown(opened, simulator, ["Café", "3,20 €"])
        await desk.display(printer, (), till())
        await until_shown(opened, simulator, ["", ""])
        assert opened.services.db.head.seq == head
        stranger = Caller(TILL_2, None, "01890000-0000-7000-8000-000000000002", till().permissions, "en")
        with pytest.raises(HubError) as refused:
            await desk.display(printer, ("x",), stranger)
        assert refused.value.code == "access.not_allowed"
        peripheral = opened.services.peripherals.get(printer)
        assert peripheral is not None
        async with peripheral.lock:  # as while it prints
            with pytest.raises(HubError) as busy:
                await desk.display(printer, ("x",), till())
        assert (busy.value.code, busy.value.params["reason"]) == ("display_not_shown", "busy")
        simulator.load_paper(0)
        with pytest.raises(HubError) as empty:
            await desk.display(printer, ("x",), till())
        assert (empty.value.code, empty.value.params["reason"]) == ("display_not_shown", "paper_out")
        assert simulator.display.rows == ["", ""]


async def until_shown(opened: Shop, simulator: EscposSimulator, rows: list[str]) -> None:
    async with opened.services.runtime.clock.timeout(30):
        while simulator.display.rows != rows:
            await opened.services.runtime.clock.sleep(0.01)


async def test_a_printer_without_a_display_shows_nothing(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    async with shop(tmp_path, counter) as opened:
        printer = await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        with pytest.raises(HubError) as refused:
            await opened.services.printing.display(printer, ("x",), till())
        assert refused.value.code == "no_line_display"
        assert simulator.display.rows == ["", ""]


async def test_a_till_of_another_location_uses_neither_printer_nor_drawer(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    async with shop(tmp_path, counter) as opened:
        printer = await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        job = a_job(opened, "ours")
        await opened.services.printing.submit(job, till())
        await until(opened, job.id, PrintState.PRINTED)
        here = till()
        stranger = Caller(TILL_2, None, "01890000-0000-7000-8000-000000000002", here.permissions, "en")
        desk = opened.services.printing
        acts = (
            lambda: desk.open_drawer(printer, stranger),
            lambda: desk.submit(a_job(opened, "theirs", printer=printer), stranger),
            lambda: desk.get(job.id, stranger),
            lambda: desk.again(job.id, printer, stranger),
            lambda: desk.cancel(job.id, stranger),
        )
        for act in acts:
            with pytest.raises(HubError) as refused:
                await act()
            assert refused.value.code == "access.not_allowed"
        assert not simulator.drawer_open
        assert "theirs" not in paper(simulator)


def test_an_order_is_on_the_receipt_line_by_line() -> None:
    receipt = offline_receipt("fr")
    document = receipt_document(receipt, "merchant", language="fr-FR")
    rows = [(item.left, item.right) for item in document.items if isinstance(item, Row)]
    texts = [item.text for item in document.items if isinstance(item, Text)]
    assert ("2 x Café", "7,20") in rows
    assert ("TVA 10 %  HT 6,55", "0,65") in rows
    assert ("Pourboire", "0,80") in rows
    assert ("Total EUR", "8,00") in rows
    assert "Arrondi" not in [left for left, _ in rows]
    for words in ("ÉCOLE - SANS VALEUR", "Exemplaire commerçant", "Heure non confirmée", "Visa ****4771"):
        assert words in texts
    assert "paiement hors ligne — en attente" in texts
