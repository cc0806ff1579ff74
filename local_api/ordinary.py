"""The short way for ordinary requests: one match instead of a state machine, and one write for head and body.

Nearly every request of a till arrives whole and is plain: a known method, an address, headers that come once each, a
body of a declared length. Those are read here. Whatever is only a little different (in pieces, chunked, HTTP/1.0, an
upgrade, a repeated header, a byte beyond ASCII) is none of this module's business and goes through h11 as ever, so
strictness about what is no HTTP stays in one place. What is read here reads in h11 the same (a test compares).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import unquote

from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, RequestResponseCycle

from local_api.direct import framed

_HEAD = re.compile(
    rb"(GET|PUT|POST|DELETE) (/[!-~]*) HTTP/1\.1((?:\r\n[-!#$%&'*+.^_`|~0-9A-Za-z]+:[ \t!-~]*)+)\r\n\r\n"
)
_LENGTH = re.compile(rb"[0-9]{1,7}")
_NOT_ORDINARY = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"http2-settings"})
_BODILESS = frozenset({204, 304})
_CLOSE = (b"connection", b"close")

Headers = list[tuple[bytes, bytes]]


class Ordinary(NamedTuple):
    """A whole request."""

    method: str
    target: bytes
    headers: Headers
    body: bytes


def ordinary(data: bytes, head_bytes_max: int) -> Ordinary | None:
    """The one whole request that these bytes are, nothing before and nothing after it; None for anything else."""
    found = _HEAD.match(data)
    if found is None or found.end() > head_bytes_max:
        return None
    headers = []
    for line in found[3][2:].split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" \t")))
    values = dict(headers)
    if len(values) != len(headers) or b"host" not in values or not _NOT_ORDINARY.isdisjoint(values):
        return None
    if values.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    body, declared = data[found.end() :], values.get(b"content-length", b"0")
    if _LENGTH.fullmatch(declared) is None or int(declared) != len(body):
        return None
    return Ordinary(found[1].decode(), found[2], headers, body)


def scope_of(request: Ordinary, same: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """The request as ASGI tells it; `same` is what all requests of a connection share."""
    raw_path, _, query = request.target.partition(b"?")
    path = raw_path.decode("ascii")
    return {
        **same,
        "method": request.method,
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "headers": request.headers,
        "state": state.copy(),
    }


class OrdinaryCycle(RequestResponseCycle):
    """One ordinary request and its answer, which is framed here. The answer's head waits for the first of its body."""

    def __init__(self, body: bytes, **rest: Any) -> None:
        super().__init__(**rest)
        self.body = bytearray(body)
        self.more_body = False
        self.message_event.set()
        self._head: Any = None
        self._chunked = False
        self._left = 0

    async def send(self, message: Any) -> None:
        """Send one ASGI message; raises RuntimeError for an answer that is not what it says."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            if message["type"] != "http.response.start":
                raise RuntimeError("an answer begins with its head")
            self.response_started, self._head = True, message
            return
        if self.response_complete or message["type"] != "http.response.body":
            raise RuntimeError("an answer has one head and one end")
        body, more = message.get("body", b""), message.get("more_body", False)
        head, self._head = self._head, None
        begin = self._begin(head, len(body), more) if head is not None else b""
        self.transport.write(begin + self._part(body, more))
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    @property
    def takes_chunks(self) -> bool:
        """Whether its head is out and says that chunks follow."""
        return self._chunked

    def _begin(self, message: Any, size: int, more: bool) -> bytes:
        headers: Headers = [*self.default_headers, *message.get("headers", ())]
        status = message["status"]
        declared = next((value for name, value in headers if name == b"content-length"), None)
        if declared is not None:
            self._left = int(declared)
        elif more:
            self._chunked = True
            headers.append((b"transfer-encoding", b"chunked"))
        elif status not in _BODILESS:
            self._left = size
            headers.append((b"content-length", b"%d" % size))
        if _CLOSE in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append(_CLOSE)
        lines = [b"HTTP/1.1 %d %b" % (status, STATUS_PHRASES[status])]
        lines += [b"%b: %b" % header for header in headers]
        head = b"\r\n".join(lines)
        if head.count(b"\n") != len(headers) or head.count(b"\r") != len(headers) or b"\0" in head:
            raise RuntimeError("a header of the answer holds a line break")
        return head + b"\r\n\r\n"

    def _part(self, body: bytes, more: bool) -> bytes:
        if self._chunked:
            return (framed(body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        self._left -= len(body)
        if self._left < 0 or (self._left and not more):
            raise RuntimeError("the body is not as long as the answer's head says")
        return body
