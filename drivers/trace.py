"""What went over a device's line, kept for a while in memory and nowhere else, without card data.

A trace never sees the bytes: a driver gives a description of them (`Driver.describers`), made by its decoder, which
shows the fields that it knows to be harmless and hides the rest. What no decoder is sure of is a count of bytes. As a
second lock every line goes through `mask_card_data`, whose first lock must never need it (contract tests).
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from msgspec import Struct

from drivers.masking import mask_card_data
from hubd.ports import ByteStream, TraceLine, Way
from hubd.runtime import Clock

R = TypeVar("R", covariant=True)

TEXT_MAX = 400
"""Characters of a line; what is longer is cut."""
LINE_OVERHEAD = 120
"""What a line takes in memory beside its text, about."""
SHOWN_MAX = 12
"""Characters of a value that is shown: the shortest card number has one more digit."""
BCD_SHOWN_MAX = SHOWN_MAX // 2

_NAME = re.compile(r"[A-Za-z_]{1,24}")
_VALUE = re.compile(rf"[A-Za-z0-9.,:_+\-]{{1,{SHOWN_MAX}}}")

Describe = Callable[[bytes], list[str]]
"""Bytes of one direction of one line, as they come -> what may be told of the messages that are whole now."""


class TraceLimits(Struct, frozen=True):
    """How much of each device's line is kept."""

    size_bytes: int = 64 * 1024
    age_s: float = 2 * 3600.0


DEFAULT_LIMITS = TraceLimits()


class Trace:
    """The newest lines of one device, bounded in size and age."""

    def __init__(self, clock: Clock, limits: TraceLimits) -> None:
        self._clock, self._limits = clock, limits
        self._lines: deque[tuple[float, TraceLine]] = deque()
        self._size = 0
        self._number = 0
        self._news = asyncio.Event()

    def note(self, way: Way, texts: Iterable[str]) -> None:
        """Keep these lines; what is too old, or too much, goes."""
        now, at_us = self._clock.monotonic(), self._clock.now_us()
        for text in texts:
            self._number += 1
            last = self._lines[-1][1] if self._lines else None
            kept, times = text[:TEXT_MAX], 1
            if last is None or last.text != kept:  # what stands there already has been masked
                kept = mask_card_data(text)[:TEXT_MAX]
            if last is not None and last.text == kept and last.way is way:
                times += last.times
                self._drop(-1)
            self._lines.append((now, TraceLine(self._number, at_us, way, kept, times)))
            self._size += len(kept) + LINE_OVERHEAD
        self._forget(now)
        self._news.set()
        self._news = asyncio.Event()

    def lines(self, after: int = 0) -> list[TraceLine]:
        """The lines with a greater number than this, oldest first."""
        self._forget(self._clock.monotonic())
        return [line for _, line in self._lines if line.number > after]

    async def lines_within(self, after: int, wait_s: float) -> list[TraceLine]:
        """See `lines`; without one waits for one, at most this long."""
        try:
            async with self._clock.timeout(wait_s):
                while not (lines := self.lines(after)):
                    await self._news.wait()
        except TimeoutError:
            return []
        return lines

    def _forget(self, now: float) -> None:
        while self._lines and (self._size > self._limits.size_bytes or now - self._lines[0][0] > self._limits.age_s):
            self._drop(0)

    def _drop(self, index: int) -> None:
        self._size -= len(self._lines[index][1].text) + LINE_OVERHEAD
        del self._lines[index]


class TracedStream:
    """A `ByteStream` of which a trace is kept. What goes wrong with the trace stays with the trace."""

    def __init__(self, stream: ByteStream, trace: Trace, to_device: Describe, from_device: Describe) -> None:
        self._stream, self._trace = stream, trace
        self._describe = {Way.TO_DEVICE: to_device, Way.FROM_DEVICE: from_device}

    async def read(self, max_bytes: int) -> bytes:
        """See `ByteStream.read`."""
        data = await self._stream.read(max_bytes)
        if data:
            self._note(Way.FROM_DEVICE, data)
        return data

    async def write(self, data: bytes) -> None:
        """See `ByteStream.write`; noted before, for it may have arrived whatever comes of it."""
        self._note(Way.TO_DEVICE, data)
        await self._stream.write(data)

    async def close(self) -> None:
        """See `ByteStream.close`."""
        await self._stream.close()

    def _note(self, way: Way, data: bytes) -> None:
        try:
            texts = self._describe[way](data)
        except Exception as error:  # noqa: BLE001 - a description that fails must not cost a payment its dialogue
            self._describe[way] = count_bytes
            texts = [f"{size(data)}, not described: {type(error).__name__}"]
        self._trace.note(way, texts)


# -- words of descriptions ---------------------------------------------------------------------------------------------


def size(data: bytes | str) -> str:
    """How long something is of which nothing else is told."""
    unit = "byte" if isinstance(data, bytes) else "character"
    return f"{len(data)} {unit}{'' if len(data) == 1 else 's'}"


def count_bytes(data: bytes) -> list[str]:
    """The description of bytes that nobody can read: how many they are."""
    return [size(data)]


def plain(value: str) -> str:
    """A value that is too short for a card number, or a word without digits; of anything else its length."""
    return value if _VALUE.fullmatch(value) or _NAME.fullmatch(value) else f"({size(value)} hidden)" if value else ""


def packed(value: bytes) -> str:
    """Bytes in hexadecimal where they are too few for a card number in packed digits; of more their count."""
    return value.hex().upper() if len(value) <= BCD_SHOWN_MAX else f"({size(value)} hidden)"


class Reader(Protocol[R]):
    """Finds messages in a stream of bytes, as the codecs' readers do."""

    def feed(self, data: bytes) -> Iterable[R]:
        """Messages that are complete now."""
        ...


def by_message(reader: Reader[R], describe: Callable[[R], str]) -> Describe:
    """The description of a stream by the messages in it; of bytes that complete none, how many came."""

    def described(data: bytes) -> list[str]:
        return [describe(message) for message in reader.feed(data)] or [f"… {size(data)}"]

    return described
