"""IPP/1.1 messages as bytes (RFC 8010), and the values of RFC 8011 that a printer of receipts needs. No I/O.

A message is a version, an operation or a status, a number, groups of attributes, and after them the document. What a
printer says is read with bounds; attributes whose kind of value is not known are kept as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum

from msgspec import Struct

CONTENT_TYPE = "application/ipp"
VERSION = b"\x01\x01"
"""Of requests: understood by every printer, those that speak 2.x included (RFC 8011 4.1.8)."""
VALUES_MAX = 4096
"""Of one message; a printer with many media has some hundred."""
END = 0x03
_RESOLUTION, _PER_INCH = struct.Struct(">iib"), 3
_SIGNED = (0x21, 0x23)
_TEXT = (0x41, 0x42, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49)
_WITH_LANGUAGE = (0x35, 0x36)
_BOOLEAN, _BEGIN_COLLECTION, _END_COLLECTION, _MEMBER = 0x22, 0x34, 0x37, 0x4A


class Tag(IntEnum):
    """Kinds of groups and of the values that are sent."""

    OPERATION = 0x01
    JOB = 0x02
    PRINTER = 0x04
    INTEGER = 0x21
    BOOLEAN = 0x22
    ENUM = 0x23
    TEXT = 0x41
    NAME = 0x42
    KEYWORD = 0x44
    URI = 0x45
    CHARSET = 0x47
    LANGUAGE = 0x48
    RESOLUTION = 0x32
    MEDIA_TYPE = 0x49


class Operation(IntEnum):
    """RFC 8011 5.4.15."""

    PRINT_JOB = 0x0002
    GET_JOB_ATTRIBUTES = 0x0009
    GET_JOBS = 0x000A
    GET_PRINTER_ATTRIBUTES = 0x000B


class JobState(IntEnum):
    """RFC 8011 5.3.7."""

    PENDING = 3
    HELD = 4
    PROCESSING = 5
    STOPPED = 6
    CANCELED = 7
    ABORTED = 8
    COMPLETED = 9


class PrinterState(IntEnum):
    """RFC 8011 5.4.11."""

    IDLE = 3
    PROCESSING = 4
    STOPPED = 5


Value = int | bool | str | bytes
Attributes = Mapping[str, tuple[Value, ...]]


class IppMessageError(ValueError):
    """These bytes are no IPP message."""


class Sent(Struct, frozen=True):
    """One attribute of a request."""

    tag: Tag
    name: str
    values: tuple[Value, ...]


class Message(Struct, frozen=True):
    """A request or an answer as it was read."""

    code: int
    """Operation of a request, status of an answer."""
    request_id: int
    groups: tuple[tuple[int, Attributes], ...]
    document: bytes = b""
    version: bytes = VERSION

    @property
    def good(self) -> bool:
        """Whether the answer says that it was done (RFC 8011 B.1: 0x0000 to 0x00FF)."""
        return self.code <= 0x00FF

    def group(self, tag: Tag) -> Attributes:
        """The first group of this kind; empty when there is none."""
        return next((attributes for found, attributes in self.groups if found == tag), {})

    def all(self, tag: Tag) -> list[Attributes]:
        """All groups of this kind, as of an answer with many jobs."""
        return [attributes for found, attributes in self.groups if found == tag]


def request(
    operation: Operation, request_id: int, printer_uri: str, attributes: Iterable[Sent] = (), document: bytes = b""
) -> bytes:
    """A request with the attributes that each has to begin with (RFC 8011 4.1.4)."""
    first = (
        Sent(Tag.CHARSET, "attributes-charset", ("utf-8",)),
        Sent(Tag.LANGUAGE, "attributes-natural-language", ("en",)),
        Sent(Tag.URI, "printer-uri", (printer_uri,)),
    )
    return encode(operation, request_id, [(Tag.OPERATION, (*first, *attributes))], document)


def encode(
    code: int,
    request_id: int,
    groups: Iterable[tuple[Tag, Iterable[Sent]]],
    document: bytes = b"",
    version: bytes = VERSION,
) -> bytes:
    """A message (RFC 8010 3.1)."""
    out = bytearray(version + code.to_bytes(2, "big") + request_id.to_bytes(4, "big"))
    for group, attributes in groups:
        out.append(group)
        for attribute in attributes:
            name = attribute.name.encode("ascii")
            for value in attribute.values:
                out += bytes((attribute.tag,)) + _with_length(name) + _with_length(_bytes_of(attribute.tag, value))
                name = b""  # further values of the same attribute
    return bytes(out) + bytes((END,)) + document


def _bytes_of(tag: Tag, value: Value) -> bytes:
    match value:
        case bool():
            return bytes((value,))
        case int():
            return value.to_bytes(4, "big", signed=True)
        case str():
            return value.encode("utf-8")
        case bytes():
            return value
    raise TypeError(f"no value of {tag!r}: {value!r}")


def _with_length(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def bounded(text: str, octets_max: int) -> str:
    """As much of the text as fits: names and texts are measured in octets (RFC 8011 5.1)."""
    return text.encode("utf-8")[:octets_max].decode("utf-8", "ignore")


class _Reader:
    """Bytes that are taken from the left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise IppMessageError("it ends too soon")
        self._at += count
        return taken

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")

    def rest(self) -> bytes:
        return self._data[self._at :]


def decode(data: bytes) -> Message:
    """Read a message. Raises IppMessageError for what is none, is cut off, or says more than any printer would."""
    reader = _Reader(data)
    version = reader.take(2)
    if version[0] not in (1, 2):
        raise IppMessageError("another version")
    code, request_id = reader.number(2), reader.number(4)
    groups: list[tuple[int, Attributes]] = []
    found: dict[str, list[Value]] = {}
    values, depth, name = 0, 0, ""
    while (tag := reader.number(1)) != END:
        if tag < 0x10:
            _close(groups, found)
            found = {}
            groups.append((tag, {}))
            depth = 0
            continue
        label, raw = reader.take(reader.number(2)), reader.take(reader.number(2))
        values += 1
        if not groups or values > VALUES_MAX:
            raise IppMessageError("values outside a group, or too many")
        if depth == 0 and label:
            name = label.decode("ascii", "replace")
        depth += (tag == _BEGIN_COLLECTION) - (tag == _END_COLLECTION)
        if depth == 0 and tag not in (_END_COLLECTION, _MEMBER):
            found.setdefault(name, []).extend(_value(tag, raw))
    _close(groups, found)
    return Message(code, request_id, tuple(groups), reader.rest(), version)


def _close(groups: list[tuple[int, Attributes]], found: Mapping[str, list[Value]]) -> None:
    if groups:
        groups[-1] = (groups[-1][0], {name: tuple(values) for name, values in found.items()})


def _value(tag: int, raw: bytes) -> Iterator[Value]:
    """The value; none for what stands for one that is not there (RFC 8010 3.5.2: unknown, no-value)."""
    if tag in _SIGNED:
        yield int.from_bytes(raw, "big", signed=True)
    elif tag == _BOOLEAN:
        yield raw != b"\x00"
    elif tag in _TEXT:
        yield raw.decode("utf-8", "replace")
    elif tag in _WITH_LANGUAGE:
        reader = _Reader(raw)
        reader.take(reader.number(2))
        yield reader.take(reader.number(2)).decode("utf-8", "replace")
    elif tag >= 0x20:
        yield raw


def words(attributes: Attributes, name: str) -> tuple[str, ...]:
    """The values of an attribute that are text."""
    return tuple(value for value in attributes.get(name, ()) if isinstance(value, str))


def resolutions(attributes: Attributes, name: str) -> tuple[int, ...]:
    """The values of an attribute that are resolutions of as many dots an inch both ways (RFC 8010 3.9)."""
    found = [_RESOLUTION.unpack(one) for one in attributes.get(name, ()) if isinstance(one, bytes) and len(one) == 9]
    return tuple(across for across, along, unit in found if across == along and unit == _PER_INCH)


def number(attributes: Attributes, name: str) -> int | None:
    """The first value of an attribute, where it is a number."""
    value = next(iter(attributes.get(name, ())), None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
