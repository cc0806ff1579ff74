"""The cloud's signed word that one line of a hub took the place of another (docs/adr/0013).

A word is proof by itself: whoever hands it on, only the signature and what it names count.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

WORD_DOMAIN = b"hubd.replaced.v1\0"
LINE_BYTES = 16
_TAIL = struct.Struct(">16s16s16sQQq")


class Word(msgspec.Struct, frozen=True):
    """Line `line` of the hub, as far as it was written beyond `upto_seq`, no longer sells; line `successor` does.

    Binary fields in hexadecimal, as in the entry, in the route and in the store.
    """

    hub: str
    line: str
    successor: str
    upto_seq: int
    """The last entry of `line` that is also in the successor's chain; before the line's first if there is none."""
    epoch: int
    """The successor's, from this word on; of two words the one with the higher epoch counts."""
    time_us: int
    key_id: str
    public_key: str
    root_signature: str
    """The root's word for the key: a hub that was off while keys changed can check it with what it pinned."""
    signature: str


class InChain(msgspec.Struct, frozen=True):
    """One line of a hub's own chain."""

    line: bytes
    last_seq: int


def word_bytes(tenant: str, word: Word) -> bytes:
    """What the signature covers. Raises ValueError for fields that are not what they should be."""
    raw = tenant.encode("utf-8")
    ids = tuple(bytes.fromhex(text) for text in (word.hub, word.line, word.successor))
    if any(len(one) != LINE_BYTES for one in ids) or len(raw) > 255:
        raise ValueError("a word names hub and lines by 16 bytes each")
    try:
        tail = _TAIL.pack(*ids, word.upto_seq, word.epoch, word.time_us)
    except struct.error as exc:
        raise ValueError("a number of a word is out of its range") from exc
    return WORD_DOMAIN + bytes((len(raw),)) + raw + tail


def stops(word: Word, chain: Sequence[InChain]) -> bool | None:
    """What a word means for the hub with this chain (oldest line first): it stops, it sells, or others are meant.

    It stops if its present line is the replaced one, or if it wrote in that line what the successor does not have:
    a line that it opened since does not change which of the two hubs it is.
    """
    line, successor = bytes.fromhex(word.line), bytes.fromhex(word.successor)
    for place, one in enumerate(chain):
        if one.line == line and (place == len(chain) - 1 or one.last_seq > word.upto_seq):
            return True
    return False if any(one.line == successor for one in chain) else None
