"""The till's client: pairing, payments that are taken once however often they are sent, and events."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets  # noqa: TID251 - a till's ids come from its own machine, not from the hub's runtime
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from local_api.client.keeping import KEPT, Keeper
from local_api.client.memory import Memory
from local_api.client.trust import Credential, PairingCode, check_ca, first_context, pinned_context
from local_api.client.wire import HubUnreachableError, ProblemError, Wire

TRIES_MAX = 8
PAUSE_FIRST_S = 0.2
PAUSE_MAX_S = 5.0
STREAM_SILENCE_S = 45.0
"""Three missed pings: the stream is dead."""
WAIT_S = 25


def new_id() -> str:
    """A UUIDv7: made once for each payment, before its first try."""
    raw = bytearray(int(time.time() * 1000).to_bytes(6, "big") + secrets.token_bytes(10))  # noqa: TID251 - as above
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


async def fetch_ca(addresses: tuple[str, ...], fingerprint: str) -> str:
    """The hub's CA certificate, checked against the pinned fingerprint. Nothing else is sent on this connection."""
    async with Wire(addresses, first_context(), Memory()) as wire:
        return check_ca((await wire.send("GET", "/ca.pem")).text, fingerprint)


class Pairing:
    """A pairing under way. `number` must stand on the hub's page too before a person confirms."""

    def __init__(self, code: PairingCode, name: str, kind: str = "till", language: str = "en") -> None:
        self._code = code
        self._body = {"id": new_id(), "code": code.code, "name": name, "kind": kind, "language": language}

    @property
    def number(self) -> str:
        """Six digits from the pinned key: another hub in between would show others."""
        code = self._code.code.replace("-", "").replace(" ", "").upper()
        text = f"hubd.pair.v1\0{self._code.fingerprint}\0{code}\0{self._body['id']}"
        return f"{int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], 'big') % 1_000_000:06d}"

    async def complete(self) -> Credential:
        """Send the code and wait for the person at the page. Raises ProblemError when refused or too late."""
        ca_pem = await fetch_ca(self._code.addresses, self._code.fingerprint)
        async with Wire(self._code.addresses, pinned_context(ca_pem), Memory()) as wire:
            while True:
                answer = await wire.send("POST", "/v1/pairings", json=self._body, headers={"prefer": f"wait={WAIT_S}"})
                if answer.status_code == 201:
                    break
            paired = answer.json()
        return Credential(
            self._code.hub,
            self._code.fingerprint,
            ca_pem,
            self._code.addresses,
            paired["device"],
            paired["token"],
            paired["location"],
        )


class HubClient:
    """One paired till. Every method repeats what may be repeated, and raises ProblemError for what may not."""

    def __init__(self, credential: Credential, memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self._credential = credential
        self._wire = Wire(credential.addresses, pinned_context(credential.ca_pem), self.memory)

    async def __aenter__(self) -> Self:
        """Open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self._wire.__aexit__(kind, error, trace)

    def _headers(self, more: dict[str, str] | None = None) -> dict[str, str]:
        headers = {"authorization": f"Bearer {self._credential.token}", **(more or {})}
        if self.memory.hub_line:
            headers["hub-line"] = self.memory.hub_line
        return headers

    async def get(self, path: str) -> Any:
        """Read something."""
        return (await self._wire.send("GET", path, headers=self._headers())).json()

    async def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Ask for an act."""
        answer = await self._wire.send("POST", path, json=body, headers=self._headers(headers))
        return answer.json() if answer.content else None

    async def pay(self, payment: str, amount: int, currency: str, **more: Any) -> dict[str, Any]:
        """Take or record a payment; returns once the hub has it on disk. The same id again is the same payment.

        A lost answer, and one that leaves open what the hub did, is sent again under the same id, with its number in
        `Attempt`. A hub that was restored is told first what this till holds. `more` are fields of the request: tender,
        method, order, tip, terminal, …
        """
        body = {"amount": {"amount": amount, "currency": currency}, **more}
        return await self._put(f"/v1/payments/{payment}", payment, body)

    async def _put(self, path: str, payment: str, body: dict[str, Any]) -> dict[str, Any]:
        pause = PAUSE_FIRST_S
        for number in range(TRIES_MAX):
            attempt = await self.memory.attempt(payment, body)
            try:
                answer = await self._wire.send("PUT", path, json=body, headers=self._headers({"attempt": str(attempt)}))
            except ProblemError as problem:
                if problem.took_nothing:
                    await self.memory.refused(payment)
                if problem.code == "hub_line_changed":
                    await self.announce()
                elif problem.retry != "same_request" or number == TRIES_MAX - 1:
                    raise
            except HubUnreachableError:
                if number == TRIES_MAX - 1:
                    raise
            else:
                shown: dict[str, Any] = answer.json()
                await self.memory.answered(shown)
                return shown
            await asyncio.sleep(pause)  # noqa: TID251 - a till lives by its own clock
            pause = min(pause * 2, PAUSE_MAX_S)
        raise HubUnreachableError("The hub did not accept the payment; repeat it later under the same id.")

    async def wait(self, payment: str) -> dict[str, Any]:
        """The payment once its outcome is known, or is known to be unknown."""
        while True:
            path = f"/v1/payments/{payment}"
            answer = await self._wire.send("GET", path, headers=self._headers({"prefer": f"wait={WAIT_S}"}))
            shown: dict[str, Any] = answer.json()
            if shown["state"] not in {"requested", "in_progress", "reversal_pending"}:
                await self.memory.answered(shown)
                return shown

    async def announce(self) -> dict[str, Any]:
        """Tell a restored hub what this till holds; what it had forgotten is `unknown` there from now on."""
        answer = await self._wire.send(
            "POST",
            "/v1/announcements",
            json={"payments": self.memory.announcement()},
            headers=self._headers(),
        )
        told: dict[str, Any] = answer.json()
        return told

    async def keep_backup(self, folder: Path, *, kept: int = KEPT) -> Path | None:
        """Hold the hub's newest backup in `folder`, on this device's own disk; the newest `kept` stay there.

        Call it once an hour: what is here already is only confirmed. The hub counts it as a copy off its disk. None if
        the hub has no backup yet. Raises BackupNotKeptError, ProblemError, HubUnreachableError, OSError.
        """
        wait = asyncio.sleep  # noqa: TID251 - a till lives by its own clock
        return await Keeper(self._wire, self._headers, wait, folder).keep(kept)

    async def follow(self, last_id: str = "") -> AsyncGenerator[tuple[str, str, dict[str, Any]]]:
        """Events as (kind, id, data) for ever: reconnects, resumes after the last id, and passes `resync` on."""
        pause = PAUSE_FIRST_S
        while True:
            headers = self._headers({"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {}))
            timeout = httpx2.Timeout(STREAM_SILENCE_S, connect=3.0)
            try:
                async with self._wire.http.stream(
                    "GET", self._wire.url("/v1/events"), headers=headers, timeout=timeout
                ) as answer:
                    if answer.status_code != 200:
                        await answer.aread()
                        raise ProblemError(answer.status_code, answer.json())
                    pause = PAUSE_FIRST_S
                    async for kind, event_id, data in _events(answer):
                        last_id = event_id or last_id
                        yield kind, event_id, data
            except httpx2.TransportError:
                pass
            await asyncio.sleep(pause)  # noqa: TID251 - a till lives by its own clock
            pause = min(pause * 2, PAUSE_MAX_S)


async def _events(answer: httpx2.Response) -> AsyncGenerator[tuple[str, str, dict[str, Any]]]:
    kind, event_id, data = "message", "", ""
    async for line in answer.aiter_lines():
        if not line:
            if data:
                yield kind, event_id, json.loads(data)
            kind, event_id, data = "message", "", ""
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                event_id = value
            elif name == "data":
                data += value
