"""Where the demo keeps its sockets; apart, because hubctl needs nothing else of the demo."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from hubd.config import SOCKET_PATH_BYTES_MAX

CONTROL_SOCKET = "demo.sock"
LONGEST_SOCKET = "terminal-1.sock"


def runtime_directory(directory: Path) -> Path:
    """In the demo's directory, or in the temporary one if its path is too long for a socket."""
    inside = directory / "run"
    if len(str(inside / LONGEST_SOCKET).encode()) <= SOCKET_PATH_BYTES_MAX:
        return inside
    return Path(tempfile.gettempdir()) / f"hubd-demo-{hashlib.sha256(str(directory).encode()).hexdigest()[:12]}"


def control_socket(directory: Path) -> Path:
    """The socket through which the story is played."""
    return runtime_directory(directory) / CONTROL_SOCKET
