"""Acknowledged payments a second through the hub's writer, against the raw limit and other durable queues.

Run by `python -m bench.queue_throughput [--full] [--record]`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import asdict

from bench.command import Options, main
from bench.machine import FLASH_FSYNC_MS, directory, environment, native, run_self
from bench.measure import Rate, Report, Target, at_least, closed_loop, median_rate, table
from bench.peers import QUEUES
from bench.shop import shop

CLIENTS = (1, 16, 128)
RAW = "raw C, group commit"
CASH = "hubd, cash payment"
CARD = "hubd, card intent in an outage, policy decides"
ONE_COMMIT, PERSIST = "aiosqlite, one commit per request", "persist-queue SQLiteAckQueue"
RECORD_BYTES = 700
NOT_SYNCED = frozenset({"litequeue (not synced)"})

Key = tuple[str, int, int]
"""Variant, clients, added milliseconds of a flush."""


async def one(variant: str, clients: int, seconds: float) -> Rate:
    """One closed loop in this process; LD_PRELOAD has decided how slow a flush is."""
    with directory() as place:
        if variant in QUEUES:
            return await QUEUES[variant](place, clients, seconds)
        async with shop(place) as made:
            return await closed_loop(made.cash if variant == CASH else made.card_in_outage, clients, seconds)


def raw(clients: int, seconds: float, fsync_ms: int) -> Rate:
    with directory() as place:
        command = [str(native("group_commit")), str(place), str(clients), str(seconds), str(RECORD_BYTES)]
        done = subprocess.run(command, env=environment(fsync_ms), capture_output=True, text=True, check=True)
    per_s, p50_us, p99_us, _ = map(float, done.stdout.split())
    return Rate(per_s, p50_us / 1e3, p99_us / 1e3)


def measure(options: Options) -> dict[Key, Rate]:
    """All variants in turn, round after round, so that a busy moment of the machine hits them all."""
    found: dict[Key, list[Rate]] = {}
    for _ in range(options.rounds(3, 7)):
        for fsync_ms in (0, FLASH_FSYNC_MS):
            seconds = options.seconds(1.0, 3.0) * (2 if fsync_ms else 1)
            for variant in (RAW, CASH, CARD, *QUEUES):
                if fsync_ms and variant in NOT_SYNCED:
                    continue
                for clients in CLIENTS:
                    if variant == RAW:
                        rate = raw(clients, seconds, fsync_ms)
                    else:
                        answer = run_self("bench.queue_throughput", "one", variant, clients, seconds, fsync_ms=fsync_ms)
                        rate = Rate(**json.loads(answer))
                    found.setdefault((variant, clients, fsync_ms), []).append(rate)
    return {key: median_rate(rates) for key, rates in found.items()}


def report(options: Options) -> Report:
    found = measure(options)
    rows = []
    for fsync_ms in (0, FLASH_FSYNC_MS):
        for variant in (RAW, CASH, CARD, *QUEUES):
            rates = [found.get((variant, clients, fsync_ms)) for clients in CLIENTS]
            if any(rates):
                cells = [f"{rate.per_s:,.0f} ({rate.p50_ms:.2f} / {rate.p99_ms:.2f})" if rate else "" for rate in rates]
                rows.append((variant, "own" if not fsync_ms else f"+{fsync_ms} ms", *cells))
    head = ("writer", "flush", *(f"{clients} clients: a second (p50 / p99 ms)" for clients in CLIENTS))
    return Report(
        "queue_throughput",
        "Acknowledged payments a second, without HTTP",
        "Closed loop: every client waits until its record is on disk before it sends the next. Records have about "
        f"{RECORD_BYTES} bytes.\n\n" + table(head, rows),
        tuple(targets(found)),
    )


def targets(found: dict[Key, Rate]) -> list[Target]:
    def per_s(variant: str, clients: int, fsync_ms: int = 0) -> float:
        return found[variant, clients, fsync_ms].per_s

    made = [
        at_least(f"writer / raw C limit, {clients} clients", least, per_s(CASH, clients) / per_s(RAW, clients))
        for clients, least in ((1, 0.40), (16, 0.60), (128, 0.45))
    ]
    made += [
        at_least(f"writer / persist-queue, {clients} clients", least, per_s(CASH, clients) / per_s(PERSIST, clients))
        for clients, least in ((16, 3.5), (128, 5.0))
    ]
    for clients, least in ((16, 0.92), (128, 0.75)):
        # A flush takes the added time and what the disk itself takes: what one client of the raw log reaches.
        flushes = per_s(RAW, 1, FLASH_FSYNC_MS)
        share = per_s(CASH, clients, FLASH_FSYNC_MS) / (clients * flushes)
        made.append(
            at_least(f"writer at {FLASH_FSYNC_MS} ms, share of clients ÷ flush, {clients} clients", least, share)
        )
    return made


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        print(json.dumps(asdict(asyncio.run(one(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))))))
    else:
        main(report)
