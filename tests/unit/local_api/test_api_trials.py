"""Devices looked at closely over the API: trace, identify, test. What a till may not do, and what moves no money."""

from __future__ import annotations

import asyncio
from pathlib import Path

from drivers.sim.escpos import EscposSimulator
from drivers.sim.scale import ToledoSimulator
from drivers.sim.scanner import SerialScannerSimulator
from hubd.model.device import DeviceKind
from tests.unit.local_api.counter import Counter, counter
from tests.unit.services.shop import WAIT_S, Terminals, shop_runtime

PRINTER, SCALE, SCANNER, TERMINAL = "tcp://printer:9100", "tcp://scale:8217", "tcp://scanner:2000", "tcp://terminal-1"
REFUSED = (403, "access.not_allowed")


async def printed(held: Counter, job: str) -> None:
    clock, administrator = held.shop.services.runtime.clock, held.administrator()
    async with clock.timeout(WAIT_S):
        while (await administrator.get(f"/v1/print-jobs/{job}")).json()["state"] != "printed":
            await clock.sleep(0.01)


async def test_a_printer_says_which_one_it_is_and_prints_a_page_that_is_no_receipt(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = terminals.others[PRINTER] = EscposSimulator(terminals.runtime)
    async with counter(tmp_path, terminals=terminals) as held:
        printer = await held.shop.add_peripheral(PRINTER, "escpos", DeviceKind.PRINTER)
        administrator = held.administrator()
        shown = await administrator.post(f"/v1/devices/{printer}/identify")
        assert shown.status_code == 200, shown.text
        await printed(held, shown.json()["print_job"])
        tested = (await administrator.post(f"/v1/devices/{printer}/test")).json()
        assert (tested["outcome"], tested["good"]) == ("printing", True)
        await printed(held, tested["print_job"])
        papers = ["\n".join(line.plain(42) for line in one.lines) for one in simulator.receipts]
        first, second = [paper for paper in papers if paper.strip()]
        assert "The printer" in first
        assert "TEST" not in first
        assert second.count("TEST") == 2
        assert all(word in second for word in ("€", "é", "no receipt"))
        trace = (await administrator.get(f"/v1/devices/{printer}/trace")).json()["lines"]
        assert {"=", ">", "<"} == {line["way"] for line in trace}
        assert not any("TEST" in line["text"] for line in trace), "what is printed is nobody's business"


async def test_a_scale_is_asked_and_one_without_a_weight_is_well_all_the_same(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = terminals.others[SCALE] = ToledoSimulator(terminals.runtime)
    async with counter(tmp_path, terminals=terminals) as held:
        scale = await held.shop.add_peripheral(SCALE, "toledo8217", DeviceKind.SCALE)
        administrator = held.administrator()
        simulator.grams = 345
        weighed = (await administrator.post(f"/v1/devices/{scale}/test")).json()
        assert (weighed["outcome"], weighed["good"], weighed["grams"]) == ("weight", True, 345)
        simulator.stable = False
        moving = (await administrator.post(f"/v1/devices/{scale}/test")).json()
        assert (moving["outcome"], moving["good"], moving["grams"]) == ("no_weight", True, None)
        assert moving["remedy"]
        no = await administrator.post(f"/v1/devices/{scale}/identify")
        assert (no.status_code, no.json()["code"]) == (409, "device.cannot_show_itself")


async def test_a_scanner_is_waited_for_and_what_it_read_stays_with_its_till(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = terminals.others[SCANNER] = SerialScannerSimulator(terminals.runtime)
    async with counter(tmp_path, terminals=terminals) as held:
        scanner = await held.shop.add_peripheral(SCANNER, "serial_scanner", DeviceKind.SCANNER)
        clock = held.shop.services.runtime.clock
        async with asyncio.TaskGroup() as group, clock.timeout(WAIT_S):
            trial = group.create_task(held.administrator().post(f"/v1/devices/{scanner}/test"))
            while not trial.done():
                await simulator.scan("4006381333931")
                await clock.sleep(0.4)  # a person's pace: the same code at once is the line's double
        told = trial.result().json()
        assert (told["outcome"], told["good"], told["characters"]) == ("scanned", True, 13)
        assert "4006381333931" not in trial.result().text


async def test_a_terminal_gives_a_sign_of_life_and_its_ledger_stays_as_it_was(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = terminals.add(TERMINAL)
    async with counter(tmp_path, terminals=terminals) as held:
        terminal = await held.shop.add_terminal(TERMINAL)
        administrator, head = held.administrator(), held.shop.services.db.head.seq
        before = repr(simulator.ledger.as_json())
        tested = (await administrator.post(f"/v1/devices/{terminal}/test")).json()
        assert (tested["outcome"], tested["good"]) == ("answers", True)
        assert (repr(simulator.ledger.as_json()), held.shop.services.db.head.seq) == (before, head)
        shown = (await administrator.get(f"/v1/devices/{terminal}")).json()
        assert shown["last_answer_s"] < WAIT_S
        assert (shown["known_by"], shown["terminal_number"]) == ("address", "52500038")
        assert "pay" in shown["capabilities"]
        assert shown["software"] == "Simulator sim_1", "the test has asked"
        assert shown["last_problem"] is None
        await simulator.unplug()
        await held.shop.lost(terminal)
        gone = await administrator.post(f"/v1/devices/{terminal}/test")
        assert (gone.status_code, gone.json()["code"]) == (409, "device.gone")
        simulator.replug()
        await held.shop.ready(terminal)
        shown = (await administrator.get(f"/v1/devices/{terminal}")).json()
        assert shown["problem"] is None
        assert shown["last_problem"]["code"] in ("line_lost", "unreachable"), "it is kept when it is over"


async def test_a_trace_is_followed_and_belongs_to_those_who_operate_devices(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    terminals.add(TERMINAL)
    async with counter(tmp_path, terminals=terminals) as held:
        terminal = await held.shop.add_terminal(TERMINAL)
        till, administrator = await held.till(), held.administrator()
        path = f"/v1/devices/{terminal}"
        for answer in (
            await till.get(f"{path}/trace"),
            await till.post(f"{path}/identify"),
            await till.post(f"{path}/test"),
        ):
            assert (answer.status_code, answer.json()["code"]) == REFUSED
        lines = (await administrator.get(f"{path}/trace")).json()["lines"]
        assert any("06 00 registration password hidden" in line["text"] for line in lines)
        last = lines[-1]["number"]
        async with asyncio.TaskGroup() as group:
            follow = group.create_task(administrator.get(f"{path}/trace?after={last}&wait_s=20"))
            await held.administrator().post(f"{path}/test")
        more = follow.result().json()["lines"]
        assert more
        assert all(line["number"] > last for line in more)
        nobody = await administrator.get(f"/v1/devices/{held.new_id()}/trace")
        assert (nobody.status_code, nobody.json()["code"]) == (404, "device_unknown")


async def test_a_terminal_shows_its_name_but_never_to_somebody_who_pays(tmp_path: Path) -> None:
    terminals = Terminals(shop_runtime())
    simulator = terminals.add(TERMINAL)
    async with counter(tmp_path, terminals=terminals) as held:
        terminal = await held.shop.add_terminal(TERMINAL)
        administrator, path = held.administrator(), f"/v1/devices/{terminal}/identify"
        shown = await administrator.post(path)
        assert (shown.status_code, shown.json()) == (200, {"how": "shown", "print_job": None})
        assert simulator.shown == ("This terminal is", "Terminal")
        simulator.shown = ()
        simulator.faults.answer_delay_s = 0.5
        paying = (await held.shop.take(2000)).payment.id
        busy = await administrator.post(path)
        assert (busy.status_code, busy.json()["code"]) == (409, "device.busy")
        simulator.faults.clear()
        await held.shop.until(paying, "approved")
        assert simulator.shown == ()
        simulator.faults.busy_answers = 1
        busy = await administrator.post(path)
        assert (busy.status_code, busy.json()["code"]) == (409, "device.busy"), "its own word"
        books = repr(simulator.ledger.as_json())
        assert (await administrator.post(path)).status_code == 200
        assert repr(simulator.ledger.as_json()) == books
