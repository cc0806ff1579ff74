"""POSLink bytes <-> frames of groups and fields. Pure; nothing here waits or remembers.

A frame is `02 CMD 1C VERSION 1C … 03 LRC`: groups are parted by FS, the fields of a group by US, and the LRC is the
exclusive or of everything behind STX up to and with ETX (published samples of PAX; protocols, section 5). Some
terminals put the length as four digits behind STX, and some are asked by HTTP GET with the frame in base64.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce

from msgspec import Struct

from drivers.trace import plain, size

STX, ETX, EOT, ENQ, ACK, NAK, FS, US = 0x02, 0x03, 0x04, 0x05, 0x06, 0x15, 0x1C, 0x1F
FRAME_BYTES_MAX = 16 * 1024
"""Far above any answer that the hub asks for. A longer frame is garbage, so that a liar cannot make us hoard."""
HTTP_HEAD_BYTES_MAX = 8 * 1024
LENGTH_DIGITS = 4
_CONTROLS = frozenset({EOT, ENQ, ACK, NAK})
_RESERVED = re.compile("[\x00-\x1f]")
_HTTP_OK = re.compile(rb"HTTP/1\.[01] 200(?:[ \r]|$)")
_HTTP_QUERY = re.compile(rb"GET /?\?([A-Za-z0-9+/=%]*) HTTP/1\.[01]\r\n")


class Dialect(StrEnum):
    """How frames stand on the line."""

    PLAIN = "plain"
    """As PAX's own samples."""
    LENGTH = "length"
    """With four digits behind STX: how many bytes follow them up to and with ETX."""
    HTTP = "http"
    """Each frame is the query of a GET, and its answer the body of the reply; one connection each, no ACK."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as its groups of fields. They may hold card data, so `repr` shows how many groups there are."""

    groups: tuple[tuple[str, ...], ...] = field(repr=False)

    def describe(self) -> str:
        """How many groups, safe for logs."""
        return f"{len(self.groups)} groups"


class Control(Struct, frozen=True):
    """ACK, NAK, ENQ or EOT between two frames."""

    code: int


class BadFrame(Struct, frozen=True):
    """A frame with a wrong check byte; the receiver answers NAK and the sender repeats it."""

    reason: str


class Garbage(Struct, frozen=True):
    """What is there can never become a POSLink conversation; the line must be closed."""

    reason: str


LinkEvent = Frame | Control | BadFrame | Garbage


def lrc(data: bytes) -> int:
    """The exclusive or of all bytes."""
    return reduce(lambda left, right: left ^ right, data, 0)


def encode_frame(frame: Frame, dialect: Dialect = Dialect.PLAIN) -> bytes:
    """Bytes of a frame from STX to the check byte.

    Raises ValueError for characters that are no text of one byte, an empty group, or a frame beyond its limit.
    """
    if any(not group for group in frame.groups):
        raise ValueError("a group has at least one field")
    if any(_RESERVED.search(text) for group in frame.groups for text in group):
        raise ValueError("a field holds text only")
    text = chr(FS).join(chr(US).join(group) for group in frame.groups)
    body = text.encode("latin-1") + bytes((ETX,))
    if len(body) > FRAME_BYTES_MAX or (dialect is Dialect.LENGTH and len(body) >= 10**LENGTH_DIGITS):
        raise ValueError("the frame is too long")
    if dialect is Dialect.LENGTH:
        body = f"{len(body):0{LENGTH_DIGITS}d}".encode("ascii") + body
    return bytes((STX,)) + body + bytes((lrc(body),))


def decode_body(body: bytes) -> Frame:
    """Groups and fields of what stands between STX (and its length) and ETX."""
    text = body.decode("latin-1")
    return Frame(tuple(tuple(group.split(chr(US))) for group in text.split(chr(FS))))


class FrameReader:
    """Cuts a TCP stream into frames and control bytes, however the network has split or joined them."""

    def __init__(self, dialect: Dialect = Dialect.PLAIN) -> None:
        self._length = dialect is Dialect.LENGTH
        self._buffer = b""
        self._broken: Garbage | None = None

    @property
    def pending(self) -> int:
        """Bytes that wait for more."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[LinkEvent]:
        """What is complete now. After `Garbage` the stream stays garbage."""
        if self._broken:
            return [self._broken]
        self._buffer += data
        events: list[LinkEvent] = []
        while self._buffer:
            first = self._buffer[0]
            if first in _CONTROLS:
                self._buffer = self._buffer[1:]
                events.append(Control(first))
                continue
            event = self._frame() if first == STX else Garbage("not_poslink")
            if event is None:
                break
            events.append(event)
            if isinstance(event, Garbage):
                self._broken, self._buffer = event, b""
        return events

    def _frame(self) -> Frame | BadFrame | Garbage | None:
        """The frame at the beginning of the buffer, or None while it is not whole."""
        if self._length:
            end = self._end_by_length()
        else:
            end = self._buffer.find(ETX)
            if end < 0:
                return Garbage("frame_beyond_limit") if len(self._buffer) > FRAME_BYTES_MAX else None
        if isinstance(end, Garbage):
            return end
        if end < 0 or len(self._buffer) < end + 2:
            return None
        if end > FRAME_BYTES_MAX + LENGTH_DIGITS:
            return Garbage("frame_beyond_limit")
        block, check = self._buffer[1 : end + 1], self._buffer[end + 1]
        self._buffer = self._buffer[end + 2 :]
        if lrc(block) != check or block[-1] != ETX:
            return BadFrame("wrong_check_byte")
        return decode_body(block[LENGTH_DIGITS if self._length else 0 : -1])

    def _end_by_length(self) -> int | Garbage:
        """Where ETX must be by the length that the frame tells, or -1 while that is not there."""
        digits = self._buffer[1 : 1 + LENGTH_DIGITS]
        if not all(0x30 <= digit <= 0x39 for digit in digits):
            return Garbage("no_length")
        if len(digits) < LENGTH_DIGITS:
            return -1
        return LENGTH_DIGITS + int(digits) if int(digits) else Garbage("no_length")


class HttpReader:
    """Finds the frame in the reply to a GET. What else the reply holds is skipped."""

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._frames = FrameReader()
        self._skipped = 0
        self._done = False

    @property
    def pending(self) -> int:
        """Bytes that wait for more."""
        return len(self._head or b"") + self._frames.pending

    def feed(self, data: bytes) -> list[LinkEvent]:
        """The frame once it is complete, or `Garbage` when the reply is none of a terminal."""
        if self._done:
            return []
        if self._head is not None:
            self._head += data
            # Some terminals answer with the bare frame.
            if self._head[:1] != bytes((STX,)):
                head, ends, data = self._head.partition(b"\r\n\r\n")
                if not ends:
                    return self._judge_head(head)
                if not _HTTP_OK.match(head):
                    return self._end(Garbage("http_refused" if head.startswith(b"HTTP/1.") else "not_poslink"))
            else:
                data = self._head
            self._head = None
        return self._take_body(data)

    def _judge_head(self, head: bytes) -> list[LinkEvent]:
        if not head.startswith(b"HTTP/1."[: len(head)]):
            return self._end(Garbage("not_poslink"))
        return self._end(Garbage("http_refused")) if len(head) > HTTP_HEAD_BYTES_MAX else []

    def _take_body(self, data: bytes) -> list[LinkEvent]:
        if not self._frames.pending:
            start = data.find(STX)
            self._skipped += len(data) if start < 0 else start
            if self._skipped > HTTP_HEAD_BYTES_MAX:
                return self._end(Garbage("not_poslink"))
            data = b"" if start < 0 else data[start:]
        events = [event for event in self._frames.feed(data) if not isinstance(event, Control)]
        return self._end(events[0]) if events else []

    def _end(self, event: LinkEvent) -> list[LinkEvent]:
        self._done, self._head = True, None
        self._frames = FrameReader()
        return [event]


def encode_get(frame: bytes, host: str) -> bytes:
    """An HTTP request whose query is the frame in base64."""
    query = base64.b64encode(frame).decode("ascii")
    return f"GET /?{query} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii")


def decode_get(head: bytes) -> bytes | None:
    """The frame in an HTTP request, or None when it holds none."""
    found = _HTTP_QUERY.match(head)
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error:
        return None


# --- traces -----------------------------------------------------------------------------------------------------------

_CONTROL_NAMES = {EOT: "EOT", ENQ: "ENQ", ACK: "ACK", NAK: "NAK"}
_GROUPS_SHOWN = 4
"""Command, version, status or transaction type, code or amounts. Accounts come behind them."""


def describe_event(event: LinkEvent) -> str:
    """What a trace may tell of what was read: the first groups, field by field, and how long the others are."""
    match event:
        case Control(code):
            return _CONTROL_NAMES[code]
        case BadFrame(reason) | Garbage(reason):
            return f"unreadable: {reason}"
        case Frame(groups):
            shown = ["|".join(map(plain, group)) for group in groups[:_GROUPS_SHOWN]]
            rest = "".join(text for group in groups[_GROUPS_SHOWN:] for text in group)
            return " ".join([*shown, f"({size(rest)} hidden)"] if rest else shown)


class GetReader:
    """Finds the frames that the hub asks with over HTTP."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[LinkEvent]:
        """The frame of each whole request."""
        events: list[LinkEvent] = []
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            frame = decode_get(head + b"\r\n\r\n")
            events += FrameReader().feed(frame) if frame else [Garbage("no_get")]
        return events


def readers(dialect: Dialect) -> tuple[FrameReader | GetReader, FrameReader | HttpReader]:
    """Readers of what the hub says and of what the terminal says, for a trace."""
    if dialect is Dialect.HTTP:
        return GetReader(), HttpReader()
    return FrameReader(dialect), FrameReader(dialect)
