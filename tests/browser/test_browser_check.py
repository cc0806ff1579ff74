"""The check of a browser: it is red where a till could not run, says what to do about it, and green where it can."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import playwright.async_api as playwright
import pytest

from local_api.page.app import make_lamp
from local_api.server import Door, DoorServer, tcp_sockets
from local_api.tls import own_name
from tests.browser.stage import Stage
from tests.rigs.api import HUB_ID, serving
from tests.rigs.browser import (
    DESKTOP,
    PHONE,
    Browser,
    Screen,
    accessibility_violations,
    overflowing_elements,
    trust_certificate,
)

pytestmark = pytest.mark.timeout(120)
LANGUAGES = {"fr": "fr-FR", "en": "en-GB", "nl": "nl-NL"}
SCREENS = {"phone": PHONE, "desktop": DESKTOP}
DONE_MS = 20_000


@asynccontextmanager
async def lamp_of(shop: Stage) -> AsyncIterator[str]:
    """The door without TLS, as the LAN has it; yields its address."""
    services, facts = shop.shop.services, shop.served.api.context.facts
    door = DoorServer(Door("lamp", make_lamp(services, facts), tcp_sockets(["127.0.0.1"], 0)))
    async with serving([door], services.runtime):
        yield f"http://127.0.0.1:{door.door.port}"
    door.close()


async def states(page: playwright.Page) -> dict[str, str]:
    """What the page found, once it has found everything."""
    await page.wait_for_selector("#verdict[data-state]", timeout=DONE_MS)
    found: dict[str, str] = await page.evaluate(
        "() => Object.fromEntries([...document.querySelectorAll('[data-state]')].map(e => [e.id, e.dataset.state]))"
    )
    return found


@pytest.fixture
async def trusting(shop: Stage, tmp_path: Path) -> AsyncIterator[Browser]:
    """A browser whose user trusts the hub's CA, and into whose machine the hub's name is known as over mDNS."""
    await trust_certificate(tmp_path / "home", shop.served.certificates.ca_file)
    async with Browser(tmp_path / "home") as running:
        yield running


@pytest.mark.parametrize("width", SCREENS)
async def test_browser_that_does_not_trust_the_hub_hears_it_and_how_to(
    shop: Stage, browser: Browser, width: str
) -> None:
    async with lamp_of(shop) as lamp:
        for language in LANGUAGES:
            await _hears_that_it_does_not_trust(shop, browser, lamp, SCREENS[width], language)
        async with httpx2.AsyncClient(base_url=lamp) as stranger:
            given = await stranger.get("/ca.crt")
        assert given.content == shop.served.api.context.facts.ca_pem
        assert given.headers["content-type"] == "application/x-x509-ca-cert"


async def _hears_that_it_does_not_trust(
    shop: Stage, browser: Browser, lamp: str, screen: Screen, language: str
) -> None:
    async with browser.page(screen, language=LANGUAGES[language]) as page:
        await page.goto(lamp)
        await page.click("a[href='/browser']")
        found = await states(page)
        assert found["verdict"] == "trust"
        assert found["check-trust"] == "stop"
        assert found["check-stream"] == "later", "what could not be looked at is not called good or bad"
        assert await page.get_attribute("html", "lang") == language
        assert await page.locator("h1:visible").count() == 1
        assert await page.locator(".primary:visible").count() == 1
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        await page.click(".primary")
        await page.wait_for_url("**/trust")
        assert shop.served.fingerprint[:4] in await page.inner_text("main")
        for summary in await page.locator("summary").all():
            await summary.click()
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []


@pytest.mark.parametrize("width", SCREENS)
async def test_browser_that_trusts_the_hub_can_be_a_till(shop: Stage, trusting: Browser, width: str) -> None:
    async with lamp_of(shop) as lamp, trusting.page(SCREENS[width], language="fr-FR") as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        await page.goto(f"{lamp}/browser")
        found = await states(page)
        assert found["verdict"] == "good", (found, said)
        for name in ("address", "trust", "stream", "clock", "store"):
            assert found[f"check-{name}"] == "good", name
        assert found["check-local"] == "asked", "Chromium has the permission; this page cannot see the till's"
        assert found["check-name"] == "care", "nobody announces the name in this test"
        assert await page.inner_text("h1:visible") == "Ce navigateur peut servir de caisse ici."
        assert "Ce que cette page ne peut pas savoir" in await page.inner_text("main")
        assert not await page.is_visible("#help")
        assert not [text for text in said if "Content Security Policy" in text], said
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []


async def test_page_behind_the_gate_checks_the_same(shop: Stage, trusting: Browser) -> None:
    async with trusting.page(DESKTOP) as page:
        for address in (shop.served.https, shop.served.http):
            await page.goto(f"{address}/browser")
            assert (await states(page))["verdict"] == "good", address


async def test_clock_that_differs_is_named(shop: Stage, trusting: Browser) -> None:
    async with lamp_of(shop) as lamp, trusting.page(PHONE) as page:
        shop.clock.ahead_s += 600
        await page.goto(f"{lamp}/browser")
        assert (await states(page))["verdict"] == "clock"
        assert "minutes: 10" in await page.inner_text("#check-clock")
        assert await page.inner_text("h1:visible") == "This browser can be a till here, but the clocks differ."


async def test_stream_that_something_holds_back_is_named(shop: Stage, trusting: Browser) -> None:
    async with lamp_of(shop) as lamp, trusting.page(PHONE) as page:
        await page.route("**/v1/browser-check", lambda route: route.abort())
        await page.goto(f"{lamp}/browser")
        found = await states(page)
        assert (found["verdict"], found["check-trust"], found["check-stream"]) == ("stream", "good", "stop")


async def test_name_that_is_not_the_hub_s_leads_to_its_address(shop: Stage, tmp_path: Path, trusting: Browser) -> None:
    async with lamp_of(shop) as lamp, trusting.page(PHONE) as page:
        await page.goto(lamp.replace("127.0.0.1", "shop.localhost") + "/browser")
        found = await states(page)
        assert (found["verdict"], found["check-trust"]) == ("address", "later")
        await page.click("#check-address a")
        assert (await states(page))["verdict"] == "good"


async def test_only_pages_of_the_same_host_read_the_probe(shop: Stage) -> None:
    host = f"127.0.0.1:{shop.served.http_port}"
    async with httpx2.AsyncClient(base_url=shop.served.http) as client:
        for origin, allowed in (
            ("http://127.0.0.1:8080", True),
            ("https://127.0.0.1", True),
            ("http://127.0.0.2:8080", False),
            ("https://evil.example", False),
            ("http://127.0.0.1.evil.example:8080", False),
            ("null", False),
        ):
            async with client.stream("GET", "/v1/browser-check", headers={"origin": origin, "host": host}) as answer:
                assert (answer.status_code == 200) is allowed, origin
                assert (answer.headers.get("access-control-allow-origin") == origin) is allowed, origin
                if allowed:
                    first = await anext(answer.aiter_lines())
                    assert first == "event: check"
        other = await client.get("/v1/hub", headers={"origin": "http://127.0.0.1:8080"})
        assert other.json()["code"] == "access.foreign_origin", "the probe alone, nothing else"


async def test_policy_of_the_check_lets_it_ask_the_hub_alone(shop: Stage) -> None:
    async with lamp_of(shop) as lamp, httpx2.AsyncClient(base_url=lamp) as stranger:
        answer = await stranger.get("/browser", headers={"host": "evil.example; script-src *"})
        policy = answer.headers["content-security-policy"]
        asked = re.search(r"connect-src ([^;]*)", policy)
        port = shop.served.https_port
        assert asked is not None
        assert asked[1].split() == [
            "'self'",
            f"https://127.0.0.1:{port}",
            f"https://{own_name(HUB_ID)}:{port}",
            f"https://localhost:{port}",
        ]
        assert "evil" not in answer.text + json.dumps(dict(answer.headers))
