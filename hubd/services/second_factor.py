"""The second factor of people who run the shop (domain D04): a code that follows the clock, or one of ten of paper.

It needs no Internet. While the hub's clock is uncertain a code of the clock cannot be judged, so a recovery code is
asked for. Secret and digests are one document, erasable, beside the journal; the entries say only that it is so.
"""

from __future__ import annotations

import base64
import hmac
import json
import re

from msgspec import Struct

from hubd.errors import AccessError, HubError
from hubd.model.entry import Document, Draft
from hubd.model.ids import id_bytes
from hubd.runtime import Runtime
from hubd.services.pins import PinGuard
from hubd.services.settings import effective
from hubd.services.totp import DIGITS, SECRET_BYTES, find_step, otpauth, secret_text
from hubd.store import documents, journal, meta, people
from hubd.store.db import Database
from hubd.store.tx import Connection, Tx

RECOVERY_CODES = 10
RECOVERY_BYTES = 10
BEGUN_MAX = 1_000
STEPS = "second_factor_steps"
"""Name in the hub's own notes: JSON object staff -> the step of the last code taken, so that none counts twice."""
DOCUMENT_CLASS = "second_factor"
_CODE = re.compile(rf"[0-9]{{{DIGITS}}}")


class Begun(Struct, frozen=True):
    """A secret to be put into a phone; told to its person alone."""

    secret: str
    uri: str


class _Kept(Struct, frozen=True):
    secret: bytes
    digests: tuple[str, ...]
    used: int
    step: int


class SecondFactors:
    """Makes, judges and takes away second factors. A secret that nobody has confirmed ends with this process."""

    def __init__(self, db: Database, runtime: Runtime, guard: PinGuard) -> None:
        self._db = db
        self._runtime = runtime
        self._guard = guard
        self._begun: dict[str, bytes] = {}

    async def begin(self, staff: str, name_document: bytes) -> Begun:
        """Make a secret for a person; it counts from `confirm` on, and a new one takes its place until then."""
        secret = self._runtime.ids.token_bytes(SECRET_BYTES)
        if len(self._begun) >= BEGUN_MAX:
            self._begun.pop(next(iter(self._begun)))
        self._begun[staff] = secret
        now = self._runtime.clock.now_us()

        def read(connection: Connection) -> tuple[str, str]:
            name = documents.get(connection, name_document)
            return (name.content.decode() if name else ""), str(effective(connection, "store.name", now).value)

        name, store = await self._db.read("second_factor.begin", read)
        return Begun(secret_text(secret), otpauth(secret, store or "hubd", name))

    async def confirm(self, staff: str, code: str) -> tuple[str, ...]:
        """Keep the secret whose first code this is; returns the recovery codes, told this once. Durable on return.

        Raises `second_factor.not_begun`, `second_factor.clock_uncertain`, `second_factor.code_wrong`, `pin_locked`.
        """
        secret = self._begun.get(staff)
        if secret is None:
            raise AccessError(
                "second_factor.not_begun",
                "No secret waits for its first code.",
                remedy="Begin again: the hub may have been restarted.",
            )
        self._need_clock()
        guarded = f"{staff}@first#code"
        self._guard.reserve(guarded)
        step = find_step(secret, code, self._runtime.clock.now_us() // 1_000_000, -1)
        if step is None:
            await self._guard.failed(guarded)
            raise _wrong()
        await self._guard.passed(guarded)
        ids = self._runtime.ids
        codes = tuple(base64.b32encode(ids.token_bytes(RECOVERY_BYTES)).decode("ascii") for _ in range(RECOVERY_CODES))
        content = {"secret": secret_text(secret), "recovery": [_digest(secret, one) for one in codes]}
        document = Document(
            id_bytes(ids.new_id()), DOCUMENT_CLASS, ids.token_bytes(32), json.dumps(content).encode("ascii")
        )

        def work(tx: Tx) -> None:
            take_away(tx, staff, f"staff:{staff}", "second_factor_changed")
            draft = Draft("staff.second_factor_confirmed", staff, f"staff:{staff}", {}, documents=(document,))
            journal.append(tx, draft)
            _note_step(tx, staff, step)

        await self._db.write("second_factor.confirm", work)
        self._begun.pop(staff, None)
        return tuple("-".join(one[at : at + 4] for at in range(0, 16, 4)) for one in codes)

    async def check(self, staff: str, code: str, place: str) -> None:
        """Let a person pass with a code of the phone or of paper; each counts once, durable on return.

        Raises `second_factor.clock_uncertain` for a phone's code while the clock has no witness,
        `second_factor.code_wrong`, and `pin_locked` after five wrong ones at this place, over restarts too.
        """
        plain = code.replace("-", "").replace(" ", "").upper()
        by_clock = bool(_CODE.fullmatch(plain))
        if by_clock:
            self._need_clock()
        guarded = f"{staff}@{place}#code"
        self._guard.reserve(guarded)
        now_s = self._runtime.clock.now_us() // 1_000_000

        def work(tx: Tx) -> bool:
            kept = _read(tx.connection, staff)
            if kept is None:
                return False
            if by_clock:
                step = find_step(kept.secret, plain, now_s, kept.step)
                if step is not None:
                    _note_step(tx, staff, step)
                return step is not None
            number = _number_of(kept, plain)
            if number is not None:
                body = {"number": number}
                journal.append(tx, Draft("staff.second_factor_recovered", staff, f"staff:{staff}", body))
            return number is not None

        try:
            matches = await self._db.write("second_factor.check", work)
        except HubError:
            self._guard.give_back(guarded)  # nothing was judged: the disk is full, or the hub stops
            raise
        if not matches:
            await self._guard.failed(guarded)
            raise _wrong()
        await self._guard.passed(guarded)

    def _need_clock(self) -> None:
        if not self._runtime.clock.trusted():
            raise AccessError(
                "second_factor.clock_uncertain",
                "The hub is not sure of the time, so it cannot judge a code of the phone.",
                remedy="Use one of the recovery codes on paper, or wait until the hub has the time again.",
            )


def take_away(tx: Tx, staff: str, actor: str, reason: str) -> list[bytes]:
    """Take a person's second factor away in this transaction; returns the documents whose bytes are to go."""
    known = people.second_factor(tx.connection, staff)
    if known is None:
        return []
    journal.append(tx, Draft("staff.second_factor_reset", staff, actor, {"reason": reason}))
    if documents.erase(tx, known.document):
        journal.append(tx, documents.erasure(known.document, reason, actor))
    return [known.document]


def _read(connection: Connection, staff: str) -> _Kept | None:
    known = people.second_factor(connection, staff)
    document = documents.get(connection, known.document) if known else None
    if known is None or document is None:
        return None
    content = json.loads(document.content)
    secret = base64.b32decode(content["secret"])
    steps = json.loads(meta.get(connection, STEPS) or "{}")
    return _Kept(secret, tuple(content["recovery"]), known.used, int(steps.get(staff, -1)))


def _note_step(tx: Tx, staff: str, step: int) -> None:
    steps = json.loads(meta.get(tx.connection, STEPS) or "{}")
    meta.put(tx, STEPS, json.dumps(steps | {staff: step}, sort_keys=True))


def _number_of(kept: _Kept, code: str) -> int | None:
    """The place of a recovery code that is not used yet."""
    typed = _digest(kept.secret, code)
    for number, digest in enumerate(kept.digests):
        if hmac.compare_digest(digest, typed) and not kept.used >> number & 1:
            return number
    return None


def _digest(secret: bytes, code: str) -> str:
    """What is kept of a recovery code. No slow hash is needed: nobody guesses 80 bits."""
    return hmac.digest(secret, code.encode("utf-8"), "sha256").hex()


def _wrong() -> AccessError:
    return AccessError(
        "second_factor.code_wrong",
        "The code is wrong, used or too old.",
        remedy="Type the code that the phone shows now, or an unused recovery code.",
    )
