"""Simulated card terminals, all in one process: `python -m bench.terminals PORT …`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from drivers.sim.zvt.engine import SimulatorOptions, ZvtSimulator
from drivers.transport.stream import AsyncioStream
from drivers.transport.tcp import prepare_socket
from hubd.runtime import system_runtime

FIRST_NUMBER = 52_500_000


async def _accept(engine: ZvtSimulator, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    prepare_socket(writer.get_extra_info("socket"))
    stream = AsyncioStream(reader, writer)
    try:
        await engine.serve(stream)
    finally:
        await stream.close()


async def serve(ports: Sequence[int]) -> None:
    """A terminal at each port, for ever."""
    runtime = system_runtime()
    async with AsyncExitStack() as stack:
        for number, port in enumerate(ports):
            engine = ZvtSimulator(runtime, SimulatorOptions(terminal_id=str(FIRST_NUMBER + number)))
            await stack.enter_async_context(await asyncio.start_server(partial(_accept, engine), "127.0.0.1", port))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve([int(word) for word in sys.argv[1:]]))
