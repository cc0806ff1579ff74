"""Other people's durable queues, for one record each: on disk before `put` returns, if it promises so."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite
import litequeue
import persistqueue

from bench.machine import answers, child, free_port, program
from bench.measure import Rate, closed_loop, threaded_loop
from hubd.model.ids import uuid7

SCHEMA = """
CREATE TABLE IF NOT EXISTS queue(
  seq INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  device TEXT NOT NULL,
  body TEXT NOT NULL,
  done INTEGER NOT NULL DEFAULT 0
);
"""
INSERT = "INSERT INTO queue(key, device, body) VALUES (?, ?, ?) ON CONFLICT(key) DO NOTHING"


def record(number: int) -> str:
    """A payment as JSON, about as long as a journal entry of ours."""
    sale = {
        "amount": 100 + number % 9_000,
        "attempt": 1,
        "business_date": "2026-11-21",
        "currency": "EUR",
        "device": f"018f0000-0000-7000-8000-0000000000{number % 8:02x}",
        "digest": f"{number:064x}",
        "exponent": 2,
        "kind": "sale",
        "location": "018f0000-0000-7000-8000-000000000001",
        "method": "cash",
        "mode": "live",
        "order": None,
        "outage": None,
        "reason": "",
        "series": "AAAQEAYE-1",
        "counter": number,
        "tender": "cash",
        "tip": 0,
        "zone": "Europe/Paris",
    }
    return json.dumps(sale, separators=(",", ":"))


def key(number: int) -> bytes:

    return bytes.fromhex(uuid7(time.time_ns() // 1_000_000, os.urandom(10)).replace("-", ""))


@asynccontextmanager
async def aiosqlite_queue(place: Path) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """One commit a request, serialised by a lock: WAL and FULL as ours."""
    connection = await aiosqlite.connect(place / "queue.sqlite")
    try:
        await connection.execute("PRAGMA journal_mode=WAL")
        await connection.execute("PRAGMA synchronous=FULL")
        await connection.executescript(SCHEMA)
        lock = asyncio.Lock()

        async def put(number: int) -> None:
            async with lock:
                await connection.execute(INSERT, (key(number), f"till-{number % 8}", record(number)))
                await connection.commit()

        yield put
    finally:
        await connection.close()


async def one_commit_per_request(place: Path, clients: int, seconds: float) -> Rate:
    async with aiosqlite_queue(place) as put:
        return await closed_loop(put, clients, seconds)


async def persist_queue(place: Path, clients: int, seconds: float) -> Rate:
    queue = persistqueue.SQLiteAckQueue(str(place), multithreading=True, auto_commit=True)
    try:
        return await asyncio.to_thread(threaded_loop, lambda number: queue.put(record(number)), clients, seconds)
    finally:
        queue.close()


async def lite_queue(place: Path, clients: int, seconds: float) -> Rate:
    """synchronous=NORMAL is its own choice: not on disk when `put` returns."""
    queue = litequeue.LiteQueue(str(place / "lite.sqlite"))
    try:
        return await asyncio.to_thread(threaded_loop, lambda number: queue.put(record(number)), clients, seconds)
    finally:
        queue.close()


class _Redis:
    """One connection that sends XADD and reads the answer: less work than a client library does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def put(self, number: int) -> None:
        body = record(number).encode()
        parts = (b"XADD", b"up", b"*", b"b", body)
        self.writer.write(b"*5\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
        head = await self.reader.readline()
        if not head.startswith(b"$"):
            raise RuntimeError(head.decode())
        await self.reader.readexactly(int(head[1:]) + 2)


async def redis_aof(place: Path, clients: int, seconds: float) -> Rate:
    """redis with its append-only file synced before each answer; the clients are in this process."""
    port = free_port()
    options = f"--port {port} --bind 127.0.0.1 --dir {place} --appendonly yes --appendfsync always --save".split()

    slow = int(os.environ.get("SLOW_FSYNC_US", "0")) // 1000
    async with child([program("redis-server", "redis-server"), *options, ""], fsync_ms=slow) as process:
        await answers(port, process)
        connections = [_Redis(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(clients)]

        async def put(number: int) -> None:
            await connections[number % clients].put(number)

        try:
            return await closed_loop(put, clients, seconds)
        finally:
            for connection in connections:
                connection.writer.close()


QUEUES: dict[str, Callable[[Path, int, float], Awaitable[Rate]]] = {
    "aiosqlite, one commit per request": one_commit_per_request,
    "persist-queue SQLiteAckQueue": persist_queue,
    "redis, AOF always": redis_aof,
    "litequeue (not synced)": lite_queue,
}
