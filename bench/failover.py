"""How long after the death of a broker the backlog flows again: from its successor's first ear to the first entry.

Run by `python -m bench.failover [--full] [--record]`; quick kills five brokers, full twenty.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.command import Options, main
from bench.delay import delayed
from bench.depth import fill
from bench.drain import ROUND_TRIP_S, broker_command, cloud_process, enrolled
from bench.machine import BenchError, answers, child, directory, free_port
from bench.measure import Report, at_most, table
from bench.shop import Shop, shop
from hubd.demo.cloud import DemoAddress
from hubd.runtime import system_runtime
from sync.link_worker import CloudSync
from sync.mqtt import BrokerAddress, MqttLink

BETWEEN_KILLS = 3_000
"""Entries that are confirmed between two deaths."""
AWAY_S = 1.0
"""Nobody listens for so long: a supervisor starts the broker again, or another node takes its address over."""
LOOK_PAUSE_S = 0.004
WAIT_S_MAX = 60.0


class Node:
    """A broker with the line to it, as the hub sees it: one address, which dies with it and comes back with it."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.broker_port, self.port = free_port(), free_port()

    @asynccontextmanager
    async def living(self) -> AsyncIterator[float]:
        """Listens while the block runs, and is killed at its end without a word to anybody.

        Gives the moment from which it answers, before the line to it is there: the cloud reaches it without one.
        """
        async with child(broker_command(self._place, self.broker_port)) as process:
            await answers(self.broker_port, process)
            back = time.perf_counter()
            async with delayed(self.broker_port, ROUND_TRIP_S, self._place, self.port) as line:
                try:
                    yield back
                finally:
                    process.send_signal(signal.SIGKILL)
                    line.process.send_signal(signal.SIGKILL)


async def confirmed(sync: CloudSync, seq: int) -> None:
    """Return once the cloud has confirmed this entry."""
    deadline = time.monotonic() + WAIT_S_MAX
    while sync.status.confirmed_seq < seq:
        if time.monotonic() > deadline:
            raise BenchError(f"confirmed {sync.status.confirmed_seq}, wanted {seq}: {sync.status.last_error}")
        await asyncio.sleep(LOOK_PAUSE_S)


async def one_death(made: Shop, node: Node, address: DemoAddress) -> float:
    """Let the backlog flow, kill the broker in the middle, and return how long after its return the next one came.

    As if the hub had started anew each time: after a long good connection, too, the pauses begin with the shortest.
    """
    link = MqttLink(BrokerAddress("127.0.0.1", node.port))
    sync = CloudSync(made.services.db, system_runtime(), made.signer, link, address)
    talking = asyncio.create_task(sync.run())
    try:
        async with node.living():
            await confirmed(sync, 1)
            await confirmed(sync, sync.status.confirmed_seq + BETWEEN_KILLS)
        await asyncio.sleep(AWAY_S)
        before = sync.status.confirmed_seq  # not at the death: what was on its way may have come since
        async with node.living() as back:
            await confirmed(sync, before + 1)
            return time.perf_counter() - back
    finally:
        talking.cancel()
        await asyncio.wait({talking})


async def measure(options: Options, place: Path) -> list[float]:
    deaths, cloud = options.rounds(5, 20), place / "cloud"
    cloud.mkdir()
    async with shop(place) as made:
        await fill(made, (deaths + 1) * 2 * BETWEEN_KILLS)
        await enrolled(made, cloud)
        address, node = DemoAddress(made.runtime), Node(place)
        address.known(made.signer.hub_id.hex())
        async with cloud_process(cloud, node.broker_port):
            return [await one_death(made, node, address) for _ in range(deaths)]


def report(options: Options) -> Report:
    with directory() as place:
        took = asyncio.run(measure(options, place))
    median = statistics.median(took)
    rows = [("median", median), ("quickest", min(took)), ("slowest", max(took))]
    text = (
        f"A broker is killed in the middle of a drain, {len(took)} times; for {AWAY_S:.0f} s its address refuses "
        "connections, then a new one listens that knows nothing. From its first answer to the first entry that the "
        "cloud confirms, the start of the line between hub and broker included. Hub and broker are "
        f"{ROUND_TRIP_S * 1e3:.0f} ms apart; hub and cloud both have to notice, wait and connect anew.\n\n"
    )
    return Report(
        "failover",
        "After the death of a broker",
        text + table(("from the new broker to the first confirmed entry", "s"), rows),
        (at_most("after a broker died: service back to the first confirmed entry", 2.0, median, " s"),),
    )


if __name__ == "__main__":
    main(report)
