"""What the driver relies on in real TCP and serial lines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import serial

from drivers.transport import open_transport
from hubd.errors import ConfigError, DeviceError
from hubd.ports import ByteStream
from tests.rigs.process import free_port

READ_TIMEOUT_S = 10.0


@pytest.fixture
def pty() -> Iterator[tuple[int, str]]:
    """The device's end of a pseudo-terminal, and the path of the hub's."""
    master, slave = os.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    os.close(slave)
    yield master, path
    with contextlib.suppress(OSError):
        os.close(master)


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]]:
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda reader, writer: accepted.put_nowait((reader, writer)), "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", accepted
    finally:
        server.close()
        while not accepted.empty():
            accepted.get_nowait()[1].transport.abort()


async def read_within(stream: ByteStream) -> bytes:
    async with asyncio.timeout(READ_TIMEOUT_S):  # noqa: TID251 - a real line, a real limit
        return await stream.read(100)


async def test_serial_bytes_go_both_ways_and_every_value_survives(pty: tuple[int, str]) -> None:
    master, path = pty
    every = bytes(range(256))
    stream = await open_transport(f"serial://{path}?baud=9600&stop_bits=2")
    try:
        await stream.write(every)
        assert await asyncio.to_thread(os.read, master, 512) == every
        os.write(master, every)
        received = b""
        while len(received) < len(every):
            received += await read_within(stream)
        assert received == every
    finally:
        await stream.close()
        await stream.close()


async def test_serial_port_is_ours_alone(pty: tuple[int, str]) -> None:
    stream = await open_transport(f"serial://{pty[1]}")
    try:
        with pytest.raises(OSError, match="lock"):
            await open_transport(f"serial://{pty[1]}")
    finally:
        await stream.close()
    again = await open_transport(f"serial://{pty[1]}")
    await again.close()


async def test_hang_up_of_a_serial_line_is_an_error_or_the_end(pty: tuple[int, str]) -> None:
    stream = await open_transport(f"serial://{pty[1]}")
    os.close(pty[0])
    with contextlib.suppress(ConnectionError, serial.SerialException):
        assert await read_within(stream) == b""
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the adapter; that it is one is the contract
        await stream.write(b"x")
    await stream.close()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    ended, _ = await asyncio.wait(left) if left else (set(), set())
    assert [task.exception() for task in ended if task.exception()] == []


async def test_missing_port_and_refused_connection_are_os_errors() -> None:
    with pytest.raises(OSError, match="No such file"):
        await open_transport("serial:///dev/there-is-no-such-port")
    with pytest.raises(ConnectionRefusedError):
        await open_transport(f"tcp://127.0.0.1:{free_port()}")


async def test_settings_that_a_port_does_not_have_are_named_and_leave_it_free(pty: tuple[int, str]) -> None:
    """A pseudo-terminal has no parity."""
    with pytest.raises(DeviceError, match=r"device\.line_settings"):
        await open_transport(f"serial://{pty[1]}?data_bits=7&parity=even")
    await (await open_transport(f"serial://{pty[1]}")).close()


@pytest.mark.parametrize(
    "url", ["serial:///dev/ttyS0?baud=fast", "serial:///dev/ttyS0?stop_bits=3", "tcp://host", "usb://1:2"]
)
async def test_unusable_addresses_are_named(url: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.invalid_value"):
        await open_transport(url)


async def test_tcp_bytes_go_both_ways_and_the_end_is_empty() -> None:
    async with listening() as (url, accepted):
        stream = await open_transport(url)
        reader, writer = await accepted.get()
        await stream.write(b"\x06\x01")
        assert await reader.readexactly(2) == b"\x06\x01"
        writer.write(b"\x80\x00\x00")
        assert await read_within(stream) == b"\x80\x00\x00"
        writer.close()
        assert await read_within(stream) == b""
        await stream.close()


async def test_closing_tcp_takes_back_what_the_peer_has_not_read() -> None:
    """With an ordinary close the kernel would go on delivering a command that the hub has given up."""
    async with listening() as (url, accepted):
        stream = await open_transport(url)
        reader, _ = await accepted.get()
        await stream.close()
        await stream.close()
        with pytest.raises(ConnectionResetError):
            await reader.read(100)
        with pytest.raises(OSError, match="closed"):
            await stream.write(b"\x06\x01")
