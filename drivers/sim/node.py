"""A simulator's line on the device's side of a USB gadget (`/dev/ttyGS0`, `/dev/g_printer0`, `/dev/hidg0`).

It can stop at a byte, so that whoever pulls the plug pulls it in the middle of a frame.
"""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from pathlib import Path

from drivers.transport.device_file import DeviceFileStream

NEVER = 1 << 62


class Hold:
    """At which byte the line stops, counted from the command on. It stays so until the line is opened anew."""

    def __init__(self) -> None:
        self._left = {"heard": NEVER, "said": NEVER}
        self._reached = asyncio.Event()

    async def control(self, request: dict[str, object]) -> dict[str, object] | None:
        """`hold` sets it; `held` answers once the byte has passed. None for another command."""
        match request:
            case {"cmd": "hold", "way": "heard" | "said" as way, "bytes": int(count)}:
                self.forget()
                self._left[str(way)] = count
            case {"cmd": "held"}:
                await self._reached.wait()
            case _:
                return None
        return {"ok": True}

    def forget(self) -> None:
        """The line stops nowhere."""
        self._left = {"heard": NEVER, "said": NEVER}
        self._reached.clear()

    def left(self, way: str) -> int:
        """How many bytes may still pass."""
        return self._left[way]

    def passed(self, way: str, count: int) -> None:
        """So many have."""
        self._left[way] -= count
        if self._left[way] <= 0:
            self._reached.set()


class NodeStream:
    """A `ByteStream` over a gadget's node. Raises OSError when there is none."""

    def __init__(self, path: Path, hold: Hold) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        self.is_serial = os.isatty(descriptor)
        if self.is_serial:
            tty.setraw(descriptor, termios.TCSANOW)  # what the hub has said already is kept
        self._stream = DeviceFileStream(descriptor, writable=True)
        self._closed = asyncio.Event()
        self._hold = hold
        hold.forget()

    async def read(self, max_bytes: int) -> bytes:
        """See `ByteStream`."""
        if self._hold.left("heard") <= 0:
            await self._closed.wait()
            raise ConnectionResetError("the line is unplugged")
        data = await self._stream.read(min(max_bytes, self._hold.left("heard")))
        data = data[: self._hold.left("heard")]  # it may have been told to stop while it waited
        self._hold.passed("heard", len(data))
        return data

    async def write(self, data: bytes) -> None:
        """See `ByteStream`. The device believes that it has said what is behind the byte at which the line stops."""
        piece = data[: self._hold.left("said")]
        if piece:
            await self._stream.write(piece)
            self._hold.passed("said", len(piece))

    async def close(self) -> None:
        """See `ByteStream`."""
        self._closed.set()
        await self._stream.close()
