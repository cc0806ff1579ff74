"""HTTP/1.1 over a byte stream: one request at a time, one answer each. The client's side, with h11.

A terminal may end a connection after an answer, or when nothing has been asked for a while; that is an ordinary end
(`ended`), and whoever wants to ask more opens another. Any other end may mean that the terminal is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import h11
from msgspec import Struct

from hubd.ports import ByteStream
from hubd.runtime import Clock

READ_BYTES_MAX = 16 * 1024
HEAD_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 512 * 1024
"""A payment's answer with two receipts has about ten kilobytes."""
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

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
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
            return self._clock.monotonic() - self._answered_at >= IDLE_END_S
        return reason in ("announced", "unasked")  # what is given twice is dropped with its line

    async def post(
        self, host: str, path: str, body: bytes, timeout_s: float, sent: Callable[[], None] = lambda: None
    ) -> HttpAnswer:
        """Send one request, in one write, and wait for its answer. The request leaves at most once.

        `sent` is called when the bytes are out of hand. Raises `LineLostError`, or TimeoutError after `timeout_s`; in
        both cases the request may have arrived, and the line is lost.
        """
        self._still_there()
        headers = [("Host", host), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
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
