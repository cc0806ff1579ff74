"""A store that was tampered with behind the hub's back is noticed at the next start, and the shop goes on selling."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hubd.model.payment import PaymentState, Tender
from tests.unit.services.shop import Shop, shop, shop_runtime


def visible(opened: Shop) -> list[str]:
    return [problem.code for problem in opened.services.problems.present()]


@pytest.mark.blocking_allowed("the test changes the file as an intruder would")
async def test_a_changed_entry_is_a_visible_problem(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        for _ in range(3):
            await opened.take(500, tender=Tender.CASH)
        assert "store.damaged" not in visible(opened)
    with closing(sqlite3.connect(tmp_path / "hub.db", isolation_level=None)) as intruder:
        intruder.execute("DROP TRIGGER journal_no_update")
        body = b"500", b"900"
        intruder.execute(
            "UPDATE journal SET body = CAST(replace(CAST(body AS TEXT), ?, ?) AS BLOB) WHERE kind = 'payment.recorded'",
            [text.decode() for text in body],
        )
    async with shop(tmp_path, runtime=shop_runtime(b"2-process")) as opened:
        assert "store.damaged" in visible(opened)
        assert (await opened.take(600, tender=Tender.CASH)).payment.state is PaymentState.APPROVED
