"""A hub whose printer is offered to the network, in this process: real sockets, the printer's simulator behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers.sim.escpos import EscposSimulator, PrinterOptions
from hubd.model.device import DeviceKind
from hubd.model.print_job import PrintJob, PrintState
from hubd.services.spool import Queue, SpoolDesk
from local_api.server import Door, DoorServer, tcp_sockets
from local_api.spool.ipp import IppApp, IppService
from local_api.spool.raw import RawPort
from tests.rigs.process import wait_until
from tests.unit.services.shop import MANAGER, Shop, Terminals, shop, shop_runtime

PRINTER = "tcp://printer:9100"
HERE = "127.0.0.1"
WAIT_S = 30.0
JOB_BYTES_MAX = 512 * 1024


@dataclass
class SpoolShop:
    """The hub, its printer, and where it listens for tills."""

    shop: Shop
    simulator: EscposSimulator
    desk: SpoolDesk
    queue: Queue
    raw_port: int
    ipp_port: int

    async def jobs(self) -> list[PrintJob]:
        """All print jobs, oldest first."""
        return list(reversed(await self.shop.services.printing.page(None, 500, MANAGER)))

    async def printed(self, count: int) -> list[PrintJob]:
        """All jobs, once there are so many and all of them are on paper."""

        async def all_there() -> list[PrintJob] | None:
            jobs = await self.jobs()
            assert len(jobs) <= count, jobs
            done = [job for job in jobs if job.state is PrintState.PRINTED]
            return jobs if len(done) == count else None

        found = await wait_until(all_there, WAIT_S, f"{count} printed jobs")
        assert found is not None
        return found

    def paper(self) -> list[list[str]]:
        """The lines of each paper that was cut, without the empty ones."""
        columns = self.simulator.options.columns
        cut = [one for one in self.simulator.receipts if one.cut]
        return [[text for line in one.lines if (text := line.plain(columns)).strip()] for one in cut]

    def refusal(self) -> str:
        """Why the last job was not taken; empty if it was."""
        problem = self.shop.problem("print.refused")
        return str(problem.params["reason"]) if problem else ""


def holds(folder: Path, *words: bytes) -> bool:
    """Whether any of these stands in a file there: in the database, its log, or beside them."""
    files = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    assert files, "there is nothing to look at"
    return any(word in content for word in words for content in files)


@asynccontextmanager
async def spool_shop(
    folder: Path, allow: tuple[str, ...] = (HERE,), *, line_s: float = 0.0
) -> AsyncIterator[SpoolShop]:
    """Open it. `allow`: who may print; `line_s`: how long the printer takes for a line."""
    counter = Terminals(shop_runtime())
    simulator = EscposSimulator(counter.runtime, PrinterOptions(line_s=line_s))
    counter.others[PRINTER] = simulator
    async with shop(folder, counter) as opened:
        await opened.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        services = opened.services
        desk = SpoolDesk(services.runtime, services.access, services.peripherals, services.printing, services.problems)
        queue = Queue("The printer", "till", 1, allow, "fr")
        (listening,) = tcp_sockets([HERE], 0)
        service = IppService(services.runtime, desk, services.printing, {"till": queue}, JOB_BYTES_MAX, 8080)
        door = Door("ipp", IppApp(services.runtime, service), tcp_sockets([HERE], 0))
        server = DoorServer(door)
        async with asyncio.TaskGroup() as group:
            port = RawPort(services.runtime.clock, desk, queue, JOB_BYTES_MAX)
            raw = group.create_task(port.run(listening), name="raw")
            ipp = group.create_task(server.run(), name="ipp")
            await wait_until(lambda: server.started, WAIT_S, "the IPP port")
            try:
                yield SpoolShop(opened, simulator, desk, queue, int(listening.getsockname()[1]), door.port)
            finally:
                raw.cancel()
                server.stop()
                await ipp
                server.close()
                listening.close()
