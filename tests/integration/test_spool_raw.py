"""Tills that print at the hub as at a network printer: python-escpos' own network client, nc, and bare sockets."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from escpos.printer import Network
from PIL import Image

from drivers.escpos import EscposPrinter
from drivers.faces import Face
from hubd.errors import PrintError
from hubd.model.device import Capability, DeviceKind
from hubd.model.print_job import PrintState
from hubd.services.pairing import PairingRequest
from local_api.spool import raw
from tests.integration.spool_shop import HERE, WAIT_S, holds, spool_shop
from tests.rigs.process import wait_until
from tests.unit.services.shop import MANAGER

T = TypeVar("T")
CARD = "4111 1111 1111 1111"
RESET = struct.pack("ii", 1, 0)
pytestmark = pytest.mark.blocking_allowed("the till is a library that blocks, in a thread of its own")


async def as_till(work: Callable[[], T]) -> T:
    """Run what a till does, which blocks."""
    return await asyncio.to_thread(work)


def send(port: int, *parts: bytes, reset: bool = False) -> str:
    """Send, close the sending side, and tell how the hub ended the connection: `taken` or `reset`."""
    try:
        with socket.create_connection((HERE, port), timeout=WAIT_S) as line:
            for part in parts:
                line.sendall(part)
            if reset:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return "reset by the till"
            line.shutdown(socket.SHUT_WR)
            while line.recv(100):
                pass
    except OSError as error:
        if (
            isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN
        ):  # reset before the sending side was closed
            return "reset"
        raise
    return "taken"


def network(port: int) -> Network:
    """python-escpos, as a till uses it."""
    made = Network(HERE, port=port, timeout=10)
    made.open()
    return made


def print_receipt(port: int) -> tuple[bool, int]:
    """A whole receipt by python-escpos' network client; what it heard of the printer's state."""
    printer = network(port)
    heard = printer.is_online(), printer.paper_status()
    printer.charcode("CP858")
    printer.set(bold=True, double_width=True, double_height=True, align="center")
    printer.text("Café du Marché\n")
    printer.set_with_default()
    printer.text(f"{'TOTAL':<36}3,20 €\n")
    picture = Image.new("1", (384, 700), 1)
    for row in range(0, 700, 7):
        picture.paste(0, (0, row, 384, row + 3))
    printer.image(picture, impl="bitImageRaster")
    printer.qr("https://x.test/p/1", native=True)
    printer.barcode("4006381333931", "EAN13", width=2)
    heard_after = printer.is_online()
    printer.cashdraw(2)
    printer.cut()
    printer.close()
    return heard[0] and heard_after, heard[1]


async def test_a_receipt_of_another_library_is_printed_as_it_is(tmp_path: Path) -> None:
    async with spool_shop(tmp_path) as opened:
        assert await as_till(lambda: print_receipt(opened.raw_port)) == (True, 2)
        (job,) = await opened.printed(1)
        assert (job.papers, job.title, job.till) == (1, "Printed over the network", "")
        (paper,) = opened.paper()
        assert paper[0].strip() == "Café du Marché"
        assert paper[1] == f"{'TOTAL':<36}3,20 €"
        bands = [line.strip() for line in paper if line.strip().startswith("[384x")]
        assert sum(int(band[5:-1]) for band in bands) == 700
        assert [line.strip() for line in paper[-2:]] == ["https://x.test/p/1", "4006381333931"]
        assert opened.simulator.pulses == [2]


async def test_a_till_that_is_told_of_its_printers_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EscposPrinter, "keep_alive_s", 1.0)
    async with spool_shop(tmp_path) as opened:

        def ask() -> tuple[bool, int]:
            printer = network(opened.raw_port)
            heard = printer.is_online(), printer.paper_status()
            printer.close()
            return heard

        assert await as_till(ask) == (True, 2)
        opened.simulator.load_paper(0)
        await wait_until(
            lambda: not opened.desk.state(opened.queue).works, WAIT_S, "the hub to hear that there is no paper"
        )
        assert await as_till(ask) == (False, 0)
        opened.simulator.load_paper(50)
        await wait_until(lambda: opened.desk.state(opened.queue).works, WAIT_S, "paper")
        assert await as_till(ask) == (True, 1)
        assert await opened.jobs() == [], "a question is no job"


async def test_each_connection_is_a_job_and_what_is_printed_again_says_copy(tmp_path: Path) -> None:
    async with spool_shop(tmp_path) as opened:
        note = b"\x1b@Table 4\n2 x Menu\n\x1dV\x00"
        for _ in range(2):
            assert await as_till(lambda: send(opened.raw_port, note)) == "taken"
        first, second = await opened.printed(2)
        assert first.id != second.id
        assert opened.paper() == [["Table 4", "2 x Menu"]] * 2
        await opened.shop.services.printing.again(second.id, "", MANAGER)
        await opened.printed(2)
        *_, copy = opened.paper()
        assert [line.strip() for line in copy] == ["DUPLICATA", "-" * 42, "Table 4", "2 x Menu"]


async def test_a_job_waits_for_paper_and_the_last_line_needs_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EscposPrinter, "keep_alive_s", 1.0)
    async with spool_shop(tmp_path) as opened:
        opened.simulator.load_paper(0)
        assert await as_till(lambda: send(opened.raw_port, b"no line feed")) == "taken"
        (job,) = await opened.jobs()
        assert job.state in (PrintState.WAITING, PrintState.PRINTING)
        opened.simulator.load_paper()
        await opened.printed(1)
        assert [line.text for line in opened.simulator.receipts[0].lines if line.text] == ["no line feed"]


async def test_a_job_that_is_cut_short_is_none(tmp_path: Path) -> None:
    async with spool_shop(tmp_path) as opened:
        assert await as_till(lambda: send(opened.raw_port, b"Half a rec", reset=True)) == "reset by the till"
        await wait_until(lambda: opened.refusal() == "print_cut_short", WAIT_S, "the hub to say so")
        command = b"Text\n\x1dv0\x00\x30\x00\x10\x00" + bytes(100)
        assert await as_till(lambda: send(opened.raw_port, command)) == "reset", "a picture without its end"
        assert await as_till(lambda: send(opened.raw_port, b"whole\n")) == "taken"
        await opened.printed(1)
        assert opened.refusal() == ""


async def test_netcat_prints_and_one_that_is_killed_does_not(tmp_path: Path) -> None:
    async with spool_shop(tmp_path) as opened:
        command = ["nc", "-N", HERE, str(opened.raw_port)]
        done = await as_till(lambda: subprocess.run(command, input=b"by nc\n", check=True, timeout=WAIT_S))
        assert done.returncode == 0
        await opened.printed(1)
        pipe = asyncio.subprocess.PIPE
        cut = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert cut.stdin is not None
        assert cut.stdout is not None
        cut.stdin.write(b"Text \x10\x04\x01\x1d(k\x30\x00")
        assert await cut.stdout.read(1) == b"\x12", "the hub has heard the beginning"
        cut.kill()
        await cut.wait()
        await wait_until(lambda: opened.refusal() == "print_cut_short", WAIT_S, "the hub to say so")
        assert len(await opened.jobs()) == 1


async def test_a_till_that_holds_its_connection_prints_after_each_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "PAUSE_S", 0.3)
    monkeypatch.setattr(raw, "PAUSE_AFTER_CUT_S", 0.3)
    async with spool_shop(tmp_path) as opened:
        line = await as_till(lambda: socket.create_connection((HERE, opened.raw_port), timeout=WAIT_S))
        with line:
            line.sendall(b"first\n\x1dV\x00")
            await opened.printed(1)
            line.sendall(b"second\n\x1dV\x00")
            await opened.printed(2)
        assert opened.paper() == [["first"], ["second"]]


@pytest.mark.parametrize(
    "data",
    [
        f"Card: {CARD}\n".encode(),
        b"Card: 4111 11\x1bE\x0111 1111\x1b!\x00 1111\n",
        b"\x1dkI\x12{B" + CARD.replace(" ", "").encode(),
        b"\x1dkI\x0a{C" + bytes((41, 11, 11, 11, 11, 11, 11, 11)),
        b"\x1d(k\x13\x001P0" + CARD.replace(" ", "").encode() + b"\x1d(k\x03\x001Q0",
        CARD.replace(" ", "\xa0").encode("cp1252") + b"\n",
        b"\x1bZ" + CARD.encode() + b"\n",
    ],
)
async def test_a_card_number_is_refused_and_never_written(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with spool_shop(tmp_path) as opened:
        head = b"Kept nowhere\n"
        assert await as_till(lambda: send(opened.raw_port, head + data)) == "reset"
        assert opened.refusal() == "card_data_refused"
        assert await opened.jobs() == []
    assert not holds(tmp_path, b"4111", b"Kept nowhere")
    assert "4111" not in caplog.text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"POST / HTTP/1.1\r\nHost: hub\r\n\r\nhello", "not_a_print_job"),
        (b"x" * 600_000, "print_too_long"),
        (b"a line\n" * 10_000, "print_too_long"),
    ],
)
async def test_what_is_no_receipt_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    async with spool_shop(tmp_path) as opened:
        assert await as_till(lambda: send(opened.raw_port, data)) == "reset"
        await wait_until(lambda: opened.refusal() == reason, WAIT_S, "the hub to say so")
        assert await opened.jobs() == []


async def test_who_is_not_known_is_refused_until_a_paired_till_calls_from_there(tmp_path: Path) -> None:
    async with spool_shop(tmp_path, ("paired", "192.0.2.0/24")) as opened:
        assert await as_till(lambda: send(opened.raw_port, b"stranger\n")) == "reset"
        assert opened.refusal() == "", "a stranger raises no problem"
        services = opened.shop.services
        code = await services.pairing.open(MANAGER, DeviceKind.TILL)
        asked = PairingRequest(services.runtime.ids.new_id(), code.code, "Till", DeviceKind.TILL)
        services.pairing.request(asked)
        device = (await services.pairing.confirm(code.id, MANAGER)).device
        assert device is not None
        services.access.called_from(device, "192.0.2.7")
        assert await as_till(lambda: send(opened.raw_port, b"stranger\n")) == "reset", "another address"
        services.access.called_from(device, HERE)
        assert await as_till(lambda: send(opened.raw_port, b"till\n")) == "taken"
        (job,) = await opened.printed(1)
        assert job.till == device.id
        await services.pairing.remove(device.id, MANAGER)
        assert await as_till(lambda: send(opened.raw_port, b"was a till\n")) == "reset"


async def test_one_till_cannot_take_all_connections_nor_print_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spool_shop(tmp_path) as opened:
        held = [socket.create_connection((HERE, opened.raw_port), timeout=WAIT_S) for _ in range(4)]
        try:
            assert await as_till(lambda: send(opened.raw_port, b"one too many\n")) == "reset"
        finally:
            for line in held:
                line.close()

        async def is_taken() -> bool:
            return await as_till(lambda: send(opened.raw_port, b"room again\n")) == "taken"

        await wait_until(is_taken, WAIT_S, "room for a connection")
        monkeypatch.setattr("hubd.services.spool.JOBS_PER_MINUTE_MAX", 3)
        ends = [await as_till(lambda: send(opened.raw_port, b"again\n")) for _ in range(3)]
        assert ends[-1] == "reset"
        assert opened.refusal() == "print_too_fast"


async def test_a_printer_with_another_language_gets_text_but_no_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with spool_shop(tmp_path) as opened:
        assert await as_till(lambda: send(opened.raw_port, b"by its own printer\n")) == "taken"
        (job,) = await opened.printed(1)
        can = opened.shop.services.peripherals.all()[0].face.capabilities - {Capability.PRINT_RAW}
        monkeypatch.setattr(Face, "capabilities", can)
        assert await as_till(lambda: send(opened.raw_port, b"elsewhere\n")) == "reset"
        assert opened.refusal() == "print_format_unknown"
        with pytest.raises(PrintError, match="does not take ESC/POS"):
            await opened.shop.services.printing.again(job.id, "", MANAGER)
        caller = await opened.desk.admit(opened.queue, HERE)
        await opened.desk.text(opened.queue, "as text", caller, HERE)
        await opened.printed(2)
