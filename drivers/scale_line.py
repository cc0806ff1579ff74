"""One open line to a scale: frames in, commands out, and what makes a weight of answers that have no check digit.

A line is used until the first question on it that nobody answered; then it is closed and a new one opened, so that a
late answer to an old question is not taken for the answer to a new one.
"""

from __future__ import annotations

import abc
from collections import deque
from typing import Generic, Protocol, TypeVar

from drivers.base import DriverOptions, Identity, Lines, ScaleDriver
from drivers.link import LineLostError, Link
from drivers.trace import Describe, by_message, size
from hubd.errors import DeviceError
from hubd.ports import ByteStream, NoWeight, Weight
from hubd.runtime import Clock, Runtime

F = TypeVar("F")

FRAMES_WAITING_MAX = 64
"""Frames read and not yet looked at; of a scale that talks all the time, the oldest are dropped."""
HEARD_BYTES_MAX = 64
"""What a probe can look for in the raw bytes."""
NOISE_MAX = 4 * 1024
"""Bytes in a row that belong to no frame before the line counts as babble."""
WEIGH_TIMEOUT_S = 2.0
"""From the question to its end, whatever happens (`hubd.ports.Scale.weigh`)."""
ANSWER_TIMEOUT_S = 0.8
"""From a command to its answer; the slowest command of these scales takes 0.15 s and a few characters."""
SURPLUS_S = 0.1
"""After the last answer the line is listened to this long: whatever else it says must say the same."""
SURPLUS_FRAMES_MAX = 16
COMMAND_SHOWN_MAX = 6
SETTLE_QUIET_S = 0.3
SETTLE_TIMEOUT_S = 3.0
"""A serial line has no connections: what an old dialogue still sends is read and dropped before a new one begins."""


class FrameReader(Protocol[F]):
    """Finds frames in a stream of bytes; see the codecs."""

    @property
    def noise(self) -> int:
        """Bytes since the last frame that belonged to none."""
        ...

    def feed(self, data: bytes) -> list[F]:
        """Frames that are complete now."""
        ...

    def reset(self) -> None:
        """Forget a frame that has begun."""
        ...


class ScaleLine(Link, Generic[F]):
    """Frames over a `ByteStream`. `pump` must run while the line is in use; everything else has one user."""

    def __init__(self, stream: ByteStream, clock: Clock, reader: FrameReader[F]) -> None:
        super().__init__(stream, clock)
        self._reader = reader
        self._frames: deque[F] = deque(maxlen=FRAMES_WAITING_MAX)
        self._heard = bytearray()
        self._bytes_read = 0

    async def _take(self, data: bytes) -> None:
        self._bytes_read += len(data)
        self._heard = (self._heard + data)[-HEARD_BYTES_MAX:]
        self._frames.extend(self._reader.feed(data))
        if self._reader.noise > NOISE_MAX:
            self._lose("babble")
        self._news.set()

    def discard(self) -> None:
        """Forget what was heard before now, a half frame too: it was said before the question."""
        self._frames.clear()
        self._heard.clear()
        self._reader.reset()

    async def send(self, command: bytes) -> None:
        """Hand a command to the line. Raises `LineLostError`."""
        await self._transmit(command)

    async def receive(self, timeout_s: float = ANSWER_TIMEOUT_S) -> F:
        """The next frame. Raises TimeoutError, or `LineLostError` when none can come any more."""
        async with self._clock.timeout(timeout_s):
            while not self._frames:
                await self._wait_for_news()
        return self._frames.popleft()

    async def latest(self, timeout_s: float) -> F:
        """The newest frame; those that came with it are older than it and count for nothing. Raises like `receive`."""
        async with self._clock.timeout(timeout_s):
            while not self._frames:
                await self._wait_for_news()
        frame = self._frames.pop()
        self._frames.clear()
        return frame

    async def hear(self, wanted: bytes, timeout_s: float = ANSWER_TIMEOUT_S) -> bool:
        """Whether these bytes come within the time, in frames or not. Raises `LineLostError`."""
        try:
            async with self._clock.timeout(timeout_s):
                while wanted not in self._heard:
                    await self._wait_for_news()
        except TimeoutError:
            return False
        return True

    @property
    def heard_anything(self) -> bool:
        """Whether anything came since the last `discard`."""
        return bool(self._heard)

    async def settle(self) -> None:
        """Return when the line has been quiet for a moment. Raises DeviceError when it does not become quiet."""
        try:
            async with self._clock.timeout(SETTLE_TIMEOUT_S):
                seen = -1
                while seen != self._bytes_read:
                    seen = self._bytes_read
                    await self._clock.sleep(SETTLE_QUIET_S)
        except TimeoutError:
            raise foreign_device() from None
        self.discard()


def foreign_device() -> DeviceError:
    """Something talks, and it is not this kind of scale."""
    return DeviceError(
        "device.protocol",
        "Something else talks on this line than what was configured.",
        remedy="Check the device's protocol in its menu, the speed of the line, and the address.",
        params={"reason": "not_this_scale"},
    )


def describe_command(data: bytes) -> list[str]:
    """What a trace may tell of bytes to a scale: all of them, for they are the hub's own commands."""
    return [data.hex(" ").upper() if len(data) <= COMMAND_SHOWN_MAX else size(data)]


UNCONFIRMED = NoWeight("unconfirmed", "The scale said two different things. Wait until it is at rest, and weigh again.")
NO_ANSWER = NoWeight("no_answer", "Check that the scale is switched on and connected.")
UNREACHABLE = NoWeight("unreachable", "Check the scale's power and its cable; the hub reconnects by itself.")
UNREADABLE = NoWeight("unreadable", "Weigh again. If it happens often, check the cable and the speed of the line.")


class LineScale(ScaleDriver, Generic[F]):
    """What the scales on a line have in common.

    A weight is one that the scale has said twice, with nothing else said between and after: the frames of most scales
    carry no check digit, and a serial port hands on characters whose parity is wrong.
    """

    keep_alive_s = 20.0

    def __init__(self, runtime: Runtime, options: DriverOptions | None = None) -> None:
        self._clock = runtime.clock
        self._line: ScaleLine[F] | None = None
        self._clean = False

    @abc.abstractmethod
    def _reader(self) -> FrameReader[F]:
        """A fresh reader of this scale's frames."""

    @abc.abstractmethod
    async def _probe(self, line: ScaleLine[F]) -> None:
        """Make sure that it is this kind of scale. Raises DeviceError or OSError."""

    @abc.abstractmethod
    async def _weigh_once(self, line: ScaleLine[F]) -> Weight | NoWeight:
        """What the scale says once. Raises OSError when it does not answer."""

    @abc.abstractmethod
    def _value_of(self, frame: F) -> Weight | NoWeight | None:
        """What a frame says of the load; None for one that says nothing of it."""

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line; nothing is remembered of the one before."""
        self._line = ScaleLine(stream, self._clock, self._reader())
        self._clean = True

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """See `Driver.describers`: commands of the hub as they are, frames as weights."""
        return describe_command, by_message(self._reader(), self._described)

    def _described(self, frame: F) -> str:
        match self._value_of(frame):
            case Weight(grams, net):
                return f"{grams} g{' net' if net else ''}, stable"
            case NoWeight(reason):
                return reason
            case None:
                return type(frame).__name__.lower()

    async def pump(self) -> str:
        """Read until the line is lost, and return why."""
        return await self._attached().pump()

    async def close(self) -> None:
        """Give the line back."""
        if self._line is not None:
            await self._line.close()

    @property
    def usable(self) -> bool:
        """Whether the line is there and every question on it was answered."""
        return self._clean and self._line is not None and not self._line.lost

    def _attached(self) -> ScaleLine[F]:
        if self._line is None:
            raise LineLostError("closed")
        return self._line

    async def identify(self) -> Identity:
        """Let old answers pass, then look whether it is this kind of scale."""
        self._clean = False
        await self._probe(self._attached())
        self._clean = True
        return Identity()

    async def check(self) -> Identity:
        """Weigh once; any answer is a sign of life. Bounded like `weigh`."""
        line = self._attached()
        self._clean = False
        async with self._clock.timeout(WEIGH_TIMEOUT_S):
            line.discard()
            await self._weigh_once(line)
        self._clean = True
        return Identity()

    async def weigh(self) -> Weight | NoWeight:
        """Ask twice, and believe what was said twice. Bounded by `WEIGH_TIMEOUT_S`; never raises for the scale."""
        if not self.usable:
            return UNREACHABLE
        line = self._attached()
        self._clean = False
        try:
            async with self._clock.timeout(WEIGH_TIMEOUT_S):
                line.discard()
                said = await self._weigh_once(line)
                if isinstance(said, Weight):
                    again = await self._weigh_once(line)
                    said = UNCONFIRMED if isinstance(again, Weight) and again != said else again
                if isinstance(said, Weight) and await self._contradicted(line, said):
                    said = UNCONFIRMED
        except LineLostError:
            return UNREACHABLE
        except OSError:  # TimeoutError is one
            return NO_ANSWER
        self._clean = True
        return said

    async def _contradicted(self, line: ScaleLine[F], said: Weight) -> bool:
        """Whether what still comes says something else: then one of the answers was to an older question."""
        for _ in range(SURPLUS_FRAMES_MAX):
            try:
                frame = await line.receive(SURPLUS_S)
            except TimeoutError:
                return False
            value = self._value_of(frame)
            if value is not None and value != said:
                return True
        return True

    async def zero(self) -> NoWeight | None:
        """These scales take no such command."""
        return NoWeight("not_supported", "Press the zero key of the scale.")
