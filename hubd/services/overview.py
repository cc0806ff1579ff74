"""What the first screen says, as values: one headline, what may be taken, the money at risk, the one thing to do now.

`build` is pure: it is given a picture of the shop and decides. Words and layout belong to the page. Order of the acts
and of the screen: docs of the page, design 11.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from hubd.model.device import DeviceState
from hubd.model.mode import OUTAGES, Hop, Mode, ModeSnapshot
from hubd.model.money import Money
from hubd.model.payment import Method, Payment
from hubd.model.policy import Accept, Elapsed, OutagePolicy, Refuse, Sale, decide
from hubd.model.problem import Problem
from hubd.services.outages import Group, OutageView
from hubd.services.recovery import UNCONFIRMED

DEADLINE_NEAR_US = 4 * 3_600_000_000
UNSENT_BRIEFLY_US = 60_000_000
"""Entries on their way for less than this are no news: every sale makes some."""
NOTHING = Group()
NO_TIME = Elapsed(0, 0)
READY = frozenset({DeviceState.READY, DeviceState.BUSY})
BANNER_NETWORK = "Vous êtes hors ligne. Connectez-vous à Internet pour encaisser des paiements."
BANNER_SERVICE = "Perturbation des services : paiements hors ligne activés"
"""The vendor's words (B07), never translated, never changed."""
MONEY_WAITS = ("held", "forwarding", "forwarded", "unknown", "conflict", "reversal_pending")
"""The running totals of money that nobody has confirmed yet."""


class TerminalNow(Struct, frozen=True):
    """A terminal of the shop with the money that is in it."""

    id: str
    name: str
    device_class: str
    state: DeviceState | None
    """None: its driver does not run."""
    held: Group = NOTHING
    silent_since_us: int | None = None
    """Wall time of its last answer, while it does not answer."""
    unheard: bool = False
    """Whether it took payments in an outage that is over and has not answered since."""
    leaving: bool = False
    """Whether another one has its place: it only sends what it holds."""

    @property
    def answers(self) -> bool:
        """Whether it can say what it holds."""
        return self.state in READY

    @property
    def sells(self) -> bool:
        """Whether it can take a payment."""
        return self.answers and not self.leaving


class PaidTwice(Struct, frozen=True):
    """An order for which more was taken than it costs."""

    number: str
    excess: Money
    payments: tuple[str, ...]
    """Every payment that counts for it: its receipt number, else its id."""


class Shop(Struct, frozen=True):
    """A picture of the shop at one moment."""

    now_us: int
    mode: ModeSnapshot
    name: str = ""
    location: str = ""
    zone: str = "UTC"
    currency: str = "EUR"
    set_up: bool = True
    room_for_sales: bool = True
    replaced: bool = False
    """Whether another hub sells in the place of this one."""
    elapsed: Elapsed = NO_TIME
    first_failing: Hop | None = None
    captive_portal: bool = False
    measured_ago_s: int = 0
    totals: Mapping[str, Group] = field(default_factory=dict)
    """Running totals by name, as the store counts them."""
    today: str = ""
    """The business day now, where the shop is; empty before the hub is set up."""
    sales_today: Group = NOTHING
    deadline_us: int | None = None
    """The nearest deadline of stored money."""
    unknown: tuple[Payment, ...] = ()
    refused: tuple[Payment, ...] = ()
    """Refused by the bank afterwards, and nobody has decided yet; largest first."""
    paid_twice: tuple[PaidTwice, ...] = ()
    outside_policy: tuple[Payment, ...] = ()
    """Stored without a verdict although the shop's policy forbids it: the terminal has decided alone."""
    policies: Mapping[str, OutagePolicy] = field(default_factory=dict)
    """By class of device, as they are in force now."""
    terminals: tuple[TerminalNow, ...] = ()
    devices_count: int = 0
    problems: tuple[Problem, ...] = ()
    cloud_expected: bool = True
    unsent_count: int = 0
    unsent_since_us: int | None = None
    """Since when the cloud has not confirmed everything."""
    outage: OutageView | None = None
    """The present outage, else the last one."""
    vendor_status_url: str = ""
    help_phone: str = ""
    support_contact: str = ""
    """Of the terminals' vendor; every card of a problem names it."""

    @property
    def offline(self) -> bool:
        """Whether payments cannot reach those who answer for them."""
        return self.mode.mode in OUTAGES

    @property
    def line_is_down(self) -> bool:
        """Whether it is the shop's own line: only then has anybody here something to plug or to restart."""
        return self.mode.mode is Mode.NETWORK_OUTAGE

    @property
    def service_was_down(self) -> bool:
        """Whether the present or last outage was the provider's: then the Internet was never gone."""
        return self.outage is not None and self.outage.outage.cause == Mode.SERVICE_DISRUPTION

    @property
    def started_us(self) -> int | None:
        """Wall time of the first loss of the present outage."""
        return self.mode.started_at_us

    @property
    def ended_us(self) -> int | None:
        """Wall time at which the last outage ended; None while one lasts, and before the first."""
        return self.outage.outage.ended_at_us if self.outage else None


class Headline(StrEnum):
    """The answer to "can we sell?"."""

    SETUP = "setup"
    REPLACED = "replaced"
    NO_ROOM = "no_room"
    NETWORK_SELL = "network_sell"
    NETWORK_CASH_ONLY = "network_cash_only"
    SERVICE_SELL = "service_sell"
    SERVICE_CASH_ONLY = "service_cash_only"
    NO_TERMINAL = "no_terminal"
    BACK_UNHEARD = "back_unheard"
    BACK = "back"
    SELLING = "selling"
    MEASURING = "measuring"
    ALL_FINE = "all_fine"


class Tone(StrEnum):
    """Icon and colour; the word stands beside them."""

    GOOD = "good"
    CARE = "care"
    STOP = "stop"


TONES: Mapping[Headline, Tone] = {
    Headline.SETUP: Tone.CARE,
    Headline.REPLACED: Tone.STOP,
    Headline.NO_ROOM: Tone.STOP,
    Headline.NETWORK_SELL: Tone.CARE,
    Headline.NETWORK_CASH_ONLY: Tone.STOP,
    Headline.SERVICE_SELL: Tone.CARE,
    Headline.SERVICE_CASH_ONLY: Tone.STOP,
    Headline.NO_TERMINAL: Tone.STOP,
    Headline.BACK_UNHEARD: Tone.CARE,
    Headline.BACK: Tone.GOOD,
    Headline.SELLING: Tone.GOOD,
    Headline.MEASURING: Tone.CARE,
    Headline.ALL_FINE: Tone.GOOD,
}


class Way(StrEnum):
    """How customers pay, in the words of the screen."""

    CASH = "cash"
    CARDS = "cards"
    """Inserted with code, while offline; any card while online."""
    CONTACTLESS = "contactless"
    GIFT_CARD = "gift_card"


WAY_METHODS: Mapping[Way, Method] = {
    Way.CARDS: Method.CHIP,
    Way.CONTACTLESS: Method.CONTACTLESS,
    Way.GIFT_CARD: Method.GIFT_CARD,
}


class WayLine(Struct, frozen=True):
    """Whether one way may be taken now, up to how much, and why not."""

    way: Way
    allowed: bool
    limit: Money | None = None
    reason: str = ""
    """A stable word: `no_terminal`, `offline_not_enabled`, `offline_window_closed`, `elapsed_unknown`, …"""


class Risk(Struct, frozen=True):
    """Money not yet confirmed."""

    group: Group
    in_terminals: Group
    awaiting_bank: Group
    unclear: Group
    deadline_us: int | None
    overdue: bool


class ActionKind(StrEnum):
    """The one thing to do now, in the order in which they win."""

    UNHEARD_MONEY = "unheard_money"
    UNKNOWN_PAYMENT = "unknown_payment"
    DEADLINE = "deadline"
    REFUSED_PAYMENT = "refused_payment"
    RESTORE_LINE = "restore_line"
    WAIT_FOR_SERVICE = "wait_for_service"
    SET_UP = "set_up"
    RECOVERY_CODE = "recovery_code"
    MACHINE = "machine"
    NOTHING = "nothing"


class Action(Struct, frozen=True):
    """What to do, with what it is about."""

    kind: ActionKind
    terminal: TerminalNow | None = None
    payment: Payment | None = None
    problem: Problem | None = None


class Overview(Struct, frozen=True):
    """The first screen."""

    shop: Shop
    headline: Headline
    tone: Tone
    ways: tuple[WayLine, ...]
    risk: Risk
    action: Action
    ill: tuple[Problem, ...]
    """Problems to list: what the headline and the act do not say already."""
    banner: str
    """The vendor's own words, empty while there is nothing to say."""
    all_fine: bool

    @property
    def unheard(self) -> Group:
        """Money in terminals that do not answer."""
        found = Group()
        for terminal in self.shop.terminals:
            if not terminal.answers:
                for money in terminal.held.totals:
                    found = found.plus(money)
        return found

    @property
    def selling_stops(self) -> bool:
        """Whether the headline must interrupt: cards or everything cannot be taken."""
        return self.tone is Tone.STOP


def build(shop: Shop) -> Overview:
    """Decide what the first screen says."""
    ways = ways_now(shop)
    risk = risk_of(shop)
    fine = all_fine(shop)
    headline = _headline(shop, ways, fine)
    action = _action(shop, risk)
    return Overview(shop, headline, TONES[headline], ways, risk, action, _ill(shop, action), banner(shop.mode), fine)


def all_fine(shop: Shop) -> bool:
    """Said only when nothing is stored, unknown, unsent or in conflict and every terminal of the outage was heard."""
    return (
        shop.set_up
        and shop.room_for_sales
        and not shop.replaced
        and shop.mode.mode is Mode.ONLINE
        and shop.cloud_expected
        and shop.unsent_count == 0
        and not any(_count(shop, name) for name in MONEY_WAITS)
        and not shop.unknown
        and not shop.refused
        and all(_was_heard(terminal) for terminal in shop.terminals)
        and any(terminal.sells for terminal in shop.terminals)
        and not shop.problems
    )


def _was_heard(terminal: TerminalNow) -> bool:
    return terminal.held.count == 0 and not terminal.unheard


def banner(mode: ModeSnapshot) -> str:
    """The vendor's banner; for both kinds at once the network's (B07)."""
    if mode.mode is Mode.NETWORK_OUTAGE:
        return BANNER_NETWORK
    return BANNER_SERVICE if mode.mode is Mode.SERVICE_DISRUPTION else ""


def ways_now(shop: Shop) -> tuple[WayLine, ...]:
    """What may be taken now. Cash always works, unless nothing can be kept at all or another hub sells here."""
    if not (shop.set_up and shop.room_for_sales) or shop.replaced:
        reason = "not_set_up" if not shop.set_up else "replaced" if shop.replaced else "no_room"
        return tuple(WayLine(way, False, reason=reason) for way in (Way.CASH, Way.CARDS, Way.CONTACTLESS))
    ready = [terminal for terminal in shop.terminals if terminal.sells]
    if shop.mode.mode not in OUTAGES:
        cards = WayLine(Way.CARDS, bool(ready), reason="" if ready else "no_terminal")
        contactless = WayLine(Way.CONTACTLESS, bool(ready), reason="" if ready else "no_terminal")
        return (WayLine(Way.CASH, True), cards, contactless)
    offline = tuple(_offline(shop, way, method, ready) for way, method in WAY_METHODS.items())
    return (WayLine(Way.CASH, True), *offline)


def _offline(shop: Shop, way: Way, method: Method, ready: list[TerminalNow]) -> WayLine:
    """The best that any terminal may do: the cashier is sent to that one by the till's own refusal."""
    if not ready:
        return WayLine(way, False, reason="no_terminal")
    reasons = []
    limits = []
    for terminal in ready:
        policy = shop.policies.get(terminal.device_class) or shop.policies.get("terminal")
        if policy is None:
            reasons.append("offline_not_enabled")
            continue
        verdict = decide(policy, Sale(Money(1, shop.currency), method, by_manager=False), shop.elapsed)
        match verdict:
            case Accept():
                limits.append(policy.limit_per_payment[shop.currency])
            case Refuse():
                reasons.append(verdict.code)
    if limits:
        return WayLine(way, True, Money(max(limits), shop.currency))
    return WayLine(way, False, reason=reasons[0])


def risk_of(shop: Shop) -> Risk:
    """Money that nobody has confirmed yet."""
    in_terminals = _sum(shop, "held", "forwarding")
    awaiting = _sum(shop, "forwarded")
    unclear = _sum(shop, "unknown", "conflict", "reversal_pending")
    overdue = shop.deadline_us is not None and shop.deadline_us <= shop.now_us
    everything = _sum(shop, *MONEY_WAITS)
    return Risk(everything, in_terminals, awaiting, unclear, shop.deadline_us, overdue)


def _count(shop: Shop, name: str) -> int:
    group = shop.totals.get(name)
    return group.count if group else 0


def _sum(shop: Shop, *names: str) -> Group:
    count, totals = 0, Group()
    for name in names:
        group = shop.totals.get(name, Group())
        count += group.count
        for money in group.totals:
            totals = totals.plus(money)
    return Group(count, totals.totals)


def _headline(shop: Shop, ways: tuple[WayLine, ...], fine: bool) -> Headline:
    if not shop.set_up:
        return Headline.SETUP
    if shop.replaced:
        return Headline.REPLACED
    if not shop.room_for_sales:
        return Headline.NO_ROOM
    cards = any(line.allowed for line in ways if line.way is not Way.CASH)
    if shop.mode.mode is Mode.NETWORK_OUTAGE:
        return Headline.NETWORK_SELL if cards else Headline.NETWORK_CASH_ONLY
    if shop.mode.mode is Mode.SERVICE_DISRUPTION:
        return Headline.SERVICE_SELL if cards else Headline.SERVICE_CASH_ONLY
    if not cards:
        return Headline.NO_TERMINAL
    if shop.mode.mode is Mode.UNKNOWN:
        return Headline.MEASURING
    if any(not _was_heard(terminal) and not terminal.answers for terminal in shop.terminals):
        return Headline.BACK_UNHEARD
    if fine:
        return Headline.ALL_FINE
    unsettled = shop.outage is not None and not shop.outage.taken.settled
    return Headline.BACK if unsettled or (shop.outage and shop.refused) else Headline.SELLING


def _action(shop: Shop, risk: Risk) -> Action:
    unheard = [one for one in shop.terminals if one.held.count and not one.answers]
    if unheard:
        return Action(ActionKind.UNHEARD_MONEY, terminal=max(unheard, key=lambda one: _largest(one.held)))
    if shop.unknown:
        return Action(ActionKind.UNKNOWN_PAYMENT, payment=shop.unknown[0])
    if risk.deadline_us is not None and risk.deadline_us - shop.now_us < DEADLINE_NEAR_US:
        return Action(ActionKind.DEADLINE)
    if shop.refused:
        return Action(ActionKind.REFUSED_PAYMENT, payment=shop.refused[0])
    if shop.line_is_down:
        return Action(ActionKind.RESTORE_LINE)
    if not shop.set_up:
        return Action(ActionKind.SET_UP)
    code = [one for one in shop.problems if one.code == UNCONFIRMED]
    if code:
        return Action(ActionKind.RECOVERY_CODE, problem=code[0])
    machine = [one for one in shop.problems if one.code not in _SAID_ELSEWHERE]
    if machine:
        return Action(ActionKind.MACHINE, problem=machine[0])
    if shop.mode.mode is Mode.SERVICE_DISRUPTION:
        return Action(ActionKind.WAIT_FOR_SERVICE)
    return Action(ActionKind.NOTHING)


def _largest(group: Group) -> int:
    return max((money.amount_minor for money in group.totals), default=0)


_SAID_ELSEWHERE = frozenset(
    {"network.outage", "service.disruption", "payments.unknown", "payments.declined_late", "payments.overdue"}
)
"""The headline, the money or the act says these already."""


def _ill(shop: Shop, action: Action) -> tuple[Problem, ...]:
    def said(problem: Problem) -> bool:
        if problem.code in _SAID_ELSEWHERE or problem is action.problem:
            return True
        return action.terminal is not None and problem.subject == action.terminal.id

    return tuple(problem for problem in shop.problems if not said(problem))
