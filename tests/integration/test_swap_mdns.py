"""A network printer dies, and one that announces itself over mDNS takes its place: real stacks, lines and programs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from drivers.discovery.mdns import MdnsSource
from drivers.transport import open_transport
from hubd.model.print_job import PrintState
from hubd.runtime import SystemClock
from hubd.services.discovery import Found, Standing, places_for
from tests.integration.test_discovery_mdns import LIMIT_S, PRINTER
from tests.integration.test_scales_and_scanners import Simulator
from tests.rigs.process import wait_until
from tests.unit.services.shop import MANAGER, Shop, shop, till
from tests.unit.services.test_printing import a_job, until
from tests.unit.services.test_roles import not_well, printer_ready

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.blocking_allowed("zeroconf opens its sockets and reads interfaces where it is called"),
]


async def seen(opened: Shop, name: str) -> Found:
    """What announces itself under this name, once the hub has judged it."""

    def named() -> list[Found]:
        return [one for one in opened.services.discovery.all() if one.endpoint.name == name]

    await wait_until(lambda: bool(named()), LIMIT_S, name)
    return named()[0]


def paper(printer: Simulator) -> str:
    receipts = printer.tell(cmd="receipts")["receipts"]
    return "\n".join(line for receipt in receipts for line in receipt["lines"])


async def test_a_printer_that_announces_itself_takes_the_place_of_a_dead_one(tmp_path: Path) -> None:
    with ExitStack() as stack:
        printers: dict[str, Simulator] = {}

        def start(name: str) -> None:
            (tmp_path / name).mkdir()
            printers[name] = Simulator(tmp_path / name)
            stack.callback(printers[name].close)
            printers[name].start("escpos", "tcp", "--mdns", name, "--line-s", "0", "--model", "")

        source = MdnsSource(SystemClock(), [PRINTER], lambda: ["127.0.0.1"])
        async with shop(tmp_path, sources=[source], transport=open_transport) as opened:
            start("Swap-first")
            first = await seen(opened, "Swap-first")
            old = await opened.services.discovery.claim(first.id, "Front", "", MANAGER, "escpos")
            await opened.services.devices.activate(old.id, MANAGER)
            await printer_ready(opened, old.id)
            printers["Swap-first"].close()
            await not_well(opened, old.id)
            job = a_job(opened, "waits for the next", printer=old.id)
            await opened.services.printing.submit(job, till())
            start("Swap-second")
            second = await seen(opened, "Swap-second")
            assert second.standing is Standing.CHOOSE, "it does not say that it speaks ESC/POS"
            vacant = await opened.services.roles.vacant(MANAGER)
            assert [view.device.id for view in places_for(second, vacant)] == [old.id]
            new = await opened.services.discovery.claim(second.id, "", "", MANAGER, "escpos", replaces=old.id)
            assert (await until(opened, job.id, PrintState.PRINTED)).printer == new.id
            assert (new.name, paper(printers["Swap-second"]).count("waits for the next")) == ("Front", 1)
