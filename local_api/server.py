"""The servers: HTTPS for the LAN, HTTP on loopback, the lamp for the LAN, and the operators' unix socket.

Each listener has an application of its own, so that nothing depends on what a caller's address looks like. Stopping
ends the streams first (`Feed.stop`), for a server waits for its open answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from msgspec import Struct, field

from hubd.errors import ConfigError
from local_api import guard
from local_api.gate import App

GRACE_S = 3
KEEP_ALIVE_S = 75
BACKLOG = 256
SOCKET_MODE = 0o660
MESSAGE_BYTES_MAX = 4_096
"""What a follower may say over a WebSocket; it is not listened to."""


class Door(Struct, frozen=True):
    """One listener: its sockets, its application, and TLS where it has it."""

    name: str
    app: App
    sockets: Sequence[socket.socket]
    tls: ssl.SSLContext | None = None

    @property
    def port(self) -> int:
        """The port of its first socket; 0 for a unix socket."""
        name = self.sockets[0].getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0


def tcp_sockets(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Bound sockets, one an address; raises ConfigError when one is taken. Port 0: any free one, the same for all."""
    found: list[socket.socket] = []
    try:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            one = socket.socket(family, socket.SOCK_STREAM)
            found.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address, port))
            one.listen(BACKLOG)
            one.setblocking(False)
            port = port or int(one.getsockname()[1])
    except OSError as exc:
        for one in found:
            one.close()
        raise ConfigError(
            "config.port_taken",
            f"Cannot listen on port {port}: {exc.strerror}.",
            remedy="See which program has it (`ss -ltnp`), or set another port.",
        ) from exc
    return found


def unix_socket(path: Path) -> socket.socket:
    """The operators' socket, for the service user and its group alone; what an earlier run left is replaced."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        one.bind(str(path))
    except OSError as exc:
        one.close()
        raise ConfigError(
            "config.socket", f"Cannot make the socket {path}: {exc.strerror}.", remedy="Check its directory."
        ) from exc
    finally:
        os.umask(before)
    one.listen(BACKLOG)
    one.setblocking(False)
    return one


def _websocket(**how: Any) -> asyncio.Protocol:
    """Uvicorn's protocol over wsproto, imported at the first upgrade at the latest (`load` it before)."""
    from uvicorn.protocols.websockets.wsproto_impl import WSProtocol

    return WSProtocol(**how)


class _Server(uvicorn.Server):
    """uvicorn behind a guard, and without its signal handlers: the daemon's own decide when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the process's signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on counted sockets, with guarded protocols and a limit for the TLS handshake, as uvicorn cannot."""
        await self.lifespan.startup()
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> guard.GuardedProtocol:
            return guard.GuardedProtocol(config, self.server_state, self.lifespan.state)

        self.servers = [
            await loop.create_server(
                protocol,
                sock=one,
                ssl=config.ssl,
                ssl_handshake_timeout=guard.HANDSHAKE_SECONDS_MAX if config.ssl else None,
                backlog=BACKLOG,
            )
            for one in sockets or []
        ]
        self.started = True


class DoorServer(Struct):
    """Runs one listener; `run` belongs to the supervisor, `stop` ends it in order."""

    door: Door
    _server: _Server | None = field(default=None)

    async def run(self) -> None:
        """Serve until stopped or cancelled. The sockets stay open until `close`, so that it may be run again."""
        crowd = guard.Crowd()
        for name, level in guard.LOG_LEVELS.items():
            logging.getLogger(name).setLevel(level)
        config = uvicorn.Config(
            guard.Doorkeeper(self.door.app, crowd),
            loop="asyncio",
            http=guard.GuardedProtocol,
            ws=_websocket,  # type: ignore[arg-type]  # uvicorn only calls it
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            ws_max_size=MESSAGE_BYTES_MAX,
            ws_per_message_deflate=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=guard.HEAD_BYTES_MAX,
            ssl_context_factory=(lambda _config, _default: self._context()) if self.door.tls else None,
        )
        self._server = _Server(config)
        await self._server.serve(sockets=[guard.CountingListener(one, crowd) for one in self.door.sockets])

    def _context(self) -> ssl.SSLContext:
        assert self.door.tls is not None, "asked only for a door with TLS"
        return self.door.tls

    @property
    def started(self) -> bool:
        """Whether it answers."""
        return self._server is not None and self._server.started

    def stop(self) -> None:
        """Take no more; finish what runs within three seconds. End the streams first."""
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        """Give the sockets back."""
        for one in self.door.sockets:
            one.close()
