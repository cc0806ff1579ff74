"""A terminal's end of day: written down first, refused while money is in the terminal, and told with our own totals."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd.errors import DeviceError, HubError
from hubd.model.entry import Entry
from hubd.model.payment import Tender
from hubd.store import journal
from tests.unit.services.shop import LOCATION, MANAGER, Shop, shop
from tests.unit.services.test_hearing import NEAR, counter_of, gone, in_outage
from tests.unit.services.test_outage import allow_offline


async def ends(opened: Shop) -> list[Entry]:
    entries = await opened.services.db.read("entries", lambda c: journal.entries_after(c, 0, 1_000))
    return [entry for entry in entries if entry.kind.startswith("end_of_day.")]


async def test_the_entry_carries_what_the_terminal_and_the_hub_counted(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal = await opened.add_terminal(NEAR)
        paid = await opened.until((await opened.take(2000)).payment.id, "approved")
        await opened.take(700, tender=Tender.CASH)
        totals = await opened.services.devices.end_of_day(terminal, MANAGER)
        started, compared, closed = await ends(opened)
        kinds = (started.kind, compared.kind, closed.kind)
        assert kinds == ("end_of_day.started", "end_of_day.compared", "end_of_day.closed")
        assert compared.body()["started_seq"] == started.seq
        for entry in (started, closed):
            body = entry.body()
            assert (body["mode"], body["location"], body["staff"]) == ("live", LOCATION, MANAGER.staff)
            assert (body["business_date"], body["zone"]) == (paid.business_date, "Europe/Paris")
        body = closed.body()
        assert totals.total is not None
        assert (body["count"], body["total"], body["exponent"]) == (totals.count, totals.total.amount_minor, 2)
        own = {one["name"].partition(f"day.{paid.business_date}.")[2]: one["total"] for one in body["hub"]}
        assert sum(total for name, total in own.items() if name.startswith("sales.")) == 2700, own


async def test_money_in_the_terminal_refuses_it(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal = await opened.add_terminal(NEAR)
        await allow_offline(opened)
        await in_outage(opened)
        await opened.until((await opened.take(2000)).payment.id, "stored")
        with pytest.raises(HubError) as caught:
            await opened.services.devices.end_of_day(terminal, MANAGER)
        assert caught.value.code == "pending_offline_payments"
        assert await ends(opened) == []


async def test_a_result_that_is_not_known_refuses_it(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal = await opened.add_terminal(NEAR)
        await opened.until((await opened.take(2014)).payment.id, "unknown")
        await gone(opened, NEAR, terminal)
        with pytest.raises(HubError) as caught:
            await opened.services.devices.end_of_day(terminal, MANAGER)
        assert caught.value.code == "pending_offline_payments"
        assert await ends(opened) == []


async def test_a_terminal_that_does_not_answer_leaves_a_start_without_an_end(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal = await opened.add_terminal(NEAR)
        await gone(opened, NEAR, terminal)
        with pytest.raises(DeviceError):
            await opened.services.devices.end_of_day(terminal, MANAGER)
        assert [entry.kind for entry in await ends(opened)] == ["end_of_day.started"]
