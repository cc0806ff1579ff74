"""Takes the picture of the shop from which the first screen is built, and keeps the problems that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from hubd.health import Problems
from hubd.model.device import DeviceKind
from hubd.model.mode import Hop, Mode, ModeSnapshot
from hubd.model.money import Money
from hubd.model.payment import Custody, Payment
from hubd.model.policy import OutagePolicy
from hubd.runtime import Runtime
from hubd.services.calendar import business_date
from hubd.services.outages import Group, OutageDesk, OutageView, view_of
from hubd.services.overview import READY, Overview, PaidTwice, Shop, TerminalNow, build
from hubd.services.settings import effective, policy_in_force
from hubd.services.taking import counts_as_paid, paid_too_much
from hubd.services.terminals import Terminals
from hubd.store import cursors, devices, enrolment, orders, outages, payments, people, replacements
from hubd.store.db import Database
from hubd.store.devices import Device
from hubd.store.tx import Connection

REFUSED_MAX = 200
"""Undecided late refusals that a screen looks at; the list shows the rest."""
NAMED_MAX = 5
"""Orders that a problem names with their payments."""
REFRESH_S = 2.0


class _Rows(Struct, frozen=True):
    """What one look at the store gives."""

    set_up: bool
    replaced: bool
    name: str
    location: str
    zone: str
    currency: str
    totals: dict[str, Group]
    today: str
    sales_today: Group
    deadline_us: int | None
    unknown: tuple[Payment, ...]
    refused: tuple[Payment, ...]
    paid_twice: tuple[PaidTwice, ...]
    stored: tuple[Payment, ...]
    policies: dict[str, OutagePolicy]
    devices: tuple[Device, ...]
    cloud_expected: bool
    confirmed_seq: int
    confirmed_at_us: int
    outage: OutageView | None
    unheard: frozenset[str]
    vendor_status_url: str
    help_phone: str
    support_contact: str


class OverviewDesk:
    """One picture at a time; `watch` keeps the registry of problems in step with the money."""

    def __init__(
        self,
        db: Database,
        runtime: Runtime,
        terminals: Terminals,
        outage_desk: OutageDesk,
        problems: Problems,
        room_for_sales: Callable[[], bool] = lambda: True,
        hub: bytes = b"",
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._terminals = terminals
        self._outages = outage_desk
        self._problems = problems
        self._room_for_sales = room_for_sales
        self._hub = hub
        self._unsent_since_us: int | None = None
        outage_desk.listen(self._note_mode)

    async def overview(self, location: str = "") -> Overview:
        """The first screen of a location (of the first one if none is named), as it is now."""
        return build(await self.shop(location))

    async def shop(self, location: str = "") -> Shop:
        """The picture."""
        now_us = self._runtime.clock.now_us()
        rows = await self._db.read("overview", lambda connection: _read(connection, self._hub, location, now_us))
        unsent = max(0, self._db.head.seq - rows.confirmed_seq) if rows.cloud_expected else 0
        self._note_unsent(unsent, now_us)
        facts = self._outages.facts()
        measured = [fact.at_ms for hop in Hop if (fact := facts.hop(hop)).ok is not None and hop is not Hop.CLOUD]
        mono_ms = int(self._runtime.clock.monotonic() * 1000)
        return Shop(
            now_us=now_us,
            mode=self._outages.snapshot(),
            name=rows.name,
            location=rows.location,
            zone=rows.zone,
            currency=rows.currency,
            set_up=rows.set_up,
            room_for_sales=self._room_for_sales(),
            replaced=rows.replaced,
            elapsed=self._outages.elapsed(),
            first_failing=facts.first_failing(),
            captive_portal=facts.internet.detail in {"wrong_certificate", "not_tls", "redirected"},
            measured_ago_s=(mono_ms - max(measured)) // 1000 if measured else 0,
            totals=rows.totals,
            today=rows.today,
            sales_today=rows.sales_today,
            deadline_us=rows.deadline_us,
            unknown=rows.unknown,
            refused=rows.refused,
            paid_twice=rows.paid_twice,
            outside_policy=tuple(one for one in rows.stored if one.evidence.get("outside_policy")),
            policies=rows.policies,
            terminals=self._terminals_now(rows, now_us, mono_ms),
            devices_count=len(rows.devices),
            problems=tuple(self._problems.visible()),
            cloud_expected=rows.cloud_expected,
            unsent_count=unsent,
            unsent_since_us=self._unsent_since_us,
            outage=rows.outage,
            vendor_status_url=rows.vendor_status_url,
            help_phone=rows.help_phone,
            support_contact=rows.support_contact,
        )

    async def watch(self) -> None:
        """Keep the problems that follow from money and line in step, until cancelled."""
        while True:
            self.note(await self.shop())
            await self._runtime.clock.sleep(REFRESH_S)

    def note(self, shop: Shop) -> None:
        """Raise and clear what follows from a picture."""
        problems = self._problems
        self._note_mode(self._outages.snapshot())  # not the picture's, which may be older than what a listener heard
        problems.set(shop.replaced, "hub.replaced")
        problems.set(not shop.cloud_expected and shop.set_up, "cloud.not_enrolled")
        problems.set(not self._runtime.clock.trusted(), "clock.uncertain")
        cloud = self._outages.facts().cloud
        problems.set(shop.cloud_expected and cloud.ok is False, "cloud.unreachable")
        problems.set(shop.unsent_count > 0, "sync.waiting", count=shop.unsent_count)
        for code, name in (("payments.unknown", "unknown"), ("payments.conflict", "conflict")):
            group = shop.totals.get(name, Group())
            problems.set(group.count > 0, code, money=group.totals, count=group.count)
        outside = _sum(shop.outside_policy)
        problems.set(outside.count > 0, "payments.outside_policy", money=outside.totals, count=outside.count)
        refused = len(shop.refused)
        problems.set(refused > 0, "payments.declined_late", count=refused)
        self._note_paid_twice(shop)
        held = shop.totals.get("held", Group())
        overdue = shop.deadline_us is not None and shop.deadline_us <= shop.now_us
        problems.set(overdue, "payments.overdue", money=held.totals, count=held.count)
        statement = shop.outage.statement if shop.outage else None
        problems.set(statement is not None and not statement.agrees, "statement.disagrees")
        self._note_money_in_devices(shop)

    def _note_mode(self, snapshot: ModeSnapshot) -> None:
        """At once, not with the next look: nobody may read of an outage and of no problem in the same answer."""
        self._problems.set(snapshot.mode is Mode.NETWORK_OUTAGE, "network.outage")
        self._problems.set(snapshot.mode is Mode.SERVICE_DISRUPTION, "service.disruption")

    def _note_paid_twice(self, shop: Shop) -> None:
        excess = Group()
        for order in shop.paid_twice:
            excess = excess.plus(order.excess)
        named = "; ".join(f"{one.number} ({' + '.join(one.payments)})" for one in shop.paid_twice[:NAMED_MAX])
        present = excess.count > 0
        self._problems.set(present, "order.paid_twice", money=excess.totals, count=excess.count, orders=named)

    def _note_money_in_devices(self, shop: Shop) -> None:
        """A problem of a device that holds money is titled by the money."""
        held = {terminal.id: terminal for terminal in shop.terminals}
        for problem in self._problems.present():
            terminal = held.get(problem.subject)
            if terminal is not None and problem.code.startswith("device.") and problem.money != terminal.held.totals:
                self._problems.raise_(problem.code, problem.subject, money=terminal.held.totals, **dict(problem.params))

    def _note_unsent(self, unsent: int, now_us: int) -> None:
        if unsent == 0:
            self._unsent_since_us = None
        elif self._unsent_since_us is None:
            self._unsent_since_us = now_us

    def _terminals_now(self, rows: _Rows, now_us: int, mono_ms: int) -> tuple[TerminalNow, ...]:
        found = []
        for device in rows.devices:
            if device.kind is not DeviceKind.TERMINAL:
                continue
            held = _sum(payment for payment in rows.stored if payment.terminal == device.id)
            if not device.active and not held.count and device.id not in rows.unheard:
                continue
            status = self._terminals.status(device.id)
            heard_us = None
            if status is not None and status.last_answer_monotonic is not None:
                heard_us = now_us - max(0, mono_ms - int(status.last_answer_monotonic * 1000)) * 1000
            answers = status is not None and status.state in READY
            found.append(
                TerminalNow(
                    id=device.id,
                    name=device.name,
                    device_class=device.device_class or "terminal",
                    state=status.state if status else None,
                    held=held,
                    silent_since_us=None if answers else heard_us,
                    unheard=device.id in rows.unheard,
                    leaving=device.leaving,
                )
            )
        return tuple(found)


def _sum(found: Iterable[Payment]) -> Group:
    group = Group()
    for payment in found:
        group = group.plus(payment.money)
    return group


def _read(connection: Connection, hub: bytes, wanted: str, now_us: int) -> _Rows:
    places = people.locations(connection)
    place = next((one for one in places if one.id == wanted), places[0] if places else None)
    zone = place.zone if place else "UTC"
    starts = effective(connection, "day.starts_at_minute", now_us).value
    today = business_date(now_us, zone, starts)
    stored = payments.in_terminals(connection)
    confirmed = cursors.get(connection, cursors.CONFIRMED)
    found = devices.all_devices(connection)
    outage = _outage(connection)
    deadlines = [one.deadline_us for one in stored if one.custody is not Custody.FORWARDED and one.deadline_us]
    classes = {one.device_class or "terminal" for one in found if one.kind is DeviceKind.TERMINAL} | {"terminal"}
    location = place.id if place else ""
    return _Rows(
        set_up=bool(people.all_staff(connection)) and place is not None,
        replaced=replacements.stopped(connection, hub),
        name=effective(connection, "store.name", now_us).value or (place.name if place else ""),
        location=place.name if place else "",
        zone=zone,
        currency=place.currency if place else "EUR",
        totals=_totals(connection),
        today=today,
        sales_today=_by_prefix(connection, f"day.{today}.sales."),
        deadline_us=min(deadlines, default=None),
        unknown=tuple(payments.unknown(connection)),
        refused=tuple(sorted(payments.refused_late(connection, REFUSED_MAX), key=lambda one: -one.money.amount_minor)),
        paid_twice=_paid_twice(connection),
        stored=tuple(stored),
        policies={name: policy_in_force(connection, name, location, now_us)[0] for name in classes},
        devices=tuple(found),
        cloud_expected=enrolment.get(connection) is not None,
        confirmed_seq=confirmed.seq,
        confirmed_at_us=confirmed.at_us,
        outage=outage,
        unheard=frozenset(one.terminal for one in outages.unheard(connection) if one.ended),
        vendor_status_url=effective(connection, "vendor.status_url", now_us).value,
        help_phone=effective(connection, "network.help_phone", now_us).value,
        support_contact=effective(connection, "vendor.support_contact", now_us).value,
    )


def _outage(connection: Connection) -> OutageView | None:
    found = outages.current(connection) or next(iter(outages.page(connection, limit=1)), None)
    return view_of(connection, found) if found else None


def _totals(connection: Connection) -> dict[str, Group]:
    names = ("held", "forwarding", "forwarded", "unknown", "conflict", "reversal_pending", "running")
    found: dict[str, Group] = {}
    for name in names:
        for total in payments.totals(connection, name):
            if total.name == name:
                before = found.get(name, Group())
                found[name] = Group(before.count + total.count, (*before.totals, total.total))
    return found


def _by_prefix(connection: Connection, prefix: str) -> Group:
    count, sums = 0, Group()
    for total in payments.totals(connection, prefix):
        count += total.count
        sums = sums.plus(total.total)
    return Group(count, sums.totals)


def _paid_twice(connection: Connection) -> tuple[PaidTwice, ...]:
    found = []
    for order in orders.paid_twice(connection):
        counted = [payment for payment in payments.of_order(connection, order.id) if counts_as_paid(payment)]
        excess = Money(paid_too_much(connection, order, counted), order.currency)
        found.append(PaidTwice(order.number, excess, tuple(map(_named, counted))))
    return tuple(found)


def _named(payment: Payment) -> str:
    """The number on its receipt; what a person has decided may have none."""
    return payment.id if payment.counter is None else f"{payment.series}-{payment.counter:06d}"
