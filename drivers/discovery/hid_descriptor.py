"""What a HID device says that it is: the application collections of its report descriptor. Pure: bytes in, usages out.

Source: "Device Class Definition for HID" 1.11, 6.2.2. Nothing else of the descriptor is read.
"""

from __future__ import annotations

from collections.abc import Iterator

DESCRIPTOR_MAX = 4096
"""Bytes; the kernel of Linux takes no longer one."""
_SIZES = (0, 1, 2, 4)
_LONG = 0xFE
_COLLECTION, _END_COLLECTION, _USAGE_PAGE, _PUSH, _POP, _USAGE = 0xA0, 0xC0, 0x04, 0xA4, 0xB4, 0x08
"""Tag and type of an item, as they stand in its first byte."""
_TYPE, _MAIN = 0x0C, 0x00
_APPLICATION = 1

Usage = tuple[int, int]
"""Usage page and usage."""


def applications(descriptor: bytes) -> tuple[Usage, ...]:
    """The usage of each top-level application collection, in order; () for what is no descriptor."""
    pages, found, depth = [0], list[Usage](), 0
    usage: tuple[int, int] | None = None
    """The first one since the last main item, and of how many bytes it is."""
    for first, value, size in _items(descriptor):
        if first == _USAGE_PAGE:
            pages[-1] = value
        elif first == _PUSH:
            pages.append(pages[-1])
        elif first == _POP and len(pages) > 1:
            pages.pop()
        elif first == _USAGE and usage is None:
            usage = value, size
        elif first & _TYPE == _MAIN:
            if first == _COLLECTION:
                if depth == 0 and value == _APPLICATION and usage is not None:
                    found.append(_whole(*usage, pages[-1]))
                depth += 1
            elif first == _END_COLLECTION:
                depth -= 1
            if depth < 0:
                return ()
            usage = None
    return tuple(found) if depth == 0 else ()


def _whole(value: int, size: int, page: int) -> Usage:
    """A usage of four bytes brings its page with it; any other is of the page that holds at the main item."""
    return (value >> 16, value & 0xFFFF) if size == _SIZES[-1] else (page, value)


def _items(descriptor: bytes) -> Iterator[tuple[int, int, int]]:
    """First byte without its size, value and size of each item; one that is cut short ends the list."""
    at = 0
    while at < len(descriptor):
        first = descriptor[at]
        if first == _LONG:
            at += 3 + (descriptor[at + 1] if at + 1 < len(descriptor) else 0)
            continue
        size = _SIZES[first & 0x03]
        data = descriptor[at + 1 : at + 1 + size]
        if len(data) < size:
            return
        yield first & 0xFC, int.from_bytes(data, "little"), size
        at += 1 + size
