"""The acts of a device's page over its own door: what is refused there although nothing on the page offers it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2

from drivers.sim.escpos import EscposSimulator
from hubd.model.entry import Draft
from hubd.model.permissions import Role
from hubd.services.staff import NewPerson
from hubd.store import journal
from hubd.store.people import Location
from tests.integration.test_api_events import context_of
from tests.rigs.api import ServedHub, served_hub
from tests.unit.services.shop import LOCATION, MANAGER, TILL_2
from tests.unit.services.test_hearing import FAR, NEAR, counter_of, gone, hearings, in_outage, sell, service_back
from tests.unit.services.test_outage import allow_offline

PIN = "7319"
ELSEWHERE = "01890000-0000-7000-8000-000000000002"


@asynccontextmanager
async def signed_in(hub: ServedHub, role: Role, location: str = "*") -> AsyncIterator[httpx2.AsyncClient]:
    """A browser of a person with this role."""
    services = hub.shop.services
    person = NewPerson(services.runtime.ids.new_id(), role.value, PIN, "en", ((location, role.value),))
    await services.staff.add(person, MANAGER)
    session = await services.access.sign_in(person.id, PIN, device=None, location=LOCATION)
    headers = {"cookie": f"hubd_session={session.token}", "accept-language": "en", "origin": hub.https}
    async with httpx2.AsyncClient(verify=await context_of(hub), base_url=hub.https, headers=headers) as client:
        yield client


def refused(answer: httpx2.Response) -> str:
    """The code with which the page sends people back; empty when the act was done."""
    assert answer.status_code == httpx2.codes.SEE_OTHER, answer.text
    return parse_qs(urlsplit(answer.headers["location"]).query).get("refused", [""])[0]


async def test_a_reason_alone_does_not_close_a_terminal_that_was_not_heard_since_an_outage(tmp_path: Path) -> None:
    """D05: to the service the reason says that nobody waits any more; the page asks for it of every device."""
    counter = counter_of(NEAR, FAR)
    async with served_hub(tmp_path, counter.runtime, counter, page=True) as hub:
        await hub.shop.add_terminal(NEAR)
        far = await hub.shop.add_terminal(FAR)
        await allow_offline(hub.shop)
        outage = await in_outage(hub.shop)
        await sell(hub.shop, far, 2005, "declined")
        await gone(hub.shop, FAR, far)
        await service_back(hub.shop)
        async with signed_in(hub, Role.MANAGER) as manager:
            shown = (await manager.get(f"/devices/{far}")).text
            assert "Out of use, nobody waits for what is in it any more." in shown
            path, said = f"/devices/{far}/deactivate", {"reason": "stolen"}
            assert refused(await manager.post(path, data={"sure": "yes"})) == "reason_missing"
            assert refused(await manager.post(path, data=said)) == "terminal_unheard"
            assert (await hub.shop.services.devices.known(far)).active
            assert [one for one in await hearings(hub.shop) if one[0] == "closed"] == []
            assert refused(await manager.post(path, data=said | {"sure": "yes"})) == ""
            assert [one for one in await hearings(hub.shop) if one[0] == "closed"] == [("closed", outage, far)]


async def test_a_till_of_another_location_gets_no_device_and_who_may_not_manage_does_nothing(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with served_hub(tmp_path, counter.runtime, counter, page=True) as hub:
        services = hub.shop.services
        terminal = await hub.shop.add_terminal(NEAR)
        till = (await hub.pair("Caisse 1")).device
        await services.staff.set_location(Location(ELSEWHERE, "Roubaix", "Europe/Paris", "EUR", "FR"), MANAGER)
        assign, said = f"/devices/{terminal}/assign", {"name": "Bar", "role": f"till:{till}"}
        for role in (Role.CASHIER, Role.AUDITOR):
            async with signed_in(hub, role, LOCATION) as other:
                for act in ("assign", "location", "deactivate", "declaration", "parameter-session"):
                    answer = await other.post(f"/devices/{terminal}/{act}", data=said)
                    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in"), act
                assert (await other.post("/endpoints", data={"address": "bar:9100"})).headers["location"] == "/sign-in"
        assert (await services.devices.known(terminal)).name == "Terminal"
        async with signed_in(hub, Role.OWNER) as owner:
            assert refused(await owner.post(assign, data=said)) == ""
            assert (await services.devices.known(terminal)).role == f"till:{till}"
            assert refused(await owner.post(f"/devices/{terminal}/location", data={"location": ELSEWHERE})) == ""
            moved = await services.devices.known(terminal)
            assert (moved.name, moved.location, moved.role) == ("Bar", ELSEWHERE, ""), "its till has stayed behind"
            assert refused(await owner.post(assign, data=said)) == "till_elsewhere"
            shown = (await owner.get(f"/devices/{terminal}?refused=till_elsewhere")).text
            assert "This till is at another location than the device." in shown
            assert "Caisse 1" not in shown
            assert "<b>" not in (await owner.get(f"/devices/{terminal}?refused=%3Cb%3E&told=%3Cb%3E&call=%3Cb%3E")).text


async def test_a_new_device_stands_where_its_till_is(tmp_path: Path) -> None:
    counter = counter_of()
    counter.others["tcp://bar:9100"] = EscposSimulator(counter.runtime)
    async with served_hub(tmp_path, counter.runtime, counter, page=True) as hub:
        services = hub.shop.services
        await services.staff.set_location(Location(ELSEWHERE, "Roubaix", "Europe/Paris", "EUR", "FR"), MANAGER)
        body = {"kind": "till", "name": "Caisse 2", "location": ELSEWHERE, "origin": "", "language": "fr"}
        paired = Draft("device.paired", TILL_2, "hub", body | {"token_sha256": "22" * 32, "public_key": None})
        await services.db.write("paired", lambda tx: journal.append(tx, paired))
        async with signed_in(hub, Role.OWNER) as owner:
            assert "Roubaix · Caisse 2" in (await owner.get("/devices")).text
            said = {"address": "bar", "driver": "escpos", "role": f"till:{TILL_2}", "location": LOCATION}
            assert refused(await owner.post("/endpoints", data=said)) == ""
        (printer,) = [one.device for one in await services.devices.all() if one.device.driver]
        assert (printer.location, printer.role, printer.active) == (ELSEWHERE, f"till:{TILL_2}", True)
