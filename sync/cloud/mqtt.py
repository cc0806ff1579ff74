"""The reference cloud behind a real broker: many hubs, shared among workers by the shard in the topic."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiomqtt

from hubd.runtime import Clock, Runtime
from sync.cloud import dynsec
from sync.cloud.cloud import ReferenceCloud
from sync.cloud.credentials import LIFETIME_S, BrokerCredentials
from sync.cloud.storage import CloudStorage
from sync.cloud.topics import PREFIX, hub_of

log = logging.getLogger(__name__)

RECONNECT_S = 0.5
SETTLE_EVERY_S = 1.0
TURN_MAX = 64
"""Frames that share one transaction, at most."""
TURN_BYTES_MAX = 40_000
"""A turn ends beyond so many bytes, about five batches: a hub that drains waits with a full window for the confirmation
of the first, and what is sent at once comes at once."""
UNACKNOWLEDGED_MAX = 64
ALL_SHARDS = ("+",)


@dataclass(frozen=True, slots=True)
class CloudBroker:
    """How the cloud's worker reaches its broker."""

    host: str
    port: int
    username: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    client_id: str = "hubd-cloud"
    shards: tuple[str, ...] = ALL_SHARDS
    """Two hex digits each; all by default."""


class CloudWorker:
    """Serves the hubs of its shards for ever."""

    def __init__(self, cloud: ReferenceCloud, broker: CloudBroker, clock: Clock) -> None:
        self._cloud = cloud
        self._broker = broker
        self._clock = clock
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled; a lost broker is connected to again."""
        while True:
            try:
                async with self._client() as client:
                    for shard in self._broker.shards:
                        await client.subscribe(f"{PREFIX}/+/{shard}/+/up", qos=1)
                    self.connected.set()
                    log.info("cloud.connected")
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._serve(client), name="cloud.serve")
                        group.create_task(self._settle(client), name="cloud.settle")
                        group.create_task(self._interpret(client), name="cloud.interpret")
            except* (aiomqtt.MqttError, OSError) as lost:
                log.warning("cloud.broker_lost", extra={"reason": str(lost.exceptions[0])})
            self.connected.clear()
            await self._clock.sleep(RECONNECT_S)

    def _client(self) -> aiomqtt.Client:
        client = aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            identifier=self._broker.client_id,
            username=self._broker.username or None,
            password=self._broker.password or None,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            keepalive=15,
            timeout=10,
            max_inflight_messages=UNACKNOWLEDGED_MAX,
            max_queued_outgoing_messages=0,
            tls_context=self._broker.tls,
            socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
        )
        client.pending_calls_threshold = 4 * UNACKNOWLEDGED_MAX
        return client

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Take what has come, commit it in one transaction, then publish the answers."""
        messages = client.messages
        async for message in messages:
            frames = _frames([message])
            while len(messages) and len(frames) < TURN_MAX and sum(len(raw) for _, raw in frames) < TURN_BYTES_MAX:
                frames += _frames([await anext(messages)])
            await self._publish(client, await self._cloud.receive(frames))
            await self._publish(client, await self._cloud.settle())

    async def _settle(self, client: aiomqtt.Client) -> None:
        while True:
            await self._clock.sleep(SETTLE_EVERY_S)
            await self._publish(client, await self._cloud.settle())

    async def _interpret(self, client: aiomqtt.Client) -> None:
        while True:
            await self._publish(client, await self._cloud.interpret(lambda: len(client.messages) > 0))
            await self._publish(client, await self._cloud.settle())

    async def _publish(self, client: aiomqtt.Client, frames: Sequence[tuple[bytes, bytes]]) -> None:
        """All at once, in order; an answer that gets lost is asked for again by the hub."""
        async with asyncio.TaskGroup() as group:
            for hub, frame in frames:
                topic = await self._topic(hub)
                group.create_task(_publish_one(client, topic, frame), name="cloud.publish")

    async def _topic(self, hub: bytes) -> str:
        return await self._cloud.down_topic(hub)


async def _publish_one(client: aiomqtt.Client, topic: str, frame: bytes) -> None:
    await client.publish(topic, frame, qos=1)


def _frames(messages: Sequence[aiomqtt.Message]) -> list[tuple[bytes, bytes]]:
    found = []
    for message in messages:
        hub = hub_of(str(message.topic))
        if hub is not None and isinstance(message.payload, bytes):
            found.append((hub, message.payload))
    return found


def _forget(hub: bytes, storage: CloudStorage) -> None:
    storage.shut_out(hub)


class DynsecIssuer:
    """Lets hubs into a mosquitto with the dynamic-security plugin, for an hour at a time; `run` ends what expired.

    Renewal gives a new password and closes the old connection, so a stolen password is worth at most its lifetime.
    """

    def __init__(
        self, broker: CloudBroker, runtime: Runtime, cloud: ReferenceCloud, lifetime_s: int = LIFETIME_S
    ) -> None:
        self._broker = broker
        self._clock = runtime.clock
        self._ids = runtime.ids
        self._cloud = cloud
        self._lifetime_s = lifetime_s
        self._one_at_a_time = asyncio.Lock()
        self._deciding = asyncio.Lock()
        """Who renews while the old credentials are being ended must not lose the new ones."""

    async def issue(self, tenant: str, hub: bytes) -> BrokerCredentials:
        """Fresh credentials for one hub's own topics."""
        password = self._ids.token_bytes(24).hex()
        expires_us = self._clock.now_us() + self._lifetime_s * 1_000_000
        async with self._deciding:
            # Before the broker hears of it: credentials that nobody would end must not exist, not even after a crash.
            await self._cloud.read(lambda storage: storage.let_in_until(hub, expires_us))
            await self.command(dynsec.let_in(tenant, hub, password))
        return BrokerCredentials(hub.hex(), password, expires_us)

    async def run(self) -> None:
        """Shut out hubs whose credentials have expired; they come back by renewing."""
        while True:
            await self.end_expired()
            await self._clock.sleep(min(30.0, self._lifetime_s / 2))

    async def end_expired(self) -> None:
        """Once: also what a cloud let in that has ended since."""
        async with self._deciding:
            now_us = self._clock.now_us()
            for hub in await self._cloud.read(lambda storage: storage.let_in_over(now_us)):
                try:
                    await self.command(dynsec.shut_out(hub))
                except OSError as exc:
                    log.warning("cloud.broker_lost", extra={"reason": str(exc)})
                    return
                await self._cloud.read(partial(_forget, hub))

    async def command(self, commands: list[dict[str, Any]]) -> None:
        """Say it on the control topic and wait for the broker's answer."""
        try:
            async with self._one_at_a_time, self._clock.timeout(10), self._client() as client:
                await client.subscribe(dynsec.RESPONSE_TOPIC, qos=1)
                await client.publish(dynsec.CONTROL_TOPIC, json.dumps({"commands": commands}), qos=1)
                async for message in client.messages:
                    wrong = dynsec.failures(json.loads(bytes(message.payload)))
                    if wrong:
                        raise OSError("; ".join(wrong))
                    return
        except aiomqtt.MqttError as exc:
            raise ConnectionError(str(exc)) from exc

    def _client(self) -> aiomqtt.Client:
        return aiomqtt.Client(
            self._broker.host,
            self._broker.port,
            identifier=f"{self._broker.client_id}-credentials",
            username=self._broker.username or None,
            password=self._broker.password or None,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            tls_context=self._broker.tls,
        )
