"""Works share what they read (`Tx.memo` in a group, `Tx.kept` beyond), and never more than is still true."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hubd.model.entry import Draft
from hubd.model.payment import Tender
from hubd.services.taking import Taken
from hubd.store import journal
from hubd.store.tx import Tx
from tests.unit.services.shop import LOCATION, TILL_1, TILL_2, Shop, shop, till

EACH = 12


class _NoReasonError(Exception):
    pass


def _fails_after_an_entry(tx: Tx) -> None:
    """Uses what the group knows, then takes everything back."""
    journal.append(tx, Draft("location.set", LOCATION, "hub", _place("Pacific/Auckland")))
    raise _NoReasonError


def _place(zone: str) -> dict[str, str]:
    return {"name": "Quay", "zone": zone, "currency": "EUR", "country": "FR"}


def _sales(opened: Shop, group: asyncio.TaskGroup) -> list[asyncio.Task[Taken]]:
    tills = (till(TILL_1), till(TILL_2))
    return [
        group.create_task(opened.take(100 + number, tender=Tender.CASH, caller=tills[number % 2]))
        for number in range(2 * EACH)
    ]


async def test_numbers_of_a_group_are_gapless_for_each_till(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        async with asyncio.TaskGroup() as group:
            sales = _sales(opened, group)
        taken = [sale.result().payment for sale in sales]
    by_till = {one: [payment.counter for payment in taken if payment.till == one] for one in (TILL_1, TILL_2)}
    assert by_till == {TILL_1: list(range(1, EACH + 1)), TILL_2: list(range(1, EACH + 1))}
    assert len({payment.series for payment in taken}) == 2


async def test_a_work_that_fails_in_the_middle_leaves_nothing_of_what_it_made_the_group_believe(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:

        async def fails() -> None:
            with pytest.raises(_NoReasonError):
                await opened.services.db.write("test.fails", _fails_after_an_entry)

        async with asyncio.TaskGroup() as group:
            sales = _sales(opened, group)
            group.create_task(fails())
            sales += _sales(opened, group)
        taken = [sale.result().payment for sale in sales]
    assert {payment.zone for payment in taken} == {"Europe/Paris"}
    of_first_till = [payment.counter for payment in taken if payment.till == TILL_1]
    assert of_first_till == list(range(1, 2 * EACH + 1))


async def test_a_change_counts_for_the_next_sale_of_the_same_group(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:

        async def moves() -> None:
            move = Draft("location.set", LOCATION, "hub", _place("Pacific/Auckland"))
            await opened.services.db.write("test.moves", lambda tx: journal.append(tx, move))

        async with asyncio.TaskGroup() as group:
            before = _sales(opened, group)
            group.create_task(moves())
            after = _sales(opened, group)
        zones = [{sale.result().payment.zone for sale in sales} for sales in (before, after)]
    assert zones == [{"Europe/Paris"}, {"Pacific/Auckland"}]
