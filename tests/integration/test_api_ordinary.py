"""Ordinary requests are answered without h11: on one connection with others, in their order, one at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h11
import pytest

from hubd.runtime import SystemClock
from local_api import guard
from local_api.client import Credential, new_id
from local_api.gate import App, Receive, Scope, Send
from local_api.ordinary import ordinary
from local_api.server import Door, DoorServer, tcp_sockets
from tests.rigs.api import ServedHub, serving

WAIT_S = 10
BODY = b'{"amount":{"amount":1250,"currency":"EUR"},"tender":"cash"}'


class Wire:
    """One connection whose answers h11 reads."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.conn = h11.Connection(h11.CLIENT)

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """The next answer."""
        if self.conn.our_state is h11.IDLE:
            self.conn.send(h11.Request(method="PUT", target="/", headers=[("Host", "hub")]))
            self.conn.send(h11.EndOfMessage())
        status, headers, body = 0, {}, b""
        async with SystemClock().timeout(WAIT_S):
            while True:
                event = self.conn.next_event()
                if event is h11.NEED_DATA:
                    self.conn.receive_data(await self.reader.read(65_536))
                elif isinstance(event, h11.Response):
                    status, headers = event.status_code, dict(event.headers)
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    if self.conn.their_state is h11.DONE:
                        self.conn.start_next_cycle()
                    return status, headers, body


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def door(hub: ServedHub, app: App) -> AsyncIterator[int]:
    """A door of the real server before an application that shows how it is asked."""
    server = DoorServer(Door("http", app, tcp_sockets(["127.0.0.1"], 0)))
    async with serving([server], hub.shop.services.runtime):
        yield server.door.port
    server.close()


def payment(token: str, id_: str) -> bytes:
    head = f"PUT /v1/payments/{id_} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


async def test_ordinary_and_other_requests_share_a_connection(
    hub: ServedHub, till: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[bool] = []

    def noting(data: bytes, head_bytes_max: int) -> Any:
        found = ordinary(data, head_bytes_max)
        ways.append(found is not None)
        return found

    monkeypatch.setattr("local_api.guard.ordinary", noting)
    async with wire(hub.http_port) as one:
        for chunked in (False, True, False, True, True, False):
            id_ = new_id()
            whole = payment(till.token, id_)
            if chunked:
                length = b"Content-Length: %d\r\n\r\n" % len(BODY)
                pieces = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
                whole = whole.replace(length + BODY, pieces)
            one.writer.write(whole)
            status, headers, body = await one.answer()
            assert (status, json.loads(body)["id"]) == (201, id_)
            assert int(headers[b"content-length"]) == len(body)
            assert headers[b"x-content-type-options"] == b"nosniff"
            assert b"date" in headers
    assert ways == [True, False, True, False, False, True]


async def test_what_comes_before_the_answer_waits_its_turn(hub: ServedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, running, go_on = asyncio.Semaphore(0), 0, asyncio.Semaphore(0)
    came: list[bytes] = []
    real = guard.GuardedProtocol.data_received

    def noting(self: guard.GuardedProtocol, data: bytes) -> None:
        real(self, data)
        came.append(data)

    monkeypatch.setattr(guard.GuardedProtocol, "data_received", noting)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        running += 1
        assert running == 1
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        asked.release()
        await go_on.acquire()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        running -= 1
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    async with door(hub, app) as port, wire(port) as one, SystemClock().timeout(WAIT_S):
        one.writer.write(get("/1"))
        await asked.acquire()
        one.writer.write(get("/2"))
        while b"/2" not in b"".join(came):
            await SystemClock().sleep(0.01)
        one.writer.write(get("/3"))
        one.writer.write(get("/4") + get("/5"))
        for said in (b"/1", b"/2", b"/3", b"/4", b"/5"):
            go_on.release()
            assert (await one.answer())[2] == said


async def test_who_sends_without_end_before_the_answer_is_closed(
    hub: ServedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "LATER_BYTES_MAX", 1_000)
    asked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        assert await receive() == {"type": "http.disconnect"}

    async with door(hub, app) as port, wire(port) as one, SystemClock().timeout(WAIT_S):
        one.writer.write(get("/1"))
        await asked.wait()
        one.writer.write(b"x" * 1_001)
        assert await one.reader.read() == b""


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([(b"x-name", b"a\r\nx-other: b")], b"yes"),
        ([(b"x-name", b"a\nx-other: b")], b"yes"),
        ([(b"x-name\r\nx", b"a")], b"yes"),
        ([(b"content-length", b"2")], b"yes"),
        ([(b"content-length", b"4")], b"yes"),
    ],
)
async def test_an_answer_that_is_not_what_it_says_is_not_sent(
    hub: ServedHub, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with door(hub, app) as port, wire(port) as one, SystemClock().timeout(WAIT_S):
        one.writer.write(get("/"))
        assert await one.reader.read() == b""


async def test_a_body_in_parts_has_chunks_or_the_length_it_was_given(hub: ServedHub) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        given = [(b"content-length", b"6")] if scope["path"] == "/long" else []
        status = 204 if scope["path"] == "/empty" else 200
        await send({"type": "http.response.start", "status": status, "headers": given})
        for part in () if status == 204 else (b"abc", b"", b"def"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with door(hub, app) as port, wire(port) as one:
        for path, name, body in (
            ("/long", b"content-length", b"abcdef"),
            ("/", b"transfer-encoding", b"abcdef"),
            ("/empty", b"", b""),
        ):
            one.writer.write(get(path))
            _, headers, told = await one.answer()
            framing = {b"content-length", b"transfer-encoding"} & set(headers)
            assert (told, framing) == (body, {name} - {b""})


async def test_a_quiet_connection_is_closed_some_time_after_its_last_answer(
    hub: ServedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local_api.server.KEEP_ALIVE_S", 0.5)
    clock = SystemClock()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"yes"})

    async with door(hub, app) as port, wire(port) as one, clock.timeout(WAIT_S):
        begun = last = clock.monotonic()
        while last - begun < 1:
            last = clock.monotonic()
            one.writer.write(get("/"))
            assert (await one.answer())[0] == 200
        assert await one.reader.read() == b""
        assert clock.monotonic() - last >= 0.45


@pytest.fixture
async def till(hub: ServedHub) -> Credential:
    return await hub.pair()
