"""PINs: a slow hash, computed beside the event loop, and a guard against guessing.

The verifier is a text in the PHC string format. It is personal data: a document beside the journal, erasable.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import re
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from hubd.errors import AccessError, InvalidValueError, Retry
from hubd.runtime import Runtime
from hubd.store import meta
from hubd.store.db import Database
from hubd.store.tx import Tx

SCRYPT_LOG_N = 15
SCRYPT_R = 8
SCRYPT_P = 1
SCRYPT_MEMORY_BYTES_MAX = 64 * 1024 * 1024
SALT_BYTES = 16
KEY_BYTES = 32
HASHES_AT_ONCE_MAX = 2
"""Each takes 32 MiB and a tenth of a second of one core; more at once would starve a payment."""
HASHES_WAITING_MAX = 16

PIN_DIGITS_MIN = 4
PIN_DIGITS_MAX = 12
TRIES_BEFORE_LOCK = 5
LOCK_FIRST_S = 60
LOCK_MAX_S = 3600
GUARDED_MAX = 10_000
LOCKS = "pin_locks"
"""Name in the hub's own notes: JSON object staff -> failures, so that a restart forgives nobody."""

_PIN = re.compile(rf"[0-9]{{{PIN_DIGITS_MIN},{PIN_DIGITS_MAX}}}")
_PHC = re.compile(r"\$scrypt\$ln=(\d+),r=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")


def check_pin(pin: str) -> str:
    """Return a PIN fit to be set; raise `weak_pin` for what everybody tries first."""
    digits = [int(char) for char in pin] if _PIN.fullmatch(pin) else []
    steps = {after - before for before, after in itertools.pairwise(digits)}
    if not digits or steps in ({0}, {1}, {-1}):
        raise InvalidValueError(
            "weak_pin",
            "The PIN is too easy to guess or has another form.",
            remedy=f"Choose {PIN_DIGITS_MIN} to {PIN_DIGITS_MAX} digits that are neither equal nor in sequence.",
        )
    return pin


class PinHasher(Protocol):
    """Makes and checks verifiers without blocking the loop."""

    async def make(self, pin: str) -> str:
        """A verifier with a fresh salt."""
        ...

    async def matches(self, pin: str, verifier: str) -> bool:
        """Whether the verifier was made from this PIN; equally slow for every answer."""
        ...


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii").rstrip("=")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def scrypt_verifier(pin: str, salt: bytes) -> str:
    """The verifier of a PIN: `$scrypt$ln=15,r=8,p=1$SALT$KEY`."""
    key = hashlib.scrypt(
        pin.encode(), salt=salt, n=2**SCRYPT_LOG_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=SCRYPT_MEMORY_BYTES_MAX,
        dklen=KEY_BYTES,
    )  # fmt: skip
    return f"$scrypt$ln={SCRYPT_LOG_N},r={SCRYPT_R},p={SCRYPT_P}${_b64(salt)}${_b64(key)}"


def scrypt_matches(pin: str, verifier: str) -> bool:
    """Whether the verifier was made from this PIN; False for a verifier of another form."""
    found = _PHC.fullmatch(verifier)
    if found is None or int(found[1]) > 20:
        return False
    salt, wanted = _unb64(found[4]), _unb64(found[5])
    key = hashlib.scrypt(
        pin.encode(), salt=salt, n=2 ** int(found[1]), r=int(found[2]), p=int(found[3]),
        maxmem=SCRYPT_MEMORY_BYTES_MAX, dklen=len(wanted),
    )  # fmt: skip
    return hmac.compare_digest(key, wanted)


class ThreadedScrypt:
    """scrypt in a worker thread, a few at once, the rest waiting in a bounded line."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._slots = asyncio.Semaphore(HASHES_AT_ONCE_MAX)
        self._waiting = 0

    async def make(self, pin: str) -> str:
        """A verifier with a fresh salt."""
        salt = self._token_bytes(SALT_BYTES)
        async with self._slots:
            return await asyncio.to_thread(scrypt_verifier, pin, salt)

    async def matches(self, pin: str, verifier: str) -> bool:
        """Whether the verifier was made from this PIN. Raises `access.busy` when too many wait."""
        if self._waiting >= HASHES_WAITING_MAX:
            raise AccessError(
                "access.busy",
                "Too many people sign in at this moment.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=2,
                remedy="Wait two seconds and type the PIN again.",
            )
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(scrypt_matches, pin, verifier)
        finally:
            self._waiting -= 1


class _Guarded(Struct):
    failures: int = 0
    locked_until: float = 0.0


def lock_seconds(failures: int) -> int:
    """How long a person's PIN is locked after this many wrong ones: 0 below five, then 60 s, doubling to an hour."""
    if failures < TRIES_BEFORE_LOCK:
        return 0
    return int(min(LOCK_FIRST_S * 2 ** (failures - TRIES_BEFORE_LOCK), LOCK_MAX_S))


class PinGuard:
    """Counts wrong PINs per person and device, and locks; the count survives a restart.

    A stranger on the LAN who tries PINs locks the person out of the page alone, never of the till.
    """

    def __init__(self, db: Database, runtime: Runtime) -> None:
        self._db = db
        self._clock = runtime.clock
        self._guarded: dict[str, _Guarded] = {}

    async def load(self) -> None:
        """Read the counts of before the restart; whoever was locked is locked from now on again."""
        text = await self._db.read("pin_locks", lambda connection: meta.get(connection, LOCKS))
        kept = json.loads(text) if text else {}
        now = self._clock.monotonic()
        for staff, failures in kept.items():
            self._guarded[staff] = _Guarded(failures, now + lock_seconds(failures))

    def reserve(self, staff: str) -> None:
        """Count a try as wrong before it is verified: tries at the same moment share the five. Raises `pin_locked`.

        Then call `failed`, `passed`, or `give_back` when nothing was verified.
        """
        guarded = self._guarded.get(staff)
        left = (guarded.locked_until - self._clock.monotonic()) if guarded else 0
        if left > 0:
            raise AccessError(
                "pin_locked",
                "The PIN was typed wrongly too often.",
                remedy="Wait, or let a manager set a new PIN.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=int(left) + 1,
            )
        if guarded is None and len(self._guarded) >= GUARDED_MAX:
            raise AccessError(
                "access.busy",
                "Too many PINs are being guessed.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=LOCK_FIRST_S,
                remedy="Let somebody who can sign in set the PIN anew.",
            )
        guarded = self._guarded.setdefault(staff, _Guarded())
        guarded.failures += 1
        guarded.locked_until = self._clock.monotonic() + lock_seconds(guarded.failures)

    def give_back(self, staff: str) -> None:
        """Take back a reserved try of which nobody has learnt anything. No lock stood when it was reserved."""
        guarded = self._guarded.get(staff)
        if guarded is not None and guarded.failures > 0:
            guarded.failures -= 1
            guarded.locked_until = 0.0

    async def failed(self, staff: str) -> None:
        """The reserved try was wrong: its count is durable once this returns."""
        await self._keep()

    async def passed(self, staff: str) -> None:
        """The reserved try was right: forget the wrong ones before it."""
        guarded = self._guarded.pop(staff, None)
        if guarded is not None and guarded.failures > 1:
            await self._keep()

    async def forgive(self, staff: str) -> None:
        """Forget every wrong one of this person: a manager has set a new PIN."""
        before = len(self._guarded)
        self._guarded = {who: kept for who, kept in self._guarded.items() if who.partition("@")[0] != staff}
        if len(self._guarded) != before:
            await self._keep()

    async def _keep(self) -> None:
        kept = json.dumps({staff: guarded.failures for staff, guarded in self._guarded.items()}, sort_keys=True)

        def work(tx: Tx) -> None:
            meta.put(tx, LOCKS, kept)

        await self._db.write("keep_pin_locks", work)
