"""What a hotel's or shop-centre's network does before somebody has clicked "accept": it answers for everybody.

`CaptivePortal` is an HTTP (or HTTPS) server that answers every request for every host with a login page, or with a
redirect to it. `CaptiveDns` is a name server that gives every name the portal's address. A probe that takes "200" or
"the name resolves" for "the Internet is there" believes both.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import shutil
import ssl
import struct
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

from tests.rigs.certificates import ServerCertificate, make_server_certificate

HOST = "127.0.0.1"
REQUEST_BYTES_MAX = 65536
PAGE = b"<!doctype html><title>Welcome</title><h1>Free WiFi</h1><form action=/login><button>I accept</button></form>"
DNS_HEADER = struct.Struct("!HHHHHH")
TYPE_A, CLASS_IN, TTL_S = 1, 1, 30


class CaptivePortal:
    """Answers everything: `page` with 200 and HTML, `redirect` with 302 to its login page."""

    def __init__(self, answer: Literal["page", "redirect"] = "page", *, tls: bool = False, port: int = 0) -> None:
        """Describe the portal; with `tls` it presents a certificate for its own name, whatever name was asked for."""
        self.host = HOST
        self.port = port
        self.answer = answer
        self.requests: list[str] = []
        self.certificate: ServerCertificate | None = None
        self._tls = tls
        self._place: Path | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its own address."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        context: ssl.SSLContext | None = None
        if self._tls:
            self._place = Path(tempfile.mkdtemp(prefix="hubd-portal-"))
            self.certificate = make_server_certificate(self._place, names=("portal.invalid",), addresses=())
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate.certificate, self.certificate.key)
        self._server = await asyncio.start_server(self._serve, HOST, self.port, ssl=context, limit=REQUEST_BYTES_MAX)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening and end what is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)

    def _response(self) -> bytes:
        if self.answer == "redirect":
            head = f"HTTP/1.1 302 Found\r\nLocation: {self.url}/login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            return head.encode()
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nConnection: close\r\n"
        return f"{head}Content-Length: {len(PAGE)}\r\n\r\n".encode() + PAGE

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError, ValueError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head.split(b"\r\n", 1)[0].decode("latin-1"))
                writer.write(self._response())
                await writer.drain()
        finally:
            self._tasks.discard(task)
            writer.close()


class CaptiveDns:
    """A name server on UDP that answers every question for an address with one address, and any other with nothing."""

    def __init__(self, address: str = HOST, *, port: int = 0) -> None:
        """Describe the server; `address` is what every name resolves to."""
        self.host = HOST
        self.port = port
        self.questions: list[str] = []
        self._address = ipaddress.IPv4Address(address).packed
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _DnsProtocol(self), local_addr=(HOST, self.port)
        )
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    def reply(self, query: bytes) -> bytes | None:
        """The answer to one query (RFC 1035 section 4.1), or None for what is none."""
        try:
            number, flags, questions, *_ = DNS_HEADER.unpack_from(query)
            labels, at = [], DNS_HEADER.size
            while length := query[at]:
                labels.append(query[at + 1 : at + 1 + length].decode("latin-1"))
                at += 1 + length
            kind, _ = struct.unpack_from("!HH", query, at + 1)
        except (struct.error, IndexError):
            return None
        if questions != 1 or flags & 0x8000:
            return None
        self.questions.append(".".join(labels))
        answers = 1 if kind == TYPE_A else 0
        # Response, recursion desired as asked, recursion available; 0xC00C points back at the question's name.
        head = DNS_HEADER.pack(number, 0x8080 | (flags & 0x0100), 1, answers, 0, 0)
        record = struct.pack("!HHHIH", 0xC00C, TYPE_A, CLASS_IN, TTL_S, 4) + self._address
        return head + query[DNS_HEADER.size : at + 5] + record * answers


class _DnsProtocol(asyncio.DatagramProtocol):
    def __init__(self, server: CaptiveDns) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio before 3.12 gives a datagram transport that is none by its class.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        answer = self._server.reply(data)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)
