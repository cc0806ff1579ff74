"""One Chromium for the layer, pages of its own for each test, and the shop they look at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import playwright.async_api as playwright
import pytest

from tests.browser.stage import Stage, stage
from tests.rigs.browser import Browser, chromium_server


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    with chromium_server() as address:
        yield address


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with Browser(server=chromium) as running:
        yield running


async def look(page: playwright.Page, shop: Stage, path: str = "/") -> str:
    """Go there as the owner and return what stands on the page."""
    cookie = {"name": "hubd_session", "value": await shop.session(), "url": shop.url, "secure": True}
    await page.context.add_cookies([cookie])  # type: ignore[list-item]  # the keys Playwright documents
    await page.goto(shop.url + path)
    return await page.inner_text("main")
