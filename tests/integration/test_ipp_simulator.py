"""The simulated IPP printer as a program, asked by ipptool, which other people wrote; and by the hub's own driver."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from drivers.ipp import IppPrinter
from drivers.sim.ipp import IppSimulator
from drivers.sim.nexo.certificates import ROOTS, terminal_tls
from drivers.transport.stream import AsyncioStream
from hubd.model.printing import Cut, PrintDocument, Text
from hubd.ports import Printed
from tests.integration.test_escpos_printer import RUNTIME, Simulator, shop
from tests.rigs import pdf
from tests.rigs.process import run

TESTS = """
{ NAME "how it is" OPERATION Get-Printer-Attributes
  GROUP operation-attributes-tag
  ATTR charset attributes-charset utf-8
  ATTR naturalLanguage attributes-natural-language en
  ATTR uri printer-uri $uri
  STATUS successful-ok
  EXPECT printer-state OF-TYPE enum IN-GROUP printer-attributes-tag WITH-VALUE 3
  EXPECT printer-uuid OF-TYPE uri
  EXPECT document-format-supported OF-TYPE mimeMediaType WITH-VALUE application/pdf }
{ NAME "a job" OPERATION Print-Job
  GROUP operation-attributes-tag
  ATTR charset attributes-charset utf-8
  ATTR naturalLanguage attributes-natural-language en
  ATTR uri printer-uri $uri
  ATTR name job-name "Été"
  ATTR mimeMediaType document-format text/plain
  FILE $filename
  STATUS successful-ok
  EXPECT job-id OF-TYPE integer IN-GROUP job-attributes-tag COUNT 1 DEFINE-VALUE job-id
  EXPECT job-state OF-TYPE enum }
{ NAME "its end" OPERATION Get-Job-Attributes
  GROUP operation-attributes-tag
  ATTR charset attributes-charset utf-8
  ATTR naturalLanguage attributes-natural-language en
  ATTR uri printer-uri $uri
  ATTR integer job-id $job-id
  STATUS successful-ok REPEAT-NO-MATCH
  EXPECT job-name WITH-VALUE "Été"
  EXPECT job-state WITH-VALUE 9 REPEAT-NO-MATCH }
{ NAME "no such job" OPERATION Get-Job-Attributes
  GROUP operation-attributes-tag
  ATTR charset attributes-charset utf-8
  ATTR naturalLanguage attributes-natural-language en
  ATTR uri printer-uri $uri
  ATTR integer job-id 9999
  STATUS client-error-not-found }
{ NAME "a format it does not take" OPERATION Print-Job
  GROUP operation-attributes-tag
  ATTR charset attributes-charset utf-8
  ATTR naturalLanguage attributes-natural-language en
  ATTR uri printer-uri $uri
  ATTR mimeMediaType document-format image/jpeg
  FILE $filename
  STATUS client-error-document-format-not-supported }
"""


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[Simulator]:
    made = Simulator(tmp_path, "tcp", module="drivers.sim.ipp")
    yield made
    made.child.close()


def test_ipptool_finds_it_a_printer(simulator: Simulator, tmp_path: Path) -> None:
    uri = simulator.start().replace("tcp://", "ipp://") + "/ipp/print"
    (tmp_path / "printer.test").write_text(TESTS)
    (tmp_path / "text").write_text("Bonjour\r\n")
    done = run("ipptool", "-t", "-f", tmp_path / "text", uri, tmp_path / "printer.test", check=False)
    assert (done.returncode, done.stdout.count("[PASS]")) == (0, 5), done.stdout + done.stderr
    listed = run("ipptool", "-t", uri, "get-completed-jobs.test", check=False)
    assert "[PASS]" in listed.stdout, listed.stdout
    assert [job["name"] for job in simulator.tell(cmd="jobs")["jobs"]] == ["Été"]


async def test_the_hub_prints_pdf_on_it(simulator: Simulator) -> None:
    async with shop(simulator.start(), IppPrinter) as printer:
        assert isinstance(await printer.print(PrintDocument("Receipt 1", (Text("Café 1,20 €"), Cut()))), Printed)
        ((kind, data),) = simulator.tell(cmd="documents")["documents"]
        assert kind == "application/pdf"
        assert pdf.text_of(base64.b64decode(data)) == ["Café 1,20 €"]


@pytest.fixture
def secured(tmp_path: Path) -> ssl.SSLContext:
    return terminal_tls(tmp_path, "printer.shop.test", RUNTIME.clock.now_us())


async def test_the_hub_prints_over_tls(secured: ssl.SSLContext, tmp_path: Path) -> None:
    printer = IppSimulator(RUNTIME)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await printer.serve(AsyncioStream(reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=secured) as server:
        port = server.sockets[0].getsockname()[1]
        query = urlencode({"roots": tmp_path / ROOTS, "name": "printer.shop.test"})
        async with shop(f"tls://127.0.0.1:{port}/ipp/print?{query}", IppPrinter) as face:
            assert isinstance(await face.print(PrintDocument("Receipt 1", (Text("Café"), Cut()))), Printed)
    assert printer.uris == {f"ipps://127.0.0.1:{port}/ipp/print"}
    assert [pdf.text_of(job.document) for job in printer.jobs] == [["Café"]]
