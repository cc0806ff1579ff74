"""Entries carried by hand: what a hub has not sent yet, as a file of the signed messages that the line would carry.

A replaced hub without the Internet is read out this way (docs/adr/0013). The file is `MAGIC`, one line of JSON
(`Header`), then frames, each behind its length in four bytes. Whoever carries it can change nothing: every frame is
signed by the hub, and the header names the hash of the last entry. The cloud knows entries by their hash, so the same
file again, or the hub's own sending later, doubles nothing.
"""

from __future__ import annotations

import struct

import msgspec

from hubd.errors import SyncError
from sync.codec import MESSAGE_BYTES_MAX

MAGIC = b"hubd.carried.v1\n"
HEADER_BYTES_MAX = 1024
FRAME_BYTES_MAX = MESSAGE_BYTES_MAX + 1024
_LENGTH = struct.Struct(">I")


class Header(msgspec.Struct, frozen=True):
    """What the file holds. Nothing in it is signed; the frames are, and they must lead to `upto_hash`."""

    hub: str
    tenant: str
    from_seq: int
    upto_seq: int
    upto_hash: str
    made_at_us: int

    @property
    def count(self) -> int:
        """How many entries the file holds."""
        return self.upto_seq - self.from_seq + 1


def damaged(why: str) -> SyncError:
    """A file that is not what an export wrote."""
    return SyncError("carried.damaged", f"The file cannot be used: {why}.", remedy="Export it anew on the old hub.")


def piece(frame: bytes) -> bytes:
    """A frame as it stands in the file."""
    return _LENGTH.pack(len(frame)) + frame


class Unpacker:
    """Takes a file apart as it arrives. Raises `carried.damaged`."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self._rest = b""

    @property
    def complete(self) -> bool:
        """Whether nothing is left that ends in its middle."""
        return self.header is not None and not self._rest

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that are whole now."""
        self._rest += chunk
        if self.header is None and not self._read_header():
            return []
        frames: list[bytes] = []
        while len(self._rest) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._rest)
            if size > FRAME_BYTES_MAX:
                raise damaged("a message is larger than any can be")
            if len(self._rest) < _LENGTH.size + size:
                break
            frames.append(self._rest[_LENGTH.size : _LENGTH.size + size])
            self._rest = self._rest[_LENGTH.size + size :]
        return frames

    def _read_header(self) -> bool:
        if not self._rest.startswith(MAGIC[: len(self._rest)]):
            raise damaged("it is not an export of a hub")
        end = self._rest.find(b"\n", len(MAGIC))
        if end < 0:
            if len(self._rest) > len(MAGIC) + HEADER_BYTES_MAX:
                raise damaged("its first line has no end")
            return False
        try:
            self.header = msgspec.json.decode(self._rest[len(MAGIC) : end], type=Header)
        except msgspec.DecodeError as exc:
            raise damaged("its first line cannot be read") from exc
        self._rest = self._rest[end + 1 :]
        return True
