"""Scales that speak Mettler-Toledo 8217, over a serial line or USB-CDC."""

from __future__ import annotations

from drivers.base import Manifest, Probe, Serial, Step, Usb
from drivers.link import no_answer
from drivers.scale_line import UNREADABLE, LineScale, ScaleLine, foreign_device
from drivers.toledo8217_codec import (
    ASK_WEIGHT,
    ECHO_BEGUN,
    ECHO_OFF,
    ECHO_ON,
    ECHO_TEXT,
    ZERO,
    Echo,
    Frame,
    Pounds,
    Status,
    Toledo8217Reader,
    Unreadable,
    no_weight,
)
from hubd.model.device import Capability, DeviceKind
from hubd.ports import NoWeight, Weight

MANIFEST = Manifest(
    id="toledo8217",
    name="Mettler-Toledo 8217 scale",
    kind=DeviceKind.SCALE,
    matches=(Usb(0x0EB8, 0x2200), Serial()),
    capabilities=frozenset({Capability.WEIGH}),
    stage="experimental",
    docs="8217 protocol, set to kilograms; serial with `?baud=9600&data_bits=7&parity=even&stop_bits=1`.",
    driver="Toledo8217Scale",
    line="baud=9600&data_bits=7&parity=even&stop_bits=1",
    probes=(Probe(order=60, steps=(Step(b"Ehello", rb"\x02E\rhello", 0.8),), after=b"F"),),
)

ECHO_OFF_WAIT_S = 0.3
"""Some scales answer F, some do not: what they say is waited for this long, and dropped."""
POUNDS_REFUSED = NoWeight("unit_pounds", "Set the scale to kilograms: the hub does not convert weights.")


class Toledo8217Scale(LineScale[Frame]):
    """W, Z, and the echo test as a probe that weighs nothing and changes nothing."""

    capabilities = MANIFEST.capabilities

    def _reader(self) -> Toledo8217Reader:
        return Toledo8217Reader()

    async def _probe(self, line: ScaleLine[Frame]) -> None:
        """E and a text, which comes back; then F, whatever came: a scale left in that mode would repeat every W."""
        await line.settle()
        await line.send(ECHO_ON + ECHO_TEXT)
        known = await line.hear(ECHO_BEGUN + ECHO_TEXT)
        talks = line.heard_anything
        line.discard()
        await line.send(ECHO_OFF)
        await line.hear(b"\x02F\r", ECHO_OFF_WAIT_S)
        line.discard()
        if not known:
            raise foreign_device() if talks else no_answer()

    async def _weigh_once(self, line: ScaleLine[Frame]) -> Weight | NoWeight:
        await line.send(ASK_WEIGHT)
        return await self._load(line)

    async def _load(self, line: ScaleLine[Frame]) -> Weight | NoWeight:
        while True:
            value = self._value_of(await line.receive())
            if value is not None:
                return value

    def _value_of(self, frame: Frame) -> Weight | NoWeight | None:
        match frame:
            case Weight():
                return frame
            case Status():
                return no_weight(frame)
            case Pounds():
                return POUNDS_REFUSED
            case Echo():
                return None
            case Unreadable():
                return UNREADABLE

    async def zero(self) -> NoWeight | None:
        """Z: the scale answers with its status, and refuses by it."""
        if not self.usable:
            return NoWeight("unreachable")
        line = self._attached()
        self._clean = False
        try:
            line.discard()
            await line.send(ZERO)
            answer = await line.receive()
        except OSError:  # TimeoutError is one, and so is a line that was lost
            return NoWeight("no_answer", "Look at the scale's display before zeroing it again.")
        self._clean = True
        return _zero_refused(answer)


def _zero_refused(answer: Frame) -> NoWeight | None:
    if not isinstance(answer, Status):
        return UNREADABLE
    if answer.net:
        return NoWeight("tare_set", "Take the tare away at the scale first.")
    if answer.outside_zero or answer.over_capacity:
        return NoWeight("outside_zero_range", "Empty the scale first.")
    if answer.in_motion or (answer.under_zero and not answer.centre_of_zero):
        return no_weight(answer)
    return None
