"""How fast a backlog leaves for a cloud that commits before it confirms, over a link with 50 ms round trip.

Run by `python -m bench.drain [--full] [--record]`; quick drains 10,000 entries, full a million too.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiomqtt

from bench.command import Options, main
from bench.delay import Line, delayed
from bench.depth import fill
from bench.machine import BenchError, answers, child, directory, free_port, program
from bench.measure import Report, Target, at_least, at_most, percentile, table
from bench.peers import record
from bench.shop import LOCATION, Shop, shop
from hubd.demo.cloud import DemoAddress, enrol
from sync.cloud.cloud import ReferenceCloud
from sync.cloud.keys import load_or_create_keys
from sync.cloud.settlement import TestAmountAcquirer
from sync.cloud.store import ThreadRunner
from sync.codec import Limits
from sync.link_worker import CloudSync
from sync.mqtt import BrokerAddress, MqttLink

ROUND_TRIP_S = 0.050
WINDOW = 20
PEER_RECORDS = 2_000
PROBE_PAUSE_S = 0.05
LOOK_PAUSE_S = 0.004
MEMORY = Path("/dev/shm")
DRAIN_S_MAX = 900.0


@dataclass
class Drained:
    """One drain, from the moment the service was back."""

    seconds: float
    first_confirm_s: float
    flow: float
    """Entries a second between the first confirmation and the last."""
    bytes_an_entry: float
    payments_ms: list[float]


def broker_command(place: Path, port: int) -> list[str]:
    """Runs a mosquitto that keeps nothing and waits for nobody."""
    file = place / "mosquitto.conf"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 0\n")
    return [program("mosquitto", "mosquitto"), "-c", str(file)]


@asynccontextmanager
async def broker(place: Path, port: int = 0) -> AsyncIterator[int]:
    """The port of such a broker, any free one unless it is given."""
    port = port or free_port()
    async with child(broker_command(place, port)) as process:
        await answers(port, process)
        yield port


async def enrolled(made: Shop, folder: Path) -> None:
    """Bind the hub to a cloud whose data lie in `folder`, before that cloud runs."""
    keys = load_or_create_keys(folder, made.runtime.ids.token_bytes)
    cloud = ReferenceCloud(ThreadRunner(folder / "cloud.db"), keys, made.runtime, TestAmountAcquirer())
    try:
        await enrol(made.services.db, cloud, made.signer, made.runtime, LOCATION)
    finally:
        await cloud.close()


@asynccontextmanager
async def cloud_process(folder: Path, broker_port: int, *more: str) -> AsyncIterator[int]:
    """The reference cloud as a program of its own beside the broker: its HTTP port."""
    http_port = free_port()
    words = ("--data", str(folder), "--broker", f"127.0.0.1:{broker_port}", "--http-port", str(http_port), *more)
    async with child([sys.executable, "-m", "sync.cloud", *words], output=folder / "cloud.log") as process:
        await answers(http_port, process)
        yield http_port


async def idle_payments_ms(made: Shop) -> list[float]:
    took = []
    for number in range(60):
        await asyncio.sleep(PROBE_PAUSE_S)
        begun = time.perf_counter()
        await made.cash(number)
        took.append((time.perf_counter() - begun) * 1e3)
    return took


async def drain(made: Shop, sync: CloudSync, line: Line) -> Drained:
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

    begun, first, first_seq = time.perf_counter(), 0.0, 0
    before = line.up_bytes()
    async with asyncio.TaskGroup() as group:
        talking, paying = group.create_task(sync.run()), group.create_task(pay())
        while sync.status.confirmed_seq < head:
            await asyncio.sleep(LOOK_PAUSE_S)
            if not first and sync.status.confirmed_seq > 0:
                first, first_seq = time.perf_counter() - begun, sync.status.confirmed_seq
            if time.perf_counter() - begun > DRAIN_S_MAX:
                raise BenchError(f"confirmed {sync.status.confirmed_seq} of {head} within {DRAIN_S_MAX:.0f} s")
        took = time.perf_counter() - begun
        talking.cancel()
        paying.cancel()
    flow = (head - first_seq) / (took - first) if first_seq < head else 0.0
    return Drained(took, first, flow, (line.up_bytes() - before) / head, paid)


async def hub(entries: int, place: Path, folder: Path) -> tuple[Drained, list[float]]:
    """One drain of a hub whose store lies in `place` to a cloud whose data lie in `folder`."""
    async with shop(place) as made:
        await fill(made, entries)
        idle = await idle_payments_ms(made)
        await enrolled(made, folder)
        address = DemoAddress(made.runtime)
        address.known(made.signer.hub_id.hex())
        async with broker(place) as port, cloud_process(folder, port), delayed(port, ROUND_TRIP_S, place) as line:
            link = MqttLink(BrokerAddress("127.0.0.1", line.port))
            return await drain(made, CloudSync(made.services.db, made.runtime, made.signer, link, address), line), idle


async def one_message_a_record(place: Path) -> float:
    """Records a second of aiomqtt with QoS 1 and a window: the broker's word only."""
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    async with (
        broker(place) as port,
        delayed(port, ROUND_TRIP_S, place) as line,
        aiomqtt.Client("127.0.0.1", line.port, socket_options=options, max_inflight_messages=WINDOW) as client,
    ):
        client.pending_calls_threshold = WINDOW
        window = asyncio.Semaphore(WINDOW)

        async def publish(number: int) -> None:
            async with window:
                await client.publish("up", record(number), qos=1)

        begun = time.perf_counter()
        await asyncio.gather(*(publish(number) for number in range(PEER_RECORDS)))
        return PEER_RECORDS / (time.perf_counter() - begun)


def apart(entries: int) -> Sequence[object]:
    """The same with the cloud's data off the hub's disk: not a result, for its commits cost no flush, but the control
    that tells what a payment waits for meanwhile.
    """
    with directory() as place, tempfile.TemporaryDirectory(prefix="hubd-bench-", dir=MEMORY) as folder:
        one, idle = asyncio.run(hub(entries, place, Path(folder)))
    busy, at_rest = percentile(one.payments_ms, 0.5), statistics.median(idle)
    name = f"control: hubd, {entries:,} entries, the cloud's data in memory"
    return name, one.seconds, entries / one.seconds, one.flow, one.bytes_an_entry, one.first_confirm_s, busy, at_rest


def report(options: Options) -> Report:
    sizes = (10_000, 1_000_000) if options.full else (10_000,)
    rows: list[Sequence[object]] = []
    targets: list[Target] = []
    for entries in sizes:
        drains, peers, idles = [], [], []
        for _ in range(options.rounds(3, 3) if entries == sizes[0] else 1):
            with directory() as place:
                (place / "cloud").mkdir()
                drained, idle = asyncio.run(hub(entries, place, place / "cloud"))
                peers.append(asyncio.run(one_message_a_record(place)))
            drains.append(drained)
            idles += idle
        seconds = statistics.median(one.seconds for one in drains)
        first = statistics.median(one.first_confirm_s for one in drains)
        wire = statistics.median(one.bytes_an_entry for one in drains)
        flow = statistics.median(one.flow for one in drains)
        busy = percentile([took for one in drains for took in one.payments_ms], 0.5)
        at_rest, peer = statistics.median(idles), statistics.median(peers)
        rows.append((f"hubd, {entries:,} entries", seconds, entries / seconds, flow, wire, first, busy, at_rest))
        rows.append((f"aiomqtt, one message a record, window {WINDOW}", entries / peer, peer, "", "", "", "", ""))
        targets += _targets(entries, seconds, flow, peer, wire, first, busy / at_rest)
    rows += [apart(sizes[0])] if MEMORY.is_dir() else []
    head = (
        "what",
        "s",
        "a second",
        "while it flows",
        "bytes an entry",
        "first confirmed, s",
        "payment meanwhile, ms",
        "at rest, ms",
    )
    text = (
        f"{ROUND_TRIP_S * 1e3:.0f} ms round trip between hub and mosquitto, through a proxy that delays and does "
        "nothing else. The reference cloud is a process of its own beside the broker; it checks signature and chain "
        "and commits to its own SQLite file before it confirms. The time counts from when service is back, so it "
        "has the four round trips of connection, hellos and first batch in it; what flows is counted from the first "
        "confirmation to the last. The peer's records are counted as delivered when the broker has them, through "
        "the same proxy. Hub, proxy, broker and cloud share the cores and the disk of one machine, so a payment "
        "meanwhile waits for its flush behind the cloud's; the control takes the cloud off that disk.\n\n"
    )
    return Report("drain", "After an outage", text + table(head, rows), tuple(targets))


def _targets(
    entries: int, seconds: float, flow: float, peer: float, wire: float, first: float, slower: float
) -> list[Target]:
    bound = Limits().batch_entries * Limits().in_flight / ROUND_TRIP_S
    return [
        at_most(f"{entries:,} entries", 1.0 if entries <= 10_000 else 90.0, seconds, " s"),
        at_least(f"{entries:,} entries, / aiomqtt with window {WINDOW}", 50.0, entries / seconds / peer),
        at_least(f"{entries:,} entries, share of in flight ÷ round trip, while it flows", 0.65, flow / bound, ""),
        at_most(f"{entries:,} entries, bytes an entry on the wire", 150.0, wire, ""),
        at_most(f"{entries:,} entries, service back to the first confirmed entry", 1.0, first, " s"),
        at_most(f"{entries:,} entries, payment meanwhile / at rest", 1.3, slower),
    ]


if __name__ == "__main__":
    main(report)
