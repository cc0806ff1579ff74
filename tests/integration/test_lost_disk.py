"""The drill: a hub's disk is gone, and a till's copy of its backup brings it back on a new machine, by either key."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import hubd.services.backups
from drivers.sim.zvt import ZvtSimulator
from drivers.transport.stream import AsyncioStream
from hubd.config import parse_config
from hubd.config_sections import PathsConfig
from hubd.store import backup, lines, sealed
from local_api.client import HubClient, Memory, new_id
from tests.integration.test_backups_leave_the_disk import Shop, opened
from tests.integration.test_daemon import ALONE, WAIT_S, daemon
from tests.rigs.dead_hub import as_json, hubctl
from tests.rigs.process import wait_until
from tests.unit.services.shop import shop_runtime

pytestmark = pytest.mark.blocking_allowed("a daemon makes its sockets at its start, before it trades")
TENANT_KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after the backups many times a second."""
    monkeypatch.setattr(hubd.services.backups, "CHECK_S", 0.05)


@asynccontextmanager
async def terminal() -> AsyncIterator[tuple[str, ZvtSimulator]]:
    """A card terminal on a TCP port. Its books outlive every hub."""
    simulator = ZvtSimulator(shop_runtime())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = AsyncioStream(reader, writer)
        try:
            await simulator.serve(stream)
        finally:
            await stream.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", simulator
        server.close()


async def activate(shop: Shop) -> None:
    """A person says that the terminal may take money, and it answers."""
    async with shop.administrator() as administrator:

        async def ready() -> bool:
            items = (await administrator.get("/v1/devices")).json()["items"]
            for one in items:
                if one["kind"] == "terminal" and not one["active"]:
                    await administrator.post(f"/v1/devices/{one['id']}/activate")
            return any(one["kind"] == "terminal" and one["state"] == "ready" for one in items)

        await wait_until(ready, WAIT_S, "the terminal to be ready")


async def pay_by_card(till: HubClient, payment: str, amount: int) -> dict[str, Any]:
    await till.pay(payment, amount, "EUR", tender="card")
    return await till.wait(payment)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("key", ["code", "tenant"])
async def test_a_hub_comes_back_from_a_tills_copy_and_charges_nobody_twice(tmp_path: Path, key: str) -> None:
    old, new, memory = tmp_path / "old", tmp_path / "new", Memory(tmp_path / "till.json")
    kept_payment, forgotten, forgotten_cash = new_id(), new_id(), new_id()
    async with terminal() as (address, simulator):
        more = f"[[terminals]]\naddress = '{address}'\nname = 'Counter'\n"
        async with opened(old, more) as shop:
            told = await shop.running.cloud.set_backup_key("demo", sealed.public_key_of(TENANT_KEY))
            shop.running.link.publish(told)

            async def two_keys() -> bool:
                return len(await shop.db.read("test.keys", backup.recipients)) == 2

            await wait_until(two_keys, WAIT_S, "the hub to know the tenant's key")
            await activate(shop)
            credential, port = await shop.pair(), shop.running.daemon.https_port
            async with HubClient(credential, memory) as till:
                assert (await pay_by_card(till, kept_payment, 1500))["state"] == "approved"
                await shop.make()
                copy = await till.keep_backup(tmp_path / "till")
                assert copy is not None
                assert (await pay_by_card(till, forgotten, 2500))["state"] == "approved"
                await till.pay(forgotten_cash, 300, "EUR", tender="cash")
            code = shop.code
        await asyncio.to_thread(shutil.rmtree, old / "data")

        key_file = tmp_path / "tenant.key"
        await asyncio.to_thread(key_file.write_text, TENANT_KEY.hex())
        by = ["--code", code] if key == "code" else ["--key-file", str(key_file)]
        restored = await asyncio.to_thread(hubctl, new / "data", "restore", str(copy), *by, "--json")
        assert as_json(restored)["kept_old"] is None, restored.stderr

        text = ALONE.replace("https_port = 0", f"https_port = {port}") + more
        config = parse_config(text, "test", {}, PathsConfig(new / "data", new / "run"))
        # The new machine has a key of its own, which the cloud does not know yet: it trades alone.
        async with daemon(new, shop_runtime(b"2-process"), config, old / "cloud") as running:
            shop = Shop(running, code, new)
            assert [one.reason for one in await shop.db.read("test.lines", lines.all_lines)] == ["new", "restored"]
            await activate(shop)
            async with HubClient(credential, await asyncio.to_thread(Memory.load, tmp_path / "till.json")) as till:
                again = await pay_by_card(till, forgotten, 2500)
                assert again["state"] == "approved", "the terminal was asked, not charged"
                assert (await till.pay(forgotten_cash, 300, "EUR", tender="cash"))["state"] == "approved"
                assert (await till.get(f"/v1/payments/{kept_payment}"))["state"] == "approved"
                assert (await pay_by_card(till, new_id(), 700))["state"] == "approved"
                assert (await shop.state())["elsewhere"] is None, "what the lost hub knew of copies is not taken over"
                assert await till.keep_backup(tmp_path / "till") != copy
        assert [one.amount_minor for one in simulator.ledger.transactions] == [1500, 2500, 700]
