"""Requests and answers of the API: separate from the domain's values, mapped explicitly, checked by their grammar.

Requests refuse unknown fields; answers may grow. Ids, amounts and codes have their own grammar; every other text is
free text, and free text is searched for card numbers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from hubd.errors import InvalidValueError
from hubd.model.card_data import check_free_text, gtin_valid
from hubd.model.device import DeviceKind, DeviceState
from hubd.model.ids import NAME, parse_id
from hubd.model.money import Money, TaxRate, exponent_of
from hubd.model.order import OrderState
from hubd.model.payment import Custody, ManualStatus, Method, Mode, PaymentKind, PaymentState, Tender

IdText = Annotated[
    str,
    msgspec.Meta(
        min_length=36, max_length=36, description="A UUIDv7 in lower case, made by the originator and kept for ever."
    ),
]
ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
LongText = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Minor = Annotated[int, msgspec.Meta(description="Whole minor units (cents) of the currency; never a fraction.")]
Currency = Annotated[str, msgspec.Meta(min_length=3, max_length=3, description="ISO 4217, three capitals.")]
Time = Annotated[str, msgspec.Meta(description="RFC 3339 with the zone's offset.")]
Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]*$")]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What comes in. `omit_defaults` keeps the digest of a request when a later version adds an optional field."""


class Answer(msgspec.Struct, frozen=True):
    """What goes out."""


class MoneyIn(Request, frozen=True):
    """An amount. `exponent` is optional, and if it is sent it must be the currency's own."""

    amount: Minor
    currency: Currency
    exponent: int | None = None

    def __post_init__(self) -> None:
        """Raise for an unknown currency, a wrong exponent or an amount beyond what any till sells."""
        right = exponent_of(self.currency)
        if self.exponent is not None and self.exponent != right:
            raise InvalidValueError(
                "wrong_exponent",
                f"The currency has {right} decimal places.",
                remedy="Send whole minor units of that exponent, or leave the exponent out.",
                params={"exponent": right},
            )
        Money(self.amount, self.currency)

    def money(self) -> Money:
        """The domain's value."""
        return Money(self.amount, self.currency)


class MoneyOut(Answer, frozen=True):
    """An amount in minor units."""

    amount: int
    currency: str


def money_out(money: Money) -> MoneyOut:
    """An amount as it leaves."""
    return MoneyOut(money.amount_minor, money.currency)


class Accepted(Answer, frozen=True):
    """The journal entry that made it durable; it never changes."""

    line: str
    seq: int
    hash: str


class SayOut(Answer, frozen=True):
    """One sentence for the cashier and one for the customer, in the till's language."""

    cashier: str
    customer: str


class Override(Request, frozen=True):
    """A manager's word that another payment may be taken although the last one is unknown."""

    reason: LongText

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.reason, "override.reason")


class PaymentIn(Request, frozen=True):
    """Take or record one payment. Its id stands in the address."""

    amount: MoneyIn
    tender: Tender = Tender.CARD
    method: Method | None = None
    tip: Minor = 0
    rounding: Minor = 0
    mode: Mode = Mode.LIVE
    order: IdText | None = None
    terminal: IdText | None = None
    override: Override | None = None

    def __post_init__(self) -> None:
        """Check ids and the money that is asked for."""
        for name, value in (("order", self.order), ("terminal", self.terminal)):
            if value is not None:
                parse_id(value, name)
        for part in (self.tip, self.rounding):
            Money(part, self.amount.currency)


class RefusalOut(Answer, frozen=True):
    """What the outage policy would accept: `chip`, `cash`, `smaller_amount` (below `params.limit`), `manager`."""

    params: dict[str, Any]
    would_allow: list[str]


class PaymentOut(Answer, frozen=True):
    """A payment as it is now. `refusal` stands in the answer about one payment, not in lists."""

    id: str
    accepted: Accepted
    seq: int
    kind: PaymentKind
    state: PaymentState
    custody: Custody | None
    manual: ManualStatus | None
    open: bool
    mode: Mode
    tender: Tender
    method: Method
    amount: MoneyOut
    tip: MoneyOut
    rounding: MoneyOut
    total: MoneyOut
    order: str | None
    original: str | None
    till: str
    terminal: str | None
    staff: str | None
    location: str
    business_date: str
    number: str | None
    reason: str
    outage: str | None
    evidence: dict[str, Any]
    deadline: str | None
    requested_at: str
    updated_at: str
    say: SayOut
    allowed: list[str]
    refusal: RefusalOut | None = None


class Reason(Request, frozen=True):
    """Why a person decides so."""

    verdict: ManualStatus
    reason: Annotated[str, msgspec.Meta(min_length=3, max_length=500)]

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.reason, "reason")


class RefundIn(Request, frozen=True):
    """Give money of a payment back."""

    amount: MoneyIn
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.reason, "reason")


class LineIn(Request, frozen=True):
    """One line as sold. Gross and net in minor units of the order's currency, the discount already taken off."""

    name: ShortText
    gross: Minor
    net: Minor
    tax_rate: Annotated[str, msgspec.Meta(description='Percent as text: "20", "5.5".')]
    quantity: Annotated[int, msgspec.Meta(ge=1, le=10**9, description="Thousandths of the unit: 1000 is one.")] = 1000
    unit: Annotated[str, msgspec.Meta(pattern="^[a-z]{1,12}$")] = "piece"
    discount: Minor = 0
    article: Annotated[str, msgspec.Meta(max_length=64, description="GTIN or the shop's own article id.")] = ""

    def __post_init__(self) -> None:
        """Check the article by its own grammar, and the name as free text."""
        check_free_text(self.name, "lines.name")
        if self.article and not gtin_valid(self.article):
            if not NAME.fullmatch(self.article.lower()):
                raise InvalidValueError(
                    "invalid_article", "The article is neither a GTIN nor an id.", remedy="Use letters, digits, . _ -"
                )
            check_free_text(self.article, "lines.article")
        for part in (self.gross, self.net, self.discount):
            Money(part, "EUR")  # any currency: only the range is checked here, the order knows its own
        TaxRate.parse(self.tax_rate)


class OrderIn(Request, frozen=True):
    """An order as a till rings it up."""

    lines: Annotated[list[LineIn], msgspec.Meta(min_length=1, max_length=200)]
    total: MoneyIn


class LineOut(Answer, frozen=True):
    """One line as sold."""

    article: str
    name: str
    quantity: int
    unit: str
    tax_rate: str
    gross: int
    net: int
    discount: int


class OrderOut(Answer, frozen=True):
    """An order as it is now."""

    id: str
    accepted: Accepted
    seq: int
    number: str
    state: OrderState
    total: MoneyOut
    lines: list[LineOut]
    till: str
    staff: str | None
    location: str
    business_date: str
    reason: str
    placed_at: str
    updated_at: str


class PageQuery(Request, frozen=True):
    """Which part of a list. `cursor` is what `next` of the page before said."""

    cursor: Annotated[str, msgspec.Meta(pattern="^[0-9]{0,16}$")] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50

    @property
    def before_seq(self) -> int | None:
        """The place of the cursor."""
        return int(self.cursor) if self.cursor else None


class PaymentQuery(PageQuery, frozen=True):
    """What a list of payments may be narrowed by. `device=self` is the till that asks."""

    state: PaymentState | None = None
    custody: Custody | None = None
    device: Annotated[str, msgspec.Meta(max_length=36)] = ""
    terminal: Annotated[str, msgspec.Meta(max_length=36)] = ""
    open: bool = False
    offline: bool = False
    since: Annotated[str, msgspec.Meta(max_length=40)] = ""
    until: Annotated[str, msgspec.Meta(max_length=40)] = ""


class OrderQuery(PageQuery, frozen=True):
    """What a list of orders may be narrowed by. `device=self` is the till that asks."""

    state: OrderState | None = None
    device: Annotated[str, msgspec.Meta(max_length=36)] = ""
    since: Annotated[str, msgspec.Meta(max_length=40)] = ""
    until: Annotated[str, msgspec.Meta(max_length=40)] = ""


class OutageQuery(PageQuery, frozen=True):
    """What a list of outages may be narrowed by; of the times, what went on between them."""

    state: Literal["open", "over", ""] = ""
    since: Annotated[str, msgspec.Meta(max_length=40)] = ""
    until: Annotated[str, msgspec.Meta(max_length=40)] = ""


class DeviceQuery(Request, frozen=True):
    """What the list of devices may be narrowed by."""

    kind: DeviceKind | None = None
    state: DeviceState | None = None


class PaymentPage(Answer, frozen=True):
    """Payments, newest first; `next` is empty on the last page."""

    items: list[PaymentOut]
    next: str


class OutagePage(Answer, frozen=True):
    """Outages, newest first; `next` is empty on the last page."""

    items: list[Any]
    next: str


class OrderPage(Answer, frozen=True):
    """Orders, newest first; `next` is empty on the last page."""

    items: list[OrderOut]
    next: str


class HeldIn(Request, frozen=True):
    """One payment that a till holds."""

    id: IdText
    line: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    state: PaymentState
    amount: MoneyIn
    tender: Tender = Tender.CARD
    kind: PaymentKind = PaymentKind.SALE
    original: str | None = None
    """Of a refund: the payment it belongs to."""

    def __post_init__(self) -> None:
        """Check the ids."""
        parse_id(self.id)
        if self.original is not None:
            parse_id(self.original, "original")


class AnnouncementIn(Request, frozen=True):
    """All payments that a till holds of its last seven days."""

    payments: Annotated[list[HeldIn], msgspec.Meta(max_length=5000)]


class AnnouncementOut(Answer, frozen=True):
    """What the hub knew, and the ids it had forgotten: they are `unknown` now."""

    known: int
    forgotten: list[str]


class SettingIn(Request, frozen=True):
    """A new value, from now or from a later moment."""

    value: Any
    effective_from: Annotated[str, msgspec.Meta(max_length=40)] = ""
    location: Annotated[IdText | None, msgspec.Meta(description="Only for this location; outage policies alone.")] = (
        None
    )


class ReceiptQuery(Request, frozen=True):
    """Whose copy, where the receipt is asked for as a page or as PDF."""

    purpose: Annotated[str, msgspec.Meta(pattern="^(customer|merchant)$")] = "customer"


class SettingQuery(Request, frozen=True):
    """Where the value is asked for."""

    location: str = ""


class SettingOut(Answer, frozen=True):
    """A setting in force and where it comes from."""

    key: str
    value: Any
    version: int
    source: str
    scope: str
    effective_from: str | None


ROLE = "^$|^till:[0-9a-f-]{36}$|^place:[a-z0-9_-]{1,40}$"
"""A till's own, a place of which everybody speaks by its name (`place:kitchen`), or shared by a location."""
ADDRESS = "^((tcp|tls|serial)://|lp:///dev/(usb/)?lp[0-9]|hidraw:///dev/hidraw[0-9]|evdev:///dev/input/)[!-~]{0,180}$"
"""What a transport opens and a person may name: device files are written to, so only those of such devices."""


class AssignIn(Request, frozen=True):
    """Name, role (`till:ID`, `place:NAME`, or empty) and, after a move, the new address of a device.

    What is known by its serial number or its plug has no address to change: it is followed by what it is.
    """

    name: ShortText
    role: Annotated[str, msgspec.Meta(pattern=ROLE)] = ""
    address: Annotated[str, msgspec.Meta(max_length=200, pattern=ADDRESS)] | None = None

    def __post_init__(self) -> None:
        """Refuse card data. A serial line may be named by its adapter's number, which is typed by nobody."""
        check_free_text(self.name, "name")
        if self.address and self.address.startswith(("tcp:", "tls:")):
            check_free_text(self.address, "address")


class CloseIn(Request, frozen=True):
    """Why nobody waits for the money in a device whose place is taken."""

    reason: Annotated[str, msgspec.Meta(min_length=3, max_length=500)]

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.reason, "reason")


class DeactivateIn(Request, frozen=True):
    """Why a terminal leaves that nobody has heard since an outage, or by `force` with stored payments in it."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""
    force: bool = False
    """Let it go although it holds stored payments; they stay held and shown with it. Needs the reason."""

    def __post_init__(self) -> None:
        """Refuse card data."""
        check_free_text(self.reason, "reason")


class DeviceOut(Answer, frozen=True):
    """A device and how it is."""

    id: str
    kind: str
    name: str
    location: str
    role: str
    active: bool
    driver: str
    device_class: str
    address: str
    identity: str
    state: str | None
    problem: str | None
    remedy: str | None
    payment: str | None
    progress: str | None
    unheard: bool
    held_count: int
    held: list[MoneyOut]
    replaced_by: str | None = None
    """The device that has its place now."""
    leaving: bool = False
    """Its place is taken, and money is or may be in it: it stays until that has left."""


class Items(Answer, frozen=True):
    """A whole list, for what is few by nature."""

    items: list[Any]


class TicketOut(Answer, frozen=True):
    """A ticket for one use within 30 seconds: append `?ticket=…` to the address of a stream."""

    ticket: str
    expires_in_seconds: int


class EntryOut(Answer, frozen=True):
    """A journal entry: head and body as text and base64, to be verified by anyone."""

    line: str
    seq: int
    hash: str
    at: str
    clock: str
    kind: str
    subject: str
    actor: str
    flags: int
    body: Any
    """Null for money of another location than those whose journal the caller may read."""
    documents: list[str]
    """Ids of the personal data that it refers to; `POST /v1/documents/{id}/erase` has one forgotten."""


class JournalQuery(Request, frozen=True):
    """Entries after a place, narrowed by how the kind begins, by device and by time; or the history of one thing."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)] = 0
    subject: Annotated[
        str,
        msgspec.Meta(
            max_length=64,
            description="The history of one thing from its beginning; only `limit` may be sent with it.",
        ),
    ] = ""
    kind: Annotated[str, msgspec.Meta(max_length=64, pattern="^[a-z0-9_.]*$")] = ""
    device: Annotated[str, msgspec.Meta(max_length=36)] = ""
    since: Annotated[str, msgspec.Meta(max_length=40)] = ""
    until: Annotated[str, msgspec.Meta(max_length=40)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50

    def __post_init__(self) -> None:
        """Refuse to narrow the history of one thing: what came back would look complete and be something else."""
        for name in ("after", "kind", "device", "since", "until") if self.subject else ():
            if getattr(self, name):
                raise InvalidValueError(
                    "invalid_field",
                    f"The history of one thing is not narrowed: {name}.",
                    remedy="Send `subject` with `limit` alone, or leave it out.",
                    params={"field": name},
                )


class JournalPage(Answer, frozen=True):
    """Entries in order; `next` is the `after` of the next page, 0 at the head. Narrowed ones may be short."""

    items: list[EntryOut]
    next: int


class EventQuery(Request, frozen=True):
    """Where a stream begins: after an entry, by its seq or by the id of its event; without it, at this moment."""

    after: Annotated[
        str,
        msgspec.Meta(
            pattern="^$|^([0-9a-f]{32}:)?[0-9]{1,16}$",
            description="SEQ or LINE:SEQ. With the line, a hub that was restored meanwhile says `resync`.",
        ),
    ] = ""
