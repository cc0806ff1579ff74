"""The whole daemon in this process: what it tells its cloud, and what it learns and says of itself."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpcore2  # noqa: F401 - httpx2 imports it at its first connection, which would be in the event loop
import httpx2
import pytest

import hubd.daemon
import hubd.runtime
import local_api.rivals
from drivers.discovery.configured import configured as configured_endpoint
from hubd.config import Config, parse_config
from hubd.config_sections import PathsConfig
from hubd.daemon import HUB_KEY, LOOPBACK, Daemon, Outside, running_hub
from hubd.demo.cloud import DemoAddress, demo_cloud, enrol
from hubd.identity import load_or_create_key
from hubd.model.entry import Draft
from hubd.runtime import Runtime
from hubd.store import journal, payments
from local_api.server import tcp_sockets
from local_api.tls import certificate_fingerprint
from sync.backoff import Backoff
from sync.cloud.cloud import ReferenceCloud
from sync.cloud.link import InProcessCloud
from sync.codec import Hello
from tests.rigs.process import free_port, wait_until
from tests.tidy.tree import ROOT
from tests.unit.services.shop import LOCATION, MANAGER, shop_runtime
from tests.unit.sync.shop import ScriptedWire, new_id, stored

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
    cloud: ReferenceCloud
    link: InProcessCloud

    def problems(self) -> list[tuple[str, str]]:
        """What people see, with the device that it is about."""
        return [(problem.code, problem.subject) for problem in self.daemon.services.problems.present()]

    def workers(self) -> list[str]:
        """What runs in it."""
        return [worker.name for worker in self.daemon.hub.supervisor]

    async def until_raised(self, code: str, subject: str = "") -> None:
        """Wait until a problem is there."""
        await wait_until(lambda: (code, subject) in self.problems(), WAIT_S, f"{code} to be raised")

    async def until_cleared(self, code: str, subject: str = "") -> None:
        """Wait until a problem is over."""
        await wait_until(lambda: (code, subject) not in self.problems(), WAIT_S, f"{code} to be cleared")

    async def hubctl(self, *words: str) -> dict[str, Any]:
        """What hubctl prints as JSON when it asks this daemon."""
        paths = self.daemon.config.paths
        places = {"HUBD_PATHS_DATA": str(paths.data), "HUBD_PATHS_RUNTIME": str(paths.runtime)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HUBD_")}
        asking = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from hubd.cli import main; main()", *words, "--json"),
            env={**kept, **places, "PYTHONPATH": str(ROOT), "HUBD_CONFIG": str(paths.data / "none.toml")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with self.daemon.services.runtime.clock.timeout(WAIT_S):
            said, errors = await asking.communicate()
        assert asking.returncode == 0, errors.decode()
        answer: dict[str, Any] = json.loads(said)
        return answer

    def hellos(self) -> list[Hello]:
        """What the hub has said of itself."""
        return [message for way, message in self.wire.seen if way == "up" and isinstance(message, Hello)]


@asynccontextmanager
async def daemon(
    place: Path, runtime: Runtime, config: Config | None = None, ledger: Path | None = None
) -> AsyncIterator[Running]:
    """A hub that is enrolled at a cloud in this process, which keeps what it knows in `ledger`."""
    config, wire = config or configured(place), ScriptedWire()
    async with demo_cloud(ledger or place / "cloud", runtime) as cloud, asyncio.TaskGroup() as group:
        cloud.wire = wire
        serving = group.create_task(cloud.run(), name="cloud")
        address = DemoAddress(runtime)
        async with running_hub(config, runtime, None, Outside(link=cloud, address=address)) as running:
            signer = await asyncio.to_thread(load_or_create_key, config.paths.keys / HUB_KEY, runtime.ids.token_bytes)
            await enrol(running.services.db, cloud.cloud, signer, runtime, "")
            address.known(signer.hub_id.hex())
            assert running.sync is not None
            running.sync.wake()
            yield Running(running, signer.hub_id.hex(), wire, cloud.cloud, cloud)
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


async def test_a_hub_that_was_up_before_its_network_shows_its_lamp_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut a hub boots faster than the shop's router gives addresses."""
    later = "127.0.0.2"
    addresses = [LOOPBACK]
    monkeypatch.setattr(hubd.daemon, "own_addresses", lambda _configured: list(addresses))
    monkeypatch.setattr(hubd.daemon, "ADDRESS_CHECK_S", 0.02)
    async with daemon(tmp_path, shop_runtime()) as running, httpx2.AsyncClient(trust_env=False) as phone:
        lamp = f"http://{later}:{running.daemon.http_port}"
        with pytest.raises(httpx2.ConnectError):
            await phone.get(lamp)
        addresses.append(later)
        await wait_until(lambda: "server.lamp.127.0.0.2" in running.workers(), WAIT_S, "the lamp at the new address")
        assert (await phone.get(lamp)).status_code == 200
        assert (await phone.get(f"{lamp}/v1/hub")).status_code == 404, "the lamp and nothing else"


async def test_an_address_that_cannot_be_listened_at_keeps_the_lamp_from_no_other_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    addresses, looks = [LOOPBACK], list[int]()

    def addresses_now(_configured: object) -> list[str]:
        looks.append(len(addresses))
        return list(addresses)

    monkeypatch.setattr(hubd.daemon, "own_addresses", addresses_now)
    monkeypatch.setattr(hubd.daemon, "ADDRESS_CHECK_S", 0.02)
    async with daemon(tmp_path, shop_runtime()) as running:
        with tcp_sockets(["127.0.0.2"], running.daemon.http_port)[0]:
            addresses += ["127.0.0.2", "127.0.0.3"]
            await wait_until(lambda: "server.lamp.127.0.0.3" in running.workers(), WAIT_S, "the lamp beside the taken")
            seen = len(looks)
            await wait_until(lambda: len(looks) > seen + 3, WAIT_S, "more looks")
        await wait_until(lambda: "server.lamp.127.0.0.2" in running.workers(), WAIT_S, "the lamp where there is room")
    failures = [vars(record)["address"] for record in caplog.records if record.message == "lamp.not_opened"]
    assert failures == ["127.0.0.2"], "said once and not with each look"


async def test_the_cloud_is_a_witness_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubd.runtime, "NTP_SYNCHRONISED_FILE", tmp_path / "absent")
    runtime = shop_runtime()
    assert not runtime.clock.trusted()
    async with daemon(tmp_path, runtime):
        await wait_until(runtime.clock.trusted, WAIT_S, "the clock to be trusted")


async def test_what_the_cloud_sent_in_vain_is_a_problem_until_a_retry_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubd.daemon, "HEALTH_CHECK_S", 0.05)
    payment = new_id()
    async with daemon(tmp_path, shop_runtime()) as running:
        db = running.daemon.services.db
        await wait_until(running.hellos, WAIT_S, "the first hello")
        verdict = {"payment": payment, "attempt": 1, "verdict": "captured", "code": "00"}
        await running.cloud.say(bytes.fromhex(running.hub_id), "payment.verdict", payment, verdict)
        await running.until_raised("sync.dead_letters")
        assert (await running.hubctl("sync", "retry"))["applied"] == 0
        drafts = stored(payment, 700)
        await db.write("test.stored", lambda tx: [journal.append(tx, draft) for draft in drafts])
        assert (await running.hubctl("sync", "retry"))["applied"] == 1
        await running.until_cleared("sync.dead_letters")
        row = await db.read("test.payment", lambda connection: payments.get(connection, payment))
        assert row is not None
        assert row.custody == "captured"
        assert (await running.hubctl("sync"))["sync"]["confirmed_seq"] > 0


async def test_a_terminal_that_nobody_has_activated_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubd.daemon, "HEALTH_CHECK_S", 0.05)
    config = configured(tmp_path, '[[terminals]]\naddress = "tcp://127.0.0.1:1"\nname = "Counter"\n')
    place = {"name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
    async with daemon(tmp_path, shop_runtime(), config) as running:
        services = running.daemon.services
        draft = Draft("location.set", LOCATION, "hub", place)
        await services.db.write("test.place", lambda tx: journal.append(tx, draft))
        await services.discovery.consider()
        (terminal,) = [view.device.id for view in await services.devices.all()]
        await running.until_raised("device.not_activated", terminal)
        await services.devices.activate(terminal, MANAGER)
        await running.until_cleared("device.not_activated", terminal)
        await services.devices.deactivate(terminal, MANAGER)
        services.discovery.appeared(configured_endpoint("tcp://127.0.0.1:2", "zvt", "", ""))
        await services.discovery.consider()
        (other,) = {view.device.id for view in await services.devices.all()} - {terminal}
        await running.until_raised("device.not_activated", other)
        assert ("device.not_activated", terminal) not in running.problems()


async def test_the_cloud_is_tried_at_once_when_the_internet_is_back(tmp_path: Path) -> None:
    """Only the probe tells: the pauses between attempts last an hour, and what it looks at opens in the middle."""
    port = free_port()
    probes = f'[probes]\ninterval_s = 1\ninternet = ["tcp://127.0.0.1:{port}"]'
    text = ALONE.replace("[probes]", probes).replace('internet = ["tcp://127.0.0.1:1"]\n', "")
    config = parse_config(text, "test", {}, PathsConfig(tmp_path / "data", tmp_path / "run"))
    async with daemon(tmp_path, shop_runtime(), config) as running:
        sync = running.daemon.sync
        assert sync is not None
        await wait_until(lambda: sync.status.connected, WAIT_S, "the cloud")
        sync._backoff = Backoff(running.daemon.services.runtime.rng, 3600.0, 3600.0)
        running.link.reachable = False
        running.link.cut()
        await wait_until(lambda: running.daemon.connectivity.facts.internet.ok is False, WAIT_S, "the loss to be seen")
        await wait_until(lambda: not sync.status.connected, WAIT_S, "the link to be down")
        running.link.reachable = True
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
        async with server:
            await wait_until(lambda: sync.status.connected, WAIT_S, "the cloud to be spoken to again")


async def test_what_the_link_finds_out_is_a_problem_that_people_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubd.daemon, "HEALTH_CHECK_S", 0.05)
    monkeypatch.setattr(local_api.rivals, "ASK_EVERY_S", 0.05)
    async with daemon(tmp_path, shop_runtime()) as running:
        sync = running.daemon.sync
        assert sync is not None
        await wait_until(lambda: sync.status.connected, WAIT_S, "the cloud")
        for found, shown in (("sync.rejected", "sync.rejected"), ("sync.two_starts", "hub.cloned")):
            sync.report(found, "as the engine says it")
            await running.until_raised(shown)
