"""Enrolling a second factor on the page and signing in with it (domain D04), by a person with a phone."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from hubd.services.totp import STEP_S, totp
from tests.browser.stage import OWNER, PIN, stage
from tests.rigs.browser import DESKTOP, PHONE, Browser, Screen, accessibility_violations, overflowing_elements

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize(("screen", "language"), [(PHONE, "fr-FR"), (DESKTOP, "en-GB"), (PHONE, "nl-NL")])
async def test_a_manager_enrols_and_signs_in_with_pin_and_code_d04(
    tmp_path: Path, browser: Browser, screen: Screen, language: str
) -> None:
    async with stage(tmp_path) as shop, browser.page(screen, language=language, trust_any_certificate=True) as page:
        await shop.open_shop()

        async def fine() -> None:
            assert await accessibility_violations(page) == []
            assert await overflowing_elements(page) == []

        async def sign_in(code: str = "") -> None:
            await page.fill("#name", OWNER)
            await page.fill("#pin", PIN)
            if code:
                await page.fill("#code", code)
            await page.click("main .primary")

        await page.goto(f"{shop.url}/sign-in?then=/second-factor")
        await sign_in()
        await page.wait_for_url("**/second-factor")
        await fine()
        await page.click("main .primary")
        secret = base64.b32decode(await page.inner_text("#secret"))
        assert await page.locator("main svg").count() == 1
        await fine()
        await page.fill("#code", totp(secret, shop.clock.now_us() // 1_000_000 // STEP_S))
        await page.click("main .primary")
        paper = await page.locator("#recovery-codes li").all_inner_texts()
        assert len(paper) == 10
        await fine()
        await page.click("main .primary")
        await page.click("header form button")
        await page.goto(f"{shop.url}/sign-in?then=/devices")
        await sign_in()
        assert await page.locator("#code").count() == 1, "the second step"
        await fine()
        await sign_in(paper[0])
        await page.wait_for_url("**/devices")
