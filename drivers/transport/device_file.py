"""Device files of the kernel: `lp` for printers; `hidraw` and `evdev`, to which nothing is ever written."""

from __future__ import annotations

import asyncio
import fcntl
import os
from urllib.parse import parse_qs, urlsplit

from hubd.errors import ConfigError

EVIOCGRAB = 0x40044590
"""`_IOW('E', 0x90, int)`: this reader alone hears the device, nothing of it reaches the console any more."""
READ_BYTES_MAX = 4096


class DeviceFileStream:
    """A `ByteStream` over a file that can be waited for. Closing it gives a grabbed device back."""

    def __init__(self, descriptor: int, *, writable: bool = False) -> None:
        self._descriptor = descriptor
        self._writable = writable
        self._writing: asyncio.Event | None = None
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._waiting: asyncio.Event | None = None

    async def read(self, max_bytes: int) -> bytes:
        """See `ByteStream`. One report or some whole records at a time, as the kernel hands them out."""
        while not self._closed:
            try:
                return os.read(self._descriptor, min(max_bytes, READ_BYTES_MAX))
            except BlockingIOError:
                await self._until_readable()
        raise ConnectionResetError("the device file is closed")

    async def _until_readable(self) -> None:
        ready = self._waiting = asyncio.Event()
        self._loop.add_reader(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            self._waiting = None
            if not self._closed:
                self._loop.remove_reader(self._descriptor)

    async def write(self, data: bytes) -> None:
        """Hand all bytes to the kernel; waits while the device takes none, as a printer without paper does.

        Raises OSError when it is gone, and always for an input device.
        """
        if not self._writable:
            raise OSError("the device file is open for reading only")
        while data:
            if self._closed:
                raise ConnectionResetError("the device file is closed")
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                await self._until_writable()

    async def _until_writable(self) -> None:
        ready = self._writing = asyncio.Event()
        self._loop.add_writer(self._descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            self._writing = None
            if not self._closed:
                self._loop.remove_writer(self._descriptor)

    async def close(self) -> None:
        """See `ByteStream`."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        for waiting in (self._waiting, self._writing):
            if waiting is not None:
                waiting.set()
        os.close(self._descriptor)


async def open_device_file(url: str) -> DeviceFileStream:
    """Open `lp:///dev/usb/lp0`, `hidraw:///dev/hidraw0` or `evdev:///dev/input/event5?grab=1`.

    Only `grab=1` takes a keyboard from the console; only `lp` is written to.

    Raises OSError when it is gone, not permitted or already grabbed, ConfigError for an address that cannot be meant.
    """
    parts = urlsplit(url)
    grab = parse_qs(parts.query).get("grab", ["0"])[0]
    if grab not in ("0", "1") or (grab == "1" and parts.scheme != "evdev") or not parts.path:
        raise ConfigError(
            "config.invalid_value",
            "The address of the device file cannot be used.",
            remedy="Write lp:///dev/usb/lp0, hidraw:///dev/hidraw0 or evdev:///dev/input/by-id/NAME-event-kbd?grab=1.",
        )
    loop, writable = asyncio.get_running_loop(), parts.scheme == "lp"
    descriptor = await loop.run_in_executor(None, _open_file, parts.path, grab == "1", writable)
    return DeviceFileStream(descriptor, writable=writable)


def _open_file(path: str, grab: bool, writable: bool) -> int:
    way = os.O_RDWR if writable else os.O_RDONLY
    descriptor = os.open(path, way | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if grab:
            fcntl.ioctl(descriptor, EVIOCGRAB, 1)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
