"""Connections that are slow, many or broken: each is closed in time or told why, and the tills go on paying."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hubd.runtime import SystemClock
from local_api import gate, guard
from local_api.client import Credential, new_id
from local_api.client.trust import pinned_context
from local_api.page.app import make_lamp
from local_api.server import Door, DoorServer, tcp_sockets
from tests.integration.test_api_bad_input import MARK, Logs
from tests.rigs.api import ServedHub, served_hub, serving
from tests.rigs.process import wait_until

SHORT_S = 0.3
"""The deadlines, cut down for the tests."""
ANSWER_S = 10
TCP_CLOSE = 7
"""Linux's number of the state, the first byte of TCP_INFO."""
GOOD: dict[str, Any] = {"amount": {"amount": 1250, "currency": "EUR"}, "tender": "cash"}
HOST = b"Host: 127.0.0.1\r\n"
CLOSE = b"Connection: close\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[ServedHub]:
    async with served_hub(tmp_path, page=True) as served:
        yield served


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEAD_SECONDS_MAX", "REST_SECONDS_MAX", "HANDSHAKE_SECONDS_MAX"):
        monkeypatch.setattr(guard, name, SHORT_S)


@asynccontextmanager
async def wire(port: int, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A connection without an HTTP library."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """Everything that comes until the hub closes; a hub that does not close in time is a failure."""
    async with SystemClock().timeout(ANSWER_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def drip(writer: asyncio.StreamWriter, reader: asyncio.StreamReader, part: bytes = b"a") -> bytes:
    """Send a little again and again until the hub closes; returns what it said."""
    told = b""
    async with SystemClock().timeout(ANSWER_S):
        while not reader.at_eof():
            writer.write(part)
            try:
                async with SystemClock().timeout(0.02):
                    told += await reader.read(65_536)
            except TimeoutError:
                continue
            except ConnectionError:
                break
    return told


def problem(answer: bytes) -> dict[str, Any]:
    """The problem document in a raw answer, with the HTTP status beside the one inside."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower(), answer
    found: dict[str, Any] = json.loads(body)
    assert head.split()[1] == str(found["status"]).encode()
    assert {"type", "title", "detail", "code", "retry", "remedy"} <= set(found)
    return found


async def test_a_head_that_does_not_end_is_given_up(short: None, hub: ServedHub) -> None:
    port = int(hub.http.rpartition(":")[2])
    async with wire(port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-Slow: ")
        assert problem(await drip(writer, reader))["code"] == "head_too_slow"


async def test_a_later_head_that_does_not_end_is_given_up_too(short: None, hub: ServedHub) -> None:
    port = int(hub.http.rpartition(":")[2])
    async with wire(port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await reader.readuntil(b'"ok"}')).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /heal")
        assert problem(await drip(writer, reader))["code"] == "head_too_slow"


@pytest.mark.parametrize("tls", [False, True], ids=["before HTTP", "before TLS"])
async def test_a_connection_that_says_nothing_is_closed_without_a_word(short: None, hub: ServedHub, tls: bool) -> None:
    async with wire(hub.https_port if tls else int(hub.http.rpartition(":")[2])) as (reader, _):
        assert await until_closed(reader) == b""


async def test_a_body_that_nobody_reads_any_more_ends(short: None, hub: ServedHub) -> None:
    port = int(hub.http.rpartition(":")[2])
    async with wire(port) as (reader, writer):
        writer.write(b"PUT /v1/payments/%s HTTP/1.1\r\n%sContent-Length: 60000\r\n\r\n" % (new_id().encode(), HOST))
        assert problem(await drip(writer, reader))["code"] == "access.not_signed_in"


async def test_a_receiver_that_reads_nothing_is_dropped(hub: ServedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aim: answers that nobody takes are not kept for ever. Method: ask for a long page often, read nothing."""
    monkeypatch.setattr(guard, "STALLED_MS_MAX", 500)
    loop = asyncio.get_running_loop()
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        one.setblocking(False)
        await loop.sock_connect(one, ("127.0.0.1", int(hub.http.rpartition(":")[2])))
        await loop.sock_sendall(one, (b"GET /docs HTTP/1.1\r\n" + HOST + b"\r\n") * 400)

        def is_closed() -> bool:
            with suppress(OSError):
                one.send(b"a")  # a peer that was given up is told when it speaks
            return one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE

        await wait_until(is_closed, ANSWER_S, "the hub to drop the connection")


async def test_an_idle_connection_is_closed(hub: ServedHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("local_api.server.KEEP_ALIVE_S", SHORT_S)
    monkeypatch.setattr(guard, "HEAD_SECONDS_MAX", 3600)
    (tmp_path / "second").mkdir()
    async with served_hub(tmp_path / "second") as other, wire(int(other.http.rpartition(":")[2])) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await until_closed(reader)).endswith(b'"ok"}')


async def test_one_address_cannot_take_the_room_of_the_others(hub: ServedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "CONNECTIONS_FROM_ONE_MAX", 20)
    monkeypatch.setattr(guard, "TURNED_AWAY_AT_ONCE_MAX", 2)
    port = int(hub.http.rpartition(":")[2])
    request = b"GET /healthz HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n"
    async with AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(wire(port, "127.0.0.2"))
        reader, writer = await stack.enter_async_context(wire(port, "127.0.0.2"))
        writer.write(request)
        turned_away = await until_closed(reader)
        assert problem(turned_away)["code"] == "too_many_connections"
        assert b"retry-after: 5" in turned_away
        for _ in range(2):
            await stack.enter_async_context(wire(port, "127.0.0.2"))
        reader, writer = await stack.enter_async_context(wire(port, "127.0.0.2"))
        writer.write(request)
        assert await until_closed(reader) == b"", "what is far too much is closed without a word"
        reader, writer = await stack.enter_async_context(wire(port, "127.0.0.1"))
        writer.write(request)
        assert (await until_closed(reader)).startswith(b"HTTP/1.1 200"), "another address is served"
    async with SystemClock().timeout(ANSWER_S):
        answer = b""
        while not answer.startswith(b"HTTP/1.1 200"):  # closed connections make room again
            async with wire(port, "127.0.0.2") as (reader, writer):
                writer.write(request)
                answer = await until_closed(reader)


async def test_all_connections_together_are_bounded(hub: ServedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(hub.http.rpartition(":")[2])
    monkeypatch.setattr(guard, "CONNECTIONS_MAX", 5)
    async with AsyncExitStack() as stack:
        for last in range(5):
            await stack.enter_async_context(wire(port, f"127.0.0.{last + 2}"))
        reader, writer = await stack.enter_async_context(wire(port))
        writer.write(b"GET /v1/events/ws HTTP/1.1\r\n" + HOST + UPGRADE + VERSION + KEY + b"\r\n")
        assert problem(await until_closed(reader))["code"] == "too_many_connections"


def _client(hub: ServedHub, till: Credential, context: ssl.SSLContext) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {till.token}"}
    return httpx2.AsyncClient(verify=context, base_url=hub.https, headers=headers, timeout=ANSWER_S)


async def _pay(client: httpx2.AsyncClient, count: int) -> float:
    """The median time of that many cash payments, in seconds."""
    clock, took = SystemClock(), []
    for _ in range(count):
        begun = clock.monotonic()
        answer = await client.put(f"/v1/payments/{new_id()}", json=GOOD)
        took.append(clock.monotonic() - begun)
        assert answer.status_code == 201
    return statistics.median(took)


async def test_payments_go_through_while_slow_connections_hold_on(hub: ServedHub) -> None:
    """Aim: a machine that opens connections and finishes no head takes nothing from the tills.

    Method: as many slow connections as one address may have, half of them in the middle of the TLS handshake; the
    median payment of a till, before and meanwhile, on new connections too.
    """
    till = await hub.pair()
    context = await asyncio.to_thread(pinned_context, hub.certificates.ca_file.read_text("ascii"))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_client(hub, till, context))
        before = await _pay(client, 15)
        slow = []
        for number in range(guard.CONNECTIONS_FROM_ONE_MAX):
            tls = context if number % 2 else None
            reader, writer = await stack.enter_async_context(wire(hub.https_port, "127.0.0.9", tls))
            slow.append((reader, writer, b"GET / HTTP/1.1\r\nX: " if tls else b"\x16\x03\x01\x02\x00"))
        for _, writer, begun in slow:
            writer.write(begun)
        meanwhile = await _pay(client, 15)
        for _, writer, _ in slow[1::2]:
            writer.write(b"a")
        newcomer = await stack.enter_async_context(_client(hub, till, context))
        assert await _pay(newcomer, 1) < 1.0, "a new connection, with its handshake"
        assert not any(reader.at_eof() for reader, _, _ in slow), "the slow ones were open all the time"
        assert meanwhile < 2 * before + 0.02, f"{before * 1000:.1f} ms before, {meanwhile * 1000:.1f} ms meanwhile"


def _payment(more: bytes, body: bytes = b"") -> bytes:
    return b"PUT /v1/payments/%s HTTP/1.1\r\n%s%s\r\n%s" % (new_id().encode(), HOST, more, body)


_M = MARK.encode()
BROKEN: list[tuple[str, bytes, str]] = [
    ("no HTTP at all", b"\x00\x01" + _M + b"\r\n\r\n", "malformed_http"),
    ("TLS on the plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 300, "malformed_http"),
    ("HTTP/0.9", b"GET /" + _M + b"\r\n\r\n", "malformed_http"),
    ("HTTP/2 without asking", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "malformed_http"),
    ("HTTP/3 in the first line", b"GET /" + _M + b" HTTP/3.0\r\n" + HOST + b"\r\n", "malformed_http"),
    ("no host", b"GET /" + _M + b" HTTP/1.1\r\n\r\n", "malformed_http"),
    ("two hosts", b"GET / HTTP/1.1\r\n" + HOST + b"Host: " + _M + b"\r\n\r\n", "malformed_http"),
    ("two lengths", _payment(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"abcdef"), "malformed_http"),
    (
        "length and chunks",
        _payment(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\nGET /" + _M + b" HTTP/1.1\r\n\r\n"),
        "malformed_http",
    ),
    ("an unknown coding", _payment(b"Transfer-Encoding: " + _M + b", chunked\r\n"), "malformed_http"),
    ("chunks twice", _payment(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "malformed_http"),
    ("space before the colon", _payment(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), "malformed_http"),
    ("negative length", _payment(b"Content-Length: -5\r\n"), "malformed_http"),
    ("length with a sign", _payment(b"Content-Length: +5\r\n", b"12345"), "malformed_http"),
    ("length beyond reason", _payment(b"Content-Length: " + b"9" * 5000 + b"\r\n"), "malformed_http"),
    ("a chunk that is none", _payment(b"Transfer-Encoding: chunked\r\n", b"ZZ" + _M + b"\r\n"), "malformed_http"),
    ("NUL in a header", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00" + _M + b"\r\n\r\n", "malformed_http"),
    ("CR in a header", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r" + _M + b"\r\n\r\n", "malformed_http"),
    ("headers of 40 KB", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 40_000 + b"\r\n\r\n", "head_too_large"),
    ("endless headers", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 100_000, "head_too_large"),
    ("WebSocket without key", b"GET /v1/events/ws HTTP/1.1\r\n" + HOST + UPGRADE + VERSION + b"\r\n", "malformed_http"),
    (
        "WebSocket of a version to come",
        b"GET /v1/events/ws HTTP/1.1\r\n" + HOST + UPGRADE + KEY + b"Sec-WebSocket-Version: 99\r\n\r\n",
        "malformed_http",
    ),
    (
        "WebSocket for a name that is no text",
        b"GET /v1/events/ws HTTP/1.1\r\nHost: \xff" + _M + b"\r\n" + UPGRADE + VERSION + KEY + b"\r\n",
        "malformed_http",
    ),
    (
        "WebSocket with a protocol that is no text",
        b"GET / HTTP/1.1\r\n" + HOST + UPGRADE + VERSION + KEY + b"Sec-WebSocket-Protocol: \xe9" + _M + b"\r\n\r\n",
        "malformed_http",
    ),
    ("WebSocket by POST", b"POST / HTTP/1.1\r\n" + HOST + UPGRADE + VERSION + KEY + b"\r\n", "malformed_http"),
    (
        "WebSocket without ticket",
        b"GET /v1/events/ws HTTP/1.1\r\n" + HOST + UPGRADE + VERSION + KEY + b"\r\n",
        "access.not_signed_in",
    ),
    ("WebSocket nowhere", b"GET /" + _M + b" HTTP/1.1\r\n" + HOST + UPGRADE + VERSION + KEY + b"\r\n", "not_found"),
]


@pytest.fixture
def logs() -> Any:
    handler, root = Logs(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(before)


async def test_broken_http_is_a_problem_document_and_leaves_no_trace(hub: ServedHub, logs: Logs) -> None:
    head = hub.shop.services.db.head.seq
    wrong = []
    for name, sent, code in BROKEN:
        async with wire(int(hub.http.rpartition(":")[2])) as (reader, writer):
            writer.write(sent)
            answer = await until_closed(reader)
            if problem(answer)["code"] != code:
                wrong.append((name, answer))
            assert _M not in answer, name
            assert b"x-content-type-options: nosniff" in answer.lower(), name
    assert wrong == []
    assert hub.shop.services.db.head.seq == head
    assert MARK not in "\n".join(logs.text)
    assert [text for text in logs.text if "'levelno': 40" in text or "'levelno': 30" in text] == []


async def test_only_one_request_is_read_where_two_could_be_seen(hub: ServedHub) -> None:
    smuggled = b"GET /v1/hub HTTP/1.1\r\n" + HOST + b"\r\n"
    both = _payment(
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % (5 + len(smuggled)), b"0\r\n\r\n" + smuggled
    )
    async with wire(int(hub.http.rpartition(":")[2])) as (reader, writer):
        writer.write(both)
        assert (await until_closed(reader)).count(b"HTTP/1.1 ") == 1


async def test_one_stranger_cannot_keep_the_others_from_pairing(hub: ServedHub) -> None:
    """Aim: slow bodies of one machine leave room. Method: as many as it may have, one more, and one from elsewhere."""
    port = int(hub.http.rpartition(":")[2])
    head = b"POST /v1/pairings HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    async with AsyncExitStack() as stack:
        for _ in range(gate.CALLS_FROM_ONE_STRANGER_MAX):
            _, writer = await stack.enter_async_context(wire(port, "127.0.0.2"))
            writer.write(head % 500 + b"{")
        async with SystemClock().timeout(ANSWER_S):
            code = ""
            while code != "too_many_requests":
                async with wire(port, "127.0.0.2") as (reader, writer):
                    writer.write(head.replace(HOST, HOST + CLOSE) % 2 + b"{}")
                    code = problem(await until_closed(reader))["code"]
        async with wire(port) as (reader, writer):
            writer.write(head.replace(HOST, HOST + CLOSE) % 2 + b"{}")
            assert problem(await until_closed(reader))["code"] == "missing_field", "another address is heard"


def _frame(opcode: int, payload: bytes, *, masked: bool = True, fin: bool = True) -> bytes:
    """A WebSocket frame as a client sends it (RFC 6455, 5.2), right or wrong."""
    size = len(payload)
    length = (
        bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65_536 else b"\x7f" + size.to_bytes(8)
    )
    length = bytes([length[0] | (0x80 if masked else 0)]) + length[1:]
    return bytes([opcode | (0x80 if fin else 0)]) + length + (b"\0\0\0\0" if masked else b"") + payload


ABUSE = {
    "no mask": _frame(1, _M, masked=False),
    "an unknown opcode": _frame(3, _M),
    "text that is no text": _frame(1, b"\xff" + _M),
    "a message too large": _frame(1, b"a" * 5_000),
    "a message too large in parts": _frame(1, b"a" * 3_000, fin=False) + _frame(0, b"a" * 3_000),
    "a length of 2^63": b"\x81\xff" + (2**63).to_bytes(8) + b"\0\0\0\0" + _M,
    "a ping of 200 bytes": _frame(9, _M * 10),
    "a close without sense": _frame(8, b"\x00\x01"),
}


async def _follow(hub: ServedHub, client: httpx2.AsyncClient, wire_: Wire) -> bytes:
    """Ask for a WebSocket with a ticket; returns the ticket once the hub has accepted."""
    ticket = (await client.post("/v1/events/ticket")).json()["ticket"].encode()
    reader, writer = wire_
    writer.write(b"GET /v1/events/ws?ticket=%s HTTP/1.1\r\n%s" % (ticket, HOST) + UPGRADE + VERSION + KEY + b"\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    return bytes(ticket)


async def test_followers_who_break_the_rules_are_closed_and_nobody_else(hub: ServedHub, logs: Logs) -> None:
    till = await hub.pair()
    port = int(hub.http.rpartition(":")[2])
    context = await asyncio.to_thread(pinned_context, hub.certificates.ca_file.read_text("ascii"))
    async with _client(hub, till, context) as client:
        for name, frames in ABUSE.items():
            async with wire(port) as connection:
                ticket = await _follow(hub, client, connection)
                connection[1].write(frames)
                assert _M not in await until_closed(connection[0]), name
            async with wire(port) as (reader, writer):
                path = b"GET /v1/events?ticket=%s HTTP/1.1\r\n" % ticket
                writer.write(path + HOST + CLOSE + b"\r\n")
                assert problem(await until_closed(reader))["code"] == "access.ticket_over", "a ticket is for one use"
            assert ticket.decode() not in "\n".join(logs.text)
        assert (await client.put(f"/v1/payments/{new_id()}", json=GOOD)).status_code == 201
    assert MARK not in "\n".join(logs.text)
    assert [text for text in logs.text if "'levelno': 40" in text or "'levelno': 30" in text] == []


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/payments/%0d%0aSet-Cookie:%20a=b", "/sign-in?then=/payments/%0D%0ASet-Cookie%3A%20a%3Db"),
        ("/payments/%E2%82%AC", "/sign-in?then=/payments/%E2%82%AC"),
        ("/language?to=fr&back=/%E2%82%AC", "/%E2%82%AC"),
        ("/language?to=fr&back=/%0d%0aSet-Cookie:%20a=b", "/"),
        ("/language?to=fr&back=//evil.example", "/"),
        ("/language?to=fr&back=/%5Cevil.example", "/"),
        ("/language?to=fr&back=https://evil.example", "/"),
    ],
)
async def test_what_stands_in_an_address_leads_nowhere_else_and_ends_no_header(
    hub: ServedHub, logs: Logs, path: str, location: str
) -> None:
    async with httpx2.AsyncClient(base_url=hub.http) as stranger:
        answer = await stranger.get(path)
    assert (answer.status_code, answer.headers["location"]) == (303, location)
    assert [one for one in answer.headers.get_list("set-cookie") if not one.startswith("hubd_language=fr;")] == []
    assert "api.failed" not in "\n".join(logs.text)


async def test_head_of_a_stream_ends(hub: ServedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_api.routes.browser.PROBE_EVERY_S", 3600)
    async with wire(int(hub.http.rpartition(":")[2])) as (reader, writer):
        writer.write(b"HEAD /v1/browser-check HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
        head, _, body = (await until_closed(reader)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"text/event-stream" in head
    assert body == b""


async def test_the_lamp_refuses_with_problem_documents_too(hub: ServedHub, logs: Logs) -> None:
    facts, services = hub.api.context.facts, hub.shop.services
    door = DoorServer(Door("lamp", make_lamp(services, facts), tcp_sockets(["127.0.0.1"], 0)))
    upgrade = UPGRADE + VERSION + KEY + b"\r\n"
    cases = [
        (b"GET /%s HTTP/1.1\r\n" % _M + HOST + CLOSE + b"\r\n", "not_found"),
        (b"POST / HTTP/1.1\r\n" + HOST + CLOSE + b"Content-Length: 20\r\n\r\n" + _M, "method_not_allowed"),
        (b"GET /v1/events/ws HTTP/1.1\r\n" + HOST + upgrade, "not_found"),
        (b"GET /?a=4111111111111111 HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n", "card_data_refused"),
        (b"GET /language?to=%FF HTTP/1.1\r\n" + HOST[:-2] + b"\xff\r\n" + CLOSE + b"Accept-Language: \xff\r\n\r\n", ""),
        (b"\x00" + _M + b"\r\n\r\n", "malformed_http"),
    ]
    async with serving([door], services.runtime):
        for sent, code in cases:
            async with wire(door.door.port) as (reader, writer):
                writer.write(sent)
                answer = await until_closed(reader)
                assert (problem(answer)["code"] == code) if code else answer.startswith(b"HTTP/1.1 303"), answer
                assert _M not in answer
    door.close()
    assert MARK not in "\n".join(logs.text)
    assert "api.failed" not in "\n".join(logs.text)


async def test_a_fault_behind_the_lamp_is_told_without_its_words(
    hub: ServedHub, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_anything: object) -> None:
        raise ValueError(MARK)

    monkeypatch.setattr("local_api.page.home.build", fail)
    services = hub.shop.services
    door = DoorServer(Door("lamp", make_lamp(services, hub.api.context.facts), tcp_sockets(["127.0.0.1"], 0)))
    async with serving([door], services.runtime), wire(door.door.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + CLOSE + b"\r\n")
        assert problem(await until_closed(reader))["code"] == "internal"
    door.close()
    logged = "\n".join(logs.text)
    assert "api.failed" in logged
    assert "home.py" in logged, "the place must be found"
    assert MARK not in logged
