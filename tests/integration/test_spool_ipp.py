"""Printing by IPP at the hub, with CUPS' own client and its conformance tests as the peer."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import struct
from pathlib import Path

import httpcore2  # noqa: F401 - httpx2 imports it at its first connection, which would be in the event loop
import httpx2
import pytest

from hubd.model.escpos_stream import Kind, pieces_of
from hubd.model.print_job import PrintState
from local_api.spool.ipp_attributes import number_of
from tests.integration.spool_shop import HERE, SpoolShop, holds, spool_shop
from tests.unit.services.shop import MANAGER

CARD = "4111 1111 1111 1111"
TESTS = Path("/usr/share/cups/ipptool")
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.blocking_allowed("the server's first import of its protocol is in the event loop"),
]


async def ipptool(opened: SpoolShop, test: str | Path, file: Path | None = None, **named: str) -> str:
    """Run a file of tests with CUPS' client; its report, with every attribute that was answered."""
    uri = f"ipp://{HERE}:{opened.ipp_port}/ipp/print/till"
    definitions = [word for name, value in named.items() for word in ("-d", f"{name.replace('_', '-')}={value}")]
    files = ["-f", str(file)] if file else []
    running = await asyncio.create_subprocess_exec(
        *("ipptool", "-tvI", "-T", "20", *definitions, *files, uri, str(test)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=TESTS,
        env={**os.environ, "LANG": "C.UTF-8"},
    )
    said, _ = await running.communicate()
    return said.decode()


def failures(report: str) -> list[str]:
    """What failed, with ipptool's reasons; what it says before the first of its tests is a failure too."""
    assert "[PASS]" in report, report
    parts = re.split(r"^ {4}(?=\S.*\[(?:PASS|FAIL|SKIP)\]$)", report, flags=re.M)
    return [part for part in parts[1:] if part.split("\n")[0].endswith("[FAIL]")]


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    """A text to print."""
    file = tmp_path / "letter.txt"
    file.write_text("Grüße vom Café\n" + f"{'TOTAL':<36}3,20 €\n", "utf-8")
    return file


@pytest.mark.parametrize(("suite", "line_s"), [("ipp-1.1.test", 0.0), ("ipp-2.0.test", 0.1)])
async def test_the_conformance_tests_of_cups(tmp_path: Path, letter: Path, suite: str, line_s: float) -> None:
    """The second on a printer that is still busy while it is asked about."""
    async with spool_shop(tmp_path, line_s=line_s) as opened:
        report = await ipptool(opened, suite, letter)
        assert failures(report) == []
        assert report.count("[PASS]") > 20


async def test_a_text_is_printed_and_its_job_is_that_of_the_journal(tmp_path: Path, letter: Path) -> None:
    async with spool_shop(tmp_path) as opened:
        report = await ipptool(opened, "print-job-and-wait.test", letter, filetype="text/plain")
        assert failures(report) == []
        assert "job-state (enum) = completed" in report
        assert opened.paper() == [["Grüße vom Café", f"{'TOTAL':<36}3,20 €"]]
        (job,) = await opened.printed(1)
        assert f"job-uuid (uri) = urn:uuid:{job.id}" in report
        assert "letter" not in (await opened.jobs())[0].title, "names of programs may name people"


@pytest.mark.parametrize("how", ["gzip", "deflate"])
async def test_a_compressed_document(tmp_path: Path, letter: Path, how: str) -> None:
    async with spool_shop(tmp_path) as opened:
        assert failures(await ipptool(opened, f"print-job-{how}.test", letter, filetype="text/plain")) == []
        await opened.printed(1)
        assert opened.paper()[0][0] == "Grüße vom Café"


async def test_bytes_for_the_printer_and_a_copy_of_them(tmp_path: Path) -> None:
    async with spool_shop(tmp_path) as opened:
        file = tmp_path / "receipt.bin"
        file.write_bytes(b"\x1b@\x1ba\x01Centred\n\x1dV\x00")
        assert failures(await ipptool(opened, "print-job.test", file, filetype="application/octet-stream")) == []
        (job,) = await opened.printed(1)
        await opened.shop.services.printing.again(job.id, "", MANAGER)
        await opened.printed(1)
        first, copy = opened.paper()
        assert [line.strip() for line in first] == ["Centred"]
        assert [line.strip() for line in copy] == ["DUPLICATA", "-" * 42, "Centred"]


REQUEST = """
{
    NAME "{name}"
    OPERATION {operation}
    GROUP operation-attributes-tag
    ATTR charset attributes-charset utf-8
    ATTR naturalLanguage attributes-natural-language en
    ATTR uri printer-uri $uri
    {rest}
}
"""


def request(number: int, operation: str, rest: str) -> str:
    """One test of ipptool's language."""
    filled = REQUEST.replace("{operation}", operation).replace("{name}", f"{number} {operation}")
    return filled.replace("{rest}", rest)


async def test_a_job_and_its_document_apart_are_one_job_however_often_it_is_asked_about(
    tmp_path: Path, letter: Path
) -> None:
    file = tmp_path / "apart.test"
    ask = "ATTR integer job-id $job-id\n"
    send = f"{ask}ATTR boolean last-document true\nATTR mimeMediaType document-format text/plain\nFILE $filename\n"
    steps = (
        ("Create-Job", "ATTR name job-name Mine\nSTATUS successful-ok\nEXPECT job-id"),
        ("Get-Job-Attributes", f"{ask}STATUS successful-ok\nEXPECT job-state WITH-VALUE 3"),
        ("Send-Document", f"{send}STATUS successful-ok\nEXPECT job-state WITH-VALUE 3"),
        ("Send-Document", f"{send}STATUS server-error-multiple-document-jobs-not-supported"),
        ("Get-Job-Attributes", f"{ask}STATUS successful-ok\nEXPECT job-name WITH-VALUE Mine"),
        ("Get-Job-Attributes", "ATTR integer job-id 5\nSTATUS client-error-not-found"),
        ("Get-Jobs", "ATTR keyword which-jobs not-completed\nSTATUS successful-ok\nEXPECT job-id COUNT 1"),
        ("Cancel-Job", f"{ask}STATUS successful-ok"),
        ("Cancel-Job", f"{ask}STATUS client-error-not-possible"),
        ("Get-Job-Attributes", f"{ask}STATUS successful-ok\nEXPECT job-state WITH-VALUE 7"),
    )
    file.write_text("".join(request(number, *step) for number, step in enumerate(steps)))
    async with spool_shop(tmp_path) as opened:
        (printer,) = opened.shop.services.peripherals.all()
        async with printer.lock:  # so that the job waits
            report = await ipptool(opened, file, letter)
        assert failures(report) == []
        (job,) = await opened.jobs()
        assert job.state is PrintState.CANCELLED


async def test_a_job_of_another_till_shows_neither_its_name_nor_can_it_be_cancelled(
    tmp_path: Path, letter: Path
) -> None:
    async with spool_shop(tmp_path) as opened:
        (printer,) = opened.shop.services.peripherals.all()
        async with printer.lock:
            caller = await opened.desk.admit(opened.queue, HERE)
            other = await opened.desk.text(opened.queue, "of another", caller, "192.0.2.9")
            ask = f"ATTR integer job-id {number_of(other.job.id)}\n"
            file = tmp_path / "other.test"
            file.write_text(
                request(1, "Get-Job-Attributes", f'{ask}EXPECT job-name WITH-VALUE "Printed over the network"')
                + request(2, "Cancel-Job", f"{ask}STATUS client-error-forbidden")
            )
            assert failures(await ipptool(opened, file, letter)) == []
        await opened.printed(1)


async def test_what_is_refused_is_said_by_its_status_and_never_written(tmp_path: Path) -> None:
    hub, card, page = tmp_path / "hub", tmp_path / "card.txt", tmp_path / "page.pdf"
    hub.mkdir()
    async with spool_shop(hub) as opened:
        card.write_text(f"Kept nowhere\nCard {CARD}\n")
        page.write_bytes(b"%PDF-1.4")
        report = await ipptool(opened, "print-job.test", card, filetype="text/plain")
        assert "client-error-document-format-error" in report
        assert opened.refusal() == "card_data_refused"
        report = await ipptool(opened, "print-job.test", page, filetype="application/pdf")
        assert "client-error-document-format-not-supported" in report
        assert await opened.jobs() == []
    assert not holds(hub, b"Kept nowhere", b"4111")


async def test_a_stranger_hears_nothing_but_no(tmp_path: Path, letter: Path) -> None:
    async with spool_shop(tmp_path, ("192.0.2.1",)) as opened:
        for test in ("get-printer-attributes.test", "print-job.test"):
            report = await ipptool(opened, test, letter)
            assert "[FAIL]" in report
            assert "printer-name" not in report
        uri = f"http://{HERE}:{opened.ipp_port}/ipp/print/till"
        async with httpx2.AsyncClient() as client:
            answer = await client.post(uri, content=bytes(9), headers={"content-type": "application/ipp"})
            assert (answer.status_code, answer.content) == (403, b"")
        assert await opened.jobs() == []


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/ipp/print/till", {"content-type": "application/ipp", "origin": "https://evil.test"}, 415),
        ("/ipp/print/till", {"content-type": "text/plain"}, 415),
        ("/ipp/print/other", {"content-type": "application/ipp"}, 404),
        ("/", {"content-type": "application/ipp"}, 200),
    ],
)
async def test_what_is_no_ipp(tmp_path: Path, path: str, headers: dict[str, str], status: int) -> None:
    async with spool_shop(tmp_path) as opened, httpx2.AsyncClient() as client:
        uri = f"http://{HERE}:{opened.ipp_port}{path}"
        answer = await client.post(uri, content=b"\x02\x00\x00\x0b\x00\x00\x00\x07noise", headers=headers)
        assert answer.status_code == status
        if status == 200:
            assert answer.content == b"\x01\x01\x04\x00\x00\x00\x00\x07\x03", "a bad request, with its own number"
        assert (await client.get(uri)).status_code == (404 if status == 404 else 405)
        assert (await client.post(uri, content=bytes(700_000), headers=headers)).status_code in {status, 413}


# -- pictures ----------------------------------------------------------------------------------------------------------

WRITE_PWG = 3


def pwg_raster(file: Path, width: int, rows: list[bytes], *, bits: int, space: int) -> None:
    """A page as CUPS' own library writes it."""
    cups = ctypes.CDLL("libcups.so.2")
    cups.cupsRasterOpen.restype = ctypes.c_void_p
    header = bytearray(1796)
    size = -(-width * bits // 8)
    for at, value in ((276, 203), (280, 203), (340, 1), (352, 180), (356, 300), (372, width), (376, len(rows)),
                      (384, bits), (388, bits), (392, size), (400, space), (420, 1)):  # fmt: skip
        struct.pack_into("I", header, at, value)
    with file.open("wb") as out:
        raster = ctypes.c_void_p(cups.cupsRasterOpen(out.fileno(), WRITE_PWG))
        assert cups.cupsRasterWriteHeader2(raster, bytes(header)) == 1
        for row in rows:
            assert cups.cupsRasterWritePixels(raster, row, size) == size
        cups.cupsRasterClose(raster)


@pytest.mark.parametrize("bits", [8, 1])
async def test_a_picture_of_a_driverless_client(tmp_path: Path, bits: int) -> None:
    width, height, file = 400, 600, tmp_path / "page.pwg"
    dark = [[column % 97 < row % 53 and row < 500 for column in range(width)] for row in range(height)]
    packed = [int("".join("01"[dot] for dot in row), 2).to_bytes(width // 8, "big") for row in dark]
    grey = [bytes(20 if dot else 240 for dot in row) for row in dark]
    pwg_raster(file, width, grey if bits == 8 else packed, bits=bits, space=18 if bits == 8 else 3)
    async with spool_shop(tmp_path) as opened:
        assert failures(await ipptool(opened, "print-job.test", file, filetype="image/pwg-raster")) == []
        await opened.printed(1)
        (paper,) = (one for one in opened.simulator.receipts if one.cut)
        shown = b"".join(one.data[8:] for one in pieces_of(bytes(paper.raw)) if one.kind is Kind.PICTURE)
        assert shown == b"".join(packed[:500]), "white at the end of a page is left out"
