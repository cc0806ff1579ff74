"""Key events of scanners that type like a keyboard: bytes <-> values, and what a line of keys was. Pure.

Source: `struct input_event` of the kernel (two longs of time, type, code, value), read from an evdev file; times are
the kernel's own, so a hub that was held up sees the pace of the keys as it was. A scanner types a code in one go, ended
by Enter or Tab; whoever types slowly is a person, and nothing of that is kept. Every key that goes down must come up:
so a record that was lost, doubled or changed is noticed, and its line dropped.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from drivers.keyboard_layouts import LAYOUTS, Layout, Press
from drivers.scan_text import TEXT_MAX, Refused, holds_a_card, judge, split_identifier
from hubd.model.scanner_test import TEST_CODE
from hubd.ports import Scan

RECORD = struct.Struct("@llHHi")
EV_SYN, EV_KEY, EV_MAX = 0x00, 0x01, 0x1F
SYN_DROPPED = 3
UP, DOWN, REPEAT = 0, 1, 2
ENTER, KEYPAD_ENTER, TAB = 28, 96, 15
LEFT_SHIFT, RIGHT_SHIFT, ALTGR = 42, 54, 100
ENDS = frozenset({ENTER, KEYPAD_ENTER, TAB})
SHIFTS = frozenset({LEFT_SHIFT, RIGHT_SHIFT})
KEY_GAP_S = 0.05
"""Longest time between two keys of a scanner; the fastest typists need half as long again."""
PERSON_REST_S = 0.5
"""After a person's keys a new line begins when none came for this long, with or without Enter."""
MACHINE_KEYS = 3
"""From so many keys in a row at a machine's pace, a line that breaks off was a scanner's."""
QUIET_S = 0.5
"""Keys without an end are forgotten when nothing arrived for this long; a file that was just opened must be quiet for
as long, or it was opened in the middle of a code."""


class NotEvdevError(ValueError):
    """What is read is no stream of input events."""


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """One record. It may be of a card, so `repr` shows neither key nor time."""

    at_us: int
    kind: int
    code: int
    value: int

    def __repr__(self) -> str:
        """Without the key."""
        return "KeyEvent()"


def encode_event(event: KeyEvent) -> bytes:
    """The record as the kernel writes it."""
    seconds, microseconds = divmod(event.at_us, 1_000_000)
    return RECORD.pack(seconds, microseconds, event.kind, event.code, event.value)


def decode_event(raw: bytes) -> KeyEvent:
    """One record. Raises NotEvdevError for what cannot be one."""
    seconds, microseconds, kind, code, value = RECORD.unpack(raw)
    if seconds < 0 or not 0 <= microseconds < 1_000_000 or kind > EV_MAX:
        raise NotEvdevError("not a record of an input device")
    if kind == EV_KEY and value not in (UP, DOWN, REPEAT):
        raise NotEvdevError("a key is up, down or repeated")
    return KeyEvent(seconds * 1_000_000 + microseconds, kind, code, value)


class _Line(StrEnum):
    """Whose keys the line has so far."""

    MACHINE = "machine"
    PERSON = "person"
    BROKEN = "broken"
    """A scanner's, and something of it is missing: nothing counts before the next end."""


class Keys:
    """Cuts key events into lines typed by a machine: the keys of each, with what was held beside them."""

    def __init__(self) -> None:
        self._buffer = b""
        self._down: set[int] = set()
        self._presses: list[Press] = []
        self._line = _Line.PERSON
        self._last_us: int | None = None
        self._opened = True

    @property
    def wait_s(self) -> float | None:
        """Call `quiet` when nothing came for this long; None: not at all."""
        return QUIET_S if self._presses or self._opened else None

    def feed(self, data: bytes) -> list[list[Press] | Refused]:
        """Lines that have ended. Raises NotEvdevError."""
        self._opened = False
        self._buffer += data
        whole = len(self._buffer) // RECORD.size * RECORD.size
        records, self._buffer = self._buffer[:whole], self._buffer[whole:]
        lines: list[list[Press] | Refused] = []
        for at in range(0, whole, RECORD.size):
            ended = self._take(decode_event(records[at : at + RECORD.size]))
            if ended is not None:
                lines.append(ended)
        return lines

    def _take(self, event: KeyEvent) -> list[Press] | Refused | None:
        if event.kind == EV_SYN and event.code == SYN_DROPPED:
            self._down.clear()
            return self._break()
        if event.kind != EV_KEY or event.value == REPEAT:
            return None
        pause_us = 0 if self._last_us is None else event.at_us - self._last_us
        self._last_us = event.at_us
        slow = self._slow(pause_us)
        if event.value == UP:
            return self._up(event.code) or slow
        if event.code in self._down:
            return self._break() or slow
        self._down.add(event.code)
        self._press(event.code)
        return slow

    def _slow(self, pause_us: int) -> Refused | None:
        """A pause inside a line: a person types, or the rest of a scanner's code is late."""
        if self._line is _Line.PERSON and pause_us >= PERSON_REST_S * 1_000_000:
            self._begin()
        if pause_us <= KEY_GAP_S * 1_000_000 or not self._presses:
            return None
        if len(self._presses) >= MACHINE_KEYS:
            return self._break()
        self._presses.clear()
        self._line = _Line.PERSON
        return None

    def _press(self, code: int) -> None:
        if self._line is not _Line.MACHINE or code in SHIFTS or code == ALTGR or code in ENDS:
            return
        if len(self._presses) > TEXT_MAX:
            self._break()
            return
        held = self._down - {code}
        others = {other for other in held if other in _MODIFIERS}
        known = Press(code, shift=bool(held & SHIFTS), altgr=ALTGR in held)
        # With Ctrl, Alt or Meta a key is a command and no character.
        self._presses.append(Press(0) if others else known)

    def _up(self, code: int) -> list[Press] | Refused | None:
        if code not in self._down:
            return self._break()
        self._down.discard(code)
        if code not in ENDS:
            return None
        line, presses, held = self._line, self._presses, bool(self._down)
        self._begin()
        self._down.clear()
        if line is _Line.BROKEN:
            return Refused.UNFINISHED
        if len(presses) < MACHINE_KEYS:
            return None
        return Refused.DAMAGED if held else presses

    def _begin(self) -> None:
        self._presses, self._line = [], _Line.MACHINE

    def _break(self) -> Refused | None:
        """Something is missing, or came twice: the rest of the line is waited for and dropped."""
        before, self._line = self._line, _Line.BROKEN
        self._presses = []
        return Refused.DAMAGED if before is _Line.MACHINE else None

    def quiet(self) -> list[list[Press] | Refused]:
        """Nothing more arrives: keys without an end are forgotten, and what still comes of their line is dropped."""
        if self._opened:
            self._opened, self._line = False, _Line.MACHINE
        if not self._presses:
            return []
        if len(self._presses) >= MACHINE_KEYS:
            self._break()
            return [Refused.UNFINISHED]
        self._presses, self._line = [], _Line.PERSON
        return []

    @property
    def pending(self) -> int:
        """Keys of a line that has not ended, and bytes of a record."""
        return len(self._presses) + len(self._buffer)


_MODIFIERS = frozenset({29, 97, 56, 125, 126})
"""Ctrl, Alt and Meta, left and right; not AltGr."""


def text_of(presses: Sequence[Press], layout: Layout) -> str | None:
    """What the keys type on a layout; None when one of them has no character there."""
    characters = [layout.get(press) for press in presses]
    return None if None in characters else "".join(one for one in characters if one)


def learn(presses: Sequence[Press], *, unknown: bool) -> tuple[str, Layout] | None:
    """The layout on which these keys type `TEST_CODE`: its name, or "learned" for one that only the test code tells.

    The latter only where the layout is `unknown`. None when it is another text, or when no keyboard can type it so.
    """
    for name, layout in LAYOUTS.items():
        if text_of(presses, layout) == TEST_CODE:
            return name, layout
    if not unknown or len(presses) != len(TEST_CODE):
        return None
    learned = dict(zip(presses, TEST_CODE, strict=True))
    one_key_each = len(learned) == len(set(TEST_CODE)) == len(set(learned.values()))
    same_everywhere = all(learned[press] == character for press, character in zip(presses, TEST_CODE, strict=True))
    return ("learned", MappingProxyType(learned)) if one_key_each and same_everywhere else None


def layout_text(layout: Layout) -> str:
    """A layout that only the test code has told, as it is kept: the keys that type `TEST_CODE`, in its order."""
    keys = {character: press for press, character in layout.items()}
    return "".join(
        f"{press.code:02x}{(press.shift and 1) + (press.altgr and 2)}" for press in (keys[one] for one in TEST_CODE)
    )


def layout_of_text(text: str) -> Layout | None:
    """What `layout_text` has written; None for anything else."""
    if re.fullmatch(r"(?:[0-9a-f]{2}[0-3])+", text) is None:
        return None
    keys = [(int(text[at : at + 2], 16), int(text[at + 2])) for at in range(0, len(text), 3)]
    found = learn([Press(code, shift=bool(held & 1), altgr=bool(held & 2)) for code, held in keys], unknown=True)
    return found[1] if found else None


def read_line(presses: Sequence[Press], layout: Layout | None) -> Scan | Refused:
    """What a line of keys was. A card is known on whichever layout its digits were typed."""
    every: Mapping[str, Layout] = {**LAYOUTS, "": layout} if layout is not None else LAYOUTS
    for one in every.values():
        symbology, typed = split_identifier("".join(one.get(press, " ") for press in presses))
        if holds_a_card(typed, symbology):
            return Refused.CARD_DATA
    if layout is None:
        return Refused.NO_LAYOUT
    text = text_of(presses, layout)
    if text is None:
        return Refused.UNREADABLE
    symbology, code = split_identifier(text)
    return judge(code, symbology)
