"""Devices: what the configuration says of a terminal reaches its driver and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.base import PASSWORD
from drivers.sim.zvt import SimulatorOptions
from drivers.zvt import ZvtOptions, ZvtTerminal
from hubd.config import TerminalConfig
from hubd.errors import DeviceError
from tests.unit.services.shop import Terminals, shop, shop_runtime

URL = "tcp://terminal-1"


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


@pytest.mark.parametrize("password", ["", "12345", "1234567", "12345a", "١٢٣٤٥٦"])
def test_a_password_that_no_terminal_has_is_refused_without_being_shown(password: str) -> None:
    with pytest.raises(DeviceError, match="six digits") as caught:
        ZvtTerminal(shop_runtime(), {PASSWORD: password})
    assert caught.value.code == "device.password_invalid"
    assert "918273" not in repr(ZvtOptions(password="918273"))
