"""Scales and indicators that send the CAS stream of 22 bytes without being asked (CAS CI, NT, PDS, Caston)."""

from __future__ import annotations

from drivers.base import Identity, Manifest, Probe, Serial, Step
from drivers.cas_codec import CasStreamReader, Frame, LinkAck, LinkNak, Unreadable
from drivers.link import LineLostError, no_answer
from drivers.scale_line import (
    NO_ANSWER,
    SETTLE_TIMEOUT_S,
    UNCONFIRMED,
    UNREACHABLE,
    UNREADABLE,
    WEIGH_TIMEOUT_S,
    LineScale,
    ScaleLine,
    foreign_device,
)
from hubd.model.device import Capability, DeviceKind
from hubd.ports import NoWeight, Weight

MANIFEST = Manifest(
    id="cas_stream",
    name="CAS scale, stream",
    kind=DeviceKind.SCALE,
    matches=(Serial(),),
    capabilities=frozenset({Capability.WEIGH}),
    stage="experimental",
    docs="CAS CI, NT, PDS in the 22-byte format, sent continuously; serial. Named in the configuration.",
    driver="CasStreamScale",
    line="baud=9600&stop_bits=1",
    probes=(Probe(order=10, steps=(Step(b"", rb"(?:ST|US|OL),(?:GS|NT),..,[ +\-0-9.]{8} (?:kg|lb| g)\r\n"),)),),
)

SAME_FRAMES = 2
"""How many lines in a row must say the same. Those that arrive together count as one: a line that was held up."""
STALE_S = 0.3
"""What a serial port had kept from before it was opened is read and dropped this long."""


class CasStreamScale(LineScale[Frame]):
    """Nothing is ever sent: the scale talks by itself, and its line says what lies on it now."""

    capabilities = MANIFEST.capabilities

    def _reader(self) -> CasStreamReader:
        return CasStreamReader()

    async def _probe(self, line: ScaleLine[Frame]) -> None:
        await self._clock.sleep(STALE_S)
        line.discard()
        try:
            async with self._clock.timeout(SETTLE_TIMEOUT_S):
                while isinstance(await line.latest(SETTLE_TIMEOUT_S), Unreadable):
                    pass
        except TimeoutError:
            raise foreign_device() if line.heard_anything else no_answer() from None

    async def _weigh_once(self, line: ScaleLine[Frame]) -> Weight | NoWeight:
        return self._value_of(await line.latest(WEIGH_TIMEOUT_S)) or UNREADABLE

    def _value_of(self, frame: Frame) -> Weight | NoWeight | None:
        match frame:
            case Weight() | NoWeight():
                return frame
            case LinkAck() | LinkNak():
                return None
            case Unreadable():
                return UNREADABLE

    async def check(self) -> Identity:
        """Hear one line."""
        line = self._attached()
        self._clean = False
        line.discard()
        await line.latest(WEIGH_TIMEOUT_S)
        self._clean = True
        return Identity()

    async def weigh(self) -> Weight | NoWeight:
        """What the scale says twice in a row from now on. Bounded by `WEIGH_TIMEOUT_S`."""
        if not self.usable:
            return UNREACHABLE
        line = self._attached()
        self._clean = False
        line.discard()
        said: list[Weight | NoWeight] = []
        try:
            async with self._clock.timeout(WEIGH_TIMEOUT_S):
                while len(said) < SAME_FRAMES:
                    now = await self._weigh_once(line)
                    said = [*said, now] if said and said[0] == now else [now]
        except LineLostError:
            return UNREACHABLE
        except TimeoutError:
            if not said:
                return NO_ANSWER
            said = [UNCONFIRMED]
        self._clean = True
        return said[0]
