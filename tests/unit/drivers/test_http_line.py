"""HTTP over a byte stream: whole answers only, bounded, and never one request's answer for another's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.http_line import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    IDLE_END_S,
    HttpAnswer,
    HttpLine,
    HttpReader,
    HttpSeen,
    LineLostError,
)
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REQUEST = b"POST /nexo HTTP/1.1\r\nHost: terminal:8443\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
Device = Callable[[MemoryStream], Coroutine[Any, Any, None]]
Ask = Callable[[], Awaitable[HttpAnswer]]


def on_a_line(device: Device, hub: Callable[[HttpLine, Ask], Awaitable[None]]) -> HttpLine:
    """One line with its pump, a device at its other end, and what the hub does with it."""

    async def main() -> HttpLine:
        one, other = memory_pipe()
        line = HttpLine(one, VirtualClock())
        async with asyncio.TaskGroup() as group:
            group.create_task(line.pump(), name="pump")
            playing = group.create_task(device(other), name="device")
            try:
                await hub(line, lambda: line.post("terminal:8443", "/nexo", b"{}", 10))
            finally:
                playing.cancel()
                await line.close()
        return line

    return run(main())


async def heard(stream: MemoryStream) -> bytes:
    data = b""
    while len(data) < len(REQUEST):
        data += await stream.read(len(REQUEST) - len(data))
    return data


def answering(*answers: bytes) -> Device:
    async def device(stream: MemoryStream) -> None:
        for answer in answers:
            assert await heard(stream) == REQUEST
            await stream.write(answer)

    return device


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    ],
)
def test_one_line_serves_one_request_after_the_other(answer: bytes) -> None:
    async def hub(line: HttpLine, ask: Ask) -> None:
        for _ in range(2):
            assert await ask() == HttpAnswer(200, b"{}")
            assert not line.lost

    on_a_line(answering(answer, answer), hub)


def test_an_announced_end_is_an_ordinary_one() -> None:
    async def hub(line: HttpLine, ask: Ask) -> None:
        assert (await ask()).body == b"{}"
        assert (line.lost, line.ended) == ("announced", True)
        with pytest.raises(LineLostError, match="announced"):
            await ask()

    on_a_line(answering(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")), hub)


def test_an_answer_given_twice_is_dropped_with_its_line() -> None:
    async def hub(line: HttpLine, ask: Ask) -> None:
        assert (await ask()).body == b"{}"
        assert (line.lost, line.ended) == ("unasked", True)

    on_a_line(answering(OK + OK), hub)


@pytest.mark.parametrize(("quiet_s", "ordinary"), [(0.0, False), (IDLE_END_S + 1, True)])
def test_the_end_of_an_idle_line_is_ordinary_and_a_sudden_one_is_not(quiet_s: float, ordinary: bool) -> None:
    async def device(stream: MemoryStream) -> None:
        await answering(OK)(stream)
        await VirtualClock().sleep(quiet_s)
        await stream.close()

    async def hub(line: HttpLine, ask: Ask) -> None:
        await ask()
        await VirtualClock().sleep(quiet_s + 1)
        assert (line.lost, line.ended) == ("hung_up", ordinary)

    on_a_line(device, hub)


def test_what_greets_is_no_terminal() -> None:
    async def device(stream: MemoryStream) -> None:
        await stream.write(b"SSH-2.0-x\r\n")

    async def hub(line: HttpLine, ask: Ask) -> None:
        await VirtualClock().sleep(1)
        assert (line.lost, line.ended) == ("unasked", False)
        with pytest.raises(LineLostError):
            await ask()

    on_a_line(device, hub)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"\x00\x00\x00\x3eVER|APP 1.0\r\n\r\n", "not_http"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * (HEAD_BYTES_MAX + 1), "not_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"a" * (BODY_BYTES_MAX + 1), "answer_too_long"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not_http"),
    ],
)
def test_what_is_no_answer_loses_the_line_and_not_the_memory(answer: bytes, reason: str) -> None:
    async def hub(line: HttpLine, ask: Ask) -> None:
        with pytest.raises(LineLostError, match=reason):
            await ask()
        assert not line.ended

    on_a_line(answering(answer), hub)


@pytest.mark.parametrize("part", [b"", OK[:20], OK[:-1]])
def test_half_an_answer_is_none(part: bytes) -> None:
    async def device(stream: MemoryStream) -> None:
        await answering(part)(stream)
        await stream.close()

    async def hub(line: HttpLine, ask: Ask) -> None:
        with pytest.raises(LineLostError, match="hung_up"):
            await ask()
        assert not line.ended

    on_a_line(device, hub)


def test_after_a_time_out_the_line_is_not_used_again() -> None:
    async def hub(line: HttpLine, ask: Ask) -> None:
        with pytest.raises(TimeoutError):
            await ask()
        with pytest.raises(LineLostError, match="no_answer"):
            await ask()
        assert not line.ended

    on_a_line(answering(b""), hub)


@given(st.lists(st.binary(max_size=80) | st.sampled_from([OK, OK[:25], OK[25:], b"\r\n", b"HTTP/1.1 "]), max_size=6))
@settings(deadline=None)
def test_any_bytes_end_in_an_answer_or_a_lost_line(parts: list[bytes]) -> None:
    async def device(stream: MemoryStream) -> None:
        await heard(stream)
        for part in parts:
            if stream.alive:
                await stream.write(part)

    async def hub(line: HttpLine, ask: Ask) -> None:
        try:
            assert len((await ask()).body) <= BODY_BYTES_MAX
        except OSError:
            assert line.lost

    on_a_line(device, hub)


def test_a_trace_reads_the_answer_behind_an_interim_one() -> None:
    assert HttpReader(answers=True).feed(b"HTTP/1.1 100 Continue\r\n\r\n" + OK) == [HttpSeen("200", OK[-2:])]
