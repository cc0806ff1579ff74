"""The spoiled link itself: each fault is really seen by the two ends, and without faults nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.rigs.link_proxy import LinkProxy
from tests.rigs.process import wait_until

STEP_TIMEOUT_S = 10.0
SILENCE_S = 0.2


@pytest.fixture
async def link() -> AsyncIterator[LinkProxy]:
    """A link to a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        async with LinkProxy("127.0.0.1", server.sockets[0].getsockname()[1], record=True) as proxy:
            yield proxy
    finally:
        server.close()


class End:
    """A client's end of the link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, link: LinkProxy) -> End:
        return cls(*await asyncio.open_connection(link.host, link.port))

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), STEP_TIMEOUT_S)  # noqa: TID251 - real sockets

    async def hears_nothing(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(1), SILENCE_S)  # noqa: TID251 - silence has to be listened to
        except TimeoutError:
            return True
        return False


async def test_a_sound_link_carries_both_ways(link: LinkProxy) -> None:
    end = await End.connect(link)
    await end.say(b"hello")
    assert await end.hear(5) == b"hello"
    end.writer.write_eof()
    assert await end.reader.read() == b""
    await wait_until(lambda: link.connection_count == 0, STEP_TIMEOUT_S, "the end of the connection")
    assert (bytes(link.traffic.up_data), bytes(link.traffic.down_data)) == (b"hello", b"hello")
    end.writer.close()


async def test_a_cut_resets_and_refuses_until_restored(link: LinkProxy) -> None:
    end = await End.connect(link)
    await end.say(b"x")
    await end.hear(1)
    await link.cut()
    with pytest.raises(ConnectionResetError):
        await end.hear(1)
    end.writer.close()
    with pytest.raises(ConnectionRefusedError):
        await End.connect(link)
    await link.restore()
    again = await End.connect(link)
    await again.say(b"y")
    assert await again.hear(1) == b"y"
    again.writer.close()


async def test_a_blackhole_tells_neither_end(link: LinkProxy) -> None:
    end = await End.connect(link)
    await end.say(b"x")
    await end.hear(1)
    link.blackhole()
    await end.say(b"lost")
    late = await End.connect(link)  # the kernel takes it, nobody answers
    await late.say(b"z")
    assert await end.hears_nothing()
    assert await late.hears_nothing()
    assert not end.reader.at_eof()
    link.heal()
    await end.say(b"found")
    assert await end.hear(5) == b"found"
    assert await late.hear(1) == b"z"
    end.writer.close()
    late.writer.close()


async def test_one_direction_alone_can_be_lost(link: LinkProxy) -> None:
    """The answer that never arrives: the request did reach the other side."""
    end = await End.connect(link)
    link.faults.drop_down = True
    await end.say(b"pay 12,34")
    assert await end.hears_nothing()
    assert bytes(link.traffic.up_data) == b"pay 12,34"
    end.writer.close()


async def test_latency_and_throttle_are_felt(link: LinkProxy) -> None:
    end = await End.connect(link)
    loop = asyncio.get_running_loop()
    await end.say(b"x")
    await end.hear(1)
    started = loop.time()
    link.faults.latency_s = 0.1
    await end.say(b"x")
    await end.hear(1)
    assert loop.time() - started >= 0.2
    link.faults.latency_s, link.faults.bytes_per_s = 0.0, 10_000.0
    started = loop.time()
    await end.say(bytes(2000))
    await end.hear(2000)
    assert loop.time() - started >= 0.4
    end.writer.close()


async def test_a_message_can_be_cut_in_the_middle(link: LinkProxy) -> None:
    end = await End.connect(link)
    link.faults.cut_after_down_bytes = 4
    await end.say(b"approved")
    assert await end.hear(4) == b"appr"
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await end.hear(1)
    end.writer.close()


async def test_a_target_that_is_not_there_looks_like_a_reset() -> None:
    async with LinkProxy("127.0.0.1", 1) as link:
        end = await End.connect(link)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await end.hear(1)
        end.writer.close()
