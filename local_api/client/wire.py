"""HTTP to one hub: its addresses tried in turn, problem documents as exceptions, the hub's line remembered."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import httpcore2  # noqa: F401 - httpx2 imports it at its first connection, which would be in the event loop
import httpx2

from local_api.client.memory import Memory

CONNECT_S = 3.0
ANSWER_S = 40.0
"""Longer than the longest `Prefer: wait`."""


class HubUnreachableError(Exception):
    """No address of the hub answered; whether a request arrived is not known."""


class ProblemError(Exception):
    """The hub refused. `code` is stable; `retry` says what to do: never, same_request, after_enquiry, new_id."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(f"{document.get('code', status)}: {document.get('detail', '')} {document.get('remedy', '')}")
        self.status = status
        self.document = document

    @property
    def code(self) -> str:
        """The stable code."""
        return str(self.document.get("code", ""))

    @property
    def retry(self) -> str:
        """What a program may do next."""
        return str(self.document.get("retry", "never"))

    @property
    def took_nothing(self) -> bool:
        """Whether the hub has done nothing of what was asked.

        Nobody knows after a stop, a fault or a failed commit of its own: that is a lost answer. A disk without room is
        found before anything is written.
        """
        return self.status < HTTPStatus.INTERNAL_SERVER_ERROR or self.status == HTTPStatus.INSUFFICIENT_STORAGE


class Wire:
    """One hub, reached under whichever of its addresses answers; the last good one is tried first."""

    def __init__(self, addresses: tuple[str, ...], context: ssl.SSLContext, memory: Memory) -> None:
        self._addresses = list(addresses)
        self._memory = memory
        self._client = httpx2.AsyncClient(
            verify=context, timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S), trust_env=False
        )

    async def __aenter__(self) -> Self:
        """Open; connections are made as they are needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._client.aclose()

    @property
    def http(self) -> httpx2.AsyncClient:
        """For streams."""
        return self._client

    def url(self, path: str) -> str:
        """The address that answered last."""
        return f"https://{self._addresses[0]}{path}"

    async def send(
        self, method: str, path: str, *, json: Any = None, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        """Send once to the first address that can be reached. Raises ProblemError or HubUnreachableError.

        Another address is tried only while no connection could be made: after that the request may have arrived.
        """
        for _ in range(len(self._addresses)):
            try:
                answer = await self._client.request(method, self.url(path), json=json, headers=headers or {})
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                self._addresses.append(self._addresses.pop(0))
                continue
            except httpx2.TransportError as exc:
                raise HubUnreachableError("The connection to the hub broke; the request may have arrived.") from exc
            return self._checked(answer)
        raise HubUnreachableError("No address of the hub answers.")

    def _checked(self, answer: httpx2.Response) -> httpx2.Response:
        if answer.is_success:
            # A refusal may come from a hub that was restored: only what it accepted moves the till's own place.
            self._memory.hub_line = answer.headers.get("hub-line", self._memory.hub_line)
            return answer
        try:
            document = answer.json()
        except ValueError:
            document = {}
        raise ProblemError(answer.status_code, document if isinstance(document, dict) else {})
