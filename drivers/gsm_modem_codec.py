"""Text messages as GSM modems take and give them: alphabets, PDUs (3GPP TS 23.040) and answer lines (TS 27.005). Pure.

A PDU here is the TPDU alone; on the line stands the address of the service centre before it (`00`: the SIM's own).
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION: Final = {
    0x0A: "\f", 0x14: "^", 0x28: "{", 0x29: "}", 0x2F: "\\", 0x3C: "[", 0x3D: "~", 0x3E: "]", 0x40: "|", 0x65: "€",
}  # fmt: skip
ESCAPE: Final = 0x1B
_SEPTETS: Final = {character: bytes((code,)) for code, character in enumerate(_BASIC) if code != ESCAPE} | {
    character: bytes((ESCAPE, code)) for code, character in _EXTENSION.items()
}
GSM7, OCTETS, UCS2 = 0x00, 0x04, 0x08
USER_DATA_OCTETS_MAX, SEPTETS_MAX, CONCATENATED_SEPTETS_MAX = 140, 160, 153
CONCATENATED_UNITS_MAX = 67
"""UTF-16 units of one part, after its header of six octets."""
PARTS_MAX = 10
"""A longer text is no message that a shop means to pay for."""
_CONCATENATION, _CONCATENATION_16 = 0x00, 0x08
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")
_DIGITS = "0123456789*#abc"
_REPORT_WANTED, _HEADER = 0x20, 0x40
_DELIVER, _SUBMIT, _STATUS_REPORT = 0x00, 0x01, 0x02


class Part(Struct, frozen=True):
    """Which part of a long message; parts of one message share a reference."""

    reference: int = 0
    number: int = 1
    of: int = 1


class Submit(Struct, frozen=True):
    """SMS-SUBMIT: a message on its way out."""

    number: str
    text: str
    part: Part = Part()
    report: bool = False


class Deliver(Struct, frozen=True):
    """SMS-DELIVER: a message that came in."""

    number: str
    """E.164 with its +, or what the sender calls itself."""
    text: str
    sent_at: str
    """`YYMMDDhhmmss` and the zone in quarters of an hour (`+4`), as the service centre said."""
    part: Part = Part()


class StatusReport(Struct, frozen=True):
    """SMS-STATUS-REPORT: what became of a message."""

    reference: int
    """As the modem named it when it took the message."""
    number: str
    status: int
    """TP-Status: below 20 hex done, 20 to 3F still being tried, above given up."""


Pdu = Submit | Deliver | StatusReport


# --- alphabets ------------------------------------------------------------------------------------------------------


def to_septets(text: str) -> bytes | None:
    """The text in GSM's own alphabet, one septet a byte; None when it has a character that is not there."""
    if any(character not in _SEPTETS for character in text):
        return None
    return b"".join(_SEPTETS[character] for character in text)


def from_septets(septets: bytes) -> str:
    """The reverse; an unknown extended character is read as the plain one, as phones do."""
    out, escaped = [], False
    for septet in septets:
        if escaped:
            out.append(_EXTENSION.get(septet, _BASIC[septet]))
            escaped = False
        elif septet == ESCAPE:
            escaped = True
        else:
            out.append(_BASIC[septet])
    return "".join(out)


def pack(septets: bytes, fill_bits: int = 0) -> bytes:
    """Seven bits a character, lowest bit first, behind so many fill bits."""
    value = 0
    for index, septet in enumerate(septets):
        value |= septet << (fill_bits + 7 * index)
    return value.to_bytes((fill_bits + 7 * len(septets) + 7) // 8, "little")


def unpack(data: bytes, count: int, fill_bits: int = 0) -> bytes:
    """The reverse of `pack` for so many characters; raises ValueError when they are not there."""
    if count < 0 or fill_bits + 7 * count > 8 * len(data):
        raise ValueError("the text is shorter than it says")
    value = int.from_bytes(data, "little") >> fill_bits
    return bytes(value >> (7 * index) & 0x7F for index in range(count))


def split_text(text: str) -> tuple[int, tuple[bytes, ...]]:
    """The alphabet and the parts of a text: septets of GSM7, else octets of UCS2. Raises ValueError above ten parts."""
    septets = to_septets(text)
    if septets is not None:
        units = [_SEPTETS[character] for character in text]
        whole, limit = SEPTETS_MAX, CONCATENATED_SEPTETS_MAX
    else:
        units = [character.encode("utf-16-be") for character in text]
        whole, limit = USER_DATA_OCTETS_MAX, 2 * CONCATENATED_UNITS_MAX
    alphabet = UCS2 if septets is None else GSM7
    if sum(map(len, units)) <= whole:
        return alphabet, (b"".join(units),)
    parts = [b""]
    for unit in units:  # an escaped character and a surrogate pair stay together
        if len(parts[-1]) + len(unit) > limit:
            parts.append(b"")
        parts[-1] += unit
    if len(parts) > PARTS_MAX:
        raise ValueError(f"a message has at most {PARTS_MAX} parts, not {len(parts)}")
    return alphabet, tuple(parts)


# --- PDUs -----------------------------------------------------------------------------------------------------------


def is_number(number: str) -> bool:
    """Whether it is a number in the form of E.164, with its +."""
    return _NUMBER.fullmatch(number) is not None


def encode_submit(number: str, text: str, reference: int) -> tuple[bytes, ...]:
    """TPDUs of a message, one a part, each asking for a delivery report.

    Raises ValueError for what is no E.164 number, an empty text, a lone surrogate and a text that is too long.
    """
    if not is_number(number):
        raise ValueError("the number is not in the form +33612345678")
    if not text:
        raise ValueError("there is no text")
    alphabet, parts = split_text(text)
    head = bytes((_SUBMIT | _REPORT_WANTED | (_HEADER if len(parts) > 1 else 0), 0)) + _address(number)
    return tuple(
        head + bytes((0, alphabet)) + _user_data(alphabet, one, Part(reference & 0xFF, index, len(parts)))
        for index, one in enumerate(parts, 1)
    )


def encode_deliver(number: str, text: str, sent_at: str, reference: int = 0) -> tuple[bytes, ...]:
    """TPDUs of a message that comes in, as a network gives them."""
    alphabet, parts = split_text(text)
    head = bytes((_DELIVER | 0x04 | (_HEADER if len(parts) > 1 else 0),)) + _address(number) + bytes((0, alphabet))
    return tuple(
        head + _stamp(sent_at) + _user_data(alphabet, one, Part(reference & 0xFF, index, len(parts)))
        for index, one in enumerate(parts, 1)
    )


def encode_status_report(reference: int, number: str, sent_at: str, status: int) -> bytes:
    """TPDU of a delivery report."""
    stamps = _stamp(sent_at) * 2
    return bytes((_STATUS_REPORT | 0x04, reference)) + _address(number) + stamps + bytes((status,))


def decode_incoming(pdu: bytes) -> Deliver | StatusReport:
    """A TPDU from the network. Raises ValueError when it cannot be read."""
    try:
        kind = pdu[0] & 0x03
        if kind == _DELIVER:
            number, at = _read_address(pdu, 1)
            text, part = _read_user_data(pdu[at + 9 :], pdu[at + 1], bool(pdu[0] & _HEADER))
            return Deliver(number, text, _read_stamp(pdu[at + 2 : at + 9]), part)
        if kind == _STATUS_REPORT:
            number, at = _read_address(pdu, 2)
            return StatusReport(pdu[1], number, pdu[at + 14])
    except IndexError:
        raise ValueError("the PDU ends too early") from None
    raise ValueError("a PDU of another kind")


def decode_submit(pdu: bytes) -> Submit:
    """A TPDU to the network. Raises ValueError when it cannot be read."""
    try:
        if pdu[0] & 0x03 != _SUBMIT:
            raise ValueError("a PDU of another kind")
        number, at = _read_address(pdu, 2)
        validity = {0x00: 0, 0x10: 1}.get(pdu[0] & 0x18, 7)
        text, part = _read_user_data(pdu[at + 2 + validity :], pdu[at + 1], bool(pdu[0] & _HEADER))
    except IndexError:
        raise ValueError("the PDU ends too early") from None
    return Submit(number, text, part, bool(pdu[0] & _REPORT_WANTED))


def _address(number: str) -> bytes:
    digits = number.removeprefix("+")
    swapped = bytes.fromhex("".join(b + a for a, b in zip(digits[::2], digits[1::2] + "f", strict=False)))
    return bytes((len(digits), 0x91 if number.startswith("+") else 0x81)) + swapped


def _read_address(pdu: bytes, at: int) -> tuple[str, int]:
    size, kind = pdu[at], pdu[at + 1]
    end = at + 2 + (size + 1) // 2
    value = pdu[at + 2 : end]
    if len(value) != end - at - 2:
        raise ValueError("the PDU ends too early")
    if kind & 0x70 == 0x50:
        return from_septets(unpack(value, size * 4 // 7)), end
    nibbles = [nibble for byte in value for nibble in (byte & 0xF, byte >> 4)][:size]
    if any(nibble >= len(_DIGITS) for nibble in nibbles):
        raise ValueError("a number with something else than digits")
    return ("+" if kind & 0x70 == 0x10 else "") + "".join(_DIGITS[nibble] for nibble in nibbles), end


def _user_data(alphabet: int, content: bytes, part: Part) -> bytes:
    header = bytes((5, _CONCATENATION, 3, part.reference, part.of, part.number)) if part.of > 1 else b""
    if alphabet == UCS2:
        return bytes((len(header) + len(content),)) + header + content
    fill_bits = -8 * len(header) % 7
    taken = (8 * len(header) + fill_bits) // 7
    return bytes((taken + len(content),)) + header + pack(content, fill_bits)


def _read_user_data(data: bytes, coding: int, has_header: bool) -> tuple[str, Part]:
    size, data = data[0], data[1:]
    header = data[: 1 + data[0]] if has_header else b""
    part = _read_header(header)
    alphabet = _alphabet(coding)
    if alphabet == GSM7:
        fill_bits = -8 * len(header) % 7
        count = size - (8 * len(header) + fill_bits) // 7
        return from_septets(unpack(data[len(header) :], count, fill_bits)), part
    if len(data) < size:
        raise ValueError("the text is shorter than it says")
    content = data[len(header) : size]
    return content.decode("utf-16-be" if alphabet == UCS2 else "latin-1", "replace"), part


def _alphabet(coding: int) -> int:
    """Of a data coding scheme: general and message class groups, and the groups of waiting indications."""
    if coding >> 4 == 0xF:
        return coding & 0x04
    if coding >> 4 == 0xE:
        return UCS2
    return coding & 0x0C if coding < 0x80 else GSM7


def _read_header(header: bytes) -> Part:
    at = 1
    while at + 2 <= len(header):
        kind, size = header[at], header[at + 1]
        value = header[at + 2 : at + 2 + size]
        at += 2 + size
        if (kind, len(value)) in ((_CONCATENATION, 3), (_CONCATENATION_16, 4)):
            reference = int.from_bytes(value[:-2], "big")
            if 1 <= value[-1] <= value[-2]:
                return Part(reference, value[-1], value[-2])
    return Part()


def _stamp(sent_at: str) -> bytes:
    digits, zone = sent_at[:12], int(sent_at[12:])
    quarters = f"{abs(zone):02d}"
    last = int(quarters[::-1], 16) | (0x08 if zone < 0 else 0)
    return bytes.fromhex("".join(digits[at + 1] + digits[at] for at in range(0, 12, 2))) + bytes((last,))


def _read_stamp(value: bytes) -> str:
    if len(value) != 7:
        raise ValueError("the PDU ends too early")
    digits = "".join(f"{byte & 0xF:x}{byte >> 4:x}" for byte in value[:6])
    zone = (value[6] & 0x07) * 10 + (value[6] >> 4)
    return f"{digits}{'-' if value[6] & 0x08 else '+'}{zone}"


# --- the line -------------------------------------------------------------------------------------------------------


class Line(Struct, frozen=True):
    """One line of an answer."""

    text: str


class Prompt(Struct, frozen=True):
    """The modem waits for the text of a message."""


class Waiting(Struct, frozen=True):
    """`+CMTI`: a message came in and is stored."""


class Report(Struct, frozen=True):
    """`+CDS`: a delivery report, which the modem does not store."""

    value: StatusReport


AtEvent = Line | Prompt | Waiting | Report

LINE_BYTES_MAX = 1024
CTRL_Z, ESC = b"\x1a", b"\x1b"


class AtReader:
    """Finds lines, prompts and what the modem says by itself in a stream of bytes, however it is cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._report_follows = False
        self.noise = 0
        """Bytes in a row that end no line."""

    def feed(self, data: bytes) -> list[AtEvent]:
        """What is complete now."""
        return [event for byte in data if (event := self._take(byte)) is not None]

    def reset(self) -> None:
        """Forget a line that has begun."""
        self._buffer.clear()
        self._report_follows = False

    def _take(self, byte: int) -> AtEvent | None:
        self.noise += 1
        if byte in b"\r\n":
            text = self._buffer.decode("latin-1").strip()
            self._buffer.clear()
            return self._event(text) if text else None
        if len(self._buffer) < LINE_BYTES_MAX:
            self._buffer.append(byte)
        if self._buffer == b"> ":
            self._buffer.clear()
            self.noise = 0
            return Prompt()
        return None

    def _event(self, text: str) -> AtEvent | None:
        if text.isprintable() and text.isascii():
            self.noise = 0
        if self._report_follows:
            self._report_follows = False
            report = read_pdu(text)
            return Report(report) if isinstance(report, StatusReport) else None
        if text.startswith("+CDS:"):
            self._report_follows = True
            return None
        return Waiting() if text.startswith("+CMTI:") else Line(text)


def read_pdu(text: str) -> Deliver | StatusReport | None:
    """The TPDU of a line of hexadecimal digits, behind the address of its service centre; None when there is none."""
    try:
        raw = bytes.fromhex(text)
        return decode_incoming(raw[1 + raw[0] :])
    except (ValueError, IndexError):
        return None


def write_pdu(pdu: bytes) -> str:
    """A TPDU as it stands on the line, without the address of a service centre."""
    return (b"\0" + pdu).hex().upper()


_REFUSED_FOR_GOOD = {
    1: "number_unassigned", 8: "barred_by_operator", 10: "barred", 21: "rejected", 27: "destination_out_of_order",
    28: "subscriber_unknown", 29: "facility_rejected", 30: "subscriber_unknown", 50: "not_subscribed",
    69: "not_implemented", 302: "not_allowed", 303: "not_supported", 304: "message_malformed",
    305: "message_malformed", 310: "sim_missing", 311: "sim_pin_needed", 312: "sim_pin_needed", 313: "sim_failure",
    315: "sim_wrong", 316: "sim_puk_needed", 330: "service_centre_unknown",
}  # fmt: skip
_REFUSED_FOR_NOW = {
    38: "network_out_of_order", 41: "network_failure", 42: "network_congested", 47: "resources_unavailable",
    314: "sim_busy", 331: "no_network",
}  # fmt: skip


class Refusal(Struct, frozen=True):
    """A `+CMS ERROR` that says that the message did not leave."""

    reason: str
    permanent: bool


def refusal_of(code: int) -> Refusal | None:
    """What a `+CMS ERROR` says; None for those that leave open whether the message left (a network that timed out)."""
    if code in _REFUSED_FOR_GOOD:
        return Refusal(_REFUSED_FOR_GOOD[code], permanent=True)
    reason = _REFUSED_FOR_NOW.get(code)
    return Refusal(reason, permanent=False) if reason else None
