"""The trading hub of production in this process, without servers: a store with eight tills and an outage policy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from drivers.registry import Registry
from drivers.runner import accept_none
from hubd.app import World, trading_hub
from hubd.errors import DeviceError
from hubd.identity import KeySigner
from hubd.model.entry import Draft
from hubd.model.money import Money
from hubd.model.payment import Method, Tender
from hubd.model.permissions import TILL_PERMISSIONS
from hubd.model.policy import SHIPPED, SHIPPED_VERSION, Elapsed
from hubd.ports import ByteStream
from hubd.runtime import Runtime, system_runtime
from hubd.services.access import Caller, token_digest
from hubd.services.bundle import Services
from hubd.services.pins import ThreadedScrypt
from hubd.services.taking import OutageView, Taken, TakePayment, TerminalView, take
from hubd.store import journal, payments
from hubd.store.tx import Tx
from hubd.supervisor import Supervisor

TILLS = 8
"""Tills that take payments in this process."""
PAIRED = 64
"""Tills that are paired: enough for many callers over the API, each with its share of calls and streams."""
LOCATION = "018f0000-0000-7000-8000-000000000001"
STORE_FILE = "hub.sqlite"
SEED = bytes(range(32))
"""Of the hub's key."""
POLICY = replace(SHIPPED["terminal"], enabled=True)


async def _no_devices(url: str) -> ByteStream:
    raise DeviceError("device.unreachable", f"This bench has no devices ({url}).")


@dataclass(frozen=True, slots=True)
class Shop:
    """What a bench asks for payments."""

    services: Services
    supervisor: Supervisor
    runtime: Runtime
    signer: KeySigner
    callers: tuple[Caller, ...]
    outage: OutageView

    def request(self, number: int, tender: Tender = Tender.CASH) -> TakePayment:
        """A payment that nobody has asked for yet."""
        id_ = self.runtime.ids.new_id()
        method = Method.CASH if tender is Tender.CASH else Method.CARD
        money = Money(100 + number % 9_000, "EUR")
        return TakePayment(id_, sha256(id_.encode()).digest(), money, tender=tender, method=method)

    async def cash(self, number: int) -> Taken:
        """A cash payment as the API takes it: journal entry, receipt number, projection, totals; done on disk."""
        return await self.services.payments.take(self.request(number), self.callers[number % TILLS])

    async def card_in_outage(self, number: int) -> Taken:
        """The intent of a card payment in an outage: the policy in force is read and decides, then the same as above.

        Without the dialogue with a terminal, which no bench of storage should measure.
        """
        request, caller = self.request(number, Tender.CARD), self.callers[number % TILLS]
        terminal, outage = TerminalView("terminal-1"), self.outage

        def work(tx: Tx) -> Taken:
            known = payments.get(tx.connection, request.id)
            return take(tx, request, caller, terminal, outage, None, existing=known, must_announce=False)

        return await self.services.db.write("payment.take", work)


def till_id(number: int) -> str:
    return f"018f0000-0000-7000-8000-{number + 16:012x}"


def till_token(number: int) -> str:
    """As long as a token is; nothing that leaves a bench."""
    return f"bench-{number:037d}"


def _caller(number: int) -> Caller:
    return Caller(till_id(number), None, LOCATION, TILL_PERMISSIONS, "en")


def _paired(number: int) -> Draft:
    body = {
        "kind": "till",
        "name": f"Till {number + 1}",
        "location": LOCATION,
        "origin": "",
        "language": "en",
        "token_sha256": token_digest(till_token(number)).hex(),
        "public_key": None,
    }
    return Draft("device.paired", till_id(number), "hub", body)


def _set_up(policy: dict[str, object], at_us: int) -> Callable[[Tx], None]:
    place = {"name": "Rue des Lices", "zone": "Europe/Paris", "currency": "EUR", "country": "FR"}
    setting = {
        "key": "outage_policy.terminal",
        "value": policy,
        "scope": "hub",
        "effective_from_us": at_us,
        "version": SHIPPED_VERSION + 1,
        "source": "local",
    }

    def work(tx: Tx) -> None:
        journal.append(tx, Draft("location.set", LOCATION, "hub", place))
        journal.append(tx, Draft("setting.changed", "outage_policy.terminal", "hub", setting))
        for number in range(PAIRED):
            journal.append(tx, _paired(number))

    return work


@asynccontextmanager
async def shop(place: Path) -> AsyncIterator[Shop]:
    """A shop whose store lies in `place`; an existing store goes on."""
    runtime = system_runtime()
    signer = KeySigner(SEED)
    world = World(
        database=place / STORE_FILE,
        runtime=runtime,
        signer=signer,
        open_transport=_no_devices,
        accept_lines=accept_none,
        registry=Registry(()),
        pins=ThreadedScrypt(runtime.ids.token_bytes),
        fingerprint="00" * 32,
    )
    async with trading_hub(world) as hub:
        now = runtime.clock.now_us()
        if hub.services.db.head.seq < 2:
            await hub.services.db.write("bench.set_up", _set_up(POLICY.as_json(), now))
        outage = OutageView("018f0000-0000-7000-8000-0000000000ff", now - 60_000_000, Elapsed(60, 61), True)
        yield Shop(
            hub.services, hub.supervisor, runtime, signer, tuple(_caller(number) for number in range(TILLS)), outage
        )
