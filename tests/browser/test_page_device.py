"""The page of one device: how long ago it answered, what was wrong last, how it is tried, and its trace to be saved."""

from __future__ import annotations

import re

import pytest

from drivers.sim.escpos import EscposSimulator
from drivers.sim.scale import ToledoSimulator
from hubd.model.device import DeviceKind
from tests.browser.conftest import look
from tests.browser.stage import WAIT_S, Stage
from tests.rigs.browser import DESKTOP, PHONE, Browser, accessibility_violations, overflowing_elements
from tests.rigs.process import wait_until

pytestmark = pytest.mark.timeout(120)
PRINTER, SCALE = "tcp://printer:9100", "tcp://scale:8217"


async def test_a_terminal_is_looked_at_tried_and_its_trace_saved(shop: Stage, browser: Browser) -> None:
    (terminal,) = await shop.open_shop("Terminal 1")
    await shop.online()
    simulator = shop.counter.simulators["tcp://terminal-1:20007"]
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop, "/devices")
        await page.click(f"#device-{terminal} h2 a")
        await page.wait_for_url(f"**/devices/{terminal}")
        told = await page.inner_text("main")
        assert "Terminal 1" in told
        assert re.search(r"Il a répondu il y a \d+\ss\.", told), told
        assert "encaisser" in told
        assert "son adresse" in told
        assert "Dernier problème" not in told
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        books = simulator.ledger.as_json()
        await page.click("button:has-text('L\\'essayer')")
        await page.wait_for_selector("#tried:has-text('Il répond. Aucun argent n\\'a bougé.')")
        assert simulator.ledger.as_json() == books
        await page.click("button:has-text('Afficher son nom sur son écran')")
        await page.wait_for_selector("#tried:has-text('Son écran affiche son nom.')")
        assert simulator.shown == ("Ce terminal est", "Terminal 1")
        assert "Simulator sim_1" in str(await page.text_content("#technician")), "its answer has told it"
        async with page.expect_download() as download:
            await page.click("text=Enregistrer la trace")
        assert (await download.value).suggested_filename == f"trace-{terminal[:13]}.txt"
        text = await page.evaluate(f"fetch('/devices/{terminal}/trace').then((answer) => answer.text())")
        assert " = opened\n" in text
        assert " > 06 00 registration password hidden" in text
        await shop.unplug(1, terminal)
        await page.wait_for_selector("#state:has-text('débranché ou éteint')")
        told = await page.inner_text("#state")
        assert re.search("Dernier problème\\s+(La liaison a été perdue|Il était injoignable)", told), told
        assert await accessibility_violations(page) == []
        await page.click("button:has-text('L\\'essayer')")
        await page.wait_for_selector("#tried:has-text('Il ne répond pas.')")
        await shop.plug(1, terminal)
        await page.wait_for_selector("#state:has-text('terminé')")
        assert "prêt" in await page.inner_text("#state"), "the last problem is kept when it is over"


async def test_a_printer_prints_its_name_and_a_page_and_a_scale_tells_a_weight(shop: Stage, browser: Browser) -> None:
    await shop.open_shop()
    runtime = shop.shop.services.runtime
    printer, scale = EscposSimulator(runtime), ToledoSimulator(runtime)
    scale.grams = 345
    shop.counter.others |= {PRINTER: printer, SCALE: scale}
    printing = await shop.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
    weighing = await shop.shop.add_peripheral(SCALE, "toledo8217", DeviceKind.SCALE)

    def papers() -> str:
        return "\n".join(line.plain(42) for one in printer.receipts for line in one.lines)

    async with browser.page(DESKTOP, language="nl-NL", trust_any_certificate=True) as page:
        told = await look(page, shop, f"/devices/{printing}")
        assert "afdrukken" in told
        assert await accessibility_violations(page) == []
        await page.click("button:has-text('Naam afdrukken')")
        await page.wait_for_selector("#tried:has-text('De printer drukt zijn naam af.')")
        await wait_until(lambda: "The printer" in papers(), WAIT_S, "its name on paper")
        await page.click("button:has-text('Proberen')")
        await page.wait_for_selector("#tried:has-text('TEST')")
        await wait_until(lambda: "TEST" in papers(), WAIT_S, "the page that says TEST")
        told = await look(page, shop, f"/devices/{weighing}")
        assert await page.locator("text=Naam afdrukken").count() == 0
        await page.click("button:has-text('Proberen')")
        await page.wait_for_selector("#tried:has-text('De weegschaal zegt 345 g.')")
        await look(page, shop, f"/devices/{weighing}?tried=weight&grams=1%3Cb%3E")
        assert await page.locator("#tried").count() == 0, "what stands in an address is not repeated"
