"""The reference cloud in the hub's own process: a CloudLink made of queues, for the demo and the simulation.

Bytes travel as over a broker: every connection of a hub hears all of its topic `down`, nothing is remembered for one
that is away, and a connection can be cut. `Wire` decides what becomes of each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from hubd.cloud_ports import LinkAddress
from hubd.runtime import Clock
from sync.cloud.cloud import ReferenceCloud

INBOX_MAX = 10_000
SETTLE_EVERY_S = 1.0


class Wire(Protocol):
    """What happens on the way: loss, delay, duplication, reordering."""

    def plan(self, direction: str, payload: bytes) -> Sequence[float]:
        """Delays in seconds after which a copy of the message arrives; none: it is lost. `direction`: up or down."""
        ...


class PerfectWire:
    """Everything arrives, at once."""

    def plan(self, direction: str, payload: bytes) -> Sequence[float]:
        """One copy, without delay."""
        return (0.0,)


class InProcessSession:
    """One connection of one hub."""

    def __init__(self, broker: InProcessCloud, address: LinkAddress) -> None:
        self.address = address
        self.hub = bytes.fromhex(address.hub_id)
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue(INBOX_MAX)
        self.open = True
        self._broker = broker

    async def send(self, payload: bytes) -> None:
        """Hand one message to the cloud."""
        if not self.open:
            raise ConnectionResetError("the connection is cut")
        self._broker.carry("up", self, payload)

    async def messages(self) -> AsyncIterator[bytes]:
        """Messages of topic `down` until the connection is cut."""
        while True:
            payload = await self.inbox.get()
            if payload is None or not self.open:
                return
            yield payload

    def cut(self) -> None:
        """End the connection; both ends notice."""
        self.open = False
        if self.inbox.full():
            self.inbox.get_nowait()
        self.inbox.put_nowait(None)

    def deliver(self, payload: bytes) -> None:
        """A message has arrived; one that finds the inbox full ends the connection, because nothing is left out."""
        if self.open and self.inbox.full():
            self.cut()
        elif self.open:
            self.inbox.put_nowait(payload)


class InProcessCloud:
    """Broker and cloud application in one. `run` must be running for anything to be answered."""

    def __init__(self, cloud: ReferenceCloud, clock: Clock, wire: Wire | None = None) -> None:
        self.cloud = cloud
        self.wire = wire or PerfectWire()
        self.reachable = True
        """Whether the broker accepts connections: the network is there."""
        self.answering = True
        """Whether the cloud application works: a broker that accepts is not a cloud that answers."""
        self._clock = clock
        self._sessions: list[InProcessSession] = []
        self._inbox: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue(INBOX_MAX)
        self._due = asyncio.Event()
        self._carrying: list[tuple[float, int, str, InProcessSession, bytes]] = []
        self._count = 0

    @asynccontextmanager
    async def connect(self, address: LinkAddress) -> AsyncIterator[InProcessSession]:
        """A fresh connection; a second one with the same client id ends the first, as at a broker."""
        if not self.reachable:
            raise ConnectionRefusedError("no way to the broker")
        for other in [s for s in self._sessions if s.address.client_id == address.client_id]:
            other.cut()
        session = InProcessSession(self, address)
        self._sessions.append(session)
        try:
            yield session
        finally:
            session.open = False
            self._sessions.remove(session)

    def cut(self) -> None:
        """Cut every connection; hubs may connect again while `reachable`."""
        for session in list(self._sessions):
            session.cut()

    @property
    def connection_count(self) -> int:
        """Connections that are open."""
        return sum(1 for session in self._sessions if session.open)

    def carry(self, direction: str, session: InProcessSession, payload: bytes) -> None:
        """Put copies of a message on their way, as the wire decides."""
        now = self._clock.monotonic()
        for delay_s in self.wire.plan(direction, payload):
            if delay_s <= 0:
                self._arrive(direction, session, payload)
            else:
                self._count += 1
                self._carrying.append((now + delay_s, self._count, direction, session, payload))
                self._due.set()

    def _arrive(self, direction: str, session: InProcessSession, payload: bytes) -> None:
        if direction == "down":
            session.deliver(payload)
        elif not self._inbox.full():
            # QoS 1 holds between client and broker; what a full cloud does not take, the hub sends again.
            self._inbox.put_nowait((session.hub, payload))

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve(), name="cloud.serve")
            group.create_task(self._carry_late(), name="cloud.wire")
            group.create_task(self._settle(), name="cloud.settle")
            group.create_task(self._interpret(), name="cloud.interpret")

    def publish(self, frames: Sequence[tuple[bytes, bytes]]) -> None:
        """Put frames on the hubs' topics `down`: every connection of a hub hears them."""
        for hub, frame in frames:
            for session in list(self._sessions):
                if session.hub == hub and session.open:
                    self.carry("down", session, frame)

    async def _serve(self) -> None:
        while True:
            frames = [await self._inbox.get()]
            while not self._inbox.empty():
                frames.append(self._inbox.get_nowait())
            if self.answering:
                self.publish(await self.cloud.receive(frames))
                self.publish(await self.cloud.settle())

    async def _settle(self) -> None:
        """Ask again for verdicts that were not known at once."""
        while True:
            await self._clock.sleep(SETTLE_EVERY_S)
            if self.answering:
                self.publish(await self.cloud.settle())

    async def _interpret(self) -> None:
        """Understand what was only stored so far; it goes on where a stopped cloud has left off."""
        while True:
            if not self.answering:
                await self._clock.sleep(SETTLE_EVERY_S)
                continue
            self.publish(await self.cloud.interpret(lambda: not self._inbox.empty()))
            self.publish(await self.cloud.settle())

    async def _carry_late(self) -> None:
        while True:
            self._due.clear()
            now = self._clock.monotonic()
            self._carrying.sort(key=lambda item: item[:2])
            while self._carrying and self._carrying[0][0] <= now:
                _, _, direction, session, payload = self._carrying.pop(0)
                self._arrive(direction, session, payload)
            if not self._carrying:
                await self._due.wait()
                continue
            try:
                async with self._clock.timeout(self._carrying[0][0] - now):
                    await self._due.wait()
            except TimeoutError:
                continue
