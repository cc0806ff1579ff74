"""A payment over HTTP, from the first byte of the request to the answer: durable, or it would not be answered.

Run by `python -m bench.api_latency [--full] [--record]`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from bench.command import Options, main
from bench.machine import FLASH_FSYNC_MS, NATIVE, BenchError, answers, child, directory, environment, free_port, program
from bench.measure import Rate, Report, Target, at_least, at_most, median_rate, table

HUB, HUB_TLS, NAIVE = "hubd, HTTP on loopback", "hubd, HTTPS kept alive", "FastAPI + aiosqlite, one commit per request"
CLIENTS = (1, 16, 128)
SECONDS_A_CLIENT = 0.0625
"""wrk connects within what it measures: a shorter run of 128 clients over TLS measures 128 handshakes."""
Key = tuple[str, int, int]
_runs = count(1)


@asynccontextmanager
async def server(variant: str, place: Path, fsync_ms: int) -> AsyncIterator[str]:
    """The address of a fresh server; both listeners of a hub belong to one process."""
    port, tls_port = free_port(), free_port()
    if variant == NAIVE:
        command: Sequence[object] = (sys.executable, "-m", "bench.naive_api", place, port)
    else:
        command = (sys.executable, "-m", "bench.hub_process", place, port, tls_port)
    log = place / "server.log"
    async with child([str(word) for word in command], fsync_ms, output=log) as process:
        try:
            await answers(tls_port if variant == HUB_TLS else port, process)
        except BenchError as error:
            raise BenchError(f"{error}: {log.read_text('utf-8')[-2000:]}") from None
        yield f"https://127.0.0.1:{tls_port}" if variant == HUB_TLS else f"http://127.0.0.1:{port}"


async def load(address: str, clients: int, seconds: float) -> Rate:
    """One closed loop of wrk; any answer that is not 2xx is an error, and errors are not counted but raised."""
    run = next(_runs) * 1_000 + clients
    process = await asyncio.create_subprocess_exec(
        program("wrk", "wrk"),
        "-t1",
        f"-c{clients}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "30s",
        "--latency",
        "-s",
        str(NATIVE / "payments.lua"),
        address,
        "--",
        str(run),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    output, complaint = await process.communicate()
    found = [line[7:] for line in output.decode().splitlines() if line.startswith("RESULT ")]
    if not found:
        raise BenchError(f"wrk said: {output.decode()} {complaint.decode()}")
    values = json.loads(found[0])
    if values.pop("errors"):
        raise BenchError(f"{address} with {clients} clients: {found[0]}")
    return Rate(**values)


async def measure(options: Options) -> dict[Key, Rate]:
    found: dict[Key, list[Rate]] = {}
    for _ in range(options.rounds(2, 5)):
        for fsync_ms in (0, FLASH_FSYNC_MS):
            for variant in (HUB, HUB_TLS, NAIVE):
                with directory() as place:
                    async with server(variant, place, fsync_ms) as address:
                        await load(address, 16, 1)
                        for clients in CLIENTS:
                            seconds = max(options.seconds(3, 10), clients * SECONDS_A_CLIENT)
                            rate = await load(address, clients, seconds)
                            found.setdefault((variant, clients, fsync_ms), []).append(rate)
    return {key: median_rate(rates) for key, rates in found.items()}


def targets(found: dict[Key, Rate]) -> list[Target]:
    slow, fsync_ms = FLASH_FSYNC_MS, 1e3 / found[NAIVE, 16, FLASH_FSYNC_MS].per_s
    made = [
        at_least(
            f"at {slow} ms, / one commit per request, {clients} clients",
            least,
            found[HUB, clients, slow].per_s / found[NAIVE, clients, slow].per_s,
        )
        for clients, least in ((16, 11.0), (128, 40.0))
    ]
    sixteen = found[HUB, 16, slow]
    made.append(at_most(f"at {slow} ms, 16 tills, p50 in flushes", 1.5, sixteen.p50_ms / fsync_ms, ""))
    made.append(at_most(f"at {slow} ms, 16 tills, p99 in flushes", 3.0, sixteen.p99_ms / fsync_ms, ""))
    made += [
        at_least(
            f"own disk, / FastAPI + aiosqlite, {clients} clients",
            least,
            found[HUB, clients, 0].per_s / found[NAIVE, clients, 0].per_s,
        )
        for clients, least in ((16, 3.5), (128, 5.0))
    ]
    made += [
        at_least(
            f"TLS / without TLS, {clients} clients",
            0.8,
            found[HUB_TLS, clients, 0].per_s / found[HUB, clients, 0].per_s,
        )
        for clients in (16, 128)
    ]
    return made


def report(options: Options) -> Report:
    found = asyncio.run(measure(options))
    rows = []
    for fsync_ms in (0, FLASH_FSYNC_MS):
        for variant in (HUB, HUB_TLS, NAIVE):
            rates = [found[variant, clients, fsync_ms] for clients in CLIENTS]
            cells = [f"{rate.per_s:,.0f} ({rate.p50_ms:.2f} / {rate.p99_ms:.2f})" for rate in rates]
            rows.append((variant, "own" if not fsync_ms else f"+{fsync_ms} ms", *cells))
    head = ("server", "flush", *(f"{clients} clients: a second (p50 / p99 ms)" for clients in CLIENTS))
    text = (
        "`PUT /v1/payments/{id}` with a cash payment; wrk with kept-alive connections, its own process on the same "
        "machine. Both servers are uvicorn on asyncio; the peer reads with h11, the hub reads such requests by itself. "
        "One flush of the slow disk is what one commit per "
        f"request takes here: {1e3 / found[NAIVE, 16, FLASH_FSYNC_MS].per_s:.1f} ms.\n\n"
    )
    return Report("api_latency", "Payments over HTTP", text + table(head, rows), tuple(targets(found)))


if __name__ == "__main__":
    main(report)
