"""The browser rig itself: a real Chromium shows, clicks, measures and judges a page, and finds a bad one bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rigs.browser import (
    AXE_VARIABLE,
    DESKTOP,
    PHONE,
    Browser,
    accessibility_violations,
    axe_source,
    overflowing_elements,
    screenshot,
)
from tests.rigs.process import RigError

GOOD_PAGE = """<!doctype html><html lang="en"><head><title>Hub</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"></head>
<body><main><h1>You can sell</h1>
<details><summary>More</summary><p id="more">Since 9:00</p></details></main></body></html>"""
BAD_PAGE = """<!doctype html><html><body><h1 style="color:#ccc;background:#fff">pale</h1><img src="data:,">
<div id="wide" style="width:2000px">wide</div></body></html>"""
PNG = b"\x89PNG"


async def test_a_page_is_shown_clicked_judged_and_photographed(tmp_path: Path) -> None:
    async with Browser() as browser:
        for screen in (PHONE, DESKTOP):
            async with browser.page(screen, language="fr-FR") as page:
                await page.set_content(GOOD_PAGE)
                assert await page.evaluate("[innerWidth, navigator.language]") == [screen.width, "fr-FR"]
                await page.click("summary")
                assert await page.inner_text("#more") == "Since 9:00"
                assert await accessibility_violations(page) == []
                assert await overflowing_elements(page) == []
                picture = await screenshot(page, tmp_path / "pictures" / f"{screen.width}.png")
                assert picture.read_bytes().startswith(PNG)


async def test_a_bad_page_is_found_bad() -> None:
    async with Browser() as browser, browser.page(PHONE) as page:
        await page.set_content(BAD_PAGE)
        violations = "\n".join(await accessibility_violations(page))
        for rule in ("color-contrast", "image-alt", "html-has-lang"):
            assert rule in violations
        async with browser.page(DESKTOP) as desk:
            await desk.set_content(BAD_PAGE)
            assert "div#wide" in await overflowing_elements(desk)


def test_a_missing_checker_is_a_failure_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(AXE_VARIABLE, str(tmp_path / "nowhere.js"))
    with pytest.raises(RigError, match=r"fetch-axe\.sh"):
        axe_source()
