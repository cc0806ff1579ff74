"""SIGKILL at every named step of a job that comes over the network: acknowledged is on disk, and never doubled.

The till is a bare socket, or HTTP for IPP. The end of its connection in order is the acknowledgement; a hub that dies
must not look like that.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hubd.model.ipp import Group, Message, Tag, attribute, decode, encode
from tests.crash.store import ROOT, START_TIMEOUT_S, STEP_TIMEOUT_S, Nursery, Store, open_store
from tests.rigs.process import Child, free_port, wait_until

pytestmark = pytest.mark.timeout(300)
HERE = "127.0.0.1"


class Printer:
    """The printer's simulator as a program of its own, which outlives the hub."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._control = folder / "printer.sock"
        where = ("--tcp", f"{HERE}:{self.port}", "--control", self._control)
        self.child = Child([sys.executable, "-m", "drivers.sim.escpos", *where], cwd=ROOT)

    async def papers(self, mark: str) -> int:
        """How often this stands on paper."""
        reader, writer = await asyncio.open_unix_connection(self._control, limit=2**24)
        writer.write(b'{"cmd": "receipts"}\n')
        receipts = json.loads(await reader.readline())["receipts"]
        writer.close()
        return sum(line.count(mark) for receipt in receipts for line in receipt["lines"])


@dataclass
class SpoolStore:
    """A store whose printer is offered to the network."""

    store: Store
    printer: Printer
    raw_port: int
    ipp_port: int

    async def ready(self) -> None:
        """Wait until the printer is."""

        async def is_ready() -> bool:
            devices = (await self.store.ask("GET", "/v1/devices"))["items"]
            return [one["state"] for one in devices if one["kind"] == "printer"] == ["ready"]

        await wait_until(is_ready, STEP_TIMEOUT_S, "the printer")

    async def jobs(self) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = (await self.store.ask("GET", "/v1/print-jobs"))["items"]
        return found

    def send_raw(self, text: str) -> bool:
        """Print over the raw port; whether it was acknowledged."""
        try:
            with socket.create_connection((HERE, self.raw_port), timeout=STEP_TIMEOUT_S) as line:
                line.sendall(f"{text}\n".encode() + b"\x1dV\x00")
                line.shutdown(socket.SHUT_WR)
                return line.recv(1) == b""
        except ConnectionError:
            return False

    def send_ipp(self, text: str) -> bool:
        """Print by IPP; whether it was acknowledged."""
        uri = f"http://{HERE}:{self.ipp_port}/ipp/print/till"
        head = (
            attribute("attributes-charset", Tag.CHARSET, "utf-8"),
            attribute("attributes-natural-language", Tag.LANGUAGE, "en"),
            attribute("printer-uri", Tag.URI, uri.replace("http", "ipp")),
            attribute("document-format", Tag.MIME, "text/plain"),
        )
        request = encode(Message((1, 1), 0x0002, 1, (Group(Tag.OPERATION, head),), text.encode()))
        try:
            answer = httpx2.post(
                uri, content=request, headers={"content-type": "application/ipp"}, timeout=STEP_TIMEOUT_S
            )
        except httpx2.TransportError:
            return False
        assert answer.status_code == 200
        return decode(answer.content).code == 0

    async def send(self, way: str, text: str) -> bool:
        """Print in either way."""
        return await asyncio.to_thread(self.send_raw if way == "raw" else self.send_ipp, text)


@asynccontextmanager
async def spool_store(nursery: Nursery, folder: Path) -> AsyncIterator[SpoolStore]:
    """Open it, with the printer in use."""
    printer = Printer(folder)
    raw_port, ipp_port = free_port(), free_port()
    config = (
        f"[spool]\nipp_port = {ipp_port}\n"
        f"[[spools]]\nprinter = 'Receipts'\nraw_port = {raw_port}\nqueue = 'till'\nallow = ['{HERE}']\n"
        f"[[terminals]]\naddress = 'tcp://{HERE}:{printer.port}'\ndriver = 'escpos'\nname = 'Receipts'\n"
    )
    printer.child.start()
    try:
        printer.child.wait_for_text("address", START_TIMEOUT_S)
        async with open_store({}, 0, nursery=nursery, config=config) as store:
            opened = SpoolStore(store, printer, raw_port, ipp_port)
            store.process.kill()  # what the configuration names is proposed at a start, once there is a location
            await store.start_hub()
            for device in (await store.ask("GET", "/v1/devices"))["items"]:
                if device["kind"] == "printer":
                    await store.ask("POST", f"/v1/devices/{device['id']}/activate")
            await opened.ready()
            yield opened
    finally:
        printer.child.close()


STEPS = (
    # step, whether the job is on disk, and how often it is on paper in the end
    ("before:print.submit", False, (0, 0)),
    ("inside:print.submit", False, (0, 0)),
    ("committed:print.submit", True, (1, 1)),
    ("after:print.submit", True, (1, 1)),
    ("before:print.start", True, (1, 1)),
    ("committed:print.start", True, (0, 0)),
    ("before:print.outcome", True, (1, 1)),
    ("committed:print.outcome", True, (1, 1)),
)
"""From the start on nobody knows what is on paper, and the hub does not print it again by itself."""


@pytest.mark.parametrize("way", ["raw", "ipp"])
async def test_a_job_survives_a_kill_at_every_step(nursery: Nursery, tmp_path: Path, way: str) -> None:
    async with spool_store(nursery, tmp_path) as opened:
        store = opened.store
        for number, (step, on_disk, (least, most)) in enumerate(STEPS):
            await opened.ready()
            before, mark = len(await opened.jobs()), f"#{way}-{number}#"
            store.kill_at(step)
            acknowledged = await opened.send(way, mark)
            await store.died()
            assert on_disk or not acknowledged, f"{step}: acknowledged and not on disk"
            assert not acknowledged or step.partition(":")[2] != "print.submit", f"{step}: nobody could have said so"
            store.kill_at("")
            await store.start_hub()
            await opened.ready()
            jobs = await opened.jobs()
            assert len(jobs) - before == int(on_disk), step

            async def is_over(step: str = step) -> bool:
                return all(job["state"] in ("printed", "unknown") for job in await opened.jobs())

            await wait_until(is_over, STEP_TIMEOUT_S, f"the end of the job after {step}")
            papers = await opened.printer.papers(mark)
            assert least <= papers <= most, f"{step}: {papers} papers, {await opened.jobs()}"


async def test_what_was_acknowledged_is_there_after_a_kill_in_the_middle_of_many(
    nursery: Nursery, tmp_path: Path
) -> None:
    async with spool_store(nursery, tmp_path) as opened:
        store = opened.store
        store.kill_at("committed:print.submit#7")
        acknowledged = [mark for number in range(12) if await opened.send("raw", mark := f"#{number:02}#")]
        await store.died()
        store.kill_at("")
        await store.start_hub()
        assert 0 < len(acknowledged) < 12
        jobs = await opened.jobs()
        assert len(acknowledged) <= len(jobs) <= len(acknowledged) + 1, "one more may be on disk without a word"
        await opened.ready()

        async def is_over() -> bool:
            return all(job["state"] in ("printed", "unknown") for job in await opened.jobs())

        await wait_until(is_over, STEP_TIMEOUT_S, "the end of the jobs")
        unknown = sum(job["state"] == "unknown" for job in await opened.jobs())
        papers = [await opened.printer.papers(mark) for mark in acknowledged]
        assert all(count <= 1 for count in papers)
        assert sum(papers) >= len(acknowledged) - unknown
