"""A simulated device's side of HTTP/1.1 on one line, with h11. Requests are answered in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import h11
from msgspec import Struct

from hubd.ports import ByteStream

READ_BYTES_MAX = 16 * 1024
BODY_BYTES_MAX = 64 * 1024
WAITING_BYTES_MAX = 256 * 1024
"""What may be sent to the device while it has not answered yet, where its body may not be longer."""


class HttpRequest(Struct, frozen=True):
    """A whole request."""

    method: str
    path: str
    body: bytes


class BadRequestError(ValueError):
    """What came is no HTTP request."""


class ServerLine:
    """One connection of a cash register. `pump` must run while it is in use."""

    def __init__(self, stream: ByteStream, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self._stream = stream
        self._body_bytes_max = body_bytes_max
        self._waiting_bytes_max = max(WAITING_BYTES_MAX, 2 * body_bytes_max)
        self._http = h11.Connection(h11.SERVER)
        self._news = asyncio.Event()
        self._waiting_bytes = 0
        self.lost = False
        self.on_lost: Callable[[], None] = lambda: None

    async def pump(self) -> None:
        """Read until the line is lost."""
        while not self.lost:
            try:
                data = await self._stream.read(READ_BYTES_MAX)
            except OSError:
                data = b""
            self._waiting_bytes += len(data)
            if data and self._waiting_bytes <= self._waiting_bytes_max:
                self._http.receive_data(data)
                self._news.set()
            else:
                self._lose()

    def _lose(self) -> None:
        self.lost = True
        self._news.set()
        self.on_lost()

    async def request(self) -> HttpRequest | None:
        """The next whole request; None once the line is lost. Raises `BadRequestError`."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise BadRequestError(str(error)) from None
            match event:
                case h11.Request():
                    head = event
                case h11.Data(data=part):
                    body += part
                    if len(body) > self._body_bytes_max:
                        raise BadRequestError("the body is too long")
                case h11.EndOfMessage() if head is not None:
                    self._waiting_bytes = 0
                    return HttpRequest(head.method.decode("ascii"), head.target.decode("ascii"), bytes(body))
                case _:
                    if self.lost:
                        return None
                    self._news.clear()
                    await self._news.wait()

    async def respond(
        self, status: int, body: bytes, *, close: bool = False, content_type: str = "application/json"
    ) -> None:
        """Answer the last request, in one write. Raises OSError when the line is lost."""
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        if close:
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=status, headers=headers)
        parts = [self._http.send(event) or b"" for event in (response, h11.Data(data=body), h11.EndOfMessage())]
        await self._stream.write(b"".join(parts))
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()

    @property
    def may_go_on(self) -> bool:
        """Whether another request may come on this line."""
        return self._http.our_state is h11.IDLE

    async def close(self) -> None:
        """Hang up."""
        self._lose()
        await self._stream.close()
