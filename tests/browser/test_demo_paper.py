"""The demo store as a new user sees it: the printer's paper, and the status page while plugs are pulled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import playwright.async_api as playwright
import pytest

from hubd.cli.demo import tell
from hubd.demo.shop import OWNER_NAME, OWNER_PIN
from tests.rigs.browser import (
    DESKTOP,
    PHONE,
    Browser,
    Screen,
    accessibility_violations,
    overflowing_elements,
    screenshot,
)
from tests.rigs.demo import Demo

pytestmark = pytest.mark.timeout(300)
SCREENS = {"phone": PHONE, "desktop": DESKTOP}
PULL_S = 2.0
"""From a plug that is pulled to the page that names it, on a machine that does nothing else."""
SEEN_MS = 20_000
SAYS = {"en": "is unplugged or off", "fr": "est débranché ou éteint", "nl": "is losgekoppeld of staat uit"}
REMEDY = {"en": "Plug it in", "fr": "Rebranchez-le", "nl": "Sluit het weer aan"}
PAPER_OUT = {"en": "out of paper", "fr": "plus de papier", "nl": "is op"}
ALL_WELL = "6 of 6"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    store = Demo(tmp_path_factory.mktemp("demo"))
    try:
        store.start()
        yield store
    finally:
        store.child.close()


async def do(demo: Demo, **command: object) -> float:
    """One command of `hubctl demo`; when it was done."""
    await asyncio.to_thread(tell, demo.state, **command)
    return time.monotonic()  # noqa: TID251 - a promise in real time


async def sign_in(page: playwright.Page, demo: Demo) -> None:
    """Be the owner, on the first screen."""
    address = (await asyncio.to_thread(demo.till))["http"]
    await page.goto(f"{address}/sign-in")
    await page.fill("input[name=name]", OWNER_NAME)
    await page.fill("input[name=pin]", OWNER_PIN)
    await page.click("main form button")
    await page.wait_for_selector("#devices")


def seen(page: playwright.Page, text: str) -> playwright.Locator:
    return page.locator("main", has_text=text)


async def test_the_paper_is_there_while_somebody_looks_and_can_be_read_by_everybody(
    demo: Demo, browser: Browser, tmp_path: Path
) -> None:
    for name, screen in SCREENS.items():
        for language in SAYS:
            async with browser.page(screen, language=language) as page:
                await page.goto(demo.paper_url())
                amount = f"{len(name)}{ord(language[0])}.50"
                await asyncio.to_thread(demo.sell, amount, "--cash")
                receipt = page.locator("article", has_text=f"Total EUR {amount.rjust(11)}")
                await receipt.wait_for(timeout=SEEN_MS)  # the page was not loaded again
                assert await page.get_attribute("html", "lang") == language
                assert await accessibility_violations(page) == []
                assert await overflowing_elements(page) == []
                assert await cut_off(page) == []
                await screenshot(page, tmp_path / f"paper-{name}-{language}.png")


async def cut_off(page: playwright.Page) -> list[str]:
    """Lines that are wider than the paper."""
    found: list[str] = await page.evaluate(
        "() => [...document.querySelectorAll('article p')].filter(p => p.scrollWidth > p.clientWidth + 1)"
        ".map(p => p.textContent)"
    )
    return found


async def test_the_paper_page_says_what_is_wrong_with_the_printer_in_three_languages(
    demo: Demo, browser: Browser, tmp_path: Path
) -> None:
    async with browser.page(PHONE, language="de") as page:
        await page.goto(demo.paper_url())
        assert await page.get_attribute("html", "lang") == "en", "a language that it does not speak"
        for language, words in PAPER_OUT.items():
            if language != "en":
                await page.click(f"nav a[lang={language}]")
            await do(demo, cmd="paper", lines=0)
            await seen(page, words).wait_for(timeout=SEEN_MS)
            await do(demo, cmd="unplug", device="printer")
            await seen(page, "replug printer").wait_for(timeout=SEEN_MS)
            assert await accessibility_violations(page) == []
            assert await overflowing_elements(page) == []
            await screenshot(page, tmp_path / f"unplugged-{language}.png")
            await do(demo, cmd="replug", device="printer")
            await do(demo, cmd="paper")
            await page.locator(".state:not(.care)").wait_for(timeout=SEEN_MS)


async def test_a_pulled_plug_is_on_the_first_screen_at_once_and_gone_when_it_is_in_again(
    demo: Demo, browser: Browser, tmp_path: Path
) -> None:
    async with browser.page(PHONE, language="en") as page:
        await sign_in(page, demo)
        took = []
        for name in ("Scale", "Scanner", "Receipt printer"):
            await seen(page, ALL_WELL).wait_for(timeout=SEEN_MS)
            pulled = await do(demo, cmd="unplug", device=name)
            await seen(page, f"{name} {SAYS['en']}").wait_for(timeout=SEEN_MS)
            took.append(time.monotonic() - pulled)  # noqa: TID251 - see above
            assert await seen(page, ALL_WELL).count() == 0, "it is not among those that are well"
            await seen(page, REMEDY["en"]).wait_for(timeout=SEEN_MS)
            await do(demo, cmd="replug", device=name)
        await seen(page, ALL_WELL).wait_for(timeout=SEEN_MS)
        assert await seen(page, SAYS["en"]).count() == 0
        print(f"\nplug to page {min(took):.2f}-{max(took):.2f} s")
        assert min(took) <= PULL_S


@pytest.mark.parametrize("language", SAYS)
async def test_the_first_screen_says_what_is_missing_and_what_to_do(
    demo: Demo, browser: Browser, tmp_path: Path, language: str
) -> None:
    await do(demo, cmd="unplug", device="scale")
    await do(demo, cmd="paper", lines=0)
    for name, size in SCREENS.items():
        screen: Screen = size
        async with browser.page(screen, language=language) as page:
            await sign_in(page, demo)
            await seen(page, f"Scale {SAYS[language]}").wait_for(timeout=SEEN_MS)
            await seen(page, REMEDY[language]).wait_for(timeout=SEEN_MS)
            await seen(page, PAPER_OUT[language]).wait_for(timeout=SEEN_MS)
            assert await accessibility_violations(page) == []
            assert await overflowing_elements(page) == []
            await screenshot(page, tmp_path / f"status-{name}-{language}.png")
    await do(demo, cmd="replug", device="scale")
    await do(demo, cmd="paper")
