"""What the service manager hears: READY, STATUS, WATCHDOG, STOPPING. Does nothing where there is none.

The watchdog is fed after a round trip through the store, so a hung disk or a hung event loop is a hung hub.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping

from hubd.runtime import Clock

log = logging.getLogger(__name__)

STATUS_CHARS_MAX = 200
FEEDS_PER_LIMIT = 3
"""Feed three times within the manager's limit, so that one slow round trip is not yet an end."""


class ServiceManager:
    """Sends notifications to `NOTIFY_SOCKET`; without it every call does nothing and returns False."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s
        """Limit after which the manager ends the process, None where it does not watch."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None, pid: int | None = None) -> ServiceManager:
        """As the service manager set the environment for this process."""
        environ = os.environ if environ is None else environ
        wanted_pid = environ.get("WATCHDOG_PID", "")
        mine = not wanted_pid or wanted_pid == str(os.getpid() if pid is None else pid)
        limit_us = environ.get("WATCHDOG_USEC", "")
        watches = mine and limit_us.isdigit() and int(limit_us) > 0
        return cls(environ.get("NOTIFY_SOCKET", ""), int(limit_us) / 1_000_000 if watches else None)

    def ready(self, status: str) -> bool:
        """The API answers."""
        return self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(f"STATUS={_one_line(text)}")

    def alive(self) -> bool:
        """Feed the watchdog."""
        return self._send("WATCHDOG=1")

    def extend_start(self, seconds: float) -> bool:
        """Ask for more time before READY, as a migration or a long check may need it."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def stopping(self, status: str) -> bool:
        """The orderly end has begun."""
        return self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def _send(self, message: str) -> bool:
        if not self._address:
            return False
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, kind) as end:
                end.connect(self._address)
                end.sendall(message.encode())
        except OSError as exc:
            # Not being heard must not end a hub that sells; the manager acts on its own if it matters.
            log.warning("service_manager.unheard", extra={"error": exc.strerror})
            return False
        return True


def _one_line(text: str) -> str:
    return " ".join(text.split())[:STATUS_CHARS_MAX]


async def feed_watchdog(manager: ServiceManager, clock: Clock, round_trip: Callable[[], Awaitable[object]]) -> None:
    """Feed the watchdog for ever, each time after `round_trip` has come back; returns at once if nobody watches.

    What `round_trip` raises goes on to the supervisor.
    """
    if manager.watchdog_s is None:
        return
    while True:
        await round_trip()
        manager.alive()
        await clock.sleep(manager.watchdog_s / FEEDS_PER_LIMIT)
