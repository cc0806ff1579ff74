"""A trading hub behind real sockets: HTTPS with its own CA, HTTP on loopback, and the operators' unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpcore2  # noqa: F401 - httpx2 imports it at its first connection, which would be in the event loop
import httpx2

from drivers.registry import Registry
from hubd.runtime import Runtime
from hubd.services.bundle import Services
from hubd.services.lines import LineReason
from local_api.app import Api, Pages, create_api
from local_api.client import Credential, Pairing, PairingCode
from local_api.context import HubFacts
from local_api.gate import Listener
from local_api.page.app import make_pages
from local_api.server import Door, DoorServer, tcp_sockets, unix_socket
from local_api.tls import CertificateStore, own_name
from tests.unit.services.shop import DRIVERS, Shop, Terminals, shop

HUB_ID = "cd" * 16
START_S = 10


@dataclass
class ServedHub:
    """A hub as the LAN sees it."""

    shop: Shop
    api: Api
    certificates: CertificateStore
    https_port: int
    http_port: int
    socket: Path
    fingerprint: str

    @property
    def https(self) -> str:
        """Address of the API for the LAN."""
        return f"https://127.0.0.1:{self.https_port}"

    @property
    def http(self) -> str:
        """Address of the API on loopback."""
        return f"http://127.0.0.1:{self.http_port}"

    def administrator(self) -> httpx2.AsyncClient:
        """hubctl."""
        return httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(self.socket)), base_url="http://hub")

    async def pair(self, name: str = "Till 1") -> Credential:
        """Pair a native till by QR, with a manager who compares the numbers."""
        async with self.administrator() as administrator:
            return await pair_till(administrator, self.shop.services.runtime, name)

    async def waiting(self, administrator: httpx2.AsyncClient, pairing: str) -> dict[str, Any]:
        """What the page shows once a device waits with the code."""
        return await _waiting(administrator, self.shop.services.runtime, pairing)


async def pair_till(administrator: httpx2.AsyncClient, runtime: Runtime, name: str = "Till 1") -> Credential:
    """Pair a native till by QR, with an administrator who compares the numbers."""
    async with asyncio.TaskGroup() as group:
        opened = (await administrator.post("/v1/pairing-codes", json={"kind": "till"})).json()
        pairing = Pairing(PairingCode.parse(opened["qr"]), name)
        till = group.create_task(pairing.complete())
        shown = await _waiting(administrator, runtime, opened["id"])
        assert shown["number"] == pairing.number, "till and page show different numbers"
        await administrator.post(f"/v1/pairing-codes/{opened['id']}/confirm")
        return await till


async def _waiting(administrator: httpx2.AsyncClient, runtime: Runtime, pairing: str) -> dict[str, Any]:
    """What the page shows once a device waits with the code."""
    async with runtime.clock.timeout(START_S):
        while True:
            for one in (await administrator.get("/v1/pairing-codes")).json()["items"]:
                if one["id"] == pairing and one["state"] == "waiting":
                    found: dict[str, Any] = one
                    return found
            await runtime.clock.sleep(0.01)


def _pages(services: Services, facts: HubFacts) -> Pages:
    """The status page, of a hub whose cloud shows statements at a place of its own."""
    return make_pages(services, facts, statement_address="https://cloud.example/statements/{}".format)


@asynccontextmanager
async def serving(doors: Sequence[DoorServer], runtime: Runtime) -> AsyncIterator[None]:
    """Run listeners until the block ends."""
    async with asyncio.TaskGroup() as group:
        for door in doors:
            group.create_task(door.run(), name=f"server:{door.door.name}")
        try:
            async with runtime.clock.timeout(START_S):
                while not all(door.started for door in doors):
                    await runtime.clock.sleep(0.005)
            yield
        finally:
            for door in doors:
                door.stop()


@asynccontextmanager
async def served_hub(
    folder: Path,
    runtime: Runtime | None = None,
    terminals: Terminals | None = None,
    reason: LineReason | None = None,
    https_port: int = 0,
    *,
    page: bool = False,
    registry: Registry = DRIVERS,
) -> AsyncIterator[ServedHub]:
    """Open the shop and all its doors, on loopback addresses."""
    certificates = CertificateStore(folder / "keys", HUB_ID, lambda: datetime.now(UTC), lambda: True)  # noqa: TID251 - a rig builds the real clock
    fingerprint = await asyncio.to_thread(certificates.fingerprint)
    context = await asyncio.to_thread(certificates.context, ["127.0.0.1"])
    ca_pem = await asyncio.to_thread(certificates.ca_file.read_bytes)
    path = folder / "hubd.sock"
    async with AsyncExitStack() as stack:
        sockets = [stack.enter_context(one) for one in tcp_sockets(["127.0.0.1"], https_port)]
        plain = [stack.enter_context(one) for one in tcp_sockets(["127.0.0.1"], 0)]
        operators = stack.enter_context(await asyncio.to_thread(unix_socket, path))
        port = sockets[0].getsockname()[1]
        opened = await stack.enter_async_context(
            shop(folder, terminals, runtime, reason, fingerprint, registry=registry)
        )
        facts = HubFacts(
            HUB_ID,
            "0.1.0",
            fingerprint,
            lambda: (f"127.0.0.1:{port}",),
            ca_pem=ca_pem,
            names=frozenset({own_name(HUB_ID), "hub"}),
        )
        api = create_api(opened.services, facts, _pages(opened.services, facts) if page else None)
        doors = [
            DoorServer(Door("https", api.app(Listener.TLS), sockets, context)),
            DoorServer(Door("http", api.app(Listener.LOOPBACK), plain)),
            DoorServer(Door("socket", api.app(Listener.SOCKET), [operators])),
        ]
        async with serving(doors, opened.services.runtime):
            try:
                yield ServedHub(opened, api, certificates, port, plain[0].getsockname()[1], path, fingerprint)
            finally:
                opened.services.feed.stop()
