"""One ZVT conversation over one open line: blocks in, blocks out. Used by the driver and by the simulator.

A link is used until the first dialogue on it that did not end as it should; then it is closed and a new one opened,
so that a late answer to an old question can never be taken for the answer to a new one.
"""

from __future__ import annotations

import asyncio
from collections import deque

from drivers.link import Link
from drivers.zvt_codec import (
    ACK,
    NAK,
    Apdu,
    BadBlock,
    Garbage,
    LinkAck,
    LinkNak,
    SerialReader,
    TcpReader,
    encode_apdu,
    encode_serial,
)
from hubd.ports import ByteStream
from hubd.runtime import Clock

CHARACTER_TIMEOUT_S = 0.2
"""T1: between two characters of one block (PA00P016)."""
BLOCK_ACK_TIMEOUT_S = 5.0
"""T2: for the one-byte answer to a serial block."""
BLOCK_REPEATS_MAX = 2
"""How often a block that moves no money is sent again after a NAK or silence."""
APDUS_WAITING_MAX = 512
"""Blocks read and not yet looked at; a device that sends more at once babbles and loses its line."""


class BlockRefusedError(OSError):
    """Serial: the other side answered NAK, or nothing, to a block that must not be sent twice."""


class ZvtLink(Link):
    """Frames over a `ByteStream`. `pump` must run while the link is in use; `receive` has one user."""

    def __init__(self, stream: ByteStream, clock: Clock, *, serial: bool) -> None:
        super().__init__(stream, clock)
        self._serial = serial
        self._reader: SerialReader | TcpReader = SerialReader() if serial else TcpReader()
        self._apdus: deque[Apdu] = deque()
        self._block_answers: deque[bool] = deque(maxlen=16)
        self._sending = asyncio.Lock()
        self.bytes_read = 0

    async def _read(self) -> bytes:
        if not (self._serial and self._reader.pending):
            return await super()._read()
        # Characters of one block follow each other within T1. Ten times that: USB adapters deliver in bursts.
        try:
            async with self._clock.timeout(10 * CHARACTER_TIMEOUT_S):
                return await super()._read()
        except TimeoutError:
            if isinstance(self._reader, SerialReader):
                self._reader.reset()
            return await super()._read()

    async def _take(self, data: bytes) -> None:
        self.bytes_read += len(data)
        for event in self._reader.feed(data):
            match event:
                case Apdu():
                    if len(self._apdus) >= APDUS_WAITING_MAX:
                        self._lose("babble")
                        return
                    self._apdus.append(event)
                    await self._answer_block(ACK)
                case LinkAck() | LinkNak():
                    self._block_answers.append(isinstance(event, LinkAck))
                case BadBlock():
                    await self._answer_block(NAK)
                case Garbage(reason):
                    self._lose(reason)
                    return
        self._news.set()

    async def _answer_block(self, answer: int) -> None:
        if self._serial:
            try:
                await self._stream.write(bytes((answer,)))
            except OSError:
                self._lose("line_error: write")

    def discard_received(self) -> int:
        """Forget blocks that nobody has asked for; return how many there were."""
        count = len(self._apdus)
        self._apdus.clear()
        self._block_answers.clear()
        return count

    async def send(self, apdu: Apdu, *, once: bool = False) -> None:
        """Hand a block to the line; on a serial line return when the other side has confirmed it.

        With `once` the block leaves at most one time, whatever happens. Raises `BlockRefusedError` or
        `LineLostError`; in both cases it may have arrived.
        """
        async with self._sending:
            await self._send(apdu, once=once)

    async def _send(self, apdu: Apdu, *, once: bool) -> None:
        self._still_there()
        if not self._serial:
            await self._transmit(encode_apdu(apdu))
            return
        for _ in range(1 if once else 1 + BLOCK_REPEATS_MAX):
            self._block_answers.clear()
            await self._transmit(encode_serial(apdu))
            if await self._block_confirmed():
                return
        raise BlockRefusedError("the block was not confirmed")

    async def _block_confirmed(self) -> bool:
        try:
            async with self._clock.timeout(BLOCK_ACK_TIMEOUT_S):
                while not self._block_answers:
                    # An answer of the application says that the block arrived, even if its ACK was lost.
                    if self._apdus:
                        return True
                    await self._wait_for_news()
        except TimeoutError:
            return False
        return self._block_answers.popleft()

    async def receive(self, timeout_s: float | None) -> Apdu:
        """The next block. Raises TimeoutError after `timeout_s`, `LineLostError` when nothing can come any more."""
        async with self._clock.timeout(timeout_s):
            while not self._apdus:
                await self._wait_for_news()
        return self._apdus.popleft()
