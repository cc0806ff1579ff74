"""Followers who have heard everything are written to in one loop: none delays another, none misses or repeats anything.

Over real sockets, for what is shown is what stands on the wire.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hubd.services import feed as feed_module
from hubd.services.feed import Feed
from local_api.client import HubClient, new_id
from local_api.client.trust import Credential, pinned_context
from local_api.events import Events
from tests.rigs.api import ServedHub, served_hub

WAIT_S = 10
PAYMENTS = 40
NOTICE_BYTES = 1024 * 1024
"""Some of them fill what the system keeps for a connection that is not read."""
READ_BYTES = 64 * 1024
TOLD_BYTES_MAX = 4_096
"""One event of a payment or a mode's name, from the end backwards."""
_ID = re.compile(rb"id: [0-9a-f]{32}:(\d+)\n")


class Stream:
    """One stream of events as bytes, from the head of its answer on."""

    def __init__(self, hub: ServedHub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clock = hub.shop.services.runtime.clock
        self._reader = reader
        self._writer = writer
        self.heard = bytearray()

    @classmethod
    async def open(cls, hub: ServedHub, token: str, *lines: str, tls: ssl.SSLContext | None = None) -> Stream:
        """Ask for the events with these header lines and read up to the first bytes of the body."""
        port = hub.https_port if tls else hub.http_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        version = "1.0" if "HTTP/1.0" in lines else "1.1"
        head = [f"GET /v1/events HTTP/{version}", "Host: 127.0.0.1", f"Authorization: Bearer {token}"]
        writer.write("\r\n".join([*head, *(line for line in lines if line != "HTTP/1.0"), "", ""]).encode())
        stream = cls(hub, reader, writer)
        await stream.until(rb"retry: 1000\n\n")
        assert stream.heard.startswith(b"HTTP/1.1 200 ")
        return stream

    async def until(self, pattern: bytes) -> None:
        """Read on until the pattern has come."""
        wanted, looked = re.compile(pattern), 0
        async with self._clock.timeout(WAIT_S):
            while not wanted.search(self.heard, looked):
                looked = max(0, len(self.heard) - TOLD_BYTES_MAX)
                part = await self._reader.read(READ_BYTES)
                assert part, f"the stream has ended: {bytes(self.heard[-500:])!r}"
                self.heard += part

    def seqs(self) -> list[int]:
        """The places of the entries that came, in the order they came."""
        return [int(seq) for seq in _ID.findall(self.heard)]

    def body(self) -> bytes:
        """The chunks' contents; fails where one is not framed as RFC 9112 says."""
        at, parts = self.heard.index(b"\r\n\r\n") + 4, []
        while (line_end := self.heard.find(b"\r\n", at)) >= 0:
            begin, end = line_end + 2, line_end + 2 + int(self.heard[at:line_end], 16)
            if len(self.heard) >= end + 2:
                assert self.heard[end : end + 2] == b"\r\n"
            parts.append(bytes(self.heard[begin:end]))
            at = end + 2
        return b"".join(parts)

    async def aclose(self) -> None:
        """Leave."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return  # left in the middle of what the hub was sending


async def pay(hub: ServedHub, credential: Credential, times: int = 1) -> int:
    """Pay in cash so often; returns the seq of the last entry."""
    async with HubClient(credential) as till:
        shown = [await till.pay(new_id(), 100, "EUR", tender="cash") for _ in range(times)]
    found: int = shown[-1]["accepted"]["seq"]
    return found


def count_news(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The list grows whenever a follower's own task asks what is new."""
    asked: list[int] = []
    real = Feed.news

    async def counting(self: Feed, place: Any) -> Any:
        asked.append(place.seq)
        return await real(self, place)

    monkeypatch.setattr(Feed, "news", counting)
    return asked


@pytest.mark.parametrize("tls", [False, True])
async def test_followers_who_are_abreast_hear_everything_once_and_no_task_of_theirs_wakes(
    hub: ServedHub, till: Credential, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    context = await context_of(hub) if tls else None
    async with streams(hub, till, 3, tls=context) as followers:
        asked = count_news(monkeypatch)
        last = await pay(hub, till, 5)
        for follower in followers:
            await follower.until(rb"id: [0-9a-f]{32}:%d\nevent: .*\ndata: .*\n\n" % last)
            assert len(follower.seqs()) == len(set(follower.seqs())) == 5
            assert follower.body().count(b"event: payment.recorded\n") == 5
    assert asked == []


async def test_a_slow_follower_is_told_to_resync_and_delays_nobody(
    hub: ServedHub, till: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = hub.shop.services.feed
    async with streams(hub, till, 2) as (slow, quick):
        for number in range(8):
            feed.tell("mode.changed", "", {"mode": "x" * NOTICE_BYTES, "number": number})
            await quick.until(rb'"number":%d\}' % number)
        monkeypatch.setattr(feed_module, "BEHIND_MAX", 3)
        for last in [await pay(hub, till) for _ in range(6)]:
            await quick.until(rb"id: [0-9a-f]{32}:%d\n" % last)
        assert b"resync" not in quick.heard
        await slow.until(rb"event: resync\n.*\n\n")
        assert b'"seq":%d' % hub.shop.services.db.head.seq in slow.heard[-TOLD_BYTES_MAX:]
        assert slow.seqs() == []
        after = await pay(hub, till)
        await slow.until(rb"id: [0-9a-f]{32}:%d\n" % after)
        assert slow.seqs() == [after]
        slow.body()


async def test_who_resumes_amid_new_events_misses_none_and_hears_none_twice(hub: ServedHub, till: Credential) -> None:
    first = await pay(hub, till, 3)
    line = hub.shop.services.feed.hub_line.partition(":")[0]
    async with streams(hub, till, 1, f"Last-Event-ID: {line}:{first}") as (reference,), asyncio.TaskGroup() as group:
        paying = group.create_task(pay(hub, till, PAYMENTS))
        resumed: list[Stream] = []
        while not paying.done():
            seen = reference.seqs()
            place = seen[len(resumed)] if len(seen) > len(resumed) else first
            other = await Stream.open(hub, till.token, f"Last-Event-ID: {line}:{place}")
            resumed.append(other)
            await other.until(rb"id: [0-9a-f]{32}:(?!%d\n)\d+\n" % place)
            if len(resumed) == 3:
                break
        last = await paying
        await reference.until(rb"id: [0-9a-f]{32}:%d\n" % last)
        assert len(reference.seqs()) == PAYMENTS
        for other in resumed:
            async with aclosing(other):
                await other.until(rb"id: [0-9a-f]{32}:%d\n" % last)
                heard = other.seqs()
                assert heard == [seq for seq in reference.seqs() if seq >= heard[0]]
                assert other.body().count(b"id: ") == len(heard)


class FullOnce:
    """A connection that is full for a moment, the first time."""

    def __init__(self) -> None:
        self.was_full = False
        self.taken: list[bytes] = []

    def write(self, chunk: bytes) -> bool:
        """As a server's."""
        if not self.was_full:
            self.was_full = True
            return False
        self.taken.append(chunk)
        return True


async def test_who_could_not_be_told_one_thing_is_not_told_the_next_before_it(hub: ServedHub) -> None:
    services, connection = hub.shop.services, FullOnce()
    feed, clock = services.feed, services.runtime.clock
    caller = await services.access.administrator()
    parts = Events(feed, services.access).sse(caller, feed.place, False, connection)

    async def following() -> bytes:
        return await anext(parts)

    async with aclosing(parts), asyncio.TaskGroup() as group:
        assert await following() == b"retry: 1000\n\n"
        part = group.create_task(following())
        await clock.sleep(0)
        feed.tell("mode.changed", "", {"mode": "first"})
        feed.tell("mode.changed", "", {"mode": "second"})
        assert re.findall(rb'"mode":"(\w+)"', await part) == [b"first", b"second"]
        assert connection.taken == []
        part = group.create_task(following())
        await clock.sleep(0)
        feed.tell("mode.changed", "", {"mode": "third"})
        assert re.findall(rb'"mode":"(\w+)"', b"".join(connection.taken)) == [b"third"]
        feed.stop()
        assert (await part).startswith(b"event: stopping\n")


async def test_a_follower_of_http_1_0_gets_the_same_without_chunks(hub: ServedHub, till: Credential) -> None:
    async with streams(hub, till, 1, "HTTP/1.0") as (follower,):
        last = await pay(hub, till, 2)
        await follower.until(rb"id: [0-9a-f]{32}:%d\nevent: payment.recorded\ndata: .*\n\n" % last)
    body = follower.heard.partition(b"\r\n\r\n")[2]
    assert b"transfer-encoding" not in follower.heard.lower()
    assert re.fullmatch(rb"retry: 1000\n\n(id: \S+\nevent: payment\.recorded\ndata: \{.*\}\n\n){2}", body)


async def test_a_quiet_stream_says_now_and_then_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "BEAT_S", 0.05)
    async with served_hub(tmp_path) as hub:
        till = await hub.pair()
        async with streams(hub, till, 2) as followers:
            for follower in followers:
                await follower.until(rb": ping\n\n(?s:.*): ping\n\n")
                assert b": ping\n\n: ping\n\n" in follower.body()


async def test_a_stop_tells_those_who_are_abreast_and_ends_their_answer(hub: ServedHub, till: Credential) -> None:
    async with streams(hub, till, 2) as followers:
        hub.shop.services.feed.stop()
        for follower in followers:
            await follower.until(rb"\r\n0\r\n\r\n$")
            assert follower.body().endswith(b"event: stopping\ndata: {}\n\n")


async def context_of(hub: ServedHub) -> ssl.SSLContext:
    return await asyncio.to_thread(lambda: pinned_context(hub.certificates.ca_file.read_text("ascii")))


@asynccontextmanager
async def streams(
    hub: ServedHub, till: Credential, count: int, *lines: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[list[Stream]]:
    opened = [await Stream.open(hub, till.token, *lines, tls=tls) for _ in range(count)]
    try:
        yield opened
    finally:
        for one in opened:
            await one.aclose()


@pytest.fixture
async def till(hub: ServedHub) -> Credential:
    return await hub.pair()
