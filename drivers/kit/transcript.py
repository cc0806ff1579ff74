"""A dialogue whose bytes come from elsewhere (a manual, a recording), played to a driver byte by byte."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from drivers.base import Driver, DriverFactory, Lines
from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock
from hubd.ports import ByteStream, ServeLine
from hubd.runtime import Runtime, SystemIds


async def _no_line() -> ByteStream:
    raise OSError("a transcript has one line")


@asynccontextmanager
async def _nobody_calls() -> AsyncIterator[None]:
    yield


def _listen(_port: int, _serve: ServeLine) -> AbstractAsyncContextManager[None]:
    return _nobody_calls()


NO_LINES = Lines(_no_line, _listen)


async def play(dialogue: list[list[str]], device: MemoryStream) -> None:
    """The device's side: `["hub", HEX]` is read and compared, `["device", HEX]` written, `["cut", ""]` breaks the line.

    Raises AssertionError with both sides where the hub says something else.
    """
    for who, text in dialogue:
        if who == "cut":
            device.cut()
        elif who == "device":
            await device.write(bytes.fromhex(text))
        else:
            expected, heard = bytes.fromhex(text), b""
            while len(heard) < len(expected):
                heard += await device.read(len(expected) - len(heard))
            assert heard == expected, f"the hub said {heard.hex(' ')} and not {text}"


def _dialogue(transcript: Path) -> list[list[str]]:
    content: dict[str, Any] = json.loads(transcript.read_text("utf-8"))
    dialogue: list[list[str]] = content["dialogue"]
    return dialogue


@asynccontextmanager
async def on_transcript(
    driver: DriverFactory, transcript: Path, url: str, options: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Driver]:
    """A driver that was identified by the device of this file (JSON with a `dialogue`); at the end all was said."""
    runtime = Runtime(VirtualClock(), SystemIds(), random.Random(1), b"t" * 16)
    made = driver(runtime, options)
    hub, device = memory_pipe()
    made.attach(hub, url, NO_LINES)
    async with asyncio.TaskGroup() as group:
        played = group.create_task(play(_dialogue(transcript), device), name="device")
        group.create_task(made.pump(), name="pump")
        await made.identify()
        yield made
        await played
        await made.close()
