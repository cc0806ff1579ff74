"""`python -m drivers.sim.counter`: several devices of a counter in one process, each as its own program takes it.

    python -m drivers.sim.counter escpos --tcp 127.0.0.1:0 --mdns Printer -- scale --pty /tmp/scale --control /tmp/c

A process of its own for each would cost a Python interpreter and a second of start each. One JSON line a device says
where it is.
"""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Iterator
from itertools import groupby
from typing import Final

from drivers.sim.escpos import __main__ as escpos
from drivers.sim.program import asked_to_stop
from drivers.sim.scale import __main__ as scale
from drivers.sim.scanner import __main__ as scanner

APART = "--"
"""Stands between the arguments of two devices."""
Run = Callable[[Namespace, asyncio.Event], Awaitable[None]]
KINDS: Final[dict[str, tuple[Callable[[list[str]], Namespace], Run]]] = {
    "escpos": (escpos.parse, escpos.run),
    "scale": (scale.parse, scale.run),
    "scanner": (scanner.parse, scanner.run),
}


def devices(words: list[str]) -> Iterator[tuple[Run, Namespace]]:
    """How to run each device. Exits with 2 and a sentence when a kind or an argument is wrong."""
    for apart, group in groupby(words, APART.__eq__):
        if apart:
            continue
        kind, *arguments = group
        if kind not in KINDS:
            sys.stderr.write(f"no device is called {kind}; there are {', '.join(KINDS)}\n")
            sys.exit(2)
        parse, run = KINDS[kind]
        yield run, parse(arguments)


async def serve(words: list[str]) -> None:
    """Run all of them until SIGTERM; what ends one ends all."""
    found, stop = list(devices(words)), asked_to_stop()
    async with asyncio.TaskGroup() as group:
        for run, arguments in found:
            group.create_task(_run(run, arguments, stop), name="simulator:device")


async def _run(run: Run, arguments: Namespace, stop: asyncio.Event) -> None:
    await run(arguments, stop)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
