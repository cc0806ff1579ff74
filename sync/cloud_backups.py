"""The hub's side of backups in the cloud: one sealed file, sent whole, and believed stored only when the cloud says so.

    PUT /backups/{id}   over BACKUP | hub | str8 method | str8 path | sha256 | u64 bytes | i64 time_us | bytes8 nonce

The address is the one at which the hub was enrolled. The cloud gets no key with it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from hubd.cloud_ports import Signer
from hubd.errors import Retry, SyncError
from hubd.loading import load
from hubd.runtime import Clock, Runtime
from hubd.store.backup import Made

if TYPE_CHECKING:
    import httpx2

BACKUP_DOMAIN = b"hubd.backup.v1\0"
NONCE_BYTES = 16
SHELF = "/backups"
STEP_BYTES = 256 * 1024
BYTES_S = 1024 * 1024
"""Not faster than this: the shop's line is for its sales."""
SILENCE_MAX_S = 60.0

Place = Callable[[], Awaitable[tuple[str, ssl.SSLContext | bool] | None]]
"""Where the cloud is, and how it is known; None while the hub is not enrolled."""


class _Stored(msgspec.Struct, frozen=True):
    id: str
    sha256: str
    bytes: int


class _List(msgspec.Struct, frozen=True):
    items: list[_Stored]


T = TypeVar("T")


def signed_bytes(hub_id: bytes, method: str, path: str, sha256: bytes, size: int, time_us: int, nonce: bytes) -> bytes:
    """What the hub signs with each request about backups."""
    what = b"".join(bytes((len(one),)) + one for one in (method.encode(), path.encode()))
    numbers = size.to_bytes(8, "big") + time_us.to_bytes(8, "big", signed=True)
    return BACKUP_DOMAIN + hub_id + what + sha256 + numbers + bytes((len(nonce),)) + nonce


class CloudBackups:
    """Sends backups to the cloud in which this hub is enrolled."""

    def __init__(self, runtime: Runtime, signer: Signer, place: Place) -> None:
        self._runtime = runtime
        self._signer = signer
        self._place = place

    @property
    def clock(self) -> Clock:
        """The clock that requests are made by."""
        return self._runtime.clock

    def headers(self, method: str, path: str, sha256: bytes, size: int) -> dict[str, str]:
        """What proves a request; good once."""
        nonce, now_us = self._runtime.ids.token_bytes(NONCE_BYTES), self._runtime.clock.now_us()
        signed = signed_bytes(self._signer.hub_id, method, path, sha256, size, now_us, nonce)
        return {
            "hub-id": self._signer.hub_id.hex(),
            "hub-time": str(now_us),
            "hub-nonce": nonce.hex(),
            "hub-sha256": sha256.hex(),
            "hub-bytes": str(size),
            "hub-signature": self._signer.sign(signed).hex(),
        }

    async def send(self, made: Made) -> bool:
        """Send a backup; True once the cloud has it on disk and says its digest. False while the hub is not enrolled.

        Raises `backup.cloud_unreachable`, and `backup.cloud_refused` for a cloud that takes none or not this one. Asks
        first: a cloud that takes none, or has this one already, is not sent a shop's whole journal.
        """
        place = await self._place()
        if place is None:
            return False
        address, tls = place
        mine = _Stored(made.id, made.sha256, made.size)
        await load("httpx2", "httpcore2")  # the first imports the second at its first connection, in the event loop
        import httpx2

        try:
            async with httpx2.AsyncClient(timeout=SILENCE_MAX_S, verify=tls, base_url=address) as client:
                headers = self.headers("GET", SHELF, bytes(32), 0)
                if mine in read_answer(await client.get(SHELF, headers=headers), _List).items:
                    return True
                path = f"{SHELF}/{made.id}"
                headers = self.headers("PUT", path, bytes.fromhex(made.sha256), made.size)
                headers |= {"content-length": str(made.size), "content-type": "application/octet-stream"}
                stored = read_answer(await client.put(path, content=self._steps(made.path), headers=headers), _Stored)
        except (httpx2.HTTPError, OSError) as exc:
            raise unreachable() from exc
        if stored != mine:
            raise _refused(200)
        return True

    async def _steps(self, path: Path) -> AsyncGenerator[bytes]:
        clock = self._runtime.clock
        file = await asyncio.to_thread(path.open, "rb")
        try:
            begun, sent = clock.monotonic(), 0
            while step := await asyncio.to_thread(file.read, STEP_BYTES):
                yield step
                sent += len(step)
                await clock.sleep(max(0.0, begun + sent / BYTES_S - clock.monotonic()))
        finally:
            await asyncio.to_thread(file.close)


def read_answer(answer: httpx2.Response, wanted: type[T]) -> T:
    """What the cloud says, in this form; raises what another answer means."""
    if answer.status_code >= 500 or answer.status_code == 429:
        raise unreachable()
    if answer.status_code != 200:
        raise _refused(answer.status_code)
    try:
        return msgspec.json.decode(answer.content, type=wanted)
    except msgspec.DecodeError as exc:
        raise _refused(answer.status_code) from exc


def _refused(status: int) -> SyncError:
    return SyncError(
        "backup.cloud_refused",
        f"The cloud did not store the backup ({status}).",
        remedy="Ask who runs the cloud whether it takes backups of this size; meanwhile plug in a stick.",
    )


def unreachable() -> SyncError:
    """The cloud does not answer, or says that it cannot now."""
    return SyncError(
        "backup.cloud_unreachable",
        "The cloud does not take the backup now.",
        remedy="The hub tries again by itself.",
        retry=Retry.SAME_REQUEST,
        retry_after_s=300,
    )
