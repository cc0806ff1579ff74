"""The browser example of the documentation, in Chromium, from another origin than the hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, Request, Route, expect

from local_api.client.memory import KEPT_MAX
from tests.rigs.api import ServedHub, served_hub
from tests.rigs.browser import DESKTOP, Browser

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "develop" / "browser-till.html"
PATIENCE_MS = 30_000
FORGED_LINE = f"{'ff' * 16}:9:{'ee' * 8}"
"""What a till sends back that has seen another chain: with it the hub knows that it was restored."""
WATCHED = """
globalThis.said = [];
globalThis.pauses = [];
const later = setTimeout;
globalThis.setTimeout = (act, ms) => { pauses.push(ms); return later(act, Math.min(ms, 200)); };
addEventListener("DOMContentLoaded", () => new MutationObserver(changes => {
  for (const change of changes) for (const node of change.addedNodes) said.push(node.textContent);
}).observe(document.getElementById("say"), {childList: true}));
"""
"""Keeps every sentence that stood in #say, however short, and how long each pause was to be; waits for none of them."""
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


async def says(page: Page, text: str) -> None:
    await expect(page.locator("#say")).to_have_text(text, timeout=PATIENCE_MS)


@dataclass
class Till:
    """A paired page, what it sends, and what the hub has of it."""

    page: Page
    administrator: httpx2.AsyncClient
    origin: str
    attempts: list[str] = field(default_factory=list)
    """`Attempt` of each PUT of a payment."""
    announced: list[list[dict[str, Any]]] = field(default_factory=list)

    async def payments(self) -> list[dict[str, Any]]:
        """All that the hub has, newest first."""
        items: list[dict[str, Any]] = (await self.administrator.get("/v1/payments")).json()["items"]
        return items

    async def said(self) -> list[str]:
        """Every sentence until now."""
        sentences: list[str] = await self.page.evaluate("() => said")
        return sentences

    async def answer(self, route: Route, status: int, body: Mapping[str, Any], retry_after: str = "1") -> None:
        """Answer in the place of the hub."""
        headers = {"access-control-allow-origin": self.origin, "access-control-expose-headers": "Retry-After"}
        await route.fulfill(status=status, headers=headers | {"retry-after": retry_after}, json=body)

    async def at_once(self, route: Route) -> None:
        """Let it through without its `Prefer`: the hub would wait 25 seconds for news of an unknown payment."""
        await route.continue_(headers={name: text for name, text in route.request.headers.items() if name != "prefer"})

    def note(self, request: Request) -> None:
        """Keep what was sent."""
        if request.method == "PUT":
            self.attempts.append(request.headers["attempt"])
        elif request.url.endswith("/v1/announcements") and request.method == "POST":
            self.announced.append(json.loads(request.post_data or "")["payments"])


@asynccontextmanager
async def paired_till(folder: Path, browser: Browser) -> AsyncIterator[Till]:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(served_hub(folder))
        origin = await stack.enter_async_context(page_server())
        page = await stack.enter_async_context(browser.page(DESKTOP))
        administrator = await stack.enter_async_context(hub.administrator())
        await page.add_init_script(WATCHED)
        opened = await open_code(hub)
        await begin(page, hub, origin, opened["code"])
        await hub.waiting(administrator, opened["id"])
        await administrator.post(f"/v1/pairing-codes/{opened['id']}/confirm")
        await says(page, "Paired.")
        till = Till(page, administrator, origin)
        page.on("request", till.note)
        yield till


def problem(code: str) -> dict[str, str]:
    return {"code": code, "detail": "The hub says so.", "remedy": "Do this.", "retry": "same_request"}


async def test_a_page_of_another_origin_pairs_pays_and_follows(tmp_path: Path, browser: Browser) -> None:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(served_hub(tmp_path))
        origin = await stack.enter_async_context(page_server())
        async with browser.page(DESKTOP) as page, hub.administrator() as administrator:
            opened = await open_code(hub)
            await begin(page, hub, origin, opened["code"])
            shown = await hub.waiting(administrator, opened["id"])
            assert shown["origin"] == origin, "the manager sees where the till comes from"
            await expect(page.locator("#number")).to_contain_text(shown["number"], timeout=PATIENCE_MS)
            await administrator.post(f"/v1/pairing-codes/{opened['id']}/confirm")
            await says(page, "Paired.")
            await page.click("#sale button")
            await expect(page.locator("#receipt")).to_contain_text('"fiscal"', timeout=PATIENCE_MS)
            await says(page, "Paid.")
            await expect(page.locator("#events li")).to_contain_text("payment.recorded", timeout=PATIENCE_MS)
            devices = (await administrator.get("/v1/devices")).json()["items"]
            [payment] = (await administrator.get("/v1/payments")).json()["items"]
            assert payment["till"] == next(one["id"] for one in devices if one["name"] == "Browser till")
            exportable = await page.evaluate("() => typeof keys")
            assert exportable == "undefined", "the key lives in the module alone"


async def test_a_lost_answer_and_a_restored_hub_make_no_second_payment(tmp_path: Path, browser: Browser) -> None:
    async with paired_till(tmp_path, browser) as till:

        async def disturb(route: Route) -> None:
            """The first try comes from a till that has seen another chain; the answer to the second is lost."""
            if len(till.attempts) == 1:
                await route.continue_(headers={**route.request.headers, "hub-line": FORGED_LINE})
            elif len(till.attempts) == 2:
                await route.fetch()
                await route.abort()
            else:
                await route.continue_()

        await till.page.route("**/v1/payments/*", disturb)
        await till.page.click("#sale button")
        await says(till.page, "Paid.")
        await expect(till.page.locator("#receipt")).to_contain_text('"fiscal"', timeout=PATIENCE_MS)
        assert sum("do not take it anew" in one for one in await till.said()) == 2
        assert till.attempts == ["1", "1", "2"], "a refusal is no try that may have arrived"
        assert [one["state"] for one in await till.payments()] == ["approved"]


async def test_a_hub_that_stopped_at_a_payment_may_have_taken_it_before_it_was_restored(
    tmp_path: Path, browser: Browser
) -> None:
    async with paired_till(tmp_path, browser) as till:

        async def disturb(route: Route) -> None:
            """The hub stops in the middle of the first try; at the second it is one that has forgotten everything."""
            if len(till.attempts) == 1:
                await till.answer(route, 503, problem("hub_stopping"), retry_after="5")
            elif len(till.attempts) == 2:
                await route.continue_(headers={**route.request.headers, "hub-line": FORGED_LINE})
            else:
                await till.at_once(route)

        await till.page.route("**/v1/payments/*", disturb)
        await till.page.click("#sale button")
        await expect(till.page.locator("#sale button")).to_be_enabled(timeout=PATIENCE_MS)
        [payment] = await till.payments()
        assert payment["state"] == "unknown", "taken anew it would be paid twice"
        [told] = till.announced
        assert [one["id"] for one in told] == [payment["id"]]
        assert till.attempts == ["1", "2", "2"]
        assert 5000 in await till.page.evaluate("() => pauses"), "the hub said when to come back"


async def test_a_payment_that_a_restored_hub_has_forgotten_is_announced_and_not_taken_again(
    tmp_path: Path, browser: Browser
) -> None:
    async with paired_till(tmp_path, browser) as till:

        async def disturb(route: Route) -> None:
            """The payment runs at a hub that is then put back to where it knew nothing of it."""
            request = route.request
            if request.method == "GET":
                await route.continue_(headers={**request.headers, "hub-line": FORGED_LINE})
            elif len(till.attempts) > 1:
                await till.at_once(route)
            else:
                sent = json.loads(request.post_data or "")
                accepted = {"line": "ff" * 16, "seq": 9, "hash": "ee" * 32}
                shown = {"accepted": accepted, "state": "in_progress", "say": {"cashier": "The customer pays."}}
                shown |= {"id": request.url.rpartition("/")[2], "total": sent["amount"], "kind": "sale"}
                await till.answer(route, 201, shown | {"tender": sent["tender"]})

        await till.page.route("**/v1/payments/*", disturb)
        await till.page.select_option("#tender", "card")
        await till.page.click("#sale button")
        await expect(till.page.locator("#sale button")).to_be_enabled(timeout=PATIENCE_MS)
        [payment] = await till.payments()
        assert payment["state"] == "unknown", "the hub cannot know what became of it, and says so"
        assert (await till.said())[-1] == payment["say"]["cashier"]
        [told] = till.announced
        assert [(one["id"], one["seq"], one["state"]) for one in told] == [(payment["id"], 9, "in_progress")]
        assert till.attempts == ["1", "2", "2"]


async def test_a_disk_without_room_ends_the_sale_with_the_hubs_sentence(tmp_path: Path, browser: Browser) -> None:
    async with paired_till(tmp_path, browser) as till:

        async def disturb(route: Route) -> None:
            await till.answer(route, 507, problem("store.low_space"), retry_after="60")

        await till.page.route("**/v1/payments/*", disturb)
        await till.page.click("#sale button")
        await says(till.page, "store.low_space: The hub says so. Do this.")
        await expect(till.page.locator("#sale button")).to_be_enabled(timeout=PATIENCE_MS)
        assert till.attempts == ["1"]
        assert await till.payments() == []


async def test_a_disk_without_room_says_nothing_of_a_try_before_it(tmp_path: Path, browser: Browser) -> None:
    async with paired_till(tmp_path, browser) as till:

        async def disturb(route: Route) -> None:
            if len(till.attempts) == 1:
                await route.abort()
            elif len(till.attempts) == 2:
                await till.answer(route, 507, problem("store.low_space"), retry_after="60")
            else:
                await route.continue_()

        await till.page.route("**/v1/payments/*", disturb)
        await till.page.click("#sale button")
        await says(till.page, "Paid.")
        assert till.attempts == ["1", "2", "2"]
        assert 60_000 in await till.page.evaluate("() => pauses")


async def test_a_till_tells_no_more_than_a_hub_takes_at_once(tmp_path: Path, browser: Browser) -> None:
    async with paired_till(tmp_path, browser) as till:

        async def disturb(route: Route) -> None:
            """The second sale finds a hub that was restored."""
            if len(till.attempts) == 2:
                await till.answer(route, 409, problem("hub_line_changed"))
            else:
                await route.continue_()

        async def hear(route: Route) -> None:
            await till.answer(route, 200, {"known": 0, "forgotten": []})

        await till.page.route("**/v1/payments/*", disturb)
        await till.page.route("**/v1/announcements", hear)
        # The page shows nobody what it holds; so its first note brings the notes of many sales before it along.
        await till.page.evaluate(f"""() => {{
          const set = Map.prototype.set;
          Map.prototype.set = function (id, note) {{
            Map.prototype.set = set;
            for (let one = 0; one < {KEPT_MAX}; one++) this.set(`old-${{one}}`, {{...note, id: `old-${{one}}`}});
            return this.set(id, note);
          }};
        }}""")
        await till.page.click("#sale button")
        await says(till.page, "Paid.")
        await till.page.evaluate("() => { document.getElementById('say').textContent = '' }")
        await till.page.click("#sale button")
        await says(till.page, "Paid.")
        [told] = till.announced
        newest = (await till.payments())[-1]["id"]
        assert (len(told), told[-1]["id"], told[0]["id"]) == (KEPT_MAX, newest, "old-1"), "the newest ones"


async def test_a_page_that_was_not_paired_reads_nothing(tmp_path: Path, browser: Browser) -> None:
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(served_hub(tmp_path))
        origin = await stack.enter_async_context(page_server())
        other = await stack.enter_async_context(page_server())
        async with browser.page(DESKTOP) as page:
            await begin(page, hub, origin, "00000000")
            await expect(page.locator("#say")).to_contain_text("pairing.code_wrong", timeout=PATIENCE_MS)
            # Not even what is open to everybody: without a paired origin the browser keeps the answer from the page.
            read = "async at => { try { return (await fetch(at)).status } catch { return 'kept' } }"
            assert await page.evaluate(read, f"{hub.http}/v1/hub") == "kept"
            assert await page.evaluate(read, f"{hub.http}/v1/payments") == "kept"
            await page.goto(f"{other}/till")
            assert await page.evaluate(read, f"{hub.http}/v1/hub") == "kept"
