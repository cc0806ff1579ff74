"""Whether a hub with a long backlog is as quick as one with a short one: nothing may grow with what waits.

Run by `python -m bench.depth [--full] [--record]`; quick measures 100,000 entries waiting, full a million.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from bench.command import Options, main
from bench.machine import directory
from bench.measure import Report, at_most, table
from bench.shop import Shop, shop
from hubd.store.payments import PaymentFilter
from sync.codec import Limits
from sync.sender import Sender

SHORT = 10_000
FILLED_AT_ONCE = 1_000
PAGE = 50
ACTS = ("payment", "claim of 100", "first page of the list", "first page of what is open")


async def fill(made: Shop, entries: int) -> None:
    """Cash payments until the journal has so many entries, none of them confirmed."""
    number = 0
    while (missing := entries - made.services.db.head.seq) > 0:
        await asyncio.gather(*(made.cash(number + i) for i in range(min(FILLED_AT_ONCE, missing))))
        number += FILLED_AT_ONCE


def acts(made: Shop) -> dict[str, Callable[[int], Awaitable[object]]]:
    sender, payments = Sender(made.services.db), made.services.payments
    limits = Limits(batch_entries=100)
    return {
        "payment": made.cash,
        "claim of 100": lambda number: sender.batches(number * 100 % 9_000, 1, limits),
        "first page of the list": lambda _: payments.page(PaymentFilter(), None, PAGE),
        "first page of what is open": lambda _: payments.page(PaymentFilter(open_only=True), None, PAGE),
    }


async def measure(options: Options, long: int, place: Path) -> dict[tuple[str, int], float]:
    """Medians in microseconds by act and length, the two stores in turn."""
    async with AsyncExitStack() as stack:
        stores = {}
        for entries in (SHORT, long):
            folder = place / str(entries)
            folder.mkdir()
            stores[entries] = acts(made := await stack.enter_async_context(shop(folder)))
            await fill(made, entries)
        took: dict[tuple[str, int], list[float]] = {}
        for number in range(options.rounds(300, 1_000)):
            for act in ACTS:
                for entries, all_acts in stores.items():
                    begun = time.perf_counter()
                    await all_acts[act](number)
                    took.setdefault((act, entries), []).append((time.perf_counter() - begun) * 1e6)
    return {key: statistics.median(values) for key, values in took.items()}


def report(options: Options) -> Report:
    long = 1_000_000 if options.full else 100_000
    with directory() as place:
        found = asyncio.run(measure(options, long, place))
        size = sum(file.stat().st_size for file in (place / str(long)).iterdir()) / long
    rows = [(act, found[act, SHORT], found[act, long], found[act, long] / found[act, SHORT]) for act in ACTS]
    head = ("act", f"{SHORT:,} entries waiting, µs", f"{long:,} entries waiting, µs", "ratio")
    limits = (1.2, 2.0, 1.5)
    targets = tuple(
        at_most(f"{act}, {long:,} / {SHORT:,} entries", most, found[act, long] / found[act, SHORT])
        for act, most in zip(ACTS, limits, strict=False)
    )
    text = f"Medians of one act at a time, the two stores in turn. The store takes {size:,.0f} bytes an entry.\n\n"
    return Report("depth", "With a long backlog", text + table(head, rows), targets)


if __name__ == "__main__":
    main(report)
