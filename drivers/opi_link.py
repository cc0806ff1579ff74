"""One OPI conversation over one open line: messages in, messages out. Used by the driver and by the simulator."""

from __future__ import annotations

import asyncio
from collections import deque

from drivers.link import Link
from drivers.opi_codec import FrameReader, Garbage, frame
from drivers.opi_messages import Message, decode
from hubd.ports import ByteStream
from hubd.runtime import Clock

MESSAGES_WAITING_MAX = 256
"""Messages read and not yet looked at; a device that sends more at once babbles and loses its line."""


class OpiLink(Link):
    """Messages over a `ByteStream`. `pump` must run while the link is in use; `receive` has one user."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        super().__init__(stream, clock)
        self._reader = FrameReader()
        self._messages: deque[Message] = deque()
        self._ended = asyncio.Event()

    async def _take(self, data: bytes) -> None:
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
        super()._lose(reason)
        self._ended.set()

    def discard_received(self) -> int:
        """Forget messages that nobody has asked for; return how many there were."""
        count = len(self._messages)
        self._messages.clear()
        return count

    async def send(self, document: bytes) -> None:
        """Hand one document to the line. Raises `LineLostError`; it may have arrived all the same."""
        await self._transmit(frame(document))

    async def receive(self, timeout_s: float | None) -> Message:
        """The next message. Raises TimeoutError after `timeout_s`, `LineLostError` when nothing can come any more."""
        async with self._clock.timeout(timeout_s):
            while not self._messages:
                await self._wait_for_news()
        return self._messages.popleft()

    async def ends_within(self, timeout_s: float) -> bool:
        """Whether the line is lost within this time."""
        try:
            async with self._clock.timeout(timeout_s):
                await self._ended.wait()
        except TimeoutError:
            return False
        return True
