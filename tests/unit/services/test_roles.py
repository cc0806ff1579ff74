"""A place in the shop outlives the device in it: swapped in one act, and money does not move with the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers.discovery.configured import ConfiguredSource, configured
from drivers.sim.escpos import EscposSimulator
from drivers.sim.escpos.engine import PrinterOptions
from drivers.sim.scale.engine import CasSimulator
from drivers.sim.zvt import SimulatorOptions
from hubd.config_sections import TerminalConfig
from hubd.errors import HubError
from hubd.model.device import DeviceKind, Endpoint, EndpointKind, IdentitySource
from hubd.model.mode import Mode
from hubd.model.payment import CustodyEvent
from hubd.model.print_job import PrintState
from hubd.services import roles
from hubd.services.device_rules import NewDevice
from hubd.services.discovery import Found, Standing, places_for
from tests.simulation.discovery import SimulatedSource, announced
from tests.simulation.plugs import SimulatedPlugs, plugged_printer
from tests.unit.services.shop import (
    LOCATION,
    MANAGER,
    TILL_1,
    TILL_2,
    WAIT_S,
    Shop,
    Terminals,
    shop,
    shop_runtime,
    till,
)
from tests.unit.services.test_discovery import address, found
from tests.unit.services.test_outage import until_mode
from tests.unit.services.test_printing import a_job, paper, until

OWN = f"till:{TILL_1}"
NODE = "lp:///dev/usb/lp0"


async def printer_ready(opened: Shop, device: str) -> None:
    clock = opened.services.runtime.clock
    async with clock.timeout(WAIT_S):
        while (one := opened.services.peripherals.get(device)) is None or one.face.status.state != "ready":
            await clock.sleep(0.005)


async def not_well(opened: Shop, device: str) -> None:
    """Return once the place of this device is offered to others."""
    clock = opened.services.runtime.clock
    async with clock.timeout(WAIT_S):
        while device not in [view.device.id for view in await opened.services.roles.vacant(MANAGER)]:
            await clock.sleep(0.005)


async def use_printer(opened: Shop, role: str = OWN) -> str:
    """Use the one printer that was found at the place of till 1."""
    (one,) = await found(opened)
    device = await opened.services.discovery.claim(one.id, "Front", role, MANAGER)
    await opened.services.devices.activate(device.id, MANAGER)
    await printer_ready(opened, device.id)
    return device.id


async def swap(opened: Shop, one: Found, old: str) -> str:
    device = await opened.services.discovery.claim(one.id, "", "", MANAGER, replaces=old)
    return device.id


def at(opened: Shop, endpoint: Endpoint) -> Found:
    (one,) = [one for one in opened.services.discovery.all() if one.endpoint == endpoint]
    return one


class Bench:
    """Printers that are moved between plugs: the counter believes whoever is at the node, as the kernel does."""

    def __init__(self) -> None:
        self.counter = Terminals(shop_runtime())
        self.plugs = SimulatedPlugs()
        self._sims: dict[str, EscposSimulator] = {}

    def plug(self, endpoint: Endpoint, options: PrinterOptions | None = None) -> EscposSimulator:
        simulator = self._sims.setdefault(endpoint.identity, EscposSimulator(self.counter.runtime, options))
        self.counter.others[endpoint.url] = simulator
        self.plugs.announce(endpoint)
        return simulator

    async def pull(self, endpoint: Endpoint) -> None:
        simulator = self._sims[endpoint.identity]
        del self.counter.others[endpoint.url]
        await simulator.control({"cmd": "unplug"})
        await simulator.control({"cmd": "replug"})
        self.plugs.pull(endpoint)


async def test_a_printer_is_swapped_at_its_plug_in_one_act_with_the_jobs_that_wait(tmp_path: Path) -> None:
    bench, first, second = Bench(), plugged_printer("A1"), plugged_printer("B2")
    before = bench.plug(first)
    async with shop(tmp_path, bench.counter, sources=[bench.plugs]) as opened:
        old = await use_printer(opened)
        await bench.pull(first)
        await not_well(opened, old)
        job = a_job(opened, "kept for the next")
        await opened.services.printing.submit(job, till())
        after = bench.plug(second)
        (one,) = await found(opened)
        assert (one.standing, one.device_id) == (Standing.OFFERED, ""), "another number is another printer"
        assert [view.device.id for view in places_for(one, await opened.services.roles.vacant(MANAGER))] == [old]
        opened.services.devices.follow(old, NODE)
        await not_well(opened, old)
        assert paper(after) == "", "the node of the one before is not the one before"
        new = await swap(opened, one, old)
        await until(opened, job.id, PrintState.PRINTED)
        assert paper(after).count("kept for the next") == 1
        assert paper(before) == ""
        view = await opened.services.devices.get(new)
        assert (view.device.name, view.device.role, view.device.active) == ("Front", OWN, True)
        gone = (await opened.services.devices.get(old)).device
        assert (gone.active, gone.leaving, gone.replaced_by, gone.role) == (False, False, new, "")
        named = a_job(opened, "for the old name", printer=old)
        await opened.services.printing.submit(named, till())
        await until(opened, named.id, PrintState.PRINTED)
        assert paper(after).count("for the old name") == 1
        assert opened.problem("print.waiting") is None
    await bench.pull(second)
    bench.plug(plugged_printer("B2", node="lp3", port="1-4"))
    other = bench.plug(plugged_printer("C3", node="lp0", port="1-1"))
    async with shop(tmp_path, bench.counter, sources=[bench.plugs]) as opened:
        await printer_ready(opened, new)
        await address(opened, new, "lp:///dev/usb/lp3")
        job = a_job(opened, "after the start")
        await opened.services.printing.submit(job, till())
        await until(opened, job.id, PrintState.PRINTED)
        assert paper(after).count("after the start") == 1
        assert paper(other) == "", "what is at the old node now is a stranger"


async def test_two_printers_whose_nodes_are_swapped_by_a_start_print_their_own(tmp_path: Path) -> None:
    bench = Bench()
    left = bench.plug(plugged_printer("L", node="lp0", port="1-1"))
    async with shop(tmp_path, bench.counter, sources=[bench.plugs]) as opened:
        left_id = await use_printer(opened, role=OWN)
        right = bench.plug(plugged_printer("R", node="lp1", port="1-2"))
        await found(opened, 2)
        one = at(opened, plugged_printer("R", node="lp1", port="1-2"))
        right_id = (await opened.services.discovery.claim(one.id, "Right", "place:kitchen", MANAGER)).id
        await opened.services.devices.activate(right_id, MANAGER)
        await printer_ready(opened, right_id)
    await bench.pull(plugged_printer("L", node="lp0", port="1-1"))
    await bench.pull(plugged_printer("R", node="lp1", port="1-2"))
    bench.plug(plugged_printer("L", node="lp1", port="1-1"))
    bench.plug(plugged_printer("R", node="lp0", port="1-2"))
    async with shop(tmp_path, bench.counter, sources=[bench.plugs]) as opened:
        await printer_ready(opened, left_id)
        await printer_ready(opened, right_id)
        for device, words in ((left_id, "to the left"), (right_id, "to the kitchen")):
            job = a_job(opened, words, printer=device)
            await opened.services.printing.submit(job, till())
            await until(opened, job.id, PrintState.PRINTED)
        assert (paper(left).count("to the left"), paper(right).count("to the kitchen")) == (1, 1)
        receipt = a_job(opened, "a receipt")
        await opened.services.printing.submit(receipt, till())
        assert (await until(opened, receipt.id, PrintState.PRINTED)).printer == left_id, (
            "the kitchen prints no receipts"
        )


async def test_a_printer_without_a_number_is_its_plug_and_its_product(tmp_path: Path) -> None:
    bench, first = Bench(), plugged_printer("")
    bench.plug(first)
    async with shop(tmp_path, bench.counter, sources=[bench.plugs]) as opened:
        old = await use_printer(opened)
        await bench.pull(first)
        await not_well(opened, old)
        bench.plug(plugged_printer("", product="0519:0003"))
        (one,) = await found(opened)
        assert (one.standing, one.device_id) == (Standing.OFFERED, "")
        new = await swap(opened, one, old)
        await printer_ready(opened, new)


async def test_a_paper_that_may_be_out_stays_unknown_and_comes_as_a_copy_from_the_next_printer(tmp_path: Path) -> None:
    bench, first, second = Bench(), plugged_printer("A1"), plugged_printer("B2", node="lp1", port="1-2")
    before = bench.plug(first, PrinterOptions(line_s=0.1))
    async with shop(tmp_path, bench.counter, sources=[bench.plugs]) as opened:
        old = await use_printer(opened)
        begun, waits = a_job(opened, "begun", *["and more"] * 40), a_job(opened, "waits")
        await opened.services.printing.submit(begun, till())
        clock = opened.services.runtime.clock
        async with clock.timeout(WAIT_S):
            while "begun" not in paper(before):
                await clock.sleep(0.005)
        await opened.services.printing.submit(waits, till())
        after = bench.plug(second)
        await found(opened, 2)
        await swap(opened, at(opened, second), old)
        await until(opened, waits.id, PrintState.PRINTED)
        job = await until(opened, begun.id, PrintState.UNKNOWN)
        assert (job.printer, paper(after).count("begun")) == (old, 0)
        await opened.services.printing.again(begun.id, "", till())
        await until(opened, begun.id, PrintState.PRINTED)
        assert paper(after).count("begun") == 1
        assert "COPY" in paper(after)


async def test_of_two_candidates_both_are_offered_and_one_takes_the_place(tmp_path: Path) -> None:
    bench, first = Bench(), plugged_printer("A1")
    bench.plug(first)
    async with shop(tmp_path, bench.counter, sources=[bench.plugs]) as opened:
        old = await use_printer(opened)
        await bench.pull(first)
        await not_well(opened, old)
        candidates = [plugged_printer("B2"), plugged_printer("C3", node="lp1", port="1-2")]
        for one in candidates:
            bench.plug(one)
        await found(opened, 2)
        vacant = await opened.services.roles.vacant(MANAGER)
        assert [[v.device.id for v in places_for(at(opened, one), vacant)] for one in candidates] == [[old], [old]]
        new = await swap(opened, at(opened, candidates[1]), old)
        with pytest.raises(HubError, match="has a place here"):
            await swap(opened, at(opened, candidates[0]), old)
        assert await opened.services.roles.vacant(MANAGER) in ([], [await opened.services.devices.get(new)])
        assert at(opened, candidates[0]).standing is Standing.OFFERED


async def test_what_came_back_from_repair_takes_its_place_again(tmp_path: Path) -> None:
    bench, first, second = Bench(), plugged_printer("A1"), plugged_printer("B2")
    before = bench.plug(first)
    async with shop(tmp_path, bench.counter, sources=[bench.plugs]) as opened:
        old = await use_printer(opened)
        await bench.pull(first)
        bench.plug(second)
        (one,) = await found(opened)
        new = await swap(opened, one, old)
        await printer_ready(opened, new)
        await bench.pull(second)
        await not_well(opened, new)
        bench.plug(first)
        (back,) = await found(opened)
        assert (back.standing, back.reason, back.device_id) == (Standing.KNOWN, "replaced", old)
        assert await swap(opened, back, new) == old
        await printer_ready(opened, old)
        job = a_job(opened, "home again", printer=new)
        await opened.services.printing.submit(job, till())
        await until(opened, job.id, PrintState.PRINTED)
        assert paper(before).count("home again") == 1


async def test_settings_of_a_place_are_those_of_whoever_has_it(tmp_path: Path) -> None:
    counter, network = Terminals(shop_runtime()), SimulatedSource()
    narrow = TerminalConfig(address="tcp://old:9100", driver="escpos", name="Bar", options=("columns=32",))
    fixed = ConfiguredSource([configured(narrow.address, "escpos", "Bar", "")])
    service = "_pdl-datastream._tcp.local."
    async with shop(tmp_path, counter, sources=[fixed, network], configured=[narrow]) as opened:
        await opened.services.discovery.consider()
        (old,) = [view.device.id for view in await opened.services.devices.all()]
        simulator = EscposSimulator(counter.runtime)
        counter.others["tcp://new"] = simulator
        network.announce(announced("new", name="Star", number="N-7", service=service))
        await found(opened, 2)
        (one,) = [one for one in opened.services.discovery.all() if one.endpoint.service]
        new = await swap(opened, one, old)
        await printer_ready(opened, new)
        job = a_job(opened, "x" * 40)
        await opened.services.printing.submit(job, till())
        await until(opened, job.id, PrintState.PRINTED)
        assert "x" * 33 not in paper(simulator)
        assert "x" * 32 in paper(simulator)


NEAR, FAR = "terminal-1", "terminal-2"


async def a_counter(opened: Shop, source: SimulatedSource, role: str = OWN) -> str:
    """A terminal found on the network, in use at till 1."""
    source.announce(announced(NEAR, number="SN-1"))
    (one,) = await found(opened)
    device = await opened.services.discovery.claim(one.id, "Counter", role, MANAGER)
    await opened.services.devices.activate(device.id, MANAGER)
    await opened.ready(device.id)
    return device.id


async def swap_terminal(opened: Shop, source: SimulatedSource, old: str) -> str:
    """Another terminal is announced and put in its place; a person activates it."""
    source.announce(announced(FAR, name="Spare", number="SN-2"))
    await found(opened, 2)
    new = await swap(opened, at(opened, announced(FAR, name="Spare", number="SN-2")), old)
    assert (await opened.services.devices.get(new)).device.active is False, "a terminal needs a person"
    for wanted in (old, new):
        assert (await opened.take(2000, terminal=wanted)).payment.state == "refused", "neither takes payments now"
    await opened.services.devices.activate(new, MANAGER)
    await opened.ready(new)
    return new


async def test_a_terminal_with_money_keeps_its_card_until_the_money_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roles, "LOOK_S", 0.05)
    counter, source = Terminals(shop_runtime()), SimulatedSource()
    simulator, spare = counter.add(f"tcp://{NEAR}"), counter.add(f"tcp://{FAR}")
    async with shop(tmp_path, counter, sources=[source]) as opened:
        old = await a_counter(opened, source)
        simulator.host_up = False
        stored = (await opened.take(1011)).payment.id
        await opened.until(stored, "stored")
        new = await swap_terminal(opened, source, old)
    simulator.host_up = True
    async with shop(tmp_path, counter, sources=[source]) as opened:
        await opened.ready(old)
        await opened.ready(new)
        card = await opened.services.devices.get(old)
        assert (card.device.leaving, card.device.active, card.held_count) == (True, False, 1)
        before = simulator.authorizations_received
        await until_mode(opened, up=True, mode=Mode.ONLINE)
        for wanted in (None, new, old):
            taken = await opened.take(2000, terminal=wanted)
            assert (await opened.until(taken.payment.id, "approved")).terminal == new
        other = await opened.take(2000, till(TILL_2))
        assert other.payment.state == "refused", "without a role it is still nobody's"
        assert simulator.authorizations_received == before, "it takes no payment any more"
        assert spare.authorizations_received == 3
        clock = opened.services.runtime.clock
        async with clock.timeout(WAIT_S):
            while (await opened.services.payments.get(stored)).custody != "forwarded":
                await clock.sleep(0.005)
        assert (await opened.services.devices.get(old)).device.leaving, "sent is not answered"
        await opened.verdict(stored, CustodyEvent.CAPTURED)
        async with clock.timeout(WAIT_S):
            while (card := await opened.services.devices.get(old)).device.leaving or card.status is not None:
                await clock.sleep(0.005)
        assert (await opened.services.payments.get(stored)).terminal == old, "its payments remain its own"


async def test_a_manager_closes_a_terminal_that_will_never_send_with_a_reason(tmp_path: Path) -> None:
    counter, source = Terminals(shop_runtime()), SimulatedSource()
    simulator = counter.add(f"tcp://{NEAR}")
    counter.add(f"tcp://{FAR}")
    async with shop(tmp_path, counter, sources=[source]) as opened:
        old = await a_counter(opened, source)
        simulator.host_up = False
        stored = (await opened.take(1011)).payment.id
        await opened.until(stored, "stored")
        with pytest.raises(HubError, match="has its place"):
            await opened.services.roles.close(old, "it burnt", MANAGER)
        new = await swap_terminal(opened, source, old)
        await simulator.unplug()
        with pytest.raises(HubError, match="reason"):
            await opened.services.roles.close(old, "", MANAGER)
        with pytest.raises(HubError, match=r"may not do this"):
            await opened.services.roles.close(old, "it burnt", till())
        closed = await opened.services.roles.close(old, "it burnt", MANAGER)
        assert (closed.device.leaving, closed.status, closed.device.replaced_by) == (False, None, new)
        payment = await opened.services.payments.get(stored)
        assert (payment.state, payment.custody, payment.terminal) == ("stored", "held", old), "nothing is written off"
        assert opened.services.terminals.get(old) is None
    async with shop(tmp_path, counter, sources=[source]) as opened:
        assert opened.services.terminals.get(old) is None


async def test_a_replaced_terminal_that_is_used_again_is_meant_by_its_own_id(tmp_path: Path) -> None:
    counter, source = Terminals(shop_runtime()), SimulatedSource()
    counter.add(f"tcp://{NEAR}")
    counter.add(f"tcp://{FAR}")
    async with shop(tmp_path, counter, sources=[source]) as opened:
        old = await a_counter(opened, source)
        new = await swap_terminal(opened, source, old)
        taken = await opened.take(2000, terminal=old)
        assert (await opened.until(taken.payment.id, "approved")).terminal == new
        await opened.services.devices.activate(old, MANAGER)
        await opened.ready(old)
        for wanted in (old, new):
            taken = await opened.take(2000, terminal=wanted)
            assert (await opened.until(taken.payment.id, "approved")).terminal == wanted


async def test_what_cannot_take_a_place_is_told_why(tmp_path: Path) -> None:
    counter, source = Terminals(shop_runtime()), SimulatedSource()
    counter.add(f"tcp://{NEAR}", SimulatorOptions(think_s=0.5))
    counter.add(f"tcp://{FAR}")
    printer = "tcp://printer:9100"
    counter.others[printer] = EscposSimulator(counter.runtime)
    async with shop(tmp_path, counter, sources=[source]) as opened:
        old = await a_counter(opened, source)
        paper_printer = await opened.add_peripheral(printer, "escpos", DeviceKind.PRINTER)
        source.announce(announced(FAR, name="Spare", number="SN-2"))
        await found(opened, 2)
        spare = at(opened, announced(FAR, name="Spare", number="SN-2"))
        with pytest.raises(HubError, match="cannot take the place"):
            await swap(opened, spare, paper_printer)
        with pytest.raises(HubError, match="No device of this id"):
            await swap(opened, spare, opened.services.runtime.ids.new_id())
        mine = at(opened, announced(NEAR, number="SN-1"))
        with pytest.raises(HubError, match="is in use"):
            await swap(opened, mine, old)
        taken = await opened.take(2000)
        await opened.until(taken.payment.id, "in_progress")
        with pytest.raises(HubError, match="taking a payment"):
            await swap(opened, spare, old)
        await opened.until(taken.payment.id, "approved")
        with pytest.raises(HubError, match="may not do this"):
            await opened.services.discovery.claim(spare.id, "", "", till(), replaces=old)
        new = await swap(opened, spare, old)
        assert (await opened.services.devices.get(new)).device.role == OWN
        bad = NewDevice("tcp://x", "zvt", "T", "terminal", LOCATION, "place:kitchen")
        with pytest.raises(HubError, match="nobody pays at a place"):
            await opened.services.devices.claim(opened.services.runtime.ids.new_id(), bad, "hub")


async def test_a_line_that_is_in_use_is_no_longer_to_be_chosen_for(tmp_path: Path) -> None:
    counter, plugs = Terminals(shop_runtime()), SimulatedPlugs()
    number = IdentitySource.SERIAL_NUMBER
    line = Endpoint("/sys/1", EndpointKind.SERIAL, "serial:///dev/ttyUSB0", "serial:0403:6001:A1:00", number)
    counter.others[f"{line.url}?baud=9600&stop_bits=1"] = CasSimulator(counter.runtime)
    plugs.announce(line)
    async with shop(tmp_path, counter, sources=[plugs]) as opened:
        (one,) = await found(opened)
        device = await opened.services.discovery.claim(one.id, "Scale", "", MANAGER, "cas")
        await opened.services.devices.activate(device.id, MANAGER)
        clock = opened.services.runtime.clock
        async with clock.timeout(WAIT_S):  # without anybody asking anew
            while [one.standing for one in opened.services.discovery.all()] != [Standing.KNOWN]:
                await clock.sleep(0.005)
