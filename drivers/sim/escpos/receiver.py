"""How a printer reads its line: bytes into whole commands, and status requests picked out of them at once."""

from __future__ import annotations

_DLE, _EOT, _ESC, _FS, _GS = 0x10, 0x04, 0x1B, 0x1C, 0x1D
_NUL_ENDED_MAX = 260
"""Bytes of a bar code of function A; more are given up."""
_ESC_LENGTHS = dict.fromkeys(map(ord, "@2im<"), 2) | {ord("p"): 5, ord("\\"): 4, ord("$"): 4, ord("c"): 4, ord("B"): 4}
_GS_LENGTHS = {ord("L"): 4, ord("W"): 4, ord("P"): 4}
_ORDINARY = 3
"""Most commands have one parameter."""


def length_of(begun: bytes | bytearray) -> int | None:
    """How long the command that begins so is; None while that cannot be told."""
    first = begun[0]
    if first not in (_DLE, _ESC, _FS, _GS):
        return 1
    if len(begun) < 2:
        return None
    second = begun[1]
    if first == _ESC:
        return _ESC_LENGTHS.get(second, _ORDINARY)
    if first == _DLE:
        return {0x14: 5, 0x05: 3}.get(second, 2)
    if first == _FS:
        return _ORDINARY
    return _length_of_gs(second, begun)


def _length_of_gs(second: int, begun: bytes | bytearray) -> int | None:
    match chr(second):
        case "k":
            return _length_of_barcode(begun)
        case "(":
            return 5 + begun[3] + 256 * begun[4] if len(begun) >= 5 else None
        case "v":
            if len(begun) < 8:
                return None
            return 8 + (begun[4] + 256 * begun[5]) * (begun[6] + 256 * begun[7])
        case "V":
            return None if len(begun) < 3 else 4 if begun[2] in (65, 66) else 3
    return _GS_LENGTHS.get(second, _ORDINARY)


def _length_of_barcode(begun: bytes | bytearray) -> int | None:
    if len(begun) < 4:
        return None
    if begun[2] >= 65:
        return 4 + begun[3]
    return len(begun) if begun[-1] == 0 or len(begun) >= _NUL_ENDED_MAX else None


class Receiver:
    """Takes the bytes of all lines that the printer ever had: a command that one has begun, the next one ends."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._length: int | None = None
        self._held = bytearray()
        """What may become a status request."""

    @property
    def in_picture(self) -> bool:
        """Whether the next byte is a dot pattern, whatever it looks like."""
        return self._length is not None and self._begun[:2] == b"\x1dv" and len(self._begun) >= 8

    @property
    def begun_bytes(self) -> int:
        """How much of a command waits for the rest of it."""
        return len(self._begun)

    def take(self, byte: int, *, full: bool = False) -> tuple[list[int], list[bytes]]:
        """Status requests and whole commands that this byte completes. A `full` printer drops all but the former."""
        asked: list[int] = []
        commands: list[bytes] = []
        if not self._held and not full and (byte != _DLE or self.in_picture):
            self._add(byte, commands)
            return asked, commands
        self._held.append(byte)
        while self._held:
            kept = not self.in_picture and self._may_be_request()
            if kept and len(self._held) == 3:
                asked.append(self._held[2])
                self._held.clear()
            elif kept:
                break
            else:
                dropped = self._held.pop(0)
                if not full:
                    self._add(dropped, commands)
        return asked, commands

    def _may_be_request(self) -> bool:
        held = self._held
        shape = (held[0] == _DLE, len(held) < 2 or held[1] == _EOT, len(held) < 3 or 1 <= held[2] <= 4)
        return all(shape)

    def _add(self, byte: int, commands: list[bytes]) -> None:
        if byte == 0 and not self._begun:
            return  # outside of a command it means nothing
        self._begun.append(byte)
        if self._length is None:
            self._length = length_of(self._begun)
        if self._length is not None and len(self._begun) >= self._length:
            commands.append(bytes(self._begun))
            self._begun.clear()
            self._length = None

    def forget(self) -> None:
        """The power was cut."""
        self._begun.clear()
        self._held.clear()
        self._length = None
