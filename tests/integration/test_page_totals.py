"""The page over its own door: what one who may not read totals is shown of the money of a list."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from hubd.model.payment import Tender
from hubd.model.permissions import Role
from hubd.services.staff import NewPerson
from tests.browser.stage import PIN, Stage, stage
from tests.integration.test_api_events import context_of
from tests.unit.services.shop import LOCATION, MANAGER


async def _read(shop: Stage, role: Role, path: str) -> str:
    """A page in English, as a person with this role at the shop reads it."""
    services = shop.shop.services
    person = NewPerson(services.runtime.ids.new_id(), role.value, PIN, "en", ((LOCATION, role.value),))
    await services.staff.add(person, MANAGER)
    session = await services.access.sign_in(person.id, PIN, device=None, location=LOCATION)
    headers = {"cookie": f"hubd_session={session.token}", "accept-language": "en"}
    async with httpx2.AsyncClient(verify=await context_of(shop.served), base_url=shop.url, headers=headers) as client:
        answer = await client.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.text


@pytest.mark.parametrize("show", ["outage={}&show=cash", "show=today", "show="])
async def test_a_list_is_summed_for_those_alone_who_may_read_totals(tmp_path: Path, show: str) -> None:
    async with stage(tmp_path) as shop:
        await shop.open_shop()
        await shop.online()
        await shop.cut()
        for amount in (700, 1100):
            await shop.shop.take(amount, tender=Tender.CASH)
        path = f"/payments?{show.format(shop.shop.services.outages.snapshot().outage_id)}"
        for role in (Role.MANAGER, Role.CASHIER):
            text = await _read(shop, role, path)
            assert "2 payments in this list" in text
            assert ("€7.00" in text, "€11.00" in text) == (True, True), "each sale can be read by who sells"
            assert ("€18.00" in text) == (role is Role.MANAGER)
            assert "€0.00" not in text, "no sum is no sum of nothing"
