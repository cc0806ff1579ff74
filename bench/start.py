"""From the start of the process to the first answer, after a kill too, and what a hub takes when nothing happens.

Run by `python -m bench.start [--full] [--record]`; quick uses a store of 100,000 entries, full one of a million.
"""

from __future__ import annotations

import asyncio
import compileall
import contextlib
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.api_latency import load
from bench.command import ROOT, Options, main
from bench.depth import fill
from bench.machine import BenchError, child, cpu_seconds, directory, free_port, resident_mb
from bench.measure import Report, at_most, table
from bench.shop import shop

STARTS = 5
FIRST_ANSWER_S_MAX = 60.0


async def first_200(port: int, started: float) -> float:
    """Seconds from `started` to the first 200 of /healthz."""
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                if (await reader.readline()).startswith(b"HTTP/1.1 200"):
                    return time.monotonic() - started
            finally:
                writer.close()
        if time.monotonic() - started > FIRST_ANSWER_S_MAX:
            raise BenchError(f"no answer on port {port} within {FIRST_ANSWER_S_MAX:.0f} s")
        await asyncio.sleep(0.002)


async def start(module: str, place: Path, *more: str) -> float:
    port = free_port()
    command: Sequence[str] = [sys.executable, "-m", module, str(place), str(port), *more]
    started = time.monotonic()
    async with child(command, output=place / "start.log"):
        return await first_200(port, started)


async def after_kill(place: Path) -> float:
    """A hub that is killed while 16 tills pay, then started again."""
    port = free_port()
    command = [sys.executable, "-m", "bench.hub_process", str(place), str(port), str(free_port())]
    async with child(command, output=place / "start.log") as process:
        await first_200(port, time.monotonic())
        paying = asyncio.create_task(load(f"http://127.0.0.1:{port}", 16, 3))
        await asyncio.sleep(1.5)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        with contextlib.suppress(BenchError):  # wrk says that its connections broke: that was the point
            await paying
    return await start("bench.hub_process", place, str(free_port()))


async def rest_and_load(place: Path, options: Options) -> dict[str, float]:
    """Resident memory and CPU of a hub at rest, and after load."""
    port = free_port()
    command = [sys.executable, "-m", "bench.hub_process", str(place), str(port), str(free_port())]
    async with child(command, output=place / "start.log") as process:
        await first_200(port, time.monotonic())
        await asyncio.sleep(2)
        idle_mb, cpu, begun = resident_mb(process.pid), cpu_seconds(process.pid), time.monotonic()
        await asyncio.sleep(options.seconds(10, 60))
        idle_cpu = (cpu_seconds(process.pid) - cpu) / (time.monotonic() - begun) * 100
        await load(f"http://127.0.0.1:{port}", 16, options.seconds(20, 3_600))
        return {"idle MB": idle_mb, "idle CPU %": idle_cpu, "loaded MB": resident_mb(process.pid)}


def compiled() -> None:
    """What pip does when it installs: a checkout that is run with PYTHONDONTWRITEBYTECODE compiles at each start."""
    for package in ("bench", "hubd", "drivers", "sync", "local_api"):
        if not compileall.compile_dir(ROOT / package, quiet=2):
            raise BenchError(f"{package} cannot be compiled")


async def measure(options: Options, entries: int, place: Path) -> dict[str, float]:
    await asyncio.to_thread(compiled)
    async with shop(place) as made:
        await fill(made, entries)
    bare, hub = [], []
    for _ in range(STARTS):
        bare.append(await start("bench.naive_api", place, "bare"))
        hub.append(await start("bench.hub_process", place, str(free_port())))
    found = {"bare FastAPI, s": statistics.median(bare), "hub, s": statistics.median(hub)}
    found["hub after kill -9, s"] = statistics.median([await after_kill(place) for _ in range(3)])
    return found | await rest_and_load(place, options)


def report(options: Options) -> Report:
    entries = 1_000_000 if options.full else 100_000
    with directory() as place:
        found = asyncio.run(measure(options, entries, place))
    text = (
        f"A store of {entries:,} entries; hub with store, services and API, without page, devices and link to the "
        "cloud. Time from the start of the process to the first 200 of `/healthz`, median of five.\n\n"
    )
    return Report(
        "start",
        "Start, memory, rest",
        text + table(("what", "measured"), list(found.items())),
        (
            at_most("start / bare FastAPI", 1.5, found["hub, s"] / found["bare FastAPI, s"]),
            at_most("start to the first 200", 0.7, found["hub, s"], " s"),
            at_most("after kill -9 under load to the first 200", 1.0, found["hub after kill -9, s"], " s"),
            at_most("resident memory at rest", 90, found["idle MB"], " MB"),
            at_most("resident memory after load", 100, found["loaded MB"], " MB"),
            at_most("CPU at rest, no devices", 2.0, found["idle CPU %"], " %"),
        ),
    )


if __name__ == "__main__":
    main(report)
