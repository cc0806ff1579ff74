"""A payment's receipt on the page: looked at on a phone, kept as PDF, printed by one button that prints once."""

from __future__ import annotations

import pytest

from drivers.sim.escpos import EscposSimulator
from hubd.model.device import DeviceKind
from hubd.model.payment import Tender
from hubd.model.print_job import PrintState
from hubd.services.settings import RECEIPT_LAYOUT
from tests.browser.conftest import look
from tests.browser.stage import Stage
from tests.rigs import pdf
from tests.rigs.browser import DESKTOP, PHONE, Browser, Screen, accessibility_violations, overflowing_elements
from tests.unit.services.shop import MANAGER
from tests.unit.services.test_printing import PRINTER, paper, until

pytestmark = pytest.mark.timeout(120)
LOGO = {"width": 16, "rows": "/4EQBAGB"}


@pytest.mark.parametrize(
    ("screen", "language", "words"),
    [
        (PHONE, "fr-FR", ("Ticket client", "Imprimer", "Ticket ")),
        (DESKTOP, "nl-NL", ("Klantenbon", "Afdrukken", "Bon ")),
        (PHONE, "en-GB", ("Customer's receipt", "Print", "Receipt ")),
    ],
    ids=["phone-fr", "desktop-nl", "phone-en"],
)
async def test_a_receipt_is_looked_at_kept_and_printed_once(
    shop: Stage, browser: Browser, screen: Screen, language: str, words: tuple[str, str, str]
) -> None:
    name, button, title = words
    await shop.open_shop()
    await shop.online()
    layout = {"language": language[:2], "header": ["12, rue de la Gare"], "logo": LOGO, "columns": 42}
    await shop.shop.services.settings.put("hub", RECEIPT_LAYOUT, layout)
    printer = EscposSimulator(shop.counter.runtime)
    shop.counter.others[PRINTER] = printer
    await shop.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
    payment = (await shop.shop.take(1250, tender=Tender.CASH)).payment
    async with browser.page(screen, language=language, trust_any_certificate=True) as page:
        assert name in await look(page, shop, f"/payments/{payment.id}")
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        form = page.locator("form:has(input[value=customer])")
        job = await form.locator("input[name=job]").get_attribute("value")
        assert job is not None
        assert await form.inner_text() == button
        await form.locator("button").click()
        await until(shop.shop, job, PrintState.PRINTED)
        await page.wait_for_selector(
            f"form:has(input[value=customer]) input[name=job]:not([value='{job}'])", state="attached"
        )
        pages = await page.request.post(
            f"{shop.url}/payments/{payment.id}/print",
            form={"for": "customer", "job": job},
            headers={"origin": shop.url},
        )
        assert pages.ok
        (only,) = await shop.shop.services.printing.page(None, 10, MANAGER)
        assert (only.papers, paper(printer).count("12, rue de la Gare")) == (1, 1)
        await page.click("a[href$='/receipt?for=merchant']")
        receipt = await page.inner_text("main")
        assert title in receipt
        assert "12, rue de la Gare" in receipt
        assert await page.evaluate("getComputedStyle(document.querySelector('.large')).fontSize") != "16px"
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        kept = await page.request.get(f"{shop.url}/payments/{payment.id}/receipt.pdf?for=merchant")
        assert [line.split() for line in receipt.splitlines() if line.strip()] == [
            line.split() for line in pdf.text_of(await kept.body())
        ]
