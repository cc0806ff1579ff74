"""Workers restart, give up, stop in order, and take the process with them only when it cannot go on. Virtual time."""

from __future__ import annotations

import asyncio
import logging
import random  # noqa: TID251 - the tests choose the one seed
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from drivers.kit.virtual_time import VirtualClock, run
from hubd.errors import DeviceError, Retry, StoreError
from hubd.runtime import Runtime, SystemIds
from hubd.supervisor import ONCE, RestartPolicy, Supervisor, WorkerState, is_fatal, supervision

FATAL_CODES = ("store.failed", "store.corrupt", "store.closed")
CLOCK = VirtualClock()


def runtime() -> Runtime:
    return Runtime(clock=CLOCK, ids=SystemIds(), rng=random.Random(7), boot=bytes(16))


def supervised(body: Callable[[Supervisor], Awaitable[None]]) -> None:
    """Run `body` under a supervisor in virtual time."""

    async def main() -> None:
        async with supervision(runtime()) as supervisor:
            await body(supervisor)

    run(main())


async def for_ever() -> None:
    await asyncio.Event().wait()


class Failing:
    """Fails the first `times` runs, then runs for ever; remembers when each run began."""

    def __init__(self, times: int, error: BaseException | None = None, healthy_s: float = 0) -> None:
        self.times, self.error, self.healthy_s = times, error or DeviceError("device.gone", "It is gone."), healthy_s
        self.begun: list[float] = []

    async def __call__(self) -> None:
        self.begun.append(CLOCK.monotonic())
        if len(self.begun) > self.times:
            await for_ever()
        await CLOCK.sleep(self.healthy_s)
        raise self.error


def test_a_failing_worker_restarts_with_growing_waits_that_chance_shortens() -> None:
    failing = Failing(6)

    async def body(supervisor: Supervisor) -> None:
        supervisor.start("device:x", failing, RestartPolicy(initial_s=1, max_s=8))
        await CLOCK.sleep(100)

    supervised(body)
    waits = [after - before for before, after in zip(failing.begun, failing.begun[1:], strict=False)]
    assert len(waits) == 6
    for wait, longest in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert longest / 2 <= wait <= longest
    assert len({round(wait / longest, 6) for wait, longest in zip(waits, [1, 2, 4, 8, 8, 8], strict=True)}) > 3


def test_a_long_healthy_run_forgets_earlier_failures() -> None:
    failing = Failing(5, healthy_s=61)

    async def body(supervisor: Supervisor) -> None:
        supervisor.start("x", failing, RestartPolicy(initial_s=1, max_s=600, healthy_after_s=60))
        await CLOCK.sleep(500)

    supervised(body)
    assert all(after - before <= 62 for before, after in zip(failing.begun, failing.begun[1:], strict=False))


def test_a_worker_that_gave_up_is_left_alone_and_harms_nobody() -> None:
    failing = Failing(99)
    seen: list[tuple[WorkerState, int]] = []

    async def body(supervisor: Supervisor) -> None:
        supervisor.start("other", for_ever)
        supervisor.start("x", failing, RestartPolicy(give_up_after=3))
        await CLOCK.sleep(1000)
        seen.extend((status.state, status.restarts) for status in supervisor)

    supervised(body)
    assert len(failing.begun) == 3
    assert seen == [(WorkerState.RUNNING, 0), (WorkerState.GAVE_UP, 2)]


def test_an_essential_worker_that_gives_up_ends_the_process() -> None:
    async def body(supervisor: Supervisor) -> None:
        supervisor.start("x", Failing(99), RestartPolicy(give_up_after=2, essential=True))
        await for_ever()

    with pytest.raises(DeviceError, match="gone"):
        supervised(body)


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("head and rows differ"),
        *(StoreError(code, "x", retry=Retry.SAME_REQUEST) for code in FATAL_CODES),
        ExceptionGroup("inner", [ValueError("a"), ExceptionGroup("deeper", [AssertionError("b")])]),
    ],
)
def test_a_broken_assumption_or_store_ends_the_process_and_the_others_stop_in_order(error: Exception) -> None:
    stopped: list[str] = []

    def noting(name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            try:
                await for_ever()
            finally:
                await CLOCK.sleep(1)  # if all were cancelled at once, they would end in another order
                stopped.append(name)

        return work

    async def body(supervisor: Supervisor) -> None:
        for name in ("store", "services", "api"):
            supervisor.start(name, noting(name))
        supervisor.start("x", Failing(1, error, healthy_s=5))
        await for_ever()

    with pytest.raises(type(error)) as caught:
        supervised(body)
    assert caught.value is error
    assert stopped == ["api", "services", "store"]


@pytest.mark.parametrize(
    "error", [StoreError("store.full", "x"), StoreError("store.busy", "x"), OSError("x"), ValueError("x")]
)
def test_other_failures_are_not_fatal(error: Exception) -> None:
    assert not is_fatal(error)


def test_work_with_an_end_ends_and_endless_work_that_returns_starts_again() -> None:
    runs = {"once": 0, "forever": 0}
    states: dict[str, WorkerState] = {}

    def counting(name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            runs[name] += 1

        return work

    async def body(supervisor: Supervisor) -> None:
        supervisor.start("once", counting("once"), ONCE)
        supervisor.start("forever", counting("forever"))
        await CLOCK.sleep(10)
        states.update({status.name: status.state for status in supervisor})

    supervised(body)
    assert runs["once"] == 1
    assert runs["forever"] > 1
    assert states == {"once": WorkerState.DONE, "forever": WorkerState.WAITING}


def test_a_worker_that_is_cancelled_by_somebody_else_is_logged_and_started_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun: list[float] = []
    seen: list[tuple[WorkerState, int]] = []

    async def work() -> None:
        begun.append(CLOCK.monotonic())
        await for_ever()

    async def body(supervisor: Supervisor) -> None:
        worker = supervisor.start("x", work)
        assert worker.task is not None
        await CLOCK.sleep(1)
        for _ in range(2):  # at work, and in the wait for its next start, which is half a second at least
            worker.task.cancel()
            await CLOCK.sleep(0.1)
            seen.append((worker.status.state, worker.status.restarts))
        assert worker.task.cancelling() == 0

    supervised(body)
    assert seen == [(WorkerState.WAITING, 1), (WorkerState.RUNNING, 1)]
    assert len(begun) == 2
    failed = [record for record in caplog.records if record.message == "worker.failed"]
    assert failed
    assert failed[0].__dict__["error"] == "CancelledError"


def test_stopping_asks_first_and_cancels_when_the_time_is_over(caplog: pytest.LogCaptureFixture) -> None:
    events: list[str] = []
    asked = asyncio.Event()

    async def polite() -> None:
        await asked.wait()
        await CLOCK.sleep(3)
        events.append("polite finished")

    async def ask() -> None:
        events.append("asked")
        asked.set()

    async def deaf() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            events.append(f"deaf cancelled at {CLOCK.monotonic():.0f}")
            raise

    async def never() -> None:
        await for_ever()

    async def body(supervisor: Supervisor) -> None:
        supervisor.start("polite", polite, ask_to_stop=ask)
        supervisor.start("deaf", deaf, ask_to_stop=never, stop_timeout_s=5)
        await CLOCK.sleep(1)

    supervised(body)
    assert events == ["deaf cancelled at 6", "asked", "polite finished"]
    slow = [(one.__dict__["worker"], one.__dict__["lasted_s"]) for one in caplog.records if "slowly" in one.message]
    assert slow == [("deaf", 5.0), ("polite", 3.0)]


def test_a_worker_can_be_stopped_forgotten_and_its_name_used_again() -> None:
    async def body(supervisor: Supervisor) -> None:
        worker = supervisor.start("device:x", for_ever)
        with pytest.raises(RuntimeError, match="running already"):
            supervisor.start("device:x", for_ever)
        await supervisor.stop(worker)
        assert [status.state for status in supervisor] == [WorkerState.STOPPED]
        again = supervisor.start("device:x", for_ever)
        await supervisor.forget(again)
        assert list(supervisor) == []

    supervised(body)


def test_a_worker_that_waits_for_its_restart_stops_at_once() -> None:
    async def body(supervisor: Supervisor) -> None:
        worker = supervisor.start("x", Failing(9), RestartPolicy(initial_s=1000, max_s=1000))
        await CLOCK.sleep(1)
        before = CLOCK.monotonic()
        await supervisor.stop(worker)
        assert CLOCK.monotonic() == before

    supervised(body)


def test_leaving_the_block_raises_what_the_block_raised_and_not_a_group() -> None:
    async def body(supervisor: Supervisor) -> None:
        supervisor.start("x", for_ever)
        raise LookupError("from the block")

    with pytest.raises(LookupError, match="from the block"):
        supervised(body)


def test_a_cancellation_from_outside_goes_on_after_the_orderly_stop() -> None:
    stopped: list[str] = []

    async def work() -> None:
        try:
            await for_ever()
        finally:
            stopped.append("x")

    async def inner() -> None:
        async with supervision(runtime()) as supervisor:
            supervisor.start("x", work)
            await for_ever()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(inner())
            await CLOCK.sleep(1)
            task.cancel()
        assert task.cancelled()

    run(main())
    assert stopped == ["x"]


def test_a_fatal_failure_that_meets_the_end_of_the_block_is_still_raised() -> None:
    async def body(supervisor: Supervisor) -> None:
        supervisor.start("x", for_ever)
        supervisor.fail(AssertionError("late"))  # the host is cancelled, and the block ends without another wait

    with pytest.raises(AssertionError, match="late"):
        supervised(body)


def test_a_cancellation_from_inside_a_worker_is_a_failure_of_that_worker() -> None:
    failing = Failing(1, asyncio.CancelledError())

    async def body(supervisor: Supervisor) -> None:
        supervisor.start("x", failing)
        await CLOCK.sleep(10)

    supervised(body)
    assert len(failing.begun) == 2


def test_a_repeated_failure_is_logged_once_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def body(supervisor: Supervisor) -> None:
        supervisor.start("x", Failing(8))
        await CLOCK.sleep(1000)

    with caplog.at_level(logging.INFO):
        supervised(body)
    failures = [record for record in caplog.records if record.message == "worker.failed" and record.levelno >= 20]
    assert len(failures) == 1
    assert failures[0].exc_info is not None


@pytest.mark.parametrize(("failures", "longest"), [(1, 1.0), (2, 2.0), (7, 60.0), (10_000, 60.0)])
def test_waits_have_a_limit(failures: int, longest: float) -> None:
    policy = RestartPolicy()
    assert policy.delay_s(failures, 0.0) == longest
    assert policy.delay_s(failures, 1.0) == longest / 2
