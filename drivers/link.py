"""What the lines to devices have in common: one loop that reads until the line is lost, and one way to write."""

from __future__ import annotations

import abc
import asyncio

from hubd.errors import DeviceError
from hubd.ports import ByteStream
from hubd.runtime import Clock

READ_BYTES_MAX = 4096


class LineLostError(OSError):
    """The line broke, or carried something of another protocol. Whether what was sent last arrived is not known."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def no_answer() -> DeviceError:
    """Nothing talks."""
    return DeviceError(
        "device.no_answer",
        "The device does not answer.",
        remedy="Switch it on; check its cable, the speed of the line and its protocol in its menu.",
    )


class Link(abc.ABC):
    """Whole messages over a `ByteStream`. `pump` must run while the link is in use, and is the only reader."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._news = asyncio.Event()
        """Set when something has come, or nothing can come any more."""
        self._lost = ""

    @property
    def lost(self) -> str:
        """Why the link cannot be used any more, or ""."""
        return self._lost

    async def pump(self) -> str:
        """Read until the line is lost; return why."""
        while not self._lost:
            try:
                data = await self._read()
            except OSError as error:
                self._lose_by(error)
                break
            if not data:
                self._lose("hung_up")
                break
            await self._take(data)
        return self._lost

    async def _read(self) -> bytes:
        """The next bytes, b"" at the end; raises OSError when the line breaks."""
        return await self._stream.read(READ_BYTES_MAX)

    @abc.abstractmethod
    async def _take(self, data: bytes) -> None:
        """Make messages of what has come, and wake those who wait for them."""

    def _lose(self, reason: str) -> None:
        """The first reason is kept."""
        self._lost = self._lost or reason
        self._news.set()

    def _lose_by(self, error: OSError) -> None:
        self._lose(f"line_error: {error.strerror or type(error).__name__}")

    def _still_there(self) -> None:
        if self._lost:
            raise LineLostError(self._lost)

    async def _transmit(self, data: bytes) -> None:
        """Hand bytes to the line, once. Raises `LineLostError`; they may have arrived all the same."""
        self._still_there()
        try:
            await self._stream.write(data)
        except OSError as error:
            self._lose_by(error)
            raise LineLostError(self._lost) from error

    async def _wait_for_news(self) -> None:
        """Return when something may have come. Raises `LineLostError` when nothing can."""
        self._still_there()
        self._news.clear()
        await self._news.wait()

    async def close(self) -> None:
        """Give the line back; whoever waits hears `LineLostError`. May be called again."""
        self._lose("closed")
        await self._stream.close()
