"""A real systemd-journald in a mount namespace of its own: its sockets and files never meet the machine's.

Needs root and Debian's systemd. What it stores is read back with the real `journalctl`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.rigs.process import Child, RigError, require_tool, run, wait_for

JOURNALD = Path("/lib/systemd/systemd-journald")
START_TIMEOUT_S = 20.0
PRIVATE = f"mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log && exec {JOURNALD}"


class Journald:
    """The running journal: where to write to, and what it has stored."""

    def __init__(self, root: Path) -> None:
        self.socket = root / "run/systemd/journal/socket"
        self._files = root / "run/log/journal"

    def records(self, **fields: str) -> list[dict[str, Any]]:
        """Stored records whose fields are equal to these."""
        matches = [f"{name}={value}" for name, value in fields.items()]
        text = run(
            require_tool("journalctl", "systemd"), "--directory", self._files, "--all", "-o", "json", *matches
        ).stdout
        return [json.loads(line) for line in text.splitlines()]

    def wait_for_record(self, timeout_s: float, **fields: str) -> dict[str, Any]:
        """The first stored record with these fields."""
        return wait_for(lambda: self.records(**fields), timeout_s, f"a journal record with {fields}")[0]


@contextmanager
def journald() -> Iterator[Journald]:
    """Start it; when the context ends it is gone with everything it stored."""
    if not JOURNALD.exists():
        raise RigError(f"{JOURNALD} is not there; apt-get install systemd")
    unshare = require_tool("unshare", "util-linux")
    with Child([unshare, "--mount", "--propagation", "private", "sh", "-c", PRIVATE]) as child:
        journal = Journald(Path(f"/proc/{child.pid}/root"))
        wait_for(lambda: child.running and journal.socket.exists(), START_TIMEOUT_S, "journald's socket")
        yield journal
