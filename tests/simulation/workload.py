"""Tills and a manager. Each till keeps a ledger of its own of what it asked for and what it was told."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from hubd.errors import HubError, Retry
from hubd.model.mode import Mode
from hubd.model.money import Money
from hubd.model.order import OrderLine
from hubd.model.payment import ManualStatus, Method, Payment, PaymentKind, PaymentState, Tender
from hubd.model.permissions import ROLE_PERMISSIONS, Permission, Role
from hubd.model.policy import SHIPPED
from hubd.services.access import Caller
from hubd.services.bundle import Services
from hubd.services.orders import PlaceOrder
from hubd.services.payments import Refund
from hubd.services.taking import TakePayment
from hubd.services.till_lines import Held
from hubd.store.payments import PaymentFilter
from tests.simulation.machine import LOCATION, HubMachine, LostError, administrator
from tests.simulation.seeded import Random, SeededIds, stream

if TYPE_CHECKING:
    from tests.simulation.world import Store

PATIENCE_S = 30.0
FOLLOW_S = 400.0
"""How long a cashier watches a card payment before she serves the next customer."""
LOOK_AGAIN_S = 45.0
SPECIAL_AMOUNTS = (5, 11, 12, 13, 14, 20, 90)
OPEN = frozenset(
    {PaymentState.REQUESTED, PaymentState.IN_PROGRESS, PaymentState.UNKNOWN, PaymentState.REVERSAL_PENDING}
)


class Kind(StrEnum):
    """What a till asked for."""

    CASH = "cash"
    CARD = "card"
    REFUND = "refund"


@dataclass(slots=True)
class Sale:
    """A line of a till's ledger."""

    id: str
    kind: Kind
    amount: int
    request: TakePayment | None
    original: str = ""
    order_id: str | None = None
    attempts: int = 0
    first_hub_line: str = ""
    """The hub's place that the till had seen when it first asked: what a repeat must send back."""
    accepted: tuple[str, int, str] | None = None
    """Line, seq and hash as told: from here on the payment is acknowledged."""
    told: list[str] = field(default_factory=list)
    """The states that the till has been told, in order."""
    given_up: str = ""
    """The code of a refusal that is final for this id."""
    reversal: str = ""
    """asked, or done."""
    overridden: bool = False
    announced: bool = False
    shaken: bool = False
    """Its hub was restored since, or its till speaks to another hub now: only what is announced is sure to be known."""

    @property
    def done(self) -> bool:
        """Whether the till knows where it stands."""
        return self.accepted is not None or bool(self.given_up)


@dataclass(slots=True)
class OrderMade:
    """An order in a till's ledger."""

    id: str
    total: int
    request: PlaceOrder
    accepted: tuple[str, int, str] | None = None
    number: str = ""
    shaken: bool = False
    """See `Sale`."""


class Till:
    """One till with its cashier."""

    def __init__(self, store: Store, name: str, hub: HubMachine) -> None:
        self.store = store
        self.trace = store.trace
        self.name = name
        self.hub = hub
        self.dice: Random = stream(store.seed, f"till:{name}")
        self.ids = SeededIds(stream(store.seed, f"till-ids:{name}"))
        self.id = self.ids.new_id()
        self.hub_line = ""
        self.mode = Mode.UNKNOWN
        """In which mode the hub was when it was asked last."""
        self.sales: dict[str, Sale] = {}
        self.orders: dict[str, OrderMade] = {}
        self.idle = True
        self.distrusts = False
        """The hub's line has changed: before the hub knows what this till holds, it may tell of an older state."""

    def move(self, hub: HubMachine) -> None:
        """Speak to another hub of the same identity from now on; the till itself cannot tell."""
        self.trace.note(self.name, "moves-to", hub.name)
        self.hub = hub
        for sale in self.sales.values():
            sale.shaken = True
        for order in self.orders.values():
            order.shaken = True

    # -- the line to the hub -------------------------------------------------------------------------------------------

    def caller(self, attempt: int, hub_line: str, *, override: bool = False) -> Caller:
        """As the edge establishes it."""
        permissions = ROLE_PERMISSIONS[Role.MANAGER] - ({Permission.PAYMENTS_OVERRIDE} if not override else set())
        return Caller(self.id, None, LOCATION.id, permissions, "en", attempt, hub_line)

    async def ask(
        self,
        what: str,
        fn: Callable[[Services, Caller], Awaitable[Any]],
        attempt: int = 1,
        hub_line: str | None = None,
        *,
        override: bool = False,
    ) -> Any:
        """One request; returns the result or the HubError. Raises LostError when no answer came."""
        faults, dice = self.store.calls, self.dice
        seen = self.hub_line if hub_line is None else hub_line
        caller = self.caller(attempt, seen, override=override)

        async def call(services: Services) -> Any:
            if seen:
                await services.tills.check(self.id, seen)
            return await fn(services, caller)

        if dice.random() < faults.lose_request:
            await self.store.clock.sleep(dice.uniform(0, PATIENCE_S))
            raise LostError
        if dice.random() < faults.twice:
            self.store.start(self._second(call), f"{self.name}:second")
        patience_s = dice.uniform(0, 1.0) if dice.random() < faults.impatient else PATIENCE_S
        answer = await self.hub.request(call, patience_s)
        if dice.random() < faults.lose_answer:
            raise LostError
        self.distrusts = self.distrusts or answer.hub_line.split(":")[0] != self.hub_line.split(":")[0] != ""
        self.mode = answer.mode
        if not isinstance(answer.result, (HubError, LostError)):
            self.hub_line = answer.hub_line  # a refusal does not move the till's place: nothing was accepted
        if isinstance(answer.result, LostError):
            raise answer.result
        if isinstance(answer.result, HubError):
            self.trace.note(self.name, "refused", what, answer.result.code)
        return answer.result

    async def _second(self, call: Callable[[Services], Awaitable[Any]]) -> None:
        try:
            await self.hub.request(call, PATIENCE_S)
        except LostError:
            return

    async def until_answered(
        self, what: str, fn: Callable[[Services, Caller], Awaitable[Any]], sale: Sale | None = None
    ) -> Any:
        """Repeat the same request until there is an answer that is not "later"."""
        attempt, pause_s = 0, 1.0
        first = self.hub_line
        if sale is not None:
            sale.first_hub_line = sale.first_hub_line or self.hub_line
        while True:
            attempt += 1
            if sale is not None:
                attempt = sale.attempts = sale.attempts + 1
                first = sale.first_hub_line
            try:
                answer = await self.ask(
                    what, fn, attempt, first if attempt > 1 else None, override=sale is not None and sale.overridden
                )
            except LostError:
                answer = None
            if isinstance(answer, HubError) and answer.code == "hub_line_changed":
                await self._announce()
                first = self.hub_line
            elif answer is None or (isinstance(answer, HubError) and answer.retry is Retry.SAME_REQUEST):
                if answer is not None and answer.code == "payment_unknown":
                    return answer
                await self.store.clock.sleep(pause_s * self.dice.uniform(0.5, 1.5))
                pause_s = min(pause_s * 2, 30.0)
            else:
                return answer

    async def _announce(self) -> None:
        """Tell a hub that has forgotten what this till holds, what it does not know the end of included."""
        held = [
            Held(
                sale.id,
                *(sale.accepted or ("", 0, "")),
                sale.told[-1] if sale.told else "",
                Money(sale.amount, "EUR"),
                PaymentKind.REFUND if sale.kind is Kind.REFUND else PaymentKind.SALE,
                sale.original or None,
                Tender.CARD if sale.kind is Kind.CARD else Tender.CASH,
            )
            for sale in self.sales.values()
            if not sale.given_up
        ]

        async def announce(services: Services, caller: Caller) -> Any:
            announced, forgotten = await services.tills.announce(caller, held)
            for payment in forgotten:
                services.dialogues.start_enquiry(payment)
            return announced

        try:
            answer = await self.ask("announce", announce)
        except LostError:
            return
        if not isinstance(answer, HubError):
            self.distrusts = False
            self.trace.note(self.name, "announced", len(held), "forgotten", len(answer.forgotten))
            for sale in self.sales.values():
                sale.first_hub_line = self.hub_line
            for payment_id in answer.forgotten:
                self.sales[payment_id].announced = True
                self.sales[payment_id].accepted = None

    # -- the ledger ----------------------------------------------------------------------------------------------------

    def _note(self, sale: Sale, payment: Payment) -> None:
        if not sale.told or sale.told[-1] != payment.state.value:
            self.trace.note(self.name, "told", sale.id, payment.state.value, payment.reason)
            sale.told.append(payment.state.value)

    def _acknowledged(self, sale: Sale, payment: Payment, line: str, seq: int, digest: str) -> None:
        place = (line, seq, digest)
        if sale.accepted is not None and not sale.announced and not sale.shaken:
            self.trace.need(
                sale.accepted == place, "accepted never changes", f"{sale.id}: {sale.accepted} became {place}"
            )
        sale.accepted = place
        self.distrusts = False  # a request for money is not answered before the hub knows what the till holds
        self._note(sale, payment)

    async def take(self, sale: Sale) -> None:
        """Ask until the payment is acknowledged or refused for good."""
        request = sale.request
        assert request is not None, "a refund is not taken"
        self.sales[sale.id] = sale
        self.trace.note(self.name, "sells", sale.kind.value, sale.amount, sale.id, sale.order_id or "")
        answer = await self.until_answered("take", lambda s, c: s.payments.take(request, c), sale)
        if isinstance(answer, HubError):
            sale.given_up = answer.code
            return
        payment, entry = answer.payment, answer.accepted
        self._acknowledged(sale, payment, entry.line.hex(), entry.seq, entry.hash.hex())
        if payment.state is PaymentState.REQUESTED:
            self.store.checks.accepted_in_outage(sale, payment, self.mode, self.hub)

    async def follow(self, sale: Sale, seconds: float = FOLLOW_S) -> None:
        """Watch a payment until it has an end, or for so long."""
        until = self.store.clock.monotonic() + seconds
        while sale.told and PaymentState(sale.told[-1]) in OPEN and self.store.clock.monotonic() < until:
            await self.look(sale)
            await self.store.clock.sleep(self.dice.uniform(1, 5))

    async def look(self, sale: Sale) -> None:
        """Read the payment once."""
        try:
            answer = await self.ask("get", lambda s, c: s.payments.get(sale.id))
        except LostError:
            return
        if isinstance(answer, Payment) and not self.distrusts:
            self._note(sale, answer)

    # -- a day's work --------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Serve customers until the shop closes."""
        store, dice = self.store, self.dice
        while store.trades():
            await store.clock.sleep(dice.expovariate(1 / store.options.sale_every_s))
            if not store.trades():
                break
            self.idle = False
            kind = dice.random()
            if kind < 0.25:
                await self.take(self._sale(Tender.CASH))
            elif kind < 0.65:
                await self._sell_by_card()
            elif kind < 0.85:
                await self._sell_an_order()
            elif kind < 0.93:
                await self._reverse_something()
            else:
                await self._refund_something()
            self.idle = True

    def _sale(self, tender: Tender, order: OrderMade | None = None, amount: int | None = None) -> Sale:
        dice = self.dice
        if amount is None:
            amount = dice.randint(1, 80) * 100
            if tender is Tender.CARD and dice.random() < self.store.options.devices.test_amounts:
                amount += dice.choice(SPECIAL_AMOUNTS)
        method = Method.CASH
        if tender is Tender.CARD:
            method = dice.choice((Method.CARD, Method.CARD, Method.CHIP, Method.CONTACTLESS))
        id_ = self.ids.new_id()
        request = TakePayment(
            id=id_,
            digest=hashlib.sha256(f"{id_}/{amount}/{tender}/{method}".encode()).digest(),
            amount=Money(amount, "EUR"),
            tender=tender,
            method=method,
            order_id=order.id if order else None,
        )
        kind = Kind.CASH if tender is Tender.CASH else Kind.CARD
        return Sale(id_, kind, amount, request, order_id=order.id if order else None)

    async def _sell_by_card(self, order: OrderMade | None = None, amount: int | None = None) -> Sale:
        sale = self._sale(Tender.CARD, order, amount)
        await self.take(sale)
        if self.dice.random() < 0.1:
            await self.store.clock.sleep(self.dice.uniform(0, 10))
            await self._cancel(sale)
        await self.follow(sale)
        return sale

    async def _cancel(self, sale: Sale) -> None:
        try:
            await self.ask("cancel", lambda s, c: s.payments.cancel(sale.id, c))
        except LostError:
            return

    async def _sell_an_order(self) -> None:
        order = self._order()
        self.orders[order.id] = order
        answer = await self.until_answered("order", lambda s, c: s.orders.put(order.request, c))
        if isinstance(answer, HubError):
            return
        place = (answer.accepted.line.hex(), answer.accepted.seq, answer.accepted.hash.hex())
        order.accepted, order.number = place, answer.order.number
        self.trace.note(self.name, "ordered", order.id, order.total, order.number)
        if self.dice.random() < 0.1:
            await self.until_answered("order.cancel", lambda s, c: s.orders.cancel(order.id, c))
            return
        if self.dice.random() < 0.4:
            part = self.dice.randint(1, order.total // 100) * 100
            await self.take(self._sale(Tender.CASH, order, min(part, order.total)))
            if part >= order.total:
                return
            await self._pay_rest(order, order.total - part)
        else:
            await self._pay_rest(order, order.total)

    async def _pay_rest(self, order: OrderMade, rest: int) -> None:
        """By card, and if that does not come to an end, again: the hub must know what it may take."""
        for _ in range(3):
            sale = await self._sell_by_card(order, rest)
            if sale.given_up or (sale.told and sale.told[-1] in {"approved", "stored"}):
                return
        cash = self._sale(Tender.CASH, order, rest)
        if self.dice.random() < 0.1 and cash.request is not None:
            cash.request = replace(cash.request, override_reason="the customer is in a hurry")
            cash.overridden = True
        await self.take(cash)

    def _order(self) -> OrderMade:
        total = self.dice.randint(2, 60) * 100
        net = Money(total, "EUR").amount_minor * 1000 // 1200
        line = OrderLine("article", "Something", 1000, "piece", "20.0", total, net, 0)
        id_ = self.ids.new_id()
        digest = hashlib.sha256(f"{id_}/{total}".encode()).digest()
        return OrderMade(id_, total, PlaceOrder(id_, digest, (line,), Money(total, "EUR")))

    async def _reverse_something(self) -> None:
        taken = [
            s
            for s in self.sales.values()
            if s.told and s.told[-1] in {"approved", "stored"} and s.kind is not Kind.REFUND
        ]
        if not taken:
            return
        sale = self.dice.choice(taken[-4:])
        sale.reversal = "asked"
        self.trace.note(self.name, "reverses", sale.id)
        for _ in range(self.dice.choice((1, 1, 2))):
            answer = await self.until_answered("reverse", lambda s, c: s.payments.reverse(sale.id, c))
            if isinstance(answer, Payment):
                self._note(sale, answer)
            await self.follow(sale, 60.0)

    async def _refund_something(self) -> None:
        cash = [s for s in self.sales.values() if s.kind is Kind.CASH and s.told and s.told[-1] == "approved"]
        if not cash:
            return
        original = self.dice.choice(cash[-4:])
        sale = Sale(self.ids.new_id(), Kind.REFUND, self.dice.randint(1, original.amount), None, original=original.id)
        self.sales[sale.id] = sale
        self.trace.note(self.name, "refunds", original.id, sale.amount, sale.id)
        await self._give_back(sale)

    async def _give_back(self, sale: Sale) -> None:
        digest = hashlib.sha256(f"{sale.id}/{sale.amount}".encode()).digest()
        refund = Refund(sale.id, digest, Money(sale.amount, "EUR"), "broken")
        answer = await self.until_answered("refund", lambda s, c: s.payments.refund(sale.original, refund, c), sale)
        if isinstance(answer, HubError):
            sale.given_up = answer.code
            return
        entry = answer.accepted
        self._acknowledged(sale, answer.payment, entry.line.hex(), entry.seq, entry.hash.hex())

    async def settle(self) -> None:
        """After closing time: announce if the hub wants it, and read everything that had no end yet."""
        # Only a request for money is answered with `hub_line_changed`: one more customer pays in cash.
        await self.take(self._sale(Tender.CASH, None, 100))
        for sale in list(self.sales.values()):
            if not sale.given_up and sale.request is None:
                await self._give_back(sale)  # a hub that was restored has forgotten it; for others it is a repeat
            elif sale.accepted is None and not sale.given_up:
                await self.take(sale)
            if sale.accepted is not None:
                await self.look(sale)


class Manager:
    """Turns cards offline on, and decides what nobody else can: by looking at the terminals' own books."""

    def __init__(self, store: Store, hub: HubMachine) -> None:
        self.store = store
        self.hub = hub
        self.dice = stream(store.seed, f"manager:{hub.name}")
        self.policy_on = False

    async def work(self) -> None:
        """Once in a while."""
        store = self.store
        while store.trades():
            await store.clock.sleep(self.dice.expovariate(1 / 700))
            if not store.trades():
                return
            if not self.policy_on or self.dice.random() < 0.2:
                await self.set_policy(not self.policy_on)
            await self.reconnect()

    async def set_policy(self, on: bool) -> None:
        """Allow or forbid cards offline, with a limit."""
        limit = self.dice.choice((2_000, 5_000, 10_000))
        window_s = self.dice.choice((600, 3600, 86_400))
        policy = replace(SHIPPED["terminal"], enabled=on, limit_per_payment={"EUR": limit}, accept_for_s=window_s)
        actor = administrator(Role.MANAGER).actor
        checks = self.store.checks
        checks.policy_changes(self.hub, policy)
        answer = await self._ask(lambda s: s.settings.put(actor, "outage_policy.terminal", policy.as_json()))
        if answer is not None:
            self.policy_on = on
            checks.policy_changed(self.hub, policy)

    async def reconnect(self) -> None:
        """Ask again about what is unknown."""
        found = await self._ask(partial(_in_state, PaymentState.UNKNOWN))
        for payment in found or ():
            await self._ask(partial(_ask_terminal, payment))

    async def decide(self) -> int:
        """Say of each payment that nobody can speak for what the terminal's books say; returns how many."""
        decided = 0
        for state in (PaymentState.UNKNOWN, PaymentState.REVERSAL_PENDING, PaymentState.CONFLICT):
            found = await self._ask(partial(_in_state, state))
            for payment in found or ():
                if payment.decision is None:
                    success = self.store.checks.money_moved(payment.id, payment.tender)
                    await self._ask(
                        partial(_resolve, payment, ManualStatus.SUCCESS if success else ManualStatus.FAILURE)
                    )
                    decided += 1
        return decided

    async def _ask(self, fn: Callable[[Services], Awaitable[Any]]) -> Any:
        try:
            answer = (await self.hub.request(fn, PATIENCE_S)).result
        except LostError:
            return None
        return None if isinstance(answer, (HubError, LostError)) else answer


async def _in_state(state: PaymentState, services: Services) -> list[Payment]:
    return await services.payments.page(PaymentFilter(state=state), None, 500)


async def _ask_terminal(payment: Payment, services: Services) -> Payment:
    return await services.payments.ask_terminal(payment.id, administrator(Role.MANAGER))


async def _resolve(payment: Payment, status: ManualStatus, services: Services) -> Payment:
    reason = "seen on the terminal's own list"
    return await services.payments.resolve(payment.id, status, reason, administrator(Role.MANAGER))
