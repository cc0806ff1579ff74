"""The simulated printer is strict where a driver could be wrong, and shows its paper."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - the simulator is given a Runtime made here

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.kit.memory_line import MemoryStream, memory_pipe
from drivers.kit.virtual_time import VirtualClock, run
from drivers.sim.escpos import EscposSimulator, PrinterOptions
from drivers.sim.escpos.__main__ import build, parse
from drivers.sim.escpos.paper import Paper
from drivers.sim.escpos.receiver import Receiver
from hubd.runtime import Runtime, SystemIds

PICTURE = bytes.fromhex("1D 76 30 00 03 00 02 00")


def received(data: bytes, receiver: Receiver | None = None) -> tuple[list[int], list[bytes]]:
    taker = receiver or Receiver()
    asked: list[int] = []
    commands: list[bytes] = []
    for byte in data:
        found = taker.take(byte)
        asked += found[0]
        commands += found[1]
    return asked, commands


def test_status_is_heard_at_once_but_not_in_a_picture() -> None:
    dots = bytes.fromhex("10 04 01 10 04 02")
    assert received(PICTURE + dots + b"\x10\x04\x04") == ([4], [PICTURE + dots])
    assert received(b"\x1bt\x10\x04\x02\x13") == ([2], [b"\x1bt\x13"]), "even between a command and its parameter"
    assert received(b"\x10\x10\x04\x01") == ([1], [])
    assert received(b"\x10\x04\x07A") == ([], [b"\x10\x04", b"\x07", b"A"])


@pytest.mark.parametrize(
    "command",
    [
        "1B 40", "1B 74 13", "1B 70 00 32 32", "1D 56 00", "1D 56 42 03", "1D 6B 02 34 35 00", "1D 6B 49 03 7B 42 41",
        "1D 28 6B 03 00 31 51 30", "1D 72 01", "10 14 01 00 02", "10 05 01", "1D 4C 01 02", "0A", "41", "1C 2E 00",
    ],
)  # fmt: skip
def test_commands_are_as_long_as_they_are(command: str) -> None:
    data = bytes.fromhex(command)
    assert received(data + b"X") == ([], [data, b"X"])


@given(st.binary(max_size=400))
def test_any_bytes_are_survived(data: bytes) -> None:
    paper = Paper(32)
    for command in received(data)[1]:
        if command[:3] != b"\x1d(H":
            assert paper.do(command) >= 0
    assert paper.as_html()
    assert len(paper.as_json()) == len(paper.receipts)


def printed(*commands: bytes, columns: int = 16) -> Paper:
    paper = Paper(columns)
    for command in received(b"".join(commands))[1]:
        paper.do(command)
    return paper


def test_paper_shows_what_a_person_would_see() -> None:
    paper = printed(
        b"\x1b@\x1bt\x13\x1ba\x01Caf\x82\n\x1ba\x02\xd53\n\x1ba\x00\x1b!\x30LARGE LINE\n\x1b!\x00",
        b"a line that is too long\n\x1dV\x42\x1eback\x1b@\n",
    )
    lines = [line["lines"] for line in paper.as_json()]
    assert lines == [
        ["      Café", "              €3", "LARGE LI", "NE", "a line that is t", "oo long", ""],
        [""],
    ]
    assert [receipt.cut for receipt in paper.receipts] == [True, False]


def test_a_page_for_a_browser_escapes_what_was_printed() -> None:
    picture = PICTURE + bytes(6)
    code = b"\x1d(k\x07\x00\x31\x50\x30test\x1d(k\x03\x00\x31\x51\x30"
    page = printed(b"<script>&\n", code, picture, b"\x1dk\x02123\x00", columns=42).as_html()
    assert "<script" not in page
    assert "&lt;script&gt;&amp;" in page
    assert "<svg" in page
    assert "data:image/png;base64,iVBOR" in page
    assert "<span class='barcode'>123</span>" in page


def simulator(options: PrinterOptions) -> EscposSimulator:
    return EscposSimulator(Runtime(VirtualClock(), SystemIds(), random.Random(1), b"s" * 16), options)


async def told(hub: MemoryStream, data: bytes, answer_bytes: int) -> bytes:
    """Say something and read the answer."""
    await hub.write(data)
    heard = b""
    while len(heard) < answer_bytes:
        heard += await hub.read(answer_bytes - len(heard))
    return heard


@pytest.mark.parametrize("serial", [True, False])
def test_a_full_printer_still_says_how_it_is(serial: bool) -> None:
    async def main() -> tuple[bytes, bool, int]:
        made = simulator(PrinterOptions(buffer_bytes=64))
        made.load_paper(0)
        hub, device = memory_pipe()
        async with asyncio.TaskGroup() as group:
            group.create_task(made.serve(device, serial=serial), name="printer")
            asked = b"x" * 100 + b"\x10\x04\x01\x10\x04\x02\x10\x04\x04"
            said = await told(hub, asked, 3)
            made.load_paper()
            await told(hub, b"\n\x1dr\x01", 1)
            await hub.close()
        return said, made.overruns > 0, sum(len(line.text) for line in made.receipts[0].lines)

    said, overrun, printed_count = run(main())
    assert said == bytes.fromhex("1A 32 7E"), "offline, stopped by the end of the paper, at its end"
    assert overrun is serial, "TCP waits, a serial line does not"
    assert printed_count == (64 if serial else 100)


def test_it_takes_one_host_at_a_time() -> None:
    async def main() -> tuple[bytes, bytes]:
        made = simulator(PrinterOptions())
        (first, device), (second, other) = memory_pipe(), memory_pipe()
        async with asyncio.TaskGroup() as group:
            group.create_task(made.serve(device), name="first")
            said = await told(first, b"\x10\x04\x01", 1)
            group.create_task(made.serve(other), name="second")
            refused = await second.read(1)
            await first.close()
        return said, refused

    assert run(main()) == (b"\x12", b"")


def test_control_commands() -> None:
    trouble: list[dict[str, object]] = [
        {"cmd": "paper", "lines": 0},
        {"cmd": "cover", "open": True},
        {"cmd": "offline", "on": True},
        {"cmd": "cutter", "jammed": True},
        {"cmd": "drawer", "open": True},
        {"cmd": "fault", "name": "drawer_stuck", "value": True},
    ]
    remedies: list[dict[str, object]] = [
        {"cmd": "paper"},
        {"cmd": "cover", "open": False},
        {"cmd": "offline", "on": False},
        {"cmd": "cutter", "jammed": False},
        {"cmd": "well"},
        {"cmd": "power_cut"},
        {"cmd": "unplug"},
        {"cmd": "replug"},
    ]

    async def main() -> None:
        made = simulator(PrinterOptions(columns=16))
        for request in trouble:
            assert await made.control(request) == {"ok": True}
        assert made.stopped
        assert await made.control({"cmd": "state"}) == {"paper_lines": 0, "cover_open": True, "drawer_open": True}
        for request in remedies:
            await made.control(request)
        assert [made.stopped, made.faults.drawer_stuck, made.plugged] == [False, False, True]
        receipts = await made.control({"cmd": "receipts"})
        assert receipts == {"receipts": [{"number": 1, "cut": False, "lines": [], "bytes": ""}], "pulses": []}
        assert "<html" in str((await made.control({"cmd": "html"}))["html"])
        made.paper.do(b"A")
        made.paper.do(b"\n")
        seen = await made.control({"cmd": "look", "newest": 1})
        assert seen.pop("paper") == "<article class='uncut'><p class='left'>A</p></article>"
        assert "min-width: 16ch" in str(seen.pop("style"))
        assert seen == {"plugged": True, "paper_lines": 4000, "cover_open": False, "drawer_open": True}
        with pytest.raises(ValueError, match="receipts, html"):
            await made.control({"cmd": "eject"})

    run(main())


def test_the_command_line_describes_the_printer() -> None:
    made = build(parse(["--tcp", "127.0.0.1:0", "--columns", "48", "--no-process-ids", "--fault", "split_bytes=1"]))
    assert (made.options.columns, made.options.process_ids, made.options.paper_status) == (48, False, True)
    assert made.faults.split_bytes == 1
    with pytest.raises(ValueError, match="no fault is called"):
        build(parse(["--pty", "x", "--fault", "fire"]))
