"""HTTP over the hub's unix socket: the only way in which hubctl asks a running hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hubd import __version__
from hubd.cli.output import Exit, print_error
from hubd.config import Config
from hubd.errors import HubError, Retry

ANSWER_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 3.0
EVENTS_SILENT_S = 45.0
"""A stream that says nothing for so long is dead (docs/reference/events.md)."""
INVALID = 422
"""The hub's status for what cannot be right, whatever its state."""
UNIT = "hubd.service"


class HubUnreachableError(HubError):
    """No hub answers on the socket. `detail` says why, `remedy` is the next command to type."""


class RefusedError(HubError):
    """The hub answered with a problem document."""

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        super().__init__(
            str(document.get("code", f"http.{status}")),
            str(document.get("detail") or document.get("title") or f"The hub answered {status}."),
            remedy=str(document.get("remedy", "")),
            retry=Retry.NEVER,
        )
        self.status = status


@dataclass(frozen=True, slots=True)
class Client:
    """Asks the hub whose socket this is."""

    socket: Path
    data: Path

    @classmethod
    def of(cls, config: Config) -> Client:
        """The hub that this configuration describes."""
        return cls(config.paths.socket, config.paths.data)

    def get(self, path: str, **query: Any) -> Any:
        """The answer to GET as JSON. Raises HubUnreachableError, RefusedError."""
        return self.call("GET", path, query={name: value for name, value in query.items() if value is not None})

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
        headers: dict[str, str] | None = None,
    ) -> Any:
        """The answer as JSON, None where it has no body. Raises HubUnreachableError, RefusedError."""
        response = self._send(method, path, body, query or {}, timeout_s, headers)
        document = _document(response)
        if response.status_code >= 400:
            raise RefusedError(response.status_code, document if isinstance(document, dict) else {})
        return document

    def download(self, path: str, file: BinaryIO) -> None:
        """Write the answer to GET into a file as it comes. Raises HubUnreachableError, RefusedError, OSError."""
        import httpx2

        try:
            with self._http(ANSWER_TIMEOUT_S) as http, http.stream("GET", path) as response:
                if response.status_code != httpx2.codes.OK:
                    response.read()
                    document = _document(response)
                    raise RefusedError(response.status_code, document if isinstance(document, dict) else {})
                for chunk in response.iter_bytes():
                    file.write(chunk)
        except httpx2.TransportError as exc:
            raise unreachable(self.socket, self.data) from exc

    def events(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Kind and data of each event of a stream, until the hub ends it. Raises HubUnreachableError, RefusedError."""
        import httpx2

        try:
            with self._http(EVENTS_SILENT_S) as http, http.stream("GET", path) as response:
                if response.status_code != httpx2.codes.OK:
                    response.read()
                    document = _document(response)
                    raise RefusedError(response.status_code, document if isinstance(document, dict) else {})
                kind = ""
                for line in response.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        kind = value
                    elif name == "data":
                        yield kind, json.loads(value)
        except httpx2.TransportError as exc:
            raise unreachable(self.socket, self.data) from exc

    def is_up(self) -> bool:
        """Whether a hub answers."""
        try:
            self._send("GET", "/healthz", None, {}, CONNECT_TIMEOUT_S)
        except HubUnreachableError:
            return False
        return True

    def _http(self, timeout_s: float) -> Any:
        import httpx2

        timeout = httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        transport = httpx2.HTTPTransport(uds=str(self.socket))
        return httpx2.Client(transport=transport, base_url="http://hubd", timeout=timeout)

    def _send(
        self,
        method: str,
        path: str,
        body: Any,
        query: dict[str, Any],
        timeout_s: float,
        headers: dict[str, str] | None = None,
    ) -> Any:
        import httpx2

        try:
            with self._http(timeout_s) as http:
                return http.request(method, path, json=body, params=query, headers=headers)
        except httpx2.TimeoutException as exc:
            raise HubUnreachableError(
                "hub.silent",
                f"The hub has the socket {self.socket} open and did not answer within {timeout_s:g} s.",
                remedy="Look what it does with `hubctl logs`; its watchdog restarts it if it hangs.",
            ) from exc
        except httpx2.TransportError as exc:
            raise unreachable(self.socket, self.data) from exc


def _document(response: Any) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        return {"detail": response.text[:200]}


def warn_of_other_version(hub: dict[str, Any]) -> None:
    """Say once, on standard error, that hubctl and the hub are of different versions."""
    theirs = str(hub.get("version", __version__))
    if theirs != __version__:
        print_error(
            f"Warning: hubctl is {__version__}, the hub that runs is {theirs}; restart the hub after an update."
        )


def exit_code_of(error: HubError) -> Exit:
    """The exit code that belongs to a failure."""
    from hubd.errors import ConfigError

    if isinstance(error, HubUnreachableError):
        return Exit.UNREACHABLE
    misused = isinstance(error, ConfigError) or (isinstance(error, RefusedError) and error.status == INVALID)
    return Exit.USAGE if misused else Exit.UNHEALTHY


# -- why nothing answers -----------------------------------------------------------------------------------------------


def unreachable(socket: Path, data: Path) -> HubUnreachableError:
    """Why nobody answers on the socket, and what to do about it."""
    if _is_closed(socket):
        return _closed(f"You may not use the operators' socket {socket}.")
    unit = service_state()
    if unit.get("ActiveState") == "active":
        return _unheard(socket)
    if unit:
        return _by_service_state(unit)
    if not _is_there(data):
        return HubUnreachableError(
            "hub.not_set_up",
            f"No hub runs here, and {data} does not exist.",
            remedy="Start one with `hubd run`, or try the demo store with `hubd demo`.",
        )
    return HubUnreachableError(
        "hub.not_running",
        f"No hub runs here: nobody answers on {socket}.",
        remedy="Start it with `hubd run`; `hubctl doctor` says what would keep it from starting.",
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return True  # somebody's, in a directory that is closed to us


def _is_closed(socket: Path) -> bool:
    """Whether it is there and not for us; the directory of the service's socket is closed to everybody else."""
    try:
        return socket.exists() and not os.access(socket, os.R_OK | os.W_OK, effective_ids=True)
    except PermissionError:
        return True


def _closed(detail: str) -> HubUnreachableError:
    remedy = "Run `sudo hubctl …`, or once `sudo usermod -aG hubd $USER` and sign in again."
    return HubUnreachableError("hub.socket_closed", detail, remedy=remedy)


def _unheard(socket: Path) -> HubUnreachableError:
    """The service runs: we look for another socket than its own, or may not see it. To root, `sudo` gives nothing."""
    detail = f"The service runs, and nobody answers you on {socket}."
    if os.geteuid() != 0:
        return _closed(detail)
    return HubUnreachableError(
        "hub.not_answering",
        detail,
        remedy="See that hubctl and the service have the same configuration; `hubctl logs` says what the hub does.",
    )


def service_state() -> dict[str, str]:
    """What systemd says of the service; empty where there is no systemd or no such unit."""
    if not Path("/run/systemd/system").exists() or shutil.which("systemctl") is None:
        return {}
    names = "LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,StatusText"
    try:
        done = subprocess.run(
            ["systemctl", "show", UNIT, "-p", names], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    state = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return state if state.get("LoadState") == "loaded" else {}


def _by_service_state(unit: dict[str, str]) -> HubUnreachableError:
    active, result, status = unit.get("ActiveState", ""), unit.get("Result", ""), unit.get("ExecMainStatus", "")
    if active == "activating":
        return HubUnreachableError(
            "hub.starting",
            f"The service is starting ({unit.get('StatusText') or unit.get('SubState')}).",
            remedy="Wait a moment; if it stays so, `hubctl logs` says why.",
        )
    if status == "2":
        return HubUnreachableError(
            "hub.wrong_configuration",
            "The service refused to start: its configuration is wrong.",
            remedy="`hubd check-config --config /etc/hubd/hubd.toml` names the key.",
        )
    if active == "failed":
        return HubUnreachableError(
            "hub.failed",
            f"The service has failed ({result}) after {unit.get('NRestarts', '0')} restarts.",
            remedy="`hubctl logs` shows its last words; then `systemctl reset-failed hubd && systemctl start hubd`.",
        )
    return HubUnreachableError(
        "hub.stopped", f"The service is {active or 'not running'}.", remedy="Start it with `systemctl start hubd`."
    )
