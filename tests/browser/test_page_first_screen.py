"""The first screen in its states, in Chromium, over a real hub: what it says, in which order, and to whom."""

from __future__ import annotations

import logging

import playwright.async_api as playwright
import pytest

from hubd.model.payment import ManualStatus
from hubd.services.staff import NewPerson
from hubd.store.sealed import read_recovery_code
from tests.browser.conftest import look
from tests.browser.stage import OWNER, PIN, Stage
from tests.rigs.browser import (
    DESKTOP,
    PHONE,
    Browser,
    Screen,
    accessibility_violations,
    overflowing_elements,
)
from tests.unit.services.shop import MANAGER

pytestmark = pytest.mark.timeout(120)
SCREENS = {"phone": PHONE, "desktop": DESKTOP}
LANGUAGES = {"fr": "fr-FR", "en": "en-GB", "nl": "nl-NL"}


async def order_of(page: playwright.Page) -> list[str]:
    ids: list[str] = await page.evaluate(
        "() => [...document.querySelectorAll('main section[id]')].map(part => part.id)"
    )
    return ids


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", SCREENS)
async def test_every_page_can_be_read_by_everybody(shop: Stage, browser: Browser, width: str, language: str) -> None:
    """Aim: no violation of WCAG 2.2 AA and nothing sticking out, on all pages, with money waiting in an outage."""
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.enrol()
    await shop.cut()
    stored = await shop.pay(3811)
    lost = (await shop.shop.take(1114)).payment.id
    await shop.shop.until(lost, "unknown")
    await shop.note_problems()
    outage = shop.shop.services.outages.snapshot().outage_id
    paths = ["/", "/payments", f"/payments/{stored}", f"/payments/{lost}", "/outages", f"/outages/{outage}"]
    paths += ["/devices", "/pairing", "/sync", "/help/internet?step=4", "/help/service", "/sign-in", "/join"]
    screen: Screen = SCREENS[width]
    async with browser.page(screen, language=LANGUAGES[language], trust_any_certificate=True) as page:
        for path in paths:
            text = await look(page, shop, path)
            assert text.strip(), path
            assert await page.get_attribute("html", "lang") == language
            assert await accessibility_violations(page) == [], path
            assert await overflowing_elements(page) == [], path


async def test_all_fine_is_said_in_the_order_of_the_screen(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.enrol()
    await shop.pay(1200, "approved")
    await shop.confirm()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        text = await look(page, shop)
        assert await page.inner_text("h1") == "Tout fonctionne."
        assert "Tout ce qui a été encaissé aujourd'hui est enregistré dans le cloud." in text
        assert await order_of(page) == ["headline", "ways", "risk", "now", "devices", "technician"]
        assert await page.get_attribute("#headline", "aria-live") == "polite"
        assert await page.locator(".primary").count() == 0, "nothing to do, no button"


async def test_today_s_number_leads_to_exactly_its_sales(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.pay(1200, "approved")
    await shop.pay(2400, "approved")
    await shop.pay(1305, "declined")
    async with browser.page(PHONE, language="en-GB", trust_any_certificate=True) as page:
        await look(page, shop)
        await page.click("text=Today: 2 sales · €36.00")
        assert "2 payments in this list\n\n€36.00" in await page.inner_text("#payments")
        await page.click("text=All")
        assert "3 payments in this list" in await page.inner_text("#payments")


async def test_outage_with_money_says_keep_selling_and_what_to_do(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.cut()
    await shop.pay(3811)
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        text = await look(page, shop)
        assert "Internet est coupé depuis" in await page.inner_text("h1")
        assert "CONTINUEZ À VENDRE" in text.upper()
        assert "38,11\u00a0€" in await page.inner_text("#risk")
        assert "Internet doit revenir avant" in text
        assert "« Vous êtes hors ligne. Connectez-vous à Internet pour encaisser des paiements. »" in text
        assert await page.locator(".primary").all_inner_texts() == ["Rétablir Internet\u00a0: 3 gestes, 5 min"]
        await page.click("text=gardé en sûreté")
        assert "38,11\u00a0€" in await page.inner_text("#payments"), "the number leads to its list"
        await look(page, shop)
        await page.click(".primary")
        assert "appelez votre opérateur" not in await page.inner_text("main"), "only after the three steps"
        await page.click("text=Mesurer à nouveau")
        await page.wait_for_url("**/help/internet?step=4")
        assert "appelez votre opérateur" in await page.inner_text("main")


async def test_a_disturbed_service_sends_nobody_to_a_box_that_works(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.disturb()
    await shop.pay(3811)
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        assert "Le service de paiement doit revenir avant" in await look(page, shop)
        await shop.pass_time(hours=21)
        await shop.disturb()
        text = await look(page, shop)
        assert "Les paiements gardés doivent partir dans les" in text
        assert "Votre Internet fonctionne, le prestataire répare." in text
        assert "Rétablir Internet" not in text, "there is nothing to restart in the shop"
        assert await page.locator(".primary").count() == 0
        assert "Internet est là." in await look(page, shop, "/help/internet?step=4")
        await shop.online()
        await look(page, shop)
        assert "Le service de paiement est revenu (" in await page.inner_text("h1"), "the Internet was never gone"


async def test_cash_only_interrupts_and_says_why(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.allow_offline_cards(False)
    await shop.online()
    await shop.cut()
    async with browser.page(PHONE, language="en-GB", trust_any_certificate=True) as page:
        text = await look(page, shop)
        assert await page.inner_text("h1") == "Cash only."
        assert await page.get_attribute("#headline", "aria-live") == "assertive"
        assert "Card payments without the Internet are not switched on in this shop." in text


async def test_unplugged_terminal_with_money_takes_the_act(shop: Stage, browser: Browser) -> None:
    (terminal,) = await shop.open_shop("Terminal caisse 2")
    await shop.online()
    await shop.cut()
    await shop.pay(2411)
    await shop.unplug(1, terminal)
    await shop.note_problems()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop)
        now = await page.inner_text("#now")
        assert "24,11\u00a0€ sont dans le terminal «\u00a0Terminal caisse 2\u00a0»" in now
        assert await page.locator(".primary").all_inner_texts() == ["Je l'ai rebranché"]
        await page.click(".primary")
        await page.wait_for_selector(".primary:has-text('rebranché')")
        await shop.plug(1, terminal)
        # The page hears of it by itself: whoever has plugged it in need not say so.
        await page.wait_for_selector("#now:has-text('Rétablir Internet')")


async def test_unknown_payment_leads_to_what_to_tell_and_to_the_decision(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    payment = (await shop.shop.take(3814)).payment.id
    await shop.shop.until(payment, "unknown")
    async with browser.page(PHONE, language="nl-NL", trust_any_certificate=True) as page:
        await look(page, shop)
        assert "Laat niet opnieuw betalen" in await page.inner_text("#now")
        await page.click(".primary")
        assert "Wat u de klant zegt" in await page.inner_text("main")
        await page.click("summary:has-text('beslis als manager')")
        await page.check("input[value=success]")
        await page.fill("#reason", "staat in de lijst van de terminal")
        await page.click("button:has-text('Beslissen')")
        await page.wait_for_selector("text=Door een manager beslist: betaald")
    found = await shop.shop.services.payments.get(payment)
    assert (found.state.value, found.manual) == ("unknown", ManualStatus.SUCCESS), "beside the state, never instead"


async def test_refused_payment_stands_before_the_money(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.enrol()
    await shop.cut()
    accepted, refused, waiting = [await shop.pay(amount) for amount in (1011, 4911, 2011)]
    await shop.verdict(accepted, "forwarding", "forwarded", "captured")
    await shop.verdict(refused, "forwarding", "forwarded", "declined_late")
    await shop.verdict(waiting, "forwarding", "forwarded")
    await shop.online()
    await shop.confirm()
    await shop.note_problems()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        text = await look(page, shop)
        assert "Internet est revenu" in await page.inner_text("h1")
        assert (await order_of(page))[:5] == ["headline", "ways", "now", "risk", "outage"]
        assert "La banque a refusé 1 paiement" in text
        assert "49,11\u00a0€" in await page.inner_text("#now")
        assert "1 transmis, réponse de la banque attendue" in text, "handed over is not accepted"
        assert await page.locator(".primary").count() == 1
        assert "lien de paiement" not in text, "an act that is not built is not drawn"


async def test_each_number_of_an_outage_leads_to_exactly_its_payments(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.cut()
    accepted, waiting, _ = [await shop.pay(amount) for amount in (1011, 2011, 3011)]
    await shop.pay_cash(700)
    await shop.pay(905, "declined")
    await shop.verdict(accepted, "forwarding", "forwarded", "captured")
    await shop.verdict(waiting, "forwarding", "forwarded")
    await shop.online()
    told = {"cards": "60,33", "accepted": "10,11", "waiting": "20,11", "held": "30,11", "cash": "7,00"}
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop)
        assert await page.locator("#outage a[href^='/payments']").count() == len(told)
        for show, money in told.items():
            link = page.locator(f"#outage a[href$='show={show}']")
            assert money in await link.inner_text(), show
            await link.click()
            assert money in await page.inner_text("#payments .amount"), show
            assert await accessibility_violations(page) == []
            assert await overflowing_elements(page) == []
            await page.go_back()
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.context.clear_cookies()
        await page.goto(shop.url + "/payments?show=held")
        assert "/sign-in?then=/payments%3Fshow%3Dheld" in page.url, "the PIN leads to the list that was asked for"


async def test_of_several_refused_payments_the_sum_and_the_one_that_is_named_are_told_apart(
    shop: Stage, browser: Browser
) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.cut()
    for payment in [await shop.pay(amount) for amount in (1511, 4911)]:
        await shop.verdict(payment, "forwarding", "forwarded", "declined_late")
    await shop.online()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop)
        now = await page.inner_text("#now")
        assert "La banque a refusé 2 paiements" in now
        assert now.index("64,22\u00a0€") < now.index("Le plus grand\u00a0: 49,11\u00a0€") < now.index("Ticket")
        await page.click("#now .primary")
        assert await page.inner_text("h1") == "49,11\u00a0€"


async def test_who_may_not_see_totals_sees_none_of_an_outage_with_a_refused_payment(
    shop: Stage, browser: Browser
) -> None:
    await shop.open_shop("Terminal 1")
    technician = NewPerson(shop.shop.services.runtime.ids.new_id(), "Noor", "2846", "fr", (("*", "technician"),))
    await shop.shop.services.staff.add(technician, MANAGER)
    await shop.online()
    await shop.cut()
    for payment in [await shop.pay(amount) for amount in (1511, 4911)]:
        await shop.verdict(payment, "forwarding", "forwarded", "declined_late")
    await shop.online()
    opened = await shop.shop.services.access.sign_in(technician.id, "2846", device=None)
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        cookie = {"name": "hubd_session", "value": opened.token, "url": shop.url, "secure": True}
        await page.context.add_cookies([cookie])  # type: ignore[list-item]  # the keys Playwright documents
        await page.goto(shop.url + "/")
        text = await page.inner_text("main")
        assert "La banque a refusé 2 paiements" in text
        assert "€" not in text.replace("100,00\u00a0€", ""), "no amount but the limit of a payment"


async def test_stranger_sees_no_amount_and_signs_in_with_a_pin(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.cut()
    await shop.pay(3811)
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await page.goto(shop.url + "/")
        text = await page.inner_text("body")
        assert "Internet est coupé depuis" in text
        assert "38,11" not in text
        assert OWNER not in text
        await page.goto(shop.url + "/payments")
        assert "/sign-in?then=/payments" in page.url
        await page.fill("#name", OWNER)
        await page.fill("#pin", "9999")
        await page.click(".primary")
        assert "Le nom ou le code PIN est faux." in await page.inner_text("[role=alert].error")
        await page.fill("#pin", PIN)
        await page.click(".primary")
        await page.wait_for_url("**/payments")
        await page.click("text=Se déconnecter")
        await page.goto(shop.url + "/payments")
        assert "/sign-in" in page.url


async def test_viewer_s_phone_joins_by_code_and_sees_totals_without_names(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    await shop.cut()
    await shop.pay(3811)
    async with (
        browser.page(DESKTOP, language="fr-FR", trust_any_certificate=True) as manager,
        browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as phone,
    ):
        await look(manager, shop, "/pairing")
        await manager.click("text=Pour un téléphone de consultation")
        code = await manager.inner_text(".code")
        assert "Ne lisez jamais ce code au téléphone." in await manager.inner_text("main")
        await phone.goto(shop.url + "/join")
        await phone.fill("#code", code)
        await phone.fill("#name", "Téléphone de Marie")
        await phone.click(".primary")
        await phone.wait_for_selector("h1:has-text('En attente du responsable')")
        number = await phone.inner_text(".code")
        await manager.wait_for_selector("text=Téléphone de Marie")  # the page hears of it by itself
        assert await manager.inner_text("section.now .code") == number
        await manager.click(".primary")
        await phone.wait_for_selector("#risk")  # and so does the phone
        assert "38,11\u00a0€" in await phone.inner_text("#risk")
        await phone.goto(shop.url + "/payments")
        assert "/sign-in" in phone.url, "the list has names and cards: it asks for the PIN"


async def test_set_up_needs_the_code_at_the_hub_and_shows_the_recovery_code_until_it_is_on_paper(
    shop: Stage, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        answers: list[playwright.Response] = []

        def heard(answer: playwright.Response) -> None:
            answers.append(answer)

        page.on("response", heard)
        await page.goto(shop.url + "/")
        await page.click(".primary")
        for code in ("AAAAAAAA", shop.shop.services.staff.setup_code):
            await page.fill("#code", code)
            await page.fill("#store", "Épicerie Lambert")
            await page.fill("#name", OWNER)
            await page.fill("#pin", PIN)
            await page.click(".primary")
        await page.wait_for_selector("h1:has-text('Notez ce code')")
        told = [answer for answer in answers if answer.request.method == "POST" or "/recovery-code" in answer.url]
        assert len(told) == 3, "two tries and the code"
        assert {(await answer.all_headers())["cache-control"] for answer in told} == {"no-store"}
        code = await page.inner_text("#recovery-code")
        assert read_recovery_code(code)
        assert code.lower() not in page.url.lower()
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.goto(shop.url + "/")
        await page.click("a[href='/recovery-code']")
        assert await page.inner_text("#recovery-code") == code, "it is shown until somebody has it on paper"
        await page.click("text=Je l'ai noté")
        await page.wait_for_selector("#risk")
        assert "Épicerie Lambert" in await page.inner_text("header")
        assert await page.locator("a[href='/recovery-code']").count() == 0
        for path in ("/set-up", "/recovery-code"):
            await page.goto(shop.url + path)
            assert page.url == shop.url + "/"
            assert code not in await page.content(), "it is never shown again"
    assert code not in "".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert [one.name for one in await shop.shop.services.staff.everybody()] == [OWNER]


async def fill_in_the_set_up(page: playwright.Page, shop: Stage) -> None:
    await page.goto(shop.url + "/set-up")
    for field, value in (("code", shop.shop.services.staff.setup_code), ("store", "Épicerie Lambert"), ("pin", PIN)):
        await page.fill(f"#{field}", value)
    await page.fill("#name", OWNER)


async def press_and_lose_the_answer(page: playwright.Page, path: str) -> None:
    """The hub gets the request and does it; something on the way says that it has heard nothing, and sets no cookie."""

    async def lost(route: playwright.Route) -> None:
        await route.fetch(max_redirects=0)
        await route.fulfill(status=502, content_type="text/html", body="<p id=lost>nothing heard</p>")

    await page.route(f"**{path}", lost, times=1)
    await page.click("main .primary")
    await page.wait_for_selector("#lost")


async def test_a_set_up_whose_answer_is_lost_is_sent_again_and_shows_its_code(shop: Stage, browser: Browser) -> None:
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await fill_in_the_set_up(page, shop)
        await press_and_lose_the_answer(page, "/set-up")
        assert await shop.shop.services.staff.is_set_up()
        await page.reload()  # the browser sends the form again
        await page.wait_for_url("**/recovery-code")
        assert read_recovery_code(await page.inner_text("#recovery-code"))
    assert [one.name for one in await shop.shop.services.staff.everybody()] == [OWNER]


async def test_who_lost_the_set_up_s_answer_and_the_form_signs_in_and_finds_the_code(
    shop: Stage, browser: Browser
) -> None:
    async with browser.page(PHONE, language="nl-NL", trust_any_certificate=True) as page:
        await fill_in_the_set_up(page, shop)
        await press_and_lose_the_answer(page, "/set-up")
    async with browser.page(DESKTOP, language="nl-NL", trust_any_certificate=True) as page:
        await page.goto(shop.url + "/")
        assert await page.locator("a[href='/recovery-code']").count() == 0, "a stranger is offered nothing"
        await page.goto(shop.url + "/recovery-code")
        assert "/sign-in?then=/recovery-code" in page.url
        await page.fill("#name", OWNER)
        await page.fill("#pin", PIN)
        await page.click("main .primary")
        await page.wait_for_url("**/recovery-code")
        code = await page.inner_text("#recovery-code")
        await press_and_lose_the_answer(page, "/recovery-code/confirm")
        await page.goto(shop.url + "/recovery-code")
        assert page.url == shop.url + "/", "it was confirmed, although the answer was lost"
        assert code not in await page.content()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", SCREENS)
async def test_a_code_that_went_with_a_restart_is_made_anew(
    shop: Stage, browser: Browser, width: str, language: str
) -> None:
    async with browser.page(SCREENS[width], language=LANGUAGES[language], trust_any_certificate=True) as page:
        await fill_in_the_set_up(page, shop)
        await page.click("main .primary")
        await page.wait_for_url("**/recovery-code")
        first = await page.inner_text("#recovery-code")
        confirm = await page.get_attribute("input[name=id]", "value")
        shop.shop.services.recovery._held.clear()  # what a restart leaves of the memory
        await page.reload()
        assert await page.locator("#recovery-code").count() == 0
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.click("main .primary")
        await page.wait_for_selector("#recovery-code")
        code = await page.inner_text("#recovery-code")
        assert code != first
        # Another window still shows the earlier code: confirming it must not confirm this one.
        await page.evaluate("id => { document.querySelector('input[name=id]').value = id }", confirm)
        await page.click("main .primary")
        await page.wait_for_selector("[role=alert].error")
        assert await page.inner_text("#recovery-code") == code
        assert await accessibility_violations(page) == []
        await page.click("main .primary")
        await page.wait_for_url(shop.url + "/")


async def test_language_is_switched_and_remembered(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop)
        await page.click("[hreflang=nl]")
        await page.wait_for_selector("h1:has-text('verkopen')")
        assert await page.get_attribute("html", "lang") == "nl"
        await page.goto(shop.url + "/devices")
        assert await page.get_attribute("html", "lang") == "nl"


async def test_page_without_the_hub_says_so_within_seconds_and_recovers(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        await look(page, shop)
        assert not await page.is_visible("#stale")
        await page.route("**/*", lambda route: route.abort())
        await page.wait_for_selector("#stale:visible")
        banner = await page.inner_text("#stale")
        assert "Pas de nouvelles du boîtier depuis" in banner
        assert "Êtes-vous sur le Wi-Fi du magasin" in banner
        assert await page.evaluate("document.body.classList.contains('stale')")
        assert await accessibility_violations(page) == []
        await page.unroute("**/*")
        await page.wait_for_selector("#stale", state="hidden")


async def test_how_long_the_hub_was_not_heard_is_said_in_words(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    async with browser.page(PHONE, language="nl-NL", trust_any_certificate=True) as page:
        await page.clock.install()
        await look(page, shop)
        await page.route("**/*", lambda route: route.abort())
        await page.clock.fast_forward(12 * 60 * 1000)
        await page.wait_for_selector("#stale:has-text('Geen nieuws van de hub sinds 12 min.')")
        await page.clock.fast_forward(2 * 3600 * 1000)
        await page.wait_for_selector("#stale:has-text('2 u 12.')")
        assert await page.get_attribute("#stale [data-age]", "aria-live") == "off", "not read out each second"


async def test_open_page_follows_the_shop_by_itself(shop: Stage, browser: Browser) -> None:
    await shop.open_shop("Terminal 1")
    await shop.online()
    async with browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page:
        errors: list[str] = []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        await look(page, shop)
        await page.focus("#technician summary")
        await page.keyboard.press("Enter")
        await shop.cut()
        await page.wait_for_selector("h1:has-text('Internet est coupé')")
        assert await page.evaluate("document.querySelector('#technician-details').open"), "what was open stays open"
        assert await page.evaluate("document.activeElement.tagName") == "SUMMARY", "and the focus stays"
        assert errors == [], "the policy of the page blocks nothing of its own"
