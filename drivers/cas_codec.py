"""Scales of the CAS AP-1 family and the CAS stream of 22 bytes: bytes <-> values. Pure.

Sources: the transmission protocol of the AP-1 as it is handed out with the scale, and the same in the manuals of CAS SW
and Ohaus Aviator (asked: ENQ, ACK, DC1, then one block with a check byte); the appendix "data format" of the manuals of
CAS CI, NT and PDS (spoken without being asked: 22 bytes without a check byte).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce
from operator import xor

from hubd.ports import NoWeight, Weight

SOH, STX, ETX, EOT, ENQ, ACK, NAK, DC1 = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x15, 0x11
DATA_BYTES = 10
"""State, sign, six characters of weight, two of unit."""
BLOCK_BYTES = DATA_BYTES + 5
STREAM_BYTES = 22
WAITING_BYTES_MAX = 64

_BLOCK_WEIGHT = re.compile(rb" *[0-9]+\.[0-9]{1,3}")
_STREAM_WEIGHT = re.compile(rb"([ +-]?) *([0-9]+(?:\.[0-9]{1,3})?)")
_UNITS = {"kg": 1000, "g": 1}
_POUNDS = frozenset({"lb", "oz"})

IN_MOTION = NoWeight("in_motion", "Wait until the scale is at rest.")
UNDER_ZERO = NoWeight("under_zero", "Empty the scale and set it to zero.")
OVER_CAPACITY = NoWeight("over_capacity", "Take something off the scale.")
UNIT_POUNDS = NoWeight("unit_pounds", "Set the scale to kilograms: the hub does not convert weights.")
UNIT_UNKNOWN = NoWeight("unit_unknown", "Set the scale to kilograms.")


@dataclass(frozen=True, slots=True)
class LinkAck:
    """The scale has a weight to give."""


@dataclass(frozen=True, slots=True)
class LinkNak:
    """It has none now; ask again."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A block that this protocol does not have, or one with a wrong check byte."""


Frame = Weight | NoWeight | LinkAck | LinkNak | Unreadable


def check_byte(data: bytes) -> int:
    """All bytes of the data, exclusive or."""
    return reduce(xor, data, 0)


def encode_block(data: bytes) -> bytes:
    """The block around ten bytes of data."""
    return bytes((SOH, STX)) + data + bytes((check_byte(data), ETX, EOT))


def encode_weight(weight: Weight, *, stable: bool = True) -> bytes:
    """The block with a weight in kilograms; raises ValueError for one that has no place in it."""
    if not 0 <= weight.grams <= 99_999:
        raise ValueError(f"a weight of {weight.grams} g has no place in the block")
    kilograms, grams = divmod(weight.grams, 1000)
    return encode_block(f"{'S' if stable else 'U'} {kilograms:02d}.{grams:03d}kg".encode("ascii"))


def decode_data(data: bytes) -> Weight | NoWeight | Unreadable:
    """Ten bytes of data: S or U, the sign or F for overflow, the weight, the unit."""
    state, sign, digits = data[0:1], data[1:2], data[2:8]
    if state not in (b"S", b"U") or sign not in (b" ", b"-", b"F"):
        return Unreadable()
    if sign == b"F":
        return OVER_CAPACITY
    if state == b"U":
        return IN_MOTION
    if sign == b"-":
        return UNDER_ZERO
    if _BLOCK_WEIGHT.fullmatch(digits) is None:
        return Unreadable()
    return _in_grams(digits.strip().decode("ascii"), data[8:10], net=False)


def _in_grams(digits: str, unit: bytes, *, net: bool) -> Weight | NoWeight | Unreadable:
    name = unit.decode("ascii", "replace").strip().lower()
    if name in _POUNDS:
        return UNIT_POUNDS
    if name not in _UNITS:
        return UNIT_UNKNOWN
    whole, _, fraction = digits.partition(".")
    grams, rest = divmod(int(whole + fraction.ljust(3, "0")) * _UNITS[name], 1000)
    # Less than a gram is nothing that a price can follow from here; rounding a weight is the scale's business.
    return Weight(grams, net=net) if rest == 0 else Unreadable()


class CasReader:
    """Finds blocks and single control bytes; what is none is skipped, byte by byte."""

    def __init__(self) -> None:
        self._buffer = b""
        self.noise = 0
        """Bytes since the last block that belonged to none."""

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that are complete now."""
        self._buffer += data
        frames: list[Frame] = []
        while self._buffer:
            if self._buffer[0] in (ACK, NAK):
                frames.append(LinkAck() if self._buffer[0] == ACK else LinkNak())
                self._buffer, self.noise = self._buffer[1:], 0
            elif not bytes((SOH, STX)).startswith(self._buffer[:2]):
                self._buffer, self.noise = self._buffer[1:], self.noise + 1
            elif len(self._buffer) < BLOCK_BYTES:
                break
            else:
                frames.append(self._block())
        return frames

    def _block(self) -> Frame:
        block = self._buffer[:BLOCK_BYTES]
        data = block[2:-3]
        if block[-2:] == bytes((ETX, EOT)) and block[-3] == check_byte(data):
            self._buffer, self.noise = self._buffer[BLOCK_BYTES:], 0
            return decode_data(data)
        # A byte was lost or changed; the next block may begin inside this one.
        self._buffer, self.noise = self._buffer[1:], self.noise + 1
        return Unreadable()

    def reset(self) -> None:
        """Forget a block that has begun."""
        self._buffer = b""

    @property
    def pending(self) -> int:
        """Bytes of a block that has begun."""
        return len(self._buffer)


# --- the stream ------------------------------------------------------------------------------------------------------


def encode_stream(
    weight: Weight, *, state: str = "ST", device: int = 1, lamps: int = 0xC4, sign: str = " ", unit: str = "kg"
) -> bytes:
    """One line of the stream, with seven digits of kilograms; `state` is ST, US or OL."""
    kilograms, grams = divmod(weight.grams, 1000)
    head = f"{state},{'NT' if weight.net else 'GS'},".encode("ascii") + bytes((0x30 + device, lamps))
    return head + f",{sign}{kilograms:03d}.{grams:03d} {unit}\r\n".encode("ascii")


def decode_stream(line: bytes) -> Weight | NoWeight | Unreadable:
    """22 bytes of the stream. What the lamps mean differs between models; only the two letters ST make it stable."""
    if len(line) != STREAM_BYTES or line[2:3] + line[5:6] + line[8:9] != b",,," or line[17:18] + line[20:] != b" \r\n":
        return Unreadable()
    state, tare = line[0:2], line[3:5]
    if state not in (b"ST", b"US", b"OL") or tare not in (b"GS", b"NT"):
        return Unreadable()
    if state == b"OL":
        return OVER_CAPACITY
    if state == b"US":
        return IN_MOTION
    found = _STREAM_WEIGHT.fullmatch(line[9:17])
    if found is None:
        return Unreadable()
    if found[1] == b"-":
        return UNDER_ZERO
    return _in_grams(found[2].decode("ascii"), line[18:20], net=tare == b"NT")


class CasStreamReader:
    """Cuts the stream at its line ends; a line of another length is none."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.noise = 0
        """Bytes since the last line that belonged to none."""

    def feed(self, data: bytes) -> list[Frame]:
        """Lines that are complete now."""
        frames: list[Frame] = []
        for byte in data:
            self._buffer.append(byte)
            # The byte of the lamps may have any value: a line end counts only at the end of a whole line.
            if self._buffer.endswith(b"\r\n") and len(self._buffer) >= STREAM_BYTES:
                frames.append(self._line())
            elif len(self._buffer) > WAITING_BYTES_MAX:
                self.noise += len(self._buffer) - STREAM_BYTES
                del self._buffer[:-STREAM_BYTES]
        return frames

    def _line(self) -> Frame:
        line, extra = bytes(self._buffer[-STREAM_BYTES:]), len(self._buffer) - STREAM_BYTES
        self._buffer.clear()
        decoded = decode_stream(line)
        self.noise = self.noise + STREAM_BYTES + extra if isinstance(decoded, Unreadable) else 0
        # Bytes before a line are the rest of one that was cut; a line that is whole is whole.
        return decoded

    def reset(self) -> None:
        """Forget a line that has begun."""
        self._buffer.clear()

    @property
    def pending(self) -> int:
        """Bytes of a line that has begun."""
        return len(self._buffer)
