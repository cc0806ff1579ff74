"""Two daemons of one identity on one network: real mDNS, real HTTPS, and a cloud that only the new one reaches."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

import hubd.daemon
from hubd.config import Config, parse_config
from hubd.config_sections import PathsConfig
from hubd.daemon import HUB_KEY, LOOPBACK, Daemon, Outside, running_hub
from hubd.demo.cloud import DemoAddress, demo_cloud, enrol
from hubd.identity import load_or_create_key
from hubd.model.payment import PaymentState
from hubd.runtime import Clock
from hubd.store import cursors, lines
from local_api import announce, rivals
from local_api.server import Door, DoorServer, tcp_sockets
from sync.cloud.cloud import ReferenceCloud
from sync.cloud.credentials import OpenBroker
from sync.cloud.http import BrokerPlace, CloudHttp
from sync.cloud.link import InProcessCloud
from sync.cloud.storage import CloudStorage
from tests.rigs.process import wait_until
from tests.tidy.tree import ROOT
from tests.unit.services.shop import LOCATION, shop_runtime
from tests.unit.sync.shop import new_id

WAIT_S = 60.0
pytestmark = [
    pytest.mark.alone("it waits for the announcement of a copy, which a third hub can hide"),
    pytest.mark.timeout(240),
    pytest.mark.blocking_allowed("a daemon makes its sockets at its start, and zeroconf where it is called"),
]
CONFIG = """
[api]
https_port = 0
http_port = 0
addresses = ["{address}"]
[probes]
gateway = "tcp://127.0.0.1:1"
dns_server = "127.0.0.1:1"
internet = ["tcp://127.0.0.1:1"]
[discovery]
mdns = true
interfaces = ["{address}"]
"""
ADDRESSES = {"old": "127.0.0.1", "new": "127.0.0.2"}
"""Two hubs have two addresses. At one, the kernel gives an answer that is meant for the one to a socket of either."""


def configured(place: Path) -> Config:
    told = CONFIG.format(address=ADDRESSES[place.name])
    return parse_config(told, "test", {}, PathsConfig(place / "data", place / "run"))


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
        return httpx2.AsyncClient(transport=transport, base_url="http://hub", timeout=WAIT_S)

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
    config, runtime = configured(place), shop_runtime(new_id()[-8:].encode())  # every start has a number of its own
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


async def hubctl(place: Path, *words: str) -> dict[str, Any]:
    """What hubctl prints as JSON about the hub of this directory."""
    places = {"HUBD_PATHS_DATA": str(place / "data"), "HUBD_PATHS_RUNTIME": str(place / "run")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HUBD_")}
    asking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from hubd.cli import main; main()", *words, "--json"),
        env={**kept, **places, "PYTHONPATH": str(ROOT), "HUBD_CONFIG": str(place / "none.toml")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await asking.communicate()
    assert asking.returncode == 0, errors.decode()
    answer: dict[str, Any] = json.loads(said)
    return answer


@asynccontextmanager
async def door_of(cloud: ReferenceCloud, clock: Clock) -> AsyncIterator[str]:
    """The cloud's address for hubs, on loopback."""
    place = BrokerPlace(LOOPBACK, 1, tls=False)
    server = DoorServer(Door("cloud", CloudHttp(cloud, OpenBroker(), place, clock).app(), tcp_sockets([LOOPBACK], 0)))
    port = server.door.sockets[0].getsockname()[1]
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run(), name="door of the cloud")
        await wait_until(lambda: server.started, WAIT_S, "the cloud's door")
        yield f"http://{LOOPBACK}:{port}"
        server.stop()
    server.close()


def enrolled_at(cloud: str) -> bytes:
    """The file that enrolment leaves beside the hub's key."""
    broker = {"host": LOOPBACK, "port": 1, "tls": False}
    granted = {"tenant": "demo", "store": "demo-store", "root_key": "", "broker": broker}
    return json.dumps({"cloud": cloud, "granted": granted | {"credentials": {"username": "", "password": ""}}}).encode()


@dataclass
class Shop:
    """One shop's disk, copied: the old machine without the Internet, the new one with it."""

    place: Path
    cloud: InProcessCloud
    nothing: InProcessCloud
    monkeypatch: pytest.MonkeyPatch

    def old(self) -> AbstractAsyncContextManager[Running]:
        return running(self.place / "old", self.nothing, "machine-1", self.monkeypatch)

    def new(self) -> AbstractAsyncContextManager[Running]:
        return running(self.place / "new", self.cloud, "machine-2", self.monkeypatch)


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shop]:
    """Set up, one sale of 5.00 that the cloud has, and the disk copied."""
    monkeypatch.setattr(announce, "REFRESH_S", 0.2)
    monkeypatch.setattr(rivals, "ASK_EVERY_S", 0.2)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    async with demo_cloud(tmp_path / "cloud", shop_runtime()) as cloud, asyncio.TaskGroup() as group:
        nothing = InProcessCloud(cloud.cloud, shop_runtime().clock)
        nothing.reachable = False
        serving = group.create_task(cloud.run(), name="cloud")
        async with running(tmp_path / "old", cloud, "machine-1", monkeypatch) as first:
            await set_up(first)
            assert (await first.sell(500)).status_code == 201
            await wait_until(lambda: has_epoch(first), WAIT_S, "the first epoch")
            await wait_until(lambda: confirmed(first), WAIT_S, "everything to be confirmed")
        await asyncio.to_thread(shutil.copytree, tmp_path / "old" / "data", tmp_path / "new" / "data")
        yield Shop(tmp_path, cloud, nothing, monkeypatch)
        serving.cancel()


async def must_not_sell(hub: Running) -> None:
    refused = await hub.sell(400)
    said = refused.json()
    assert (refused.status_code, said["code"], said["retry"]) == (409, "hub_replaced", "never")
    assert "new hub" in said["remedy"]
    unready = await hub.ready()
    assert unready.status_code == 503
    assert "replaced" in unready.json()["params"]["problems"]


async def test_the_old_hub_hears_the_new_one_and_stops_by_the_cloud_s_word_alone(shop: Shop) -> None:
    async with shop.old() as old:
        assert (await old.sell(700)).status_code == 201
        async with shop.new() as new:
            found = await new.daemon.services.db.read("test.lines", lines.all_lines)
            assert [one.reason for one in found] == ["new", "replaced"]
            await old.until("hub.cloned")
            await new.until("hub.cloned")
            assert (await old.sell(300)).status_code == 201, "an alarm alone stops nobody"
            await wait_until(lambda: has_epoch(new), WAIT_S, "the second epoch")

            (hub_id,) = await shop.cloud.cloud.read(lambda storage: storage.hubs())
            await shop.cloud.cloud.replace_line(hub_id, old.line, new.line)
            await old.until("hub.replaced")
            await new.until()
            await must_not_sell(old)
            assert (await new.sell(400)).status_code == 201
            assert (await new.ready()).status_code == 200
        async with old.operator() as client:
            paid = (await client.get("/v1/payments")).json()["items"]
        assert [one["state"] for one in paid] == [PaymentState.APPROVED] * 3

    async with shop.old() as old:
        await old.until("hub.replaced")
        await must_not_sell(old)

    file = shop.place / "unsent"
    wrote = await hubctl(shop.place / "old", "journal", "export", str(file))
    assert file.stat().st_mode & 0o077 == 0
    async with door_of(shop.cloud.cloud, shop_runtime().clock) as address:
        kept = shop.place / "new" / "data" / "keys" / "cloud.json"
        await asyncio.to_thread(kept.write_bytes, enrolled_at(address))
        done = await hubctl(shop.place / "new", "journal", "import", str(file))
        assert (done["entries"], done["new"]) == (wrote["entries"], wrote["entries"])
        assert (await hubctl(shop.place / "new", "journal", "import", str(file)))["new"] == 0
    amounts = await shop.cloud.cloud.read(lambda storage: _amounts(storage, hub_id, paid))
    assert amounts == {300, 500, 700}


def _amounts(storage: CloudStorage, hub: bytes, paid: list[dict[str, Any]]) -> set[int]:
    rows = [storage.payment(hub, one["id"], False) for one in paid]
    return {row.amount for row in rows if row is not None and row.times_created == 1}
