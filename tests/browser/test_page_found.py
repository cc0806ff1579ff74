"""The page of devices with what was found on the network: shown as plain text, and taken into use by a person."""

from __future__ import annotations

import pytest

from drivers.discovery.announcement import endpoint_of
from tests.browser.conftest import look
from tests.browser.stage import Stage
from tests.rigs.browser import PHONE, Browser, accessibility_violations, overflowing_elements
from tests.simulation.discovery import announced

pytestmark = pytest.mark.timeout(120)
HOSTILE = "<script>document.title='taken'</script><b>Caisse\u202e 9"


async def test_what_was_found_is_plain_text_and_one_button_takes_it_into_use(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    discovery = shop.shop.services.discovery
    shop.counter.add("tcp://terminal-9")
    discovery.appeared(announced("terminal-9", name=HOSTILE, number="SN-0009"))
    printer = "_ipp._tcp.local."
    discovery.appeared(endpoint_of(printer, f"Imprimante{'x' * 300}.{printer}", ("10.0.0.9",), 631, {}))
    await discovery.consider()
    offered, odd = discovery.all()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop, "/devices")
        assert await page.title() != "taken"
        assert await page.locator("main script, main b").count() == 0
        found = await page.inner_text(f"#found-{offered.id}")
        assert "<b>Caisse� 9" in found
        assert "trouvé, pas encore utilisé" in found
        assert "Le boîtier ne sait pas travailler avec ce genre d'appareil." in await page.inner_text(
            f"#found-{odd.id}"
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
