"""SIGKILL at every step of a receipt that prints itself: one paper, or nobody knows and the next one says COPY.

The printer is a process of its own and outlives the hub; its paper is what the hub's journal is held against.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hubd.model.ids import derived_id
from tests.crash.store import STEP_TIMEOUT_S, Nursery, Sale, Store, open_store
from tests.integration.test_escpos_printer import Simulator
from tests.rigs.process import wait_until

pytestmark = pytest.mark.timeout(600)
SWITCH = "/v1/settings/receipt.customer_automatic"

STEPS = (
    # The job stands in the transaction of the verdict: it is there with it, and printed after the start.
    ("committed:payment.take", "printed"),
    ("after:payment.take", "printed"),
    ("before:print.start", "printed"),
    ("inside:print.start", "printed"),
    # From here the paper may be out, and nothing is printed again by itself.
    ("committed:print.start", "unknown"),
    ("after:print.start", "unknown"),
    ("before:print", "unknown"),
    ("after:print", "unknown"),
    ("before:print.outcome", "unknown"),
    ("inside:print.outcome", "unknown"),
    ("committed:print.outcome", "printed"),
    ("after:print.outcome", "printed"),
)
OUT = frozenset({"after:print", "before:print.outcome", "inside:print.outcome"})
"""Steps of the unknown ones at which the paper is out in truth."""


@pytest.fixture
async def printer(tmp_path: Path) -> AsyncIterator[Simulator]:
    simulator = Simulator(tmp_path, "tcp")
    yield simulator
    simulator.child.close()


@pytest.fixture
async def store(nursery: Nursery, printer: Simulator) -> AsyncIterator[Store]:
    config = f"[[terminals]]\naddress = '{printer.start()}'\nname = 'Printer'\ndriver = 'escpos'\n"
    async with open_store({}, tills=1, nursery=nursery, config=config) as opened:
        # What the configuration names is proposed at a start, once there is a location.
        opened.process.kill()
        await opened.start_hub()
        (device,) = (one for one in (await opened.ask("GET", "/v1/devices"))["items"] if one["kind"] == "printer")
        await opened.ask("POST", f"/v1/devices/{device['id']}/activate")
        known = await opened.ask("GET", SWITCH)
        await opened.ask("PUT", SWITCH, {"value": True}, if_match=f'"{known["version"]}"')
        yield opened


async def printer_ready(store: Store) -> None:
    async def ready() -> bool:
        devices = (await store.ask("GET", "/v1/devices"))["items"]
        return [one["state"] for one in devices if one["kind"] == "printer"] == ["ready"]

    await wait_until(ready, STEP_TIMEOUT_S, "the printer")


def papers_of(printer: Simulator, shown: dict[str, Any]) -> list[bool]:
    """Of each paper with the receipt of this payment, whether it says COPY."""
    number = f"Receipt {shown['number']}"
    found = [lines for lines in printer.receipts() if any(number == line.strip() for line in lines)]
    return [any(line.strip() == "COPY" for line in lines) for lines in found]


async def job_in(store: Store, sale: Sale, *states: str) -> str:
    """The state of the payment's own job, once it is one of these."""
    path = f"/v1/print-jobs/{derived_id(sale.payment, 'receipt:customer')}"

    async def reached() -> str | None:
        state: str = (await store.ask("GET", path))["state"]
        return state if state in states else None

    return str(await wait_until(reached, STEP_TIMEOUT_S, f"a job that is {' or '.join(states)}"))


async def one_kill(store: Store, printer: Simulator, nursery: Nursery, amount: int, step: str, ends: str) -> None:
    till = store.tills[0]
    await printer_ready(store)
    sale = till.plan(amount, "cash")
    store.kill_at(step)
    shown: dict[str, Any] = {}

    async def pays() -> bool:
        shown.update(await till.pay(sale))
        return True

    async with asyncio.TaskGroup() as group:
        group.create_task(pays())
        await store.died()
        store.kill_at("")
        for command in (("journal", "verify"), ("journal", "replay", "--check")):
            await asyncio.to_thread(nursery.hubctl, store.config, *command)
        await store.start_hub()
    assert shown["state"] == "approved", "the money does not depend on paper"
    assert await job_in(store, sale, "printed", "unknown") == ends
    await printer_ready(store)
    assert papers_of(printer, shown) == [False] * (ends == "printed" or step in OUT)
    path = f"/v1/print-jobs/{derived_id(sale.payment, 'receipt:customer')}"
    await store.ask("POST", f"{path}/again")
    assert await job_in(store, sale, "printed") == "printed"
    assert papers_of(printer, shown) == [False] * (ends == "printed" or step in OUT) + [True]


async def test_a_receipt_is_printed_once_or_says_copy_wherever_the_hub_is_killed(
    store: Store, printer: Simulator, nursery: Nursery
) -> None:
    for number, (step, ends) in enumerate(STEPS, start=1):
        try:
            await one_kill(store, printer, nursery, 1_000 + number, step, ends)
        except Exception as exc:  # the step is part of what is told
            exc.add_note(f"the step was {step}")
            raise


async def test_a_payment_that_was_not_committed_leaves_no_paper(
    store: Store, printer: Simulator, nursery: Nursery
) -> None:
    await printer_ready(store)
    sale = store.tills[0].plan(1_200, "cash")
    store.kill_at("inside:payment.take")

    async with asyncio.TaskGroup() as group:
        paying = group.create_task(store.tills[0].pay(sale))
        await store.died()
        store.kill_at("")
        await store.start_hub()
        assert (await paying)["state"] == "unknown", "the till may have been answered by what was lost"
    await printer_ready(store)
    assert (await store.ask("GET", "/v1/print-jobs"))["items"] == []
    assert printer.receipts() == []
