"""Mettler-Toledo 8217 bytes <-> values. Pure; nothing here waits or remembers more than one frame.

Source: the status byte, the commands and the forms of a weight as the service manuals of scales with this protocol
print them (9600 baud, 7 data bits, even parity, 1 stop bit). A frame is STX, text, CR, and has no check digit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hubd.ports import NoWeight, Weight

STX, CR = 0x02, 0x0D
ASK_WEIGHT, ZERO, ECHO_ON, ECHO_OFF = b"W", b"Z", b"E", b"F"
ECHO_TEXT = b"hello"
ECHO_BEGUN = b"\x02E\r"
TEXT_MAX = 12
"""Characters of a frame; the longest in use has 8. A longer one is noise."""

_KILOGRAMS = re.compile(rb"(0?[0-9]{2})\.([0-9]{3})(N?)")
_POUNDS = re.compile(rb"0?[0-9]{2}\.[0-9]{2}N?")
ALWAYS, NET, CENTRE_OF_ZERO, OUTSIDE_ZERO, UNDER_ZERO, OVER_CAPACITY, MOTION = 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01
GRAMS_MAX = 99_999


@dataclass(frozen=True, slots=True)
class Status:
    """The status byte, which comes instead of a weight that must not be sold by."""

    net: bool = False
    centre_of_zero: bool = False
    outside_zero: bool = False
    """Too far from zero for the zero command."""
    under_zero: bool = False
    over_capacity: bool = False
    in_motion: bool = False


@dataclass(frozen=True, slots=True)
class Pounds:
    """A weight in pounds. It is refused: whole grams cannot say it, and rounding a weight is the scale's business."""


@dataclass(frozen=True, slots=True)
class Echo:
    """The answer to E or F: the mode in which the scale repeats what it is sent begins or ends."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame that this protocol does not have."""


Frame = Weight | Status | Pounds | Echo | Unreadable


def decode_status(value: int) -> Status | Unreadable:
    """The bits of a status byte. Bit 6 is always one; bit 7 is the parity bit, which is no data."""
    if value & 0xC0 != ALWAYS:
        return Unreadable()
    return Status(
        net=bool(value & NET),
        centre_of_zero=bool(value & CENTRE_OF_ZERO),
        outside_zero=bool(value & OUTSIDE_ZERO),
        under_zero=bool(value & UNDER_ZERO),
        over_capacity=bool(value & OVER_CAPACITY),
        in_motion=bool(value & MOTION),
    )


def encode_status(status: Status) -> int:
    """The byte that says it."""
    return (
        ALWAYS
        | NET * status.net
        | CENTRE_OF_ZERO * status.centre_of_zero
        | OUTSIDE_ZERO * status.outside_zero
        | UNDER_ZERO * status.under_zero
        | OVER_CAPACITY * status.over_capacity
        | MOTION * status.in_motion
    )


def decode_text(text: bytes) -> Frame:
    """What stands between STX and CR. Three decimals are kilograms, two are pounds."""
    if len(text) == 2 and text[0] == ord("?"):
        return decode_status(text[1])
    if found := _KILOGRAMS.fullmatch(text):
        return Weight(int(found[1] + found[2]), net=bool(found[3]))
    if _POUNDS.fullmatch(text):
        return Pounds()
    return Echo() if text in (ECHO_ON, ECHO_OFF) else Unreadable()


def encode_weight(weight: Weight, *, leading_zero: bool = False) -> bytes:
    """A frame with a weight in kilograms; raises ValueError for one that the form cannot say."""
    if not 0 <= weight.grams <= GRAMS_MAX:
        raise ValueError(f"a weight of {weight.grams} g has no place in the frame")
    kilograms, grams = divmod(weight.grams, 1000)
    return encode_text(f"{'0' * leading_zero}{kilograms:02d}.{grams:03d}{'N' * weight.net}".encode("ascii"))


def encode_text(text: bytes) -> bytes:
    """The frame around a text."""
    return bytes((STX,)) + text + bytes((CR,))


def encode_status_frame(status: Status) -> bytes:
    """A frame with a status."""
    return encode_text(b"?" + bytes((encode_status(status),)))


def no_weight(status: Status) -> NoWeight:
    """Why there is no weight; a status that names no reason is one too."""
    if status.over_capacity:
        return NoWeight("over_capacity", "Take something off the scale.")
    if status.under_zero:
        return NoWeight("under_zero", "Empty the scale and set it to zero.")
    if status.in_motion:
        return NoWeight("in_motion", "Wait until the scale is at rest.")
    return NoWeight("not_ready", "Wait a moment, and weigh again.")


class Toledo8217Reader:
    """Finds frames in the stream; a frame that another one interrupts is dropped."""

    def __init__(self) -> None:
        self._text: bytearray | None = None
        self.noise = 0
        """Bytes since the last frame that belonged to none."""

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that are complete now."""
        return [frame for byte in data if (frame := self._take(byte)) is not None]

    def _take(self, byte: int) -> Frame | None:
        self.noise += 1
        if byte == STX:
            self._text = bytearray()
            return None
        if self._text is None:
            return None
        if byte == CR:
            text, self._text = bytes(self._text), None
            self.noise = 0
            return decode_text(text)
        if len(self._text) >= TEXT_MAX:
            self._text = None
            return None
        self._text.append(byte)
        return None

    def reset(self) -> None:
        """Forget a frame that has begun."""
        self._text = None

    @property
    def pending(self) -> int:
        """Bytes of a frame that has begun."""
        return len(self._text or b"")
