"""Two daemons of one identity on one network: real mDNS, real HTTPS, and a cloud that only the new one reaches."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

import hubd.daemon
from hubd.config import Config, PathsConfig, parse_config
from hubd.daemon import HUB_KEY, Daemon, Outside, running_hub
from hubd.demo.cloud import DemoAddress, demo_cloud, enrol
from hubd.identity import load_or_create_key
from hubd.model.payment import PaymentState
from hubd.store import cursors, lines
from local_api import announce, rivals
from sync.cloud.link import InProcessCloud
from tests.rigs.process import wait_until
from tests.unit.services.shop import LOCATION, shop_runtime
from tests.unit.sync.shop import new_id

WAIT_S = 60.0
pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.blocking_allowed("a daemon makes its sockets at its start, and zeroconf where it is called"),
]
CONFIG = """
[api]
https_port = 0
http_port = 0
addresses = ["127.0.0.1"]
[probes]
gateway = "tcp://127.0.0.1:1"
dns_server = "127.0.0.1:1"
internet = ["tcp://127.0.0.1:1"]
[discovery]
mdns = true
interfaces = ["127.0.0.1"]
"""


def configured(place: Path) -> Config:
    return parse_config(CONFIG, "test", {}, PathsConfig(place / "data", place / "run"))


@dataclass
class Running:
    """One daemon, and what people ask of it."""

    daemon: Daemon

    @property
    def line(self) -> bytes:
        return self.daemon.services.db.head.line

    def problems(self) -> set[str]:
        shown = {problem.code for problem in self.daemon.services.problems.present()}
        return shown & {"hub.cloned", "hub.replaced"}

    async def until(self, *problems: str) -> None:
        await wait_until(lambda: self.problems() == set(problems), WAIT_S, f"{problems}, now {self.problems()}")

    def operator(self) -> httpx2.AsyncClient:
        """At the unix socket."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self.daemon.config.paths.socket))
        return httpx2.AsyncClient(transport=transport, base_url="http://hub")

    async def sell(self, amount: int) -> httpx2.Response:
        """Ask for a cash payment as a till's owner would."""
        body = {"amount": {"amount": amount, "currency": "EUR"}, "tender": "cash", "method": "cash"}
        async with self.operator() as client:
            return await client.put(f"/v1/payments/{new_id()}", json=body)

    async def ready(self) -> httpx2.Response:
        async with self.operator() as client:
            return await client.get("/readyz")


@asynccontextmanager
async def running(
    place: Path, cloud: InProcessCloud, machine: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    """The daemon of this directory on a machine with this id."""
    file = place / "machine-id"
    await asyncio.to_thread(file.write_text, machine, "ascii")
    monkeypatch.setattr(hubd.daemon, "MACHINE_ID_FILE", file)
    config, runtime = configured(place), shop_runtime()
    address = DemoAddress(runtime)
    async with running_hub(config, runtime, None, Outside(link=cloud, address=address)) as daemon:
        signer = await asyncio.to_thread(load_or_create_key, config.paths.keys / HUB_KEY, runtime.ids.token_bytes)
        await enrol(daemon.services.db, cloud.cloud, signer, runtime, LOCATION)
        address.known(signer.hub_id.hex())
        assert daemon.sync is not None
        daemon.sync.wake()
        yield Running(daemon)


async def set_up(hub: Running) -> None:
    owner = {"id": new_id(), "name": "Claire", "pin": "739164", "language": "fr"}
    place = {"id": LOCATION, "name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
    async with hub.operator() as client:
        answer = await client.post("/v1/setup", json={"owner": owner, "location": place})
    assert answer.status_code == 201, answer.text


async def confirmed(hub: Running) -> bool:
    db = hub.daemon.services.db
    return (await db.read("test.confirmed", lambda c: cursors.get(c, cursors.CONFIRMED))).seq >= db.head.seq


async def has_epoch(hub: Running) -> bool:
    return (await hub.daemon.services.replacement.line_and_epoch())[1] is not None


async def test_the_old_hub_hears_the_new_one_and_stops_by_the_cloud_s_word_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announce, "REFRESH_S", 0.2)
    monkeypatch.setattr(rivals, "ASK_EVERY_S", 0.2)
    old_place, new_place = tmp_path / "old", tmp_path / "new"
    old_place.mkdir()
    new_place.mkdir()
    async with AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(demo_cloud(tmp_path / "cloud", shop_runtime()))
        nothing = InProcessCloud(cloud.cloud, shop_runtime().clock)
        nothing.reachable = False
        group = await stack.enter_async_context(asyncio.TaskGroup())
        serving = group.create_task(cloud.run(), name="cloud")
        stack.callback(serving.cancel)

        async with running(old_place, cloud, "machine-1", monkeypatch) as first:
            await set_up(first)
            assert (await first.sell(500)).status_code == 201
            await wait_until(lambda: has_epoch(first), WAIT_S, "the first epoch")
            await wait_until(lambda: confirmed(first), WAIT_S, "everything to be confirmed")
        await asyncio.to_thread(shutil.copytree, old_place / "data", new_place / "data")

        old = await stack.enter_async_context(running(old_place, nothing, "machine-1", monkeypatch))
        assert (await old.sell(700)).status_code == 201
        async with running(new_place, cloud, "machine-2", monkeypatch) as new:
            found = await new.daemon.services.db.read("test.lines", lines.all_lines)
            assert [one.reason for one in found] == ["new", "replaced"]
            await old.until("hub.cloned")
            await new.until("hub.cloned")
            assert (await old.sell(300)).status_code == 201, "an alarm alone stops nobody"
            await wait_until(lambda: has_epoch(new), WAIT_S, "the second epoch")

            await cloud.cloud.replace_line((await cloud.cloud.read(lambda s: s.hubs()))[0], old.line, new.line)
            await old.until("hub.replaced")
            await new.until()
            refused = await old.sell(400)
            assert (refused.status_code, refused.json()["code"], refused.json()["retry"]) == (
                409,
                "hub_replaced",
                "never",
            )
            assert (await old.ready()).status_code == 503
            assert "replaced" in (await old.ready()).json()["params"]["problems"]
            assert (await new.sell(400)).status_code == 201
            assert (await new.ready()).status_code == 200
        async with old.operator() as client:
            paid = (await client.get("/v1/payments")).json()["items"]
        assert [one["state"] for one in paid] == [PaymentState.APPROVED] * 3
