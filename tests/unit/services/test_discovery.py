"""Discovery proposes, a person decides, and a device is known again wherever it is announced."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from drivers.base import Manifest, Mdns, Tcp
from drivers.discovery.announcement import endpoint_of
from drivers.discovery.configured import ConfiguredSource, configured
from drivers.registry import Entry, Registry, load
from drivers.sim.zvt import SimulatorOptions, ZvtSimulator
from drivers.zvt import MANIFEST, ZvtTerminal
from hubd.errors import DeviceError, HubError, NotFoundError
from hubd.model.device import DeviceKind, DeviceState, Endpoint, Flaw, IdentitySource
from hubd.services import discovery
from hubd.services.discovery import ENDPOINTS_MAX, NOTICES_MAX, Found, Standing
from tests.simulation.discovery import SERVICE, SimulatedSource, announced
from tests.unit.services.shop import MANAGER, WAIT_S, Shop, Terminals, shop, shop_runtime, till

HERE, THERE, THIRD = "terminal-1", "terminal-2", "terminal-3"


async def found(opened: Shop, count: int = 1) -> list[Found]:
    """What is seen, once there is that much of it and all of it was judged."""
    clock, desk = opened.services.runtime.clock, opened.services.discovery
    async with clock.timeout(WAIT_S):
        while len(desk.all()) != count:
            await clock.sleep(0.005)
    await desk.consider()
    return desk.all()


async def address(opened: Shop, device: str, wanted: str) -> None:
    """Return once the hub has noted this address of the device."""
    clock = opened.services.runtime.clock
    async with clock.timeout(WAIT_S):
        while (await opened.services.devices.get(device)).device.address != wanted:
            await clock.sleep(0.005)


async def use(opened: Shop) -> str:
    """Do what a manager does with the one device that was found."""
    (one,) = await found(opened)
    device = await opened.services.discovery.claim(one.id, "Counter", "", MANAGER)
    await opened.services.devices.activate(device.id, MANAGER)
    await opened.ready(device.id)
    return device.id


async def sell(opened: Shop, amount: int = 2000) -> None:
    taken = await opened.take(amount)
    await opened.until(taken.payment.id, "approved")


async def move(counter: Terminals, source: SimulatedSource, old: str, new: str, **said: str) -> ZvtSimulator:
    """Unplug the terminal and plug it in where it gets another address."""
    simulator = counter.simulators.pop(f"tcp://{old}")
    await simulator.unplug()
    simulator.replug()
    counter.simulators[f"tcp://{new}"] = simulator
    source.announce(announced(new, **said))
    return simulator


async def test_what_is_announced_is_offered_and_written_nowhere_until_a_person_claims_it(tmp_path: Path) -> None:
    source, counter = SimulatedSource(), Terminals(shop_runtime())
    simulator = counter.add(f"tcp://{HERE}")
    source.announce(announced(HERE))
    async with shop(tmp_path, counter, sources=[source]) as opened:
        head = opened.services.db.head.seq
        (one,) = await found(opened)
        assert (one.standing, one.driver, one.reason) == (Standing.OFFERED, "zvt", "")
        assert [problem.code for problem in opened.services.problems.present()].count("device.not_activated") == 1
        assert await opened.services.devices.all() == []
        assert opened.services.db.head.seq == head
        with pytest.raises(HubError, match=r"access\."):
            await opened.services.discovery.claim(one.id, "Mine", "", till())
        device = await opened.services.discovery.claim(one.id, "", "", MANAGER)
        assert (device.name, device.identity, device.active) == ("Counter", "serial:SN-0001", False)
        refused = await opened.take(2000)
        assert refused.payment.state == "refused"
        assert simulator.authorizations_received == 0
        await opened.services.devices.activate(device.id, MANAGER)
        await opened.ready(device.id)
        await sell(opened)
        (known,) = await found(opened)
        assert (known.standing, known.device_id, known.reason) == (Standing.KNOWN, device.id, "")
        again = await opened.services.discovery.claim(known.id, "Again", "", MANAGER)
        assert (again.id, again.name) == (device.id, "Counter")


async def test_a_new_address_is_followed_at_once_and_after_a_restart(tmp_path: Path) -> None:
    source, counter = SimulatedSource(), Terminals(shop_runtime())
    counter.add(f"tcp://{HERE}")
    source.announce(announced(HERE))
    async with shop(tmp_path, counter, sources=[source]) as opened:
        device = await use(opened)
        await move(counter, source, HERE, THERE)
        await address(opened, device, f"tcp://{THERE}")
        await opened.ready(device)
        await sell(opened)
        (known,) = await found(opened)
        assert (known.standing, known.reason) == (Standing.KNOWN, "")
    await move(counter, source, THERE, THIRD)
    async with shop(tmp_path, counter, sources=[source]) as opened:
        await address(opened, device, f"tcp://{THIRD}")
        await opened.ready(device)
        await sell(opened)
        assert [view.device.id for view in await opened.services.devices.all()] == [device]


async def test_a_terminal_that_answers_is_not_taken_away_by_an_announcement(tmp_path: Path) -> None:
    source, counter = SimulatedSource(), Terminals(shop_runtime())
    counter.add(f"tcp://{HERE}")
    impostor = counter.add(f"tcp://{THERE}")
    source.announce(announced(HERE))
    async with shop(tmp_path, counter, sources=[source]) as opened:
        device = await use(opened)
        source.announce(announced(THERE))
        (known,) = await found(opened)
        assert (known.device_id, known.reason) == (device, "elsewhere")
        await sell(opened)
        states: list[DeviceState] = []
        terminals, clock = opened.services.terminals, opened.services.runtime.clock
        terminals.watch(lambda _: states.append(now.state) if (now := terminals.status(device)) else None)
        await counter.simulators[f"tcp://{HERE}"].unplug()
        counter.simulators[f"tcp://{HERE}"].replug()  # a line that was lost for a moment is opened again where it was
        async with clock.timeout(WAIT_S):
            while states[-1:] != [DeviceState.READY] or DeviceState.CONNECTING not in states:
                await clock.sleep(0.005)
        await sell(opened)
        source.goodbye(announced(THERE))
        assert await found(opened, 0) == []
        await sell(opened)
        assert impostor.authorizations_received == 0
        assert (await opened.services.devices.get(device)).device.address == f"tcp://{HERE}"


async def test_another_terminal_at_the_announced_address_is_not_used(tmp_path: Path) -> None:
    source, counter = SimulatedSource(), Terminals(shop_runtime())
    counter.add(f"tcp://{HERE}")
    other = counter.add(f"tcp://{THERE}", SimulatorOptions(terminal_id="99999999"))
    source.announce(announced(HERE))
    async with shop(tmp_path, counter, sources=[source]) as opened:
        device = await use(opened)
        seen: list[str] = []
        opened.services.terminals.watch(
            lambda _: seen.append(status.problem) if (status := opened.services.terminals.status(device)) else None
        )
        counter.unplugged.add(f"tcp://{HERE}")
        await counter.simulators[f"tcp://{HERE}"].unplug()
        source.announce(announced(THERE))
        clock = opened.services.runtime.clock
        async with clock.timeout(WAIT_S):
            while "other_device" not in seen:
                await clock.sleep(0.005)
        assert other.authorizations_received == 0
        assert (await opened.services.devices.get(device)).device.address == f"tcp://{HERE}"
        counter.unplugged.clear()
        counter.simulators[f"tcp://{HERE}"].replug()
        await opened.ready(device)
        await sell(opened)
        assert other.authorizations_received == 0


async def test_after_a_start_too_another_terminal_at_the_announced_address_is_not_used(tmp_path: Path) -> None:
    source, counter = SimulatedSource(), Terminals(shop_runtime())
    counter.add(f"tcp://{HERE}")
    source.announce(announced(HERE))
    async with shop(tmp_path, counter, sources=[source]) as opened:
        device = await use(opened)
        await sell(opened)
    other = counter.add(f"tcp://{THERE}", SimulatorOptions(terminal_id="99999999"))
    counter.unplugged.add(f"tcp://{HERE}")
    source.announce(announced(THERE))
    async with shop(tmp_path, counter, sources=[source]) as opened:
        clock, problems = opened.services.runtime.clock, opened.services.problems
        async with clock.timeout(WAIT_S):
            while "other_device" not in {one.params.get("reason") for one in problems.present()}:
                await clock.sleep(0.005)
        assert other.authorizations_received == 0
        assert (await opened.services.devices.get(device)).device.address == f"tcp://{HERE}"


@pytest.mark.parametrize(("number", "follows"), [("SN-0001", True), ("", False)])
async def test_a_terminal_with_money_is_followed_by_its_number_and_not_by_its_name(
    tmp_path: Path, number: str, follows: bool
) -> None:
    source, counter = SimulatedSource(), Terminals(shop_runtime())
    simulator = counter.add(f"tcp://{HERE}")
    source.announce(announced(HERE, number=number))
    async with shop(tmp_path, counter, sources=[source]) as opened:
        device = await use(opened)
        simulator.host_up = False
        taken = await opened.take(1011)
        await opened.until(taken.payment.id, "stored")
        await move(counter, source, HERE, THERE, number=number)
        if follows:
            await address(opened, device, f"tcp://{THERE}")
        else:
            clock = opened.services.runtime.clock
            async with clock.timeout(WAIT_S):
                while [one.reason for one in opened.services.discovery.all()] != ["holds_money"]:
                    await clock.sleep(0.005)
            assert (await opened.services.devices.get(device)).device.address == f"tcp://{HERE}"


async def test_what_vanishes_leaves_the_list_and_not_its_device(tmp_path: Path) -> None:
    source, counter = SimulatedSource(), Terminals(shop_runtime())
    counter.add(f"tcp://{HERE}")
    source.announce(announced(HERE))
    async with shop(tmp_path, counter, sources=[source]) as opened:
        device = await use(opened)
        (one,) = await found(opened)
        source.goodbye(announced(HERE))
        assert await found(opened, 0) == []
        status = opened.services.terminals.status(device)
        assert status is not None
        assert status.state is DeviceState.READY
        await sell(opened)
        with pytest.raises(NotFoundError):
            await opened.services.discovery.claim(one.id, "", "", MANAGER)


def acme(driver_id: str, usable: bool = True) -> Entry:
    rules = (Mdns("_acme._tcp.local."), Tcp(1))
    manifest = Manifest(driver_id, driver_id, MANIFEST.kind, rules, MANIFEST.capabilities, "experimental", "", "X")
    return Entry(driver_id, manifest, "" if usable else "load_error: x", ZvtTerminal if usable else None)


PRINTERS = load(["drivers.escpos", "drivers.ipp"])
PDL, IPP, LPD = "_pdl-datastream._tcp.local.", "_ipp._tcp.local.", "_printer._tcp.local."


def of_printer(service: str, host: str = "10.0.0.9", **txt: str) -> Endpoint:
    """One service of a printer called Office, as it is announced."""
    properties = {key.encode(): value.encode() for key, value in txt.items()}
    return endpoint_of(service, f"Office.{service}", [host], {PDL: 9100, IPP: 631, LPD: 515}[service], properties)


@pytest.mark.parametrize("txt", [{"UUID": "1234-5678"}, {}])
async def test_a_printer_with_several_services_is_one_device_by_the_best_of_them(
    tmp_path: Path, txt: dict[str, str]
) -> None:
    source = SimulatedSource()
    lpd = of_printer(LPD, **txt)
    source.announce(lpd)
    async with shop(tmp_path, sources=[source], registry=PRINTERS) as opened:
        (one,) = await found(opened)
        assert (one.standing, one.reason) == (Standing.UNUSABLE, "lpd_only")
        source.announce(of_printer(PDL, **txt))
        (one,) = await found(opened)
        assert (one.standing, one.drivers) == (Standing.CHOOSE, ("escpos",))
        assert "name its driver" in one.why
        assert "line" not in one.why
        source.announce(of_printer(PDL, **txt, pdl="application/postscript"))
        source.announce(of_printer(IPP, **txt, rp="ipp/print"))
        (one,) = await found(opened)
        assert (one.standing, one.driver, one.endpoint.url) == (Standing.OFFERED, "ipp", "tcp://10.0.0.9:631/ipp/print")
        source.announce(of_printer(PDL, **txt, ty="EPSON TM-T88V"))
        (one,) = await found(opened)
        assert (one.standing, one.driver) == (Standing.OFFERED, "escpos")
        source.goodbye(of_printer(PDL))
        device = await opened.services.discovery.claim((await found(opened))[0].id, "", "", MANAGER)
        assert (device.driver, device.kind, device.name) == ("ipp", DeviceKind.PRINTER, "Office")
        source.announce(of_printer(PDL, **txt, ty="EPSON TM-T88V"))
        (one,) = await found(opened)
        assert (one.standing, one.device_id) == (Standing.KNOWN, device.id)


async def test_printers_of_one_name_at_two_addresses_or_with_two_numbers_are_two(tmp_path: Path) -> None:
    source = SimulatedSource()
    async with shop(tmp_path, sources=[source], registry=PRINTERS) as opened:
        source.announce(of_printer(IPP))
        source.announce(of_printer(LPD, "10.0.0.8"))
        assert len(await found(opened, 2)) == 2
        source.announce(of_printer(LPD))
        assert len(await found(opened, 1)) == 1
        source.announce(of_printer(IPP, UUID="1234-5678"))
        source.announce(of_printer(LPD, UUID="1234-9999"))
        assert len(await found(opened, 2)) == 2
        source.announce(of_printer(LPD, pdl="application/postscript"))
        assert len(await found(opened, 1)) == 1


async def test_a_name_that_a_printer_only_keeps_for_itself_is_no_device(tmp_path: Path) -> None:
    source = SimulatedSource()
    source.announce(replace(of_printer(LPD), url="", flaw=Flaw.NO_ADDRESS))
    source.announce(of_printer(IPP, UUID="1234-5678"))
    async with shop(tmp_path, sources=[source], registry=PRINTERS) as opened:
        (one,) = await found(opened)
        assert (one.standing, one.driver) == (Standing.OFFERED, "ipp")


async def test_an_office_printer_without_ipp_is_shown_with_its_reason(tmp_path: Path) -> None:
    source = SimulatedSource()
    source.announce(of_printer(PDL, pdl="application/postscript"))
    async with shop(tmp_path, sources=[source], registry=PRINTERS) as opened:
        (one,) = await found(opened)
        assert (one.standing, one.reason) == (Standing.UNUSABLE, "office_printer")
        assert "IPP" in one.why


async def test_what_cannot_be_used_is_shown_with_its_reason_and_not_claimed(tmp_path: Path) -> None:
    source = SimulatedSource()
    odd = {
        "_acme._tcp.local.": "claimed_twice",
        "_broken._tcp.local.": "driver_unusable",
        "_ipp._tcp.local.": "no_driver",
    }
    for service in odd:
        source.announce(announced(HERE, number=f"N-{service}", service=service))
    refused = {Flaw.NO_ADDRESS: "No address", Flaw.ADDRESS_REFUSED: "Far away"}
    for flaw, name in refused.items():
        source.announce(replace(announced(HERE, name=name), url="", flaw=flaw))
    broken = acme("broken", usable=False)
    assert broken.manifest is not None
    broken = replace(broken, manifest=replace(broken.manifest, matches=(Mdns("_broken._tcp.local."),)))
    registry = Registry([Entry("zvt", MANIFEST, factory=ZvtTerminal), acme("left"), acme("right"), broken])
    async with shop(tmp_path, sources=[source], registry=registry) as opened:
        every = await found(opened, 5)
        chosen, unusable = every[0], every[1:]
        assert {one.standing for one in unusable} == {Standing.UNUSABLE}
        reasons = {one.endpoint.service: one.reason for one in every if one.endpoint.service != SERVICE}
        assert reasons == odd
        assert {one.endpoint.name: one.reason for one in every if one.endpoint.service == SERVICE} == {
            name: flaw.value for flaw, name in refused.items()
        }
        assert all(one.why.endswith(".") for one in every)
        assert (chosen.standing, chosen.reason) == (Standing.CHOOSE, "claimed_twice")
        assert chosen.drivers == ("left", "right")
        assert "left and right" in chosen.why
        (problem,) = [one for one in opened.services.problems.present() if one.kind.code == "device.claimed_twice"]
        assert problem.title("en") == "Counter fits two drivers: left and right"
        for one in unusable:
            with pytest.raises(DeviceError, match="cannot be used") as caught:
                await opened.services.discovery.claim(one.id, "Mine", "", MANAGER)
            assert caught.value.params == {"reason": one.reason}
        assert await opened.services.devices.all() == []
        with pytest.raises(DeviceError, match="cannot be seen from here"):
            await opened.services.discovery.claim(chosen.id, "Mine", "", MANAGER)
        device = await opened.services.discovery.claim(chosen.id, "Mine", "", MANAGER, "right")
        await opened.services.devices.activate(device.id, MANAGER)
        (known,) = [one for one in await found(opened, 5) if one.standing is Standing.KNOWN]
        assert (known.device_id, known.driver, device.driver) == (device.id, "right", "right")
        assert opened.problem("device.claimed_twice") is None


async def test_a_flood_of_announcements_is_bounded_and_hides_no_device_of_the_store(tmp_path: Path) -> None:
    source, counter = SimulatedSource(), Terminals(shop_runtime())
    counter.add(f"tcp://{HERE}")
    source.announce(announced(HERE))
    async with shop(tmp_path, counter, sources=[source]) as opened:
        device = await use(opened)
        source.goodbye(announced(HERE))
        head = opened.services.db.head.seq
        for number in range(3 * ENDPOINTS_MAX):
            source.announce(announced(f"stranger-{number}", name=f"Stranger {number}", number=f"S-{number:04d}"))
        await found(opened, ENDPOINTS_MAX)
        offered = [one for one in opened.services.problems.present() if one.kind.code == "device.not_activated"]
        assert len(offered) == NOTICES_MAX
        assert opened.services.db.head.seq == head
        await move(counter, source, HERE, THERE)
        await address(opened, device, f"tcp://{THERE}")
        assert len(await found(opened, ENDPOINTS_MAX)) == ENDPOINTS_MAX


async def test_configured_devices_are_claimed_once_and_known_by_their_address(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    counter.add(f"tcp://{HERE}")
    network = SimulatedSource()
    fixed = ConfiguredSource([configured(f"tcp://{HERE}", "zvt", "Counter", "")])
    async with shop(tmp_path, counter, sources=[fixed, network]) as opened:
        # The location came after the sources: the claim is made up for.
        await opened.services.discovery.consider()
        (view,) = await opened.services.devices.all()
        assert (view.device.name, view.device.address, view.device.active) == ("Counter", f"tcp://{HERE}", False)
        network.announce(announced(HERE))
        every = await found(opened, 2)
        assert {one.device_id for one in every} == {view.device.id}
        await opened.services.devices.activate(view.device.id, MANAGER)
        await opened.ready(view.device.id)
    async with shop(tmp_path, counter, sources=[fixed, network]) as opened:
        assert [one.device.id for one in await opened.services.devices.all()] == [view.device.id]


async def test_a_claim_waits_for_the_shop_to_be_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "LOCATION_CHECK_S", 0.01)
    fixed = ConfiguredSource([configured(f"tcp://{HERE}", "zvt", "", "")])
    async with shop(tmp_path, sources=[fixed]) as opened:
        # The shop's location is written after the sources have begun.
        clock = opened.services.runtime.clock
        async with clock.timeout(WAIT_S):
            while not await opened.services.devices.all():
                await clock.sleep(0.005)
        (one,) = await found(opened)
        assert (one.standing, one.endpoint.identity_source) == (Standing.KNOWN, IdentitySource.ADDRESS)
