"""What stands before the gate: how many connections, how long each may take, and what is told to broken HTTP.

uvicorn limits neither the time of a request's head nor the connections of one address, and answers what it refuses
itself with plain text. Three small parts mend that: a listening socket that counts (before TLS, so that a handshake
that never ends counts too), a protocol with deadlines, and an application around the door's own with the last net.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
import sys
from collections import Counter
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any, cast

import h11
from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from hubd.errors import HubError, InvalidValueError, Retry
from local_api import direct, problems
from local_api.gate import SECURITY_HEADERS, WHOLE_BODY, App, Message, Receive, Scope, Send, log_fault, sender_of
from local_api.ordinary import Ordinary, OrdinaryCycle, ordinary, scope_of

CONNECTIONS_MAX = 1_000
"""Of one door, all callers together; below what the service may have open (LimitNOFILE)."""
CONNECTIONS_FROM_ONE_MAX = 256
"""Of one address: a machine that opens connections without end leaves room for the tills."""
TURNED_AWAY_AT_ONCE_MAX = 32
"""Connections above either limit that are still told why; the next ones are closed without a word."""
HEAD_SECONDS_MAX = 10
"""From the connection, or from the first byte of a later request, to the end of the request's head."""
HEAD_BYTES_MAX = 32 * 1024
LATER_BYTES_MAX = 1024 * 1024
"""Of what a caller sends before it has the answer to its last request; nothing is read beyond the first of it."""
REST_SECONDS_MAX = 10
"""How long a body may go on that nobody reads any more, because the request is answered."""
LINGER_SECONDS = 1
"""How long a refused connection is still read, and nothing of it looked at, so that its caller hears why."""
HANDSHAKE_SECONDS_MAX = 10
STALLED_MS_MAX = 30_000
"""How long sent bytes may stay unacknowledged, or unread by a full receiver, until the system drops the connection."""
LOGGER = "uvicorn.error.connection"
LOG_LEVELS = {"uvicorn.error": logging.WARNING, LOGGER: logging.ERROR}
"""uvicorn tells the address of every WebSocket, with its ticket, and warns of every request that is no HTTP: whoever
sends such could fill the log."""
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
"""Sixteen bytes in base64."""


class Crowd:
    """Counts the open connections of one door, all and by address."""

    def __init__(self) -> None:
        self._all = 0
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Count one in; False if there is not even room to tell it that there is none."""
        if self._over(address, TURNED_AWAY_AT_ONCE_MAX) >= 0:
            return False
        self._all += 1
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count one out."""
        self._all -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def is_crowded(self, address: str) -> bool:
        """Whether there are more connections than are served, of this address or of all."""
        return self._over(address, 0) > 0

    def _over(self, address: str, more: int) -> int:
        of_one = self._by_address[address] - CONNECTIONS_FROM_ONE_MAX if address else -1
        return max(self._all - CONNECTIONS_MAX, of_one) - more


class _Counted(socket.socket):
    """An accepted connection that leaves the crowd when it is closed, whoever closes it."""

    crowd: Crowd | None = None
    address = ""

    def close(self) -> None:
        super().close()
        crowd, self.crowd = self.crowd, None
        if crowd is not None:
            crowd.leave(self.address)


class CountingListener(socket.socket):
    """A listening socket that closes at once what is too much: before TLS, before a protocol is made for it."""

    def __init__(self, listening: socket.socket, crowd: Crowd) -> None:
        super().__init__(fileno=listening.dup().detach())
        self._crowd = crowd

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection there is room for; raises BlockingIOError when none waits."""
        for _ in range(CONNECTIONS_FROM_ONE_MAX):
            one, place = super().accept()
            address = str(place[0]) if isinstance(place, tuple) else ""
            if not self._crowd.enter(address):
                one.close()
                continue
            counted = _Counted(fileno=one.detach())
            counted.crowd, counted.address = self._crowd, address
            if address:
                counted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS_MAX)
            return counted, place
        raise BlockingIOError(errno.EAGAIN, "the rest waits for the next turn of the loop")


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP with a deadline for the head and for a body nobody reads, and problem documents of its own."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self.logger = logging.getLogger(LOGGER)
        self.access_log = False  # uvicorn goes by the handlers of its logger, not by its own setting
        self._late: asyncio.TimerHandle | None = None
        self._told_anything = False
        self._refused = False
        self._ordinary = False
        """Whether an ordinary request is being answered; what comes meanwhile waits in `_later`."""
        self._later = b""
        self._quiet_since = 0.0
        self._same: dict[str, Any] = {}
        self._application, self.app = self.app, self._offering_direct_streams

    def _offering_direct_streams(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        """The application, told that this server takes framed chunks; called when the request's cycle begins."""
        if scope["http_version"] == "1.1" and scope["method"] == "GET":
            scope["extensions"] = {direct.EXTENSION: _Direct(self.cycle, self.transport)}
        return cast("Awaitable[None]", self._application(scope, receive, send))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first head."""
        assert isinstance(transport, asyncio.Transport), "a door listens on stream sockets"
        super().connection_made(transport)
        self._same = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
        }
        self._late = self.loop.call_later(HEAD_SECONDS_MAX, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hand on what came, then see what is still owed."""
        if self._refused:
            return
        if self._ordinary:
            self._keep_for_later(data)
            return
        if self._is_between_requests():
            request = ordinary(data, HEAD_BYTES_MAX)
            if request is not None:
                self._serve(request)
                return
        self._told_anything = True
        super().data_received(data)
        self._watch()

    def _is_between_requests(self) -> bool:
        """Whether what comes now begins a request, as far as h11 knows."""
        conn = self.conn
        return conn.their_state is h11.IDLE and conn.our_state is h11.IDLE and not conn.trailing_data[0]

    def _serve(self, request: Ordinary) -> None:
        """Answer an ordinary request; h11 hears nothing of it and stays between two requests."""
        self._forget_deadline()
        self._ordinary = True
        scope = scope_of(request, self._same, self.app_state)
        scope[WHOLE_BODY] = request.body
        self.scope = cast("HTTPScope", scope)
        self.cycle = OrdinaryCycle(
            request.body,
            scope=self.scope,
            conn=self.conn,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=self._ordinary_is_answered,
        )
        task = self.loop.create_task(self.cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _keep_for_later(self, data: bytes) -> None:
        """Hold what a caller sends before it has its answer, and read no more; too much of it ends the connection."""
        self._later += data
        self.flow.pause_reading()
        if len(self._later) > LATER_BYTES_MAX:
            self.transport.close()

    def _ordinary_is_answered(self) -> None:
        self.server_state.total_requests += 1
        self._ordinary = False
        if self.transport.is_closing():
            return
        self._quiet_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        if self._later:
            later, self._later = self._later, b""
            self.loop.call_soon(self._go_on, later)
        self.flow.resume_reading()

    def _go_on(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.data_received(data)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that was quiet so long; the timer is set once and looks then, not set anew each time."""
        quiet_s = 0.0 if self._ordinary else self.loop.time() - self._quiet_since
        if quiet_s < self.timeout_keep_alive:
            rest_s = self.timeout_keep_alive - quiet_s
            self.timeout_keep_alive_task = self.loop.call_later(rest_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def on_response_complete(self) -> None:
        """The answer is out; what follows of its request, or begins a next one, has a deadline again."""
        self._told_anything = False
        self._quiet_since = self.loop.time()
        super().on_response_complete()
        self._watch()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """The connection goes on as a WebSocket, which has pings for deadlines."""
        self._forget_deadline()
        if _is_handshake(event):
            super().handle_websocket_upgrade(event)
        else:
            self._refuse(malformed_http())

    def _watch(self) -> None:
        """Have a deadline exactly while the caller owes the rest of a head, or of a body that is answered already."""
        if self._refused:
            return
        if self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
            self._late = self._late or self.loop.call_later(HEAD_SECONDS_MAX, self._head_is_late)
        elif self.conn.their_state is h11.SEND_BODY and self.conn.our_state in {h11.DONE, h11.MUST_CLOSE}:
            self._late = self._late or self.loop.call_later(REST_SECONDS_MAX, self.transport.close)
        else:
            self._forget_deadline()

    def _forget_deadline(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _head_is_late(self) -> None:
        # A browser opens connections in store; one that never asked anything is closed without an answer.
        if self._told_anything:
            self._refuse(head_too_slow())
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer broken HTTP with a problem document; called while h11's error is being handled."""
        found = sys.exc_info()[1]
        too_large = isinstance(found, h11.RemoteProtocolError) and found.error_status_hint == 431
        self._refuse(head_too_large() if too_large else malformed_http())

    def _refuse(self, error: HubError) -> None:
        if self._refused or self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            # Whoever waits for the rest of this request's body hears that the caller has left.
            cycle.disconnected = True
            cycle.message_event.set()
        # In the middle of an answer, or after it, nothing more can be said on this connection.
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            status, body, headers = _document(error)
            headers = [*self.server_state.default_headers, *headers]
            answer = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)
            self.transport.write(self.conn.send(answer))
            self.transport.write(self.conn.send(h11.Data(data=body)))
            self.transport.write(self.conn.send(h11.EndOfMessage()))
        # Closed at once, with bytes that were not read, the connection would take the answer with it.
        self._refused = True
        self._forget_deadline()
        self._late = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        if self.transport.can_write_eof():
            self.transport.write_eof()


class _Direct:
    """The connection of one answer, for chunks that are framed already; h11 keeps no count of chunks (`direct`)."""

    __slots__ = ("_begun", "_cycle", "_flow", "_transport")

    def __init__(self, cycle: RequestResponseCycle, transport: asyncio.Transport) -> None:
        self._cycle = cycle
        self._flow = cycle.flow
        self._transport = transport
        self._begun = False

    def write(self, chunk: bytes) -> bool:
        """Write a chunk of an answer that has begun, without a length of its own; False where there is no room."""
        cycle = self._cycle
        if self._flow.write_paused or cycle.disconnected or cycle.response_complete or self._transport.is_closing():
            return False
        if not self._begun:
            self._begun = cycle.takes_chunks if isinstance(cycle, OrdinaryCycle) else cycle.response_started
            if not self._begun:
                return False
        self._transport.write(chunk)
        return True


class Doorkeeper:
    """Around a door's application: turns away what is too much or may be read in two ways; the last net for faults."""

    def __init__(self, app: App, crowd: Crowd) -> None:
        self._app = app
        self._crowd = crowd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket, or say why not."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        if self._crowd.is_crowded(sender_of(scope)):
            await _turn_away(too_many_connections(), scope, send)
        elif sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES_MAX:
            await _turn_away(head_too_large(), scope, send)
        elif _has_two_lengths(scope) or not scope["http_version"].startswith("1."):
            await _turn_away(malformed_http(), scope, send)
        else:
            try:
                await self._app(scope, receive, watched)
            except OSError:
                if scope["type"] == "websocket":
                    raise  # how the server says that the follower has left
                await self._fault(scope, send, started)
            except Exception as exc:  # noqa: BLE001 - uvicorn would log the exception's words, which may quote what came in
                log_fault(scope, exc)
                await self._fault(scope, send, started)

    async def _fault(self, scope: Scope, send: Send, started: bool) -> None:
        if not started:
            await _turn_away(problems.internal(), scope, send)


def _is_handshake(request: h11.Request) -> bool:
    """Whether a request to become a WebSocket is one that the library behind can read (RFC 6455, 4.2.1)."""
    values = {name.lower(): value for name, value in request.headers}
    return (
        request.method == b"GET"
        and request.http_version == b"1.1"
        and values.get(b"sec-websocket-version") == b"13"
        and _KEY.fullmatch(values.get(b"sec-websocket-key", b"")) is not None
        and all(value.isascii() for value in values.values())
    )


def _has_two_lengths(scope: Scope) -> bool:
    """Whether a request says its body's length in two ways, of which two readers may take different ones."""
    names = {name for name, _ in scope["headers"]}
    return b"content-length" in names and b"transfer-encoding" in names


async def _turn_away(error: HubError, scope: Scope, send: Send) -> None:
    status, body, headers = _document(error)
    if scope["type"] == "websocket":
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _document(error: HubError) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    status, body, named = problems.problem_of(error)
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in named.items()]
    headers += [*SECURITY_HEADERS, (b"content-length", str(len(body)).encode("ascii")), (b"connection", b"close")]
    return status, body, headers


def malformed_http() -> HubError:
    """A request that is not HTTP, or that can be read in two ways."""
    return InvalidValueError(
        "malformed_http",
        "The request is not well-formed HTTP.",
        remedy="Use an HTTP library; send one Host and one length, and no line breaks in headers.",
    )


def head_too_large() -> HubError:
    """A request line and headers beyond the limit."""
    return InvalidValueError(
        "head_too_large",
        "The request's address and headers are too large.",
        remedy="Send fewer or shorter headers; data belongs into the body.",
    )


def head_too_slow() -> HubError:
    """A request whose head did not end in time."""
    return InvalidValueError(
        "head_too_slow",
        "The request's headers did not arrive in time.",
        remedy="Repeat the same request over a better connection.",
        retry=Retry.SAME_REQUEST,
    )


def too_many_connections() -> HubError:
    """No room for one more, of this caller or of all."""
    return HubError(
        "too_many_connections",
        "The hub has too many connections open.",
        remedy="Close connections that are not used, and keep one open instead of a new one for each request.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=5,
    )
