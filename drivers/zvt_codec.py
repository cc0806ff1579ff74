"""ZVT bytes <-> values: framing, fields, and the removal of card data. Pure; nothing here waits or remembers.

Sources: PA00P016 (transport) and PA00P015 (commands, bitmaps) of the Verband der Terminalhersteller. Lengths of APDUs
are little-endian behind FF, lengths inside TLV containers are BER and big-endian.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import Struct

from drivers.masking import mask_card_data
from drivers.trace import packed, size

DLE, STX, ETX, ACK, NAK = 0x10, 0x02, 0x03, 0x06, 0x15
APDU_DATA_MAX = 0xFFFF
"""Bytes; what the extended length field can say."""
APDU_DATA_ACCEPTED_MAX = 16 * 1024
"""Bytes; far above any receipt block. A longer length is garbage, so that a liar cannot make us wait for it."""
NOISE_MAX = 4 * 1024
"""Bytes between two frames on a serial line before it counts as babble."""
TLV_DEPTH_MAX = 8
AMOUNT_MAX = 10**12 - 1
"""Minor units; six BCD bytes."""

_CLASSES = frozenset({0x04, 0x05, 0x06, 0x08, 0x0F, 0x80, 0x84})

CURRENCY_NUMBERS = {
    "CAD": "0124", "CZK": "0203", "DKK": "0208", "HUF": "0348", "NOK": "0578", "SEK": "0752",
    "CHF": "0756", "GBP": "0826", "USD": "0840", "EUR": "0978", "PLN": "0985",
}  # fmt: skip
"""ISO 4217 numbers as ZVT sends them: two BCD bytes."""
_CURRENCIES = {number: code for code, number in CURRENCY_NUMBERS.items()}


# --- APDU -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Apdu:
    """One application block. Its data may hold card data, so `repr` shows the length only."""

    command: int
    """Class and instruction as one number: 0x0601."""
    data: bytes = field(default=b"", repr=False)

    def describe(self) -> str:
        """Command and length, safe for logs."""
        return f"{self.command >> 8:02X} {self.command & 0xFF:02X} ({len(self.data)} bytes)"


class Decoded(Struct, frozen=True):
    """A whole APDU and how many bytes it took."""

    apdu: Apdu
    consumed: int


class NeedMore(Struct, frozen=True):
    """What is there may become an APDU."""


class Garbage(Struct, frozen=True):
    """What is there can never become a ZVT conversation; the line must be closed."""

    reason: str


class LinkAck(Struct, frozen=True):
    """Serial: the block was received."""


class LinkNak(Struct, frozen=True):
    """Serial: the block was not received and was not acted on."""


class BadBlock(Struct, frozen=True):
    """Serial: a block with a wrong check sum; the receiver answers NAK and the sender repeats it."""

    reason: str


LinkEvent = Apdu | LinkAck | LinkNak | BadBlock | Garbage


def encode_apdu(apdu: Apdu) -> bytes:
    """Bytes of an APDU as they stand on TCP."""
    size = len(apdu.data)
    if size > APDU_DATA_MAX:
        raise ValueError(f"an APDU cannot hold {size} bytes")
    head = apdu.command.to_bytes(2, "big")
    length = bytes((size,)) if size < 0xFF else b"\xff" + size.to_bytes(2, "little")
    return head + length + apdu.data


def decode_apdu(buffer: bytes) -> Decoded | NeedMore | Garbage:
    """Read the first APDU of a TCP stream; extra bytes behind it belong to the next one."""
    if buffer and buffer[0] not in _CLASSES:
        return Garbage("not_zvt")
    if len(buffer) >= 2 and buffer[0] == 0x80 and buffer[1] != 0:
        return Garbage("not_zvt")
    if len(buffer) < 3:
        return NeedMore()
    size, start = buffer[2], 3
    if size == 0xFF:
        if len(buffer) < 5:
            return NeedMore()
        size, start = int.from_bytes(buffer[3:5], "little"), 5
    if size > APDU_DATA_ACCEPTED_MAX:
        return Garbage("length_beyond_limit")
    if len(buffer) < start + size:
        return NeedMore()
    return Decoded(Apdu(int.from_bytes(buffer[:2], "big"), buffer[start : start + size]), start + size)


class TcpReader:
    """Cuts a TCP stream into APDUs, however the network has split or joined them."""

    def __init__(self) -> None:
        self._buffer = b""
        self._broken: Garbage | None = None

    def feed(self, data: bytes) -> list[LinkEvent]:
        """APDUs that are complete now. After `Garbage` the stream stays garbage."""
        if self._broken:
            return [self._broken]
        self._buffer += data
        events: list[LinkEvent] = []
        while True:
            match decode_apdu(self._buffer):
                case Decoded(apdu, consumed):
                    events.append(apdu)
                    self._buffer = self._buffer[consumed:]
                case Garbage() as garbage:
                    self._broken, self._buffer = garbage, b""
                    return [*events, garbage]
                case NeedMore():
                    return events

    @property
    def pending(self) -> int:
        """Bytes of an APDU that is not complete yet."""
        return len(self._buffer)


def crc16(data: bytes) -> int:
    """CRC-16/KERMIT: reflected polynomial 0x8408, start 0, no final xor."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0x8408 if crc & 1 else crc >> 1
    return crc


def encode_serial(apdu: Apdu) -> bytes:
    """The APDU as a serial block: DLE STX, stuffed APDU, DLE ETX, check sum (never stuffed, low byte first)."""
    raw = encode_apdu(apdu)
    check = crc16(raw + bytes((ETX,))).to_bytes(2, "little")
    return bytes((DLE, STX)) + raw.replace(b"\x10", b"\x10\x10") + bytes((DLE, ETX)) + check


class SerialReader:
    """Finds blocks in a serial byte stream; noise between blocks is skipped, up to a limit."""

    def __init__(self) -> None:
        self._state = self._between
        self._body = bytearray()
        self._check = bytearray()
        self._noise = 0
        self._dle = False

    def feed(self, data: bytes) -> list[LinkEvent]:
        """What is complete now."""
        return [event for byte in data if (event := self._state(byte)) is not None]

    def reset(self) -> None:
        """Forget a block that did not go on within T1 (200 ms between characters)."""
        self._state, self._dle = self._between, False
        self._body.clear()

    @property
    def pending(self) -> int:
        """1 or more while a block has begun and not ended."""
        return 0 if self._state == self._between and not self._dle else 1 + len(self._body)

    def _between(self, byte: int) -> LinkEvent | None:
        if self._dle:
            self._dle = False
            if byte == STX:
                self._begin()
                return None
        if byte == DLE:
            self._dle = True
            return None
        if byte in (ACK, NAK):
            self._noise = 0
            return LinkAck() if byte == ACK else LinkNak()
        self._noise += 1
        if self._noise > NOISE_MAX:
            self._noise = 0
            return Garbage("babble")
        return None

    def _begin(self) -> None:
        self._body.clear()
        self._dle = False
        self._state = self._inside

    def _inside(self, byte: int) -> LinkEvent | None:
        if not self._dle:
            if byte == DLE:
                self._dle = True
            else:
                self._body.append(byte)
        else:
            self._dle = False
            if byte == DLE:
                self._body.append(DLE)
            elif byte == ETX:
                self._check.clear()
                self._state = self._checking
            elif byte == STX:  # the end of the block before was lost; a new one begins
                self._begin()
            else:
                self.reset()
                return BadBlock("bad_stuffing")
        if len(self._body) > APDU_DATA_ACCEPTED_MAX + 5:
            self.reset()
            return BadBlock("block_beyond_limit")
        return None

    def _checking(self, byte: int) -> LinkEvent | None:
        self._check.append(byte)
        if len(self._check) < 2:
            return None
        raw, check = bytes(self._body), int.from_bytes(self._check, "little")
        self.reset()
        if crc16(raw + bytes((ETX,))) != check:
            return BadBlock("wrong_check_sum")
        decoded = decode_apdu(raw)
        self._noise = 0
        if isinstance(decoded, Decoded) and decoded.consumed == len(raw):
            return decoded.apdu
        return Garbage("not_zvt") if isinstance(decoded, Garbage) else BadBlock("wrong_length")


# --- fields ---------------------------------------------------------------------------------------------------------

_FIXED = {
    0x01: 1, 0x02: 1, 0x03: 1, 0x04: 6, 0x05: 1, 0x0B: 3, 0x0C: 3, 0x0D: 2, 0x0E: 2, 0x17: 2, 0x19: 1, 0x27: 1,
    0x29: 4, 0x2A: 15, 0x37: 3, 0x3A: 2, 0x3B: 8, 0x3D: 3, 0x49: 2, 0x87: 2, 0x88: 3, 0x8A: 1, 0x8C: 1, 0xA0: 1,
    0xAA: 3, 0xBA: 5, 0xD0: 1, 0xD2: 1, 0xD3: 1, 0xE9: 1, 0xEA: 1, 0xEB: 8, 0xF0: 1, 0xF9: 1, 0xFA: 1, 0xFB: 1,
    0xFC: 1,
}  # fmt: skip
_LLVAR = frozenset({0x22, 0x23, 0x2D, 0x8B, 0xA7, 0xD1, *range(0xE1, 0xE9), *range(0xF1, 0xF9)})
_LLLVAR = frozenset({0x24, 0x2E, 0x3C, 0x60, 0x92, 0x9A, 0xAF})
_TLV_CONTAINER = 0x06
_CARD_DATA = frozenset({0x23, 0x24, 0x2D, 0x2E, 0xD1, 0x92})
"""Track 1 to 3, PIN and chip data: dropped unread. 22 (the number) is cut to its last four digits."""
_TLV_CARD_DATA = frozenset({0x56, 0x57, 0x58, 0x5A, 0x5F20, 0x9F1F, 0x9F20, 0x9F6B})
"""EMV's tracks, number, holder's name and what of a track is left to the issuer: dropped unread, at any depth."""


def _var_length(data: bytes, digits: int) -> int | None:
    value = 0
    for byte in data[:digits]:
        if byte >> 4 != 0xF or byte & 0xF > 9:
            return None
        value = value * 10 + (byte & 0xF)
    return value if len(data) >= digits else None


def _field_extent(tag: int, rest: bytes) -> tuple[int, int] | None:
    """Length of the length field and of the value, or None when this cannot be read."""
    if tag in _FIXED:
        return 0, _FIXED[tag]
    if tag in _LLVAR or tag in _LLLVAR:
        digits = 2 if tag in _LLVAR else 3
        size = _var_length(rest, digits)
        return None if size is None else (digits, size)
    return _ber_length(rest) if tag == _TLV_CONTAINER else None


def parse_fields(data: bytes) -> tuple[dict[int, bytes], bool]:
    """Fields by tag, first one wins, and whether all of `data` was understood. Card data is not among them."""
    fields: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        tag = data[position]
        extent = _field_extent(tag, data[position + 1 : position + 5])
        if extent is None:
            return fields, False
        start = position + 1 + extent[0]
        position = start + extent[1]
        if position > len(data):
            return fields, False
        value = data[start:position]
        if tag == 0x22:
            value = _last4_of_bcd(value).encode("ascii")
        if tag not in _CARD_DATA:
            fields.setdefault(tag, value)
    return fields, True


def build_fields(fields: Iterable[tuple[int, bytes]]) -> bytes:
    """The reverse of `parse_fields`; raises ValueError for a tag or a length that ZVT does not have."""
    out = bytearray()
    for tag, value in fields:
        out.append(tag)
        if tag in _FIXED:
            if len(value) != _FIXED[tag]:
                raise ValueError(f"field {tag:02X} takes {_FIXED[tag]} bytes, not {len(value)}")
        elif tag in _LLVAR or tag in _LLLVAR:
            digits = 2 if tag in _LLVAR else 3
            if len(value) >= 10**digits:
                raise ValueError(f"field {tag:02X} cannot hold {len(value)} bytes")
            out += bytes(0xF0 | int(digit) for digit in str(len(value)).rjust(digits, "0"))
        elif tag == _TLV_CONTAINER:
            out += ber_length(len(value))
        else:
            raise ValueError(f"there is no field {tag:02X}")
        out += value
    return bytes(out)


def ber_length(size: int) -> bytes:
    """A BER length: one byte below 80, else 81 xx or 82 xx xx, big-endian."""
    if size < 0x80:
        return bytes((size,))
    return b"\x81" + bytes((size,)) if size < 0x100 else b"\x82" + size.to_bytes(2, "big")


def _ber_length(data: bytes) -> tuple[int, int] | None:
    if not data:
        return None
    if data[0] < 0x80:
        return 1, data[0]
    count = data[0] & 0x7F
    if count not in (1, 2) or len(data) < 1 + count:
        return None
    return 1 + count, int.from_bytes(data[1 : 1 + count], "big")


def parse_tag(data: bytes) -> tuple[int, int] | None:
    """A BER tag and how many bytes it takes: `1F 07` is 1F07, `1F 80 00` is 1F8000."""
    if not data:
        return None
    if data[0] & 0x1F != 0x1F:
        return data[0], 1
    for index in range(1, min(len(data), 4)):
        if not data[index] & 0x80:
            return int.from_bytes(data[: index + 1], "big"), index + 1
    return None


@dataclass(frozen=True, slots=True)
class Tlv:
    """One element of a TLV container; a constructed one holds others, and its own value is empty."""

    tag: int
    value: bytes = field(default=b"", repr=False)
    children: tuple[Tlv, ...] = ()


def parse_tlv(data: bytes, depth: int = 0) -> tuple[Tlv, ...]:
    """Elements as far as they can be read; what cannot is left out, and so is card data."""
    elements: list[Tlv] = []
    position = 0
    while position < len(data):
        tag = parse_tag(data[position:])
        extent = _ber_length(data[position + tag[1] : position + tag[1] + 3]) if tag else None
        if tag is None or extent is None:
            break
        start = position + tag[1] + extent[0]
        constructed = bool(data[position] & 0x20)
        position = start + extent[1]
        if position > len(data):
            break
        value = data[start:position]
        if tag[0] in _TLV_CARD_DATA or (constructed and depth >= TLV_DEPTH_MAX):
            continue
        elements.append(Tlv(tag[0], b"", parse_tlv(value, depth + 1)) if constructed else Tlv(tag[0], value))
    return tuple(elements)


def encode_tlv(elements: Iterable[Tlv]) -> bytes:
    """The reverse of `parse_tlv`: what stands inside a container."""
    return b"".join(build_tlv(one.tag, encode_tlv(one.children) if one.children else one.value) for one in elements)


def build_tlv(tag: int, value: bytes) -> bytes:
    """One TLV element."""
    return tag.to_bytes((tag.bit_length() + 7) // 8, "big") + ber_length(len(value)) + value


def find_tlv(elements: tuple[Tlv, ...], tag: int) -> bytes | None:
    """The value of the first element with this tag, at any depth."""
    for element in elements:
        if element.tag == tag:
            return element.value
        found = find_tlv(element.children, tag)
        if found is not None:
            return found
    return None


def find_all_tlv(elements: tuple[Tlv, ...], tag: int) -> tuple[bytes, ...]:
    """All values with this tag, in order, at any depth."""
    out: list[bytes] = []
    for element in elements:
        if element.tag == tag:
            out.append(element.value)
        out.extend(find_all_tlv(element.children, tag))
    return tuple(out)


# --- scalars --------------------------------------------------------------------------------------------------------


def bcd(digits: str) -> bytes:
    """Packed decimal digits, as many as are given (an even count)."""
    if not digits.isascii() or not digits.isdigit() or len(digits) % 2:
        raise ValueError("BCD takes an even number of decimal digits")
    return bytes.fromhex(digits)


def from_bcd(value: bytes) -> str:
    """Digits of a packed number, or "" when it holds anything else."""
    text = value.hex()
    return text if text.isdigit() else ""


def amount_to_bcd(amount_minor: int) -> bytes:
    """Six BCD bytes; raises ValueError outside 0 to `AMOUNT_MAX`."""
    if not 0 <= amount_minor <= AMOUNT_MAX:
        raise ValueError("ZVT amounts have at most twelve digits")
    return bcd(f"{amount_minor:012d}")


def currency_of(value: bytes) -> str:
    """ISO code of a currency field, or "" when it is none we know."""
    return _CURRENCIES.get(value.hex(), "")


def _last4_of_bcd(value: bytes) -> str:
    digits = value.hex().rstrip("f")
    return digits[-4:] if len(digits) >= 4 and digits[-4:].isdigit() else ""


def scrub_text(value: bytes) -> str:
    """Terminal text, which is in code page 437, as `mask_card_data` leaves it."""
    return mask_card_data(value.decode("cp437"))


# --- traces ---------------------------------------------------------------------------------------------------------

_COMMANDS = {
    0x0400: "status of the register", 0x040F: "status information", 0x04FF: "intermediate status", 0x0501: "enquiry",
    0x0600: "registration", 0x0601: "authorisation", 0x060F: "completion", 0x061E: "abort", 0x0630: "reversal",
    0x0650: "end of day", 0x0670: "diagnosis", 0x0693: "initialisation", 0x06B0: "abort request", 0x06D1: "print line",
    0x06D3: "print block", 0x0620: "repeat receipt", 0x8000: "done", 0x8400: "refused",
}  # fmt: skip
_PASSWORD_BYTES = 3
_PASSWORD_FIRST = frozenset({0x0501, 0x0600, 0x0630, 0x0631, 0x0650, 0x0670, 0x0693, 0x0620, 0x0612, 0x0610})
_BYTES_BEFORE_FIELDS = {0x04FF: 1, 0x061E: 1, 0x0600: 3}
"""Behind the password: the status or result; the config byte and the currency."""
_WITHOUT_FIELDS = frozenset({0x04FF, 0x061E, 0x8400})
_AMOUNT_DIGITS_SHOWN = 8
_TEXT = frozenset({0x06D1, 0x06D3})
_NOT_SHOWN = frozenset({0x0E, 0x17})
"""Expiry date and sequence number of the card: short, and yet card data."""


def describe_event(event: LinkEvent) -> str:
    """What a trace may tell of what was read: command, lengths, and the fields that are too short for a card number."""
    match event:
        case Apdu(command):
            name = _COMMANDS.get(command, "refused" if command >> 8 == 0x84 else "")
            parts = (f"{command >> 8:02X} {command & 0xFF:02X}", name, *_described(event))
            return " ".join(part for part in parts if part)
        case LinkAck():
            return "ACK"
        case LinkNak():
            return "NAK"
        case BadBlock(reason) | Garbage(reason):
            return f"unreadable: {reason}"


def _described(apdu: Apdu) -> list[str]:
    data, told = apdu.data, []
    if apdu.command in _TEXT:
        return [f"({size(data)} of text)"]
    if apdu.command in _PASSWORD_FIRST and len(data) >= _PASSWORD_BYTES:
        told, data = ["password hidden"], data[_PASSWORD_BYTES:]
    if before := data[: _BYTES_BEFORE_FIELDS.get(apdu.command, 0)]:
        told.append(packed(before))
        data = data[len(before) :]
    fields = None if apdu.command in _WITHOUT_FIELDS else _described_fields(data)
    return [*told, *([f"({size(data)} hidden)"] if fields is None and data else fields or [])]


def _described_fields(data: bytes) -> list[str] | None:
    """None when not all of it are fields: then nobody can say what any of it is."""
    told: list[str] = []
    position = 0
    while position < len(data):
        tag = data[position]
        extent = _field_extent(tag, data[position + 1 : position + 5])
        end = position + 1 + sum(extent) if extent else len(data) + 1
        if extent is None or end > len(data):
            return None
        value = data[position + 1 + extent[0] : end]
        digits = value.hex().lstrip("0") if tag == 0x04 else ""
        shown = tag in _FIXED and tag not in _NOT_SHOWN and len(digits) <= _AMOUNT_DIGITS_SHOWN
        told.append(f"{tag:02X}={packed(value) if shown else f'({size(value)} hidden)'}")
        position = end
    return told
