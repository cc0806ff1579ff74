"""Enrolment by code from the page: a whole daemon, the reference cloud behind HTTP, a broker, a person with a PIN."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import playwright.async_api as playwright
import pytest

from hubd.config import parse_config
from hubd.config_sections import PathsConfig
from hubd.daemon import Daemon, running_hub
from hubd.model.permissions import Role
from hubd.services.staff import Location, NewPerson, SetUp
from tests.browser.stage import OWNER, PIN
from tests.integration.test_daemon import ALONE
from tests.rigs.broker import Broker
from tests.rigs.browser import DESKTOP, PHONE, Browser, Screen, accessibility_violations, overflowing_elements
from tests.rigs.cloud import CloudDoor, cloud_door
from tests.rigs.process import wait_until
from tests.unit.services.shop import MANAGER, shop_runtime
from tests.unit.sync.world import BrokerWorld

WAIT_S = 30.0
CODE = "k7-lille-4821"
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.blocking_allowed("a daemon makes its sockets at its start, before it trades"),
]


@dataclass
class Place:
    """A shop that is set up and belongs to no cloud yet."""

    daemon: Daemon
    world: BrokerWorld
    door: CloudDoor

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.daemon.https_port}"

    async def sign_in(self, page: playwright.Page, name: str, then: str) -> None:
        await page.goto(f"{self.url}/sign-in?then={then}")
        await page.fill("#name", name)
        await page.fill("#pin", PIN)
        await page.click(".primary")
        await page.wait_for_url(f"**{then}")


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Broker())
        world = await stack.enter_async_context(BrokerWorld(folder, broker))
        door = await stack.enter_async_context(cloud_door(world.cloud, world.runtime.clock, broker))
        config = parse_config(ALONE, "test", {}, PathsConfig(folder / "data", folder / "run"))
        daemon = await stack.enter_async_context(running_hub(config, shop_runtime()))
        ids, staff = daemon.services.runtime.ids, daemon.services.staff
        here = Location(ids.new_id(), "Épicerie Lambert", "Europe/Paris", "EUR", "FR")
        await staff.set_up(SetUp(NewPerson(ids.new_id(), OWNER, PIN, "fr"), here), MANAGER)
        manager = NewPerson(ids.new_id(), "Nadia", PIN, "fr", (("*", Role.MANAGER.value),))
        await staff.add(manager, MANAGER)
        yield Place(daemon, world, door)


@pytest.mark.parametrize(("screen", "language"), [(PHONE, "fr-FR"), (DESKTOP, "en-GB"), (PHONE, "nl-NL")])
async def test_the_owner_connects_the_hub_by_its_code(
    tmp_path: Path, browser: Browser, screen: Screen, language: str
) -> None:
    """Aim: from the page of the cloud to the first confirmation, with the mistakes people make on the way."""
    async with (
        place(tmp_path) as shop,
        browser.page(screen, language=language, trust_any_certificate=True) as page,
    ):
        await shop.world.cloud.add_code(CODE, "lambert", "lille")
        await shop.world.cloud.add_code("old", "lambert", "lille", lifetime_s=0)
        await shop.sign_in(page, OWNER, "/sync")
        await page.click("main .primary")
        assert page.url == f"{shop.url}/enrolment"
        assert await accessibility_violations(page) == []
        assert await overflowing_elements(page) == []
        said = set[str]()
        for cloud, code in [("lambert.example", CODE), (shop.door.url, "k8-lille-4821"), (shop.door.url, "old")]:
            await page.fill("#cloud", cloud)
            await page.fill("#code", code)
            await page.click("main .primary")
            said.add(await page.inner_text("[role=alert].error"))
            assert await page.input_value("#code") == code, "one letter is mended, not the whole typed again"
            assert await accessibility_violations(page) == []
        assert len(said) == 3, "each mistake has its own sentence"
        await page.fill("#code", CODE)
        await page.click("main .primary")
        await page.wait_for_url("**/sync")
        assert "lambert, lille" in await page.inner_text("#sync")
        assert await page.locator("main .primary").count() == 0, "there is nothing more to do here"
        sync = shop.daemon.sync
        assert sync is not None
        await wait_until(lambda: sync.status.confirmed_seq > 0, WAIT_S, "the cloud's word")
        assert CODE not in await page.content()
        await page.goto(f"{shop.url}/enrolment")
        assert page.url == f"{shop.url}/sync", "a hub that belongs to a store has no form to fill in"


async def test_who_may_not_connect_the_hub_sees_no_button_and_gets_no_form(tmp_path: Path, browser: Browser) -> None:
    async with (
        place(tmp_path) as shop,
        browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page,
    ):
        await page.goto(f"{shop.url}/enrolment")
        assert "/sign-in?then=/enrolment" in page.url, "a stranger is asked for the PIN first"
        await shop.sign_in(page, "Nadia", "/sync")
        assert "propriétaire ou un technicien" in await page.inner_text("#sync")
        assert await page.locator("main .primary").count() == 0
        posted = await page.evaluate(
            "async () => (await fetch('/enrolment', {method: 'POST', redirect: 'manual',"
            " body: new URLSearchParams({cloud: 'x', code: 'y'})})).type"
        )
        assert posted == "opaqueredirect", "sent to the PIN"
        assert shop.door.asked == 0


async def test_the_first_screen_leads_there(tmp_path: Path, browser: Browser) -> None:
    async with (
        place(tmp_path) as shop,
        browser.page(PHONE, language="fr-FR", trust_any_certificate=True) as page,
    ):
        await shop.sign_in(page, "Nadia", "/")
        assert await page.locator("#risk").count() == 1
        assert await page.locator("a[href='/enrolment']").count() == 0
        await page.click("text=Se déconnecter")
        await shop.sign_in(page, OWNER, "/")
        await page.click("#risk a[href='/enrolment']")
        await page.wait_for_selector("h1:has-text('Relier ce boîtier')")
