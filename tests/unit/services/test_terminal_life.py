"""A terminal's life (domain D01, D03, D05-D07, D10, D14, D15): each acceptance sentence as a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from drivers.sim.terminal import Order
from hubd.errors import HubError
from hubd.model.mode import Mode
from hubd.model.payment import CustodyEvent
from hubd.model.permissions import Role
from hubd.model.terminal_life import LifeStep, Needs
from hubd.services.device_rules import NewDevice
from hubd.services.staff import Location, NewPerson
from hubd.services.terminal_steps import note_synced
from hubd.store import journal, replay
from tests.unit.services.shop import LOCATION, MANAGER, Shop, shop
from tests.unit.services.test_hearing import FAR, NEAR, counter_of, gone
from tests.unit.services.test_outage import allow_offline, until_mode

STEPS = ["device.claimed", "device.signed_in", "device.located", "device.named", "device.synced", "device.activated"]
PARAMETERS_FAILED = "La session de paramètres acquirer a échoué"
CONFIGURATION_FAILED = "Configuration échouée"


async def kinds_of(opened: Shop, device_id: str) -> list[str]:
    entries = await opened.services.db.read("entries", lambda c: journal.entries_after(c, 0, 10_000))
    return [one.kind for one in entries if one.head.subject == device_id and one.kind.startswith("device.")]


async def body_of(opened: Shop, kind: str) -> dict[str, Any]:
    entries = await opened.services.db.read("entries", lambda c: journal.entries_after(c, 0, 10_000))
    return [one for one in entries if one.kind == kind][-1].body()


async def proposed(opened: Shop, url: str = NEAR, name: str = "Terminal") -> str:
    device_id = opened.services.runtime.ids.new_id()
    await opened.services.devices.claim(device_id, NewDevice(url, "zvt", name, "terminal", LOCATION), "hub")
    return device_id


async def step_of(opened: Shop, device_id: str) -> LifeStep:
    return (await opened.services.life.of(device_id)).step


async def until_step(opened: Shop, device_id: str, step: LifeStep) -> None:
    async with opened.services.runtime.clock.timeout(30):
        while await step_of(opened, device_id) is not step:
            await opened.services.runtime.clock.sleep(0.01)


async def refused(act: Any, code: str) -> HubError:
    with pytest.raises(HubError) as caught:
        await act
    assert caught.value.code == code, caught.value
    return caught.value


async def not_taken(opened: Shop, reason: str, amount: int, terminal: str | None = None) -> None:
    """Nothing was sent: the payment is refused for this reason."""
    payment = (await opened.take(amount, terminal=terminal)).payment
    assert (payment.state, payment.reason) == ("refused", reason)


async def offline(opened: Shop, url: str = NEAR) -> None:
    """The terminal's host is away, and the shop allows it to store."""
    opened.counter.simulators[url].host_up = False
    await until_mode(opened, up=True, mode=Mode.ONLINE)
    await until_mode(opened, up=False, mode=Mode.NETWORK_OUTAGE)
    await allow_offline(opened)


async def test_one_call_takes_every_step_in_order_and_says_who(tmp_path: Path) -> None:
    """D01, and D14 for what it says of its software."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal = await opened.add_terminal(NEAR)
        assert await kinds_of(opened, terminal) == STEPS
        life = await opened.services.life.of(terminal)
        assert (life.step, life.admin) == (LifeStep.ACTIVE, MANAGER.staff)
        assert opened.services.life.software_of(life) == "unknown", "until it has told"
        running = opened.services.devices.running(terminal)
        assert running is not None
        await running.look()
        assert opened.services.life.software_of(life) == "Simulator sim_1"
        synced = await body_of(opened, "device.synced")
        assert synced["number"] == counter.simulators[NEAR].options.terminal_id
        assert counter.simulators[NEAR].registered_currency == "EUR"
        await opened.until((await opened.take(2000)).payment.id, "approved")


async def test_no_step_can_be_skipped_and_the_driver_runs_from_the_name_on(tmp_path: Path) -> None:
    """D01."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal, life = await proposed(opened), opened.services.life
        ways = {LifeStep.CLAIMED: "", LifeStep.LOCATED: LOCATION, LifeStep.NAMED: "Counter"}
        for step, value in ways.items():
            for other, its in ways.items():
                if other is not step:
                    error = await refused(life.step(terminal, other, its, MANAGER), "device.step_skipped")
                    assert error.params["next"] == step
            assert opened.services.terminals.get(terminal) is None
            await not_taken(opened, "no_terminal", 2000, terminal=terminal)
            await life.step(terminal, step, value, MANAGER)
        await opened.ready(terminal)
        await until_step(opened, terminal, LifeStep.ACTIVE)
        assert await kinds_of(opened, terminal) == STEPS
        attached = opened.services.terminals.get(terminal)
        assert attached is not None
        attached.in_use = False  # as between its first answer and the entry of its last step
        await not_taken(opened, "terminal_unreachable", 2000, terminal)
        status = opened.services.terminals.status(terminal)
        assert status is not None
        assert status.state == "connecting"
        for step in (LifeStep.SYNCED, LifeStep.ACTIVE):
            await refused(life.step(terminal, step, "", MANAGER), "invalid_step")
        assert not (await opened.services.db.read("replay", replay.check)).differences


async def test_a_terminal_that_has_not_answered_takes_no_payment_and_goes_on_after_a_start(tmp_path: Path) -> None:
    """D01: a power cut resumes at the same step."""
    counter = counter_of(NEAR)
    await counter.simulators[NEAR].unplug()
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal = await proposed(opened)
        await opened.services.devices.activate(terminal, MANAGER)
        assert await step_of(opened, terminal) is LifeStep.NAMED
        await not_taken(opened, "terminal_unreachable", 2000)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        assert await step_of(opened, terminal) is LifeStep.NAMED
        status = opened.services.terminals.status(terminal)
        assert status is not None
        assert status.state != "ready"
        await opened.services.db.write("t", lambda tx: note_synced(tx, terminal, status))
    counter.simulators[NEAR].replug()
    async with shop(tmp_path, counter, counter.runtime) as opened:  # the power went between the last two steps
        await opened.ready(terminal)
        assert await kinds_of(opened, terminal) == STEPS, "each step once, in order"
        await opened.until((await opened.take(2000)).payment.id, "approved")


async def test_a_name_in_use_is_refused_and_goes_on_with_its_history_once_it_is_free(tmp_path: Path) -> None:
    """D05."""
    counter = counter_of(NEAR, FAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        desk, life = opened.services.devices, opened.services.life
        old, new = await opened.add_terminal(NEAR), await opened.add_terminal(FAR)
        await desk.assign(old, "Bar", "", None, MANAGER)
        first = (await opened.take(2000, terminal=old)).payment.id
        await opened.until(first, "approved")
        error = await refused(desk.assign(new, "Bar", "", None, MANAGER), "name_in_use")
        assert error.params["device"] == old
        await gone(opened, NEAR, old)
        await desk.deactivate(old, MANAGER)
        assert (await desk.assign(new, "Bar", "", None, MANAGER)).device.name == "Bar"
        second = (await opened.take(2100, terminal=new)).payment.id
        await opened.until(second, "approved")
        found = await life.history(new, MANAGER)
        assert [(one.id, one.terminal) for one in found] == [(second, new), (first, old)]
        counter.simulators[NEAR].faults.clear()
        counter.simulators[NEAR].replug()
        assert opened.services.terminals.get(old) is None, "it is back, and nobody has taken it into use again"
        await not_taken(opened, "no_terminal", 100, terminal=old)
        assert (await refused(desk.activate(old, MANAGER), "name_in_use")).params["device"] == new
        await desk.assign(old, "Terrace", "", None, MANAGER)
        await desk.activate(old, MANAGER)
        assert await step_of(opened, old) in {LifeStep.NAMED, LifeStep.ACTIVE}, "a person has claimed it anew"
        assert [one.id for one in await life.history(old, MANAGER)] == [], "the history went with the name"
        assert not (await opened.services.db.read("replay", replay.check)).differences


async def test_stored_payments_keep_a_terminal_unless_it_is_forced_and_it_keeps_its_card(tmp_path: Path) -> None:
    """D05: blocked as in B14 unless forced."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal, desk = await opened.add_terminal(NEAR), opened.services.devices
        await offline(opened)
        payment = await opened.until((await opened.take(2000)).payment.id, "stored")
        for reason, force in (("", False), ("dropped", False), ("", True)):
            await refused(desk.deactivate(terminal, MANAGER, reason, force=force), "pending_offline_payments")
        view = await desk.deactivate(terminal, MANAGER, "fell into the sea", force=True)
        assert (view.device.active, view.held_count) == (False, 1)
        assert (await body_of(opened, "device.deactivated"))["left_pending"] == 1
        assert [(one.id, one.held.count) for one in (await opened.services.overview.shop()).terminals] == [
            (terminal, 1)
        ]
        await opened.verdict(payment.id, CustodyEvent.CAPTURED)
        assert (await desk.get(terminal)).held_count == 0
        assert (await opened.services.overview.shop()).terminals == (), "its count is zero: the card may go"


async def test_an_app_on_a_phone_lives_the_same_life(tmp_path: Path) -> None:
    """D06."""
    async with shop(tmp_path) as opened:
        desk, life, ids = opened.services.devices, opened.services.life, opened.services.runtime.ids
        old, new = ids.new_id(), ids.new_id()
        await life.register_soft(old, "Tap", LOCATION, MANAGER)
        await life.register_soft(old, "Tap", LOCATION, MANAGER)
        assert await kinds_of(opened, old) == STEPS, "a repeat changes nothing"
        await life.register_soft(new, "Phone", LOCATION, MANAGER)
        assert (await refused(desk.assign(new, "Tap", "", None, MANAGER), "name_in_use")).params["device"] == old
        await refused(opened.services.life.sign_out(old, MANAGER), "device.gone")
        await desk.deactivate(old, MANAGER, "the app was removed")
        await desk.assign(new, "Tap", "", None, MANAGER)
        lives = await life.all()
        assert (lives[old].step, lives[new].step, lives[new].after) == (LifeStep.DISCOVERED, LifeStep.ACTIVE, old)
        assert (await refused(desk.activate(old, MANAGER), "name_in_use")).params["device"] == new
        await not_taken(opened, "no_terminal", 2000, terminal=old)
        told = [(one.terminal, one.reason) for one in await life.history(new, MANAGER)]
        assert told == [(old, "no_terminal")], "what was asked of the old one is listed under the name, as its own"


async def test_a_person_who_is_logged_in_is_neither_removed_nor_renamed(tmp_path: Path) -> None:
    """D03."""
    counter = counter_of(NEAR, FAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        staff, life, ids = opened.services.staff, opened.services.life, opened.services.runtime.ids
        roles = (("*", Role.OWNER.value),)
        owner, other = ids.new_id(), ids.new_id()
        await staff.add(NewPerson(owner, "Ada", "5512", "en", roles), MANAGER)
        await staff.add(NewPerson(other, "Bob", "7319", "en", roles), MANAGER)
        who = replace(MANAGER, staff=owner)
        terminals = []
        for url in (NEAR, FAR):
            terminals.append(await proposed(opened, url))
            await opened.services.devices.activate(terminals[-1], who)
            await opened.ready(terminals[-1])
        error = await refused(staff.remove(owner, MANAGER), "staff_logged_in")
        assert error.params["names"] == "Terminal, Terminal 2"
        assert str(error.params["devices"]).split(", ") == terminals
        await refused(staff.add(NewPerson(owner, "Eve", "5512", "en", roles), MANAGER), "staff_logged_in")
        await staff.add(NewPerson(owner, "Ada", "9035", "nl", roles), MANAGER)  # a PIN that was seen cannot wait
        await life.sign_out(terminals[0], MANAGER)
        await not_taken(opened, "no_terminal", 2000, terminal=terminals[0])
        await gone(opened, FAR, terminals[1])
        await refused(life.sign_out(terminals[1], MANAGER), "device.gone")
        error = await refused(staff.remove(owner, MANAGER), "staff_logged_in")
        assert error.params["names"] == "Terminal 2", "one that does not answer counts as logged in"
        await opened.services.devices.deactivate(terminals[1], MANAGER)
        await staff.remove(owner, MANAGER)


async def test_a_terminal_moves_only_without_money_and_takes_no_payment_elsewhere(tmp_path: Path) -> None:
    """D10."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal, life = await opened.add_terminal(NEAR), opened.services.life
        place = Location(opened.services.runtime.ids.new_id(), "Annex", "Europe/Paris", "EUR", "FR")
        await opened.services.staff.set_location(place, MANAGER)
        await offline(opened)
        payment = await opened.until((await opened.take(2000)).payment.id, "stored")
        await refused(life.move(terminal, place.id, MANAGER), "pending_offline_payments")
        await opened.verdict(payment.id, CustodyEvent.CAPTURED)
        await refused(life.move(terminal, opened.services.runtime.ids.new_id(), MANAGER), "location_unknown")
        assert (await life.move(terminal, place.id, MANAGER)).device.location == place.id
        await opened.ready(terminal)
        await not_taken(opened, "no_terminal", 2000)


async def test_with_two_providers_the_session_is_incomplete_until_both_are_done(tmp_path: Path) -> None:
    """D07."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal, life = await opened.add_terminal(NEAR), opened.services.life
        await life.declare(terminal, "PAX A920", ("CCV", "Other"), True, MANAGER)
        assert opened.problem("terminal.default_password") is not None
        counter.simulators[NEAR].faults.says = PARAMETERS_FAILED
        failed = await life.parameter_session(terminal, (), "fr", MANAGER)
        assert (failed.ran, failed.done, failed.left) == (True, False, ("CCV", "Other"))
        assert failed.steps[0] == "Ouvrez l'app Service.", "an Android model has the app"
        assert opened.problem("terminal.parameter_session") is not None
        counter.simulators[NEAR].faults.clear()
        told = await life.parameter_session(terminal, (), "en", MANAGER)
        assert counter.simulators[NEAR].called_home == ["parameter_session"]
        assert (told.ran, told.done, told.left) == (True, False, ("CCV", "Other")), "it does not say which it reached"
        assert not (await life.parameter_session(terminal, ("CCV",), "en", MANAGER)).done
        await refused(life.parameter_session(terminal, ("Nobody",), "en", MANAGER), "unknown_provider")
        last = await life.parameter_session(terminal, ("Other",), "en", MANAGER)
        assert (last.done, last.left, last.steps) == (True, (), ())
        assert opened.problem("terminal.parameter_session") is None
        await life.declare(terminal, "PAX A920", ("CCV",), False, MANAGER)
        assert opened.problem("terminal.default_password") is None
        assert (await life.parameter_session(terminal, (), "en", MANAGER)).done, "with one provider its word is enough"
        assert not (await opened.services.db.read("replay", replay.check)).differences


async def test_a_failed_configuration_is_a_problem_until_the_contact_went_well(tmp_path: Path) -> None:
    """D15."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal, life = await opened.add_terminal(NEAR), opened.services.life
        counter.simulators[NEAR].faults.says = CONFIGURATION_FAILED
        failed = await life.tms_contact(terminal, "en", MANAGER)
        assert (failed.ran, failed.done) == (True, False)
        assert "Choose Contact TMS." in failed.steps
        assert (await life.of(terminal)).needs is Needs.TMS_CONTACT
        assert opened.problem("terminal.tms_contact") is not None
    async with shop(tmp_path, counter, counter.runtime) as opened:
        life = opened.services.life
        assert opened.problem("terminal.tms_contact") is not None, "a start does not forget it"
        await opened.ready(terminal)
        counter.simulators[NEAR].faults.clear()
        counter.simulators[NEAR].update = "sim_2"
        done = await life.tms_contact(terminal, "en", MANAGER)
        assert (done.done, done.before, done.after) == (True, "Simulator sim_1", "Simulator sim_2")
        body = await body_of(opened, "device.tms_contacted")
        assert (body["ran"], body["before"], body["after"]) == (True, "Simulator sim_1", "Simulator sim_2")
        assert opened.problem("terminal.tms_contact") is None
        assert not (await opened.services.db.read("replay", replay.check)).differences


async def test_what_a_terminal_shows_during_a_payment_is_listened_to(tmp_path: Path) -> None:
    """D07."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal, life = await opened.add_terminal(NEAR), opened.services.life
        for _ in range(2):
            opened.services.dialogues.heard(
                terminal, ("Terminal 52500038", "La session de paramètres", "acquirer a expiré")
            )
            opened.services.dialogues.heard(terminal, ("Approved",))
        async with opened.services.runtime.clock.timeout(30):
            while opened.problem("terminal.parameter_session") is None or opened.services.jobs.running():
                await opened.services.runtime.clock.sleep(0.01)
        assert (await kinds_of(opened, terminal)).count("device.needs") == 1, "noted once"
        await life.parameter_session(terminal, (), "en", MANAGER)
        assert opened.problem("terminal.parameter_session") is None


async def test_no_call_home_during_a_payment_or_with_stored_ones(tmp_path: Path) -> None:
    """D15."""
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        terminal, life = await opened.add_terminal(NEAR), opened.services.life
        counter.simulators[NEAR].faults.answer_delay_s = 0.5
        running = (await opened.take(2000)).payment.id
        for act in (life.tms_contact(terminal, "en", MANAGER), life.parameter_session(terminal, (), "en", MANAGER)):
            await refused(act, "pending_offline_payments")
        counter.simulators[NEAR].faults.clear()
        await opened.until(running, "approved")
        await offline(opened)
        await opened.until((await opened.take(2000)).payment.id, "stored")
        await refused(life.tms_contact(terminal, "en", MANAGER), "pending_offline_payments")
        assert counter.simulators[NEAR].called_home == []


async def test_an_end_of_day_compares_the_terminals_own_payments_since_the_last_one(tmp_path: Path) -> None:
    counter = counter_of(NEAR, FAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        near, far, life = await opened.add_terminal(NEAR), await opened.add_terminal(FAR), opened.services.life
        for amount, terminal in ((2000, near), (3000, near), (900, far)):
            await opened.until((await opened.take(amount, terminal=terminal)).payment.id, "approved")
        closed = await life.end_of_day(near, MANAGER)
        told = [(row.what, row.terminal, row.hub, row.cloud, row.result.value) for row in closed.rows]
        assert told == [("count", 2, 2, None, "equal"), ("total", 5000, 5000, None, "equal")]
        await opened.until((await opened.take(700, terminal=near)).payment.id, "approved")
        closed = await life.end_of_day(near, MANAGER)
        assert [(row.terminal, row.hub, row.result.value) for row in closed.rows] == [
            (1, 1, "equal"),
            (700, 700, "equal"),
        ]
        counter.simulators[NEAR].decide(Order(1500), stopped=False)  # somebody pays there without the hub
        closed = await life.end_of_day(near, MANAGER)
        assert [(row.terminal, row.hub, row.result.value) for row in closed.rows] == [
            (1, 0, "different"),
            (1500, 0, "different"),
        ]
        assert opened.problem("terminal.totals_differ") is not None
        await life.end_of_day(near, MANAGER)
        assert opened.problem("terminal.totals_differ") is None, "the next one agrees"
        assert not (await opened.services.db.read("replay", replay.check)).differences


async def test_a_payment_undone_after_its_batch_makes_the_next_comparison_unknown(tmp_path: Path) -> None:
    counter = counter_of(NEAR)
    async with shop(tmp_path, counter, counter.runtime) as opened:
        near, life = await opened.add_terminal(NEAR), opened.services.life
        paid = (await opened.take(2000)).payment.id
        await opened.until(paid, "approved")
        await life.end_of_day(near, MANAGER)
        await opened.services.payments.reverse(paid, MANAGER)
        await opened.until(paid, "reversed")
        closed = await life.end_of_day(near, MANAGER)
        assert {row.result.value for row in closed.rows} == {"not_known"}
        assert opened.problem("terminal.totals_differ") is None
