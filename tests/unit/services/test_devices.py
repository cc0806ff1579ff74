"""Devices: what the configuration says of a terminal reaches its driver and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.base import CURRENCY, PASSWORD
from drivers.sim.zvt import SimulatorOptions
from drivers.zvt import ZvtOptions, ZvtTerminal
from hubd.config_sections import TerminalConfig
from hubd.errors import DeviceError
from hubd.model.device import DeviceKind
from hubd.model.entry import Draft
from hubd.model.payment import ManualStatus
from hubd.services.pairing import PairingRequest
from hubd.store import journal
from tests.unit.services.shop import LOCATION, MANAGER, Shop, Terminals, shop, shop_runtime, till

URL = "tcp://terminal-1"
ELSEWHERE = "tcp://terminal-2"


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


async def test_a_terminal_with_a_password_of_its_own_takes_payments_and_the_journal_never_sees_it(
    tmp_path: Path,
) -> None:
    password = "918273"
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL, SimulatorOptions(password=password))
    other = TerminalConfig("tcp://terminal-2", password="111111")
    async with shop(tmp_path, counter, configured=[other, TerminalConfig(URL, password=password)]) as opened:
        await opened.add_terminal(URL)
        taken = await opened.take(2000)
        await opened.until(taken.payment.id, "approved")
        assert [one.amount_minor for one in simulator.ledger.transactions] == [2000]
    stored = everything_in(tmp_path)
    assert URL.encode() in stored
    assert password.encode() not in stored


async def test_a_terminal_is_registered_in_the_currency_of_its_location(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL, SimulatorOptions(currency="CHF"))
    async with shop(tmp_path, counter) as opened:
        place = {"name": "Genève", "zone": "Europe/Zurich", "currency": "CHF", "country": "CH"}
        await opened.services.db.write(
            "location", lambda tx: journal.append(tx, Draft("location.set", LOCATION, "hub", place))
        )
        terminal = await opened.add_terminal(URL)
        assert simulator.registered_currency == "CHF"
    simulator.registered_currency = ""
    async with shop(tmp_path, counter) as opened:
        await opened.ready(terminal)
        assert simulator.registered_currency == "CHF"


def test_a_currency_that_the_protocol_does_not_know_is_said_so() -> None:
    with pytest.raises(DeviceError) as caught:
        ZvtTerminal(shop_runtime(), {CURRENCY: "XXX"})
    assert caught.value.code == "device.currency_unknown"


@pytest.mark.parametrize("password", ["", "12345", "1234567", "12345a", "١٢٣٤٥٦"])
def test_a_password_that_no_terminal_has_is_refused_without_being_shown(password: str) -> None:
    with pytest.raises(DeviceError, match="six digits") as caught:
        ZvtTerminal(shop_runtime(), {PASSWORD: password})
    assert caught.value.code == "device.password_invalid"
    assert "918273" not in repr(ZvtOptions(password="918273"))


async def paired_till(opened: Shop) -> str:
    pairing = opened.services.pairing
    code = await pairing.open(MANAGER, DeviceKind.TILL)
    pairing.request(PairingRequest(opened.services.runtime.ids.new_id(), code.code, "Till", DeviceKind.TILL))
    confirmed = await pairing.confirm(code.id, MANAGER)
    assert confirmed.device is not None
    return confirmed.device.id


async def test_a_till_with_a_payment_without_outcome_stays_until_it_has_one(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        device, other = await paired_till(opened), await paired_till(opened)
        taken = await opened.take(1014, till(device))
        for state in ("in_progress", "unknown"):
            await opened.until(taken.payment.id, state, "unknown")
            with pytest.raises(DeviceError, match="not confirmed") as caught:
                await opened.services.pairing.remove(device, MANAGER)
            assert caught.value.code == "pending_offline_payments", state
            assert caught.value.params == {"count": 1, "total": 1014, "currency": "EUR"}
        await opened.services.pairing.remove(other, MANAGER)
        assert [view.device.id for view in await opened.services.devices.all() if view.device.id == other] == []
        way, text = ManualStatus.FAILURE, "terminal shows no payment"
        await opened.services.payments.resolve(taken.payment.id, way, text, MANAGER)
        await opened.services.pairing.remove(device, MANAGER)


@pytest.mark.parametrize(("amount", "state"), [(1011, "stored"), (1014, "unknown")])
async def test_a_terminal_with_money_is_not_moved_to_another_address(tmp_path: Path, amount: int, state: str) -> None:
    counter = Terminals(shop_runtime())
    counter.add(URL)
    counter.add(ELSEWHERE)
    async with shop(tmp_path, counter) as opened:
        terminal = await opened.add_terminal(URL)
        devices = opened.services.devices
        moved = await devices.assign(terminal, "Terminal", "", ELSEWHERE, MANAGER)
        assert moved.device.address == ELSEWHERE
        await opened.ready(terminal)
        taken = await opened.take(amount)
        await opened.until(taken.payment.id, state)
        with pytest.raises(DeviceError, match="not confirmed") as caught:
            await devices.assign(terminal, "Terminal", "", URL, MANAGER)
        assert caught.value.code == "pending_offline_payments"
        renamed = await devices.assign(terminal, "Counter", "", ELSEWHERE, MANAGER)
        assert (renamed.device.name, renamed.device.address) == ("Counter", ELSEWHERE)
