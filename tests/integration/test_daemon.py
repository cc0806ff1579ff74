"""The whole daemon in this process: what it tells its cloud, and what it learns and says of itself."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import hubd.runtime
from hubd.config import Config, PathsConfig, parse_config
from hubd.daemon import HUB_KEY, Daemon, Outside, running_hub
from hubd.demo.cloud import DemoAddress, demo_cloud, enrol
from hubd.identity import load_or_create_key
from hubd.runtime import Runtime
from local_api.tls import certificate_fingerprint
from sync.codec import Hello
from tests.rigs.process import wait_until
from tests.unit.services.shop import shop_runtime
from tests.unit.sync.shop import ScriptedWire

WAIT_S = 30.0
pytestmark = pytest.mark.blocking_allowed("a daemon makes its sockets at its start, before it trades")
ALONE = """
[api]
https_port = 0
http_port = 0
addresses = ["127.0.0.1"]
[probes]
gateway = "tcp://127.0.0.1:1"
dns_server = "127.0.0.1:1"
internet = ["tcp://127.0.0.1:1"]
[discovery]
mdns = false
"""


def configured(place: Path, more: str = "") -> Config:
    """A hub on loopback that reaches nothing."""
    return parse_config(ALONE + more, "test", {}, PathsConfig(place / "data", place / "run"))


@dataclass
class Running:
    """A daemon with its cloud, and every message between them."""

    daemon: Daemon
    hub_id: str
    wire: ScriptedWire

    def hellos(self) -> list[Hello]:
        """What the hub has said of itself."""
        return [message for way, message in self.wire.seen if way == "up" and isinstance(message, Hello)]


@asynccontextmanager
async def daemon(place: Path, runtime: Runtime, config: Config | None = None) -> AsyncIterator[Running]:
    """A hub that is enrolled at a cloud in this process."""
    config, wire = config or configured(place), ScriptedWire()
    async with demo_cloud(place / "cloud", runtime) as cloud, asyncio.TaskGroup() as group:
        cloud.wire = wire
        serving = group.create_task(cloud.run(), name="cloud")
        address = DemoAddress(runtime)
        async with running_hub(config, runtime, None, Outside(link=cloud, address=address)) as running:
            signer = await asyncio.to_thread(load_or_create_key, config.paths.keys / HUB_KEY, runtime.ids.token_bytes)
            await enrol(running.services.db, cloud.cloud, signer, runtime, "")
            address.known(signer.hub_id.hex())
            assert running.sync is not None
            running.sync.wake()
            yield Running(running, signer.hub_id.hex(), wire)
        serving.cancel()


async def test_every_hello_says_where_tills_in_browsers_find_the_hub(tmp_path: Path) -> None:
    async with daemon(tmp_path, shop_runtime()) as running:
        await wait_until(running.hellos, WAIT_S, "the first hello")
        ca = await asyncio.to_thread((tmp_path / "data/keys/ca.pem").read_text, "ascii")
        for hello in running.hellos():
            assert hello.reach == {
                "names": [f"hubd-{running.hub_id[:8]}.local"],
                "addresses": [f"https://127.0.0.1:{running.daemon.https_port}"],
                "fingerprints": [certificate_fingerprint(ssl.PEM_cert_to_DER_cert(ca))],
            }


async def test_the_cloud_is_a_witness_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubd.runtime, "NTP_SYNCHRONISED_FILE", tmp_path / "absent")
    runtime = shop_runtime()
    assert not runtime.clock.trusted()
    async with daemon(tmp_path, runtime):
        await wait_until(runtime.clock.trusted, WAIT_S, "the clock to be trusted")
