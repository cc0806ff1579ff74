"""The daemon with printers that are offered to the network: what listens, and what happens when it cannot."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from hubd.daemon import LOOPBACK, running_hub
from local_api.server import tcp_sockets
from tests.integration.test_daemon import WAIT_S, configured
from tests.rigs.process import free_port, port_answers, wait_until
from tests.unit.services.shop import shop_runtime

pytestmark = pytest.mark.blocking_allowed("a daemon makes its sockets at its start, before it trades")


def spools(raw_port: int, ipp_port: int) -> str:
    """A printer that is not in use, at these ports."""
    return (
        f"[spool]\nipp_port = {ipp_port}\n[[spools]]\nprinter = 'Receipts'\nraw_port = {raw_port}\nqueue = 'till'\n"
        "[cloud]\nenabled = false\n"
    )


async def test_nothing_listens_unless_a_printer_is_named(tmp_path: Path) -> None:
    quiet = configured(tmp_path, "[cloud]\nenabled = false\n")
    async with running_hub(quiet, shop_runtime()) as hub:
        assert [worker.name for worker in hub.hub.supervisor if worker.name.startswith("spool")] == []


async def test_a_port_that_is_taken_is_a_problem_and_the_hub_trades_on(tmp_path: Path) -> None:
    raw_port, ipp_port = free_port(), free_port()
    (other,) = tcp_sockets([LOOPBACK], raw_port)
    async with running_hub(configured(tmp_path, spools(raw_port, ipp_port)), shop_runtime()) as hub:
        problems = hub.services.problems
        name = f"spool.raw.0.{LOOPBACK}"
        await wait_until(
            lambda: ("worker.failing", name) in {(one.code, one.subject) for one in problems.present()}, WAIT_S, "it"
        )
        await wait_until(lambda: port_answers(LOOPBACK, ipp_port), WAIT_S, "the IPP port")
        assert port_answers(LOOPBACK, hub.https_port)
        other.close()

        def is_refused() -> bool:
            """The hub has the port now, and lets no stranger in."""
            try:
                with socket.create_connection((LOOPBACK, raw_port), timeout=WAIT_S) as line:
                    line.recv(1)
            except ConnectionResetError:
                return True
            except ConnectionRefusedError:
                return False
            return False

        async def has_the_port() -> bool:
            return await asyncio.to_thread(is_refused)

        await wait_until(has_the_port, WAIT_S, "the hub to have the port")
    assert not port_answers(LOOPBACK, raw_port)
    assert not port_answers(LOOPBACK, ipp_port)
