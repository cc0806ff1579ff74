"""Codes that follow the clock (RFC 6238, over RFC 4226): HMAC-SHA-1, six digits, a new one every thirty seconds."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote

STEP_S = 30
DIGITS = 6
WINDOW = 1
"""Steps to either side that count too: a phone's clock is never quite the hub's."""
SECRET_BYTES = 20


def totp(secret: bytes, step: int, digits: int = DIGITS) -> str:
    """The code of one step of time."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), hashlib.sha1)
    at = digest[-1] & 15
    return str((int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF) % 10**digits).zfill(digits)


def find_step(secret: bytes, code: str, now_s: int, after_step: int) -> int | None:
    """The step that a code belongs to, within the window and later than the last one taken; None for a wrong code."""
    now = now_s // STEP_S
    found = None
    for step in range(now - WINDOW, now + WINDOW + 1):
        if hmac.compare_digest(totp(secret, step), code) and step > after_step:
            found = step
    return found


def secret_text(secret: bytes) -> str:
    """A secret as people type it into their phone."""
    return base64.b32encode(secret).decode("ascii").rstrip("=")


def otpauth(secret: bytes, issuer: str, name: str) -> str:
    """What the QR code says to an authenticator."""
    label = f"{quote(issuer, safe='')}:{quote(name, safe='')}"
    shape = f"algorithm=SHA1&digits={DIGITS}&period={STEP_S}"
    return f"otpauth://totp/{label}?secret={secret_text(secret)}&issuer={quote(issuer, safe='')}&{shape}"
