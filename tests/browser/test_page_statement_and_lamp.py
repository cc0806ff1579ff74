"""The statement that a manager prints, and the lamp that anybody on the Wi-Fi may see."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from hubd.model.mode import Mode
from local_api.page.app import make_lamp
from local_api.server import Door, DoorServer, tcp_sockets
from tests.browser.conftest import look
from tests.browser.stage import Stage
from tests.rigs.api import serving
from tests.rigs.browser import DESKTOP, PHONE, Browser, accessibility_violations, overflowing_elements

pytestmark = pytest.mark.timeout(120)


async def test_statement_is_printed_on_paper_with_the_way_to_the_cloud_s_copy(
    shop: Stage, browser: Browser, tmp_path: Path
) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.cut()
    outage = shop.shop.services.outages.snapshot().outage_id
    assert outage is not None
    for payment in [await shop.pay(amount) for amount in (1211, 1211)]:
        await shop.verdict(payment, "forwarding", "forwarded", "captured")
    await shop.online()
    statement = await shop.state_outage(outage)
    async with browser.page(DESKTOP, language="fr-FR", trust_any_certificate=True) as page:
        assert "compte la même chose" in (await look(page, shop, f"/outages/{outage}")).replace("comptent", "compte")
        await page.click(".primary")
        text = await page.inner_text("main")
        assert "Relevé DÉFINITIF" in await page.inner_text("h1")
        assert "Perdus\u00a0: 0. Comptés deux fois\u00a0: 0." in text
        assert "24,22\u00a0€" in text
        assert statement in text
        assert await page.locator(".qr svg title").text_content() == "Adresse de la copie du cloud"
        assert await accessibility_violations(page) == []
        await page.emulate_media(media="print")
        assert not await page.is_visible(".tools"), "no buttons on paper"
        paper = await page.pdf(path=tmp_path / "statement.pdf", format="A4")
        assert paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") <= 2, "it fits on a sheet"


async def test_statement_that_disagrees_says_so(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.cut()
    outage = shop.shop.services.outages.snapshot().outage_id
    assert outage is not None
    await shop.online()
    first = await shop.state_outage(outage, "provisional")
    apart = {"count": 4, "totals": []}
    await shop.state_outage(outage, "provisional", agrees=False, replaces=first, uninterpreted=5, quarantined=apart)
    await shop.note_problems()
    async with browser.page(PHONE, language="en-GB", trust_any_certificate=True) as page:
        text = await look(page, shop, f"/outages/{outage}/statement")
        assert "comes to another result" in text
        assert f"replaces the statement {first}" in text
        assert "not in these sums: 5" in text, "what a newer version has written is told apart"
        assert "not in these sums: 4" in text, "and so is what waits for a person"
        assert "Hub and cloud count an outage differently" in await look(page, shop)


async def test_a_terminal_that_was_not_heard_is_named_and_can_be_closed_with_a_reason(
    shop: Stage, browser: Browser
) -> None:
    _, far = await shop.open_shop("Terminal 1", "Terminal 2")
    await shop.online()
    await shop.cut()
    outage = shop.shop.services.outages.snapshot().outage_id
    assert outage is not None
    await shop.pay(2005, "declined", terminal=far)
    await shop.unplug(2, far)
    await shop.online()
    await shop.state_outage(outage, "provisional", unheard=[far])
    async with browser.page(PHONE, language="en-GB", trust_any_certificate=True) as page:
        text = await look(page, shop, f"/outages/{outage}/statement")
        assert "“Terminal 2” had not answered since the outage" in text
        assert "Answers are still awaited" not in text, "nothing is open"
        assert "“Terminal 2” has not answered since this outage" in await look(page, shop, f"/outages/{outage}")
        assert "A terminal has not answered since." in await look(page, shop)
        await look(page, shop, "/devices")
        await page.click(f"#close-{far} summary")
        await page.fill(f"#why-{far}", "fell into the fryer")
        await page.click(f"#close-{far} button")
        await page.wait_for_selector(f"#close-{far}", state="detached")
        assert "has not answered" not in await look(page, shop, f"/outages/{outage}")


async def test_lamp_tells_anybody_what_may_be_taken_and_nothing_else(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    services, facts = shop.shop.services, shop.served.api.context.facts
    door = DoorServer(Door("lamp", make_lamp(services, facts), tcp_sockets(["127.0.0.1"], 0)))
    async with serving([door], services.runtime):
        lamp = f"http://127.0.0.1:{door.door.port}"
        async with browser.page(PHONE, language="fr-FR") as page:
            await page.goto(lamp)
            assert await page.inner_text("h1") == "Vous pouvez vendre normalement."
            await shop.cut()
            await shop.pay(3811)
            await page.wait_for_selector("h1:has-text('Internet est coupé depuis')")  # it is live too
            text = await page.inner_text("body")
            assert "Carte insérée avec code, jusqu'à 100,00\u00a0€" in text
            assert "Ne débranchez ni le boîtier ni les terminaux." in text
            assert "38,11" not in text
            assert await page.locator("form, input, button").count() == 0, "no login, no form"
            assert await accessibility_violations(page) == []
            assert await overflowing_elements(page) == []
            await page.click("text=Ouvrir la page avec les montants")
            assert facts.fingerprint[:4] in await page.inner_text("main")
            assert await accessibility_violations(page) == []
        async with httpx2.AsyncClient(base_url=lamp) as stranger:
            assert (await stranger.get("/ca.crt")).content == facts.ca_pem
            for path in ("/payments", "/v1/hub", "/sign-in", "/static/../app.py"):
                assert (await stranger.get(path)).status_code == 404
            assert (await stranger.post("/", content=b"x")).status_code == 405
    door.close()
    assert services.outages.snapshot().mode is Mode.NETWORK_OUTAGE
