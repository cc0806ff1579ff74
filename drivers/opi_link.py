"""One OPI conversation over one open line: messages in, messages out. Used by the driver and by the simulator."""

from __future__ import annotations

import asyncio
from collections import deque

from drivers.opi_codec import FrameReader, Garbage, frame
from drivers.opi_messages import Message, decode
from hubd.ports import ByteStream
from hubd.runtime import Clock

READ_BYTES_MAX = 4096
MESSAGES_WAITING_MAX = 256
"""Messages read and not yet looked at; a device that sends more at once babbles and loses its line."""


class LineLostError(OSError):
    """The line broke, or carried something that is not OPI. Whether the last message arrived is not known."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OpiLink:
    """Messages over a `ByteStream`. `pump` must run while the link is in use; `receive` has one user."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._reader = FrameReader()
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._ended = asyncio.Event()
        self._lost: LineLostError | None = None

    @property
    def lost(self) -> str:
        """Why the link cannot be used any more, or ""."""
        return self._lost.reason if self._lost else ""

    async def pump(self) -> str:
        """Read until the line is lost; return why. The only reader of the stream."""
        while self._lost is None:
            try:
                data = await self._stream.read(READ_BYTES_MAX)
            except OSError as error:
                self._lose(f"line_error: {error.strerror or type(error).__name__}")
                break
            if not data:
                self._lose("hung_up")
                break
            self._take(data)
        return self.lost

    def _take(self, data: bytes) -> None:
        for found in self._reader.feed(data):
            message = found if isinstance(found, Garbage) else decode(found)
            if isinstance(message, Garbage):
                self._lose(message.reason)
                return
            self.put(message)

    def put(self, message: Message) -> None:
        """Add a message as if it had come on this line: what a device says elsewhere in the same conversation."""
        if len(self._messages) >= MESSAGES_WAITING_MAX:
            self._lose("babble")
            return
        self._messages.append(message)
        self._news.set()

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = LineLostError(reason)
        self._news.set()
        self._ended.set()

    def discard_received(self) -> int:
        """Forget messages that nobody has asked for; return how many there were."""
        count = len(self._messages)
        self._messages.clear()
        return count

    async def send(self, document: bytes) -> None:
        """Hand one document to the line. Raises `LineLostError`; it may have arrived all the same."""
        if self._lost:
            raise self._lost
        try:
            await self._stream.write(frame(document))
        except OSError as error:
            self._lose(f"line_error: {error.strerror or type(error).__name__}")
            raise LineLostError(self.lost) from error

    async def receive(self, timeout_s: float | None) -> Message:
        """The next message. Raises TimeoutError after `timeout_s`, `LineLostError` when nothing can come any more."""
        async with self._clock.timeout(timeout_s):
            while not self._messages:
                if self._lost:
                    raise self._lost
                self._news.clear()
                await self._news.wait()
        return self._messages.popleft()

    async def ends_within(self, timeout_s: float) -> bool:
        """Whether the line is lost within this time."""
        try:
            async with self._clock.timeout(timeout_s):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Give the line back; a waiting `receive` ends with `LineLostError`. May be called again."""
        self._lose("closed")
        await self._stream.close()
