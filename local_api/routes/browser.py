"""What the check of a browser asks over HTTPS: a short event stream that shows whether streams reach it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from hubd.services.calendar import rfc3339
from local_api.call import Call, Reply
from local_api.table import RouteSpec

PROBE_EVERY_S = 0.5
PROBES_MAX = 10
"""The second event shows that nothing between holds a stream back until its end; the rest is for slow networks."""


async def get_browser_check(call: Call) -> Reply:
    """A few events, half a second apart, each with the hub's time; nothing else is told."""
    runtime, feed = call.context.services.runtime, call.context.services.feed

    async def events() -> AsyncGenerator[bytes, None]:
        for number in range(1, PROBES_MAX + 1):
            if feed.stopped:
                return
            data = msgspec.json.encode({"number": number, "time": rfc3339(runtime.clock.now_us())})
            yield b"event: check\ndata: " + data + b"\n\n"
            await runtime.clock.sleep(PROBE_EVERY_S)

    return Reply(headers={"x-accel-buffering": "no"}, media_type="text/event-stream", stream=events())


ROUTES = (
    RouteSpec(
        "GET",
        "/v1/browser-check",
        None,
        get_browser_check,
        "A short stream that shows a browser whether events reach it",
        same_host=True,
        stream=True,
        tag="health",
    ),
)
