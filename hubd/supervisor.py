"""Named workers under one TaskGroup: restart with back-off, give-up rule, ordered stop, status.

The only place that starts tasks and the only one with a broad except: what a worker raises is logged here with its
traceback and becomes a restart, or, for a store failure and for an AssertionError, the end of the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from msgspec import Struct

from hubd.errors import StoreError
from hubd.runtime import Runtime

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
STOPS_SLOWLY_S = 2.0
"""A worker that takes longer to stop is named in the log, so that a slow stop of the hub explains itself."""
FATAL_STORE_CODES = frozenset({"store.failed", "store.corrupt", "store.closed"})
"""A full or busy store is not among them: it can still read, and the drain goes on."""

Run = Callable[[], Coroutine[Any, Any, None]]


class WorkerState(StrEnum):
    """Where a worker is in its life."""

    RUNNING = "running"
    WAITING = "waiting"
    """Failed, and waits for its next start."""
    DONE = "done"
    """Returned by itself, and is not one that is started again."""
    GAVE_UP = "gave_up"
    STOPPED = "stopped"


class RestartPolicy(Struct, frozen=True):
    """How a worker may fail. Waits grow from `initial_s` to `max_s`, each shortened by up to half by chance."""

    initial_s: float = 1.0
    max_s: float = 60.0
    healthy_after_s: float = 60.0
    """A run as long as this forgets the failures before it."""
    give_up_after: int | None = None
    """Failures in a row after which it is left alone; None: never."""
    essential: bool = False
    """Whether giving up ends the process."""
    restart_when_done: bool = False
    """Whether a run that returns counts as a failure: for workers that have no end of their own."""

    def delay_s(self, failures: int, chance: float) -> float:
        """The wait after so many failures in a row; `chance` is between 0 and 1."""
        longest = min(self.max_s, self.initial_s * 2.0 ** min(failures - 1, 30))
        return longest * (1.0 - chance / 2)


FOREVER = RestartPolicy(restart_when_done=True)
"""Restarted for ever: device runners, sync."""
ONCE = RestartPolicy()
"""Work with an end; restarted only if it fails."""


class WorkerStatus(Struct, frozen=True):
    """What people see of a worker."""

    name: str
    state: WorkerState
    restarts: int
    since_monotonic: float
    error: str = ""
    """Type and words of the last failure; empty while there was none."""
    delay_s: float = 0.0


@dataclass(slots=True)
class Worker:
    """One worker under the supervisor. `stop` ends it; `status` is its state now."""

    name: str
    run: Run
    policy: RestartPolicy
    ask_to_stop: Callable[[], Awaitable[None]] | None
    stop_timeout_s: float
    status: WorkerStatus
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    _stopping: bool = False

    def is_stopping(self) -> bool:
        """Whether its end was asked for."""
        return self._stopping

    def mark_stopping(self) -> None:
        """From now on, ending is no failure."""
        self._stopping = True


class Supervisor:
    """Runs workers. Made by `supervision`; `start` and `stop` may be called at any time inside it."""

    def __init__(self, runtime: Runtime, group: asyncio.TaskGroup, host: asyncio.Task[Any]) -> None:
        self._runtime = runtime
        self._group = group
        self._host = host
        self._workers: dict[str, Worker] = {}
        self._stopping = False
        self.fatal: BaseException | None = None
        """Why the process must end; None while all is well."""
        self.host_cancelled = False

    def start(
        self,
        name: str,
        run: Run,
        policy: RestartPolicy = FOREVER,
        *,
        ask_to_stop: Callable[[], Awaitable[None]] | None = None,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> Worker:
        """Start a worker now. Its name must be free; one that is done, gave up or was stopped makes room.

        `ask_to_stop` lets it finish what is in flight; it is cancelled when it has not ended in time.
        """
        if self._stopping:
            raise RuntimeError(f"worker {name} cannot start: the supervisor is stopping")
        known = self._workers.get(name)
        if known is not None and known.task is not None and not known.task.done():
            raise RuntimeError(f"worker {name} is running already")
        self._workers.pop(name, None)  # the place in the order of stopping is that of the newest start
        status = WorkerStatus(name, WorkerState.RUNNING, 0, self._runtime.clock.monotonic())
        worker = Worker(name, run, policy, ask_to_stop, stop_timeout_s, status)
        self._workers[name] = worker
        worker.task = self._group.create_task(self._keep_running(worker), name=name)
        return worker

    def __iter__(self) -> Iterator[WorkerStatus]:
        return iter([worker.status for worker in self._workers.values()])

    async def stop(self, worker: Worker) -> None:
        """Return when the worker has ended: asked first, cancelled when its time is over."""
        began = self._runtime.clock.monotonic()
        await self._stop(worker)
        took_s = self._runtime.clock.monotonic() - began
        if took_s >= STOPS_SLOWLY_S:
            log.warning("worker.stopped_slowly", extra={"worker": worker.name, "lasted_s": round(took_s, 1)})

    async def _stop(self, worker: Worker) -> None:
        worker.mark_stopping()
        task = worker.task
        if task is None or task.done():
            return
        if worker.ask_to_stop is not None and worker.status.state is WorkerState.RUNNING:
            try:
                async with self._runtime.clock.timeout(worker.stop_timeout_s):
                    await worker.ask_to_stop()
                    await asyncio.wait([task])
            except TimeoutError:
                log.warning("worker.stops_late", extra={"worker": worker.name})
            except Exception:
                log.exception("worker.stop_failed", extra={"worker": worker.name})
        if not task.done():
            task.cancel()
        try:
            async with self._runtime.clock.timeout(worker.stop_timeout_s):
                await asyncio.wait([task])
        except TimeoutError:
            log.error("worker.does_not_stop", extra={"worker": worker.name})  # noqa: TRY400 - the trace is of our wait
            return
        self._set(worker, WorkerState.STOPPED)

    async def forget(self, worker: Worker) -> None:
        """Stop the worker and drop it from the list: its device has been removed."""
        await self.stop(worker)
        if self._workers.get(worker.name) is worker:
            del self._workers[worker.name]

    async def stop_all(self) -> None:
        """Stop every worker in the reverse order of their starts, each ended before the next is asked."""
        self._stopping = True
        for worker in reversed(list(self._workers.values())):
            await self.stop(worker)

    def fail(self, error: BaseException) -> None:
        """End the process in order, for this reason; the first reason counts."""
        if self.fatal is not None:
            return
        self.fatal = error
        if not self._stopping and not self._host.done():
            self.host_cancelled = True
            self._host.cancel()

    async def _keep_running(self, worker: Worker) -> None:
        failures = 0
        while not worker.is_stopping():
            started = self._runtime.clock.monotonic()
            self._set(worker, WorkerState.RUNNING)
            error = await self._run_once(worker)
            if worker.is_stopping():
                return
            if error is None and not worker.policy.restart_when_done:
                self._set(worker, WorkerState.DONE)
                return
            if error is not None and is_fatal(error):
                self._set(worker, WorkerState.GAVE_UP, error)
                log.critical("worker.fatal", exc_info=error, extra={"worker": worker.name, "error": _words(error)})
                self.fail(error)
                return
            if self._runtime.clock.monotonic() - started >= worker.policy.healthy_after_s:
                failures = 0
            failures += 1
            if worker.policy.give_up_after is not None and failures >= worker.policy.give_up_after:
                self._give_up(worker, error, failures)
                return
            await self._wait_for_restart(worker, error, failures)

    async def _run_once(self, worker: Worker) -> BaseException | None:
        try:
            await worker.run()
        except asyncio.CancelledError as error:
            if self._asked_to_end(worker):
                raise
            return error  # a stray cancellation, from whatever side, is a failure like any other
        except Exception as error:  # noqa: BLE001 - the one broad except: judged, logged with its traceback, and acted on by the caller
            return error
        return None

    def _asked_to_end(self, worker: Worker) -> bool:
        """Whether a cancellation that arrived is ours; one that is not is taken back, so that the worker can go on."""
        if worker.is_stopping() or self._stopping:
            return True
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
        return False

    def _give_up(self, worker: Worker, error: BaseException | None, failures: int) -> None:
        self._set(worker, WorkerState.GAVE_UP, error)
        log.error("worker.gave_up", exc_info=error, extra={"worker": worker.name, "count": failures})
        if worker.policy.essential:
            self.fail(error or RuntimeError(f"worker {worker.name} ends whenever it is started"))

    async def _wait_for_restart(self, worker: Worker, error: BaseException | None, failures: int) -> None:
        delay_s = worker.policy.delay_s(failures, self._runtime.rng.random())
        words = _words(error) if error is not None else "returned"
        fields = {"worker": worker.name, "error": words, "delay_s": round(delay_s, 1), "attempt": failures}
        if words != worker.status.error:
            log.warning("worker.failed", exc_info=error, extra=fields)
        else:
            log.debug("worker.failed_again", extra=fields)
        self._set(worker, WorkerState.WAITING, error, words=words, delay_s=delay_s, restarted=True)
        try:
            await self._runtime.clock.sleep(delay_s)
        except asyncio.CancelledError:
            if self._asked_to_end(worker):
                raise  # else: the wait is over early, and the worker starts

    def _set(
        self,
        worker: Worker,
        state: WorkerState,
        error: BaseException | None = None,
        *,
        words: str = "",
        delay_s: float = 0.0,
        restarted: bool = False,
    ) -> None:
        before = worker.status
        worker.status = WorkerStatus(
            worker.name,
            state,
            before.restarts + (1 if restarted else 0),
            self._runtime.clock.monotonic(),
            words or (_words(error) if error is not None else before.error),
            delay_s,
        )


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def is_fatal(error: BaseException) -> bool:
    """Whether the process cannot go on after this: broken assumptions and a store that cannot be trusted."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_fatal(inner) for inner in error.exceptions)
    return isinstance(error, AssertionError) or (isinstance(error, StoreError) and error.code in FATAL_STORE_CODES)


async def _take_back_cancellation(
    runtime: Runtime, host: asyncio.Task[Any], left_by: BaseException | None
) -> BaseException | None:
    """Undo our own cancellation of the host; what remains is why else the block was left."""
    if not isinstance(left_by, asyncio.CancelledError):
        # The block ended before the cancellation reached it; it would arrive at the next wait, so wait here.
        with suppress(asyncio.CancelledError):
            await runtime.clock.sleep(0)
    elif host.uncancel() == 0:
        return None
    else:
        return left_by
    host.uncancel()
    return left_by


@asynccontextmanager
async def supervision(runtime: Runtime) -> AsyncIterator[Supervisor]:
    """A supervisor for the block. On leaving, all workers are stopped in the reverse order of their starts.

    When a worker fails fatally, the block is cancelled, the others are stopped in order, and that failure is raised.
    """
    host = asyncio.current_task()
    assert host is not None, "supervision runs in a task"
    left_by: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(runtime, group, host)
        try:
            yield supervisor
        except BaseException as error:  # noqa: BLE001 - raised again below, outside the group, which would wrap it
            left_by = error
        if supervisor.host_cancelled:
            left_by = await _take_back_cancellation(runtime, host, left_by)
        await supervisor.stop_all()
    if supervisor.fatal is not None:
        raise supervisor.fatal
    if left_by is not None:
        raise left_by
