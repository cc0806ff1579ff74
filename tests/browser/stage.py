"""A real hub with a page, real terminals' simulators and a line that a test cuts: every state of the first screen.

Nothing of the hub is replaced. What lies outside it is: the measured facts are given to the outage desk as a line
would give them, and the cloud's word (confirmations, verdicts) is written as the entries and cursors it leads to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from drivers.registry import Registry
from hubd.model.entry import Draft
from hubd.model.mode import Hop, Mode
from hubd.model.payment import Tender
from hubd.model.permissions import Role
from hubd.runtime import Runtime, SystemIds
from hubd.services.staff import NewPerson
from hubd.store import cursors, journal
from hubd.store.cursors import Cursor
from hubd.store.tx import Tx
from tests.rigs.api import ServedHub, served_hub
from tests.rigs.process import wait_until
from tests.unit.clocks import JumpingClock
from tests.unit.services.shop import BOOT, DRIVERS, LOCATION, MANAGER, TILL_1, Shop, Terminals, shop_runtime, till

PIN = "7319"
OWNER = "Marie Lambert"
WAIT_S = 15


@dataclass
class Stage:
    """The shop as a test sets it up."""

    served: ServedHub
    clock: JumpingClock
    counter: Terminals
    gone: set[str] = field(default_factory=set)
    """Terminals that a test has unplugged."""

    @property
    def shop(self) -> Shop:
        return self.served.shop

    @property
    def url(self) -> str:
        return self.served.https

    # -- people and devices --------------------------------------------------------------------------------------------

    async def open_shop(self, *terminals: str) -> list[str]:
        """An owner, a till named Caisse 1, a shop's name, offline cards on, and terminals; returns their ids."""
        services = self.shop.services
        ids = services.runtime.ids
        owner = NewPerson(ids.new_id(), OWNER, PIN, "fr", (("*", Role.OWNER.value),))
        await services.staff.add(owner, MANAGER)
        await services.settings.put("hub", "store.name", "Épicerie Lambert")
        await self.allow_offline_cards()
        body = {
            "kind": "till",
            "name": "Caisse 1",
            "location": LOCATION,
            "origin": "",
            "language": "fr",
            "token_sha256": "11" * 32,
            "public_key": None,
        }
        await self.append("device.paired", TILL_1, body)
        found = []
        for number, name in enumerate(terminals, start=1):
            url = f"tcp://terminal-{number}:20007"
            self.counter.add(url)
            device = await self.shop.add_terminal(url)
            await services.devices.assign(device, name, "", None, MANAGER)
            found.append(device)
        return found

    async def allow_offline_cards(self, enabled: bool = True) -> None:
        policy = dict((await self.shop.services.settings.get("outage_policy.terminal")).value)
        await self.shop.services.settings.put("hub", "outage_policy.terminal", policy | {"enabled": enabled})

    async def unplug(self, number: int, device: str) -> None:
        url = f"tcp://terminal-{number}:20007"
        self.counter.unplugged.add(url)
        await self.counter.simulators[url].unplug()
        self.gone.add(device)
        await self.until(lambda: not self._answers(device), "the terminal to be missed")

    async def plug(self, number: int, device: str) -> None:
        url = f"tcp://terminal-{number}:20007"
        self.counter.unplugged.discard(url)
        self.counter.simulators[url].replug()
        self.gone.discard(device)
        await self.until(lambda: self._answers(device), "the terminal to be back")

    def _answers(self, device: str) -> bool:
        status = self.shop.services.terminals.status(device)
        return status is not None and status.state in {"ready", "busy"}

    # -- the line ------------------------------------------------------------------------------------------------------

    async def line(self, pattern: str, *, seconds: float = 15.0, expect: Mode) -> None:
        """Let facts hold for a while: six letters, link to cloud, + works, - fails, ? not measured."""
        facts = self.shop.services.outages.facts()
        for _ in range(int(seconds) + 1):
            now_ms = int(self.clock.monotonic() * 1000)
            for hop, letter in zip(Hop, pattern, strict=True):
                ok = {"+": True, "-": False, "?": None}[letter]
                facts = facts.with_hop(hop, facts.hop(hop).measured(ok, now_ms))
            await self.shop.services.outages.observe(facts)
            self.clock.ahead_s += 1.0
        found = self.shop.services.outages.snapshot().mode
        assert found is expect, f"the mode is {found}, not {expect}"
        await self._heard()

    async def _heard(self) -> None:
        """Every terminal that is plugged in answers once: the clocks have jumped, its keep-alive has not."""
        for attached in self.shop.services.terminals.all():
            if attached.id not in self.gone:
                async with attached.lock:
                    await attached.terminal.baseline()
                await self.until(partial(self._answers, attached.id), "terminals to answer again")

    async def online(self) -> None:
        await self.line("++++++", expect=Mode.ONLINE)

    async def cut(self) -> None:
        await self.line("++----", expect=Mode.NETWORK_OUTAGE)
        for simulator in self.counter.simulators.values():
            simulator.host_up = False

    async def disturb(self) -> None:
        await self.line("++++--", expect=Mode.SERVICE_DISRUPTION)
        for simulator in self.counter.simulators.values():
            simulator.host_up = False

    async def pass_time(self, hours: float) -> None:
        """Let time pass; the terminals are heard again afterwards."""
        self.clock.ahead_s += hours * 3600
        await self._heard()

    # -- money and the cloud -------------------------------------------------------------------------------------------

    async def pay(self, amount: int, until: str = "stored", **more: object) -> str:
        """A card payment of Caisse 1, once it is in that state."""
        taken = await self.shop.take(amount, till(), **more)
        return (await self.shop.until(taken.payment.id, until)).id

    async def pay_cash(self, amount: int) -> None:
        """A cash sale of Caisse 1."""
        await self.shop.take(amount, till(), tender=Tender.CASH)

    async def append(self, kind: str, subject: str, body: Mapping[str, object], actor: str = "hub") -> None:
        await self.shop.services.db.write("stage", lambda tx: journal.append(tx, Draft(kind, subject, actor, body)))

    async def verdict(self, payment: str, *events: str) -> None:
        """The custodian's and the bank's word on a stored payment."""
        for event in events:
            await self.append(f"payment.{event}", payment, {"reason": ""})

    async def enrol(self) -> None:
        await self.append("hub.enrolled", "", {"tenant": "t", "store": "s", "locations": [], "root_key": "22" * 32})

    async def confirm(self) -> None:
        """The cloud confirms everything that is written."""

        def work(tx: Tx) -> None:
            cursors.put(tx, cursors.CONFIRMED, Cursor(tx.head.line, tx.head.seq, tx.head.hash, tx.now_us()))

        await self.shop.services.db.write("stage.confirm", work)

    async def state_outage(
        self,
        outage: str,
        finality: str = "final",
        *,
        agrees: bool = True,
        unheard: Sequence[str] = (),
        **more: object,
    ) -> str:
        """The cloud's statement about an outage arrives; returns its id. An early one names no terminals at all."""
        statement = self.shop.services.runtime.ids.new_id()
        head = self.shop.services.db.head
        known = (await self.shop.services.outages.get(outage)).outage
        buckets = {name: {"count": 0, "total": 0} for name in ("cash", "declined_late", "processing", "unknown")}
        buckets |= {name: {"count": 2, "total": 2422} for name in ("taken", "captured")}
        document: dict[str, object] = {
            "id": statement,
            "outage": outage,
            "finality": finality,
            "started_at_us": known.started_at_us,
            "ended_at_us": known.ended_at_us,
            "replaces": None,
            "format": 1,
            "key_id": "k1",
            "signature": "ab" * 64,
            "ranges": [{"line": head.line.hex(), "from_seq": 1, "upto_seq": head.seq, "hash": head.hash.hex()}],
            "totals": [{"currency": "EUR", "exponent": 2, "kind": "sale", "buckets": buckets}],
            "open": 0,
            "lost": 0,
            "doubled": 0,
        }
        if unheard:
            document["unheard"] = list(unheard)
        document |= more
        body = {"agrees": agrees, "cause": {}, "reasons": [], "statement": document}
        await self.append("statement.received", statement, body)
        return statement

    async def note_problems(self) -> None:
        """What the hub's own worker does every two seconds."""
        overview = self.shop.services.overview
        overview.note(await overview.shop())

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        await wait_until(condition, WAIT_S, what)

    async def session(self) -> str:
        """A session of the owner, as the page's cookie holds it."""
        people = await self.shop.services.staff.everybody()
        opened = await self.shop.services.access.sign_in(people[0].id, PIN, device=None)
        return opened.token


@asynccontextmanager
async def stage(folder: Path, registry: Registry = DRIVERS) -> AsyncIterator[Stage]:
    """Open an empty hub with its page; nothing is set up yet."""
    clock = JumpingClock()
    runtime = Runtime(clock, SystemIds(), shop_runtime().rng, BOOT, b"1-process")
    counter = Terminals(runtime)
    async with served_hub(folder, runtime, counter, page=True, registry=registry) as served:
        yield Stage(served, clock, counter)
