"""The nexo driver over real TLS against the simulator as a program of its own, and who is refused there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from drivers.base import PASSWORD
from drivers.nexo import NexoTerminal
from drivers.transport import open_transport
from hubd.errors import ConfigError, DeviceError
from hubd.model.device import DeviceState
from hubd.model.money import Money
from hubd.ports import (
    Approved,
    Cancelled,
    EnquiryRequest,
    Found,
    Inconclusive,
    NotStarted,
    NotTaken,
    Progress,
    ReverseRequest,
    Stored,
    Unknown,
)
from tests.rigs.process import wait_until
from tests.rigs.terminal import STATE_TIMEOUT_S, Counter, SimulatorProgram, counter

OPTIONS = {
    "poiid": "V400m-52500038",
    "key_identifier": "CryptoKeyIdentifier12345",
    PASSWORD: "p@ssw0rd123456",
}


def program(directory: Path, *options: str) -> SimulatorProgram:
    return SimulatorProgram("drivers.sim.nexo", directory, "--tls-directory", str(directory / "tls"), *options)


def shop(url: str) -> AbstractAsyncContextManager[Counter]:
    return counter(NexoTerminal, url, OPTIONS, until=None)


@pytest.fixture
def simulator(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SimulatorProgram]:
    made = program(tmp_path, *getattr(request, "param", ()))
    yield made
    made.child.close()


@pytest.mark.parametrize("simulator", [(), ("--closes-after-answer",)], indirect=True, ids=["kept", "closed"])
async def test_payments_over_tls(simulator: SimulatorProgram) -> None:
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


async def test_lost_answers_over_tls(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made:
        await made.state(DeviceState.READY)
        for amount, expected in ((1013, Found), (1014, Inconclusive)):
            baseline = await made.terminal.baseline()
            assert isinstance(await made.pay(amount), Unknown)
            request = EnquiryRequest(f"payment-{amount}", Money(amount, "EUR"), baseline)
            assert type(await made.terminal.enquire(request)) is expected
    assert simulator.ledger() == [(1013, "approved"), (1014, "approved")]


async def test_abort_on_a_second_line(simulator: SimulatorProgram) -> None:
    async with shop(simulator.start()) as made, asyncio.TaskGroup() as group:
        await made.state(DeviceState.READY)
        paying = group.create_task(made.pay(1090), name="pay")
        await wait_until(lambda: made.progress == [Progress("started")], STATE_TIMEOUT_S, "the request")
        assert await made.terminal.abort()
        assert isinstance(await paying, Cancelled)
    assert simulator.ledger() == [(1090, "cancelled")]


async def test_a_killed_terminal_comes_back_with_its_books(simulator: SimulatorProgram) -> None:
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


async def test_a_certificate_of_other_roots_is_refused(simulator: SimulatorProgram, tmp_path: Path) -> None:
    url = simulator.start()
    (tmp_path / "other").mkdir()
    other = program(tmp_path / "other")
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
async def test_a_certificate_with_another_name_is_refused(simulator: SimulatorProgram) -> None:
    url = simulator.start()
    with pytest.raises(DeviceError, match=r"device\.certificate_refused.*another name"):
        await open_transport(url)
    async with shop(url) as made:
        await made.state(DeviceState.FAULTY)
        assert isinstance(await made.pay(500), NotStarted)
    assert simulator.ledger() == []


@pytest.mark.parametrize("simulator", [LEGACY_NAME], indirect=True)
async def test_the_name_of_older_terminals_is_accepted_where_it_is_given(simulator: SimulatorProgram) -> None:
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
