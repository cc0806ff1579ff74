"""Scales of the CAS AP-1 family (CAS, Ohaus Aviator, Elzab), which are asked for a weight."""

from __future__ import annotations

from drivers.base import Manifest, Probe, Serial, Step
from drivers.cas_codec import DC1, ENQ, CasReader, Frame, LinkAck, LinkNak, Unreadable
from drivers.link import no_answer
from drivers.scale_line import UNREADABLE, LineScale, ScaleLine, foreign_device
from hubd.errors import DeviceError
from hubd.model.device import Capability, DeviceKind
from hubd.ports import NoWeight, Weight

MANIFEST = Manifest(
    id="cas",
    name="CAS AP-1 scale",
    kind=DeviceKind.SCALE,
    matches=(Serial(),),
    capabilities=frozenset({Capability.WEIGH}),
    stage="experimental",
    docs="CAS AP-1, Ohaus Aviator, Elzab; serial with `?baud=9600&stop_bits=1`. Named in the configuration.",
    driver="CasScale",
    line="baud=9600&stop_bits=1",
    probes=(
        Probe(
            order=30,
            steps=(
                Step(b"\x05", rb"^\x06$"),
                Step(b"\x11", rb"\x01\x02[SU][ \-F][ 0-9.]{6}(?:kg|lb).\x03\x04"),
            ),
            after=b"\x04",
        ),
    ),
)

ENQUIRIES_MAX = 4
"""How often a scale is asked that answers "not ready"."""
NOT_READY_WAIT_S = 0.1
NOT_READY = NoWeight("not_ready", "Wait a moment, and weigh again.")


class CasScale(LineScale[Frame]):
    """ENQ, DC1, and one block with a check byte."""

    capabilities = MANIFEST.capabilities

    def _reader(self) -> CasReader:
        return CasReader()

    async def _probe(self, line: ScaleLine[Frame]) -> None:
        """A whole block with its check byte: an ACK or a NAK alone may come from anything."""
        await line.settle()
        try:
            said = await self._weigh_once(line)
        except TimeoutError:
            raise foreign_device() if line.heard_anything else no_answer() from None
        if said is UNREADABLE:
            raise foreign_device()
        if said is NOT_READY:
            raise DeviceError(
                "device.not_ready",
                "The device answers that it is not ready.",
                remedy="Wait until a scale shows zero, or switch it off and on.",
                params={"reason": "not_ready"},
            )

    async def _weigh_once(self, line: ScaleLine[Frame]) -> Weight | NoWeight:
        for _ in range(ENQUIRIES_MAX):
            await line.send(bytes((ENQ,)))
            if await self._ready(line):
                await line.send(bytes((DC1,)))
                return await self._load(line)
            await self._clock.sleep(NOT_READY_WAIT_S)
        return NOT_READY

    async def _ready(self, line: ScaleLine[Frame]) -> bool:
        """Whether the scale has a weight to give. What it says before that answers an older question."""
        while True:
            frame = await line.receive()
            if isinstance(frame, LinkAck | LinkNak):
                return isinstance(frame, LinkAck)

    async def _load(self, line: ScaleLine[Frame]) -> Weight | NoWeight:
        while True:
            frame = await line.receive()
            if isinstance(frame, LinkNak):
                return NOT_READY
            value = self._value_of(frame)
            if value is not None:
                return value

    def _value_of(self, frame: Frame) -> Weight | NoWeight | None:
        if isinstance(frame, LinkAck | LinkNak):
            return None
        return UNREADABLE if isinstance(frame, Unreadable) else frame
