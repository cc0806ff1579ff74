"""The link to the cloud over a real broker. Only transport: nothing the broker says is proof of anything.

aiomqtt acknowledges a message when it is queued, and a client that is entered again delivers what an earlier
connection left behind. So each connection gets a client of its own, the session is clean, the incoming queue is
unbounded (our own limits bound the work), and every publication is raced against the loss of the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiomqtt
from msgspec import Struct

from hubd.cloud_ports import LinkAddress

log = logging.getLogger(__name__)

KEEPALIVE_S = 15
OPERATION_TIMEOUT_S = 10.0
UNACKNOWLEDGED_MAX = 16
"""Messages handed to the broker whose acknowledgement has not come: then `send` waits."""
NODELAY: Sequence[tuple[int, int, int]] = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


class BrokerAddress(Struct, frozen=True):
    """Where the broker is. `tls` None: without, for a broker on this machine only."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


class MqttSession:
    """One connection."""

    def __init__(self, client: aiomqtt.Client, group: asyncio.TaskGroup, address: LinkAddress) -> None:
        self._client = client
        self._group = group
        self._address = address
        self._lost = False
        self._changed = asyncio.Event()
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._publications: set[asyncio.Task[None]] = set()

    async def send(self, payload: bytes) -> None:
        """Hand one message to the transport, in order. Waits while too many are unacknowledged; OSError when lost."""
        while len(self._publications) >= UNACKNOWLEDGED_MAX and not self._lost:
            self._changed.clear()
            await self._changed.wait()
        if self._lost:
            raise ConnectionResetError("the connection to the broker is lost")
        task = self._group.create_task(self._publish(payload), name="mqtt.publish")
        self._publications.add(task)
        task.add_done_callback(self._published)

    async def subscribe(self) -> None:
        """Ask for topic `down`; a broker that does not answer ends the connection."""
        try:
            await self._client.subscribe(self._address.topic("down"), qos=1)
        except aiomqtt.MqttError as exc:
            self.lose(str(exc))

    async def announce(self, state: bytes) -> None:
        """Leave our state on topic `state`."""
        try:
            await self._client.publish(self._address.topic("state"), state, qos=1, retain=True)
        except aiomqtt.MqttError as exc:
            self.lose(str(exc))

    def _published(self, task: asyncio.Task[None]) -> None:
        self._publications.discard(task)
        self._changed.set()

    async def _publish(self, payload: bytes) -> None:
        try:
            await self._client.publish(self._address.topic("up"), payload, qos=1, timeout=OPERATION_TIMEOUT_S)
        except aiomqtt.MqttError as exc:
            self.lose(str(exc))

    def lose(self, reason: str) -> None:
        """The connection is gone: everybody who waits for it hears so."""
        if not self._lost:
            log.info("mqtt.lost", extra={"reason": reason})
            self._lost = True
            self._changed.set()
            self._inbox.put_nowait(None)

    def stop_publishing(self) -> None:
        """What is not acknowledged now never will be on this connection; the cursor knows it."""
        for task in list(self._publications):
            task.cancel()

    async def hear(self) -> None:
        """Carry incoming messages until the connection is lost."""
        try:
            async for message in self._client.messages:
                if isinstance(message.payload, bytes):
                    self._inbox.put_nowait(message.payload)
        except aiomqtt.MqttError as exc:
            self.lose(str(exc))

    async def messages(self) -> AsyncIterator[bytes]:
        """Messages of topic `down` until the connection is lost."""
        while (payload := await self._inbox.get()) is not None:
            yield payload
        raise ConnectionResetError("the connection to the broker is lost")


class MqttLink:
    """Implements `hubd.ports.CloudLink`."""

    def __init__(self, broker: BrokerAddress) -> None:
        self._broker = broker
        self._connections = 0

    @asynccontextmanager
    async def connect(self, address: LinkAddress) -> AsyncIterator[MqttSession]:
        """A fresh connection, subscribed, with its state announced. Raises OSError when it cannot be made."""
        self._connections += 1
        client = self._client(address, self._connections)
        try:
            await client.__aenter__()
        except aiomqtt.MqttError as exc:
            raise ConnectionRefusedError(f"the broker does not accept the connection: {exc}") from exc
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as group:
                session = MqttSession(client, group, address)
                # Begun in this order and not awaited: a broker takes what comes over one connection in order, so what
                # is sent next finds the subscription made. On a long line each wait would cost its round trip.
                own = [
                    group.create_task(session.subscribe(), name="mqtt.subscribe"),
                    group.create_task(session.announce(_state(self._connections, True)), name="mqtt.state"),
                    group.create_task(session.hear(), name="mqtt.hear"),
                ]
                try:
                    yield session
                except Exception as exc:  # noqa: BLE001 - raised again below, outside the group and as what it is
                    failure = exc
                for task in own:
                    task.cancel()
                session.stop_publishing()
        except aiomqtt.MqttError as exc:
            raise ConnectionResetError(f"the broker ended the connection: {exc}") from exc
        finally:
            await _leave(client)
        if failure is not None:
            raise failure

    def _client(self, address: LinkAddress, number: int) -> aiomqtt.Client:
        client = aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            identifier=address.client_id,
            username=address.username or None,
            password=address.password or None,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            keepalive=KEEPALIVE_S,
            timeout=OPERATION_TIMEOUT_S,
            max_inflight_messages=UNACKNOWLEDGED_MAX,
            max_queued_outgoing_messages=0,
            tls_context=self._broker.tls,
            socket_options=NODELAY,
            will=aiomqtt.Will(address.topic("state"), _state(number, False), qos=1, retain=True),
        )
        client.pending_calls_threshold = 4 * UNACKNOWLEDGED_MAX
        return client


def _state(connection: int, online: bool) -> bytes:
    """Retained on topic `state`; readers ignore a lower connection number, for a will may come late."""
    return json.dumps({"connection": connection, "online": online}, separators=(",", ":")).encode("ascii")


async def _leave(client: aiomqtt.Client) -> None:
    try:
        await client.__aexit__(None, None, None)
    except aiomqtt.MqttError as exc:
        log.debug("mqtt.leave_failed", extra={"reason": str(exc)})
