"""The cloud of a crash test: the reference cloud as a process, a real mosquitto, and a line to them that can be cut."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.crash.store import ROOT, STEP_TIMEOUT_S, Store
from tests.rigs.broker import Broker
from tests.rigs.certificates import ServerCertificate, make_server_certificate
from tests.rigs.link_proxy import LinkProxy
from tests.rigs.process import Child, RigError, free_port, wait_until

CODE = "CRASH-TEST-0001"


@dataclass
class Cloud:
    """What the hub's line leads to."""

    folder: Path
    link: LinkProxy
    process: Child
    http_port: int
    certificate: ServerCertificate

    @property
    def address(self) -> str:
        """For enrolment and statements."""
        return f"https://127.0.0.1:{self.http_port}"

    async def start(self) -> None:
        """Start the cloud (again) and return when it answers."""
        await asyncio.to_thread(self.process.start)
        trust = ssl.create_default_context(cafile=str(self.certificate.authority))

        async def healthy() -> bool:
            if not self.process.running:
                raise RigError(f"the cloud ended\n{self.process.tail()}")
            try:
                async with httpx2.AsyncClient(verify=trust, trust_env=False) as client:
                    return (await client.get(f"{self.address}/healthz")).status_code == 200
            except httpx2.TransportError:
                return False

        await wait_until(healthy, STEP_TIMEOUT_S, "the cloud")

    async def kill_and_start(self) -> None:
        """SIGKILL, and a new start on the same database."""
        await asyncio.to_thread(self.process.kill)
        await self.start()

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        """Ask the cloud's own database."""
        with closing(sqlite3.connect(f"file:{self.folder / 'cloud.db'}?mode=ro", uri=True)) as connection:
            return connection.execute(question).fetchall()


@asynccontextmanager
async def open_cloud(folder: Path) -> AsyncIterator[Cloud]:
    """Broker, cloud and line, all running."""
    data = folder / "cloud"
    data.mkdir()
    certificate = make_server_certificate(data)
    async with Broker() as broker, LinkProxy(broker.host, broker.port) as link:
        port = free_port()
        where = ("--broker", f"{broker.host}:{broker.port}", "--http-port", str(port))
        tls = ("--tls-certificate", certificate.certificate, "--tls-key", certificate.key)
        program: list[str | Path] = [sys.executable, "-m", "sync.cloud", "--data", data, *where, *tls, "--code", CODE]
        process = Child(program, cwd=ROOT)
        try:
            cloud = Cloud(data, link, process, port, certificate)
            await cloud.start()
            yield cloud
        finally:
            process.close()


def cloud_config(cloud: Cloud) -> str:
    """The section of the hub's configuration."""
    return f"[cloud]\naddress = 'mqtt://127.0.0.1:{cloud.link.port}'\nca_file = '{cloud.certificate.authority}'\n"


async def enrol(store: Store, cloud: Cloud) -> None:
    """Bind the hub to the cloud by its one-time code, and wait until they talk."""
    await store.ask("POST", "/v1/enrolment", {"cloud": cloud.address, "code": CODE})
    await all_confirmed(store)


async def all_confirmed(store: Store, timeout_s: float = STEP_TIMEOUT_S) -> None:
    """Wait until the cloud has confirmed all that the hub has written."""

    async def confirmed() -> bool:
        shown: dict[str, Any] = await store.ask("GET", "/v1/sync")
        return bool(shown["link"]["enrolled"] and shown["confirmed_seq"] == shown["head"]["seq"])

    await wait_until(confirmed, timeout_s, "the cloud's confirmation")
