"""Backups on a schedule: made, verified, sealed, and taken off the disk; and the archive beside them (design 5).

They leave by a stick that the hub writes to, or by a paired device that fetches the newest one and says that it holds
it. A hub whose newest verified backup elsewhere is older than 24 h has the problem `no_backup_elsewhere`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import Struct

from hubd.errors import AccessError, HubError, InvalidValueError, NotFoundError, Retry, StoreError
from hubd.health import Problems
from hubd.logs import StateChanges
from hubd.runtime import Runtime
from hubd.services.access import Caller
from hubd.store import archive, backup, copies
from hubd.store.backup import Contents
from hubd.store.backup import Made as Made
from hubd.store.copies import Elsewhere as Elsewhere
from hubd.store.db import Database
from hubd.store.sealed import Recipient

log = logging.getLogger(__name__)

ELSEWHERE_AGE_MAX_US = 24 * 3600 * 1_000_000
CHECK_S = 300.0
"""How often the age of the newest backup is looked at, and a target that came back is tried."""
KEPT_HERE = 4
KEPT_ELSEWHERE = 12
ARCHIVE_EVERY_S = 24 * 3600.0
DOWNLOADS_AT_ONCE_MAX = 2
"""Of all devices together: a backup must not take the line from those who sell."""
DOWNLOAD_BYTES_S = 8 * 1024 * 1024
"""Of one download."""
DOWNLOAD_STEP_BYTES = 256 * 1024


CLOUD = "cloud"
CLOUD_AGE_US = 20 * 3600 * 1_000_000
"""The cloud gets a backup about once a day: the line is the shop's, and sticks and tills hold the younger ones."""

SEND_PAUSE_MAX_S = 20 * 3600.0

Send = Callable[[Made], Awaitable[bool]]
"""Brings a backup to the cloud; True once it is stored there, False where there is none to bring it to."""


class Places(Struct, frozen=True):
    """Where backups are made and where they go."""

    here: Path
    targets: Sequence[Path]
    archive: Path


class BackupState(Struct, frozen=True):
    """How backups stand."""

    elsewhere: tuple[Elsewhere, ...]
    """Copies that count, the newest backup first."""
    here: tuple[Made, ...]
    """What lies on the hub's own disk and can be fetched, newest first."""
    overdue: bool
    last_error: str


class Taken(Struct, frozen=True):
    """A backup that was made, and how its way to the targets ended."""

    made: Made
    failed: tuple[StoreError, ...]


class BackupDesk:
    """Makes backups, looks after their age, and cuts old confirmed entries into the archive."""

    def __init__(
        self, db: Database, runtime: Runtime, problems: Problems, places: Places, contents: Contents, interval_s: float
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._problems = problems
        self._places = places
        self._contents = contents
        self._interval_s = interval_s
        self._last_error = ""
        self._sealed_for: frozenset[Recipient] = frozenset()
        """Who can open the newest backup of this process."""
        self._busy = asyncio.Lock()
        self._seen: dict[tuple[str, int], Made] = {}
        """What was read of the files here, by name and time of change: their digests are computed once."""
        self._downloads = 0
        self._changes = StateChanges()

    async def state(self) -> BackupState:
        """How backups stand now."""
        here = await self._here()
        found = await self._db.read("backup.elsewhere", copies.elsewhere)
        # One of a distant future was made under a wrong clock: how old it is, nobody knows.
        age = abs(self._runtime.clock.now_us() - found[0].made_at_us) if found else None
        return BackupState(tuple(found), here, age is None or age > ELSEWHERE_AGE_MAX_US, self._last_error)

    async def _here(self) -> tuple[Made, ...]:
        found = await asyncio.to_thread(_look, self._places.here, dict(self._seen))
        self._seen = found
        return tuple(sorted(found.values(), key=lambda made: (made.seq, made.id), reverse=True))

    async def make(self) -> Taken:
        """Make a backup now and take it to every target that is there; durable and verified on return.

        Raises `backup.no_recipient` before the hub is set up: nobody could open it. A target that fails is told in the
        answer and as the problem `backup.failed`; the backup is good all the same.
        """
        async with self._busy:
            recipients = await self._db.read("backup.recipients", backup.recipients)
            if not recipients:
                raise StoreError(
                    "backup.no_recipient",
                    "There is no recovery code yet, so nobody could open the backup.",
                    remedy="Set the hub up first; it tells the recovery code once.",
                )
            now = self._runtime.clock.now_us()
            made = await backup.make(self._db, self._places.here, self._contents, recipients, now, self._runtime.ids)
            self._sealed_for = frozenset(recipients)
            failed = await self._take_to_targets(made)
            await asyncio.to_thread(_keep_newest, self._places.here, KEPT_HERE, made.path.name)
            return Taken(made, failed)

    async def _take_to_targets(self, made: Made) -> tuple[StoreError, ...]:
        """Bring this backup to every target that is there and has it not; one that fails keeps no other from it."""
        failed = []
        for target in self._places.targets:
            try:
                await self._take_to(made, target)
            except StoreError as exc:
                if self._changes.is_news(str(target), exc.code):
                    log.warning("backup.target_failed", extra={"code": exc.code, "path": str(target)})
                failed.append(exc)
        self._last_error = failed[0].code if failed else ""
        self._problems.set(bool(failed), "backup.failed")
        return tuple(failed)

    async def _take_to(self, made: Made, target: Path) -> None:
        if not await asyncio.to_thread(target.is_dir):
            if self._changes.is_news(str(target), "absent"):
                log.info("backup.target_absent", extra={"path": str(target)})
            return
        try:
            if not await asyncio.to_thread((target / made.path.name).exists):
                await asyncio.to_thread(copies.copy_to, made, target)
                await self._db.write("backup.recorded", lambda tx: copies.record(tx, made, f"usb:{target.name}"))
            await asyncio.to_thread(_keep_newest, target, KEPT_ELSEWHERE, made.path.name)
            self._changes.is_news(str(target), "well")
        except OSError as exc:
            raise StoreError(
                "backup.target_failed",
                f"The backup could not be written to {target}: {exc.strerror}.",
                remedy="Check the stick; use another one.",
            ) from exc

    # -- devices that hold a copy ------------------------------------------------------------------------------------

    async def find(self, id_: str) -> Made:
        """The backup with this id, as it lies here; raises `backup.gone`."""
        found = [made for made in await self._here() if made.id == id_]
        if not found:
            raise NotFoundError(
                "backup.gone", "That backup is not on the hub any more.", remedy="List the backups, take the newest."
            )
        return found[0]

    def content(self, made: Made, first: int, count: int) -> AsyncGenerator[bytes]:
        """`count` bytes of a backup from `first` on, in steps and not faster than a shop can spare.

        Raises `backup.busy` while as many as may are being fetched.
        """
        if self._downloads >= DOWNLOADS_AT_ONCE_MAX:
            raise AccessError(
                "backup.busy",
                "Other devices are fetching backups now.",
                remedy="Ask again in a minute.",
                retry=Retry.SAME_REQUEST,
                retry_after_s=60,
            )
        return self._content(made, first, count)

    async def _content(self, made: Made, first: int, count: int) -> AsyncGenerator[bytes]:
        clock = self._runtime.clock
        self._downloads += 1
        file = copies.ReadFrom(made.path)
        try:
            try:
                await asyncio.to_thread(file.open, first)
                begun, sent = clock.monotonic(), 0
                while sent < count:
                    step = await asyncio.to_thread(file.read, min(DOWNLOAD_STEP_BYTES, count - sent))
                    if not step:
                        return
                    yield step
                    sent += len(step)
                    await clock.sleep(max(0.0, begun + sent / DOWNLOAD_BYTES_S - clock.monotonic()))
            finally:
                file.close()
        finally:
            self._downloads -= 1

    async def stored(self, id_: str, sha256: str, caller: Caller) -> Elsewhere:
        """A paired device says that it has this backup on its disk and read it back: an entry, and it counts.

        The same again changes nothing. Raises `backup.gone`, and `backup.digest_differs` for another digest.
        """
        if not caller.device:
            raise AccessError(
                "backup.no_device",
                "Only a paired device can say that it holds a backup.",
                remedy="Pair the device that keeps it, and let it say so itself.",
            )
        return await self._record(id_, sha256, f"{copies.TILL}{caller.device}", caller, counts=True)

    async def stored_by_hand(self, id_: str, sha256: str, place: str, caller: Caller, *, counts: bool) -> Elsewhere:
        """The same for a copy that the machine's administrator took to a directory; `counts`: on another disk."""
        return await self._record(id_, sha256, f"{'usb' if counts else 'here'}:{place}", caller, counts=counts)

    async def _record(self, id_: str, sha256: str, place: str, caller: Caller, *, counts: bool) -> Elsewhere:
        made = await self.find(id_)
        if made.sha256 != sha256:
            raise InvalidValueError(
                "backup.digest_differs",
                "The copy has another digest than the backup.",
                remedy="Throw the copy away and fetch it again.",
            )
        await self._db.write("backup.stored", lambda tx: copies.record(tx, made, place, caller.actor, counts=counts))
        await self._look_at_age()
        return Elsewhere(place, made.id, made.sha256, made.seq, made.hash, made.made_at_us)

    # -- for ever ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Back up on schedule, for ever."""
        due = self._runtime.clock.monotonic()
        while True:
            somebody = await self._db.read("backup.recipients", backup.recipients)
            # A new code or key opens no earlier backup: whoever holds it gets one at once.
            new_reader = not self._sealed_for.issuperset(somebody)
            if new_reader or self._runtime.clock.monotonic() >= due:
                if await self._try():
                    due = self._runtime.clock.monotonic() + self._interval_s
            else:
                await self._look_at_targets()
            await self._look_at_age()
            await self._runtime.clock.sleep(CHECK_S)

    async def _look_at_age(self) -> None:
        somebody = await self._db.read("backup.recipients", backup.recipients)
        self._problems.set(bool(somebody) and (await self.state()).overdue, "no_backup_elsewhere")

    async def _look_at_targets(self) -> None:
        """A stick that was plugged in since then gets the newest backup at once, not at the next one."""
        async with self._busy:
            here = await self._here()
            if here:
                await self._take_to_targets(here[0])

    async def _try(self) -> bool:
        try:
            await self.make()
        except HubError as exc:
            self._last_error = exc.code
            if exc.code != "backup.no_recipient":
                log.warning("backup.failed", extra={"code": exc.code})
                self._problems.raise_("backup.failed")
            return False
        return True

    async def send_for_ever(self, send: Send) -> None:
        """Bring the newest backup to the cloud when the last one there is a day old; one out of reach is asked again.

        Beside `run` and not in it: over a shop's line it takes as long as it takes.
        """
        pause = CHECK_S
        while True:
            try:
                await self._send_if_due(send)
                pause = CHECK_S
            except HubError as exc:
                # What was sent in vain went over the shop's line: not again at once, and a refusal not today.
                pause = min(pause * 2, SEND_PAUSE_MAX_S) if exc.retry is Retry.SAME_REQUEST else SEND_PAUSE_MAX_S
                log.info("backup.not_sent", extra={"code": exc.code, "delay_s": pause})
            await self._runtime.clock.sleep(pause)

    async def _send_if_due(self, send: Send) -> None:
        here, found = await self._here(), await self._db.read("backup.elsewhere", copies.elsewhere)
        there = next((one for one in found if one.place == CLOUD), None)
        if not here or (there is not None and (there.seq, there.id) >= (here[0].seq, here[0].id)):
            return
        if there is not None and abs(self._runtime.clock.now_us() - there.made_at_us) < CLOUD_AGE_US:
            return
        if await send(here[0]):
            await self._db.write("backup.sent", lambda tx: copies.record(tx, here[0], CLOUD))
            await self._look_at_age()

    async def archive_for_ever(self) -> None:
        """Once a day: confirmed entries older than 35 days go into files, and only then out of the database."""
        while True:
            await archive.archive(self._db, self._places.archive, self._runtime.clock)
            await self._runtime.clock.sleep(ARCHIVE_EVERY_S)


def _look(folder: Path, known: dict[tuple[str, int], Made]) -> dict[tuple[str, int], Made]:
    """The backups of a folder by name and time of change; only what is not known yet is read."""
    found = {}
    for path in folder.glob(f"*{backup.SUFFIX}"):
        try:
            key = (path.name, path.stat().st_mtime_ns)
        except FileNotFoundError:
            continue
        made = known.get(key) or backup.read_made(path)
        if made is not None:
            found[key] = made
    return found


def _keep_newest(folder: Path, count: int, new: str) -> None:
    """Remove what was written longest ago; never `new`, though its name may be lower: a restored hub counts anew."""
    old = [path for path in folder.glob(f"*{backup.SUFFIX}") if path.name != new]
    old.sort(key=lambda path: path.stat().st_mtime_ns)
    for path in old[: max(0, len(old) + 1 - count)]:
        path.unlink()
