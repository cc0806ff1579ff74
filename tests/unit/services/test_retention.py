"""A terminal's receipt is a document that a law keeps; asking to forget it early is noted for its date."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hubd.model.entry import Document
from hubd.model.retention import DATE_UNKNOWN
from hubd.services.device_rules import NewDevice
from hubd.store import documents
from hubd.store.documents import KeptUntil
from tests.unit.clocks import JumpingClock
from tests.unit.services.shop import LOCATION, MANAGER, Shop, Terminals, shop, shop_runtime

URL = "tcp://terminal-1"


async def receipt_of_a_sale(opened: Shop) -> Document:
    taken = await opened.take(2000)
    payment = await opened.until(taken.payment.id, "approved")
    document_id = payment.receipt_document
    assert document_id is not None
    found = await opened.services.db.read("receipt", lambda c: documents.get(c, document_id))
    assert found is not None
    return found


async def test_receipt_cannot_be_forgotten_before_the_date_that_the_law_gives(tmp_path: Path) -> None:
    clock = JumpingClock()
    counter = Terminals(shop_runtime(clock=clock))
    counter.add(URL)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_terminal(URL)
        found = await receipt_of_a_sale(opened)
        year = datetime.fromtimestamp(clock.now_us() / 1e6, UTC).year
        assert (found.klass, found.law) == ("terminal_receipt", "FR LPF L102 B")
        assert found.keep_until in {f"{year + 7}-12-31", f"{year + 8}-12-31"}, "the year may turn while this runs"
        db, eve = opened.services.db, f"{found.keep_until[:4]}-12-30"
        asked = await db.write("ask", lambda tx: documents.request_erasure(tx, found.id, eve))
        assert asked == KeptUntil(found.id, found.keep_until, found.law)
        assert await db.read("due", lambda c: documents.due(c, eve)) == []
        assert await db.read("due", lambda c: documents.due(c, found.keep_until)) == [found.id]


async def test_receipt_of_a_hub_that_does_not_know_the_time_is_kept(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())  # no witness has spoken
    counter.add(URL)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        await opened.add_terminal(URL)
        assert (await receipt_of_a_sale(opened)).keep_until == DATE_UNKNOWN


async def test_terminal_whose_driver_cannot_be_used_says_so(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        device = opened.services.runtime.ids.new_id()
        devices = opened.services.devices
        await devices.claim(device, NewDevice(URL, "nonesuch", "T", "terminal", LOCATION), "hub")
        assert (await devices.get(device)).status is None, "nobody has asked for it yet"
        view = await devices.activate(device, MANAGER)
        assert view.status is not None
        assert (view.status.state, bool(view.status.problem), bool(view.status.remedy)) == ("faulty", True, True)
