"""A new line closes the number series of the line before, each by an entry that says how far it is known."""

from __future__ import annotations

from pathlib import Path

from hubd.model.payment import Tender
from hubd.services.lines import LineReason
from hubd.store import journal, replay
from tests.unit.services.shop import TILL_1, TILL_2, shop, till


async def test_a_new_line_releases_the_rest_of_every_series(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        sold = [(await opened.take(300, tender=Tender.CASH)).payment for _ in range(3)]
        other = (await opened.take(300, till(TILL_2), tender=Tender.CASH)).payment
        before = opened.services.db.head.line
    async with shop(tmp_path, reason=LineReason.RESTORED) as opened:
        db = opened.services.db
        entries = await db.read("entries", lambda c: journal.entries_after(c, 0, 1_000))
        [line] = [entry for entry in entries if entry.kind == "line.opened" and entry.line == db.head.line]
        released = [entry for entry in entries if entry.kind == "numbers.released"]
        assert {entry.line for entry in released} == {db.head.line} != {before}
        assert [entry.seq for entry in released] == [line.seq + 1, line.seq + 2]
        told = {entry.body()["owner"]: (entry.head.subject, entry.body()["from"]) for entry in released}
        assert told == {TILL_1: (sold[0].series, 4), TILL_2: (other.series, 2)}
        assert all(entry.body()["purpose"] == "receipt" for entry in released)
        fresh = (await opened.take(300, tender=Tender.CASH)).payment
        assert (fresh.counter, fresh.series == sold[0].series) == (1, False)
        assert (await db.read_apart("replay", replay.check)).ok
    async with shop(tmp_path, reason=LineReason.RESTORED) as opened:
        entries = await opened.services.db.read("entries", lambda c: journal.entries_after(c, 0, 1_000))
        [again] = [entry for entry in entries if entry.kind == "numbers.released"][2:]
        assert again.head.subject == fresh.series, "what was closed before is not closed again"
