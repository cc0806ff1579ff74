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
from bench.drain import broker, cloud_process
from bench.machine import BenchError, child, cpu_seconds, directory, free_port, resident_mb
from bench.measure import Report, at_most, table
from bench.shop import shop
from bench.whole_hub import WholeHub, devices_ready, drained, install, simulated

STARTS = 5
KILLS = 3
TERMINALS = 30
CODE = "bench-0001"
"""By which the hub is enrolled at the cloud."""
FIRST_ANSWER_S_MAX = 180.0
SETTLE_S = 5.0
"""What a hub does once, soon after its start, is not rest."""


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


async def start(command: Sequence[str], port: int, log: Path) -> float:
    started = time.monotonic()
    async with child(command, output=log):
        return await first_200(port, started)


async def start_bare(place: Path) -> float:
    port = free_port()
    return await start(
        [sys.executable, "-m", "bench.naive_api", str(place), str(port), "bare"], port, place / "bare.log"
    )


async def start_hub(hub: WholeHub) -> float:
    return await start(hub.command, hub.http_port, hub.log)


async def after_kill(hub: WholeHub) -> float:
    """A hub that is killed while 16 tills pay, then started again."""
    async with child(hub.command, output=hub.log) as process:
        await first_200(hub.http_port, time.monotonic())
        paying = asyncio.create_task(load(f"http://127.0.0.1:{hub.http_port}", 16, 3))
        await asyncio.sleep(1.5)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        with contextlib.suppress(BenchError):  # wrk says that its connections broke: that was the point
            await paying
    return await start_hub(hub)


async def rest(pid: int, seconds: float) -> tuple[float, float]:
    """Resident megabytes and percent of a core of a process to which nothing happens."""
    cpu, begun = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return resident_mb(pid), (cpu_seconds(pid) - cpu) / (time.monotonic() - begun) * 100


async def rest_and_load(hub: WholeHub, broker_port: int, cloud_port: int, options: Options) -> dict[str, float]:
    """What the hub takes at rest, without devices and with many, and after load; the cloud has everything before."""
    async with child(hub.command, output=hub.log) as process:
        await first_200(hub.http_port, time.monotonic())
        await hub.ask("POST", "/v1/enrolment", {"cloud": f"http://127.0.0.1:{cloud_port}", "code": CODE})
        await drained(hub)
        await asyncio.sleep(SETTLE_S)
        found = dict(zip(("idle MB", "idle CPU %"), await rest(process.pid, options.seconds(20, 60)), strict=True))
    ports = [free_port() for _ in range(TERMINALS)]
    hub = install(hub.place, hub.http_port, free_port(), broker_port, ports)
    async with simulated(ports), child(hub.command, output=hub.log) as process:
        await first_200(hub.http_port, time.monotonic())
        await devices_ready(hub, [f"tcp://127.0.0.1:{port}" for port in ports])
        await asyncio.sleep(SETTLE_S)
        # Longer than a minute: so often an idle terminal is asked for a sign of life.
        mb, cpu = await rest(process.pid, options.seconds(70, 300))
        found |= {f"idle MB, {TERMINALS} terminals": mb, f"idle CPU %, {TERMINALS} terminals": cpu}
        await load(f"http://127.0.0.1:{hub.http_port}", 16, options.seconds(20, 3_600))
        return found | {"loaded MB": resident_mb(process.pid)}


def compiled() -> None:
    """What pip does when it installs: a checkout that is run with PYTHONDONTWRITEBYTECODE compiles at each start."""
    for package in ("bench", "hubd", "drivers", "sync", "local_api"):
        if not compileall.compile_dir(ROOT / package, quiet=2):
            raise BenchError(f"{package} cannot be compiled")


async def measure(options: Options, entries: int, place: Path) -> dict[str, float]:
    await asyncio.to_thread(compiled)
    cloud = place / "cloud"
    cloud.mkdir()
    async with shop(place) as made:
        await fill(made, entries)
    broker_port = free_port()
    hub = install(place, free_port(), free_port(), broker_port)
    await start_hub(hub)  # the first start makes keys and certificates
    bare, whole = [], []
    for _ in range(STARTS):
        bare.append(await start_bare(place))
        whole.append(await start_hub(hub))
    found = {"bare FastAPI, s": statistics.median(bare), "hub, s": statistics.median(whole)}
    found["hub after kill -9, s"] = statistics.median([await after_kill(hub) for _ in range(KILLS)])
    async with broker(place, broker_port), cloud_process(cloud, broker_port, "--code", CODE) as cloud_port:
        return found | await rest_and_load(hub, broker_port, cloud_port, options)


def report(options: Options) -> Report:
    entries = 1_000_000 if options.full else 100_000
    with directory() as place:
        found = asyncio.run(measure(options, entries, place))
    text = (
        f"The daemon as installed, with all its parts, on a store of {entries:,} entries. Time from the start of the "
        "process to the first 200 of `/healthz`, median of five; nothing answers at the broker's address, as after a "
        "power cut. At rest the hub talks to broker and cloud on the same machine, which have every entry; then with "
        f"{TERMINALS} simulated card terminals, all ready, which it asks for a sign of life every minute. Memory and "
        "CPU are those of the hub's process.\n\n"
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
            at_most(f"CPU at rest, {TERMINALS} terminals", 2.0, found[f"idle CPU %, {TERMINALS} terminals"], " %"),
        ),
    )


if __name__ == "__main__":
    main(report)
