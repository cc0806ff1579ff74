"""What a manager does on a device's page: its name, its till or place, its location, and out of use and back."""

from __future__ import annotations

import pytest

from drivers.sim.escpos import EscposSimulator
from drivers.sim.scale.engine import ToledoSimulator
from hubd.model.device import DeviceKind
from hubd.model.payment import Tender
from hubd.model.permissions import Role
from hubd.services.settings import CUSTOMER_RECEIPT
from hubd.services.staff import NewPerson
from hubd.store.people import Location
from tests.browser.conftest import look
from tests.browser.stage import PIN, WAIT_S, Stage
from tests.rigs.browser import DESKTOP, PHONE, Browser, accessibility_violations, overflowing_elements
from tests.rigs.process import wait_until
from tests.simulation.discovery import announced
from tests.unit.services.shop import LOCATION, MANAGER, TILL_1, TILL_2, till

pytestmark = pytest.mark.timeout(120)
LEFT, RIGHT = "tcp://left:9100", "tcp://right:9100"
ELSEWHERE = "01890000-0000-7000-8000-000000000002"


async def second_till(shop: Stage) -> None:
    body = {"kind": "till", "name": "Caisse 2", "location": LOCATION, "origin": "", "language": "fr"}
    await shop.append("device.paired", TILL_2, body | {"token_sha256": "22" * 32, "public_key": None})


def paper_of(printer: EscposSimulator) -> str:
    return "\n".join(line.plain(42) for one in printer.receipts for line in one.lines)


async def test_two_tills_get_a_printer_each_and_every_receipt_comes_out_at_its_own(
    shop: Stage, browser: Browser
) -> None:
    await shop.open_shop()
    await second_till(shop)
    await shop.online()
    services, counter = shop.shop.services, shop.counter
    await services.settings.put("hub", CUSTOMER_RECEIPT, True)
    printers = {url: EscposSimulator(counter.runtime) for url in (LEFT, RIGHT)}
    counter.others |= printers
    left = await shop.shop.add_peripheral(LEFT, "escpos", DeviceKind.PRINTER)
    right = await shop.shop.add_peripheral(RIGHT, "escpos", DeviceKind.PRINTER)
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        for device, name, caisse in ((left, "Imprimante 2", "Caisse 2"), (right, "Imprimante 1", "Caisse 1")):
            await look(page, shop, "/devices")
            await page.click(f"#device-{device} h2 a")
            await page.fill("#name", name)
            await page.select_option("#role-device", label=caisse)
            await page.click("button:has-text('Enregistrer')")
            await page.wait_for_selector("#place:has-text('C\\'est noté.')")
            assert await page.input_value("#name") == name
            assert await accessibility_violations(page) == []
            assert await overflowing_elements(page) == []
        told = await look(page, shop, "/devices")
        assert "pour Caisse 2" in told
    await shop.shop.take(1111, till(TILL_1), tender=Tender.CASH)
    await shop.shop.take(2222, till(TILL_2), tender=Tender.CASH)
    await wait_until(lambda: "11,11" in paper_of(printers[RIGHT]), WAIT_S, "the receipt of Caisse 1 at its printer")
    await wait_until(lambda: "22,22" in paper_of(printers[LEFT]), WAIT_S, "the receipt of Caisse 2 at its printer")
    assert "22,22" not in paper_of(printers[RIGHT])
    assert "11,11" not in paper_of(printers[LEFT])


async def test_a_printer_goes_to_a_place_and_what_was_found_gets_its_name_and_till_at_once(
    shop: Stage, browser: Browser
) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    services, counter = shop.shop.services, shop.counter
    counter.others[LEFT] = EscposSimulator(counter.runtime)
    counter.add("tcp://terminal-9")
    printer = await shop.shop.add_peripheral(LEFT, "escpos", DeviceKind.PRINTER)
    services.discovery.appeared(announced("terminal-9", name="CZ-9", number="SN-0009"))
    await services.discovery.consider()
    (offered,) = services.discovery.all()
    async with browser.page(DESKTOP, language="nl-NL", trust_any_certificate=True) as page:
        await look(page, shop, f"/devices/{printer}")
        await page.fill("#place-device", "Achter de Bar")
        await page.click("button:has-text('Opslaan')")
        await page.wait_for_selector("#place:has-text('Het is vastgelegd.')")
        assert (await services.devices.known(printer)).role == "place:achter-de-bar"
        assert await page.input_value("#role-device") == "place:achter-de-bar"
        await page.fill("#place-device", "!!!")
        await page.click("button:has-text('Opslaan')")
        await page.wait_for_selector("#place .error:has-text('Een plek heeft een korte naam')")
        await look(page, shop, "/devices")
        await page.click(f"#place-of-{offered.id} summary")
        await page.fill(f"#name-{offered.id}", "Terras")
        await page.select_option(f"#role-{offered.id}", label="Caisse 1")
        assert await page.locator(f"#place-{offered.id}").count() == 0, "a terminal is for tills"
        assert await accessibility_violations(page) == []
        services.discovery.appeared(announced("printer", name="Other", service="_printer._tcp.local."))
        await services.discovery.consider()
        await page.wait_for_selector("text=Other")
        assert await page.input_value(f"#name-{offered.id}") == "Terras", "news take nothing out of a field"
        await page.click(f"#found-{offered.id} > form > button")
        await page.wait_for_selector(f"#found-{offered.id}", state="detached")
    (device,) = [one.device for one in await services.devices.all() if one.device.identity == "serial:SN-0009"]
    assert (device.name, device.role) == ("Terras", f"till:{TILL_1}")


async def test_a_name_in_use_is_refused_in_words_and_free_once_its_terminal_is_out_of_use(
    shop: Stage, browser: Browser
) -> None:
    """D05: `Désactiver cet appareil` before the name can be chosen again."""
    old, new = await shop.open_shop("Bar", "Salle")
    await shop.online()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop, f"/devices/{new}")
        await page.fill("#name", "Bar")
        await page.click("button:has-text('Enregistrer')")
        await page.wait_for_selector("#place .error:has-text('Un autre terminal utilisé porte ce nom.')")
        await look(page, shop, f"/devices/{old}")
        await page.click("text=Désactiver cet appareil")
        await page.fill("#reason", "tombé par terre")
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.click("button:has-text('Le retirer du service')")
        await page.wait_for_selector("#place:has-text('Il est désactivé.')")
        assert not (await shop.shop.services.devices.known(old)).active
        await look(page, shop, f"/devices/{new}")
        await page.fill("#name", "Bar")
        await page.click("button:has-text('Enregistrer')")
        await page.wait_for_selector("#place:has-text('C\\'est noté.')")
        await look(page, shop, f"/devices/{old}")
        await page.click("button:has-text('Utiliser cet appareil')")
        await page.wait_for_selector("#place .error:has-text('Un autre terminal utilisé porte ce nom.')")
        await page.fill("#name", "Bar de secours")
        await page.click("button:has-text('Enregistrer')")
        await page.wait_for_selector("#place:has-text('C\\'est noté.')")
        await page.click("button:has-text('Utiliser cet appareil')")
        await page.wait_for_selector("#place:has-text('Il est utilisé.')")
    await shop.shop.ready(old)


async def test_money_in_a_terminal_keeps_it_until_a_person_insists(shop: Stage, browser: Browser) -> None:
    """D05, F15: blocked; forced, what it holds stays noted with it."""
    (terminal,) = await shop.open_shop("Terminal 1")
    await shop.online()
    services = shop.shop.services
    async with browser.page(PHONE, language="en-GB", trust_any_certificate=True) as page:
        await look(page, shop, f"/devices/{terminal}")
        await page.click("text=Take this device out of use")
        await page.fill("#reason", "fell into the sea")
        await shop.cut()
        await shop.pay(1500)
        await page.click("button:has-text('Take it out of use')")
        await page.wait_for_selector("#place .error:has-text('This device still holds payments.')")
        assert (await services.devices.known(terminal)).active, "the page had been read before the money came"
        assert "1 payment is in it." in await page.inner_text("#out-of-use")
        await page.fill("#reason", "fell into the sea")
        await page.click("button:has-text('Take it out of use')")
        assert (await services.devices.known(terminal)).active, "the box has to be ticked"
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.check("input[name=sure]")
        await page.click("button:has-text('Take it out of use')")
        await page.wait_for_selector("#place:has-text('It is out of use.')")
        assert "1 payment is in it" in await page.inner_text("#state")
    view = await services.devices.get(terminal)
    assert (view.device.active, view.held_count) == (False, 1)


async def test_a_terminal_moves_a_phone_is_registered_and_who_may_not_sees_no_form(
    shop: Stage, browser: Browser
) -> None:
    """D06, D10."""
    (terminal,) = await shop.open_shop("Terminal 1")
    await shop.online()
    services = shop.shop.services
    await services.staff.set_location(Location(ELSEWHERE, "Roubaix", "Europe/Paris", "EUR", "FR"), MANAGER)
    async with browser.page(DESKTOP, language="en-GB", trust_any_certificate=True) as page:
        await look(page, shop, f"/devices/{terminal}")
        await page.click("text=Take it to another location")
        await page.select_option("#location-device", label="Roubaix")
        await page.click("text=Take it there")
        await page.wait_for_selector("#place:has-text('It belongs to its new location now.')")
        assert (await services.devices.known(terminal)).location == ELSEWHERE
        await look(page, shop, "/devices")
        await page.click("text=A terminal that is an app on a phone")
        await page.fill("#soft-name", "Tap")
        await page.select_option("#location-soft", value=LOCATION)
        assert await accessibility_violations(page) == []
        await page.click("button:has-text('Register it')")
        await page.wait_for_selector("h1:has-text('Tap')")
        await page.click("text=Take this device out of use")
        await page.fill("#reason", "the app was removed")
        await page.click("button:has-text('Take it out of use')")
        await page.wait_for_selector("#place:has-text('It is out of use.')")
    viewer = NewPerson(services.runtime.ids.new_id(), "Ada", PIN, "en", (("*", Role.AUDITOR.value),))
    await services.staff.add(viewer, MANAGER)
    opened = await services.access.sign_in(viewer.id, PIN, device=None)
    async with browser.page(DESKTOP, language="en-GB", trust_any_certificate=True) as page:
        cookie = {"name": "hubd_session", "value": opened.token, "url": shop.url, "secure": True}
        await page.context.add_cookies([cookie])  # type: ignore[list-item]  # the keys Playwright documents
        await page.goto(f"{shop.url}/devices/{terminal}")
        assert "Terminal 1" in await page.inner_text("h1")
        assert await page.locator("main form").count() == 0
        await page.goto(f"{shop.url}/devices")
        assert await page.locator("main form").count() == 0


async def test_a_printer_is_added_by_its_address_for_a_till_and_a_wrong_address_is_said(
    shop: Stage, browser: Browser
) -> None:
    await shop.open_shop()
    await shop.online()
    services, counter = shop.shop.services, shop.counter
    counter.others[LEFT] = EscposSimulator(counter.runtime)
    counter.others["tcp://scale:9100"] = ToledoSimulator(counter.runtime)
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:

        async def add(address: str) -> None:
            await look(page, shop, "/devices")
            await page.click("text=Ajouter un appareil par son adresse")
            await page.fill("#add-address", address)
            await page.select_option("#add-driver", value="escpos")
            await page.fill("#add-name", "Imprimante")
            await page.select_option("#role-add", label="Caisse 1")
            assert await accessibility_violations(page) == []
            assert await overflowing_elements(page) == []
            await page.click("button:has-text('Vérifier et utiliser')")

        for address, why in (("127.0.0.1", "pas dans le réseau du magasin"), ("nobody", "Rien ne répond")):
            await add(address)
            await page.wait_for_selector(f"#refused:has-text('{why}')")
        await add("scale")
        await page.wait_for_selector("#refused:has-text('ne répond pas comme il faut')")
        assert [one for one in await services.devices.all() if one.device.driver] == [], "it is shown and not used"
        await add("left")
        await page.wait_for_selector("#place:has-text('Il est utilisé.')")
        assert await page.inner_text("h1") == "Imprimante"
    (printer,) = [one.device for one in await services.devices.all() if one.device.driver]
    assert (printer.address, printer.role, printer.active) == (LEFT, f"till:{TILL_1}", True)
