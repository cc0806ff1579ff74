"""What the TCP and the serial stream have in common: asyncio's reader and writer behind `ByteStream`."""

from __future__ import annotations

import asyncio

READ_BUFFER_BYTES = 64 * 1024
"""What may wait unread before the line is stopped."""


class AsyncioStream:
    """A `ByteStream` over a pair of asyncio streams. Closing drops what has not left yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._closed = False

    async def read(self, max_bytes: int) -> bytes:
        """Up to `max_bytes`, or b"" once the other side has gone; raises OSError when the line breaks."""
        return await self._reader.read(max_bytes)

    async def write(self, data: bytes) -> None:
        """Hand all bytes to the line; raises OSError when it is broken."""
        if self._closed or self._writer.is_closing():
            raise ConnectionResetError("the line is closed")
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Release the line at once: a command that has not left must not arrive after we gave it up."""
        if self._closed:
            return
        self._closed = True
        self._abort()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # the line was broken already

    def _abort(self) -> None:
        self._writer.transport.abort()
