"""A dead hub comes back on another machine from its cloud: a code, the recovery code, and a line that breaks."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

import hubd.services.backups
from hubd.config import parse_config
from hubd.config_sections import PathsConfig
from hubd.daemon import Daemon, running_hub
from hubd.runtime import SystemIds
from hubd.store import lines
from tests.integration.test_daemon import ALONE, WAIT_S
from tests.rigs.broker import Broker
from tests.rigs.certificates import ServerCertificate, make_server_certificate
from tests.rigs.link_proxy import LinkProxy
from tests.rigs.process import Child, free_port, port_answers, wait_until
from tests.tidy.tree import ROOT
from tests.unit.services.shop import shop_runtime

pytestmark = pytest.mark.blocking_allowed("a daemon makes its sockets at its start, before it trades")
HUBCTL = (sys.executable, "-c", "from hubd.cli import main; main()")
FIRST, SECOND = "first-hub-0001", "second-hub-0002"
SALES = 60
TALK_BYTES = 12_000
"""More than TLS, enrolment and the list take of the line together."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after the backups many times a second."""
    monkeypatch.setattr(hubd.services.backups, "CHECK_S", 0.05)


@dataclass
class Cloud:
    """The reference cloud as a process of its own, behind TLS and a line that can be cut."""

    data: Path
    broker: Broker
    certificate: ServerCertificate
    port: int
    process: Child | None = None

    async def start(self, code: str) -> None:
        """Start it (again) with one more code."""
        self.close()
        where = ("--broker", f"{self.broker.host}:{self.broker.port}", "--http-port", str(self.port))
        tls = ("--tls-certificate", self.certificate.certificate, "--tls-key", self.certificate.key)
        program: list[str | Path] = [sys.executable, "-m", "sync.cloud", "--data", self.data, *where, *tls]
        program += ["--code", code]
        self.process = Child(program, cwd=ROOT)
        await asyncio.to_thread(self.process.start)
        await wait_until(lambda: port_answers("127.0.0.1", self.port), WAIT_S, "the cloud")

    def close(self) -> None:
        if self.process is not None:
            self.process.close()

    def backups(self) -> list[Path]:
        return sorted(self.data.glob("backups/*/*.hubbackup"))

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    data = tmp_path / "cloud"
    data.mkdir()
    async with Broker() as broker:
        opened = Cloud(data, broker, make_server_certificate(data), free_port())
        try:
            await opened.start(FIRST)
            yield opened
        finally:
            opened.close()


@asynccontextmanager
async def store(place: Path, cloud: Cloud) -> AsyncIterator[tuple[Daemon, httpx2.AsyncClient]]:
    text = f"{ALONE}[cloud]\nca_file = '{cloud.certificate.authority}'\n"
    config = parse_config(text, "test", {}, PathsConfig(place / "data", place / "run"))
    async with running_hub(config, shop_runtime(SystemIds().token_bytes(9))) as daemon:
        transport = httpx2.AsyncHTTPTransport(uds=str(config.paths.socket))
        async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as administrator:
            yield daemon, administrator


async def a_shop_that_sold(place: Path, cloud: Cloud) -> tuple[str, list[str]]:
    """Set up, sell, enrol, and leave a backup with the cloud: the recovery code and the payments."""
    async with store(place, cloud) as (daemon, administrator):
        new_id = daemon.services.runtime.ids.new_id
        where = {"id": new_id(), "name": "Lille", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
        wanted = {"owner": {"id": new_id(), "name": "Ada", "pin": "739164"}, "location": where}
        code = (await administrator.post("/v1/setup", json=wanted)).json()["recovery_code"]
        sold = [new_id() for _ in range(SALES)]
        for payment in sold:
            body = {"amount": {"amount": 1250, "currency": "EUR"}, "tender": "cash"}
            assert (await administrator.put(f"/v1/payments/{payment}", json=body)).status_code == 201
        assert (await administrator.post("/v1/backups")).is_success  # the one that leaves is the newest of now
        answer = await administrator.post("/v1/enrolment", json={"cloud": cloud.address, "code": FIRST})
        assert answer.status_code == 200, answer.text
        await wait_until(lambda: bool(cloud.backups()), WAIT_S, "the backup to be in the cloud")
    return code, sold


def hubctl(place: Path, cloud: Cloud, *args: str) -> list[str]:
    return ["env", *_environment(place, cloud), *HUBCTL, *args]


def _environment(place: Path, cloud: Cloud) -> list[str]:
    named = {
        "HUBD_CONFIG": place / "none.toml",
        "HUBD_PATHS_DATA": place / "data",
        "HUBD_PATHS_RUNTIME": place / "run",
        "HUBD_CLOUD_CA_FILE": cloud.certificate.authority,
    }
    return [f"{name}={value}" for name, value in named.items()]


async def run(program: list[str]) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, program, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    value: dict[str, Any] = json.loads(done.stdout)
    return value


async def test_a_new_machine_gets_the_shop_back_over_a_line_that_breaks_twice(tmp_path: Path, cloud: Cloud) -> None:
    code, sold = await a_shop_that_sold(tmp_path / "old", cloud)
    [newest] = cloud.backups()
    size = newest.stat().st_size
    await cloud.start(SECOND)
    new = tmp_path / "new"
    new.mkdir()
    async with LinkProxy("127.0.0.1", cloud.port) as link:
        address = f"https://127.0.0.1:{link.port}"
        program = hubctl(new, cloud, "restore", "--from-cloud", address, "--code", code, "--json")
        link.faults.cut_after_down_bytes = TALK_BYTES + size // 2
        with Child([*program, "--enrolment-code", SECOND], cwd=ROOT) as first:
            await wait_until(lambda: link.faults.cut_after_down_bytes == 0, WAIT_S, "the line to break")
            first.kill()
        [part] = (new / "data.from-cloud").glob("*.part")
        have = part.stat().st_size
        assert 0 < have < size, "what came is kept"
        before = link.traffic.down_bytes
        link.faults.cut_after_down_bytes = TALK_BYTES + (size - have) // 3
        # The machine is enrolled by now: no code any more. And the line breaks again.
        async with asyncio.TaskGroup() as group:
            again = group.create_task(run(program))
            await wait_until(lambda: link.faults.cut_after_down_bytes == 0, WAIT_S, "the line to break again")
            link.faults.cut_after_down_bytes = None
        restored = said(again.result())
        assert link.traffic.down_bytes - before < (size - have) + 3 * TALK_BYTES, "it went on where it was"
    assert restored["fetched"] == newest.stem
    assert restored["kept_old"] is None
    assert [path.name for path in new.iterdir()] == ["data"], "nothing is left beside it"
    async with store(new, cloud) as (daemon, administrator):
        shown = [(await administrator.get(f"/v1/payments/{payment}")).json()["state"] for payment in sold]
        assert shown == ["approved"] * SALES
        found = await daemon.services.db.read("lines", lines.all_lines)
        assert len(found) == 2, "a restored hub opens a new line"
        # The backup is from before the enrolment of the old machine: the new one's own counts.
        await wait_until(daemon.enrolment.is_enrolled, WAIT_S, "the hub to go on with what the cloud has granted")
        assert await daemon.enrolment.belongs_to() == ("demo", "store-1")


async def test_what_is_not_the_backup_is_not_restored(tmp_path: Path, cloud: Cloud) -> None:
    new = tmp_path / "new"
    new.mkdir()

    async def refusal(*args: str) -> str:
        done = await run(hubctl(new, cloud, "restore", "--from-cloud", cloud.address, "--code", "no", *args))
        assert done.returncode != 0
        assert not (new / "data" / "hub.db").exists()
        return done.stderr

    assert "not enrolled" in await refusal()
    assert "refused" in await refusal("--enrolment-code", "a-code-that-nobody-gave")
    assert "no backup of this store" in await refusal("--enrolment-code", FIRST)
    both = await run(hubctl(new, cloud, "restore", str(tmp_path / "x"), "--from-cloud", cloud.address))
    assert "name a backup, or a cloud" in both.stderr
    # The cloud's disk has spoiled the file: the digest that it names says so, here and before anything is unpacked.
    content = SystemIds().token_bytes(300_000)
    folder = cloud.data / "backups" / hub_of(new)
    folder.mkdir(parents=True, exist_ok=True)
    name = "0190aaaa-0000-7000-8000-000000000001"
    (folder / f"{name}.hubbackup").write_bytes(content[:-1] + b"x")
    note = {"hub": hub_of(new), "id": name, "bytes": len(content), "number": 1}
    (folder / f"{name}.json").write_text(json.dumps(note | {"sha256": hashlib.sha256(content).hexdigest()}))
    assert "another digest" in await refusal()
    assert list((new / "data.from-cloud").iterdir()) == [], "nothing to go on with"
    (folder / f"{name}.hubbackup").write_bytes(content)
    assert "Traceback" not in await refusal(), "sealed for nobody here: refused in a sentence"


def hub_of(place: Path) -> str:
    """The id of the key that the new machine has made."""
    from hubd.identity import load_key

    return load_key(place / "data" / "keys" / "hub.key").hub_id.hex()
