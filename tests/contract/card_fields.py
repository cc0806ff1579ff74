"""A device's message, once for each of its fields with a card number in the place of what the field holds.

Messages stay what their protocol wants: lengths, check bytes, encryption and numbers of messages are made anew. So a
driver reads them as it reads any, and nothing but the field itself is wrong.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from functools import reduce
from operator import xor
from typing import Any

from drivers.caisse_ap_codec import Element, ElementReader, encode_elements
from drivers.gsm_modem_codec import encode_deliver, write_pdu
from drivers.nexo_codec import RESPONSE, NexoMessageError, decode_message, encode_message
from drivers.nexo_crypto import NONCE_BYTES, NexoKey
from drivers.opi_codec import LENGTH_BYTES
from drivers.poslink_codec import Frame, FrameReader, encode_frame
from drivers.zvt_codec import (
    _FIXED,
    Apdu,
    Decoded,
    _field_extent,
    build_fields,
    build_tlv,
    decode_apdu,
    encode_apdu,
    parse_tag,
)
from drivers.zvt_codec import _ber_length as ber_length_of

Changed = Iterator[tuple[str, bytes]]
"""Which field, and the message with the number in it."""
Fields = Callable[[bytes, str], Changed]


def packed(number: str, size: int = 0) -> bytes:
    """Packed digits, filled up with F or cut to a size."""
    whole = bytes.fromhex(number + "F" * (len(number) % 2))
    return whole.ljust(size, b"\xff")[:size] if size else whole


# -- ZVT ---------------------------------------------------------------------------------------------------------------

_LEADING = {0x04FF: 2, 0x061E: 1}
"""Bytes in front of the fields."""


def zvt(message: bytes, number: str) -> Changed:
    """Fields of a message and elements of its containers, as text and as packed digits; lines of a receipt."""
    decoded = decode_apdu(message)
    if not isinstance(decoded, Decoded):
        return
    apdu = decoded.apdu
    name = f"{apdu.command:04X}"
    if apdu.command == 0x06D1:
        yield name, encode_apdu(Apdu(apdu.command, b"\0" + number.encode()))
        return
    lead = _LEADING.get(apdu.command, 0)
    fields = _zvt_fields(apdu.data[lead:])
    for at, (tag, value) in enumerate(fields):
        for form, changed in _zvt_values(tag, value, number):
            again = [*fields[:at], (tag, changed), *fields[at + 1 :]]
            yield f"{name}.{tag:02X}{form}", encode_apdu(Apdu(apdu.command, apdu.data[:lead] + build_fields(again)))


def _zvt_fields(data: bytes) -> list[tuple[int, bytes]]:
    found, position = [], 0
    while position < len(data):
        extent = _field_extent(data[position], data[position + 1 : position + 5])
        if extent is None:
            return []
        start = position + 1 + extent[0]
        position = start + extent[1]
        found.append((data[start - extent[0] - 1], data[start:position]))
    return found


def _zvt_values(tag: int, value: bytes, number: str) -> Iterator[tuple[str, bytes]]:
    if tag == 0x06:
        yield from _tlv_values(value, number)
    elif tag in _FIXED:  # most have no room for a card number
        if len(value) >= len(packed(number)):
            yield ":packed", packed(number, len(value))
        if len(value) >= len(number):
            yield ":text", number.encode().ljust(len(value))
    else:
        yield ":packed", packed(number)
        yield ":text", number.encode()


def _tlv_values(data: bytes, number: str) -> Iterator[tuple[str, bytes]]:
    """The container with another value in each of its elements, at any depth."""
    position = 0
    while position < len(data):
        found = parse_tag(data[position:])
        assert found is not None, data
        tag, width = found
        length = ber_length_of(data[position + width :])
        assert length is not None, data
        start = position + width + length[0]
        value = data[start : start + length[1]]
        forms = _tlv_values(value, number) if data[position] & 0x20 else _zvt_values(-1, value, number)
        for form, changed in forms:
            yield f"/{tag:X}{form}", data[:position] + build_tlv(tag, changed) + data[start + length[1] :]
        position = start + length[1]


# -- texts -------------------------------------------------------------------------------------------------------------

_ATTRIBUTE, _TEXT = re.compile(r'(\w+)="([^"]*)"'), re.compile(r"<(\w+)[^<>]*>([^<>]+)<")


def opi(message: bytes, number: str) -> Changed:
    """Attributes and texts of a document."""
    document = message[LENGTH_BYTES:].decode("latin-1")
    root = re.findall(r"<(\w+)", document)[0]
    for pattern in (_ATTRIBUTE, _TEXT):
        for found in pattern.finditer(document, document.index("?>") if "?>" in document else 0):
            changed = (document[: found.start(2)] + number + document[found.end(2) :]).encode("latin-1")
            yield f"{root}.{found[1]}", len(changed).to_bytes(LENGTH_BYTES, "big") + changed


def poslink(message: bytes, number: str) -> Changed:
    """Fields of groups, those that are empty too."""
    for frame in FrameReader().feed(message):
        if not isinstance(frame, Frame):
            return
        for place, group in enumerate(frame.groups):
            for at in range(len(group)):
                changed = (*group[:at], number, *group[at + 1 :])
                groups = (*frame.groups[:place], changed, *frame.groups[place + 1 :])
                yield f"{frame.groups[1][0]}.{place}.{at}", encode_frame(Frame(groups))


def caisse_ap(message: bytes, number: str) -> Changed:
    """Elements."""
    read = ElementReader().feed(message)
    elements = [(one.tag, one.value) for one in read if isinstance(one, Element)]
    for at, (tag, value) in enumerate(elements):
        for form in (number, value + number):
            again = [*elements[:at], (tag, form), *elements[at + 1 :]]
            yield f"{tag}{':behind' if form != number else ''}", encode_elements(again)


def concert(message: bytes, number: str) -> Changed:
    """Every place of the report, which is in every answer that is long enough."""
    if len(message) < 40 or not message.startswith(b"\x02"):
        return
    for at in range(1, len(message) - 2 - len(number)):
        changed = message[1:at] + number.encode() + message[at + len(number) : -1]
        yield f"{at}", b"\x02" + changed + bytes((reduce(xor, changed, 0),))


# -- HTTP --------------------------------------------------------------------------------------------------------------


def _with_body(message: bytes, body: bytes) -> bytes:
    head = message.partition(b"\r\n\r\n")[0]
    return re.sub(rb"(?i)(content-length: )\d+", rb"\g<1>%d" % len(body), head) + b"\r\n\r\n" + body


def _heads(message: bytes, number: str) -> Changed:
    head, _, body = message.partition(b"\r\n\r\n")
    said = number.encode()
    yield "http.reason", re.sub(rb"^(HTTP/1.1 \d+) [^\r]*", rb"\1 " + said, head) + b"\r\n\r\n" + body
    yield "http.server", head + b"\r\nServer: " + said + b"\r\n\r\n" + body
    yield "http.type", re.sub(rb"(?i)(content-type: )[^\r]*", rb"\1" + said, head) + b"\r\n\r\n" + body
    yield "http.status", re.sub(rb"^HTTP/1.1 \d+ [^\r]*", b"HTTP/1.1 500 " + said, head) + b"\r\n\r\n" + said


def nexo(key: NexoKey) -> Fields:
    """Members of a sealed answer, at any depth, and the parts of the answer around it."""

    def changed(message: bytes, number: str) -> Changed:
        yield from _heads(message, number)
        body = message.partition(b"\r\n\r\n")[2]
        try:
            header, content = decode_message(RESPONSE, body, key)
        except NexoMessageError:
            return
        whole = {name: value for name, value in json.loads(bytes(content)).items() if name != "MessageHeader"}
        for path, other in _json_values(whole, number):
            sealed = encode_message(RESPONSE, header, other, key, bytes(NONCE_BYTES))
            yield path, _with_body(message, sealed)

    return changed


def _json_values(value: Any, number: str) -> Iterator[tuple[str, Any]]:
    match value:
        case dict():
            for name, inside in value.items():
                yield from ((f".{name}{path}", {**value, name: other}) for path, other in _json_values(inside, number))
        case list():
            for at, inside in enumerate(value):
                changed = (
                    (path, [*value[:at], other, *value[at + 1 :]]) for path, other in _json_values(inside, number)
                )
                yield from ((f"[]{path}", other) for path, other in changed)
        case str():
            yield "", number
            if "=" in value:
                yield ":among others", f"{value}&message={number}&firmwareVersion={number}"
        case _:
            yield "", number
            yield ":as a number", int(number)


def ipp(message: bytes, number: str) -> Changed:
    """Values of attributes."""
    yield from _heads(message, number)
    body = message.partition(b"\r\n\r\n")[2]
    position, name = 8, ""
    while position < len(body) and body[position] != 0x03:
        if body[position] < 0x10:
            position += 1
            continue
        (size,) = struct.unpack_from(">H", body, position + 1)
        name = body[position + 3 : position + 3 + size].decode() or name
        start = position + 3 + size
        (length,) = struct.unpack_from(">H", body, start)
        value = body[start + 2 : start + 2 + length]
        for form, other in (("", number.encode()), (":behind", value + number.encode())):
            again = body[:start] + struct.pack(">H", len(other)) + other + body[start + 2 + length :]
            yield f"{name}{form}", _with_body(message, again)
        position = start + 2 + length


_MESSAGES = {
    ":sender": ("", "Bonjour"),
    ":text": ("+33612345678", "kaart {}"),
    ":lines": ("+33612345678", "kaart\n{}\n12/29"),
    ":track": ("+33612345678", ";{}=29121010000?"),
}
"""Sender and text."""


def modem(message: bytes, number: str) -> Changed:
    """Lines of an answer: another one, its values, or an error with words."""
    lines = message.decode("latin-1").split("\r\n")
    for at, line in enumerate(lines):
        if not line:
            continue
        name, colon, _ = line.partition(": ")
        others = {"": number, ":error": f"+CME ERROR: {number}", ":values": f'{name}: {number},"{number}"'}
        if line.startswith("0") and len(line) > 40:  # a message on the card
            name = "message"
            for form, (sender, text) in _MESSAGES.items():
                pdu = encode_deliver(sender or number, text.format(number), "261201142530+4", 77)[0]
                others[form] = write_pdu(pdu)
        for form, other in others.items():
            if colon or form != ":values":
                changed = "\r\n".join([*lines[:at], other, *lines[at + 1 :]])
                yield f"{name}{form}", changed.encode("latin-1")
