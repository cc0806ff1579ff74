"""What hangs on a real serial line: simulators as programs on pseudo-terminals, all asked at the same time."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from drivers.probing import find_out
from drivers.registry import load
from drivers.transport import open_transport
from drivers.zvt import ZvtTerminal
from hubd.discovery_ports import Probed, ProbeOutcome
from hubd.ports import Approved, ByteStream
from hubd.runtime import system_runtime
from tests.integration.test_scales_and_scanners import Simulator
from tests.rigs.process import wait_until
from tests.rigs.terminal import counter

CLOCK = system_runtime().clock
REGISTRY = load()
MANIFESTS = [entry.manifest for entry in REGISTRY.entries if entry.manifest is not None]
PROGRAMS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "zvt": ("zvt", (), "zvt"),
    "concert": ("concert", (), "concert"),
    "poslink": ("poslink", (), ""),
    "escpos": ("escpos", (), "escpos"),
    "mute printer": ("escpos", ("--no-status",), ""),
    "toledo8217": ("scale", ("--protocol", "toledo8217", "--grams", "120"), "toledo8217"),
    "cas": ("scale", ("--protocol", "cas", "--grams", "120"), "cas"),
    "cas_stream": ("scale", ("--protocol", "cas_stream", "--grams", "120"), "cas_stream"),
    "scanner": ("scanner", (), ""),
}
TIMEOUT_S = 60.0
pytestmark = pytest.mark.blocking_allowed("it starts programs and speaks with their control sockets")


async def test_every_simulator_is_recognised_or_not_known_and_has_done_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        running: dict[str, tuple[Simulator, str]] = {}
        for name, (kind, options, _) in PROGRAMS.items():
            directory = tmp_path / name.replace(" ", "-")
            directory.mkdir()
            simulator = Simulator(directory)
            stack.callback(simulator.close)
            running[name] = (simulator, simulator.start(kind, "pty", *options).partition("?")[0])
        begun = time.monotonic()  # noqa: TID251 - a stopwatch around real lines
        answers = await asyncio.gather(*(_ask(url) for _, url in running.values()))
        assert time.monotonic() - begun < TIMEOUT_S  # noqa: TID251 - as above
        assert {name: one.driver for name, one in zip(running, answers, strict=True)} == {
            name: driver for name, (_, _, driver) in PROGRAMS.items()
        }
        assert all((one.outcome is ProbeOutcome.RECOGNISED) == bool(one.driver) for one in answers)
        for name in ("zvt", "concert", "poslink"):
            assert running[name][0].tell(cmd="ledger")["ledger"] == [], name
        for name in ("escpos", "mute printer"):
            (receipt,) = running[name][0].tell(cmd="receipts")["receipts"]
            assert receipt["lines"] == [], name
        for name in ("toledo8217", "cas", "cas_stream"):
            scale = running[name][0].tell(cmd="scale")
            assert (scale["grams"], scale["zeroed"]) == (120, 0), name
        (zvt,) = [one for one in answers if one.driver == "zvt"]
        async with counter(ZvtTerminal, f"{running['zvt'][1]}?{zvt.line}") as made:
            assert isinstance(await made.pay(1000), Approved), "nothing of the question is left in the terminal's way"
        concert = REGISTRY.factory("concert")
        async with counter(concert, f"{running['concert'][1]}?baud=9600&stop_bits=1") as made:
            assert isinstance(await made.pay(1000), Approved)


async def _ask(url: str) -> Probed:
    return await find_out(url, MANIFESTS, _open, CLOCK)


async def _open(url: str) -> ByteStream:
    """A simulator that hangs up makes a new pseudo-terminal, which an adapter does not; and these have no parity."""
    await wait_until(Path(urlsplit(url).path).exists, TIMEOUT_S, "the line")
    return await open_transport(url.replace("&data_bits=7&parity=even", ""))


async def test_a_line_that_somebody_has_open_is_not_asked(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path)
    try:
        url = simulator.start("escpos", "pty").partition("?")[0]
        user = await open_transport(f"{url}?baud=9600")
        try:
            with pytest.raises(OSError, match="lock"):
                await _ask(url)
        finally:
            await user.close()
        assert (await _ask(url)).driver == "escpos"
    finally:
        simulator.close()
