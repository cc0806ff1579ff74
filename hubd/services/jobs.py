"""Work of the hub that nobody waits for: dialogues with terminals, enquiries, flushes. Each has a name and an owner."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any


class Jobs:
    """A task group for jobs that survive the request that caused them.

    A job that raises stops the hub (the supervisor sees it): an unexpected error in the middle of a payment must not
    be papered over; at the next start the payment is found in progress and asked about.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    async def __aenter__(self) -> Jobs:
        """Start accepting jobs."""
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: every job is cancelled; what it was doing is told by the journal at the next start."""
        self._stopping = True
        for task in self._running.values():
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as failures:
            # One failure, the usual case, leaves as itself, so that the supervisor can judge it by its type.
            if len(failures.exceptions) == 1:
                raise failures.exceptions[0] from None
            raise

    def start(self, name: str, job: Coroutine[Any, Any, None]) -> bool:
        """Run `job` and return True. While stopping, or when one of this name runs already, it is closed unstarted."""
        if self._stopping or name in self._running:
            job.close()
            return False
        task = self._group.create_task(job, name=name)
        self._running[name] = task
        task.add_done_callback(lambda _: self._running.pop(name, None))
        return True

    def running(self) -> list[str]:
        """The names of the jobs that run now."""
        return sorted(self._running)

    def is_running(self, name: str) -> bool:
        """Whether a job of this name runs."""
        return name in self._running
