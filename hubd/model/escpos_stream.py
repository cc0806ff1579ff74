"""Bytes that a program has made for a receipt printer, taken apart into whole commands. Pure; knows no device.

Lengths are those of Epson's public ESC/POS command reference; a command that it does not name is taken for one with
one parameter, as most have. What asks the printer for an answer, or changes how it is set up, is told apart: the hub
alone talks with the printer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum

from msgspec import Struct

DLE, ESC, FS, GS = 0x10, 0x1B, 0x1C, 0x1D
_STARTS = frozenset({DLE, ESC, FS, GS})
_PLAIN = re.compile(rb"[^\x10\x1b\x1c\x1d]+")
_NUL_ENDED_MAX = 260
"""Bytes of a list that ends with a zero: bar codes of function A, tab stops; more are given up."""
REAL_TIME = re.compile(rb"\x10[\x04\x05\x14]")
"""What a printer would obey even in the middle of a picture."""
BAND_BYTES_MAX, BAND_ROWS_MAX = 1024, 255
"""Of one picture command as it is handed on."""
TEXT_BYTES_MAX = 512
"""Of one piece of text as it is handed on."""
_HEADS = {b"\x1b*": 5, b"\x1dQ": 8, b"\x1d*": 4, b"\x1d8": 17, b"\x1d(": 15, b"\x1c2": 4}
"""Bytes before the dots of a picture that is handed on whole."""

_ORDINARY = 3
_ESC_LENGTHS = {ord(one): 2 for one in "@2<LSimv\x0c"} | {ord("$"): 4, ord("\\"): 4, ord("c"): 4, ord("f"): 4}
_ESC_LENGTHS |= {ord("B"): 4, ord("p"): 5, ord("W"): 10}
_GS_LENGTHS = {ord(":"): 2, ord("c"): 2} | {ord(one): 4 for one in "LWP$\\"} | {ord("^"): 5, ord("z"): 5, ord("g"): 6}
_FS_LENGTHS = {ord("&"): 2, ord("."): 2, ord("?"): 4, ord("S"): 4, ord("p"): 4, ord("2"): 76}
_DC4_LENGTHS = {1: 5, 2: 5, 3: 8, 7: 4, 8: 10}
_GS_C_LENGTHS = {0: 5, 1: 9, 2: 5}
_CUT_AND_FEED = frozenset({65, 66, 97, 98, 103, 104})
_WITH_PARAMETER = frozenset({7, 8, 18})
"""Numbers of DLE EOT that have one more byte."""


class Kind(IntEnum):
    """What a piece is."""

    TEXT = 0
    """Characters, line feeds, tabs."""
    COMMAND = 1
    CODE = 2
    """A bar code or a part of a two-dimensional one: it holds text."""
    PICTURE = 3
    """Dots, whatever they look like."""
    REQUEST = 4
    """Asks for an answer."""
    SETUP = 5
    """Changes the printer itself, or throws away what it holds."""


class Piece(Struct, frozen=True):
    """Text, or one whole command."""

    kind: Kind
    data: bytes


class StreamReader:
    """Takes bytes as they come, and gives whole pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def begun(self) -> int:
        """How many bytes there are of a command that waits for the rest of it."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Piece]:
        """Take bytes, whole or in part."""
        self._rest += data
        rest, pieces, at = bytes(self._rest), list[Piece](), 0
        while at < len(rest):
            plain = _PLAIN.match(rest, at)
            if plain:
                pieces.append(Piece(Kind.TEXT, plain[0]))
                at = plain.end()
                continue
            length = length_of(rest, at)
            if length is None or at + length > len(rest):
                break
            command = rest[at : at + length]
            pieces.append(Piece(kind_of(command), command))
            at += length
        del self._rest[:at]
        return pieces


def pieces_of(data: bytes) -> Iterator[Piece]:
    """All pieces of what is whole already; what is cut short at its end is left out."""
    yield from StreamReader().feed(data)


def kind_of(command: bytes) -> Kind:
    """What a whole command is."""
    match command[:2]:
        case b"\x10\x04" | b"\x10\x05" | b"\x1dr" | b"\x1dI" | b"\x1da" | b"\x1dg":
            return Kind.REQUEST
        case b"\x10\x14":
            return Kind.COMMAND if command[2:3] in (b"\x01", b"\x03") else Kind.SETUP
        case b"\x1dk":
            return Kind.CODE
        case b"\x1b*" | b"\x1b&" | b"\x1dv" | b"\x1dQ" | b"\x1d*" | b"\x1d8" | b"\x1c2":
            return Kind.PICTURE
        case b"\x1cg" | b"\x1cq":
            return Kind.SETUP
        case b"\x1d(":
            by_name = {b"k": Kind.CODE, b"L": Kind.PICTURE, b"H": Kind.REQUEST, b"E": Kind.SETUP, b"M": Kind.SETUP}
            return by_name.get(command[2:3], Kind.COMMAND)
    return Kind.COMMAND if command[0] in _STARTS else Kind.TEXT


def length_of(data: bytes, at: int) -> int | None:
    """How long the command at this place is; None while that cannot be told."""
    have = len(data) - at
    if have < 2:
        return None
    first, second = data[at], data[at + 1]
    if first == DLE:
        return _length_of_dle(data, at, second)
    if second == ord("("):
        return 5 + _two(data, at + 3) if have >= 5 else None
    if first == ESC:
        return _length_of_esc(data, at, second)
    if first == FS:
        return _length_of_fs(data, at, second)
    return _length_of_gs(data, at, second)


def _two(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _length_of_dle(data: bytes, at: int, second: int) -> int | None:
    if second not in (0x04, 0x05, 0x14):
        return 1  # no command: a character that shows nothing
    if len(data) - at < 3:
        return None
    third = data[at + 2]
    if second == 0x14:
        return _DC4_LENGTHS.get(third, _ORDINARY)
    return 4 if second == 0x04 and third in _WITH_PARAMETER else 3


def _length_of_esc(data: bytes, at: int, second: int) -> int | None:
    have = len(data) - at
    if second == ord("*"):
        if have < 5:
            return None
        return 5 + _two(data, at + 3) * (3 if data[at + 2] in (32, 33) else 1)
    if second == ord("&"):
        return _length_of_characters(data, at)
    if second == ord("D"):
        return _until_zero(data, at, 2)
    return _ESC_LENGTHS.get(second, _ORDINARY)


def _length_of_characters(data: bytes, at: int) -> int | None:
    """ESC &: so many characters of a font, each with its own width."""
    if len(data) - at < 5:
        return None
    high, first, last = data[at + 2 : at + 5]
    end = at + 5
    for _ in range(first, last + 1):
        if end >= len(data):
            return None
        end += 1 + high * data[end]
    return end - at


def _length_of_fs(data: bytes, at: int, second: int) -> int | None:
    have = len(data) - at
    if second == ord("q"):
        if have < 3:
            return None
        end = at + 3
        for _ in range(data[at + 2]):
            if end + 4 > len(data):
                return None
            end += 4 + 8 * _two(data, end) * _two(data, end + 2)
        return end - at
    if second == ord("g"):
        if have < 10:
            return None
        return 10 + (_two(data, at + 8) if data[at + 2] in (1, ord("1")) else 0)
    return _FS_LENGTHS.get(second, _ORDINARY)


def _length_of_gs(data: bytes, at: int, second: int) -> int | None:
    have = len(data) - at
    match chr(second):
        case "k":
            if have < 4:
                return None
            return 4 + data[at + 3] if data[at + 2] >= 65 else _until_zero(data, at, 3)
        case "v" | "Q":
            return 8 + _two(data, at + 4) * _two(data, at + 6) if have >= 8 else None
        case "*":
            return 4 + 8 * data[at + 2] * data[at + 3] if have >= 4 else None
        case "8":
            return 7 + int.from_bytes(data[at + 3 : at + 7], "little") if have >= 7 else None
        case "V":
            return None if have < 3 else 4 if data[at + 2] in _CUT_AND_FEED else 3
        case "C":
            return None if have < 3 else _GS_C_LENGTHS.get(data[at + 2] % 48, _ORDINARY)
        case "g":
            return None if have < 3 else 6 if data[at + 2] in (0x30, 0x32) else _ORDINARY
    return _GS_LENGTHS.get(second, _ORDINARY)


def _until_zero(data: bytes, at: int, after: int) -> int | None:
    end = data.find(b"\0", at + after, at + _NUL_ENDED_MAX)
    if end >= 0:
        return end + 1 - at
    return _NUL_ENDED_MAX if len(data) - at >= _NUL_ENDED_MAX else None


# -- what is handed on to the printer ----------------------------------------------------------------------------------


def for_printer(data: bytes) -> Iterator[bytes]:
    """The job as whole commands, without what asks for an answer and what changes the printer.

    A picture of many rows becomes bands of the same dots. A place in a picture that looks like a real-time command,
    which a printer would obey there, loses a dot or two. A last line without its end gets one, or it would be lost.
    """
    selected, line_ended = False, True
    for piece in pieces_of(data):
        line_ended = piece.kind is not Kind.TEXT or piece.data.endswith((b"\n", b"\r"))
        if piece.kind in (Kind.REQUEST, Kind.SETUP):
            continue
        if piece.kind is Kind.PICTURE:
            yield from _bands(piece.data)
        elif piece.kind is Kind.TEXT:
            for line in piece.data.splitlines(keepends=True):
                yield from (line[at : at + TEXT_BYTES_MAX] for at in range(0, len(line), TEXT_BYTES_MAX))
        else:
            selected = selected or piece.data[:2] == b"\x1b="
            yield piece.data
    if not line_ended:
        yield b"\n"
    if selected:
        yield b"\x1b=\x01"  # back from the customer's display to the printer


def _bands(command: bytes) -> Iterator[bytes]:
    if command[:2] != b"\x1dv":
        head = _HEADS.get(command[:2], len(command))
        yield command[:head] + REAL_TIME.sub(b"\x10\x00", command[head:])
        return
    width, rows = _two(command, 4), _two(command, 6)
    band = max(1, min(BAND_ROWS_MAX, BAND_BYTES_MAX // max(1, width)))
    for start in range(0, rows, band):
        count = min(band, rows - start)
        dots = command[8 + start * width : 8 + (start + count) * width]
        yield command[:6] + count.to_bytes(2, "little") + REAL_TIME.sub(b"\x10\x00", dots)


# -- what people could read on it --------------------------------------------------------------------------------------


def _as_read(code: int) -> str:
    if code in (0x09, 0xA0, 0xFF):
        return " "
    if code in (0x0A, 0x0B, 0x0C, 0x0D):
        return "\n"
    if code < 0x20 or code == 0x7F:
        return ""
    return chr(code) if code < 0x7F else "\ufffd"


_AS_READ = {code: _as_read(code) for code in range(0x100)}
_NEW_LINE = frozenset({b"\x1bd", b"\x1bJ", b"\x1be", b"\x1bK", b"\x1b@", b"\x1dV"})
_MOVES = frozenset({b"\x1b$", b"\x1b\\", b"\x1d$", b"\x1d\\"})


def text_of(data: bytes) -> str:
    """Everything in the job that is or may be read: text without its styles, and what codes hold, each on its line.

    Styles between two digits do not part them on paper, so they do not here. Letters beyond ASCII are not told apart.
    """
    read: list[str] = []
    for piece in pieces_of(data):
        if piece.kind is Kind.TEXT:
            read.append(piece.data.decode("latin-1").translate(_AS_READ))
        elif piece.kind is Kind.CODE:
            read.append(f"\n{_text_of_code(piece.data)}\n")
        elif piece.data[:2] in _NEW_LINE:
            read.append("\n")
        elif piece.data[:2] in _MOVES:
            read.append(" ")
    return "".join(read)


def unread_text_of(data: bytes) -> str:
    """The characters of everything but pictures, commands included, as far as they are any.

    A printer that takes a command for a shorter one than it is here prints the rest of it.
    """
    pieces = (piece.data for piece in pieces_of(data) if piece.kind is not Kind.PICTURE)
    return b"".join(pieces).decode("latin-1").translate(_AS_READ)


def _text_of_code(command: bytes) -> str:
    """What a bar code or a part of a two-dimensional one holds; pairs of digits of Code 128 C are one byte each."""
    two_dimensional, counted = command[:2] == b"\x1d(", command[2] >= 65
    # Of the former after its length, the symbology, the function and its mode.
    held = command[8:] if two_dimensional else command[4:] if counted else command[3:-1]
    head, *pairs = held.split(b"{C")
    digits = ("".join(f"{one:02}" if one < 100 else " " for one in part) for part in pairs)
    return head.decode("latin-1").translate(_AS_READ) + "".join(digits)
