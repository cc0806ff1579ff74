"""An event loop whose time is virtual: it jumps to the next timer when nothing is ready, and touches no socket.

Everything that happens in it is decided by the program and the seed, so a run can be repeated exactly. Work that would
need a thread or a socket fails loudly instead of making the run depend on the machine.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import deque
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

EPOCH_US = 1_790_000_000_000_000
"""Wall time at the start of a run, in September 2026."""


class DeadlockError(AssertionError):
    """Nothing is ready and no timer is set: the tasks named wait for something that can never happen."""


class LeftoverError(AssertionError):
    """The run has ended and left tasks behind, or an exception that nobody looked at."""


class _NumberedTask(asyncio.Task[Any]):
    """Hashes by the order of making: sets of tasks are then walked in the same order in every run."""

    _made = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(self._made)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _VirtualSelector:
    """Stands where a loop waits for sockets: there are none, so waiting means that time goes on."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            self._loop.report_deadlock()
        if timeout > 0:
            self._loop.advance()
        return []


class VirtualTimeLoop(asyncio.base_events.BaseEventLoop):
    """Deterministic loop. With `shuffle`, callbacks that are ready together run in an order drawn from it."""

    # Attributes of BaseEventLoop that its published types leave out.
    _ready: deque[Any]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, shuffle: random.Random | None = None) -> None:
        super().__init__()
        self._virtual_s = 0.0
        self._made_in = threading.get_ident()
        self._clock_resolution = 1e-9
        self._selector = _VirtualSelector(self)
        self._shuffle = shuffle
        self.unhandled: list[str] = []
        self.set_exception_handler(self._remember)
        self.set_task_factory(lambda loop, coro, **kwargs: _NumberedTask(coro, loop=loop, **kwargs))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual_s

    def advance(self) -> None:
        """Go to the moment of the next timer."""
        self._virtual_s = max(self._virtual_s, self._scheduled[0].when())

    def report_deadlock(self) -> NoReturn:
        """Raise with the names of the tasks that wait."""
        waiting = sorted(
            f"{task.get_name()}: {task.get_stack(limit=1) or task.get_coro()}" for task in asyncio.all_tasks(self)
        )
        raise DeadlockError(f"nothing can happen any more at {self._virtual_s:.3f} s; waiting: " + "; ".join(waiting))

    def _run_once(self) -> None:
        if self._shuffle is not None:
            ready = list(self._ready)
            self._shuffle.shuffle(ready)
            self._ready.clear()
            self._ready.extend(ready)
        super()._run_once()  # type: ignore[misc]  # the published types leave it out

    def _remember(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unhandled.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _process_events(self, event_list: list[object]) -> None:
        """There are no sockets, so there are no events."""

    def _write_to_self(self) -> None:
        # The loop's own thread comes by here too, when an asynchronous generator is finalised.
        if threading.get_ident() != self._made_in:
            raise RuntimeError("a thread called into the virtual loop: real threads make a run unrepeatable")

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]  # never returns
        """Refuse: a thread would make the run depend on the machine."""
        raise RuntimeError(f"{func!r} wants a thread inside the virtual loop")


class VirtualClock:
    """`hubd.runtime.Clock` on the running virtual loop; the wall clock may be wrong, jump, and be distrusted."""

    def __init__(self, base_us: int = EPOCH_US, *, trusted: bool = True) -> None:
        self._base_us = base_us
        self._trusted = trusted

    def now_us(self) -> int:
        """Wall time: the base, jumps, and what has passed in the loop."""
        return self._base_us + round(self.monotonic() * 1_000_000)

    def trusted(self) -> bool:
        """What was last set."""
        return self._trusted

    def set_trusted(self, trusted: bool) -> None:
        """Let a witness confirm the wall clock, or take it back."""
        self._trusted = trusted

    def jump(self, seconds: float) -> None:
        """Move the wall clock, never the monotonic one."""
        self._base_us += round(seconds * 1_000_000)

    def monotonic(self) -> float:
        """Virtual seconds of the running loop."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait in virtual time; costs none."""
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> AbstractAsyncContextManager[object]:
        """Bound a block in virtual time."""
        return asyncio.timeout(seconds)


def run(main: Coroutine[Any, Any, T], seed: int | None = None) -> T:
    """Run `main` to its end in virtual time. With a seed, the order of what is ready together is drawn from it.

    Raises `DeadlockError` when nothing can happen any more, and `LeftoverError` when tasks or unseen exceptions are
    left behind by a run that was otherwise fine.
    """
    loop = VirtualTimeLoop(None if seed is None else random.Random(seed))
    try:
        result = loop.run_until_complete(main)
        left = sorted(task.get_name() for task in asyncio.all_tasks(loop))
        if left:
            raise LeftoverError("left tasks running: " + ", ".join(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        if loop.unhandled:
            raise LeftoverError("nobody looked at: " + "; ".join(loop.unhandled))
        return result
    finally:
        _cancel_all(loop)
        loop.close()


def _cancel_all(loop: VirtualTimeLoop) -> None:
    """End what a failed run has left, so that its tasks do not complain later in another test."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=60))
