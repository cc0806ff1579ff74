"""Orders: place, read, cancel."""

from __future__ import annotations

from hubd.model.entry import Accepted as Place
from hubd.model.money import Money
from hubd.model.order import Order, OrderLine
from hubd.model.permissions import Permission
from hubd.services.calendar import rfc3339
from hubd.services.lists import OrderFilter
from hubd.services.orders import PlaceOrder
from local_api.call import Call, Reply, time_us
from local_api.routes.payments import accepted_out
from local_api.schemas import LineOut, OrderIn, OrderOut, OrderPage, OrderQuery, money_out
from local_api.table import RouteSpec

TAG = "orders"


def order_out(order: Order, accepted: Place) -> OrderOut:
    """An order as it leaves the hub."""
    return OrderOut(
        id=order.id,
        accepted=accepted_out(accepted),
        seq=order.last_seq,
        number=order.number,
        state=order.state,
        total=money_out(Money(order.total, order.currency)),
        lines=[
            LineOut(
                line.article_id,
                line.name,
                line.quantity_thousandths,
                line.unit,
                line.tax_rate,
                line.gross,
                line.net,
                line.discount,
            )
            for line in order.lines
        ],
        till=order.till,
        staff=order.staff,
        location=order.location,
        business_date=order.business_date,
        reason=order.reason,
        placed_at=rfc3339(order.placed_at_us, order.zone),
        updated_at=rfc3339(order.updated_at_us, order.zone),
    )


async def put_order(call: Call) -> Reply:
    """Place an order; it has its number when the answer arrives."""
    wanted = call.body
    assert isinstance(wanted, OrderIn), "the table names the type of the body"
    order_id = call.id()
    lines = tuple(
        OrderLine(line.article, line.name, line.quantity, line.unit, line.tax_rate, line.gross, line.net, line.discount)
        for line in wanted.lines
    )
    request = PlaceOrder(order_id, call.digest("order"), lines, wanted.total.money())
    placed = await call.context.services.orders.put(request, call.caller)
    return Reply(order_out(placed.order, placed.accepted), 201 if placed.created else 200)


async def get_order(call: Call) -> Reply:
    """The order as it is now."""
    desk = call.context.services.orders
    order = await desk.get_for(call.id(), call.caller)
    return Reply(order_out(order, order.accepted))


async def list_orders(call: Call) -> Reply:
    """Orders, newest first."""
    query, desk = call.query, call.context.services.orders
    assert isinstance(query, OrderQuery), "the table names the type of the query"
    narrow = OrderFilter(
        state=query.state,
        till=(call.caller.device if query.device == "self" else query.device) or None,
        since_us=time_us(query.since, "since"),
        until_us=time_us(query.until, "until"),
    )
    found = await desk.page(narrow, query.before_seq, query.limit + 1, call.caller)
    shown = found[: query.limit]
    more = str(shown[-1].seq) if len(found) > query.limit else ""
    return Reply(OrderPage([order_out(order, order.accepted) for order in shown], more))


async def cancel_order(call: Call) -> Reply:
    """Cancel an order on which no money rests."""
    desk = call.context.services.orders
    order = await desk.cancel(call.id(), call.caller)
    return Reply(order_out(order, order.accepted))


_P = Permission
ROUTES = (
    RouteSpec(
        "PUT",
        "/v1/orders/{id}",
        _P.ORDERS_PLACE,
        put_order,
        "Place an order",
        body=OrderIn,
        reply=OrderOut,
        created=True,
        tag=TAG,
    ),
    RouteSpec("GET", "/v1/orders/{id}", _P.ORDERS_READ, get_order, "Read an order", reply=OrderOut, tag=TAG),
    RouteSpec(
        "GET", "/v1/orders", _P.ORDERS_READ, list_orders, "List orders", query=OrderQuery, reply=OrderPage, tag=TAG
    ),
    RouteSpec(
        "POST", "/v1/orders/{id}/cancel", _P.ORDERS_CANCEL, cancel_order, "Cancel an order", reply=OrderOut, tag=TAG
    ),
)
