"""The browser example of the documentation, in Chromium, from another origin than the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from tests.rigs.api import ServedHub, served_hub
from tests.rigs.browser import DESKTOP, Browser

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "develop" / "browser-till.html"
pytestmark = pytest.mark.timeout(120)


@asynccontextmanager
async def page_server() -> AsyncIterator[str]:
    """A server of somebody else's that serves the example; yields its origin."""
    document = await asyncio.to_thread(EXAMPLE.read_bytes)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        body, status = (document, b"200 OK") if asked.startswith(b"GET /till ") else (b"", b"404 Not Found")
        head = b"HTTP/1.1 %s\r\ncontent-type: text/html\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        writer.write(head % (status, len(body)) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"


async def open_code(hub: ServedHub) -> dict[str, str]:
    async with hub.administrator() as administrator:
        opened: dict[str, str] = (await administrator.post("/v1/pairing-codes", json={"kind": "till"})).json()
        return opened


async def begin(page: Page, hub: ServedHub, origin: str, code: str) -> None:
    await page.goto(f"{origin}/till")
    await page.fill("#hub", hub.http)
    await page.fill("#code", code)
    await page.click("#pairing button")


async def test_a_page_of_another_origin_pairs_pays_and_follows(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(served_hub(tmp_path))
        origin = await stack.enter_async_context(page_server())
        browser = await stack.enter_async_context(Browser())
        async with browser.page(DESKTOP) as page, hub.administrator() as administrator:
            opened = await open_code(hub)
            await begin(page, hub, origin, opened["code"])
            shown = await hub.waiting(administrator, opened["id"])
            assert shown["origin"] == origin, "the manager sees where the till comes from"
            await expect(page.locator("#number")).to_contain_text(shown["number"])
            await administrator.post(f"/v1/pairing-codes/{opened['id']}/confirm")
            await expect(page.locator("#say")).to_have_text("Paired.")
            await page.click("#sale button")
            await expect(page.locator("#receipt")).to_contain_text('"fiscal"')
            await expect(page.locator("#say")).to_have_text("Paid.")
            await expect(page.locator("#events li")).to_contain_text("payment.recorded")
            devices = (await administrator.get("/v1/devices")).json()["items"]
            [payment] = (await administrator.get("/v1/payments")).json()["items"]
            assert payment["till"] == next(one["id"] for one in devices if one["name"] == "Browser till")
            exportable = await page.evaluate("() => typeof keys")
            assert exportable == "undefined", "the key lives in the module alone"


async def test_a_lost_answer_and_a_restored_hub_make_no_second_payment(tmp_path: Path) -> None:
    tries: list[Mapping[str, str]] = []

    async def disturb(route: Route) -> None:
        """The first try comes from a till that has seen another chain; the answer to the second is lost on its way."""
        headers = route.request.headers
        tries.append(headers)
        if len(tries) == 1:
            await route.continue_(headers={**headers, "hub-line": f"{'ff' * 16}:9:{'ee' * 8}"})
        elif len(tries) == 2:
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(served_hub(tmp_path))
        origin = await stack.enter_async_context(page_server())
        browser = await stack.enter_async_context(Browser())
        async with browser.page(DESKTOP) as page, hub.administrator() as administrator:
            opened = await open_code(hub)
            await begin(page, hub, origin, opened["code"])
            await hub.waiting(administrator, opened["id"])
            await administrator.post(f"/v1/pairing-codes/{opened['id']}/confirm")
            await expect(page.locator("#say")).to_have_text("Paired.")
            await page.route("**/v1/payments/*", disturb)
            await page.click("#sale button")
            await expect(page.locator("#say")).to_contain_text("do not take it anew")
            await expect(page.locator("#say")).to_have_text("Paid.")
            await expect(page.locator("#receipt")).to_contain_text('"fiscal"')
            assert [one["attempt"] for one in tries] == ["1", "1", "2"], "a refusal is no try that may have arrived"
            [payment] = (await administrator.get("/v1/payments")).json()["items"]
            assert payment["state"] == "approved"


async def test_a_page_that_was_not_paired_reads_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(served_hub(tmp_path))
        origin = await stack.enter_async_context(page_server())
        other = await stack.enter_async_context(page_server())
        browser = await stack.enter_async_context(Browser())
        async with browser.page(DESKTOP) as page:
            await begin(page, hub, origin, "00000000")
            await expect(page.locator("#say")).to_contain_text("pairing.code_wrong")
            # Not even what is open to everybody: without a paired origin the browser keeps the answer from the page.
            read = "async at => { try { return (await fetch(at)).status } catch { return 'kept' } }"
            assert await page.evaluate(read, f"{hub.http}/v1/hub") == "kept"
            assert await page.evaluate(read, f"{hub.http}/v1/payments") == "kept"
            await page.goto(f"{other}/till")
            assert await page.evaluate(read, f"{hub.http}/v1/hub") == "kept"
