"""From an entry to two hundred followers, and what those cost who do not read.

Run by `python -m bench.events [--full] [--record]`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path

from bench.api_latency import load
from bench.command import Options, main
from bench.machine import answers, child, cpu_seconds, directory, free_port, resident_mb
from bench.measure import Report, at_least, at_most, percentile, table
from bench.shop import till_token
from hubd.model.ids import uuid7
from hubd.services.feed import BEHIND_MAX

FOLLOWERS = 200
STREAMS_A_TILL = 4
A_SECOND = 100
PAYERS = 8
PAYING_TILLS = 16
"""Those that `native/payments.lua` pays from: streams of theirs would take a share of their calls."""
SLOW = 50
"""Followers who stop reading."""
SLOW_RECEIVE_BYTES = 4_096
"""Their sockets take little, so that the queue stands in the hub and not in the kernel."""
MISSED_MIN = BEHIND_MAX + 10_000
"""Entries that they miss: what a follower is served late at most, and what may hang in sockets."""
RESYNC_S_MAX = 30.0
SLOW_KIB_MAX = 512
"""One connection's own buffer, and the one answer of at most 200 events that waits for room in it."""


class Follower(asyncio.Protocol):
    """Keeps what arrives with its time, and reads it only afterwards: a follower must not cost what it measures."""

    def __init__(self, number: int) -> None:
        self.arrived: list[tuple[float, bytes]] = []
        self._token = till_token(number // STREAMS_A_TILL)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a TCP connection"
        head = f"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n\r\n"
        transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        self.arrived.append((time.time(), data))

    def late_ms(self) -> list[float]:
        """From the time in each entry, which is before its commit, to the moment its event had arrived."""
        late = []
        for now, data in self.arrived:
            for at in re.findall(rb'"at":"([^"]+)"', data):
                late.append((now - datetime.fromisoformat(at.decode()).timestamp()) * 1e3)
        return late


async def pay(port: int, tills: range, seconds: float) -> int:
    """`A_SECOND` payments a second over kept-alive connections, evenly; returns how many were answered with 201."""
    done = 0
    stop = time.monotonic() + seconds

    async def till(number: int) -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = time.monotonic() + number / A_SECOND
        while due < stop:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            id_ = uuid7(time.time_ns() // 1_000_000, number.to_bytes(2, "big") + done.to_bytes(8, "big"))
            body = b'{"amount":{"amount":1250,"currency":"EUR"},"tender":"cash"}'
            head = (
                f"PUT /v1/payments/{id_} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {till_token(number)}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            done += answer.startswith(b"HTTP/1.1 201")
            due += len(tills) / A_SECOND
        writer.close()

    await asyncio.gather(*(till(number) for number in tills))
    return done


async def measure(options: Options, place: Path) -> dict[str, float]:
    port = free_port()
    command = [sys.executable, "-m", "bench.hub_process", str(place), str(port), str(free_port())]
    async with child(command, output=place / "server.log") as process:
        await answers(port, process)
        before_mb = resident_mb(process.pid)
        loop = asyncio.get_running_loop()
        connected = [
            await loop.create_connection(partial(Follower, number), "127.0.0.1", port) for number in range(FOLLOWERS)
        ]
        followers = [follower for _, follower in connected]
        await asyncio.sleep(1)
        # Payers use tills whose streams are not taken: their calls have a share of their own.
        tills = range(FOLLOWERS // STREAMS_A_TILL, FOLLOWERS // STREAMS_A_TILL + PAYERS)
        await pay(port, tills, 2)
        for follower in followers:
            follower.arrived.clear()
        cpu, own_cpu, begun = cpu_seconds(process.pid), time.process_time(), time.monotonic()
        paid = await pay(port, tills, options.seconds(8, 60))
        took = time.monotonic() - begun
        own_busy = (time.process_time() - own_cpu) / took
        await asyncio.sleep(0.5)
        busy = (cpu_seconds(process.pid) - cpu) / took
        grown_mb = resident_mb(process.pid) - before_mb
        for transport, _ in connected:
            transport.close()
    late_ms = [late for follower in followers for late in follower.late_ms()]
    return {
        "payments a second": paid / took,
        "events a second, all followers": len(late_ms) / took,
        "share that arrived": len(late_ms) / (paid * FOLLOWERS),
        "p50 ms": percentile(late_ms, 0.5),
        "p99 ms": percentile(late_ms, 0.99),
        "hub's CPU, % of a core": busy * 100,
        "CPU of the bench itself, % of a core": own_busy * 100,
        "memory a follower, KiB": grown_mb * 1024 / FOLLOWERS,
    }


class SlowFollower(asyncio.Protocol):
    """Reads the beginning of its stream, nothing more until it is told to, and then all up to a `resync`."""

    def __init__(self, number: int) -> None:
        self.begun, self.resync = asyncio.Event(), asyncio.Event()
        self._token = till_token(PAYING_TILLS + number // STREAMS_A_TILL)
        self._transport: asyncio.Transport | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a TCP connection"
        self._transport = transport
        head = f"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n\r\n"
        transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        self._tail = self._tail[-100:] + data
        if b"event: resync\n" in self._tail:
            self.resync.set()
        if not self.begun.is_set():
            self.begun.set()
            self.transport.pause_reading()

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "asked only of a connected follower"
        return self._transport


async def slow_follower(port: int, number: int) -> SlowFollower:
    """A follower who has begun and reads no more."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_RECEIVE_BYTES)
    line.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(line, ("127.0.0.1", port))
    _, follower = await loop.create_connection(partial(SlowFollower, number), sock=line)
    await follower.begun.wait()
    return follower


async def sell(port: int, payments: int) -> None:
    """So many payments as fast as they go."""
    done, address = 0.0, f"http://127.0.0.1:{port}"
    while done < payments:
        done += (await load(address, 16, 3)).per_s * 3


async def measure_slow(place: Path) -> dict[str, float]:
    """What followers cost who do not read while the hub sells, and what they are told when they read again."""
    port = free_port()
    command = [sys.executable, "-m", "bench.hub_process", str(place), str(port), str(free_port())]
    async with child(command, output=place / "server.log") as process:
        await answers(port, process)
        await sell(port, MISSED_MIN)  # what the hub keeps of the latest entries, it keeps before it is measured
        before_mb = resident_mb(process.pid)
        followers = [await slow_follower(port, number) for number in range(SLOW)]
        await sell(port, MISSED_MIN)
        grown_mb = resident_mb(process.pid) - before_mb
        for follower in followers:
            follower.transport.resume_reading()
        try:
            async with asyncio.timeout(RESYNC_S_MAX):
                await asyncio.gather(*(follower.resync.wait() for follower in followers))
        except TimeoutError:
            pass  # the number below says how many were not told
        for follower in followers:
            follower.transport.close()
    return {
        "memory a follower who does not read, KiB": grown_mb * 1024 / SLOW,
        "share of them told to resync": sum(follower.resync.is_set() for follower in followers) / SLOW,
    }


def report(options: Options) -> Report:
    with directory() as place:
        found = asyncio.run(measure(options, place))
    with directory() as place:
        slow = asyncio.run(measure_slow(place))
    text = (
        f"{FOLLOWERS} server-sent event streams on one hub while eight tills take {A_SECOND} cash payments a second; "
        "followers, tills and hub share the machine. The delay counts from the time in the entry, which is before its "
        f"commit, until the follower has read the event. Then {SLOW} followers of another hub stop reading while it "
        f"takes more than {MISSED_MIN:,} payments: what the hub's memory grows by for each of them, and whether they "
        "are told to read the lists again once they read.\n\n"
    )
    return Report(
        "events",
        "Events",
        text + table(("what", "measured"), [*found.items(), *slow.items()]),
        (
            at_most(
                f"entry to follower, {FOLLOWERS} followers, {A_SECOND} events a second, p99",
                10.0,
                found["p99 ms"],
                " ms",
            ),
            at_most(
                "memory a follower who does not read",
                SLOW_KIB_MAX,
                slow["memory a follower who does not read, KiB"],
                " KiB",
            ),
            at_least("share of them told to resync", 1.0, slow["share of them told to resync"], ""),
        ),
    )


if __name__ == "__main__":
    main(report)
