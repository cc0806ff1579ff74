"""The form of a device's settings, and the test code of a scanner that types, as a manager uses them."""

from __future__ import annotations

import pytest

from drivers.keyboard_scanner_codec import QUIET_S
from drivers.sim.escpos import EscposSimulator
from drivers.sim.scanner import KeyboardScannerSimulator
from hubd.model.device import DeviceKind
from hubd.model.scanner_test import TEST_CODE
from hubd.services.device_rules import NewDevice
from tests.browser.conftest import look
from tests.browser.stage import WAIT_S, Stage
from tests.rigs.browser import PHONE, Browser, accessibility_violations, overflowing_elements
from tests.rigs.process import wait_until
from tests.unit.services.shop import LOCATION, MANAGER

pytestmark = pytest.mark.timeout(120)
PRINTER, SCANNER = "tcp://printer:9100", "evdev:///dev/input/event5"


async def test_the_width_of_a_printer_and_the_password_of_a_terminal_are_set(shop: Stage, browser: Browser) -> None:
    (terminal,) = await shop.open_shop("Terminal 1")
    await shop.online()
    services, counter = shop.shop.services, shop.counter
    counter.others[PRINTER] = EscposSimulator(counter.runtime)
    printer = await shop.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop, f"/devices/{printer}")
        assert await page.input_value("#option-columns") == "42"
        assert "Caractères par ligne" in await page.inner_text("#options")
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.fill("#option-columns", "32")
        await page.select_option("#option-drawer_open", "low")
        await page.click("text=Garder ces réglages")
        await page.wait_for_selector("#kept:has-text('Enregistré. Valable dès maintenant.')")
        assert await page.input_value("#option-columns") == "32"
        kept = await services.options.of(printer)
        assert {one.option.name for one in kept.options if one.source == "set"} == {"columns", "drawer_open"}
        await services.options.put(printer, {"columns": "48"}, MANAGER)
        await page.fill("#option-columns", "40")
        await page.click("text=Garder ces réglages")
        await page.wait_for_selector("#kept:has-text('Quelqu\\'un d\\'autre')")
        assert (await services.options.of(printer)).value("columns") == "48"
        await page.goto(page.url.partition("/devices")[0] + f"/devices/{terminal}")
        await page.fill("#option-password", "739164")
        await page.click("text=Garder ces réglages")
        await page.wait_for_selector("#kept:has-text('Enregistré')")
        assert "739164" not in await page.content()
        await page.check("text=L'oublier")
        await page.click("text=Garder ces réglages")
        await page.wait_for_selector("text=L'oublier", state="detached")
        assert {one.source for one in (await services.options.of(terminal)).options} == {"default"}


async def test_a_scanner_reads_the_test_code_and_is_taken_from_the_console_once_a_manager_says_so(
    shop: Stage, browser: Browser
) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    services, counter = shop.shop.services, shop.counter
    scanner = counter.others[SCANNER] = KeyboardScannerSimulator(counter.runtime, "be")
    counter.others[f"{SCANNER}?grab=1"] = scanner
    printer = counter.others[PRINTER] = EscposSimulator(counter.runtime)
    await shop.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
    device = services.runtime.ids.new_id()
    new = NewDevice(SCANNER, "keyboard_scanner", "Scanner", "", LOCATION, kind=DeviceKind.SCANNER)
    await services.devices.claim(device, new, "hub")
    await services.devices.activate(device, MANAGER)
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop, f"/devices/{device}")
        assert await page.locator(".bars svg").is_visible()
        assert await page.locator("#console button").count() == 0, "nothing is taken away on a guess"
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.click("text=Imprimer le code de test")
        await page.wait_for_selector("#kept:has-text('Le code de test s\\'imprime.')")
        await wait_until(lambda: bool(printer.receipts), WAIT_S, "the paper")
        await services.runtime.clock.sleep(QUIET_S + 0.1)
        await scanner.control({"cmd": "scan", "text": TEST_CODE, "symbology": "code128"})
        while not (await services.options.of(device)).version:
            await services.runtime.clock.sleep(0.01)
        await page.reload()
        assert "réglé : be." in await page.inner_text("#test-code")
        await page.click("text=Le retirer de la console")
        await page.wait_for_selector("#console:has-text('Aux caisses seulement.')")
        assert (await services.options.of(device)).value("grab") == "1"
        await page.click("text=Le rendre à la console")
        await page.wait_for_selector("#console:has-text('et aussi tapé')")
        assert (await services.options.of(device)).value("layout") == "be", "what was learnt is not lost by it"
