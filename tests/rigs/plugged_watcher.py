"""`python -m tests.rigs.plugged_watcher`: prints what `PluggedSource` sees, a JSON line each, with a monotonic time."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import msgspec

from drivers.discovery.usb import PluggedSource
from hubd.model.device import Endpoint, EndpointKind
from hubd.runtime import system_runtime


class _Printer:
    def appeared(self, endpoint: Endpoint) -> None:
        self._say({"appeared": msgspec.to_builtins(endpoint)})

    def vanished(self, kind: EndpointKind, key: str) -> None:
        self._say({"vanished": key})

    @staticmethod
    def _say(what: dict[str, Any]) -> None:
        print(json.dumps(what | {"at": time.monotonic()}), flush=True)  # noqa: TID251 - a stopwatch of two processes


if __name__ == "__main__":
    asyncio.run(PluggedSource(system_runtime().clock).run(_Printer()))
