"""How fast a backlog leaves for a cloud that commits before it confirms, over a link with 50 ms round trip.

Run by `python -m bench.drain [--full] [--record]`; quick drains 10,000 entries, full a million too.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiomqtt

from bench.command import Options, main
from bench.delay import delayed
from bench.depth import fill
from bench.machine import BenchError, answers, child, directory, free_port, program
from bench.measure import Report, Target, at_least, at_most, percentile, table
from bench.peers import record
from bench.shop import LOCATION, Shop, shop
from hubd.demo.cloud import DemoAddress, enrol
from sync.cloud.cloud import ReferenceCloud
from sync.cloud.keys import load_or_create_keys
from sync.cloud.link import InProcessCloud
from sync.cloud.settlement import TestAmountAcquirer
from sync.cloud.store import ThreadRunner
from sync.codec import Limits
from sync.link_worker import CloudSync

ROUND_TRIP_S = 0.050
WINDOW = 20
PEER_RECORDS = 2_000
PROBE_PAUSE_S = 0.05
DRAIN_S_MAX = 900.0


@dataclass
class CountingWire:
    """The line between hub and cloud: half the round trip each way, and how much has gone up."""

    up_bytes: int = 0
    first_down: float = 0.0

    def plan(self, direction: str, payload: bytes) -> Sequence[float]:
        if direction == "up":
            self.up_bytes += len(payload)
        return (ROUND_TRIP_S / 2,)


@dataclass
class Drained:
    """One drain, from the moment the service was back."""

    seconds: float
    first_confirm_s: float
    bytes_an_entry: float
    payment_ms: float


@asynccontextmanager
async def cloud_for(made: Shop, place: Path, wire: CountingWire) -> AsyncIterator[CloudSync]:
    """The reference cloud with a ledger on disk, and the hub's side of the conversation, not yet running."""
    keys = load_or_create_keys(place / "keys", made.runtime.ids.token_bytes)
    cloud = ReferenceCloud(ThreadRunner(place / "cloud.db"), keys, made.runtime, TestAmountAcquirer())
    try:
        link = InProcessCloud(cloud, made.runtime.clock, wire)
        await enrol(made.services.db, cloud, made.signer, made.runtime, LOCATION)
        address = DemoAddress(made.runtime)
        address.known(made.signer.hub_id.hex())
        async with asyncio.TaskGroup() as group:
            running = group.create_task(link.run())
            yield CloudSync(made.services.db, made.runtime, made.signer, link, address)
            running.cancel()
    finally:
        await cloud.close()


async def idle_payment_ms(made: Shop) -> float:
    took = []
    for number in range(60):
        await asyncio.sleep(PROBE_PAUSE_S / 5)
        begun = time.perf_counter()
        await made.cash(number)
        took.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(took)


async def drain(made: Shop, sync: CloudSync, wire: CountingWire) -> Drained:
    """Let the conversation begin and wait until the cloud has confirmed what was there; a till pays meanwhile."""
    head = made.services.db.head.seq
    paid: list[float] = []

    async def pay() -> None:
        number = 0
        while True:
            await asyncio.sleep(PROBE_PAUSE_S)
            begun = time.perf_counter()
            await made.cash(number := number + 1)
            paid.append((time.perf_counter() - begun) * 1e3)

    begun, first = time.perf_counter(), 0.0
    before = wire.up_bytes
    async with asyncio.TaskGroup() as group:
        talking, paying = group.create_task(sync.run()), group.create_task(pay())
        while sync.status.confirmed_seq < head:
            await asyncio.sleep(0.002)
            if not first and sync.status.confirmed_seq > 0:
                first = time.perf_counter() - begun
            if time.perf_counter() - begun > DRAIN_S_MAX:
                raise BenchError(f"confirmed {sync.status.confirmed_seq} of {head} within {DRAIN_S_MAX:.0f} s")
        took = time.perf_counter() - begun
        talking.cancel()
        paying.cancel()
    return Drained(took, first, (wire.up_bytes - before) / head, percentile(paid, 0.5) if paid else 0.0)


async def hub(entries: int, place: Path) -> tuple[Drained, float]:
    async with shop(place) as made:
        wire = CountingWire()
        await fill(made, entries)
        (place / "cloud").mkdir()
        idle = await idle_payment_ms(made)
        async with cloud_for(made, place / "cloud", wire) as sync:
            return await drain(made, sync, wire), idle


async def one_message_a_record(place: Path) -> float:
    """Records a second of aiomqtt with QoS 1 and a window: the broker's word only."""
    port = free_port()
    file = place / "mosquitto.conf"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\n")
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    async with child([program("mosquitto", "mosquitto"), "-c", str(file)]) as process:
        await answers(port, process)
        async with (
            delayed(port, ROUND_TRIP_S) as far,
            aiomqtt.Client("127.0.0.1", far, socket_options=options, max_inflight_messages=WINDOW) as client,
        ):
            window = asyncio.Semaphore(WINDOW)

            async def publish(number: int) -> None:
                async with window:
                    await client.publish("up", record(number), qos=1)

            begun = time.perf_counter()
            await asyncio.gather(*(publish(number) for number in range(PEER_RECORDS)))
            return PEER_RECORDS / (time.perf_counter() - begun)


def report(options: Options) -> Report:
    sizes = (10_000, 1_000_000) if options.full else (10_000,)
    rows: list[Sequence[object]] = []
    targets: list[Target] = []
    for entries in sizes:
        drains, peers, idles = [], [], []
        for _ in range(options.rounds(3, 3) if entries == sizes[0] else 1):
            with directory() as place:
                drained, idle = asyncio.run(hub(entries, place))
                peers.append(asyncio.run(one_message_a_record(place)))
            drains.append(drained)
            idles.append(idle)
        seconds = statistics.median(one.seconds for one in drains)
        first = statistics.median(one.first_confirm_s for one in drains)
        wire = statistics.median(one.bytes_an_entry for one in drains)
        busy, idle = statistics.median(one.payment_ms for one in drains), statistics.median(idles)
        peer = statistics.median(peers)
        rows.append((f"hubd, {entries:,} entries", seconds, entries / seconds, wire, first, busy, idle))
        rows.append((f"aiomqtt, one message a record, window {WINDOW}", entries / peer, peer, "", "", "", ""))
        targets += _targets(entries, seconds, peer, wire, first, busy / idle)
    head = ("what", "s", "a second", "bytes an entry", "first confirmed, s", "payment meanwhile, ms", "at rest, ms")
    text = (
        f"{ROUND_TRIP_S * 1e3:.0f} ms round trip. Hub and reference cloud share one process, its event loop and the "
        "machine; the cloud checks signature and chain and commits to its own SQLite file before it confirms. Their "
        "messages are signed and compressed as they are sent over MQTT, and travel through queues with that delay; the "
        "peer talks to mosquitto through a proxy with the same delay.\n\n"
    )
    return Report("drain", "After an outage", text + table(head, rows), tuple(targets))


def _targets(entries: int, seconds: float, peer: float, wire: float, first: float, slower: float) -> list[Target]:
    bound = Limits().batch_entries * Limits().in_flight / ROUND_TRIP_S
    return [
        at_most(f"{entries:,} entries", 1.0 if entries <= 10_000 else 90.0, seconds, " s"),
        at_least(f"{entries:,} entries, / aiomqtt with window {WINDOW}", 50.0, entries / seconds / peer),
        at_least(f"{entries:,} entries, share of in flight ÷ round trip", 0.65, entries / seconds / bound, ""),
        at_most(f"{entries:,} entries, bytes an entry on the wire", 150.0, wire, ""),
        at_most(f"{entries:,} entries, service back to the first confirmed entry", 1.0, first, " s"),
        at_most(f"{entries:,} entries, payment meanwhile / at rest", 1.3, slower),
    ]


if __name__ == "__main__":
    main(report)
