"""Holding a backup for the hub: fetched in steps, resumed after a break, read back, and only then said to be stored.

The file is sealed: this device cannot open it, and neither can who takes the device away.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from local_api.client.wire import HubUnreachableError, ProblemError, Wire

SUFFIX = ".hubbackup"
KEPT = 2
BYTES_MAX = 8 * 1024 * 1024 * 1024
"""A larger file than this is not fetched: something is wrong with the hub, or this is not the device for it."""
SPARE_BYTES = 256 * 1024 * 1024
"""What must stay free on the device's own disk."""
READ_BYTES = 1024 * 1024
TRIES_MAX = 8
PAUSE_S = 1.0
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Headers = Callable[[dict[str, str]], dict[str, str]]
Wait = Callable[[float], Awaitable[object]]


class BackupNotKeptError(Exception):
    """The backup could not be brought here whole; what the hub counts is as it was."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The newest backup as the hub tells of it; nothing of it becomes a file name unchecked."""

    id: str
    sha256: str
    size: int
    seq: int

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Offer:
        """Check what the hub said."""
        id_, sha256, size, seq = shown.get("id"), shown.get("sha256"), shown.get("bytes"), shown.get("seq")
        if not (isinstance(id_, str) and _ID.fullmatch(id_) and isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
            raise BackupNotKeptError("The hub's list of backups cannot be read.")
        if type(size) is not int or type(seq) is not int or not 0 < size <= BYTES_MAX or seq < 0:
            raise BackupNotKeptError(f"The backup has not a size that is fetched: {size}.")
        return cls(id_, sha256, size, seq)

    @property
    def name(self) -> str:
        """Under which the hub itself would keep it."""
        return f"hub-{self.seq:012d}-{self.sha256[:8]}{SUFFIX}"


class Keeper:
    """Brings the newest backup of one hub into one directory."""

    def __init__(self, wire: Wire, headers: Headers, wait: Wait, folder: Path) -> None:
        self._wire = wire
        self._headers = headers
        self._wait = wait
        self._folder = folder

    async def keep(self, kept: int = KEPT) -> Path | None:
        """Fetch the newest backup if it is not here yet, tell the hub, and let older ones go; None if it has none.

        Raises BackupNotKeptError, ProblemError, HubUnreachableError, OSError; asking again goes on where it stopped.
        """
        listed = (await self._wire.send("GET", "/v1/backups", headers=self._headers({}))).json()
        if not listed["here"]:
            return None
        offer = Offer.read(listed["here"][0])
        final = self._folder / offer.name
        if not await asyncio.to_thread(_is_whole, final, offer):
            await asyncio.to_thread(_make_room, self._folder, offer)
            part = final.with_name(f"{offer.id}.part")
            await self._fetch(offer, part)
            await asyncio.to_thread(_finish, part, final, offer)
        await self._wire.send(
            "POST", f"/v1/backups/{offer.id}/stored", json={"sha256": offer.sha256}, headers=self._headers({})
        )
        await asyncio.to_thread(_let_go, self._folder, kept, final)
        return final

    async def _fetch(self, offer: Offer, part: Path) -> None:
        for number in range(TRIES_MAX):
            try:
                if await self._fetch_rest(offer, part):
                    return
            except httpx2.TransportError as exc:
                if number == TRIES_MAX - 1:
                    raise HubUnreachableError("The connection broke again and again; what has come is kept.") from exc
            await self._wait(PAUSE_S)
        raise BackupNotKeptError("The hub did not send the whole backup.")

    async def _fetch_rest(self, offer: Offer, part: Path) -> bool:
        """Go on behind what is there; True once nothing is missing."""
        have = await asyncio.to_thread(_size, part)
        if have == offer.size:
            return True
        if have > offer.size:
            await asyncio.to_thread(part.unlink)
            have = 0
        headers = self._headers({"range": f"bytes={have}-"} if have else {})
        path = f"/v1/backups/{offer.id}/content"
        async with self._wire.http.stream("GET", self._wire.url(path), headers=headers) as answer:
            if answer.status_code not in {200, 206}:
                await answer.aread()
                raise ProblemError(answer.status_code, answer.json())
            goes_on = answer.status_code == 206
            file = await asyncio.to_thread(part.open, "ab" if goes_on else "wb")
            try:
                size = have if goes_on else 0
                async for chunk in answer.aiter_bytes(READ_BYTES):
                    size += len(chunk)
                    if size > offer.size:
                        raise BackupNotKeptError("The hub sends more than it told.")
                    await asyncio.to_thread(file.write, chunk)
            finally:
                await asyncio.to_thread(_sync_and_close, file)
        return size == offer.size


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sync_and_close(file: Any) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            # What is checked next must come from the medium, not from the memory that was just written.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        file.close()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while step := file.read(READ_BYTES):
            digest.update(step)
    return digest.hexdigest()


def _is_whole(path: Path, offer: Offer) -> bool:
    return _size(path) == offer.size and _digest(path) == offer.sha256


def _make_room(folder: Path, offer: Offer) -> None:
    """Leave only the beginning of this very backup, and refuse to fill the device's disk."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for old in folder.glob("*.part"):
        if old.name != f"{offer.id}.part":
            old.unlink()
    free = shutil.disk_usage(folder).free
    if free < offer.size + SPARE_BYTES:
        raise BackupNotKeptError(f"The disk of this device has too little room: {free} bytes.")


def _finish(part: Path, final: Path, offer: Offer) -> None:
    if _digest(part) != offer.sha256:
        part.unlink()
        raise BackupNotKeptError("What was written reads back as something else; it was thrown away.")
    part.replace(final)
    if os.name == "posix":
        descriptor = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _let_go(folder: Path, kept: int, new: Path) -> None:
    """Remove what was written longest ago; never `new`, though its name may be lower: a restored hub counts anew."""
    old = [path for path in folder.glob(f"hub-*{SUFFIX}") if path != new]
    old.sort(key=lambda path: path.stat().st_mtime_ns)
    for path in old[: max(0, len(old) + 1 - max(1, kept))]:
        path.unlink()
