"""The gate before every route: who calls, from where, how much, how fast. Driven by the route table alone.

Order of checks: address and method, Host, Origin, the caller's proof, his permission, his share of the hub, then the
body with its limits. A request that fails one of them reaches no handler and leaves no trace but a counter.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote_plus

from msgspec import Struct

from hubd.errors import AccessError, HubError, InvalidValueError, Retry
from hubd.model.card_data import check_free_text
from hubd.runtime import Clock
from hubd.services.access import AccessDesk, Caller, Device
from hubd.services.feed import Feed
from hubd.services.signatures import check_body, parse_signed
from hubd.services.till_lines import TillLines
from local_api import problems
from local_api.table import BODY_SECONDS_MAX, CALLS_AT_ONCE_MAX, STREAMS_AT_ONCE_MAX, Auth, RouteSpec, RouteTable
from local_api.tickets import Tickets

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CALLS_FROM_STRANGERS_MAX = 64
CALLS_FROM_ONE_STRANGER_MAX = 16
STREAMS_FROM_STRANGERS_MAX = 16
HEADER_CHARS_MAX = 4_096
HOSTS_KEPT_MAX = 64
"""Of names that requests were for, whether each is an address: nearly all are for one of a few."""
ATTEMPT_MAX = 1_000_000
DRAIN_BYTES_MAX = 16 * 1024 * 1024
DRAIN_SECONDS_MAX = 2
WHOLE_BODY = "hubd.whole_body"
"""In the scope of a request that came in one piece: its body, which `receive` gives as well."""
STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
SESSION_COOKIE = "hubd_session"
DEVICE_COOKIE = "hubd_device"
_COOKIE = re.compile(r"(hubd_session|hubd_device)=([A-Za-z0-9_\-]{43})(?:;|$)")
_LANGUAGE = re.compile(r"[a-z]{2}")
LANGUAGES = frozenset({"en", "fr", "nl"})

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
)
EXPOSED = "Hub-Line, ETag, Retry-After, Location, Preference-Applied"
ALLOWED = (
    "Authorization, Content-Type, Hub-Line, Hub-Session, Attempt, Prefer, If-Match, Last-Event-ID, Signature, "
    "Signature-Input, Content-Digest, Accept-Language"
)


def sender_of(scope: Scope) -> str:
    """The address that a request came from; empty at the unix socket. It proves nothing and opens no route."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def log_fault(scope: Scope, fault: Exception) -> None:
    """Write down a fault of ours by its place alone: its own words may quote what came in, which no log may hold."""
    place = "".join(traceback.format_tb(fault.__traceback__)[-6:])
    log.error(
        "api.failed", extra={"route": scope.get("hubd.route", ""), "error": type(fault).__name__, "detail": place}
    )


class Listener(StrEnum):
    """Through which door a request came; each has an application of its own, none looks at the caller's address."""

    TLS = "tls"
    LOOPBACK = "loopback"
    SOCKET = "socket"


class Doors(Struct, frozen=True):
    """Names a browser may use for this hub. Addresses are always good: nobody can point a foreign name at them."""

    names: frozenset[str]

    def knows(self, host: str) -> bool:
        """Whether a Host header names this hub."""
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        return name.lower() in self.names or name.lower() == "localhost" or _is_address(name.strip("[]"))


@lru_cache(maxsize=HOSTS_KEPT_MAX)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_same_host(origin: str, host: str) -> bool:
    """Whether a page's origin has the host that the request is for, whatever the scheme and the port."""
    return bool(origin) and _host_of(origin.partition("://")[2]) == _host_of(host)


def _host_of(place: str) -> str:
    return re.sub(r":\d+$", "", place).lower()


class Headers:
    """A request's headers, each once. Repeated ones that matter are refused by taking the joined text."""

    def __init__(self, scope: Scope) -> None:
        self._values: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            self._values[name] = f"{self._values[name]}, {value}" if name in self._values else value

    def get(self, name: str) -> str:
        """The value, or empty."""
        return self._values.get(name, "")[:HEADER_CHARS_MAX]


class Gate:
    """ASGI middleware: lets through what the table allows, as `scope["hubd.caller"]` and `scope["hubd.body"]`."""

    def __init__(
        self,
        app: App,
        table: RouteTable,
        access: AccessDesk,
        feed: Feed,
        tills: TillLines,
        tickets: Tickets,
        clock: Clock,
        doors: Doors,
        listener: Listener,
        endpoint: App,
    ) -> None:
        self._app = app
        self._table = table
        self._access = access
        self._feed = feed
        self._tills = tills
        self._tickets = tickets
        self._clock = clock
        self._doors = doors
        self._listener = listener
        self._endpoint = endpoint
        self._busy: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = scope["hubd.headers"] = Headers(scope)
        answer = _Answer(send, self._feed, scope["type"] == "websocket")
        try:
            await self._serve(scope, receive, answer, headers)
        except HubError as error:
            caller: Caller | None = scope.get("hubd.caller")
            await answer.refuse(error, caller.language if caller is not None else "")
        except OSError:
            raise
        except asyncio.CancelledError:
            # The server has waited its three seconds for this answer and stops; the caller hears that, not a 500.
            if self._feed.stopped:
                await answer.refuse(problems.stopping())
            raise
        except Exception as exc:  # noqa: BLE001 - the last net: the caller hears a problem, the log has the place
            log_fault(scope, exc)
            await answer.refuse(problems.internal())

    async def _serve(self, scope: Scope, receive: Receive, answer: _Answer, headers: Headers) -> None:
        method = "WS" if scope["type"] == "websocket" else scope["method"]
        rows, parameters = self._table.find(scope["path"])
        origin = headers.get("origin")
        own = self._is_own(origin, headers.get("host"), scope)
        if method == "OPTIONS" and rows and origin and headers.get("access-control-request-method"):
            await self._preflight(scope, headers, rows, origin, answer)
            return
        spec = rows.get("GET" if method == "HEAD" else method)
        near = spec is not None and spec.same_host and is_same_host(origin, headers.get("host"))
        open_to = near or (spec is not None and spec.any_origin)
        if origin and not own and (open_to or origin in await self._access.origins()):
            answer.allow_origin(origin)
        if self._listener is not Listener.SOCKET and not self._doors.knows(headers.get("host")):
            raise AccessError(
                "access.foreign_host",
                "The request was made for another host's name.",
                remedy="Use the hub's address or its own name.",
            )
        _check_address(scope)
        if not rows:
            raise problems.not_found()
        if spec is None:
            answer.headers.append((b"allow", ", ".join(sorted(set(rows) - {"WS"})).encode()))
            raise problems.method_not_allowed()
        scope["hubd.route"] = f"{spec.method} {spec.path}"
        answer.as_page = partial(spec.refusal, scope) if spec.refusal is not None else None
        signed = self._signed(scope, headers)
        device = await self._device(spec, headers, signed, own)
        if device is not None:
            self._access.called_from(device, sender_of(scope))
        ticket = _ticket(scope) if Auth.TICKET in spec.auth else ""
        holder, paired_origin = self._tickets.redeem(ticket) if ticket else (None, device.origin if device else "")
        if origin and not own and not open_to and paired_origin != origin:
            raise AccessError(
                "access.foreign_origin",
                "A page of another origin asks, and it was not paired for that.",
                remedy="Pair the till in this browser; the manager sees and confirms its origin.",
            )
        caller = holder or await self._caller(spec, headers, device, own)
        if spec.permission is not None and caller is None:
            raise AccessError(
                "access.not_signed_in",
                "The request does not say who asks.",
                remedy="Send the device's token as `Authorization: Bearer …`, or sign in on the page.",
            )
        if spec.permission is not None and caller is not None:
            caller.need(spec.permission)
        scope["hubd.spec"], scope["hubd.parameters"], scope["hubd.caller"] = spec, parameters, caller
        scope["hubd.device"] = device
        if caller is not None:
            await self._compare(caller, answer)
        await self._within_share(spec, caller, scope, receive, answer, headers, signed)

    async def _compare(self, caller: Caller, answer: _Answer) -> None:
        """Compare what a till saw last with the hub's own chain, whatever it asks for.

        Any answer moves the till's place to the present one: what this hub has forgotten would never be noticed then.
        """
        if not (caller.device and caller.hub_line):
            return
        answer.tells_place = False
        await self._tills.check(caller.device, caller.hub_line)
        answer.tells_place = True

    async def _within_share(
        self,
        spec: RouteSpec,
        caller: Caller | None,
        scope: Scope,
        receive: Receive,
        answer: _Answer,
        headers: Headers,
        signed: Any,
    ) -> None:
        shares = _shares(spec, caller, sender_of(scope))
        if any(self._busy.get(share, 0) >= most for share, most in shares.items()):
            raise AccessError(
                "too_many_requests",
                "This device has too many requests running.",
                remedy="Wait for answers before asking more.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=1,
            )
        for share in shares:
            self._busy[share] = self._busy.get(share, 0) + 1
        try:
            body = b"" if scope["type"] == "websocket" else await self._body(spec, scope, receive, headers)
            if signed is not None:
                check_body(signed, body)
            scope["hubd.body"] = body
            replay = receive if scope["type"] == "websocket" else _Replay(body, receive)
            await (self._endpoint if spec.straight else self._app)(scope, replay, answer)
        finally:
            for share in shares:
                left = self._busy.get(share, 0) - 1
                if left > 0:
                    self._busy[share] = left
                else:
                    self._busy.pop(share, None)

    async def _body(self, spec: RouteSpec, scope: Scope, receive: Receive, headers: Headers) -> bytes:
        """The whole body, within the row's limit and ten seconds."""
        whole: bytes | None = scope.get(WHOLE_BODY)
        if whole is not None and len(whole) <= spec.body_bytes_max:
            return whole  # it came with the head: nothing to wait for
        declared = headers.get("content-length")
        if declared.isdigit() and int(declared) > spec.body_bytes_max:
            await self._drain(receive)
            raise _too_large(spec)
        parts: list[bytes] = []
        size = 0
        try:
            async with self._clock.timeout(BODY_SECONDS_MAX):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise AccessError("malformed_request", "The caller left before the body's end.")
                    part = message.get("body", b"")
                    size += len(part)
                    if size > spec.body_bytes_max:
                        break
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise InvalidValueError(
                "body_too_slow",
                "The body did not arrive in time.",
                remedy="Repeat the same request over a better connection.",
                retry=Retry.SAME_REQUEST,
            ) from None
        await self._drain(receive)
        raise _too_large(spec)

    async def _drain(self, receive: Receive) -> None:
        """Read on for a moment and forget it, so that a caller in the middle of sending can hear the answer."""
        left = DRAIN_BYTES_MAX
        try:
            async with self._clock.timeout(DRAIN_SECONDS_MAX):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b"")) + 1
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return

    def _signed(self, scope: Scope, headers: Headers) -> Any:
        if not headers.get("signature-input"):
            return None
        return parse_signed(
            scope.get("method", "GET"),
            scope["path"],
            scope["query_string"].decode("latin-1"),
            headers.get("content-digest"),
            headers.get("signature-input"),
            headers.get("signature"),
        )

    async def _device(self, spec: RouteSpec, headers: Headers, signed: Any, own: bool) -> Device | None:
        if signed is not None and Auth.DEVICE in spec.auth:
            return await self._access.device_of_signature(signed)
        kind, _, token = headers.get("authorization").partition(" ")
        if kind.lower() == "bearer" and token and Auth.DEVICE in spec.auth:
            return await self._access.device_of_token(token.strip())
        cookies = _cookies(headers)
        if own and Auth.COOKIE in spec.auth and DEVICE_COOKIE in cookies:
            try:
                return await self._access.device_of_token(cookies[DEVICE_COOKIE])
            except AccessError:
                return None  # a removed phone is a stranger again; the page then offers to pair it
        return None

    async def _caller(self, spec: RouteSpec, headers: Headers, device: Device | None, own: bool) -> Caller | None:
        attempt, hub_line = _attempt(headers.get("attempt")), headers.get("hub-line")
        language = _language(headers.get("accept-language"))
        session: str | None = headers.get("hub-session") or None
        cookies = _cookies(headers)
        by_cookie = own and Auth.COOKIE in spec.auth and session is None and SESSION_COOKIE in cookies
        if by_cookie:
            session = cookies[SESSION_COOKIE]
        if device is not None or session is not None:
            try:
                return await self._access.caller(
                    device, session, attempt=attempt, hub_line=hub_line, language="" if device else language
                )
            except AccessError:
                if not by_cookie:
                    raise
                # The page's session is over: what a viewer's phone may see, it may see without it.
                return await self._access.caller(device, None) if device is not None else None
        if self._listener is Listener.SOCKET and Auth.LOCAL in spec.auth:
            return await self._access.administrator(language or "en")
        return None

    def _is_own(self, origin: str, host: str, scope: Scope) -> bool:
        """Whether the request comes from this hub's own page, or from no page at all as far as one can see."""
        if origin:
            return origin == f"{'https' if self._listener is Listener.TLS else 'http'}://{host}"
        fetch_site = next((value for name, value in scope["headers"] if name == b"sec-fetch-site"), b"none")
        return fetch_site in {b"none", b"same-origin"}

    async def _preflight(self, scope: Scope, headers: Headers, rows: Any, origin: str, answer: _Answer) -> None:
        wanted = rows.get(headers.get("access-control-request-method"))
        if wanted is None or not (wanted.any_origin or origin in await self._access.origins()):
            raise AccessError(
                "access.foreign_origin",
                "A page of another origin asks, and it was not paired for that.",
                remedy="Pair the till in this browser first.",
            )
        answer.allow_origin(origin)
        answer.headers += [
            (b"access-control-allow-methods", wanted.method.encode()),
            (b"access-control-allow-headers", ALLOWED.encode()),
            (b"access-control-max-age", b"600"),
        ]
        for name in ("private-network", "local-network"):
            if headers.get(f"access-control-request-{name}") == "true":
                answer.headers.append((f"access-control-allow-{name}".encode(), b"true"))
        await answer({"type": "http.response.start", "status": 204, "headers": []})
        await answer({"type": "http.response.body", "body": b""})


class _Answer:
    """Wraps `send`: every answer carries `Hub-Line` and the security headers, also those of mounted applications."""

    def __init__(self, send: Send, feed: Feed, websocket: bool) -> None:
        self._send = send
        self._feed = feed
        self._websocket = websocket
        self._started = False
        self.tells_place = True
        """False while a till's own place has not been compared: it must keep it, and send it again."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.as_page: Callable[[HubError], tuple[int, bytes, dict[str, str]]] | None = None

    def allow_origin(self, origin: str) -> None:
        """Let a page of this origin read the answer."""
        self.headers += [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED.encode()),
            (b"vary", b"Origin"),
        ]

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message."""
        if message["type"] in STARTS:
            self._started = True
            given = list(message.get("headers", []))
            names = {name.lower() for name, _ in given}
            more = [(name, value) for name, value in SECURITY_HEADERS if name not in names]
            line = [(b"hub-line", self._feed.hub_line.encode())] if self.tells_place else []
            message = {**message, "headers": [*given, *more, *self.headers, *line]}
        await self._send(message)

    async def refuse(self, error: HubError, language: str = "") -> None:
        """Answer with a problem document; once the answer has begun, nothing more can be said."""
        if self._started:
            return
        status, body, headers = self.as_page(error) if self.as_page else problems.problem_of(error, language)
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"content-length", str(len(body)).encode()))
        if status in {408, 413}:
            raw.append((b"connection", b"close"))
        prefix = "websocket." if self._websocket else ""
        await self({"type": f"{prefix}http.response.start", "status": status, "headers": raw})
        await self._send({"type": f"{prefix}http.response.body", "body": body})


class _Replay:
    """Gives the body that the gate has read to the application, then what really comes (a disconnect)."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """The next ASGI message."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def _cookies(headers: Headers) -> dict[str, str]:
    text = headers.get("cookie")
    return dict(_COOKIE.findall(text.replace("; ", ";"))) if text else {}


def _shares(spec: RouteSpec, caller: Caller | None, sender: str) -> dict[str, int]:
    """What a request counts against: name -> how many may run at once."""
    kind = "/stream" if spec.stream else ""
    if caller is None:
        # Also by address: one machine that sends slow bodies must not keep the others from signing in.
        one, all_of_them = (
            (STREAMS_AT_ONCE_MAX, STREAMS_FROM_STRANGERS_MAX)
            if spec.stream
            else (CALLS_FROM_ONE_STRANGER_MAX, CALLS_FROM_STRANGERS_MAX)
        )
        return {f"stranger{kind}": all_of_them, f"stranger:{sender}{kind}": one}
    most = STREAMS_AT_ONCE_MAX if spec.stream else CALLS_AT_ONCE_MAX
    if not caller.device and caller.staff is None:
        return {f"staff:None{kind}": most * 4}
    return {f"{caller.device or f'staff:{caller.staff}'}{kind}": most}


def _too_large(spec: RouteSpec) -> InvalidValueError:
    return InvalidValueError(
        "body_too_large",
        f"The body is larger than {spec.body_bytes_max} bytes.",
        remedy="Send less at once.",
        params={"bytes_max": spec.body_bytes_max},
    )


def _check_address(scope: Scope) -> None:
    """Card numbers are refused in addresses too, and bytes that are no text."""
    query = scope["query_string"]
    if len(query) > HEADER_CHARS_MAX or len(scope["path"]) > HEADER_CHARS_MAX:
        raise InvalidValueError("malformed_request", "The address is too long.", remedy="Send less in it.")
    check_free_text(scope["path"], "path")
    if query:
        check_free_text(unquote_plus(query.decode("latin-1")), "query")


def _attempt(text: str) -> int:
    if not text:
        return 1
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= ATTEMPT_MAX:
        raise InvalidValueError("invalid_attempt", "The Attempt header is not a count.", remedy="Send 1, 2, 3, …")
    return int(text[:9])


def _language(text: str) -> str:
    for part in text.split(","):
        found = _LANGUAGE.match(part.strip())
        if found is not None and found[0] in LANGUAGES:
            return found[0]
    return ""


def _ticket(scope: Scope) -> str:
    found = re.search(rb"(?:^|&)ticket=([A-Za-z0-9_\-]{43})(?:&|$)", scope["query_string"])
    return found[1].decode() if found else ""
