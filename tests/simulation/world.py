"""A store from one seed: hub, tills, terminals, a manager, a line to the cloud, and everything that can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from drivers.kit.virtual_time import VirtualClock
from hubd.services.lines import LineReason
from tests.simulation.checkers import Checks, payments_in
from tests.simulation.devices import TerminalBox
from tests.simulation.disk import CutPoint
from tests.simulation.faults import CallFaults, Options
from tests.simulation.link import Link
from tests.simulation.machine import HubMachine, terminal_of
from tests.simulation.seeded import SeededIds, stream
from tests.simulation.trace import Trace
from tests.simulation.workload import Manager, OrderMade, Sale, Till

LOOK_EVERY_S = 240.0
QUIET_S = 60.0
PRINTS_REFERENCE = 0.25
"""How many terminals print the payment's id: many real ones do not."""
DRAIN_MAX_S = 2400.0
MOMENTS_MAX = 800
BAD_MOMENT = 0.4
"""How often a copy is made at the one bad moment, and how often at the other; else it is made at any."""


class Store:
    """One run."""

    def __init__(self, seed: int, options: Options, folder: Path, trace: Trace) -> None:
        self.seed = seed
        self.options = options
        self.calls = options.calls
        self.trace = trace
        self.clock = VirtualClock()
        self.dice = stream(seed, "store")
        self._open = True
        self.errors: list[BaseException] = []
        self.checks = Checks(self)
        self.link = Link(self, folder / "cloud")
        self._folder = folder
        self.hubs = [HubMachine(self, "hub", folder / "hub", stream(seed, "key").randbytes(32))]
        self.retired: list[HubMachine] = []
        """Hubs that were switched off for good."""
        self.tills = [Till(self, f"till{n + 1}", self.hubs[0]) for n in range(options.tills)]
        self.managers = [Manager(self, self.hubs[0])]
        self.terminals: list[TerminalBox] = []
        self._backups: list[dict[str, bytes]] = []
        self._group: asyncio.TaskGroup

    def put_away(self) -> None:
        """Let go of every file, however the run ended."""
        for hub in (*self.hubs, *self.retired):
            hub.disk.put_away()
        self.link.put_away()

    # -- looked up by others -------------------------------------------------------------------------------------------

    def terminal(self, url: str) -> TerminalBox:
        """The terminal at this address."""
        return terminal_of(url, self.terminals)

    def sale(self, payment_id: str) -> Sale | None:
        """What a till's ledger says of a payment."""
        return next((till.sales[payment_id] for till in self.tills if payment_id in till.sales), None)

    def sales_of(self, hub: HubMachine) -> list[Sale]:
        """The ledgers of a hub's tills."""
        return [sale for till in self.tills if till.hub is hub for sale in till.sales.values()]

    def orders_of(self, hub: HubMachine) -> list[OrderMade]:
        """The orders of a hub's tills."""
        return [order for till in self.tills if till.hub is hub for order in till.orders.values()]

    def hub_is_up(self, hub: HubMachine) -> None:
        """A hub answers again: whatever it was told before must still be there."""
        self.checks.look(hub)

    def trades(self) -> bool:
        """Whether the shop is open."""
        return self._open

    def keep_error(self, error: BaseException) -> None:
        """For the report of a run that failed."""
        self.errors.append(error)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something beside everything else."""
        self._group.create_task(work, name=name)

    def serve(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """The same, for who will end it."""
        return self._group.create_task(work, name=name)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Call `what` after so many seconds, unless the shop has closed."""

        async def wait() -> None:
            await self.clock.sleep(seconds)
            if self.trades():
                what()

        self.start(wait(), "later")

    # -- the run -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The whole run; ends early with the first violation."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            story = group.create_task(self._story(), name="story")
            stopped = group.create_task(self.trace.stopped.wait(), name="stopped")
            await asyncio.wait([story, stopped], return_when=asyncio.FIRST_COMPLETED)
            me = asyncio.current_task()
            for task in asyncio.all_tasks():
                if task is not me and (task is story or task is stopped or self.trace.violation is not None):
                    task.cancel()
            if self.trace.violation is None:
                await story
            for box in self.terminals:
                await box.sim.unplug()
                for line in box.lines:
                    line.device.cut()

    def _make_terminals(self) -> None:
        ids = SeededIds(stream(self.seed, "devices"))
        for n in range(self.options.terminals):
            dice = stream(self.seed, f"terminal{n}")
            url = f"serial:///dev/terminal{n}" if dice.random() < 0.3 else f"tcp://terminal{n}:20007"
            prints = stream(self.seed, f"terminal{n}:prints").random() < PRINTS_REFERENCE
            box = TerminalBox(
                f"terminal{n + 1}", url, self.trace, self.clock, dice, self._group, self.checks.booked, ids.new_id(),
                prints,
            )  # fmt: skip
            self.terminals.append(box)

    async def _story(self) -> None:
        self._make_terminals()
        self.link.start()
        hub = self.hubs[0]
        hub.start()
        await hub.until_up()
        async with asyncio.TaskGroup() as trading:
            for till in self.tills:
                trading.create_task(till.work(), name=till.name)
            trading.create_task(self.managers[0].work(), name="manager")
            faults = [trading.create_task(work, name="fault") for work in self._faults(hub)]
            await self.clock.sleep(self.options.hours * 3600)
            self.trace.note("store", "closes")
            self._open = False
            for fault in faults:
                fault.cancel()
            await self._heal()
        await self._retire_clones()
        await self._settle()

    def _faults(self, hub: HubMachine) -> list[Coroutine[Any, Any, None]]:
        options = self.options
        found: list[Coroutine[Any, Any, None]] = [self._look(), self._break_link(), self._backup(hub), self._clone(hub)]
        if options.devices.every_s:
            found += [self._break_terminal(box) for box in self.terminals]
        if options.disk.every_s:
            found.append(self._break_disk(hub))
        if options.power.every_s:
            found.append(self._cut_power(hub))
        if options.clock.every_s:
            found.append(self._turn_clock(hub))
        if options.history.cloud_kills_every_s:
            found.append(self._kill_cloud())
        return found

    # -- faults --------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            await self.clock.sleep(LOOK_EVERY_S)
            for hub in self.hubs:
                self.checks.look(hub)

    async def _break_terminal(self, box: TerminalBox) -> None:
        while True:
            await self.clock.sleep(box.dice.expovariate(1 / self.options.devices.every_s))
            await box.go_wrong(self.options.devices)

    async def _break_disk(self, hub: HubMachine) -> None:
        dice, faults, disk = stream(self.seed, "break-disk"), self.options.disk, hub.disk
        while True:
            await self.clock.sleep(dice.expovariate(1 / faults.every_s))
            kind = dice.choice(("full", "slow", "statement"))
            self.trace.note(hub.name, "disk", kind)
            if kind == "full":
                disk.fill(dice.randint(0, 12))
            elif kind == "slow":
                disk.slow_s = dice.uniform(0, faults.slow_s)
            else:
                disk.fail_statement = dice.randint(1, 120)
            await self.clock.sleep(dice.expovariate(1 / faults.lasts_s))
            if disk.powered:
                disk.make_room()
            self.trace.note(hub.name, "disk-well")

    async def _cut_power(self, hub: HubMachine) -> None:
        dice, faults = stream(self.seed, "power" if hub is self.hubs[0] else f"power:{hub.name}"), self.options.power
        while hub in self.hubs:
            await self.clock.sleep(dice.expovariate(1 / faults.every_s))
            kind = dice.random()
            if kind < faults.at_a_commit:
                hub.disk.cut_at_commit(dice.randint(1, 12), dice.choice(list(CutPoint)))
            elif kind < faults.at_a_commit + faults.at_a_money_command:
                hub.money_cut = dice.choice(list(CutPoint))
            elif dice.random() < faults.only_the_process:
                hub.process_kill()
            else:
                hub.power_cut()

    async def _turn_clock(self, hub: HubMachine) -> None:
        dice, faults = stream(self.seed, "clock"), self.options.clock
        while True:
            await self.clock.sleep(dice.expovariate(1 / faults.every_s))
            seconds = dice.gauss(0, faults.jump_s)
            self.trace.note(hub.name, "clock-jumps", f"{seconds:.0f}")
            hub.clock.set_trusted(dice.random() < 0.5)
            hub.clock.jump(seconds)
            await self.clock.sleep(dice.expovariate(1 / faults.every_s))
            hub.repair_clock()

    async def _break_link(self) -> None:
        dice, faults = stream(self.seed, "link"), self.options.link
        while faults.every_s:
            await self.clock.sleep(dice.expovariate(1 / faults.every_s))
            self.link.go_down(cloud_alone=dice.random() < faults.service_alone)
            for box in self.terminals:
                box.sim.host_up = dice.random() < 0.2
            await self.clock.sleep(dice.expovariate(1 / faults.lasts_s))
            self.link.come_back()
            for box in self.terminals:
                box.sim.host_up = True

    async def _kill_cloud(self) -> None:
        """The cloud's process dies now and then; once in a while it comes back on an earlier disk."""
        dice, faults = stream(self.seed, "cloud-kill"), self.options.history
        saved: dict[str, bytes] | None = None
        while True:
            await self.clock.sleep(dice.expovariate(1 / faults.cloud_kills_every_s))
            if dice.random() < faults.cloud_restore:
                if saved is None:
                    saved = self.link.files()
                else:
                    await self.link.kill(saved)
            else:
                await self.link.kill()

    async def _backup(self, hub: HubMachine) -> None:
        """Take a copy of the disk, and perhaps put it back later."""
        dice, faults, hours = stream(self.seed, "backup"), self.options.history, self.options.hours
        if dice.random() >= faults.restore:
            return
        await self.clock.sleep(dice.uniform(0.1, 0.6) * hours * 3600)
        await hub.until_up()
        await self._until_a_bad_moment(hub, dice.random())
        saved = hub.disk.files()
        self.trace.note(hub.name, "backup")
        await self.clock.sleep(dice.uniform(0.02, 0.3) * hours * 3600)
        await hub.until_up()
        reason = LineReason.RESTORED if dice.random() < faults.restore_is_announced else None
        offline = dice.random() < 0.6
        if offline:
            self.link.go_down(cloud_alone=False)
        hub.restore(saved, reason, dice.uniform(5, 60))
        if dice.random() < faults.restarts_after:
            await hub.until_up()
            await self.clock.sleep(dice.uniform(0, 20))
            hub.process_kill()
        if offline:
            await self.clock.sleep(dice.uniform(60, 240))
            self.link.come_back()

    async def _clone(self, hub: HubMachine) -> None:
        """Boot a copy of the hub's disk beside it; one till, and perhaps a terminal, are the clone's for a while."""
        dice, faults, hours = stream(self.seed, "clone"), self.options.history, self.options.hours
        anew = stream(self.seed, "clone:anew")
        if dice.random() >= faults.clone:
            return
        await self.clock.sleep(dice.uniform(0, 0.5) * hours * 3600)
        await hub.until_up()
        await self._until_a_bad_moment(hub, dice.random())
        image = hub.disk.files()
        self.trace.note(hub.name, "copied")
        await self.clock.sleep(dice.choice((0.0, dice.uniform(0, 0.1) * hours * 3600)))
        clone = HubMachine(self, "clone", self._folder / "clone", hub.key)
        self.hubs.append(clone)
        clone.boot_beside(image, LineReason.REPLACED if dice.random() < faults.clone_notices else None)
        if dice.random() >= faults.clone_shares and len(self.terminals) > 1:
            mine = dice.choice(self.terminals)
            for box in self.terminals:
                box.plug_into(clone.name if box is mine else hub.name)
        await clone.until_up()
        dice.choice(self.tills).move(clone)
        if anew.random() < faults.clone_enrolled_anew:
            await self.clock.sleep(anew.uniform(0, 0.15) * hours * 3600)
            await clone.until_up()
            clone.enrol_anew(anew.randbytes(32))
        async with asyncio.TaskGroup() as troubles:
            if self.options.power.every_s:
                troubles.create_task(self._cut_power(clone), name="fault")
            if dice.random() >= faults.clone_stays:
                await self.clock.sleep(dice.uniform(0.02, 0.3) * hours * 3600)
                await self._retire(clone)

    async def _retire(self, clone: HubMachine) -> None:
        """Switch a clone off for good; its tills find the other hub again."""
        self.hubs.remove(clone)
        self.retired.append(clone)
        await clone.retire()
        for box in self.terminals:
            box.plug_into("")
        for till in self.tills:
            if till.hub is clone:
                till.move(self.hubs[0])

    async def _retire_clones(self) -> None:
        """When the shop has closed, what a clone has done reaches the cloud, and then it is switched off."""
        for clone in self.hubs[1:]:
            await clone.until_up()
            clone.disk.make_room()
            await self.link.drained()
            await clone.close()
            self.checks.clone(clone)
            self.link.confirmed_all(clone)
            self.link.enrolled_anew(clone)
            await self._retire(clone)

    async def _until_a_bad_moment(self, hub: HubMachine, kind: float) -> None:
        """When a copy is most wrong later: while a payment is on its way to a terminal, or entries to the cloud."""
        for _ in range(MOMENTS_MAX):
            if kind >= 2 * BAD_MOMENT:
                return
            await self.clock.sleep(0.25)
            if hub.is_up and kind < BAD_MOMENT:
                kind += any(row.state == "requested" for row in payments_in(hub.disk.path).values())
            elif hub.is_up and hub.sync is not None:
                kind += hub.sync.status.unsent_count > 0

    # -- the end -------------------------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        self.calls = CallFaults(0, 0, 0, 0)
        self.link.heal()
        for box in self.terminals:
            await box.heal()
        for hub in self.hubs:
            if hub.disk.powered:
                hub.disk.make_room()
            hub.disk.cut_at_commit(0, CutPoint.AFTER)
            hub.disk.fail_statement, hub.disk.slow_s = 0, 0.0
            hub.money_cut = None
            hub.repair_clock()

    async def _settle(self) -> None:
        """Let everything come to an end by itself, let the manager decide the rest, and look at all of it."""
        for hub in self.hubs:
            await hub.until_up()
            hub.disk.make_room()
        for _ in range(2):  # what a till announces the second time has to be decided too
            for till in self.tills:
                await till.settle()
            await self._quiet()
            for manager in self.managers:
                await manager.decide()
            await self._quiet()
        await self.link.drained()
        self.trace.note("store", "settled")
        for hub in self.hubs:
            await hub.close()
        for hub in self.hubs:
            self.checks.final(hub)
        self.link.final()
        await self.link.close()

    async def _quiet(self) -> None:
        """Wait until no hub has work left that it does by itself."""
        until = self.clock.monotonic() + DRAIN_MAX_S
        quiet_since = self.clock.monotonic()
        while self.clock.monotonic() - quiet_since < QUIET_S:
            await self.clock.sleep(5.0)
            busy = [job for hub in self.hubs for job in hub.busy()]
            if busy:
                quiet_since = self.clock.monotonic()
            if self.clock.monotonic() > until:
                self.trace.broken("everything drains", f"still busy after {DRAIN_MAX_S:.0f} s: {busy}")
                return
