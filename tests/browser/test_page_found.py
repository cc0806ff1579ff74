"""The page of devices with what was found on the network: shown as plain text, and taken into use by a person."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from drivers.discovery.announcement import endpoint_of
from drivers.probing import candidates
from drivers.registry import Registry
from drivers.sim.escpos import EscposSimulator
from drivers.sim.scale.engine import ToledoSimulator
from hubd.model.device import DeviceKind, Endpoint, EndpointKind, IdentitySource
from tests.browser.conftest import look
from tests.browser.stage import Stage, stage
from tests.rigs.browser import PHONE, Browser, accessibility_violations, overflowing_elements
from tests.simulation.discovery import announced
from tests.unit.services.shop import DRIVERS
from tests.unit.services.test_discovery import acme
from tests.unit.services.test_roles import not_well

pytestmark = pytest.mark.timeout(120)
WAYS = candidates(entry.manifest for entry in DRIVERS.entries if entry.manifest is not None)
HOSTILE = "<script>document.title='taken'</script><b>Caisse\u202e 9"


async def test_what_was_found_is_plain_text_and_one_button_takes_it_into_use(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    discovery = shop.shop.services.discovery
    shop.counter.add("tcp://terminal-9")
    discovery.appeared(announced("terminal-9", name=HOSTILE, number="SN-0009"))
    printer = "_printer._tcp.local."
    discovery.appeared(endpoint_of(printer, f"Imprimante{'x' * 300}.{printer}", ("10.0.0.9",), 515, {}))
    await discovery.consider()
    offered, odd = discovery.all()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop, "/devices")
        assert await page.title() != "taken"
        assert await page.locator("main script, main b").count() == 0
        found = await page.inner_text(f"#found-{offered.id}")
        assert "<b>Caisse� 9" in found
        assert "trouvé, pas encore utilisé" in found
        assert (
            "Elle ne parle que LPD, par lequel une imprimante ne dit rien du papier ni des travaux."
            in await page.inner_text(f"#found-{odd.id}")
        )
        assert await page.locator(f"#found-{odd.id} button").count() == 0
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.click(f"#found-{offered.id} button")
        (device,) = [
            view.device for view in await shop.shop.services.devices.all() if view.device.identity == "serial:SN-0009"
        ]
        assert device.active
        await page.wait_for_selector(f"#device-{device.id}:has-text('prêt')")
        assert await page.locator(f"#found-{offered.id}").count() == 0
        details = page.locator(f"#device-{device.id} details")
        await details.locator("summary").click()
        assert "serial:SN-0009" in await details.inner_text()


async def test_a_broken_printer_is_swapped_with_one_button_and_a_line_is_asked_what_it_is(
    shop: Stage, browser: Browser
) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    services, counter = shop.shop.services, shop.counter
    broken, spare, line = "tcp://broken:9100", "tcp://spare:9100", "serial:///dev/serial/by-id/usb-A1"
    for url in (broken, spare):
        counter.others[url] = EscposSimulator(counter.runtime)
    for way in WAYS:
        counter.others[f"{line}?{way.line}"] = ToledoSimulator(counter.runtime)
    old = await shop.shop.add_peripheral(broken, "escpos", DeviceKind.PRINTER)
    counter.unplugged.add(broken)
    await counter.others[broken].control({"cmd": "unplug"})
    await not_well(shop.shop, old)
    found = announced("spare", name="Star 9", number="S-9", service="_pdl-datastream._tcp.local.")
    services.discovery.appeared(replace(found, url=spare))
    number = IdentitySource.SERIAL_NUMBER
    services.discovery.appeared(Endpoint("/sys/9", EndpointKind.SERIAL, line, "serial:0403:6001:A1", number, "FTDI"))
    await services.discovery.consider()
    printer, adapter = services.discovery.all()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop, "/devices")
        await page.click(f"#found-{adapter.id} >> text=Chercher ce que c'est")
        await page.wait_for_selector(f"#found-{adapter.id}:has-text('Mettler-Toledo 8217 scale')")
        assert await page.input_value(f"#found-{adapter.id} select") == "toledo8217"
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.click(f"#found-{printer.id} >> text=L'utiliser à la place de The printer")
        await page.wait_for_selector(f"#found-{printer.id}", state="detached")
        (new,) = [one.device for one in await services.devices.all() if one.device.identity == found.identity]
        await page.wait_for_selector(f"#device-{new.id}:has-text('prêt')")
        assert await page.locator(f"#device-{old}").count() == 0, "its place is taken, and it holds nothing"
        assert (new.name, new.active) == ("The printer", True)


async def test_a_manager_says_on_the_page_which_of_two_drivers_it_is(tmp_path: Path, browser: Browser) -> None:
    registry = Registry([*DRIVERS.entries, acme("left"), acme("right")])
    async with stage(tmp_path, registry) as shop:
        await shop.open_shop()
        discovery = shop.shop.services.discovery
        shop.counter.add("tcp://terminal-9")
        discovery.appeared(announced("terminal-9", name="Counter 9", number="SN-0009", service="_acme._tcp.local."))
        await discovery.consider()
        (twice,) = discovery.all()
        async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
            await look(page, shop, "/devices")
            told = await page.inner_text(f"#found-{twice.id}")
            assert "Il correspond à plusieurs pilotes : left, right. Dites lequel c'est." in told
            assert "Chercher ce que c'est" not in told
            assert await accessibility_violations(page) == []
            await page.select_option(f"#found-{twice.id} select", "right")
            await page.click(f"#found-{twice.id} button")
            await page.wait_for_selector(f"#found-{twice.id}", state="detached")
        (device,) = [view.device for view in await shop.shop.services.devices.all() if view.device.driver]
        assert (device.driver, device.active) == ("right", True)


async def test_a_replaced_terminal_keeps_its_card_while_money_is_in_it_and_leaves_when_it_is_closed(
    shop: Stage, browser: Browser
) -> None:
    (old,) = await shop.open_shop("Comptoir")
    services, shape = shop.shop.services, shop.counter.simulators["tcp://terminal-1:20007"]
    shape.host_up = False
    stored = (await shop.shop.take(1011)).payment.id
    await shop.shop.until(stored, "stored")
    await shop.unplug(1, old)
    shop.counter.add("tcp://terminal-9")
    services.discovery.appeared(announced("terminal-9", name="Réserve", number="SN-0009"))
    await services.discovery.consider()
    (spare,) = services.discovery.all()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop, "/devices")
        await page.click(f"#found-{spare.id} >> text=L'utiliser à la place de Comptoir")
        await page.wait_for_selector(f"#found-{spare.id}", state="detached")
        card = page.locator(f"#device-{old}")
        assert "Comptoir a pris sa place." in await card.inner_text()
        assert "10,11" in await card.inner_text()
        assert await card.locator("text=Utiliser cet appareil").count() == 0
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await card.locator("summary").first.click()
        await card.locator("input[name=reason]").fill("tombé à l'eau")
        await card.locator("form button").click()
        await page.wait_for_selector(f"#device-{old}", state="detached")
    assert (await services.payments.get(stored)).custody == "held", "nothing is written off"
