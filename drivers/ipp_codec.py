"""What the hub asks IPP printers, and the values of RFC 8011 that it needs of their answers. No I/O.

The bytes are written and read by `hubd.model.ipp`. A printer's text that is not UTF-8 is read as well as it can be: one
odd name must not keep a shop from printing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum

from msgspec import Struct

from hubd.model import ipp
from hubd.model.ipp import Attribute, Group, IppFormatError, Resolution, Tag, attribute

CONTENT_TYPE = "application/ipp"
VERSION = (1, 1)
"""Of requests: understood by every printer, those that speak 2.x included (RFC 8011 4.1.8)."""
VERSIONS = (1, 2)
"""Of answers, before the point."""
_INCH = 3


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


Attributes = Mapping[str, tuple[ipp.Value, ...]]
"""By name; what stands for a value that is not there (RFC 8010 3.5.2) is left out."""


class Message(Struct, frozen=True):
    """A request or an answer as it was read."""

    code: int
    """Operation of a request, status of an answer."""
    request_id: int
    groups: tuple[tuple[int, Attributes], ...]
    document: bytes = b""
    version: tuple[int, int] = VERSION

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
    operation: Operation, request_id: int, printer_uri: str, attributes: Iterable[Attribute] = (), document: bytes = b""
) -> bytes:
    """A request with the attributes that each has to begin with (RFC 8011 4.1.4)."""
    first = (
        attribute("attributes-charset", Tag.CHARSET, "utf-8"),
        attribute("attributes-natural-language", Tag.LANGUAGE, "en"),
        attribute("printer-uri", Tag.URI, printer_uri),
    )
    return encode(operation, request_id, [(Tag.OPERATION, (*first, *attributes))], document)


def encode(
    code: int,
    request_id: int,
    groups: Iterable[tuple[Tag, Iterable[Attribute]]],
    document: bytes = b"",
    version: tuple[int, int] = VERSION,
) -> bytes:
    """A message (RFC 8010 3.1)."""
    told = tuple(Group(tag, tuple(attributes)) for tag, attributes in groups)
    return ipp.encode(ipp.Message(version, code, request_id, told, document))


def bounded(text: str, octets_max: int) -> str:
    """As much of the text as fits: names and texts are measured in octets (RFC 8011 5.1)."""
    return text.encode("utf-8")[:octets_max].decode("utf-8", "ignore")


def decode(data: bytes) -> Message:
    """Read a message. Raises IppFormatError for what is none, is cut off, or says more than any printer would."""
    read = ipp.decode(data, text_errors="replace")
    if read.version[0] not in VERSIONS:
        raise IppFormatError("it is of another version")
    groups = tuple((group.tag, _attributes(group)) for group in read.groups)
    return Message(read.code, read.request_id, groups, read.data, read.version)


def _attributes(group: Group) -> Attributes:
    return {one.name: tuple(value for value in one.values if value is not None) for one in group.attributes}


def words(attributes: Attributes, name: str) -> tuple[str, ...]:
    """The values of an attribute that are text."""
    return tuple(value for value in attributes.get(name, ()) if isinstance(value, str))


def resolutions(attributes: Attributes, name: str) -> tuple[int, ...]:
    """The values of an attribute that are resolutions of as many dots an inch both ways (RFC 8010 3.9)."""
    found = [value for value in attributes.get(name, ()) if isinstance(value, Resolution)]
    return tuple(one.across for one in found if one.across == one.down and one.units == _INCH)


def number(attributes: Attributes, name: str) -> int | None:
    """The first value of an attribute, where it is a number."""
    value = next(iter(attributes.get(name, ())), None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
