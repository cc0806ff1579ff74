"""Enrolment without a person: a one-time or bounded group token in `enrol.toml`, for whoever sets up many stores.

    cloud = "https://cloud.example"
    token = "…"

The file lies on the data directory or beside the configuration. It is used at the first contact with the cloud and then
erased: overwritten, unlinked, the directory synced. The order makes every crash harmless: binding and credentials are
on disk before the token goes, the cloud counts a token once for each hub, and a hub that is enrolled erases what it
finds without asking anybody. A file that could not be erased afterwards, or that others may read, is not used at all.
A token that the cloud refuses stays where it is, so that a technician can see it; the problem says why.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from hubd.errors import ConfigError, HubError
from hubd.health import Problems
from hubd.logs import StateChanges
from hubd.runtime import Runtime
from hubd.services.access import Caller
from sync.backoff import Backoff
from sync.enrolment import CODE_MAX, Enrolment, cloud_address

log = logging.getLogger(__name__)

FILE_NAME = "enrol.toml"
FILE_BYTES_MAX = 4096
KEYS = ("cloud", "token")
LOOK_S = 5.0
"""How often the file is looked at: one `lstat` while there is none."""
RETRY_FIRST_S = 5.0
RETRY_LONGEST_S = 300.0
REFUSED_RETRY_S = 3600.0
"""A refused token is tried again after this, or at once when the file changes: its bound may have been raised."""
REFUSED = frozenset(
    {
        "enrolment.refused",
        "enrolment.code_spent",
        "enrolment.code_expired",
        "enrolment.other_tenant",
    }
)
HUB = Caller("", None, "", frozenset(), "en")


@dataclass(frozen=True, slots=True)
class GroupToken:
    """What the file says."""

    cloud: str
    token: str = field(repr=False)


def places(data: Path, config_file: Path | None) -> tuple[Path, ...]:
    """Where the file may lie, the first one found first."""
    beside = [config_file.parent / FILE_NAME] if config_file is not None else []
    return tuple(dict.fromkeys((data / FILE_NAME, *beside)))


def read(path: Path) -> GroupToken | None:
    """The token in a file; None if there is no such file. Raises ConfigError for one that must not or cannot be used.

    Nothing of the token stands in what is raised.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise _not_a_file(path) from exc
        raise ConfigError(
            "enrolment.file_unreadable",
            f"{path} cannot be read: {exc.strerror}.",
            remedy="Give it to the user that the hub runs as.",
        ) from exc
    try:
        _check_owner(path, os.fstat(descriptor))
        raw = os.read(descriptor, FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    token = _parse(path, raw)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            "enrolment.file_stuck",
            f"{path} could not be erased after its use.",
            remedy="Move it to the hub's data directory, which the hub may write.",
        )
    return token


def _not_a_file(path: Path) -> ConfigError:
    return ConfigError(
        "enrolment.file_not_regular", f"{path} is not a plain file.", remedy="Put the file itself there, no link to it."
    )


def _check_owner(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _not_a_file(path)
    # Who owns the directory can put any file there; root looks at the hub's files too (`hubd check-config`).
    if found.st_uid not in {0, os.geteuid(), path.parent.stat().st_uid}:
        raise ConfigError(
            "enrolment.file_owner",
            f"{path} belongs to somebody else than the hub's user.",
            remedy="Give it to the user that the hub runs as, or to root.",
        )
    if found.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(
            "enrolment.file_open",
            f"{path} may be read or changed by others (mode {stat.S_IMODE(found.st_mode):04o}).",
            remedy="chmod 600; if others have had access to the machine, ask for a new token.",
        )


def _parse(path: Path, raw: bytes) -> GroupToken:
    if len(raw) > FILE_BYTES_MAX:
        raise _invalid(path, f"is larger than {FILE_BYTES_MAX} bytes")
    try:
        content = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise _invalid(path, "is not UTF-8") from None
    except tomllib.TOMLDecodeError as exc:
        raise _invalid(path, f"is not TOML: {exc}") from None
    for key in content:
        if key not in KEYS:
            raise _invalid(path, "has a key other than " + " and ".join(KEYS))
    for key in KEYS:
        if key not in content:
            raise _invalid(path, f"has no {key}")
        if not isinstance(content[key], str):
            raise _invalid(path, f"has a {key} that is not a text")
    cloud, token = content["cloud"].strip(), content["token"]
    if not 1 <= len(token) <= CODE_MAX or not token.isascii() or not token.isprintable() or " " in token:
        raise _invalid(path, f"has a token that is not 1 to {CODE_MAX} letters, digits and signs")
    return GroupToken(cloud_address(cloud), token)


def _invalid(path: Path, what: str) -> ConfigError:
    return ConfigError(
        "enrolment.file_invalid", f"{path} {what}.", remedy='Two lines: cloud = "https://…" and token = "…".'
    )


def erase(path: Path) -> None:
    """Overwrite, unlink and sync, so that no later crash brings the token back. Raises OSError; repeat it then.

    On flash the old blocks live until the medium reuses them: a group token is bounded in uses and time for that too.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = -1
    except OSError:
        descriptor = -1  # a link, or read-only: what can go is its name
    if descriptor >= 0:
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"\n" * os.fstat(descriptor).st_size)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    path.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _present(files: Iterable[Path]) -> list[Path]:
    return [file for file in files if os.path.lexists(file)]


class _Asked(Struct, frozen=True):
    """The token that was sent last, and until when it rests."""

    token: GroupToken
    not_before: float


class TokenEnrolment:
    """Looks for the file for ever: a technician may put one there, or mend one, while the hub trades."""

    def __init__(
        self,
        enrolment: Enrolment,
        problems: Problems,
        runtime: Runtime,
        files: Sequence[Path],
        enrolled: Callable[[], None],
    ) -> None:
        self._enrolment = enrolment
        self._problems = problems
        self._clock = runtime.clock
        self._backoff = Backoff(runtime.rng, RETRY_FIRST_S, RETRY_LONGEST_S)
        self._files = tuple(files)
        self._enrolled = enrolled
        self._asked: dict[Path, _Asked] = {}
        self._said = StateChanges()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Once: enrol by the first file that serves, then erase all of them."""
        present = await asyncio.to_thread(_present, self._files)
        for file in self._files:
            if file not in present:
                self._forget(file)
        if not present:
            return
        if not await self._enrolment.is_enrolled() and not await self._by_any(present):
            return
        for file in present:
            await self._erase(file)

    async def _by_any(self, present: Sequence[Path]) -> bool:
        for file in present:
            if await self._by(file):
                self._enrolled()
                return True
        return False

    async def _by(self, file: Path) -> bool:
        try:
            token = await asyncio.to_thread(read, file)
        except ConfigError as exc:
            self._asked.pop(file, None)
            self._say(file, exc)
            self._problems.clear("enrolment.token_refused", str(file))
            self._problems.raise_("enrolment.file_unusable", str(file), file=str(file), reason=exc.code)
            return False
        self._problems.clear("enrolment.file_unusable", str(file))
        asked = self._asked.get(file)
        if token is None or (asked and asked.token == token and self._clock.monotonic() < asked.not_before):
            return False
        if asked and asked.token != token:
            self._backoff.reset()
        try:
            await self._enrolment.enrol(token.cloud, token.token, HUB)
        except HubError as exc:
            refused = exc.code in REFUSED
            pause_s = REFUSED_RETRY_S if refused else self._backoff.next_s()
            self._asked[file] = _Asked(token, self._clock.monotonic() + pause_s)
            self._say(file, exc)
            self._problems.raise_("enrolment.token_refused", str(file), file=str(file), reason=exc.code)
            return False
        log.info("enrolment.by_token", extra={"path": str(file)})
        return True

    async def _erase(self, file: Path) -> None:
        try:
            await asyncio.to_thread(erase, file)
        except OSError as exc:
            # Tried again at the next look, for as long as it lies there.
            if self._said.is_news(str(file), "left"):
                log.warning("enrolment.token_left", extra={"path": str(file), "error": type(exc).__name__})
            self._problems.raise_("enrolment.token_left", str(file), file=str(file))
            return
        log.info("enrolment.token_erased", extra={"path": str(file)})
        self._forget(file)

    def _say(self, file: Path, exc: HubError) -> None:
        if self._said.is_news(str(file), exc.code):
            log.warning("enrolment.by_token_failed", extra={"path": str(file), "code": exc.code})

    def _forget(self, file: Path) -> None:
        self._asked.pop(file, None)
        self._said.forget(str(file))
        for code in ("enrolment.file_unusable", "enrolment.token_refused", "enrolment.token_left"):
            self._problems.clear(code, str(file))
