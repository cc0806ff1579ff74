"""Orders as far as a till rings up lines and pays them."""

from __future__ import annotations

from msgspec import Struct

from hubd.errors import InvalidValueError, NotFoundError, OrderError, Retry
from hubd.model.entry import Accepted, Draft
from hubd.model.money import Money
from hubd.model.order import Order, OrderLine, OrderState, check_lines
from hubd.model.permissions import Permission
from hubd.services.access import Caller
from hubd.services.calendar import business_date
from hubd.services.lines import next_number
from hubd.services.settings import effective
from hubd.services.taking import blocking_payment, counts_as_paid, settle_order
from hubd.services.till_lines import TillLines
from hubd.store import journal, orders, payments, people
from hubd.store.db import Database
from hubd.store.orders import OrderFilter
from hubd.store.tx import Tx

ORDER_NUMBERS = "order"
"""Purpose of the number series that orders take their numbers from."""


class PlaceOrder(Struct, frozen=True):
    """A till's order, checked by its own grammar at the edge."""

    id: str
    digest: bytes
    lines: tuple[OrderLine, ...]
    total: Money


class Placed(Struct, frozen=True):
    """Answer to an order request."""

    order: Order
    accepted: Accepted
    created: bool


class OrderDesk:
    """Places, reads and cancels orders."""

    def __init__(self, db: Database, tills: TillLines) -> None:
        self._db = db
        self._tills = tills

    async def put(self, request: PlaceOrder, caller: Caller) -> Placed:
        """Place an order with a number of the till's series; durable on return. The same again gives the same order."""
        caller.need(Permission.ORDERS_PLACE)
        check_lines(request.lines, request.total)

        def work(tx: Tx) -> Placed:
            existing = orders.get(tx.connection, request.id)
            if existing is not None:
                if existing.digest != request.digest:
                    raise OrderError(
                        "id_conflict",
                        "This id belongs to another order.",
                        remedy="Make a new id for a new order.",
                        retry=Retry.NEW_ID,
                    )
                return Placed(existing, existing.accepted, created=False)
            self._tills.demand_may_sell(tx, caller)
            body = _placed_body(tx, request, caller)
            journal.append(tx, Draft("order.placed", request.id, caller.actor, body))
            if not request.total.amount_minor:
                settle_order(tx, request.id, caller.actor)  # nothing is due, and no payment could say so
            self._tills.remember(tx, caller)
            order = orders.get(tx.connection, request.id)
            assert order is not None, "the projection has just written it"
            return Placed(order, order.accepted, created=True)

        return await self._db.write("order.put", work)

    async def get(self, order_id: str) -> Order:
        """The order as it is now. Raises `order_unknown`."""
        order = await self._db.read("order.get", lambda connection: orders.get(connection, order_id))
        if order is None:
            raise NotFoundError("order_unknown", "No order of this id is known to this hub.", remedy="Place it first.")
        return order

    async def get_for(self, order_id: str, caller: Caller) -> Order:
        """The order for one who asks. Raises `order_unknown`, `access.not_allowed` for another location's."""
        order = await self.get(order_id)
        caller.need_at(Permission.ORDERS_READ, order.location)
        return order

    async def page(self, narrow: OrderFilter, before_seq: int | None, limit: int, caller: Caller) -> list[Order]:
        """Newest first, below `before_seq`; of the locations where the caller may read them."""
        places = caller.locations_of(Permission.ORDERS_READ)
        return await self._db.read("order.page", lambda c: orders.page(c, narrow, before_seq, limit, places))

    async def cancel(self, order_id: str, caller: Caller) -> Order:
        """Cancel an order on which no money rests. Raises `order_has_payments` otherwise."""

        def work(tx: Tx) -> Order:
            order = orders.get(tx.connection, order_id)
            if order is None:
                raise NotFoundError(
                    "order_unknown", "No order of this id is known to this hub.", remedy="Read the list."
                )
            caller.need_at(Permission.ORDERS_CANCEL, order.location)
            if order.state is OrderState.CANCELLED:
                return order
            if order.state is OrderState.PAID and not order.total:
                raise OrderError("order_closed", "The order is paid already.", remedy="Read the order.")
            paid = any(counts_as_paid(payment) for payment in payments.of_order(tx.connection, order_id))
            if paid or blocking_payment(tx.connection, order_id) is not None:
                raise OrderError(
                    "order_has_payments",
                    "Money rests on this order, or may.",
                    remedy="Reverse or resolve its payments first.",
                    retry=Retry.AFTER_ENQUIRY,
                )
            journal.append(tx, Draft("order.cancelled", order_id, caller.actor, _cancelled_body(order, caller)))
            after = orders.get(tx.connection, order_id)
            assert after is not None, "a row never disappears"
            return after

        return await self._db.write("order.cancel", work)


def _cancelled_body(order: Order, caller: Caller) -> dict[str, object]:
    return order.entry_body(device=caller.device, paid=0, reason="cancelled_by_till", staff=caller.staff)


def _placed_body(tx: Tx, request: PlaceOrder, caller: Caller) -> dict[str, object]:
    location = people.location(tx.connection, caller.location)
    if location is None:
        raise NotFoundError("location_unknown", "The caller's location is not known.", remedy="Set the hub up first.")
    if request.total.currency != location.currency:
        raise InvalidValueError(
            "currency_not_here",
            f"This shop sells in {location.currency}.",
            remedy="Send amounts in the shop's currency.",
        )
    starts = effective(tx.connection, "day.starts_at_minute", tx.now_us()).value
    series, counter = next_number(tx, caller.device or "hub", ORDER_NUMBERS)
    return {
        "amount": request.total.amount_minor,
        "business_date": business_date(tx.now_us(), location.zone, starts),
        "counter": counter,
        "currency": request.total.currency,
        "device": caller.device,
        "digest": request.digest.hex(),
        "exponent": request.total.exponent,
        "lines": [line.as_body() for line in request.lines],
        "location": caller.location,
        "mode": "live",
        "series": series,
        "staff": caller.staff,
        "zone": location.zone,
    }
