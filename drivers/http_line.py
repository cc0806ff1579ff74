"""HTTP/1.1 over a byte stream: one request at a time, one answer each. The client's side, with h11.

A device may end a connection after an answer, or when nothing has been asked for a while; that is an ordinary end
(`ended`), and whoever wants to ask more opens another (`HttpDevice` does). Any other end may mean that it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

import h11
from msgspec import Struct

from drivers.base import Lines
from hubd.errors import HubError
from hubd.ports import ByteStream
from hubd.runtime import Clock

READ_BYTES_MAX = 16 * 1024
HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 512 * 1024
"""A payment's answer with two receipts has about ten kilobytes."""
OPEN_TIMEOUT_S = 5.0
JSON = "application/json"
IDLE_END_S = 5.0
"""A connection that ends this long after its last answer was idle; one that ends sooner was broken."""


class LineLostError(ConnectionError):
    """The line broke, or carried something that is not HTTP. Whether the last request arrived is not known."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HttpAnswer(Struct, frozen=True):
    """A whole answer."""

    status: int
    body: bytes


class HttpLine:
    """One connection. `pump` must run while it is in use; `post` has one user at a time."""

    def __init__(self, stream: ByteStream, clock: Clock, idle_end_s: float = IDLE_END_S) -> None:
        """`idle_end_s`: see `IDLE_END_S`; a device that may end its connection at any time has 0."""
        self._stream = stream
        self._clock = clock
        self._idle_end_s = idle_end_s
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._news = asyncio.Event()
        self._waiting = False
        self._answer: HttpAnswer | None = None
        self._status = 0
        self._body = bytearray()
        self._answered_at: float | None = None
        self.lost = ""
        """Why nothing can come any more; empty while the line is good."""
        self.ended = False
        """Lost after its last answer and because of nothing: no question is open, another line may be taken."""

    async def pump(self) -> str:
        """Read until the line is lost, and return why."""
        while not self.lost:
            try:
                data = await self._stream.read(READ_BYTES_MAX)
            except OSError as error:
                self._lose(f"line_error: {error.strerror or type(error).__name__}")
            else:
                self._received(data)
        return self.lost

    def _received(self, data: bytes) -> None:
        if not self._waiting:
            # Nothing was asked: the end of an idle connection, an answer given twice, or no HTTP at all.
            self._lose("unasked" if data else "hung_up")
            return
        try:
            self._http.receive_data(data)
            self._read_events()
        except h11.RemoteProtocolError:
            self._lose("not_http" if data else "hung_up")

    def _read_events(self) -> None:
        while self._waiting:
            match self._http.next_event():
                case h11.Response(status_code=status):
                    self._status = status
                case h11.Data(data=part):
                    self._body += part
                    if len(self._body) > BODY_BYTES_MAX:
                        self._lose("answer_too_long")
                        return
                case h11.EndOfMessage():
                    self._complete()
                case h11.ConnectionClosed():
                    self._lose("hung_up")
                case h11.NEED_DATA | h11.PAUSED:
                    return

    def _complete(self) -> None:
        self._answer = HttpAnswer(self._status, bytes(self._body))
        self._waiting = False
        self._answered_at = self._clock.monotonic()
        self._body.clear()
        unasked = bool(self._http.trailing_data[0])
        if unasked or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._lose("unasked" if unasked else "announced")
        else:
            self._http.start_next_cycle()
        self._news.set()

    def _lose(self, reason: str) -> None:
        if not self.lost:
            self.lost = reason
            self.ended = not self._waiting and self._ordinary(reason)
        self._news.set()

    def _ordinary(self, reason: str) -> bool:
        if self._answered_at is None:
            return False
        if reason == "hung_up":
            return self._clock.monotonic() - self._answered_at >= self._idle_end_s
        return reason in ("announced", "unasked")  # what is given twice is dropped with its line

    async def post(
        self,
        host: str,
        path: str,
        body: bytes,
        timeout_s: float,
        sent: Callable[[], None] = lambda: None,
        content_type: str = JSON,
    ) -> HttpAnswer:
        """Send one request, in one write, and wait for its answer. The request leaves at most once.

        `sent` is called when the bytes are out of hand. Raises `LineLostError`, or TimeoutError after `timeout_s`; in
        both cases the request may have arrived, and the line is lost.
        """
        self._still_there()
        headers = [("Host", host), ("Content-Type", content_type), ("Content-Length", str(len(body)))]
        request = h11.Request(method="POST", target=path, headers=headers)
        parts = (self._http.send(event) for event in (request, h11.Data(data=body), h11.EndOfMessage()))
        self._answer, self._waiting = None, True
        try:
            async with self._clock.timeout(timeout_s):
                await self._write(b"".join(part or b"" for part in parts))
                sent()
                return await self._answered()
        finally:
            if self._waiting:
                self._lose("no_answer")  # a late answer must not be taken for that of the next request

    async def _answered(self) -> HttpAnswer:
        while self._answer is None:
            self._still_there()
            self._news.clear()
            await self._news.wait()
        return self._answer

    def _still_there(self) -> None:
        if self.lost:
            raise LineLostError(self.lost)

    async def _write(self, data: bytes) -> None:
        try:
            await self._stream.write(data)
        except OSError as error:
            self._lose(f"line_error: {error.strerror or type(error).__name__}")
            raise LineLostError(self.lost) from error

    async def close(self) -> None:
        """Give the line back; a waiting `post` ends with `LineLostError`. May be called again."""
        self._lose("closed")
        await self._stream.close()


class HttpDevice:
    """A device that speaks HTTP: the line that the runner gave, and others after it when one has ended in peace."""

    def __init__(self, clock: Clock, idle_end_s: float = IDLE_END_S) -> None:
        self._clock = clock
        self._idle_end_s = idle_end_s
        self._line: HttpLine | None = None
        self._lines: Lines | None = None
        self._taken = asyncio.Event()
        self._closed = self._unreachable = False
        self.host = ""
        """As the header `Host` names it."""

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """See `Driver.attach`."""
        self._line, self._lines = self._over(stream), lines
        self.host = urlsplit(url).netloc.rpartition("@")[2]
        self._closed = self._unreachable = False

    def _over(self, stream: ByteStream) -> HttpLine:
        return HttpLine(stream, self._clock, self._idle_end_s)

    async def pump(self) -> str:
        """Read until the line is lost, and return why. Where the device ended it in peace, the next one is read."""
        while True:
            line = self._attached()
            reason = await line.pump()
            if self._closed or not line.ended:
                return reason
            await line.close()
            while self._line is line:
                if self._gave_up():
                    return "closed"
                self._taken.clear()
                await self._taken.wait()

    async def close(self) -> None:
        """Give the line back; may be called again."""
        self._closed = True
        self._taken.set()
        if self._line is not None:
            await self._line.close()

    @property
    def there(self) -> bool:
        """Whether the line is there or may be opened anew."""
        line = self._line
        return not (self._closed or self._unreachable or line is None or (line.lost and not line.ended))

    def _gave_up(self) -> bool:
        return self._closed

    def _attached(self) -> HttpLine:
        if self._line is None:
            raise LineLostError("closed")
        return self._line

    async def ready_line(self) -> HttpLine:
        """The line, or another one. Raises `LineLostError`: then nothing was sent."""
        line = self._attached()
        if not self.there:
            raise LineLostError(line.lost or "closed")
        if not line.lost:
            return line
        try:
            stream = await self._open()
        except (OSError, HubError):
            self._unreachable = True
            raise LineLostError("unreachable") from None
        if self._gave_up():
            await stream.close()
            raise LineLostError("closed")
        self._line = self._over(stream)
        self._taken.set()
        return self._line

    async def _open(self) -> ByteStream:
        if self._lines is None:
            raise LineLostError("closed")
        async with self._clock.timeout(OPEN_TIMEOUT_S):
            return await self._lines.another()

    async def post_apart(
        self,
        path: str,
        body: bytes,
        timeout_s: float,
        sent: Callable[[], None] = lambda: None,
        content_type: str = JSON,
    ) -> HttpAnswer:
        """One request on a line of its own beside the others.

        Raises OSError (`LineLostError` and TimeoutError are some) or HubError when no line can be opened or none
        answers.
        """
        line = self._over(await self._open())
        async with asyncio.TaskGroup() as group:
            group.create_task(line.pump(), name="http:apart")
            try:
                return await line.post(self.host, path, body, timeout_s, sent, content_type)
            except OSError as error:
                failure = error  # a group would wrap it
            finally:
                await line.close()
        raise failure


# -- traces ------------------------------------------------------------------------------------------------------------


class HttpSeen(Struct, frozen=True):
    """A whole request or answer that went by: its method or status, and its body."""

    what: str
    body: bytes


class HttpReader:
    """Cuts what went one way on a line into messages, for a trace."""

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self._http = self._fresh()
        self._what = ""
        self._body = bytearray()
        self._lost = False

    def _fresh(self) -> h11.Connection:
        http = h11.Connection(h11.CLIENT if self._answers else h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        if self._answers:
            # h11 reads an answer only to a question; which one it was is nothing to the bytes.
            http.send(h11.Request(method="POST", target="/", headers=[("Host", "device"), ("Content-Length", "0")]))
            http.send(h11.EndOfMessage())
        return http

    def feed(self, data: bytes) -> list[HttpSeen]:
        """Messages that are whole now; after what is no HTTP, none."""
        seen: list[HttpSeen] = []
        while data and not self._lost:
            try:
                self._http.receive_data(data)
                data = self._read(seen)
            except h11.RemoteProtocolError:
                self._lost = True
                seen.append(HttpSeen("no HTTP", b""))
        return seen

    def _read(self, seen: list[HttpSeen]) -> bytes:
        """Bytes of the next message, when one has ended."""
        while True:
            match self._http.next_event():
                case h11.Request(method=method):
                    self._what = method.decode("ascii")
                case h11.Response(status_code=status):
                    self._what = str(status)
                case h11.InformationalResponse():
                    continue  # 100 Continue and its like: the answer is still to come
                case h11.Data(data=part):
                    self._body += part[: BODY_BYTES_MAX - len(self._body)]
                case h11.EndOfMessage():
                    seen.append(HttpSeen(self._what, bytes(self._body)))
                    rest, self._http = self._http.trailing_data[0], self._fresh()
                    self._body.clear()
                    return rest
                case _:
                    return b""
