"""Receipts that print themselves: the merchant's of an offline payment always, the customer's where it is wanted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from drivers.sim.escpos import EscposSimulator
from hubd.errors import HubError
from hubd.model.device import DeviceKind
from hubd.model.entry import Draft
from hubd.model.ids import derived_id, parse_id
from hubd.model.money import Money
from hubd.model.payment import PaymentState, Tender
from hubd.model.print_job import PrintJob, PrintState
from hubd.services.lines import LineReason
from hubd.services.payments import Refund
from hubd.services.printing import PrintRequest
from hubd.services.settings import CUSTOMER_RECEIPT, RECEIPT_LAYOUT
from hubd.services.till_lines import Held
from hubd.store import journal
from tests.unit.services.shop import LOCATION, MANAGER, TILL_1, Shop, Terminals, shop, till
from tests.unit.services.test_hearing import NEAR, counter_of, in_outage
from tests.unit.services.test_outage import allow_offline
from tests.unit.services.test_printing import PRINTER, counter_with_printer, paper, until
from tests.unit.services.test_restored import copy_database


async def switch(opened: Shop, on: bool, location: str = "") -> None:
    await opened.services.settings.put("hub", CUSTOMER_RECEIPT, on, location=location)


async def jobs_of(opened: Shop, payment: str) -> list[PrintJob]:
    return [job for job in await opened.services.printing.page(None, 100, MANAGER) if job.payment == payment]


async def all_printed(opened: Shop, payment: str) -> list[str]:
    """The purposes of the jobs of a payment, once all are on paper."""
    jobs = await jobs_of(opened, payment)
    for job in jobs:
        await until(opened, job.id, PrintState.PRINTED)
    return sorted(job.purpose for job in jobs)


def with_terminal() -> tuple[Terminals, EscposSimulator]:
    counter = counter_of(NEAR)
    simulator = EscposSimulator(counter.runtime)
    counter.others[PRINTER] = simulator
    return counter, simulator


def test_a_derived_id_is_a_uuid7_and_the_same_whoever_makes_it() -> None:
    made = derived_id(TILL_1, "receipt:customer")
    assert parse_id(made) == made == derived_id(TILL_1, "receipt:customer")
    assert made != derived_id(TILL_1, "receipt:merchant") != derived_id(LOCATION, "receipt:merchant")
    assert made[:13] == TILL_1[:13]


async def test_with_the_switch_off_only_what_is_asked_for_is_printed_and_the_second_paper_is_a_copy(
    tmp_path: Path,
) -> None:
    counter, simulator = with_terminal()
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        await opened.add_terminal(NEAR)
        payment = await opened.until((await opened.take(2000)).payment.id, "approved")
        assert await jobs_of(opened, payment.id) == []
        for copies in (0, 1):
            document = await opened.services.receipts.paper(payment.id, "customer", till())
            request = PrintRequest(opened.services.runtime.ids.new_id(), document, "", payment.id, "customer")
            await opened.services.printing.submit(request, till())
            await until(opened, request.id, PrintState.PRINTED)
            assert paper(simulator).count("COPY") == copies


async def test_with_the_switch_on_every_kind_of_taking_prints_its_receipt_once(tmp_path: Path) -> None:
    counter, simulator = with_terminal()
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        await opened.add_terminal(NEAR)
        await switch(opened, on=True)
        card = await opened.until((await opened.take(2000)).payment.id, "approved")
        cash = (await opened.take(1250, tender=Tender.CASH)).payment
        again = await opened.services.payments.take(
            opened.request(1250, payment_id=cash.id, tender=Tender.CASH), till(attempt=2)
        )
        assert not again.created
        refund = Refund(opened.services.runtime.ids.new_id(), b"r" * 32, Money(250, "EUR"))
        await opened.services.payments.refund(cash.id, refund, MANAGER)
        for payment in (card.id, cash.id, refund.id):
            assert await all_printed(opened, payment) == ["customer"]
        declined = await opened.until((await opened.take(2005)).payment.id, "declined")
        assert await jobs_of(opened, declined.id) == []
        assert paper(simulator).count("Seal") == 3
        assert "COPY" not in paper(simulator)


async def test_a_receipt_that_cannot_be_put_together_holds_no_verdict_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counter, simulator = with_terminal()
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        await opened.add_terminal(NEAR)
        await switch(opened, on=True)
        body = {"key": RECEIPT_LAYOUT, "value": {"header": 7}, "scope": "hub", "source": "cloud", "version": 1}
        body |= {"effective_from_us": 0}
        change = Draft("setting.changed", RECEIPT_LAYOUT, "hub", body)
        await opened.services.db.write("of another version", lambda tx: journal.append(tx, change))
        card = await opened.until((await opened.take(2000)).payment.id, "approved")
        cash = (await opened.take(1250, tender=Tender.CASH)).payment
        assert cash.state is PaymentState.APPROVED
        for payment in (card, cash):
            assert await jobs_of(opened, payment.id) == []
        said = [one for one in caplog.records if one.message == "receipt.not_rendered"]
        assert [vars(one)["payment_id"] for one in said] == [card.id, cash.id]
        assert paper(simulator) == ""


async def test_the_same_verdict_once_more_makes_no_second_job(tmp_path: Path) -> None:
    counter, simulator = with_terminal()
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        await switch(opened, on=True)
        payment = (await opened.take(1250, tender=Tender.CASH)).payment
        assert await all_printed(opened, payment.id) == ["customer"]
        head = opened.services.db.head.seq
        await opened.services.db.write("again", lambda tx: opened.services.dialogues.taken(tx, payment))
        opened.services.dialogues.taken_on_disk()
        assert opened.services.db.head.seq == head
        assert paper(simulator).count("Seal") == 1


async def test_what_a_till_tells_a_restored_hub_is_not_printed_again(tmp_path: Path) -> None:
    """Its paper is out already, printed by a hub whose memory of it is gone."""
    counter, simulator = with_terminal()
    backup = tmp_path / "backup.db"
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_terminal(NEAR)
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        await switch(opened, on=True)
        copy_database(tmp_path / "hub.db", backup)
        told = await opened.take(2000)
        await opened.until(told.payment.id, "approved")
        assert await all_printed(opened, told.payment.id) == ["customer"]
        seen = opened.services.feed.hub_line
    for name in ("hub.db", "hub.db-wal", "hub.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(backup, tmp_path / "hub.db")
    async with shop(tmp_path, counter, counter.runtime, LineReason.RESTORED) as opened:
        await opened.ready(opened.services.terminals.all()[0].id)
        caller = till(attempt=2, hub_line=seen)
        await opened.services.tills.check(caller.device, seen)
        place = told.accepted
        held = Held(told.payment.id, place.line.hex(), place.seq, place.hash.hex(), "approved", told.payment.money)
        for payment in (await opened.services.tills.announce(caller, [held]))[1]:
            opened.services.dialogues.start_enquiry(payment)
        await opened.until(told.payment.id, "approved")
        assert await jobs_of(opened, told.payment.id) == []
        assert paper(simulator).count("Seal") == 1


async def test_the_merchants_copy_of_an_offline_payment_does_not_ask_the_switch(tmp_path: Path) -> None:
    counter, simulator = with_terminal()
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_terminal(NEAR)
        await allow_offline(opened)
        await switch(opened, on=False, location=LOCATION)
        await opened.services.settings.put("hub", "receipt.layout", {"language": "fr"})
        await in_outage(opened)
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        payment = await opened.until((await opened.take(2000)).payment.id, "stored")
        assert await all_printed(opened, payment.id) == ["merchant"]
        for words in ("Exemplaire commerçant", "paiement hors ligne — en attente", "transmettre à la banque avant"):
            assert words.replace("—", "-") in paper(simulator).replace("—", "-")


async def test_a_printer_that_fails_loses_no_payment_and_the_receipt_is_owed(tmp_path: Path) -> None:
    counter, simulator = with_terminal()
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_terminal(NEAR)
        await allow_offline(opened)
        await in_outage(opened)
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        simulator.load_paper(0)
        payment = await opened.until((await opened.take(2000)).payment.id, "stored")
        clock = opened.services.runtime.clock
        async with clock.timeout(30):
            while opened.problem("receipt_pending") is None:
                await clock.sleep(0.005)
        simulator.load_paper(1000)
        assert await all_printed(opened, payment.id) == ["merchant"]
        async with clock.timeout(30):
            while opened.problem("receipt_pending") is not None:
                await clock.sleep(0.005)


async def test_without_a_printer_nothing_waits_and_the_receipt_can_be_had_all_the_same(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_terminal(NEAR)
        await allow_offline(opened)
        await switch(opened, on=True)
        await in_outage(opened)
        payment = await opened.until((await opened.take(2000)).payment.id, "stored")
        assert await jobs_of(opened, payment.id) == []
        assert (opened.problem("receipt_pending"), opened.problem("print.waiting")) == (None, None)
        document = await opened.services.receipts.paper(payment.id, "merchant", till())
        assert "offline payment, waiting for the bank" in str(document)


async def test_a_receipt_goes_to_the_printer_of_its_till(tmp_path: Path) -> None:
    counter, simulator = counter_with_printer()
    shared = EscposSimulator(counter.runtime)
    counter.others["tcp://shared:9100"] = shared
    async with shop(tmp_path, counter) as opened:
        await opened.add_peripheral("tcp://shared:9100", "escpos", DeviceKind.PRINTER)
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER, f"till:{TILL_1}")
        await switch(opened, on=True)
        payment = (await opened.take(1250, tender=Tender.CASH)).payment
        assert await all_printed(opened, payment.id) == ["customer"]
        assert ("Seal" in paper(simulator), "Seal" in paper(shared)) == (True, False)


async def test_only_yes_and_no_are_taken_for_the_switch(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        for value in (1, "yes", None):
            with pytest.raises(HubError, match="neither true nor false"):
                await opened.services.settings.put("hub", CUSTOMER_RECEIPT, value)
