"""Closed loops, percentiles, medians over interleaved rounds, and tables."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

WARM_UP_SHARE = 0.2
"""A loop first runs this share of its time unmeasured: caches fill, files grow, statements are prepared."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What one closed loop reached."""

    per_s: float
    p50_ms: float
    p99_ms: float


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def median_rate(rates: Sequence[Rate]) -> Rate:
    """Medians over rounds, each number for itself."""
    return Rate(
        statistics.median(rate.per_s for rate in rates),
        statistics.median(rate.p50_ms for rate in rates),
        statistics.median(rate.p99_ms for rate in rates),
    )


async def closed_loop(put: Callable[[int], Awaitable[object]], clients: int, seconds: float) -> Rate:
    """Each client puts, waits for the answer and puts again."""
    await _loop(put, clients, seconds * WARM_UP_SHARE)
    return await _loop(put, clients, seconds)


async def _loop(put: Callable[[int], Awaitable[object]], clients: int, seconds: float) -> Rate:
    waits: list[float] = []
    started = time.perf_counter()
    stop = started + seconds

    async def client(number: int) -> None:
        i = number
        while (begun := time.perf_counter()) < stop:
            await put(i)
            waits.append(time.perf_counter() - begun)
            i += clients

    await asyncio.gather(*(client(number) for number in range(clients)))
    return _rate(waits, time.perf_counter() - started)


def threaded_loop(put: Callable[[int], object], clients: int, seconds: float) -> Rate:
    """The same for a library that blocks: one thread a client."""
    _threads(put, clients, seconds * WARM_UP_SHARE)
    return _threads(put, clients, seconds)


def _threads(put: Callable[[int], object], clients: int, seconds: float) -> Rate:
    waits: list[list[float]] = [[] for _ in range(clients)]
    started = time.perf_counter()
    stop = started + seconds

    def client(number: int) -> None:
        i = number
        while (begun := time.perf_counter()) < stop:
            put(i)
            waits[number].append(time.perf_counter() - begun)
            i += clients

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _rate([wait for mine in waits for wait in mine], time.perf_counter() - started)


def _rate(waits: Sequence[float], took: float) -> Rate:
    return Rate(len(waits) / took, percentile(waits, 0.5) * 1e3, percentile(waits, 0.99) * 1e3)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; numbers are rounded to three figures that mean something."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(number(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def number(value: object) -> str:
    """12,345 · 123 · 12.3 · 1.23 · 0.123"""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    for least, form in ((100, ",.0f"), (10, ".1f")):
        if abs(value) >= least:
            return format(value, form)
    return format(value, ".2f") if abs(value) >= 0.1 or value == 0 else format(value, ".2g")


@dataclass(frozen=True, slots=True)
class Target:
    """A number that we want to reach and the one that was measured."""

    what: str
    wanted: str
    measured: float
    reached: bool
    unit: str = ""


def at_least(what: str, least: float, measured: float, unit: str = "x") -> Target:
    return Target(what, f"≥ {number(float(least))}{unit}", measured, measured >= least, unit)


def at_most(what: str, most: float, measured: float, unit: str = "x") -> Target:
    return Target(what, f"≤ {number(float(most))}{unit}", measured, measured <= most, unit)


@dataclass(frozen=True, slots=True)
class Report:
    """What one part found."""

    name: str
    title: str
    text: str
    targets: tuple[Target, ...] = ()

    def markdown(self) -> str:
        parts = [f"## {self.title}", self.text]
        if self.targets:
            rows = [
                (
                    target.what,
                    target.wanted,
                    f"{number(target.measured)}{target.unit}",
                    "yes" if target.reached else "no",
                )
                for target in self.targets
            ]
            parts.append(table(("target", "wanted", "measured", "reached"), rows))
        return "\n\n".join(parts)
