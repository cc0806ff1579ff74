"""One Caisse-AP conversation over one open line: messages in, messages out. Used by the driver and by the simulator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from drivers.caisse_ap_codec import ELEMENTS_MAX, Element, ElementReader, Garbage, Message
from drivers.link import LineLostError, Link
from hubd.ports import ByteStream
from hubd.runtime import Clock

QUIET_S = 0.3
"""Nothing marks the end of a message: one that has all that it needs has ended when nothing follows for this long."""
STALLED_S = 10.0
"""A message that lacks something is waited for this long after its last byte, then it is taken as it is."""
MESSAGES_WAITING_MAX = 8
"""Messages read and not yet looked at; a device that sends more at once babbles and loses its line."""

FOREIGN = frozenset({"not_caisse_ap", "babble"})
"""Reasons for which a line is lost because something else than a Caisse-AP device talks there."""


class CaisseApLink(Link):
    """Messages over a `ByteStream`. `pump` must run while the link is in use; `receive` has one user."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        super().__init__(stream, clock)
        self._reader = ElementReader()
        self._messages: deque[Message] = deque()
        self._coming: dict[str, str] = {}
        """The message whose end has not been seen."""
        self.ended = asyncio.Event()
        self.answered = False
        """Whether a whole message has been received on this line."""

    @property
    def pending(self) -> bool:
        """Whether something has come that `receive` has not returned."""
        return bool(self._messages or self._coming or self._reader.pending)

    async def _take(self, data: bytes) -> None:
        for event in self._reader.feed(data):
            match event:
                case Garbage(reason):
                    self._lose(reason)
                    return
                case Element(tag, value):
                    self._add(tag, value)
        self._news.set()

    def _add(self, tag: str, value: str) -> None:
        if tag == "CZ" and self._coming:
            self._messages.append(self._finished())
            if len(self._messages) > MESSAGES_WAITING_MAX:
                self._lose("babble")
                return
        if (not self._coming and tag != "CZ") or tag in self._coming or len(self._coming) >= ELEMENTS_MAX:
            self._lose("not_caisse_ap")
            return
        self._coming[tag] = value

    def _finished(self) -> Message:
        message = Message(self._coming)
        self._coming = {}
        return message

    def _lose(self, reason: str) -> None:
        super()._lose(reason)
        self.ended.set()

    async def send(self, data: bytes) -> None:
        """Hand a message to the line, once. Raises `LineLostError`; it may have arrived all the same."""
        await self._transmit(data)

    async def receive(self, complete: Callable[[Message], bool]) -> Message:
        """The next message; `complete` says whether one has all that it needs. The caller bounds the time.

        A line that ends behind a complete message is no loss of that message: terminals that close after their answer
        are usual. Raises `LineLostError` when the line ends before, or its bytes stop inside an element.
        """
        while True:
            if self._messages:
                return self._got(self._messages.popleft())
            whole = bool(self._coming) and not self._reader.pending
            satisfied = whole and complete(Message(self._coming))
            if self._lost in FOREIGN or (self._lost and not satisfied):
                raise LineLostError(self._lost)
            if self._lost or not await self._more_within(self._patience(satisfied=satisfied)):
                if not whole:
                    raise LineLostError("cut_short")
                return self._got(self._finished())

    def _patience(self, *, satisfied: bool) -> float | None:
        if satisfied:
            return QUIET_S
        return STALLED_S if self.pending else None

    def _got(self, message: Message) -> Message:
        self.answered = True
        return message

    def forget_received(self) -> None:
        """Drop what nobody has asked for; the beginning of an element stays."""
        self._messages.clear()
        self._coming = {}

    async def _more_within(self, seconds: float | None) -> bool:
        """Whether bytes have come, or the line has ended, before the time was over."""
        self._news.clear()
        try:
            async with self._clock.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return False
        return True
