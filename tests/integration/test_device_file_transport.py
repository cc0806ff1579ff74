"""What the drivers of HID scanners rely on in files of the kernel; pipes stand in for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from drivers.transport import open_transport
from drivers.transport.device_file import EVIOCGRAB, DeviceFileStream, open_device_file
from hubd.errors import ConfigError

READ_TIMEOUT_S = 10.0


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "event5"
    os.mkfifo(path)
    return path


async def read_within(stream: DeviceFileStream) -> bytes:
    async with asyncio.timeout(READ_TIMEOUT_S):  # noqa: TID251 - a real file, a real limit
        return await stream.read(100)


@pytest.mark.parametrize("scheme", ["hidraw", "evdev"])
async def test_reports_are_read_as_they_come(pipe: Path, scheme: str) -> None:
    stream = await open_device_file(f"{scheme}://{pipe}")
    device = os.open(pipe, os.O_WRONLY)
    try:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read_within(stream), name="read")
            await asyncio.to_thread(os.write, device, b"\x02" * 64)
            assert await reading == b"\x02" * 64
        os.close(device)
        assert await read_within(stream) == b""
        with pytest.raises(OSError, match="reading only"):
            await stream.write(b"x")
    finally:
        await stream.close()
        await stream.close()
        with contextlib.suppress(OSError):
            os.close(device)


async def test_closing_ends_a_read_that_waits(pipe: Path) -> None:
    stream = await open_device_file(f"evdev://{pipe}")
    device = os.open(pipe, os.O_WRONLY)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_broken(stream), name="read")
        await asyncio.to_thread(os.fstat, device)
        await stream.close()
        assert await reading
    os.close(device)


async def _broken(stream: DeviceFileStream) -> bool:
    try:
        await read_within(stream)
    except ConnectionResetError:
        return True
    return False


async def test_a_keyboard_is_taken_only_when_that_was_asked_for(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe cannot be grabbed: asking for it is the only way to fail."""
    for url in (f"evdev://{pipe}", f"evdev://{pipe}?grab=0"):
        await (await open_transport(url)).close()
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=r"ioctl|argument"):
        await open_transport(f"evdev://{pipe}?grab=1")
    assert set(os.listdir("/proc/self/fd")) <= before, "the file stayed open"


def test_the_grab_is_the_kernels_number() -> None:
    """`_IOW('E', 0x90, int)`: write, four bytes."""
    assert EVIOCGRAB.to_bytes(4, "big") == bytes((0x40, 4, ord("E"), 0x90))


@pytest.mark.parametrize("url", ["evdev:///dev/null?grab=yes", "hidraw:///dev/null?grab=1", "hidraw://"])
async def test_unusable_addresses_are_named(url: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.invalid_value"):
        await open_transport(url)


async def test_a_missing_file_is_an_os_error() -> None:
    with pytest.raises(OSError, match="No such file"):
        await open_transport("evdev:///dev/input/there-is-no-such-event")
