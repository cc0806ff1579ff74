"""What a terminal's vendor asks for, done on its page: calls home, and what nobody but a person can say of it."""

from __future__ import annotations

import pytest

from tests.browser.conftest import look
from tests.browser.stage import Stage
from tests.rigs.browser import DESKTOP, PHONE, Browser, accessibility_violations, overflowing_elements

pytestmark = pytest.mark.timeout(120)


async def test_a_parameter_session_is_complete_when_each_declared_provider_is_done(
    shop: Stage, browser: Browser
) -> None:
    """D07: the Android steps by the declared model; two providers, incomplete until both are done."""
    (terminal,) = await shop.open_shop("Terminal 1")
    await shop.online()
    services, simulator = shop.shop.services, shop.counter.simulators["tcp://terminal-1:20007"]
    await services.life.heard(terminal, ["La session de paramètres acquirer a expiré"])
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop, "/devices")
        await page.click("text=Le faire d'ici")
        await page.wait_for_selector("#calls:has-text('Appuyez sur Menu.')")
        await page.click("text=Ce qu'on ne peut pas lui demander")
        await page.fill("#model", "PAX A920")
        await page.fill("#providers", "CCV, Worldline")
        await page.select_option("#password", "default")
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.click("#declare button:has-text('Enregistrer')")
        await page.wait_for_selector("#calls:has-text('C\\'est noté.')")
        told = await page.inner_text("#calls")
        assert "Ouvrez l'app Service." in told
        life = await services.life.of(terminal)
        assert (life.model, life.providers, life.default_password) == ("PAX A920", ("CCV", "Worldline"), True)
        await page.click("button:has-text('Lancer la session de paramètres')")
        await page.wait_for_selector("#calls:has-text('Pas encore complet')")
        assert simulator.called_home == ["parameter_session"]
        assert "CCV, Worldline" in await page.inner_text("#calls"), "ZVT does not say which ones it has reached"
        await page.check("input[value=CCV]")
        await page.click("button:has-text('Le noter')")
        await page.wait_for_selector("#by-hand:has-text('CCV · fait')")
        assert (await services.life.of(terminal)).left == ("Worldline",)
        await page.check("input[value=Worldline]")
        await page.click("button:has-text('Le noter')")
        await page.wait_for_selector("#calls [role=status]:has-text('c\\'est fait')")
        assert (await services.life.of(terminal)).left == ()
        assert await page.locator("#calls ol").count() == 0


async def test_a_terminal_contacts_its_tms_from_its_page_and_not_while_money_is_in_it(
    shop: Stage, browser: Browser
) -> None:
    """D15: done where the driver can, refused with stored payments in it."""
    (terminal,) = await shop.open_shop("Terminal 1")
    await shop.online()
    services, simulator = shop.shop.services, shop.counter.simulators["tcp://terminal-1:20007"]
    await services.life.heard(terminal, ["Configuration échouée"])
    async with browser.page(DESKTOP, language="nl-NL", trust_any_certificate=True) as page:
        told = await look(page, shop, f"/devices/{terminal}")
        assert "Kies Contact TMS." in told
        simulator.faults.says = "Configuration échouée"
        await page.click("button:has-text('Contact met TMS')")
        await page.wait_for_selector("#calls:has-text('Het contact mislukte.')")
        simulator.faults.clear()
        await page.click("button:has-text('Contact met TMS')")
        await page.wait_for_selector("#calls:has-text('dat is klaar')")
        assert await page.locator("#calls ol").count() == 0
        called = list(simulator.called_home)
        await shop.cut()
        await shop.pay(1500)
        await page.click("button:has-text('Contact met TMS')")
        await page.wait_for_selector("#calls .error:has-text('Er zitten nog betalingen in.')")
        await page.click("text=Wat men hem niet kan vragen")
        await page.fill("#providers", "CCV, CCV")
        await page.click("#declare button:has-text('Opslaan')")
        await page.wait_for_selector("#calls .error:has-text('hoogstens acht aanbieders')")
        assert await accessibility_violations(page) == []
        assert simulator.called_home == called
    assert called == ["tms_contact"], "the simulator counts calls that went through"
