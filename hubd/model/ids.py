"""Ids: UUIDv7 made by the originator before its first attempt, kept for ever. Their time bits mean nothing."""

from __future__ import annotations

import hashlib
import re

from hubd.errors import InvalidValueError

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def uuid7(unix_ms: int, random_bytes: bytes) -> str:
    """Build a UUIDv7 (RFC 9562) from a 48-bit time and 10 random bytes."""
    raw = bytearray((unix_ms & (2**48 - 1)).to_bytes(6, "big") + random_bytes[:10])
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def derived_id(origin: str, what: str) -> str:
    """The one id of `what` that follows from another id: whoever makes it again, after whatever crash, makes the same.

    A UUIDv7 with the time of its origin and a digest in the place of chance.
    """
    digest = hashlib.sha256(b"hubd.derived.v1\0" + id_bytes(origin) + what.encode("utf-8")).digest()
    return uuid7(int.from_bytes(id_bytes(origin)[:6], "big"), digest[:10])


def parse_id(text: str, what: str = "id") -> str:
    """Return `text` if it is a UUIDv7 in canonical lower-case form; raise `invalid_id` otherwise."""
    if not UUID7.fullmatch(text):
        raise InvalidValueError(
            "invalid_id",
            f"The {what} is not a UUIDv7 in lower case.",
            remedy="Make the id once, before the first attempt, as a UUID version 7, and keep it for every repeat.",
        )
    return text


def id_bytes(text: str) -> bytes:
    """The 16 bytes of a canonical id."""
    return bytes.fromhex(text.replace("-", ""))


def id_text(raw: bytes) -> str:
    """The canonical text of 16 bytes."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
