"""`hubctl devices end-of-day NAME`: a technician or manager closes a terminal's batch at night, without a till."""

from __future__ import annotations

import json
from pathlib import Path

from hubd.model.mode import Mode
from hubd.model.payment import Tender
from tests.integration.test_hubctl_statement import hubctl
from tests.rigs.api import served_hub
from tests.unit.services.shop import Terminals, shop_runtime
from tests.unit.services.test_outage import allow_offline, until_mode

NEAR, FAR = "tcp://terminal-1", "tcp://terminal-2"


async def test_a_batch_is_closed_by_name_and_refused_while_money_is_in_the_terminal(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(NEAR)
    async with served_hub(tmp_path, terminals=counter) as hub:
        terminal = await hub.shop.add_terminal(NEAR)
        await hub.shop.until((await hub.shop.take(2000)).payment.id, "approved")
        await hub.shop.take(700, tender=Tender.CASH)
        code, shown = await hubctl(hub, "devices", "end-of-day", "Terminal")
        assert (code, "Payments: 1. Sum: 20.00 EUR." in shown) == (0, True), shown
        assert "Kassenschnitt" in shown, "the terminal prints nothing itself: its receipt is for the people here"
        code, printed = await hubctl(hub, "devices", "end-of-day", terminal, "--json")
        answer = json.loads(printed)
        assert (code, answer["device"], answer["end_of_day"]["count"]) == (0, terminal, 0), printed
        kinds = [entry.kind for entry in simulator.ledger.transactions]
        assert kinds.count("end_of_day") == 2

        simulator.host_up = False
        await until_mode(hub.shop, up=True, mode=Mode.ONLINE)
        await until_mode(hub.shop, up=False, mode=Mode.NETWORK_OUTAGE)
        await allow_offline(hub.shop)
        await hub.shop.until((await hub.shop.take(1500)).payment.id, "stored")
        code, shown = await hubctl(hub, "devices", "end-of-day", "Terminal")
        assert (code, shown) == (1, ""), "the refusal stands on standard error"
        assert len(simulator.ledger.stored()) == 1
        assert [entry.kind for entry in simulator.ledger.transactions].count("end_of_day") == 2


async def test_a_name_that_is_not_exactly_one_terminal_closes_nothing(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulators = [counter.add(NEAR), counter.add(FAR)]
    async with served_hub(tmp_path, terminals=counter) as hub:
        await hub.shop.add_terminal(NEAR)
        await hub.shop.add_terminal(FAR)
        for name in ("Term", "Terminal 3"):
            assert await hubctl(hub, "devices", "end-of-day", name) == (1, "")
        assert all(not one.ledger.transactions for one in simulators)
        code, shown = await hubctl(hub, "devices")
        assert (code, shown.count("Terminal")) == (0, 2), "the list is what it was"
