"""The newest backup of a store, fetched back from its cloud: for a machine that has a key, a code, and nothing else.

    GET /backups, GET /backups/{hub}/{id} by Range    signed like every request about backups (sync.cloud_backups)

The cloud proves nothing to us here and need not: the file is compared with the digest that the cloud told, and is
opened, verified and believed by `hubd.store.backup.restore` alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx2
import msgspec

from hubd.errors import Retry, SyncError
from hubd.store.backup import SUFFIX
from sync.cloud_backups import SHELF, SILENCE_MAX_S, CloudBackups, Place, read_answer, unreachable

BYTES_MAX = 2 * 1024 * 1024 * 1024
"""A larger file is not a backup that a hub has left there."""
TRIES_WITHOUT_A_BYTE_MAX = 6
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Between tries that brought nothing; a line that brings something is asked for more at once."""
_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HUB = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})")

Progress = Callable[[int, int], None]
"""(bytes that are here, bytes of the whole)."""


class Left(msgspec.Struct, frozen=True):
    """A backup that some hub of the store has left with the cloud."""

    hub: str
    id: str
    sha256: str
    bytes: int
    number: int


class _Shelf(msgspec.Struct, frozen=True):
    items: list[Left]


class CloudRestore:
    """Asks for the store's backups and fetches one; what came before a break is kept and gone on with."""

    def __init__(self, backups: CloudBackups, place: Place) -> None:
        self._backups = backups
        self._place = place

    async def newest(self) -> Left:
        """The newest backup that any hub of the store has left; the cloud lists only what it has whole.

        Raises `backup.none_in_cloud`, `backup.cloud_unreachable`, `backup.cloud_refused`.
        """
        async with await self._client() as client:
            try:
                answer = await client.get(SHELF, headers=self._backups.headers("GET", SHELF, bytes(32), 0))
            except httpx2.HTTPError as exc:
                raise unreachable() from exc
        found = max(read_answer(answer, _Shelf).items, key=lambda one: one.number, default=None)
        if found is None:
            raise SyncError(
                "backup.none_in_cloud",
                "The cloud holds no backup of this store.",
                remedy="Look for a stick, or a till that has kept one: `hubctl restore FILE`.",
            )
        if not (_NAME.fullmatch(found.id) and _HUB.fullmatch(found.hub) and _DIGEST.fullmatch(found.sha256)):
            raise _damaged("what it says of its newest backup has not the form that it has")
        if not 0 < found.bytes <= BYTES_MAX:
            raise _damaged(f"its newest backup has {found.bytes} bytes")
        return found

    async def fetch(self, left: Left, folder: Path, progress: Progress = lambda _have, _whole: None) -> Path:
        """The file, whole, on disk and with the digest that the cloud named; a part that is there is gone on with.

        Raises `backup.cloud_unreachable` once several tries have brought nothing (the part stays), `backup.no_room`,
        and `backup.cloud_damaged` for another content (the part goes).
        """
        final, part = folder / f"{left.id}{SUFFIX}", folder / f"{left.id}.part"
        if await asyncio.to_thread(_has_digest, final, left):
            return final
        await asyncio.to_thread(_need_room, folder, part, left)
        tries = 0
        async with await self._client() as client:
            while (have := await asyncio.to_thread(_size, part)) < left.bytes:
                progress(have, left.bytes)
                try:
                    await self._fetch_on(client, left, part, have)
                except (httpx2.HTTPError, SyncError) as exc:
                    if isinstance(exc, SyncError) and exc.retry is not Retry.SAME_REQUEST:
                        raise
                    tries = 0 if await asyncio.to_thread(_size, part) > have else tries + 1
                    if tries == TRIES_WITHOUT_A_BYTE_MAX:
                        raise unreachable() from exc
                    await self._backups.clock.sleep(PAUSES_S[min(tries, len(PAUSES_S)) - 1] if tries else 0.0)
        progress(have, left.bytes)
        if not await asyncio.to_thread(_has_digest, part, left):
            await asyncio.to_thread(part.unlink)
            raise _damaged("what came has another digest")
        await asyncio.to_thread(_finish, part, final)
        return final

    async def _fetch_on(self, client: httpx2.AsyncClient, left: Left, part: Path, have: int) -> None:
        """Append what the cloud sends from `have` on, never more than the whole."""
        path = f"{SHELF}/{left.hub}/{left.id}"
        headers = self._backups.headers("GET", path, bytes(32), 0) | {"range": f"bytes={have}-"}
        async with client.stream("GET", path, headers=headers) as answer:
            if answer.status_code != 206:
                await answer.aread()
                read_answer(answer, _Shelf)  # says what is wrong
                raise _damaged("it does not give a part of a file")
            span = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            if span is None or (int(span[1]), int(span[2])) != (have, left.bytes):
                raise _damaged("it gives another part than it was asked for")
            file = await asyncio.to_thread(partial(part.open, "ab"))
            try:
                async for step in answer.aiter_raw():  # as it comes: what a larger step had gathered would be lost
                    have += len(step)
                    if have > left.bytes:
                        raise _damaged("it sends more than it has said")
                    await _write(file.write, step)
            finally:
                await _write(file.close)

    async def _client(self) -> httpx2.AsyncClient:
        place = await self._place()
        assert place is not None, "whoever restores from a cloud has been let in before"
        address, tls = place
        return httpx2.AsyncClient(timeout=SILENCE_MAX_S, verify=tls, base_url=address)


async def _write(act: Callable[..., object], *what: bytes) -> None:
    try:
        await asyncio.to_thread(act, *what)
    except OSError as exc:
        raise _no_room(str(exc.strerror)) from exc


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _need_room(folder: Path, part: Path, left: Left) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _size(part) > left.bytes:
        part.unlink()
    # The backup is unpacked beside itself afterwards; what is sealed is not smaller than what it holds by much.
    if shutil.disk_usage(folder).free < 2 * left.bytes - _size(part):
        raise _no_room(f"{left.bytes} bytes, and as much again to unpack them")


def _has_digest(path: Path, left: Left) -> bool:
    if _size(path) != left.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == left.sha256


def _finish(part: Path, final: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(final)
    descriptor = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_room(why: str) -> SyncError:
    return SyncError("backup.no_room", f"The backup does not fit on this disk: {why}.", remedy="Make room, repeat.")


def _damaged(why: str) -> SyncError:
    return SyncError(
        "backup.cloud_damaged",
        f"What the cloud gives is not the backup: {why}.",
        remedy="Repeat it; if it stays so, ask who runs the cloud for the file before, and use `hubctl restore FILE`.",
    )
