"""A shop with its API, spoken to without sockets: tills, a manager and a stranger as HTTP clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from hubd.runtime import Runtime
from hubd.services.lines import LineReason
from local_api import problems
from local_api.app import Api, api_rows, create_api
from local_api.context import HubFacts
from local_api.gate import Listener
from local_api.openapi import describe
from local_api.table import RouteTable
from tests.unit.services.shop import LOCATION, Shop, Terminals, shop

HUB_ID = "ab" * 16
FINGERPRINT = "00" * 32
NAME = "hubd-abababab.local"
OWNER_PIN = "739164"
ROWS = RouteTable(api_rows(None))
DESCRIBED = describe(ROWS.rows)["paths"]


async def as_described(answer: httpx2.Response) -> None:
    """Hold every answer that a test gets to the description: status, media type, shape; every refusal is a problem."""
    asked, media = answer.request, answer.headers.get("content-type", "").partition(";")[0]
    if media == "text/event-stream" or asked.method in {"HEAD", "OPTIONS"}:
        return
    await answer.aread()
    if answer.status_code >= httpx2.codes.BAD_REQUEST:
        assert media == problems.MEDIA_TYPE, (asked.method, asked.url.path, answer.status_code)
        told = msgspec.json.decode(answer.content, type=problems.Problem)
        assert (told.status, told.type) == (answer.status_code, problems.TYPE_PREFIX + told.code)
        return
    row = ROWS.find(asked.url.path)[0][asked.method]
    described = DESCRIBED[row.path][row.method.lower()]["responses"]
    assert str(answer.status_code) in described, (row.method, row.path, answer.status_code)
    content = described[str(answer.status_code)].get("content", {})
    if row.also:
        assert media in content, (row.method, row.path, media)
    else:
        assert set(content) == ({media} if answer.content else set()), (row.method, row.path, media)
    if isinstance(row.reply, type) and issubclass(row.reply, msgspec.Struct):
        msgspec.json.decode(answer.content, type=row.reply)


@dataclass
class Counter:
    """What tests hold: the shop, the API, and one client for each door and credential."""

    shop: Shop
    api: Api
    clients: list[httpx2.AsyncClient] = field(default_factory=list)

    def client(
        self, listener: Listener = Listener.TLS, address: str = "127.0.0.1", **headers: str
    ) -> httpx2.AsyncClient:
        """A client that comes through this door and sends these headers (`hub_line` is sent as Hub-Line)."""
        app = self.api.app(listener)
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False, client=(address, 40_000))
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        client = httpx2.AsyncClient(
            transport=transport,
            base_url=f"https://{NAME}",
            headers=named,
            event_hooks={"request": [], "response": [as_described]},
        )
        self.clients.append(client)
        return client

    def new_id(self) -> str:
        """An id as its originator makes it."""
        return self.shop.services.runtime.ids.new_id()

    def administrator(self) -> httpx2.AsyncClient:
        """hubctl at the unix socket."""
        return self.client(Listener.SOCKET)

    async def pair(self, name: str = "Till 1", location: str = LOCATION, **more: Any) -> dict[str, Any]:
        """Pair a device as people do: open a code, send it, confirm, fetch the token."""
        administrator = self.administrator()
        device = self.client(origin=str(more["origin"])) if "origin" in more else self.client()
        opened = await administrator.post(
            "/v1/pairing-codes", json={"kind": more.get("kind", "till"), "location": location}
        )
        assert opened.status_code == 201, opened.text
        wanted = {"id": self.new_id(), "code": opened.json()["code"], "name": name, **more}
        waiting = await device.post("/v1/pairings", json=wanted)
        assert waiting.status_code == 202, waiting.text
        confirmed = await administrator.post(f"/v1/pairing-codes/{opened.json()['id']}/confirm")
        assert confirmed.status_code == 200, confirmed.text
        paired = await device.post("/v1/pairings", json=wanted)
        assert paired.status_code == 201, paired.text
        answer: dict[str, Any] = paired.json()
        return answer

    async def till(self, name: str = "Till 1") -> httpx2.AsyncClient:
        """A paired till."""
        paired = await self.pair(name)
        return self.client(authorization=f"Bearer {paired['token']}")

    async def owner(self) -> str:
        """Set the owner up and return his id."""
        owner = self.new_id()
        body = {
            "owner": {"id": owner, "name": "Claire", "pin": OWNER_PIN, "language": "fr"},
            "location": {"id": LOCATION, "name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"},
        }
        answer = await self.administrator().post("/v1/setup", json=body)
        assert answer.status_code == 201, answer.text
        return owner

    async def entries(self) -> list[dict[str, Any]]:
        """The whole journal, as the API shows it."""
        administrator, found, after = self.administrator(), [], 0
        while True:
            page = (await administrator.get("/v1/journal", params={"after": after, "limit": 200})).json()
            found += page["items"]
            if not page["next"]:
                return found
            after = page["next"]


@asynccontextmanager
async def counter(
    folder: Path, runtime: Runtime | None = None, terminals: Terminals | None = None, reason: LineReason | None = None
) -> AsyncIterator[Counter]:
    """Open the shop with its API."""
    async with shop(folder, terminals, runtime, reason) as opened:
        facts = HubFacts(HUB_ID, "0.1.0", FINGERPRINT, lambda: ("192.168.1.10:8443",), names=frozenset({NAME}))
        holding = Counter(opened, create_api(opened.services, facts))
        try:
            yield holding
        finally:
            await asyncio.gather(*(client.aclose() for client in holding.clients))


def cash(amount: int = 1250, currency: str = "EUR", **more: Any) -> dict[str, Any]:
    """The body of a cash payment."""
    return {"amount": {"amount": amount, "currency": currency}, "tender": "cash", **more}
