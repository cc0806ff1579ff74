"""The nexo driver over real TLS against the simulator as a program of its own, and who is refused there."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from drivers.base import PASSWORD
from drivers.faces import RunnerTerminal, face_of
from drivers.nexo import NexoTerminal
from drivers.runner import Runner
from drivers.transport import open_transport
from hubd.errors import ConfigError, DeviceError
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    AuthorizeRequest,
    Cancelled,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Outcome,
    Progress,
    ReverseRequest,
    Stored,
    Unknown,
)
from hubd.runtime import system_runtime
from tests.rigs.process import Child, free_port, wait_until

START_TIMEOUT_S = 30.0
STATE_TIMEOUT_S = 30.0
RUNTIME = system_runtime()
ROOT = Path(__file__).parents[2]
OPTIONS = {
    "poiid": "V400m-52500038",
    "key_identifier": "CryptoKeyIdentifier12345",
    PASSWORD: "p@ssw0rd123456",
}


class Simulator:
    """The simulator's process with its address and its control socket."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._control = directory / "control"
        where = ["--tcp", f"127.0.0.1:{free_port()}", "--tls-directory", str(directory / "tls")]
        files = ["--state-file", str(directory / "ledger"), "--control", str(self._control)]
        self.child = Child([sys.executable, "-m", "drivers.sim.nexo", *where, *files, *options], cwd=ROOT)

    def start(self) -> str:
        """Start (again) and return the address."""
        self._control.unlink(missing_ok=True)
        self.child.start()
        self.child.wait_for_text('"address"', START_TIMEOUT_S)
        address: str = json.loads(self.child.stdout().splitlines()[-1])["address"]
        return address

    def ledger(self) -> list[tuple[int, str]]:
        """Amounts and states by the terminal's own books."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(self._control))
            line.sendall(b'{"cmd": "ledger"}\n')
            with line.makefile() as answers:
                answer: dict[str, Any] = json.loads(answers.readline())
        return [(entry["amount_minor"], entry["state"]) for entry in answer["ledger"]]


class Shop:
    """A runner on a real line."""

    def __init__(self, url: str) -> None:
        self.runner = Runner("t1", NexoTerminal, url, open_transport, RUNTIME, lambda *_: None, OPTIONS)
        face = face_of(self.runner)
        assert isinstance(face, RunnerTerminal)
        self.terminal = face
        self.progress: list[Progress] = []

    async def state(self, state: DeviceState) -> None:
        await wait_until(lambda: self.terminal.status.state is state, STATE_TIMEOUT_S, f"state {state}")

    async def pay(self, amount_minor: int) -> Outcome:
        self.progress.clear()
        request = AuthorizeRequest(f"payment-{amount_minor}", Money(amount_minor, "EUR"))
        return await self.terminal.authorize(request, self.progress.append)


@asynccontextmanager
async def shop(url: str) -> AsyncIterator[Shop]:
    made = Shop(url)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.runner.run(), name="runner")
        try:
            yield made
        finally:
            task.cancel()


@pytest.fixture
def simulator(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Simulator]:
    made = Simulator(tmp_path, *getattr(request, "param", ()))
    yield made
    made.child.close()


@pytest.mark.parametrize("simulator", [(), ("--closes-after-answer",)], indirect=True, ids=["kept", "closed"])
async def test_payments_over_tls(simulator: Simulator) -> None:
    async with shop(simulator.start()) as made:
        await made.state(DeviceState.READY)
        assert made.terminal.status.terminal_id == "V400m-52500038"
        paid = await made.pay(2040)
        assert isinstance(paid, Approved)
        assert isinstance(await made.pay(1011), Stored)
        busy = await made.pay(1020)
        assert isinstance(busy, NotStarted)
        assert busy.reason == "terminal_busy"
        totals = await made.terminal.end_of_day()
        assert (totals.count, totals.total) == (2, Money(3051, "EUR"))
        reversal = ReverseRequest("payment-2040", Money(2040, "EUR"), paid.evidence.receipt_number)
        assert isinstance(await made.terminal.reverse(reversal, lambda _: None), Approved)
    assert simulator.ledger()[:2] == [(2040, "reversed"), (1011, "forwarded")]
    assert simulator.child.stop() == 0


async def test_lost_answers_over_tls(simulator: Simulator) -> None:
    async with shop(simulator.start()) as made:
        await made.state(DeviceState.READY)
        for amount, expected in ((1013, Found), (1014, Inconclusive)):
            baseline = await made.terminal.baseline()
            assert isinstance(await made.pay(amount), Unknown)
            request = EnquiryRequest(f"payment-{amount}", Money(amount, "EUR"), baseline)
            assert type(await made.terminal.enquire(request)) is expected
    assert simulator.ledger() == [(1013, "approved"), (1014, "approved")]


async def test_abort_on_a_second_line(simulator: Simulator) -> None:
    async with shop(simulator.start()) as made, asyncio.TaskGroup() as group:
        await made.state(DeviceState.READY)
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: made.progress == [Progress("started")], STATE_TIMEOUT_S, "the request")
        assert await made.terminal.abort()
        assert isinstance(await paying, Cancelled)
    assert simulator.ledger() == [(1090, "cancelled")]


async def test_a_killed_terminal_comes_back_with_its_books(simulator: Simulator) -> None:
    async with shop(simulator.start()) as made, asyncio.TaskGroup() as group:
        await made.state(DeviceState.READY)
        assert isinstance(await made.pay(500), Approved)
        baseline = await made.terminal.baseline()
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: made.progress == [Progress("started")], STATE_TIMEOUT_S, "the request")
        simulator.child.kill()
        assert isinstance(await paying, Unknown)
        simulator.start()
        await made.state(DeviceState.READY)
        enquiry = await made.terminal.enquire(EnquiryRequest("payment-1090", Money(1090, "EUR"), baseline))
        assert isinstance(enquiry, NotTaken), enquiry
        known = await made.terminal.enquire(EnquiryRequest("payment-500", Money(500, "EUR"), baseline))
        assert isinstance(known, Found), known
    assert simulator.ledger() == [(500, "approved")]


# -- who is refused ----------------------------------------------------------------------------------------------------

OTHER_NAME = ("--common-name", "V400m-1.test.terminal.adyen.com")
LEGACY_NAME = ("--common-name", "legacy-terminal-certificate.test.terminal.adyen.com")


async def test_a_certificate_of_other_roots_is_refused(simulator: Simulator, tmp_path: Path) -> None:
    url = simulator.start()
    (tmp_path / "other").mkdir()
    other = Simulator(tmp_path / "other")
    try:
        strange = url.replace("tls%2Froots.pem", "other%2Ftls%2Froots.pem")
        other.start()
        assert strange != url
        with pytest.raises(DeviceError, match=r"device\.certificate_refused"):
            await open_transport(strange)
        async with shop(strange) as made:
            await made.state(DeviceState.FAULTY)
            assert made.terminal.status.problem == "device.certificate_refused"
            assert made.terminal.status.remedy
    finally:
        other.child.close()


@pytest.mark.parametrize("simulator", [OTHER_NAME], indirect=True)
async def test_a_certificate_with_another_name_is_refused(simulator: Simulator) -> None:
    url = simulator.start()
    with pytest.raises(DeviceError, match=r"device\.certificate_refused.*another name"):
        await open_transport(url)
    async with shop(url) as made:
        await made.state(DeviceState.FAULTY)
        assert isinstance(await made.pay(500), NotStarted)
    assert simulator.ledger() == []


@pytest.mark.parametrize("simulator", [LEGACY_NAME], indirect=True)
async def test_the_name_of_older_terminals_is_accepted_where_it_is_given(simulator: Simulator) -> None:
    url = simulator.start()
    stream = await open_transport(f"{url}&name={LEGACY_NAME[1]}")
    await stream.close()
    with pytest.raises(DeviceError, match=r"device\.certificate_refused"):
        await open_transport(url)


@pytest.mark.parametrize(
    "address",
    [
        "tls://127.0.0.1:8443",
        "tls://127.0.0.1:8443?roots=/dev/null&poiid=V400m-1",
        "tls://127.0.0.1:8443?roots=/no/such/file&poiid=V400m-1",
        "tls://127.0.0.1:8443?roots=/dev/null",
        "tls://127.0.0.1:8443?roots=/dev/null&name=a*b",
        "tls://127.0.0.1?roots=/dev/null&poiid=V400m-1",
        "tls://127.0.0.1:http?roots=/dev/null&poiid=V400m-1",
    ],
)
async def test_unusable_addresses_are_named(address: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.invalid_value"):
        await open_transport(address)
