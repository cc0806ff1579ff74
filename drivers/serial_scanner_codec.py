"""What serial scanners send, cut into readings. Pure; time is told by calling `quiet`.

A scanner sends a code in one go, so a burst of bytes with quiet around it is looked at as a whole. How its codes end is
its habit, learned from what it sends: an end proves that a code is whole; that it sends none at all is believed when it
did so twice, or when a person said so. A burst against the habit is dropped, and the next one like it believed. After a
burst whose end did not come, the next one is dropped too, for it may be the rest of it; so is what comes before a line
that was just opened has been quiet once.
"""

from __future__ import annotations

import re
from enum import StrEnum

from drivers.scan_text import Refused, judge, raw_holds_a_card, split_identifier
from hubd.ports import Scan

QUIET_S = 0.05
"""A burst has ended when nothing came for this long after its last byte."""
UNFINISHED_S = 0.3
"""So long the rest of a burst is waited for that does not end as it should; then it is dropped."""
BURST_BYTES_MAX = 8 * 1024
LINES_MAX = 8
"""Codes in one burst: what the scanner had read while the hub was held up."""

_ENDS = re.compile(rb"\r\n|\r|\n")


class Ending(StrEnum):
    """How a scanner ends its codes."""

    CR = "cr"
    LF = "lf"
    CRLF = "crlf"
    QUIET = "quiet"
    """Not at all: the line is quiet."""


_ENDINGS = {b"\r": Ending.CR, b"\n": Ending.LF, b"\r\n": Ending.CRLF}


class SerialScans:
    """The readings of one scanner on one line."""

    def __init__(self, ending: Ending | None = None) -> None:
        self._fixed = ending
        self._ending = ending
        self._prefixed: bool | None = None
        self._burst = bytearray()
        self._overflow = False
        self._rest_may_come = True
        self._opened = True

    @property
    def wait_s(self) -> float | None:
        """Call `quiet` when nothing came for this long; None: not at all."""
        if not self._burst:
            return UNFINISHED_S if self._opened else None
        if self._ending is Ending.QUIET:
            return QUIET_S
        finished = self._ending is not None and self._end_of(bytes(self._burst)) is self._ending
        return QUIET_S if finished else UNFINISHED_S

    @staticmethod
    def _end_of(burst: bytes) -> Ending | None:
        for mark in (b"\r\n", b"\r", b"\n"):
            if burst.endswith(mark):
                return _ENDINGS[mark]
        return None

    def feed(self, data: bytes) -> list[Scan | Refused]:
        """More bytes of the burst; what is said of one that has no end."""
        self._opened = False
        self._burst += data
        if len(self._burst) <= BURST_BYTES_MAX:
            return []
        refused = self._refused_whole(Refused.TOO_LONG)
        self._overflow = True
        self._burst[:] = b"\0"
        return refused

    def quiet(self) -> list[Scan | Refused]:
        """The burst has ended: what it was."""
        if self._opened:
            self._opened = self._rest_may_come = False
        burst, overflow = bytes(self._burst), self._overflow
        if not burst:
            return []
        refused = self._refused_whole(None)
        self._burst.clear()
        self._overflow = False
        unfinished = self._ending not in (None, Ending.QUIET) and self._end_of(burst) is None
        is_rest, self._rest_may_come = self._rest_may_come, unfinished
        if refused or overflow:
            return refused
        return [Refused.UNFINISHED] if is_rest else self._cut(burst)

    def _refused_whole(self, otherwise: Refused | None) -> list[Scan | Refused]:
        if raw_holds_a_card(bytes(self._burst)):
            return [Refused.CARD_DATA]
        return [otherwise] if otherwise else []

    def _cut(self, burst: bytes) -> list[Scan | Refused]:
        *ended, rest = _ENDS.split(burst)
        endings = {_ENDINGS[found] for found in _ENDS.findall(burst)}
        if self._ending is Ending.QUIET and self._fixed is Ending.QUIET:
            # A person said that a code is what comes in one go; a line end at its end may be there all the same.
            return [self._read(burst.rstrip(b"\r\n"))]
        if len(endings) > 1 or (rest and endings):
            return [Refused.UNFINISHED if rest else Refused.DAMAGED]
        if not self._is_habit(endings.pop() if endings else Ending.QUIET):
            return [Refused.UNFINISHED]
        texts = [text for text in [*ended, rest] if text]
        if len(texts) > LINES_MAX:
            return [Refused.TOO_LONG]
        readings = [self._read(text) for text in texts]
        # One that is damaged damages all: they came in one go, and where one code begins is no longer certain.
        damaged = next((reading for reading in readings if isinstance(reading, Refused)), None)
        return [damaged] if damaged else readings

    def _is_habit(self, ending: Ending) -> bool:
        before = self._ending
        if ending is Ending.QUIET and before not in (None, Ending.QUIET):
            return False  # an end is not unlearned: what lacks it lacks perhaps more
        self._ending = self._fixed or ending
        return before is ending or (before is None and ending is not Ending.QUIET)

    def _read(self, raw: bytes) -> Scan | Refused:
        try:
            symbology, text = split_identifier(raw.decode("utf-8"))
        except UnicodeDecodeError:
            return Refused.UNREADABLE
        reading = judge(text, symbology)
        before, prefixed = self._prefixed, bool(symbology)
        if isinstance(reading, Scan):
            self._prefixed = prefixed
            if before is not None and before is not prefixed:
                return Refused.DAMAGED
        return reading

    @property
    def pending(self) -> int:
        """Bytes of a burst that has not ended."""
        return len(self._burst)


_FORM_MAX = 64
_DIGITS, _LETTERS = re.compile("[0-9]"), re.compile("[A-Za-z]")


def form_of(data: bytes) -> str:
    """The form of a code: each digit as 9, each letter as a, control bytes by their number, marks as they are."""
    text = _LETTERS.sub("a", _DIGITS.sub("9", data[:_FORM_MAX].decode("latin-1")))
    shown = "".join(one if 0x20 < ord(one) < 0x7F else f"<{ord(one):02X}>" for one in text)
    return shown if len(data) <= _FORM_MAX else f"{shown}… {len(data)} bytes"
