"""The reference cloud's own HTTP address on a loopback port: where hubs enrol, renew and find statements.

async with cloud_door(world.cloud, clock, broker) as door:
    await enrolment.enrol(door.url, code, caller)
    assert door.asked == 1
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hubd.runtime import Clock
from local_api.gate import App, Receive, Scope, Send
from local_api.server import Door, DoorServer, tcp_sockets
from sync.cloud.backups import BackupShelf
from sync.cloud.cloud import ReferenceCloud
from sync.cloud.credentials import CredentialIssuer, OpenBroker
from sync.cloud.http import BrokerPlace, CloudHttp
from tests.rigs.broker import Broker
from tests.rigs.process import wait_until

START_S = 10.0
NOWHERE = BrokerPlace("127.0.0.1", 9, tls=False)
"""For tests that stop at enrolment: nothing listens there."""


@dataclass
class CloudDoor:
    """Where the cloud answers, and how often it was asked."""

    port: int
    asked: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def cloud_door(
    cloud: ReferenceCloud,
    clock: Clock,
    broker: Broker | None = None,
    issuer: CredentialIssuer | None = None,
    port: int = 0,
    shelf: BackupShelf | None = None,
) -> AsyncIterator[CloudDoor]:
    """Serve until the block ends; `port` is one that served before, for a cloud that comes back."""
    place = BrokerPlace(broker.host, broker.port, tls=False) if broker else NOWHERE
    app = CloudHttp(cloud, issuer or OpenBroker(), place, clock, shelf).app()
    (listening,) = tcp_sockets(["127.0.0.1"], port)
    with listening:
        opened = CloudDoor(listening.getsockname()[1])
        server = DoorServer(Door("cloud", _counted(app, opened), [listening]))
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run(), name="cloud door")
            try:
                await wait_until(lambda: server.started, START_S, "the cloud's door to open")
                yield opened
            finally:
                server.stop()


def _counted(app: App, door: CloudDoor) -> App:
    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        door.asked += 1
        await app(scope, receive, send)

    return counted
