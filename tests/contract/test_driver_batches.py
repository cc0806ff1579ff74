"""What a terminal driver says of a flush and of an end of day, on lines that a test spoils; in virtual time.

A flush that is called complete ends the hub's custody of what the terminal has stored, and the totals of an end of day
are compared with the hub's own. The judge is the simulator's ledger.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drivers.kit.bench import Spoil
from drivers.kit.memory_line import Delivery
from drivers.kit.virtual_time import run
from drivers.sim.ledger import TransactionState
from hubd.errors import DeviceError
from hubd.model.device import Capability
from hubd.model.money import Money
from hubd.ports import FlushResult, Stored
from tests.contract.terminal_bench import CASES, KINDS, REGISTRY, Bench, bench, terminals_that
from tests.contract.test_driver_contract import LATE_S, directions, nth, spoiled

EUR = "EUR"
TRIES_MAX = 4
"""Flushes until a terminal on a line that is well again has sent everything; one of them may meet its old answer."""
PAUSE_S = 30.0
"""Between them: a terminal whose last answer was not confirmed is busy with it for a while."""
Deliver = Callable[[bytes], list[Delivery]]


def late(by_s: float) -> Deliver:
    """Of a block that arrives so much later."""
    return lambda data: [Delivery(data, by_s)]


SPOILS: dict[str, Deliver] = {
    "lost": lambda _: [],
    "doubled": lambda data: [Delivery(data), Delivery(data)],
    **{f"late_{late_s:.0f}": late(late_s) for late_s in LATE_S},
}
spoils = pytest.mark.parametrize("spoil", SPOILS)
terminals_that_store = terminals_that(Capability.SEND_OFFLINE)
CHECKED = [
    (driver_id, url)
    for driver_id, url in CASES
    if Capability.SEND_OFFLINE in REGISTRY.manifest(driver_id).capabilities
    and (url.startswith("serial:") or driver_id == "poslink")
]
terminals_that_check_frames = pytest.mark.parametrize(("driver_id", "url"), CHECKED)
terminals_that_close = terminals_that(Capability.END_OF_DAY)


async def store(made: Bench, *amounts: int) -> None:
    made.simulator.host_up = False
    for amount in amounts:
        assert isinstance((await made.pay(Money(amount, EUR))).outcome, Stored)


def held(made: Bench) -> int:
    return len(made.simulator.ledger.stored())


async def send(made: Bench) -> FlushResult:
    """A flush; what it says is held against what the terminal holds then."""
    said = await made.terminal.send_offline()
    assert not (said.complete and held(made)), f"{held(made)} are in the terminal, the hub says {said}"
    return said


async def send_everything(made: Bench) -> None:
    """On a line that is well again, and with a host that answers, nothing stays and nothing is sent twice."""
    made.simulator.host_up = True
    for _ in range(TRIES_MAX):
        await made.clock.sleep(PAUSE_S)
        await made.ready()
        if (await send(made)).complete:
            break
    else:
        raise AssertionError("it never called a flush complete")
    states = [one.state for one in made.simulator.ledger.transactions if one.kind == "payment" and one.offline]
    assert set(states) == {TransactionState.FORWARDED}


def blocks_of(driver_id: str, url: str, direction: str, act: Callable[[Bench], object]) -> list[bytes]:
    """What one of the two sides writes in an act on a line that is well."""

    async def main() -> list[bytes]:
        async with bench(driver_id, url) as made:
            await store(made, 1500, 1700)
            made.simulator.host_up = True
            made.line.watch()
            await act(made)  # type: ignore[misc]  # an act is awaited, whatever it brings
            return made.line.hub_blocks if direction == "hub" else made.line.device_blocks

    return run(main())


def flush_with(driver_id: str, url: str, direction: str, spoil: Spoil | None, *, host_up: bool, cut: int = -1) -> None:
    """A flush on a spoiled line, then one more of a further payment that must not live on the first one's answer."""

    async def main() -> None:
        async with bench(driver_id, url) as made:
            await store(made, 1500, 1700)
            made.simulator.host_up = host_up
            spoiled(made.line, direction, spoil)
            end = made.line.hub if direction == "hub" else made.line.device
            if cut >= 0:
                end.cut_after = end.bytes_written + cut
            await send(made)
            made.line.watch()
            end.cut_after = None
            await made.ready()
            made.simulator.host_up = False
            await made.pay(Money(1900, EUR))  # what was late may meet it: its outcome is the other contract's
            await send(made)
            await send_everything(made)

    run(main())


@terminals_that_store
@directions
@spoils
@pytest.mark.parametrize("host_up", [True, False])
def test_a_flush_is_called_complete_only_when_nothing_is_stored(
    driver_id: str, url: str, direction: str, spoil: str, host_up: bool
) -> None:
    blocks = blocks_of(driver_id, url, direction, send)
    for index in range(len(blocks)):
        flush_with(driver_id, url, direction, nth(index, SPOILS[spoil]), host_up=host_up)


@terminals_that_store
@directions
@pytest.mark.timeout(120)
def test_a_flush_whose_line_is_cut_at_any_byte_is_not_complete(driver_id: str, url: str, direction: str) -> None:
    size = sum(map(len, blocks_of(driver_id, url, direction, send)))
    for at in KINDS[driver_id].places(size):
        flush_with(driver_id, url, direction, None, host_up=False, cut=at)


@terminals_that_check_frames
@directions
@pytest.mark.timeout(120)
def test_a_flush_with_any_byte_changed_is_not_complete(driver_id: str, url: str, direction: str) -> None:
    """On a line whose frames have a check of their own: TCP has one below, so nothing changes there unnoticed."""
    for index, block in enumerate(blocks_of(driver_id, url, direction, send)):
        for at in KINDS[driver_id].places(len(block)):

            def corrupt(data: bytes, at: int = at) -> list[Delivery]:
                return [
                    Delivery(data[:at] + bytes(byte ^ 1 << (at % 8) for byte in data[at : at + 1]) + data[at + 1 :])
                ]

            flush_with(driver_id, url, direction, nth(index, corrupt), host_up=False)


@terminals_that_close
@directions
@spoils
def test_an_end_of_day_tells_the_terminals_totals_or_none(driver_id: str, url: str, direction: str, spoil: str) -> None:
    def closed(made: Bench) -> list[int]:
        return [one.amount_minor for one in made.simulator.ledger.transactions if one.kind == "end_of_day"]

    async def close(made: Bench) -> None:
        before = len(closed(made))
        try:
            totals = await made.terminal.end_of_day()
        except DeviceError:
            return
        if totals.total is not None:
            assert totals.total.amount_minor in closed(made)[before:], "it is the answer to another one"

    async def main(index: int) -> int:
        async with bench(driver_id, url) as made:
            await made.pay(Money(1500, EUR))
            await made.pay(Money(1700, EUR))
            spoiled(made.line, direction, nth(index, SPOILS[spoil]))
            line = made.line
            await close(made)
            blocks = len(line.hub_blocks if direction == "hub" else line.device_blocks)
            line.watch()
            await made.ready()
            await made.pay(Money(1600, EUR))
            await close(made)
            return blocks

    for index in range(run(main(10_000))):
        run(main(index))
