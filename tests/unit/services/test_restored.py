"""A hub restored from an older copy, offline (design 10, sync S9): nothing is charged twice, and it trades on."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from hubd.errors import HubError
from hubd.model.money import Money
from hubd.model.payment import PaymentState, Tender
from hubd.services.lines import LineReason
from hubd.services.till_lines import Held
from hubd.store import lines, till_lines
from tests.unit.services.shop import TILL_1, TILL_2, Terminals, shop, shop_runtime, till

URL = "tcp://terminal-1"


def copy_database(source: Path, target: Path) -> None:
    """What a backup holds: the committed state, in one file."""
    with sqlite3.connect(source) as live, sqlite3.connect(target) as copy:
        live.backup(copy)
    live.close()
    copy.close()


@pytest.mark.blocking_allowed("the test copies the database as a backup would")
@pytest.mark.parametrize("reason", [LineReason.RESTORED, None])
async def test_a_forgotten_payment_is_asked_about_and_never_charged_again(
    tmp_path: Path, reason: LineReason | None
) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    backup = tmp_path / "backup.db"
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        await opened.take(500, tender=Tender.CASH)
        copy_database(tmp_path / "hub.db", backup)
        forgotten = await opened.take(2000)
        await opened.until(forgotten.payment.id, "approved")
        seen = opened.services.feed.hub_line
    for name in ("hub.db", "hub.db-wal", "hub.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(backup, tmp_path / "hub.db")

    async with shop(tmp_path, counter, shop_runtime(b"2-process"), reason) as opened:
        device = opened.services.terminals.all()[0].id
        await opened.ready(device)
        repeat = opened.request(2000, payment_id=forgotten.payment.id)
        caller = till(attempt=2, hub_line=seen)
        await opened.services.tills.check(caller.device, seen)
        with pytest.raises(HubError, match="hub_line_changed"):
            await opened.services.payments.take(repeat, caller)
        held = Held(
            forgotten.payment.id,
            forgotten.accepted.line.hex(),
            forgotten.accepted.seq,
            forgotten.accepted.hash.hex(),
            "approved",
            Money(2000, "EUR"),
        )
        announced, unknown = await opened.services.tills.announce(caller, [held])
        assert announced.forgotten == (forgotten.payment.id,)
        for payment in unknown:
            opened.services.dialogues.start_enquiry(payment)
        payment = await opened.until(forgotten.payment.id, "approved")
        assert payment.evidence["receipt_number"]
        again = await opened.services.payments.take(repeat, caller)
        assert (again.created, again.payment.state) == (False, PaymentState.APPROVED)
        assert [one.amount_minor for one in simulator.ledger.transactions] == [2000]
        fresh = await opened.take(700, tender=Tender.CASH)
        assert fresh.payment.state is PaymentState.APPROVED
        opened_lines = await opened.services.db.read("lines", lines.all_lines)
        assert [line.reason for line in opened_lines] == ["new", "restored"]


async def test_a_till_in_step_is_never_held(tmp_path: Path) -> None:
    async with shop(tmp_path) as opened:
        first = await opened.take(500, tender=Tender.CASH)
        await opened.services.tills.check(till().device, opened.services.feed.hub_line)
        second = await opened.take(600, tender=Tender.CASH)
        assert second.accepted.seq > first.accepted.seq
        assert len(await opened.services.db.read("lines", lines.all_lines)) == 1


async def test_an_attempt_from_before_the_restart_is_unknown_not_charged(tmp_path: Path) -> None:
    counter = Terminals(shop_runtime())
    simulator = counter.add(URL)
    async with shop(tmp_path, counter) as opened:
        await opened.add_terminal(URL)
        await opened.take(500, tender=Tender.CASH)
        seen = opened.services.feed.hub_line
        never_arrived = opened.request(2000)
    async with shop(tmp_path, counter, shop_runtime(b"2-process")) as opened:
        await opened.ready(opened.services.terminals.all()[0].id)
        taken = await opened.services.payments.take(never_arrived, till(attempt=2, hub_line=seen))
        assert taken.payment.state is PaymentState.UNKNOWN
        assert simulator.ledger.transactions == ()
        in_step = till(attempt=2, hub_line=opened.services.feed.hub_line)
        new = await opened.services.payments.take(opened.request(2100), in_step)
        assert (await opened.until(new.payment.id, "approved")).state is PaymentState.APPROVED


@pytest.mark.blocking_allowed("the test copies the database as a backup would")
async def test_forgotten_cash_is_cash_again_and_not_a_card_nobody_can_ask_about(tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    async with shop(tmp_path) as opened:
        await opened.take(500, tender=Tender.CASH)
        copy_database(tmp_path / "hub.db", backup)
        forgotten = await opened.take(700, tender=Tender.CASH)
    for name in ("hub.db", "hub.db-wal", "hub.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(backup, tmp_path / "hub.db")
    async with shop(tmp_path, runtime=shop_runtime(b"2-process"), reason=LineReason.RESTORED) as opened:
        place = forgotten.accepted
        held = Held(
            forgotten.payment.id,
            place.line.hex(),
            place.seq,
            place.hash.hex(),
            "approved",
            Money(700, "EUR"),
            tender=Tender.CASH,
        )
        announced, unknown = await opened.services.tills.announce(till(), [held])
        assert (announced.forgotten, unknown) == ((forgotten.payment.id,), [])
        payment = await opened.services.payments.get(forgotten.payment.id)
        assert (payment.tender, payment.state) == (Tender.CASH, PaymentState.APPROVED)
        assert payment.counter == 1, "a new line has new numbers"


@pytest.mark.blocking_allowed("the test copies the database as a backup would")
async def test_a_silent_restore_is_noticed_after_a_further_restart_too(tmp_path: Path) -> None:
    """The hub has written its own entries where the till's were, and was started again before the till spoke."""
    backup = tmp_path / "backup.db"
    async with shop(tmp_path) as opened:
        await opened.take(500, tender=Tender.CASH)
        copy_database(tmp_path / "hub.db", backup)
    async with shop(tmp_path, runtime=shop_runtime(b"2-process")) as opened:
        forgotten = await opened.take(700, tender=Tender.CASH)
        seen = opened.services.feed.hub_line
    for name in ("hub.db", "hub.db-wal", "hub.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(backup, tmp_path / "hub.db")
    async with shop(tmp_path, runtime=shop_runtime(b"3-process")) as opened:
        for _ in range(3):
            await opened.take(900, till(TILL_2), tender=Tender.CASH)
        in_step = opened.services.feed.hub_line
    async with shop(tmp_path, runtime=shop_runtime(b"4-process")) as opened:
        tills = opened.services.tills
        await tills.check(TILL_2, in_step)
        assert len(await opened.services.db.read("lines", lines.all_lines)) == 1
        await tills.check(TILL_1, seen)
        with pytest.raises(HubError, match="hub_line_changed"):
            await opened.services.payments.take(opened.request(100, tender=Tender.CASH), till(hub_line=seen))
        place = forgotten.accepted
        held = Held(
            forgotten.payment.id, place.line.hex(), place.seq, place.hash.hex(), "approved", Money(700, "EUR"),
            tender=Tender.CASH,
        )  # fmt: skip
        announced, _ = await tills.announce(till(), [held])
        assert announced.forgotten == (forgotten.payment.id,)
        opened_lines = await opened.services.db.read("lines", lines.all_lines)
        assert [line.reason for line in opened_lines] == ["new", "restored"]


async def test_starts_are_remembered_up_to_a_limit_and_a_till_in_step_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(till_lines, "STARTS_MAX", 2)
    seen = []
    for number in range(4):
        async with shop(tmp_path, runtime=shop_runtime(b"%d-process" % number)) as opened:
            await opened.take(500, tender=Tender.CASH)
            seen.append(opened.services.feed.hub_line)
            for place in seen:
                await opened.services.tills.check(TILL_1, place)
            starts = await opened.services.db.read("starts", till_lines.starts)
            assert len(starts) == min(2, number + 1)
            assert len(await opened.services.db.read("lines", lines.all_lines)) == 1
