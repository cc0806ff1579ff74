"""Enrolment and credentials over HTTP, against a mosquitto that lets in whom the cloud tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace

from hubd.cloud_ports import LinkAddress
from hubd.errors import AccessError
from hubd.identity import verify_signature
from hubd.model.statement import verify_statement
from hubd.runtime import SystemClock
from sync.cloud import store
from sync.cloud.cloud import enrol_bytes, renew_bytes
from sync.cloud.credentials import LIFETIME_S
from sync.cloud.http import BrokerPlace, CloudHttp
from sync.cloud.mqtt import CloudBroker, CloudWorker, DynsecIssuer
from sync.mqtt import BrokerAddress, MqttLink
from tests.rigs.broker import Broker
from tests.rigs.process import require_tool, run
from tests.unit.sync.shop import cash, new_id, outage_closed, outage_opened
from tests.unit.sync.world import Hub, World

PLUGINS = sorted(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))


class DynsecBroker(Broker):
    """mosquitto with its dynamic-security plugin and an administrator `admin`."""

    def _configure(self, place: Path) -> Path:
        config = super()._configure(place)
        file = place / "dynsec.json"
        run(require_tool("mosquitto_ctrl", "mosquitto-clients"), "dynsec", "init", file, "admin", "secret")
        os.chmod(file, 0o600)
        lines = config.read_text("utf-8").replace("allow_anonymous true", "allow_anonymous false")
        assert PLUGINS, "mosquitto's dynamic-security plugin is not installed"
        config.write_text(f"{lines}plugin {PLUGINS[0]}\nplugin_opt_config_file {file}\n", "utf-8")
        return config


CLOUD_MAY: list[dict[str, Any]] = [
    {"command": "deleteClient", "username": "cloud"},
    {"command": "deleteRole", "rolename": "cloud"},
    {"command": "createRole", "rolename": "cloud", "acls": [
        {"acltype": "subscribePattern", "topic": "hubd/1/#", "allow": True},
        {"acltype": "publishClientSend", "topic": "hubd/1/#", "allow": True},
        {"acltype": "publishClientReceive", "topic": "hubd/1/#", "allow": True},
    ]},
    {"command": "createClient", "username": "cloud", "password": "word", "roles": [{"rolename": "cloud"}]},
]  # fmt: skip


@pytest.fixture
async def broker() -> AsyncIterator[DynsecBroker]:
    async with DynsecBroker() as broker:
        yield broker


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path) as world:
        yield world


def issuer_of(world: World, broker: Broker, lifetime_s: int = LIFETIME_S) -> DynsecIssuer:
    at = CloudBroker(broker.host, broker.port, "admin", "secret")
    return DynsecIssuer(at, replace(world.runtime, clock=SystemClock()), world.cloud, lifetime_s)


@contextlib.asynccontextmanager
async def served(
    world: World, broker: Broker, lifetime_s: int = LIFETIME_S
) -> AsyncIterator[tuple[httpx2.AsyncClient, DynsecIssuer]]:
    issuer = issuer_of(world, broker, lifetime_s)
    await issuer.command(CLOUD_MAY)
    app = CloudHttp(world.cloud, issuer, BrokerPlace(broker.host, broker.port, tls=False), world.runtime.clock).app()
    at = CloudBroker(broker.host, broker.port, "cloud", "word")
    worker = CloudWorker(world.cloud, at, world.runtime.clock)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.run(), name="cloud worker")
        await worker.connected.wait()
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://cloud") as client:
            yield client, issuer
        task.cancel()


def enrol_request(hub: Hub, code: str) -> dict[str, Any]:
    key = hub.signer.public_key
    signature = hub.signer.sign(enrol_bytes(code, key, b"nonce"))
    return {"protocol": 1, "code": code, "public_key": key.hex(), "nonce": b"nonce".hex(), "signature": signature.hex()}


def renew_request(hub: Hub, nonce: bytes) -> dict[str, Any]:
    signature = hub.signer.sign(renew_bytes(hub.signer.hub_id, 5, nonce))
    hub_id = hub.signer.hub_id.hex()
    return {"protocol": 1, "hub_id": hub_id, "nonce": nonce.hex(), "time_us": 5, "signature": signature.hex()}


async def listen(link: MqttLink, address: LinkAddress) -> None:
    async with link.connect(address) as session:
        async for _ in session.messages():
            pass


async def test_code_key_and_password_lead_to_a_conversation_and_nowhere_else(
    world: World, broker: DynsecBroker
) -> None:
    hub, other = await world.hub("hub", key=1), await world.hub("other", key=2)
    async with served(world, broker) as (client, _issuer):
        await world.cloud.add_code("once", "t1", "s1", ("l1",))
        answer = await client.post("/enrol", json=enrol_request(hub, "once"))
        assert answer.status_code == 200, answer.text
        granted = answer.json()
        assert (granted["tenant"], granted["store"]) == ("t1", "s1")
        assert granted["root_key"] == world.keys.root.public_key.hex()
        assert (await client.post("/enrol", json=enrol_request(other, "once"))).json()["code"] == "enrol.spent"
        assert (await client.post("/enrol", json=enrol_request(other, "none"))).json()["code"] == "enrol.code"
        assert (await client.post("/enrol", json=enrol_request(hub, "once"))).status_code == 200

        renewed = (await client.post("/renew", json=renew_request(hub, b"1"))).json()["credentials"]
        replay = await client.post("/renew", json=renew_request(hub, b"1"))
        assert (replay.status_code, replay.json()["code"]) == (403, "renew.replayed")
        forged = renew_request(hub, b"2") | {"hub_id": other.signer.hub_id.hex()}
        assert (await client.post("/renew", json=forged)).status_code == 403
        assert (await client.post("/enrol", content=b"{" * 9000)).status_code == 400

        link = MqttLink(BrokerAddress(broker.host, broker.port))
        good = replace(hub.address, username=renewed["username"], password=renewed["password"])
        with pytest.raises(OSError, match="not accept"):
            async with link.connect(replace(good, password=granted["credentials"]["password"])):
                pytest.fail("the password from before the renewal still opens")
        hub.link, hub.own_address = link, good
        async with hub.online():
            await hub.note(count=10)
            await hub.drained()
        # The same password opens no other hub's topics.
        foreign = replace(other.address, username=good.username, password=good.password)
        with pytest.raises(OSError, match="connection"):
            await listen(link, foreign)


async def test_a_cloud_that_starts_again_knows_used_nonces_and_whom_to_shut_out(
    world: World, broker: DynsecBroker
) -> None:
    hub = await world.hub("hub", key=1)
    link = MqttLink(BrokerAddress(broker.host, broker.port))
    async with served(world, broker) as (client, _issuer):
        renewed = (await client.post("/renew", json=renew_request(hub, b"1"))).json()["credentials"]
    good = replace(hub.address, username=renewed["username"], password=renewed["password"])
    await world.stop_cloud()
    await world.start_cloud()
    async with served(world, broker, lifetime_s=0) as (client, issuer):
        replay = await client.post("/renew", json=renew_request(hub, b"1"))
        assert (replay.status_code, replay.json()["code"]) == (403, "renew.replayed")
        await issuer.end_expired()
        async with link.connect(good):
            pass  # they are good for an hour
        renewed = (await client.post("/renew", json=renew_request(hub, b"2"))).json()["credentials"]
    over = replace(hub.address, username=renewed["username"], password=renewed["password"])
    async with link.connect(over):
        pass  # nobody has ended them: the cloud stopped before
    await world.stop_cloud()
    await world.start_cloud()
    await issuer_of(world, broker).end_expired()
    with pytest.raises(OSError, match="not accept"):
        async with link.connect(over):
            pytest.fail("credentials outlived their end, because the cloud had stopped meanwhile")


async def test_only_so_many_nonces_of_a_hub_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = await world.hub("hub", key=1)
    monkeypatch.setattr(store, "RENEWALS_KEPT", 3)

    async def renew(nonce: bytes) -> None:
        signature = hub.signer.sign(renew_bytes(hub.signer.hub_id, 5, nonce))
        await world.cloud.check_renewal(hub.signer.hub_id, 5, nonce, signature)

    for nonce in (b"1", b"2", b"3", b"4"):
        await renew(nonce)
    for nonce in (b"2", b"3", b"4"):
        with pytest.raises(AccessError, match="replayed"):
            await renew(nonce)
    await renew(b"1")


async def test_statement_of_the_cloud_is_served_with_its_key(world: World, broker: DynsecBroker) -> None:
    hub = await world.hub()
    outage = new_id()
    await hub.append(outage_opened(outage), cash(new_id(), 500, outage=outage), outage_closed(outage))
    async with hub.online():
        await world.until(lambda: hub.kinds("statement.received"), "the statement")
    entry = [e for e in await hub.entries() if e.kind == "statement.received"][-1]
    async with served(world, broker) as (client, _issuer):
        answer = (await client.get(f"/statements/{entry.head.subject}")).json()
        assert answer["statement"] == entry.body()["statement"]
        key = bytes.fromhex(answer["public_key"])
        assert verify_statement(answer["statement"], key, verify_signature).ok
        assert (await client.get(f"/statements/{new_id()}")).status_code == 404
        assert (await client.get("/statements/..%2f")).status_code == 404
