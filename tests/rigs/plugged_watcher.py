"""`python -m tests.rigs.plugged_watcher`: prints what `PluggedSource` sees, a JSON line each, with a monotonic time.

With a path behind it, every list after the first is made, and handed over once that file is there; `PATH.made` says so.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from drivers.discovery.usb import Listed, PluggedSource, list_plugged
from hubd.model.device import Endpoint, EndpointKind
from hubd.runtime import system_runtime
from tests.rigs.process import wait_for

GATE_TIMEOUT_S = 60.0


class _Printer:
    def appeared(self, endpoint: Endpoint) -> None:
        self._say({"appeared": msgspec.to_builtins(endpoint)})

    def vanished(self, kind: EndpointKind, key: str) -> None:
        self._say({"vanished": key})

    @staticmethod
    def _say(what: dict[str, Any]) -> None:
        print(json.dumps(what | {"at": time.monotonic()}), flush=True)  # noqa: TID251 - a stopwatch of two processes


class _Gate:
    """A list that takes its time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lists = 0

    def list(self) -> Listed:
        listed = list_plugged()
        self._lists += 1
        if self._lists > 1:
            self._path.with_suffix(".made").touch()
            wait_for(self._path.exists, GATE_TIMEOUT_S, "the gate to be opened")
        return listed


if __name__ == "__main__":
    scan = _Gate(Path(sys.argv[1])).list if len(sys.argv) > 1 else None
    asyncio.run(PluggedSource(system_runtime().clock, scan).run(_Printer()))
