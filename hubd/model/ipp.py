"""IPP messages as values and as bytes (RFC 8010). Pure: no I/O, and no opinion about what a message says."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum

from msgspec import Struct

ATTRIBUTES_MAX, VALUES_MAX, DEPTH_MAX = 1_000, 4_000, 8
"""Of one message: attributes in all its groups, values in all of them, and collections inside each other."""


class Tag(IntEnum):
    """What begins a group, or says how a value is written (RFC 8010, 3.5)."""

    OPERATION = 0x01
    JOB = 0x02
    END = 0x03
    PRINTER = 0x04
    UNSUPPORTED_GROUP = 0x05
    UNSUPPORTED = 0x10
    UNKNOWN = 0x12
    NO_VALUE = 0x13
    INTEGER = 0x21
    BOOLEAN = 0x22
    ENUM = 0x23
    OCTETS = 0x30
    DATE_TIME = 0x31
    RESOLUTION = 0x32
    RANGE = 0x33
    COLLECTION = 0x34
    TEXT_IN_LANGUAGE = 0x35
    NAME_IN_LANGUAGE = 0x36
    COLLECTION_END = 0x37
    TEXT = 0x41
    NAME = 0x42
    KEYWORD = 0x44
    URI = 0x45
    URI_SCHEME = 0x46
    CHARSET = 0x47
    LANGUAGE = 0x48
    MIME = 0x49
    MEMBER_NAME = 0x4A


class Range(Struct, frozen=True):
    """From the one to the other, both included."""

    low: int
    high: int


class Resolution(Struct, frozen=True):
    """Dots in each direction; units 3 is an inch, 4 a centimetre."""

    across: int
    down: int
    units: int = 3


class Collection(Struct, frozen=True):
    """Attributes as one value."""

    members: tuple[Attribute, ...]


Value = int | bool | str | bytes | Range | Resolution | Collection | None


class Attribute(Struct, frozen=True):
    """A name with one value or several. `tag` is that of the first; values without content are None."""

    name: str
    tag: int
    values: tuple[Value, ...]


class Group(Struct, frozen=True):
    """Attributes that belong together: of the operation, of one job, of the printer."""

    tag: int
    attributes: tuple[Attribute, ...]

    def get(self, name: str) -> Attribute | None:
        """The attribute of this name."""
        return next((one for one in self.attributes if one.name == name), None)


class Message(Struct, frozen=True):
    """A request (`code` is its operation) or an answer (`code` is its status)."""

    version: tuple[int, int]
    code: int
    request_id: int
    groups: tuple[Group, ...] = ()
    data: bytes = b""

    def group(self, tag: int) -> Group:
        """The first group of this kind; an empty one where there is none."""
        return next((one for one in self.groups if one.tag == tag), Group(tag, ()))


class IppFormatError(ValueError):
    """These bytes are no IPP message."""


HEAD_BYTES = 8
_DELIMITER_MAX = 0x0F
_TEXTS = frozenset(range(0x40, 0x60))
_IN_LANGUAGE = (Tag.TEXT_IN_LANGUAGE, Tag.NAME_IN_LANGUAGE)
_OUT_OF_BAND = frozenset(range(0x10, 0x20))


# -- reading -----------------------------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, data: bytes, text_errors: str) -> None:
        self.data = data
        self.at = HEAD_BYTES
        self.text_errors = text_errors
        self.attributes = 0
        self.values = 0

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) < count:
            raise IppFormatError("it ends too early")
        self.at += count
        return part

    def field(self) -> bytes:
        return self.take(int.from_bytes(self.take(2), "big"))

    def peek(self) -> int:
        return self.data[self.at] if self.at < len(self.data) else -1

    def text(self) -> str:
        return _text(self.field(), self.text_errors)

    def peek_name_length(self) -> int:
        return int.from_bytes(self.data[self.at + 1 : self.at + 3], "big")


def decode(data: bytes, *, text_errors: str = "strict") -> Message:
    """The message; what follows its attributes is its `data`. Raises IppFormatError.

    `text_errors` as of `bytes.decode`: strict, a text that is not UTF-8 is an error.
    """
    if len(data) < HEAD_BYTES:
        raise IppFormatError("it has no head")
    major, minor, code, request_id = struct.unpack(">bbhi", data[:HEAD_BYTES])
    reader, groups = _Reader(data, text_errors), list[Group]()
    tag = reader.byte()
    while tag != Tag.END:
        if tag > _DELIMITER_MAX:
            raise IppFormatError("an attribute stands in no group")
        attributes: list[Attribute] = []
        while reader.peek() > _DELIMITER_MAX:
            attributes.append(_attribute(reader))
        groups.append(Group(tag, tuple(attributes)))
        tag = reader.byte()
    return Message((major, minor), code & 0xFFFF, request_id, tuple(groups), data[reader.at :])


def _attribute(reader: _Reader) -> Attribute:
    reader.attributes += 1
    if reader.attributes > ATTRIBUTES_MAX:
        raise IppFormatError("it has too many attributes")
    tag = reader.byte()
    name = reader.text()
    if not name:
        raise IppFormatError("an attribute has no name")
    values = [_value(reader, tag, 0)]
    while reader.peek() > _DELIMITER_MAX and reader.peek_name_length() == 0:
        more = reader.byte()
        reader.field()
        values.append(_value(reader, more, 0))
    return Attribute(name, tag, tuple(values))


def _value(reader: _Reader, tag: int, depth: int) -> Value:
    reader.values += 1
    if reader.values > VALUES_MAX or depth > DEPTH_MAX:
        raise IppFormatError("it has too many values")
    if tag in _TEXTS:
        return reader.text()
    raw = reader.field()
    if tag == Tag.COLLECTION:
        return Collection(tuple(_members(reader, depth + 1)))
    if tag in _OUT_OF_BAND:
        return None
    try:
        if tag in _IN_LANGUAGE:
            return _in_language(raw, reader.text_errors)
        return _READERS[tag](raw) if tag in _READERS else raw
    except struct.error:
        raise IppFormatError("a value has the wrong length") from None


def _members(reader: _Reader, depth: int) -> Iterator[Attribute]:
    name, tag, values = "", 0, list[Value]()
    while True:
        kind = reader.byte()
        if reader.field():
            raise IppFormatError("a member of a collection has a name outside")
        if kind in (Tag.MEMBER_NAME, Tag.COLLECTION_END):
            if name:
                yield Attribute(name, tag, tuple(values))
            name, values = reader.text(), []
            if kind == Tag.COLLECTION_END:
                return
        else:
            if not name:
                raise IppFormatError("a member of a collection has no name")
            tag = tag if values else kind
            values.append(_value(reader, kind, depth))


def _text(raw: bytes, errors: str) -> str:
    try:
        return raw.decode("utf-8", errors)
    except UnicodeDecodeError:
        raise IppFormatError("a text is not UTF-8") from None


def _in_language(raw: bytes, errors: str) -> str:
    (length,) = struct.unpack(">H", raw[:2])
    (rest,) = struct.unpack(">H", raw[2 + length : 4 + length])
    if len(raw) != 4 + length + rest:
        raise IppFormatError("a text has the wrong length")
    return _text(raw[4 + length :], errors)


def _boolean(raw: bytes) -> bool:
    return bool(struct.unpack(">B", raw)[0])


def _integer(raw: bytes) -> int:
    return int(struct.unpack(">i", raw)[0])


_READERS: dict[int, Callable[[bytes], Value]] = {
    Tag.INTEGER: _integer,
    Tag.ENUM: _integer,
    Tag.BOOLEAN: _boolean,
    Tag.RANGE: lambda raw: Range(*struct.unpack(">ii", raw)),
    Tag.RESOLUTION: lambda raw: Resolution(*struct.unpack(">iib", raw)),
}


# -- writing -----------------------------------------------------------------------------------------------------------


def attribute(name: str, tag: int, *values: Value) -> Attribute:
    """An attribute of these values; a Range or None among them is written as what it is, whatever the tag."""
    return Attribute(name, tag, values)


def collection(*members: Attribute) -> Collection:
    """Attributes as one value."""
    return Collection(members)


def encode(message: Message) -> bytes:
    """The message as bytes. Raises ValueError for a value that its tag cannot write."""
    out = bytearray(struct.pack(">bbHi", *message.version, message.code, message.request_id))
    for group in message.groups:
        out.append(group.tag)
        for one in group.attributes:
            _write(out, one.name.encode("utf-8"), one.tag, one.values)
    out.append(Tag.END)
    return bytes(out) + message.data


def _write(out: bytearray, name: bytes, tag: int, values: Iterable[Value]) -> None:
    for value in values:
        written = _tag_of(tag, value)
        out.append(written)
        _put(out, name)
        name = b""
        if isinstance(value, Collection):
            _put(out, b"")
            _write_members(out, value.members)
        else:
            _put(out, _bytes_of(written, value))


def _write_members(out: bytearray, members: Sequence[Attribute]) -> None:
    for member in members:
        out.append(Tag.MEMBER_NAME)
        _put(out, b"")
        _put(out, member.name.encode("utf-8"))
        _write(out, b"", member.tag, member.values)
    out.append(Tag.COLLECTION_END)
    _put(out, b"")
    _put(out, b"")


def _put(out: bytearray, field: bytes) -> None:
    out += struct.pack(">H", len(field)) + field


def _tag_of(tag: int, value: Value) -> int:
    match value:
        case None:
            return tag if tag in _OUT_OF_BAND else Tag.NO_VALUE
        case Range():
            return Tag.RANGE
        case Collection():
            return Tag.COLLECTION
    return tag


def _bytes_of(tag: int, value: Value) -> bytes:
    match value:
        case None:
            return b""
        case bool():
            return struct.pack(">B", value)
        case int():
            return struct.pack(">i", value)
        case Range(low, high):
            return struct.pack(">ii", low, high)
        case Resolution(across, down, units):
            return struct.pack(">iib", across, down, units)
        case str() if tag in _TEXTS:
            return value.encode("utf-8")
        case bytes():
            return value
    raise ValueError(f"tag {tag:#x} cannot write a {type(value).__name__}")
