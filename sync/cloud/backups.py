"""Backups that hubs leave with the cloud: sealed files, stored as they come, given back to hubs of the same store.

PUT  /backups/{id}        the file, signed by the hub  -> {id, sha256, bytes}
GET  /backups             signed by a hub of the store -> {items: [{hub, id, sha256, bytes}]}, newest first
GET  /backups/{hub}/{id}  signed by a hub of the store -> the file, whole or a range

A request carries Hub-Id, Hub-Time, Hub-Nonce, Hub-Sha256, Hub-Bytes and Hub-Signature; the nonce serves once. The cloud
cannot open what it stores: a hub of the same store may fetch it, and its people need the recovery code.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import AsyncIterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hubd.errors import HubError
from sync.cloud.cloud import NONCE_MAX_BYTES, ReferenceCloud, refused
from sync.cloud.keys import signature_holds
from sync.cloud.storage import CloudStorage, HubRow

BACKUP_DOMAIN = b"hubd.backup.v1\0"
BYTES_MAX = 2 * 1024 * 1024 * 1024
KEPT_FOR_EACH_HUB = 4
SUFFIX = ".hubbackup"
NO_DIGEST = "00" * 32
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file on the shelf."""

    hub: str
    id: str
    sha256: str
    bytes: int
    number: int
    """Rises with each file that was stored."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of itself, before any of it is believed."""

    hub: bytes
    time_us: int
    nonce: bytes
    sha256: bytes
    size: int
    signature: bytes

    @classmethod
    def of(cls, headers: Any) -> Asked:
        """Read the headers; raises `invalid_request`."""
        try:
            raw = [bytes.fromhex(headers[f"hub-{name}"]) for name in ("id", "nonce", "sha256", "signature")]
            time_us, size = int(headers["hub-time"]), int(headers["hub-bytes"])
        except (KeyError, ValueError) as exc:
            raise HubError("invalid_request", "The request does not say which hub asks for what.") from exc
        hub, nonce, sha256, signature = raw
        if len(sha256) != 32 or len(nonce) > NONCE_MAX_BYTES or not 0 <= size < 2**63 or abs(time_us) >= 2**63:
            raise HubError("invalid_request", "A field has not the size that it has.")
        return cls(hub, time_us, nonce, sha256, size, signature)

    def signed(self, method: str, path: str) -> bytes:
        """The bytes that the hub has signed."""
        what = b"".join(bytes((len(one),)) + one for one in (method.encode(), path.encode()))
        numbers = self.size.to_bytes(8, "big") + self.time_us.to_bytes(8, "big", signed=True)
        return BACKUP_DOMAIN + self.hub + what + self.sha256 + numbers + bytes((len(self.nonce),)) + self.nonce


class BackupShelf:
    """The files of all hubs, below one directory. Everything about them is in their names beside them."""

    def __init__(self, cloud: ReferenceCloud, folder: Path, *, bytes_max: int = BYTES_MAX) -> None:
        self._cloud = cloud
        self._folder = folder
        self._bytes_max = bytes_max
        self._busy = asyncio.Lock()

    async def caller(self, asked: Asked, method: str, path: str, now_us: int) -> HubRow:
        """The enrolled hub that asks, now and for the first time with this nonce; raises `backup.signature`."""

        def work(storage: CloudStorage) -> HubRow | None:
            row = storage.hub(asked.hub)
            if row is None or not signature_holds(row.public_key, asked.signature, asked.signed(method, path)):
                return None
            return row if storage.note_renewal(asked.hub, asked.nonce, now_us) else None

        row: HubRow | None = await self._cloud.read(work)
        if row is None:
            raise refused("backup.signature", "The request is not signed by an enrolled hub, or was made before.")
        return row

    async def store(self, hub: HubRow, id_: str, asked: Asked, body: AsyncIterable[bytes], now_us: int) -> Stored:
        """Store a file whole, synced and compared with the digest that was signed, or not at all.

        The same again is the same answer. Raises `backup.too_large`, `backup.digest`, `backup.other_content`.
        """
        if not _ID.fullmatch(id_):
            raise HubError("invalid_request", "A backup's id is a UUID.")
        if asked.size > self._bytes_max:
            raise HubError("backup.too_large", f"A backup may have {self._bytes_max} bytes here.")
        known = next((one for one in await self._of(hub.hub.hex()) if one.id == id_), None)
        if known is not None:
            if known.sha256 != asked.sha256.hex():
                raise HubError("backup.other_content", "Another file is stored under this id.")
            return known
        folder = self._folder / hub.hub.hex()
        part = folder / f"{asked.nonce.hex()}.part"
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
        try:
            await self._write(part, asked, body)
            async with self._busy:
                return await asyncio.to_thread(_shelve, folder, part, id_, asked, now_us)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    async def _write(self, part: Path, asked: Asked, body: AsyncIterable[bytes]) -> None:
        digest, size = hashlib.sha256(), 0
        file = await asyncio.to_thread(part.open, "wb")
        try:
            async for chunk in body:
                size += len(chunk)
                if size > asked.size:
                    break
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_sync, file)
        finally:
            await asyncio.to_thread(file.close)
        if size != asked.size or digest.digest() != asked.sha256:
            raise HubError("backup.digest", "What came is not what was signed; it was thrown away.")

    async def for_store(self, hub: HubRow) -> list[Stored]:
        """What hubs of the same store have left here, newest first."""

        def same_store(storage: CloudStorage) -> list[str]:
            rows = [storage.hub(one) for one in storage.hubs()]
            return [row.hub.hex() for row in rows if row and (row.tenant, row.store) == (hub.tenant, hub.store)]

        found = [stored for one in await self._cloud.read(same_store) for stored in await self._of(one)]
        return sorted(found, key=lambda stored: stored.number, reverse=True)

    async def file(self, hub: HubRow, of: str, id_: str) -> tuple[Path, Stored]:
        """The file for a hub of the same store; raises `backup.gone`."""
        found = next((one for one in await self.for_store(hub) if (one.hub, one.id) == (of, id_)), None)
        if found is None:
            raise HubError("backup.gone", "There is no such backup of this store.")
        return self._folder / of / f"{id_}{SUFFIX}", found

    async def _of(self, hub: str) -> list[Stored]:
        return await asyncio.to_thread(_read_all, self._folder / hub)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _read_all(folder: Path) -> list[Stored]:
    files = folder.glob("*.json") if folder.is_dir() else ()
    return [Stored(**json.loads(one.read_text("utf-8"))) for one in files]


def _shelve(folder: Path, part: Path, id_: str, asked: Asked, now_us: int) -> Stored:
    """Give the file its name, write down what it is, let the oldest go: in an order that a power cut cannot harm."""
    before = sorted(_read_all(folder), key=lambda one: one.number)
    number = before[-1].number + 1 if before else 1
    stored = Stored(asked.hub.hex(), id_, asked.sha256.hex(), asked.size, max(number, now_us))
    part.replace(folder / f"{id_}{SUFFIX}")
    note = folder / f"{id_}.new"
    with note.open("w", encoding="utf-8") as file:
        json.dump(asdict(stored), file)
        _sync(file)
    note.replace(folder / f"{id_}.json")
    for old in before[: max(0, len(before) + 1 - KEPT_FOR_EACH_HUB)]:
        (folder / f"{old.id}.json").unlink()
        (folder / f"{old.id}{SUFFIX}").unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return stored
