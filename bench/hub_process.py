"""A hub in a process of its own: store, services and API on loopback, with TLS and without, as in the daemon.

`python -m bench.hub_process DIRECTORY HTTP_PORT HTTPS_PORT`. Devices, page and link to the cloud are left out: they
have benches of their own or nothing to do with these numbers.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import hubd
from bench.shop import shop
from hubd.main import without_collector
from hubd.supervisor import RestartPolicy
from local_api.app import create_api
from local_api.context import HubFacts
from local_api.gate import Listener
from local_api.server import Door, DoorServer, tcp_sockets
from local_api.tls import CertificateStore

LOOPBACK = ["127.0.0.1"]


async def serve(place: Path, http_port: int, https_port: int, started: Callable[[], None]) -> None:
    async with shop(place) as made:
        hub_id = made.signer.hub_id.hex()
        certificates = CertificateStore(place / "keys", hub_id, lambda: datetime.now(UTC), lambda: True)
        facts = HubFacts(hub_id, hubd.__version__, "00" * 32, lambda: [f"127.0.0.1:{https_port}"])
        api = create_api(made.services, facts)
        doors = [
            Door("loopback", api.app(Listener.LOOPBACK), tcp_sockets(LOOPBACK, http_port)),
            Door("https", api.app(Listener.TLS), tcp_sockets(LOOPBACK, https_port), certificates.context(LOOPBACK)),
        ]
        servers = [DoorServer(door) for door in doors]
        for server in servers:
            made.supervisor.start(f"server.{server.door.name}", server.run, RestartPolicy())
        stop = asyncio.Event()
        started()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        made.services.feed.stop()
        for server in servers:
            server.stop()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    (folder / "keys").mkdir(mode=0o700, exist_ok=True)
    with without_collector() as started:
        asyncio.run(serve(folder, int(sys.argv[2]), int(sys.argv[3]), started))
