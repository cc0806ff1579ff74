"""What a device may say before its line is given up, and who has a turn meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from drivers.appetite import Appetite, BabbleError, Budget, MeteredStream
from drivers.kit.memory_line import memory_pipe
from drivers.kit.virtual_time import VirtualClock, run

PIECE_BYTES = Appetite().piece_bytes
SMALL = Appetite(burst_bytes=4 * PIECE_BYTES, bytes_per_s=100)


def test_a_budget_is_eaten_and_grows_again_but_never_beyond_its_beginning() -> None:
    async def main() -> None:
        clock = VirtualClock()
        budget = Budget(clock, Appetite(burst_bytes=1000, bytes_per_s=100))
        assert budget.spend(1000)
        assert not budget.spend(1)
        await clock.sleep(2.0)
        assert budget.spend(200)
        assert not budget.spend(1)
        await clock.sleep(1_000.0)
        assert budget.spend(1000)
        assert not budget.spend(1)
        budget.refill()
        assert budget.spend(1000)

    run(main())


def test_who_says_what_the_appetite_allows_is_heard_for_ever() -> None:
    async def main() -> None:
        clock = VirtualClock()
        hub, device = memory_pipe()
        stream = MeteredStream(hub, clock, Budget(clock, SMALL), lambda: pytest.fail("it did not babble"))
        for _ in range(1_000):
            await device.write(b"x" * 100)
            await clock.sleep(1.0)
            assert await stream.read(4096) == b"x" * 100

    run(main())


def test_who_says_more_loses_the_line_for_good_and_another_one_buys_nothing() -> None:
    async def main() -> None:
        clock, told = VirtualClock(), list[float]()
        budget = Budget(clock, SMALL)
        for allowed in (SMALL.burst_bytes, 0):
            hub, device = memory_pipe()
            stream = MeteredStream(hub, clock, budget, lambda: told.append(clock.monotonic()))
            await device.write(b"x" * 2 * SMALL.burst_bytes)
            for _ in range(allowed // PIECE_BYTES):
                assert len(await stream.read(4096)) == PIECE_BYTES
            with pytest.raises(BabbleError):
                await stream.read(4096)
        assert len(told) == 2

    run(main())


def test_others_have_a_turn_between_two_pieces_of_what_has_come_already() -> None:
    async def main() -> None:
        clock, turns = VirtualClock(), 0
        hub, device = memory_pipe()
        stream = MeteredStream(hub, clock, Budget(clock, Appetite()), lambda: None)
        await device.write(b"x" * 20 * PIECE_BYTES)

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await clock.sleep(0)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(other(), name="other")
            for _ in range(20):
                assert len(await stream.read(4096)) == PIECE_BYTES
            task.cancel()
        assert turns >= 19

    run(main())
