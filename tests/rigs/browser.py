"""Debian's Chromium, driven by Playwright: the status page as people see it, at the width of a phone and of a desk.

    async with Browser() as browser:
        async with browser.page(PHONE) as page:
            await page.goto(url)
            assert await accessibility_violations(page) == []
            await screenshot(page, directory / "first.png")

A start of Chromium costs more than most tests. Those that only look through it take the one of their layer:

    with chromium_server() as address:
        async with Browser(server=address) as browser: ...

The browser never leaves this machine: its own background traffic is switched off.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import playwright.async_api as playwright
from playwright._impl._driver import compute_driver_executable  # its command line has no other way to end in order

from tests.rigs.process import Child, RigError, require_tool

REPOSITORY = Path(__file__).resolve().parents[2]
AXE_VARIABLE = "HUBD_AXE"
AXE_PLACES = (".cache/axe/axe.min.js", ".cache/node_modules/axe-core/axe.min.js")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# WCAG 2.2 level A and AA, as axe names its rule sets.
WCAG_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
ACTION_TIMEOUT_MS = 30_000
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Screen:
    """A size of window, in CSS pixels, and whether fingers use it."""

    width: int
    height: int
    touch: bool = False


PHONE = Screen(390, 844, touch=True)
DESKTOP = Screen(1280, 800)


class Browser:
    """One running Chromium; each page has cookies, storage and certificate decisions of its own."""

    def __init__(self, home: Path | None = None, *, server: str | None = None) -> None:
        """Describe it; nothing starts yet. `home`: where it finds the certificates that its user trusts.

        `server`: the address of a Chromium that runs already (`chromium_server`); it goes on when this one ends.
        """
        if home is not None and server is not None:
            raise RigError("a Chromium that runs has its home already")
        self._home = home
        self._server = server
        self._playwright: playwright.Playwright | None = None
        self._browser: playwright.Browser | None = None

    async def __aenter__(self) -> Self:
        """Start Chromium, or take the one that runs."""
        chromium = require_tool("chromium", "chromium")
        self._playwright = await playwright.async_playwright().start()
        try:
            if self._server is not None:
                self._browser = await self._playwright.chromium.connect(self._server)
            else:
                self._browser = await self._playwright.chromium.launch(
                    executable_path=chromium,
                    headless=True,
                    args=list(FLAGS),
                    env={**os.environ, "HOME": str(self._home)} if self._home else None,
                )
        except BaseException:
            await self._playwright.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End Chromium, or leave the one that runs, and end the driver."""
        try:
            if self._browser is not None:
                await self._browser.close()
        finally:
            if self._playwright is not None:
                await self._playwright.stop()

    @asynccontextmanager
    async def page(
        self, screen: Screen = DESKTOP, *, language: str = "en-GB", trust_any_certificate: bool = False, **context: Any
    ) -> AsyncIterator[playwright.Page]:
        """A fresh page of that size and language, closed on leaving. `context` goes to Playwright's new_context."""
        if self._browser is None:
            raise RigError("enter the browser's context first")
        opened = await self._browser.new_context(
            viewport={"width": screen.width, "height": screen.height},
            has_touch=screen.touch,
            is_mobile=screen.touch,
            locale=language,
            ignore_https_errors=trust_any_certificate,
            **context,
        )
        opened.set_default_timeout(ACTION_TIMEOUT_MS)
        try:
            page = await opened.new_page()
            yield page
        finally:
            await opened.close()


@contextmanager
def chromium_server() -> Iterator[str]:
    """One Chromium for many tests; yields the address at which `Browser` finds it. What a test opened ends with it."""
    options = {"executablePath": require_tool("chromium", "chromium"), "headless": True, "args": list(FLAGS)}
    with tempfile.TemporaryDirectory(prefix="hubd-chromium-") as place:
        config = Path(place) / "server.json"
        config.write_text(json.dumps(options | {"host": "127.0.0.1"}), "utf-8")
        driver: list[str | Path] = [*compute_driver_executable(), "launch-server", "--browser", "chromium"]
        with Child([*driver, "--config", config]) as child:
            yield child.wait_for_text("ws://", START_TIMEOUT_S).strip()
            child.stop()


async def trust_certificate(home: Path, certificate: Path) -> None:
    """Let the browsers of this home directory trust a CA: in the NSS database that Chromium reads."""
    certutil = require_tool("certutil", "libnss3-tools")
    database = home / ".pki" / "nssdb"
    await asyncio.to_thread(database.mkdir, parents=True)
    for arguments in (["-N", "--empty-password"], ["-A", "-n", "hub", "-t", "C,,", "-i", str(certificate)]):
        run = await asyncio.create_subprocess_exec(certutil, "-d", f"sql:{database}", *arguments)
        if await run.wait():
            raise RigError(f"certutil {arguments[0]} failed")


def axe_source() -> str:
    """The accessibility checker's script: $HUBD_AXE, or where `make` puts it; missing is a failure."""
    named = os.environ.get(AXE_VARIABLE)
    places = [Path(named)] if named else [REPOSITORY / place for place in AXE_PLACES]
    for place in places:
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise RigError(f"axe-core is not at {', '.join(map(str, places))}; run scripts/fetch-axe.sh .cache/axe")


async def accessibility_violations(page: playwright.Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 A and AA on the page as it is shown now: one line per element."""
    # Evaluated over the developer protocol, so the page's own content security policy stays as it is.
    await page.evaluate(axe_source())
    found = await page.evaluate(
        "tags => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})",
        list(WCAG_TAGS),
    )
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: {' '.join(map(str, node['target']))}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


async def overflowing_elements(page: playwright.Page) -> list[str]:
    """Elements that stick out of the window sideways: a phone's page must not scroll in two directions."""
    found: list[str] = await page.evaluate(
        """() => [...document.querySelectorAll('body *')]
            .filter(e => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1)
            .map(e => e.tagName.toLowerCase() + (e.id ? '#' + e.id : ''))"""
    )
    return found


async def screenshot(page: playwright.Page, path: Path) -> Path:
    """Write the whole page as PNG, for people to look at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=path, full_page=True, animations="disabled")
    return path
