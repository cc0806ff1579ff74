"""Every terminal that was used in an outage is heard after it, or closed by a person, before all is said to be well."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd.errors import DeviceError, HubError
from hubd.model.entry import Entry
from hubd.model.mode import Facts, Hop, Mode
from hubd.model.payment import Tender
from hubd.model.permissions import Role
from hubd.services.staff import NewPerson
from hubd.store import documents, journal, replay
from tests.unit.clocks import JumpingClock
from tests.unit.services.shop import MANAGER, Shop, Terminals, shop, shop_runtime
from tests.unit.services.test_outage import HOPS, allow_offline

NEAR, FAR = "tcp://terminal-1", "tcp://terminal-2"
SETTLE_S = 10.0


async def hearings(opened: Shop) -> list[tuple[str, str, str]]:
    """(event, outage, terminal) of every entry about hearing a terminal."""

    def read(entries: list[Entry]) -> list[tuple[str, str, str]]:
        kinds = ("outage.terminal_heard", "outage.terminal_closed")
        return [(one.kind[16:], one.head.subject, one.body()["terminal"]) for one in entries if one.kind in kinds]

    return read(await opened.services.db.read("entries", lambda c: journal.entries_after(c, 0, 10_000)))


async def until_heard(opened: Shop, *wanted: tuple[str, str, str]) -> None:
    async with opened.services.runtime.clock.timeout(SETTLE_S):
        while sorted(await hearings(opened)) != sorted(wanted):
            await opened.services.runtime.clock.sleep(0.02)


async def sell(opened: Shop, terminal: str, amount: int, state: str) -> None:
    taken = await opened.take(amount, terminal=terminal)
    await opened.until(taken.payment.id, state)


def counter_of(*urls: str) -> Terminals:
    counter = Terminals(shop_runtime(clock=JumpingClock()))
    for url in urls:
        counter.add(url)
    return counter


async def measure(opened: Shop, *, up: bool) -> None:
    """Let the line be so for as long as the hub needs to believe it; the clocks jump meanwhile."""
    clock, desk = opened.services.runtime.clock, opened.services.outages
    assert isinstance(clock, JumpingClock)
    facts = Facts(cloud_expected=False)
    for _ in range(15):
        now_ms = int(clock.monotonic() * 1000)
        for hop in HOPS:
            facts = facts.with_hop(hop, facts.hop(hop).measured(up or hop is Hop.LINK, now_ms))
        await desk.observe(facts)
        clock.ahead_s += 1.0
    assert desk.snapshot().mode is (Mode.ONLINE if up else Mode.NETWORK_OUTAGE)


async def in_outage(opened: Shop) -> str:
    await measure(opened, up=True)
    for simulator in opened.counter.simulators.values():
        simulator.host_up = False
    await measure(opened, up=False)
    outage = opened.services.outages.snapshot().outage_id
    assert outage is not None
    return outage


async def service_back(opened: Shop) -> None:
    for simulator in opened.counter.simulators.values():
        simulator.host_up = True
    await measure(opened, up=True)


async def gone(opened: Shop, url: str, terminal: str) -> None:
    """Pull a terminal's plug and wait until the hub has missed it."""
    opened.counter.unplugged.add(url)
    await opened.counter.simulators[url].unplug()
    async with opened.services.runtime.clock.timeout(SETTLE_S):
        while (status := opened.services.terminals.status(terminal)) is None or status.state == "ready":
            await opened.services.runtime.clock.sleep(0.02)


async def back(opened: Shop, url: str, terminal: str) -> None:
    opened.counter.unplugged.discard(url)
    opened.counter.simulators[url].replug()
    await opened.ready(terminal)


async def replays_to_the_same(opened: Shop) -> None:
    found = await opened.services.db.read_apart("replay", lambda connection: replay.check(connection))
    assert found.ok, found


async def test_what_waits_in_an_unplugged_terminal_is_not_fine_until_it_has_answered_once(tmp_path: Path) -> None:
    counter = counter_of(NEAR, FAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        owner = NewPerson(opened.services.runtime.ids.new_id(), "Ada", "7319", "en", (("*", Role.OWNER.value),))
        await opened.services.staff.add(owner, MANAGER)
        near, far = await opened.add_terminal(NEAR), await opened.add_terminal(FAR)
        await allow_offline(opened)
        outage = await in_outage(opened)
        await opened.take(500, tender=Tender.CASH)
        await sell(opened, near, 2005, "declined")
        await sell(opened, far, 2005, "declined")
        assert (await opened.services.outages.get(outage)).unheard == (), "an outage that lasts waits for nobody yet"
        await gone(opened, FAR, far)
        await service_back(opened)
        await sell(opened, near, 1000, "approved")  # the near one answers; nobody has asked it before
        await until_heard(opened, ("heard", outage, near))
        view = await opened.services.outages.get(outage)
        assert view.taken.settled
        assert [(one.id, one.name) for one in view.unheard] == [(far, "Terminal 2")]
        shown = await opened.services.overview.overview()
        assert [one.id for one in shown.shop.terminals if one.unheard] == [far]
        assert shown.headline == "back_unheard"
        assert not shown.all_fine
        await back(opened, FAR, far)
        await until_heard(opened, ("heard", outage, near), ("heard", outage, far))
        assert (await opened.services.outages.get(outage)).unheard == ()
        assert not [one for one in (await opened.services.overview.shop()).terminals if one.unheard]
        await sell(opened, far, 1000, "approved")
        assert not await opened.services.hearing.look()
        assert len(await hearings(opened)) == 2, "once for each terminal and outage"
        await replays_to_the_same(opened)


async def test_a_terminal_is_still_waited_for_after_a_restart_of_the_hub(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        near = await opened.add_terminal(NEAR)
        await allow_offline(opened)
        outage = await in_outage(opened)
        await sell(opened, near, 2005, "declined")
        await gone(opened, NEAR, near)
        await service_back(opened)
        assert await opened.services.hearing.look()
    async with shop(tmp_path, counter, shop_runtime(b"2-process", counter.runtime.clock)) as opened:
        assert await opened.services.hearing.look()
        assert not (await opened.services.overview.overview()).all_fine
        await back(opened, NEAR, near)
        await until_heard(opened, ("heard", outage, near))


async def test_an_answer_from_before_the_end_of_the_outage_is_none(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        near = await opened.add_terminal(NEAR)
        await allow_offline(opened)
        outage = await in_outage(opened)
        await sell(opened, near, 2005, "declined")
        await service_back(opened)
        status = opened.services.terminals.status(near)
        assert status is not None
        assert status.last_answer_monotonic is not None
        assert status.last_answer_monotonic < opened.services.outages.ended_s(outage)
        assert await opened.services.hearing.look(), "it is ready, and has said nothing since"
        assert await hearings(opened) == []
        await sell(opened, near, 1000, "approved")
        await until_heard(opened, ("heard", outage, near))


async def test_a_terminal_that_never_comes_back_is_closed_by_a_person_with_a_reason(tmp_path: Path) -> None:
    counter = counter_of(NEAR, FAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        near, far = await opened.add_terminal(NEAR), await opened.add_terminal(FAR)
        await allow_offline(opened)
        outage = await in_outage(opened)
        await sell(opened, far, 2005, "declined")
        await gone(opened, FAR, far)
        await service_back(opened)
        devices = opened.services.devices
        assert [view.unheard for view in await devices.all()] == [False, True]
        for reason, code in (("", "terminal_unheard"), ("  x ", "reason_missing")):
            with pytest.raises(HubError) as caught:
                await devices.deactivate(far, MANAGER, reason)
            assert caught.value.code == code
        assert await hearings(opened) == []
        closed = await devices.deactivate(far, MANAGER, " stolen in the night ")
        assert (closed.device.active, closed.unheard) == (False, False)
        assert await hearings(opened) == [("closed", outage, far)]
        assert (await opened.services.outages.get(outage)).unheard == ()
        said = await opened.services.db.read("entries", lambda c: journal.entries_of(c, far))
        (ref,) = said[-1].head.documents
        kept = await opened.services.db.read("document", lambda c: documents.get(c, ref.id))
        assert kept is not None
        assert kept.content == b"stolen in the night"
        assert b"stolen" not in said[-1].body_bytes
        await devices.deactivate(near, MANAGER)  # it was not used, so nobody asks why
        await replays_to_the_same(opened)


async def test_a_terminal_with_money_is_not_closed_whatever_the_reason(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        near = await opened.add_terminal(NEAR)
        await allow_offline(opened)
        await in_outage(opened)
        await sell(opened, near, 2000, "stored")
        await gone(opened, NEAR, near)
        await service_back(opened)
        with pytest.raises(DeviceError, match="not confirmed"):
            await opened.services.devices.deactivate(near, MANAGER, "fell into the sea")
        assert await hearings(opened) == []
