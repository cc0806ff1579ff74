"""The daemon as it is installed, with all its parts: page, devices, probes, announcement, link to the cloud.

Its store is one that `bench.shop` has made, so that the bench's tills are paired with it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import BenchError, child
from bench.shop import SEED, STORE_FILE
from hubd.cli.client import Client

READY_S_MAX = 120.0
DRAINED_S_MAX = 900.0
LOOK_S = 0.2
CONFIGURATION = """
[paths]
data = "{place}/data"
runtime = "{place}/run"
[api]
addresses = ["127.0.0.1"]
https_port = {https_port}
http_port = {http_port}
[cloud]
address = "mqtt://127.0.0.1:{broker_port}"
[probes]
gateway = "tcp://127.0.0.1:{broker_port}"
dns_server = "127.0.0.1:{broker_port}"
internet = ["tcp://127.0.0.1:{broker_port}"]
[discovery]
interfaces = ["127.0.0.1"]
"""
TERMINAL = """
[[terminals]]
address = "tcp://127.0.0.1:{port}"
"""


@dataclass(frozen=True)
class WholeHub:
    """An installed hub that does not run yet."""

    place: Path
    http_port: int

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "hubd", "run", "--config", str(self.place / "hubd.toml")]

    @property
    def log(self) -> Path:
        return self.place / "hub.log"

    @property
    def client(self) -> Client:
        """Who asks it as the machine's administrator."""
        return Client(self.place / "run" / "hubd.sock", self.place / "data")

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        return await asyncio.to_thread(self.client.call, method, path, body)


def install(
    place: Path, http_port: int, https_port: int, broker_port: int, terminals: Sequence[int] = (), devices: str = ""
) -> WholeHub:
    """Give the store that a closed shop left in `place` to a daemon; called again, only the configuration changes.

    `devices` is the configuration of more devices than the card terminals at these ports.
    """
    data, keys, made = place / "data", place / "data" / "keys", place / STORE_FILE
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    if made.exists():
        made.rename(data / "hub.db")
        (keys / "hub.key").write_bytes(SEED)
    text = CONFIGURATION.format(place=place, https_port=https_port, http_port=http_port, broker_port=broker_port)
    text += "".join(TERMINAL.format(port=port) for port in terminals) + devices
    (place / "hubd.toml").write_text(text, "utf-8")
    return WholeHub(place, http_port)


@asynccontextmanager
async def simulated(ports: Sequence[int]) -> AsyncIterator[None]:
    """Card terminals at these ports, in one process beside the hub."""
    async with child([sys.executable, "-m", "bench.terminals", *map(str, ports)]):
        yield


async def devices_ready(hub: WholeHub, addresses: Collection[str]) -> dict[str, str]:
    """Take the devices at these addresses into use; once all of them have answered, return the id of each.

    Others may be there: whatever announces itself on this machine is found.
    """
    deadline = time.monotonic() + READY_S_MAX
    while True:
        devices = [one for one in (await hub.ask("GET", "/v1/devices"))["items"] if one["address"] in addresses]
        for one in devices:
            if not one["active"]:
                await hub.ask("POST", f"/v1/devices/{one['id']}/activate")
        if sum(one["state"] == "ready" for one in devices) == len(addresses):
            return {one["address"]: one["id"] for one in devices}
        if time.monotonic() > deadline:
            left = {one["name"]: one["problem"] or one["state"] for one in devices if one["state"] != "ready"}
            raise BenchError(f"of {len(addresses)} devices {left} are not ready: {hub.log.read_text('utf-8')[-1000:]}")
        await asyncio.sleep(LOOK_S)


async def drained(hub: WholeHub) -> None:
    """Return once the cloud has confirmed every entry."""
    deadline = time.monotonic() + DRAINED_S_MAX
    while (waiting := (await hub.ask("GET", "/v1/sync"))["waiting"]) > 0:
        if time.monotonic() > deadline:
            raise BenchError(f"{waiting} entries wait for the cloud: {hub.log.read_text('utf-8')[-1000:]}")
        await asyncio.sleep(LOOK_S)
