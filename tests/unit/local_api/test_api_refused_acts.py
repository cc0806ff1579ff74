"""What may not be done with money, state by state: each act that is refused says its own code and writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.unit.local_api.counter import Counter, cash, counter

URL = "tcp://terminal"
ENDINGS = {"approved": 2000, "declined": 2005, "stored": 2011, "unknown": 2014}
"""What the terminal's simulator does with an amount, by its last two digits (drivers/sim)."""


class Desk:
    """A shop with a terminal, and who asks for what."""

    def __init__(self, shop: Counter, till: httpx2.AsyncClient) -> None:
        self.shop = shop
        self.till = till
        self.manager = shop.administrator()

    async def paid(self, **more: Any) -> str:
        """A cash payment."""
        payment = self.shop.new_id()
        answer = await self.till.put(f"/v1/payments/{payment}", json=cash(**more))
        assert answer.status_code == 201, answer.text
        return payment

    async def refunded(self) -> str:
        """A refund of a part of a cash payment."""
        paid, refund = await self.paid(), self.shop.new_id()
        answer = await self.refund(paid, 250, refund)
        assert answer.status_code == 201, answer.text
        return refund

    async def card(self, state: str) -> str:
        """A card payment that has come to this state."""
        payment = self.shop.new_id()
        body = {"amount": {"amount": ENDINGS[state], "currency": "EUR"}}
        answer = await self.till.put(f"/v1/payments/{payment}", json=body)
        assert answer.status_code == 201, answer.text
        await self.shop.shop.until(payment, state)
        return payment

    async def order(self) -> str:
        """An order of ten euros."""
        order = self.shop.new_id()
        line = {"name": "Bread", "gross": 1000, "net": 948, "tax_rate": "5.5"}
        body = {"lines": [line], "total": {"amount": 1000, "currency": "EUR"}}
        answer = await self.till.put(f"/v1/orders/{order}", json=body)
        assert answer.status_code == 201, answer.text
        return order

    async def refund(self, payment: str, amount: int = 100, refund: str = "") -> httpx2.Response:
        """Give some of a payment back."""
        body = {"amount": {"amount": amount, "currency": "EUR"}, "reason": "brought back"}
        return await self.manager.put(f"/v1/payments/{payment}/refunds/{refund or self.shop.new_id()}", json=body)

    async def resolve(self, payment: str) -> httpx2.Response:
        """A manager's word."""
        word = {"verdict": "success", "reason": "seen on the statement"}
        return await self.manager.post(f"/v1/payments/{payment}/resolve", json=word)


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    async with counter(folder) as shop:
        till = await shop.till()
        await shop.owner()
        shop.shop.counter.add(URL)
        await shop.shop.add_terminal(URL)
        yield Desk(shop, till)


Act = Callable[[Desk], Awaitable[httpx2.Response]]


async def cancel_paid(d: Desk) -> httpx2.Response:
    return await d.till.post(f"/v1/payments/{await d.paid()}/cancel")


async def cancel_stored(d: Desk) -> httpx2.Response:
    return await d.till.post(f"/v1/payments/{await d.card('stored')}/cancel")


async def reverse_declined(d: Desk) -> httpx2.Response:
    return await d.manager.post(f"/v1/payments/{await d.card('declined')}/reverse")


async def reverse_unknown(d: Desk) -> httpx2.Response:
    return await d.manager.post(f"/v1/payments/{await d.card('unknown')}/reverse")


async def reverse_refunded(d: Desk) -> httpx2.Response:
    paid = await d.paid()
    assert (await d.refund(paid)).status_code == 201
    return await d.manager.post(f"/v1/payments/{paid}/reverse")


async def resolve_paid(d: Desk) -> httpx2.Response:
    return await d.resolve(await d.paid())


async def resolve_approved(d: Desk) -> httpx2.Response:
    return await d.resolve(await d.card("approved"))


async def resolve_declined(d: Desk) -> httpx2.Response:
    return await d.resolve(await d.card("declined"))


async def resolve_in_a_terminal_that_answers(d: Desk) -> httpx2.Response:
    return await d.resolve(await d.card("stored"))


async def refund_card(d: Desk) -> httpx2.Response:
    return await d.refund(await d.card("approved"))


async def refund_declined(d: Desk) -> httpx2.Response:
    return await d.refund(await d.card("declined"))


async def refund_stored(d: Desk) -> httpx2.Response:
    return await d.refund(await d.card("stored"))


async def refund_unknown(d: Desk) -> httpx2.Response:
    return await d.refund(await d.card("unknown"))


async def refund_refund(d: Desk) -> httpx2.Response:
    return await d.refund(await d.refunded())


async def refund_too_much(d: Desk) -> httpx2.Response:
    return await d.refund(await d.paid(), 1251)


async def refund_more_than_rounded_cash(d: Desk) -> httpx2.Response:
    return await d.refund(await d.paid(amount=1002, rounding=-2), 1001)


async def refund_the_rest_and_more(d: Desk) -> httpx2.Response:
    paid = await d.paid()
    assert (await d.refund(paid, 1000)).status_code == 201
    return await d.refund(paid, 251)


async def receipt_of_unknown(d: Desk) -> httpx2.Response:
    return await d.till.get(f"/v1/payments/{await d.card('unknown')}/receipt")


async def pay_more_than_due(d: Desk) -> httpx2.Response:
    order = await d.order()
    return await d.till.put(f"/v1/payments/{d.shop.new_id()}", json=cash(1001, order=order))


async def pay_a_paid_order(d: Desk) -> httpx2.Response:
    order = await d.order()
    await d.paid(amount=1000, order=order)
    return await d.till.put(f"/v1/payments/{d.shop.new_id()}", json=cash(100, order=order))


async def pay_a_cancelled_order(d: Desk) -> httpx2.Response:
    order = await d.order()
    assert (await d.manager.post(f"/v1/orders/{order}/cancel")).status_code == 200
    return await d.till.put(f"/v1/payments/{d.shop.new_id()}", json=cash(100, order=order))


async def cancel_an_order_with_money(d: Desk) -> httpx2.Response:
    order = await d.order()
    await d.paid(amount=400, order=order)
    return await d.manager.post(f"/v1/orders/{order}/cancel")


async def unusable_policy(d: Desk) -> httpx2.Response:
    path = "/v1/policies/terminal"
    tag = (await d.manager.get(path)).headers["etag"]
    return await d.manager.put(path, json={"value": {"enabled": True}}, headers={"if-match": tag})


@pytest.mark.parametrize(
    ("act", "status", "code"),
    [
        (cancel_paid, 409, "already_paid"),
        (cancel_stored, 409, "already_paid"),
        (reverse_declined, 409, "payment.invalid_transition"),
        (reverse_unknown, 409, "payment.invalid_transition"),
        (reverse_refunded, 409, "already_refunded"),
        (resolve_paid, 409, "nothing_to_resolve"),
        (resolve_approved, 409, "nothing_to_resolve"),
        (resolve_declined, 409, "nothing_to_resolve"),
        (resolve_in_a_terminal_that_answers, 409, "terminal_can_send"),
        (refund_card, 409, "refund_not_supported"),
        (refund_declined, 409, "not_refundable"),
        (refund_stored, 409, "refund_before_settlement"),
        (refund_unknown, 409, "not_refundable"),
        (refund_refund, 409, "not_refundable"),
        (refund_too_much, 409, "over_refundable"),
        (refund_more_than_rounded_cash, 409, "over_refundable"),
        (refund_the_rest_and_more, 409, "over_refundable"),
        (receipt_of_unknown, 409, "no_receipt_yet"),
        (pay_more_than_due, 409, "over_amount_due"),
        (pay_a_paid_order, 409, "order_closed"),
        (pay_a_cancelled_order, 409, "order_closed"),
        (cancel_an_order_with_money, 409, "order_has_payments"),
        (unusable_policy, 422, "invalid_policy"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_an_act_that_the_state_forbids_is_refused_by_name(
    tmp_path: Path, act: Act, status: int, code: str
) -> None:
    async with desk(tmp_path) as opened:
        answer = await act(opened)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert answer.json()["remedy"]
        if answer.request.method == "POST" or "refunds" in answer.request.url.path:
            newest = (await opened.shop.entries())[-1]["seq"]
            same, kind = answer.request, {"content-type": "application/json"}
            again = await opened.manager.request(same.method, same.url, content=same.content, headers=kind)
            assert again.json()["code"] == code
            assert (await opened.shop.entries())[-1]["seq"] == newest, "a refused act writes nothing"
