"""What every scanner's readings go through before anybody hears of them. Nothing of a refused one is kept."""

from __future__ import annotations

import abc
import logging
from collections.abc import Callable, Iterable

from drivers.appetite import Appetite, Budget
from drivers.base import Identity, Lines, ScannerDriver
from drivers.scan_text import Refused
from drivers.trace import Describe, count_bytes, size
from hubd.ports import ByteStream, Scan
from hubd.runtime import Clock

log = logging.getLogger(__name__)

READ_BYTES_MAX = 4096
SAME_SCAN_S = 0.15
"""The same code again within this time is the line's double: no hand pulls a trigger that fast."""
CARD_SHOWN_S = 600.0
"""How long a refused card stays a problem that people see."""
DAMAGED_IN_A_ROW = 3
"""From so many readings that could not be used one after the other, the scanner has a problem."""
DAMAGED_LOGGED = 100
"""Of those that follow, every so many-th is in the log."""
HELD_UP_S = 0.01
NOISE = Appetite(burst_bytes=16 * 1024, bytes_per_s=64)
"""Of what makes no code: twice the longest that may, and what a hand can scan amiss without end."""

CARD_REMEDY = (
    "What is plugged in here reads payment cards in the clear, which is refused; nothing was kept. Take the card "
    "reader away, or switch off its card reading."
)
DAMAGED_REMEDY = "Let the scanner end every code with CR or Enter; check its cable and the speed of its line."


class ScanGate:
    """Lets scans through to the one who listens; counts and forgets everything else."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sink: Callable[[Scan], None] | None = None
        self._last: tuple[Scan, float] | None = None
        self._card_at: float | None = None
        self._damaged = 0
        self.refused_cards = 0
        """How many readings looked like a payment card."""
        self.dropped = 0
        """How many readings could not be used for another reason."""

    def listen(self, sink: Callable[[Scan], None]) -> None:
        """Give scans to `sink` from now on."""
        self._sink = sink

    def take(self, readings: Iterable[Scan | Refused]) -> None:
        """Tell scans on, count what was refused."""
        for reading in readings:
            if isinstance(reading, Scan):
                self._tell(reading)
            elif reading is Refused.CARD_DATA:
                self.refused_cards += 1
                self._card_at = self._clock.monotonic()
                log.warning("scanner.card_refused", extra={"count": self.refused_cards})
            else:
                self.dropped += 1
                self._damaged += 1
                if self._damaged <= DAMAGED_IN_A_ROW or self._damaged % DAMAGED_LOGGED == 0:
                    log.info("scanner.reading_dropped", extra={"reason": reading.value, "count": self.dropped})

    def _tell(self, scan: Scan) -> None:
        now = self._clock.monotonic()
        self._damaged = 0
        before, self._last = self._last, (scan, now)
        if before is not None and before[0] == scan and now - before[1] < SAME_SCAN_S:
            return
        if self._sink is not None:
            self._sink(scan)

    def forget_damage(self) -> None:
        """What was dropped was no attempt to scan anything."""
        self._damaged = 0

    @property
    def identity(self) -> Identity:
        """What people see of the scanner."""
        if self._card_at is not None and self._clock.monotonic() - self._card_at < CARD_SHOWN_S:
            return Identity(problem="card_data_refused", remedy=CARD_REMEDY)
        if self._damaged >= DAMAGED_IN_A_ROW:
            return Identity(problem="scans_unusable", remedy=DAMAGED_REMEDY)
        return Identity()


class QuietLine:
    """A line that is read, and noticed when it is quiet."""

    def __init__(self, stream: ByteStream, clock: Clock) -> None:
        self._stream, self._clock = stream, clock
        self.lost = ""
        """Why the line cannot be used any more."""

    async def read(self, quiet_s: float | None) -> bytes | None:
        """More bytes; None when nothing came for `quiet_s`; b"" when the line is lost. None waits for ever."""
        try:
            if quiet_s is None:
                data = await self._stream.read(READ_BYTES_MAX)
            else:
                try:
                    data = await self._read_within(quiet_s)
                except TimeoutError:
                    # A hub that was held up itself finds here what had come in time.
                    data = await self._read_within(HELD_UP_S)
        except TimeoutError:
            return None
        except OSError as error:
            self.lose(f"line_error: {error.strerror or type(error).__name__}")
            return b""
        if not data:
            self.lose("hung_up")
        return data

    async def _read_within(self, seconds: float) -> bytes:
        async with self._clock.timeout(seconds):
            return await self._stream.read(READ_BYTES_MAX)

    def lose(self, reason: str) -> None:
        """It cannot be used any more; the first reason is kept."""
        self.lost = self.lost or reason

    async def close(self) -> None:
        """Give the line back; may be called again."""
        self.lose("closed")
        await self._stream.close()


class LineScanner(ScannerDriver):
    """What the scanners on a line have in common: they speak by themselves, and their silence says nothing."""

    keep_alive_s = 5.0
    """Nothing is sent: this long until a problem is seen."""
    noise = NOISE
    """Bytes without a code among them, before the scanner counts as babbling."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._unproven = Budget(clock, self.noise)
        self._gate = ScanGate(clock)
        self._line: QuietLine | None = None

    def attach(self, stream: ByteStream, url: str, lines: Lines) -> None:
        """Take an open line; a reading that the one before had begun is forgotten."""
        self._line = QuietLine(stream, self._clock)
        self._unproven.refill()

    @property
    @abc.abstractmethod
    def _wait_s(self) -> float | None:
        """How long more is waited for before what has come is all of it; None: for ever."""

    @abc.abstractmethod
    def _readings(self, data: bytes | None) -> Iterable[Scan | Refused]:
        """What these bytes end; None when nothing came for so long."""

    async def pump(self) -> str:
        """Read until the line is lost; a code that had not ended then is dropped."""
        line = self._line
        assert line is not None, "a driver is pumped after it was attached"
        while not line.lost:
            data = await line.read(self._wait_s)
            readings = tuple(self._readings(data))
            self._gate.take(readings)
            if any(isinstance(reading, Scan) for reading in readings):
                self._unproven.refill()
            elif data and not self._unproven.spend(len(data)):
                self._gate.forget_damage()
                line.lose("babble")
        return line.lost

    def describers(self, url: str) -> tuple[Describe, Describe]:
        """See `Driver.describers`: of a code its form, and nothing of what it says."""
        return count_bytes, lambda data: [self._form_of(data)]

    def _form_of(self, data: bytes) -> str:
        """What a trace may tell of bytes that are perhaps of a card."""
        return size(data)

    async def close(self) -> None:
        """Give the line back."""
        if self._line is not None:
            await self._line.close()

    @property
    def usable(self) -> bool:
        """Whether the line is open."""
        return self._line is not None and not self._line.lost

    async def identify(self) -> Identity:
        """A line that is open is all that a scanner shows of itself."""
        return self._gate.identity

    async def check(self) -> Identity:
        """See `ScannerDriver`: well while the line is open, but for what it has sent."""
        return self._gate.identity

    def listen(self, sink: Callable[[Scan], None]) -> None:
        """Give every scan to `sink` from now on, and to nobody else."""
        self._gate.listen(sink)

    @property
    def refused_cards(self) -> int:
        """How many readings looked like a payment card since the driver was made."""
        return self._gate.refused_cards
