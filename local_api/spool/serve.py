"""The listeners of the printers that the configuration offers to the network, as workers of the hub."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct

from hubd.config import Config
from hubd.config_sections import SpooledPrinterConfig
from hubd.services.bundle import Services
from hubd.services.spool import Queue, SpoolDesk
from local_api.announce import AnnouncedPrinter
from local_api.server import Door, DoorServer, tcp_sockets
from local_api.spool.ipp import PATH, IppApp, IppService
from local_api.spool.ipp_attributes import FORMATS
from local_api.spool.raw import RawPort

RAW, IPP = "_pdl-datastream._tcp.local.", "_ipp._tcp.local."


class SpoolWorker(Struct, frozen=True):
    """Something to run for ever. A port that is taken fails it, and only it: the hub trades on and says so."""

    name: str
    run: Callable[[], Coroutine[Any, Any, None]]
    ask_to_stop: Callable[[], Coroutine[Any, Any, None]] | None = None


def queue_of(configured: SpooledPrinterConfig) -> Queue:
    """The queue that the configuration describes."""
    one = configured
    return Queue(one.printer, one.queue, one.raw_port, one.allow, one.language)


def spool_workers(config: Config, services: Services) -> list[SpoolWorker]:
    """What is to listen; nothing unless a printer is named under spools."""
    if not config.spools:
        return []
    desk = SpoolDesk(services.runtime, services.access, services.peripherals, services.printing, services.problems)
    job_bytes_max = config.spool.job_kib_max * 1024
    workers = []
    for number, one in enumerate(config.spools):
        if one.raw_port:
            raw = RawPort(services.runtime.clock, desk, queue_of(one), job_bytes_max)
            addresses = [one.address] if one.address else config.api.addresses
            for address in addresses:
                workers.append(SpoolWorker(f"spool.raw.{number}.{address}", _raw(raw, address, one.raw_port)))
    queues = {one.queue: queue_of(one) for one in config.spools if one.queue}
    if queues:
        service = IppService(services.runtime, desk, services.printing, queues, job_bytes_max, config.api.http_port)
        app = IppApp(services.runtime, service)
        port = _IppPort(app, config.api.addresses, config.spool.ipp_port)
        workers.append(SpoolWorker("spool.ipp", port.run, port.ask_to_stop))
    return workers


def _raw(port: RawPort, address: str, number: int) -> Callable[[], Coroutine[Any, Any, None]]:
    async def run() -> None:
        (listening,) = tcp_sockets([address], number)
        with listening:
            await port.run(listening)

    return run


class _IppPort:
    """The server of all queues, made anew at each start: its port may have been taken at the last one."""

    def __init__(self, app: IppApp, addresses: Sequence[str], number: int) -> None:
        self._app = app
        self._addresses = addresses
        self._number = number
        self._server: DoorServer | None = None

    async def run(self) -> None:
        self._server = DoorServer(Door("ipp", self._app, tcp_sockets(self._addresses, self._number)))
        try:
            await self._server.run()
        finally:
            self._server.close()

    async def ask_to_stop(self) -> None:
        if self._server is not None:
            self._server.stop()


def announced_printers(config: Config, services: Services) -> tuple[AnnouncedPrinter, ...]:
    """The queues whose printer is in use now, as mDNS tells them."""
    in_use = {name for one in services.peripherals.all() for name in (one.id, one.role, one.name)}
    found = []
    for one in config.spools:
        if one.printer not in in_use:
            continue
        about = {"txtvers": "1", "qtotal": "1", "ty": one.printer[:60], "Color": "F", "Duplex": "F"}
        if one.raw_port:
            found.append(AnnouncedPrinter(RAW, one.printer, one.raw_port, tuple(about.items())))
        if one.queue:
            formats = ",".join(sorted({kind.partition(";")[0] for kind in FORMATS}))
            more = {"rp": f"{PATH}/{one.queue}".lstrip("/"), "pdl": formats, "air": "none"}
            found.append(AnnouncedPrinter(IPP, one.printer, config.spool.ipp_port, tuple((about | more).items())))
    return tuple(found)
