"""Two locations of one hub print differently, and an old receipt keeps the layout of its day (domain D11)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd.errors import HubError
from hubd.model.device import DeviceKind
from hubd.model.entry import Draft
from hubd.model.payment import Tender
from hubd.model.print_job import PrintState
from hubd.model.printing import PrintDocument, Text
from hubd.model.receipt_layout import parse_layout
from hubd.services.access import Caller
from hubd.services.printing import PrintRequest
from hubd.services.settings import RECEIPT_LAYOUT
from hubd.store import journal
from hubd.store.tx import Tx
from tests.unit.services.shop import LOCATION, TILL_2, Shop, shop, till
from tests.unit.services.test_printing import PRINTER, counter_with_printer, paper, until

OTHER = "01890000-0000-7000-8000-000000000002"


def _second_location(tx: Tx) -> None:
    body = {"name": "Gent", "zone": "Europe/Brussels", "currency": "EUR", "country": "BE"}
    journal.append(tx, Draft("location.set", OTHER, "hub", body))


def texts(document: PrintDocument) -> list[str]:
    return [item.text for item in document.items if isinstance(item, Text)]


async def set_layout(opened: Shop, location: str, **layout: object) -> None:
    await opened.services.settings.put("hub", RECEIPT_LAYOUT, layout, location=location)


async def test_two_locations_print_differently(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        await opened.services.db.write("location", _second_location)
        await set_layout(opened, LOCATION, language="fr", header=["12 rue de la Gare"], footer=["Merci"])
        await set_layout(opened, OTHER, language="nl", header=["Korenmarkt 1"], columns=32)
        there = Caller(TILL_2, None, OTHER, till().permissions, "en")
        desk = opened.services.receipts
        shown = {}
        for caller in (till(), there):
            payment = (await opened.take(1250, caller, tender=Tender.CASH)).payment
            shown[caller.location] = await desk.view(payment.id, "customer", caller)
        here, elsewhere = shown[LOCATION], shown[OTHER]
        assert (here.document.language, here.columns) == ("fr", 42)
        assert (elsewhere.document.language, elsewhere.columns) == ("nl", 32)
        assert {"Lille", "12 rue de la Gare", "Merci"} <= set(texts(here.document))
        assert {"Gent", "Korenmarkt 1"} <= set(texts(elsewhere.document))
        assert not {"12 rue de la Gare", "Merci"} & set(texts(elsewhere.document))


async def test_a_new_layout_changes_no_receipt_of_yesterday(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        await set_layout(opened, "", header=["old street"])
        payment = (await opened.take(1250, tender=Tender.CASH)).payment
        await set_layout(opened, LOCATION, header=["new street"])
        later = (await opened.take(1250, tender=Tender.CASH)).payment
        for taken, street in ((payment, "old street"), (later, "new street")):
            document = await opened.services.receipts.paper(taken.id, "customer", till())
            assert [line for line in texts(document) if line.endswith("street")] == [street]


async def test_a_bad_layout_leaves_the_good_one(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        await set_layout(opened, LOCATION, footer=["Merci"])
        head = opened.services.db.head.seq
        with pytest.raises(HubError, match="receipt layout cannot be used"):
            await set_layout(opened, LOCATION, footer=[1])
        assert opened.services.db.head.seq == head
        kept = await opened.services.settings.get(RECEIPT_LAYOUT, LOCATION)
        assert parse_layout(kept.value).footer == ("Merci",)
        assert (await opened.services.settings.get(RECEIPT_LAYOUT)).value != kept.value


@pytest.mark.parametrize(("language", "word"), [("en", "COPY"), ("fr", "DUPLICATA"), ("nl", "KOPIE")])
async def test_what_is_looked_at_says_copy_once_a_paper_is_out(tmp_path: Path, language: str, word: str) -> None:
    counter, simulator = counter_with_printer()
    async with shop(tmp_path, counter) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        await set_layout(opened, LOCATION, language=language)
        payment = (await opened.take(1250, tender=Tender.CASH)).payment
        desk = opened.services.receipts
        view = await desk.view(payment.id, "customer", till())
        assert word not in texts(view.document)
        job = PrintRequest(opened.services.runtime.ids.new_id(), view.document, "", payment.id, "customer")
        await opened.services.printing.submit(job, till())
        await until(opened, job.id, PrintState.PRINTED)
        assert word not in paper(simulator)
        assert texts((await desk.view(payment.id, "customer", till())).document)[0] == word
        assert word not in texts((await desk.view(payment.id, "merchant", till())).document)
