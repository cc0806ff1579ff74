"""SIGKILL at every named step of a payment, a reversal and a flush (domain 6.3, F4).

Each case: a till asks, the hub dies at the step, its journal is checked while it is dead, it is started again, the
till repeats itself. Then the till's notes, the terminals' own books and the hub's journal must tell one story.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.crash.books import check_books
from tests.crash.store import STEP_TIMEOUT_S, Nursery, Sale, Store, Till, open_store
from tests.rigs.process import wait_until

pytestmark = pytest.mark.timeout(600)

KEEPS_GOING, POLITE = "keeps-going", "polite"
APPROVE, DECLINE, STORE, LOSE, LOSE_FOR_GOOD = 0, 5, 11, 13, 14
"""The last two digits of an amount say what the terminal does with it."""


@dataclass(frozen=True, slots=True)
class Case:
    """A step at which the hub dies, and how the payment must end."""

    step: str
    ends: str
    """The state in the end, or `unknown` when only a person can say."""
    amount: int = APPROVE
    tender: str = "card"
    terminal: str = KEEPS_GOING
    then: tuple[str, ...] = ()
    """Steps at which the hubs that are started afterwards die too."""

    def __str__(self) -> str:
        kind = self.tender if self.tender == "cash" else f"card{self.amount:02d}-{self.terminal}"
        return f"{kind}-{'-'.join((self.step, *self.then))}"


def cash(step: str, ends: str) -> Case:
    return Case(step, ends, tender="cash")


CASH = (
    # A first attempt that may or may not have arrived is unknown: the till alone cannot tell a hub that forgot it.
    cash("before:payment.take", "unknown"),
    cash("inside:payment.take", "unknown"),
    cash("committed:payment.take", "approved"),
    cash("after:payment.take", "approved"),
)
BEFORE_THE_TERMINAL = (
    Case("before:payment.take", "unknown"),
    Case("inside:payment.take", "unknown"),
    # The intent is on disk and nothing was sent: cancelled, and the till may take another.
    Case("committed:payment.take", "cancelled"),
    Case("after:payment.take", "cancelled"),
    Case("before:payment.started", "cancelled"),
    Case("inside:payment.started", "cancelled"),
)
AT_THE_TERMINAL = (
    # From here the authorisation may have left: the terminal is asked.
    Case("committed:payment.started", "cancelled"),
    Case("after:payment.started", "cancelled"),
    Case("before:authorize", "cancelled"),
    Case("during:authorize", "approved"),
    Case("during:authorize", "cancelled", terminal=POLITE),
    Case("after:authorize", "approved"),
    Case("before:payment.outcome", "approved"),
    Case("inside:payment.outcome", "approved"),
    Case("committed:payment.outcome", "approved"),
    Case("after:payment.outcome", "approved"),
    # The hub that takes up what was left is killed too.
    Case("after:authorize", "approved", then=("inside:payment.outcome", "committed:payment.outcome", "after:enquire")),
)
OTHER_ANSWERS = (
    Case("after:authorize", "declined", DECLINE),
    Case("during:authorize", "stored", STORE),
    Case("after:authorize", "stored", STORE),
    Case("inside:payment.outcome", "stored", STORE),
    Case("committed:payment.outcome", "stored", STORE),
    Case("after:authorize", "approved", LOSE),
    Case("committed:payment.outcome", "approved", LOSE),
    Case("before:enquire", "approved", LOSE),
    Case("after:enquire", "approved", LOSE),
    Case("before:payment.outcome#2", "approved", LOSE),
    Case("inside:payment.outcome#2", "approved", LOSE),
    Case("committed:payment.outcome#2", "approved", LOSE),
    # Last, because a terminal that cannot tell this one's receipt cannot tell the number before the next one either.
    Case("after:authorize", "unknown", LOSE_FOR_GOOD),
)


@pytest.fixture
async def store(nursery: Nursery) -> AsyncIterator[Store]:
    terminals = {KEEPS_GOING: ("--keeps-going",), POLITE: ()}
    async with open_store(terminals, tills=1, nursery=nursery) as opened:
        yield opened


def amounts() -> Iterator[int]:
    """A different amount for every sale, so that no two can be taken for one another."""
    yield from range(1_000, 1_000_000, 100)


async def dead_and_checked(store: Store, nursery: Nursery) -> None:
    """The hub dies; while it is dead, both verifiers read the chain and the state follows from the entries."""
    await store.died()
    store.kill_at("")
    check_books(store.database, store.sales, store.simulators)
    for command in (("journal", "verify"), ("journal", "replay", "--check")):
        await asyncio.to_thread(nursery.hubctl, store.config, *command)


async def end_of(store: Store, till: Till, sale: Sale, case: Case) -> dict[str, Any]:
    """The payment as it ends; what only a person can decide is decided by the terminal's own books."""
    if case.ends != "unknown":
        return await till.settled(sale)
    shown = await till.settled(sale, unknown=True)
    await store.decide(sale.payment)
    return shown


async def one_case(store: Store, nursery: Nursery, case: Case, amount: int) -> None:
    till = store.tills[0]
    await store.terminals_ready()
    more = {"terminal": store.terminals[case.terminal]} if case.tender == "card" else {}
    sale = till.plan(amount + case.amount, case.tender, **more)
    store.kill_at(case.step)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(till.pay(sale))
        await dead_and_checked(store, nursery)
        for step in case.then:
            store.kill_at(step)
            store.process.start()
            await dead_and_checked(store, nursery)
        await store.start_hub()
        await asking
    ended = await end_of(store, till, sale, case)
    assert ended["state"] == case.ends, f"{case}: {ended}"
    again = await till.pay(sale)
    assert again["accepted"] == ended["accepted"], "the same request has the same answer for ever"
    assert again["state"] == case.ends
    charges = sum(len(one.charges(sale.payment)) for one in store.simulators)
    assert charges == int(
        case.tender == "card" and (case.ends in {"approved", "stored"} or again["manual"] == "success")
    )


@pytest.mark.parametrize(
    "cases",
    [CASH, BEFORE_THE_TERMINAL, AT_THE_TERMINAL, OTHER_ANSWERS],
    ids=["cash", "before-the-terminal", "at-the-terminal", "other-answers"],
)
async def test_a_payment_survives_a_kill_at_every_step(store: Store, nursery: Nursery, cases: tuple[Case, ...]) -> None:
    for case, amount in zip(cases, amounts(), strict=False):
        try:
            await one_case(store, nursery, case, amount)
        except BaseException as exc:
            exc.add_note(f"the case was {case}")
            raise


STEPS_INTO_USE = (
    "inside:device.activate",
    "committed:device.activate",
    "inside:device.synced",
    "committed:device.synced",
    "inside:device.activated",
    "committed:device.activated",
)


async def test_a_terminal_goes_on_at_the_step_at_which_the_power_went(store: Store, nursery: Nursery) -> None:
    """D01: what is on disk holds, nothing is done twice or skipped; only what was not written is asked for again."""
    terminal, steps = store.terminals[POLITE], ("signed_in", "located", "named", "synced", "activated")
    history = f"/v1/journal?subject={terminal}&limit=100"
    for step in STEPS_INTO_USE:
        await store.ask("POST", f"/v1/devices/{terminal}/deactivate")
        before = len((await store.ask("GET", history))["items"])
        store.kill_at(step)
        with contextlib.suppress(httpx2.TransportError):  # the hub may die before it answers
            await store.ask("POST", f"/v1/devices/{terminal}/activate")
        await dead_and_checked(store, nursery)
        await store.start_hub()
        if step == STEPS_INTO_USE[0]:
            assert (await store.ask("GET", f"/v1/devices/{terminal}/life"))["step"] == "discovered"
            await store.ask("POST", f"/v1/devices/{terminal}/activate")
        await store.terminals_ready()
        assert (await store.ask("GET", f"/v1/devices/{terminal}/life"))["step"] == "active"
        taken = [one["kind"] for one in (await store.ask("GET", history))["items"][before:]]
        assert taken == [f"device.{one}" for one in steps], step


REVERSALS = (
    ("before:payment.reverse", "approved"),
    ("inside:payment.reverse", "approved"),
    # Asked for and not sent: the terminal is asked, says that it has not reversed, and the payment stands.
    ("committed:payment.reverse", "approved"),
    ("after:payment.reverse", "approved"),
    ("before:reverse", "approved"),
    # Sent: the terminal is asked, says that it has reversed, and the money is back.
    ("after:reverse", "reversed"),
    ("before:payment.outcome", "reversed"),
    ("inside:payment.outcome", "reversed"),
    ("committed:payment.outcome", "reversed"),
    ("after:payment.outcome", "reversed"),
)


async def test_a_reversal_survives_a_kill_at_every_step(store: Store, nursery: Nursery) -> None:
    """A reversal is never forgotten, never sent twice and never believed without the terminal's word."""
    till, terminal = store.tills[0], store.simulators[0]
    for (step, ends), amount in zip(REVERSALS, amounts(), strict=False):
        await store.terminals_ready()
        sale = till.plan(amount, terminal=store.terminals[KEEPS_GOING])
        await till.pay(sale)
        assert (await till.settled(sale))["state"] == "approved"
        # A commit can be read before its writer hears of it: one answer more, and the sale's own steps are behind us.
        await store.terminals_ready()
        store.kill_at(step)
        reverse = f"/v1/payments/{sale.payment}/reverse"
        with contextlib.suppress(httpx2.TransportError):  # the hub may die before it answers
            await store.ask("POST", reverse)
        await dead_and_checked(store, nursery)
        undone = not terminal.charges(sale.payment)
        assert undone == (ends == "reversed"), step
        await store.start_hub()
        assert (await till.settled(sale))["state"] == ends, step
        if ends == "approved":
            await store.terminals_ready()
            await store.ask("POST", reverse)
            assert (await till.settled(sale))["state"] == "reversed", f"after {step} it can be reversed all the same"
        reversals = [one for one in terminal.transactions() if one["kind"] == "reversal"]
        assert len(reversals) == len({one["original_trace"] for one in reversals}), f"reversed twice after {step}"


FLUSHES = (
    "before:flush.move",
    "inside:flush.move",
    "committed:flush.move",
    "after:flush.move",
    "before:send_offline",
    "after:send_offline",
    "before:flush.move#2",
    "inside:flush.move#2",
    "committed:flush.move#2",
    "after:flush.move#2",
)


async def test_a_flush_survives_a_kill_at_every_step(store: Store, nursery: Nursery) -> None:
    """What a terminal holds is sent in the end, and said to be sent only by the terminal's own word."""
    till, terminal = store.tills[0], store.simulators[0]
    for step, amount in zip(FLUSHES, amounts(), strict=False):
        await online(store)
        await store.terminals_ready()
        sale = till.plan(amount + STORE, terminal=store.terminals[KEEPS_GOING])
        store.kill_at(step)
        # There is service, so what the terminal stores all the same is sent at once.
        await till.pay(sale)
        await dead_and_checked(store, nursery)
        await store.start_hub()

        async def forwarded(sale: Sale = sale) -> bool:
            return bool((await till.read(sale))["custody"] == "forwarded")

        await wait_until(forwarded, STEP_TIMEOUT_S, f"the flush after {step}")
        assert [one["state"] for one in terminal.charges(sale.payment)] == ["forwarded"]


async def online(store: Store) -> None:
    """Wait until the hub has measured that there is service."""

    async def measured() -> bool:
        shown: dict[str, Any] = await store.ask("GET", "/v1/hub")
        return bool(shown["mode"] == "online")

    await wait_until(measured, STEP_TIMEOUT_S, "the mode online")
