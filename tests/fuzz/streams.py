"""What is promised of every reader of a stream: the same whole and byte by byte, and never more held than its limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

CHUNK = 7
BABBLES = 1
"""A first byte that says: what follows does not end. It takes long, so not each input does."""
BABBLE_CHUNK_BYTES = 4096


class Reader(Protocol):
    def feed(self, data: bytes, /) -> Iterable[object]: ...


class BrokenPromiseError(AssertionError):
    """A codec did what it must not do."""


def held(thing: object, seen: set[int] | None = None) -> int:
    """Bytes and characters that an object keeps, with all that hangs on it; each element of a list counts as one."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, (type, int)) or (callable(thing) and not hasattr(thing, "feed")):
        return 0
    seen.add(id(thing))
    match thing:
        case bytes() | bytearray() | str():
            return len(thing)
        case Mapping():
            return sum(1 + held(key, seen) + held(value, seen) for key, value in thing.items())
        case list() | tuple() | set() | frozenset():
            return sum(1 + held(one, seen) for one in thing)
    slots = (name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()))
    named = [*getattr(thing, "__dict__", {}).values(), *(getattr(thing, name, None) for name in slots)]
    return sum(held(value, seen) for value in named)


def _read(reader: Reader, pieces: Iterable[bytes], declared: tuple[type[Exception], ...]) -> object:
    """Events in order, or the error's kind; after garbage, which ends the line, nothing counts."""
    events: list[object] = []
    try:
        for piece in pieces:
            for event in reader.feed(piece):
                events.append(event)
                if type(event).__name__ == "Garbage":
                    return events
    except declared as error:
        return type(error)
    return events


def _stream(
    data: bytes,
    *,
    make: Callable[[], Reader],
    held_max: int,
    declared: tuple[type[Exception], ...],
    joined: Callable[[object], object],
) -> None:
    head, body = data[:1] or b"\0", data[1:]
    whole = joined(_read(make(), [body], declared))
    for step in (1, CHUNK):
        reader = make()
        cut = joined(_read(reader, (body[at : at + step] for at in range(0, len(body), step)), declared))
        if cut != whole:
            raise BrokenPromiseError(f"in pieces of {step} it reads {cut!r}, whole {whole!r}")
        if (keeps := held(reader)) > held_max:
            raise BrokenPromiseError(f"it holds {keeps}, at most {held_max}")
    if head[0] == BABBLES:
        _babble(make(), body, held_max, declared)


def _babble(reader: Reader, body: bytes, held_max: int, declared: tuple[type[Exception], ...]) -> None:
    """After what was said, its end without an end: what a device does that has gone mad."""
    again = (body[-8:] or b"\0") * (max(8, min(BABBLE_CHUNK_BYTES, held_max)) // 8)
    for piece in [body, *[again] * (2 + 2 * held_max // len(again))]:
        _read(reader, [piece], declared)
        if (keeps := held(reader)) > held_max + len(piece):
            raise BrokenPromiseError(f"it holds {keeps} of endless noise, at most {held_max}")


def stream(
    make: Callable[[], Reader],
    held_max: int,
    *,
    declared: tuple[type[Exception], ...] = (),
    joined: Callable[[object], object] = lambda events: events,
) -> Callable[[bytes], None]:
    """A target of one reader. `joined` makes equal what may be cut differently, such as text."""
    return partial(_stream, make=make, held_max=held_max, declared=declared, joined=joined)
