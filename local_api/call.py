"""One call of a handler: the request decoded by the row's types, the answer encoded from a struct."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct, field

from hubd.errors import AccessError, HubError, InvalidValueError
from hubd.model.card_data import card_data_refused, check_json, holds_card_data
from hubd.model.ids import parse_id
from hubd.services.access import Caller, Device
from local_api import problems
from local_api.context import ApiContext
from local_api.gate import Headers, Receive, Scope, Send
from local_api.table import RouteSpec

T = TypeVar("T")

WAIT_MAX_S = 25
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")
_ENCODER = msgspec.json.Encoder(order="deterministic")
_ETAG = re.compile(r'"v?(\d{1,15})"')


class Reply(Struct, frozen=True):
    """An answer: a struct (or bytes of another type), its status and more headers."""

    value: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    stream: AsyncGenerator[bytes] | None = None


class Call(Struct, frozen=True):
    """A request as a handler sees it."""

    context: ApiContext
    spec: RouteSpec
    scope: Scope
    parameters: Mapping[str, str]
    maybe_caller: Caller | None
    device: Device | None
    body: Any
    query: Any

    @property
    def caller(self) -> Caller:
        """Who asks; the gate lets nobody else reach a row with a permission."""
        if self.maybe_caller is None:
            raise AccessError("access.not_signed_in", "The request does not say who asks.", remedy="Sign in.")
        return self.maybe_caller

    @property
    def header(self) -> Headers:
        """The request's headers, as the gate has read them."""
        return cast("Headers", self.scope["hubd.headers"])

    def id(self, name: str = "id") -> str:
        """A path parameter that is an id; raises `invalid_id`."""
        return parse_id(self.parameters[name], name)

    @property
    def wait_s(self) -> int:
        """Seconds that `Prefer: wait=N` allows (RFC 7240), at most 25."""
        found = _WAIT.search(self.header.get("prefer"))
        return min(int(found[1]), WAIT_MAX_S) if found else 0

    @property
    def if_match(self) -> int:
        """The version in `If-Match`; raises `if_match_missing` where two people may edit."""
        text = self.header.get("if-match")
        if not text:
            raise HubError(
                "if_match_missing",
                "The change does not say which version it is based on.",
                remedy="Read the resource and send its ETag as If-Match.",
            )
        found = _ETAG.fullmatch(text)
        if found is None:
            raise InvalidValueError("invalid_if_match", "If-Match is not an ETag of ours.", remedy="Send it unchanged.")
        return int(found[1])

    def digest(self, what: str) -> bytes:
        """SHA-256 over the canonical JSON of the request: equal for equal requests, however they were written."""
        return hashlib.sha256(b"hubd.request.v1\0" + what.encode() + b"\0" + _ENCODER.encode(self.body)).digest()

    def applied_wait(self) -> dict[str, str]:
        """The header that says a preference was honoured."""
        return {"preference-applied": f"wait={self.wait_s}"} if self.wait_s else {}


def decode_body(raw: bytes, wanted: type[T], content_type: str) -> T:
    """The body as its struct. Card data is refused before anything else is said about the shape."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidValueError("wrong_media_type", "The body is not application/json.", remedy="Send it as JSON.")
    try:
        value = msgspec.json.decode(raw, type=wanted)
    except msgspec.ValidationError as exc:
        _check_unknown_shape(raw)
        raise problems.invalid_request(exc) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _check_unknown_shape(raw)
        raise problems.malformed_json() from None
    except HubError:
        _check_unknown_shape(raw)
        raise
    _check_names_once(raw)
    return value


def _check_names_once(raw: bytes) -> None:
    """Raise for an object that names a field twice: readers differ in which of the two they take.

    msgspec takes the last and says nothing, so the body is read a second time; it has the wanted shape already.
    """
    try:
        _NAMES_ONCE.decode(raw.decode("utf-8"))
    except RecursionError:
        raise problems.malformed_json() from None


def _pairs_once(pairs: list[tuple[str, object]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) != len(pairs):
        raise InvalidValueError("malformed_request", "The body names a field twice.", remedy="Send each field once.")


_NAMES_ONCE = json.JSONDecoder(object_pairs_hook=_pairs_once, parse_int=str, parse_float=str)
"""Made once: to make it takes longer than to read a payment's body. Numbers stay text, whatever their length."""


def _check_unknown_shape(raw: bytes) -> None:
    """Raise for a body that is no JSON at all, and for one with a card number: that is what has to be said first."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if holds_card_data(raw.decode("utf-8", errors="replace")):
            raise card_data_refused() from None
        raise problems.malformed_json() from None
    check_json(value)


def decode_query(raw: bytes, wanted: type[Any] | None) -> Any:
    """The query as its struct; a route without one takes no parameters but `ticket`."""
    if not raw and wanted is None:
        return None
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=32)
    except (ValueError, UnicodeDecodeError):
        raise InvalidValueError("malformed_request", "The query cannot be read.", remedy="Encode it.") from None
    values = dict(pairs)
    values.pop("ticket", None)
    if len(dict(pairs)) != len(pairs):
        raise InvalidValueError("invalid_field", "The query names a parameter twice.", remedy="Send each once.")
    if wanted is None:
        if values:
            raise InvalidValueError("unknown_field", "This address takes no parameters.", remedy="Leave them out.")
        return None
    try:
        return msgspec.convert(values, wanted, strict=False)
    except msgspec.ValidationError as exc:
        raise problems.invalid_request(exc) from None


class Endpoint:
    """The ASGI application of one row of the table. The gate has already let the caller in and read the body."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decode, call the row's handler, encode. Errors go up to the gate, which answers with a problem."""
        spec = cast("RouteSpec", scope["hubd.spec"])
        assert spec.handler is not None, "the router sends only rows with a handler here"
        body = None
        if spec.body is not None and spec.body_optional and not scope["hubd.body"]:
            body = spec.body()
        elif spec.body is not None:
            body = decode_body(scope["hubd.body"], spec.body, scope["hubd.headers"].get("content-type"))
        elif scope["hubd.body"] and spec.method != "WS":
            raise InvalidValueError("malformed_request", "This address takes no body.", remedy="Leave it out.")
        query = decode_query(scope["query_string"], spec.query)
        call = Call(
            self._context,
            spec,
            scope,
            scope["hubd.parameters"],
            scope["hubd.caller"],
            scope["hubd.device"],
            body,
            query,
        )
        if spec.method == "WS":
            scope["hubd.receive"], scope["hubd.send"] = receive, send
            await spec.handler(call)
            return
        await _answer(await spec.handler(call), scope, receive, send)


async def _stream(parts: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    """Send until the stream ends or its follower has left: a server says nothing when one leaves silently."""

    async def give() -> None:
        async for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass  # the body was read by the gate; nothing else is expected

    async with asyncio.TaskGroup() as group:
        giver = group.create_task(give(), name="api.stream")
        listener = group.create_task(until_gone(), name="api.stream.gone")
        await asyncio.wait({giver, listener}, return_when=asyncio.FIRST_COMPLETED)
        giver.cancel()
        listener.cancel()


async def _answer(reply: Reply, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"content-type": reply.media_type, "cache-control": "no-store", **reply.headers}
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    if reply.stream is not None:
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        async with aclosing(reply.stream):
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            else:
                await _stream(reply.stream, receive, send)
        return
    body = reply.value if isinstance(reply.value, bytes) else b""
    if reply.value is not None and not isinstance(reply.value, bytes):
        body = msgspec.json.encode(reply.value)
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def time_us(text: str, name: str) -> int | None:
    """An RFC 3339 time with its zone in microseconds; None for an empty one."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidValueError(
            "invalid_time",
            "The time is not RFC 3339 with a zone.",
            remedy='Send such as "2026-11-21T18:00:00+01:00", with + encoded as %2B.',
            params={"field": name},
        )
    return int(at.timestamp() * 1_000_000)
